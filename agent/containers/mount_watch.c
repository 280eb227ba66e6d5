/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/mount_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include "agent/containers/guest.h"
#include "agent/containers/share.h"
#include "agent/events/event.h"
#include "agent/kits/watch.h"
#include "agent/ticker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

enum {
    PERIOD_MS = 250,
    JOBS_MAX = 2,
    FIRST_MS = 3000,   /* while it boots a container mounts a lot */
    SETTLE_MS = 500,   /* from a change to the look: a container that shuts down unmounts too, and has ended by then */
    AGAIN_MS = 1000,   /* between questions of one that is on its way down */
    GAP_MIN_MS = 1000, /* between two looks at one container; twice as long each time it has changed again */
    GAP_MAX_MS = 16000,
    BLIND_MS = 60000, /* between looks where the kernel does not tell of changes */
    PROMPT_MAX = 5,   /* so often what is gone is mounted again at once, within: */
    WINDOW_MS = 600000,
    SLOW_MS = 60000 /* afterwards, and after a failure */
};

struct mount_watch {
    struct agent *agent;
    struct ticker ticker;
    int running;
};

/* Of a container, as long as one init lives. While a change waits for its look the poll is stopped, so that further
 * ones cost nothing. */
struct mount_state {
    uv_poll_t poll;
    int fd;                      /* -1: the kernel does not tell */
    int64_t due_ms;              /* of the next look, 0: nothing has changed. Monotonic, as all here */
    int64_t looked_ms, gap_ms;   /* of the last one */
    int64_t window_ms, tried_ms; /* since when it counts; the last time it was mounted again */
    int64_t covered_ms;          /* the last time that something was told to be covered */
    int count;
    bool busy, slow, blind;
    json_t *covered, *problems; /* that were told last; NULL: none */
};

struct question {
    struct mount_watch *watch;
    char *id;
    int64_t init_pid;
    bool with_shares;
};

static void on_closed(uv_handle_t *h)
{
    struct mount_state *s = h->data;

    if (s->fd >= 0)
        close(s->fd);
    json_decref(s->covered);
    json_decref(s->problems);
    free(s);
}

/* The namespace lives as long as the fd: it closes with the init's end. */
void mount_watch_end(struct container *c)
{
    struct mount_state *s = c->mounts;

    c->mounts = NULL;
    if (s && s->fd >= 0)
        uv_close((uv_handle_t *)&s->poll, on_closed);
    else if (s)
        on_closed((uv_handle_t *)&s->poll);
}

static void be_due(struct mount_state *s, int64_t ms)
{
    if (!s->due_ms || ms < s->due_ms)
        s->due_ms = ms;
}

static void on_changed(uv_poll_t *poll, int status, int events)
{
    struct mount_state *s = poll->data;

    (void)status;
    (void)events;
    uv_poll_stop(poll);
    if (!s->due_ms)
        s->due_ms = MAX(clock_mono_ms() + SETTLE_MS, s->looked_ms + s->gap_ms);
}

void mount_watch_begin(struct agent *a, struct container *c)
{
    autofree char *path = str_fmt("/proc/%lld/mountinfo", (long long)c->init_pid);
    struct mount_state *s = mem_new(struct mount_state);

    mount_watch_end(c);
    *s = (struct mount_state){
        .fd = open(path, O_RDONLY | O_CLOEXEC), .due_ms = clock_mono_ms() + FIRST_MS, .gap_ms = GAP_MIN_MS};
    s->poll.data = s;
    if (s->fd >= 0 && uv_poll_init(a->loop, &s->poll, s->fd) != 0) {
        close(s->fd);
        s->fd = -1;
    }
    c->mounts = s;
}

static struct question *ask(struct mount_watch *w, struct container *c)
{
    struct question *q = mem_new(struct question);

    *q = (struct question){.watch = w, .id = str_dup(c->record.id), .init_pid = c->init_pid};
    c->mounts->busy = true;
    w->running++;
    return q;
}

/* Frees the question. The container, if it is the one with the same init still; else NULL. */
static struct container *answered(struct question *q)
{
    struct container *c = agent_find_any(q->watch->agent, q->id);

