/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the records in the pool to rows of the database. The rows are merged in memory first, so that no two containers
 * get one slot or one name, and then written in one transaction.
 */
#include "agent/recovery/recovery.h"

#include "agent/agent.h"
#include "agent/containers/project.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "images/image.h"

enum { AT_ID, AT_SLOT, AT_PROJECT, AT_NAME, AT_BODY }; /* parameters of STORE_CONTAINER_PUT */

/* A container as it is to be after the adoption. */
struct merged {
    struct container_record record;
    bool changed; /* its row is new or different */
    bool came;    /* from the pool: it keeps its slot and its name when another one wants them */
    bool drop;
};

struct adoption {
    struct agent *agent;
    const struct judgement *judgement;
    struct merged *containers;
    size_t count;
    size_t adopted;
    struct store_tx *tx;
};

static struct err *load_record(const char *text, struct container_record *ret)
{
    autojson body = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;

    *ret = (struct container_record){0};
    return body ? json_table_load(&container_record_table, body, ret, NULL)
                : err_new(ERR_INTERNAL, "the record is not JSON");
}

static struct merged *find(struct adoption *x, const char *id)
{
    for (size_t i = 0; i < x->count; i++)
        if (str_eq(x->containers[i].record.id, id))
            return &x->containers[i];
    return NULL;
}

static struct merged *find_slot(struct adoption *x, int64_t slot, const struct merged *not_this)
{
    for (size_t i = 0; i < x->count; i++)
        if (&x->containers[i] != not_this && !x->containers[i].drop && x->containers[i].record.slot == slot)
            return &x->containers[i];
    return NULL;
}

static void take(struct adoption *x, struct container_record *record, bool came)
{
    struct merged *m = find(x, record->id);

    if (!m) {
        x->containers = mem_grow(x->containers, x->count + 1, sizeof(struct merged));
        m = &x->containers[x->count++];
        *m = (struct merged){0};
    }
    json_table_clear(&container_record_table, &m->record);
    m->record = *record;
    m->came = m->changed = came;
}

static struct err *take_rows(struct adoption *x)
{
    autojson rows = NULL;
    struct err *e = store_query(x->agent->store, STORE_CONTAINER_ALL, NULL, &rows);
    const json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        struct container_record record;

        if (!e)
            e = err_wrap(load_record(json_string_value(json_object_get(row, "body")), &record), "container '%s'",
                         json_string_value(json_object_get(row, "id")));
        if (!e)
            take(x, &record, false);
    }
    return e;
}

/* What was under way when the record was written is over: a whole disk is a stopped container, and one that runs is
 * found running by the start. */
static void settle(struct container_record *r, const struct finding *f)
{
    bool between = r->status != CONTAINER_RUNNING && r->status != CONTAINER_PAUSED && r->status != CONTAINER_STOPPED;

    if (!f->rootfs && !f->running)
        r->status = CONTAINER_FAILED;
    else if (between)
        r->status = CONTAINER_STOPPED;
    r->slot = f->slot;
}

/* A disk whose record is gone or damaged: everything that can be known of it is its place. */
static void invent(struct container_record *r, const struct finding *f, const char *image)
{
    char id[ID_OBJECT_LEN + 1], machine_id[ID_OPERATION_LEN + 1];

    id_object(id);
    id_operation(machine_id);
    *r = (struct container_record){.id = str_dup(id),
                                   .project_id = str_dup(PROJECT_DEFAULT_ID),
                                   .name = str_fmt("recovered-%lld", (long long)f->slot),
                                   .machine_id = str_dup(machine_id),
                                   .image = image_name_canonical(image),
                                   .color = str_fmt("#%06llX", (long long)f->slot),
                                   .slot = f->slot,
                                   .status = CONTAINER_STOPPED,
                                   .environment = json_object(),
                                   .realm_ids = json_array(),
                                   .kits = json_array(),
                                   .created_at = clock_wall_ms(),
                                   .updated_at = clock_wall_ms()};
    r->hostname = str_dup(r->name);
}

static bool wants_adoption(const struct finding *f)
{
    return f->verdict == FINDING_UNKNOWN || f->verdict == FINDING_OTHER || f->verdict == FINDING_NEWER;
}

static void take_disks(struct adoption *x)
{
    for (size_t i = 0; i < x->judgement->count; i++) {
        const struct finding *f = &x->judgement->findings[i];
        const json_t *row = json_object_get(json_array_get(f->records, 0), "row");
        struct container_record record = {0};
        struct err *e;

        if (!wants_adoption(f))
            continue;
        e = row ? load_record(json_string_value(json_array_get(row, AT_BODY)), &record)
                : err_new(ERR_NOT_FOUND, "there is no record");
        if (e)
            log_warning(NULL, "slot %lld: %s; the container is named recovered-%lld", (long long)f->slot,
                        err_message(e), (long long)f->slot);
        if (e)
            invent(&record, f, x->agent->config->default_image);
        err_free(e);
        settle(&record, f);
        take(x, &record, true);
        x->adopted++;
    }
}

