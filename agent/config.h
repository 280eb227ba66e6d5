/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file, /etc/noded/noded.conf: one row per setting in config.c, checked whole before anything starts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* A pool of spare containers, see warm.h. */
struct config_warm {
    char *image; /* canonical name */
    bool hoody_kit, dev_kit;
    int64_t low, high;
};

struct config {
    char *node_id, *node_name, *node_region, *state_dir, *run_dir, *worker, *relay, *relay_user, *relay_ca, *cgroup,
        *log_level;
    int64_t id_base, max_containers;
    char *socket, *socket_group;
    char *tls_listen, *tls_certificate, *tls_key, *tls_client_ca, *tls_crl;
    char **peers, *peer_certificate, *peer_key;
    int64_t peer_transfers, peer_max;
    char *pool, *loop_file;
    int64_t loop_size, reserve, low_percent, reclaim_max, scrub_days, scrub_rate, base_children;
    char *images_dir, *kits_dir, *kits_public_key;
    int64_t images_keep_days;
    char **image_remotes, *image_remote_ca;
    char **kits_enabled;
    int64_t health_timeout_s, create_wait_s;
    char *table, *veth_prefix, *ipv4_pool, *ipv6_pool, *uplink, *firewall_ipv6;
    bool inter_container, quota, subvolumes;
    int64_t connections_share, connections_reserve;
    char **host_ports, **host_udp_ports, **dns, **proxy_users;
    char *default_image, *unknown_projects;
    bool record_projects; /* of unknown_projects */
    int64_t stop_timeout_s, ramdisk_size, workers, body_max, bodies_max;
    char **warm_pools;
    int64_t warm_pressure;
    int64_t events_days, events_max, status_log_days, stream_buffer, streams_max, client_streams_max, feed_streams_max;
};

/* An entry of warm.pools, "dev_kit:debian/13=2-6"; the caller frees ret->image. */
MUST_USE struct err *config_warm(const char *text, struct config_warm *ret);

#define CONFIG_DEFAULT_PATH "/etc/noded/noded.conf"

/* Reads the file (an absent one at the default path means: all defaults), fills in paths that follow from others. */
MUST_USE struct err *config_load(const char *path, struct config **ret);
void config_free(struct config *c);
DEFINE_AUTO(struct config, config_free)
/* An entry of peers.nodes, "ID=HOST:PORT"; ERR_INVALID with the field's name. host is the caller's. */
struct config_peer {
    char id[25];
    char *host;
    int64_t port;
};
MUST_USE struct err *config_peer(const char *text, struct config_peer *ret);
/* The shipped example; the caller frees it. */
char *config_example(void);
