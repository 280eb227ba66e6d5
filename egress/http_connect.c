/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdio.h>

#include "egress/handshake_internal.h"

enum { LOGIN_WANTED = 407 };

/* RFC 4648; out holds 4 * (len + 2) / 3 + 1 bytes. */
static void base64(const char *in, size_t len, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)(uint8_t)in[i] << 16;

        if (i + 1 < len)
            v |= (uint32_t)(uint8_t)in[i + 1] << 8;
        if (i + 2 < len)
            v |= (uint32_t)(uint8_t)in[i + 2];
        *out++ = digits[v >> 18];
        *out++ = digits[v >> 12 & 63];
        *out++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
        *out++ = i + 2 < len ? digits[v & 63] : '=';
    }
    *out = '\0';
}

static void authority(const struct handshake *h, char ret[64])
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&h->target;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&h->target;
    char address[INET6_ADDRSTRLEN];

    if (h->target.ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, address, sizeof(address));
        snprintf(ret, 64, "%s:%u", address, ntohs(v4->sin_port));
    } else {
        inet_ntop(AF_INET6, &v6->sin6_addr, address, sizeof(address));
        snprintf(ret, 64, "[%s]:%u", address, ntohs(v6->sin6_port));
    }
}

void http_connect_begin(struct handshake *h)
{
    char target[64], plain[2 * PROXY_SECRET_MAX + 2], coded[4 * (sizeof(plain) + 2) / 3 + 1], text[HANDSHAKE_OUT_MAX];
    int len;

    authority(h, target);
    len = snprintf(text, sizeof(text), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", target, target);
    handshake_say(h, text, (size_t)len);
    if (h->username) {
        len = snprintf(plain, sizeof(plain), "%s:%s", h->username, h->password);
        base64(plain, (size_t)len, coded);
        len = snprintf(text, sizeof(text), "Proxy-Authorization: Basic %s\r\n", coded);
        handshake_say(h, text, (size_t)len);
        explicit_bzero(plain, sizeof(plain));
        explicit_bzero(coded, sizeof(coded));
        explicit_bzero(text, sizeof(text));
    }
    handshake_say(h, "\r\n", 2);
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* The number of "HTTP/1.x NNN", or 0. */
static int status(const struct handshake *h)
{
    const uint8_t *p = h->in;

    if (h->in_len < 16 || !is_digit(p[7]) || p[8] != ' ' || !is_digit(p[9]) || !is_digit(p[10]) || !is_digit(p[11]) ||
        (p[12] != ' ' && p[12] != '\r'))
        return 0;
    return (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
}

enum handshake_state http_connect_heard(struct handshake *h)
{
    static const char begin[] = "HTTP/1.";
    int code;

    if (memcmp(h->in, begin, MIN(h->in_len, sizeof(begin) - 1)) != 0)
        return handshake_end(h, HANDSHAKE_FAILED, "what answers is no HTTP proxy");
    if (h->in_len < 4 || memcmp(h->in + h->in_len - 4, "\r\n\r\n", 4) != 0)
        return HANDSHAKE_MORE;
    code = status(h);
    if (code >= 100 && code < 200 && h->step < 8) { /* an interim answer; another one follows */
        h->step++;
        h->in_len = 0;
        return HANDSHAKE_MORE;
    }
    if (code >= 200 && code < 300)
        return HANDSHAKE_DONE; /* a length in its head means nothing here */
    if (code == LOGIN_WANTED)
        return handshake_end(h, HANDSHAKE_FAILED,
                             h->username ? "the proxy refuses the login" : "the proxy wants a login");
    if (code >= 300 && code < 600)
        return handshake_end(h, HANDSHAKE_REFUSED, "the proxy does not connect: status %d", code);
    return handshake_end(h, HANDSHAKE_FAILED, "the proxy's answer has no valid status line");
}
