/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is gone of the node's mounts comes back. Not while systemd is on its way down, which unmounts everything before
 * it ends, or before a soft-reboot begins anew: it is asked first.
 */
#include <poll.h>

#include "base/failpoint.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/mounts.h"
#include "runtime/container/presence.h"
#include "runtime/container/shares.h"
#include "runtime/inside/bus.h"
#include "runtime/inside/inside.h"

enum { COMM_MAX = 64, PATIENCE_MS = 1500, ROUNDS = 5, ROUND_MS = 300 };

static void tell_state(UNUSED void *arg)
{
    sd_bus *bus = bus_open();
    char *state = NULL;

    if (bus && sd_bus_get_property_string(bus, SYSTEMD, MANAGER_PATH, MANAGER, "SystemState", NULL, &state) >= 0)
        inside_tell("state", json_string(state));
    free(state);
    sd_bus_close_unref(bus);
}

/* What process 1 is, "" when there is none any more; the caller frees it. */
static char *init_name(pid_t init)
{
    autofree char *path = str_fmt("/proc/%d/comm", (int)init);
    char *name = NULL;

    err_ignore(fd_read_file(path, COMM_MAX, &name, NULL));
    return name ? name : str_dup("");
}

/* Another init has nothing to say to it. A systemd that does not answer is about to begin anew or to become its last
 * act, which is another program; or it never will. */
static bool is_stopping(const struct job *job, const struct mounts *m)
{
    for (int i = 0; m->args->ask && i < ROUNDS; i++) {
        autofree char *name = init_name(m->live.init);
        autojson answer = NULL;
        const char *state;

        if (!name[0] || str_eq(name, "systemd-shutdow\n"))
            return true;
        if (!str_eq(name, "systemd\n"))
            return false;
        err_ignore(inside_ask(job, tell_state, NULL, 0, PATIENCE_MS, &answer));
        state = json_string_value(json_object_get(answer, "state"));
        if (state)
            return str_eq(state, "stopping");
        (void)poll(NULL, 0, ROUND_MS);
    }
    return false;
}

/* Takes over e. */
static void note(json_t *result, const char *path, struct err *e)
{
    if (e)
        json_object_set_new(json_object_get(result, "problems"), path, json_string(err_message(e)));
    else
        json_array_append_new(json_object_get(result, "restored"), json_string(path));
    err_free(e);
}

static void restore_row(struct mounts *m, const struct mounts_row *row, json_t *result)
{
    struct err *e = failpoint("mounts.mount");

    if (!e)
        e = row->mount(m);
    if (!e && mounts_look_at(m, row) != MOUNTS_THERE)
        e = err_new(ERR_HOST, "something else is seen at %s inside the container", row->path);
    note(result, row->path, e);
}

static bool is_share(const char *path)
{
    return strncmp(path, MOUNTS_SHARES, strlen(MOUNTS_SHARES)) == 0;
}

/* Of those that were lost. What the host could not mount is in *problems. */
static void restore_shares(struct mounts *m, json_t *result)
{
    autojson lost = steal(&m->lost);
    autojson problems = NULL;
    struct err *e = NULL;
    bool renewed = false;
    json_t *path;
    size_t i;

    m->lost = json_array();
    json_array_foreach(lost, i, path)
    {
        const char *text = json_string_value(path);

        if (!is_share(text))
            continue;
        if (!renewed) {
            e = shares_renew(m->job, m->args->id_base, m->args->shares, &problems);
            mounts_look_at_shares(m);
            renewed = true;
        }
        if (e || json_has_string(m->lost, text) || json_object_get(problems, text + strlen(MOUNTS_SHARES)))
            note(result, text, err_new(ERR_HOST, "%s", e ? err_message(e) : "the share is not seen inside"));
        else
            note(result, text, NULL);
    }
    err_free(e);
    if (problems)
        json_object_set(result, "shares", problems);
}

/* As in job_do_shares: it may have ended meanwhile, with its stop's clean-up before these mounts. */
static struct err *check_still_runs(const struct job *job)
{
    struct presence p;

    presence_look(job, &p);
    return p.alive ? NULL : shares_close(job);
}

static void restore(struct mounts *m, json_t *result)
{
    mounts_look(m);
    for (size_t i = 0; i < MOUNTS_ROWS; i++)
        if (json_has_string(m->lost, mounts_rows[i].path))
            restore_row(m, &mounts_rows[i], result);
    restore_shares(m, result);
}

struct err *job_do_mounts_restore(const struct job *job, void *args, json_t **ret)
{
    struct mounts m;
    struct err *e = mounts_begin(&m, job, args);

    if (!e && is_stopping(job, &m)) {
        *ret = json_pack("{s:b}", "stopping", true);
    } else if (!e) {
        *ret = json_pack("{s:[], s:{}}", "restored", "problems");
        restore(&m, *ret);
        e = check_still_runs(job);
    }
    mounts_end(&m);
    return e;
}
