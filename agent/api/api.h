/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST API: a route is one row (verbs, path, who may, handler). A handler gets a call, checks its input by a field
 * table, and ends in exactly one reply_*; what it needs later it takes out of the call, which lives only as long as the
 * handler runs. Replies are the platform's envelope.
 */
#pragma once

#include "agent/agent.h"
#include "agent/operations/operation.h"

struct text;

enum api_verb { GET = 1, POST = 2, PUT = 4, PATCH = 8, DELETE = 16 };

struct api_call {
    struct agent *agent;
    struct http_request *req;
    enum api_verb verb;
    char *params[3];             /* the {..} segments in order, decoded */
    json_t *body;                /* the parsed body; NULL when empty */
    struct container *container; /* of the {id} segment, for rows that name one */
    bool image_looked;           /* a remote has the image that the body names: see images/look.h */
};

typedef void api_handler_fn(struct api_call *call);

/* The handler of http_config: routes, checks, calls. owner is the agent. */
void api_handle(void *owner, struct http_request *req);

/* Of http_config: whether the row has .upload. */
bool api_is_upload(void *owner, const char *method, const char *path);

/* Prints the route table, "GET,POST /path" a line, in the order of matching; false when stdout fails. */
bool api_print_routes(void);

void reply_ok(struct http_request *req, int status, const char *message, json_t *data); /* data NULL: null */
/* 200 with data that is JSON text already, for what is asked for often. */
void reply_ok_text(struct http_request *req, const char *message, const char *data);
void reply_err(struct http_request *req, struct err *e); /* takes over e */
/* For the failure of work that a checked request asked for: never a 4xx. */
void reply_host_err(struct http_request *req, struct err *e);

/* Query parameters with defaults; ERR_INVALID names the parameter. */
MUST_USE struct err *query_int(const struct api_call *call, const char *name, int64_t min, int64_t max,
                               int64_t otherwise, int64_t *ret);
/* Index into words; the default is words[0]. */
MUST_USE struct err *query_choice(const struct api_call *call, const char *name, const char *const *words, int *ret);
/* "true" or "false"; absent is false. */
MUST_USE struct err *query_bool(const struct api_call *call, const char *name, bool *ret);
bool query_true(const struct api_call *call, const char *name);
json_t *api_pagination(int64_t total, int64_t page, int64_t limit);
/* ISO time or null for 0. */
json_t *api_time(int64_t ms);
/* Takes the members that are null out of object, and returns it: for replies whose published types know no null. */
json_t *api_without_nulls(json_t *object);

/* A kind of list: found objects are sorted by sort_by and sort_order and one page of them is answered. */
struct list_kind {
    const char *member; /* of data, that has the objects */
    int64_t limit;      /* default of the query's */
    const char *const *sort_words;
    int64_t (*compare)(const void *x, const void *y, int by); /* by: index into sort_words; LIST_BY_ID is the id */
    json_t *(*to_json)(const struct agent *a, const void *object);
    /* When set, answers in the end: data is taken over, items is the page, a part of it. */
    void (*reply)(const struct api_call *call, const char *message, json_t *data, json_t *items);
    const struct text *(*to_text)(const struct agent *a, const void *object); /* instead, when it is kept */
};
enum { LIST_BY_ID = 1 }; /* in every list of words */
/* found is reordered. */
void reply_list(const struct api_call *call, const struct list_kind *kind, const void **found, size_t n,
                const char *message);

/* The API's container object. */
json_t *container_to_json(const struct agent *a, const struct container *c);
json_t *env_sync_to_json(const struct container *c);
json_t *snapshot_to_json(const struct snapshot *s);

/* Checks shared by create, copy and update. */
bool api_is_container_name(const char *name);
MUST_USE struct err *api_check_env_key(const char *key);
MUST_USE struct err *api_check_environment(const char *field, const json_t *environment);
/* A colour of 3 or 6 hex digits becomes "#" and upper case; NULL stays NULL. */
MUST_USE struct err *api_check_color(const char *field, char **color);
MUST_USE struct err *api_check_realms(const char *field, const json_t *realms);
MUST_USE struct err *api_check_comment(const char *field, const char *comment);
/* kvm and dev_kvm of a body: this node has no KVM to give. */
MUST_USE struct err *api_check_kvm(const json_t *body, bool kvm, bool dev_kvm);

/* What create and copy share (new.c). The name of a new container: "rand" becomes NULL, the node chooses one then. */
MUST_USE struct err *api_check_new_name(char **name);
/* A server that is named is this one. */
MUST_USE struct err *api_check_server(const struct agent *a, const char *field, const char *id);
/* No other container has the name, or the key. */
MUST_USE struct err *api_check_new(const struct agent *a, const char *project_id, const char *name,
                                   const char *ssh_key);
/* A fresh container in the registry with slot, machine id and host name set; the caller fills in the rest first. */
MUST_USE struct err *api_new_container(struct agent *a, const char *id, const char *project_id, const char *name,
                                       struct container **ret);
/* Starts op, which makes a container; answers at once with 201, or with ?wait=true when it is over. */
void api_start_new(struct api_call *call, struct operation *op, struct store_tx *tx);

/* A refusal in the shape of the six operations' replies. */
void container_operation_refuse(struct api_call *call, struct err *e);

/* ERR_ELSEWHERE for the paths that only a control plane serves; NULL for all others. */
MUST_USE struct err *api_elsewhere(const char *path);

api_handler_fn containers_list, containers_list_project, container_create, container_get, container_update,
    container_delete;
api_handler_fn container_kvm, container_authorize;
api_handler_fn container_copy, container_sync, container_operation, container_status_logs, container_stats;
api_handler_fn env_list, env_bulk, env_set, env_delete;
api_handler_fn snapshots_list, snapshot_create, snapshot_restore, snapshot_delete, snapshot_alias;
api_handler_fn firewall_list, firewall_add, firewall_toggle, firewall_remove, firewall_reset;
api_handler_fn projects_list, projects_create, projects_get, projects_update, projects_delete, projects_stats,
    project_network_get, project_network_set;
api_handler_fn events_list, events_stream, events_stats, events_delete, events_cleanup, event_get, event_delete;
api_handler_fn transfers_get, peer_copies, peer_stream, peer_release;
api_handler_fn warm_get, storage_get, storage_grow, storage_scrub;
api_handler_fn recovery_get, recovery_decide;
api_handler_fn node_get, node_routes, node_routes_stream, health_get;
api_handler_fn kits_get, kits_install, kits_remove, container_kits_get, container_kits_set;
api_handler_fn rollout_get, rollout_begin, rollout_end;
api_handler_fn share_create, share_update, share_get, share_delete, shares_list, shares_list_all;
api_handler_fn incoming_list, incoming_list_all, incoming_mount;
api_handler_fn forwards_list, forwards_add, forwards_remove;
api_handler_fn proxy_get, proxy_set;
api_handler_fn container_export, container_import, container_publish;
api_handler_fn node_images_list, node_image_get, node_image_update, node_image_delete, node_images_prune,
    node_image_upload, node_image_fetch;
api_handler_fn limits_get, limits_set, limits_delete;
api_handler_fn network_get, network_set, network_delete, network_power, servers_list, server_get, server_runtime,
    server_commands, server_execute, server_command_log, images_public, images_user, image_get, image_icon,
    image_market;
