/* SPDX-License-Identifier: Apache-2.0 */
/* Containers that are started ahead for creates to take. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/output.h"

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
    autojson data = NULL;
    struct err *e = cli_call(cli, "GET", "/api/v1/node/pools", NULL, &data);
    const json_t *pool;
    struct table *t;
    size_t i;

    if (e)
        return e;
    if (cli->json) {
        output_json(data);
        return NULL;
    }
    if (cli->quiet)
        return NULL;
    t = table_new(headers);
    json_array_foreach(json_object_get(data, "pools"), i, pool) add_pool(t, pool);
    table_print(t, "There are no pools: warm.pools in the configuration makes them.");
    return NULL;
}
