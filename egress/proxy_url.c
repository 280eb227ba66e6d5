/* SPDX-License-Identifier: Apache-2.0 */
#include "egress/proxy_url.h"

#include <arpa/inet.h>
#include <ctype.h>

#include "base/str.h"

#define HOST_MAX 253
#define NAME_CHARS "abcdefghijklmnopqrstuvwxyz0123456789-._"

const char *const proxy_kind_words[] = {"socks5", "http", "https", NULL};
static const uint16_t default_ports[PROXY_KIND_MAX] = {1080, 80, 443};

static struct err *bad(const char *rule)
{
    return err_field("proxy", "%s", rule);
}

/* Behind "scheme://", or NULL. */
static const char *skip_scheme(const char *text, enum proxy_kind kind)
{
    const char *word = proxy_kind_words[kind];
    size_t len = strlen(word);

    if (strncasecmp(text, word, len) != 0)
        return NULL;
    text += len;
    if (kind == PROXY_SOCKS5 && (*text == 'h' || *text == 'H'))
        text++;
    return strncmp(text, "://", 3) == 0 ? text + 3 : NULL;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* NULL when an escape is wrong, or the result is too long or has a control character. */
static char *decode(const char *from, size_t len)
{
    autofree char *out = mem_alloc(1, len + 1);
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = from[i];

        if (c == '%') {
            if (i + 2 >= len || hex(from[i + 1]) < 0 || hex(from[i + 2]) < 0)
                return NULL;
            c = (char)(hex(from[i + 1]) << 4 | hex(from[i + 2]));
            i += 2;
        }
        out[n++] = c;
        if (c == '\0')
            return NULL;
    }
    return n > PROXY_SECRET_MAX || str_has_control(out) ? NULL : steal(&out);
}

static struct err *parse_userinfo(const char *from, size_t len, enum proxy_kind kind, struct proxy_url *u)
{
    const char *colon = memchr(from, ':', len);
    size_t user_len = colon ? (size_t)(colon - from) : len;

    u->username = decode(from, user_len);
    u->password = colon ? decode(colon + 1, len - user_len - 1) : str_dup("");
    if (!u->username || !u->password)
        return bad("has a user name or password that is longer than 255 bytes, badly escaped, or has control "
                   "characters");
    if (str_empty(u->username))
        return bad("has a password without a user name");
    if (kind != PROXY_SOCKS5 && strchr(u->username, ':'))
        return bad("has a user name with a colon, which HTTP cannot carry");
    return NULL;
}

static bool is_host(const char *host)
{
    struct in_addr v4;
    size_t len = strlen(host);

    if (inet_pton(AF_INET, host, &v4) == 1)
        return true;
    /* Digits and dots that are no address are no name either. */
    return str_is_made_of(host, NAME_CHARS, HOST_MAX) && host[0] != '.' && host[0] != '-' && !strstr(host, "..") &&
           strspn(host, "0123456789.") != len;
}

static struct err *parse_host(const char *from, size_t len, struct proxy_url *u)
{
    const char *end = from + len, *port = NULL;
    struct in6_addr v6;

    if (len > 0 && *from == '[') {
        const char *close = memchr(from, ']', len);

        if (!close || (close + 1 < end && close[1] != ':'))
            return bad("must name the proxy's host");
        u->host = strndup(from + 1, (size_t)(close - from - 1));
        port = close + 1 < end ? close + 2 : NULL;
        if (inet_pton(AF_INET6, u->host, &v6) != 1)
            return bad("has brackets around what is no IPv6 address");
    } else {
        const char *colon = memchr(from, ':', len);

        u->host = strndup(from, colon ? (size_t)(colon - from) : len);
        port = colon ? colon + 1 : NULL;
    }
    for (char *p = u->host; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    if (*from != '[' && !is_host(u->host))
        return bad("must name the proxy's host");
    if (port) {
        autofree char *text = strndup(port, (size_t)(end - port));
        int64_t n = 0;

        if (!str_to_i64(text, &n) || n < 1 || n > 65535)
            return bad("must have a port 1..65535");
        u->port = (uint16_t)n;
    }
    return NULL;
}

static struct err *parse(const char *text, enum proxy_kind kind, struct proxy_url *u)
{
    const char *rest, *at;
    size_t len;
    struct err *e;

    if (strlen(text) > PROXY_URL_MAX)
        return bad("must have at most 2048 bytes");
    rest = skip_scheme(text, kind);
    if (!rest)
        return err_field("proxy", "must begin with %s://", proxy_kind_words[kind]);
    len = strcspn(rest, "/?#");
    if (rest[len] && !str_eq(rest + len, "/"))
        return bad("must not have a path, query or fragment");
    at = memrchr(rest, '@', len);
    if (at) {
        e = parse_userinfo(rest, (size_t)(at - rest), kind, u);
        if (e)
            return e;
        len -= (size_t)(at + 1 - rest);
        rest = at + 1;
    }
    return parse_host(rest, len, u);
}

struct err *proxy_url_parse(const char *text, enum proxy_kind kind, struct proxy_url *ret)
{
    struct proxy_url u = {.port = default_ports[kind]};
    struct err *e = parse(text, kind, &u);

    if (e)
        proxy_url_clear(&u);
    else
        *ret = u;
    return e;
}

char *proxy_url_text(enum proxy_kind kind, const struct proxy_url *u)
{
    bool v6 = strchr(u->host, ':') != NULL;

    return str_fmt("%s://%s%s%s:%u", proxy_kind_words[kind], v6 ? "[" : "", u->host, v6 ? "]" : "", u->port);
}

void proxy_url_clear(struct proxy_url *u)
{
    if (u->password)
        explicit_bzero(u->password, strlen(u->password));
    free(u->host);
    free(u->username);
    free(u->password);
    *u = (struct proxy_url){0};
}
