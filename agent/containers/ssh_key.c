/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/ssh_key.h"

#include <openssl/evp.h>

#include "base/str.h"

#define KEY_MAX 16384
static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The types of RFC 4253, 5656, 8709 and of OpenSSH's PROTOCOL.u2f: after its name, a blob has these parts, and ends. */
enum part { END, BYTES_32, CURVE, POINT, APPLICATION, EXPONENT, MODULUS };
static const struct type {
    const char *name, *curve;
    size_t point; /* bytes of a point that is not compressed */
    enum part parts[4];
} types[] = {
    {"ssh-ed25519", NULL, 0, {BYTES_32}},
    {"ssh-rsa", NULL, 0, {EXPONENT, MODULUS}},
    {"ecdsa-sha2-nistp256", "nistp256", 65, {CURVE, POINT}},
    {"ecdsa-sha2-nistp384", "nistp384", 97, {CURVE, POINT}},
    {"ecdsa-sha2-nistp521", "nistp521", 133, {CURVE, POINT}},
    {"sk-ssh-ed25519@openssh.com", NULL, 0, {BYTES_32, APPLICATION}},
    {"sk-ecdsa-sha2-nistp256@openssh.com", "nistp256", 65, {CURVE, POINT, APPLICATION}},
};

/* The bytes that whole letters make; padding is not asked for. */
static unsigned char *decode(const char *text, size_t *ret_len)
{
    unsigned char *out = mem_new_array(unsigned char, strlen(text) + 1);
    unsigned bits = 0, have = 0;
    const char *at;
    size_t n = 0;

    for (; *text && (at = strchr(letters, *text)); text++) {
        bits = (bits << 6 | (unsigned)(at - letters)) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (unsigned char)(bits >> have);
        }
    }
    *ret_len = n;
    return out;
}

struct reader {
    const unsigned char *at, *end;
};

/* A string of RFC 4251: its length in four bytes, then so many bytes. */
static bool next_string(struct reader *r, const unsigned char **ret, size_t *ret_len)
{
    size_t len;

    if (r->end - r->at < 4)
        return false;
    len = (size_t)r->at[0] << 24 | (size_t)r->at[1] << 16 | (size_t)r->at[2] << 8 | r->at[3];
    r->at += 4;
    if (len > (size_t)(r->end - r->at))
        return false;
    *ret = r->at;
    *ret_len = len;
    r->at += len;
    return true;
}

/* sshd takes no RSA key of fewer than 1024 bits; a positive number begins with a bit that is not set. */
static bool part_is(const struct type *t, enum part part, const unsigned char *bytes, size_t len)
{
    switch (part) {
    case BYTES_32:
        return len == 32;
    case CURVE:
        return len == strlen(t->curve) && memcmp(bytes, t->curve, len) == 0;
    case POINT:
        return len == t->point && bytes[0] == 4;
    case APPLICATION:
        return len > 0;
    case EXPONENT:
        return len > 0 && len <= 8 && bytes[0] < 0x80 && (bytes[len - 1] & 1);
    case MODULUS:
        return len >= 128 && len <= 2049 && bytes[0] < 0x80 && (bytes[len - 1] & 1);
    case END:
        break;
    }
    return false;
}

static bool blob_is(const struct type *t, const unsigned char *blob, size_t blob_len)
{
    struct reader r = {blob, blob + blob_len};
    const unsigned char *bytes;
    size_t len;

    if (!next_string(&r, &bytes, &len) || len != strlen(t->name) || memcmp(bytes, t->name, len) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(t->parts) && t->parts[i] != END; i++)
        if (!next_string(&r, &bytes, &len) || !part_is(t, t->parts[i], bytes, len))
            return false;
    return r.at == r.end;
}

static struct err *check_blob(const char *field, const struct type *t, const char *text, size_t text_len)
{
    size_t len;
    autofree unsigned char *blob = decode(text, &len);
    autofree unsigned char *again = mem_new_array(unsigned char, 4 * (len / 3 + 1) + 1);

    if (EVP_EncodeBlock(again, blob, (int)len) != (int)text_len || memcmp(again, text, text_len) != 0)
        return err_field(field,
                         "the text after '%s' is not base64, or it is cut off: give the whole line of the .pub file",
                         t->name);
    if (!blob_is(t, blob, len))
        return err_field(
            field,
            "the text after '%s' is no key of this type, or it is cut off: give the whole line of the .pub "
            "file",
            t->name);
    return NULL;
}

/* One blank between type, base64 and comment, none at the ends. */
static void tidy(char *key)
{
    static const char blanks[] = " \t";
    char *from = key + strspn(key, " \t\r\n"), *to = key;
    size_t len = strlen(from);

    while (len > 0 && strchr(" \t\r\n", from[len - 1]))
        from[--len] = '\0';
    for (int word = 0; word < 2; word++) {
        size_t n = strcspn(from, blanks);

        memmove(to, from, n);
        to += n;
        from += n;
        from += strspn(from, blanks);
        if (*from)
            *to++ = ' ';
    }
    memmove(to, from, strlen(from) + 1);
}

struct err *ssh_key_check(const char *field, char *key)
{
    if (strlen(key) > KEY_MAX)
        return err_field(field, "must be at most %d bytes", KEY_MAX);
    tidy(key);
    for (size_t i = 0; !str_has_control(key) && i < ARRAY_LEN(types); i++) {
        size_t len = strlen(types[i].name);

        if (strncmp(key, types[i].name, len) == 0 && key[len] == ' ')
            return check_blob(field, &types[i], key + len + 1, strcspn(key + len + 1, " "));
    }
    return err_field(field, "must be one line of an OpenSSH public key, without options");
}

/* Length of "TYPE BASE64". */
static size_t length(const char *key)
{
    size_t type = strcspn(key, " ");

    return key[type] ? type + 1 + strcspn(key + type + 1, " ") : type;
}

bool ssh_key_same(const char *a, const char *b)
{
    return a && b && length(a) == length(b) && strncmp(a, b, length(a)) == 0;
}

char *ssh_key_fingerprint(const char *key)
{
    unsigned char hash[EVP_MAX_MD_SIZE], text[2 * EVP_MAX_MD_SIZE];
    autofree unsigned char *blob = NULL;
    unsigned hash_len = 0;
    size_t len;

    if (!key)
        return NULL;
    blob = decode(key + strcspn(key, " ") + 1, &len);
    if (EVP_Digest(blob, len, hash, &hash_len, EVP_sha256(), NULL) != 1)
        abort();
    EVP_EncodeBlock(text, hash, (int)hash_len);
    text[strcspn((char *)text, "=")] = '\0';
    return str_fmt("SHA256:%s", (char *)text);
}
