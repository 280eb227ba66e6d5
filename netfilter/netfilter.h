/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's network: nftables tables of our own, a routed veth per container, the routes and ip rules that
 * transparent proxies need. Nothing foreign is touched or listed.
 *
 * All calls are synchronous netlink and belong on one thread, except struct nf_watch, which may live on another. The
 * rules stay when the handle is closed. A change takes 0.2 ms; in addition the kernel checks all rules of the table
 * that is changed, see lists.c: 0.3 ms beside 1000 containers with 20 user rules each. nf_container_remove takes 5 ms,
 * a walk through the conntrack table; replacing or deleting a link 20 to 50 ms, a grace period of the kernel.
 *
 * What a packet meets, first match wins:
 *
 * - from a container: anti-spoof (interface, MAC, address, for neighbour discovery too), over its rate: drop; relayed:
 *   to the relay's socket;
 *   confined: drop; to 169.254.0.0/16: drop; established, too many connections: drop; its egress rules, then out
 * - to a container: established, from one of another group: drop, not ready: drop, proxied: accept, kit port: drop, too
 *   many connections: drop; its ingress rules, accept
 * - to the host: established, relayed: its egress rules, then the relay; ICMP, host_tcp_ports, host_udp_ports, drop
 * - what has passed all that and makes an entry of the connection table: over the container's share, or over what all
 *   containers may have: drop
 *
 * Proxied traffic is what leaves this host's own sockets with the mark 0x200/0xff00, or from an address which is not
 * this host's (a transparent socket), or from a uid in proxy_uids; and what a container that is a proxy opens to
 * others.
 */
#pragma once

#include "netfilter/address.h"
#include "netfilter/rule.h"

struct nf;
struct nf_watch;

#define NF_SHARE_PERCENT 6
#define NF_RESERVE_PERCENT 25

/* Copied by nf_open. */
struct nf_config {
    const char *table; /* "noded" */
    struct net_plan plan;
    const char *uplink;             /* NULL: every interface that is not a container's */
    bool inter_container;           /* all containers may talk to each other directly */
    bool drop_ipv6;                 /* a direction that has rules lets no new IPv6 through */
    bool ipv4_only;                 /* links and routes have no IPv6; the rules speak of it all the same */
    const uint16_t *host_tcp_ports; /* of the host, that containers may reach */
    size_t host_tcp_port_count;
    const uint16_t *host_udp_ports; /* likewise */
    size_t host_udp_port_count;
    const uint32_t *proxy_uids;
    size_t proxy_uid_count;
    /* Of the host's connection table, nf_conntrack_max: what connections that a container begins may take, and as much
     * again those to it; what all containers leave to the host. 0: NF_SHARE_PERCENT, NF_RESERVE_PERCENT. */
    int share_percent, reserve_percent;
};

/* Anything but NF_EGRESS_OPEN is decided before the connection tracking is asked: no packet of the container is
 * forwarded, whatever it belongs to. What stays possible is this host: proxied connections, its ports for containers,
 * ICMP. */
enum nf_egress {
    NF_EGRESS_OPEN,
    NF_EGRESS_BLOCKED, /* no way out */
    NF_EGRESS_RELAYED, /* TCP and UDP go to the sockets of slot_net.relay4 and relay6, after its egress rules; they need
                          not exist, then nothing goes */
};

#define NF_PROXIES_MAX 16 /* the cost of a packet grows with their number, by an ip rule each */

/* A port of this host, at any of its addresses but the loopback's, that leads to a port of the container. The client's
 * address stays. Its ingress rules apply, as to any other way in. */
struct nf_forward {
    uint8_t protocol; /* IPPROTO_TCP or IPPROTO_UDP */
    uint16_t host_port, port;
};

/* 0: none. */
struct nf_limits {
    uint64_t up, down;    /* bytes a second that it sends, that it receives */
    uint32_t connections; /* that it has at a time, begun by it or to it, those through proxies of this host not;
                             in the place of its share of the host's table */
};

