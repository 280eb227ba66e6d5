/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a container gets out, as its network configuration says: through an upstream proxy, not at all, or - without a
 * configuration or while that is not running - directly. The record is a row of its own, with the credentials in a
 * column of their own, so that nothing that shows the record can show them. Loop thread only.
 */
#pragma once

#include "agent/agent.h"
#include "egress/proxy_url.h"

enum egress_type { EGRESS_SOCKS5, EGRESS_HTTP, EGRESS_HTTPS, EGRESS_BLOCK }; /* the first ones are enum proxy_kind */
extern const char *const egress_type_words[];

/* What was asked for last. The status that clients see is "error" when it should run and does not. */
enum egress_state { EGRESS_CONFIGURED, EGRESS_RUNNING, EGRESS_STOPPED };
extern const char *const egress_state_words[];

struct egress_record {
    int type, state; /* enum egress_type, enum egress_state */
    char *proxy;     /* URL without userinfo; NULL for block */
    char *country, *city, *region, *comment;
    json_t *dns_servers; /* array of 1..4 addresses */
    char *generation;    /* another one with each change: which of them a relay has */
    int64_t configured_at;
};

struct egress {
    struct egress_record record;
    char *username, *password; /* NULL: none */
};

/* The configuration from its row, and into a row. */
MUST_USE struct err *egress_from_row(const json_t *body, const char *credentials, struct egress **ret);
void egress_put(struct store_tx *tx, const struct container *c);
/* For another node: the row's two columns as members of j, the second one only if there is something in it. */
void egress_describe(const struct egress *eg, json_t *j, const char *body, const char *credentials);
struct egress *egress_copy(const struct egress *eg); /* NULL stays NULL */
void egress_free(struct egress *eg);
DEFINE_AUTO(struct egress, egress_free)

/* NULL: there is no configuration. */
enum nf_egress egress_way(const struct egress *eg);
/* Whether a relay must be there. */
bool egress_wants_relay(const struct egress *eg);
/* Of a container that has a configuration. */
struct egress_status {
    const char *word;    /* "configured", "running", "stopped" or "error" */
    const char *problem; /* of an error, borrowed; else NULL */
    int64_t checked_at;  /* when that was found out; 0: never */
    const json_t *udp;   /* as struct relay_status has it */
};
struct egress_status egress_status(const struct container *c);

/* An event container.network.WORD in tx. */
void egress_event(struct agent *a, struct store_tx *tx, const struct container *c, const char *word);
