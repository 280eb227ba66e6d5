/* SPDX-License-Identifier: Apache-2.0 */
/* The images of the node, for its operator: what is there, bringing one in, names, removal. */
#include <errno.h>
#include <sys/socket.h>

#include "agent/api/api.h"
#include "agent/containers/snapshots.h"
#include "agent/images/set.h"
#include "agent/images/task.h"
#include "agent/storage/space.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "images/image.h"

void node_images_list(struct api_call *call)
{
    const struct agent *a = call->agent;
    json_t *images = json_array();

    for (size_t k = 0; k < a->image_count; k++)
        if (!a->images[k]->busy)
            json_array_append_new(images, image_to_json(a, a->images[k]));
    reply_ok(call->req, 200, "Images retrieved successfully",
             json_pack("{s:o, s:o}", "images", images, "tasks", image_tasks_json(a)));
}

/* The image of the path; answers and returns NULL when there is none. */
static struct image *of_path(struct api_call *call)
{
    struct image *i = image_find(call->agent, call->params[0]);

    if (i && !i->busy)
        return i;
    reply_err(call->req, err_reason(err_new(ERR_NOT_FOUND, "Image not found"), "RESOURCE_NOT_FOUND"));
    return NULL;
}

void node_image_get(struct api_call *call)
{
    const struct image *i = of_path(call);

    if (i)
        reply_ok(call->req, 200, "Image retrieved successfully", image_to_json(call->agent, i));
}

struct answer {
    struct agent *agent;
    struct http_request *req;
    char *fingerprint;
    int status;
    const char *message;
    json_t *before; /* of an update: images_remember */
};

static void on_answer(void *owner, struct err *e)
{
    struct answer *answer = owner;
    const struct image *i = answer->fingerprint ? image_find(answer->agent, answer->fingerprint) : NULL;

    if (e)
        images_recall(answer->agent, answer->before);
    if (e)
        reply_host_err(answer->req, e);
    else
        reply_ok(answer->req, answer->status, answer->message, i ? image_to_json(answer->agent, i) : NULL);
    json_decref(answer->before);
    free(answer->fingerprint);
    free(answer);
}

struct update_body {
    json_t *aliases;
    char *description;
};
static const struct json_field update_fields[] = {
    F_JSON(struct update_body, aliases, .has_type = true, .type = JSON_ARRAY),
    F_STRING(struct update_body, description, .min = 0, .max = 1000),
};
static JSON_TABLE(update_table, NULL, update_fields);

void node_image_update(struct api_call *call)
{
    struct image *i = of_path(call);
    struct update_body b = {0};
    autojson aliases = NULL;
    struct answer *answer;
    struct store_tx *tx;
    struct err *e;

    if (!i)
        return;
    e = json_table_load(&update_table, call->body, &b, NULL);
    if (!e && b.aliases)
        e = image_aliases_load("aliases", b.aliases, &aliases);
    if (e) {
        json_table_clear(&update_table, &b);
        reply_err(call->req, e);
        return;
    }
    answer = mem_new(struct answer);
    *answer = (struct answer){call->agent,
                              call->req,
                              str_dup(i->fingerprint),
                              200,
                              "Image updated successfully",
                              images_remember(call->agent, i, aliases)};
    tx = store_tx_new();
    if (b.description)
        str_set(&i->description, b.description);
    if (aliases)
        image_set_aliases(call->agent, tx, i, aliases);
    else
        record_put_image(tx, i);
    json_table_clear(&update_table, &b);
    agent_commit(call->agent, tx, answer, on_answer);
}

void node_image_delete(struct api_call *call)
{
    struct image *i = of_path(call);
    struct answer *answer;
    size_t n;

    if (!i)
        return;
    n = image_references(call->agent, i);
    if (n > 0 && !query_true(call, "force")) {
        reply_err(call->req, err_reason(err_new(ERR_CONFLICT,
                                                "%zu containers were made from this image; they do not need it, and "
                                                "with force=true it goes",
                                                n),
                                        "RESOURCE_IN_USE"));
        return;
    }
    answer = mem_new(struct answer);
    *answer = (struct answer){call->agent, call->req, NULL, 200, "Image removed successfully", NULL};
    image_delete(call->agent, i, answer, on_answer);
}

