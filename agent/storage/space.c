/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/storage/space.h"
#include "agent/ticker.h"

#include <sys/stat.h>

#include "agent/events/event.h"
#include "agent/storage/reclaim.h"
#include "base/log.h"
#include "base/str.h"

#define PERIOD_MS 1000
/* Commits, their log and its checkpoints; what frees things goes on below this. */
#define STATE_RESERVE (INT64_C(16) << 20)
#define REMEDY "delete containers or snapshots, or let the pool grow with \"nodectl storage grow\""
#define REMEDY_STATE "make room in the file system of the state directory"
#define REMEDY_MISSING "mount the pool again and restart noded"

static const char *const words[] = {
    [SPACE_OK] = "ok", [SPACE_LOW] = "low", [SPACE_FULL] = "full", [SPACE_MISSING] = "missing"};

struct space {
    struct agent *agent;
    struct ticker ticker;
    enum space_state state;
    bool state_disk_full;
};

struct room {
    int64_t total, free;
    bool missing;
};

bool space_pool(const struct agent *a, struct statvfs *ret)
{
    *ret = (struct statvfs){0};
    return a->locks.pool >= 0 && fstatvfs(a->locks.pool, ret) == 0;
}

/* The lock is a file of the pool that was opened at the start; the path may lead somewhere else by now. */
static bool is_mounted(const struct agent *a)
{
    autofree char *path = str_fmt("%s/lock", a->config->pool);
    struct stat held, there;

    return a->locks.pool < 0 || fstat(a->locks.pool, &held) < 0 ||
           (stat(path, &there) == 0 && there.st_ino == held.st_ino && there.st_dev == held.st_dev);
}

/* Answered from the kernel's memory. A figure that cannot be read counts as room: the check must not refuse then. */
static struct room look_around(const struct agent *a)
{
    struct room r = {INT64_MAX, INT64_MAX, false};
    struct statvfs fs;

    if (space_pool(a, &fs))
        r = (struct room){(int64_t)(fs.f_blocks * fs.f_frsize), (int64_t)(fs.f_bavail * fs.f_frsize), !is_mounted(a)};
    if (a->config->loop_file && statvfs(a->config->loop_file, &fs) == 0)
        r.free = MIN(r.free, (int64_t)(fs.f_bavail * fs.f_frsize));
    return r;
}

static int64_t state_room(const struct agent *a)
{
    struct statvfs fs;

    return statvfs(a->config->state_dir, &fs) == 0 ? (int64_t)(fs.f_bavail * fs.f_frsize) : INT64_MAX;
}

static enum space_state judge_room(const struct config *c, const struct room *r)
{
    if (r->missing)
        return SPACE_MISSING;
    if (r->free < c->reserve)
        return SPACE_FULL;
    return r->free / 100 < r->total / 10000 * c->low_percent ? SPACE_LOW : SPACE_OK;
}

enum space_state space_state(const struct agent *a)
{
    const struct room r = look_around(a);

    return judge_room(a->config, &r);
}

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "an event about the pool is not recorded");
}

static void tell(struct agent *a, const char *component, const char *state, const struct room *r, const char *remedy)
{
    struct store_tx *tx = store_tx_new();

    event_add_for(a, tx, "server.health_changed", "server", a->node_id, NULL, NULL,
                  json_pack("{s:s, s:s, s:I, s:I, s:s?}", "component", component, "state", state, "total_bytes",
                            (json_int_t)r->total, "free_bytes", (json_int_t)r->free, "remedy", remedy));
    agent_commit(a, tx, NULL, on_recorded);
}

static void tell_pool(struct agent *a, enum space_state state, const struct room *r)
{
    long long mib = (long long)r->free >> 20;

    if (state == SPACE_OK)
        log_notice(NULL, "the pool has room again: %lld MiB", mib);
    else if (state == SPACE_MISSING)
        log_error(NULL, "the pool is not mounted at '%s' any more; nothing new is begun: " REMEDY_MISSING,
                  a->config->pool);
    else
        log_warning(NULL, "the pool has %lld MiB left%s: " REMEDY, mib,
                    state == SPACE_FULL ? ", nothing new is begun" : "");
    tell(a, "storage", words[state], r, state == SPACE_OK ? NULL : state == SPACE_MISSING ? REMEDY_MISSING : REMEDY);
}

