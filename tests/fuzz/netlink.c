/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says. First byte: what is asked; then datagrams, each with its length in two bytes, whose highest bit
 * says that an answer ends here. The sockets of libmnl and the writing of sysctls are replaced: nothing reaches a
 * kernel. Whatever is sent, the next datagrams are the answer, made to look like one; then the kernel is done.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "netfilter/batch.h"
#include "netfilter/nf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { PORT = 42, SOCKETS_MAX = 8, LAST = 0x8000 };

struct mnl_socket {
    int here, there;
    uint32_t seq; /* of the last message that was sent */
};

static struct {
    const uint8_t *data;
    size_t len;
    struct mnl_socket *sockets[SOCKETS_MAX];
    size_t count;
} world;

/* The next datagram of the input, as if the kernel had sent it to nl; false when it was the last. */
static bool answer(struct mnl_socket *nl, uint32_t port)
{
    static _Alignas(struct nlmsghdr) char buf[32768 + sizeof(struct nlmsghdr)];
    struct nlmsghdr *h = (struct nlmsghdr *)buf;
    size_t n, size;
    int left;

    if (world.len < 2)
        return false;
    size = (size_t)(world.data[0] | world.data[1] << 8);
    n = MIN(size & ~(size_t)LAST, MIN(world.len - 2, (size_t)32768));
    memcpy(buf, world.data + 2, n);
    world.data += n + 2;
    world.len -= n + 2;
    memset(buf + n, 0, sizeof(struct nlmsghdr)); /* behind the end there is no message */
    for (left = (int)n; left > 0 && h->nlmsg_len <= (uint32_t)left && mnl_nlmsg_ok(h, left);
         h = mnl_nlmsg_next(h, &left)) {
        h->nlmsg_seq = nl->seq + (h->nlmsg_seq & 0xff);
        h->nlmsg_pid = port;
    }
    if (left > 0)
        h->nlmsg_len = 0; /* more than 2 GiB would be less than nothing for libmnl; the kernel does not say so */
    if (n && send(nl->there, buf, n, MSG_DONTWAIT) < 0)
        abort();
    return !(size & LAST);
}

/* libmnl */

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
    struct mnl_socket *nl = mem_new(struct mnl_socket);
    int pair[2], size = 1 << 20;

    (void)bus;
    if (world.count == SOCKETS_MAX || socketpair(AF_UNIX, SOCK_DGRAM | flags, 0, pair) < 0)
        abort();
    (void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    *nl = (struct mnl_socket){.here = pair[0], .there = pair[1]};
    world.sockets[world.count++] = nl;
    return nl;
}

int mnl_socket_bind(struct mnl_socket *nl, unsigned int groups, pid_t pid)
{
    (void)nl;
    (void)groups;
    (void)pid;
    return 0;
}

int mnl_socket_close(struct mnl_socket *nl)
{
    close(nl->here);
    close(nl->there);
    free(nl);
    return 0;
}

int mnl_socket_get_fd(const struct mnl_socket *nl)
{
    return nl->here;
}

unsigned int mnl_socket_get_portid(const struct mnl_socket *nl)
{
    (void)nl;
    return PORT;
}

int mnl_socket_setsockopt(const struct mnl_socket *nl, int type, void *buf, socklen_t len)
{
    (void)nl;
    (void)type;
    (void)buf;
    (void)len;
    return 0;
}

ssize_t mnl_socket_sendto(const struct mnl_socket *nl, const void *req, size_t len)
{
    struct mnl_socket *to = (struct mnl_socket *)(uintptr_t)nl;

    to->seq = ((const struct nlmsghdr *)req)->nlmsg_seq;
    while (answer(to, PORT))
        continue;
    return (ssize_t)len;
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *nl, void *buf, size_t size)
{
    ssize_t n = recv(nl->here, buf, size, MSG_DONTWAIT);
    struct nlmsghdr *h = buf;

    if (n >= 0)
        return n;
    *h = (struct nlmsghdr){
        .nlmsg_len = NLMSG_LENGTH(sizeof(int)), .nlmsg_type = NLMSG_DONE, .nlmsg_seq = nl->seq, .nlmsg_pid = PORT};
    memset(mnl_nlmsg_get_payload(h), 0, sizeof(int));
    return h->nlmsg_len;
}

/* netfilter/sysctl.c */

struct err *sysctl_host(const struct nf *n)
{
    (void)n;
    return NULL;
}

bool sysctl_ipv6(const struct nf *n)
{
    (void)n;
    return true;
}

bool sysctl_ipv6_known(void)
{
    return true;
}

struct err *sysctl_link(const struct nf *n, const char *ifname, bool proxy)
{
    (void)n;
    (void)ifname;
    (void)proxy;
    return NULL;
}

uint32_t sysctl_rp_filter(bool proxy)
{
    return proxy ? 2 : 1;
}

static struct nf *nf;
static struct nf_watch *watch;
static struct rule *rules[2];

static void begin(void)
{
    struct nf_config config = {.table = "noded"};
    struct err *e = net_plan_init(&config.plan, "nd", "10.96.0.0/16", "fd6e:6f64:6564::/64");
    autojson body = json_pack("{s:s, s:s, s:s}", "action", "allow", "protocol", "tcp", "destination_port", "80,443");

    if (!e)
        e = nf_open(&config, &nf);
    if (!e)
        e = nf_watch_open(nf, &watch);
    if (!e)
        e = rule_load(RULE_INGRESS, body, &rules[0]);
    if (!e)
        e = rule_load(RULE_EGRESS, body, &rules[1]);
    if (e)
        abort();
}

static struct err *ask(uint8_t what)
{
    const struct nf_container c = {
        .slot = 1, .ingress = &rules[0], .ingress_count = 1, .egress = &rules[1], .egress_count = 1};
    struct nf_conflict conflicts[NF_CONFLICTS_MAX];
    struct nf_hits in[1], out[1];
    struct nf_drift d = {0};
    struct nf_counters counters;
    struct nf_connections connections;
    size_t count = 0;

    if (what == UINT8_MAX)
        return nf_connections(nf, &connections);
    if (what == UINT8_MAX - 1)
        return nf_connections_tidy(nf, 1);
    switch (what % 8) {
    case 0:
        return nf_sync(nf, &c, 1);
    case 1:
        return nf_repair(nf, &c, 1, false, &d);
    case 2:
        return nf_conflicts(nf, conflicts, &count);
    case 3:
        return nf_link_counters(nf, 1, &counters);
    case 4:
        return nf_container_set(nf, &c);
    case 5:
        return nf_container_remove(nf, 1);
    case 6:
        return nf_container_hits(nf, &c, in, out);
    default:
        for (size_t i = 0; world.len > 2; i++) { /* its sockets were made last */
            (void)answer(world.sockets[world.count - 1 - i % 2], 0);
            (void)nf_watch_changed(watch, &d);
        }
        return NULL;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char rest[64];

    if (!nf)
        begin();
    if (len < 1)
        return 0;
    world.data = data + 1;
    world.len = len - 1;
    err_ignore(ask(data[0]));
    for (size_t i = 0; i < world.count; i++)
        while (recv(world.sockets[i]->here, rest, sizeof(rest), MSG_DONTWAIT) >= 0)
            continue;
    return 0;
}
