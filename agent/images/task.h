/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching images from remotes: what goes on, and how it ended. Kept in memory: who asks after a restart finds the
 * image, or not; what was fetched is on disk and is gone on from. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct image_task;

/* Whether there is anywhere to fetch from. */
bool image_remotes_configured(const struct agent *a);
/* Their URLs, in their order; the caller's. */
json_t *image_remotes(const struct agent *a);

/* fingerprint: of what has the name now; both are borrowed, one of them is NULL. */
typedef void image_fetched_fn(void *owner, const struct err *e, const char *fingerprint);

/* Fetches the newest image of a name from the remotes, records it under that name, and under its canonical one. cached:
 * it goes when nobody uses it. done may be NULL; it runs later, once. */
struct image_task *image_fetch_start(struct agent *a, const char *name, bool cached, void *owner,
                                     image_fetched_fn *done);
json_t *image_task_json(const struct image_task *t);
/* An array of the tasks, the newest first. */
json_t *image_tasks_json(const struct agent *a);
void image_tasks_free(struct agent *a);
