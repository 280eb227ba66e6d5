/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/expr.h"

#include <libnftnl/expr.h>
#include <libnftnl/udata.h>

static struct nftnl_expr *expr(const char *name)
{
    struct nftnl_expr *e = nftnl_expr_alloc(name);

    if (!e)
        abort(); /* no memory for a small object, or a libnftnl without this expression */
    return e;
}

struct nftnl_rule *rule_begin(const struct build *b, const char *chain)
{
    struct nftnl_rule *r = nftnl_rule_alloc();

    if (!r)
        abort();
    nftnl_rule_set_str(r, NFTNL_RULE_TABLE, b->table);
    nftnl_rule_set_str(r, NFTNL_RULE_CHAIN, chain);
    nftnl_rule_set_u32(r, NFTNL_RULE_FAMILY, NFPROTO_INET);
    return r;
}

static void put_userdata(struct nftnl_rule *r, const char *comment, const uint64_t *id)
{
    struct nftnl_udata_buf *u = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);

    if (!u)
        abort();
    nftnl_udata_put_strz(u, NFTNL_UDATA_RULE_COMMENT, comment);
    if (id)
        nftnl_udata_put(u, UDATA_RULE_ID, sizeof(*id), id);
    nftnl_rule_set_data(r, NFTNL_RULE_USERDATA, nftnl_udata_buf_data(u), nftnl_udata_buf_len(u));
    nftnl_udata_buf_free(u);
}

static void rule_add(const struct build *b, struct nftnl_rule *r)
{
    struct nlmsghdr *h = batch_begin(b->batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, "a rule");
    nftnl_rule_nlmsg_build_payload(h, r);
    batch_end(b->batch, h);
    nftnl_rule_free(r);
}

void rule_end(const struct build *b, struct nftnl_rule *r, const char *comment)
{
    if (comment)
        put_userdata(r, comment, NULL);
    rule_add(b, r);
}

void rule_end_user(const struct build *b, struct nftnl_rule *r, const char *comment, uint64_t id)
{
    put_userdata(r, comment, &id);
    rule_add(b, r);
}

void expr_meta(struct nftnl_rule *r, uint32_t key, uint32_t reg)
{
    struct nftnl_expr *e = expr("meta");

    nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
    nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, reg);
    nftnl_rule_add_expr(r, e);
}

void expr_meta_set(struct nftnl_rule *r, uint32_t key, uint32_t reg)
{
    struct nftnl_expr *e = expr("meta");

    nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
    nftnl_expr_set_u32(e, NFTNL_EXPR_META_SREG, reg);
    nftnl_rule_add_expr(r, e);
}

void expr_ct(struct nftnl_rule *r, uint32_t key, uint32_t reg)
{
    struct nftnl_expr *e = expr("ct");

    nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, key);
    nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, reg);
    nftnl_rule_add_expr(r, e);
}

void expr_ct_set(struct nftnl_rule *r, uint32_t key, uint32_t reg)
{
    struct nftnl_expr *e = expr("ct");

    nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, key);
    nftnl_expr_set_u32(e, NFTNL_EXPR_CT_SREG, reg);
    nftnl_rule_add_expr(r, e);
}

void expr_payload(struct nftnl_rule *r, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg)
{
    struct nftnl_expr *e = expr("payload");

    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
    nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, reg);
    nftnl_rule_add_expr(r, e);
}

void expr_bitwise(struct nftnl_rule *r, uint32_t reg, const void *mask, const void * xor, uint32_t len)
{
    struct nftnl_expr *e = expr("bitwise");

    nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, reg);
    nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, reg);
    nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, len);
    nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, mask, len);
    nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, xor, len);
    nftnl_rule_add_expr(r, e);
}

void expr_cmp(struct nftnl_rule *r, uint32_t reg, uint32_t op, const void *data, uint32_t len)
{
    struct nftnl_expr *e = expr("cmp");

    nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, reg);
    nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
    nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, data, len);
    nftnl_rule_add_expr(r, e);
}

