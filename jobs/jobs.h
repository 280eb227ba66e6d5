/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What noded asks of noded-worker: the name of each job, its arguments, its deadline. This header is the whole
 * interface between the two programs.
 *
 * Request frame:  {"job": NAME, "target": {struct job_target}, "args": {struct of the job}}
 * Result frame:   {"ok": {...}} or {"error": {...}}; before it any number of {"progress": {"done", "total"}}.
 *
 * Every job can be repeated: what is already done is left as it is, what is already gone counts as removed. That is
 * what makes recovery after a crash a matter of asking again.
 */
#pragma once

#include "base/json_table.h"

/* Where the job works. All paths are the node's own, from its configuration. */
struct job_target {
    char *pool;    /* directory of the mounted btrfs pool */
    char *run_dir; /* runtime directory: <run_dir>/c<slot>/ is a container's lxcpath, log and ramdisk */
    char *cgroup;  /* first part of the cgroup path, relative to the hierarchy's root: "noded" */
    int64_t slot;  /* the container's number in this node; 0 when the job is about none */
};
extern const struct json_table job_target_table;

/* pool.open -> {"total_bytes", "free_bytes", "loop_device": string|null, "mounted": bool, by this job}
 * Mounts the pool: uses `pool` when it is a btrfs mount already; otherwise makes, formats and mounts `loop_file`
 * (direct-io, autoclear). Changes nothing in a pool that exists. pool.grow lets loop_file grow to loop_bytes and
 * answers the same. pool.prepare -> {"quota": bool, simple quotas are on}: directories, quotas, and what interrupted
 * installs left. Of a pool that belongs to the node. pool.close unmounts what pool.open mounted. */
struct job_pool_open {
    char *loop_file; /* NULL: `pool` must be a btrfs mount */
    int64_t loop_bytes;
    bool must_exist; /* pool.open: a loop file that is absent is an error */
    bool quota;      /* pool.prepare: simple quotas on, in a pool that is the node's own */
};
extern const struct json_table job_pool_open_table;

/* node.usage -> {"slots": {"<slot>": {"disk": bytes, "ramdisk": bytes, "deleted": subvolumes}}, "projects": {"<id>":
 * bytes}, "pool": {"reclaim": {"subvolumes", "trash", "bytes", "oldest_ms"}, "device_errors": {...}}}: what each slot's
 * root has written, what is in its ramdisk, and in those that projects share; null where that is not known. "deleted":
 * subvolumes that it has made and deleted inside and that the kernel is still at. */

/* node.reclaim -> {"subvolumes", "trash", "bytes", "oldest_ms", "ours": [ids], "problem": what could not be destroyed,
 * or null}: what is deleted and still takes room, see storage/reclaim.h, after some of it was destroyed: while the
 * kernel is at fewer than `most` of ours. "subvolumes" are all that the kernel is at. */
struct job_reclaim {
    int64_t most;
    json_t *ours; /* of the job before; NULL: none */
};
extern const struct json_table job_reclaim_table;

/* node.scrub -> {"devid", "next", "bytes", "total_bytes", "errors", "corrected"}: a part of it, see storage/scrub.h. */
struct job_scrub {
    int64_t devid, next; /* where the part before ended; 0, 0: the begin */
    int64_t rate, budget_ms;
};
extern const struct json_table job_scrub_table;

/* image.import -> {"fingerprint", "size_bytes", "archive_bytes", "metadata": object|null}: unpacks the archive of a
 * root file system into a read-only subvolume. Without a file the archive comes by the job's stream. Tells its
 * progress. */
struct job_image_import {
    char *file;          /* NULL: the stream */
    char *metadata_file; /* the first file of an image in two; NULL: in one */
    int64_t split_bytes; /* stream: so many bytes are the metadata's file; 0: one file */
    char *fingerprint;   /* that it must have; NULL: any */
};
extern const struct json_table job_image_import_table;

