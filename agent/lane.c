/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/lane.h"

#include <assert.h>

struct piece {
    struct piece *next;
    struct lane *lane;
    lane_work_fn *work;
    lane_done_fn *done;
    void *arg;
    struct err *e;
    uv_work_t req;
};

struct lane {
    uv_loop_t *loop;
    const char *name;
    struct piece *head, **tail; /* head is the one that runs */
    size_t length;
};

static void run_head(struct lane *lane);

static void on_pool(uv_work_t *req)
{
    struct piece *p = req->data;

    p->e = p->work(p->arg);
}

static void after_pool(uv_work_t *req, int status)
{
    struct piece *p = req->data;
    struct lane *lane = p->lane;

    if (status != 0)
        abort(); /* pieces are never cancelled */
    lane->head = p->next;
    if (!lane->head)
        lane->tail = &lane->head;
    lane->length--;
    if (lane->head)
        run_head(lane);
    p->done(p->arg, p->e);
    free(p);
}

static void run_head(struct lane *lane)
{
    lane->head->req.data = lane->head;
    if (uv_queue_work(lane->loop, &lane->head->req, on_pool, after_pool) != 0)
        abort();
}

struct lane *lane_new(uv_loop_t *loop, const char *name)
{
    struct lane *lane = mem_new(struct lane);

    lane->loop = loop;
    lane->name = name;
    lane->tail = &lane->head;
    return lane;
}

void lane_submit(struct lane *lane, lane_work_fn *work, void *arg, lane_done_fn *done)
{
    struct piece *p = mem_new(struct piece);
    bool idle = !lane->head;

    *p = (struct piece){.lane = lane, .work = work, .done = done, .arg = arg};
    *lane->tail = p;
    lane->tail = &p->next;
    lane->length++;
    if (idle)
        run_head(lane);
}

size_t lane_length(const struct lane *lane)
{
    return lane->length;
}

void lane_free(struct lane *lane)
{
    if (!lane)
        return;
    assert(!lane->head);
    free(lane);
}
