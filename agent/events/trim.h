/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing old events and status logs: some hundred rows at a time, so that commits in between never wait long. Events
 * go from the oldest on; the number of the last one that went is kept, because a cursor before it has missed some.
 */
#pragma once

#include "agent/agent.h"

/* Removes events of before a time (ms) and those numbered below keep_from. done gets their number; it has removed what
 * it says also when e is set. */
void event_trim(struct agent *a, int64_t before_ms, int64_t keep_from, void *owner,
                void (*done)(void *owner, struct err *e, int64_t deleted));

struct retention;

/* Does it by the configuration, at once and then once a minute. */
struct retention *retention_start(struct agent *a);
void retention_close(struct retention *r, void *owner, void (*closed)(void *owner));
