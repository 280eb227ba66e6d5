/* SPDX-License-Identifier: Apache-2.0 */
/* A table and its chains, as messages of a batch. */
#pragma once

#include "netfilter/expr.h"

void table_present(const struct build *b);
void table_absent(const struct build *b); /* whether it was there or not */
void table_flush(const struct build *b);  /* no rule is left in any chain */

/* A base chain: the hook's packets pass it at this priority; what it does not decide goes on. */
void chain_base(const struct build *b, const char *name, const char *type, uint32_t hook, int priority);
/* A plain chain, reached by jumps; nothing happens when it is there. */
void chain_plain(const struct build *b, const char *name);
void chain_flush(const struct build *b, const char *name);
/* It must be empty and unused. */
void chain_delete(const struct build *b, const char *name);
