/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of seeding, in their order. Only for seed*.c. */
#pragma once

#include "provisioning/confined.h"
#include "provisioning/seed.h"

#define SEED_ROOT ((struct confined_owner){0, 0})
#define SEED_USER ((struct confined_owner){1000, 1000})

typedef struct err *seed_step_fn(int root, const struct seed *seed, const char *pool);

/* /hoody and /ramdisk */
MUST_USE struct err *seed_tree(int root, const struct seed *seed, const char *pool);
/* names, machine id, host keys, random seed, HOODY_CONTAINER_ID */
MUST_USE struct err *seed_identity(int root, const struct seed *seed, const char *pool);
MUST_USE struct err *seed_locale(int root, const struct seed *seed, const char *pool);
MUST_USE struct err *seed_network(int root, const struct seed *seed, const char *pool);
/* the account `user`, sudo, authorized_keys */
MUST_USE struct err *seed_accounts(int root, const struct seed *seed, const char *pool);
MUST_USE struct err *seed_environment(int root, const struct seed *seed, const char *pool);
/* units of the wanted kits enabled, of all others not */
MUST_USE struct err *seed_kits(int root, const struct seed *seed, const char *pool);

/* Clients of DHCP leave eth0 alone. */
MUST_USE struct err *seed_foreign_network(int root);

/* confined_write of a text, 0644 root. */
MUST_USE struct err *seed_text(int root, const char *path, const char *text);
