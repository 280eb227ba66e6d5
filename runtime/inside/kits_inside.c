/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd is asked by its own bus: to read the units again, to stop those of the kits that change and to start what is
 * there now. A kit's sockets must be down before its services come up, so all units of a kit stop first. Then every
 * service is asked until it answers, as the proxy will.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/str.h"
#include "runtime/inside/inside.h"
#include "runtime/inside/kits_bus.h"

#define UNIT SYSTEMD ".Unit"
enum { PAUSE_MS = 10, BOOT_PAUSE_MS = 25, RELOAD_US = 10000000, TEXT_MAX = 200 };

/* Whether systemd has done what there is to do at its start, with or without success. */
static bool has_come_up(sd_bus *bus)
{
    char *state = NULL;
    bool up;

    if (sd_bus_get_property_string(bus, SYSTEMD, MANAGER_PATH, MANAGER, "SystemState", NULL, &state) < 0)
        return false;
    up = !str_eq(state, "initializing") && !str_eq(state, "starting");
    free(state);
    return up;
}

sd_bus *kits_await_bus(int64_t end)
{
    sd_bus *bus;

    while (!(bus = bus_open()) && clock_mono_ms() < end)
        (void)poll(NULL, 0, PAUSE_MS);
    return bus;
}

/* Of a unit, by name; NULL when systemd does not say. The caller frees it. */
static char *state_of(sd_bus *bus, const char *unit, const char *property)
{
    char *path = NULL, *value = NULL;

    if (sd_bus_path_encode(MANAGER_PATH "/unit", unit, &path) < 0 ||
        sd_bus_get_property_string(bus, SYSTEMD, path, str_eq(property, "Result") ? SYSTEMD ".Service" : UNIT, property,
                                   NULL, &value) < 0)
        value = NULL;
    free(path);
    return value;
}

static bool has_job(sd_bus *bus, const char *unit)
{
    sd_bus_message *m = NULL;
    char *path = NULL;
    uint32_t id = 0;

    if (sd_bus_path_encode(MANAGER_PATH "/unit", unit, &path) >= 0 &&
        sd_bus_get_property(bus, SYSTEMD, path, UNIT, "Job", NULL, &m, "(uo)") >= 0)
        (void)sd_bus_message_read(m, "(uo)", &id, NULL);
    sd_bus_message_unref(m);
    free(path);
    return id != 0;
}

void kits_order(sd_bus *bus, const char *method, const json_t *units)
{
    json_t *unit;
    size_t i;

    /* Whatever it says to it: what counts is whether the services answer in the end. */
    json_array_foreach((json_t *)(uintptr_t)units, i, unit)(void) sd_bus_call_method(
        bus, SYSTEMD, MANAGER_PATH, MANAGER, method, NULL, NULL, "ss", json_string_value(unit), "replace");
}

/* How often they were started of late must not count: there was another version then. */
static void forget_failures(sd_bus *bus, const json_t *units)
{
    json_t *unit;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)units, i, unit)(void) sd_bus_call_method(
        bus, SYSTEMD, MANAGER_PATH, MANAGER, "ResetFailedUnit", NULL, NULL, "s", json_string_value(unit));
}

static void await_jobs(sd_bus *bus, const json_t *units, int64_t end)
{
    json_t *unit;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)units, i, unit)
    {
        while (has_job(bus, json_string_value(unit)) && clock_mono_ms() < end)
            (void)poll(NULL, 0, PAUSE_MS);
    }
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && str_eq(s + n - m, end);
}

static void set(json_t *result, const char *state, int64_t ready_ms, const char *error)
{
    json_object_set_new(result, "state", json_string(state));
    json_object_set_new(result, "ready_ms", ready_ms >= 0 ? json_integer((json_int_t)ready_ms) : json_null());
    json_object_set_new(result, "error", error ? json_string(error) : json_null());
}

/* One question; states: of units, as far as they are known. false when it may be asked again. */
static bool look(sd_bus *bus, const json_t *states, const json_t *service, json_t *result, int64_t begun)
{
    const char *unit = json_string_value(json_object_get(service, "unit"));
    const char *health = json_string_value(json_object_get(service, "health"));
    int port = (int)json_integer_value(json_object_get(service, "port")), status = 0;
    const char *known = json_string_value(json_object_get(states, unit));
    autofree char *active = known ? str_dup(known) : state_of(bus, unit, "ActiveState"), *text = NULL;
    bool ready = str_eq(active, "active");

    /* A socket is ready when it listens: asking the service behind it would start it. */
    if (ready && ends_with(unit, ".service"))
        ready = kits_probe(port, health, &status);
    if (ready) {
        set(result, "ready", clock_mono_ms() - begun, NULL);
        return true;
    }
    if (str_eq(active, "failed")) {
        autofree char *why = state_of(bus, unit, "Result");

        text = str_fmt("unit %s has failed: %.60s", unit, why ? why : "no result");
    } else if (status) {
        text = str_fmt("%s of port %d answers %d", health, port, status);
    } else {
        text = str_fmt("unit %s is %.40s, port %d does not answer", unit, active ? active : "not known", port);
    }
    set(result, "failed", -1, text);
    return str_eq(active, "failed");
}

json_t *kits_look_at_all(sd_bus *bus, const struct kits_work *w, int64_t begun, int64_t end)
{
    json_t *results = json_array(), *service;
    const json_t *states = w->states;
    bool settled;
    size_t i;

    json_array_foreach(w->services, i, service)
    {
        json_t *result = json_deep_copy(service);

        json_object_del(result, "health");
        set(result, "failed", -1, "nothing answers to systemctl inside");
        json_array_append_new(results, result);
    }
    do {
        settled = !w->boot || !bus || has_come_up(bus);
        json_array_foreach(w->services, i, service)
        {
            json_t *result = json_array_get(results, i);

            if (bus && !json_is_true(json_object_get(service, "settled"))) {
                bool known = look(bus, states, service, result, begun);

                json_object_set_new(service, "settled", json_boolean(known));
                settled = settled && known;
            }
        }
        states = NULL; /* those may have changed since */
        if (!settled)
            (void)poll(NULL, 0, w->boot ? BOOT_PAUSE_MS : w->pause_ms ? w->pause_ms : PAUSE_MS);
    } while (!settled && clock_mono_ms() < end);
    return results;
}

void kits_inside(void *arg)
{
    const struct kits_work *w = arg;
    int64_t begun = clock_mono_ms(), end = begun + w->timeout_ms;
    sd_bus *bus = kits_await_bus(end);

    if (bus && json_array_size(w->stop) + json_array_size(w->start) > 0) {
        (void)sd_bus_set_method_call_timeout(bus, RELOAD_US);
        (void)sd_bus_call_method(bus, SYSTEMD, MANAGER_PATH, MANAGER, "Reload", NULL, NULL, "");
        begun = clock_mono_ms();
        kits_order(bus, "StopUnit", w->stop);
        await_jobs(bus, w->stop, end);
        forget_failures(bus, w->start);
        kits_order(bus, "StartUnit", w->start);
    }
    inside_tell("services", kits_look_at_all(bus, w, begun, end));
    sd_bus_close_unref(bus);
}