/* container.export -> {"bytes"}: writes the slot's root file system, its latest state or one snapshot, and the
 * snapshots that the header names, to the job's stream: provisioning/container_archive.h, or archive_stream.h of
 * runtime/transfer/. What runs goes on. */
struct job_export {
    bool as_stream;
    char *snapshot; /* NULL: the latest state */
    json_t *header; /* noded.json */
};
extern const struct json_table job_export_table;

/* container.import -> {"header": noded.json, "bytes"}: reads such an archive, of either kind, from the job's stream
 * into the slot, which has nothing yet, and seeds it. The archive is hostile. */
struct job_import {
    json_t *seed;
    bool rename;           /* its hostname is made of the name that the header has, and not the seed's */
    int64_t reserve_bytes; /* to be left in the pool */
};
extern const struct json_table job_import_table;

/* image.fetch -> as image.import's, with "url" and "serial": the image of a name from the first simplestreams server
 * that has it; only these two and "fingerprint" when it is there already. Tells its progress. look: whether one has it,
 * and nothing more; only these two. */
struct job_image_fetch {
    bool look;
    json_t *urls;
    char *name;
    char *ca_file; /* NULL: the system's */
};
extern const struct json_table job_image_fetch_table;

/* image.publish -> as image.import's: an image from the slot's root file system, or from one of its snapshots. */
struct job_image_publish {
    char *snapshot; /* NULL: the root, of a container that does not run */
};
extern const struct json_table job_image_publish_table;

/* image.remove -> {} */
struct job_image {
    char *fingerprint;
};
extern const struct json_table job_image_table;

/* image.base -> {}: a further copy of an image's subvolume, see agent/images/base.h. image.base_remove -> {}. */
struct job_image_base {
    char *fingerprint;
    int64_t base;
    int64_t reserve_bytes; /* of the pool that must stay free */
};
extern const struct json_table job_image_base_table;

/* kit.install -> the manifest: verifies and unpacks a bundle once for the node. */
struct job_kit_install {
    char *file;
    char *public_key; /* PEM file of the ed25519 key that must have signed it */
};
extern const struct json_table job_kit_install_table;

/* kit.remove -> {}: the bundle's file in dir and what was installed of it. */
struct job_kit_remove {
    char *name, *version;
    char *dir;
};
extern const struct json_table job_kit_remove_table;

/* container.kits -> {"services": [...], see runtime/inside/kits.h} or, of one that does not run, {}: its kits become
 * others. Only the services of kits that differ are stopped, and started again; each is asked until it is ready or time
 * is over. With no difference the services of all are asked. That one is not ready is a result and no error. */
struct job_kits {
    json_t *before, *kits; /* arrays of {"name", "version"} */
    int64_t timeout_ms;
    bool boot;  /* the container is booting: its services are asked less often, and systemd must be up as well */
    bool start; /* with no difference: systemd reads the units again and starts the services that do not run */
};
extern const struct json_table job_kits_table;

/* node.inventory -> {"slots": [{"slot", "rootfs": bool, "leftovers": bool, "snapshots": [name...], "init_pid": int (0 =
 * not running), "frozen": bool, "ramdisk": bool, "shares": bool}...], "images": [as of image_list...], "kits":
 * [manifest...]} What is really there, from the disk and the kernel. "leftovers": half-made or half-removed objects of
 * the slot. */

/* container.create -> {"seeded": true, "snapshots": [name...]}: root file system of a slot from an image, or from
 * another slot (its latest state or one snapshot), then seeded with its identity; "snapshots": those that it got. */
struct job_create {
    char *image;           /* its fingerprint, or NULL */
    int64_t base;          /* which copy of the image; one that is not there: the image itself */
    int64_t source_slot;   /* used when image is NULL */
    char *source_snapshot; /* NULL: latest state */
    json_t *snapshots;     /* array of names: these of the source's snapshots, too; NULL: none */
    json_t *seed;          /* struct seed, provisioning/seed.h */
};
extern const struct json_table job_create_table;

