/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other firewalls on the host, by the chains that they have in nftables (iptables-nft included). A packet must pass
 * every base chain of a hook, so what another drops we cannot let through. One dump of all chains; of rules, only those
 * of a table that is in the way, to see whether it speaks of our interfaces; sets are never listed.
 */
#include <netinet/in.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "base/str.h"
#include "netfilter/nf.h"

struct scan {
    const struct nf *nf;
    struct nf_conflict *list; /* of NF_CONFLICTS_MAX */
    size_t count;
    bool docker, ufw;          /* chains of theirs were seen */
    struct nf_conflict *asked; /* whose rules are being read */
};

static const char *family_name(uint8_t family)
{
    return family == NFPROTO_IPV4 ? "ip" : family == NFPROTO_IPV6 ? "ip6" : family == NFPROTO_INET ? "inet" : NULL;
}

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

static const char *string_of(const struct nlmsghdr *h, uint16_t type)
{
    const struct nlattr *a = nl_attr(h, sizeof(struct nfgenmsg), type);

    return a && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0 ? mnl_attr_get_str(a) : NULL;
}

static uint32_t big_number(const struct nlattr *a)
{
    uint32_t n = UINT32_MAX;

    if (a && mnl_attr_get_payload_len(a) == sizeof(n))
        memcpy(&n, mnl_attr_get_payload(a), sizeof(n));
    return a ? ntohl(n) : n;
}

static const struct {
    uint32_t number;
    const char *word; /* in names of chains; NULL: none of the others */
} hooks[] = {
    [NF_CONFLICT_FORWARD] = {NF_INET_FORWARD, NULL},
    [NF_CONFLICT_INPUT] = {NF_INET_LOCAL_IN, "input"},
    [NF_CONFLICT_OUTPUT] = {NF_INET_LOCAL_OUT, "output"},
};

/* firewalld's base chains accept, those of forward and input end in a rule that rejects; the others have a policy. */
static bool in_the_way(const struct nlmsghdr *h, const char *table, enum nf_conflict_hook *ret)
{
    uint32_t number =
        big_number(nl_attr_inside(nl_attr(h, sizeof(struct nfgenmsg), NFTA_CHAIN_HOOK), NFTA_HOOK_HOOKNUM));
    bool drops = big_number(nl_attr(h, sizeof(struct nfgenmsg), NFTA_CHAIN_POLICY)) == NF_DROP;

    for (size_t i = 0; i < ARRAY_LEN(hooks); i++) {
        if (hooks[i].number != number)
            continue;
        *ret = (enum nf_conflict_hook)i;
        return drops || (i != NF_CONFLICT_OUTPUT && str_eq(table, "firewalld"));
    }
    return false;
}

/* Whether an exception to what c drops can be in the chain: in c itself, or by its name in one that is asked there,
 * such as "ufw-user-input" or "DOCKER-USER". */
static bool is_for(const char *chain, const struct nf_conflict *c)
{
    const char *word = hooks[c->hook].word;

    if (str_eq(chain, c->chain))
        return true;
    for (size_t i = 0; !word && i < ARRAY_LEN(hooks); i++)
        if (hooks[i].word && strcasestr(chain, hooks[i].word))
            return false;
    return !word || strcasestr(chain, word);
}

static int see_chain(const struct nlmsghdr *h, void *data)
{
    const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
    const char *table = string_of(h, NFTA_CHAIN_TABLE), *name = string_of(h, NFTA_CHAIN_NAME);
    const char *family = family_name(g->nfgen_family);
    struct scan *s = data;
    enum nf_conflict_hook hook;
    struct nf_conflict *c;

    if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*g)) || !table || !name || !family ||
        (g->nfgen_family == NFPROTO_INET && lists_own(s->nf->table, table)))
        return MNL_CB_OK;
    s->docker |= str_eq(name, "DOCKER-USER");
    s->ufw |= begins(name, "ufw-") || begins(name, "ufw6-");
    if (!in_the_way(h, table, &hook) || s->count == NF_CONFLICTS_MAX)
        return MNL_CB_OK;
    c = &s->list[s->count++];
    *c = (struct nf_conflict){.hook = hook, .family = family};
    c->nfproto = g->nfgen_family;
    snprintf(c->table, sizeof(c->table), "%s", table);
    snprintf(c->chain, sizeof(c->chain), "%s", name);
    return MNL_CB_OK;
}

/* One expression: a comparison with a name that begins with our prefix. */
static int names_us(const struct nlattr *expression, void *data)
{
    struct scan *s = data;
    const struct nlattr *name = nl_attr_inside(expression, NFTA_EXPR_NAME);
    const struct nlattr *value =
        nl_attr_inside(nl_attr_inside(nl_attr_inside(expression, NFTA_EXPR_DATA), NFTA_CMP_DATA), NFTA_DATA_VALUE);
    size_t len = strlen(s->nf->plan.prefix);

    if (name && value && mnl_attr_validate(name, MNL_TYPE_NUL_STRING) >= 0 && str_eq(mnl_attr_get_str(name), "cmp") &&
        mnl_attr_get_payload_len(value) >= len && memcmp(mnl_attr_get_payload(value), s->nf->plan.prefix, len) == 0)
        s->asked->excepted = true;
    return MNL_CB_OK;
}

static int see_rule(const struct nlmsghdr *h, void *data)
{
    const struct nlattr *list = nl_attr(h, sizeof(struct nfgenmsg), NFTA_RULE_EXPRESSIONS);
    const char *table = string_of(h, NFTA_RULE_TABLE), *chain = string_of(h, NFTA_RULE_CHAIN);
    struct scan *s = data;

    if (!list || !table || !chain || !str_eq(table, s->asked->table) || !is_for(chain, s->asked))
        return MNL_CB_OK;
    (void)mnl_attr_parse_nested(list, names_us, s);
    return MNL_CB_OK;
}

static struct err *dump(struct nf *nf, uint16_t type, uint8_t family, const char *table, mnl_cb_t see, struct scan *s)
{
    char buf[NL_MESSAGE_MAX];
    struct nlmsghdr *h = nl_message_nf(&nf->rules, buf, NFNL_SUBSYS_NFTABLES << 8 | type, NLM_F_DUMP, family);
    int rc;

    if (table)
        mnl_attr_put_strz(h, NFTA_RULE_TABLE, table);
    rc = nl_dump(&nf->rules, h, see, s);
    return rc ? err_errno(rc, "cannot list what other firewalls have") : NULL;
}

static const char *program_of(const struct scan *s, const struct nf_conflict *c)
{
    if (str_eq(c->table, "firewalld"))
        return "firewalld";
    if (!str_eq(c->table, "filter") || c->nfproto == NFPROTO_INET)
        return "another firewall";
    return s->ufw ? "ufw" : s->docker && c->hook == NF_CONFLICT_FORWARD ? "docker" : "another firewall";
}

struct err *nf_conflicts(struct nf *nf, struct nf_conflict list[NF_CONFLICTS_MAX], size_t *ret_count)
{
    struct scan s = {.nf = nf, .list = list};
    struct err *e = dump(nf, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NULL, see_chain, &s);

    for (size_t i = 0; !e && i < s.count; i++) {
        s.asked = &list[i];
        list[i].program = program_of(&s, &list[i]);
        e = dump(nf, NFT_MSG_GETRULE, list[i].nfproto, list[i].table, see_rule, &s);
    }
    *ret_count = e ? 0 : s.count;
    return e;
}
