/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kit bundles. A bundle is the file NAME-VERSION.kit: an uncompressed tar of exactly manifest.json, manifest.sig and
 * payload.tar.zst in this order. The signature is ed25519 over the bytes of manifest.json; the manifest holds the
 * payload's size and sha256. So one signature covers everything, and nothing of the payload is looked at before it.
 *
 * An installed kit is a read-only subvolume of the pool, layout_kit(): manifest.json and files/, the payload. It is
 * shared by all containers of the node, which see files/ at /hoody/kits/NAME.
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
};
struct manifest_service {
    char *slug;     /* name in the proxy's host names */
    int64_t port;   /* inside the container; reachable by the proxy only */
    char *protocol; /* "http" */
    char *unit;     /* one of units */
    char *user;     /* who it runs as, or NULL = root */
    char *health;   /* path that answers 200, or NULL */
};
extern const struct json_table manifest_table;
extern const struct json_table manifest_service_table;

/* Loads and checks a manifest whole; *ret holds references. Clear with json_table_clear(&manifest_table). */
MUST_USE struct err *manifest_load(const json_t *j, struct manifest *ret);
/* Every path the node makes from a kit's name and version goes through this first. */
bool manifest_is_name(const char *s);
bool manifest_is_version(const char *s);

/* Checks the whole bundle against the key (a PEM file) without writing anything; *ret_manifest is the caller's. */
MUST_USE struct err *bundle_verify(const char *file, const char *public_key, json_t **ret_manifest);
/* bundle_verify, then manifest.json and files/ into the empty directory dir_fd. */
MUST_USE struct err *bundle_unpack(const char *file, const char *public_key, int dir_fd, json_t **ret_manifest);
/* Installs a bundle in the pool. The same content again changes nothing; other content under an installed name and
 * version is ERR_CONFLICT. What an interrupted install left is removed. */
MUST_USE struct err *bundle_install(const char *pool, const char *file, const char *public_key, json_t **ret_manifest);
/* The manifest of an installed kit; ERR_NOT_FOUND. */
MUST_USE struct err *bundle_manifest(const char *pool, const char *name, const char *version, json_t **ret_manifest);
/* Array of the manifests of all installed kits. */
MUST_USE struct err *bundle_list(const char *pool, json_t **ret_array);
