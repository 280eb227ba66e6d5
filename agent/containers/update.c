/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/update.h"

#include "agent/events/event.h"
#include "base/clock.h"
#include "base/str.h"

/* What a change may change; the rest of a record has other owners. */
static const char *const members[] = {"name",
                                      "color",
                                      "ai",
                                      "autostart",
                                      "ramdisk",
                                      "comment",
                                      "environment",
                                      "realm_ids",
                                      "ssh_public_key",
                                      "updated_at",
                                      "env_revision",
                                      "env_attempts",
                                      "ssh_revision",
                                      "ssh_removed",
                                      "ssh_installed_at",
                                      "ramdisk_revision",
                                      "ramdisk_scope"};

struct err *update_check_state(const struct container *c)
{
    if (c->record.status == CONTAINER_CREATING || c->record.status == CONTAINER_COPYING)
        return operation_check_free(c, "update");
    return container_check_staying(c);
}

struct update *update_new(const struct api_call *call, void (*reply)(const struct update *u, const struct container *c))
{
    struct update *u = mem_new(struct update);

    *u = (struct update){.agent = call->agent, .req = call->req, .reply = reply};
    u->container_id = str_dup(call->container->record.id);
    u->before = json_table_save(&container_record_table, &call->container->record);
    return u;
}

void update_part(struct update *u, struct container *c, enum guest_part part)
{
    u->parts[part] = true;
    guest_changed(c, part);
}

static void end(struct update *u)
{
    json_decref(u->before);
    free(u->container_id);
    free(u);
}

static void undo(const struct update *u, struct container *c)
{
    struct container_record old = {0};
    autojson j = NULL;

    if (!c || c->record.updated_at != u->updated_at)
        return; /* somebody has changed it again */
    j = json_table_save(&container_record_table, &c->record);
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        json_object_set(j, members[i], json_object_get(u->before, members[i]));
    err_ignore(json_table_load(&container_record_table, j, &old, NULL));
    json_table_clear(&container_record_table, &c->record);
    c->record = old;
}

static void answer(struct update *u)
{
    const struct container *c = agent_find(u->agent, u->container_id);

    if (u->error)
        reply_host_err(u->req, err_wrap(steal(&u->error), "recorded, but not in effect yet"));
    else if (!c)
        reply_err(u->req, err_reason(err_new(ERR_NOT_FOUND, "Container not found"), "CONTAINER_NOT_FOUND"));
    else
        u->reply(u, c);
    end(u);
}

static void apply_next(struct update *u);

static void on_applied(void *owner, struct err *e)
{
    struct update *u = owner;

    if (u->next++ == GUEST_ENVIRONMENT)
        err_free(e); /* env_sync says it */
    else
        u->error = err_first(u->error, e);
    apply_next(u);
}

static void apply_next(struct update *u)
{
    struct container *c = agent_find(u->agent, u->container_id);

    while (u->next < GUEST_PARTS && !u->parts[u->next])
        u->next++;
    if (c && u->next < GUEST_PARTS)
        guest_apply(u->agent, c, u->next, u, on_applied);
    else
        answer(u);
}

static void on_recorded(void *owner, struct err *e)
{
    struct update *u = owner;

    if (!e) {
        apply_next(u);
        return;
    }
    undo(u, agent_find(u->agent, u->container_id));
    reply_host_err(u->req, e);
    end(u);
}

void update_tell_environment(struct agent *a, struct store_tx *tx, const struct container *c)
{
    event_add(a, tx, "container.env.updated", c,
              json_pack("{s:I, s:I}", "revision", (json_int_t)c->record.env_revision, "variables",
                        (json_int_t)json_object_size(c->record.environment)));
}

void update_commit(struct update *u, struct container *c, struct store_tx *tx)
{
    c->record.updated_at = u->updated_at = MAX(clock_wall_ms(), c->record.updated_at + 1);
    u->env_revision = c->record.env_revision;
    u->agent->routes_revision++; /* they have its name */
    record_put(tx, c);
    agent_commit(u->agent, tx, u, on_recorded);
}
