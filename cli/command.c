/* SPDX-License-Identifier: Apache-2.0 */
/* Every command of nodectl. */
#include "cli/cli.h"

const struct cli_option cli_global_options[] = {
    {"json", CLI_FLAG, NULL, "print the data as JSON"},
    {"quiet", CLI_FLAG, NULL, "print ids or names only (-q)"},
    {"socket", CLI_VALUE, "PATH", "the node's socket [$NODED_SOCKET, /run/noded/control.sock]"},
    {"url", CLI_VALUE, "URL", "a node over mTLS, https://host:8443 [$NODED_URL]"},
    {"cert", CLI_VALUE, "FILE", "client certificate [$NODED_CERT, /etc/noded/pki/operator.crt]"},
    {"key", CLI_VALUE, "FILE", "its key [$NODED_KEY, /etc/noded/pki/operator.key]"},
    {"ca", CLI_VALUE, "FILE", "CA of the node [$NODED_CA, /etc/noded/pki/ca.crt]"},
    {"version", CLI_FLAG, NULL, "print the version"},
    {"help", CLI_FLAG, NULL, "print help (-h)"},
    {0},
};

static const struct cli_option list_options[] = {
    {"project", CLI_VALUE, "PROJECT", "only containers of a project"},
    {0},
};
static const struct cli_option create_options[] = {
    {"id", CLI_VALUE, "ID", "24 hex digits; the same create again gives the same container"},
    {"project", CLI_VALUE, "ID", "project id [" CLI_DEFAULT_PROJECT "]"},
    {"image", CLI_VALUE, "NAME", "image, such as debian/13 [the node's default]"},
    {"env", CLI_LIST, "KEY=VALUE", "environment variable; may be repeated"},
    {"ssh-key", CLI_VALUE, "FILE", "public key for root's logins"},
    {"comment", CLI_VALUE, "TEXT", "a note"},
    {"color", CLI_VALUE, "RRGGBB", "colour in the platform's pages"},
    {"no-kit", CLI_FLAG, NULL, "without the kit suite"},
    {"no-dev-kit", CLI_FLAG, NULL, "without the image's development tools"},
    {"no-ramdisk", CLI_FLAG, NULL, "without /ramdisk"},
    {"no-autostart", CLI_FLAG, NULL, "do not start it when the host boots"},
    {"wait", CLI_FLAG, NULL, "until it runs"},
    {0},
};
static const struct cli_option update_options[] = {
    {"name", CLI_VALUE, "NAME", "another name"},
    {"comment", CLI_VALUE, "TEXT", "a note; empty: none"},
    {"color", CLI_VALUE, "RRGGBB", "colour in the platform's pages"},
    {"ssh-key", CLI_VALUE, "FILE", "public key for root's logins instead of the one it has"},
    {"no-ssh-key", CLI_FLAG, NULL, "remove the key; its sessions end"},
    {"ramdisk", CLI_VALUE, "on|off", "with or without /ramdisk; off loses what is in it"},
    {"ramdisk-scope", CLI_VALUE, "SCOPE", "project: with /ramdisk/project, which its containers share; or container"},
    {"autostart", CLI_VALUE, "on|off", "start it when the host boots"},
    {0},
};
static const struct cli_option power_options[] = {
    {"timeout", CLI_VALUE, "SECONDS", "upper bound, 1..600; for a stop also the time to end in peace"},
    {0},
};
static const struct cli_option logs_options[] = {
    {"limit", CLI_VALUE, "N", "how many, 1..100 [20]"},
    {0},
};
static const struct cli_option copy_options[] = {
    {"name", CLI_VALUE, "NAME", "name of the copy"},
    {"id", CLI_VALUE, "ID", "24 hex digits"},
    {"project", CLI_VALUE, "ID", "project of the copy [the source's]"},
    {"server", CLI_VALUE, "ID", "node of the copy [the source's]"},
    {"snapshot", CLI_VALUE, "NAME", "copy this state, not the latest"},
    {"ssh-key", CLI_VALUE, "FILE", "public key for root's logins; the source's is never copied"},
    {"firewall", CLI_FLAG, NULL, "copy the firewall rules too"},
    {"network", CLI_FLAG, NULL, "copy the network configuration too"},
    {"wait", CLI_FLAG, NULL, "until it runs"},
    {0},
};
static const struct cli_option snapshot_options[] = {
    {"expire", CLI_VALUE, "DAYS", "delete it by itself after 1..3650 days"},
    {0},
};

