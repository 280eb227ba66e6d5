/* SPDX-License-Identifier: Apache-2.0 */
#include "store/mirror.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/json_table.h"
#include "base/str.h"

#define FILE_MAX ((size_t)4 << 20)
#define SUFFIX ".json"
enum { NO_NAME = -1 };

static const struct rule {
    const char *word; /* first part of the file's name, and "statement" in it */
    enum store_statement put, gone;
    bool in_slot;
    int container, name; /* which parameters: the container's id, and what names the file */
    bool can_go;
} rules[] = {
    {"container", STORE_CONTAINER_PUT, STORE_CONTAINER_DELETE, .in_slot = true, .container = 0, .name = NO_NAME},
    {"firewall", STORE_FIREWALL_PUT, STORE_FIREWALL_PUT, .in_slot = true, .container = 0, .name = NO_NAME},
    {"network", STORE_NETWORK_PUT, STORE_NETWORK_DELETE, .in_slot = true, .name = NO_NAME, .can_go = true},
    {"snapshot", STORE_SNAPSHOT_PUT, STORE_SNAPSHOT_DELETE, .in_slot = true, .name = 1, .can_go = true},
    {"project", STORE_PROJECT_PUT, STORE_PROJECT_DELETE, .name = 0, .can_go = true},
    {"image", STORE_IMAGE_PUT, STORE_IMAGE_DELETE, .name = 0, .can_go = true},
    {"share", STORE_SHARE_PUT, STORE_SHARE_DELETE, .name = 0, .can_go = true},
};

/* FNV-1a, 64 bits: every change of a single byte changes it. It finds damage, not forgery: who can write here is root.
 */
static void checksum(const char *word, int64_t generation, const json_t *row, char ret[17])
{
    autofree char *text = json_dumps(row, JSON_COMPACT | JSON_ENCODE_ANY), *whole = NULL;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    whole = str_fmt("%s %lld %s", word, (long long)generation, text ? text : "");
    for (const char *p = whole; *p; p++)
        hash = (hash ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
    snprintf(ret, 17, "%016llx", (unsigned long long)hash);
}

static json_t *text_of(const char *word, int64_t generation, json_t *row)
{
    char check[17];

    checksum(word, generation, row, check);
    return store_text(json_pack("{s:s, s:I, s:O, s:s}", "statement", word, "generation", (json_int_t)generation, "row",
                                row, "check", check));
}

struct plan {
    const struct rule *rule;
    int64_t generation;
    mirror_slot_fn *slot_of;
    void *owner;
    json_t *files;
    bool gone;
};

/* The container's own row tells its slot; the others refer to a container that the caller knows. */
static int64_t slot_of_row(const struct plan *p, const json_t *row)
{
    if (p->rule->put == STORE_CONTAINER_PUT)
        return json_integer_value(json_array_get(row, 1));
    return p->slot_of(p->owner, json_string_value(json_array_get(row, (size_t)p->rule->container)));
}

static void plan_one(void *owner, json_t *row)
{
    const struct plan *p = owner;
    const char *name = p->rule->name == NO_NAME ? NULL : json_string_value(json_array_get(row, (size_t)p->rule->name));
    int64_t slot = p->rule->in_slot ? slot_of_row(p, row) : 0;
    autofree char *path = NULL;

    if ((p->rule->in_slot && slot < 1) || (name && strchr(name, '/')))
        return;
    if (slot)
        path = str_fmt("slots/%lld/records/%s%s%s" SUFFIX, (long long)slot, p->rule->word, name ? "-" : "",
                       name ? name : "");
    else
        path = str_fmt("records/%s-%s" SUFFIX, p->rule->word, name);
    json_object_set_new(p->files, path, p->gone ? json_null() : text_of(p->rule->word, p->generation, row));
}

void mirror_plan(const struct store_tx *tx, int64_t generation, mirror_slot_fn *slot_of, void *owner, json_t *files)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        struct plan p = {&rules[i], generation, slot_of, owner, files, .gone = true};

        if (rules[i].can_go)
            store_tx_each(tx, rules[i].gone, &p, plan_one);
        p.gone = false;
        store_tx_each(tx, rules[i].put, &p, plan_one);
    }
}

