/* SPDX-License-Identifier: Apache-2.0 */
/* A container that runs gets another identity: the part that is done inside it. */
#pragma once

#include "runtime/inside/kits.h"

struct claim_work {
    struct kits_work kits; /* services: those that must be ready in the end */
    json_t *restart;       /* units: stopped and started, when they run */
    json_t *reload;        /* units: told to read their configuration again, when they run and know how */
    const char *hostname, *machine_id_before, *machine_id;
    const char *container_id;
    const json_t *environment; /* object of strings */
};

/* An inside_fn; arg is a struct claim_work. Tells "services", as kits_inside does. */
void claim_inside(void *arg);
