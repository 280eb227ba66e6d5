/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/texts.h"

#include <stdarg.h>
#include <stdio.h>

#include "agent/api/api.h"
#include "agent/containers/project.h"
#include "agent/events/feed.h"
#include "agent/operations/takeover.h"
#include "base/str.h"

typedef json_t *make_fn(const struct agent *a, const struct container *c);

struct texts {
    struct text object, route;
};

/* All that is not in the record and shows in one of the texts. */
struct around {
    int64_t status, snapshots, init_pid, kits;
    char *project_alias;
    char *operation_id, *operation, *operation_hint;
};
#define A(kind, member) F_##kind(struct around, member)
static const struct json_field around_fields[] = {
    A(INT, status),           A(INT, snapshots),       A(INT, init_pid),     A(INT, kits),
    A(STRING, project_alias), A(STRING, operation_id), A(STRING, operation), A(STRING, operation_hint)};
static JSON_TABLE(around_table, NULL, around_fields);

static uint64_t hash_of(const struct agent *a, const struct container *c)
{
    const struct project *project = project_find(a, c->record.project_id);
    autofree char *hint = c->op ? operation_hint(c->op) : NULL;
    const struct around around = {
        .status = c->committing ? c->status_before : c->record.status,
        .snapshots = (int64_t)c->snapshot_count,
        .init_pid = c->init_pid,
        .kits = a->kits_revision,
        .project_alias = project ? project->alias : NULL,
        .operation_id = c->op ? c->op->id : NULL,
        .operation = c->op ? (char *)(uintptr_t)operation_command(c->op) : NULL,
        .operation_hint = hint,
    };

    return json_table_hash(&container_record_table, &c->record) ^ json_table_hash(&around_table, &around);
}

static char *render(make_fn *make, const struct agent *a, const struct container *c)
{
    autojson j = make(a, c);
    char *text = json_dumps(j, JSON_COMPACT);

    return text ? text : str_dup("null");
}

#ifdef __SANITIZE_ADDRESS__
static void check(const struct text *t, make_fn *make, const struct agent *a, const struct container *c)
{
    autofree char *fresh = render(make, a, c);

    if (!str_eq(fresh, t->text)) {
        fprintf(stderr, "a kept text is out of date:\n%s\n%s\n", t->text, fresh);
        abort();
    }
}
#else
#define check(t, make, a, c) ((void)0)
#endif

static const struct text *get(struct text *t, make_fn *make, const struct agent *a, const struct container *c)
{
    uint64_t hash = hash_of(a, c);

    if (t->text && t->of == hash) {
        check(t, make, a, c);
        return t;
    }
    free(t->text);
    t->text = render(make, a, c);
    t->len = strlen(t->text);
    t->of = hash;
    return t;
}

static struct texts *texts_of(struct container *c)
{
    if (!c->texts)
        c->texts = mem_new(struct texts);
    return c->texts;
}

const struct text *texts_object(const struct agent *a, struct container *c)
{
    return get(&texts_of(c)->object, container_to_json, a, c);
}

const struct text *texts_route(const struct agent *a, struct container *c)
{
    return get(&texts_of(c)->route, feed_route, a, c);
}

void texts_free(struct texts *t)
{
    if (!t)
        return;
    free(t->object.text);
    free(t->route.text);
    free(t);
}

void text_add(struct text_buffer *b, const char *text, size_t len)
{
    if (b->len + len + 1 > b->size) {
        b->size = MAX(b->size * 2, b->len + len + 1024);
        b->text = mem_grow(b->text, b->size, 1);
    }
    memcpy(b->text + b->len, text, len);
    b->len += len;
    b->text[b->len] = '\0';
}

void text_add_format(struct text_buffer *b, const char *format, ...)
{
    char text[512];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    text_add(b, text, MIN((size_t)MAX(n, 0), sizeof(text) - 1));
}
