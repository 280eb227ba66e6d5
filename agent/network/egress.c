/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/egress.h"

#include "agent/events/event.h"
#include "agent/network/relay.h"
#include "base/clock.h"
#include "base/str.h"

const char *const egress_type_words[] = {"socks5", "http", "https", "block", NULL};
const char *const egress_state_words[] = {"configured", "running", "stopped", NULL};

#define R(kind, member, ...) F_##kind(struct egress_record, member, __VA_ARGS__)
static const struct json_field record_fields[] = {
    F_ENUM(struct egress_record, type, egress_type_words, .required = true),
    F_ENUM(struct egress_record, state, egress_state_words, .required = true),
    R(STRING, proxy, .nullable = true),
    R(STRING, country, .nullable = true),
    R(STRING, city, .nullable = true),
    R(STRING, region, .nullable = true),
    R(STRING, comment, .nullable = true),
    R(JSON, dns_servers, .required = true, .has_type = true, .type = JSON_ARRAY),
    R(STRING, generation, .required = true),
    R(INT, configured_at),
};
static JSON_TABLE(record_table, "network", record_fields);

struct credentials {
    char *username, *password;
};
static const struct json_field credential_fields[] = {
    F_STRING(struct credentials, username, .required = true),
    F_STRING(struct credentials, password, .required = true),
};
static JSON_TABLE(credential_table, "credentials", credential_fields);

static struct err *load_credentials(const char *text, struct egress *eg)
{
    struct credentials c = {0};
    autojson j = NULL;
    struct err *e = json_parse(text, strlen(text), "credentials", &j);

    if (!e)
        e = json_table_load(&credential_table, j, &c, NULL);
    if (e) { /* its text might quote them */
        err_free(e);
        return err_new(ERR_INTERNAL, "the database has a damaged row");
    }
    eg->username = c.username;
    eg->password = c.password;
    return NULL;
}

struct err *egress_from_row(const json_t *body, const char *credentials, struct egress **ret)
{
    auto_(egress_free) struct egress *eg = mem_new(struct egress);
    struct err *e = json_table_load(&record_table, body, &eg->record, NULL);

    if (!e && credentials)
        e = load_credentials(credentials, eg);
    if (!e)
        *ret = steal(&eg);
    return e;
}

static char *secret_text(const struct egress *eg)
{
    const struct credentials secret = {.username = eg->username, .password = eg->password};
    autojson j = eg->username ? json_table_save(&credential_table, &secret) : NULL;

    return j ? json_dumps(j, JSON_COMPACT) : NULL;
}

void egress_describe(const struct egress *eg, json_t *j, const char *body, const char *credentials)
{
    autofree char *secret = secret_text(eg);

    json_object_set_new(j, body, json_table_save(&record_table, &eg->record));
    if (secret)
        json_object_set_new(j, credentials, json_string(secret));
}

void egress_put(struct store_tx *tx, const struct container *c)
{
    const struct egress *eg = c->egress;
    autofree char *secret = secret_text(eg);

    store_tx_add(
        tx, STORE_NETWORK_PUT,
        json_pack("[s, o, s?]", c->record.id, store_text(json_table_save(&record_table, &eg->record)), secret));
}

struct egress *egress_copy(const struct egress *eg)
{
    struct egress *copy;
    autojson body = NULL;

    if (!eg)
        return NULL;
    copy = mem_new(struct egress);
    body = json_table_save(&record_table, &eg->record);
    err_ignore(json_table_load(&record_table, body, &copy->record, NULL));
    copy->username = str_dup(eg->username);
    copy->password = str_dup(eg->password);
    return copy;
}

void egress_free(struct egress *eg)
{
    if (!eg)
        return;
    json_table_clear(&record_table, &eg->record);
    if (eg->password)
        explicit_bzero(eg->password, strlen(eg->password));
    free(eg->username);
    free(eg->password);
    free(eg);
}

enum nf_egress egress_way(const struct egress *eg)
{
    if (!eg || eg->record.state != EGRESS_RUNNING)
        return NF_EGRESS_OPEN;
    return eg->record.type == EGRESS_BLOCK ? NF_EGRESS_BLOCKED : NF_EGRESS_RELAYED;
}

bool egress_wants_relay(const struct egress *eg)
{
    return egress_way(eg) == NF_EGRESS_RELAYED;
}

struct egress_status egress_status(const struct container *c)
{
    const struct egress *eg = c->egress;
    /* Our table is watched, so what rules say is known now. A container without a link has none, nor a way out. */
    struct egress_status s = {.word = egress_state_words[eg->record.state],
                              .checked_at = eg->record.state == EGRESS_CONFIGURED ? 0 : clock_wall_ms()};

    if (egress_wants_relay(eg)) {
        const struct relay_status r = relay_status(c);

        s.checked_at = r.checked_at;
        s.udp = r.udp;
        if (!r.reachable) {
            s.word = "error";
            s.problem = r.problem;
        }
    }
    return s;
}

void egress_event(struct agent *a, struct store_tx *tx, const struct container *c, const char *word)
{
    autofree char *type = str_fmt("container.network.%s", word);

    event_add_for(a, tx, type, "container_network", c->record.id, c->record.project_id, c->record.id,
                  json_pack("{s:s, s:s, s:s?, s:s}", "container_id", c->record.id, "type",
                            egress_type_words[c->egress->record.type], "proxy", c->egress->record.proxy, "state",
                            egress_state_words[c->egress->record.state]));
}
