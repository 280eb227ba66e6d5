/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network/forward.h"

#include "agent/containers/host_setting.h"
#include "base/str.h"

const char *const forward_protocol_words[] = {"tcp", "udp", NULL};

static uint16_t port_of(const json_t *forward, const char *member)
{
    return (uint16_t)json_integer_value(json_object_get(forward, member));
}

static bool is_udp(const json_t *forward)
{
    return str_eq(json_string_value(json_object_get(forward, "protocol")), "udp");
}

struct nf_forward *forwards_of(const struct container *c, size_t *ret_count)
{
    const json_t *list = host_setting_get(c, "forwards");
    struct nf_forward *ret = mem_new_array(struct nf_forward, json_array_size(list) + 1);
    const json_t *f;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, f) ret[i] =
        (struct nf_forward){.protocol = is_udp(f) ? IPPROTO_UDP : IPPROTO_TCP,
                            .host_port = port_of(f, "host_port"),
                            .port = port_of(f, "container_port")};
    *ret_count = json_array_size(list);
    return ret;
}

const struct container *forward_owner(const struct agent *a, int protocol, int64_t host_port, size_t *ret_index)
{
    for (size_t i = 0; i < a->container_count; i++) {
        const json_t *list = host_setting_get(a->containers[i], "forwards"), *f;
        size_t k;

        json_array_foreach((json_t *)(uintptr_t)list, k, f)
        {
            if (port_of(f, "host_port") != host_port || is_udp(f) != (protocol == 1))
                continue;
            *ret_index = k;
            return a->containers[i];
        }
    }
    return NULL;
}
