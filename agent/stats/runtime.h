/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs inside containers, for the `runtime` query of the container replies: found out by a job a container, few at
 * a time, and kept for two seconds. Loop thread only.
 */
#pragma once

#include "agent/api/api.h"

struct runtime;

struct runtime *runtime_new(struct agent *a);
void runtime_free(struct runtime *r); /* nothing may be asked for */
/* A container goes away. */
void runtime_forget(struct container *c);

/* Answers with data (is taken over); before that, if the query asks for it, sets runtime_info of the container objects
 * in `containers`, an array that is part of data. */
void runtime_reply(const struct api_call *call, const char *message, json_t *data, json_t *containers);
