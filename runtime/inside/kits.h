/* SPDX-License-Identifier: Apache-2.0 */
/* The kits of a running container: other versions, and whether their services answer. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What is done inside. Every service is an object {"kit", "slug", "unit", "port", "health"} of manifests. */
struct kits_work {
    json_t *stop, *start; /* arrays of units */
    json_t *services;     /* array: those that must be ready in the end */
    int64_t timeout_ms;
    bool boot;    /* systemd must have come up, too */
    int pause_ms; /* between two looks; 0: an ordinary one */
    /* {unit: its ActiveState} of units that have just been asked, or NULL. */
    const json_t *states;
};

/* The services of a kit, by its manifest, become some of the work's. */
void kits_add_services(struct kits_work *w, const json_t *manifest, bool start);

/* An inside_fn; arg is a struct kits_work. Tells "services": [{"kit", "slug", "unit", "port", "state": "ready" or
 * "failed", "ready_ms": since the units were told to stop, or since it looked, "error": text or null}]. */
void kits_inside(void *arg);

/* Whether something answers on the port, with 200 when a path is given. In at most 300 ms. *ret_status: the status of
 * an HTTP answer, else 0. */
bool kits_probe(int port, const char *path, int *ret_status);
