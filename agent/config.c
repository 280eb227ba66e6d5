/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config.h"

#include "base/fd.h"
#include "base/ini.h"
#include "base/str.h"
#include "images/image.h"

#define ROW(section_, key_, kind_, member, initial_, help_, ...)                                                       \
    {                                                                                                                  \
        .section = (section_), .key = (key_), .kind = (kind_), .offset = offsetof(struct config, member),              \
        .initial = (initial_), .help = (help_), __VA_ARGS__                                                            \
    }

static const struct ini_row rows[] = {
    ROW("node", "id", INI_STRING, node_id, "",
        "Id of this server, 24 hex digits; empty: made once and kept in the state."),
    ROW("node", "name", INI_STRING, node_name, "", "Name of this server in replies; empty: its host name."),
    ROW("node", "region", INI_STRING, node_region, "", "Region of this server in replies, any words."),
    ROW("node", "state_dir", INI_STRING, state_dir, "/var/lib/noded",
        "Database and, by default, pool, images and kits."),
    ROW("node", "run_dir", INI_STRING, run_dir, "/run/noded", "Run time files of containers; must be on a tmpfs."),
    ROW("node", "worker", INI_STRING, worker, "/usr/libexec/noded/noded-worker", "The worker program."),
    ROW("node", "relay", INI_STRING, relay, "/usr/libexec/noded/noded-relay",
        "The program that takes a container's connections through a proxy."),
    ROW("node", "cgroup", INI_STRING, cgroup, "noded", "First part of the containers' cgroup paths."),
    ROW("node", "id_base", INI_INT, id_base, "1000000000",
        "First host uid and gid; every container gets its own 65536 from here on.", .min = 65536, .max = 3000000000),
    ROW("node", "max_containers", INI_INT, max_containers, "1000", "Containers this server takes.", .min = 1,
        .max = 16383),
    ROW("node", "workers", INI_INT, workers, "8", "Worker processes at the same time.", .min = 1, .max = 256),
    ROW("node", "log_level", INI_STRING, log_level, "info", "error, warning, notice, info or debug."),
    ROW("control", "socket", INI_STRING, socket, "", "Unix socket of nodectl; empty: control.sock in run_dir."),
    ROW("control", "group", INI_STRING, socket_group, "noded", "Group that may use the socket besides root."),
    ROW("control", "body_max", INI_SIZE, body_max, "2M", "Largest request body.", .min = 4096, .max = 16777216),
    ROW("control", "bodies_max", INI_SIZE, bodies_max, "64M",
        "Memory for bodies of requests, and for large replies that wait, together; one client may have half of it.",
        .min = 33554432, .max = 4294967296),
    ROW("api", "unknown_projects", INI_STRING, unknown_projects, "record",
        "A new container in a project that this server does not know: record the project, or refuse."),
    ROW("tls", "listen", INI_STRING, tls_listen, "", "Address of the mTLS listener, such as [::]:8443; empty: off."),
    ROW("tls", "certificate", INI_STRING, tls_certificate, "/etc/noded/pki/server.crt", "Server certificate (PEM)."),
    ROW("tls", "key", INI_STRING, tls_key, "/etc/noded/pki/server.key", "Its key (PEM)."),
    ROW("tls", "client_ca", INI_STRING, tls_client_ca, "/etc/noded/pki/ca.crt", "CA that signs client certificates."),
    ROW("tls", "crl", INI_STRING, tls_crl, "", "Revocation list of that CA; empty: none."),
    ROW("peers", "nodes", INI_LIST, peers, "",
        "Other nodes that copies go to and come from, each ID=HOST:PORT: their server id and their mTLS listener."),
    ROW("peers", "certificate", INI_STRING, peer_certificate, "/etc/noded/pki/node.crt",
        "Certificate (PEM) that this node shows to them: OU=node, and its server id as common name."),
    ROW("peers", "key", INI_STRING, peer_key, "/etc/noded/pki/node.key", "Its key (PEM)."),
    ROW("peers", "transfers", INI_INT, peer_transfers, "2",
        "Containers that are sent at the same time, and as many that are received.", .min = 1, .max = 64),
    ROW("peers", "max_size", INI_SIZE, peer_max, "256G", "What is taken of one container at most.", .min = 1048576,
        .max = INT64_MAX),
    ROW("storage", "pool", INI_STRING, pool, "", "Directory of the btrfs pool; empty: pool in state_dir."),
    ROW("storage", "loop_file", INI_STRING, loop_file, "",
        "File made, formatted and mounted as the pool; empty: pool.img in state_dir; none: pool is a btrfs already."),
    ROW("storage", "loop_size", INI_SIZE, loop_size, "20G", "Size of that file (sparse).", .min = 268435456,
        .max = INT64_MAX),
    ROW("storage", "reserve", INI_SIZE, reserve, "512M",
        "With less room than this left, nothing is begun that needs more: create, copy, snapshot, sync.", .min = 0,
        .max = INT64_MAX),
    ROW("storage", "low_percent", INI_INT, low_percent, "10", "With less of the pool free, an event says so.", .min = 0,
        .max = 100),
    ROW("storage", "reclaim_max", INI_INT, reclaim_max, "2000",
        "With more deleted subvolumes than this waiting to be reclaimed, nothing is begun that needs more.", .min = 10,
        .max = 1000000),
    ROW("storage", "base_children", INI_INT, base_children, "200",
        "Containers that are snapshots of one subvolume; then another copy of their image is made.", .min = 8,
        .max = 100000),
    ROW("storage", "scrub_days", INI_INT, scrub_days, "30",
        "All that is in the pool is read and checked this often; 0: never by itself.", .min = 0, .max = 3650),
    ROW("storage", "scrub_rate", INI_SIZE, scrub_rate, "100M",
        "Bytes a second that this reads from each device; 0: as many as it can.", .min = 0, .max = INT64_MAX),
    ROW("storage", "quota", INI_BOOL, quota, "yes",
        "Count what each container writes, by btrfs simple quotas (Linux 6.7), in a pool that is a loop file."),
    ROW("images", "dir", INI_STRING, images_dir, "", "Archives such as debian-13.tar.zst; empty: images in state_dir."),
    ROW("images", "default", INI_STRING, default_image, "debian/13", "Image of a container that names none."),
    ROW("images", "remotes", INI_LIST, image_remotes, "",
        "URLs of simplestreams servers that images are fetched from, in this order; empty: none."),
    ROW("images", "remote_ca", INI_STRING, image_remote_ca, "",
        "Certificates (PEM) that they must be signed by; empty: the system's."),
    ROW("images", "keep_days", INI_INT, images_keep_days, "14",
        "Remove images without a name, or cached ones, that nobody has used for so many days; 0: never.", .min = 0,
        .max = 3650),
    ROW("kits", "dir", INI_STRING, kits_dir, "", "Bundles, *.kit; empty: kits in state_dir."),
    ROW("kits", "public_key", INI_STRING, kits_public_key, "/etc/noded/kits.pub",
        "Keys (PEM) of which one must have signed a bundle."),
    ROW("kits", "enabled", INI_LIST, kits_enabled, "",
        "Kits of the suite by NAME (the newest version) or NAME=VERSION; empty: all that are installed."),
    ROW("kits", "health_timeout", INI_INT, health_timeout_s, "20",
        "Seconds that services have to be ready after they got another version; three times as long after a start.",
        .min = 1, .max = 300),
    ROW("kits", "create_wait", INI_INT, create_wait_s, "10",
        "Seconds that a new container waits for its services to be ready before it counts as running; 0: not at all.",
        .min = 0, .max = 300),
    ROW("network", "table", INI_STRING, table, "noded", "Name of the nftables table (family inet)."),
    ROW("network", "veth_prefix", INI_STRING, veth_prefix, "nd", "First letters of the interface names, 1..6."),
    ROW("network", "ipv4_pool", INI_STRING, ipv4_pool, "10.96.0.0/16", "Addresses of the containers."),
    ROW("network", "ipv6_pool", INI_STRING, ipv6_pool, "fd6e:6f64:6564::/64", "Addresses of the containers."),
    ROW("network", "uplink", INI_STRING, uplink, "", "Interface towards the internet; empty: any but the containers'."),
    ROW("network", "inter_container", INI_BOOL, inter_container, "no", "May containers reach each other directly?"),
    ROW("network", "host_ports", INI_LIST, host_ports, "80, 443",
        "TCP ports of this server that containers may reach (the proxy's)."),
    ROW("network", "host_udp_ports", INI_LIST, host_udp_ports, "443",
        "UDP ports of this server that containers may reach (the proxy's, for QUIC)."),
    ROW("network", "firewall_ipv6", INI_STRING, firewall_ipv6, "follow",
        "IPv6 of a container with rules: rules that name no network hold for it too (follow), or nothing new (drop)."),
    ROW("network", "connections_share", INI_INT, connections_share, "6",
        "Percentage of this server's connection table (nf_conntrack_max) for the connections that a container begins, "
        "and as much again for those to it; a limit of its own counts in their place.",
        .min = 1, .max = 100),
    ROW("network", "connections_reserve", INI_INT, connections_reserve, "25",
        "Percentage of that table which all containers together leave to the server.", .min = 5, .max = 95),
    ROW("network", "dns", INI_LIST, dns, "1.1.1.1, 8.8.8.8", "Name servers of the containers."),
    ROW("network", "relay_user", INI_STRING, relay_user, "noded-relay",
        "Account that relays run as; it needs no rights and no files."),
    ROW("network", "relay_ca", INI_STRING, relay_ca, "",
        "Certificates (PEM) that https proxies must be signed by; empty: the system's."),
    ROW("proxy", "users", INI_LIST, proxy_users, "haproxy, www-data, nginx, envoy",
        "Accounts whose connections to containers count as the proxy's; absent ones are skipped."),
    ROW("proxy", "streams", INI_INT, feed_streams_max, "32",
        "Readers of the live stream of routes at the same time; one client may be half of them.", .min = 2, .max = 128),
    ROW("containers", "stop_timeout", INI_INT, stop_timeout_s, "30", "Seconds a stop waits before it kills.", .min = 1,
        .max = 600),
    ROW("containers", "subvolumes", INI_BOOL, subvolumes, "no",
        "May processes in containers make btrfs subvolumes? The kernel deletes them one after the other, for all."),
    ROW("containers", "ramdisk_size", INI_SIZE, ramdisk_size, "512M", "Size of /ramdisk; at most half the memory.",
        .min = 1048576, .max = INT64_MAX),
    ROW("warm", "pools", INI_LIST, warm_pools, "",
        "Containers that are started ahead for creates to take, each KIND:IMAGE=COUNT or KIND:IMAGE=LOW-HIGH; KIND is "
        "dev_kit, hoody_kit or bare."),
    ROW("warm", "pressure", INI_INT, warm_pressure, "40",
        "None is started while tasks have waited for the processor for more than this percentage of ten seconds.",
        .min = 1, .max = 100),
    ROW("events", "retention_days", INI_INT, events_days, "90", "Days for which events are kept.", .min = 1,
        .max = 3650),
    ROW("events", "max", INI_INT, events_max, "200000", "Events that are kept at most; the oldest go first.",
        .min = 1000, .max = 10000000),
    ROW("events", "status_log_days", INI_INT, status_log_days, "90", "Days for which status logs are kept.", .min = 1,
        .max = 3650),
    ROW("events", "stream_buffer", INI_INT, stream_buffer, "256",
        "Events that wait in memory for one reader of the live stream before it has to catch up from the database.",
        .min = 1, .max = 10000),
    ROW("events", "streams", INI_INT, streams_max, "64", "Readers of the live stream of events at the same time.",
        .min = 0, .max = 256),
    ROW("events", "client_streams", INI_INT, client_streams_max, "16",
        "So many of them may be one client's: a certificate's name and role, or a local user.", .min = 0, .max = 256),
};

