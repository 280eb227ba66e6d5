/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A spare container becomes somebody's. Its files are written from outside, by the confined writing that seeds every
 * container; what runs inside is told inside. What fails here leaves a container that is half one and half the other:
 * it must be destroyed then.
 */
#include "runtime/inside/claim.h"

#include <linux/capability.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/confined.h"
#include "provisioning/seed.h"
#include "runtime/container/guest.h"
#include "runtime/inside/inside.h"
#include "storage/layout.h"

enum { MARGIN_MS = 2000, PAUSE_MS = 2 };

static const char *text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

/* How the unit takes a new identity: what the service says that it answers for; one that nobody names is restarted. */
static const char *way_of(const json_t *manifest, const char *unit)
{
    const json_t *service;
    size_t i;

    json_array_foreach(json_object_get(manifest, "services"), i, service)
    {
        autofree char *answering = manifest_answering_unit(text(service, "unit"));

        if (str_eq(answering, unit))
            return text(service, "identity") ? text(service, "identity") : "restart";
    }
    return "restart";
}

static bool is_service(const char *unit)
{
    size_t len = strlen(unit), n = strlen(".service");

    return len > n && str_eq(unit + len - n, ".service");
}

static void add_kit(struct claim_work *w, const json_t *manifest)
{
    const json_t *unit;
    size_t i;

    json_array_foreach(json_object_get(manifest, "units"), i, unit)
    {
        const char *name = json_string_value(unit), *way = way_of(manifest, name);

        if (!is_service(name) || str_eq(way, "live"))
            continue;
        json_array_append_new(str_eq(way, "reload") ? w->reload : w->restart, json_string(name));
    }
    kits_add_services(&w->kits, manifest, false);
}

static struct err *plan(const struct job *job, const struct seed *seed, struct claim_work *w)
{
    struct err *e = NULL;
    const json_t *kit;
    size_t i;

    json_array_foreach(seed->kits, i, kit)
    {
        autojson manifest = NULL;

        if (!e)
            e = bundle_manifest(job->target.pool, text(kit, "name"), text(kit, "version"), &manifest);
        if (!e)
            add_kit(w, manifest);
    }
    /* Its keys are gone; the next start of it makes new ones. Those that do not run are left alone. */
    json_array_append_new(w->restart, json_string("ssh.service"));
    return e;
}

/* Writes the files, and reads back from inside what others may have put something over. */
static struct err *write_files(const struct job *job, const struct seed *seed)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autolive live = LIVE_NONE;
    autofd int fd = -1;
    struct err *e = confined_open_root(rootfs, &fd);

    if (!e)
        e = seed_claim(fd, seed);
    if (!e)
        e = guest_open_live(job, &live);
    return e ? e : env_verify(live.root, seed->environment);
}

static struct err *tell_inside(const struct job *job, struct claim_work *w, json_t **ret)
{
    autojson answer = NULL;
    struct err *e = inside_ask(job, claim_inside, w, 1u << CAP_SYS_ADMIN, w->kits.timeout_ms + MARGIN_MS, &answer);

    if (e)
        return e;
    if (!json_is_array(json_object_get(answer, "services")))
        return err_new(ERR_HOST, "systemd inside the container does not take the new identity in time");
    *ret = json_pack("{s:O, s:O?}", "services", json_object_get(answer, "services"), "split_us",
                     json_object_get(answer, "split_us"));
    return NULL;
}

static struct err *claim(const struct job *job, const struct seed *seed, struct claim_work *w, json_t **ret)
{
    int64_t begun = clock_mono_us(), written;
    struct err *e = plan(job, seed, w);

    if (!e)
        e = failpoint("claim.begin");
    if (!e)
        e = write_files(job, seed);
    if (!e)
        e = failpoint("claim.written");
    written = clock_mono_us();
    if (!e)
        e = tell_inside(job, w, ret);
    if (!e && json_is_object(json_object_get(*ret, "split_us"))) {
        json_object_set_new(json_object_get(*ret, "split_us"), "files", json_integer((json_int_t)(written - begun)));
        json_object_set_new(json_object_get(*ret, "split_us"), "inside",
                            json_integer((json_int_t)(clock_mono_us() - written)));
    }
    return e ? e : failpoint("claim.told");
}

struct err *job_do_claim(const struct job *job, void *args, json_t **ret)
{
    const struct job_claim *a = args;
    struct seed seed = {0};
    struct err *e = json_table_load(&seed_table, a->seed, &seed, NULL);
    struct claim_work w = {
        .kits = {.services = json_array(), .timeout_ms = a->timeout_ms, .pause_ms = PAUSE_MS},
        .restart = json_array(),
        .reload = json_array(),
        .hostname = seed.hostname,
        .machine_id_before = a->machine_id,
        .machine_id = seed.machine_id,
        .container_id = seed.container_id,
        .environment = seed.environment,
    };

    if (!e)
        e = claim(job, &seed, &w, ret);
    json_decref(w.kits.services);
    json_decref(w.restart);
    json_decref(w.reload);
    json_table_clear(&seed_table, &seed);
    return e;
}
