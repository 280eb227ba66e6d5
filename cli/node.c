/* SPDX-License-Identifier: Apache-2.0 */
/* The node itself: what it is, whether it is well, what it tells a proxy. */
#include <stdio.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/list.h"

static char *joined(const json_t *list, const char *member)
{
    char *text = str_dup("");
    const json_t *v;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, v)
    {
        const char *word = member ? output_member(v, member) : json_string_value(v);
        char *longer = str_fmt("%s%s%s", text, i ? ", " : "", word ? word : "?");

        free(text);
        text = longer;
    }
    return text;
}

static void line_bytes(const char *name, const json_t *object, const char *member)
{
    char text[16];

    output_line(name, output_bytes(json_integer_value(json_object_get(object, member)), text));
}

struct err *cmd_node(struct cli *cli)
{
    autojson data = NULL;
    struct err *e = cli_call(cli, "GET", "/api/v1/node", NULL, &data);
    const json_t *versions = json_object_get(data, "versions"), *capacity = json_object_get(data, "capacity");
    const json_t *containers = json_object_get(data, "containers"), *ipv6 = json_object_get(data, "ipv6");
    autofree char *images = joined(json_object_get(data, "images"), NULL);
    autofree char *kits = joined(json_object_get(data, "kits"), "name"), *count = NULL;

    if (e)
        return e;
    if (cli->json || cli->quiet) {
        if (cli->json)
            output_json(data);
        else
            printf("%s\n", output_member(data, "id"));
        return NULL;
    }
    count = str_fmt("%s of at most %s", output_member(containers, "total"), output_member(containers, "max"));
    output_line("Id", output_member(data, "id"));
    output_line("Name", output_member(data, "name"));
    output_line("Version", output_member(versions, "noded"));
    output_line("Kernel", output_member(versions, "kernel"));
    output_line("Architecture", output_member(versions, "architecture"));
    output_line("Containers", count);
    output_line("Cores", output_member(capacity, "cores"));
    line_bytes("Memory", capacity, "memory_bytes");
    line_bytes("Pool", capacity, "pool_total_bytes");
    line_bytes("Pool free", capacity, "pool_free_bytes");
    output_line("Images", images);
    output_line("Kits", kits);
    output_line("IPv6", json_is_true(json_object_get(ipv6, "enabled")) ? "yes" : output_member(ipv6, "reason"));
    output_line("Started", output_member(data, "started_at"));
    return NULL;
}

static void route_row(struct table *t, const json_t *r)
{
    autofree char *services = joined(json_object_get(r, "services"), "slug");

    table_row(t, output_member(r, "container_id"), output_member(r, "name"), output_member(r, "status"),
              output_member(r, "ipv4"), output_member(r, "ipv6"), services);
}

struct err *cmd_routes(struct cli *cli)
{
    static const char *const headers[] = {"CONTAINER", "NAME", "STATUS", "IPV4", "IPV6", "SERVICES", NULL};
    static const struct cli_list list = {.member = "routes",
                                         .whole = true,
                                         .name = "container_id",
                                         .headers = headers,
                                         .row = route_row,
                                         .empty = "There are no containers."};

    return cli_list(cli, "/api/v1/node/routes", &list);
}

/* What the records say that is not there, and the other way round. */
static void show_storage(const json_t *data)
{
    const json_t *storage = json_object_get(data, "storage"), *records = json_object_get(data, "records");
    const char *pool = output_member(storage, "pool");
    static const struct {
        const char *member, *text;
    } counts[] = {
        {"quarantined", "disks in the pool belong to no container; run \"nodectl recover\""},
        {"missing_containers", "containers have no disk in the pool; bring the pool back, or delete them"},
        {"missing_snapshots", "snapshots are not in the pool; bring the pool back, or delete them"},
    };

    if (strcmp(pool, "ok") != 0)
        printf("storage: the pool is %s; see \"nodectl storage show\"\n", pool);
    if (strcmp(output_member(json_object_get(storage, "state_disk"), "state"), "ok") != 0)
        printf("storage: the file system of the state directory is full; make room in it\n");
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        json_int_t n = json_integer_value(json_object_get(records, counts[i].member));

        if (n)
            printf("storage: %lld %s\n", (long long)n, counts[i].text);
    }
}

/* How full the connection table is, and who wants more of it than its share. */
static void show_connections(const json_t *connections)
{
    json_t *id;
    size_t i;

    if (strcmp(output_member(connections, "state"), "filling") == 0)
        printf("network: the connection table has %lld of %lld entries; see who has them with \"conntrack -L\"\n",
               (long long)json_integer_value(json_object_get(connections, "used")),
               (long long)json_integer_value(json_object_get(connections, "max")));
    if (strcmp(output_member(connections, "state"), "uncounted") == 0)
        printf("network: the kernel cannot count connections, so containers have no share of the table; let it load "
               "nft_connlimit and nft_hash\n");
    json_array_foreach(json_object_get(connections, "at_limit"), i, id)
        printf("network: container %s wants more connections than its share, %lld; see noded.conf(5), "
               "network.connections_share\n",
               json_string_value(id), (long long)json_integer_value(json_object_get(connections, "share")));
}

/* "ready", and a line for each thing that somebody should look after. */
static void show_health(const json_t *data)
{
    const json_t *network = json_object_get(data, "network"), *tls = json_object_get(data, "tls");
    const char *state = output_member(network, "state");
    json_t *id, *conflict;
    size_t i;

    printf("ready\n");
    show_storage(data);
    if (strcmp(state, "contested") == 0)
        printf("network: another program goes on changing it; find it with \"nft monitor\" and \"ip monitor\"\n");
    else if (strcmp(state, "failed") == 0)
        printf("network: another program has changed it and it could not be put right; see the log of noded\n");
    if (json_is_string(json_object_get(tls, "remedy")))
        printf("TLS: %s\n", output_member(tls, "remedy"));
    json_array_foreach(json_object_get(network, "lost_links"), i, id)
        printf("network: the interface of container %s is gone; restart the container\n", json_string_value(id));
    json_array_foreach(json_object_get(network, "conflicts"), i, conflict)
        printf("network: %s (table %s %s, chain %s) %s; remedy: %s\n", output_member(conflict, "program"),
               output_member(conflict, "family"), output_member(conflict, "table"), output_member(conflict, "chain"),
               output_member(conflict, "effect"), output_member(conflict, "remedy"));
    show_connections(json_object_get(network, "connections"));
}

struct err *cmd_health(struct cli *cli)
{
    autojson data = NULL;
    struct err *e = cli_call(cli, "GET", "/healthz", NULL, &data);
    const json_t *held = json_object_get(data, "held");
    bool ready = json_is_true(json_object_get(data, "ready"));

    if (e)
        return e;
    if (cli->json)
        output_json(data);
    else if (ready && !cli->quiet)
        show_health(data);
    if (!ready && json_is_object(held))
        return err_new(ERR_UNAVAILABLE, "the node is held: %s; %s", output_member(held, "message"),
                       output_member(held, "remedy"));
    if (!ready)
        return err_new(ERR_UNAVAILABLE, "the node is starting: it compares its records with the host");
    if (strcmp(output_member(json_object_get(data, "tls"), "state"), "expired") == 0)
        return err_new(ERR_HOST, "TLS has expired: clients are refused on the mTLS port");
    return NULL;
}
