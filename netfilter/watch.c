/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notices what others do to our table. The kernel writes the port of the socket that caused a change into every
 * message about it, so a socket filter lets only foreign ones through: our own batches, however large, do not wake us.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "base/str.h"
#include "netfilter/batch.h"
#include "netfilter/nf.h"

struct nf_watch {
    struct nl nl;
    char *table;
};

/* nlmsg_pid is at offset 12; the filter loads it as big endian. */
static struct err *drop_own(struct nl *nl, uint32_t own)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_pid)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(own), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};

    if (setsockopt(mnl_socket_get_fd(nl->socket), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
        return err_errno(errno, "cannot set a netlink filter");
    return NULL;
}

struct err *nf_watch_open(const struct nf *nf, struct nf_watch **ret)
{
    struct nf_watch *w = mem_new(struct nf_watch);
    int group = NFNLGRP_NFTABLES;
    struct err *e = nl_open(&w->nl, NETLINK_NETFILTER);

    w->table = str_dup(nf->table);
    if (!e)
        e = drop_own(&w->nl, nf->rules.port);
    if (!e && mnl_socket_setsockopt(w->nl.socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
        e = err_errno(errno, "cannot subscribe to nftables changes");
    if (e) {
        nf_watch_close(w);
        return e;
    }
    *ret = w;
    return NULL;
}

int nf_watch_fd(const struct nf_watch *w)
{
    return mnl_socket_get_fd(w->nl.socket);
}

/* The table's name is attribute 1 in every message about tables, chains, rules, sets, elements and objects. */
static bool concerns(const struct nf_watch *w, const struct nlmsghdr *h)
{
    const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
    const struct nlattr *table;

    if (h->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES || (h->nlmsg_type & 0xff) == NFT_MSG_NEWGEN ||
        g->nfgen_family != NFPROTO_INET)
        return false;
    table = nl_attr(h, sizeof(*g), NFTA_TABLE_NAME);
    return table && str_eq(mnl_attr_get_str(table), w->table);
}

bool nf_watch_changed(struct nf_watch *w)
{
    char buf[32768];
    bool changed = false;
    ssize_t n;

    while ((n = recv(nf_watch_fd(w), buf, sizeof(buf), MSG_DONTWAIT)) != 0) {
        struct nlmsghdr *h = (struct nlmsghdr *)buf;
        int left = (int)n;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == ENOBUFS) {
            changed = true; /* others changed more than fits: some of it may have been ours */
            continue;
        }
        if (n < 0)
            break;
        for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
            changed |= concerns(w, h);
    }
    return changed;
}

void nf_watch_close(struct nf_watch *w)
{
    if (!w)
        return;
    nl_close(&w->nl);
    free(w->table);
    free(w);
}
