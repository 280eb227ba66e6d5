/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container as the agent knows it: the record (what should be, saved as one JSON row), what was observed (init, since
 * when), its rules and snapshots. The registry owns all of them. Loop thread only.
 */
#pragma once

#include <stdint.h>

#include "agent/network/ruleset.h"
#include "base/json_table.h"
#include "netfilter/address.h"

#define CONTAINER_STATUS_MAP(X)                                                                                        \
    X(CONTAINER_CREATING, "creating")                                                                                  \
    X(CONTAINER_RUNNING, "running")                                                                                    \
    X(CONTAINER_PAUSED, "paused")                                                                                      \
    X(CONTAINER_STOPPED, "stopped")                                                                                    \
    X(CONTAINER_FAILED, "failed")                                                                                      \
    X(CONTAINER_DELETED, "deleted")                                                                                    \
    X(CONTAINER_COPYING, "copying")                                                                                    \
    X(CONTAINER_DELETING, "deleting")                                                                                  \
    X(CONTAINER_CLAIMING, "claiming")

enum container_status {
#define X(name, word) name,
    CONTAINER_STATUS_MAP(X)
#undef X
        CONTAINER_STATUS_MAX
};
extern const char *const container_status_words[]; /* NULL-terminated */

enum ramdisk_scope { RAMDISK_CONTAINER, RAMDISK_PROJECT };
extern const char *const ramdisk_scope_words[]; /* NULL-terminated */

struct container_record {
    char *id, *project_id, *name, *color, *image, *comment, *ssh_public_key, *hostname, *machine_id;
    char *image_fingerprint; /* what it was made from; NULL: not known */
    char *source_container_id, *last_used_snapshot;
    char *source_server_id;                           /* where the source is; NULL: here */
    char *spare;                                      /* nobody's yet, see warm.h: what it was made with; else NULL */
    int64_t base;                                     /* of the image, see images/base.h */
    int64_t slot, created_at, updated_at, started_at; /* times in ms since the epoch; started_at 0: not running */
    int status;                                       /* enum container_status */
    bool wanted_running;                              /* what the owner asked for last */
    bool ai, hoody_kit, dev_kit, autostart, ramdisk;
    bool disk_lost;      /* failed because the pool has not got its disk */
    bool kits_linked;    /* the root has the links to `kits`; else a start makes them */
    json_t *environment; /* object of strings */
    json_t *realm_ids;   /* array */
    json_t *kits;        /* array of {"name", "version"} */
    json_t *kits_before; /* those before the last change, or NULL */
    json_t *request;     /* the create body that made it, for idempotent repeats */
    int64_t env_revision, env_applied_revision, env_verified_at, env_attempted_at;
    int64_t env_attempts; /* of the revision that is pending */
    char *env_last_error;
    int64_t ssh_revision, ssh_applied_revision, ssh_installed_at; /* see agent/containers/guest.h */
    json_t *ssh_removed; /* array: keys that may still be in its files or have sessions */
    int64_t ramdisk_revision, ramdisk_applied_revision;
    int ramdisk_scope;   /* enum ramdisk_scope */
    json_t *host;        /* host_setting.h; NULL: nothing */
    json_t *sent_copies; /* {id: server}: copies of it on other nodes, which may fetch what it has; NULL: none */
};
extern const struct json_table container_record_table;

struct snapshot {
    char *name, *alias;
    int64_t created_at, last_used_at, expires_at; /* ms; 0: none */
    int64_t size;                                 /* bytes written since the one before; -1: not counted */
    bool missing;                                 /* not recorded: the pool did not have it when noded started */
};
extern const struct json_table snapshot_table;

enum { CONTAINER_SNAPSHOTS_MAX = 1000 };

struct egress;
struct config;
struct operation;
struct init_watch;
struct mount_state;
struct kit_look;
struct relay;
struct runtime_seen;
struct texts;

struct container {
    struct container_record record;
    struct slot_net net;
    struct ruleset *rules;
    struct egress *egress, *egress_before; /* NULL: not configured; before: while an operation changes it */
    struct relay *relay;                   /* while its way out is a proxy */
    struct snapshot **snapshots;           /* by time of creation */
    size_t snapshot_count;
    struct operation *op; /* the one that holds it now, or NULL */
    bool link_down;       /* it has no link and rules, or loses them: net_down was asked for after net_up */
    bool gone;            /* its deletion is being recorded: nothing of it may be written any more */
    bool committing;      /* the outcome of op is being recorded: the status before is what clients see until then */
    int status_before;
    unsigned copies;                      /* copy operations that read from it */
    struct init_watch *watch;             /* while it runs */
    struct mount_state *mounts;           /* mount_watch.c: while it runs */
    struct runtime_seen *seen;            /* what ran inside when somebody asked last; of runtime.c */
    int64_t init_pid;                     /* 0: not running */
    bool shares_stale, shares_busy;       /* share_mount.c: the mounts may not agree with the records; a job is at it */
    int64_t shares_change, shares_agreed; /* how often that was so; up to where the mounts agree */
    int64_t shares_job;                   /* shares_change of when the job began */
    bool starting;                        /* a job starts it, with the shares of when the job began */
    uint64_t kits_changes;                /* since noded started */
    struct kit_look *kit_look;            /* kits/watch.c: while it runs */
    json_t *kit_health;                   /* of its kits' services, array of runtime/inside/kits.h; NULL: not known */
    json_t *kits_next;                    /* while an operation changes its kits: those to be */
    bool spare_failed;                    /* warm.c: not to be given to anybody */
    int64_t spare_looked_ms;              /* when its kits were asked last, monotonic */
    int64_t spare_before, spare_after;    /* memory in bytes around its trim; 0: not known */
    struct texts *texts;                  /* texts.c: what was rendered of it; made at the first use */
    int64_t cpu_sample_ns, cpu_sample_us; /* what it had used when statistics were asked for last, and when */
};

/* First host uid and gid of its range. */
int64_t container_id_base(const struct config *config, const struct container *c);
struct container *container_new(void);
void container_free(struct container *c);
DEFINE_AUTO(struct container, container_free)

/* As clients see it: a new status shows when its operation has let go, so that who waits for it is not refused as busy.
 */
const char *container_status_word(const struct container *c);
/* Has an init, paused included. */
bool container_is_up(const struct container *c);
struct snapshot *container_find_snapshot(const struct container *c, const char *name); /* NULL: none */
void container_add_snapshot(struct container *c, struct snapshot *s);                  /* takes over s */
void container_drop_snapshot(struct container *c, struct snapshot *s);                 /* frees s */
void snapshot_free(struct snapshot *s);
