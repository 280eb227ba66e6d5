/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/guest.h"

#include <signal.h>
#include <sys/pidfd.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/confined.h"
#include "provisioning/seed.h"
#include "runtime/container/presence.h"
#include "runtime/container/sessions.h"
#include "storage/layout.h"
#include "storage/quota.h"

#define COMM_MAX 64

static struct err *open_rootfs(const struct job *job, int *ret_fd)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);

    return confined_open_root(rootfs, ret_fd);
}

struct err *guest_make_mount_points(const struct job *job, bool ramdisk, bool kits)
{
    static const char *const always[] = {"dev", "proc", "sys", "hoody/shares"};
    const struct confined_owner owner = {0, 0};
    autofd int root = -1;
    struct err *e = open_rootfs(job, &root);

    for (size_t i = 0; !e && i < ARRAY_LEN(always); i++)
        e = confined_mkdirs(root, always[i], 0755, owner);
    if (!e && ramdisk)
        e = confined_mkdirs(root, "ramdisk", 0755, owner);
    return e || !kits ? e : confined_mkdirs(root, KITS_MOUNT, 0755, owner);
}

struct err *guest_open_live(const struct job *job, struct live *ret)
{
    struct presence p;

    presence_look(job, &p);
    return p.init ? live_open(p.init, ret) : err_new(ERR_WRONG_STATE, "the container does not run");
}

/* systemd takes SIGHUP as "daemon-reload"; other inits do something else, or end by it. */
static void tell_manager(pid_t init)
{
    autofree char *path = str_fmt("/proc/%d/comm", (int)init), *name = NULL;
    autofd int pidfd = pidfd_open(init, 0);
    struct err *e = fd_read_file(path, COMM_MAX, &name, NULL);

    if (!e && pidfd >= 0 && strcmp(name, "systemd\n") == 0)
        (void)pidfd_send_signal(pidfd, SIGHUP, NULL, 0);
    err_ignore(e);
}

static struct err *verify(const struct job *job, const json_t *environment, pid_t *ret_init)
{
    autolive live = LIVE_NONE;
    struct err *e = guest_open_live(job, &live);

    *ret_init = live.init;
    if (e && e->code == ERR_HOST)
        e = err_reason(e, "ENV_DEST_UNSUPPORTED");
    if (!e)
        e = failpoint("env.verify");
    return e ? e : env_verify(live.root, environment);
}

struct err *guest_lift_limit(const struct job *job, int64_t disk_bytes, bool lifted)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);

    return disk_bytes ? quota_account_limit(rootfs, lifted ? 0 : disk_bytes) : NULL;
}

struct err *job_do_env_write(const struct job *job, void *args, UNUSED json_t **ret)
{
    const struct job_env *a = args;
    autofd int fd = -1;
    pid_t init = 0;
    struct err *e = open_rootfs(job, &fd);

    if (!e)
        e = guest_lift_limit(job, a->disk_bytes, true);
    if (!e)
        e = failpoint("env.lifted");
    if (!e)
        e = env_write(fd, NULL, a->environment);
    e = err_first(e, guest_lift_limit(job, a->disk_bytes, false));
    if (!e)
        e = failpoint("env.written");
    if (!e)
        e = verify(job, a->environment, &init);
    if (!e)
        tell_manager(init);
    return e;
}

static struct err *write_key(const struct job *job, const char *key)
{
    autofd int fd = -1;
    struct err *e = open_rootfs(job, &fd);

    return e ? e : seed_ssh_key(fd, key);
}

struct err *job_do_ssh_write(const struct job *job, void *args, json_t **ret)
{
    const struct job_ssh *a = args;
    struct err *e = guest_lift_limit(job, a->disk_bytes, true);
    autolive live = LIVE_NONE;
    int ended = 0;

    if (!e)
        e = failpoint("ssh.lifted");
    if (!e)
        e = write_key(job, a->ssh_public_key);
    e = err_first(e, guest_lift_limit(job, a->disk_bytes, false));
    if (!e)
        e = failpoint("ssh.written");
    if (!e && json_array_size(a->removed) > 0) {
        err_ignore(guest_open_live(job, &live)); /* nothing of a session can be told then */
        if (live.init)
            e = sessions_end(&live, a->removed, &ended);
    }
    if (!e)
        *ret = json_pack("{s:i}", "sessions_ended", ended);
    return e;
}

/* The code that a client sees in env_sync. Takes over e. */
static json_t *environment_error(struct err *e)
{
    json_t *code = e ? json_string(e->reason ? e->reason : "ENV_APPLY_FAILED") : json_null();

    err_free(e);
    return code;
}

struct err *guest_write_files(const struct job *job, const json_t *files, json_t *ret)
{
    const json_t *environment = json_object_get(files, "environment"), *key = json_object_get(files, "ssh_public_key");
    autofd int fd = -1;
    struct err *e = open_rootfs(job, &fd);

    if (!e && environment)
        json_object_set_new(ret, "environment_error", environment_error(env_write(fd, NULL, environment)));
    if (!e && key) {
        e = err_wrap(seed_ssh_key(fd, json_string_value(key)),
                     "the ssh key cannot be written, and the one before would "
                     "still open the container");
        json_object_set_new(ret, "ssh_written", json_boolean(!e));
    }
    if (!e && json_object_get(files, "kits")) {
        struct err *kits = seed_kit_links(fd, json_object_get(files, "kits"), job->target.pool);

        json_object_set_new(ret, "kits_written", json_boolean(!kits));
        err_ignore(kits);
    }
    return e;
}

void guest_verify_files(const struct job *job, const json_t *files, json_t *ret)
{
    const json_t *environment = json_object_get(files, "environment");
    pid_t init;

    if (environment && json_is_null(json_object_get(ret, "environment_error")))
        json_object_set_new(ret, "environment_error", environment_error(verify(job, environment, &init)));
}