void node_images_prune(struct api_call *call)
{
    reply_ok(call->req, 200, "Unused images are being removed",
             json_pack("{s:o}", "removed", images_prune(call->agent, 0)));
}

struct fetch_body {
    char *image;
};
/* What a create takes, and longer names. */
static bool is_fetchable(const char *text)
{
    autofree char *canonical = image_name_canonical(text);

    return canonical || image_remote_name_ok(text);
}

static const struct json_field fetch_fields[] = {
    F_STRING(struct fetch_body, image, .required = true, .valid = is_fetchable,
             .rule = "must be a name such as debian/13"),
};
static JSON_TABLE(fetch_table, NULL, fetch_fields);

static void on_fetched(void *owner, const struct err *e, const char *fingerprint)
{
    struct answer *answer = owner;
    struct err *copy = e ? err_reason(err_new(e->code, "%s", e->message), e->reason) : NULL;

    answer->fingerprint = str_dup(fingerprint);
    if (copy && (copy->code == ERR_NOT_FOUND || copy->code == ERR_UNAVAILABLE)) {
        reply_err(answer->req, copy->code == ERR_NOT_FOUND ? err_reason(copy, "RESOURCE_NOT_FOUND") : copy);
        free(answer->fingerprint);
        free(answer);
    } else {
        on_answer(answer, copy);
    }
}

/* 202 with the task, or with ?wait=true the image. */
void node_image_fetch(struct api_call *call)
{
    struct answer *answer = NULL;
    struct fetch_body b = {0};
    autofree char *canonical = NULL;
    const struct image_task *task;
    bool wait = query_true(call, "wait");
    struct err *e = json_table_load(&fetch_table, call->body, &b, NULL);

    if (!e && !image_remotes_configured(call->agent))
        e = err_reason(err_new(ERR_WRONG_STATE, "This server has no remotes: see images.remotes in its configuration"),
                       "OPERATION_STATE_CONFLICT");
    if (!e)
        e = space_check(call->agent);
    if (e) {
        json_table_clear(&fetch_table, &b);
        reply_err(call->req, e);
        return;
    }
    if (wait) {
        answer = mem_new(struct answer);
        *answer = (struct answer){call->agent, call->req, NULL, 200, "Image fetched successfully", NULL};
    }
    canonical = image_remote_name_ok(b.image) ? NULL : image_name_canonical(b.image);
    task = image_fetch_start(call->agent, canonical ? canonical : b.image, false, answer, wait ? on_fetched : NULL);
    json_table_clear(&fetch_table, &b);
    if (!wait)
        reply_ok(call->req, 202, "The image is being fetched", image_task_json(task));
}

struct upload {
    struct answer answer;
    json_t *aliases;
    char *description;
};

static void on_uploaded(void *owner, struct err *e, json_t *result)
{
    struct upload *u = owner;
    struct answer *answer = mem_new(struct answer);

    *answer = u->answer;
    if (e && (e->code == ERR_INVALID || e->code == ERR_TOO_LARGE)) {
        reply_err(answer->req, e->reason ? e : err_reason(e, "IMAGE_REFUSED"));
        free(answer);
    } else if (e) {
        on_answer(answer, e);
    } else {
        const struct image_origin from = {.source = "upload", .aliases = u->aliases, .description = u->description};
        struct store_tx *tx = store_tx_new();

        answer->fingerprint = str_dup(image_imported(answer->agent, tx, result, &from)->fingerprint);
        agent_commit(answer->agent, tx, answer, on_answer);
    }
    json_decref(result);
    json_decref(u->aliases);
    free(u->description);
    free(u);
}

