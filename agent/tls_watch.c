/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/tls_watch.h"

#include "agent/events/event.h"
#include "agent/http/tls.h"
#include "agent/ticker.h"
#include "base/clock.h"
#include "base/log.h"

/* A list that ends at noon is told of within PERIOD_MS; what is not mended is told again after REMIND_MS. */
enum { PERIOD_MS = 10000, REMIND_MS = 24 * 3600 * 1000 };

struct tls_watch {
    struct agent *agent;
    struct ticker ticker;
    enum tls_state state;
    int64_t told_ms;
};

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "an event about the certificates is not recorded");
}

static void tell(struct agent *a, enum tls_state state, const char *text, bool changed)
{
    struct store_tx *tx;

    if (state == TLS_EXPIRED)
        log_error(NULL, "TLS: %s", text);
    else if (state == TLS_EXPIRING)
        log_warning(NULL, "TLS: %s", text);
    else
        log_notice(NULL, "TLS: the certificates and the revocation list are good again");
    if (!changed)
        return;
    tx = store_tx_new();
    event_add_for(a, tx, "server.health_changed", "server", a->node_id, NULL, NULL,
                  json_pack("{s:s, s:s, s:s?}", "component", "tls", "state", tls_state_word(state), "remedy", text));
    agent_commit(a, tx, NULL, on_recorded);
}

void tls_watch_look(struct tls_watch *w)
{
    struct agent *a = w->agent;
    const struct tls_expiry *x = tls_listener_expiry(a->tls);
    int64_t now = clock_wall_ms();
    enum tls_state state = tls_expiry_state(x, now);
    autofree char *text = tls_expiry_text(x, now);
    bool changed = state != w->state;

    if (a->stopping || (!changed && (state == TLS_OK || now - w->told_ms < REMIND_MS)))
        return;
    w->state = state;
    w->told_ms = now;
    tell(a, state, text, changed);
}

static void on_timer(uv_timer_t *timer)
{
    tls_watch_look(timer->data);
}

struct tls_watch *tls_watch_start(struct agent *a)
{
    struct tls_watch *w = mem_new(struct tls_watch);

    w->agent = a;
    ticker_init(&w->ticker, a->loop, w);
    uv_timer_start(&w->ticker.timer, on_timer, 0, PERIOD_MS);
    return w;
}

void tls_watch_close(struct tls_watch *w, void *owner, void (*closed)(void *owner))
{
    ticker_close(&w->ticker, free, owner, closed);
}

json_t *tls_watch_json(const struct agent *a)
{
    return a->tls ? tls_expiry_json(tls_listener_expiry(a->tls)) : json_null();
}
