/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one node asks another. The certificate's name is the other node's id, which must be in our configuration; and of
 * a container it gets only what was promised to it: the copies that somebody asked this node to make there.
 */
#include <fcntl.h>
#include <sys/socket.h>

#include "agent/transfer/peer_internal.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define PROTOCOL "noded-stream" /* transfer/link.h */

struct err *peer_check(const struct api_call *call)
{
    const char *id = http_peer(call->req)->name;

    if (peer_known(call->agent, id))
        return NULL;
    return err_reason(err_new(ERR_FORBIDDEN, "The configuration of this node has no node '%.24s'", id),
                      "INSUFFICIENT_PERMISSIONS");
}

/* The container of the path, if the other node has been promised the copy. */
static struct err *find_promised(const struct api_call *call, const char *copy, struct container **ret)
{
    struct container *c = agent_find(call->agent, call->params[0]);
    const json_t *promised = c ? json_object_get(c->record.sent_copies, copy) : NULL;
    struct err *e = peer_check(call);

    if (e)
        return e;
    if (!promised || !str_eq(json_string_value(promised), http_peer(call->req)->name))
        return err_reason(err_new(ERR_NOT_FOUND, "Nothing of this container is promised to that copy"),
                          "SOURCE_CONTAINER_NOT_FOUND");
    *ret = c;
    return NULL;
}

struct stream_body {
    bool packed;
    char *copy, *base, *image, *snapshot;
    json_t *snapshots;
};
static const struct json_field stream_fields[] = {
    F_BOOL(struct stream_body, packed),
    F_STRING(struct stream_body, copy, .required = true, .valid = str_is_object_id,
             .rule = "must be 24 lower case hex digits"),
    F_STRING(struct stream_body, base, .nullable = true, .max = 32),
    F_STRING(struct stream_body, image, .nullable = true, .max = 255),
    F_STRING(struct stream_body, snapshot, .nullable = true, .max = 128),
    F_JSON(struct stream_body, snapshots, .required = true, .has_type = true, .type = JSON_ARRAY),
};
static JSON_TABLE(stream_table, NULL, stream_fields);

void transfer_cut(const struct transfer *t)
{
    if (t->fd >= 0)
        (void)shutdown(t->fd, SHUT_RDWR);
}

static void sent(struct transfer *t)
{
    t->container->copies--;
    if (t->upgrade)
        http_upgrade_end(t->upgrade);
    fd_closep(&t->fd);
    transfer_end(t);
}

static void on_sent(void *owner, struct err *e, json_t *result)
{
    struct transfer *t = owner;
    const struct log_ctx ctx = {.container = t->container->record.id};

    json_decref(result);
    log_err(&ctx, LOG_LEVEL_WARNING, e, "it could not be sent to another node");
    sent(t);
}

/* fd is the job's; a duplicate of it can cut the stream. */
static void on_taken(void *owner, struct http_upgrade *u, int fd)
{
    const struct worker_io io = {.stream = fd, .progress = transfer_progress};
    struct transfer *t = owner;
    struct stream_body b = {0};
    struct job_peer_send args;

    t->upgrade = u;
    if (fd < 0) {
        sent(t);
        return;
    }
    t->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (t->agent->stopping)
        transfer_cut(t);
    err_ignore(json_table_load(&stream_table, t->request, &b, NULL)); /* it was checked */
    args = (struct job_peer_send){.packed = b.packed,
                                  .image_base = t->container->record.base,
                                  .copy = b.copy,
                                  .image = b.image,
                                  .base = b.base,
                                  .snapshot = b.snapshot,
                                  .snapshots = b.snapshots};
    peer_job(t->agent, t->agent->peers->sends, JOB_PEER_SEND, t->container->record.slot, &args, &io, t, on_sent);
    json_table_clear(&stream_table, &b);
}

static struct err *check_sending(const struct api_call *call, const struct container *c, struct stream_body *b)
{
    const struct agent *a = call->agent;
    struct err *e;