#define RULE_OPTIONS                                                                                                   \
    {"port", CLI_VALUE, "PORTS", "destination ports: 80, 80-90 or 80,443"},                                            \
        {"source", CLI_VALUE, "NETWORKS", "ingress: where it comes from"},                                             \
        {"destination", CLI_VALUE, "NETWORKS", "egress: where it goes"},                                               \
        {"source-port", CLI_VALUE, "PORTS", "source ports"}, {"icmp-type", CLI_VALUE, "N", "icmp4: type"},             \
        {"icmp-code", CLI_VALUE, "N", "icmp4: code"},                                                                  \
    {                                                                                                                  \
        "description", CLI_VALUE, "TEXT", "what it is for"                                                             \
    }
#define FILTER_OPTIONS                                                                                                 \
    RULE_OPTIONS, {"action", CLI_VALUE, "ACTION", "allow, reject or drop"},                                            \
    {                                                                                                                  \
        "protocol", CLI_VALUE, "PROTOCOL", "tcp, udp or icmp4"                                                         \
    }

static const struct cli_option rule_options[] = {
    RULE_OPTIONS,
    {"disabled", CLI_FLAG, NULL, "store it, do not apply it"},
    {0},
};
static const struct cli_option toggle_options[] = {FILTER_OPTIONS, {0}};
static const struct cli_option remove_options[] = {
    FILTER_OPTIONS,
    {"state", CLI_VALUE, "STATE", "enabled or disabled"},
    {"all", CLI_FLAG, NULL, "every match, not the first one only"},
    {0},
};
static const struct cli_option project_create_options[] = {
    {"id", CLI_VALUE, "ID", "24 hex digits; the same create again gives the same project"},
    {"color", CLI_VALUE, "RRGGBB", "colour in the platform's pages"},
    {"max-containers", CLI_VALUE, "N", "how many containers it may have; none: any number"},
    {0},
};
static const struct cli_option project_update_options[] = {
    {"alias", CLI_VALUE, "ALIAS", "another alias"},
    {"color", CLI_VALUE, "RRGGBB", "colour in the platform's pages"},
    {"max-containers", CLI_VALUE, "N", "how many containers it may have; none: any number"},
    {0},
};
static const struct cli_option network_options[] = {
    {"proxy", CLI_VALUE, "URL", "socks5://host:1080; better --proxy-file when it holds a password"},
    {"proxy-file", CLI_VALUE, "FILE", "read the URL from a file; -: from standard input"},
    {"dns", CLI_LIST, "ADDRESS", "server that names are asked of, through the proxy; up to 4 [1.1.1.1 8.8.8.8]"},
    {"country", CLI_VALUE, "TEXT", "where the proxy is, as a note"},
    {"city", CLI_VALUE, "TEXT", "a note"},
    {"region", CLI_VALUE, "TEXT", "a note"},
    {"comment", CLI_VALUE, "TEXT", "a note"},
    {0},
};
static const struct cli_option limits_options[] = {
    {"up", CLI_VALUE, "RATE", "what it may send, such as 100mbit; none: no limit"},
    {"down", CLI_VALUE, "RATE", "what it may receive; none: no limit"},
    {"connections", CLI_VALUE, "N", "how many it may have at a time; none: no limit"},
    {"disk", CLI_VALUE, "SIZE", "what it may have written, such as 20G; none: no limit"},
    {0},
};
static const struct cli_option share_options[] = {
    {"to", CLI_VALUE, "CONTAINER", "who gets it"},
    {"project", CLI_VALUE, "PROJECT", "all containers of a project get it, later ones too"},
    {"write", CLI_FLAG, NULL, "they may write [read only]"},
    {"alias", CLI_VALUE, "NAME", "a name for the source's owner"},
    {0},
};
static const struct cli_option events_options[] = {
    {"follow", CLI_FLAG, NULL, "show what happens from now on, until you interrupt it"},
    {"container", CLI_VALUE, "CONTAINER", "only those of a container"},
    {"project", CLI_VALUE, "PROJECT", "only those of a project"},
    {"type", CLI_VALUE, "TYPE", "only those of a type, such as container.stopped"},
    {"since", CLI_VALUE, "TIME", "from this time on: 2026-01-15, 2026-01-15T10:30:00Z"},
    {"until", CLI_VALUE, "TIME", "up to this time"},
    {"limit", CLI_VALUE, "N", "how many at most, 1..500 [50]"},
    {0},
};
static const struct cli_option export_options[] = {
    {"format", CLI_VALUE, "FORMAT", "tar, or stream: nothing is left out, and snapshots are small [tar]"},
    {"snapshots", CLI_FLAG, NULL, "with all its snapshots"},
    {"snapshot", CLI_VALUE, "NAME", "this state, not the latest"},
    {0},
};
static const struct cli_option import_options[] = {
    {"project", CLI_VALUE, "PROJECT", "where it goes"},
    {"id", CLI_VALUE, "ID", "24 hex digits"},
    {"start", CLI_FLAG, NULL, "start it then"},
    {0},
};
static const struct cli_option image_import_options[] = {
    {"alias", CLI_LIST, "NAME", "a name for it, such as debian/13; may be repeated"},
    {"description", CLI_VALUE, "TEXT", "what it is"},
    {"fingerprint", CLI_VALUE, "SHA256", "refuse anything that has another one"},
    {0},
};
static const struct cli_option image_publish_options[] = {
    {"alias", CLI_LIST, "NAME", "a name for it, such as web/1; may be repeated"},
    {"description", CLI_VALUE, "TEXT", "what it is"},
    {"snapshot", CLI_VALUE, "NAME", "of this state"},
    {0},
};
static const struct cli_option image_remove_options[] = {
    {"force", CLI_FLAG, NULL, "also when containers were made from it"},
    {0},
};
static const struct cli_option exec_options[] = {
    {"timeout", CLI_VALUE, "SECONDS", "how long it may take, 1..7200"},
    {"no-wait", CLI_FLAG, NULL, "print the id of its log at once"},
    {"yes", CLI_FLAG, NULL, "confirm a command that asks for it"},
    {0},
};
static const struct cli_option kit_build_options[] = {
    {"key", CLI_VALUE, "FILE", "private ed25519 key that signs (PEM) [kits.key]"},
    {"out", CLI_VALUE, "DIR", "where NAME-VERSION.kit goes [.]"},
    {"version-by-content", CLI_FLAG, NULL, "add the beginning of the payload's digest to the version"},
    {0},
};
static const struct cli_option kit_verify_options[] = {
    {"public-key", CLI_VALUE, "FILE", "keys of which one must have signed it [/etc/noded/kits.pub]"},
    {0},
};
static const struct cli_option pki_node_options[] = {
    {"dir", CLI_VALUE, "DIR", "where the CA is [/etc/noded/pki]"},
    {"out", CLI_VALUE, "DIR", "where to"},
    {"host", CLI_LIST, "NAME", "name or address of the node; may be repeated"},
    {"days", CLI_VALUE, "N", "validity of the certificates [825]"},
    {0},
};
static const struct cli_option rollout_options[] = {
    {"parallel", CLI_VALUE, "N", "containers at the same time, 1..16 [2]"},
    {"project", CLI_VALUE, "PROJECT", "only containers of a project"},
    {"rollback", CLI_FLAG, NULL, "back to the kits that each had before"},
    {"rollback-on-failure", CLI_FLAG, NULL, "when one fails, take back those that were done, too"},
    {"no-wait", CLI_FLAG, NULL, "do not wait until it is over"},
    {"show", CLI_FLAG, NULL, "only how far the last one is"},
    {"stop", CLI_FLAG, NULL, "begin no more containers"},
    {0},
};
static const struct cli_option pki_options[] = {
    {"dir", CLI_VALUE, "DIR", "where to [/etc/noded/pki]"},
    {"host", CLI_LIST, "NAME", "name or address of the server; may be repeated"},
    {"days", CLI_VALUE, "N", "validity of the certificates [825]"},
    {"force", CLI_FLAG, NULL, "replace everything, the CA too"},
    {0},
};

