/* SPDX-License-Identifier: Apache-2.0 */
/* One netlink socket and the two things done with it: a request with its answer, and a dump. */
#pragma once

#include <libmnl/libmnl.h>

#include "base/err.h"

/* Room for one small request; larger ones are batches. */
#define NL_MESSAGE_MAX 4096

struct nl {
    struct mnl_socket *socket;
    uint32_t port, seq;
};

MUST_USE struct err *nl_open(struct nl *nl, int bus);
void nl_close(struct nl *nl);

/* Starts a message in buf, of NL_MESSAGE_MAX bytes. */
struct nlmsghdr *nl_message(struct nl *nl, void *buf, int type, int flags);
/* The same for a subsystem of nfnetlink, with its header: type is SUBSYSTEM << 8 | MESSAGE. */
struct nlmsghdr *nl_message_nf(struct nl *nl, void *buf, int type, int flags, uint8_t family);
/* Sends it with NLM_F_ACK and waits. Returns 0 or the positive errno of the kernel's answer. */
int nl_request(struct nl *nl, struct nlmsghdr *message);
/* The same, when `tolerated` (0: none) is as good as success. */
MUST_USE struct err *nl_do(struct nl *nl, struct nlmsghdr *message, int tolerated, const char *what);
/* Several messages, one behind the other, `len` bytes in all; the last one must ask for NLM_F_ACK and no other. Each of
 * them takes effect or not, whatever the others do; the first error that is not `tolerated` is returned. The answers to
 * all must fit into the socket's receive buffer: some hundred messages do. */
MUST_USE struct err *nl_do_many(struct nl *nl, const void *messages, size_t len, int tolerated, const char *what);
/* Sends it and hands every answer to `each` until the last; 0 or a positive errno. */
int nl_dump(struct nl *nl, struct nlmsghdr *message, mnl_cb_t each, void *data);

/* The first attribute of a type, in a message behind its `header` bytes or inside another attribute (which may be
 * NULL); NULL when there is none. */
const struct nlattr *nl_attr(const struct nlmsghdr *message, size_t header, uint16_t type);
const struct nlattr *nl_attr_inside(const struct nlattr *parent, uint16_t type);
/* Its four bytes as a number of the host's order; 0 when there is none. */
uint32_t nl_attr_u32(const struct nlmsghdr *message, size_t header, uint16_t type);
uint32_t nl_attr_u32_inside(const struct nlattr *parent, uint16_t type);

static inline uint32_t nl_align(uint32_t len)
{
    return (len + 3u) & ~3u;
}
