/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "agent/egress.h"
#include "agent/relay_process.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"

enum {
    RETRY_MIN_MS = 100, /* until the next process, doubled each time */
    RETRY_MAX_MS = 30000,
    STEADY_MS = 60000, /* who ran that long begins with the shortest again */
    WAIT_MS = 4000,    /* for a first verdict about the proxy */
    DEADLINE_MS = 5000,
    CLEAN_MS = 50,
    CLEAN_TRIES = 40,
};

/* A child of ours until it is reaped; independent of what becomes of its relay. */
struct relay_child {
    struct agent *agent;
    struct relay_child *next;
    uv_poll_t poll;
    int pidfd;
    void *close_owner;
    void (*closed)(void *owner);
};

enum phase {
    IDLE,     /* no process; the timer brings the next one */
    STARTING, /* no hello yet; the timer is its deadline */
    UP,
    ENDING, /* asked to end; the timer is its deadline */
};

struct relay {
    struct agent *agent;
    struct relay *next;
    struct container *container; /* NULL: nobody wants it any more */
    int64_t slot;
    char *generation; /* of the configuration that the process has or gets */
    enum phase phase;
    int fd, pidfd;   /* its control stream, the process; -1 when idle */
    uv_poll_t *poll; /* under fd */
    uv_timer_t timer, wait;
    int open_handles;
    bool closing;
    struct frame_reader reader;
    int64_t up_since, retry_ms, checked_at;
    bool known, reachable;
    char *problem; /* when it is not reachable */
    json_t *udp;   /* what it said of datagrams last */
    void *owner;   /* who waits */
    agent_done_fn *done;
    void *close_owner;
    void (*closed)(void *owner);
};

/* --- the end of a child */

static void on_child_closed(uv_handle_t *h)
{
    struct relay_child *c = h->data, **at = &c->agent->relay_children;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    if (c->closed)
        c->closed(c->close_owner);
    close(c->pidfd);
    free(c);
}

static void on_child_exit(uv_poll_t *poll, int status, int events)
{
    struct relay_child *c = poll->data;
    int ignored;

    (void)status;
    (void)events;
    err_ignore(spawn_reap(c->pidfd, &ignored));
    uv_close((uv_handle_t *)poll, on_child_closed);
}

static void reap_later(struct agent *a, int pidfd)
{
    struct relay_child *c = mem_new(struct relay_child);

    *c = (struct relay_child){.agent = a, .next = a->relay_children, .pidfd = pidfd};
    a->relay_children = c;
    c->poll.data = c;
    if (uv_poll_init(a->loop, &c->poll, pidfd) != 0)
        abort();
    uv_poll_start(&c->poll, UV_READABLE, on_child_exit);
}

/* --- what is known */

struct relay_status relay_status(const struct container *c)
{
    const struct relay *r = c->relay;

    if (!r)
        return (struct relay_status){.problem = "the relay does not run", .checked_at = clock_wall_ms()};
    if (!r->known)
        return (struct relay_status){.problem = "the proxy has not answered yet"};
    return (struct relay_status){
        .reachable = r->reachable, .problem = r->problem, .checked_at = r->checked_at, .udp = r->udp};
}

static void on_event_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "an event is not recorded");
}

static void answer_waiter(struct relay *r)
{
    agent_done_fn *done = r->done;

    uv_timer_stop(&r->wait);
    r->done = NULL;
    if (done)
        done(r->owner, NULL);
}

/* problem NULL: the proxy works. A start that finds it working is told of by its operation. */
static void learn(struct relay *r, const char *problem, int64_t checked_at)
{
    bool reachable = problem == NULL;
    struct log_ctx ctx = {.container = r->container ? r->container->record.id : NULL};

    if (!r->container || !r->container->egress || r->agent->stopping)
        return;
    if (r->known ? r->reachable != reachable : !reachable) {
        struct store_tx *tx = store_tx_new();

        if (reachable)
            log_notice(&ctx, "the proxy of the container works again");
        else
            log_warning(&ctx, "the container has no way out: %s", problem);
        egress_event(r->agent, tx, r->container, reachable ? "running" : "failed");
        agent_commit(r->agent, tx, NULL, on_event_recorded);
    }
    r->known = true;
    r->reachable = reachable;
    r->checked_at = checked_at;
    str_set(&r->problem, problem);
    answer_waiter(r);
}

static void on_waited(uv_timer_t *timer)
{
    struct relay *r = timer->data;

    if (r->known)
        answer_waiter(r);
    else
        learn(r, "the proxy has not answered in time", clock_wall_ms());
}

void relay_wait(struct container *c, void *owner, agent_done_fn *done)
{
    struct relay *r = c->relay;

    r->owner = owner;
    r->done = done;
    uv_timer_start(&r->wait, on_waited, r->known ? 0 : WAIT_MS, 0);
}