/* sync.make -> {}: a copy of the source's root file system beside the slot's own, which may be in use, seeded with the
 * slot's identity; its ssh host keys are carried over. sync.swap -> {}: it takes the place of the slot's own (the
 * container must not run). */
struct job_sync {
    int64_t source_slot;
    json_t *seed;
};
extern const struct json_table job_sync_table;

/* Another node, and what this one shows it. */
struct job_peer {
    char *host; /* name or address */
    int64_t port;
    char *certificate, *key, *ca, *crl; /* PEM files; crl may be NULL */
};
extern const struct json_table job_peer_table;

/* peer.call -> {"status", "body"}: one request to another node, whatever it answers. */
struct job_peer_call {
    json_t *peer; /* struct job_peer */
    char *method, *path;
    json_t *body;
    int64_t timeout_s; /* for the answer */
};
extern const struct json_table job_peer_call_table;

/* peer.send -> {"bytes"}: to the job's stream goes what another node's copy of the slot needs: snapshots first, the
 * root file system last, all with what is nested in them, the difference to `base` or to the image if possible. What
 * was sent of the root stays in the slot for the next difference. */
struct job_peer_send {
    bool packed;        /* pieces may go by zstd */
    char *copy;         /* id of the container there */
    char *image;        /* fingerprint of the image that both nodes have; NULL: none */
    int64_t image_base; /* which of its bases here the container was made from */
    char *base;         /* what the copy has had last, as 32 hex digits; NULL: nothing */
    char *snapshot;     /* instead of the present state; NULL: that */
    json_t *snapshots;  /* array of names: these too, oldest first */
};
extern const struct json_table job_peer_send_table;

/* peer.forget -> {}: what stayed for this copy goes. */
struct job_peer_forget {
    char *copy;
};
extern const struct json_table job_peer_forget_table;

/* peer.copy -> {"bytes", "snapshots": [name...]}: the slot's root file system and snapshots from another node, seeded.
 * peer.sync -> {"bytes"}: as sync.make, from another node. Both tell their progress. */
struct job_peer_fetch {
    json_t *peer;
    char *source;      /* id of the container there */
    char *copy;        /* id of this one */
    char *image;       /* fingerprint of its image, for when this node has it; NULL: not known */
    char *snapshot;    /* instead of the present state; NULL: that */
    json_t *snapshots; /* array of names that may come */
    int64_t bytes_max; /* of all that is sent */
    int64_t reserve;   /* room that the pool must keep */
    json_t *seed;
};
extern const struct json_table job_peer_fetch_table;

/* container.start -> {"init_pid", "environment_error": CODE|null, "ssh_written": bool, "kits_written": bool,
 * "ramdisk_error": text|null}:
 * writes what `files` has into the root, mounts the ramdisk when wanted, starts by liblxc, and reads the environment
 * back from inside. Already running: only init_pid. An environment or kits that could not be written do not keep the
 * container from starting; an ssh key does: the one before would still let somebody in. */
struct job_start {
    char *hostname;
    int64_t id_base;   /* first host uid and gid of the slot's range of 65536 */
    char *link;        /* veth peer in the host, moved in as eth0 */
    char *ipv4, *ipv6; /* plain addresses, /32 and /128 are implied; ipv6 NULL: IPv4 only */
    char *gateway4, *gateway6;
    char *gateway_mac;     /* of both, "02:6e:64:00:00:01"; NULL: the container has to ask for it */
    json_t *environment;   /* object: environment of PID 1 */
    bool subvolumes;       /* processes inside may make btrfs subvolumes */
    int64_t ramdisk_bytes; /* 0: none */
    char *ramdisk_project; /* whose shared ramdisk it has too; NULL: none */
    json_t *kits;          /* array of {"name", "version"}: bind-mounted read-only */
    int64_t disk_bytes;    /* limit of its disk, see container.disk; lifted while `files` are written */
    json_t *files;  /* {"environment": object, "ssh_public_key": string|null, "kits": array}, all optional; NULL */
    json_t *shares; /* array of struct share_mount, or NULL */
};
extern const struct json_table job_start_table;

