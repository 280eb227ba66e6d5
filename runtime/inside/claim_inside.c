/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd keeps what it has read, and to read all of it again takes it some time in which it answers nobody. So the
 * container's id is set over its bus, where it counts at once for whatever it starts from then on and stays, as it
 * never changes. Only variables of the owner's, which may change later, make it read its configuration. Then the
 * services that must know start anew. What systemd keeps until it is executed again is the machine id that it puts for
 * %m in units.
 */
#include "runtime/inside/claim.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "runtime/inside/inside.h"
#include "runtime/inside/kits_bus.h"

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

/* One unit of the answer; what it says of jobs and of its state. */
static bool read_unit(sd_bus_message *m, json_t *states, bool *busy)
{
    const char *unit, *active;
    uint32_t job;

    if (sd_bus_message_read(m, "(ssssssouso)", &unit, NULL, NULL, &active, NULL, NULL, NULL, &job, NULL, NULL) <= 0)
        return false;
    json_object_set_new(states, unit, json_string(active));
    *busy = *busy || job != 0;
    return true;
}

/* Asks for all units at once; true when none of them has anything left to do. */
static bool are_done(sd_bus *bus, char **units, json_t *states)
{
    sd_bus_message *m = NULL, *reply = NULL;
    bool busy = false;
    bool ok = sd_bus_message_new_method_call(bus, &m, SYSTEMD, MANAGER_PATH, MANAGER, "ListUnitsByNames") >= 0 &&
              sd_bus_message_append_strv(m, units) >= 0 && sd_bus_call(bus, m, 0, NULL, &reply) >= 0 &&
              sd_bus_message_enter_container(reply, 'a', "(ssssssouso)") >= 0;

    while (ok && read_unit(reply, states, &busy))
        continue;
    sd_bus_message_unref(m);
    sd_bus_message_unref(reply);
    return ok && !busy;
}

static size_t add_units(char **list, size_t n, const json_t *units)
{
    const json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)units, i, v) list[n++] = (char *)(uintptr_t)json_string_value(v);
    return n;
}

/* All that are told something or must be ready; an array that ends in NULL, of borrowed names. */
static char **all_units(const struct claim_work *w)
{
    char **list = mem_new_array(char *, json_array_size(w->restart) + json_array_size(w->reload) +
                                            json_array_size(w->kits.services) + 1);
    size_t n = add_units(list, add_units(list, 0, w->restart), w->reload), i;
    const json_t *service;

    json_array_foreach(w->kits.services, i, service) list[n++] =
        (char *)(uintptr_t)json_string_value(json_object_get(service, "unit"));
    return list;
}

/* Those that run, or are about to; what does not run will begin with the new identity. True when there are any. */
static bool order_running(sd_bus *bus, const char *method, const json_t *units, const json_t *states)
{
    autojson running = json_array();
    json_t *unit;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)units, i, unit)
    {
        const char *state = json_string_value(json_object_get(states, json_string_value(unit)));

        if (!str_eq(state, "inactive") && !str_eq(state, "failed"))
            json_array_append(running, unit);
    }
    kits_order(bus, method, running);
    return json_array_size(running) > 0;
}

/* What must know starts anew, or reads its configuration again. The states of all units afterwards. */
static json_t *renew(sd_bus *bus, const struct claim_work *w, int64_t end)
{
    autofree char **list = all_units(w);
    json_t *states = json_object();
    bool any;

    (void)are_done(bus, list, states);
    any = order_running(bus, "TryRestartUnit", w->restart, states);
    any = order_running(bus, "ReloadOrTryRestartUnit", w->reload, states) || any;
    while (any && !are_done(bus, list, states) && clock_mono_ms() < end)
        (void)poll(NULL, 0, PAUSE_MS);
    return states;
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
    struct kits_work kits = w->kits;
    json_t *split, *states;

    if (!bus || sethostname(w->hostname, strlen(w->hostname)) < 0 || !set_variables(bus, w))
        return;
    split = json_object();
    note(split, "told", &last_us);
    states = renew(bus, w, end);
    kits.states = states;
    note(split, "restarted", &last_us);
    inside_tell("services", kits_look_at_all(bus, &kits, begun, end));
    note(split, "ready", &last_us);
    move_journal(bus, w);
    note(split, "journal", &last_us);
    inside_tell("split_us", split);
    json_decref(states);
    sd_bus_close_unref(bus);
}
