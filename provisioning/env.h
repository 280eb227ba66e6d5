/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's environment as files. Two forms, because pam_env has no way to write '#' or a line break:
 * /etc/environment for every PAM session (such variables are left out there), and a script in /etc/profile.d with all
 * variables, quoted, for login shells.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* [A-Za-z_][A-Za-z0-9_]*, at most 128 */
bool env_is_key(const char *key);

/* The new text of /etc/environment: `old` (or NULL) without our part, then our part. A line HOODY_CONTAINER_ID= of
 * `old` is replaced when container_id is given, else kept. The caller frees it. */
char *env_render_pam(const char *old, const char *container_id, const json_t *environment);
/* The profile script; export lines with single quotes. The caller frees it. */
char *env_render_profile(const json_t *environment);

/* Writes both files; see provisioning/seed.h for the form without container_id. */
MUST_USE struct err *env_write_files(int rootfs_fd, const char *container_id, const json_t *environment);
MUST_USE struct err *env_write(int rootfs_fd, const json_t *environment);
