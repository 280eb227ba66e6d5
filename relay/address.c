/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>

#include "base/str.h"
#include "relay/relay.h"

static bool is(const struct sockaddr_storage *sa, const char *ipv4, const char *ipv6)
{
    char text[INET6_ADDRSTRLEN];

    if (sa->ss_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, text, sizeof(text));
    else
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)sa)->sin6_addr, text, sizeof(text));
    return str_eq(text, sa->ss_family == AF_INET ? ipv4 : ipv6);
}

bool address_is_client(const struct relay *r, const struct sockaddr_storage *sa)
{
    return is(sa, r->settings.client4, r->settings.client6);
}

bool address_is_own(const struct relay *r, const struct sockaddr_storage *sa)
{
    return is(sa, r->settings.listen4, r->settings.listen6);
}

bool address_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)a, *b4 = (const struct sockaddr_in *)b;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a, *b6 = (const struct sockaddr_in6 *)b;

    if (a->ss_family != b->ss_family || a4->sin_port != b4->sin_port)
        return false;
    if (a->ss_family == AF_INET)
        return a4->sin_addr.s_addr == b4->sin_addr.s_addr;
    return IN6_ARE_ADDR_EQUAL(&a6->sin6_addr, &b6->sin6_addr);
}

socklen_t address_len(const struct sockaddr_storage *sa)
{
    return sa->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}
