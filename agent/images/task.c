/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/images/task.h"

#include "agent/images/set.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "images/image.h"

enum { TASKS_KEPT = 32 };

struct image_task {
    struct agent *agent;
    struct image_task *next;
    char id[ID_OBJECT_LEN + 1];
    char *name, *fingerprint, *url;
    bool cached, over;
    int64_t begun_at, done_bytes, total_bytes;
    struct err *error;
    void *owner;
    image_fetched_fn *done;
};

bool image_remotes_configured(const struct agent *a)
{
    return a->config->image_remotes && a->config->image_remotes[0];
}

json_t *image_remotes(const struct agent *a)
{
    json_t *urls = json_array();

    for (char **url = a->config->image_remotes; url && *url; url++)
        json_array_append_new(urls, json_string(*url));
    return urls;
}

json_t *image_task_json(const struct image_task *t)
{
    const char *state = !t->over ? "running" : t->error ? "failed" : "completed";
    char begun[STR_TIME_SIZE];

    return json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:I, s:I, s:s, s:s?}", "id", t->id, "image", t->name, "state", state,
                     "fingerprint", t->fingerprint, "url", t->url, "done_bytes", (json_int_t)t->done_bytes,
                     "total_bytes", (json_int_t)t->total_bytes, "begun_at", str_time(t->begun_at, begun), "error",
                     t->error ? t->error->message : NULL);
}

json_t *image_tasks_json(const struct agent *a)
{
    json_t *list = json_array();

    for (const struct image_task *t = a->image_tasks; t; t = t->next)
        json_array_append_new(list, image_task_json(t));
    return list;
}

static void task_free(struct image_task *t)
{
    free(t->name);
    free(t->fingerprint);
    free(t->url);
    err_free(t->error);
    free(t);
}

void image_tasks_free(struct agent *a)
{
    while (a->image_tasks) {
        struct image_task *t = a->image_tasks;

        a->image_tasks = t->next;
        task_free(t);
    }
}

/* The oldest ones that are over go. */
static void trim(struct agent *a)
{
    struct image_task **p = &a->image_tasks;

    for (int n = 0; *p; n++) {
        struct image_task *t = *p;

        if (n < TASKS_KEPT || !t->over) {
            p = &t->next;
        } else {
            *p = t->next;
            task_free(t);
        }
    }
}

static void end(struct image_task *t, struct err *e)
{
    t->over = true;
    t->error = e;
    if (e)
        log_warning(NULL, "an image was not fetched: %s", e->message);
    if (t->done)
        t->done(t->owner, e, e ? NULL : t->fingerprint);
}

static void on_recorded(void *owner, struct err *e)
{
    end(owner, e);
}

static void on_fetched(void *owner, struct err *e, json_t *result)
{
    struct image_task *t = owner;
    autofree char *canonical = image_name_canonical(t->name);
    autojson aliases = json_array();
    struct image_origin from = {.source = "remote", .aliases = aliases, .cached = t->cached};
    struct image *there;
    struct store_tx *tx;

    if (e) {
        end(t, e);
        return;
    }
    if (canonical)
        json_array_append_new(aliases, json_string(canonical));
    t->fingerprint = str_dup(json_string_value(json_object_get(result, "fingerprint")));
    t->url = str_dup(json_string_value(json_object_get(result, "url")));
    from.origin = t->url;
    there = image_find(t->agent, t->fingerprint);
    if (!there && !json_object_get(result, "size_bytes")) {
        json_decref(result);
        end(t, err_new(ERR_CONFLICT, "the image is being removed"));
        return;
    }
    tx = store_tx_new();
    image_imported(t->agent, tx, result, &from);
    json_decref(result);
    agent_commit(t->agent, tx, t, on_recorded);
}

static void on_progress(void *owner, int64_t done, int64_t total)
{
    struct image_task *t = owner;

    t->done_bytes = done;
    if (total > 0)
        t->total_bytes = total;
}

struct image_task *image_fetch_start(struct agent *a, const char *name, bool cached, void *owner,
                                     image_fetched_fn *done)
{
    struct image_task *t = mem_new(struct image_task);
    const struct worker_io io = {.stream = -1, .progress = on_progress};
    autojson urls = image_remotes(a);
    const struct job_image_fetch args = {
        .urls = urls, .name = (char *)(uintptr_t)name, .ca_file = a->config->image_remote_ca};

    *t = (struct image_task){.agent = a,
                             .next = a->image_tasks,
                             .name = str_dup(name),
                             .cached = cached,
                             .begun_at = clock_wall_ms(),
                             .owner = owner,
                             .done = done};
    id_object(t->id);
    a->image_tasks = t;
    trim(a);
    agent_stream_job(a, JOB_IMAGE_FETCH, 0, &args, &io, t, on_fetched);
    return t;
}
