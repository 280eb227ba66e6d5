/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/containers/ssh_key.h"

#include <openssl/evp.h>

#include "base/str.h"

#define KEY_MAX 16384
static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct err *ssh_key_check(const char *field, const char *key)
{
    static const char *const types[] = {"ssh-ed25519 ",
                                        "ssh-rsa ",
                                        "ecdsa-sha2-nistp256 ",
                                        "ecdsa-sha2-nistp384 ",
                                        "ecdsa-sha2-nistp521 ",
                                        "sk-ssh-ed25519@openssh.com ",
                                        "sk-ecdsa-sha2-nistp256@openssh.com "};

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        size_t len = strlen(types[i]), end = 0;

        if (strncmp(key, types[i], len) != 0)
            continue;
        end = len + strspn(key + len, letters);
        end += strspn(key + end, "=");
        if (end - len >= 16 && strlen(key) <= KEY_MAX && !str_has_control(key) && strchr(" ", key[end]))
            return NULL;
    }
    return err_field(field, "must be one line of an OpenSSH public key");
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
