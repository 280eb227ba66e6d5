/* SPDX-License-Identifier: Apache-2.0 */
#include "egress/handshake_internal.h"

#include <stdarg.h>
#include <stdio.h>

void handshake_say(struct handshake *h, const void *data, size_t len)
{
    if (h->out_len + len > sizeof(h->out))
        abort(); /* user names and passwords were bounded when they were taken */
    memcpy(h->out + h->out_len, data, len);
    h->out_len += len;
}

enum handshake_state handshake_end(struct handshake *h, enum handshake_state state, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(h->problem, sizeof(h->problem), fmt, ap);
    va_end(ap);
    return state;
}

void handshake_init(struct handshake *h, enum proxy_kind kind, const char *username, const char *password,
                    const struct sockaddr *target, enum handshake_use use)
{
    h->kind = kind;
    h->use = use;
    h->username = username;
    h->password = password;
    h->step = 0;
    h->in_len = h->out_len = 0;
    h->problem[0] = '\0';
    memset(&h->target, 0, sizeof(h->target));
    h->target.ss_family = target->sa_family;
    if (use != HANDSHAKE_ASSOCIATE) /* else: we do not know yet from where we shall send */
        memcpy(&h->target, target,
               target->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    if (kind == PROXY_SOCKS5)
        socks5_begin(h);
    else
        http_connect_begin(h);
}

enum handshake_state handshake_feed(struct handshake *h, const uint8_t *data, size_t len, size_t *ret_used)
{
    enum handshake_state state = HANDSHAKE_MORE;
    size_t i = 0;

    /* Byte by byte: an end is found where it is, however the bytes are cut, and nothing behind it is taken. */
    while (i < len && state == HANDSHAKE_MORE) {
        if (h->in_len == sizeof(h->in)) {
            state = handshake_end(h, HANDSHAKE_FAILED, "the proxy's answer has no end");
            break;
        }
        h->in[h->in_len++] = data[i++];
        state = h->kind == PROXY_SOCKS5 ? socks5_heard(h) : http_connect_heard(h);
    }
    *ret_used = i;
    return state;
}
