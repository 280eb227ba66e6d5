/* SPDX-License-Identifier: Apache-2.0 */
/* Lists: as a table, with --json as they came, with --quiet a name a line. */
#pragma once

#include "cli/cli.h"
#include "cli/output.h"

struct cli_list {
    const char *member;         /* of the answer: the list; NULL: the answer itself is one */
    bool whole;                 /* with --json the whole answer */
    bool newest_first;          /* in the answer; in the table the newest comes last */
    const char *name;           /* what --quiet prints of an item: a member; NULL: nothing */
    const char *const *headers; /* of table_new */
    void (*row)(struct table *t, const json_t *item);
    const char *empty; /* said instead of an empty table */
};

/* GET path, then the list that is in the answer. */
MUST_USE struct err *cli_list(struct cli *cli, const char *path, const struct cli_list *list);
/* The same of a list that is read by pages. path has its query, without page and limit. */
MUST_USE struct err *cli_list_pages(struct cli *cli, const char *path, const struct cli_list *list);
/* Of an answer that is there already. */
void cli_list_items(const struct cli *cli, const json_t *data, const struct cli_list *list);
/* All pages of the list `member` into ret. */
MUST_USE struct err *cli_fetch_pages(struct cli *cli, const char *path, const char *member, json_t *ret);
