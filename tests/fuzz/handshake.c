/* SPDX-License-Identifier: Apache-2.0 */
/* What an upstream proxy says. First byte: kind, login, family, use; second: how it is cut; then the words. */
#include <arpa/inet.h>

#include "egress/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(443)};
    const struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
    enum handshake_state state = HANDSHAKE_MORE;
    struct handshake *h;
    size_t cut;

    if (len < 2)
        return 0;
    h = mem_new(struct handshake);
    cut = (size_t)data[1] + 1;
    handshake_init(h, (enum proxy_kind)(data[0] % PROXY_KIND_MAX), data[0] & 4 ? "user" : NULL,
                   data[0] & 4 ? "password" : NULL,
                   data[0] & 8 ? (const struct sockaddr *)&v6 : (const struct sockaddr *)&v4,
                   (enum handshake_use)((data[0] >> 4) % 3));
    for (size_t at = 2; at < len && state == HANDSHAKE_MORE; at += cut) {
        size_t n = MIN(cut, len - at), used = 0;

        h->out_len = 0;
        state = handshake_feed(h, data + at, n, &used);
        if (used > n || (state == HANDSHAKE_MORE && used != n))
            abort();
        if ((state == HANDSHAKE_REFUSED || state == HANDSHAKE_FAILED) != (h->problem[0] != '\0'))
            abort();
    }
    free(h);
    return 0;
}
