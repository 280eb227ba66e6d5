/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A digest over a tree as a tar archive has it: for each entry, in the archive's order, what it is and what is in it.
 * Who writes the archive and who unpacks it come to the same number, whatever lies between them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

#define TREE_DIGEST_SIZE 65 /* 64 hex digits and a NUL */

struct archive_entry;
struct tree_digest;

struct tree_digest *tree_digest_new(void);
void tree_digest_free(struct tree_digest *d);
DEFINE_AUTO(struct tree_digest, tree_digest_free)

/* Path, type, owner, mode, time, size, target and attributes of the entry. */
void tree_digest_entry(struct tree_digest *d, const char *path, struct archive_entry *entry);
/* The next bytes of its content. */
void tree_digest_data(struct tree_digest *d, const void *data, size_t len);
/* The content has a hole of `len` bytes at the offset `at`; its zeros are no data. Holes are given in the order of
 * their offsets, each as one. A tree without holes has the digest that it had before holes were known. */
void tree_digest_hole(struct tree_digest *d, int64_t at, int64_t len);
/* Capabilities, access lists and the attributes of users are taken along; nothing that means something to the node
 * itself. */
bool tree_keeps_attribute(const char *name);
/* The number of all so far. */
void tree_digest_get(struct tree_digest *d, char ret[TREE_DIGEST_SIZE]);