/* container.ipv6: a container that runs gets its address and its default route, or loses both. ERR_WRONG_STATE: it does
 * not run. */
struct job_ipv6 {
    bool wanted;
    char *ipv6, *gateway6, *gateway_mac; /* as of container.start */
};
extern const struct json_table job_ipv6_table;

/* container.shares -> {"problems": {share id: reason}}: makes the mounts of a running container agree with `shares`. */
struct share_mount {
    char *id;            /* 24 hex digits */
    int64_t source_slot; /* whose root file system */
    char *path;          /* in it, absolute */
    bool readonly;
};
extern const struct json_table share_mount_table;
struct job_shares {
    int64_t id_base; /* of the receiving slot */
    json_t *shares;  /* array of struct share_mount */
};
extern const struct json_table job_shares_table;

/* mounts.look -> {"lost": [paths], "covered": [paths]}: of what the node mounts into a running container, what is gone,
 * and where something else is seen. mounts.restore -> {"restored": [paths], "problems": {path: reason}, "shares": as of
 * container.shares}: mounts again what is gone. With `ask`, of a container whose systemd is on its way down:
 * {"stopping": true}, and nothing is done. */
#define JOB_MOUNTS_KITS "/hoody/.kits" /* one of the paths */
struct job_mounts {
    int64_t id_base;
    int64_t ramdisk_bytes; /* 0: none */
    char *ramdisk_project; /* as of container.start */
    bool kits;
    json_t *shares; /* array of struct share_mount */
    bool ask;       /* systemd inside may answer */
};
extern const struct json_table job_mounts_table;

/* container.claim -> {"services": [...] as of container.kits}: a container that runs and is nobody's yet becomes the
 * one of the seed: names, keys and environment in its files and in what runs, the services of its kits by the new ones.
 */
struct job_claim {
    json_t *seed;     /* struct seed, provisioning/seed.h */
    char *machine_id; /* that it had */
    int64_t timeout_ms;
};
extern const struct json_table job_claim_table;

/* container.trim -> {"before": bytes|null, "after": bytes|null}: memory of a container that has just booted goes back,
 * as far as nothing of it was used twice. Null where the kernel does not count it. */

/* container.stop -> {}: SIGRTMIN+3 to init, up to timeout_ms for it to end, then SIGKILL of the cgroup; 0 = kill at
 * once. When the channel's other side ends during that time, the answer is ERR_CANCELLED and nothing is killed. Then
 * waits for the monitor to end and removes the container's cgroups. The ramdisk stays. */
struct job_stop {
    int64_t timeout_ms;
};
extern const struct json_table job_stop_table;

/* container.settle -> {"running": bool, "init_pid"}: after an init ended: waits until liblxc has either cleaned up or,
 * after a reboot from the inside, started a new init. */
/* container.freeze, container.thaw -> {} */

/* container.destroy -> {}: kills what runs, unmounts the ramdisk, removes root, snapshots, leftovers and run directory.
 * Subvolumes are renamed away at once and deleted by the kernel later. */

/* snapshot.create -> {"size_bytes", "held": false when it should have been and could not}; snapshot.delete -> {};
 * snapshot.restore -> {} (the container must not run). */
struct job_snapshot {
    char *name;
    char *previous; /* create: the one before it, which its size is compared with; NULL: none */
    bool hold; /* create: its processes may be frozen while several subvolumes are copied; delete: they may still be */
};
extern const struct json_table job_snapshot_table;

/* container.tidy -> {}: removes the slot's leftovers (temporary subvolumes of a crashed job). */

