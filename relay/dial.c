/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/dial.h"

#include <stdio.h>

static void try_next(struct dial *d);

static void release(struct dial *d)
{
    if (--d->open_handles > 0 || !d->closing)
        return;
    uv_freeaddrinfo(d->addresses);
    d->closed(d->owner);
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

static void on_connected(uv_connect_t *req, int status)
{
    struct dial *d = req->data;

    if (d->closing)
        return;
    if (status < 0)
        not_connected(d, status);
    else
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
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct dial *d = req->data;

    d->addresses = d->next = found;
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
    d->lookup.data = d;
    d->open_handles = 1;
    if (uv_getaddrinfo(&d->relay->loop, &d->lookup, on_looked_up, d->relay->settings.host, port, &hints) != 0)
        abort(); /* only for arguments that are wrong, or without memory */
}

void dial_close(struct dial *d)
{
    d->closing = true;
    d->open_handles++; /* so that the end is told when there is nothing to wait for, too */
    if (d->has_tcp)
        uv_close((uv_handle_t *)&d->tcp, on_tcp_closed);
    (void)uv_cancel((uv_req_t *)&d->lookup);
    release(d);
}
