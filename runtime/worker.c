/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/frame.h"
#include "base/pace.h"
#include "base/str.h"
#include "storage/layout.h"

#define CHANNEL_FD_MIN 10

static bool is_directory_name(const char *path)
{
    return path && path[0] == '/' && path[1] && !str_has_control(path);
}

static struct err *check_target(const struct job_target *t, bool has_slot)
{
    if (!is_directory_name(t->pool) || !is_directory_name(t->run_dir))
        return err_new(ERR_INVALID, "target: pool and run_dir must be absolute paths");
    if (!layout_image_ok(t->cgroup))
        return err_new(ERR_INVALID, "target: cgroup is no valid name");
    if (has_slot && !layout_slot_ok(t->slot))
        return err_new(ERR_INVALID, "target: slot is out of range");
    return NULL;
}

/* Out of the way of what a start does with low numbers. -1: there is none. */
static struct err *take_stream(int *ret)
{
    *ret = fcntl(WORKER_STREAM_FD, F_DUPFD_CLOEXEC, CHANNEL_FD_MIN);
    if (*ret < 0)
        return NULL;
    (void)close(WORKER_STREAM_FD);
    return pace_limits(*ret, 0);
}

void job_progress(const struct job *job, int64_t done, int64_t total)
{
    autojson frame = json_pack("{s:{s:I, s:I}}", "progress", "done", (json_int_t)done, "total", (json_int_t)total);

    err_ignore(frame_send(job->channel, frame));
}

/* Takes over the request: it is freed before the job runs. */
static struct err *run(const struct worker_row *row, enum job_kind kind, int channel, json_t *request, json_t **ret)
{
    const struct json_table *table = job_info(kind)->args;
    autofree void *args = mem_alloc(1, MAX(row->args_size, 1));
    struct job job = {.channel = channel};
    struct err *e = take_stream(&job.stream);

    if (!e)
        e = json_table_load(&job_target_table, json_object_get(request, "target"), &job.target, NULL);
    if (!e)
        e = check_target(&job.target, row->has_slot);
    if (!e && table)
        e = json_table_load(table, json_object_get(request, "args"), args, NULL);
    json_decref(request);
    if (!e && row->has_slot) {
        job.name = str_fmt("c%lld", (long long)job.target.slot);
        job.dir = str_fmt("%s/%s", job.target.run_dir, job.name);
    }
    if (!e)
        e = row->run(&job, args, ret);
    if (table)
        json_table_clear(table, args);
    json_table_clear(&job_target_table, &job.target);
    free(job.name);
    free(job.dir);
    fd_closep(&job.stream);
    return e;
}

static struct err *dispatch(const struct worker_row *rows, int channel, json_t *request, worker_other_fn other,
                            json_t **ret)
{
    const char *name = json_string_value(json_object_get(request, "job"));
    enum job_kind kind = name ? job_kind_find(name) : JOB_KIND_MAX;
    struct err *e;

    if (kind != JOB_KIND_MAX && rows[kind].run)
        return run(&rows[kind], kind, channel, request, ret);
    e = kind != JOB_KIND_MAX && other ? other(channel, request) : err_new(ERR_INTERNAL, "there is no such job");
    json_decref(request);
    return e;
}

/* The kernel kills us when noded dies; if it died before that call, its end of the channel is closed. */
static bool bind_to_parent(int channel)
{
    struct pollfd p = {.fd = channel, .events = POLLIN};

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return false;
    return poll(&p, 1, 0) >= 0 && !(p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static struct err *answer(int channel, struct err *failure, json_t *result)
{
    autojson frame = NULL;

    if (failure)
        frame = json_pack("{s:o}", "error", err_to_json(failure));
    else
        frame = json_pack("{s:o}", "ok", result ? result : json_object());
    if (failure)
        json_decref(result);
    err_free(failure);
    return frame_send(channel, frame);
}

static int give_up(struct err *e)
{
    fprintf(stderr, "noded-worker: %s\n", err_message(e));
    err_free(e);
    return EXIT_FAILURE;
}

int worker_main(const struct worker_row *rows, int request_fd, worker_other_fn other)
{
    json_t *request = NULL, *result = NULL;
    struct err *e;
    int channel;

    (void)close_range(WORKER_REQUEST_FD + 1, ~0U, 0);
    /* fd 3 is free from here on: start.c uses it. */
    channel = fcntl(WORKER_CHANNEL_FD, F_DUPFD_CLOEXEC, CHANNEL_FD_MIN);
    if (channel < 0 || !bind_to_parent(channel))
        return EXIT_FAILURE;
    (void)umask(022);
    (void)signal(SIGPIPE, SIG_IGN);
    /* Without newuidmap in it liblxc, being root, writes id maps itself: root needs no entry in /etc/subuid. */
    if (setenv("PATH", "/usr/sbin:/sbin", 1) < 0)
        return EXIT_FAILURE;
    failpoint_init();
    e = frame_receive(request_fd, &request);
    (void)close(WORKER_CHANNEL_FD);
    if (request_fd != WORKER_CHANNEL_FD)
        (void)close(request_fd);
    if (e)
        return give_up(e);
    e = dispatch(rows, channel, request, other, &result);
    e = answer(channel, e, result);
    return e ? give_up(e) : EXIT_SUCCESS;
}