    if (c->record.status != CONTAINER_RUNNING && c->record.status != CONTAINER_STOPPED &&
        c->record.status != CONTAINER_PAUSED)
        return err_reason(err_new(ERR_CONFLICT, "The source is %s", container_status_word(c)),
                          "OPERATION_STATE_CONFLICT");
    if (b->snapshot && !container_find_snapshot(c, b->snapshot))
        return err_reason(err_new(ERR_NOT_FOUND, "snapshot: the container has no snapshot '%.100s'", b->snapshot),
                          "RESOURCE_NOT_FOUND");
    if (workers_count(a->peers->sends) >= (size_t)a->config->peer_transfers) {
        e = err_new(ERR_UNAVAILABLE, "Other containers are being sent; ask again");
        e->retry_after_s = 5;
        return e;
    }
    if (!str_eq(b->image, c->record.image_fingerprint))
        str_set(&b->image, NULL); /* another one is no help */
    return NULL;
}

void peer_stream(struct api_call *call)
{
    struct container *c = NULL;
    struct stream_body b = {0};
    struct transfer *t;
    struct err *e = json_table_load(&stream_table, call->body, &b, NULL);

    if (!e)
        e = find_promised(call, b.copy, &c);
    if (!e)
        e = check_sending(call, c, &b);
    if (!e) {
        t = transfer_begin(call->agent, c, http_peer(call->req)->name, NULL);
        t->request = json_table_save(&stream_table, &b);
        c->copies++;
        http_upgrade(call->req, PROTOCOL, t, on_taken);
    } else {
        reply_err(call->req, e);
    }
    json_table_clear(&stream_table, &b);
}

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "a promise to another node is not recorded");
}

static void on_forgotten(void *owner, struct err *e, json_t *result)
{
    (void)owner;
    json_decref(result);
    log_err(NULL, LOG_LEVEL_WARNING, e, "what was kept for a copy on another node could not be removed");
}

void peer_promise(struct agent *a, struct container *c, const char *copy, const char *server)
{
    struct store_tx *tx = store_tx_new();

    if (!c->record.sent_copies)
        c->record.sent_copies = json_object();
    if (server)
        json_object_set_new(c->record.sent_copies, copy, json_string(server));
    else
        json_object_del(c->record.sent_copies, copy);
    record_put(tx, c);
    agent_commit(a, tx, NULL, on_recorded);
}

void peer_release(struct api_call *call)
{
    const struct job_peer_forget args = {.copy = call->params[1]};
    struct container *c = NULL;
    struct err *e = find_promised(call, call->params[1], &c);

    if (e) {
        reply_err(call->req, e);
        return;
    }
    agent_job(call->agent, JOB_PEER_FORGET, c->record.slot, &args, 0, NULL, on_forgotten);
    peer_promise(call->agent, c, call->params[1], NULL);
    reply_ok(call->req, 200, "The copy is forgotten", NULL);
}

void transfers_get(struct api_call *call)
{
    json_t *list = json_array(), *nodes = json_array();

    for (const struct transfer *t = call->agent->peers->transfers; t; t = t->next)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s?, s:I, s:o}", "container_id",
                                              t->container->record.id, "direction", t->op ? "in" : "out", "server_id",
                                              t->server, "operation_id", t->operation, "bytes", (json_int_t)t->bytes,
                                              "started_at", api_time(t->started_at)));
    for (char **p = call->agent->config->peers; p && *p; p++) {
        struct config_peer peer = {0};

        err_ignore(config_peer(*p, &peer));
        json_array_append_new(nodes, json_pack("{s:s, s:s, s:I}", "server_id", peer.id, "host", peer.host, "port",
                                               (json_int_t)peer.port));
        free(peer.host);
    }
    reply_ok(call->req, 200, "Transfers retrieved successfully",
             json_pack("{s:o, s:o}", "transfers", list, "nodes", nodes));
}
