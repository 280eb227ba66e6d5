/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for development: a CA of one's own and what it signs. EC P-256, written as PEM files. */
#pragma once

#include "base/err.h"

enum certificate_kind { CERTIFICATE_CA, CERTIFICATE_SERVER, CERTIFICATE_CLIENT };

struct certificate_request {
    enum certificate_kind kind;
    const char *name;         /* CN */
    const char *role;         /* OU; NULL: none */
    const char *const *hosts; /* server: names and addresses, NULL-terminated */
    int days;
};

struct certificate;

/* A key and a certificate, signed by `ca`, or by itself when that is NULL. */
MUST_USE struct err *certificate_new(const struct certificate_request *request, const struct certificate *ca,
                                     struct certificate **ret);
/* <dir>/<file>.crt and, mode 0600, <dir>/<file>.key. */
MUST_USE struct err *certificate_write(const struct certificate *c, const char *dir, const char *file);
/* What certificate_write has written. */
MUST_USE struct err *certificate_read(const char *dir, const char *file, struct certificate **ret);
void certificate_free(struct certificate *c);
DEFINE_AUTO(struct certificate, certificate_free)
