/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of struct nf, and the steps that netfilter.c puts together. */
#pragma once

#include "netfilter/netfilter.h"
#include "netfilter/nl.h"

/* What is in the kernel for a container and cannot be replaced without knowing it. */
struct known {
    uint16_t *kit_ports;
    size_t kit_port_count;
    struct nf_forward *forwards;
    size_t forward_count;
    enum nf_egress way_out;
    uint16_t group;
    struct nf_limits limits;
    bool proxy;
};

#define NF_LISTS 8
#define NF_LISTS_NAME_MAX 80
#define NF_COUNTED_LISTS (NF_LISTS - 1) /* the table of lists that counts connections */

/* A number of connections, counted in parts, see counted.c. */
struct nf_parts {
    uint32_t count, each;
};

struct nf {
    char *table, *uplink;
    char lists[NF_LISTS][NF_LISTS_NAME_MAX]; /* names of tables, see lists.c */
    struct net_plan plan;
    bool inter_container, drop_ipv6, ipv4_only;
    uint16_t *host_tcp_ports;
    size_t host_tcp_port_count;
    uint16_t *host_udp_ports;
    size_t host_udp_port_count;
    uint32_t *proxy_uids;
    size_t proxy_uid_count;
    int share_percent, reserve_percent;
    int64_t table_max; /* of the connection table, when `share` and `all` were made of it; 0: not known */
    struct nf_parts share, all;
    bool uncounted;                    /* the kernel has refused the rules that count */
    char share_set[32], all_set[32];   /* with these numbers in their names: counts of others do not go on in them */
    struct known *known;               /* by slot; NET_SLOT_MAX + 1 of them */
    struct nl rules, route, conntrack; /* one socket for each kernel subsystem, as long as we live */
};

/* A proxy may mark its sockets itself; the node marks what must come back to a proxy's socket, or go to a relay's. */
#define NF_MARK_MASK 0xff00u
#define NF_MARK_REPLY 0x100u   /* route to this host: lookup in NF_ROUTE_TABLE */
#define NF_MARK_PROXIED 0x200u /* SO_MARK of a proxy */
#define NF_MARK_OF_GROUP(group) ((uint32_t)(group) << 16)
#define NF_CT_PROXIED 0x100u     /* connection of a marked socket */
#define NF_MARK_CONTAINER 0x300u /* of a proxy in a container: which one is said above the mask */
#define NF_MARK_ASKED 0x400u     /* the lists of the containers decide, see lists.c */
#define NF_MARK_COUNTED 0x800u   /* decided, but it counts, see counted.c */
#define NF_ROUTE_TABLE 100
#define NF_RULE_PRIORITY 100
#define NF_ROUTE_PROTOCOL 110 /* who made a route: shown by "ip route" */

/* Of the proxy in the container of a slot: mark of its connections and their answers, and its route table. */
#define NF_PROXY_MARK_SHIFT 16
#define NF_PROXY_MARK(slot) ((uint32_t)(slot) << NF_PROXY_MARK_SHIFT | NF_MARK_CONTAINER)
#define NF_PROXY_MARK_MASK 0xffffff00u
#define NF_PROXY_TABLE(slot) (1100000u + (uint32_t)(slot))
#define NF_PROXY_RULE_PRIORITY 101

struct build;

/* table.c: our tables with sets, base chains and their rules; what is there must be empty, see refill.h. */
void table_create(const struct nf *nf, const struct build *b);
void table_delete(const struct nf *nf, const struct build *b);
/* Rules of several chains: what is no container's passes, what goes to a network is dropped. */
void table_skip_foreign(const struct nf *nf, const struct build *b, const char *name, uint32_t key);
void table_drop_to4(const struct build *b, const char *name, uint32_t network, uint32_t span, const char *why);

/* arriving.c: chains of the table for what comes out of containers, before it is routed. */
void arriving_antispoof(const struct nf *nf, const struct build *b);
void arriving_marks(const struct nf *nf, const struct build *b);

#define NF_FULL_MS 100 /* so long nothing is counted for what is full */

/* counted.c: how many connections containers have. Entries of the connection table; 0 also when conntrack is not
 * loaded.
 */
int64_t counted_entries(void);
/* Fits the shares to the size that the table has now. */
void counted_measure(struct nf *nf);
/* The sets and chains in the table NF_COUNTED_LISTS, and a base chain's way to them. */
void counted_chains(const struct nf *nf, const struct build *b);
/* Nothing is left of a link that is still there. */
void counted_forget(const struct nf *nf, const struct build *b, const struct slot_net *n);
void counted_begin(const struct nf *nf, const struct build *b, const char *name, bool from);

/* lists.c: the tables with the containers' chains. Those of a slot are in lists_of(): valid as long as nf. */
void lists_name(char name[NF_LISTS_NAME_MAX], const char *table, int which);
struct build lists_of(const struct nf *nf, const struct build *b, int slot);
void lists_create(const struct nf *nf, const struct build *b);
void lists_delete(const struct nf *nf, const struct build *b);
/* A table's name is that of `table` or of one of its lists. */
bool lists_own(const char *table, const char *name);

