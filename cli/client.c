/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_table.h"
#include "base/str.h"
#include "cli/client_internal.h"

#define ANSWER_MAX (64u << 20)
#define PROGRESS_AFTER_MS 2000

/* What a person may do about an error, by its code. */
static const struct {
    const char *code, *hint;
} hints[] = {
    {"CONTAINER_NOT_FOUND", "'nodectl list' shows what is there"},
    {"CONTAINER_OPERATION_IN_PROGRESS", "wait for it to end, 'nodectl get' shows the state"},
    {"CONTAINER_NAME_IN_USE", "choose another name or delete the other container"},
    {"SSH_PUBLIC_KEY_IN_USE", "a key belongs to one container only, use another one"},
    {"SERVER_CONTAINER_LIMIT", "delete containers or raise node.max_containers"},
    {"CONTAINER_SNAPSHOT_LIMIT", "delete old snapshots first"},
    {"CONTAINER_FIREWALL_RULE_LIMIT", "remove rules or merge them by port lists"},
    {"CONTAINER_HOST_COMMAND_FAILED", "'journalctl -u noded' has the details"},
    {"FIREWALL_HOST_UNAVAILABLE", "try again, then look at 'journalctl -u noded'"},
};

struct err *client_open(const struct client_config *config, struct client **ret)
{
    auto_(client_close) struct client *c = mem_new(struct client);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(c->curl = curl_easy_init()))
        return err_new(ERR_INTERNAL, "libcurl does not start");
    c->base = str_dup(config->url ? config->url : "http://localhost");
    c->socket = str_dup(config->url ? NULL : config->socket);
    c->progress = config->progress;
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_PROXY, ""); /* the environment's proxy is not for us */
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, (long)config->timeout_s);
    curl_easy_setopt(c->curl, CURLOPT_USERAGENT, "nodectl/" NODED_VERSION);
    curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    if (c->socket) {
        curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    } else {
        curl_easy_setopt(c->curl, CURLOPT_SSLCERT, config->cert);
        curl_easy_setopt(c->curl, CURLOPT_SSLKEY, config->key);
        curl_easy_setopt(c->curl, CURLOPT_CAINFO, config->ca);
    }
    *ret = steal(&c);
    return NULL;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    if (c->curl)
        curl_easy_cleanup(c->curl);
    curl_global_cleanup();
    free(c->base);
    free(c->socket);
    free(c);
}

char *client_escape(const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    char *out = mem_alloc(strlen(text) * 3 + 1, 1), *at = out;

    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~", *p)) {
            *at++ = (char)*p;
        } else {
            *at++ = '%';
            *at++ = digits[*p >> 4];
            *at++ = digits[*p & 15];
        }
    }
    return out;
}

size_t client_take(char *data, size_t size, size_t count, void *owner)
{
    struct answer *a = owner;
    size_t n = size * count;

    if (n > ANSWER_MAX - a->len)
        return 0;
    a->text = mem_grow(a->text, a->len + n + 1, 1);
    memcpy(a->text + a->len, data, n);
    a->len += n;
    a->text[a->len] = '\0';
    return n;
}

static int on_progress(void *owner, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
    struct waiting *w = owner;
    int64_t now = clock_mono_ms() - w->since;

    (void)a, (void)b, (void)d, (void)e;
    if (now >= PROGRESS_AFTER_MS && now / 1000 != w->shown_s) {
        w->shown_s = now / 1000;
        fprintf(stderr, "\rwaiting for the node, %d s ", (int)w->shown_s);
    }
    return 0;
}

/* The server's TLS alert in libcurl's words, such as "...::sslv3 alert certificate revoked, errno 0"; NULL: none about
 * the certificate. The caller frees it. */
static char *refused_certificate(const char *details)
{
    static const char *const alerts[] = {"bad certificate",     "unsupported certificate", "certificate revoked",
                                         "certificate expired", "certificate unknown",     "unknown ca",
                                         "access denied",       "certificate required"};
    const char *alert = strcasestr(details, "alert ");

    for (size_t i = 0; alert && i < ARRAY_LEN(alerts); i++)
        if (strncasecmp(alert + strlen("alert "), alerts[i], strlen(alerts[i])) == 0)
            return str_dup(alerts[i]);
    return NULL;
}

static struct err *no_tls_answer(const struct client *c, CURLcode code, const char *text)
{
    autofree char *alert = refused_certificate(text);

