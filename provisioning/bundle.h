/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kit bundles. A bundle is the file NAME-VERSION.kit: an uncompressed tar of exactly manifest.json, manifest.sig and
 * payload.tar.zst in this order. The signature is ed25519 over the bytes of manifest.json; the manifest holds the
 * payload's size and sha256. So one signature covers everything, and nothing of the payload is looked at before it.
 *
 * An installed kit is a read-only subvolume of the pool, layout_kit(): manifest.json and files/, the payload. It is
 * shared by all containers of the node, which see files/ at /hoody/kits/NAME.
 *
 * Errors name the field, the kit and the file. Their reasons: KIT_SIGNATURE, KIT_KEY_UNKNOWN, KIT_DIGEST, KIT_PATH,
 * KIT_PAYLOAD, KIT_CLASH, KIT_CONFLICT, KIT_NOT_FOUND; without one it is the format.
 */
#pragma once

#include "base/json_table.h"

#define BUNDLE_PAYLOAD_MAX (256LL * 1024 * 1024)

struct manifest {
    int64_t format;      /* 1 */
    char *name;          /* a-z, 0-9 and '-', 1..32 */
    char *version;       /* digits, letters, '.', '-', '+', 1..32 */
    char *description;   /* or NULL */
    json_t *payload;     /* {"sha256", "size"} */
    json_t *units;       /* names "hoody-....service" of files in files/units */
    json_t *services;    /* objects of struct manifest_service */
    json_t *environment; /* object of strings, or NULL */
    json_t *directories; /* paths below the kit's state directory, or NULL */
    char *minimum_image; /* "debian/13", or NULL */
};
struct manifest_service {
    char *slug;           /* name in the proxy's host names */
    int64_t port;         /* inside the container; reachable by the proxy only */
    int64_t port_last;    /* the last one of a range that begins with port; 0: only that one */
    char *protocol;       /* "http" */
    char *unit;           /* one of units */
    char *user;           /* who it runs as, as its unit says; or NULL */
    char *health;         /* path that answers 200, or NULL */
    json_t *environment;  /* object of strings, or NULL */
    json_t *capabilities; /* all that it may have, names such as "CAP_CHOWN"; NULL: what the unit says */
    char *identity;       /* how it takes another identity: "restart", "reload" or "live"; NULL: restart */
    json_t *after;        /* units, of this kit or others, that start before it; or NULL */
};
extern const struct json_table manifest_table;
extern const struct json_table manifest_service_table;

/* Loads and checks a manifest whole; *ret holds references. Clear with json_table_clear(&manifest_table). */
MUST_USE struct err *manifest_load(const json_t *j, struct manifest *ret);
/* Every path the node makes from a kit's name and version goes through this first. */
bool manifest_is_name(const char *s);
bool manifest_is_version(const char *s);
/* "hoody-....service" and the like: a kit cannot take the place of a unit of the system. */
bool manifest_is_unit(const char *s);

/* Loads and checks one of the services; clear with json_table_clear(&manifest_service_table). */
MUST_USE struct err *manifest_service_load(const json_t *j, const struct manifest *m, struct manifest_service *ret);
/* Two services that have a port or a slug in common, or one unit in two kits: ERR_CONFLICT. manifest_load looks at the
 * services of one kit. */
MUST_USE struct err *manifest_check_clash(const json_t *manifest, const json_t *other);
/* ERR_INVALID when two services of one unit say different things of it, of which only one could hold. Asked of bundles
 * that are made or installed. */
MUST_USE struct err *manifest_check_shared_units(const struct manifest *m);
/* The unit that answers for a service: of a socket the service of the same name, which systemd starts for it. The
 * caller frees it. */
char *manifest_answering_unit(const char *unit);
/* Of a valid manifest's objects: environment and capabilities of a service, as systemd reads them beside its unit; NULL
 * when there is nothing to say. The caller frees it. */
char *manifest_render_dropin(const struct manifest_service *s);
#define MANIFEST_DROPIN "manifest.conf"
/* ERR_INVALID when a service says another user than its unit does, in the file of its name in the directory `below` of
 * dir. A socket's unit is the service of the same name; with DynamicUser= there is no account to compare. */
MUST_USE struct err *manifest_check_users(const struct manifest *m, int dir, const char *below);
/* Names with values that can stand in a unit. */
MUST_USE struct err *manifest_check_environment(const char *field, json_t *environment);

/* What signs: a PEM file with one private key, of which the caller knows nothing else. */
MUST_USE struct err *bundle_sign(const char *private_key, const char *text, size_t len, char **ret_signature,
                                 size_t *ret_len);
/* Whether one of the public keys of a PEM file signed the text. */
MUST_USE struct err *bundle_check_signature(const char *public_keys, const char *text, size_t len,
                                            const char *signature, size_t signature_len);

struct bundle_recipe {
    const char *dir;         /* with kit.json, the manifest without format and payload, and tree/ */
    const char *private_key; /* PEM file */
    const char *out;         /* directory for NAME-VERSION.kit */
    bool version_by_content; /* the version gets the beginning of the payload's digest */
};
/* Makes a bundle. The same files give the same payload, and files that did not change the same bytes in it. *ret_file
 * is its path. Nothing is left when it fails. */
MUST_USE struct err *bundle_build(const struct bundle_recipe *recipe, char **ret_file, json_t **ret_manifest);

/* Checks signature, digest and manifest without writing anything; *ret_manifest is the caller's. */
MUST_USE struct err *bundle_verify(const char *file, const char *public_key, json_t **ret_manifest);
/* All that installing it would check, by unpacking it into a temporary directory. */
MUST_USE struct err *bundle_check(const char *file, const char *public_key, json_t **ret_manifest);
/* bundle_verify, then manifest.json and files/ into the empty directory dir_fd. */
MUST_USE struct err *bundle_unpack(const char *file, const char *public_key, int dir_fd, json_t **ret_manifest);
/* Installs a bundle in the pool. The same content again changes nothing; other content under an installed name and
 * version, and a clash with an installed kit, is ERR_CONFLICT. What an interrupted install left is removed. */
MUST_USE struct err *bundle_install(const char *pool, const char *file, const char *public_key, json_t **ret_manifest);
/* The manifest of an installed kit; ERR_NOT_FOUND. */
MUST_USE struct err *bundle_manifest(const char *pool, const char *name, const char *version, json_t **ret_manifest);
/* Nothing of that name and version is installed any more; missing is fine. */
MUST_USE struct err *bundle_remove(const char *pool, const char *name, const char *version);
/* Array of the manifests of all installed kits. */
MUST_USE struct err *bundle_list(const char *pool, json_t **ret_array);
