/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_table.h"

#include <inttypes.h>

#include "base/str.h"

static void *member(const struct json_field *f, void *out)
{
    return (char *)out + f->offset;
}

static struct err *bad(const struct json_table *t, const char *field, const char *text)
{
    autofree char *path = t->name ? str_fmt("%s.%s", t->name, field) : str_dup(field);

    return err_field(path, "%s", text);
}

static struct err *bad_rule(const struct json_table *t, const struct json_field *f, const char *otherwise)
{
    return bad(t, f->name, f->rule ? f->rule : otherwise);
}

static struct err *load_string(const struct json_table *t, const struct json_field *f, const json_t *v, char **p)
{
    autofree char *text = NULL;
    int64_t len;

    if (!json_is_string(v))
        return bad(t, f->name, "must be a string");
    len = (int64_t)str_chars(json_string_value(v));
    if (strlen(json_string_value(v)) != json_string_length(v))
        return bad(t, f->name, "must not contain a NUL character");
    if ((f->min || f->max) && (len < f->min || len > f->max)) {
        text = str_fmt("must be %" PRId64 "..%" PRId64 " characters", f->min, f->max);
        return bad_rule(t, f, text);
    }
    if (f->valid && !f->valid(json_string_value(v)))
        return bad_rule(t, f, "is not valid");
    str_set(p, json_string_value(v));
    return NULL;
}

static struct err *load_int(const struct json_table *t, const struct json_field *f, const json_t *v, int64_t *p)
{
    autofree char *text = NULL;
    json_int_t n;

    if (!json_is_integer(v))
        return bad(t, f->name, "must be an integer");
    n = json_integer_value(v);
    if ((f->min || f->max) && (n < f->min || n > f->max)) {
        text = str_fmt("must be %" PRId64 "..%" PRId64, f->min, f->max);
        return bad_rule(t, f, text);
    }
    *p = n;
    return NULL;
}

static struct err *load_enum(const struct json_table *t, const struct json_field *f, const json_t *v, int *p)
{
    autofree char *text = str_dup("must be one of");
    const char *s = json_string_value(v);

    for (int i = 0; f->choices[i]; i++) {
        char *longer;

        if (s && strcmp(f->choices[i], s) == 0) {
            *p = i;
            return NULL;
        }
        longer = str_fmt("%s%s %s", text, i ? "," : "", f->choices[i]);
        free(text);
        text = longer;
    }
    return bad_rule(t, f, text);
}

static struct err *load_json(const struct json_table *t, const struct json_field *f, json_t *v, json_t **p)
{
    static const char *const words[] = {
        [JSON_OBJECT] = "must be an object",   [JSON_ARRAY] = "must be an array", [JSON_STRING] = "must be a string",
        [JSON_INTEGER] = "must be an integer", [JSON_REAL] = "must be a number",  [JSON_TRUE] = "must be true",
        [JSON_FALSE] = "must be false",        [JSON_NULL] = "must be null",
    };

    if (f->has_type && json_typeof(v) != f->type)
        return bad(t, f->name, words[f->type]);
    json_incref(v);
    json_decref(*p);
    *p = v;
    return NULL;
}

static struct err *load_field(const struct json_table *t, const struct json_field *f, json_t *v, void *out)
{
    void *p = member(f, out);

    if (json_is_null(v))
        return f->nullable ? NULL : bad(t, f->name, "must not be null");
    switch (f->kind) {
    case JSON_KIND_STRING:
        return load_string(t, f, v, p);
    case JSON_KIND_INT:
        return load_int(t, f, v, p);
    case JSON_KIND_BOOL:
        if (!json_is_boolean(v))
            return bad(t, f->name, "must be true or false");
        *(bool *)p = json_is_true(v);
        return NULL;
    case JSON_KIND_ENUM:
        return load_enum(t, f, v, p);
    case JSON_KIND_JSON:
        return load_json(t, f, v, p);
    }
    abort();
}

static struct err *refuse_unknown(const struct json_table *t, const json_t *obj)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)obj, key, v)
    {
        size_t i = 0;

        while (i < t->count && strcmp(t->fields[i].name, key) != 0)
            i++;
        if (i == t->count) {
            autofree char *shown = str_fmt("%.64s", key);
            return bad(t, shown, "is not a field of this request");
        }
    }
    return NULL;
}

struct err *json_table_load(const struct json_table *t, const json_t *obj, void *out, uint64_t *ret_present)
{
    uint64_t present = 0;
    struct err *e = NULL;

    if (obj && !json_is_object(obj))
        e = err_field(t->name ? t->name : "body", "must be a JSON object");
    if (!e && obj && !t->open)
        e = refuse_unknown(t, obj);
    for (size_t i = 0; !e && i < t->count; i++) {
        const struct json_field *f = &t->fields[i];
        json_t *v = obj ? json_object_get(obj, f->name) : NULL;

        if (v) {
            present |= UINT64_C(1) << i;
            e = load_field(t, f, v, out);
        } else if (f->required) {
            e = bad(t, f->name, "is required");
        }
    }
    if (e) {
        json_table_clear(t, out);
        return e;
    }
    if (ret_present)
        *ret_present = present;
    return NULL;
}

