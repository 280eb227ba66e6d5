/* SPDX-License-Identifier: Apache-2.0 */
/* Containers that are started ahead for creates to take. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

static const char *kind_of(const json_t *pool)
{
    if (json_is_true(json_object_get(pool, "dev_kit")))
        return "dev_kit";
    return json_is_true(json_object_get(pool, "hoody_kit")) ? "hoody_kit" : "bare";
}

static json_int_t number(const json_t *object, const char *member)
{
    return json_integer_value(json_object_get(object, member));
}

static void add_pool(struct table *t, const json_t *pool)
{
    autofree char *ready = str_fmt("%lld of %lld-%lld", (long long)number(pool, "ready"),
                                   (long long)number(pool, "low"), (long long)number(pool, "high"));
    autofree char *claimed = str_fmt("%lld", (long long)number(pool, "claimed"));
    autofree char *missed = str_fmt("%lld", (long long)number(pool, "missed"));
    autofree char *replaced = str_fmt("%lld", (long long)number(pool, "replaced"));

    table_row(t, output_member(pool, "image"), kind_of(pool), ready, claimed, missed, replaced,
              output_member(pool, "last_error"));
}

struct err *cmd_pool_list(struct cli *cli)
{
    static const char *const headers[] = {"IMAGE",  "KIND",     "READY",      "CLAIMED",
                                          "MISSED", "REPLACED", "LAST ERROR", NULL};
    static const struct cli_list list = {.member = "pools",
                                         .whole = true,
                                         .headers = headers,
                                         .row = add_pool,
                                         .empty = "There are no pools: warm.pools in the configuration makes them."};

    return cli_list(cli, "/api/v1/node/pools", &list);
}
