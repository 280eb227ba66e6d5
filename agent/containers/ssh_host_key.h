/* SPDX-License-Identifier: Apache-2.0 */
/* A key that the sshd of a container shows its clients. */
#pragma once

#include "base/err.h"

/* A fresh Ed25519 key as the texts of sshd's two files, its secret one without a password and the public one. Both are
 * the caller's. ERR_INTERNAL: the system has no random numbers. */
MUST_USE struct err *ssh_host_key_new(char **ret_secret, char **ret_public);