void mirror_plan_node(const char *pool_id, const char *node_id, int64_t generation, json_t *files)
{
    autojson row = json_pack("[s, s]", pool_id, node_id);

    json_object_set_new(files, "records/node" SUFFIX, text_of("node", generation, row));
}

static void note(void *owner, UNUSED json_t *row)
{
    *(bool *)owner = true;
}

bool mirror_concerns(const struct store_tx *tx)
{
    bool found = false;

    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        store_tx_each(tx, rules[i].put, &found, note);
        store_tx_each(tx, rules[i].gone, &found, note);
    }
    store_tx_each(tx, STORE_INTENT_PUT, &found, note);
    store_tx_each(tx, STORE_INTENT_DELETE, &found, note);
    return found;
}

/* "slots/5/records/x.json": the directory is made, but not the slot's. */
static struct err *open_directory(const char *pool, const char *path, int *ret)
{
    autofree char *dir = strndup(path, (size_t)(strrchr(path, '/') - path)), *whole = str_fmt("%s/%s", pool, dir);

    if (mkdir(whole, 0700) < 0 && errno != EEXIST && errno != ENOENT)
        return err_errno(errno, "cannot make '%s'", whole);
    *ret = open(whole, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret >= 0 || errno == ENOENT ? NULL : err_errno(errno, "'%s'", whole);
}

static struct err *write_one(const char *pool, const char *path, const char *text)
{
    const char *name = strrchr(path, '/') + 1;
    autofree char *temporary = str_fmt(".new-%s", name);
    autofd int dir = -1, fd = -1;
    struct err *e = open_directory(pool, path, &dir);

    if (e || dir < 0)
        return e;
    if (!text)
        return unlinkat(dir, name, 0) == 0 || errno == ENOENT ? NULL : err_errno(errno, "cannot remove '%s'", path);
    fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(errno, "cannot make '%s'", path);
    e = fd_write_all(fd, text, strlen(text));
    if (!e)
        e = failpoint("mirror.written");
    if (!e && renameat(dir, temporary, dir, name) < 0)
        e = err_errno(errno, "cannot rename '%s'", path);
    if (e)
        (void)unlinkat(dir, temporary, 0);
    return e;
}

struct err *mirror_write(const char *pool, const json_t *files)
{
    struct err *first = NULL;
    const char *path;
    json_t *text;

    json_object_foreach((json_t *)(uintptr_t)files, path, text) first =
        err_first(first, write_one(pool, path, json_string_value(text)));
    return first;
}

/* NULL when it is damaged. */
static json_t *parse(const char *text, size_t len)
{
    autojson j = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    const char *word = json_string_value(json_object_get(j, "statement"));
    const json_t *row = json_object_get(j, "row");
    char check[17];

    if (!word || !json_is_array(row))
        return NULL;
    checksum(word, json_integer_value(json_object_get(j, "generation")), row, check);
    return str_eq(check, json_string_value(json_object_get(j, "check"))) ? steal(&j) : NULL;
}

static struct err *read_file(const char *path, json_t **ret)
{
    autofree char *text = NULL;
    size_t len = 0;
    struct err *e = fd_read_file(path, FILE_MAX, &text, &len);