    q->watch->running--;
    if (c && c->mounts && c->init_pid == q->init_pid)
        c->mounts->busy = false;
    else if (c && q->with_shares)
        share_mounts_end(q->watch->agent, c, NULL);
    if (c && (!c->mounts || c->init_pid != q->init_pid))
        c = NULL;
    free(q->id);
    free(q);
    return c;
}

/* What a pending change of the ramdisk brings is not there yet. */
static void run(struct mount_watch *w, struct container *c, enum job_kind kind, json_t *shares, worker_done_fn *done)
{
    const struct config *config = w->agent->config;
    const struct job_mounts args = {
        .id_base = container_id_base(config, c),
        .ramdisk_bytes = c->record.ramdisk && !guest_is_pending(c, GUEST_RAMDISK) ? config->ramdisk_size : 0,
        .ramdisk_project = guest_ramdisk_project(c),
        .kits = json_array_size(c->record.kits) > 0,
        .shares = shares,
        .ask = c->record.status == CONTAINER_RUNNING};
    struct question *q = ask(w, c);

    q->with_shares = kind == JOB_MOUNTS_RESTORE;
    if (kind == JOB_MOUNTS_RESTORE)
        agent_wait_job(w->agent, kind, c->record.slot, &args, 0, q, done);
    else
        agent_job(w->agent, kind, c->record.slot, &args, 0, q, done);
    json_decref(shares);
}

static void on_told(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e, "the event of a container's mounts is not recorded");
}

/* payload is taken over. */
static void tell(struct agent *a, const struct container *c, const char *type, json_t *payload)
{
    struct store_tx *tx = store_tx_new();

    event_add(a, tx, type, c, payload);
    agent_commit(a, tx, NULL, on_told);
}

/* Whether it is another list or object than the one that was told last, and not empty. */
static bool is_news(json_t **told, json_t *now, size_t size)
{
    bool news = size > 0 && !(*told && json_equal(*told, now));

    json_decref(*told);
    *told = size > 0 ? json_incref(now) : NULL;
    return news;
}

/* What comes and goes is told once a minute. */
static void tell_covered(struct agent *a, struct container *c, json_t *covered)
{
    autofree char *text = json_dumps(covered, JSON_COMPACT);
    struct mount_state *s = c->mounts;
    int64_t now = clock_mono_ms();

    if (json_array_size(covered) > 0 && s->covered_ms && now - s->covered_ms < SLOW_MS) {
        be_due(s, s->covered_ms + SLOW_MS);
        return;
    }
    if (!is_news(&s->covered, covered, json_array_size(covered)))
        return;
    s->covered_ms = now;
    log_warning(&(struct log_ctx){.container = c->record.id},
                "mounts of the container's own are over those of the node: %s", text ? text : "");
    tell(a, c, "container.mounts.covered", json_pack("{s:O}", "mounts", covered));
}

static void tell_restored(struct agent *a, struct container *c, json_t *restored, json_t *problems)
{
    struct mount_state *s = c->mounts;
    const struct log_ctx ctx = {.container = c->record.id};
    autofree char *there = json_dumps(restored, JSON_COMPACT), *gone = json_dumps(problems, JSON_COMPACT);

    if (json_array_size(restored) > 0) {
        log_warning(&ctx, "unmounted inside, mounted again: %s%s", there ? there : "",
                    s->slow ? "; too often of late, so not more than once a minute from now on" : "");
        tell(a, c, "container.mounts.restored", json_pack("{s:O, s:b}", "mounts", restored, "slowed", s->slow));
    }
    if (is_news(&s->problems, problems, json_object_size(problems))) {
        log_warning(&ctx, "unmounted inside, cannot be mounted again: %s", gone ? gone : "");
        tell(a, c, "container.mounts.failed", json_pack("{s:O}", "problems", problems));
    }
}

