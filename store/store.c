/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <fcntl.h>
#include <sqlite3.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "store/migrations.h"

static const char *const texts[] = {
#define X(name, sql) [name] = (sql),
    STORE_STATEMENTS(X)
#undef X
};

/* Given up when the file system is full, so that stops and deletions can be recorded: they make room. */
#define RESERVE_BYTES (INT64_C(8) << 20)
#define RESERVE_AGAIN_MS 10000

struct store {
    sqlite3 *db;
    char *reserve; /* path; NULL: a reader */
    bool reserved;
    int64_t looked_ms; /* when the reserve was asked for last */
    sqlite3_stmt *prepared[STORE_STATEMENT_MAX];
};

struct store_tx {
    size_t count;
    struct {
        enum store_statement statement;
        json_t *params;
    } * items;
};

static bool is_full(struct store *s)
{
    return sqlite3_errcode(s->db) == SQLITE_FULL || sqlite3_extended_errcode(s->db) == SQLITE_IOERR_SHMSIZE;
}

static struct err *db_error(struct store *s, const char *what)
{
    if (is_full(s))
        return err_reason(err_new(ERR_HOST, "the file system of the database is full: make room in it"),
                          "CONTAINER_HOST_COMMAND_FAILED");
    return err_new(ERR_INTERNAL, "database: %s: %s", what, sqlite3_errmsg(s->db));
}

/* The first complaint of a check, which answers "ok" or has no row when there is none. */
static struct err *check_by(struct store *s, const char *sql)
{
    sqlite3_stmt *st = NULL;
    struct err *e = NULL;
    const char *text;
    int rc;

    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK)
        return db_error(s, "check");
    rc = sqlite3_step(st);
    text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : NULL;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        e = db_error(s, "check");
    else if (text && strcmp(text, "ok") != 0)
        e = err_new(ERR_INTERNAL, "the file is damaged: %s", text);
    sqlite3_finalize(st);
    return e;
}

/* Every page, index and constraint of what the node acts on, before anything of it is believed. The history, which can
 * be a thousand times as large and which nothing depends on, is left to store_check_history. A changed byte inside a
 * text is not found by that; the tables that read the texts refuse what is not JSON, or not of the right kind. */
static struct err *check_state(struct store *s)
{
    return check_by(
        s, "SELECT c.integrity_check FROM sqlite_schema s, pragma_integrity_check(s.name) c WHERE s.type = 'table' "
           "AND s.name NOT LIKE 'sqlite_%' AND s.name NOT IN ('events', 'status_logs', 'command_logs') "
           "AND c.integrity_check <> 'ok' LIMIT 1");
}

struct err *store_check_history(struct store *s)
{
    return check_by(s, "PRAGMA quick_check(1)");
}

static struct err *open_with(const char *path, int flags, const char *pragmas, bool migrate, struct store **ret)
{
    auto_(store_close) struct store *s = mem_new(struct store);
    struct err *e = NULL;

    if (sqlite3_open_v2(path, &s->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return err_wrap(db_error(s, "open"), "'%s'", path);
    if (sqlite3_exec(s->db, pragmas, NULL, NULL, NULL) != SQLITE_OK)
        return err_wrap(db_error(s, "set up"), "'%s'", path);
    if (migrate)
        e = check_state(s);
    if (!e && migrate)
        e = migrations_run(s->db);
    if (e)
        return err_wrap(e, "'%s'", path);
    *ret = steal(&s);
    return NULL;
}

static void keep_reserve(struct store *s)
{
    int64_t now = clock_mono_ms();
    autofd int fd = -1;

    if (!s->reserve || s->reserved || (s->looked_ms && now - s->looked_ms < RESERVE_AGAIN_MS))
        return;
    s->looked_ms = now;
    fd = open(s->reserve, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    s->reserved = fd >= 0 && posix_fallocate(fd, 0, RESERVE_BYTES) == 0;
    if (fd >= 0 && !s->reserved && ftruncate(fd, 0) < 0)
        (void)unlink(s->reserve); /* a part of it that would only take room */
}

/* True: a commit that had no room may be tried again. */
static bool give_up_reserve(struct store *s)
{
    bool had = s->reserved;

    s->reserved = false;
    s->looked_ms = clock_mono_ms();
    return had && truncate(s->reserve, 0) == 0;
}

struct err *store_open(const char *path, struct store **ret)
{
    struct err *e = open_with(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                              "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                              "PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF;",
                              true, ret);

    if (e)
        return e;
    (*ret)->reserve = str_fmt("%s.reserve", path);
    keep_reserve(*ret);
    return NULL;
}

struct err *store_open_reader(const char *path, struct store **ret)
{
    return open_with(path, SQLITE_OPEN_READWRITE,
                     "PRAGMA query_only = ON; PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF;", false, ret);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    for (int i = 0; i < STORE_STATEMENT_MAX; i++)
        sqlite3_finalize(s->prepared[i]);
    sqlite3_close(s->db);
    free(s->reserve);
    free(s);
}

struct store_tx *store_tx_new(void)
{
    return mem_new(struct store_tx);
}

json_t *store_text(json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT);
    json_t *s = json_string(text ? text : "{}");

    free(text);
    json_decref(j);
    return s;
}

void store_tx_add(struct store_tx *tx, enum store_statement statement, json_t *params)
{
    tx->items = mem_grow(tx->items, tx->count + 1, sizeof(*tx->items));
    tx->items[tx->count].statement = statement;
    tx->items[tx->count].params = params;
    tx->count++;
}

void store_tx_each(const struct store_tx *tx, enum store_statement statement, void *owner,
                   void (*each)(void *owner, json_t *params))
{
    for (size_t i = 0; i < tx->count; i++)
        if (tx->items[i].statement == statement)
            each(owner, tx->items[i].params);
}

void store_tx_free(struct store_tx *tx)
{
    if (!tx)
        return;
    for (size_t i = 0; i < tx->count; i++)
        json_decref(tx->items[i].params);
    free(tx->items);
    free(tx);
}

static int bind_one(sqlite3_stmt *st, int at, const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        return sqlite3_bind_text(st, at, json_string_value(v), (int)json_string_length(v), SQLITE_STATIC);
    case JSON_INTEGER:
        return sqlite3_bind_int64(st, at, json_integer_value(v));
    case JSON_NULL:
        return sqlite3_bind_null(st, at);
    case JSON_OBJECT:
    case JSON_ARRAY:
    case JSON_REAL:
    case JSON_TRUE:
    case JSON_FALSE:
        break;
    }
    return SQLITE_MISUSE;
}

/* The prepared statement with its parameters bound; reset it after use. */
static struct err *prepare(struct store *s, enum store_statement statement, const json_t *params, sqlite3_stmt **ret)
{
    sqlite3_stmt **st = &s->prepared[statement];