static json_t *save_field(const struct json_field *f, const void *p)
{
    switch (f->kind) {
    case JSON_KIND_STRING:
        return *(char *const *)p ? json_string(*(char *const *)p) : json_null();
    case JSON_KIND_INT:
        return json_integer(*(const int64_t *)p);
    case JSON_KIND_BOOL:
        return json_boolean(*(const bool *)p);
    case JSON_KIND_ENUM:
        return json_string(f->choices[*(const int *)p]);
    case JSON_KIND_JSON:
        return *(json_t *const *)p ? json_incref(*(json_t *const *)p) : json_null();
    }
    abort();
}

json_t *json_table_save(const struct json_table *t, const void *in)
{
    json_t *obj = json_object();

    for (size_t i = 0; i < t->count; i++)
        json_object_set_new(obj, t->fields[i].name, save_field(&t->fields[i], (const char *)in + t->fields[i].offset));
    return obj;
}

void json_table_clear(const struct json_table *t, void *out)
{
    for (size_t i = 0; i < t->count; i++) {
        void *p = member(&t->fields[i], out);

        switch (t->fields[i].kind) {
        case JSON_KIND_STRING:
            free(*(char **)p);
            *(char **)p = NULL;
            break;
        case JSON_KIND_INT:
            *(int64_t *)p = 0;
            break;
        case JSON_KIND_BOOL:
            *(bool *)p = false;
            break;
        case JSON_KIND_ENUM:
            *(int *)p = 0;
            break;
        case JSON_KIND_JSON:
            json_decref(*(json_t **)p);
            *(json_t **)p = NULL;
            break;
        }
    }
}

struct err *json_parse(const char *text, size_t len, const char *what, json_t **ret)
{
    json_error_t error;
    json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

    if (!j)
        return err_field(what, "is not valid JSON: %s (line %d, column %d)", error.text, error.line, error.column);
    *ret = j;
    return NULL;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash =
        (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15); /* 2^64 divided by the golden ratio: odd, its bits well mixed */
    return hash ^ (hash >> 32);
}

static uint64_t mix_text(uint64_t hash, const char *s)
{
    size_t len = s ? strlen(s) : 0;
    uint64_t word;

    hash = mix(hash, s ? len + 1 : 0);
    for (; len >= sizeof(word); s += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, s, sizeof(word));
        hash = mix(hash, word);
    }
    word = 0;
    if (len > 0)
        memcpy(&word, s, len);
    return mix(hash, word);
}

static uint64_t mix_json(uint64_t hash, const json_t *j)
{
    const char *key;
    json_t *v;
    size_t i;

    hash = mix(hash, j ? (uint64_t)json_typeof(j) + 1 : 0);
    if (json_is_string(j))
        return mix_text(hash, json_string_value(j));
    if (json_is_integer(j))
        return mix(hash, (uint64_t)json_integer_value(j));
    json_array_foreach((json_t *)(uintptr_t)j, i, v) hash = mix_json(hash, v);
    json_object_foreach((json_t *)(uintptr_t)j, key, v) hash = mix_json(mix_text(hash, key), v);
    return hash;
}

uint64_t json_table_hash(const struct json_table *t, const void *in)
{
    uint64_t hash = t->count;

    for (size_t i = 0; i < t->count; i++) {
        const struct json_field *f = &t->fields[i];
        const void *p = (const char *)in + f->offset;

        if (f->unhashed)
            continue;
        switch (f->kind) {
        case JSON_KIND_STRING:
            hash = mix_text(hash, *(char *const *)p);
            break;
        case JSON_KIND_INT:
            hash = mix(hash, (uint64_t) * (const int64_t *)p);
            break;
        case JSON_KIND_BOOL:
            hash = mix(hash, *(const bool *)p);
            break;
        case JSON_KIND_ENUM:
            hash = mix(hash, (uint64_t) * (const int *)p);
            break;
        case JSON_KIND_JSON:
            hash = mix_json(hash, *(json_t *const *)p);
            break;
        }
    }
    return hash;
}

bool json_has_string(const json_t *array, const char *text)
{
    const json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)array, i, v) if (str_eq(json_string_value(v), text)) return true;
    return false;
}

/* How many bytes of `text` are one character of UTF-8; 0: none. */
static size_t character(const char *text, size_t len)
{
    for (size_t n = 1; n <= 4 && n <= len; n++) {
        autojson one = json_stringn(text, n);

        if (one)
            return n;
    }
    return 0;
}

json_t *json_text(const char *text, size_t max)
{
    size_t len = text ? strnlen(text, max) : 0, n;
    json_t *whole = text ? json_stringn(text, len) : json_null();
    autofree char *copy = NULL;

    if (whole)
        return whole;
    copy = mem_alloc(len + 1, 1);
    memcpy(copy, text, len);
    for (size_t at = 0; at < len; at += MAX(n, 1)) {
        n = character(copy + at, len - at);
        if (n == 0)
            copy[at] = '?';
    }
    return json_stringn(copy, len);
}
