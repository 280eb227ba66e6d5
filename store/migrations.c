/* SPDX-License-Identifier: Apache-2.0 */
#include "store/migrations.h"

#include "base/str.h"

static const char *const steps[] = {
    /* 1: rows keep their objects as JSON; columns exist where uniqueness or a lookup needs them. */
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
    "CREATE TABLE containers (id TEXT PRIMARY KEY, slot INTEGER NOT NULL UNIQUE, project_id TEXT NOT NULL,"
    "  name TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (project_id, name)) STRICT;"
    "CREATE TABLE snapshots (container_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,"
    "  name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (container_id, name)) STRICT;"
    "CREATE TABLE firewalls (container_id TEXT PRIMARY KEY REFERENCES containers (id) ON DELETE CASCADE,"
    "  body TEXT NOT NULL) STRICT;"
    "CREATE TABLE intents (id TEXT PRIMARY KEY, kind TEXT NOT NULL, container_id TEXT NOT NULL,"
    "  attempts INTEGER NOT NULL, args TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT;"
    "CREATE TABLE status_logs (id TEXT PRIMARY KEY, container_id TEXT NOT NULL REFERENCES containers (id)"
    "  ON DELETE CASCADE, from_status TEXT, to_status TEXT NOT NULL, transition_time INTEGER NOT NULL,"
    "  duration_ms INTEGER, triggered_by TEXT NOT NULL, metadata TEXT, created_at INTEGER NOT NULL) STRICT;"
    "CREATE INDEX status_logs_by_container ON status_logs (container_id, transition_time);",
    /* 2: what happened, for clients that follow it. No reference to containers: events outlive them. AUTOINCREMENT
     * keeps the highest number that ever was in sqlite_sequence, also when the last events are deleted. created_at
     * never falls from one number to the next, so an index that ends in it gives the order of seq too. */
    "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, event_type TEXT NOT NULL,"
    "  resource_type TEXT NOT NULL, resource_id TEXT NOT NULL, project_id TEXT, container_id TEXT,"
    "  payload TEXT NOT NULL, realm_ids TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT;"
    "CREATE INDEX events_by_time ON events (created_at);"
    "CREATE INDEX events_by_type ON events (event_type, created_at);"
    "CREATE INDEX events_by_resource ON events (resource_id, created_at);"
    "CREATE INDEX events_by_project ON events (project_id, created_at);"
    "CREATE INDEX events_by_container ON events (container_id, created_at);"
    "CREATE INDEX status_logs_by_time ON status_logs (created_at);",
    /* 3: containers do not refer to it: rows from before get their project at the next load. */
    "CREATE TABLE projects (id TEXT PRIMARY KEY, alias TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;",
    /* 4: the way out of a container; the secret apart from what is shown. */
    ("CREATE TABLE network_configs (container_id TEXT PRIMARY KEY REFERENCES containers (id) ON DELETE CASCADE,"
     "  body TEXT NOT NULL, credentials TEXT) STRICT;"),
    /* 5 */
    ("CREATE TABLE shares (id TEXT PRIMARY KEY, source_container_id TEXT NOT NULL REFERENCES containers (id)"
     "  ON DELETE CASCADE, body TEXT NOT NULL) STRICT;"),
    /* server commands: what was run, and what came out. */
    "CREATE TABLE command_logs (id TEXT PRIMARY KEY, slug TEXT NOT NULL, status TEXT NOT NULL,"
    "  parameters TEXT NOT NULL, output TEXT, exit_code INTEGER, started_at INTEGER NOT NULL, ended_at INTEGER) "
    "STRICT;",
    /* images of the pool, by the digest of what they came from. */
    "CREATE TABLE images (fingerprint TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;",
};

static struct err *exec(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return err_new(ERR_INTERNAL, "database: %s", sqlite3_errmsg(db));
    return NULL;
}

static struct err *current_version(sqlite3 *db, int *ret)
{
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL) != SQLITE_OK || sqlite3_step(st) != SQLITE_ROW) {
        sqlite3_finalize(st);
        return err_new(ERR_INTERNAL, "database: %s", sqlite3_errmsg(db));
    }
    *ret = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    return NULL;
}

struct err *migrations_run(sqlite3 *db)
{
    int version = 0;
    struct err *e = current_version(db, &version);

    if (!e && version > (int)ARRAY_LEN(steps))
        return err_new(ERR_INTERNAL, "the database has schema %d, this program knows up to %zu: install the newer one",
                       version, ARRAY_LEN(steps));
    for (size_t i = (size_t)version; !e && i < ARRAY_LEN(steps); i++) {
        autofree char *sql = str_fmt("BEGIN IMMEDIATE; %s PRAGMA user_version = %zu; COMMIT;", steps[i], i + 1);

        e = err_wrap(exec(db, sql), "schema step %zu", i + 1);
        if (e)
            (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    return e;
}
