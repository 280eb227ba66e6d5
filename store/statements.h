/* SPDX-License-Identifier: Apache-2.0 */
/* Every SQL statement of the program, by name. Texts are constant: values go in as parameters only. */
#pragma once

#define LOG_PAGE(column, order)                                                                                        \
    "SELECT id, container_id, from_status, to_status, transition_time, duration_ms, triggered_by, metadata, "          \
    "created_at FROM status_logs WHERE container_id = ? ORDER BY " column " " order ", rowid " order                   \
    " LIMIT ? OFFSET ?"

/* Events by a filter: parameters are type, resource type, resource, project, container (each may be null), first and
 * last time, realm (may be null); pages have limit and offset then, deletions limit and highest number. There is one
 * family for each index: `by` is what it looks up. created_at and seq have the same order. */
#define EVENT_COLUMNS                                                                                                  \
    "SELECT seq, id, event_type, resource_type, resource_id, project_id, container_id, payload, realm_ids, "           \
    "created_at "
#define EVENT_WHERE(by)                                                                                                \
    "FROM events WHERE " by "created_at BETWEEN ?6 AND ?7 AND (?1 IS NULL OR event_type = ?1) AND (?2 IS NULL OR "     \
    "resource_type = ?2) AND (?3 IS NULL OR resource_id = ?3) AND (?4 IS NULL OR project_id = ?4) AND "                \
    "(?5 IS NULL OR container_id = ?5) AND (?8 IS NULL OR instr(realm_ids, ?8)) "
