/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noded-relay: the way out of one container through one upstream proxy. Rules of the host give it the container's TCP
 * connections and DNS queries, with the addresses they were sent to; it passes them on through the proxy. One thread,
 * one loop; it runs as an account without rights and outlives noded.
 *
 * Bounds: RELAY_TUNNELS_MAX connections with one buffer a direction; RELAY_QUERIES_MAX queries at a time.
 */
#pragma once

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <uv.h>

#include "egress/handshake.h"
#include "egress/settings.h"

enum {
    RELAY_TUNNELS_MAX = 1024,
    RELAY_QUERIES_MAX = 256,
    RELAY_CONTROLS_MAX = 8,
    RELAY_ASSOCIATIONS_MAX = 128, /* sources of datagrams */
    RELAY_FLOWS_MAX = 512,        /* and to whom they send */
    RELAY_BUFFER = 16384,
    RELAY_SERVERS_MAX = 4,
    RELAY_DNS_PORT = 53,
};

struct dns;
struct udp;
struct probe;
struct control;

struct relay {
    uv_loop_t loop;
    struct relay_settings settings;
    SSL_CTX *tls;                                       /* PROXY_HTTPS only */
    struct sockaddr_storage servers[RELAY_SERVERS_MAX]; /* of DNS, port 53 */
    size_t server_count;
    /* Made while it has the rights to; index 0 is IPv4, 1 IPv6. */
    int tcp_fd[2], udp_fd[2], control_fd; /* the second of two: -1 without IPv6 */
    /* For datagrams, PROXY_SOCKS5 only: what takes them, and the stream to the broker. */
    int datagram_fd[2], broker_fd;

    struct sockaddr_storage reached; /* the proxy's address that was connected to last */
    uv_tcp_t listeners[2];
    size_t tunnels;
    struct dns *dns;
    struct udp *udp; /* NULL: the proxy is of a kind that cannot carry datagrams */
    struct probe *probe;
    struct control *control;
};

/* setup.c: sockets, cgroup, limits; then the rights go for good. keep_raw: but for CAP_NET_RAW. */
MUST_USE struct err *setup_privileged(struct relay *r);
MUST_USE struct err *setup_drop(const struct relay *r, bool keep_raw);

/* address.c */
bool address_is_client(const struct relay *r, const struct sockaddr_storage *sa);      /* the container's */
bool address_is_own(const struct relay *r, const struct sockaddr_storage *sa);         /* what we listen at */
bool address_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b); /* with the ports */
socklen_t address_len(const struct sockaddr_storage *sa);
/* One of another host, whether there is a way to it or not: no address of this host, no broadcast or multicast one. The
 * kernel is asked: the source address that a connected socket gets does not tell (127.0.0.2 and the second address of
 * an interface have another one), nor does it that an address can be bound (net.ipv4.ip_nonlocal_bind). */
bool address_is_elsewhere(const struct sockaddr *sa);
/* One that the relay may connect or send to: elsewhere, not link-local, in none of the forbidden networks. */
bool address_is_allowed(const struct relay *r, const struct sockaddr *sa);

/* tunnel.c */
MUST_USE struct err *tunnels_start(struct relay *r);

/* dns.c */
MUST_USE struct err *dns_start(struct relay *r);

/* udp.c */
MUST_USE struct err *udp_start(struct relay *r);
/* {"carried": true | false | null, not known yet, "associations", "dropped"}; null for other kinds of proxies. */
json_t *udp_status(const struct relay *r);

/* probe.c: what is known of the proxy. note: what a connection through it has just found out; problem NULL: it works.
 * */
void probe_start(struct relay *r);
void probe_note(struct relay *r, const char *problem);
void probe_now(struct relay *r);
json_t *probe_status(const struct relay *r);

/* control.c: first_fd is the stream that came with the start. */
MUST_USE struct err *control_start(struct relay *r, int first_fd);
/* The status to everybody who listens. */
void control_tell(struct relay *r);
