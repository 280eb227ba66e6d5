/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signatures of bundles: ed25519. manifest.sig is the public key (32 bytes) and the signature (64), so that a key that
 * nobody trusts can be told from a manifest that was changed; or the signature alone. The key in it is trusted for
 * nothing: it has to be one of those in the node's file.
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/bundle.h"

enum { KEYS_MAX = 16, KEY_LEN = 32, SIGNATURE_LEN = 64, PEM_MAX = 65536 };

struct keys {
    EVP_PKEY *key[KEYS_MAX];
    unsigned char raw[KEYS_MAX][KEY_LEN];
    size_t count;
};

static void keys_free(struct keys *keys)
{
    for (size_t i = 0; i < keys->count; i++)
        EVP_PKEY_free(keys->key[i]);
    ERR_clear_error();
}

static bool raw_of(const EVP_PKEY *key, unsigned char ret[KEY_LEN])
{
    size_t len = KEY_LEN;

    return EVP_PKEY_get_id(key) == EVP_PKEY_ED25519 && EVP_PKEY_get_raw_public_key(key, ret, &len) == 1 &&
           len == KEY_LEN;
}

/* Every public key of the file, one after the other. */
static struct err *load_keys(const char *path, struct keys *ret)
{
    autofree char *pem = NULL;
    size_t len = 0;
    struct err *e = fd_read_file(path, PEM_MAX, &pem, &len);
    EVP_PKEY *key;
    BIO *bio;

    if (e)
        return err_wrap(e, "public keys of the kits");
    bio = BIO_new_mem_buf(pem, (int)len);
    while (!e && bio && (key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL))) {
        if (ret->count == KEYS_MAX || !raw_of(key, ret->raw[ret->count])) {
            EVP_PKEY_free(key);
            e = err_new(ERR_INVALID, "'%s' has more than %d keys, or one that is not ed25519", path, KEYS_MAX);
        } else {
            ret->key[ret->count++] = key;
        }
    }
    BIO_free(bio);
    if (!e && ret->count == 0)
        e = err_new(ERR_INVALID, "'%s' has no ed25519 public key", path);
    return e;
}

static bool is_good(EVP_PKEY *key, const char *text, size_t len, const char *signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good =
        ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
        EVP_DigestVerify(ctx, (const unsigned char *)signature, SIGNATURE_LEN, (const unsigned char *)text, len) == 1;

    EVP_MD_CTX_free(ctx);
    return good;
}

static struct err *unknown(const char *public_keys, const char *raw)
{
    char hex[2 * 8 + 1];

    str_hex(raw, 8, hex);
    return err_reason(err_new(ERR_FORBIDDEN, "manifest.sig: signed by the key %s..., which is none of those in '%s'",
                              hex, public_keys),
                      "KIT_KEY_UNKNOWN");
}

static struct err *check(const struct keys *keys, const char *public_keys, const char *text, size_t len,
                         const char *signature, size_t signature_len)
{
    bool named = signature_len == KEY_LEN + SIGNATURE_LEN, known = !named, good = false;

    for (size_t i = 0; i < keys->count && !good; i++) {
        if (named && memcmp(keys->raw[i], signature, KEY_LEN) != 0)
            continue;
        known = true;
        good = is_good(keys->key[i], text, len, signature + (named ? KEY_LEN : 0));
    }
    if (good)
        return NULL;
    if (!known)
        return unknown(public_keys, signature);
    return err_reason(err_new(ERR_FORBIDDEN, "manifest.sig: it is not the signature of this manifest.json%s",
                              named ? "" : " by any of the node's keys"),
                      "KIT_SIGNATURE");
}

struct err *bundle_check_signature(const char *public_keys, const char *text, size_t len, const char *signature,
                                   size_t signature_len)
{
    struct keys keys = {0};
    struct err *e = NULL;

    if (signature_len != SIGNATURE_LEN && signature_len != KEY_LEN + SIGNATURE_LEN)
        return err_reason(err_new(ERR_FORBIDDEN, "manifest.sig: no signature has %zu bytes", signature_len),
                          "KIT_SIGNATURE");
    e = load_keys(public_keys, &keys);
    if (!e)
        e = check(&keys, public_keys, text, len, signature, signature_len);
    keys_free(&keys);
    return e;
}

static struct err *load_private(const char *path, EVP_PKEY **ret, unsigned char raw[KEY_LEN])
{
    autofree char *pem = NULL;
    size_t len = 0;
    struct err *e = fd_read_file(path, PEM_MAX, &pem, &len);
    EVP_PKEY *key;
    BIO *bio;

    if (e)
        return err_wrap(e, "private key");
    bio = BIO_new_mem_buf(pem, (int)len);
    key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    OPENSSL_cleanse(pem, len);
    if (!key || !raw_of(key, raw)) {
        EVP_PKEY_free(key);
        ERR_clear_error();
        return err_new(ERR_INVALID, "'%s' is no ed25519 private key", path);
    }
    *ret = key;
    return NULL;
}

struct err *bundle_sign(const char *private_key, const char *text, size_t len, char **ret_signature, size_t *ret_len)
{
    autofree char *signature = mem_alloc(KEY_LEN + SIGNATURE_LEN, 1);
    size_t used = SIGNATURE_LEN;
    EVP_PKEY *key = NULL;
    EVP_MD_CTX *ctx;
    struct err *e = load_private(private_key, &key, (unsigned char *)signature);

    if (e)
        return e;
    ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(ctx, (unsigned char *)signature + KEY_LEN, &used, (const unsigned char *)text, len) != 1 ||
        used != SIGNATURE_LEN)
        e = err_new(ERR_INTERNAL, "OpenSSL does not sign");
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (e)
        return e;
    *ret_signature = steal(&signature);
    *ret_len = KEY_LEN + SIGNATURE_LEN;
    return NULL;
}
