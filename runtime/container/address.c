/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/address.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/str.h"

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
static struct err *take_answer(int s)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr body;
        char rest[sizeof(struct address_message)];
    } answer;
    ssize_t n = recv(s, &answer, sizeof(answer), MSG_DONTWAIT);

    if (n < (ssize_t)(sizeof(answer.header) + sizeof(answer.body)) || answer.header.nlmsg_type != NLMSG_ERROR)
        return err_new(ERR_HOST, "no answer about the address of the container");
    /* Its init may have taken the address away already; it is put back then. */
    if (answer.body.error && answer.body.error != -EADDRNOTAVAIL)
        return err_errno(-answer.body.error, "the IPv6 address of the container");
    return NULL;
}

struct err *address_use_at_once(pid_t init, const struct in6_addr *address)
{
    struct ifreq request = {.ifr_name = ADDRESS_INTERFACE};
    struct address_message both[2];
    autofd int s = -1;
    struct err *e = socket_inside(init, &s);

    if (e)
        return e;
    if (ioctl(s, SIOCGIFINDEX, &request) < 0)
        return err_errno(errno, "'" ADDRESS_INTERFACE "' of the container");
    both[0] = make(RTM_DELADDR, 0, (unsigned)request.ifr_ifindex, address);
    both[1] = make(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, (unsigned)request.ifr_ifindex, address);
    if (send(s, both, sizeof(both), 0) != sizeof(both))
        return err_errno(errno, "a message about the address of the container");
    e = take_answer(s);
    return e ? e : take_answer(s);
}
