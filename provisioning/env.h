/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's environment as files, one for each reader in the reader's own syntax, since no two read the same text
 * alike: /etc/environment for PAM sessions, without variables with a '#' or a line break, which pam_env has no way to
 * write; and with all variables a script in /etc/profile.d for login shells, a drop-in with the defaults of systemd's
 * units, and the same as a file that a unit can name as its EnvironmentFile.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

/* [A-Za-z_][A-Za-z0-9_]*, at most 128 */
bool env_is_key(const char *key);

/* The new text of /etc/environment: `old` (or NULL) without our part, then our part. A line HOODY_CONTAINER_ID= of
 * `old` is replaced when container_id is given, else kept. The caller frees it. */
char *env_render_pam(const char *old, const char *container_id, const json_t *environment);
/* The profile script; export lines with single quotes. The caller frees it. */
char *env_render_profile(const json_t *environment);

/* A drop-in of systemd's system.conf: units that it starts after it has read this have the variables. The caller frees
 * it. */
char *env_render_manager(const json_t *environment);

/* KEY="VALUE" as systemd reads an EnvironmentFile, which a shell reads alike. The caller frees it. */
char *env_render_units(const json_t *environment);

/* A line SETTING="KEY=VALUE" for each variable, as systemd reads it; what is no text (str_is_text) is left out. */
void env_write_settings(FILE *out, const char *setting, const json_t *environment);

/* Writes the files. container_id NULL: the line HOODY_CONTAINER_ID stays as it is. Reasons of errors:
 * ENV_BLOCK_MALFORMED (our part of /etc/environment has no end), ENV_HOST_CONFIG_TOO_LARGE (the file is too large to be
 * read), else none. */
MUST_USE struct err *env_write(int rootfs_fd, const char *container_id, const json_t *environment);
/* Reads the files as somebody inside sees them; ENV_DEST_UNSUPPORTED when they do not say what was written: something
 * else stands or is mounted there. */
MUST_USE struct err *env_verify(int root_fd, const json_t *environment);
