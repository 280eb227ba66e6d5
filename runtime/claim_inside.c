/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd keeps what it has read, and to read all of it again takes it some time in which it answers nobody. So the
 * container's id is set over its bus, where it counts at once for whatever it starts from then on and stays, as it
 * never changes. Only variables of the owner's, which may change later, make it read its configuration. Then the
 * services that must know start anew. What systemd keeps until it is executed again is the machine id that it puts for
 * %m in units.
 */
#include "runtime/claim.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "runtime/inside.h"
#include "runtime/kits_bus.h"

#define ID_KEY "HOODY_CONTAINER_ID"
enum { PAUSE_MS = 2 };

/* A method of the manager with a list of strings, or without arguments. */
static bool call(sd_bus *bus, const char *method, char **list)
{
    sd_bus_message *m = NULL;
    bool ok = sd_bus_message_new_method_call(bus, &m, SYSTEMD, MANAGER_PATH, MANAGER, method) >= 0 &&
              (!list || sd_bus_message_append_strv(m, list) >= 0) && sd_bus_call(bus, m, 0, NULL, NULL) >= 0;

    sd_bus_message_unref(m);
    return ok;
}

/* For what starts from now on. */
static bool set_variables(sd_bus *bus, const struct claim_work *w)
{
    autofree char *id = str_fmt(ID_KEY "=%s", w->container_id);
    char *list[] = {id, NULL};

    if (!call(bus, "SetEnvironment", list))
        return false;
    (void)sd_bus_set_method_call_timeout(bus, (uint64_t)w->kits.timeout_ms * 1000);
    return json_object_size(w->environment) == 0 || call(bus, "Reload", NULL);
}

/* The journal is kept in a directory of that name, and looked for in one of the present name. */
static void move_journal(sd_bus *bus, const struct claim_work *w)
{
    static const char *const places[] = {"/run/log/journal", "/var/log/journal"};
    autojson unit = json_pack("[s]", "systemd-journald.service");

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        autofree char *from = str_fmt("%s/%s", places[i], w->machine_id_before);
        autofree char *to = str_fmt("%s/%s", places[i], w->machine_id);

        (void)rename(from, to); /* where there is none, there is none */
    }
    kits_order(bus, "TryRestartUnit", unit);
}

/* Since the last call, as one part of the answer's "split_us". */
static void note(json_t *split, const char *what, int64_t *last_us)
{
    int64_t now = clock_mono_us();

    json_object_set_new(split, what, json_integer((json_int_t)(now - *last_us)));
    *last_us = now;
}

void claim_inside(void *arg)
{
    const struct claim_work *w = arg;
    int64_t begun = clock_mono_ms(), end = begun + w->kits.timeout_ms, last_us = clock_mono_us();
    sd_bus *bus = kits_await_bus(end);
    json_t *split;

    if (!bus || sethostname(w->hostname, strlen(w->hostname)) < 0 || !set_variables(bus, w))
        return;
    split = json_object();
    note(split, "told", &last_us);
    kits_order(bus, "TryRestartUnit", w->restart);
    kits_order(bus, "ReloadOrTryRestartUnit", w->reload);
    kits_await_jobs(bus, w->restart, PAUSE_MS, end);
    kits_await_jobs(bus, w->reload, PAUSE_MS, end);
    note(split, "restarted", &last_us);
    inside_tell("services", kits_look_at_all(bus, &w->kits, begun, end));
    note(split, "ready", &last_us);
    move_journal(bus, w);
    note(split, "journal", &last_us);
    inside_tell("split_us", split);
    sd_bus_close_unref(bus);
}
