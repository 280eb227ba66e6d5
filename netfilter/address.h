/* SPDX-License-Identifier: Apache-2.0 */
/* From a slot number to names and addresses. Pure; any thread. */
#pragma once

#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>

#include "base/err.h"

#define NET_GATEWAY4 "169.254.1.1" /* host end of every link */
#define NET_GATEWAY6 "fe80::1"
/* A relay's listening sockets: TCP on this port, UDP on that of DNS, at addresses of its container's slot. */
#define NET_RELAY_PORT 14641
#define NET_DNS_PORT 53
#define NET_PREFIX_MAX 8
#define NET_SLOT_MAX 16383

/* What the node's configuration says, parsed. */
struct net_plan {
    char prefix[NET_PREFIX_MAX + 1]; /* of interface names: "nd" */
    struct in_addr ipv4;             /* network of the pool */
    int ipv4_length;
    struct in6_addr ipv6;
    int ipv6_length;
};

/* ERR_INVALID, field "veth_prefix", "ipv4_pool" or "ipv6_pool": letters only; "10.96.0.0/16"; "fd6e:6f64:6564::/64". */
MUST_USE struct err *net_plan_init(struct net_plan *ret, const char *prefix, const char *ipv4_pool,
                                   const char *ipv6_pool);
/* Highest slot that both pools have an address for, at most NET_SLOT_MAX. */
int net_plan_max_slot(const struct net_plan *plan);

struct slot_net {
    int slot;
    char ifname[IFNAMSIZ]; /* host end: "nd7" */
    char peer[IFNAMSIZ];   /* container end while it is still in the host: "ndp7" */
    char ipv4[INET_ADDRSTRLEN], ipv6[INET6_ADDRSTRLEN];
    char mac_host[18], mac_container[18];
    struct in_addr addr4;
    struct in6_addr addr6;
    struct in6_addr link_local; /* of the container's end, as the kernel makes it from the MAC (RFC 4291) */
    uint8_t hw_host[6], hw_container[6];
    /* Of its relay's sockets. Nobody has these addresses and no packet carries them: they are names that rules find the
     * sockets by. 127.110.0.0/16, and the discard prefix of RFC 6666. */
    struct in_addr relay_addr4;
    struct in6_addr relay_addr6;
    char relay4[INET_ADDRSTRLEN], relay6[INET6_ADDRSTRLEN];
};

/* slot must be 1..net_plan_max_slot(). */
void slot_net_init(const struct net_plan *plan, int slot, struct slot_net *ret);
/* The slot of an interface name of ours, host end or peer; 0 when it is not one. */
int net_plan_slot_of(const struct net_plan *plan, const char *ifname);
/* The slot that has an address (in_addr or in6_addr); 0 when it is not of the pool. */
int net_plan_slot_of_address(const struct net_plan *plan, int family, const void *address);