    if (e)
        return e;
    *ret = parse(text, len);
    return *ret ? NULL : err_new(ERR_INTERNAL, "the record '%s' is damaged", path);
}

void mirror_drop_equal(const char *pool, json_t *files)
{
    const char *path;
    json_t *text;
    void *next;

    json_object_foreach_safe(files, next, path, text)
    {
        autofree char *whole = str_fmt("%s/%s", pool, path);
        autojson there = NULL;
        autojson wanted = json_loads(json_string_value(text), 0, NULL);

        err_ignore(read_file(whole, &there));
        if (there && json_equal(json_object_get(there, "row"), json_object_get(wanted, "row")))
            json_object_del(files, path);
    }
}

struct err *mirror_read_node(const char *pool, struct mirror_node *ret)
{
    autofree char *path = str_fmt("%s/records/node" SUFFIX, pool);
    autojson j = NULL;
    struct err *e = read_file(path, &j);
    const json_t *row = json_object_get(j, "row");
    const char *pool_id = json_string_value(json_array_get(row, 0)),
               *node_id = json_string_value(json_array_get(row, 1));

    *ret = (struct mirror_node){0};
    if (e && e->code == ERR_NOT_FOUND) {
        err_free(e);
        return NULL;
    }
    if (!e && !(str_is_object_id(pool_id) && str_is_object_id(node_id)))
        e = err_new(ERR_INTERNAL, "the record '%s' is damaged", path);
    if (e)
        return e;
    snprintf(ret->pool_id, sizeof(ret->pool_id), "%s", pool_id);
    snprintf(ret->node_id, sizeof(ret->node_id), "%s", node_id);
    ret->generation = json_integer_value(json_object_get(j, "generation"));
    return NULL;
}

static const struct rule *rule_of(const json_t *j, bool in_slot)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rules[i].in_slot == in_slot && str_eq(rules[i].word, json_string_value(json_object_get(j, "statement"))))
            return &rules[i];
    return NULL;
}

static bool is_record(const char *name)
{
    size_t len = strlen(name);

    return name[0] != '.' && len > strlen(SUFFIX) && strcmp(name + len - strlen(SUFFIX), SUFFIX) == 0 &&
           strcmp(name, "node" SUFFIX) != 0;
}

static const char *container_of(const json_t *entry, const struct rule *rule)
{
    return json_string_value(json_array_get(json_object_get(entry, "row"), (size_t)rule->container));
}

/* Rows of a container that had the slot before stay behind when a claim gives the slot to another one. */
static void drop_others(json_t *list)
{
    const char *id = NULL;

    if (json_integer_value(json_object_get(json_array_get(list, 0), "statement")) == STORE_CONTAINER_PUT)
        id = json_string_value(json_array_get(json_object_get(json_array_get(list, 0), "row"), 0));
    for (size_t i = json_array_size(list); i > 0; i--) {
        json_t *entry = json_array_get(list, i - 1);

        if (!str_eq(json_string_value(json_object_get(entry, "container")), id))
            json_array_remove(list, i - 1);
    }
}

json_t *mirror_read(const char *pool, int64_t slot, size_t *ret_damaged)
{
    autofree char *dir = slot ? str_fmt("%s/slots/%lld/records", pool, (long long)slot) : str_fmt("%s/records", pool);
    json_t *list = json_array();
    DIR *d = opendir(dir);
    const struct dirent *entry;

    *ret_damaged = 0;
    while (d && (entry = readdir(d))) {
        autofree char *path = str_fmt("%s/%s", dir, entry->d_name);
        autojson j = NULL;
        const struct rule *rule;
        struct err *e;

        if (!is_record(entry->d_name))
            continue;
        e = read_file(path, &j);
        rule = e ? NULL : rule_of(j, slot != 0);
        *ret_damaged += rule == NULL;
        err_free(e);
        if (!rule)
            continue;
        json_object_set_new(j, "statement", json_integer(rule->put));
        if (slot)
            json_object_set_new(j, "container", json_string(container_of(j, rule)));
        if (rule->put == STORE_CONTAINER_PUT)
            json_array_insert(list, 0, j);
        else
            json_array_append(list, j);
    }
    if (d)
        closedir(d);
    if (slot)
        drop_others(list);
    return list;
}
