/* SPDX-License-Identifier: Apache-2.0 */
#include "egress/socks5_udp.h"

#include <string.h>

enum { TYPE_IPV4 = 1, TYPE_IPV6 = 4 };
enum { FRAGMENT = 2, TYPE = 3 }; /* places in a head, which begins with two reserved bytes */

size_t socks5_udp_head(const struct sockaddr *target, uint8_t ret[SOCKS5_UDP_HEAD_MAX])
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)target;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)target;
    bool is_v4 = target->sa_family == AF_INET;
    size_t len = is_v4 ? sizeof(v4->sin_addr) : sizeof(v6->sin6_addr);

    memset(ret, 0, TYPE);
    ret[TYPE] = is_v4 ? TYPE_IPV4 : TYPE_IPV6;
    memcpy(ret + TYPE + 1, is_v4 ? (const void *)&v4->sin_addr : &v6->sin6_addr, len);
    memcpy(ret + TYPE + 1 + len, is_v4 ? &v4->sin_port : &v6->sin6_port, sizeof(in_port_t));
    return TYPE + 1 + len + sizeof(in_port_t);
}

size_t socks5_address(const uint8_t *data, size_t len, struct sockaddr_storage *ret)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    memset(ret, 0, sizeof(*ret));
    if (len >= 1 + sizeof(v4.sin_addr) + sizeof(in_port_t) && data[0] == TYPE_IPV4) {
        memcpy(&v4.sin_addr, data + 1, sizeof(v4.sin_addr));
        memcpy(&v4.sin_port, data + 1 + sizeof(v4.sin_addr), sizeof(in_port_t));
        memcpy(ret, &v4, sizeof(v4));
        return 1 + sizeof(v4.sin_addr) + sizeof(in_port_t);
    }
    if (len >= 1 + sizeof(v6.sin6_addr) + sizeof(in_port_t) && data[0] == TYPE_IPV6) {
        memcpy(&v6.sin6_addr, data + 1, sizeof(v6.sin6_addr));
        memcpy(&v6.sin6_port, data + 1 + sizeof(v6.sin6_addr), sizeof(in_port_t));
        memcpy(ret, &v6, sizeof(v6));
        return 1 + sizeof(v6.sin6_addr) + sizeof(in_port_t);
    }
    return 0;
}

size_t socks5_udp_parse(const uint8_t *data, size_t len, struct sockaddr_storage *ret_from)
{
    size_t address;

    /* The reserved bytes are not looked at: proxies disagree about them. */
    if (len <= TYPE || data[FRAGMENT] != 0)
        return 0;
    address = socks5_address(data + TYPE, len - TYPE, ret_from);
    return address ? TYPE + address : 0;
}
