/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/presence.h"

/* A plain struct instead of libmnl: what this program links is carried by every container's monitor. All parts are
 * multiples of four bytes, so nothing needs padding between them. */
struct address_message {
    struct nlmsghdr header;
    struct ifaddrmsg body;
    struct rtattr local_header;
    struct in6_addr local;
    struct rtattr flags_header;
    uint32_t flags;
};

/* An IPv4 address is shorter, and last for that reason. */
struct neighbour_message {
    struct nlmsghdr header;
    struct ndmsg body;
    struct rtattr hardware_header;
    uint8_t hardware[8]; /* six bytes and what makes them a multiple of four */
    struct rtattr address_header;
    uint8_t address[sizeof(struct in6_addr)];
};

static struct address_message make(uint16_t type, uint16_t flags, unsigned index, const struct in6_addr *address)
{
    return (struct address_message){
        .header = {.nlmsg_len = sizeof(struct address_message),
                   .nlmsg_type = type,
                   .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
                   .nlmsg_seq = type},
        .body = {.ifa_family = AF_INET6, .ifa_prefixlen = 128, .ifa_index = index},
        .local_header = {.rta_len = RTA_LENGTH(sizeof(*address)), .rta_type = IFA_LOCAL},
        .local = *address,
        .flags_header = {.rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFA_FLAGS},
        .flags = IFA_F_NODAD | IFA_F_PERMANENT,
    };
}

/* A netlink socket belongs to the namespace it was made in. */
static struct err *socket_inside(pid_t init, int *ret)
{
    autofree char *path = str_fmt("/proc/%d/ns/net", (int)init);
    autofd int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(path, O_RDONLY | O_CLOEXEC), s = -1;
    struct err *e = NULL;

    if (own < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0)
        return err_errno(errno, "the network namespace of the container");
    s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (s < 0)
        e = err_errno(errno, "a netlink socket in the container");
    if (setns(own, CLONE_NEWNET) < 0)
        e = err_first(e, err_errno(errno, "back to the own network namespace"));
    if (!e)
        *ret = fd_steal(&s);
    return e;
}

/* The kernel has answered when send returns; each answer is the request's fate. */
static struct err *take_answer(int s, int tolerated)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr body;
        char rest[sizeof(struct address_message)];
    } answer;
    ssize_t n = recv(s, &answer, sizeof(answer), MSG_DONTWAIT);

    if (n < (ssize_t)(sizeof(answer.header) + sizeof(answer.body)) || answer.header.nlmsg_type != NLMSG_ERROR)
        return err_new(ERR_HOST, "no answer about the network interface of the container");
    if (answer.body.error && answer.body.error != -tolerated)
        return err_errno(-answer.body.error, "the network interface of the container");
    return NULL;
}

static struct err *index_inside(int s, int *ret)
{
    struct ifreq request = {.ifr_name = ADDRESS_INTERFACE};

    if (ioctl(s, SIOCGIFINDEX, &request) < 0)
        return err_errno(errno, "'" ADDRESS_INTERFACE "' of the container");
    *ret = request.ifr_ifindex;
    return NULL;
}

struct err *address_use_at_once(pid_t init, const struct in6_addr *address)
{
    struct address_message both[2];
    autofd int s = -1;
    int index = 0;
    struct err *e = socket_inside(init, &s);

    if (!e)
        e = index_inside(s, &index);
    if (e)
        return e;
    both[0] = make(RTM_DELADDR, 0, (unsigned)index, address);
    both[1] = make(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, (unsigned)index, address);
    if (send(s, both, sizeof(both), 0) != sizeof(both))
        return err_errno(errno, "a message about the address of the container");
    e = take_answer(s, EADDRNOTAVAIL); /* its init may have taken the address away already; it is put back then */
    return e ? e : take_answer(s, 0);
}

static struct err *ask(int s, const void *message, size_t len, int tolerated)
{
    if (send(s, message, len, 0) != (ssize_t)len)
        return err_errno(errno, "a message about the network of the container");
    return take_answer(s, tolerated);
}