/* The body is the archive; for an image in two files the metadata's file, then the other. */
void node_image_upload(struct api_call *call)
{
    const char *fingerprint = http_query(call->req, "fingerprint");
    const char *description = http_query(call->req, "description");
    struct job_image_import args = {.fingerprint = (char *)(uintptr_t)fingerprint};
    struct worker_io io = {.stream = -1};
    autojson aliases = NULL;
    struct upload *u;
    int pair[2];
    struct err *e = query_int(call, "split_bytes", 0, IMAGE_ARCHIVE_MAX, 0, &args.split_bytes);

    if (!e)
        e = image_aliases_split("aliases", http_query(call->req, "aliases"), &aliases);
    if (!e && fingerprint && !image_fingerprint_ok(fingerprint))
        e = err_field("fingerprint", "must be 64 lower case hex digits");
    if (!e && description && strlen(description) > 1000)
        e = err_field("description", "must be at most 1000 bytes");
    if (!e)
        e = space_check(call->agent);
    if (!e && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        e = err_errno(errno, "socketpair");
    if (e) {
        reply_err(call->req, e);
        return;
    }
    u = mem_new(struct upload);
    *u = (struct upload){.answer = {call->agent, call->req, NULL, 201, "Image imported successfully", NULL},
                         .aliases = steal(&aliases),
                         .description = str_dup(description)};
    io.stream = pair[1];
    http_upload_to(call->req, pair[0]);
    agent_stream_job(call->agent, JOB_IMAGE_IMPORT, 0, &args, &io, u, on_uploaded);
}

struct publish_body {
    char *snapshot, *description;
    json_t *aliases;
};
static const struct json_field publish_fields[] = {
    F_STRING(struct publish_body, snapshot, .nullable = true),
    F_STRING(struct publish_body, description, .nullable = true, .max = 1000),
    F_JSON(struct publish_body, aliases, .has_type = true, .type = JSON_ARRAY),
};
static JSON_TABLE(publish_table, NULL, publish_fields);

struct publishing {
    struct answer answer;
    struct container *container;
    json_t *aliases;
    char *description;
};

static void on_published(void *owner, struct err *e, json_t *result)
{
    struct publishing *p = owner;
    struct answer *answer = mem_new(struct answer);

    *answer = p->answer;
    p->container->copies--;
    if (e) {
        on_answer(answer, e);
    } else {
        const struct image_origin from = {.source = "publish",
                                          .origin = p->container->record.id,
                                          .aliases = p->aliases,
                                          .description = p->description};
        struct store_tx *tx = store_tx_new();

        answer->fingerprint = str_dup(image_imported(answer->agent, tx, result, &from)->fingerprint);
        agent_commit(answer->agent, tx, answer, on_answer);
    }
    json_decref(result);
    json_decref(p->aliases);
    free(p->description);
    free(p);
}

static struct err *check_publish(const struct api_call *call, const struct publish_body *b,
                                 struct snapshot **ret_snapshot)
{
    const struct container *c = call->container;
    struct err *e = operation_check_free(c, "publish");

    if (!e && b->snapshot)
        e = snapshot_find(c, "snapshot", b->snapshot, ret_snapshot);
    if (!e)
        e = snapshot_check_present(*ret_snapshot);
    if (!e && !b->snapshot && c->record.status != CONTAINER_STOPPED)
        e = err_reason(err_new(ERR_WRONG_STATE, "Only of a stopped container, or of a snapshot, an image can be made"),
                       "OPERATION_STATE_CONFLICT");
    return e ? e : space_check(call->agent);
}

void container_publish(struct api_call *call)
{
    struct snapshot *snapshot = NULL;
    struct job_image_publish args = {0};
    const struct worker_io io = {.stream = -1};
    struct publish_body b = {0};
    autojson aliases = NULL;
    struct publishing *p;
    struct err *e = json_table_load(&publish_table, call->body, &b, NULL);

    if (!e)
        e = image_aliases_load("aliases", b.aliases, &aliases);
    if (!e)
        e = check_publish(call, &b, &snapshot);
    if (e) {
        json_table_clear(&publish_table, &b);
        reply_err(call->req, e);
        return;
    }
    p = mem_new(struct publishing);
    *p = (struct publishing){.answer = {call->agent, call->req, NULL, 201, "Image published successfully", NULL},
                             .container = call->container,
                             .aliases = steal(&aliases),
                             .description = steal(&b.description)};
    args.snapshot = snapshot ? snapshot->name : NULL;
    call->container->copies++; /* nothing of it is deleted meanwhile */
    agent_stream_job(call->agent, JOB_IMAGE_PUBLISH, call->container->record.slot, &args, &io, p, on_published);
    json_table_clear(&publish_table, &b);
}
