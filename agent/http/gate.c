/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 9112 sections 3.2, 6.1 and 6.3: one Host, one framing, no ambiguity that a second parser could read otherwise. */
#include "agent/http/gate.h"

#include <stdint.h>

#include "base/str.h"

struct head {
    int hosts, lengths, encodings;
    const char *length, *encoding;
    const char *bad; /* what is wrong with a header, or NULL */
};

static bool is_token(const char *s, size_t len)
{
    static const char extra[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < len; i++) {
        char c = s[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr(extra, c)))
            return false;
    }
    return len > 0;
}

static enum MHD_Result look(void *cls, enum MHD_ValueKind kind, const char *key, size_t key_len, const char *value,
                            size_t value_len)
{
    struct head *h = cls;

    (void)kind;
    if (!is_token(key, key_len))
        h->bad = "a header name has characters that are not allowed";
    for (size_t i = 0; i < value_len; i++)
        if (((unsigned char)value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f)
            h->bad = "a header value has control characters";
    if (strcasecmp(key, "Host") == 0) {
        h->hosts++;
    } else if (strcasecmp(key, "Content-Length") == 0) {
        h->lengths++;
        h->length = value;
    } else if (strcasecmp(key, "Transfer-Encoding") == 0) {
        h->encodings++;
        h->encoding = value;
    }
    return MHD_YES;
}

static struct err *check_framing(const struct head *h, size_t body_max, size_t *ret_body_max, int *ret_status)
{
    int64_t length;

    if (h->bad)
        return err_new(ERR_INVALID, "%s", h->bad);
    if (h->hosts != 1)
        return err_new(ERR_INVALID, "exactly one Host header is needed");
    if (h->lengths > 1 || h->encodings > 1 || (h->lengths && h->encodings))
        return err_new(ERR_INVALID, "Content-Length and Transfer-Encoding must be given once and not both");
    if (h->encodings && strcasecmp(h->encoding, "chunked") != 0)
        return err_new(ERR_INVALID, "Transfer-Encoding must be chunked");
    *ret_body_max = h->encodings ? body_max : 0;
    if (!h->lengths)
        return NULL;
    if (!str_is_made_of(h->length, "0123456789", 19) || !str_to_i64(h->length, &length))
        return err_new(ERR_INVALID, "Content-Length must be a number");
    if ((uint64_t)length > body_max) {
        *ret_status = 413;
        return err_new(ERR_TOO_LARGE, "the body is larger than %zu bytes", body_max);
    }
    *ret_body_max = (size_t)length;
    return NULL;
}

struct err *http_gate(struct MHD_Connection *conn, const char *method, const char *url, const char *version,
                      size_t body_max, size_t *ret_body_max, int *ret_status)
{
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    struct head head = {0};
    bool known = false;

    *ret_status = 400;
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        known = known || strcmp(methods[i], method) == 0;
    if (!known) {
        *ret_status = 501;
        return err_new(ERR_INVALID, "unknown method");
    }
    if (strcmp(version, "HTTP/1.1") != 0) {
        *ret_status = 505;
        return err_new(ERR_INVALID, "HTTP/1.1 is needed");
    }
    if (url[0] != '/')
        return err_new(ERR_INVALID, "the path must begin with '/'");
    (void)MHD_get_connection_values_n(conn, MHD_HEADER_KIND, look, &head);
    return check_framing(&head, body_max, ret_body_max, ret_status);
}
