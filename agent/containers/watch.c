/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/watch.h"

#include <sys/pidfd.h>
#include <unistd.h>

#include "agent/containers/mount_watch.h"
#include "agent/operations/operation.h"

struct init_watch {
    struct agent *agent;
    struct container *container; /* NULL once it is stopped */
    uv_poll_t poll;
    int pidfd;
};

static void on_closed(uv_handle_t *h)
{
    struct init_watch *w = h->data;

    close(w->pidfd);
    free(w);
}

static void end(struct init_watch *w)
{
    if (w->container) {
        w->container->watch = NULL;
        mount_watch_end(w->container);
    }
    w->container = NULL;
    uv_close((uv_handle_t *)&w->poll, on_closed);
}

static void on_init_ended(uv_poll_t *poll, int status, int events)
{
    struct init_watch *w = poll->data;
    struct container *c = w->container;
    struct agent *a = w->agent;

    (void)status;
    (void)events;
    end(w);
    if (!c->op)
        watch_after_operation(a, c);
}

void watch_start(struct agent *a, struct container *c, int64_t init_pid)
{
    struct init_watch *w;
    int pidfd = pidfd_open((pid_t)init_pid, 0);

    watch_stop(c);
    c->init_pid = init_pid;
    if (pidfd < 0)
        return; /* it has ended already: watch_after_operation sees a container that is up without a watch */
    w = mem_new(struct init_watch);
    *w = (struct init_watch){.agent = a, .container = c, .pidfd = pidfd};
    w->poll.data = w;
    if (uv_poll_init(a->loop, &w->poll, pidfd) != 0)
        abort();
    uv_poll_start(&w->poll, UV_READABLE, on_init_ended);
    c->watch = w;
    mount_watch_begin(a, c);
}

void watch_stop(struct container *c)
{
    c->init_pid = 0;
    if (c->watch)
        end(c->watch);
}

void watch_after_operation(struct agent *a, struct container *c)
{
    if (c->op || c->watch || a->stopping || !container_is_up(c))
        return;
    operation_start(operation_new(a, &op_settle, c, NULL, "system"), NULL);
}
