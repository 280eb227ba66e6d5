/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/lxc_config.h"

#include <inttypes.h>
#include <lxc/lxccontainer.h>
#include <net/if.h>

#include "base/str.h"
#include "provisioning/ramdisk.h"
#include "provisioning/seed.h"
#include "runtime/container/rootfs.h"
#include "runtime/container/shares.h"
#include "storage/layout.h"

#define VALUE_MAX 8192
#define ENVIRONMENT_NAME_MAX 128
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"
#define ID_COUNT 65536

bool lxc_value_ok(const char *value)
{
    return !str_empty(value) && strlen(value) <= VALUE_MAX && !str_has_control(value);
}

bool lxc_path_ok(const char *path)
{
    return lxc_value_ok(path) && path[0] == '/' && !strpbrk(path, " \\") && !strstr(path, "/../") &&
           !(strlen(path) >= 3 && strcmp(path + strlen(path) - 3, "/..") == 0);
}

bool lxc_environment_name_ok(const char *name)
{
    return name && !strchr(DIGITS, name[0]) && str_is_made_of(name, LETTERS DIGITS "_", ENVIRONMENT_NAME_MAX);
}

char *lxc_config_log_path(const struct job *job)
{
    return str_fmt("%s/lxc.log", job->dir);
}

char *lxc_config_mount_point(const struct job *job)
{
    return str_fmt("%s/rootfs", job->target.run_dir);
}

static const struct {
    const char *key, *value;
} constants[] = {
    {"lxc.tty.max", "0"},
    {"lxc.pty.max", "1024"},
    {"lxc.console.path", "none"},
    {"lxc.autodev", "1"},
    {"lxc.cap.drop", "mac_admin mac_override sys_time sys_module sys_rawio"},
    /* Removing them takes the kernel some 10 ms a level. Version 1 knows no limit; liblxc leaves these out there. */
    {"lxc.cgroup2.cgroup.max.depth", "32"},
    {"lxc.cgroup2.cgroup.max.descendants", "8192"},
    {"lxc.mount.auto", "cgroup:mixed proc:mixed sys:mixed"},
    {"lxc.signal.halt", "SIGRTMIN+3"},
    /* Lets users who are not root run ping: the kernel's default allows no group, and the range that systemd sets
     * itself has groups that are not mapped in a container. */
    {"lxc.sysctl.net.ipv4.ping_group_range", "0 65535"},
    /* Not more: the monitor's log is on a tmpfs, and a container may reboot as often as it likes. */
    {"lxc.log.level", "ERROR"},
    {"lxc.net.0.type", "phys"},
    {"lxc.net.0.name", "eth0"},
    {"lxc.net.0.flags", "up"},
};

static struct err *set(struct lxc_container *c, const char *key, const char *value)
{
    if (!lxc_value_ok(value))
        return err_field(key, "is empty, too long or has control characters");
    if (!c->set_config_item(c, key, value))
        return err_new(ERR_HOST, "liblxc refuses %s = '%s'", key, value);
    return NULL;
}

/* Takes over the value. */
static struct err *set_new(struct lxc_container *c, const char *key, char *value)
{
    struct err *e = set(c, key, value);

    free(value);
    return e;
}

/* The profile without the calls that make btrfs subvolumes, or "<the same>-subvolumes.profile" with them. NODED_SECCOMP
 * names the first for a tree that is not installed. */
static char *seccomp_profile(bool subvolumes)
{
    static const char end[] = ".profile";
    const char *named = getenv("NODED_SECCOMP"), *profile = named ? named : NODED_SECCOMP_PROFILE;
    int stem = (int)(strlen(profile) - strlen(end));

    return subvolumes && stem > 0 ? str_fmt("%.*s-subvolumes%s", stem, profile, end) : str_dup(profile);
}

static struct err *fill_place(struct lxc_container *c, const struct job *job, const struct job_start *args)
{
    long long slot = job->target.slot;
    struct err *e = NULL;

    for (size_t i = 0; !e && i < ARRAY_LEN(constants); i++)
        e = set(c, constants[i].key, constants[i].value);
    if (!e)
        e = set_new(c, "lxc.log.file", lxc_config_log_path(job));
    if (!e)
        e = set_new(c, "lxc.rootfs.path", rootfs_mount_point(job));
    if (!e)
        e = set_new(c, "lxc.rootfs.mount", lxc_config_mount_point(job));
    if (!e)
        e = set_new(c, "lxc.cgroup.dir.container", str_fmt("%s/%s", job->target.cgroup, job->name));
    if (!e)
        e = set_new(c, "lxc.cgroup.dir.monitor", str_fmt("%s/m%lld", job->target.cgroup, slot));
    if (!e)
        e = set(c, "lxc.cgroup.dir.monitor.pivot", job->target.cgroup);
    if (!e)
        e = set_new(c, "lxc.idmap", str_fmt("u 0 %" PRId64 " %d", args->id_base, ID_COUNT));
    if (!e)
        e = set_new(c, "lxc.idmap", str_fmt("g 0 %" PRId64 " %d", args->id_base, ID_COUNT));
    if (!e)
        e = set_new(c, "lxc.seccomp.profile", seccomp_profile(args->subvolumes));
    /* A liblxc without AppArmor refuses the key; then there is nothing to switch off. */
    if (!e)
        (void)c->set_config_item(c, "lxc.apparmor.profile", "unconfined");
    return e;
}

