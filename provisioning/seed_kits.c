/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kit's files are not copied: the start binds the node's kits at KITS_MOUNT, whole, and a link /hoody/kits/NAME leads
 * to the version that this container has. So another version is another link, also while the container runs, and what
 * liblxc mounts when a container reboots from the inside is always right. Others go into systemd's directory: one per
 * unit that makes it known, one more when it starts at boot, one for what the manifest says of it. Without the kit all
 * lead nowhere, which systemd takes as "no such unit" and not as a failure.
 */
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/seed_internal.h"

#define UNIT_DIR "/etc/systemd/system"
#define WANTS_DIR UNIT_DIR "/multi-user.target.wants"
#define KIT_PREFIX "hoody-" /* of unit names; reserved for kits */
#define KIT_LINKS "/hoody/kits"

struct kit_ref {
    char *name, *version;
};
static const struct json_field kit_ref_fields[] = {
    F_STRING(struct kit_ref, name, .required = true, .valid = manifest_is_name, .rule = "must be a kit's name"),
    F_STRING(struct kit_ref, version, .required = true, .valid = manifest_is_version, .rule = "must be a version"),
};
static JSON_TABLE(kit_ref_table, "kits", kit_ref_fields, .open = true);

/* The service of a unit; NULL when none names it. */
static const json_t *service_of(const struct manifest *m, const char *unit)
{
    const json_t *service;
    size_t i;

    json_array_foreach(m->services, i, service)
    {
        if (str_eq(json_string_value(json_object_get(service, "unit")), unit))
            return service;
    }
    return NULL;
}

/* What the manifest says of a service is a file beside its unit (bundle_verify.c). A directory of that name may have
 * files of the container's owner: it stays. */
static struct err *link_dropin(int root, const struct manifest *m, const char *unit, const json_t *service)
{
    autofree char *path = str_fmt(UNIT_DIR "/%s.d/10-" MANIFEST_DROPIN, unit), *text = NULL;
    autofree char *target = str_fmt(KIT_LINKS "/%s/units/%s.d/" MANIFEST_DROPIN, m->name, unit);
    struct manifest_service s = {0};
    struct err *e = service ? manifest_service_load(service, m, &s) : NULL;

    if (!e && service)
        text = manifest_render_dropin(&s);
    json_table_clear(&manifest_service_table, &s);
    if (e)
        return e;
    return text ? confined_symlink(root, path, target) : confined_remove(root, path);
}

/* A unit that a service names starts at boot; the others are there for those to pull in. */
static struct err *link_unit(int root, const struct manifest *m, const char *unit)
{
    autofree char *known = str_fmt(UNIT_DIR "/%s", unit);
    autofree char *wanted = str_fmt(WANTS_DIR "/%s", unit);
    autofree char *target = str_fmt(KIT_LINKS "/%s/units/%s", m->name, unit);
    const json_t *service = service_of(m, unit);
    struct err *e = confined_symlink(root, known, target);

    if (!e)
        e = link_dropin(root, m, unit, service);
    return e || !service ? e : confined_symlink(root, wanted, target);
}

static struct err *make_directories(int root, const struct manifest *m)
{
    autofree char *state = str_fmt("/hoody/storage/%s", m->name);
    struct err *e = confined_mkdirs(root, state, 0755, SEED_USER);
    const json_t *path;
    size_t i;

    json_array_foreach(m->directories, i, path)
    {
        autofree char *below = str_fmt("%s/%s", state, json_string_value(path));

        if (!e)
            e = confined_mkdirs(root, below, 0755, SEED_USER);
    }
    return e;
}

static struct err *enable_kit(int root, const struct manifest *m, json_t *environment)
{
    autofree char *files = str_fmt(KIT_LINKS "/%s", m->name);
    autofree char *target = str_fmt("/" KITS_MOUNT "/%s-%s/files", m->name, m->version);
    struct err *e = confined_symlink(root, files, target);
    const json_t *unit;
    size_t i;

    if (!e)
        e = make_directories(root, m);
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
    return seed_kit_links(root, seed->kits, pool);
}

struct err *seed_kit_links(int root, const json_t *kits, const char *pool)
{
    struct err *e = confined_remove_prefix(root, WANTS_DIR, KIT_PREFIX);
    autojson environment = json_object();
    autofree char *text = NULL;
    const json_t *ref;
    size_t i;

    if (!e)
        e = confined_remove_prefix(root, UNIT_DIR, KIT_PREFIX);
    if (!e)
        e = confined_remove_prefix(root, KIT_LINKS, "");
    json_array_foreach((json_t *)(uintptr_t)kits, i, ref)
    {
        if (!e)
            e = find_and_enable(root, ref, pool, environment);
    }
    if (e)
        return e;
    text = env_render_profile(environment);
    return seed_text(root, "/etc/profile.d/hoody-10-kits.sh", text);
}
