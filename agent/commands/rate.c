/* SPDX-License-Identifier: Apache-2.0 */
/* Who may run a command now: cooldown, runs in an hour and a day, and the second look that risky ones need. */
#include "agent/commands/command.h"
#include "agent/events/event.h"
#include "base/clock.h"
#include "base/str.h"

enum { HOUR_MS = 3600000, DAY_MS = 86400000, TOKENS = 16, TOKEN_MS = 120000 };

struct token {
    char text[ID_OPERATION_LEN + 1];
    const struct command *command;
    char *parameters;
    int64_t until_ms;
};

struct command_rates {
    struct starts {
        int64_t *ms; /* wall times of the runs of the last day, oldest first */
        size_t count;
    } * starts; /* by command */
    struct token tokens[TOKENS];
    size_t next_token;
};

static struct starts *starts_of(struct agent *a, const struct command *c)
{
    return &a->command_rates->starts[c - commands];
}

static void add_start(struct starts *s, int64_t ms)
{
    s->ms = mem_grow(s->ms, s->count + 1, sizeof(*s->ms));
    s->ms[s->count++] = ms;
}

static struct err *limited(const char *type, int64_t wait_ms)
{
    int64_t seconds = MAX((wait_ms + 999) / 1000, 1);
    struct err *e =
        err_reason(err_new(ERR_TOO_MANY, "This command was run too often; ask again in %lld s", (long long)seconds),
                   "RATE_LIMIT_EXCEEDED");

    e->retry_after_s = (int)seconds;
    return err_data(e, json_pack("{s:I, s:s}", "retry_after", (json_int_t)seconds, "rate_limit_type", type));
}

/* So many runs in a period: how long until one more fits. */
static int64_t wait_for(const struct starts *s, int64_t now, int64_t period_ms, int64_t max)
{
    int64_t oldest;

    if (max == 0 || (int64_t)s->count < max)
        return 0;
    oldest = s->ms[s->count - (size_t)max];
    return oldest + period_ms - now;
}

static struct err *check_rate(struct agent *a, const struct command *c)
{
    struct starts *s = starts_of(a, c);
    int64_t now = clock_wall_ms();
    const struct {
        const char *type;
        int64_t wait_ms;
    } limits[] = {{"cooldown", wait_for(s, now, c->cooldown_s * 1000, 1)},
                  {"hourly", wait_for(s, now, HOUR_MS, c->per_hour)},
                  {"daily", wait_for(s, now, DAY_MS, c->per_day)}};
    size_t old = 0;

    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        if (limits[i].wait_ms > 0)
            return limited(limits[i].type, limits[i].wait_ms);
    while (old < s->count && s->ms[old] < now - DAY_MS)
        old++;
    memmove(s->ms, s->ms + old, (s->count - old) * sizeof(*s->ms));
    s->count -= old;
    return NULL;
}

static bool take_token(struct command_rates *r, const struct command *c, const char *parameters, const char *text)
{
    for (size_t i = 0; text && i < TOKENS; i++) {
        struct token *t = &r->tokens[i];

        if (t->command == c && t->until_ms > clock_mono_ms() && str_eq(t->text, text) &&
            str_eq(t->parameters, parameters)) {
            t->command = NULL;
            return true;
        }
    }
    return false;
}

/* A token is for one run of this command with these parameters. */
static struct err *ask_for_confirmation(struct command_rates *r, const struct command *c, const char *parameters)
{
    struct token *t = &r->tokens[r->next_token++ % TOKENS];

    t->command = c;
    t->until_ms = clock_mono_ms() + TOKEN_MS;
    str_set(&t->parameters, parameters);
    id_operation(t->text);
    return err_data(
        err_reason(
            err_new(ERR_INVALID,
                    "This command needs a confirmation: send it again within %d s with the confirmation_token %s",
                    TOKEN_MS / 1000, t->text),
            "CONFIRMATION_REQUIRED"),
        json_pack("{s:[s], s:s, s:i}", "missing_params", "confirmation_token", "confirmation_token", t->text,
                  "expires_in", TOKEN_MS / 1000));
}

struct err *command_admit(struct agent *a, const struct command *c, const json_t *parameters, const char *token)
{
    autofree char *text = json_dumps(parameters, JSON_COMPACT | JSON_SORT_KEYS);
    struct err *e = check_rate(a, c);

    if (!e && c->confirm && !take_token(a->command_rates, c, text, token))
        e = ask_for_confirmation(a->command_rates, c, text);
    if (!e)
        add_start(starts_of(a, c), clock_wall_ms());
    return e;
}

struct err *commands_load(struct agent *a)
{
    auto_(store_tx_free) struct store_tx *tx = store_tx_new();
    autojson rows = NULL;
    json_t *row;
    size_t i;
    struct err *e =
        store_query(a->store, STORE_COMMAND_SINCE, json_pack("[I]", (json_int_t)(clock_wall_ms() - DAY_MS)), &rows);

    if (e)
        return e;
    a->command_rates = mem_new(struct command_rates);
    a->command_rates->starts = mem_new_array(struct starts, command_count);
    json_array_foreach(rows, i, row)
    {
        const char *slug = json_string_value(json_object_get(row, "slug"));
        const struct command *c = command_find(NULL, slug);

        if (c)
            add_start(starts_of(a, c), json_integer_value(json_object_get(row, "started_at")));
        if (!str_eq(json_string_value(json_object_get(row, "status")), "running"))
            continue;
        store_tx_add(tx, STORE_COMMAND_END,
                     json_pack("[s, s, i, I, O]", "failed", "interrupted by a restart of the node agent", 1,
                               (json_int_t)clock_wall_ms(), json_object_get(row, "id")));
        event_add_for(a, tx, "server.command.failed", "server", a->node_id, NULL, NULL,
                      json_pack("{s:O, s:s, s:s, s:i}", "command_log_id", json_object_get(row, "id"), "command_slug",
                                slug, "status", "failed", "exit_code", 1));
    }
    events_number(a, tx);
    e = store_commit(a->store, tx);
    if (!e)
        events_show(a, tx);
    return e;
}

void commands_free(struct command_rates *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < command_count; i++)
        free(r->starts[i].ms);
    for (size_t i = 0; i < TOKENS; i++)
        free(r->tokens[i].parameters);
    free(r->starts);
    free(r);
}
