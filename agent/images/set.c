/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/images/set.h"

#include <ctype.h>

#include "agent/events/event.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/str.h"
#include "images/image.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

#define I(kind, member, ...) F_##kind(struct image, member, __VA_ARGS__)
static const struct json_field fields[] = {
    I(STRING, fingerprint, .required = true),
    I(JSON, aliases, .required = true, .has_type = true, .type = JSON_ARRAY),
    I(STRING, description, .required = true),
    I(STRING, os, .required = true),
    I(STRING, release, .required = true),
    I(STRING, variant, .nullable = true),
    I(STRING, serial, .required = true),
    I(STRING, architecture, .required = true),
    I(STRING, source, .required = true),
    I(STRING, origin, .nullable = true),
    I(STRING, origin_mark, .nullable = true),
    I(INT, size_bytes),
    I(INT, archive_bytes),
    I(INT, created_at),
    I(INT, last_used_at),
    I(BOOL, cached),
    I(BOOL, removing),
};
JSON_TABLE(image_table, "image", fields);

void image_free(struct image *i)
{
    if (!i)
        return;
    json_table_clear(&image_table, i);
    free(i);
}

void images_free(struct agent *a)
{
    for (size_t k = 0; k < a->image_count; k++)
        image_free(a->images[k]);
    free(a->images);
}

struct image *image_find(const struct agent *a, const char *fingerprint)
{
    for (size_t k = 0; k < a->image_count; k++)
        if (str_eq(a->images[k]->fingerprint, fingerprint))
            return a->images[k];
    return NULL;
}

void image_add(struct agent *a, struct image *i)
{
    a->images = mem_grow(a->images, a->image_count + 1, sizeof(struct image *));
    a->images[a->image_count++] = i;
    i->bases = MAX(i->bases, INT64_C(1));
}

static void forget(struct agent *a, struct image *i)
{
    size_t k = 0;

    while (a->images[k] != i)
        k++;
    a->images[k] = a->images[--a->image_count];
    image_free(i);
}

size_t image_references(const struct agent *a, const struct image *i)
{
    size_t n = 0;

    for (size_t k = 0; k < a->container_count; k++)
        n += !a->containers[k]->record.spare && str_eq(a->containers[k]->record.image_fingerprint, i->fingerprint);
    return n;
}

json_t *image_to_json(const struct agent *a, const struct image *i)
{
    json_t *j = json_table_save(&image_table, i);
    static const char *const times[] = {"created_at", "last_used_at"};

    for (size_t k = 0; k < ARRAY_LEN(times); k++) {
        int64_t ms = json_integer_value(json_object_get(j, times[k]));
        char text[STR_TIME_SIZE];

        json_object_set_new(j, times[k], ms > 0 ? json_string(str_time(ms, text)) : json_null());
    }
    json_object_del(j, "origin_mark");
    json_object_del(j, "removing");
    if (i->missing)
        json_object_set_new(j, "missing", json_true());
    json_object_set_new(j, "containers", json_integer((json_int_t)image_references(a, i)));
    return j;
}

void record_put_image(struct store_tx *tx, const struct image *i)
{
    store_tx_add(tx, STORE_IMAGE_PUT,
                 json_pack("[s, o]", i->fingerprint, store_text(json_table_save(&image_table, i))));
}

static char *or_else(const json_t *metadata, const char *member, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(metadata, member));

    return str_dup(text ? text : otherwise);
}

/* What the metadata do not say is taken from the first name. */
static struct image *image_new(const json_t *result, const struct image_origin *from)
{
    const json_t *metadata = json_object_get(result, "metadata");
    const char *name = json_string_value(json_array_get(from->aliases, 0));
    autofree char *os = name ? strndup(name, strcspn(name, "/")) : str_dup("linux");
    const char *release = name && strchr(name, '/') ? strchr(name, '/') + 1 : "";
    struct image *i = mem_new(struct image);
    char day[STR_TIME_SIZE];

    i->fingerprint = str_dup(json_string_value(json_object_get(result, "fingerprint")));
    i->aliases = json_array();
    i->created_at = clock_wall_ms();
    i->size_bytes = json_integer_value(json_object_get(result, "size_bytes"));
    i->archive_bytes = json_integer_value(json_object_get(result, "archive_bytes"));
    i->os = or_else(metadata, "os", os);
    i->release = or_else(metadata, "release", release);
    i->variant = or_else(metadata, "variant", NULL);
    str_time(i->created_at, day);
    memmove(day + 4, day + 5, 2);
    memmove(day + 6, day + 8, 2);
    day[8] = '\0';
    i->serial = or_else(metadata, "serial", day);
    i->architecture = str_dup(image_architecture());
    i->description = from->description ? str_dup(from->description) : or_else(metadata, "description", NULL);
    if (!i->description) {
        i->description = str_fmt("%s %s", i->os, i->release);
        i->description[0] = (char)toupper((unsigned char)i->description[0]);
    }
    i->cached = from->cached;
    return i;
}

