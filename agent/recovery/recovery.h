/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the database and the pool belong together, and what happens when they do not.
 *
 * A start compares both before anything is changed. When one of them is lost, old or another node's, the node is held:
 * it answers its health and the recovery routes only, starts no job but looks, and leaves containers, pool and firewall
 * as they are, until an operator decides (nodectl recover):
 *
 *   retry   look again: what was missing has been put back
 *   adopt   the pool is right: its records become rows of the database
 *   accept  the database is right: containers without a disk are failed, unknown disks are left alone
 *
 * A disk that no row knows, in a pool that belongs to the database, does not hold the node: the disk is quarantined.
 * Its slot is given to nobody, its content is left alone, and adopt makes a container of it. Loop thread only.
 */
#pragma once

#include "agent/agent.h"
#include "store/mirror.h"

enum hold_reason {
    HOLD_NONE,
    HOLD_POOL_MISSING,  /* the pool cannot be opened */
    HOLD_POOL_EMPTY,    /* the database knows containers, the pool is new */
    HOLD_POOL_FOREIGN,  /* the pool is another node's */
    HOLD_DATABASE_LOST, /* the pool has containers, the database is new */
    HOLD_DATABASE_OLD,  /* the pool has seen commits that the database has not */
    HOLD_STATE_LOST,    /* both are new, on a server that had a node since it booted */
    HOLD_REASON_MAX
};

enum finding_verdict {
    FINDING_KNOWN,   /* row and disk agree */
    FINDING_UNKNOWN, /* a disk without a row */
    FINDING_OTHER,   /* a disk of another container than the row's */
    FINDING_NEWER,   /* the disk's record is newer than the row */
    FINDING_MISSING, /* a row without a disk */
};

struct finding {
    int64_t slot;
    enum finding_verdict verdict;
    char *id, *name; /* of the disk's record, else of the row; NULL: neither says */
    bool rootfs, running;
    size_t snapshots;
    json_t *records; /* mirror_read; NULL: no disk */
    json_t *row;     /* of the database; NULL: none */
};

struct judgement {
    enum hold_reason reason;
    bool accepted;            /* an operator has decided so: reason is HOLD_NONE then */
    char *message;            /* of HOLD_POOL_MISSING, else NULL */
    struct mirror_node pool;  /* identity of the pool */
    struct finding *findings; /* by slot */
    size_t count;
};
void judgement_clear(struct judgement *j);

/* Whether the database has a container: then the pool must exist, and is never made anew. */
bool judge_knows_containers(struct agent *a);
/* Compares the database's rows with what node.inventory has found. `accepted` (may be NULL): the hold_word for which an
 * operator has said that the database is right. Before the rows are loaded. Blocks, as all of a start may. */
MUST_USE struct err *judge(struct agent *a, const json_t *inventory, const char *accepted, struct judgement *ret);
/* One identity for both from here on; what was accepted is forgotten. */
MUST_USE struct err *judge_agree(struct agent *a, const struct judgement *j);
/* For the routes: reason, remedy, and what was found. */
json_t *judgement_json(const struct agent *a, const struct judgement *j);
const char *hold_word(enum hold_reason reason);
const char *hold_message(const struct judgement *j);
const char *hold_remedy(enum hold_reason reason);

/* Makes rows of the records of the pool, in one transaction: of every disk whose record is newer than its row or has
 * none. A disk without a record becomes a container recovered-<slot>. *ret_count: disks that got a row or a newer one.
 * Blocks; nothing else may use the store meanwhile. */
MUST_USE struct err *adopt_rows(struct agent *a, const struct judgement *j, size_t *ret_count);
/* ERR_CONFLICT when the database cannot be right: a slot's disk is another container's. */
MUST_USE struct err *accept_check(const struct judgement *j);
/* Records that the database is right: the next start takes it so, for this reason of a hold only. Operations that an
 * old database takes for unfinished are forgotten: to repeat one could destroy a disk. Blocks, as above. */
MUST_USE struct err *accept_rows(struct agent *a, const struct judgement *j);

/* Whether a slot's disk is quarantined: no row knew it when noded started. */
bool quarantine_has(const struct agent *a, int64_t slot);
