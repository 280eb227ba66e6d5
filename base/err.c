/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/json_table.h"

static struct err err_no_memory = {.code = ERR_INTERNAL, .message = (char *)"out of memory"};

static const struct {
    const char *name;
    const char *word;
    int status;
} codes[] = {
#define X(code, word, status) [code] = {#code, word, status},
    ERR_MAP(X)
#undef X
};

static struct err *make(enum err_code code, char *message)
{
    struct err *e = calloc(1, sizeof(*e));

    if (!e || !message) {
        free(e);
        free(message);
        return &err_no_memory;
    }
    e->code = code;
    e->message = message;
    return e;
}

struct err *err_new(enum err_code code, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    return make(code, text);
}

struct err *err_errno(int errnum, const char *fmt, ...)
{
    autofree char *text = NULL;
    char *whole = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    if (asprintf(&whole, "%s: %s", text ? text : "", strerrordesc_np(errnum) ? strerrordesc_np(errnum) : "unknown") < 0)
        whole = NULL;
    return make(ERR_HOST, whole);
}

struct err *err_field(const char *field, const char *fmt, ...)
{
    autofree char *text = NULL;
    char *whole = NULL;
    struct err *e;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    if (asprintf(&whole, "%s: %s", field, text ? text : "") < 0)
        whole = NULL;
    e = err_reason(make(ERR_INVALID, whole), "VALIDATION_ERROR");
    if (e != &err_no_memory)
        e->field = strdup(field);
    return e;
}

struct err *err_wrap(struct err *e, const char *fmt, ...)
{
    autofree char *text = NULL;
    char *whole = NULL;
    va_list ap;

    if (!e || e == &err_no_memory)
        return e;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    if (asprintf(&whole, "%s: %s", text ? text : "", e->message) < 0)
        return e;
    free(e->message);
    e->message = whole;
    return e;
}

struct err *err_reason(struct err *e, const char *reason)
{
    if (e && e != &err_no_memory) {
        free(e->reason);
        e->reason = reason ? strdup(reason) : NULL;
    }
    return e;
}

struct err *err_at(struct err *e, const char *field)
{
    if (e && e != &err_no_memory) {
        free(e->field);
        e->field = field ? strdup(field) : NULL;
    }
    return e;
}

struct err *err_recode(struct err *e, enum err_code code)
{
    if (e && e != &err_no_memory)
        e->code = code;
    return e;
}

struct err *err_data(struct err *e, json_t *data)
{
    if (e && e != &err_no_memory) {
        json_decref(e->data);
        e->data = data;
    } else {
        json_decref(data);
    }
    return e;
}

struct err *err_first(struct err *first, struct err *second)
{
    if (!first)
        return second;
    err_free(second);
    return first;
}

void err_free(struct err *e)
{
    if (!e || e == &err_no_memory)
        return;
    free(e->reason);
    free(e->field);
    free(e->message);
    json_decref(e->data);
    free(e);
}

const char *err_message(const struct err *e)
{
    return e ? e->message : "success";
}

const char *err_code_name(enum err_code code)
{
    return code < ERR_CODE_MAX ? codes[code].name : "ERR_UNKNOWN";
}

const char *err_code_word(enum err_code code)
{
    return code < ERR_CODE_MAX ? codes[code].word : "Internal Server Error";
}

int err_code_status(enum err_code code)
{
    return code < ERR_CODE_MAX ? codes[code].status : 500;
}

json_t *err_to_json(const struct err *e)
{
    return json_pack("{s:s, s:s?, s:o, s:o, s:O?, s:i}", "code", err_code_name(e->code), "reason", e->reason, "field",
                     json_text(e->field, SIZE_MAX), "message", json_text(e->message, SIZE_MAX), "data", e->data,
                     "retry_after_s", e->retry_after_s);
}

struct err *err_from_json(const json_t *j)
{
    const char *name = json_string_value(json_object_get(j, "code"));
    const char *message = json_string_value(json_object_get(j, "message"));
    const char *field = json_string_value(json_object_get(j, "field"));
    enum err_code code = ERR_INTERNAL;
    struct err *e;

    for (size_t i = 0; name && i < ARRAY_LEN(codes); i++)
        if (strcmp(codes[i].name, name) == 0)
            code = (enum err_code)i;
    e = err_new(code, "%s", message ? message : "an error without a message");
    if (e == &err_no_memory)
        return e;
    e = err_reason(e, json_string_value(json_object_get(j, "reason")));
    e->field = field ? strdup(field) : NULL;
    e->data = json_incref(json_object_get(j, "data"));
    if (json_is_null(e->data))
        e->data = NULL;
    e->retry_after_s = (int)json_integer_value(json_object_get(j, "retry_after_s"));
    return e;
}