    if (alert)
        return err_new(ERR_FORBIDDEN, "%s: the server refused the certificate: %s; the log of its noded says why",
                       c->base, alert);
    if (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING)
        return err_new(ERR_UNAVAILABLE,
                       "%s: the server ended the connection (%s); if it refused the certificate, its log says why",
                       c->base, text);
    return err_new(ERR_UNAVAILABLE, "%s: %s", c->base, text);
}

struct err *client_no_answer(const struct client *c, CURLcode code, const char *details)
{
    const char *text = *details ? details : curl_easy_strerror(code);

    if (!c->socket)
        return no_tls_answer(c, code, text);
    if (access(c->socket, F_OK) < 0)
        return err_new(ERR_UNAVAILABLE, "there is no '%s': is noded running? 'systemctl start noded'", c->socket);
    if (access(c->socket, W_OK) < 0)
        return err_new(ERR_FORBIDDEN, "no access to '%s': use sudo, or join its group", c->socket);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return err_new(ERR_TIMEOUT, "no answer in time; the operation may still be going on");
    return err_new(ERR_UNAVAILABLE, "'%s' does not answer (%s): 'systemctl status noded' tells more", c->socket, text);
}

static struct err *error_reply(long status, const json_t *j)
{
    const char *message = json_string_value(json_object_get(j, "message"));
    const char *code = json_string_value(json_object_get(j, "code"));
    struct err *e;

    if (!code)
        code = json_string_value(json_object_get(j, "error"));
    for (size_t i = 0; i < ARRAY_LEN(hints); i++)
        if (str_eq(hints[i].code, code))
            return err_reason(err_new(ERR_HOST, "%s: %s", message ? message : code, hints[i].hint), code);
    e = err_new(ERR_HOST, "%s", message ? message : "the node answers with an error");
    e = err_data(err_reason(status == 404 ? err_recode(e, ERR_NOT_FOUND) : e, code),
                 json_incref(json_object_get(j, "data")));
    return e;
}

struct err *client_read_answer(long status, const struct answer *a, json_t **ret)
{
    autojson j = NULL;

    if (!a->text || json_parse(a->text, a->len, "answer", &j))
        return err_new(ERR_HOST, "the answer with HTTP status %ld is not JSON: is this a node?", status);
    if (status >= 400)
        return error_reply(status, j);
    if (ret)
        *ret = json_incref(json_object_get(j, "data"));
    return NULL;
}

void client_set_request(struct client *c, const char *method, const char *text)
{
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    if (text || !str_eq(method, "GET")) {
        curl_easy_setopt(c->curl, CURLOPT_POST, 1L);
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE, text ? (long)strlen(text) : 0L);
        curl_easy_setopt(c->curl, CURLOPT_COPYPOSTFIELDS, text ? text : "");
    } else {
        curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
    }
}

CURLcode client_perform(struct client *c, const char *path, struct exchange *x)
{
    autofree char *url = str_fmt("%s%s", c->base, path);
    CURLcode code;

    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, x->headers);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, x->details);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, x->taken);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, x->taker);
    curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, x->progress ? 0L : 1L);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, x->progress);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, x->shown);
    if (x->endless)
        curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, 0L);
    code = curl_easy_perform(c->curl);
    if (x->waiting && x->waiting->shown_s)
        fprintf(stderr, "\r\033[K");
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(x->headers);
    return code;
}

struct err *client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **ret)
{
    autofree char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct waiting waiting = {.since = clock_mono_ms()};
    struct answer answer = {0};
    struct exchange x = {.headers = curl_slist_append(NULL, "Content-Type: application/json"),
                         .taken = client_take,
                         .taker = &answer,
                         .progress = c->progress ? on_progress : NULL,
                         .shown = &waiting,
                         .waiting = &waiting};
    long status = 0;
    struct err *e;
    CURLcode code;

    client_set_request(c, method, text);
    code = client_perform(c, path, &x);
    if (code != CURLE_OK) {
        e = client_no_answer(c, code, x.details);
    } else {
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        e = client_read_answer(status, &answer, ret);
    }
    free(answer.text);
    return e;
}

char *client_escape_value(const char *text)
{
    char *escaped = client_escape(text);

    for (char *p = strstr(escaped, "%2F"); p; p = strstr(p, "%2F")) {
        *p = '/';
        memmove(p + 1, p + 3, strlen(p + 3) + 1);
    }
    return escaped;
}
