/* SPDX-License-Identifier: Apache-2.0 */
/* Within storage/: what becomes of the extended attributes of a stream. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* WISHED: applied where the kernel takes it, left out where it does not. */
enum receive_fate { RECEIVE_REFUSED, RECEIVE_APPLIED, RECEIVE_DROPPED, RECEIVE_WISHED };

enum receive_fate receive_fate_of(const char *name);

/*
 * A stream makes every file in the subvolume's root and moves it to its place afterwards. What a directory hands on to
 * the files that are made in it must not be on the root meanwhile: it is kept here. Begins as zeros.
 */
enum { RECEIVE_INHERITED_MAX = 2 };

struct receive_inherited {
    struct {
        void *value; /* NULL: the root does not have it */
        size_t len;
    } all[RECEIVE_INHERITED_MAX];
};

/* Takes them off the root, which may have them of the parent that it is a snapshot of. */
MUST_USE struct err *receive_inherited_take(int root, struct receive_inherited *r);
/* The stream sets (a copy is kept) or removes one on the root. False: `name` is none of them. */
bool receive_inherited_put(struct receive_inherited *r, const char *name, bool set, const void *value, size_t len);
/* Puts them on the root in the end. ERR_INVALID: a value is wrong. */
MUST_USE struct err *receive_inherited_give(int root, const struct receive_inherited *r);
void receive_inherited_clear(struct receive_inherited *r);
