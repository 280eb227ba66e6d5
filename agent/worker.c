/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/frame.h"
#include "base/spawn.h"
#include "base/str.h"

struct worker {
    struct workers *owner_set;
    struct worker *next; /* in the waiting queue */
    enum job_kind kind;
    json_t *request;
    int64_t deadline_ms;
    struct worker_io io;
    void *owner;
    worker_done_fn *done;
    struct err *start_error;

    pid_t pid;
    int pidfd, sock;
    uv_poll_t exit_poll, sock_poll;
    uv_timer_t timer;
    int open_handles;
    struct frame_reader reader;
    char *out; /* request bytes still to send */
    size_t out_len, out_sent;
    json_t *result;
    bool timed_out, exited;
    int status;
    struct err *protocol_error;
};

struct workers {
    uv_loop_t *loop;
    char *program;
    size_t max_running, running, waiting;
    struct worker *head, **tail;
};

struct workers *workers_new(uv_loop_t *loop, const char *program, size_t max_running)
{
    struct workers *w = mem_new(struct workers);

    w->loop = loop;
    w->program = str_dup(program);
    w->max_running = max_running;
    w->tail = &w->head;
    return w;
}

void workers_free(struct workers *w)
{
    if (!w)
        return;
    assert(workers_count(w) == 0);
    free(w->program);
    free(w);
}

size_t workers_count(const struct workers *w)
{
    return w->running + w->waiting;
}

static void start_waiting(struct workers *set);

/* The verdict over a worker that has ended. */
static struct err *outcome(struct worker *w, json_t **ret_result)
{
    const char *name = job_info(w->kind)->name;
    json_t *ok, *error;

    *ret_result = NULL;
    if (w->start_error)
        return steal(&w->start_error);
    if (w->timed_out)
        return err_reason(
            err_new(ERR_TIMEOUT, "%s took longer than %lld ms and was killed", name, (long long)w->deadline_ms),
            "CONTAINER_HOST_TIMEOUT");
    if (w->protocol_error)
        return err_recode(err_wrap(steal(&w->protocol_error), "%s", name), ERR_INTERNAL);
    error = json_object_get(w->result, "error");
    if (error)
        return err_from_json(error);
    if (WIFSIGNALED(w->status))
        return err_new(ERR_INTERNAL, "%s: the worker was killed by signal %d", name, WTERMSIG(w->status));
    if (WEXITSTATUS(w->status) != 0)
        return err_new(ERR_INTERNAL, "%s: the worker ended with status %d", name, WEXITSTATUS(w->status));
    ok = json_object_get(w->result, "ok");
    if (!ok)
        return err_new(ERR_INTERNAL, "%s: the worker ended without a result", name);
    *ret_result = json_incref(ok);
    return NULL;
}

static void finish(struct worker *w)
{
    struct workers *set = w->owner_set;
    json_t *result;
    struct err *e = outcome(w, &result);

    set->running--;
    start_waiting(set);
    w->done(w->owner, e, result);
    frame_reader_done(&w->reader);
    json_decref(w->result);
    json_decref(w->request);
    err_free(w->protocol_error);
    free(w->out);
    free(w);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct worker *w = h->data;

    if (--w->open_handles == 0) {
        close(w->pidfd);
        close(w->sock);
        finish(w);
    }
}

static void close_all(struct worker *w)
{
    uv_close((uv_handle_t *)&w->timer, on_handle_closed);
    uv_close((uv_handle_t *)&w->exit_poll, on_handle_closed);
    uv_close((uv_handle_t *)&w->sock_poll, on_handle_closed);
}

static void tell_progress(const struct worker *w, const json_t *progress)
{
    if (w->io.progress)
        w->io.progress(w->owner, json_integer_value(json_object_get(progress, "done")),
                       json_integer_value(json_object_get(progress, "total")));
}

/* Takes what can be read now; the last result frame counts. */
static void drain(struct worker *w)
{
    char buf[16384];

    while (!w->protocol_error) {
        ssize_t n = read(w->sock, buf, sizeof(buf));
        json_t *frame = NULL;

        if (n <= 0)
            return;
        w->protocol_error = frame_reader_feed(&w->reader, buf, (size_t)n);
        while (!w->protocol_error) {
            w->protocol_error = frame_reader_next(&w->reader, &frame);
            if (!frame)
                break;
            if (json_object_get(frame, "progress")) {
                tell_progress(w, json_object_get(frame, "progress"));
                json_decref(frame);
            } else {
                json_decref(w->result);
                w->result = frame;
            }
        }
    }
    (void)pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
}

static void on_sock(uv_poll_t *poll, int status, int events);

static void send_more(struct worker *w)
{
    while (w->out_sent < w->out_len) {
        ssize_t n = send(w->sock, w->out + w->out_sent, w->out_len - w->out_sent, MSG_NOSIGNAL);

        if (n < 0)
            break; /* EAGAIN: wait; anything else: the exit will tell */
        w->out_sent += (size_t)n;
    }
    uv_poll_start(&w->sock_poll, UV_READABLE | (w->out_sent < w->out_len ? UV_WRITABLE : 0), on_sock);
}