/* env.write -> {}: the environment's files of a running container, read back as its processes see them; systemd inside
 * is told to read its configuration again. The error's reason says what is wrong: provisioning/env.h. */
struct job_env {
    json_t *environment; /* the whole set, string values */
    int64_t disk_bytes;  /* as of container.start */
};
extern const struct json_table job_env_table;

/* ssh.write -> {"sessions_ended"}: authorized_keys of a container, running or not; then ends the ssh sessions that were
 * opened with one of the removed keys. */
struct job_ssh {
    char *ssh_public_key; /* NULL: none */
    json_t *removed;      /* array of authorized_keys lines that are valid no more */
    int64_t disk_bytes;   /* as of container.start */
};
extern const struct json_table job_ssh_table;

/* container.disk -> {}: how much its roots may have written that is still there, see storage/quota.h. */
struct job_disk {
    int64_t bytes; /* 0: no limit */
};
extern const struct json_table job_disk_table;

/* ramdisk.set -> {}: a container, running or not, gets its ramdisk, or loses it with all that is in it. */
struct job_ramdisk {
    int64_t bytes; /* 0: none */
    char *project; /* whose shared ramdisk it has too; NULL: none */
    int64_t id_base;
};
extern const struct json_table job_ramdisk_table;

/* ramdisk.drop -> {}: shared ramdisks that no container has any more end with what is in them. */
struct job_ramdisk_drop {
    json_t *keep;  /* array of projects that have one */
    char *project; /* only this one is looked at; NULL: all */
};
extern const struct json_table job_ramdisk_drop_table;

/* container.look -> {"network_services": [...], "services": [...]|null}: what runs inside, see runtime/inside/look.h.
 * Ends within three seconds; a part that is not known by then is missing. */
struct job_look {
    bool services; /* ask systemd, too; a frozen one would not answer */
};
extern const struct json_table job_look_table;

/* Deadline of what takes as long as somebody sends or takes bytes: four hours. */
#define JOB_STREAM_MS 14400000