#define EVENT_PAGE(by, order) EVENT_COLUMNS EVENT_WHERE(by) "ORDER BY " order " LIMIT ?9 OFFSET ?10"
#define EVENT_STATEMENTS(X, name, by)                                                                                  \
    X(STORE_EVENT_##name##_TIME_DESC, EVENT_PAGE(by, "created_at DESC, seq DESC"))                                     \
    X(STORE_EVENT_##name##_TIME_ASC, EVENT_PAGE(by, "created_at, seq"))                                                \
    X(STORE_EVENT_##name##_TYPE_DESC, EVENT_PAGE(by, "event_type DESC, seq DESC"))                                     \
    X(STORE_EVENT_##name##_TYPE_ASC, EVENT_PAGE(by, "event_type, seq"))                                                \
    X(STORE_EVENT_##name##_COUNT, "SELECT count(*) AS total " EVENT_WHERE(by))                                         \
    X(STORE_EVENT_##name##_DELETE,                                                                                     \
      "DELETE FROM events WHERE seq IN (SELECT seq " EVENT_WHERE(by) "AND seq <= ?10 LIMIT ?9)")

#define STORE_STATEMENTS(X)                                                                                            \
    X(STORE_SHARE_PUT, "INSERT INTO shares (id, source_container_id, body) VALUES (?, ?, ?) ON CONFLICT (id) DO "      \
                       "UPDATE SET body = excluded.body")                                                              \
    X(STORE_SHARE_DELETE, "DELETE FROM shares WHERE id = ?")                                                           \
    X(STORE_SHARE_ALL, "SELECT body FROM shares ORDER BY rowid")                                                       \
    X(STORE_META_PUT,                                                                                                  \
      "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")            \
    X(STORE_META_ALL, "SELECT key, value FROM meta")                                                                   \
    X(STORE_CONTAINER_PUT,                                                                                             \
      "INSERT INTO containers (id, slot, project_id, name, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "   \
      "SET slot = excluded.slot, project_id = excluded.project_id, name = excluded.name, body = excluded.body")        \
    X(STORE_CONTAINER_DELETE, "DELETE FROM containers WHERE id = ?")                                                   \
    X(STORE_CONTAINER_ALL, "SELECT id, slot, project_id, name, body FROM containers")                                  \
    X(STORE_SNAPSHOT_PUT,                                                                                              \
      "INSERT INTO snapshots (container_id, name, body) VALUES (?, ?, ?) ON CONFLICT (container_id, name) DO UPDATE "  \
      "SET body = excluded.body")                                                                                      \
    X(STORE_SNAPSHOT_DELETE, "DELETE FROM snapshots WHERE container_id = ? AND name = ?")                              \
    X(STORE_SNAPSHOT_ALL, "SELECT container_id, name, body FROM snapshots")                                            \
    X(STORE_FIREWALL_PUT,                                                                                              \
      "INSERT INTO firewalls (container_id, body) VALUES (?, ?) ON CONFLICT (container_id) DO UPDATE SET body = "      \
      "excluded.body")                                                                                                 \
    X(STORE_FIREWALL_ALL, "SELECT container_id, body FROM firewalls")                                                  \
    X(STORE_PROJECT_PUT, "INSERT INTO projects (id, alias, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET "     \
                         "alias = excluded.alias, body = excluded.body")                                               \
    X(STORE_IMAGE_PUT, "INSERT INTO images (fingerprint, body) VALUES (?, ?) ON CONFLICT (fingerprint) DO UPDATE SET " \
                       "body = excluded.body")                                                                         \
    X(STORE_IMAGE_DELETE, "DELETE FROM images WHERE fingerprint = ?")                                                  \
    X(STORE_IMAGE_ALL, "SELECT fingerprint, body FROM images")                                                         \
    X(STORE_PROJECT_DELETE, "DELETE FROM projects WHERE id = ?")                                                       \
    X(STORE_PROJECT_ALL, "SELECT id, alias, body FROM projects")                                                       \
    X(STORE_NETWORK_PUT,                                                                                               \
      "INSERT INTO network_configs (container_id, body, credentials) VALUES (?, ?, ?) ON CONFLICT (container_id) DO "  \
      "UPDATE SET body = excluded.body, credentials = excluded.credentials")                                           \
    X(STORE_NETWORK_DELETE, "DELETE FROM network_configs WHERE container_id = ?")                                      \
    X(STORE_NETWORK_ALL, "SELECT container_id, body, credentials FROM network_configs")                                \
    X(STORE_INTENT_PUT,                                                                                                \
      "INSERT INTO intents (id, kind, container_id, attempts, args, created_at) VALUES (?, ?, ?, ?, ?, ?) "            \
      "ON CONFLICT (id) DO UPDATE SET attempts = excluded.attempts, args = excluded.args")                             \
    X(STORE_INTENT_DELETE, "DELETE FROM intents WHERE id = ?")                                                         \
    X(STORE_INTENT_CLEAR, "DELETE FROM intents")                                                                       \
    X(STORE_INTENT_ALL, "SELECT id, kind, container_id, attempts, args FROM intents ORDER BY created_at, id")          \
    X(STORE_LOG_ADD, "INSERT INTO status_logs (id, container_id, from_status, to_status, transition_time, "            \
                     "duration_ms, triggered_by, "                                                                     \
                     "metadata, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")                                       \
    X(STORE_LOG_COUNT, "SELECT count(*) AS total FROM status_logs WHERE container_id = ?")                             \
    X(STORE_LOG_TIME_ASC, LOG_PAGE("transition_time", "ASC"))                                                          \
    X(STORE_LOG_TIME_DESC, LOG_PAGE("transition_time", "DESC"))                                                        \
    X(STORE_LOG_CREATED_ASC, LOG_PAGE("created_at", "ASC"))                                                            \
    X(STORE_LOG_CREATED_DESC, LOG_PAGE("created_at", "DESC"))                                                          \
    X(STORE_LOG_TO_ASC, LOG_PAGE("to_status", "ASC"))                                                                  \
    X(STORE_LOG_TO_DESC, LOG_PAGE("to_status", "DESC"))                                                                \
    X(STORE_LOG_FROM_ASC, LOG_PAGE("from_status", "ASC"))                                                              \
    X(STORE_LOG_FROM_DESC, LOG_PAGE("from_status", "DESC"))                                                            \
    X(STORE_EVENT_ADD, "INSERT INTO events (seq, id, event_type, resource_type, resource_id, project_id, "             \
                       "container_id, payload, realm_ids, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")          \
    X(STORE_EVENT_LAST, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) AS seq, "         \
                        "coalesce((SELECT max(created_at) FROM events), 0) AS created_at")                             \
    EVENT_STATEMENTS(X, ALL, "")                                                                                       \
    EVENT_STATEMENTS(X, TYPE, "event_type = ?1 AND ")                                                                  \
    EVENT_STATEMENTS(X, PROJECT, "project_id = ?4 AND ")                                                               \
    EVENT_STATEMENTS(X, RESOURCE, "resource_id = ?3 AND ")                                                             \
    EVENT_STATEMENTS(X, CONTAINER, "container_id = ?5 AND ")                                                           \
    X(STORE_EVENT_AFTER, EVENT_COLUMNS "FROM events WHERE seq > ? ORDER BY seq LIMIT ?")                               \
    X(STORE_EVENT_COUNT_AFTER, "SELECT count(*) AS total FROM events WHERE seq > ?")                                   \
    X(STORE_EVENT_GET, EVENT_COLUMNS "FROM events WHERE id = ?")                                                       \
    X(STORE_EVENT_OPERATION,                                                                                           \
      EVENT_COLUMNS "FROM events WHERE container_id = ? AND event_type IN ('container.operation.completed', "          \
                    "'container.operation.failed') AND json_extract(payload, '$.operation_id') = ?")                   \
    X(STORE_EVENT_DELETE, "DELETE FROM events WHERE id = ?")                                                           \
    X(STORE_EVENT_STATS, "SELECT event_type, resource_type, count(*) AS count, min(created_at) AS oldest, "            \
                         "max(created_at) AS newest " EVENT_WHERE("") "GROUP BY event_type, resource_type")            \
    X(STORE_EVENT_OLDEST, "SELECT seq, created_at FROM events ORDER BY seq LIMIT ?")                                   \
    X(STORE_EVENT_TRIM, "DELETE FROM events WHERE seq <= ?")                                                           \
    X(STORE_LOG_TRIM, "DELETE FROM status_logs WHERE rowid IN (SELECT rowid FROM status_logs WHERE created_at < ? "    \
                      "LIMIT ?)")                                                                                      \
    X(STORE_COMMAND_ADD, "INSERT INTO command_logs (id, slug, status, parameters, started_at) VALUES (?, ?, ?, ?, ?)") \
    X(STORE_COMMAND_END, "UPDATE command_logs SET status = ?, output = ?, exit_code = ?, ended_at = ? WHERE id = ?")   \
    X(STORE_COMMAND_GET, "SELECT * FROM command_logs WHERE id = ?")                                                    \
    X(STORE_COMMAND_SINCE, "SELECT id, slug, status, started_at FROM command_logs WHERE started_at > ? "               \
                           "OR status = 'running' ORDER BY started_at")                                                \
    X(STORE_COMMAND_TRIM, "DELETE FROM command_logs WHERE rowid <= (SELECT max(rowid) FROM command_logs) - 10000")

enum store_statement {
#define X(name, sql) name,
    STORE_STATEMENTS(X)
#undef X
        STORE_STATEMENT_MAX
};
