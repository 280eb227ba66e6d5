/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/refused_log.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/log.h"

enum { WINDOW_MS = 10000, ENTRIES_MAX = 20 };

void refused_address(const struct sockaddr_storage *from, char ret[REFUSED_ADDRESS_SIZE])
{
    char text[INET6_ADDRSTRLEN] = "unknown";
    unsigned port = 0;

    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;

        (void)inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        port = ntohs(in->sin_port);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;

        (void)inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
        port = ntohs(in6->sin6_port);
    }
    snprintf(ret, REFUSED_ADDRESS_SIZE, "%s port %u", text, port);
}

void refused_sum_up(struct refused_log *log, uint64_t now_ms)
{
    if (now_ms - log->window_ms < WINDOW_MS)
        return;
    if (log->left_out > 0)
        log_warning(NULL, "%zu more clients were refused on the TLS port in %d seconds", log->left_out,
                    WINDOW_MS / 1000);
    *log = (struct refused_log){.window_ms = now_ms};
}

void refused_add(struct refused_log *log, uint64_t now_ms, const char *address, const char *subject, const char *reason)
{
    refused_sum_up(log, now_ms);
    if (++log->entries > ENTRIES_MAX) {
        log->left_out++;
        return;
    }
    if (subject)
        log_warning(NULL, "a client was refused: %s, certificate '%s': %s", address, subject, reason);
    else
        log_warning(NULL, "a client was refused: %s, without a certificate: %s", address, reason);
}
