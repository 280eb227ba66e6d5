/* SPDX-License-Identifier: Apache-2.0 */
/* A DNS query as a container may send it. */
#include <stdlib.h>

#include "egress/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t out[DNS_QUERY_MAX];

    if (!dns_is_query(data, len))
        return 0;
    if (dns_answer_max(data, len) < 512 || dns_answer_max(data, len) > DNS_QUERY_MAX)
        abort();
    if (dns_truncated(data, len, out) > len || dns_failure(data, len, out) > len || dns_id(out) != dns_id(data))
        abort();
    return 0;
}
