/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: root file systems that containers are made from. In the pool an image is the read-only subvolume
 * layout_image() of its fingerprint, the sha256 of the archive that it came from (of both files, the metadata first,
 * for an image in two). Names such as "debian/13" are the daemon's business; they never become part of a path.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define IMAGE_DEFAULT "debian/13"
#define IMAGE_ARCHIVE_MAX (INT64_C(16) << 30) /* bytes of an archive */

/* "debian", "debian-13", "debian:13", "debian 13", "debian/13" and NULL all mean "debian/13". Case does not matter.
 * NULL when the text is no image name; else the caller frees it. */
char *image_name_canonical(const char *text);
/* A name as a remote may have it: "debian/13", also with more parts. */
bool image_remote_name_ok(const char *text);
/* 64 lower case hex digits. */
bool image_fingerprint_ok(const char *text);
/* Debian's word for a processor that the kernel calls so ("amd64" for "x86_64"), or the text itself; and for this
 * host's. */
const char *image_debian_processor(const char *machine);
const char *image_architecture(void);

struct image_import {
    const char *pool;
    const char *file, *metadata_file; /* the archive's path; of an image in two files also the other one's */
    int stream;                       /* when there is no file: a socket that the bytes come from */
    int64_t split_bytes;              /* stream: so many bytes are the metadata's file; 0: one file */
    const char *fingerprint;          /* that it must have; NULL: any */
    void *owner;
    void (*progress)(void *owner, int64_t done, int64_t total); /* bytes of the archive; may be NULL */
};

/* Puts an image into the pool: a tar archive (plain, .gz, .xz, .zst) of a root file system, a squashfs of one, or the
 * same in LXD's and Incus's form (with metadata.yaml, in one file or two). The bytes are hostile: they are read and
 * unpacked by a child without rights over the host. What is there already stays. An interrupted import leaves nothing
 * that counts and its remains are removed by the next one.
 * *ret = {"fingerprint", "size_bytes" (sum of the file sizes), "archive_bytes", "metadata": object|null}. */
MUST_USE struct err *image_import(const struct image_import *in, json_t **ret);
/* Copies of an image's subvolume, see agent/images/base.h: base 0 is the image itself. The path is the caller's. */
#define IMAGE_BASES_MAX 128
char *image_base_path(const char *pool, const char *fingerprint, int64_t n);
/* Idempotent, n >= 1. What an interrupted call leaves counts for nothing. reserve: bytes of the pool that stay free,
 * else ERR_HOST. */
MUST_USE struct err *image_base_make(const char *pool, const char *fingerprint, int64_t n, int64_t reserve);

MUST_USE struct err *image_base_remove(const char *pool, const char *fingerprint, int64_t n); /* missing is success */

/* An image from the root file system at `source`, a subvolume that does not change: without its host name, keys,
 * machine id and environment. *ret as of image_import; the fingerprint is the digest of the tree. */
MUST_USE struct err *image_publish(const char *pool, const char *source, json_t **ret);

struct image_fetch {
    bool look; /* only whether there is one: *ret has "url" and "serial" */
    const char *pool;
    const json_t *urls;  /* roots of simplestreams servers; the first one that has it is taken */
    const char *ca_file; /* certificates (PEM) instead of the system's, or NULL */
    const char *name;
    void *owner;
    void (*progress)(void *owner, int64_t done, int64_t total); /* bytes; may be NULL */
};

/* The newest image of that name for this host's processor: fetched, checked, imported; one that is there already is not
 * fetched. *ret = as image_import's with "url" and "serial"; only "fingerprint", "url" and "serial" when nothing was to
 * do. ERR_NOT_FOUND: no server has it. */
MUST_USE struct err *image_fetch(const struct image_fetch *in, json_t **ret);
/* Array of {"fingerprint", "size_bytes", "added_at", "bases": how many, the image itself included; 0 for what is
 * left of one that was removed} of the pool. */
MUST_USE struct err *image_list(const char *pool, json_t **ret_array);
/* Missing is success. What its containers share with it stays theirs. */
MUST_USE struct err *image_remove(const char *pool, const char *fingerprint);

/* What metadata.yaml says, as an object: "architecture", "creation_date" and those of its "properties" that are plain
 * texts. ERR_INVALID when it is no such text, or for another processor. */
#define IMAGE_METADATA_MAX 65536
MUST_USE struct err *image_metadata_parse(const char *text, size_t len, json_t **ret);