/* --- handles */

static void on_closed(uv_handle_t *h)
{
    struct relay *r = h->data, **at = &r->agent->relays;

    if (--r->open_handles > 0)
        return;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (r->closed)
        r->closed(r->close_owner);
    free(r->generation);
    free(r->problem);
    json_decref(r->udp);
    free(r);
}

static void on_poll_closed(uv_handle_t *h)
{
    free(h);
}

/* The stream and the process are not ours to look at any more. */
static void let_go(struct relay *r)
{
    if (r->fd < 0)
        return;
    uv_close((uv_handle_t *)r->poll, on_poll_closed);
    close(r->fd);
    if (r->pidfd >= 0)
        close(r->pidfd);
    r->fd = r->pidfd = -1;
    frame_reader_done(&r->reader);
    r->phase = IDLE;
}

static void relay_close(struct relay *r)
{
    if (r->closing)
        return;
    r->closing = true;
    let_go(r);
    if (r->container)
        r->container->relay = NULL;
    r->container = NULL;
    uv_close((uv_handle_t *)&r->timer, on_closed);
    uv_close((uv_handle_t *)&r->wait, on_closed);
}

/* --- the process */

static void on_timer(uv_timer_t *timer);
static void start(struct relay *r, bool adopt);

static void try_later(struct relay *r)
{
    r->retry_ms = r->retry_ms ? MIN(2 * r->retry_ms, (int64_t)RETRY_MAX_MS) : RETRY_MIN_MS;
    uv_timer_start(&r->timer, on_timer, (uint64_t)r->retry_ms, 0);
}

static void died(struct relay *r, const char *problem)
{
    autofree char *text = str_dup(problem); /* it may be r->problem */
    enum phase phase = r->phase;

    if (phase == UP && clock_mono_ms() - r->up_since > STEADY_MS)
        r->retry_ms = 0;
    let_go(r);
    if (!r->container) {
        uv_timer_start(&r->timer, on_timer, CLEAN_MS, 0);
    } else if (phase == ENDING) { /* on our word */
        start(r, false);
    } else {
        learn(r, text, clock_wall_ms());
        try_later(r);
    }
}

static void quit(struct relay *r)
{
    relay_process_quit(r->fd);
    r->phase = ENDING;
    uv_timer_start(&r->timer, on_timer, DEADLINE_MS, 0);
}

static void take_hello(struct relay *r, const json_t *hello)
{
    autofree char *wanted = r->container ? relay_process_generation(r->container) : NULL;

    if (r->phase != STARTING)
        return;
    if (!str_eq(json_string_value(json_object_get(hello, "generation")), wanted)) {
        quit(r);
        return;
    }
    uv_timer_stop(&r->timer);
    r->phase = UP;
    r->up_since = clock_mono_ms();
}

/* A relay speaks with strangers: what it says is cut and cleaned before it gets into logs and replies. */
static char *problem_text(const char *said)
{
    char *text = str_fmt("%.200s", said ? said : "unknown");

    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f || (unsigned char)*p >= 0x80)
            *p = '?';
    return text;
}

