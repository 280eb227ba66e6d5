/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and replies of any size: what comes is not kept. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "cli/client_internal.h"

struct sending {
    int fd[2];
    struct waiting waiting;
    int64_t sent;
    const struct client *client;
};

static size_t on_send(char *data, size_t size, size_t count, void *owner)
{
    struct sending *s = owner;
    ssize_t n;

    do
        n = read(s->fd[0], data, size * count);
    while (n < 0 && errno == EINTR);
    if (n == 0 && s->fd[1] >= 0) {
        s->fd[0] = s->fd[1];
        s->fd[1] = -1;
        return on_send(data, size, count, owner);
    }
    if (n < 0)
        return CURL_READFUNC_ABORT;
    s->sent += n;
    return (size_t)n;
}

static int on_sent(void *owner, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
    struct sending *s = owner;
    int64_t now = clock_mono_ms() - s->waiting.since;

    (void)a, (void)b, (void)d, (void)e;
    if (s->client->progress && now / 1000 != s->waiting.shown_s) {
        s->waiting.shown_s = now / 1000;
        fprintf(stderr, "\r%lld MiB, %d s ", (long long)(s->sent >> 20), (int)s->waiting.shown_s);
    }
    return 0;
}

struct err *client_upload(struct client *c, const char *path, int fd, int fd2, json_t **ret)
{
    struct sending s = {.fd = {fd, fd2}, .waiting = {.since = clock_mono_ms()}, .client = c};
    struct answer answer = {0};
    struct exchange x = {.headers = curl_slist_append(NULL, "Content-Type: application/octet-stream"),
                         .taken = client_take,
                         .taker = &answer,
                         .progress = on_sent,
                         .shown = &s,
                         .waiting = &s.waiting,
                         .endless = true};
    long status = 0;
    struct err *e;
    CURLcode code;

    x.headers = curl_slist_append(x.headers, "Transfer-Encoding: chunked");
    x.headers = curl_slist_append(x.headers, "Expect: 100-continue");
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, NULL);
    curl_easy_setopt(c->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE, -1L);
    curl_easy_setopt(c->curl, CURLOPT_READFUNCTION, on_send);
    curl_easy_setopt(c->curl, CURLOPT_READDATA, &s);
    code = client_perform(c, path, &x);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    e = code == CURLE_OK ? client_read_answer(status, &answer, ret) : client_no_answer(c, code, x.details);
    free(answer.text);
    return e;
}

struct taking {
    struct sending progress; /* sent: bytes that were written */
    int fd;
    long status;
    struct answer refusal;
    struct err *error;
};

static size_t on_taken(char *data, size_t size, size_t count, void *owner)
{
    struct taking *t = owner;

    curl_easy_getinfo(t->progress.client->curl, CURLINFO_RESPONSE_CODE, &t->status);
    if (t->status >= 400)
        return client_take(data, size, count, &t->refusal);
    t->error = fd_write_all(t->fd, data, size * count);
    t->progress.sent += (int64_t)(size * count);
    return t->error ? 0 : size * count;
}

struct err *client_download(struct client *c, const char *path, int fd)
{
    struct taking t = {.progress = {.waiting = {.since = clock_mono_ms()}, .client = c}, .fd = fd};
    struct exchange x = {.taken = on_taken,
                         .taker = &t,
                         .progress = on_sent,
                         .shown = &t.progress,
                         .waiting = &t.progress.waiting,
                         .endless = true};
    struct err *e = NULL;
    CURLcode code;

    client_set_request(c, "GET", NULL);
    code = client_perform(c, path, &x);
    if (t.error)
        e = err_wrap(t.error, "cannot write what comes");
    else if (t.status >= 400)
        e = client_read_answer(t.status, &t.refusal, NULL);
    else if (code != CURLE_OK && t.progress.sent > 0)
        e = err_new(ERR_HOST, "the node broke off: 'journalctl -u noded' tells why");
    else if (code != CURLE_OK)
        e = client_no_answer(c, code, x.details);
    free(t.refusal.text);
    return e;
}

struct following {
    struct client *client;
    void *owner;
    void (*line)(void *owner, const char *text);
    struct answer answer; /* the line that is not whole yet, or the body of a refusal */
    long status;
};

static size_t on_followed(char *data, size_t size, size_t count, void *owner)
{
    struct following *f = owner;
    size_t n = client_take(data, size, count, &f->answer), at = 0;
    char *end;

    curl_easy_getinfo(f->client->curl, CURLINFO_RESPONSE_CODE, &f->status);
    if (f->status >= 400)
        return n;
    while ((end = memchr(f->answer.text + at, '\n', f->answer.len - at))) {
        *end = '\0';
        f->line(f->owner, f->answer.text + at);
        at = (size_t)(end - f->answer.text) + 1;
    }
    f->answer.len -= at;
    memmove(f->answer.text, f->answer.text + at, f->answer.len + 1);
    return n;
}

struct err *client_follow(struct client *c, const char *path, const char *last_id, void *owner,
                          void (*line)(void *owner, const char *text))
{
    autofree char *id = str_fmt("Last-Event-ID: %s", last_id ? last_id : "");
    struct following f = {.client = c, .owner = owner, .line = line};
    struct exchange x = {.headers = curl_slist_append(NULL, "Accept: text/event-stream"),
                         .taken = on_followed,
                         .taker = &f,
                         .endless = true};
    struct err *e = NULL;
    CURLcode code;

    if (last_id)
        x.headers = curl_slist_append(x.headers, id);
    client_set_request(c, "GET", NULL);
    /* The node writes something every 15 seconds. */
    curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME, 45L);
    code = client_perform(c, path, &x);
    if (f.status >= 400)
        e = client_read_answer(f.status, &f.answer, NULL);
    else if (code != CURLE_OK)
        e = client_no_answer(c, code, x.details);
    free(f.answer.text);
    return e;
}
