/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/transfer/peer.h"

#include "agent/containers/snapshots.h"
#include "agent/operations/steps.h"
#include "agent/recovery/records.h"
#include "agent/transfer/peer_internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

enum { CALLS_MAX = 16 };

struct peers *peers_new(struct agent *a)
{
    struct peers *p = mem_new(struct peers);
    const struct config *c = a->config;

    p->calls = workers_new(a->loop, c->worker, CALLS_MAX);
    p->sends = workers_new(a->loop, c->worker, (size_t)c->peer_transfers);
    p->fetches = workers_new(a->loop, c->worker, (size_t)c->peer_transfers);
    return p;
}

void peers_stop(const struct agent *a)
{
    for (const struct transfer *t = a->peers->transfers; t; t = t->next)
        transfer_cut(t);
}

size_t peers_count(const struct agent *a)
{
    return workers_count(a->peers->calls) + workers_count(a->peers->sends) + workers_count(a->peers->fetches);
}

void peers_free(struct agent *a)
{
    struct peers *p = steal(&a->peers);

    workers_free(p->calls);
    workers_free(p->sends);
    workers_free(p->fetches);
    free(p);
}

static struct err *find(const struct agent *a, const char *id, struct config_peer *ret)
{
    for (char **p = a->config->peers; p && *p; p++) {
        struct config_peer peer = {0};

        err_ignore(config_peer(*p, &peer)); /* checked when the configuration was read */
        if (str_eq(peer.id, id)) {
            *ret = peer;
            return NULL;
        }
        free(peer.host);
    }
    return err_new(ERR_NOT_FOUND, "the configuration has no node '%.24s'", id ? id : "");
}

bool peer_known(const struct agent *a, const char *id)
{
    struct config_peer peer = {0};
    struct err *e = find(a, id, &peer);
    bool known = !e;

    err_free(e);
    free(peer.host);
    return known;
}

static struct err *address(const struct agent *a, const char *id, json_t **ret)
{
    const struct config *c = a->config;
    struct config_peer peer = {0};
    struct err *e = find(a, id, &peer);

    if (!e)
        *ret = json_pack("{s:s, s:I, s:s, s:s, s:s, s:s?}", "host", peer.host, "port", (json_int_t)peer.port,
                         "certificate", c->peer_certificate, "key", c->peer_key, "ca", c->tls_client_ca, "crl",
                         c->tls_crl);
    free(peer.host);
    return e;
}

struct transfer *transfer_begin(struct agent *a, struct container *c, const char *server, const char *operation)
{
    struct transfer *t = mem_new(struct transfer);

    t->agent = a;
    t->container = c;
    t->server = str_dup(server);
    t->operation = str_dup(operation);
    t->started_at = clock_wall_ms();
    t->fd = -1;
    t->next = a->peers->transfers;
    a->peers->transfers = t;
    return t;
}

void transfer_end(struct transfer *t)
{
    struct transfer **p = &t->agent->peers->transfers;

    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    free(t->server);
    free(t->operation);
    json_decref(t->request);
    free(t);
}

void transfer_progress(void *owner, int64_t done, int64_t total)
{
    struct transfer *t = owner;

    (void)total;
    t->bytes = done;
}

void peer_job(struct agent *a, struct workers *set, enum job_kind kind, int64_t slot, const void *args,
              const struct worker_io *io, void *owner, worker_done_fn *done)
{
    agent_job_in(a, set, kind, slot, args, 0, io, owner, done);
}

struct refused {
    uv_idle_t idle; /* done is called later, as for a job */
    struct err *error;
    void *owner;
    worker_done_fn *done;
};

static void on_idle_closed(uv_handle_t *h)
{
    struct refused *r = h->data;

    r->done(r->owner, r->error, NULL);
    free(r);
}

static void refuse_later(struct agent *a, struct err *e, void *owner, worker_done_fn *done)
{
    struct refused *r = mem_new(struct refused);

    *r = (struct refused){.error = e, .owner = owner, .done = done};
    uv_idle_init(a->loop, &r->idle);
    r->idle.data = r;
    uv_close((uv_handle_t *)&r->idle, on_idle_closed);
}