/* A row that has lost its slot to the container whose disk is there. It had been deleted when that one was made. */
static struct err *find_another_slot(struct adoption *x, struct merged *loser)
{
    for (int64_t slot = 1; slot <= (int64_t)net_plan_max_slot(&x->agent->plan); slot++) {
        if (find_slot(x, slot, loser))
            continue;
        loser->record.slot = slot;
        loser->record.status = CONTAINER_FAILED;
        loser->record.started_at = 0;
        loser->changed = true;
        return NULL;
    }
    return err_new(ERR_LIMIT, "there is no free slot for container '%s'", loser->record.id);
}

static struct err *settle_slots(struct adoption *x)
{
    struct err *e = NULL;

    for (size_t i = 0; !e && i < x->count; i++) {
        struct merged *m = &x->containers[i];

        if (m->came || !find_slot(x, m->record.slot, m))
            continue;
        if (m->record.spare)
            m->drop = true; /* it belongs to no project: the warm pool makes another */
        else
            e = find_another_slot(x, m);
    }
    return e;
}

static bool name_is_taken(const struct adoption *x, const struct merged *m)
{
    for (size_t i = 0; i < x->count; i++) {
        const struct merged *other = &x->containers[i];

        if (other != m && !other->drop && str_eq(other->record.name, m->record.name) &&
            str_eq(other->record.project_id, m->record.project_id) && (other->came || !m->came || other < m))
            return true;
    }
    return false;
}

static void settle_names(struct adoption *x)
{
    for (size_t i = 0; i < x->count; i++) {
        struct merged *m = &x->containers[i];

        if (m->drop || !name_is_taken(x, m))
            continue;
        /* Names have at most 100 characters; the end of the id makes one of its own. */
        char *name = str_fmt("%.90s-%s", m->record.name, m->record.id + 18);

        log_notice(NULL, "two containers are named '%s': one is '%s' now", m->record.name, name);
        free(m->record.name);
        m->record.name = name;
        m->changed = true;
    }
}

static void put_container(struct adoption *x, const struct merged *m, const char *name)
{
    const struct container_record *r = &m->record;

    store_tx_add(x->tx, STORE_CONTAINER_PUT,
                 json_pack("[s, I, s, s, o]", r->id, (json_int_t)r->slot, r->project_id, name,
                           store_text(json_table_save(&container_record_table, r))));
}

/* Slots and names are unique in the table at every moment, and two rows may exchange theirs: rows that change first get
 * out of each other's way, to a negative slot and to their id as a name. */
static void put_containers(struct adoption *x)
{
    for (size_t i = 0; i < x->count; i++) {
        struct merged *m = &x->containers[i];
        int64_t slot = m->record.slot;

        if (m->drop)
            store_tx_add(x->tx, STORE_CONTAINER_DELETE, json_pack("[s]", m->record.id));
        if (m->drop || !m->changed)
            continue;
        m->record.slot = -slot;
        put_container(x, m, m->record.id);
        m->record.slot = slot;
    }
    for (size_t i = 0; i < x->count; i++)
        if (!x->containers[i].drop && x->containers[i].changed)
            put_container(x, &x->containers[i], x->containers[i].record.name);
}

static void put_row(struct adoption *x, const json_t *entry)
{
    enum store_statement statement = (enum store_statement)json_integer_value(json_object_get(entry, "statement"));

    store_tx_add(x->tx, statement, json_deep_copy(json_object_get(entry, "row")));
}

/* Rules, way out and snapshots of every disk that have a newer record than the database. */
static void put_rest_of_disks(struct adoption *x)
{
    for (size_t i = 0; i < x->judgement->count; i++) {
        const struct finding *f = &x->judgement->findings[i];
        const json_t *entry;
        size_t k;

        json_array_foreach(f->records, k, entry)
        {
            bool newer = json_integer_value(json_object_get(entry, "generation")) > x->agent->generation;

            if (k > 0 && (newer || f->verdict == FINDING_UNKNOWN))
                put_row(x, entry);
        }
    }
}

static bool is_known(const json_t *rows, const char *member, const char *value)
{
    const json_t *row;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)rows, i,
                       row) if (str_eq(json_string_value(json_object_get(row, member)), value)) return true;
    return false;
}