/* All borrowed for the call. */
struct nf_container {
    int slot;
    bool closed; /* nothing new may go to it, not even proxied: it is not ready */
    enum nf_egress way_out;
    uint16_t group; /* those of the same group reach each other, after their rules; 0: of none */
    struct nf_limits limits;
    bool proxy;                /* what it opens to other containers counts as proxied, whatever its source address */
    const uint16_t *kit_ports; /* TCP; reachable by proxied traffic only */
    size_t kit_port_count;
    const struct nf_forward *forwards; /* no other container may have the same host port */
    size_t forward_count;
    struct rule *const *ingress; /* in the user's order; disabled ones are skipped */
    size_t ingress_count;
    struct rule *const *egress;
    size_t egress_count;
};

struct nf_counters { /* as the container sees them */
    uint64_t received_bytes, sent_bytes, received_packets, sent_packets;
    uint64_t received_errors, sent_errors, received_dropped, sent_dropped;
    bool up; /* both ends are */
};

/* What a rule of a user has matched. */
struct nf_hits {
    uint64_t packets, bytes;
};

/* Why IPv6 does not work on this host, in constant words: the kernel has none, or one of the switches all, default and
 * lo of net.ipv6.conf.*.disable_ipv6 is on, whose links and local routes are refused then. NULL: it works. What has
 * IPv6 is not put in when it does not, whatever nf_config says. */
const char *nf_ipv6_off(void);

MUST_USE struct err *nf_open(const struct nf_config *config, struct nf **ret);
void nf_close(struct nf *nf);
DEFINE_AUTO(struct nf, nf_close)

/* Makes the kernel as told, whatever was there: the whole table in one transaction, ip rules, routes, sysctls; links of
 * ours whose slot is not listed are deleted. Established connections are not disturbed. Rules that were there before
 * with the same effect go on counting, as long as the old table can be read; so they do in nf_container_set.
 * No packet meets half of the rules, or none: chains and sets stay and are filled anew. Only when something in our
 * tables has another shape - of another version, or somebody else's doing - they are replaced, and a packet that is
 * between an old base chain and its successor in that microsecond may meet neither, see refill.c. */
MUST_USE struct err *nf_sync(struct nf *nf, const struct nf_container *containers, size_t count);

/* New or replaced, in one transaction; idempotent. When the way out is another one than before, connections that the
 * container began are forgotten; when the group is, those with other containers; when a forward goes, those that came
 * by it. A handle's first call must have been nf_sync. ERR_NOT_FOUND: the table is gone or damaged, call nf_sync.
 * ERR_LIMIT: the rules expand to too many kernel rules. */
MUST_USE struct err *nf_container_set(struct nf *nf, const struct nf_container *container);
/* What the rules of its lists have counted; one ret for each rule of a list, 0 for those that are not in the kernel.
 */
MUST_USE struct err *nf_container_hits(struct nf *nf, const struct nf_container *container, struct nf_hits *ret_ingress,
                                       struct nf_hits *ret_egress);
/* Its chains, elements and conntrack entries; idempotent. ERR_NOT_FOUND as above. */
MUST_USE struct err *nf_container_remove(struct nf *nf, int slot);

/* A fresh veth pair, the host end up and routed, the peer (slot_net.peer) down and waiting to be moved. An old pair of
 * the slot is replaced. Packets do not pass before nf_container_set. */
MUST_USE struct err *nf_link_create(struct nf *nf, int slot);
MUST_USE struct err *nf_link_delete(struct nf *nf, int slot); /* idempotent */
/* ERR_NOT_FOUND when there is no link. */
MUST_USE struct err *nf_link_counters(struct nf *nf, int slot, struct nf_counters *ret);

