/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Projects: what containers belong to. A control plane owns projects and their ids; a node keeps of them what it needs
 * itself: an alias to show, a quota, and that a deletion is under way. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

#define PROJECT_DEFAULT_ID "000000000000000000000001" /* there from the first start, cannot be deleted */

struct project {
    char *id, *user_id, *alias, *color;
    int64_t created_at, updated_at; /* ms since the epoch */
    int64_t max_containers;         /* -1: no limit */
    bool is_default;
    bool inter_container; /* its containers may reach each other */
    uint16_t group;       /* stands for it in the kernel; not recorded, 0: there was none left */
    bool deleting;        /* its containers go, then the row; whatever interrupts that, the next start goes on */
    json_t *realm_ids;    /* array */
    json_t *request;      /* the body that made it; NULL: it was recorded because a container named it */
};
extern const struct json_table project_table;

/* A project with defaults: the node as its user, a colour of its id, no limit. alias NULL: the id, or the id with a
 * number when another project has that for an alias. */
struct project *project_new(const struct agent *a, const char *id, const char *alias);
void project_free(struct project *p);
DEFINE_AUTO(struct project, project_free)

/* Registry. find returns NULL when there is none. */
struct project *project_find(const struct agent *a, const char *id);
struct project *project_find_by_alias(const struct agent *a, const char *alias);
void project_add(struct agent *a, struct project *p);
void project_remove(struct agent *a, struct project *p); /* frees p */
size_t project_container_count(const struct agent *a, const char *id);
void record_put_project(struct store_tx *tx, const struct project *p);

/* May a new container go into the project? 404 for an unknown one when the configuration refuses those, 409 when it is
 * being deleted, 400 PROJECT_CONTAINER_LIMIT when it is full. */
MUST_USE struct err *project_check_enter(const struct agent *a, const char *field, const char *id);
/* Records the project in the transaction of its first container, if it is not known. */
void project_record(struct agent *a, const char *id, struct store_tx *tx);

/* Of a container of the project: what nf_container wants. */
uint16_t project_group(const struct agent *a, const char *id);

/* The API's object. */
json_t *project_to_json(const struct project *p);

/* At a start, before the loop runs: the default project and those that only containers know of get their rows. */
MUST_USE struct err *projects_complete(struct agent *a);

/*
 * Deletion (project_delete.c). The mark is committed first; then every container is deleted by the operation that
 * deletes one, as soon as it is free; the row goes last. done gets what went wrong first; then the project stays marked
 * and another call goes on with what is left. Failpoints: "project.delete.intent" when the mark is on disk,
 * "project.delete.commit" before the row goes.
 */
typedef void project_deleted_fn(void *owner, struct err *e);
bool project_delete_running(const struct agent *a, const char *id);
void project_delete(struct agent *a, struct project *p, const char *triggered_by, void *owner,
                    project_deleted_fn *done);
/* After a start: goes on with every marked project. */
void projects_resume(struct agent *a);
/* When an operation has let go of its container. */
void projects_after_operation(struct agent *a);