static void follow(char **member, const char *dir, const char *name)
{
    if (str_empty(*member)) {
        free(*member);
        *member = str_fmt("%s/%s", dir, name);
    }
}

struct err *config_peer(const char *text, struct config_peer *ret)
{
    const char *equals = strchr(text, '='), *colon = strrchr(text, ':');
    autofree char *id = equals ? strndup(text, (size_t)(equals - text)) : NULL;
    size_t len = colon && equals && colon > equals ? (size_t)(colon - equals - 1) : 0;
    const char *host = equals ? equals + 1 : text;

    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    if (!id || !str_is_object_id(id) || len == 0 || !str_to_i64(colon + 1, &ret->port) || ret->port < 1 ||
        ret->port > 65535)
        return err_field("peers.nodes", "must be ID=HOST:PORT, ID of 24 hex digits: '%s'", text);
    memcpy(ret->id, id, sizeof(ret->id));
    ret->host = strndup(host, len);
    return NULL;
}

enum { WARM_MAX = 1000 };

/* "N" or "LOW-HIGH" */
static bool warm_counts(const char *text, struct config_warm *ret)
{
    const char *dash = strchr(text, '-');
    autofree char *low = dash ? strndup(text, (size_t)(dash - text)) : str_dup(text);

    return str_to_i64(low, &ret->low) && str_to_i64(dash ? dash + 1 : text, &ret->high) && ret->low >= 1 &&
           ret->high >= ret->low && ret->high <= WARM_MAX;
}

