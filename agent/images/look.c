/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/images/look.h"

#include "agent/images/task.h"
#include "base/str.h"

struct look {
    struct api_call call; /* the body and the parameters are its own */
    char *name;
    api_handler_fn *handler;
};

static void look_free(struct look *l)
{
    json_decref(l->call.body);
    for (size_t i = 0; i < ARRAY_LEN(l->call.params); i++)
        free(l->call.params[i]);
    free(l->name);
    free(l);
}

static void on_looked(void *owner, struct err *e, json_t *result)
{
    struct look *l = owner;

    json_decref(result);
    if (!e && l->call.agent->stopping)
        e = err_new(ERR_UNAVAILABLE, "The node agent is restarting; ask again");
    if (!e) {
        l->handler(&l->call);
    } else if (e->code == ERR_NOT_FOUND) {
        err_free(e);
        reply_err(l->call.req, err_reason(err_new(ERR_NOT_FOUND,
                                                  "container_image: neither this server nor its remotes have an image "
                                                  "'%s'",
                                                  l->name),
                                          "RESOURCE_NOT_FOUND"));
    } else {
        reply_host_err(l->call.req, e);
    }
    look_free(l);
}

void image_look(const struct api_call *call, const char *name, api_handler_fn *handler)
{
    const struct worker_io io = {.stream = -1};
    autojson urls = image_remotes(call->agent);
    struct look *l = mem_new(struct look);
    const struct job_image_fetch args = {
        .look = true, .urls = urls, .name = (char *)(uintptr_t)name, .ca_file = call->agent->config->image_remote_ca};

    *l = (struct look){.call = *call, .name = str_dup(name), .handler = handler};
    l->call.image_looked = true;
    l->call.body = json_incref(call->body);
    for (size_t i = 0; i < ARRAY_LEN(l->call.params); i++)
        l->call.params[i] = call->params[i] ? str_dup(call->params[i]) : NULL;
    agent_stream_job(call->agent, JOB_IMAGE_FETCH, 0, &args, &io, l, on_looked);
}