static struct err *fill_network(struct lxc_container *c, const struct job_start *args)
{
    struct err *e;

    if (str_empty(args->link) || strlen(args->link) >= IFNAMSIZ)
        return err_field("link", "is no name of an interface");
    e = set(c, "lxc.uts.name", args->hostname);
    if (!e)
        e = set(c, "lxc.net.0.link", args->link);
    if (!e)
        e = set_new(c, "lxc.net.0.ipv4.address", str_fmt("%s/32", args->ipv4));
    if (!e)
        e = set(c, "lxc.net.0.ipv4.gateway", args->gateway4);
    if (e || !args->ipv6)
        return e;
    if (!args->gateway6)
        return err_field("gateway6", "must be an address, as ipv6 is");
    e = set_new(c, "lxc.net.0.ipv6.address", str_fmt("%s/128", args->ipv6));
    return e ? e : set(c, "lxc.net.0.ipv6.gateway", args->gateway6);
}

/* A value with line breaks stays in the profile script only (provisioning/env.h): nothing of more than one line goes
 * into liblxc. */
static struct err *fill_environment(struct lxc_container *c, json_t *environment)
{
    const char *name;
    json_t *value;

    json_object_foreach(environment, name, value)
    {
        autofree char *field = str_fmt("environment.%.64s", name);
        struct err *e;

        if (!lxc_environment_name_ok(name))
            return err_field(field, "is no name of a variable");
        if (!json_is_string(value))
            return err_field(field, "must be a string");
        if (str_has_control(json_string_value(value)))
            continue;
        e = set_new(c, "lxc.environment", str_fmt("%s=%s", name, json_string_value(value)));
        if (e)
            return e;
    }
    return NULL;
}

static struct err *add_mount(struct lxc_container *c, const char *source, const char *target, const char *options)
{
    if (!lxc_path_ok(source))
        return err_field("mount", "the path '%s' cannot stand in a mount entry", source);
    return set_new(c, "lxc.mount.entry", str_fmt("%s %s none %s 0 0", source, target, options));
}

/* What a whole machine has: devices that are safe in a user namespace, and a complete proc and sysfs out of the way,
 * without which the kernel lets nobody mount either in a nested namespace (rootless containers). */
static const char *const machine_mounts[] = {
    "/dev/fuse dev/fuse none bind,create=file,optional 0 0",
    "/dev/net/tun dev/net/tun none bind,create=file,optional 0 0",
    "proc dev/.lxc/proc proc create=dir,optional 0 0",
    "sysfs dev/.lxc/sys sysfs create=dir,optional 0 0",
    /* For sockets and the like of the platform's programs. */
    "tmpfs dev/hoody tmpfs nosuid,nodev,noexec,mode=0755,size=16m,create=dir 0 0",
};

static struct err *fill_mounts(struct lxc_container *c, const struct job *job, const struct job_start *args)
{
    autofree char *shares = NULL, *kits = NULL;
    struct err *e;

    for (size_t i = 0; i < ARRAY_LEN(machine_mounts); i++) {
        e = set(c, "lxc.mount.entry", machine_mounts[i]);

        if (e)
            return e;
    }
    if (args->ramdisk_bytes > 0) {
        autofree char *source = ramdisk_path(job->target.run_dir, job->target.slot);
        /* Optional: liblxc reboots a container with what it was started with, also when the ramdisk is gone by then. */
        e = add_mount(c, source, "ramdisk", "bind,nosuid,nodev,create=dir,optional");

        if (e)
            return e;
    }
    shares = shares_path(job);
    e = set_new(c, "lxc.mount.entry", str_fmt("%s hoody/shares none rbind,create=dir 0 0", shares));
    if (e)
        return e;
    if (json_array_size(args->kits) == 0)
        return NULL;
    kits = layout_kits(job->target.pool);
    return add_mount(c, kits, KITS_MOUNT, "bind,ro,nosuid,nodev,create=dir");
}

struct err *lxc_config_fill(struct lxc_container *c, const struct job *job, const struct job_start *args)
{
    struct err *e = fill_place(c, job, args);

    if (!e)
        e = fill_network(c, args);
    if (!e)
        e = fill_environment(c, args->environment);
    return e ? e : fill_mounts(c, job, args);
}
