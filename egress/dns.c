/* SPDX-License-Identifier: Apache-2.0 */
#include "egress/dns.h"

#include <string.h>
#include <sys/param.h>

enum { HEAD = 12, UDP_DEFAULT = 512, TYPE_OPT = 41, LABEL_MAX = 63, SERVFAIL = 2 };
enum { QR = 0x80, OPCODE = 0x78, TC = 0x02, RD = 0x01, RA = 0x80 };

static unsigned number(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

/* Behind the question, or 0. A query's names are not compressed. */
static size_t question_end(const uint8_t *m, size_t len)
{
    size_t at = HEAD;

    while (at < len && m[at] != 0) {
        if (m[at] > LABEL_MAX)
            return 0;
        at += 1 + (size_t)m[at];
    }
    return at + 5 <= len ? at + 5 : 0;
}

bool dns_is_query(const uint8_t *message, size_t len)
{
    return len >= HEAD && len <= DNS_QUERY_MAX && !(message[2] & QR) && number(message + 4) == 1 &&
           question_end(message, len) > 0;
}

uint16_t dns_id(const uint8_t *message)
{
    return (uint16_t)number(message);
}

void dns_set_id(uint8_t *message, uint16_t id)
{
    message[0] = (uint8_t)(id >> 8);
    message[1] = (uint8_t)id;
}

size_t dns_answer_max(const uint8_t *query, size_t len)
{
    size_t at = question_end(query, len);

    /* OPT is the first additional record of every resolver there is; else the safe number does. */
    if (at == 0 || number(query + 6) != 0 || number(query + 8) != 0 || number(query + 10) == 0 || at + 11 > len ||
        query[at] != 0 || number(query + at + 1) != TYPE_OPT)
        return UDP_DEFAULT;
    return MIN(MAX(number(query + at + 3), (unsigned)UDP_DEFAULT), (unsigned)DNS_QUERY_MAX);
}

static size_t empty_answer(const uint8_t *query, size_t len, uint8_t *ret)
{
    size_t end = question_end(query, len);

    memcpy(ret, query, end);
    ret[2] = (uint8_t)((query[2] & (OPCODE | RD)) | QR);
    ret[3] = RA;
    memset(ret + 6, 0, 6);
    return end;
}

size_t dns_truncated(const uint8_t *query, size_t len, uint8_t *ret)
{
    size_t n = empty_answer(query, len, ret);

    ret[2] |= TC;
    return n;
}

size_t dns_failure(const uint8_t *query, size_t len, uint8_t *ret)
{
    size_t n = empty_answer(query, len, ret);

    ret[3] |= SERVFAIL;
    return n;
}
