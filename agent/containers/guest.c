/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/guest.h"

#include "agent/containers/limits.h"
#include "agent/events/event.h"
#include "agent/operations/operation.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

struct guest_apply {
    struct agent *agent;
    char *container_id; /* it may be deleted meanwhile */
    enum guest_part part;
    int64_t revision;
    bool begun;
    struct err *error;
    void *owner;
    agent_done_fn *done;
    struct guest_apply *next;
};

/* Where the record counts. */
static const struct {
    size_t revision, applied;
} counters[GUEST_PARTS] = {
    [GUEST_ENVIRONMENT] = {offsetof(struct container_record, env_revision),
                           offsetof(struct container_record, env_applied_revision)},
    [GUEST_SSH_KEY] = {offsetof(struct container_record, ssh_revision),
                       offsetof(struct container_record, ssh_applied_revision)},
    [GUEST_RAMDISK] = {offsetof(struct container_record, ramdisk_revision),
                       offsetof(struct container_record, ramdisk_applied_revision)},
};

static int64_t *member(const struct container *c, size_t offset)
{
    return (int64_t *)((uintptr_t)&c->record + offset);
}

static int64_t revision_of(const struct container *c, enum guest_part part)
{
    return *member(c, counters[part].revision);
}

bool guest_is_pending(const struct container *c, enum guest_part part)
{
    return revision_of(c, part) != *member(c, counters[part].applied);
}

bool guest_is_exhausted(const struct container *c)
{
    return guest_is_pending(c, GUEST_ENVIRONMENT) && c->record.env_attempts >= GUEST_ATTEMPTS_MAX;
}

void guest_changed(struct container *c, enum guest_part part)
{
    ++*member(c, counters[part].revision);
    if (part == GUEST_ENVIRONMENT)
        c->record.env_attempts = 0;
}

static void lost(struct container *c, enum guest_part part)
{
    if (revision_of(c, part) > 0)
        *member(c, counters[part].applied) = revision_of(c, part) - 1;
}

void guest_new(struct container *c)
{
    if (json_object_size(c->record.environment) > 0)
        guest_changed(c, GUEST_ENVIRONMENT);
    if (c->record.ssh_public_key)
        guest_changed(c, GUEST_SSH_KEY);
}

void guest_files_lost(struct container *c)
{
    lost(c, GUEST_ENVIRONMENT);
    lost(c, GUEST_SSH_KEY);
    c->record.kits_linked = false;
}

void guest_mounts_lost(struct container *c)
{
    lost(c, GUEST_RAMDISK);
}

bool guest_is_held(const struct container *c)
{
    const struct op_kind *k = c->op ? c->op->kind : NULL;

    return k && k != &op_pause && k != &op_resume && k != &op_snapshot && k != &op_snapshot_delete && k != &op_network;
}

static bool can_apply(const struct container *c, enum guest_part part)
{
    if (guest_is_held(c))
        return false;
    return container_is_up(c) || (part != GUEST_ENVIRONMENT && c->record.status == CONTAINER_STOPPED);
}

/* How it went with the environment; e stays the caller's. */
static void note_environment(struct agent *a, struct store_tx *tx, struct container *c, int64_t revision,
                             const char *error)
{
    struct container_record *r = &c->record;

    r->env_attempted_at = clock_wall_ms();
    str_set(&r->env_last_error, error);
    if (error) {
        r->env_attempts++;
        event_add(a, tx, "container.env.failed", c,
                  json_pack("{s:I, s:s, s:b}", "revision", (json_int_t)revision, "error", error, "exhausted",
                            guest_is_exhausted(c)));
        return;
    }
    r->env_attempts = 0;
    r->env_applied_revision = revision;
    r->env_verified_at = r->env_attempted_at;
    event_add(a, tx, "container.env.applied", c, json_pack("{s:I}", "revision", (json_int_t)revision));
}

static void note_ssh_key(struct container *c, int64_t revision)
{
    struct container_record *r = &c->record;

    r->ssh_applied_revision = revision;
    if (guest_is_pending(c, GUEST_SSH_KEY))
        return; /* another one is on its way */
    r->ssh_installed_at = r->ssh_public_key ? clock_wall_ms() : 0;
    json_array_clear(r->ssh_removed);
}

