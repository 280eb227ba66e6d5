/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/dial.h"

#include <stdio.h>

static void try_next(struct dial *d);

static void release(struct dial *d)
{
    if (--d->open_handles > 0)
        return;
    uv_freeaddrinfo(d->addresses);
    d->closed(d->owner);
}

static void on_closed(uv_handle_t *h)
{
    release(h->data);
}

static void on_tcp_closed(uv_handle_t *h)
{
    struct dial *d = h->data;

    if (!d->closing)
        try_next(d);
    release(d);
}

/* On to the next address, if there is one. */
static void not_connected(struct dial *d, int status)
{
    char problem[128];

    if (d->next) {
        d->has_tcp = false;
        uv_close((uv_handle_t *)&d->tcp, on_tcp_closed);
        return;
    }
    snprintf(problem, sizeof(problem), "cannot connect to the proxy: %s", uv_strerror(status));
    d->failed(d->owner, problem);
}

static void on_impatient(uv_timer_t *timer)
{
    not_connected(timer->data, UV_ETIMEDOUT);
}

static void on_connected(uv_connect_t *req, int status)
{
    struct dial *d = req->data;
    int len = sizeof(d->relay->reached);

    if (d->closing || status == UV_ECANCELED) /* it took too long, and is being closed */
        return;
    uv_timer_stop(&d->patience);
    if (status < 0) {
        not_connected(d, status);
        return;
    }
    (void)uv_tcp_getpeername(&d->tcp, (struct sockaddr *)&d->relay->reached, &len);
    d->connected(d->owner);
}

static void try_next(struct dial *d)
{
    const struct addrinfo *at = d->next;
    int rc;

    d->next = at->ai_next;
    if (!address_is_allowed(d->relay, at->ai_addr)) {
        d->failed(d->owner, "the proxy's address is one that relays do not connect to");
        return;
    }
    uv_tcp_init(&d->relay->loop, &d->tcp);
    d->tcp.data = d->connect.data = d;
    d->has_tcp = true;
    d->open_handles++;
    rc = uv_tcp_connect(&d->connect, &d->tcp, at->ai_addr, on_connected);
    if (rc != 0)
        not_connected(d, rc);
    else if (d->next)
        uv_timer_start(&d->patience, on_impatient, DIAL_PATIENCE_MS, 0);
}

/* The one that was reached last comes first. */
static struct addrinfo *in_order(struct addrinfo *list, const struct sockaddr_storage *reached)
{
    struct addrinfo **at = &list, *found;

    while (*at && ((*at)->ai_addrlen > sizeof(*reached) || memcmp((*at)->ai_addr, reached, (*at)->ai_addrlen) != 0))
        at = &(*at)->ai_next;
    found = *at;
    if (!found)
        return list;
    *at = found->ai_next;
    found->ai_next = list;
    return found;
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct dial *d = req->data;

    d->addresses = d->next = in_order(found, &d->relay->reached);
    if (!d->closing && (status != 0 || !found))
        d->failed(d->owner, "the proxy's name is not known");
    else if (!d->closing)
        try_next(d);
    release(d);
}

void dial_start(struct dial *d)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char port[8];

    snprintf(port, sizeof(port), "%lld", (long long)d->relay->settings.port);
    uv_timer_init(&d->relay->loop, &d->patience);
    d->lookup.data = d->patience.data = d;
    d->open_handles = 2;
    if (uv_getaddrinfo(&d->relay->loop, &d->lookup, on_looked_up, d->relay->settings.host, port, &hints) != 0)
        abort(); /* only for arguments that are wrong, or without memory */
}

void dial_close(struct dial *d)
{
    d->closing = true;
    uv_close((uv_handle_t *)&d->patience, on_closed);
    if (d->has_tcp)
        uv_close((uv_handle_t *)&d->tcp, on_tcp_closed);
    (void)uv_cancel((uv_req_t *)&d->lookup);
}
