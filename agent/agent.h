/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's state and the three ways in which it asks for work: a commit on the store lane, a change on the network
 * lane, a job in a worker. All state belongs to the loop thread; nothing else touches struct agent.
 */
#pragma once

#include "agent/config.h"
#include "agent/containers/container.h"
#include "agent/http/http.h"
#include "agent/lane.h"
#include "agent/locks.h"
#include "agent/worker.h"
#include "netfilter/netfilter.h"
#include "store/store.h"

struct events;
struct cascade;
struct guest_apply;
struct kit_watch;
struct conflicts;
struct connections;
struct drift;
struct expiry;
struct judgement;
struct records;
struct relay;
struct relay_child;
struct peers;
struct project;
struct share;
struct share_wait;
struct space;
struct retention;
struct rollout;
struct event_streams;
struct command_rates;
struct feed;
struct image;
struct image_task;
struct local_listener;
struct memory;
struct metrics;
struct mount_watch;
struct runtime;
struct sse_set;
struct usage;
struct warm;
struct tls_listener;
struct tls_watch;

struct agent {
    uv_loop_t *loop;
    struct config *config;
    char node_id[25];
    char pool_id[25]; /* of the pool that the database belongs to; "": not known yet */
    /* Of the last commit that changes what records.h keeps in the pool, and of the last one that is on disk. */
    int64_t generation, generation_on_disk;
    char *node_name;
    struct locks locks;
    struct records *records;
    struct judgement *judgement; /* recovery.h: of this start */
    bool held;                   /* by it: only its health and the recovery are answered */
    bool again;                  /* the daemon starts anew when it has stopped */
    struct net_plan plan;
    const char *ipv6_off; /* why the host has no IPv6, see network/ipv6.h; NULL: it has */
    bool ipv6_was_off;    /* at the last start */

    struct store *store, *reader;
    struct lane *store_lane, *read_lane, *net_lane; /* store and reader belong to one lane each */
    struct lane *parse_lane;                        /* large bodies of requests */
    struct nf *nf;
    struct drift *drift;
    struct conflicts *conflicts;
    struct connections *connections;
    struct workers *workers;
    struct workers *stream_workers; /* long ones that wait for somebody's bytes: not to hold up the others */
    struct workers *wait_workers;   /* those that wait for something to happen inside a container, or for its end */
    struct peers *peers;            /* peer.h */

    struct relay *relays; /* all, also those that end */
    struct relay_child *relay_children;

    struct container **containers; /* in no order */
    size_t container_count;
    struct project **projects; /* in no order */
    size_t project_count;
    struct share **shares; /* in the order of their creation */
    size_t share_count;
    struct share_wait *share_waits; /* share_mount.c: who waits for mounts */
    struct guest_apply *applies;    /* changes that are being brought into containers, in order */
    struct cascade *cascades;       /* deletions of projects under way */
    struct image **images;          /* in no order */
    size_t image_count;
    json_t *kits;            /* manifests of the suite, one per kit */
    json_t *kits_installed;  /* manifests of all kits */
    struct rollout *rollout; /* the last one */
    struct kit_watch *kit_watch;
    struct mount_watch *mount_watch;
    int64_t kits_revision;          /* of the two */
    size_t operations;              /* under way */
    struct image_task *image_tasks; /* the newest first */
    uint64_t routes_revision;

    http_handler_fn *handler; /* of every listener; owner is the agent */
    struct http_server *control_http, *tls_http;
    struct local_listener *local;
    struct tls_listener *tls;
    struct tls_watch *tls_watch; /* NULL: there is no TLS listener */
    struct memory *memory;       /* of requests */
    struct expiry *expiry;
    struct space *space;
    struct reclaim *reclaim;
    struct scrub *scrub;
    struct warm *warm;
    struct events *events;
    struct retention *retention;
    struct usage *usage;
    struct runtime *runtime;
    struct metrics *metrics;
    struct command_rates *command_rates;
    struct sse_set *sse;
    struct feed *feed;
    struct event_streams *event_streams;
    int64_t started_at;
    bool disk_quota; /* the pool keeps limits of disks */
    bool ready, stopping;
};