struct image *image_imported(struct agent *a, struct store_tx *tx, const json_t *result,
                             const struct image_origin *from)
{
    struct image *i = image_find(a, json_string_value(json_object_get(result, "fingerprint")));

    if (!i) {
        i = image_new(result, from);
        image_add(a, i);
        event_add_for(a, tx, "image.created", "image", i->fingerprint, NULL, NULL,
                      json_pack("{s:s, s:s, s:I}", "fingerprint", i->fingerprint, "source", from->source, "size_bytes",
                                (json_int_t)i->size_bytes));
    }
    str_set(&i->source, from->source);
    str_set(&i->origin, from->origin);
    str_set(&i->origin_mark, from->origin_mark);
    i->missing = false;
    i->cached = i->cached && from->cached; /* who imports it on purpose wants to keep it */
    image_give_aliases(a, tx, i, from->aliases);
    record_put_image(tx, i);
    return i;
}

struct deletion {
    struct agent *agent;
    char *fingerprint;
    void *owner;
    agent_done_fn *done;
};

static void end_deletion(struct deletion *d, struct err *e)
{
    d->done(d->owner, e);
    free(d->fingerprint);
    free(d);
}

static void on_row_gone(void *owner, struct err *e)
{
    struct deletion *d = owner;
    struct image *i = image_find(d->agent, d->fingerprint);

    if (e)
        i->busy = false;
    else
        forget(d->agent, i);
    end_deletion(d, e);
}

static void on_removed(void *owner, struct err *e, json_t *result)
{
    struct deletion *d = owner;
    struct store_tx *tx;

    json_decref(result);
    if (!e)
        e = failpoint("image.delete.removed");
    if (e) { /* the mark stays: the next start goes on */
        image_find(d->agent, d->fingerprint)->busy = false;
        end_deletion(d, e);
        return;
    }
    tx = store_tx_new();
    store_tx_add(tx, STORE_IMAGE_DELETE, json_pack("[s]", d->fingerprint));
    event_add_for(d->agent, tx, "image.deleted", "image", d->fingerprint, NULL, NULL,
                  json_pack("{s:s}", "fingerprint", d->fingerprint));
    agent_commit(d->agent, tx, d, on_row_gone);
}

static void on_marked(void *owner, struct err *e)
{
    struct deletion *d = owner;
    struct image *i = image_find(d->agent, d->fingerprint);
    const struct job_image args = {.fingerprint = d->fingerprint};

    if (!e)
        e = failpoint("image.delete.marked");
    if (e) {
        i->busy = i->removing = false;
        end_deletion(d, e);
        return;
    }
    agent_job(d->agent, JOB_IMAGE_REMOVE, 0, &args, 0, d, on_removed);
}

/* The row says that it goes, then the subvolume goes, then the row: whatever interrupts that, the next start goes on,
 * and never takes a subvolume without a row for one that nobody wants. */
void image_delete(struct agent *a, struct image *i, void *owner, agent_done_fn *done)
{
    struct deletion *d = mem_new(struct deletion);
    struct store_tx *tx = store_tx_new();

    *d = (struct deletion){.agent = a, .fingerprint = str_dup(i->fingerprint), .owner = owner, .done = done};
    i->busy = i->removing = true;
    record_put_image(tx, i);
    agent_commit(a, tx, d, on_marked);
}

static void on_pruned(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "an image that nobody uses could not be removed");
}

json_t *images_prune(struct agent *a, int64_t days)
{
    int64_t before = clock_wall_ms() - days * DAY_MS;
    json_t *removed = json_array();

    for (size_t k = 0; k < a->image_count; k++) {
        struct image *i = a->images[k];
        bool unwanted = i->cached || json_array_size(i->aliases) == 0;

        if (i->busy || !unwanted || image_references(a, i) > 0 || MAX(i->last_used_at, i->created_at) > before)
            continue;
        json_array_append_new(removed, json_string(i->fingerprint));
        image_delete(a, i, NULL, on_pruned);
    }
    return removed;
}
