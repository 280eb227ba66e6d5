/* SPDX-License-Identifier: Apache-2.0 */

#include "base/clock.h"
#include "base/json_table.h"
#include "base/str.h"
#include "runtime/inside/bus.h"
#include "runtime/inside/look.h"

enum { UNITS_MAX = 200, TEXT_MAX = 256, DETAILS_MS = 1200 };

struct unit { /* strings belong to the message */
    const char *id, *description, *load, *active, *sub, *following, *path;
};

static json_t *number(sd_bus *bus, const struct unit *u, const char *interface, const char *name, char type)
{
    union {
        uint32_t u;
        uint64_t t;
    } v = {0};
    uint64_t n;

    if (sd_bus_get_property_trivial(bus, SYSTEMD, u->path, interface, name, NULL, type, &v) < 0)
        return json_null();
    n = type == 'u' ? v.u : v.t;
    return n > INT64_MAX ? json_null() : json_integer((json_int_t)n); /* the largest number means: not known */
}

static json_t *since(sd_bus *bus, const struct unit *u)
{
    json_t *us = number(bus, u, SYSTEMD ".Unit", "ActiveEnterTimestamp", 't');
    char text[STR_TIME_SIZE];
    int64_t ms = json_integer_value(us) / 1000;

    json_decref(us);
    return ms > 0 && ms < 253402300800000 ? json_string(str_time(ms, text)) : NULL;
}

/* The number as a string of digits, as the platform declares some figures; a null stays a null. n is taken over. */
static json_t *digits(json_t *n)
{
    autofree char *text = str_fmt("%lld", (long long)json_integer_value(n));
    bool known = json_is_integer(n);

    json_decref(n);
    return known ? json_string(text) : json_null();
}

static json_t *describe(const struct unit *u)
{
    autofree char *name = strndup(u->id, strlen(u->id) - strlen(".service"));

    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:n, s:n, s:n, s:n}", "name", json_text(name, TEXT_MAX),
                     "status", json_text(u->sub, TEXT_MAX), "unit", json_text(u->id, TEXT_MAX), "load",
                     json_text(u->load, TEXT_MAX), "active", json_text(u->active, TEXT_MAX), "sub",
                     json_text(u->sub, TEXT_MAX), "description", json_text(u->description, TEXT_MAX), "memory",
                     "cpu_usage", "tasks", "restart_count");
}

static void add_details(sd_bus *bus, const struct unit *u, json_t *j)
{
    json_t *pid = number(bus, u, SYSTEMD ".Service", "MainPID", 'u'), *start = since(bus, u);

    if (json_integer_value(pid) > 0)
        json_object_set(j, "pid", pid);
    json_decref(pid);
    if (start)
        json_object_set_new(j, "since", start);
    json_object_set_new(j, "memory", digits(number(bus, u, SYSTEMD ".Service", "MemoryCurrent", 't')));
    json_object_set_new(j, "cpu_usage", digits(number(bus, u, SYSTEMD ".Service", "CPUUsageNSec", 't')));
    json_object_set_new(j, "tasks", number(bus, u, SYSTEMD ".Service", "TasksCurrent", 't'));
    json_object_set_new(j, "restart_count", number(bus, u, SYSTEMD ".Service", "NRestarts", 'u'));
}

static json_t *read_list(sd_bus *bus, sd_bus_message *m)
{
    int64_t end = clock_mono_ms() + DETAILS_MS;
    json_t *list = json_array();
    struct unit u;

    if (sd_bus_message_enter_container(m, 'a', "(ssssssouso)") < 0)
        return list;
    while (json_array_size(list) < UNITS_MAX &&
           sd_bus_message_read(m, "(ssssssouso)", &u.id, &u.description, &u.load, &u.active, &u.sub, &u.following,
                               &u.path, NULL, NULL, NULL) > 0) {
        size_t len = strlen(u.id);
        json_t *j;

        if (len <= strlen(".service") || !str_eq(u.id + len - strlen(".service"), ".service"))
            continue;
        j = describe(&u);
        if (str_eq(u.active, "active") && clock_mono_ms() < end)
            add_details(bus, &u, j);
        json_array_append_new(list, j);
    }
    return list;
}

json_t *look_units(void)
{
    sd_bus_message *m = NULL;
    sd_bus *bus = bus_open();
    json_t *list = NULL;

    if (bus && sd_bus_call_method(bus, SYSTEMD, "/org/freedesktop/systemd1", SYSTEMD ".Manager", "ListUnitsByPatterns",
                                  NULL, &m, "asas", 0, 1, "*.service") >= 0)
        list = read_list(bus, m);
    sd_bus_message_unref(m);
    sd_bus_close_unref(bus);
    return list;
}
