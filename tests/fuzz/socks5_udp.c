/* SPDX-License-Identifier: Apache-2.0 */
/* A datagram as an upstream proxy may send it. */
#include <stdlib.h>
#include <string.h>

#include "egress/socks5_udp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t again[SOCKS5_UDP_HEAD_MAX];
    struct sockaddr_storage from;
    size_t head = socks5_udp_parse(data, len, &from);

    if (head > len || head > sizeof(again))
        abort();
    /* What was understood is said the same way. */
    if (head &&
        (socks5_udp_head((const struct sockaddr *)&from, again) != head || memcmp(again + 3, data + 3, head - 3)))
        abort();
    return 0;
}
