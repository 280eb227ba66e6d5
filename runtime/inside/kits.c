/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other versions of kits in a container. The links in its root are written from outside, whether it runs or not;
 * systemd is told inside. Nothing but the kits that differ is touched.
 */
#include "runtime/inside/kits.h"

#include <linux/capability.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "provisioning/bundle.h"
#include "provisioning/confined.h"
#include "provisioning/seed.h"
#include "runtime/container/guest.h"
#include "runtime/inside/inside.h"
#include "storage/layout.h"

/* Over what the services have: of a reload and of stops, and of a mere look. */
enum { MARGIN_MS = 15000, LOOK_MARGIN_MS = 3000 };

static const char *text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

static bool has(const json_t *kits, const json_t *kit)
{
    const json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)kits, i, v)
    {
        if (str_eq(text(v, "name"), text(kit, "name")) && str_eq(text(v, "version"), text(kit, "version")))
            return true;
    }
    return false;
}

static void add_once(json_t *list, json_t *word)
{
    json_t *v;
    size_t i;

    json_array_foreach(list, i, v) if (json_equal(v, word)) return;
    json_array_append(list, word);
}

void kits_add_services(struct kits_work *w, const json_t *manifest, bool start)
{
    json_t *service;
    size_t i;

    json_array_foreach(json_object_get(manifest, "services"), i, service)
    {
        if (start)
            add_once(w->start, json_object_get(service, "unit"));
        json_array_append_new(
            w->services, json_pack("{s:O, s:O, s:O, s:O, s:O, s:O?}", "kit", json_object_get(manifest, "name"),
                                   "version", json_object_get(manifest, "version"), "slug",
                                   json_object_get(service, "slug"), "unit", json_object_get(service, "unit"), "port",
                                   json_object_get(service, "port"), "health", json_object_get(service, "health")));
    }
}

/* What to stop and start; without a difference only what to look at, or what to start once more. */
static struct err *plan(const struct job *job, const struct job_kits *a, struct kits_work *w)
{
    bool same = json_equal(a->before, a->kits);
    struct err *e = NULL;
    json_t *kit, *unit;
    size_t i, k;

    json_array_foreach(a->before, i, kit)
    {
        autojson manifest = NULL;

        if (e || same || has(a->kits, kit))
            continue;
        e = bundle_manifest(job->target.pool, text(kit, "name"), text(kit, "version"), &manifest);
        json_array_foreach(json_object_get(manifest, "units"), k, unit) json_array_append(w->stop, unit);
    }
    json_array_foreach(a->kits, i, kit)
    {
        autojson manifest = NULL;

        if (e || (!same && has(a->before, kit)))
            continue;
        e = bundle_manifest(job->target.pool, text(kit, "name"), text(kit, "version"), &manifest);
        if (!e)
            kits_add_services(w, manifest, !same || a->start);
    }
    return e;
}

/* A container that was started without kits does not have the mount that its links lead to. */
static struct err *check_mount(const struct live *live, const json_t *kits)
{
    const json_t *kit;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)kits, i, kit)
    {
        autofree char *path = str_fmt("/" KITS_MOUNT "/%s-%s/files", text(kit, "name"), text(kit, "version"));

        if (!live_exists(live, path))
            return err_reason(err_new(ERR_WRONG_STATE, "kit %s %s is not seen inside: restart the container first",
                                      text(kit, "name"), text(kit, "version")),
                              "KIT_RESTART_NEEDED");
    }
    return NULL;
}

static struct err *link_kits(const struct job *job, const struct job_kits *a)
{
    autofree char *rootfs = layout_rootfs(job->target.pool, job->target.slot);
    autofd int fd = -1;
    struct err *e = confined_open_root(rootfs, &fd);

    if (!e)
        e = failpoint("kits.link");
    if (!e)
        e = seed_kit_links(fd, a->kits, job->target.pool);
    return e ? e : failpoint("kits.linked");
}

static struct err *work_inside(const struct job *job, struct kits_work *w, json_t **ret)
{
    bool look = json_array_size(w->stop) + json_array_size(w->start) == 0;
    autojson answer = NULL;
    struct err *e = inside_ask(job, kits_inside, w, look ? 0 : 1u << CAP_SYS_ADMIN,
                               w->timeout_ms + (look ? LOOK_MARGIN_MS : MARGIN_MS), &answer);

    if (e)
        return e;
    if (!json_is_array(json_object_get(answer, "services")))
        return err_reason(err_new(ERR_HOST, "systemd inside the container does not do it in time"), "KIT_UNHEALTHY");
    *ret = json_pack("{s:O}", "services", json_object_get(answer, "services"));
    return NULL;
}

/* The links and what can be seen of them; *ret_running. */
static struct err *change(const struct job *job, const struct job_kits *a, bool *ret_running)
{
    autolive live = LIVE_NONE;
    struct err *e = guest_open_live(job, &live);

    *ret_running = !e;
    if (e && e->code == ERR_WRONG_STATE) {
        err_free(e);
        e = NULL;
    } else if (!e) {
        e = check_mount(&live, a->kits);
    }
    return e ? e : link_kits(job, a);
}

struct err *job_do_kits(const struct job *job, void *args, json_t **ret)
{
    const struct job_kits *a = args;
    struct kits_work w = {.stop = json_array(),
                          .start = json_array(),
                          .services = json_array(),
                          .timeout_ms = a->timeout_ms,
                          .boot = a->boot};
    bool running = true;
    struct err *e = plan(job, a, &w);

    if (!e && !json_equal(a->before, a->kits))
        e = change(job, a, &running);
    if (!e && running)
        e = work_inside(job, &w, ret);
    json_decref(w.stop);
    json_decref(w.start);
    json_decref(w.services);
    return e;
}
