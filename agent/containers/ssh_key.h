/* SPDX-License-Identifier: Apache-2.0 */
/* Public keys as lines of authorized_keys: "TYPE BASE64 [COMMENT]", without options. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Trims key in place (a line end, blanks around it, more than one blank between its words), and checks that its base64
 * is a whole key of the type that it begins with. ERR_INVALID names the field. */
MUST_USE struct err *ssh_key_check(const char *field, char *key);
/* The same key; comments do not matter. NULL is no key and the same as nothing. */
bool ssh_key_same(const char *a, const char *b);
/* "SHA256:..." as ssh-keygen -l shows it. The caller frees it; NULL stays NULL. */
char *ssh_key_fingerprint(const char *key);
