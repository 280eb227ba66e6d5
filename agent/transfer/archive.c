/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/transfer/archive.h"

#include "agent/api/api.h"
#include "agent/containers/snapshots.h"
#include "agent/kits/kits.h"
#include "base/clock.h"
#include "base/str.h"
#include "images/image.h"

/* Neither keys nor addresses nor ids: the imported one is another container. Firewall, network configuration and shares
 * are the node's. */
struct described {
    char *name, *image, *image_fingerprint, *color, *comment;
    json_t *environment;
    bool ai, hoody_kit, dev_kit, autostart, ramdisk;
};
#define D(kind, member, ...) F_##kind(struct described, member, __VA_ARGS__)
static const struct json_field fields[] = {
    D(STRING, name, .required = true, .valid = api_is_container_name, .rule = "must be a name of a container"),
    D(STRING, image, .nullable = true, .max = 255),
    D(STRING, image_fingerprint, .nullable = true, .valid = image_fingerprint_ok, .rule = "must be 64 hex digits"),
    D(STRING, color, .nullable = true, .max = 16),
    D(STRING, comment, .nullable = true, .max = 16000),
    D(JSON, environment, .required = true, .has_type = true, .type = JSON_OBJECT),
    D(BOOL, ai),
    D(BOOL, hoody_kit),
    D(BOOL, dev_kit),
    D(BOOL, autostart),
    D(BOOL, ramdisk),
};
static JSON_TABLE(table, "container", fields, .open = true);

json_t *archive_header(const struct agent *a, const struct container *c, const struct snapshot *only, bool snapshots)
{
    const struct container_record *r = &c->record;
    const struct described d = {.name = r->name,
                                .image = r->image,
                                .image_fingerprint = r->image_fingerprint,
                                .color = r->color,
                                .comment = r->comment,
                                .environment = r->environment,
                                .ai = r->ai,
                                .hoody_kit = r->hoody_kit,
                                .dev_kit = r->dev_kit,
                                .autostart = r->autostart,
                                .ramdisk = r->ramdisk};
    char now[STR_TIME_SIZE];

    return json_pack("{s:i, s:s, s:s, s:s, s:s?, s:o, s:o}", "format", 1, "exported_at", str_time(clock_wall_ms(), now),
                     "node", a->node_name, "container_id", r->id, "state_of", only ? only->name : NULL, "container",
                     json_table_save(&table, &d), "snapshots", snapshots ? snapshots_save(c) : json_array());
}

static struct err *load(const json_t *header, struct described *d)
{
    struct err *e = json_table_load(&table, json_object_get(header, "container"), d, NULL);

    if (!e)
        e = api_check_environment("container.environment", d->environment);
    if (!e && d->color && *d->color) {
        autofree char *digits = str_dup(d->color + (d->color[0] == '#'));

        e = api_check_color("container.color", &digits);
    }
    return e ? e : api_check_comment("container.comment", d->comment);
}

struct err *archive_check(const json_t *header)
{
    struct described d = {0};
    struct err *e = load(header, &d);

    if (!e)
        e = snapshots_check("snapshots", json_object_get(header, "snapshots"));
    json_table_clear(&table, &d);
    return e ? err_recode(e, ERR_INVALID) : NULL;
}

void archive_adopt(struct agent *a, struct container *c, struct store_tx *tx, const json_t *header, bool rename)
{
    struct container_record *r = &c->record;
    autofree char *image = NULL;
    struct described d = {0};

    err_ignore(load(header, &d));
    if (rename && d.name) { /* the job has written this hostname */
        free(r->hostname);
        r->hostname = str_host_label(d.name);
    }
    if (rename && d.name && !agent_find_by_name(a, r->project_id, d.name))
        str_set(&r->name, d.name);
    image = d.image ? image_name_canonical(d.image) : NULL;
    if (image)
        str_set(&r->image, image);
    str_set(&r->image_fingerprint, d.image_fingerprint);
    if (!str_empty(d.color))
        str_set(&r->color, d.color);
    str_set(&r->comment, d.comment);
    if (d.environment)
        json_object_update(r->environment, d.environment);
    if (json_object_size(r->environment) > 0)
        guest_changed(c, GUEST_ENVIRONMENT);
    r->ai = d.ai;
    r->hoody_kit = d.hoody_kit;
    r->dev_kit = d.dev_kit;
    r->autostart = d.autostart;
    r->ramdisk = d.ramdisk;
    if (r->hoody_kit) { /* the first start links them */
        json_decref(r->kits);
        r->kits = kits_of_suite(a, r->image);
    }
    record_put(tx, c);
    snapshots_adopt(c, tx, json_object_get(header, "snapshots"), NULL);
    json_table_clear(&table, &d);
}
