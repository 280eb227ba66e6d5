/* SPDX-License-Identifier: Apache-2.0 */
/* Public keys as lines of authorized_keys: "TYPE BASE64 [COMMENT]", without options. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

MUST_USE struct err *ssh_key_check(const char *field, const char *key);
/* The same key; comments do not matter. NULL is no key and the same as nothing. */
bool ssh_key_same(const char *a, const char *b);
/* "SHA256:..." as ssh-keygen -l shows it. The caller frees it; NULL stays NULL. */
char *ssh_key_fingerprint(const char *key);
