/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes a copy of an image one particular container: names, addresses, keys, environment, kit units. Written into
 * the root file system through provisioning/confined.h only. Repeatable; seeding a copy of another container replaces
 * that one's identity (machine id, host keys, container id).
 */
#pragma once

#include "base/json_table.h"
#include "provisioning/env.h" /* env_write */

struct seed {
    char *container_id;   /* 24 hex digits */
    char *hostname;       /* one DNS label */
    char *machine_id;     /* 32 hex digits */
    char *ssh_public_key; /* one authorized_keys line, or NULL */
    char *host_key, *host_key_public; /* texts of sshd's files, for an image that makes no key by itself; may be NULL */
    json_t *environment;  /* object of strings */
    char *ipv4, *ipv6;    /* plain addresses; /32 and /128 are implied; NULL = none */
    char *gateway4, *gateway6;
    json_t *dns;  /* array of address strings */
    json_t *kits; /* array of {"name", "version"}; their units are enabled, those of other kits are not */
};
extern const struct json_table seed_table;

/* pool: directory of the pool, for the manifests of the kits. ERR_NOT_FOUND when a kit is not installed. */
MUST_USE struct err *seed_rootfs(int rootfs_fd, const struct seed *seed, const char *pool);

/* The part of it that makes a container that runs already another one: names, keys, environment. Addresses, accounts
 * and kits stay. */
MUST_USE struct err *seed_claim(int rootfs_fd, const struct seed *seed);

/* root's and user's authorized_keys. Only the line that was seeded before is replaced; NULL removes it. */
MUST_USE struct err *seed_ssh_key(int rootfs_fd, const char *ssh_public_key);

/* Where the node's kits are bound in a container, below its root. */
#define KITS_MOUNT "hoody/.kits"
/* The kits of a container, as in struct seed, instead of those that it had; also while it runs. */
MUST_USE struct err *seed_kit_links(int rootfs_fd, const json_t *kits, const char *pool);
