/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's images: what containers can be created from, by fingerprint and by name. A name belongs to one image; when
 * another one gets it, the old one stays for as long as containers made from it do. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct image {
    char *fingerprint; /* 64 hex digits: the sha256 of what it was imported from */
    json_t *aliases;   /* array of canonical names such as "debian/13" */
    char *description, *os, *release, *variant, *serial, *architecture;
    char *source;      /* "directory", "upload", "remote", "publish" */
    char *origin;      /* file name, URL, container id; or NULL */
    char *origin_mark; /* tells that the origin is another one by now; or NULL */
    int64_t size_bytes, archive_bytes, created_at, last_used_at; /* times in ms; last_used_at 0: never */
    bool cached;    /* fetched because somebody asked for it by name: goes when nobody has used it for a while */
    bool removing;  /* its removal has begun: the subvolume goes, then the row */
    bool missing;   /* not recorded: the pool has not got it, so it has no name to others */
    bool busy;      /* not recorded: it is being removed, or read */
    int64_t bases;  /* not recorded: see base.h */
    bool base_busy; /* not recorded: one is being made or removed */
    int64_t base_failed_ms; /* not recorded: when one could not be made, of clock_mono_ms; 0: it could */
};
extern const struct json_table image_table;

void image_free(struct image *i);
DEFINE_AUTO(struct image, image_free)
void images_free(struct agent *a);

/* NULL when there is none; one that is being removed has no name any more. */
struct image *image_find(const struct agent *a, const char *fingerprint);
struct image *image_find_by_alias(const struct agent *a, const char *canonical);
void image_add(struct agent *a, struct image *i); /* takes over i */
/* Containers that were made from it. */
size_t image_references(const struct agent *a, const struct image *i);
/* All names, an array. */
json_t *image_names(const struct agent *a);
/* As the operator's routes show it. */
json_t *image_to_json(const struct agent *a, const struct image *i);

/* "a, b" or an array of texts into an array of canonical names; ERR_INVALID names the field. */
MUST_USE struct err *image_aliases_load(const char *field, const json_t *texts, json_t **ret);
MUST_USE struct err *image_aliases_split(const char *field, const char *text, json_t **ret);

/* What is known of an image that comes into the pool. */
struct image_origin {
    const char *source, *origin, *origin_mark, *description;
    const json_t *aliases; /* canonical; they are taken from whoever has them */
    bool cached;
};
/* Records the result of JOB_IMAGE_IMPORT; what is there already gets the names. The statements and the event go into
 * tx. Never NULL. */
struct image *image_imported(struct agent *a, struct store_tx *tx, const json_t *result,
                             const struct image_origin *from);
/* New names for it; the old ones are free then. Giving leaves those that it has. */
void image_set_aliases(struct agent *a, struct store_tx *tx, struct image *i, const json_t *aliases);
void image_give_aliases(struct agent *a, struct store_tx *tx, struct image *i, const json_t *aliases);
/* Names and descriptions before i gets these aliases (may be NULL), to go back to when that cannot be recorded. The
 * caller's. */
json_t *images_remember(const struct agent *a, const struct image *i, const json_t *aliases);
void images_recall(const struct agent *a, const json_t *before);
void record_put_image(struct store_tx *tx, const struct image *i);

/* Marks the row, removes the subvolume, then the row. i is gone when done is called; it must not be busy. */
void image_delete(struct agent *a, struct image *i, void *owner, agent_done_fn *done);
/* Removes what nobody uses: images that are cached or have no name any more, and that no container was made from; only
 * those that were not used for `days` (0: all). Returns an array of their fingerprints. */
json_t *images_prune(struct agent *a, int64_t days);

/* At the start: rows and subvolumes are made to agree, then what is new in the images' directory is imported. */
void images_scan(struct agent *a, const json_t *inventory, void *owner, void (*done)(void *owner));
