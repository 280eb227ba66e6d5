/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stats/usage.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

enum { FRESH_MS = 2000 };

struct waiter {
    struct waiter *next;
    void *owner;
    void (*done)(void *owner, const json_t *usage);
};

struct usage {
    struct agent *agent;
    json_t *seen;
    int64_t read_ms;
    struct waiter *waiting; /* a job runs while there is one */
};

struct usage *usage_new(struct agent *a)
{
    struct usage *u = mem_new(struct usage);

    u->agent = a;
    return u;
}

void usage_free(struct usage *u)
{
    if (!u)
        return;
    json_decref(u->seen);
    free(u);
}

static void on_read(void *owner, struct err *e, json_t *result)
{
    struct usage *u = owner;
    struct waiter *w = steal(&u->waiting);

    json_decref(u->seen);
    u->seen = result;
    u->read_ms = clock_mono_ms();
    if (e)
        log_err(NULL, LOG_LEVEL_WARNING, e, "the use of disk and ramdisk cannot be read");
    while (w) {
        struct waiter *next = w->next;

        w->done(w->owner, u->seen);
        free(w);
        w = next;
    }
}

void usage_get(struct usage *u, void *owner, void (*done)(void *owner, const json_t *usage))
{
    struct waiter *w;

    if (!u->waiting && u->read_ms && clock_mono_ms() - u->read_ms < FRESH_MS) {
        done(owner, u->seen);
        return;
    }
    w = mem_new(struct waiter);
    *w = (struct waiter){.next = u->waiting, .owner = owner, .done = done};
    u->waiting = w;
    if (!w->next)
        agent_job(u->agent, JOB_USAGE, 0, NULL, 0, u, on_read);
}

const json_t *usage_of_slot(const json_t *usage, int64_t slot)
{
    autofree char *key = str_fmt("%lld", (long long)slot);

    return json_object_get(json_object_get(usage, "slots"), key);
}
