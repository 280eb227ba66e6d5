/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nodectl: the operator's commands. A command is one row of the table in command.c and one function; options are
 * declared in the row, so that parsing, help and completion come from the same place.
 */
#pragma once

#include <stdbool.h>

#include "base/json_table.h"
#include "cli/client.h"

enum cli_kind { CLI_FLAG, CLI_VALUE, CLI_LIST };

struct cli_option {
    const char *name; /* without the dashes */
    enum cli_kind kind;
    const char *value; /* what stands for the value in the help: "FILE" */
    const char *help;
};

struct cli;
typedef struct err *cli_fn(struct cli *cli);

struct cli_command {
    const char *name; /* one or two words: "snapshot create" */
    const char *args; /* "CONTAINER [NAME]" */
    int min, max;     /* positional arguments; max -1: any number */
    const char *help;
    cli_fn *run;
    const struct cli_option *options; /* ends with a row without a name; may be NULL */
};

struct cli_given {
    const char *name, *value; /* value: "" for a flag */
};

struct cli {
    const struct cli_command *command;
    const char *const *args; /* positional arguments */
    size_t count;
    const struct cli_given *given;
    size_t given_count;
    bool json, quiet;
    struct client *client; /* made by cli_connect */
};

extern const struct cli_option cli_global_options[];
extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;

/* Fills cli from the command line. *ret_done: help was printed, there is nothing to run. */
MUST_USE struct err *cli_parse(int argc, char **argv, struct cli *cli, bool *ret_done);
void cli_done(struct cli *cli);
void cli_help(const struct cli_command *command); /* NULL: the overview */

/* Of the command at hand: the last value given or NULL; whether it was given; the n-th value or NULL. */
const char *cli_value(const struct cli *cli, const char *name);
bool cli_has(const struct cli *cli, const char *name);
const char *cli_nth(const struct cli *cli, const char *name, size_t n);
const char *cli_arg(const struct cli *cli, size_t n); /* NULL when there are fewer */

/* An error that ends with exit code 2. */
MUST_USE struct err *cli_usage(const char *fmt, ...) PRINTF_LIKE(1, 2);
bool cli_is_usage(const struct err *e);

/* One request, answered with the envelope's data (the caller's; may be NULL pointers for body and ret). */
MUST_USE struct err *cli_call(struct cli *cli, const char *method, const char *path, const json_t *body, json_t **ret);
/* A GET whose answer is to be shown: with --json that is done, and *ret stays NULL. */
MUST_USE struct err *cli_show(struct cli *cli, const char *path, json_t **ret);
/* Opens the connection that cli->client is for; it may be open already. */
MUST_USE struct err *cli_connect(struct cli *cli);
/* Whether the node may be another machine. */
bool cli_is_remote(const struct cli *cli);
/* The id of a container given by id, by the beginning of an id, or by name. */
MUST_USE struct err *cli_find(struct cli *cli, const char *text, char **ret_id);
/* The same of a project; its alias is its name. */
MUST_USE struct err *cli_find_project(struct cli *cli, const char *text, char **ret_id);
/* "KEY=VALUE" texts into an object. */
MUST_USE struct err *cli_put_pair(json_t *object, const char *text);

#define CLI_DEFAULT_PROJECT "000000000000000000000001"

cli_fn cmd_node, cmd_routes, cmd_health, cmd_recover;
cli_fn cmd_list, cmd_get, cmd_create, cmd_update, cmd_delete, cmd_copy, cmd_sync, cmd_power, cmd_logs, cmd_stats;
cli_fn cmd_snapshot_list, cmd_snapshot_create, cmd_snapshot_alias, cmd_snapshot_restore, cmd_snapshot_delete;
cli_fn cmd_firewall_list, cmd_firewall_add, cmd_firewall_remove, cmd_firewall_toggle, cmd_firewall_reset;
cli_fn cmd_env_list, cmd_env_set, cmd_env_unset;
cli_fn cmd_project_list, cmd_project_create, cmd_project_get, cmd_project_update, cmd_project_delete, cmd_project_stats;
cli_fn cmd_project_network;
cli_fn cmd_network_get, cmd_network_set, cmd_network_start, cmd_network_stop, cmd_network_delete;
cli_fn cmd_forward_list, cmd_forward_add, cmd_forward_remove;
cli_fn cmd_proxy, cmd_limits;
cli_fn cmd_share_list, cmd_share_incoming, cmd_share_create, cmd_share_delete, cmd_share_mount;
cli_fn cmd_events, cmd_runtime, cmd_images;
cli_fn cmd_export, cmd_import;
cli_fn cmd_image_list, cmd_image_fetch, cmd_image_publish, cmd_image_import, cmd_image_alias, cmd_image_remove,
    cmd_image_prune;
cli_fn cmd_server_commands, cmd_server_exec, cmd_server_log, cmd_server_runtime;
cli_fn cmd_pool_list;
cli_fn cmd_storage_show, cmd_storage_grow, cmd_storage_scrub;
cli_fn cmd_kit_build, cmd_kit_verify, cmd_kit_list, cmd_kit_install, cmd_kit_remove;
cli_fn cmd_kit_show, cmd_kit_upgrade, cmd_kit_rollback, cmd_kit_rollout;
cli_fn cmd_transfers;
cli_fn cmd_pki_init, cmd_pki_node, cmd_completion;
