/* SPDX-License-Identifier: Apache-2.0 */
/* The form of the file is that of OpenSSH's PROTOCOL.key. */
#include "agent/containers/ssh_host_key.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>

#include "base/str.h"

enum { RAW = 32, LINE = 70, BLOCK = 8 };
#define TYPE "ssh-ed25519"
#define MAGIC "openssh-key-v1"

struct key {
    unsigned char secret[RAW], public[RAW];
};

static void put_u32(FILE *out, uint32_t v)
{
    const uint32_t big = htonl(v);

    fwrite(&big, sizeof(big), 1, out);
}

static void put(FILE *out, const void *data, size_t len)
{
    put_u32(out, (uint32_t)len);
    fwrite(data, len, 1, out);
}

static void put_public(FILE *out, const struct key *k)
{
    put(out, TYPE, strlen(TYPE));
    put(out, k->public, RAW);
}

struct blob {
    char *data;
    size_t len;
};

static FILE *begin(struct blob *b)
{
    FILE *out = open_memstream(&b->data, &b->len);

    if (!out)
        abort();
    return out;
}

static void finish(FILE *out)
{
    if (fclose(out) != 0)
        abort();
}

static struct err *make_key(struct key *ret)
{
    EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    size_t secret = RAW, public = RAW;
    bool ok = k && EVP_PKEY_get_raw_private_key(k, ret->secret, &secret) == 1 && secret == RAW &&
              EVP_PKEY_get_raw_public_key(k, ret->public, &public) == 1 && public == RAW;

    EVP_PKEY_free(k);
    return ok ? NULL : err_new(ERR_INTERNAL, "no SSH host key can be made");
}

/* The part that a password would encrypt. */
static struct err *secret_part(const struct key *k, struct blob *ret)
{
    uint32_t check;
    FILE *out;

    if (RAND_bytes((unsigned char *)&check, sizeof(check)) != 1)
        return err_new(ERR_INTERNAL, "no random number");
    out = begin(ret);
    put_u32(out, check);
    put_u32(out, check);
    put_public(out, k);
    put_u32(out, 2 * RAW);
    fwrite(k->secret, RAW, 1, out);
    fwrite(k->public, RAW, 1, out);
    put(out, "", 0); /* the comment */
    for (int pad = 1; fflush(out) == 0 && ret->len % BLOCK; pad++)
        fputc(pad, out);
    finish(out);
    return NULL;
}

static char *base64(const struct blob *b)
{
    char *text = mem_alloc(b->len / 3 + 2, 4);

    EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)b->data, (int)b->len);
    return text;
}

static void forget(struct blob *b)
{
    OPENSSL_cleanse(b->data, b->len);
    free(b->data);
}

static char *secret_text(const struct blob *public, const struct blob *secret)
{
    __attribute__((cleanup(forget))) struct blob whole = {0}, text = {0};
    autofree char *digits = NULL;
    FILE *out = begin(&whole);

    fwrite(MAGIC, sizeof(MAGIC), 1, out); /* with its NUL */
    put(out, "none", 4);
    put(out, "none", 4);
    put(out, "", 0);
    put_u32(out, 1);
    put(out, public->data, public->len);
    put(out, secret->data, secret->len);
    finish(out);
    digits = base64(&whole);
    out = begin(&text);
    fputs("-----BEGIN OPENSSH PRIVATE KEY-----\n", out);
    for (size_t at = 0, len = strlen(digits); at < len; at += LINE)
        fprintf(out, "%.*s\n", LINE, digits + at);
    fputs("-----END OPENSSH PRIVATE KEY-----\n", out);
    finish(out);
    OPENSSL_cleanse(digits, strlen(digits));
    return str_dup(text.data);
}

struct err *ssh_host_key_new(char **ret_secret, char **ret_public)
{
    __attribute__((cleanup(forget))) struct blob public = {0}, secret = {0};
    autofree char *digits = NULL;
    struct key k;
    struct err *e = make_key(&k);
    FILE *out;

    if (e)
        return e;
    e = secret_part(&k, &secret);
    out = begin(&public);
    put_public(out, &k);
    finish(out);
    OPENSSL_cleanse(&k, sizeof(k));
    if (e)
        return e;
    digits = base64(&public);
    *ret_secret = secret_text(&public, &secret);
    *ret_public = str_fmt(TYPE " %s\n", digits);
    return NULL;
}
