/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/str.h"
#include "relay/relay.h"

static bool is(const struct sockaddr_storage *sa, const char *ipv4, const char *ipv6)
{
    char text[INET6_ADDRSTRLEN];

    if (sa->ss_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, text, sizeof(text));
    else
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)sa)->sin6_addr, text, sizeof(text));
    return str_eq(text, sa->ss_family == AF_INET ? ipv4 : ipv6);
}

bool address_is_client(const struct relay *r, const struct sockaddr_storage *sa)
{
    return is(sa, r->settings.client4, r->settings.client6);
}

bool address_is_own(const struct relay *r, const struct sockaddr_storage *sa)
{
    return is(sa, r->settings.listen4, r->settings.listen6);
}

bool address_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)a, *b4 = (const struct sockaddr_in *)b;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a, *b6 = (const struct sockaddr_in6 *)b;

    if (a->ss_family != b->ss_family || a4->sin_port != b4->sin_port)
        return false;
    if (a->ss_family == AF_INET)
        return a4->sin_addr.s_addr == b4->sin_addr.s_addr;
    return IN6_ARE_ADDR_EQUAL(&a6->sin6_addr, &b6->sin6_addr);
}

socklen_t address_len(const struct sockaddr_storage *sa)
{
    return sa->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* An address of IPv4 in the form of IPv6 is one of IPv4: that is what the kernel sends to. */
static const void *bytes_of(const struct sockaddr *sa, int *ret_family)
{
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)sa)->sin6_addr;

    *ret_family = sa->sa_family;
    if (sa->sa_family == AF_INET)
        return &((const struct sockaddr_in *)sa)->sin_addr;
    if (!IN6_IS_ADDR_V4MAPPED(v6))
        return v6;
    *ret_family = AF_INET;
    return v6->s6_addr + 12;
}

/* network: "address/length", of either family. */
static bool is_in(int family, const uint8_t *address, const char *network)
{
    const char *slash = strchr(network, '/');
    autofree char *text = slash ? strndup(network, (size_t)(slash - network)) : NULL;
    uint8_t first[sizeof(struct in6_addr)];
    int64_t bits;

    if (!text || !str_to_i64(slash + 1, &bits) || inet_pton(family, text, first) != 1)
        return false;
    if (memcmp(address, first, (size_t)bits / 8) != 0)
        return false;
    return bits % 8 == 0 || !((address[bits / 8] ^ first[bits / 8]) >> (8 - bits % 8));
}

struct route_question {
    struct nlmsghdr head;
    struct rtmsg route;
    struct rtattr attr;
    uint8_t address[sizeof(struct in6_addr)];
};

/* The kernel's answer to where it would send a packet to this address. */
static bool ask_route(int family, const void *address, struct nlmsghdr *answer, size_t size)
{
    const uint16_t len = family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    struct route_question q = {
        .head = {.nlmsg_len = (uint32_t)offsetof(struct route_question, address) + len,
                 .nlmsg_type = RTM_GETROUTE,
                 .nlmsg_flags = NLM_F_REQUEST},
        .route = {.rtm_family = (uint8_t)family, .rtm_dst_len = (uint8_t)(len * 8)},
        .attr = {.rta_len = RTA_LENGTH(len), .rta_type = RTA_DST},
    };
    autofd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    ssize_t n;

    memcpy(q.address, address, len);
    if (fd < 0 || send(fd, &q, q.head.nlmsg_len, 0) < 0)
        return false;
    n = recv(fd, answer, size, MSG_DONTWAIT); /* it is there: the kernel answers while it is asked */
    return n > 0 && NLMSG_OK(answer, (size_t)n);
}

bool address_is_elsewhere(const struct sockaddr *sa)
{
    union {
        struct nlmsghdr head;
        uint8_t bytes[4096];
    } answer;
    int family;
    const uint8_t *address = bytes_of(sa, &family);

    /* Which of these have a route depends on the host, and the unspecified address means this one. */
    if (is_in(family, address, "224.0.0.0/3") || is_in(family, address, "ff00::/8") ||
        is_in(family, address, "0.0.0.0/8") || is_in(family, address, "::/128"))
        return false;
    if (!ask_route(family, address, &answer.head, sizeof(answer)))
        return false;
    if (answer.head.nlmsg_type == RTM_NEWROUTE)
        return ((const struct rtmsg *)NLMSG_DATA(&answer.head))->rtm_type == RTN_UNICAST;
    if (answer.head.nlmsg_type == NLMSG_ERROR) {
        int error = ((const struct nlmsgerr *)NLMSG_DATA(&answer.head))->error;

        return error == -ENETUNREACH || error == -EHOSTUNREACH;
    }
    return false;
}

bool address_is_allowed(const struct relay *r, const struct sockaddr *sa)
{
    int family;
    const uint8_t *address = bytes_of(sa, &family);
    const json_t *network;
    size_t i;

    json_array_foreach(r->settings.forbidden, i, network)
    {
        if (is_in(family, address, json_string_value(network)))
            return false;
    }
    /* Link-local addresses are those of services for the host itself, such as a cloud's metadata. */
    return !is_in(family, address, "169.254.0.0/16") && !is_in(family, address, "fe80::/10") &&
           address_is_elsewhere(sa);
}