static void begin(struct guest_apply *ap);

static void on_noted(void *owner, struct err *e)
{
    struct guest_apply *ap = owner, **at = &ap->agent->applies, *next = NULL;

    log_err(NULL, LOG_LEVEL_WARNING, e, "it is not recorded what a container has; it is written again");
    while (*at != ap)
        at = &(*at)->next;
    *at = ap->next;
    for (struct guest_apply *x = ap->agent->applies; x && !next; x = x->next)
        if (!x->begun && x->part == ap->part && str_eq(x->container_id, ap->container_id))
            next = x;
    ap->done(ap->owner, steal(&ap->error));
    free(ap->container_id);
    free(ap);
    if (next)
        begin(next);
}

static void on_limited(void *owner, struct err *e, json_t *result)
{
    (void)owner;
    json_decref(result);
    log_err(NULL, LOG_LEVEL_ERR, e,
            "the limit of a container's disk is not known to hold; its next start sets it again");
}

/* The job lifts the limit while it writes, and its worker may have died there. */
static void limit_again(struct agent *a, const struct container *c)
{
    const struct job_disk args = {.bytes = limits_disk(c)};

    if (args.bytes)
        agent_job(a, JOB_DISK, c->record.slot, &args, 0, NULL, on_limited);
}

static void on_applied(void *owner, struct err *e, json_t *result)
{
    struct guest_apply *ap = owner;
    struct container *c = agent_find(ap->agent, ap->container_id);
    struct store_tx *tx = store_tx_new();

    json_decref(result);
    if (c && e && ap->part != GUEST_RAMDISK)
        limit_again(ap->agent, c);
    if (c && !can_apply(c, ap->part)) {
        /* Whatever the job met, it is not what the container will have: stays pending. */
        err_free(e);
        e = NULL;
    } else if (c) {
        const char *code = e && e->reason && strncmp(e->reason, "ENV_", 4) == 0 ? e->reason : "ENV_APPLY_FAILED";

        if (ap->part == GUEST_ENVIRONMENT)
            note_environment(ap->agent, tx, c, ap->revision, e ? code : NULL);
        else if (!e && ap->part == GUEST_SSH_KEY)
            note_ssh_key(c, ap->revision);
        else if (!e)
            c->record.ramdisk_applied_revision = ap->revision;
        record_put(tx, c);
        if (ap->part == GUEST_RAMDISK)
            guest_drop_ramdisks(ap->agent, c->record.project_id);
    }
    if (e)
        log_warning(&(struct log_ctx){.container = ap->container_id}, "a change is not in effect inside: %s",
                    err_message(e));
    ap->error = e;
    agent_commit(ap->agent, tx, ap, on_noted);
}

char *guest_ramdisk_project(const struct container *c)
{
    return c->record.ramdisk && c->record.ramdisk_scope == RAMDISK_PROJECT ? c->record.project_id : NULL;
}

static void on_dropped(void *owner, struct err *e, json_t *result)
{
    (void)owner;
    json_decref(result);
    log_err(NULL, LOG_LEVEL_WARNING, e, "a shared ramdisk that nobody uses stays; the next start tries again");
}

void guest_drop_ramdisks(struct agent *a, const char *project_id)
{
    autojson keep = json_array();
    const struct job_ramdisk_drop args = {.keep = keep, .project = (char *)(uintptr_t)project_id};

    for (size_t i = 0; i < a->container_count; i++)
        if (guest_ramdisk_project(a->containers[i]))
            json_array_append_new(keep, json_string(a->containers[i]->record.project_id));
    agent_job(a, JOB_RAMDISK_DROP, 0, &args, 0, NULL, on_dropped);
}

