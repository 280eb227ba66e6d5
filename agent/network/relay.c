/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/relay_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "agent/network/egress.h"
#include "agent/network/relay_process.h"
#include "base/clock.h"
#include "base/str.h"

enum {
    RETRY_MIN_MS = 100, /* until the next process, doubled each time */
    RETRY_MAX_MS = 30000,
    STEADY_MS = 60000, /* who ran that long begins with the shortest again */
    DEADLINE_MS = 5000,
    CLEAN_MS = 50,
    CLEAN_TRIES = 40,
};

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
        relay_learn(r, text, clock_wall_ms());
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
    autofree char *wanted = r->container ? relay_process_generation(r->agent, r->container) : NULL;

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

static void take_frame(struct relay *r, const json_t *j)
{
    const json_t *hello = json_object_get(j, "hello"), *status = json_object_get(j, "status"),
                 *error = json_object_get(j, "error");

    if (hello)
        take_hello(r, hello);
    if (status && r->phase == UP)
        relay_learn_status(r, status);
    if (error)
        relay_learn_error(r, error);
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
            relay_learn(r, err_message(e), clock_wall_ms());
            err_free(e);
            try_later(r);
            return;
        }
        relay_child_watch(r->agent, fcntl(pidfd, F_DUPFD_CLOEXEC, 3));
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
    relay_answer_waiter(r);
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
    return count + relay_children_close(a, owner, closed);
}
