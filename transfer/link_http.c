/* SPDX-License-Identifier: Apache-2.0 */
/* The little of HTTP/1.1 that one node asks another: one request, one answer with a length. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json_table.h"
#include "base/pace.h"
#include "base/str.h"
#include "transfer/link.h"

enum { HEAD_MAX = 8192, BODY_MAX = 4 << 20 };

static struct err *broken(void)
{
    return err_new(ERR_CANCELLED, "the connection to the other node broke");
}

static struct err *send_request(int fd, const char *method, const char *path, const json_t *body, bool upgrade)
{
    autofree char *text = body ? json_dumps(body, JSON_COMPACT) : str_dup("");
    autofree char *head =
        str_fmt("%s %s HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n",
                method, path, text ? strlen(text) : 0,
                upgrade ? "Connection: Upgrade\r\nUpgrade: " LINK_PROTOCOL "\r\n" : "Connection: close\r\n");
    struct err *e = text ? fd_write_all(fd, head, strlen(head)) : err_new(ERR_INTERNAL, "the request is no JSON");

    if (!e)
        e = fd_write_all(fd, text, strlen(text));
    return e;
}

/* Byte by byte: what comes behind the head may be a stream. */
static struct err *read_head(int fd, char head[HEAD_MAX + 1])
{
    for (size_t len = 0; len < HEAD_MAX; len++) {
        ssize_t n = read(fd, head + len, 1);

        if (n <= 0)
            return broken();
        head[len + 1] = '\0';
        if (len >= 3 && memcmp(head + len - 3, "\r\n\r\n", 4) == 0)
            return NULL;
    }
    return err_new(ERR_HOST, "the other node's answer has too long a head");
}

static struct err *read_body(int fd, const char *head, json_t **ret)
{
    const char *line = strcasestr(head, "\r\nContent-Length:");
    autofree char *text = NULL;
    size_t len = 0;

    *ret = NULL;
    if (!line || sscanf(line + 17, " %zu", &len) != 1 || len == 0)
        return NULL;
    if (len > BODY_MAX)
        return err_new(ERR_HOST, "the other node's answer is too long");
    text = mem_new_array(char, len + 1);
    for (size_t at = 0; at < len;) {
        ssize_t n = read(fd, text + at, len - at);

        if (n <= 0)
            return broken();
        at += (size_t)n;
    }
    return err_recode(json_parse(text, len, "answer", ret), ERR_HOST);
}

struct err *link_request(int fd, const char *method, const char *path, const json_t *body, bool upgrade,
                         int64_t timeout_s, int *ret_status, json_t **ret_body)
{
    char head[HEAD_MAX + 1] = "";
    struct err *e = pace_limits(fd, timeout_s);

    *ret_body = NULL;
    if (!e)
        e = send_request(fd, method, path, body, upgrade);
    if (!e)
        e = read_head(fd, head);
    if (!e && (sscanf(head, "HTTP/1.1 %3d", ret_status) != 1 || *ret_status < 100))
        e = err_new(ERR_HOST, "the other node's answer is no HTTP");
    if (!e && *ret_status != 101)
        e = read_body(fd, head, ret_body);
    return e ? e : pace_limits(fd, 0);
}

static enum err_code code_of(int status)
{
    for (int c = 0; c < ERR_CODE_MAX; c++)
        if (err_code_status((enum err_code)c) == status)
            return (enum err_code)c;
    return ERR_HOST;
}

struct err *link_refusal(int status, const json_t *body)
{
    const char *message = json_string_value(json_object_get(body, "message"));
    const char *code = json_string_value(json_object_get(body, "code"));
    const char *field = json_string_value(json_object_get(body, "field"));
    struct err *e = err_new(code_of(status), "%.500s", message ? message : "the other node refuses without saying why");

    if (code)
        e = err_reason(e, code);
    return field ? err_at(e, field) : e;
}
