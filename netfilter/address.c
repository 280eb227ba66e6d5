/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/address.h"

#include <arpa/inet.h>

#include "base/str.h"

/* "address/length"; the address must be the network's own. */
static bool parse_pool(int family, const char *text, void *address, int *ret_length)
{
    autofree char *copy = str_dup(text ? text : "");
    char *slash = strchr(copy, '/');
    uint8_t *bytes = address;
    int bits = family == AF_INET ? 32 : 128;
    int64_t length;

    if (!slash)
        return false;
    *slash = '\0';
    if (!str_to_i64(slash + 1, &length) || length < 8 || length > bits - 2 || inet_pton(family, copy, address) != 1)
        return false;
    for (int bit = (int)length; bit < bits; bit++)
        if (bytes[bit / 8] & (0x80 >> (bit % 8)))
            return false;
    *ret_length = (int)length;
    return true;
}

struct err *net_plan_init(struct net_plan *ret, const char *prefix, const char *ipv4_pool, const char *ipv6_pool)
{
    struct net_plan plan = {0};

    if (!str_is_made_of(prefix, "abcdefghijklmnopqrstuvwxyz", NET_PREFIX_MAX))
        return err_field("veth_prefix", "must be 1..%d small letters", NET_PREFIX_MAX);
    snprintf(plan.prefix, sizeof(plan.prefix), "%s", prefix);
    if (!parse_pool(AF_INET, ipv4_pool, &plan.ipv4, &plan.ipv4_length))
        return err_field("ipv4_pool", "must be an IPv4 network such as 10.96.0.0/16, without host bits");
    if (!parse_pool(AF_INET6, ipv6_pool, &plan.ipv6, &plan.ipv6_length))
        return err_field("ipv6_pool", "must be an IPv6 network such as fd6e:6f64:6564::/64, without host bits");
    *ret = plan;
    return NULL;
}

int net_plan_max_slot(const struct net_plan *plan)
{
    int bits = MIN(32 - plan->ipv4_length, 128 - plan->ipv6_length);

    return bits > 14 ? NET_SLOT_MAX : (1 << bits) - 2;
}

static void hardware_address(uint8_t hw[6], uint8_t side, int slot, char text[18])
{
    const uint8_t bytes[6] = {0x02, 0x6e, side, 0x00, (uint8_t)(slot >> 8), (uint8_t)slot};

    memcpy(hw, bytes, sizeof(bytes));
    snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", hw[0], hw[1], hw[2], hw[3], hw[4], hw[5]);
}

void slot_net_init(const struct net_plan *plan, int slot, struct slot_net *ret)
{
    struct slot_net n = {.slot = slot};

    snprintf(n.ifname, sizeof(n.ifname), "%s%d", plan->prefix, slot);
    snprintf(n.peer, sizeof(n.peer), "%sp%d", plan->prefix, slot);
    n.addr4.s_addr = htonl(ntohl(plan->ipv4.s_addr) + (uint32_t)slot);
    n.addr6 = plan->ipv6;
    n.addr6.s6_addr[14] |= (uint8_t)(slot >> 8);
    n.addr6.s6_addr[15] |= (uint8_t)slot;
    inet_ntop(AF_INET, &n.addr4, n.ipv4, sizeof(n.ipv4));
    inet_ntop(AF_INET6, &n.addr6, n.ipv6, sizeof(n.ipv6));
    n.relay_addr4.s_addr = htonl(0x7f6e0000 | (uint32_t)slot);
    n.relay_addr6 = (struct in6_addr){.s6_addr = {0x01, [12] = 0x6e, [13] = 0x64}};
    n.relay_addr6.s6_addr[14] = (uint8_t)(slot >> 8);
    n.relay_addr6.s6_addr[15] = (uint8_t)slot;
    inet_ntop(AF_INET, &n.relay_addr4, n.relay4, sizeof(n.relay4));
    inet_ntop(AF_INET6, &n.relay_addr6, n.relay6, sizeof(n.relay6));
    hardware_address(n.hw_host, 0x64, slot, n.mac_host);
    hardware_address(n.hw_container, 0x65, slot, n.mac_container);
    n.link_local =
        (struct in6_addr){.s6_addr = {0xfe, 0x80, [8] = n.hw_container[0] ^ 0x02, n.hw_container[1], n.hw_container[2],
                                      0xff, 0xfe, n.hw_container[3], n.hw_container[4], n.hw_container[5]}};
    *ret = n;
}

int net_plan_slot_of(const struct net_plan *plan, const char *ifname)
{
    size_t len = strlen(plan->prefix);
    int64_t slot;

    if (strncmp(ifname, plan->prefix, len) != 0)
        return 0;
    ifname += len;
    if (*ifname == 'p')
        ifname++;
    if (*ifname < '1' || *ifname > '9' || !str_to_i64(ifname, &slot) || slot > NET_SLOT_MAX)
        return 0;
    return (int)slot;
}

int net_plan_slot_of_address(const struct net_plan *plan, int family, const void *address)
{
    const uint8_t *bytes = address;
    uint32_t slot;

    if (family == AF_INET) {
        uint32_t host;

        memcpy(&host, address, sizeof(host));
        slot = ntohl(host) - ntohl(plan->ipv4.s_addr);
    } else {
        if (memcmp(bytes, &plan->ipv6, 14) != 0)
            return 0;
        slot =
            (uint32_t)(bytes[14] << 8 | bytes[15]) - (uint32_t)(plan->ipv6.s6_addr[14] << 8 | plan->ipv6.s6_addr[15]);
    }
    return slot <= (uint32_t)net_plan_max_slot(plan) ? (int)slot : 0;
}
