/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format of a btrfs send stream, version 1: a head, then commands of attributes, each with a CRC-32C. Numbers are
 * little endian. (linux/fs/btrfs/send.h; btrfs.readthedocs.io, "Send stream format")
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"

enum send_kind {
    SEND_SUBVOL = 1,
    SEND_SNAPSHOT,
    SEND_MKFILE,
    SEND_MKDIR,
    SEND_MKNOD,
    SEND_MKFIFO,
    SEND_MKSOCK,
    SEND_SYMLINK,
    SEND_RENAME,
    SEND_LINK,
    SEND_UNLINK,
    SEND_RMDIR,
    SEND_SET_XATTR,
    SEND_REMOVE_XATTR,
    SEND_WRITE,
    SEND_CLONE,
    SEND_TRUNCATE,
    SEND_CHMOD,
    SEND_CHOWN,
    SEND_UTIMES,
    SEND_END,
    SEND_KIND_MAX
};

enum send_attribute {
    SEND_UUID = 1,
    SEND_CTRANSID,
    SEND_INO,
    SEND_SIZE,
    SEND_MODE,
    SEND_UID,
    SEND_GID,
    SEND_RDEV,
    SEND_CTIME,
    SEND_MTIME,
    SEND_ATIME,
    SEND_OTIME,
    SEND_XATTR_NAME,
    SEND_XATTR_DATA,
    SEND_PATH,
    SEND_PATH_TO,
    SEND_PATH_LINK,
    SEND_FILE_OFFSET,
    SEND_DATA,
    SEND_CLONE_UUID,
    SEND_CLONE_CTRANSID,
    SEND_CLONE_PATH,
    SEND_CLONE_OFFSET,
    SEND_CLONE_LEN,
    SEND_ATTRIBUTE_MAX
};

enum { SEND_UUID_SIZE = 16, SEND_COMMAND_MAX = 64 * 1024 + 1024, SEND_TEXT_MAX = 4095 };

struct send_command {
    int kind; /* enum send_kind */
    struct {
        const unsigned char *data; /* NULL: not there */
        size_t len;
    } attribute[SEND_ATTRIBUTE_MAX]; /* into `data` */
    unsigned char *data;             /* SEND_COMMAND_MAX bytes, the reader's */
};

/* Reads exactly len bytes; the end of the stream is an error. */
typedef struct err *send_read_fn(void *owner, void *data, size_t len);

/* CRC-32C without the usual inversions, over one more piece. */
uint32_t send_checksum(uint32_t crc, const unsigned char *p, size_t len);

/* ERR_INVALID: no such stream, or of another version. */
MUST_USE struct err *send_read_head(send_read_fn *read, void *owner);
/* The next command; its length, checksum and attributes are right afterwards, as far as form goes. ERR_INVALID: they
 * are not, with what is wrong. */
MUST_USE struct err *send_read_command(send_read_fn *read, void *owner, struct send_command *c);

/* Attributes; ERR_INVALID when missing or of the wrong size. Texts are fresh, without a NUL in them, at most
 * SEND_TEXT_MAX bytes. */
MUST_USE struct err *send_number(const struct send_command *c, enum send_attribute a, uint64_t *ret);
MUST_USE struct err *send_text(const struct send_command *c, enum send_attribute a, char **ret);
MUST_USE struct err *send_uuid(const struct send_command *c, enum send_attribute a, unsigned char ret[SEND_UUID_SIZE]);
MUST_USE struct err *send_time(const struct send_command *c, enum send_attribute a, struct timespec *ret);
