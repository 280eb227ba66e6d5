/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kit's files are not copied: the start binds them at /hoody/kits/NAME. What goes into the root file system are
 * links: one per unit that makes it known, one more when it starts at boot. Without the kit both lead nowhere, which
 * systemd takes as "no such unit" and not as a failure.
 */
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/seed_internal.h"

#define UNIT_DIR "/etc/systemd/system"
#define WANTS_DIR UNIT_DIR "/multi-user.target.wants"
#define KIT_PREFIX "hoody-" /* of unit names; reserved for kits */

struct kit_ref {
    char *name, *version;
};
static const struct json_field kit_ref_fields[] = {
    F_STRING(struct kit_ref, name, .required = true, .valid = manifest_is_name, .rule = "must be a kit's name"),
    F_STRING(struct kit_ref, version, .required = true, .valid = manifest_is_version, .rule = "must be a version"),
};
static JSON_TABLE(kit_ref_table, "kits", kit_ref_fields, .open = true);

/* A unit that a service names starts at boot; the others are there for those to pull in. */
static bool is_service(const struct manifest *m, const char *unit)
{
    const json_t *service;
    size_t i;

    json_array_foreach(m->services, i, service)
    {
        if (str_eq(json_string_value(json_object_get(service, "unit")), unit))
            return true;
    }
    return false;
}

static struct err *link_unit(int root, const struct manifest *m, const char *unit)
{
    autofree char *known = str_fmt(UNIT_DIR "/%s", unit);
    autofree char *wanted = str_fmt(WANTS_DIR "/%s", unit);
    autofree char *target = str_fmt("/hoody/kits/%s/units/%s", m->name, unit);
    struct err *e = confined_symlink(root, known, target);

    return e || !is_service(m, unit) ? e : confined_symlink(root, wanted, target);
}

static struct err *enable_kit(int root, const struct manifest *m, json_t *environment)
{
    autofree char *mount_point = str_fmt("/hoody/kits/%s", m->name);
    autofree char *state = str_fmt("/hoody/storage/%s", m->name);
    struct err *e = confined_mkdirs(root, mount_point, 0755, SEED_ROOT);
    const json_t *unit;
    size_t i;

    if (!e)
        e = confined_mkdirs(root, state, 0755, SEED_USER);
    json_array_foreach(m->units, i, unit)
    {
        if (!e)
            e = link_unit(root, m, json_string_value(unit));
    }
    if (m->environment)
        json_object_update(environment, m->environment);
    return e;
}

static struct err *find_and_enable(int root, const json_t *ref_json, const char *pool, json_t *environment)
{
    struct kit_ref ref = {0};
    struct manifest m = {0};
    autojson j = NULL;
    struct err *e = json_table_load(&kit_ref_table, ref_json, &ref, NULL);

    if (!e)
        e = bundle_manifest(pool, ref.name, ref.version, &j);
    if (!e)
        e = manifest_load(j, &m);
    if (!e)
        e = enable_kit(root, &m, environment);
    json_table_clear(&kit_ref_table, &ref);
    json_table_clear(&manifest_table, &m);
    return e;
}

struct err *seed_kits(int root, const struct seed *seed, const char *pool)
{
    struct err *e = confined_remove_prefix(root, WANTS_DIR, KIT_PREFIX);
    autojson environment = json_object();
    autofree char *text = NULL;
    const json_t *ref;
    size_t i;

    if (!e)
        e = confined_remove_prefix(root, UNIT_DIR, KIT_PREFIX);
    json_array_foreach(seed->kits, i, ref)
    {
        if (!e)
            e = find_and_enable(root, ref, pool, environment);
    }
    if (e)
        return e;
    text = env_render_profile(environment);
    return seed_text(root, "/etc/profile.d/hoody-10-kits.sh", text);
}