/* A container that wanted more connections than its share of the host's table within the last twenty seconds. */
#define NF_BEGUN_BY_IT 1u
#define NF_BEGUN_TO_IT 2u
#define NF_AT_LIMIT_MAX 64
struct nf_at_limit {
    int slot;
    uint32_t directions; /* NF_BEGUN_*, one or both */
};
/* The host's connection table, in entries. */
struct nf_connections {
    int64_t count, max; /* it has, and can have; 0: conntrack is not loaded */
    int64_t share, all; /* what a container may have in each direction, and all together; both are about so many */
    bool resized;       /* max is another one than the rules are made for: nf_sync */
    bool uncounted;     /* the kernel has not got what the rules take (nft_connlimit, nft_hash): there are no shares */
    struct nf_at_limit at_limit[NF_AT_LIMIT_MAX];
    size_t at_limit_count;
};
MUST_USE struct err *nf_connections(struct nf *nf, struct nf_connections *ret);
/* Forgets the entries of a container's connections that were never answered, so that those which it needs can begin.
 * Some milliseconds, and some microseconds for each entry. */
MUST_USE struct err *nf_connections_tidy(struct nf *nf, int slot);

/* Removes the table, ip rules, routes and links. */
MUST_USE struct err *nf_uninstall(struct nf *nf);

/* What others have changed, in words, for people. */
#define NF_FOUND_MAX 16
struct nf_found {
    int slot; /* 0: of the host */
    char what[96];
};
struct nf_drift {
    struct nf_found found[NF_FOUND_MAX];
    size_t count, total; /* kept, and seen */
    uint8_t
        lost[NET_SLOT_MAX / 8 + 1]; /* bit per slot: its link is gone. Only a start of the container makes another */
};
void nf_drift_add(struct nf_drift *d, int slot, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts right what others have changed, and adds to *d what was wrong of the links, routes, ip rules and sysctls: those
 * are compared with what they should be. With `table` the table is made anew. The containers are all that are up, as
 * for nf_sync. 50 us a container. */
MUST_USE struct err *nf_repair(struct nf *nf, const struct nf_container *containers, size_t count, bool table,
                               struct nf_drift *d);

/* A chain of another firewall that drops what it does not know: what it drops, our table cannot let through. */
#define NF_CONFLICTS_MAX 16
enum nf_conflict_hook {
    NF_CONFLICT_FORWARD, /* between containers and the rest */
    NF_CONFLICT_INPUT,   /* to this host: proxies, relays, host_tcp_ports */
    NF_CONFLICT_OUTPUT,  /* from this host: proxies */
};
struct nf_conflict {
    const char *program; /* constant: "docker", "ufw", "firewalld", "another firewall" */
    const char *family;  /* constant, as nft(8) says it */
    char table[64], chain[64];
    uint8_t nfproto;
    enum nf_conflict_hook hook;
    bool excepted; /* a rule of its table speaks of our interfaces: somebody has seen to it */
};
/* By what they have in nftables: 1 ms, and what a dump of all chains takes. iptables-legacy is not seen. */
MUST_USE struct err *nf_conflicts(struct nf *nf, struct nf_conflict list[NF_CONFLICTS_MAX], size_t *ret_count);

/* Tells of changes that others make. The fd becomes readable, then nf_watch_changed reads all there is and returns the
 * bits of what was concerned; changes of our table are added to *d in words. Changes through `nf` are not reported, but
 * what the kernel does by itself is: NF_SEEN_HOST means that a look (nf_repair) is worth it, not that it finds
 * anything. */
enum {
    NF_SEEN_TABLE = 1,   /* our table */
    NF_SEEN_HOST = 2,    /* links, addresses, routes, neighbours, ip rules or sysctls that may be ours */
    NF_SEEN_FOREIGN = 4, /* tables or chains of others */
    NF_SEEN_FOREIGN_RULES = 8,
};
MUST_USE struct err *nf_watch_open(const struct nf *nf, struct nf_watch **ret);
int nf_watch_fd(const struct nf_watch *w);
unsigned nf_watch_changed(struct nf_watch *w, struct nf_drift *d);
void nf_watch_close(struct nf_watch *w);
