/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of systemd about the units of kits; for what runs inside (runtime/inside/inside.h). Lists of units are
 * JSON arrays of strings; times are monotonic milliseconds. */
#pragma once

#include "runtime/inside/bus.h"
#include "runtime/inside/kits.h"

/* NULL when systemd does not listen until then. */
sd_bus *kits_await_bus(int64_t end);
/* A method of systemd's manager with a unit and the mode "replace", for each; its answer does not count. */
void kits_order(sd_bus *bus, const char *method, const json_t *units);
/* The answer of kits_inside: every service as it is in the end; ready_ms counts from begun. */
json_t *kits_look_at_all(sd_bus *bus, const struct kits_work *w, int64_t begun, int64_t end);
