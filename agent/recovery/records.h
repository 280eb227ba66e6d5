/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the pool's copy of the database's rows (store/mirror.h) up to date: each commit that changes one raises the
 * generation, and its files are written on a lane of their own after the commit, so that no request waits for the pool.
 * Loop thread only.
 */
#pragma once

#include "agent/agent.h"

struct records;

struct records *records_new(struct agent *a);
void records_free(struct records *r);
/* Files that wait or are being written; a stop waits until there are none. */
bool records_busy(const struct records *r);

/* Before a commit: adds the new generation to tx and returns the files that follow from it, the caller's; NULL: none.
 */
json_t *records_plan(struct agent *a, struct store_tx *tx);
/* After the commit: files (taken over; may be NULL) are to be written. */
void records_write(struct agent *a, json_t *files);
/* A container's root file system has come into being: its rows are written beside it. */
void records_write_container(struct agent *a, const struct container *c);
/* At a start: writes every row whose file is absent, damaged or different. */
void records_refresh(struct agent *a);