void expr_range(struct nftnl_rule *r, uint32_t reg, const void *first, const void *last, uint32_t len)
{
    struct nftnl_expr *e = expr("range");

    nftnl_expr_set_u32(e, NFTNL_EXPR_RANGE_SREG, reg);
    nftnl_expr_set_u32(e, NFTNL_EXPR_RANGE_OP, NFT_RANGE_EQ);
    nftnl_expr_set(e, NFTNL_EXPR_RANGE_FROM_DATA, first, len);
    nftnl_expr_set(e, NFTNL_EXPR_RANGE_TO_DATA, last, len);
    nftnl_rule_add_expr(r, e);
}

void expr_lookup(struct nftnl_rule *r, uint32_t reg, const char *set, bool is_map, bool negated)
{
    struct nftnl_expr *e = expr("lookup");

    nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, reg);
    nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, set);
    if (is_map)
        nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, NFT_REG_VERDICT);
    if (negated)
        nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
    nftnl_rule_add_expr(r, e);
}

void expr_map(struct nftnl_rule *r, uint32_t reg, const char *map, uint32_t to)
{
    struct nftnl_expr *e = expr("lookup");

    nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, reg);
    nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, map);
    nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_DREG, to);
    nftnl_rule_add_expr(r, e);
}

void expr_value(struct nftnl_rule *r, uint32_t reg, const void *data, uint32_t len)
{
    struct nftnl_expr *e = expr("immediate");

    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, reg);
    nftnl_expr_set(e, NFTNL_EXPR_IMM_DATA, data, len);
    nftnl_rule_add_expr(r, e);
}

void expr_fib_type(struct nftnl_rule *r, uint32_t flags, uint32_t reg)
{
    struct nftnl_expr *e = expr("fib");

    nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
    nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS, flags);
    nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_DREG, reg);
    nftnl_rule_add_expr(r, e);
}

void expr_socket(struct nftnl_rule *r, uint32_t key, uint32_t reg)
{
    struct nftnl_expr *e = expr("socket");

    nftnl_expr_set_u32(e, NFTNL_EXPR_SOCKET_KEY, key);
    nftnl_expr_set_u32(e, NFTNL_EXPR_SOCKET_DREG, reg);
    nftnl_rule_add_expr(r, e);
}

void expr_limit_over(struct nftnl_rule *r, uint64_t rate, uint32_t burst)
{
    struct nftnl_expr *e = expr("limit");

    nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_RATE, rate);
    nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_UNIT, 1);
    nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_BURST, burst);
    nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKT_BYTES);
    nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_FLAGS, NFT_LIMIT_F_INV);
    nftnl_rule_add_expr(r, e);
}

static struct nftnl_expr *connections_over(uint32_t count)
{
    struct nftnl_expr *e = expr("connlimit");

    nftnl_expr_set_u32(e, NFTNL_EXPR_CONNLIMIT_COUNT, count);
    nftnl_expr_set_u32(e, NFTNL_EXPR_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV);
    return e;
}

void expr_connections_over(struct nftnl_rule *r, uint32_t count)
{
    nftnl_rule_add_expr(r, connections_over(count));
}

void expr_part(struct nftnl_rule *r, uint32_t parts, uint32_t first, uint32_t reg)
{
    struct nftnl_expr *e = expr("hash");

    nftnl_expr_set_u32(e, NFTNL_EXPR_HASH_TYPE, NFT_HASH_SYM);
    nftnl_expr_set_u32(e, NFTNL_EXPR_HASH_MODULUS, parts);
    nftnl_expr_set_u32(e, NFTNL_EXPR_HASH_OFFSET, first);
    nftnl_expr_set_u32(e, NFTNL_EXPR_HASH_DREG, reg);
    nftnl_rule_add_expr(r, e);
}

static struct nftnl_expr *into_set(const char *set, uint32_t key_reg, uint32_t how)
{
    struct nftnl_expr *e = expr("dynset");