static void run_job(struct guest_apply *ap, const struct container *c)
{
    const struct container_record *r = &c->record;
    const struct config *config = ap->agent->config;
    const struct job_env env = {.environment = r->environment, .disk_bytes = limits_disk(c)};
    const struct job_ssh ssh = {
        .ssh_public_key = r->ssh_public_key, .removed = r->ssh_removed, .disk_bytes = limits_disk(c)};
    const struct job_ramdisk ramdisk = {.bytes = r->ramdisk ? config->ramdisk_size : 0,
                                        .project = guest_ramdisk_project(c),
                                        .id_base = container_id_base(config, c)};

    switch (ap->part) {
    case GUEST_ENVIRONMENT:
        agent_job(ap->agent, JOB_ENV_WRITE, r->slot, &env, 0, ap, on_applied);
        return;
    case GUEST_SSH_KEY:
        agent_job(ap->agent, JOB_SSH_WRITE, r->slot, &ssh, 0, ap, on_applied);
        return;
    case GUEST_RAMDISK:
    case GUEST_PARTS:
        agent_job(ap->agent, JOB_RAMDISK_SET, r->slot, &ramdisk, 0, ap, on_applied);
        return;
    }
}

static void begin(struct guest_apply *ap)
{
    struct container *c = agent_find(ap->agent, ap->container_id);

    ap->begun = true;
    if (!c || !can_apply(c, ap->part) || !guest_is_pending(c, ap->part)) {
        agent_commit(ap->agent, store_tx_new(), ap, on_noted);
        return;
    }
    ap->revision = revision_of(c, ap->part);
    run_job(ap, c);
}

void guest_apply(struct agent *a, struct container *c, enum guest_part part, void *owner, agent_done_fn *done)
{
    struct guest_apply *ap = mem_new(struct guest_apply), **at = &a->applies;
    bool busy = false;

    *ap = (struct guest_apply){.agent = a, .part = part, .owner = owner, .done = done};
    ap->container_id = str_dup(c->record.id);
    for (; *at; at = &(*at)->next)
        busy = busy || ((*at)->part == part && str_eq((*at)->container_id, c->record.id));
    *at = ap;
    if (!busy)
        begin(ap);
}

static void on_retried(void *owner, struct err *e)
{
    (void)owner;
    err_free(e); /* logged */
}

void guest_retry(struct agent *a, struct container *c)
{
    for (enum guest_part part = 0; part < GUEST_PARTS; part++)
        if (!a->stopping && guest_is_pending(c, part) && can_apply(c, part) &&
            !(part == GUEST_ENVIRONMENT && guest_is_exhausted(c)))
            guest_apply(a, c, part, NULL, on_retried);
}

json_t *guest_start_files(const struct container *c, int64_t ret_revisions[GUEST_PARTS])
{
    const struct container_record *r = &c->record;
    json_t *files = json_object();

    for (enum guest_part part = 0; part < GUEST_PARTS; part++)
        ret_revisions[part] = revision_of(c, part);
    if (guest_is_pending(c, GUEST_ENVIRONMENT))
        json_object_set(files, "environment", r->environment);
    if (guest_is_pending(c, GUEST_SSH_KEY))
        json_object_set_new(files, "ssh_public_key", r->ssh_public_key ? json_string(r->ssh_public_key) : json_null());
    if (!r->kits_linked)
        json_object_set(files, "kits", r->kits);
    if (json_object_size(files) > 0)
        return files;
    json_decref(files);
    return NULL;
}

static void on_start_noted(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "it is not recorded what a start brought; it is written again");
}

void guest_started(struct agent *a, struct container *c, const int64_t revisions[GUEST_PARTS], const json_t *result)
{
    const json_t *error = json_object_get(result, "environment_error");
    struct store_tx *tx = store_tx_new();

    if (error)
        note_environment(a, tx, c, revisions[GUEST_ENVIRONMENT], json_string_value(error));
    if (json_is_true(json_object_get(result, "ssh_written")))
        note_ssh_key(c, revisions[GUEST_SSH_KEY]);
    if (json_is_true(json_object_get(result, "kits_written")))
        c->record.kits_linked = true;
    if (!json_is_string(json_object_get(result, "ramdisk_error")))
        c->record.ramdisk_applied_revision = revisions[GUEST_RAMDISK];
    record_put(tx, c);
    agent_commit(a, tx, NULL, on_start_noted);
}
