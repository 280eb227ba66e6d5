/* SPDX-License-Identifier: Apache-2.0 */
/* The schema as a list of steps; PRAGMA user_version counts the steps that a database has taken. Steps are never
 * edited. */
#pragma once

#include <sqlite3.h>

#include "base/err.h"

MUST_USE struct err *migrations_run(sqlite3 *db);
