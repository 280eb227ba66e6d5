/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/memory.h"

#include <malloc.h>

#include "agent/ticker.h"
#include "base/mem.h"

/* The heap is looked through after so much quiet, when so much has come and gone: that takes milliseconds. */
enum { QUIET_MS = 2000, LATEST_MS = 30000, CHURN_CONNECTIONS = 64, CHURN_BYTES = 1 << 20 };
enum { MAP_FROM = 128 << 10, ARENAS = 2 };

struct memory {
    struct ticker ticker;
    size_t max, client_max, used;
    size_t connections, bytes; /* that have gone since the last look */
    uint64_t first_ms;         /* when the first of them went; 0: none has */
};

static void on_quiet(uv_timer_t *timer)
{
    struct memory *m = timer->data;

    m->first_ms = 0;
    if (m->connections < CHURN_CONNECTIONS && m->bytes < CHURN_BYTES)
        return;
    m->connections = m->bytes = 0;
    (void)malloc_trim(0);
}

struct memory *memory_start(uv_loop_t *loop, size_t max, size_t client_max)
{
    struct memory *m = mem_new(struct memory);

    /* Else the first large body that is freed makes glibc put later ones between small things that stay, and arenas of
     * more threads keep more of them. */
    (void)mallopt(M_MMAP_THRESHOLD, MAP_FROM);
    (void)mallopt(M_ARENA_MAX, ARENAS);

    m->max = max;
    m->client_max = client_max;
    ticker_init(&m->ticker, loop, m);
    return m;
}

void memory_close(struct memory *m, void *owner, void (*closed)(void *owner))
{
    ticker_close(&m->ticker, NULL, owner, closed);
}

void memory_free(struct memory *m)
{
    free(m);
}

enum memory_verdict memory_take(struct memory *m, size_t held, size_t more)
{
    if (more > m->max || m->used > m->max - more)
        return MEMORY_FULL;
    if (more > m->client_max || held > m->client_max - more)
        return MEMORY_CLIENT_FULL;
    m->used += more;
    return MEMORY_GRANTED;
}

static void look_later(struct memory *m)
{
    uv_timer_t *timer = &m->ticker.timer;
    uint64_t now;

    if (uv_is_closing((uv_handle_t *)timer))
        return;
    now = uv_now(timer->loop);
    if (m->first_ms == 0)
        m->first_ms = now;
    if (now - m->first_ms < LATEST_MS)
        uv_timer_start(timer, on_quiet, QUIET_MS, 0);
}

void memory_return(struct memory *m, size_t bytes)
{
    m->used -= bytes;
    m->bytes += bytes;
    if (bytes > 0)
        look_later(m);
}

void memory_churn(struct memory *m, size_t connections)
{
    m->connections += connections;
    look_later(m);
}