struct err *config_warm(const char *text, struct config_warm *ret)
{
    static const struct {
        const char *word;
        bool hoody_kit, dev_kit;
    } kinds[] = {{"dev_kit:", true, true}, {"hoody_kit:", true, false}, {"bare:", false, false}};
    const char *equals = strrchr(text, '=');
    size_t i = 0;

    while (i < ARRAY_LEN(kinds) && strncmp(text, kinds[i].word, strlen(kinds[i].word)) != 0)
        i++;
    if (i == ARRAY_LEN(kinds))
        return err_field("warm.pools", "must begin with dev_kit:, hoody_kit: or bare: '%s'", text);
    if (!equals || !warm_counts(equals + 1, ret))
        return err_field("warm.pools", "must end in =COUNT or =LOW-HIGH, of 1..%d: '%s'", WARM_MAX, text);
    text += strlen(kinds[i].word);
    if (equals > text) {
        autofree char *name = strndup(text, (size_t)(equals - text));

        ret->image = image_name_canonical(name);
    }
    if (!ret->image)
        return err_field("warm.pools", "must name an image: '%s'", text);
    ret->hoody_kit = kinds[i].hoody_kit;
    ret->dev_kit = kinds[i].dev_kit;
    return NULL;
}

static bool same_warm(const struct config_warm *a, const struct config_warm *b)
{
    return str_eq(a->image, b->image) && a->hoody_kit == b->hoody_kit && a->dev_kit == b->dev_kit;
}

