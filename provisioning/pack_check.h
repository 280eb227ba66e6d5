/* SPDX-License-Identifier: Apache-2.0 */
/* Whether something has a place in an archive: what unpacking (unpack.h) would refuse for its path has none. */
#pragma once

#include "base/err.h"

/* target: of a symlink, or NULL. ERR_HOST names the path. */
MUST_USE struct err *pack_check_path(const char *path, const char *target);
/* All that pack_tree would pack of the directory `dir` under `prefix`; contents are not read. */
MUST_USE struct err *pack_check(int dir, const char *prefix);
