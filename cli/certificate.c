/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/certificate.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "base/fd.h"
#include "base/str.h"

#define CLOCK_SKEW_S 3600

struct certificate {
    EVP_PKEY *key;
    X509 *x509;
};

void certificate_free(struct certificate *c)
{
    if (!c)
        return;
    EVP_PKEY_free(c->key);
    X509_free(c->x509);
    free(c);
}

static struct err *openssl_error(const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_get_error());

    return err_new(ERR_INTERNAL, "%s: %s", what, reason ? reason : "OpenSSL fails");
}

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509_EXTENSION *extension;
    X509V3_CTX ctx;
    bool ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = extension && X509_add_ext(x, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* "DNS:web1,IP:192.0.2.1"; the hosts were checked to be made of plain characters. */
static char *alternative_names(const char *const *hosts)
{
    char *text = str_dup("");

    for (size_t i = 0; hosts[i]; i++) {
        struct in6_addr a;
        bool ip = inet_pton(AF_INET, hosts[i], &a) == 1 || inet_pton(AF_INET6, hosts[i], &a) == 1;
        char *longer = str_fmt("%s%s%s:%s", text, i ? "," : "", ip ? "IP" : "DNS", hosts[i]);

        free(text);
        text = longer;
    }
    return text;
}

static bool add_extensions(X509 *x, X509 *issuer, const struct certificate_request *r)
{
    autofree char *names = r->hosts ? alternative_names(r->hosts) : NULL;
    bool ok;

    switch (r->kind) {
    case CERTIFICATE_CA:
        ok = add_extension(x, issuer, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
             add_extension(x, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
        break;
    case CERTIFICATE_SERVER:
        ok = add_extension(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
             add_extension(x, issuer, NID_key_usage, "critical,digitalSignature") &&
             add_extension(x, issuer, NID_ext_key_usage, "serverAuth") &&
             add_extension(x, issuer, NID_subject_alt_name, names);
        break;
    case CERTIFICATE_CLIENT:
        ok = add_extension(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
             add_extension(x, issuer, NID_key_usage, "critical,digitalSignature") &&
             add_extension(x, issuer, NID_ext_key_usage, "clientAuth");
        break;
    default:
        return false;
    }
    return ok && add_extension(x, issuer, NID_subject_key_identifier, "hash") &&
           add_extension(x, issuer, NID_authority_key_identifier, "keyid:always");
}

static bool set_serial(X509 *x)
{
    unsigned char bytes[16];
    BIGNUM *n;
    bool ok;

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return false;
    bytes[0] &= 0x7f; /* positive */
    n = BN_bin2bn(bytes, sizeof(bytes), NULL);
    ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
    BN_free(n);
    return ok;
}

static bool set_subject(X509 *x, const struct certificate_request *r)
{
    X509_NAME *name = X509_get_subject_name(x);

    return X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8, (const unsigned char *)"noded", -1, -1,
                                      0) == 1 &&
           (!r->role || X509_NAME_add_entry_by_NID(name, NID_organizationalUnitName, MBSTRING_UTF8,
                                                   (const unsigned char *)r->role, -1, -1, 0) == 1) &&
           X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, (const unsigned char *)r->name, -1, -1, 0) ==
               1;
}

static bool fill(struct certificate *c, const struct certificate_request *r, const struct certificate *ca)
{
    X509 *issuer = ca ? ca->x509 : c->x509;

    return X509_set_version(c->x509, X509_VERSION_3) == 1 && set_serial(c->x509) &&
           X509_gmtime_adj(X509_getm_notBefore(c->x509), -CLOCK_SKEW_S) &&
           X509_gmtime_adj(X509_getm_notAfter(c->x509), (long)r->days * 86400) && set_subject(c->x509, r) &&
           X509_set_issuer_name(c->x509, X509_get_subject_name(issuer)) == 1 && X509_set_pubkey(c->x509, c->key) == 1 &&
           add_extensions(c->x509, issuer, r) && X509_sign(c->x509, ca ? ca->key : c->key, EVP_sha256()) > 0;
}

struct err *certificate_new(const struct certificate_request *request, const struct certificate *ca,
                            struct certificate **ret)
{
    auto_(certificate_free) struct certificate *c = mem_new(struct certificate);

    c->key = EVP_EC_gen("P-256");
    c->x509 = X509_new();
    if (!c->key || !c->x509 || !fill(c, request, ca))
        return openssl_error("cannot make a certificate");
    *ret = steal(&c);
    return NULL;
}

static struct err *write_bio(BIO *bio, const char *path, mode_t mode)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);

    return fd_replace_file(path, data, (size_t)len, mode);
}

struct err *certificate_write(const struct certificate *c, const char *dir, const char *file)
{
    autofree char *crt = str_fmt("%s/%s.crt", dir, file), *key = str_fmt("%s/%s.key", dir, file);
    BIO *cert_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());
    struct err *e = NULL;

    if (!cert_bio || !key_bio || PEM_write_bio_X509(cert_bio, c->x509) != 1 ||
        PEM_write_bio_PKCS8PrivateKey(key_bio, c->key, NULL, NULL, 0, NULL, NULL) != 1)
        e = openssl_error("cannot write a certificate");
    if (!e)
        e = write_bio(key_bio, key, 0600);
    if (!e)
        e = write_bio(cert_bio, crt, 0644);
    BIO_free(cert_bio);
    BIO_free(key_bio);
    return e;
}

static BIO *open_file(const char *dir, const char *file, const char *suffix)
{
    autofree char *path = str_fmt("%s/%s.%s", dir, file, suffix);

    return BIO_new_file(path, "r");
}

struct err *certificate_read(const char *dir, const char *file, struct certificate **ret)
{
    auto_(certificate_free) struct certificate *c = mem_new(struct certificate);
    BIO *crt = open_file(dir, file, "crt"), *key = open_file(dir, file, "key");

    c->x509 = crt ? PEM_read_bio_X509(crt, NULL, NULL, NULL) : NULL;
    c->key = key ? PEM_read_bio_PrivateKey(key, NULL, NULL, NULL) : NULL;
    BIO_free(crt);
    BIO_free(key);
    ERR_clear_error();
    if (!c->x509 || !c->key)
        return err_new(ERR_NOT_FOUND, "'%s' has no readable %s.crt and %s.key", dir, file, file);
    *ret = steal(&c);
    return NULL;
}