    if (!*st && sqlite3_prepare_v3(s->db, texts[statement], -1, SQLITE_PREPARE_PERSISTENT, st, NULL) != SQLITE_OK)
        return db_error(s, "prepare");
    sqlite3_reset(*st);
    sqlite3_clear_bindings(*st);
    if ((int)json_array_size(params) != sqlite3_bind_parameter_count(*st))
        return err_new(ERR_INTERNAL, "database: statement %d got %zu values", (int)statement, json_array_size(params));
    for (int i = 0; i < (int)json_array_size(params); i++)
        if (bind_one(*st, i + 1, json_array_get(params, (size_t)i)) != SQLITE_OK)
            return db_error(s, "bind");
    *ret = *st;
    return NULL;
}

static struct err *run(struct store *s, enum store_statement statement, const json_t *params)
{
    sqlite3_stmt *st;
    struct err *e = prepare(s, statement, params, &st);

    if (e)
        return e;
    if (sqlite3_step(st) != SQLITE_DONE)
        e = db_error(s, "write");
    sqlite3_reset(st);
    return e;
}

struct err *store_change(struct store *s, enum store_statement statement, json_t *params, int64_t *ret_rows)
{
    struct err *e = run(s, statement, params);

    json_decref(params);
    if (!e)
        *ret_rows = sqlite3_changes(s->db);
    return e;
}

static struct err *commit(struct store *s, const struct store_tx *tx, bool *ret_full)
{
    struct err *e = NULL;

    *ret_full = false;
    if (sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK) {
        *ret_full = is_full(s);
        return db_error(s, "begin");
    }
    for (size_t i = 0; !e && i < tx->count; i++)
        e = run(s, tx->items[i].statement, tx->items[i].params);
    if (!e && sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        e = db_error(s, "commit");
    if (e) {
        *ret_full = is_full(s);
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return e;
}

struct err *store_commit(struct store *s, const struct store_tx *tx)
{
    struct err *e = failpoint("store.commit");
    bool full;

    if (e)
        return e;
    e = commit(s, tx, &full);
    if (e && full && give_up_reserve(s)) {
        err_free(e);
        e = commit(s, tx, &full);
    } else if (!e) {
        keep_reserve(s);
    }
    return e;
}

static json_t *row_object(sqlite3_stmt *st)
{
    json_t *row = json_object();

    for (int i = 0; i < sqlite3_column_count(st); i++) {
        json_t *v;

        if (sqlite3_column_type(st, i) == SQLITE_INTEGER)
            v = json_integer(sqlite3_column_int64(st, i));
        else if (sqlite3_column_type(st, i) == SQLITE_TEXT)
            v = json_stringn((const char *)sqlite3_column_text(st, i), (size_t)sqlite3_column_bytes(st, i));
        else
            v = json_null();
        json_object_set_new(row, sqlite3_column_name(st, i), v ? v : json_null());
    }
    return row;
}

struct err *store_query(struct store *s, enum store_statement statement, json_t *params, json_t **ret_rows)
{
    json_t *values = params ? params : json_array();
    json_t *rows = json_array();
    sqlite3_stmt *st;
    struct err *e = prepare(s, statement, values, &st);
    int rc = SQLITE_DONE;

    if (!e) {
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
            json_array_append_new(rows, row_object(st));
        if (rc != SQLITE_DONE)
            e = db_error(s, "read");
        sqlite3_reset(st);
    }
    json_decref(values);
    if (e)
        json_decref(rows);
    else
        *ret_rows = rows;
    return e;
}
