/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/relay_process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "agent/network/egress.h"
#include "agent/network/ipv6.h"
#include "base/cgroup.h"
#include "base/fd.h"
#include "base/frame.h"
#include "base/spawn.h"
#include "base/str.h"
#include "egress/settings.h"

enum { END_MS = 3000 };

static char *directory(const char *run_dir)
{
    return str_fmt("%s/relay", run_dir);
}

static char *socket_path(const char *run_dir, int64_t slot)
{
    return str_fmt("%s/relay/%lld.sock", run_dir, (long long)slot);
}

char *relay_process_generation(const struct agent *a, const struct container *c)
{
    return str_fmt("%s.%s%s", c->record.id, c->egress->record.generation, a->ipv6_off ? ".ipv4" : "");
}

/* Containers that may not reach each other may not do so by way of a relay. */
static json_t *forbidden(const struct config *c)
{
    return c->inter_container ? json_array() : json_pack("[s, s]", c->ipv4_pool, c->ipv6_pool);
}

static struct err *fill(const struct agent *a, const struct container *c, struct relay_settings *s)
{
    const struct egress *eg = c->egress;
    const struct passwd *pw = getpwnam(a->config->relay_user);
    struct proxy_url url = {0};
    struct err *e;

    if (!pw || pw->pw_uid == 0)
        return err_new(ERR_HOST, "there is no account '%s' (network.relay_user)", a->config->relay_user);
    e = proxy_url_parse(eg->record.proxy, (enum proxy_kind)eg->record.type, &url);
    if (e)
        return e;
    *s = (struct relay_settings){
        .container = str_dup(c->record.id),
        .generation = relay_process_generation(a, c),
        .kind = eg->record.type,
        .host = steal(&url.host),
        .port = url.port,
        .username = str_dup(eg->username),
        .password = str_dup(eg->password),
        .ca_file = str_dup(a->config->relay_ca),
        .dns_servers = json_incref(eg->record.dns_servers),
        .forbidden = forbidden(a->config),
        .listen4 = str_dup(c->net.relay4),
        .listen6 = a->ipv6_off ? NULL : str_dup(c->net.relay6),
        .client4 = str_dup(c->net.ipv4),
        .client6 = str_dup(ipv6_address(a, c)),
        .listen_port = NET_RELAY_PORT,
        .socket = socket_path(a->config->run_dir, c->record.slot),
        .cgroup = str_dup(a->config->cgroup),
        .cgroup_name = str_fmt("r%lld", (long long)c->record.slot),
        .uid = pw->pw_uid,
        .gid = pw->pw_gid,
    };
    return NULL;
}

static struct err *start(const struct agent *a, const json_t *settings, int64_t slot, int *ret_fd, int *ret_pidfd)
{
    autofree char *name = str_fmt("c%lld", (long long)slot);
    const char *const argv[] = {"noded-relay", name, NULL}, *const envp[] = {NULL};
    struct spawn spawn = SPAWN_INIT;
    autofd int ours = -1, theirs = -1, pidfd = -1;
    int pair[2];
    struct err *e;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(errno, "socketpair");
    ours = pair[0];
    theirs = pair[1];
    spawn.path = a->config->relay;
    spawn.argv = argv;
    spawn.envp = envp;
    spawn.fd3 = theirs;
    e = spawn_start(&spawn, &pid, &pidfd);
    /* A few kilobytes: the socket takes them at once, whether the relay reads or not. */
    if (!e)
        e = frame_send(ours, settings);
    if (!e && fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
        e = err_errno(errno, "fcntl");
    if (e && pidfd >= 0) {
        int status;

        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        err_ignore(spawn_reap(pidfd, &status));
    }
    if (e)
        return e;
    *ret_fd = fd_steal(&ours);
    *ret_pidfd = fd_steal(&pidfd);
    return NULL;
}

struct err *relay_process_start(const struct agent *a, const struct container *c, int *ret_fd, int *ret_pidfd)
{
    autofree char *dir = directory(a->config->run_dir);
    struct relay_settings s = {0};
    autojson settings = NULL;
    struct err *e = fd_mkdirs(dir, 0700);

    if (!e)
        e = fill(a, c, &s);
    if (e)
        return e;
    settings = json_table_save(&relay_settings_table, &s);
    json_table_clear(&relay_settings_table, &s);
    return start(a, settings, c->record.slot, ret_fd, ret_pidfd);
}

/* On this side of the stream the credentials are those of who listens. */
static int pidfd_of_peer(int fd)
{
    struct ucred cred = {0};
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.pid <= 0)
        return -1;
    return pidfd_open(cred.pid, 0);
}

int relay_process_connect(const char *run_dir, int64_t slot, int *ret_pidfd)
{
    autofree char *path = socket_path(run_dir, slot);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen(path) >= sizeof(sa.sun_path))
        return -1;
    memcpy(sa.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
        if (errno == ECONNREFUSED)
            (void)unlink(path);
        return -1;
    }
    *ret_pidfd = pidfd_of_peer(fd);
    return *ret_pidfd < 0 ? -1 : fd_steal(&fd);
}

void relay_process_quit(int fd)
{
    autojson j = json_pack("{s:b}", "quit", true);

    err_ignore(frame_send(fd, j)); /* one that does not hear us any more is on its way out */
}

bool relay_process_clean(const struct config *config, int64_t slot)
{
    autofree char *name = str_fmt("r%lld", (long long)slot), *path = socket_path(config->run_dir, slot);
    struct cgroup_places p;
    bool gone = true;

    (void)unlink(path);
    cgroup_places_find(config->cgroup, name, &p);
    for (size_t i = 0; i < p.count; i++)
        gone = (rmdir(p.path[i]) == 0 || errno != EBUSY) && gone;
    cgroup_places_done(&p);
    return gone;
}

void relay_process_each(const char *run_dir, void (*found)(void *owner, int64_t slot), void *owner)
{
    autofree char *dir = directory(run_dir);
    DIR *d = opendir(dir);
    const struct dirent *entry;

    while (d && (entry = readdir(d))) {
        long long slot = strtoll(entry->d_name, NULL, 10);

        if (slot > 0)
            found(owner, slot);
    }
    if (d)
        closedir(d);
}

struct end_all {
    const struct config *config;
    struct err *error;
};

static void end_one(void *owner, int64_t slot)
{
    struct end_all *all = owner;
    autofd int fd = -1, pidfd = -1;

    fd = relay_process_connect(all->config->run_dir, slot, &pidfd);
    if (fd < 0)
        return;
    relay_process_quit(fd);
    if (poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, END_MS) == 0)
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    if (poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, END_MS) == 0)
        all->error =
            err_first(all->error, err_new(ERR_TIMEOUT, "the relay of slot %lld does not end", (long long)slot));
    (void)relay_process_clean(all->config, slot);
}

struct err *relay_process_end_all(const struct config *config)
{
    struct end_all all = {.config = config};

    relay_process_each(config->run_dir, end_one, &all);
    return all.error;
}
