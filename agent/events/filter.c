/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events/filter.h"

#include "base/str.h"

/* Query parameters of the form `?name` have no value, and are no filter; deletions refuse them. */
static const char *value_of(const struct api_call *call, const char *name)
{
    const char *text = http_query(call->req, name);

    return text || call->verb != DELETE ? text : json_string_value(json_object_get(call->body, name));
}

static const char *const times[] = {"start_date", "end_date", "before_date"};

static bool is_known(const char *name)
{
#define X(known)                                                                                                       \
    if (str_eq(name, #known))                                                                                          \
        return true;
    EVENT_FILTER_MAP(X)
#undef X
    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        if (str_eq(name, times[i]))
            return true;
    return false;
}

static struct err *refused(const char *name, const char *why)
{
    return err_reason(err_field(name, "%s", why), "INVALID_BULK_DELETE_PARAMS");
}

struct strictness {
    const json_t *body;
    json_t *seen; /* an object: the query parameters so far */
    struct err *error;
};

static void check_parameter(void *owner, const char *name, const char *value)
{
    struct strictness *s = owner;

    if (s->error)
        return;
    if (!is_known(name))
        s->error = refused(name, "is no filter of events");
    else if (!value)
        s->error = refused(name, "has no value");
    else if (json_object_get(s->body, name) || json_object_get(s->seen, name))
        s->error = refused(name, "is given twice");
    json_object_set_new(s->seen, name, json_true());
}

struct err *event_filter_load_strict(const struct api_call *call, struct event_filter *f)
{
    autojson seen = json_object();
    struct strictness s = {.body = call->body, .seen = seen};
    const char *name;
    json_t *value;

    json_object_foreach(call->body, name, value)
    {
        if (!is_known(name))
            return refused(name, "is no filter of events");
        if (!json_is_string(value))
            return refused(name, "must be a string");
    }
    http_query_each(call->req, &s, check_parameter);
    return s.error ? s.error : event_filter_load(call, f);
}

static struct err *take_word(const struct api_call *call, const char *name, bool is_id, struct event_filter *f,
                             char **member)
{
    const char *text = value_of(call, name);

    if (!text)
        return NULL;
    if (is_id ? !str_is_object_id(text) : !str_is_made_of(text, "abcdefghijklmnopqrstuvwxyz0123456789._-", 64))
        return err_field(name, is_id ? "must be 24 hex digits" : "must be a word such as container.running");
    *member = str_dup(text);
    f->any = true;
    return NULL;
}

static struct err *take_time(const struct api_call *call, const char *name, struct event_filter *f, int64_t *member)
{
    const char *text = value_of(call, name);

    if (!text)
        return NULL;
    if (!str_to_time(text, member))
        return err_reason(err_field(name, "must be a time such as 2026-01-15T10:30:00.000Z"), "INVALID_DATE_RANGE");
    f->any = true;
    return NULL;
}

struct err *event_filter_load(const struct api_call *call, struct event_filter *f)
{
    int64_t before = INT64_MAX;
    struct err *e = NULL;

    *f = (struct event_filter){.end = INT64_MAX};
#define X(name)                                                                                                        \
    if (!e)                                                                                                            \
        e = take_word(call, #name, strstr(#name, "_id") != NULL && strcmp(#name, "resource_id") != 0, f, &f->name);
    EVENT_FILTER_MAP(X)
#undef X
    if (!e)
        e = take_time(call, times[0], f, &f->start);
    if (!e)
        e = take_time(call, times[1], f, &f->end);
    if (!e)
        e = take_time(call, times[2], f, &before);
    f->end = MIN(f->end, before - 1);
    if (!e && f->start > 0 && f->start > f->end)
        e = err_reason(err_field("start_date", "must not be after end_date, and must be before before_date"),
                       "INVALID_DATE_RANGE");
    if (e)
        event_filter_clear(f);
    return e;
}

void event_filter_clear(struct event_filter *f)
{
#define X(name) free(f->name);
    EVENT_FILTER_MAP(X)
#undef X
    *f = (struct event_filter){0};
}

const char *event_filter_given(const struct api_call *call)
{
#define X(name)                                                                                                        \
    if (http_query(call->req, #name))                                                                                  \
        return #name;
    EVENT_FILTER_MAP(X)
#undef X
    return event_filter_time_given(call);
}

const char *event_filter_time_given(const struct api_call *call)
{
    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        if (http_query(call->req, times[i]))
            return times[i];
    return NULL;
}

enum store_statement event_filter_statement(const struct event_filter *f, enum event_statement which)
{
    enum store_statement family = STORE_EVENT_ALL_TIME_DESC;

    if (f->container_id)
        family = STORE_EVENT_CONTAINER_TIME_DESC;
    else if (f->resource_id)
        family = STORE_EVENT_RESOURCE_TIME_DESC;
    else if (f->project_id)
        family = STORE_EVENT_PROJECT_TIME_DESC;
    else if (f->event_type)
        family = STORE_EVENT_TYPE_TIME_DESC;
    return (enum store_statement)((int)family + (int)which);
}

json_t *event_filter_params(const struct event_filter *f)
{
    return json_pack("[s?, s?, s?, s?, s?, I, I, s?]", f->event_type, f->resource_type, f->resource_id, f->project_id,
                     f->container_id, (json_int_t)f->start, (json_int_t)f->end, f->realm_id);
}

static bool equal(const char *wanted, const json_t *row, const char *column)
{
    return !wanted || str_eq(wanted, json_string_value(json_object_get(row, column)));
}

bool event_filter_matches(const struct event_filter *f, const json_t *row)
{
    const char *realms = json_string_value(json_object_get(row, "realm_ids"));

    return equal(f->event_type, row, "event_type") && equal(f->resource_type, row, "resource_type") &&
           equal(f->resource_id, row, "resource_id") && equal(f->project_id, row, "project_id") &&
           equal(f->container_id, row, "container_id") && (!f->realm_id || (realms && strstr(realms, f->realm_id)));
}