static void take_frame(struct relay *r, const json_t *j)
{
    const json_t *hello = json_object_get(j, "hello"), *status = json_object_get(j, "status"),
                 *error = json_object_get(j, "error");

    if (hello)
        take_hello(r, hello);
    if (status && r->phase == UP) {
        autofree char *problem = problem_text(json_string_value(json_object_get(status, "problem")));

        json_decref(r->udp);
        r->udp = json_incref(json_object_get(status, "udp"));
        learn(r, json_is_true(json_object_get(status, "reachable")) ? NULL : problem,
              json_integer_value(json_object_get(status, "checked_at")));
    }
    if (error) {
        autoerr e = err_from_json(error);
        autofree char *problem = problem_text(e->message);

        learn(r, problem, clock_wall_ms());
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct relay *r = poll->data;
    char buf[4096];
    ssize_t n = read(r->fd, buf, sizeof(buf));
    struct err *e = NULL;

    (void)status;
    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        e = frame_reader_feed(&r->reader, buf, (size_t)n);
    while (n > 0 && !e) {
        autojson j = NULL;

        e = frame_reader_next(&r->reader, &j);
        if (e || !j)
            break;
        take_frame(r, j);
    }
    if (n <= 0 || e)
        died(r, r->phase == STARTING && r->problem ? r->problem : "the relay ended");
    err_free(e);
}

static void hold(struct relay *r, int fd, int pidfd)
{
    r->fd = fd;
    r->pidfd = pidfd;
    r->phase = STARTING;
    r->poll = mem_new(uv_poll_t);
    r->poll->data = r;
    if (uv_poll_init(r->agent->loop, r->poll, fd) != 0)
        abort();
    uv_poll_start(r->poll, UV_READABLE | UV_DISCONNECT, on_readable);
    uv_timer_start(&r->timer, on_timer, DEADLINE_MS, 0);
}

/* adopt: first look whether one runs already. */
static void start(struct relay *r, bool adopt)
{
    int pidfd = -1, fd = adopt ? relay_process_connect(r->agent->config->run_dir, r->slot, &pidfd) : -1;
    struct err *e;

    if (r->container)
        str_set(&r->generation, r->container->egress->record.generation);
    if (fd < 0 && !r->container) {
        uv_timer_start(&r->timer, on_timer, CLEAN_MS, 0);
        return;
    }
    if (fd < 0) {
        e = relay_process_start(r->agent, r->container, &fd, &pidfd);
        if (e) {
            learn(r, err_message(e), clock_wall_ms());
            err_free(e);
            try_later(r);
            return;
        }
        reap_later(r->agent, fcntl(pidfd, F_DUPFD_CLOEXEC, 3));
    }
    hold(r, fd, pidfd);
}

static void on_timer(uv_timer_t *timer)
{
    struct relay *r = timer->data;

    if (r->phase != IDLE) { /* a deadline; its end is seen as any other */
        (void)pidfd_send_signal(r->pidfd, SIGKILL, NULL, 0);
    } else if (r->container) {
        start(r, false);
    } else if (relay_process_clean(r->agent->config, r->slot) || r->retry_ms++ > CLEAN_TRIES) {
        relay_close(r);
    } else {
        uv_timer_start(&r->timer, on_timer, CLEAN_MS, 0);
    }
}

/* --- what others ask for */

static struct relay *relay_new(struct agent *a, struct container *c, int64_t slot)
{
    struct relay *r = mem_new(struct relay);

    *r = (struct relay){.agent = a, .container = c, .slot = slot, .fd = -1, .pidfd = -1, .open_handles = 2};
    uv_timer_init(a->loop, &r->timer);
    uv_timer_init(a->loop, &r->wait);
    r->timer.data = r->wait.data = r;
    if (c)
        c->relay = r;
    r->next = a->relays;
    a->relays = r;
    return r;
}

void relay_end(struct container *c)
{
    struct relay *r = c->relay;

    if (!r)
        return;
    c->relay = NULL;
    r->container = NULL;
    r->retry_ms = 0;
    answer_waiter(r);
    if (r->phase == IDLE)
        uv_timer_start(&r->timer, on_timer, CLEAN_MS, 0);
    else if (r->phase != ENDING)
        quit(r);
}

/* One of the slot that is on its way out: it is used again, for what it cleans up would be the next one's. */
static struct relay *ending(struct agent *a, int64_t slot)
{
    struct relay *r = a->relays;

    while (r && (r->slot != slot || r->closing))
        r = r->next;
    return r;
}

void relay_apply(struct agent *a, struct container *c)
{
    struct relay *r = c->relay;

    if (!egress_wants_relay(c->egress)) {
        relay_end(c);
        return;
    }
    if (!r && (r = ending(a, c->record.slot))) {
        r->container = c;
        c->relay = r;
        str_set(&r->generation, NULL);
    }
    if (!r) {
        start(relay_new(a, c, c->record.slot), true);
        return;
    }
    if (str_eq(r->generation, c->egress->record.generation))
        return;
    r->known = false;
    r->retry_ms = 0;
    if (r->phase == IDLE)
        start(r, false);
    else if (r->phase != ENDING)
        quit(r);
}

/* A relay that belongs to no container any more. */
static void found(void *owner, int64_t slot)
{
    struct agent *a = owner;
    const struct container *c = agent_find_by_slot(a, slot);

    if (!c || !c->relay)
        start(relay_new(a, NULL, slot), true);
}

void relay_adopt(struct agent *a)
{
    for (size_t i = 0; i < a->container_count; i++)
        relay_apply(a, a->containers[i]);
    relay_process_each(a->config->run_dir, found, a);
}

int relays_close(struct agent *a, void *owner, void (*closed)(void *owner))
{
    int count = 0;

    for (struct relay *r = a->relays; r; r = r->next, count++) {
        r->close_owner = owner;
        r->closed = closed;
        relay_close(r);
    }
    for (struct relay_child *c = a->relay_children; c; c = c->next, count++) {
        c->close_owner = owner;
        c->closed = closed;
        if (!uv_is_closing((uv_handle_t *)&c->poll))
            uv_close((uv_handle_t *)&c->poll, on_child_closed);
    }
    return count;
}