/* plan.c: a container's chains, rules and elements. */
struct chain_names {
    char in[16], out[16];
};
struct chain_names chain_names(int slot);
MUST_USE struct err *plan_container(const struct nf *nf, const struct build *b, const struct nf_container *c);
void plan_remove(const struct nf *nf, const struct build *b, int slot);

/* forward.c: the chain of the table; a container's elements, those from before that are not wanted any more included;
 * connections that a change of its forwards leaves on a wrong way. */
void forward_chain(const struct build *b);
void forward_elements(const struct nf *nf, const struct build *b, const struct slot_net *n,
                      const struct nf_forward *forwards, size_t count);
MUST_USE struct err *forward_flush(struct nf *nf, const struct slot_net *n, const struct nf_container *c);

/* proxy.c: rules in chains of table.c, after what these have already; chain "proxied" is table.c's. */
void proxy_antispoof(const struct nf *nf, const struct build *b);
void proxy_marks(const struct nf *nf, const struct build *b);
void proxy_routed(const struct nf *nf, const struct build *b);
void proxy_elements(const struct build *b, const struct slot_net *n, bool proxy);
/* ip rules, routes and rp_filter of a link that is there; at the end the connections go, too. Both can be repeated. */
MUST_USE struct err *proxy_begin(struct nf *nf, const struct slot_net *n);
MUST_USE struct err *proxy_end(struct nf *nf, const struct slot_net *n);
/* Of containers that are no proxies, as `known` says. */
MUST_USE struct err *proxy_sweep(struct nf *nf);

/* limit.c: what is new comes before the rules of the container's two chains, each of which begins with the connections'
 * limit; what has gone goes after them. */
void limit_begin(const struct nf *nf, const struct build *b, const struct build *lists, const struct slot_net *n,
                 const struct nf_limits *limits);
void limit_connections(const struct build *lists, const char *chain, int slot, const struct nf_limits *limits);
void limit_end(const struct nf *nf, const struct build *b, const struct build *lists, const struct slot_net *n,
               const struct nf_limits *limits);

/* shape.c: bytes a second that the link takes to the container; 0: as many as there are. Nothing without a link. */
MUST_USE struct err *shape_link(struct nf *nf, const struct slot_net *n, uint64_t down);
/* The same of all of ours; d: what was missing. */
MUST_USE struct err *shape_repair(struct nf *nf, const struct nf_container *containers, size_t count,
                                  struct nf_drift *d);

/* links.c */
MUST_USE struct err *links_create(struct nf *nf, const struct slot_net *n);
MUST_USE struct err *links_delete(struct nf *nf, const char *ifname);
/* keep: bit per slot, or NULL to keep none. */
MUST_USE struct err *links_sweep(struct nf *nf, const uint8_t *keep);
/* Everything that a host end needs, put back where it is missing. */
MUST_USE struct err *links_restore(struct nf *nf, const struct slot_net *n);
MUST_USE struct err *links_counters(struct nf *nf, const char *ifname, struct nf_counters *ret);

/* routes.c */
MUST_USE struct err *routes_install(struct nf *nf);
MUST_USE struct err *routes_remove(struct nf *nf);
/* Addresses, routes and neighbours of a link's host end. */
MUST_USE struct err *routes_of_link(struct nf *nf, const struct slot_net *n, unsigned index);

/* sysctl.c: forwarding on the host, and what a container's link needs. */
MUST_USE struct err *sysctl_host(const struct nf *nf);
/* proxy: what it sends has addresses that are behind other links. */
MUST_USE struct err *sysctl_link(const struct nf *nf, const char *ifname, bool proxy);
/* Whether links and routes have IPv6 now. */
bool sysctl_ipv6(const struct nf *nf);
/* Whether the kernel understands a request about it; what was made when it was on can be listed and removed. */
bool sysctl_ipv6_known(void);
uint32_t sysctl_rp_filter(bool proxy); /* what a link has */

/* drift.c: puts the links right, and routes and sysctls of the host. */
MUST_USE struct err *drift_repair(struct nf *nf, const struct nf_container *containers, size_t count,
                                  struct nf_drift *d);

/* conntrack.c: forgets connections of the container's addresses: every one, those that the container began, those with
 * other containers, those that it opened as a proxy, those that came by one of the forwards. CONNTRACK_UNFORWARDED:
 * those of anybody that are sent to the port of a forward and not translated: the kernel would keep to the way that the
 * first packet went. CONNTRACK_SILENT: those that nothing has been answered to. forwards: NULL but for the last two. */
enum conntrack_which {
    CONNTRACK_ALL,
    CONNTRACK_BEGUN,
    CONNTRACK_PEERS,
    CONNTRACK_PROXIED,
    CONNTRACK_SILENT,
    CONNTRACK_FORWARDED,
    CONNTRACK_UNFORWARDED
};
MUST_USE struct err *conntrack_flush(struct nf *nf, const struct slot_net *n, enum conntrack_which which,
                                     const struct nf_forward *forwards, size_t count);
