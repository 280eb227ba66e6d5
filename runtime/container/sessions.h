/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ssh sessions of a running container. sshd shows a session in its process title, and, with ExposeAuthInfo, which
 * key opened it in a file that the session's environment names. All that is read here is the container's own and may be
 * a lie: believing it can end a process of that container, nothing else.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"

struct live; /* provisioning/live.h */

/* Ends the sessions that were opened with one of these authorized_keys lines, and those whose key cannot be told; all
 * when there is no root to look into. */
MUST_USE struct err *sessions_end(const struct live *live, const json_t *removed, int *ret_count);

/* Is this the title of a process that serves a session? */
bool sessions_is_title(const char *title);
/* Does a line of sshd's file ("publickey TYPE BASE64") name the key of an authorized_keys line? */
bool sessions_names_key(const char *info, const char *line);