/* name, table of the arguments (or NULL), deadline in ms. container.stop adds its timeout_ms to the deadline. */
#define JOB_MAP(X)                                                                                                     \
    X(JOB_POOL_OPEN, "pool.open", &job_pool_open_table, 120000)                                                        \
    X(JOB_POOL_PREPARE, "pool.prepare", &job_pool_open_table, 120000)                                                  \
    X(JOB_POOL_GROW, "pool.grow", &job_pool_open_table, 60000)                                                         \
    X(JOB_POOL_CLOSE, "pool.close", NULL, 30000)                                                                       \
    X(JOB_IMAGE_IMPORT, "image.import", &job_image_import_table, JOB_STREAM_MS)                                        \
    X(JOB_IMAGE_FETCH, "image.fetch", &job_image_fetch_table, JOB_STREAM_MS)                                           \
    X(JOB_IMAGE_PUBLISH, "image.publish", &job_image_publish_table, JOB_STREAM_MS)                                     \
    X(JOB_IMAGE_REMOVE, "image.remove", &job_image_table, 60000)                                                       \
    X(JOB_EXPORT, "container.export", &job_export_table, JOB_STREAM_MS)                                                \
    X(JOB_IMPORT, "container.import", &job_import_table, JOB_STREAM_MS)                                                \
    X(JOB_IMAGE_BASE, "image.base", &job_image_base_table, 600000)                                                     \
    X(JOB_IMAGE_BASE_REMOVE, "image.base_remove", &job_image_base_table, 60000)                                        \
    X(JOB_KIT_INSTALL, "kit.install", &job_kit_install_table, 120000)                                                  \
    X(JOB_KIT_REMOVE, "kit.remove", &job_kit_remove_table, 120000)                                                     \
    X(JOB_KITS, "container.kits", &job_kits_table, 45000)                                                              \
    X(JOB_INVENTORY, "node.inventory", NULL, 60000)                                                                    \
    X(JOB_USAGE, "node.usage", NULL, 30000)                                                                            \
    X(JOB_RECLAIM, "node.reclaim", &job_reclaim_table, 60000)                                                          \
    X(JOB_SCRUB, "node.scrub", &job_scrub_table, 600000)                                                               \
    X(JOB_CREATE, "container.create", &job_create_table, 60000)                                                        \
    X(JOB_SYNC_MAKE, "sync.make", &job_sync_table, 60000)                                                              \
    X(JOB_SYNC_SWAP, "sync.swap", NULL, 60000)                                                                         \
    X(JOB_PEER_CALL, "peer.call", &job_peer_call_table, JOB_STREAM_MS)                                                 \
    X(JOB_PEER_SEND, "peer.send", &job_peer_send_table, JOB_STREAM_MS)                                                 \
    X(JOB_PEER_FORGET, "peer.forget", &job_peer_forget_table, 60000)                                                   \
    X(JOB_PEER_COPY, "peer.copy", &job_peer_fetch_table, JOB_STREAM_MS)                                                \
    X(JOB_PEER_SYNC, "peer.sync", &job_peer_fetch_table, JOB_STREAM_MS)                                                \
    X(JOB_START, "container.start", &job_start_table, 60000)                                                           \
    X(JOB_CLAIM, "container.claim", &job_claim_table, 10000)                                                           \
    X(JOB_IPV6, "container.ipv6", &job_ipv6_table, 10000)                                                              \
    X(JOB_TRIM, "container.trim", NULL, 30000)                                                                         \
    X(JOB_SHARES, "container.shares", &job_shares_table, 30000)                                                        \
    X(JOB_MOUNTS_LOOK, "mounts.look", &job_mounts_table, 10000)                                                        \
    X(JOB_MOUNTS_RESTORE, "mounts.restore", &job_mounts_table, 30000)                                                  \
    X(JOB_STOP, "container.stop", &job_stop_table, 30000)                                                              \
    X(JOB_SETTLE, "container.settle", NULL, 60000)                                                                     \
    X(JOB_FREEZE, "container.freeze", NULL, 30000)                                                                     \
    X(JOB_THAW, "container.thaw", NULL, 30000)                                                                         \
    X(JOB_LOOK, "container.look", &job_look_table, 5000)                                                               \
    X(JOB_DESTROY, "container.destroy", NULL, 120000)                                                                  \
    X(JOB_TIDY, "container.tidy", NULL, 60000)                                                                         \
    X(JOB_SNAPSHOT_CREATE, "snapshot.create", &job_snapshot_table, 60000)                                              \
    X(JOB_SNAPSHOT_DELETE, "snapshot.delete", &job_snapshot_table, 60000)                                              \
    X(JOB_SNAPSHOT_RESTORE, "snapshot.restore", &job_snapshot_table, 60000)                                            \
    X(JOB_ENV_WRITE, "env.write", &job_env_table, 30000)                                                               \
    X(JOB_SSH_WRITE, "ssh.write", &job_ssh_table, 30000)                                                               \
    X(JOB_DISK, "container.disk", &job_disk_table, 30000)                                                              \
    X(JOB_RAMDISK_SET, "ramdisk.set", &job_ramdisk_table, 30000)                                                       \
    X(JOB_RAMDISK_DROP, "ramdisk.drop", &job_ramdisk_drop_table, 30000)

enum job_kind {
#define X(kind, name, table, deadline) kind,
    JOB_MAP(X)
#undef X
        JOB_KIND_MAX
};

struct job_info {
    const char *name;
    const struct json_table *args; /* NULL: no arguments */
    int64_t deadline_ms;
};

const struct job_info *job_info(enum job_kind kind);
/* JOB_KIND_MAX when there is no such job. */
enum job_kind job_kind_find(const char *name);
/* The request frame; the caller frees it. args may be NULL. */
json_t *job_request(enum job_kind kind, const struct job_target *target, const void *args);
