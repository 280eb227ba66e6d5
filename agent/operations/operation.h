/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation changes one container in steps. Its intent is committed before the first step, with everything that is
 * needed to repeat or undo it; the last commit removes the intent together with the result. So a crash anywhere leaves
 * an intent, and the next start finishes what it says: kinds with OP_REDO are run again (every step can be repeated),
 * kinds with OP_UNDO are unwound. Steps of one stage run side by side; a failed step unwinds all that were begun, last
 * first.
 *
 * Failpoint before each step: "op.KIND.STEP"; after the intent: "op.KIND.intent"; before the last commit:
 * "op.KIND.commit"; of one that takes over, when the other one has ended its wait: "op.KIND.takeover".
 */
#pragma once

#include "agent/agent.h"
#include "agent/containers/guest.h"

struct operation;
struct worker;

/* Begins the step's work; it, or what it started, calls op_step_done(op, e) exactly once, at once or later. */
typedef void op_step_fn(struct operation *op);

struct op_step {
    int stage; /* ascending; equal stages run side by side */
    const char *name;
    op_step_fn *run;
    op_step_fn *undo; /* NULL: nothing to undo. Must be idempotent and must work when run did only half of it. */
};

enum op_recovery { OP_REDO, OP_UNDO };

struct op_kind {
    const char *name;    /* stored in intents: never rename */
    const char *command; /* for people and status logs; NULL: as name */
    const struct op_step *steps;
    size_t step_count;
    enum op_recovery recovery;
    int status_during; /* enum container_status while it runs; -1: stays as it is */
    /* The outcome: changes the record and adds statements. Runs on the loop before the last commit. */
    void (*succeed)(struct operation *op, struct store_tx *tx);
    void (*fail)(struct operation *op, struct store_tx *tx); /* after unwinding */
    bool removes_container;                                  /* on success the container is gone */
    bool replaces_root;                                      /* the root file system is another one afterwards */
    bool makes_container;                                    /* a failed intent leaves no container */
    const struct op_kind *otherwise; /* when it fails or is interrupted, this is done instead, from a clean slot */
    bool restarts;                   /* a running container is down for a while meanwhile */
};

enum { OP_STEPS_MAX = 12, OP_ATTEMPTS_MAX = 3 };

struct operation {
    char id[33];
    const struct op_kind *kind;
    struct agent *agent;
    struct container *container;
    struct container *source; /* copy: where from */
    json_t *args;             /* saved with the intent */
    json_t *result;           /* of the last job that keeps one */
    const char *triggered_by; /* "user", "system", "boot", "recovery" */
    int from;                 /* status before */
    int attempt;              /* 1, more when recovered */
    struct http_request *req; /* who waits for `done`; NULL: nobody */
    void *owner;              /* of `done`, when it is no request */
    /* done: after the last commit, or when the intent failed; e passes to it. accepted: after the intent, of a kind
     * with `otherwise` when that begins; may be NULL. */
    void (*accepted)(struct operation *op);
    void (*done)(struct operation *op, struct err *e);

    int stage;
    struct worker *waits;        /* a job that only waits for the guest to shut down; else NULL */
    struct operation *successor; /* takes its place when the wait has ended; see takeover.h */
    bool took_over;              /* the place of another one */
    size_t step, pending; /* step: the one that runs (sequential use by unwinding); pending: unfinished of the stage */
    int64_t guest_revisions[GUEST_PARTS]; /* that its start brings */
    bool begun[OP_STEPS_MAX], unwinding;
    struct err *error;
    int64_t begun_at; /* ms since the epoch */
    int64_t begun_us, stage_us, step_us[OP_STEPS_MAX];
    bool finished;
};

/* A new operation that nobody has started; args (may be NULL) are taken over. */
struct operation *operation_new(struct agent *a, const struct op_kind *kind, struct container *c, json_t *args,
                                const char *triggered_by);
/* Takes the container, commits the intent together with the statements of tx (may be NULL; is taken over), runs the
 * steps. The container must have no operation. */
void operation_start(struct operation *op, struct store_tx *tx);
/* For takeover.c: the statements with which it begins, for the transaction in which the one before it ends; and, after
 * that, its steps. */
void operation_inherit(struct operation *op, struct store_tx *tx);
void operation_start_inherited(struct operation *op);
/* After a restart: attempts is what the intent says. */
void operation_recover(struct operation *op, int attempts);

void op_step_done(struct operation *op, struct err *e);
MUST_USE struct err *op_failpoint(const struct operation *op, const char *step);
/* A string argument, or NULL. */
const char *op_arg(const struct operation *op, const char *name);

/* ERR_BUSY with container_finalizing when the container is being deleted. */
MUST_USE struct err *container_check_staying(const struct container *c);
/* ERR_BUSY with RESOURCE_IN_USE when somebody reads its disk: a copy, an export, another node. Its root stays then. */
MUST_USE struct err *container_check_unread(const struct container *c);
const char *operation_command(const struct operation *op); /* its name for people */
/* ERR_BUSY with CONTAINER_OPERATION_IN_PROGRESS when the container is taken. */
MUST_USE struct err *operation_check_free(const struct container *c, const char *what);

/* All kinds, for recovery; NULL when there is none of that name. */
const struct op_kind *op_kind_find(const char *name);
extern const struct op_kind op_create, op_copy, op_start, op_stop, op_force_stop, op_restart, op_pause, op_resume,
    op_delete, op_snapshot, op_snapshot_delete, op_restore, op_sync, op_settle, op_network, op_host, op_kits, op_import,
    op_claim;
