/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/nl.h"

#include <errno.h>
#include <limits.h>
#include <linux/netfilter/nfnetlink.h>

struct err *nl_open(struct nl *nl, int bus)
{
    int one = 1;

    nl->socket = mnl_socket_open2(bus, SOCK_CLOEXEC);
    if (!nl->socket)
        return err_errno(errno, "cannot open a netlink socket");
    if (mnl_socket_bind(nl->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        struct err *e = err_errno(errno, "cannot bind a netlink socket");

        nl_close(nl);
        return e;
    }
    /* Answers without a copy of the request and with the kernel's own words, dumps filtered by it; all optional. */
    (void)mnl_socket_setsockopt(nl->socket, NETLINK_CAP_ACK, &one, sizeof(one));
    (void)mnl_socket_setsockopt(nl->socket, NETLINK_EXT_ACK, &one, sizeof(one));
    (void)mnl_socket_setsockopt(nl->socket, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
    nl->port = mnl_socket_get_portid(nl->socket);
    nl->seq = 1;
    return NULL;
}

void nl_close(struct nl *nl)
{
    if (nl->socket)
        mnl_socket_close(nl->socket);
    nl->socket = NULL;
}

struct nlmsghdr *nl_message(struct nl *nl, void *buf, int type, int flags)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

    h->nlmsg_type = (uint16_t)type;
    h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    h->nlmsg_seq = ++nl->seq;
    return h;
}

struct nlmsghdr *nl_message_nf(struct nl *nl, void *buf, int type, int flags, uint8_t family)
{
    struct nlmsghdr *h = nl_message(nl, buf, type, flags);
    struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));

    g->nfgen_family = family;
    g->version = NFNETLINK_V0;
    return h;
}

/* What is left of an answer that was not read to its end would be taken for a part of the next one. */
static int forget_rest(struct nl *nl, int rc)
{
    char answer[32768];

    while (recv(mnl_socket_get_fd(nl->socket), answer, sizeof(answer), MSG_DONTWAIT) > 0)
        continue;
    return rc;
}

static int exchange(struct nl *nl, struct nlmsghdr *message, mnl_cb_t each, void *data)
{
    char answer[32768];
    ssize_t n;
    int rc;

    if (mnl_socket_sendto(nl->socket, message, message->nlmsg_len) < 0)
        return errno;
    do {
        n = mnl_socket_recvfrom(nl->socket, answer, sizeof(answer));
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno;
        }
        rc = mnl_cb_run(answer, (size_t)n, message->nlmsg_seq, nl->port, each, data);
        if (rc < 0)
            return forget_rest(nl, errno);
    } while (n < 0 || rc > MNL_CB_STOP);
    return 0;
}

int nl_request(struct nl *nl, struct nlmsghdr *message)
{
    message->nlmsg_flags |= NLM_F_ACK;
    return exchange(nl, message, NULL, NULL);
}

struct err *nl_do(struct nl *nl, struct nlmsghdr *message, int tolerated, const char *what)
{
    int rc = nl_request(nl, message);

    return rc == 0 || rc == tolerated ? NULL : err_errno(rc, "%s", what);
}

/* *ret_error: the first one that is not tolerated. True: the message `last` is answered, so all are. */
static bool see_answers(const char *answer, int len, uint32_t last, int tolerated, int *ret_error)
{
    const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)answer;
    bool over = false;

    for (; mnl_nlmsg_ok(h, len); h = mnl_nlmsg_next(h, &len)) {
        const struct nlmsgerr *code = mnl_nlmsg_get_payload(h);

        over = over || (h->nlmsg_seq == last && (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE));
        if (h->nlmsg_type == NLMSG_ERROR && h->nlmsg_len >= NLMSG_LENGTH(sizeof(int)) && code->error &&
            code->error != -tolerated && !*ret_error)
            *ret_error = code->error == INT_MIN ? EIO : -code->error;
    }
    return over;
}

struct err *nl_do_many(struct nl *nl, const void *messages, size_t len, int tolerated, const char *what)
{
    char answer[32768];
    int error = 0;
    ssize_t n;

    if (mnl_socket_sendto(nl->socket, messages, len) < 0)
        return err_errno(errno, "%s", what);
    do {
        n = mnl_socket_recvfrom(nl->socket, answer, sizeof(answer));
        if (n < 0 && errno != EINTR)
            return err_errno(errno, "%s", what);
    } while (n < 0 || !see_answers(answer, (int)n, nl->seq, tolerated, &error));
    return error ? err_errno(error, "%s", what) : NULL;
}

int nl_dump(struct nl *nl, struct nlmsghdr *message, mnl_cb_t each, void *data)
{
    return exchange(nl, message, each, data);
}

struct search {
    uint16_t type;
    const struct nlattr *found;
};

static int compare(const struct nlattr *a, void *data)
{
    struct search *s = data;

    if (mnl_attr_get_type(a) != s->type)
        return MNL_CB_OK;
    s->found = a;
    return MNL_CB_STOP;
}

const struct nlattr *nl_attr(const struct nlmsghdr *message, size_t header, uint16_t type)
{
    struct search s = {.type = type};

    (void)mnl_attr_parse(message, (unsigned)header, compare, &s);
    return s.found;
}

const struct nlattr *nl_attr_inside(const struct nlattr *parent, uint16_t type)
{
    struct search s = {.type = type};

    if (parent)
        (void)mnl_attr_parse_nested(parent, compare, &s);
    return s.found;
}

static uint32_t number(const struct nlattr *a)
{
    uint32_t n = 0;

    if (a && mnl_attr_get_payload_len(a) == sizeof(n))
        memcpy(&n, mnl_attr_get_payload(a), sizeof(n));
    return n;
}

uint32_t nl_attr_u32(const struct nlmsghdr *message, size_t header, uint16_t type)
{
    return number(nl_attr(message, header, type));
}

uint32_t nl_attr_u32_inside(const struct nlattr *parent, uint16_t type)
{
    return number(nl_attr_inside(parent, type));
}