/* An alias that another project has is not taken over: the project keeps its id, and its own alias follows from that.
 */
static void put_project(struct adoption *x, const json_t *entry, const json_t *projects)
{
    const json_t *row = json_object_get(entry, "row");
    const char *id = json_string_value(json_array_get(row, 0)), *alias = json_string_value(json_array_get(row, 1));
    const json_t *other;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)projects, i, other)
    {
        if (str_eq(json_string_value(json_object_get(other, "alias")), alias) &&
            !str_eq(json_string_value(json_object_get(other, "id")), id)) {
            log_warning(NULL, "the alias '%s' of project '%s' belongs to another project: it gets one of its own",
                        alias, id);
            return; /* the load makes a row for the projects of containers that have none */
        }
    }
    put_row(x, entry);
}

static struct err *put_rest_of_pool(struct adoption *x)
{
    size_t damaged = 0;
    autojson list = mirror_read(x->agent->config->pool, 0, &damaged);
    autojson projects = NULL;
    autojson images = NULL;
    autojson shares = NULL;
    struct err *e = store_query(x->agent->store, STORE_PROJECT_ALL, NULL, &projects);
    const json_t *entry;
    size_t i;

    if (!e)
        e = store_query(x->agent->store, STORE_IMAGE_ALL, NULL, &images);
    if (!e)
        e = store_query(x->agent->store, STORE_SHARE_ALL, NULL, &shares);
    json_array_foreach(list, i, entry)
    {
        enum store_statement statement = (enum store_statement)json_integer_value(json_object_get(entry, "statement"));
        const json_t *row = json_object_get(entry, "row");
        const char *id = json_string_value(json_array_get(row, 0));
        bool newer = json_integer_value(json_object_get(entry, "generation")) > x->agent->generation;

        if (statement == STORE_PROJECT_PUT && (newer || !is_known(projects, "id", id)))
            put_project(x, entry, projects);
        else if (statement == STORE_IMAGE_PUT && (newer || !is_known(images, "fingerprint", id)))
            put_row(x, entry);
        else if (statement == STORE_SHARE_PUT && newer && find(x, json_string_value(json_array_get(row, 1))))
            put_row(x, entry);
    }
    return e;
}

static void put_meta(struct adoption *x)
{
    const struct mirror_node *pool = &x->judgement->pool;
    autofree char *generation = str_fmt("%lld", (long long)MAX(x->agent->generation, pool->generation) + 1);

    store_tx_add(x->tx, STORE_META_PUT, json_pack("[s, s]", "generation", generation));
    store_tx_add(x->tx, STORE_INTENT_CLEAR, json_array());
    if (!pool->pool_id[0])
        return;
    store_tx_add(x->tx, STORE_META_PUT, json_pack("[s, s]", "pool_id", pool->pool_id));
    if (x->judgement->reason == HOLD_DATABASE_LOST)
        store_tx_add(x->tx, STORE_META_PUT, json_pack("[s, s]", "node_id", pool->node_id));
}

struct err *adopt_rows(struct agent *a, const struct judgement *j, size_t *ret_count)
{
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();
    struct adoption x = {.agent = a, .judgement = j, .tx = tx};
    struct err *e = take_rows(&x);

    if (!e)
        take_disks(&x);
    if (!e)
        e = settle_slots(&x);
    if (!e) {
        settle_names(&x);
        put_containers(&x);
        put_rest_of_disks(&x);
        e = put_rest_of_pool(&x);
    }
    if (!e && j->reason != HOLD_NONE)
        put_meta(&x);
    if (!e)
        e = failpoint("recover.adopt");
    if (!e)
        e = store_commit(a->store, tx);
    if (!e)
        e = failpoint("recover.adopted");
    for (size_t i = 0; i < x.count; i++)
        json_table_clear(&container_record_table, &x.containers[i].record);
    free(x.containers);
    *ret_count = x.adopted;
    return e;
}

struct err *accept_check(const struct judgement *j)
{
    for (size_t i = 0; i < j->count; i++)
        if (j->findings[i].verdict == FINDING_OTHER)
            return err_new(
                ERR_CONFLICT,
                "the disk in slot %lld is of container '%s', not of the one that the database has there: only "
                "\"nodectl recover adopt\" keeps both",
                (long long)j->findings[i].slot, j->findings[i].id);
    return NULL;
}

struct err *accept_rows(struct agent *a, const struct judgement *j)
{
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();

    store_tx_add(tx, STORE_INTENT_CLEAR, json_array());
    store_tx_add(tx, STORE_META_PUT, json_pack("[s, s]", "accepted", hold_word(j->reason)));
    return store_commit(a->store, tx);
}
