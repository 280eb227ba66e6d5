/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/project.h"

#include <assert.h>
#include <ctype.h>

#include "agent/events/event.h"
#include "base/clock.h"
#include "base/str.h"

#define P(kind, member, ...) F_##kind(struct project, member, __VA_ARGS__)
static const struct json_field fields[] = {
    P(STRING, id, .required = true),
    P(STRING, user_id, .required = true),
    P(STRING, alias, .required = true),
    P(STRING, color, .required = true),
    P(INT, created_at),
    P(INT, updated_at),
    P(INT, max_containers),
    P(BOOL, is_default),
    P(BOOL, deleting),
    P(BOOL, inter_container),
    P(JSON, realm_ids, .required = true, .has_type = true, .type = JSON_ARRAY),
    P(JSON, request, .nullable = true),
};
JSON_TABLE(project_table, "project", fields);

/* Nobody has chosen this alias, so it gives way to one that somebody chose. */
static char *free_alias(const struct agent *a, const char *wanted)
{
    char *alias = str_dup(wanted);

    for (int i = 2; project_find_by_alias(a, alias); i++) {
        free(alias);
        alias = str_fmt("%s-%d", wanted, i);
    }
    return alias;
}

struct project *project_new(const struct agent *a, const char *id, const char *alias)
{
    struct project *p = mem_new(struct project);

    p->id = str_dup(id);
    p->user_id = str_dup(a->node_id);
    p->alias = alias ? str_dup(alias) : free_alias(a, id);
    p->color = str_fmt("#%.6s", id + strlen(id) - 6);
    for (char *c = p->color; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    p->created_at = p->updated_at = clock_wall_ms();
    p->max_containers = -1;
    p->realm_ids = json_array();
    return p;
}

void project_free(struct project *p)
{
    if (!p)
        return;
    json_table_clear(&project_table, p);
    free(p);
}

struct project *project_find(const struct agent *a, const char *id)
{
    for (size_t i = 0; i < a->project_count; i++)
        if (str_eq(a->projects[i]->id, id))
            return a->projects[i];
    return NULL;
}

struct project *project_find_by_alias(const struct agent *a, const char *alias)
{
    for (size_t i = 0; i < a->project_count; i++)
        if (str_eq(a->projects[i]->alias, alias))
            return a->projects[i];
    return NULL;
}

static uint16_t free_group(const struct agent *a)
{
    autofree bool *used = mem_new_array(bool, UINT16_MAX + 1);
    int group = 1;

    for (size_t i = 0; i < a->project_count; i++)
        used[a->projects[i]->group] = true;
    while (group <= UINT16_MAX && used[group])
        group++;
    return group <= UINT16_MAX ? (uint16_t)group : 0;
}

uint16_t project_group(const struct agent *a, const char *id)
{
    const struct project *p = project_find(a, id);

    return p && p->inter_container ? p->group : 0;
}

void project_add(struct agent *a, struct project *p)
{
    p->group = free_group(a);
    a->projects = mem_grow(a->projects, a->project_count + 1, sizeof(struct project *));
    a->projects[a->project_count++] = p;
}

void project_remove(struct agent *a, struct project *p)
{
    size_t i = 0;

    while (i < a->project_count && a->projects[i] != p)
        i++;
    assert(i < a->project_count);
    a->projects[i] = a->projects[--a->project_count];
    project_free(p);
}

size_t project_container_count(const struct agent *a, const char *id)
{
    size_t n = 0;

    for (size_t i = 0; i < a->container_count; i++)
        n += str_eq(a->containers[i]->record.project_id, id);
    return n;
}

void record_put_project(struct store_tx *tx, const struct project *p)
{
    store_tx_add(tx, STORE_PROJECT_PUT,
                 json_pack("[s, s, o]", p->id, p->alias, store_text(json_table_save(&project_table, p))));
}

struct err *project_check_enter(const struct agent *a, const char *field, const char *id)
{
    const struct project *p = project_find(a, id);
    size_t count;

    if (!p && !a->config->record_projects)
        return err_reason(err_new(ERR_NOT_FOUND, "%s: this server has no such project", field), "RESOURCE_NOT_FOUND");
    if (!p)
        return NULL;
    if (p->deleting)
        return err_reason(err_new(ERR_CONFLICT, "%s: the project is being deleted", field), "RESOURCE_IN_USE");
    count = project_container_count(a, id);
    if (p->max_containers >= 0 && count >= (size_t)p->max_containers)
        return err_data(err_reason(err_new(ERR_LIMIT, "The project takes %lld containers and has them",
                                           (long long)p->max_containers),
                                   "PROJECT_CONTAINER_LIMIT"),
                        json_pack("{s:s, s:s, s:I, s:I}", "field", "max_containers", "project_id", p->id,
                                  "current_count", (json_int_t)count, "limit", (json_int_t)p->max_containers));
    return NULL;
}

static void record_new(struct agent *a, struct project *p, struct store_tx *tx)
{
    project_add(a, p);
    record_put_project(tx, p);
}

void project_record(struct agent *a, const char *id, struct store_tx *tx)
{
    struct project *p;

    if (project_find(a, id))
        return;
    p = project_new(a, id, NULL);
    record_new(a, p, tx);
    event_add_for(a, tx, "project.created", "project", p->id, p->id, NULL, project_to_json(p));
}

json_t *project_to_json(const struct project *p)
{
    autojson max = p->max_containers < 0 ? json_null() : json_integer(p->max_containers);
    char created[STR_TIME_SIZE], updated[STR_TIME_SIZE];

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:O, s:b, s:O}", "id", p->id, "user_id", p->user_id, "alias",
                     p->alias, "color", p->color, "created_at", str_time(p->created_at, created), "updated_at",
                     str_time(p->updated_at, updated), "max_containers", max, "is_default", p->is_default, "realm_ids",
                     p->realm_ids);
}

struct err *projects_complete(struct agent *a)
{
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();

    if (!project_find(a, PROJECT_DEFAULT_ID)) {
        autofree char *alias = free_alias(a, "default");
        struct project *p = project_new(a, PROJECT_DEFAULT_ID, alias);

        p->is_default = true;
        record_new(a, p, tx);
    }
    for (size_t i = 0; i < a->container_count; i++)
        if (!a->containers[i]->record.spare && !project_find(a, a->containers[i]->record.project_id))
            record_new(a, project_new(a, a->containers[i]->record.project_id, NULL), tx);
    return store_commit(a->store, tx);
}