/* The way to everything else. */
static struct err *default_route(int s, int index, const struct in6_addr *gateway, bool wanted)
{
    const struct {
        struct nlmsghdr header;
        struct rtmsg body;
        struct rtattr gateway_header;
        struct in6_addr gateway;
        struct rtattr link_header;
        int link;
    } m = {
        .header = {.nlmsg_len = sizeof(m),
                   .nlmsg_type = wanted ? RTM_NEWROUTE : RTM_DELROUTE,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | (wanted ? NLM_F_CREATE | NLM_F_REPLACE : 0),
                   .nlmsg_seq = RTM_NEWROUTE},
        .body = {.rtm_family = AF_INET6,
                 .rtm_table = RT_TABLE_MAIN,
                 .rtm_protocol = wanted ? RTPROT_BOOT : RTPROT_UNSPEC,
                 .rtm_type = RTN_UNICAST},
        .gateway_header = {.rta_len = RTA_LENGTH(sizeof(*gateway)), .rta_type = RTA_GATEWAY},
        .gateway = *gateway,
        .link_header = {.rta_len = RTA_LENGTH(sizeof(int)), .rta_type = RTA_OIF},
        .link = index,
    };

    return ask(s, &m, sizeof(m), wanted ? 0 : ESRCH);
}

struct err *address_ipv6(pid_t init, const struct in6_addr *address, const struct in6_addr *gateway, bool wanted)
{
    struct address_message m;
    autofd int s = -1;
    int index = 0;
    struct err *e = socket_inside(init, &s);

    if (!e)
        e = index_inside(s, &index);
    if (!e && !wanted)
        e = default_route(s, index, gateway, false);
    if (e)
        return e;
    m = make(wanted ? RTM_NEWADDR : RTM_DELADDR, wanted ? NLM_F_CREATE | NLM_F_REPLACE : 0, (unsigned)index, address);
    e = ask(s, &m, sizeof(m), wanted ? 0 : EADDRNOTAVAIL);
    return e || !wanted ? e : default_route(s, index, gateway, true);
}

struct err *job_do_ipv6(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_ipv6 *a = args;
    struct in6_addr address, gateway;
    struct presence p;
    struct err *e;

    if (inet_pton(AF_INET6, a->ipv6, &address) != 1 || inet_pton(AF_INET6, a->gateway6, &gateway) != 1)
        return err_field("ipv6", "must be an IPv6 address, as gateway6");
    presence_look(job, &p);
    if (!p.init)
        return err_new(ERR_WRONG_STATE, "the container does not run");
    e = failpoint("ipv6.change");
    if (!e)
        e = address_ipv6(p.init, &address, &gateway, a->wanted);
    return e || !a->wanted ? e : address_know_gateways(p.init, NULL, a->gateway6, a->gateway_mac);
}

/* "02:6e:64:00:00:01" */
static bool hardware_of(const char *text, uint8_t ret[6])
{
    unsigned b[6];
    int end = 0;

    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 || text[end])
        return false;
    for (int i = 0; i < 6; i++)
        ret[i] = (uint8_t)b[i];
    return true;
}

static struct err *know(int s, int index, int family, const char *address, const char *mac)
{
    size_t len = family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    struct neighbour_message m = {
        .header = {.nlmsg_type = RTM_NEWNEIGH,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
                   .nlmsg_seq = RTM_NEWNEIGH},
        .body = {.ndm_family = (uint8_t)family, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT},
        .hardware_header = {.rta_len = RTA_LENGTH(6), .rta_type = NDA_LLADDR},
        .address_header = {.rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = NDA_DST},
    };

    m.header.nlmsg_len = (uint32_t)(offsetof(struct neighbour_message, address) + len);
    if (inet_pton(family, address, m.address) != 1)
        return err_field(family == AF_INET ? "gateway4" : "gateway6", "must be an address");
    if (!hardware_of(mac, m.hardware))
        return err_field("gateway_mac", "must be six bytes as 02:6e:64:00:00:01");
    return ask(s, &m, m.header.nlmsg_len, 0);
}

struct err *address_know_gateways(pid_t init, const char *gateway4, const char *gateway6, const char *mac)
{
    autofd int s = -1;
    int index = 0;
    struct err *e = socket_inside(init, &s);

    if (!e)
        e = index_inside(s, &index);
    if (!e && gateway4)
        e = know(s, index, AF_INET, gateway4, mac);
    return e || !gateway6 ? e : know(s, index, AF_INET6, gateway6, mac);
}
