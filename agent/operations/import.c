/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Import of a container's archive: the bytes come with the request, so nothing can be asked for again. What a crash
 * leaves is undone. It ends stopped; the link comes with its first start.
 */
#include <errno.h>
#include <sys/socket.h>

#include "agent/operations/steps.h"
#include "agent/recovery/records.h"
#include "agent/transfer/archive.h"

static void on_read(void *owner, struct err *e, json_t *result)
{
    struct operation *op = owner;

    if (!e)
        records_write_container(op->agent, op->container);
    if (!e)
        e = archive_check(json_object_get(result, "header"));
    json_decref(op->result);
    op->result = result;
    op_step_done(op, e);
}

static void read_archive(struct operation *op)
{
    autojson seed = seed_of(op->agent, op->container);
    const struct job_import args = {.seed = seed,
                                    .rename = json_is_true(json_object_get(op->args, "rename")),
                                    .reserve_bytes = op->agent->config->reserve};
    struct worker_io io = {.stream = -1};
    int pair[2];

    if (!op->req || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        op_step_done(op, op->req ? err_errno(errno, "socketpair") : err_new(ERR_CANCELLED, "the sender is gone"));
        return;
    }
    io.stream = pair[1];
    http_upload_to(op->req, pair[0]);
    agent_stream_job(op->agent, JOB_IMPORT, op->container->record.slot, &args, &io, op, on_read);
}

static void imported(struct operation *op, struct store_tx *tx)
{
    outcome_stopped(op, tx);
    archive_adopt(op->agent, op->container, tx, json_object_get(op->result, "header"),
                  json_is_true(json_object_get(op->args, "rename")));
}

static const struct op_step steps[] = {{0, "rootfs", read_archive, step_destroy}};

const struct op_kind op_import = {
    .name = "import",
    .steps = steps,
    .step_count = ARRAY_LEN(steps),
    .recovery = OP_UNDO,
    .status_during = CONTAINER_CREATING,
    .succeed = imported,
    .fail = outcome_failed,
    .makes_container = true,
};