static void on_sock(uv_poll_t *poll, int status, int events)
{
    struct worker *w = poll->data;

    if (status == 0 && (events & UV_WRITABLE))
        send_more(w);
    if (status == 0 && (events & UV_READABLE)) {
        char probe;

        drain(w);
        if (recv(w->sock, &probe, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
            uv_poll_stop(&w->sock_poll); /* closed; the exit follows */
    } else if (status != 0) {
        uv_poll_stop(&w->sock_poll);
    }
}

static void on_child_exit(uv_poll_t *poll, int status, int events)
{
    struct worker *w = poll->data;
    struct err *e;

    (void)status;
    (void)events;
    uv_poll_stop(poll);
    e = spawn_reap(w->pidfd, &w->status);
    w->exited = true;
    drain(w);
    if (e)
        w->protocol_error = err_first(w->protocol_error, e);
    close_all(w);
}

static void on_deadline(uv_timer_t *timer)
{
    struct worker *w = timer->data;

    w->timed_out = true;
    (void)pidfd_send_signal(w->pidfd, SIGKILL, NULL, 0);
}

static struct err *launch(struct worker *w)
{
    const char *argv[] = {"noded-worker", job_info(w->kind)->name, NULL};
    struct spawn s = SPAWN_INIT;
    autofree char *text = json_dumps(w->request, JSON_COMPACT);
    struct err *e;
    int pair[2];

    if (!text)
        return err_new(ERR_INTERNAL, "a job request cannot be written as JSON");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(errno, "socketpair");
    s.path = w->owner_set->program;
    s.argv = argv;
    s.fd3 = pair[1];
    s.fd4 = w->io.stream;
    e = spawn_start(&s, &w->pid, &w->pidfd);
    close(pair[1]);
    fd_closep(&w->io.stream);
    w->io.stream = -1;
    if (e) {
        close(pair[0]);
        return e;
    }
    w->sock = pair[0];
    (void)fcntl(w->sock, F_SETFL, O_NONBLOCK);
    w->out_len = strlen(text) + 4;
    w->out = mem_new_array(char, w->out_len);
    frame_store_length((unsigned char *)w->out, (uint32_t)(w->out_len - 4));
    memcpy(w->out + 4, text, w->out_len - 4);
    return NULL;
}

static void on_start_failed(uv_handle_t *h)
{
    finish(h->data);
}

/* It ends with e, on the loop and later, as if it had run. */
static void start_nothing(struct worker *w, struct err *e)
{
    w->owner_set->running++;
    w->start_error = e;
    uv_timer_init(w->owner_set->loop, &w->timer);
    w->timer.data = w;
    uv_close((uv_handle_t *)&w->timer, on_start_failed);
}

static void start_one(struct worker *w)
{
    uv_loop_t *loop = w->owner_set->loop;
    struct err *e = launch(w);

    if (e) {
        start_nothing(w, e);
        return;
    }
    w->owner_set->running++;
    uv_timer_init(loop, &w->timer);
    w->timer.data = w;
    w->open_handles = 3;
    w->exit_poll.data = w->sock_poll.data = w;
    if (uv_poll_init(loop, &w->exit_poll, w->pidfd) != 0 || uv_poll_init(loop, &w->sock_poll, w->sock) != 0)
        abort();
    uv_poll_start(&w->exit_poll, UV_READABLE, on_child_exit);
    uv_timer_start(&w->timer, on_deadline, (uint64_t)w->deadline_ms, 0);
    send_more(w);
}

static void start_waiting(struct workers *set)
{
    while (set->head && set->running < set->max_running) {
        struct worker *w = set->head;

        set->head = w->next;
        if (!set->head)
            set->tail = &set->head;
        set->waiting--;
        start_one(w);
    }
}

struct worker *workers_run(struct workers *set, enum job_kind kind, json_t *request, int64_t extra_ms,
                           const struct worker_io *io, void *owner, worker_done_fn *done)
{
    struct worker *w = mem_new(struct worker);

    *w = (struct worker){.owner_set = set,
                         .kind = kind,
                         .request = request,
                         .io = io ? *io : (struct worker_io){.stream = -1},
                         .owner = owner,
                         .done = done,
                         .deadline_ms = job_info(kind)->deadline_ms + extra_ms,
                         .pidfd = -1,
                         .sock = -1};
    *set->tail = w;
    set->tail = &w->next;
    set->waiting++;
    start_waiting(set);
    return w;
}

static void leave_queue(struct worker *w)
{
    struct workers *set = w->owner_set;
    struct worker **at = &set->head;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (!*at)
        set->tail = at;
    set->waiting--;
}

void worker_hang_up(struct worker *w)
{
    if (w->exited || w->start_error)
        return;
    if (w->pidfd < 0) {
        leave_queue(w);
        fd_closep(&w->io.stream);
        start_nothing(w, err_new(ERR_CANCELLED, "%s was not begun", job_info(w->kind)->name));
        return;
    }
    (void)shutdown(w->sock, SHUT_WR);
    w->out_len = w->out_sent; /* what was still to be sent is not */
    send_more(w);
    uv_timer_start(&w->timer, on_deadline, (uint64_t)job_info(w->kind)->deadline_ms, 0);
}