/* A full state directory cannot record an event, so the log says it first. */
static void look_at_state_disk(struct space *s)
{
    const struct room r = {.free = state_room(s->agent)};
    bool full = r.free < (s->state_disk_full ? STATE_RESERVE + STATE_RESERVE / 10 : STATE_RESERVE);

    if (full == s->state_disk_full)
        return;
    s->state_disk_full = full;
    if (full)
        log_error(NULL, "the file system of '%s' has %lld MiB left; nothing new is begun: " REMEDY_STATE,
                  s->agent->config->state_dir, (long long)r.free >> 20);
    else
        log_notice(NULL, "the file system of '%s' has room again", s->agent->config->state_dir);
    tell(s->agent, "state_disk", full ? "full" : "ok", &r, full ? REMEDY_STATE : NULL);
}

/* Back from a state only with a tenth more than it takes to get there: at the edge there would be an event a second. */
static void on_timer(uv_timer_t *timer)
{
    struct space *s = timer->data;
    const struct config *c = s->agent->config;
    const struct room r = look_around(s->agent), less = {r.total, r.free - r.free / 11, r.missing};
    enum space_state now = judge_room(c, &r);

    if (s->agent->stopping)
        return;
    look_at_state_disk(s);
    if (now < s->state)
        now = MAX(now, judge_room(c, &less));
    if (now == s->state)
        return;
    s->state = now;
    tell_pool(s->agent, now, &r);
}

static struct err *refuse(struct err *e)
{
    return err_reason(e, "CONTAINER_HOST_COMMAND_FAILED");
}

struct err *space_check(const struct agent *a)
{
    const struct room r = look_around(a);
    enum space_state state = judge_room(a->config, &r);

    if (state == SPACE_MISSING)
        return refuse(err_new(ERR_HOST, "The pool is not mounted at '%s' any more: " REMEDY_MISSING, a->config->pool));
    if (state == SPACE_FULL)
        return refuse(err_new(ERR_HOST, "The pool is full: %lld MiB are left, %lld are kept in reserve; " REMEDY,
                              (long long)r.free >> 20, (long long)a->config->reserve >> 20));
    if (state_room(a) < STATE_RESERVE)
        return refuse(err_new(ERR_HOST, "The file system of the state directory is full: " REMEDY_STATE));
    return reclaim_check(a);
}

json_t *space_json(const struct agent *a)
{
    const struct room r = look_around(a);

    return json_pack("{s:s, s:I, s:I, s:I, s:I}", "state", words[judge_room(a->config, &r)], "total_bytes",
                     (json_int_t)r.total, "free_bytes", (json_int_t)r.free, "reserve_bytes",
                     (json_int_t)a->config->reserve, "low_percent", (json_int_t)a->config->low_percent);
}

json_t *space_health(const struct agent *a)
{
    int64_t room = state_room(a);

    return json_pack("{s:s, s:{s:s, s:I}}", "pool", a->locks.pool < 0 ? words[SPACE_MISSING] : words[space_state(a)],
                     "state_disk", "state", room < STATE_RESERVE ? words[SPACE_FULL] : words[SPACE_OK], "free_bytes",
                     (json_int_t)room);
}

struct space *space_start(struct agent *a)
{
    struct space *s = mem_new(struct space);

    s->agent = a;
    ticker_init(&s->ticker, a->loop, s);
    uv_timer_start(&s->ticker.timer, on_timer, 0, PERIOD_MS);
    return s;
}

void space_close(struct space *s, void *owner, void (*closed)(void *owner))
{
    ticker_close(&s->ticker, free, owner, closed);
}