void peer_call(struct agent *a, const char *id, const char *method, const char *path, json_t *body, int64_t timeout_s,
               void *owner, worker_done_fn *done)
{
    struct job_peer_call args = {
        .method = (char *)(uintptr_t)method, .path = (char *)(uintptr_t)path, .body = body, .timeout_s = timeout_s};
    struct err *e = address(a, id, &args.peer);

    if (e)
        refuse_later(a, e, owner, done);
    else
        peer_job(a, a->peers->calls, JOB_PEER_CALL, 0, &args, NULL, owner, done);
    json_decref(args.peer);
    json_decref(body);
}

struct err *peer_refusal(const json_t *answer)
{
    const json_t *body = json_object_get(answer, "body");
    const char *message = json_string_value(json_object_get(body, "message"));
    const char *code = json_string_value(json_object_get(body, "code"));
    int status = (int)json_integer_value(json_object_get(answer, "status"));
    struct err *e;

    if (status >= 200 && status < 300)
        return NULL;
    e = err_new(status == 400   ? ERR_INVALID
                : status == 404 ? ERR_NOT_FOUND
                : status == 409 ? ERR_CONFLICT
                                : ERR_HOST,
                "%.500s", message ? message : "the other node refuses");
    if (status != 400 && status != 404 && status != 409)
        return err_reason(err_wrap(e, "the other node"), "CONTAINER_HOST_COMMAND_FAILED");
    e = err_reason(e, code ? code : "VALIDATION_ERROR");
    return err_at(e, json_string_value(json_object_get(body, "field")));
}

static void on_fetched(void *owner, struct err *e, json_t *result)
{
    struct transfer *t = owner;
    struct operation *op = t->op;

    if (result) {
        json_decref(op->result);
        op->result = result;
    }
    transfer_end(t);
    if (!e)
        records_write_container(op->agent, op->container);
    op_step_done(op, e);
}

void peer_fetch(struct operation *op, enum job_kind kind)
{
    struct container *c = op->container;
    struct agent *a = op->agent;
    autojson seed = seed_of(a, c);
    autojson snapshots = snapshots_names(json_object_get(op->args, "snapshots"));
    autojson peer = NULL;
    struct job_peer_fetch args = {.source = (char *)(uintptr_t)op_arg(op, "peer_source"),
                                  .copy = c->record.id,
                                  .image = c->record.image_fingerprint,
                                  .snapshot = (char *)(uintptr_t)op_arg(op, "snapshot"),
                                  .snapshots = snapshots,
                                  .bytes_max = a->config->peer_max,
                                  .reserve = a->config->reserve,
                                  .seed = seed};
    struct worker_io io = {.stream = -1, .progress = transfer_progress};
    struct err *e = address(a, op_arg(op, "server"), &peer);
    struct transfer *t;

    if (e) {
        op_step_done(op, e);
        return;
    }
    args.peer = peer;
    t = transfer_begin(a, c, op_arg(op, "server"), op->id);
    t->op = op;
    peer_job(a, a->peers->fetches, kind, c->record.slot, &args, &io, t, on_fetched);
}

static void on_forgotten(void *owner, struct err *e, json_t *result)
{
    (void)owner;
    if (!e && result)
        e = peer_refusal(result);
    json_decref(result);
    log_err(NULL, LOG_LEVEL_NOTICE, e, "the source's node was not told that a copy is gone");
}

void peer_forget_copy(struct agent *a, const struct container *c)
{
    const struct container_record *r = &c->record;
    autofree char *path = NULL;

    if (!r->source_server_id)
        return;
    path = str_fmt("/api/v1/peer/containers/%s/copies/%s", r->source_container_id, r->id);
    peer_call(a, r->source_server_id, "DELETE", path, NULL, 60, NULL, on_forgotten);
}