static void on_restored(void *owner, struct err *e, json_t *result)
{
    struct question *q = owner;
    struct agent *a = q->watch->agent;
    struct container *c = answered(q);
    json_t *restored = json_object_get(result, "restored"), *problems = json_object_get(result, "problems");

    if (c) {
        share_mounts_end(a, c, json_object_get(result, "shares"));
        if (json_is_true(json_object_get(result, "stopping"))) {
            c->mounts->count--;
            be_due(c->mounts, clock_mono_ms() + AGAIN_MS);
        } else if (e || json_object_size(problems) > 0) {
            be_due(c->mounts, clock_mono_ms() + SLOW_MS);
        }
        if (restored)
            tell_restored(a, c, restored, problems);
        if (json_has_string(restored, JOB_MOUNTS_KITS))
            kit_watch_again(a, c);
        guest_retry(a, c);                   /* a change of the ramdisk may have come in between */
        if (e && e->code != ERR_WRONG_STATE) /* it is just ending */
            log_warning(&(struct log_ctx){.container = c->record.id},
                        "what was unmounted inside is not mounted again, trying again in a minute: %s", err_message(e));
    }
    err_ignore(e);
    json_decref(result);
}

/* Whether it may be mounted again now; else it is due later. */
static bool may_restore(struct mount_state *s)
{
    int64_t now = clock_mono_ms();

    if (!s->count || now - s->window_ms > WINDOW_MS) {
        s->count = 0;
        s->window_ms = now;
    }
    s->slow = s->count >= PROMPT_MAX;
    if (s->slow && now - s->tried_ms < SLOW_MS) {
        be_due(s, s->tried_ms + SLOW_MS);
        return false;
    }
    s->count++;
    s->tried_ms = now;
    return true;
}

static void restore(struct mount_watch *w, struct container *c, const json_t *lost)
{
    json_t *shares;

    if (c->op || c->shares_busy) {
        be_due(c->mounts, clock_mono_ms() + SETTLE_MS);
        return;
    }
    /* What the kits said of their health no longer counts; the kit watch asks them again. */
    if (json_has_string(lost, JOB_MOUNTS_KITS))
        kit_watch_begin(w->agent, c);
    if (!may_restore(c->mounts))
        return;
    shares = share_mounts_begin(w->agent, c);
    run(w, c, JOB_MOUNTS_RESTORE, shares, on_restored);
}

static void on_looked(void *owner, struct err *e, json_t *result)
{
    struct question *q = owner;
    struct mount_watch *w = q->watch;
    struct container *c = answered(q);
    json_t *lost = json_object_get(result, "lost");

    if (c && e) {
        if (!c->mounts->blind && e->code != ERR_WRONG_STATE)
            log_warning(&(struct log_ctx){.container = c->record.id}, "its mounts cannot be looked at: %s",
                        err_message(e));
        c->mounts->blind = true;
    } else if (c && !w->agent->stopping) {
        c->mounts->blind = false;
        tell_covered(w->agent, c, json_object_get(result, "covered"));
        if (json_array_size(lost) > 0)
            restore(w, c, lost);
    }
    err_ignore(e);
    json_decref(result);
}

static void look(struct mount_watch *w, struct container *c, int64_t now)
{
    struct mount_state *s = c->mounts;

    s->gap_ms = now - s->looked_ms < 2 * s->gap_ms ? MIN(2 * s->gap_ms, GAP_MAX_MS) : GAP_MIN_MS;
    s->looked_ms = now;
    s->due_ms = 0;
    if (s->fd >= 0) /* before the job looks: what changes meanwhile is another change */
        uv_poll_start(&s->poll, UV_PRIORITIZED, on_changed);
    run(w, c, JOB_MOUNTS_LOOK, share_mounts_wanted(w->agent, c), on_looked);
}

static void on_timer(uv_timer_t *timer)
{
    struct mount_watch *w = timer->data;
    struct agent *a = w->agent;
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < a->container_count && w->running < JOBS_MAX && !a->stopping; i++) {
        struct container *c = a->containers[i];
        struct mount_state *s = c->mounts;

        if (!s || s->busy || c->op || !container_is_up(c))
            continue;
        if ((s->due_ms && s->due_ms <= now) || (s->fd < 0 && now - s->looked_ms >= BLIND_MS))
            look(w, c, now);
    }
}

struct mount_watch *mount_watch_start(struct agent *a)
{
    struct mount_watch *w = mem_new(struct mount_watch);

    w->agent = a;
    ticker_init(&w->ticker, a->loop, w);
    uv_timer_start(&w->ticker.timer, on_timer, PERIOD_MS, PERIOD_MS);
    return w;
}

void mount_watch_close(struct mount_watch *w, void *owner, void (*closed)(void *owner))
{
    ticker_close(&w->ticker, free, owner, closed);
}