/* Registry. find returns NULL when there is none. Spare containers (warm.h) are found by find_any and by slot only. */
struct container *agent_find(const struct agent *a, const char *id);
struct container *agent_find_any(const struct agent *a, const char *id);
struct container *agent_find_by_name(const struct agent *a, const char *project_id, const char *name);
struct container *agent_find_by_slot(const struct agent *a, int64_t slot);
struct container *agent_find_by_ssh_key(const struct agent *a, const char *key);
void agent_add(struct agent *a, struct container *c);
void agent_remove(struct agent *a, struct container *c); /* frees c */
/* Those that clients know of: not the spare ones of warm.h. */
size_t agent_shown_count(const struct agent *a);
/* The lowest free slot; ERR_LIMIT when there is none, or the node has all the containers that it takes: spare ones have
 * slots and are not counted. */
MUST_USE struct err *agent_free_slot(const struct agent *a, int64_t *ret);

/* Commits tx (taken over) on the store lane, its events included. */
typedef void agent_done_fn(void *owner, struct err *e);
void agent_commit(struct agent *a, struct store_tx *tx, void *owner, agent_done_fn *done);

/* A job about a slot (0: none). args may be NULL; extra_ms is added to the deadline. */
void agent_job(struct agent *a, enum job_kind kind, int64_t slot, const void *args, int64_t extra_ms, void *owner,
               worker_done_fn *done);

/* A job that waits for a container for as long as its arguments say, patience_ms. What it returns is for worker_hang_up
 * and valid until `done` is called. */
struct worker *agent_wait_job(struct agent *a, enum job_kind kind, int64_t slot, const void *args, int64_t patience_ms,
                              void *owner, worker_done_fn *done);

/* In one of the sets of workers, with bytes that come or go while it runs (io may be NULL). */
struct worker *agent_job_in(struct agent *a, struct workers *workers, enum job_kind kind, int64_t slot,
                            const void *args, int64_t extra_ms, const struct worker_io *io, void *owner,
                            worker_done_fn *done);

/* A job that takes as long as who sends or takes its bytes. */
void agent_stream_job(struct agent *a, enum job_kind kind, int64_t slot, const void *args, const struct worker_io *io,
                      void *owner, worker_done_fn *done);

/* Network lane, see net.c. */
void net_up(struct agent *a, struct container *c, bool closed, void *owner,
            agent_done_fn *done); /* fresh link + rules */
void net_rules(struct agent *a, struct container *c, bool closed, void *owner, agent_done_fn *done); /* rules only */
void net_down(struct agent *a, struct container *c, void *owner,
              agent_done_fn *done);                               /* rules, conntrack and link gone */
void net_sync(struct agent *a, void *owner, agent_done_fn *done); /* everything as recorded */
/* What others have changed is put right; seen: what is known already. The table only if it is said. */
void net_repair(struct agent *a, bool table, const struct nf_drift *seen, void *owner,
                void (*done)(void *owner, struct err *e, const struct nf_drift *drift));
/* The containers of a project as recorded. */
void net_project(struct agent *a, const char *project_id, void *owner, agent_done_fn *done);
void net_counters(struct agent *a, int64_t slot, void *owner,
                  void (*done)(void *owner, struct err *e, const struct nf_counters *counters));
/* What the container's rules have counted; hits by enum rule_direction, one a rule in their order, borrowed. */
typedef void net_hits_fn(void *owner, struct err *e, const struct nf_hits *const hits[2]);
void net_hits(struct agent *a, const struct container *c, void *owner, net_hits_fn *done);

/* Statements for a container's rows. */
void record_put(struct store_tx *tx, const struct container *c);
void record_put_rules(struct store_tx *tx, const struct container *c, const struct ruleset *rules);
void record_put_snapshot(struct store_tx *tx, const struct container *c, const struct snapshot *s);
/* A change of the status: a row of the status log and the event container.<to>. from may be NULL, duration_ms -1;
 * metadata (may be NULL) is taken over. */
void record_log(struct agent *a, struct store_tx *tx, const struct container *c, const char *from, const char *to,
                int64_t duration_ms, const char *triggered_by, json_t *metadata);
