/* SPDX-License-Identifier: Apache-2.0 */
/* The named sets and verdict maps of our table, and their elements. All are created with the table and never more. */
#pragma once

#include "netfilter/address.h"
#include "netfilter/expr.h"

struct nf_forward;

#define SET_READY "ready"                   /* interfaces of containers that new traffic may go to */
#define SET_HARDWARE "hardware_addresses"   /* interface . MAC */
#define SET_ADDRESSES4 "addresses4"         /* interface . IPv4 */
#define SET_ADDRESSES6 "addresses6"         /* interface . IPv6, the link-local address too */
#define SET_KIT_PORTS "kit_ports"           /* interface . TCP port that only a proxy may reach */
#define SET_PROXY_UIDS "proxy_uids"         /* users whose traffic counts as proxied */
#define MAP_TO_CONTAINER "to_container"     /* interface : jump to its ingress chain */
#define MAP_FROM_CONTAINER "from_container" /* interface : jump to its egress chain */
#define MAP_LIMITED "limited"               /* interface : jump to the limit of what it sends */
#define SET_CONFINED "confined"             /* interfaces of containers that nothing is forwarded for */
#define MAP_PROJECT "project_of"            /* interface : group of a project whose containers may reach each other */
#define SET_PEERS "project_members"         /* group . interface */
#define MAP_RELAY4 "relay4"                 /* interface : IPv4 address of its relay's sockets */
#define MAP_RELAY6 "relay6"                 /* interface : IPv6 address of its relay's sockets */
#define MAP_FORWARD4 "forward4"             /* protocol . port of this host : IPv4 address . port of a container */
#define MAP_FORWARD6 "forward6"             /* the same for IPv6 */
#define SET_OWN_LIMIT "own_limit"           /* interfaces of containers with a limit of connections of their own */
#define SET_FULL "full"                     /* interface index . part of its connections that has no room */
#define SET_AT_LIMIT "at_limit"             /* interface index . NF_BEGUN_*: containers that wanted more */
#define SET_OWN_PARTS "own_parts"           /* slot and part . limit: connections of a large limit, in lists tables */
#define SET_OWN_FULL "own_full"             /* the same, without room for a moment */
#define SET_PROXIES "proxies"               /* interfaces of containers that are proxies */
#define MAP_PROXY_MARKS "proxy_marks"       /* the same : mark of their connections */

void sets_create(const struct build *b);
/* Those of the table that counts connections; `share` and `all` are the names of the two that count. */
void sets_create_counted(const struct build *b, const char *share, const char *all);
/* The sets and maps of a table of lists. */
void sets_create_lists(const struct build *b, int which);
/* Of any set of the table. One that is deleted must not be used by a rule. */
void set_flush(const struct build *b, const char *name);
void set_delete(const struct build *b, const char *name);
void set_add_uid(const struct build *b, uint32_t uid);

/* The elements that every container has, but SET_READY. Adding what is there changes nothing; deleting needs it to be
 * there. */
enum set_change { SET_ADD, SET_DELETE };
void set_container(const struct build *b, enum set_change change, const struct slot_net *n);
/* Its elements of MAP_TO_CONTAINER and MAP_FROM_CONTAINER. */
void set_lists(const struct build *b, enum set_change change, const struct slot_net *n, const char *ingress_chain,
               const char *egress_chain);
void set_kit_port(const struct build *b, enum set_change change, const struct slot_net *n, uint16_t port);
/* Its element of MAP_LIMITED. */
void set_limited(const struct build *b, enum set_change change, const struct slot_net *n, const char *chain);
void set_confined(const struct build *b, enum set_change change, const struct slot_net *n);
/* Its elements of MAP_RELAY4 and MAP_RELAY6. */
void set_relayed(const struct build *b, enum set_change change, const struct slot_net *n);
/* Its elements of MAP_FORWARD4 and MAP_FORWARD6. */
void set_forward(const struct build *b, enum set_change change, const struct slot_net *n, const struct nf_forward *f);
/* Its elements of MAP_PROJECT and SET_PEERS. */
void set_project(const struct build *b, enum set_change change, const struct slot_net *n, uint16_t group);
/* The elements of a set that counts, or was put elements into, with the numbers first to last for an interface. */
void set_counted(const struct build *b, enum set_change change, const char *set, uint32_t index, uint32_t first,
                 uint32_t last);
/* Its element of SET_OWN_LIMIT. */
void set_own_limit(const struct build *b, enum set_change change, const struct slot_net *n);
/* Its elements of SET_PROXIES and MAP_PROXY_MARKS. */
void set_proxy(const struct build *b, enum set_change change, const struct slot_net *n, uint32_t mark);
/* Its element of SET_READY. */
void set_ready(const struct build *b, enum set_change change, const struct slot_net *n);
