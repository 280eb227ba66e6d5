/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the kits of a container that was started are there: its services are asked until each has answered once, or
 * three times kits.health_timeout are over. Then there is one event, container.kits.ready or container.kits.unhealthy,
 * and what is known of each service stays in container.kit_health. Few are asked at a time. Of containers that ran
 * before noded did, only the state is found out.
 */
#pragma once

#include "agent/agent.h"

struct kit_watch;

struct kit_watch *kit_watch_start(struct agent *a);
void kit_watch_close(struct kit_watch *w, void *owner, void (*closed)(void *owner));
/* The kits of a container as far as they are known, for runtime_info: a service whose unit has ended since, by a fresh
 * list of units (may be NULL), has failed. The caller's reference. */
json_t *kit_watch_report(const struct container *c, const json_t *units);
/* What an operation asks itself while it holds the container: the watch of its present init begins; then services, as a
 * job about kits tells them, that began at begun_ms (monotonic); the event goes with tx, or with NULL by itself. What
 * is not ready then the watch goes on asking for, when the operation has ended. */
void kit_watch_begin(const struct agent *a, struct container *c);
void kit_watch_take(struct agent *a, struct store_tx *tx, struct container *c, json_t *services, int64_t begun_ms);
/* The files of its kits were gone while it ran: nothing is known of its services any more, systemd inside is told to
 * start those that do not run, and they are asked as after a start. Times of theirs count from now. */
void kit_watch_again(const struct agent *a, struct container *c);
/* Whether all services have answered since its present init began. *ret_ms: how long after the start, 0: not known. */
bool kit_watch_is_ready(const struct container *c, int64_t *ret_ms);
/* Whether nothing is asked any more: what is known of the kits of its present init stays. */
bool kit_watch_is_over(const struct container *c);
/* A container goes away. */
void kit_watch_forget(struct container *c);
