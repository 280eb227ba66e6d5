/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/fd.h"
#include "base/str.h"
#include "relay/broker.h"
#include "relay/relay.h"
#include "relay/tls.h"

/* Two for each tunnel and association, one for each flow, and some for the rest. */
enum { FDS = 2 * RELAY_TUNNELS_MAX + 2 * RELAY_ASSOCIATIONS_MAX + RELAY_FLOWS_MAX + 128 };

static struct err *set(int fd, int level, int option, const char *what)
{
    const int on = 1;

    return setsockopt(fd, level, option, &on, sizeof(on)) < 0 ? err_errno(errno, "%s", what) : NULL;
}

/* A transparent socket: it takes what is sent to any address, when a rule hands it over. */
static struct err *listening(const char *address, int64_t port, int kind, int *ret)
{
    struct sockaddr_storage sa = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&sa;
    bool is_v4 = inet_pton(AF_INET, address, &v4->sin_addr) == 1;
    autofd int fd = -1;
    struct err *e;

    if (!is_v4 && inet_pton(AF_INET6, address, &v6->sin6_addr) != 1)
        return err_field("listen", "must be addresses");
    sa.ss_family = is_v4 ? AF_INET : AF_INET6;
    *(is_v4 ? &v4->sin_port : &v6->sin6_port) = htons((uint16_t)port);
    fd = socket(sa.ss_family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(errno, "socket");
    e = set(fd, SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR");
    if (!e)
        e = is_v4 ? set(fd, IPPROTO_IP, IP_TRANSPARENT, "IP_TRANSPARENT")
                  : set(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, "IPV6_TRANSPARENT");
    if (!e && kind == SOCK_DGRAM && port == RELAY_DNS_PORT)
        e = is_v4 ? set(fd, IPPROTO_IP, IP_PKTINFO, "IP_PKTINFO")
                  : set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO");
    else if (!e && kind == SOCK_DGRAM)
        e = is_v4 ? set(fd, IPPROTO_IP, IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR")
                  : set(fd, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, "IPV6_RECVORIGDSTADDR");
    if (!e && bind(fd, (struct sockaddr *)&sa, is_v4 ? sizeof(*v4) : sizeof(*v6)) < 0)
        e = err_errno(errno, "cannot use %s port %d of '%s'", kind == SOCK_STREAM ? "TCP" : "UDP", (int)port, address);
    if (!e)
        *ret = fd_steal(&fd);
    return e;
}

static struct err *control_socket(const char *path, int *ret)
{
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    if (fd < 0)
        return err_errno(errno, "socket");
    if (strlen(path) >= sizeof(sa.sun_path))
        return err_new(ERR_HOST, "the path '%s' is too long for a socket", path);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    (void)unlink(path);
    umask(0177);
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return err_errno(errno, "'%s'", path);
    *ret = fd_steal(&fd);
    return NULL;
}

/* Out of noded's cgroup: what systemd finds there is killed with noded. */
static struct err *enter_cgroup(const struct relay_settings *s)
{
    struct cgroup_places p;
    struct err *e = NULL;

    cgroup_places_find(s->cgroup, s->cgroup_name, &p);
    for (size_t i = 0; !e && i < p.count; i++) {
        autofree char *file = str_fmt("%s/cgroup.procs", p.path[i]);

        if (!p.tracked[i])
            continue;
        e = fd_mkdirs(p.path[i], 0755);
        if (!e)
            e = fd_write_kernel_file(file, "0");
    }
    cgroup_places_done(&p);
    return e;
}

static struct err *read_servers(struct relay *r)
{
    json_t *v;
    size_t i;

    json_array_foreach(r->settings.dns_servers, i, v)
    {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&r->servers[r->server_count];
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&r->servers[r->server_count];
        const char *text = json_is_string(v) ? json_string_value(v) : "";

        if (r->server_count == RELAY_SERVERS_MAX)
            break;
        if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
            v4->sin_family = AF_INET;
            v4->sin_port = htons(RELAY_DNS_PORT);
        } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
            v6->sin6_family = AF_INET6;
            v6->sin6_port = htons(RELAY_DNS_PORT);
        } else {
            return err_field("dns_servers", "must be addresses");
        }
        r->server_count++;
    }
    return r->server_count ? NULL : err_field("dns_servers", "must not be empty");
}

struct err *setup_privileged(struct relay *r)
{
    const struct relay_settings *s = &r->settings;
    const char *const addresses[] = {s->listen4, s->listen6};
    struct err *e = enter_cgroup(s);

    for (size_t i = 0; !e && i < ARRAY_LEN(addresses); i++) {
        if (!addresses[i])
            continue;
        e = listening(addresses[i], s->listen_port, SOCK_STREAM, &r->tcp_fd[i]);
        if (!e)
            e = listening(addresses[i], RELAY_DNS_PORT, SOCK_DGRAM, &r->udp_fd[i]);
        if (!e && s->kind == PROXY_SOCKS5)
            e = listening(addresses[i], s->listen_port, SOCK_DGRAM, &r->datagram_fd[i]);
    }
    if (!e)
        e = control_socket(s->socket, &r->control_fd);
    if (!e)
        e = read_servers(r);
    if (!e && s->kind == PROXY_HTTPS)
        e = tls_context(s->ca_file, &r->tls);
    if (!e && s->kind == PROXY_SOCKS5)
        e = broker_start(r);
    return e;
}

static bool keep_only_raw(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = 1u << CAP_NET_RAW, .permitted = 1u << CAP_NET_RAW}};

    return syscall(SYS_capset, &header, data) == 0;
}

struct err *setup_drop(const struct relay *r, bool keep_raw)
{
    const struct rlimit no_core = {0, 0}, fds = {FDS, FDS};
    const gid_t gid = (gid_t)r->settings.gid;
    const uid_t uid = (uid_t)r->settings.uid;

    if (setrlimit(RLIMIT_CORE, &no_core) < 0 || setrlimit(RLIMIT_NOFILE, &fds) < 0)
        return err_errno(errno, "setrlimit");
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return err_errno(errno, "PR_CAPBSET_DROP");
    if (keep_raw && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return err_errno(errno, "PR_SET_KEEPCAPS");
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return err_errno(errno, "cannot become the relay's account");
    if (keep_raw && !keep_only_raw())
        return err_errno(errno, "capset");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_errno(errno, "prctl");
    if (setuid(0) == 0) /* never */
        return err_new(ERR_INTERNAL, "the rights of root could be had again");
    return NULL;
}