    nftnl_expr_set_str(e, NFTNL_EXPR_DYNSET_SET_NAME, set);
    nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_KEY, key_reg);
    nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_OP, how);
    return e;
}

void expr_count_in(struct nftnl_rule *r, const char *set, uint32_t key_reg, uint32_t count)
{
    struct nftnl_expr *e = into_set(set, key_reg, NFT_DYNSET_OP_ADD);

    nftnl_expr_set(e, NFTNL_EXPR_DYNSET_EXPR, connections_over(count), 0);
    nftnl_rule_add_expr(r, e);
}

void expr_put(struct nftnl_rule *r, const char *set, uint32_t key_reg, uint64_t timeout_ms)
{
    struct nftnl_expr *e = into_set(set, key_reg, NFT_DYNSET_OP_UPDATE);

    nftnl_expr_set_u64(e, NFTNL_EXPR_DYNSET_TIMEOUT, timeout_ms);
    nftnl_rule_add_expr(r, e);
}

void expr_counter(struct nftnl_rule *r)
{
    nftnl_rule_add_expr(r, expr("counter"));
}

void expr_counter_from(struct nftnl_rule *r, uint64_t packets, uint64_t bytes)
{
    struct nftnl_expr *e = expr("counter");

    nftnl_expr_set_u64(e, NFTNL_EXPR_CTR_PACKETS, packets);
    nftnl_expr_set_u64(e, NFTNL_EXPR_CTR_BYTES, bytes);
    nftnl_rule_add_expr(r, e);
}

void expr_verdict(struct nftnl_rule *r, int verdict, const char *chain)
{
    struct nftnl_expr *e = expr("immediate");

    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)verdict);
    if (chain)
        nftnl_expr_set_str(e, NFTNL_EXPR_IMM_CHAIN, chain);
    nftnl_rule_add_expr(r, e);
}

void expr_reject_tcp(struct nftnl_rule *r)
{
    struct nftnl_expr *e = expr("reject");

    nftnl_expr_set_u32(e, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST);
    nftnl_expr_set_u8(e, NFTNL_EXPR_REJECT_CODE, 0);
    nftnl_rule_add_expr(r, e);
}

void expr_reject_icmp(struct nftnl_rule *r)
{
    struct nftnl_expr *e = expr("reject");

    nftnl_expr_set_u32(e, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
    nftnl_expr_set_u8(e, NFTNL_EXPR_REJECT_CODE, NFT_REJECT_ICMPX_PORT_UNREACH);
    nftnl_rule_add_expr(r, e);
}

void expr_masquerade(struct nftnl_rule *r)
{
    nftnl_rule_add_expr(r, expr("masq"));
}

void expr_dnat(struct nftnl_rule *r, uint32_t nfproto, uint32_t address_reg, uint32_t port_reg)
{
    struct nftnl_expr *e = expr("nat");

    nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
    nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, nfproto);
    nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, address_reg);
    nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, port_reg);
    nftnl_rule_add_expr(r, e);
}

void expr_tproxy(struct nftnl_rule *r, uint32_t nfproto, uint32_t address_reg, uint32_t port_reg)
{
    struct nftnl_expr *e = expr("tproxy");

    nftnl_expr_set_u32(e, NFTNL_EXPR_TPROXY_FAMILY, nfproto);
    nftnl_expr_set_u32(e, NFTNL_EXPR_TPROXY_REG_ADDR, address_reg);
    nftnl_expr_set_u32(e, NFTNL_EXPR_TPROXY_REG_PORT, port_reg);
    nftnl_rule_add_expr(r, e);
}

void rule_pass(const struct build *b, struct nftnl_rule *r)
{
    expr_verdict(r, NF_ACCEPT, NULL);
    rule_end(b, r, NULL);
}

void rule_drop(const struct build *b, struct nftnl_rule *r, const char *why)
{
    expr_counter(r);
    expr_verdict(r, NF_DROP, NULL);
    rule_end(b, r, why);
}