static struct err *check_warm(const struct config *c)
{
    struct err *e = NULL;

    for (char **p = c->warm_pools; p && *p && !e; p++) {
        struct config_warm pool = {0};

        e = config_warm(*p, &pool);
        for (char **q = c->warm_pools; !e && q != p; q++) {
            struct config_warm other = {0};

            e = config_warm(*q, &other);
            if (!e && same_warm(&pool, &other))
                e = err_field("warm.pools", "has the same kind and image twice: '%s'", *p);
            free(other.image);
        }
        free(pool.image);
    }
    return e;
}

static struct err *check_peers(const struct config *c)
{
    for (char **p = c->peers; p && *p; p++) {
        struct config_peer peer = {0};
        struct err *e = config_peer(*p, &peer);

        free(peer.host);
        if (e)
            return e;
    }
    return NULL;
}

static struct err *check(struct config *c)
{
    const struct {
        const char *key, *value;
    } paths[] = {{"node.state_dir", c->state_dir}, {"node.run_dir", c->run_dir},  {"node.worker", c->worker},
                 {"node.relay", c->relay},         {"control.socket", c->socket}, {"storage.pool", c->pool},
                 {"images.dir", c->images_dir},    {"kits.dir", c->kits_dir}};

    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (!paths[i].value || paths[i].value[0] != '/')
            return err_field(paths[i].key, "must be an absolute path");
    if (c->node_id && !str_is_object_id(c->node_id))
        return err_field("node.id", "must be 24 lower case hex digits");
    if (!str_is_made_of(c->cgroup, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", 64) ||
        c->cgroup[0] == '.')
        return err_field("node.cgroup", "must be one path part of letters, digits, '_', '-' and '.'");
    if (!str_eq(c->unknown_projects, "record") && !str_eq(c->unknown_projects, "refuse"))
        return err_field("api.unknown_projects", "must be record or refuse");
    if (!str_eq(c->firewall_ipv6, "follow") && !str_eq(c->firewall_ipv6, "drop"))
        return err_field("network.firewall_ipv6", "must be follow or drop");
    if (c->bodies_max < 2 * c->body_max)
        return err_field("control.bodies_max", "must be at least twice control.body_max");
    if (!str_is_made_of(c->veth_prefix, "abcdefghijklmnopqrstuvwxyz", 6))
        return err_field("network.veth_prefix", "must be 1..6 lower case letters");
    struct err *e = check_peers(c);

    return e ? e : check_warm(c);
}

struct err *config_load(const char *path, struct config **ret)
{
    auto_(config_free) struct config *c = mem_new(struct config);
    autofree char *text = NULL;
    struct err *e = fd_read_file(path, 1 << 20, &text, NULL);

    if (e && e->code == ERR_NOT_FOUND && str_eq(path, CONFIG_DEFAULT_PATH)) {
        err_free(e);
        e = NULL;
    }
    if (!e)
        e = ini_load(rows, ARRAY_LEN(rows), path, text ? text : "", c);
    if (e)
        return e;
    follow(&c->socket, c->run_dir, "control.sock");
    follow(&c->pool, c->state_dir, "pool");
    follow(&c->loop_file, c->state_dir, "pool.img");
    follow(&c->images_dir, c->state_dir, "images");
    follow(&c->kits_dir, c->state_dir, "kits");
    if (str_eq(c->loop_file, "none"))
        str_set(&c->loop_file, NULL);
    e = check(c);
    c->record_projects = str_eq(c->unknown_projects, "record");
    if (e)
        return e;
    *ret = steal(&c);
    return NULL;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    ini_clear(rows, ARRAY_LEN(rows), c);
    free(c);
}

char *config_example(void)
{
    return ini_example(rows, ARRAY_LEN(rows));
}