const struct cli_command cli_commands[] = {
    {"node", "", 0, 0, "This node: versions, capacity, images, kits", cmd_node, NULL},
    {"routes", "", 0, 0, "What a proxy needs: addresses and services", cmd_routes, NULL},
    {"health", "", 0, 0, "Is the node ready", cmd_health, NULL},
    {"recover", "[retry|adopt|accept]", 0, 1, "Show or settle what differs between the database and the pool",
     cmd_recover, NULL},
    {"list", "", 0, 0, "Containers", cmd_list, list_options},
    {"get", "CONTAINER", 1, 1, "All about a container", cmd_get, NULL},
    {"create", "[NAME]", 0, 1, "New container, started at once", cmd_create, create_options},
    {"update", "CONTAINER", 1, 1, "Change a container", cmd_update, update_options},
    {"delete", "CONTAINER...", 1, -1, "Delete containers with their snapshots", cmd_delete, NULL},
    {"export", "CONTAINER [FILE]", 1, 2, "Write it to a file, or to standard output", cmd_export, export_options},
    {"import", "FILE [NAME]", 1, 2, "New container of such a file; - is standard input", cmd_import, import_options},
    {"start", "CONTAINER...", 1, -1, "Start", cmd_power, power_options},
    {"stop", "CONTAINER...", 1, -1, "Shut down", cmd_power, power_options},
    {"force-stop", "CONTAINER...", 1, -1, "Kill", cmd_power, power_options},
    {"restart", "CONTAINER...", 1, -1, "Stop, then start", cmd_power, power_options},
    {"pause", "CONTAINER...", 1, -1, "Freeze", cmd_power, power_options},
    {"resume", "CONTAINER...", 1, -1, "Go on after a pause", cmd_power, power_options},
    {"logs", "CONTAINER", 1, 1, "Changes of its status", cmd_logs, logs_options},
    {"stats", "CONTAINER", 1, 1, "What it uses", cmd_stats, NULL},
    {"runtime", "CONTAINER", 1, 1, "Services and listening ports inside", cmd_runtime, NULL},
    {"copy", "CONTAINER", 1, 1, "New container from its state", cmd_copy, copy_options},
    {"transfers", "", 0, 0, "Containers on their way from and to other nodes", cmd_transfers, NULL},
    {"sync", "COPY", 1, 1, "Bring a copy to the state of its source", cmd_sync, NULL},
    {"snapshot list", "CONTAINER", 1, 1, "Snapshots of a container", cmd_snapshot_list, NULL},
    {"snapshot create", "CONTAINER [ALIAS]", 1, 2, "Keep the state of its disk", cmd_snapshot_create, snapshot_options},
    {"snapshot alias", "CONTAINER NAME [ALIAS]", 2, 3, "Give a snapshot another alias, or none", cmd_snapshot_alias,
     NULL},
    {"snapshot restore", "CONTAINER NAME", 2, 2, "Go back to a snapshot", cmd_snapshot_restore, NULL},
    {"snapshot delete", "CONTAINER NAME", 2, 2, "Delete a snapshot", cmd_snapshot_delete, NULL},
    {"firewall list", "CONTAINER", 1, 1, "Rules in their order", cmd_firewall_list, NULL},
    {"firewall add", "CONTAINER ingress|egress ACTION PROTOCOL", 4, 4, "Append a rule", cmd_firewall_add, rule_options},
    {"firewall remove", "CONTAINER ingress|egress", 2, 2, "Remove the first rule that matches", cmd_firewall_remove,
     remove_options},
    {"firewall toggle", "CONTAINER ingress|egress on|off", 3, 3, "Switch the first rule that matches",
     cmd_firewall_toggle, toggle_options},
    {"firewall reset", "CONTAINER", 1, 1, "Remove all rules", cmd_firewall_reset, NULL},
    {"network get", "CONTAINER", 1, 1, "How it gets out", cmd_network_get, NULL},
    {"network set", "CONTAINER socks5|http|https|block", 2, 2, "Configure its way out", cmd_network_set,
     network_options},
    {"network start", "CONTAINER", 1, 1, "Use the configured way out", cmd_network_start, NULL},
    {"network stop", "CONTAINER", 1, 1, "Let it out directly again", cmd_network_stop, NULL},
    {"network delete", "CONTAINER", 1, 1, "Forget the configuration", cmd_network_delete, NULL},
    {"forward list", "CONTAINER", 1, 1, "Ports of the host that lead to it", cmd_forward_list, NULL},
    {"forward add", "CONTAINER HOST_PORT[:PORT][/udp]", 2, 2, "Let a port of the host lead to it", cmd_forward_add,
     NULL},
    {"forward remove", "CONTAINER HOST_PORT[/udp]", 2, 2, "End a forward", cmd_forward_remove, NULL},
    {"limits", "CONTAINER", 1, 1, "How much it may send, receive, connect and store", cmd_limits, limits_options},
    {"proxy", "CONTAINER [on|off]", 1, 2, "May it pass on connections with its clients' addresses", cmd_proxy, NULL},
    {"env list", "CONTAINER", 1, 1, "Environment variables", cmd_env_list, NULL},
    {"env set", "CONTAINER KEY=VALUE...", 2, -1, "Set environment variables", cmd_env_set, NULL},
    {"env unset", "CONTAINER KEY...", 2, -1, "Remove environment variables", cmd_env_unset, NULL},
    {"project list", "", 0, 0, "Projects", cmd_project_list, NULL},
    {"project create", "ALIAS", 1, 1, "New project", cmd_project_create, project_create_options},
    {"project get", "PROJECT", 1, 1, "All about a project", cmd_project_get, NULL},
    {"project update", "PROJECT", 1, 1, "Change a project", cmd_project_update, project_update_options},
    {"project network", "PROJECT [on|off]", 1, 2, "May its containers reach each other", cmd_project_network, NULL},
    {"project stats", "PROJECT", 1, 1, "What its containers use", cmd_project_stats, NULL},
    {"project delete", "PROJECT", 1, 1, "Delete a project with all its containers", cmd_project_delete, NULL},
    {"share list", "[CONTAINER]", 0, 1, "What it, or everybody, shares", cmd_share_list, NULL},
    {"share create", "CONTAINER PATH", 2, 2, "Share a directory of it", cmd_share_create, share_options},
    {"share delete", "ID...", 1, -1, "End shares", cmd_share_delete, NULL},
    {"share incoming", "CONTAINER", 1, 1, "What others share with it", cmd_share_incoming, NULL},
    {"share mount", "CONTAINER ID", 2, 2, "Mount an incoming share again", cmd_share_mount, NULL},
    {"share unmount", "CONTAINER ID", 2, 2, "Do without an incoming share", cmd_share_mount, NULL},
    {"events", "", 0, 0, "What happened", cmd_events, events_options},
    {"images", "", 0, 0, "What containers can be made from", cmd_images, NULL},
    {"image list", "", 0, 0, "The node's images with their fingerprints", cmd_image_list, NULL},
    {"image import", "FILE [ROOTFS]", 1, 2, "Bring in an image; - is standard input", cmd_image_import,
     image_import_options},
    {"image fetch", "NAME", 1, 1, "Bring in the newest image of a name from a remote", cmd_image_fetch, NULL},
    {"image publish", "CONTAINER", 1, 1, "Make an image of a stopped container, or of a snapshot", cmd_image_publish,
     image_publish_options},
    {"image alias", "IMAGE [NAME...]", 1, -1, "Give it these names and no others", cmd_image_alias, NULL},
    {"image remove", "IMAGE...", 1, -1, "Remove images", cmd_image_remove, image_remove_options},
    {"image prune", "", 0, 0, "Remove images that nobody uses and that have no name or are cached", cmd_image_prune,
     NULL},
    {"server commands", "", 0, 0, "What the server can be asked to do", cmd_server_commands, NULL},
    {"server exec", "SLUG [NAME=VALUE...]", 1, -1, "Run a server command", cmd_server_exec, exec_options},
    {"server log", "ID", 1, 1, "How a server command went", cmd_server_log, NULL},
    {"server runtime", "", 0, 0, "Load, memory and storage of the server", cmd_server_runtime, NULL},
    {"pool list", "", 0, 0, "Containers that are started ahead, for creates to take", cmd_pool_list, NULL},
    {"storage show", "", 0, 0, "Room in the pool, and who uses it", cmd_storage_show, NULL},
    {"storage grow", "SIZE", 1, 1, "Let the pool's file grow to a size", cmd_storage_grow, NULL},
    {"storage scrub", "start|cancel", 1, 1, "Read and check all that is in the pool", cmd_storage_scrub, NULL},
    {"kit build", "DIR", 1, 1, "Make a signed kit bundle of kit.json and tree/", cmd_kit_build, kit_build_options},
    {"kit verify", "FILE...", 1, -1, "Check bundles as a node would", cmd_kit_verify, kit_verify_options},
    {"kit list", "", 0, 0, "Kits of the node", cmd_kit_list, NULL},
    {"kit install", "FILE", 1, 1, "Install a bundle on the node", cmd_kit_install, NULL},
    {"kit remove", "NAME VERSION", 2, 2, "Remove a kit that no container has", cmd_kit_remove, NULL},
    {"kit show", "CONTAINER", 1, 1, "Kits of a container, and how their services are", cmd_kit_show, NULL},
    {"kit upgrade", "CONTAINER [KIT=VERSION...]", 1, -1, "Give it other versions: the node's suite, or these",
     cmd_kit_upgrade, NULL},
    {"kit rollout", "[KIT=VERSION...]", 0, -1, "The same for all containers, some at a time, until one fails",
     cmd_kit_rollout, rollout_options},
    {"kit rollback", "CONTAINER", 1, 1, "Give it the kits that it had before", cmd_kit_rollback, NULL},
    {"pki node", "ID", 1, 1, "Make certificates for one more node of that CA", cmd_pki_node, pki_node_options},
    {"pki init", "", 0, 0, "Make a CA and certificates for development", cmd_pki_init, pki_options},
    {"completion", "bash", 1, 1, "Print the completion script", cmd_completion, NULL},
};
const size_t cli_command_count = ARRAY_LEN(cli_commands);
