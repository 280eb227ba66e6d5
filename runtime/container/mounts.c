/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the node mounts into a container can be gone while it runs: its root unmounts what it likes, and so does systemd
 * at a soft-reboot. What is seen in a place is known by device and inode, which are asked of no file system: there,
 * gone, or covered by something of the container's own, which stays. What is gone is mounted again as it comes into a
 * running container in the first place (guest_mount.c, shares.h).
 */
#include "runtime/container/mounts.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/ramdisk.h"
#include "provisioning/seed.h"
#include "runtime/container/guest.h"
#include "runtime/container/shares.h"
#include "storage/layout.h"

static enum mounts_sight look_at(const struct live *live, const struct guest_place *place, const char *host_path)
{
    autofd int fd = live_open_mounted(live, place->dir, place->name);
    struct statx here, there;

    if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &here) < 0 ||
        !(here.stx_attributes & (__u64)STATX_ATTR_MOUNT_ROOT))
        return MOUNTS_LOST;
    return statx(AT_FDCWD, host_path, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, 0, &there) == 0 &&
                   here.stx_dev_major == there.stx_dev_major && here.stx_dev_minor == there.stx_dev_minor &&
                   here.stx_ino == there.stx_ino
               ? MOUNTS_THERE
               : MOUNTS_COVERED;
}

static bool wants_ramdisk(const struct job_mounts *a)
{
    return a->ramdisk_bytes > 0;
}

static bool wants_shared_ramdisk(const struct job_mounts *a)
{
    return a->ramdisk_bytes > 0 && a->ramdisk_project;
}

static bool wants_kits(const struct job_mounts *a)
{
    return a->kits;
}

static bool wants_shares(UNUSED const struct job_mounts *a)
{
    return true;
}

static char *ramdisk_host_path(const struct mounts *m)
{
    return ramdisk_path(m->job->target.run_dir, m->job->target.slot);
}

static char *shared_ramdisk_host_path(const struct mounts *m)
{
    return ramdisk_project_path(m->job->target.run_dir, m->args->ramdisk_project);
}

static char *kits_host_path(const struct mounts *m)
{
    return layout_kits(m->job->target.pool);
}

static char *shares_host_path(const struct mounts *m)
{
    return shares_path(m->job);
}

static const struct guest_place kits_place = {"hoody", ".kits"}, shares_place = {"hoody", "shares"};
_Static_assert(sizeof("/" KITS_MOUNT) == sizeof(JOB_MOUNTS_KITS), "where the start mounts them");

static struct err *mount_ramdisk(struct mounts *m)
{
    return guest_give_ramdisk(m->job, m->args->ramdisk_bytes, m->args->id_base, m->live.init);
}

static struct err *mount_shared_ramdisk(struct mounts *m)
{
    return guest_share_ramdisk(m->job, m->args->ramdisk_project, m->args->ramdisk_bytes, m->args->id_base,
                               m->live.init);
}

static struct err *mount_kits(struct mounts *m)
{
    const struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                                    .propagation = MS_PRIVATE};
    autofree char *path = kits_host_path(m);
    autofd int tree = -1;
    struct err *e = guest_make_mount_points(m->job, false, true);

    if (!e)
        e = guest_clone(path, attr, &tree);
    return e ? e : guest_attach(m->live.init, &kits_place, tree);
}

/* The tmpfs alone, which gets from the host what is mounted there afterwards. */
static struct err *mount_shares(struct mounts *m)
{
    autofree char *path = shares_host_path(m);
    autofd int tree = -1;
    struct err *e = shares_open(m->job);

    if (!e)
        e = guest_make_mount_points(m->job, false, false);
    if (!e)
        e = guest_clone(path, (struct mount_attr){.propagation = MS_SLAVE}, &tree);
    return e ? e : guest_attach(m->live.init, &shares_place, tree);
}

/* In this order: a place may be in the one before it. */
const struct mounts_row mounts_rows[MOUNTS_ROWS] = {
    {"/ramdisk", &guest_ramdisk_place, wants_ramdisk, ramdisk_host_path, mount_ramdisk},
    {"/ramdisk/project", &guest_shared_ramdisk_place, wants_shared_ramdisk, shared_ramdisk_host_path,
     mount_shared_ramdisk},
    {JOB_MOUNTS_KITS, &kits_place, wants_kits, kits_host_path, mount_kits},
    {"/hoody/shares", &shares_place, wants_shares, shares_host_path, mount_shares},
};

enum mounts_sight mounts_look_at(const struct mounts *m, const struct mounts_row *row)
{
    autofree char *host_path = row->host_path(m);

    return look_at(&m->live, row->place, host_path);
}

static void note(struct mounts *m, const char *path, enum mounts_sight sight)
{
    if (sight != MOUNTS_THERE)
        json_array_append_new(sight == MOUNTS_LOST ? m->lost : m->covered, json_string(path));
}

/* In something of the container's own that covers ours. */
static bool is_hidden(const struct mounts *m, const char *path)
{
    const json_t *over;
    size_t i;

    json_array_foreach(m->covered, i, over)
    {
        size_t len = json_string_length(over);

        if (strncmp(path, json_string_value(over), len) == 0 && path[len] == '/')
            return true;
    }
    return false;
}

/* One that the host has not got, for a reason that is known, is not to be seen inside. */
void mounts_look_at_shares(struct mounts *m)
{
    autofree char *dir = shares_path(m->job);
    const json_t *share;
    size_t i;

    json_array_foreach(m->args->shares, i, share)
    {
        const char *id = json_string_value(json_object_get(share, "id"));
        autofree char *host_path = NULL, *path = NULL;
        struct statx there;

        if (!str_is_object_id(id))
            continue;
        path = str_fmt(MOUNTS_SHARES "%s", id);
        if (is_hidden(m, path))
            continue;
        host_path = str_fmt("%s/%s", dir, id);
        if (statx(AT_FDCWD, host_path, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, 0, &there) == 0 &&
            (there.stx_attributes & (__u64)STATX_ATTR_MOUNT_ROOT))
            note(m, path, look_at(&m->live, &(struct guest_place){"hoody/shares", id}, host_path));
    }
}

void mounts_look(struct mounts *m)
{
    json_array_clear(m->lost);
    json_array_clear(m->covered);
    for (size_t i = 0; i < MOUNTS_ROWS; i++)
        if (mounts_rows[i].wanted(m->args) && !is_hidden(m, mounts_rows[i].path))
            note(m, mounts_rows[i].path, mounts_look_at(m, &mounts_rows[i]));
    mounts_look_at_shares(m);
}

struct err *mounts_begin(struct mounts *m, const struct job *job, const struct job_mounts *args)
{
    *m = (struct mounts){.job = job, .args = args, .live = LIVE_NONE, .lost = json_array(), .covered = json_array()};
    return guest_open_live(job, &m->live);
}

void mounts_end(struct mounts *m)
{
    live_done(&m->live);
    json_decref(m->lost);
    json_decref(m->covered);
}

struct err *job_do_mounts_look(const struct job *job, void *args, json_t **ret)
{
    struct mounts m;
    struct err *e = mounts_begin(&m, job, args);

    if (!e) {
        mounts_look(&m);
        *ret = json_pack("{s:O, s:O}", "lost", m.lost, "covered", m.covered);
    }
    mounts_end(&m);
    return e;
}
