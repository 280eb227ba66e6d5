/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seeding is a table of steps. Each writes a few files and may be repeated; the failpoint before it is "seed.<name>".
 */
#include "provisioning/seed.h"

#include "base/failpoint.h"
#include "base/str.h"
#include "provisioning/seed_internal.h"

static bool is_hex32(const char *s)
{
    return strlen(s) == 32 && str_is_made_of(s, "0123456789abcdef", 32);
}

static bool is_label(const char *s)
{
    size_t len = strlen(s);

    return str_is_made_of(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", 63) && s[0] != '-' &&
           s[len - 1] != '-';
}

static bool is_key_line(const char *s)
{
    return strlen(s) <= 16384 && !str_has_control(s);
}

static bool is_address(const char *s)
{
    return str_is_made_of(s, "0123456789abcdefABCDEF.:", 45);
}

#define ADDRESS_ROW .nullable = true, .valid = is_address, .rule = "must be an address"

static const struct json_field seed_fields[] = {
    F_STRING(struct seed, container_id, .required = true, .valid = str_is_object_id, .rule = "must be 24 hex digits"),
    F_STRING(struct seed, hostname, .required = true, .valid = is_label, .rule = "must be one label of a DNS name"),
    F_STRING(struct seed, machine_id, .required = true, .valid = is_hex32, .rule = "must be 32 hex digits"),
    F_STRING(struct seed, ssh_public_key, .nullable = true, .valid = is_key_line, .rule = "must be one line"),
    F_STRING(struct seed, host_key, .nullable = true, .max = 4096),
    F_STRING(struct seed, host_key_public, .nullable = true, .max = 4096),
    F_JSON(struct seed, environment, .nullable = true, .has_type = true, .type = JSON_OBJECT),
    F_STRING(struct seed, ipv4, ADDRESS_ROW),
    F_STRING(struct seed, ipv6, ADDRESS_ROW),
    F_STRING(struct seed, gateway4, ADDRESS_ROW),
    F_STRING(struct seed, gateway6, ADDRESS_ROW),
    F_JSON(struct seed, dns, .nullable = true, .has_type = true, .type = JSON_ARRAY),
    F_JSON(struct seed, kits, .nullable = true, .has_type = true, .type = JSON_ARRAY),
};
JSON_TABLE(seed_table, "seed", seed_fields);

static const struct step {
    const char *failpoint;
    seed_step_fn *run;
} steps[] = {
    {"seed.tree", seed_tree},       {"seed.identity", seed_identity}, {"seed.locale", seed_locale},
    {"seed.network", seed_network}, {"seed.accounts", seed_accounts}, {"seed.environment", seed_environment},
    {"seed.kits", seed_kits},
};

struct err *seed_claim(int rootfs_fd, const struct seed *seed)
{
    struct err *e = failpoint("seed.claim");

    if (!e)
        e = seed_identity(rootfs_fd, seed, NULL);
    if (!e)
        e = seed_environment(rootfs_fd, seed, NULL);
    if (!e)
        e = seed_ssh_key(rootfs_fd, seed->ssh_public_key);
    return err_wrap(e, "seed.claim");
}

struct err *seed_rootfs(int rootfs_fd, const struct seed *seed, const char *pool)
{
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct err *e = failpoint(steps[i].failpoint);

        if (!e)
            e = steps[i].run(rootfs_fd, seed, pool);
        if (e)
            return err_wrap(e, "%s", steps[i].failpoint);
    }
    return NULL;
}
