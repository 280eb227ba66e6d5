/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server commands: a fixed table of things that an operator or the control plane may ask of the node. No shell, no
 * program: each is a function of the daemon. A run is logged in the store before it begins and when it ends, limited in
 * rate, and bounded in time. Loop thread only.
 */
#pragma once

#include "agent/api/api.h"
#include "base/id.h"

enum command_risk { RISK_LOW, RISK_MEDIUM, RISK_HIGH, RISK_CRITICAL };
extern const char *const command_risk_words[];

struct command_param {
    const char *name;
    const char *description;
    bool integer;     /* else a string */
    bool required;    /* integers that are not may be absent: initial */
    int64_t min, max; /* of an integer */
    int64_t initial;
    bool container; /* a string that must be the id of a container */
};

struct command_run;

struct command {
    const char *slug, *name, *description, *category;
    enum command_risk risk;
    bool confirm; /* needs a confirmation token */
    struct command_param params[2];
    int64_t timeout_s, cooldown_s, per_hour, per_day; /* per_hour and per_day at most COMMAND_RATE_MAX */
    void (*run)(struct command_run *run);             /* begins; ends in command_done, at once or later */
};

enum { COMMAND_RATE_MAX = 1000 };

extern const struct command commands[];
extern const size_t command_count;
const struct command *command_find(const char *id, const char *slug);  /* by one of them */
void command_id(const struct command *c, char ret[ID_OBJECT_LEN + 1]); /* stable: made of the slug */

struct command_run {
    struct agent *agent;
    const struct command *command;
    json_t *parameters;
    char log_id[ID_OBJECT_LEN + 1];
    struct http_request *req; /* who waits for the end; NULL: nobody */
    int64_t timeout_s, started_ms, begun_us;
    bool over; /* answered already, as its time was over: run functions stop when they see it */
    uv_timer_t timer;
    /* For the run functions. */
    json_t *state;
    size_t at;
};

/* The end of a run: an error, or what it found out. Both are taken over. */
void command_done(struct command_run *run, struct err *e, json_t *output);
const char *command_string(const struct command_run *run, const char *name);
int64_t command_integer(const struct command_run *run, const char *name);

/* Runs that the last daemon did not finish are marked as failed, and rates are counted on. Before the loop runs. */
struct command_rates;
MUST_USE struct err *commands_load(struct agent *a);
void commands_free(struct command_rates *rates);

/* What a request may be refused for: rate and confirmation. token may be NULL. */
MUST_USE struct err *command_admit(struct agent *a, const struct command *c, const json_t *parameters,
                                   const char *token);
/* Logs and starts a run; parameters are taken over. wait: the request is answered at the end, else when it is logged.
 */
void command_start(struct agent *a, const struct command *c, json_t *parameters, int64_t timeout_s, bool wait,
                   struct http_request *req);
/* The API's object of a logged run. */
json_t *command_log_to_json(const json_t *row);
