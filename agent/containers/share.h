/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares: a directory of one container for another, or for all others of a project (contract, section 2.6). The source
 * decides what, for whom and until when; each receiver may switch its own mount off. What should be mounted where
 * follows from the records; share_mounts_refresh makes it so. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

enum share_mode { SHARE_READONLY, SHARE_READWRITE };
extern const char *const share_mode_words[];

struct share {
    char *id, *source_container_id, *source_path;  /* normalised: no empty, "." or ".." parts, no slash at the end */
    char *target_container_id, *target_project_id; /* exactly one is set */
    char *alias, *label, *description, *created_by;
    int mode; /* enum share_mode */
    bool enabled, expiry_notified;
    int64_t expires_at;             /* seconds since the epoch; 0: never */
    int64_t created_at, updated_at; /* ms */
    json_t *switches; /* receivers' own: object of container id -> {"id", "mount", "created_at", "updated_at" (ms)} */
    json_t *problems; /* object of container id -> why it is not mounted there; not recorded */
};
extern const struct json_table share_table;

void share_free(struct share *s);
DEFINE_AUTO(struct share, share_free)

/* Registry. find returns NULL when there is none. */
struct share *share_find(const struct agent *a, const char *id);
void share_add(struct agent *a, struct share *s);
void share_take_out(struct agent *a, const struct share *s);
void share_remove(struct agent *a, struct share *s); /* takes it out and frees it */

void record_put_share(struct store_tx *tx, const struct share *s);
/* Deletes it: statement, event storage.share.WORD ("deleted", "expired"); the receivers' mounts go by a refresh. */
void share_drop(struct agent *a, struct store_tx *tx, struct share *s, const char *word);
/* An event storage.share.WORD about it. */
void share_event(struct agent *a, struct store_tx *tx, const struct share *s, const char *word);

bool share_is_expired(const struct share *s);
/* Whether c is one of those it is for. A source never receives its own. */
bool share_is_for(const struct share *s, const struct container *c);
/* The receiver's switch; true unless it was switched off. */
bool share_is_wanted_by(const struct share *s, const struct container *c);
/* What c sees of it: for c, and no other share gives c the same directory more directly. Disabled ones are seen, too.
 */
bool share_is_incoming(const struct agent *a, const struct share *s, const struct container *c);
/* Where a receiver finds it; the caller frees the text. */
char *share_mount_path(const struct share *s);

/* The container is going: what it shares and what is shared with it alone goes, too. */
void shares_container_gone(struct agent *a, struct store_tx *tx, const struct container *c);
void shares_project_gone(struct agent *a, struct store_tx *tx, const char *project_id);
/* Deletes what has expired and announces what soon will. */
void shares_expire(struct agent *a);

/* share_mount.c: array of struct share_mount (jobs/jobs.h) that c should have; the caller's. */
json_t *share_mounts_wanted(const struct agent *a, const struct container *c);
/* For a job that mounts them besides other things: the same list; NULL while another job is at the mounts of c. Then
 * with what it said of problems, NULL when it said nothing. */
json_t *share_mounts_begin(const struct agent *a, struct container *c);
void share_mounts_end(struct agent *a, struct container *c, const json_t *problems);
/* Who is concerned by a change is marked, before a share is freed; when the change is on disk a refresh makes the
 * mounts of all that are marked and run agree with the records. */
void share_mounts_mark(struct agent *a, const struct share *s);
void share_mounts_refresh(struct agent *a);
/* Marks who is concerned by s, or `only` (may be NULL) of them, and refreshes. done is called, later or at once, when
 * their mounts agree with what is recorded now; one that does not run has none. An operation that holds a receiver is
 * waited for. e: of somebody it is not known, it is tried again with the next refresh. */
void share_mounts_settle(struct agent *a, const struct share *s, struct container *only, void *owner,
                         agent_done_fn *done);
/* An operation has let go of c. new_root: c has another root file system than before. Marks only. */
void share_mounts_after_operation(struct agent *a, struct container *c, bool new_root);
/* After a start of the agent: has_mounts says what the inventory found. Marks only. */
void share_mounts_adopt(struct agent *a, struct container *c, bool has_mounts);
