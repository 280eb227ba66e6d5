/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's liblxc configuration, set item by item from checked values. No configuration text is ever written or
 * read, no hook is set: liblxc would hand those to a shell.
 */
#pragma once

#include <stdbool.h>

#include "runtime/job.h"

struct lxc_container;

/* A value that stays one value: not empty, no control character, at most 8192 bytes. */
bool lxc_value_ok(const char *value);
/* A part of a mount entry: an absolute path without blanks, control characters, backslashes or "..". */
bool lxc_path_ok(const char *path);
/* [A-Za-z_][A-Za-z0-9_]*, at most 128 characters. */
bool lxc_environment_name_ok(const char *name);

/* Sets everything a start needs. ERR_INVALID names the argument. */
MUST_USE struct err *lxc_config_fill(struct lxc_container *c, const struct job *job, const struct job_start *args);
/* Where liblxc writes about this container; the caller frees it. */
char *lxc_config_log_path(const struct job *job);
/* The directory inside which liblxc assembles a root file system before it enters it; the caller frees it. */
char *lxc_config_mount_point(const struct job *job);
