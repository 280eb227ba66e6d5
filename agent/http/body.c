/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body of a request before its handler sees it. Memory is taken from the budget as bytes arrive, never for what was
 * only announced, and a body has a pace to keep: a client that lets the server wait holds memory that others need.
 */
#include <stdio.h>

#include "agent/http/internal.h"
#include "agent/http/memory.h"
#include "base/mem.h"
#include "base/pace.h"

enum { PIECE_MIN = 4096 };

static void pace(struct http_request *r)
{
    struct connection *c = http_connection_of(r->conn);
    uint64_t until = r->body_begun_ms + (uint64_t)pace_allowed_ms(r->body_len), now = uv_now(r->server->loop);

    if (!c)
        return;
    c->reading = r;
    http_deadline(c, until > now ? until - now : 1);
}

void http_body_begin(struct http_request *r)
{
    r->body_begun_ms = uv_now(r->server->loop);
    pace(r);
}

size_t http_held_by(const struct http_server *s, const struct peer *peer)
{
    size_t sum = 0;

    for (const struct http_request *r = s->requests; r; r = r->next)
        if (r->body_size + r->reply_held > 0 && peer_same(r->peer, peer))
            sum += r->body_size + r->reply_held;
    return sum;
}

/* The answer cannot wait for the rest of the body: it is the last thing on this connection. */
static void abandon(struct http_request *r, int status, const char *message, int retry_after_s)
{
    struct connection *c = http_connection_of(r->conn);

    r->abandoned = true;
    http_body_free(r);
    if (c)
        c->reading = NULL;
    if (c && c->link)
        c->link->refuse(c->link, status, message, retry_after_s);
}

void http_body_late(struct http_request *r)
{
    abandon(r, 408, "The body of the request came too slowly", 0);
}

static bool grow(struct http_request *r, size_t need)
{
    struct http_server *s = r->server;
    size_t size = MAX(MIN(MAX(r->body_size * 2, PIECE_MIN), r->body_max), need);

    switch (memory_take(s->config.memory, http_held_by(s, r->peer), size - r->body_size)) {
    case MEMORY_FULL:
        abandon(r, 503, "The bodies of other requests have all the memory that there is for them; ask again", 2);
        return false;
    case MEMORY_CLIENT_FULL:
        abandon(r, 429, "The bodies of this client's requests have all the memory that one client may have; ask again",
                2);
        return false;
    case MEMORY_GRANTED:
        break;
    }
    r->body_size = size;
    r->body = mem_grow(r->body, size, 1);
    return true;
}

void http_body_take(struct http_request *r, const char *data, size_t len)
{
    char text[64];

    if (r->abandoned)
        return;
    if (len > r->body_max - r->body_len) {
        snprintf(text, sizeof(text), "the body is larger than %zu bytes", r->body_max);
        abandon(r, 413, text, 0);
        return;
    }
    if (r->body_len + len > r->body_size && !grow(r, r->body_len + len))
        return;
    memcpy(r->body + r->body_len, data, len);
    r->body_len += len;
    pace(r);
}

char *http_body_borrow(struct http_request *r, size_t *ret_len)
{
    *ret_len = r->body_len;
    r->body_borrowed = true;
    return steal(&r->body);
}

void http_body_return(struct http_request *r, char *body)
{
    r->body = body;
    r->body_borrowed = false;
    http_body_free(r);
}

void http_body_free(struct http_request *r)
{
    if (r->body_borrowed)
        return;
    free(steal(&r->body));
    memory_return(r->server->config.memory, r->body_size);
    r->body_len = r->body_size = 0;
}
