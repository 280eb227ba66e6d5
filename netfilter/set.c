/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/set.h"

#include <libnftnl/set.h>
#include <libnftnl/udata.h>

#include "netfilter/nf.h"

/* Numbers that nft(8) gives to data types; the kernel only stores them. A concatenation has six bits for each. */
enum {
    TYPE_IPV4 = 7,
    TYPE_IPV6 = 8,
    TYPE_ETHER = 9,
    TYPE_PROTOCOL = 12,
    TYPE_PORT = 13,
    TYPE_MARK = 19,
    TYPE_IFINDEX = 20,
    TYPE_UID = 24,
    TYPE_IFNAME = 41
};
#define CONCAT(a, b) ((uint32_t)(a) << 6 | (uint32_t)(b))
/* Byte orders as nft(8) stores them in a set's user data; without it names are listed as empty strings. */
enum { BYTEORDER_HOST = 1, BYTEORDER_BIG = 2 };

struct set_kind {
    const char *name;
    uint32_t type, len;
    uint32_t byteorder;
    uint32_t data_type, data_len; /* of a map; 0: a set */
    uint32_t data_byteorder;      /* 0: as nft(8) supposes, big endian */
    uint32_t flags, size;         /* of one that packets put elements into: NFT_SET_*, and how many at most */
};

#define COUNTED_MAX (1u << 22) /* elements; more than all slots can have */
#define ELEMENTS_A_MESSAGE 256u
#define FIRST_COUNTED 500u /* numbers of sets in the transaction: after `kinds`, before those of the lists */
#define VERDICT NFT_DATA_VERDICT, 16

static const struct set_kind kinds[] = {
    {SET_READY, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST},
    {SET_HARDWARE, CONCAT(TYPE_IFNAME, TYPE_ETHER), IFNAMSIZ + 8, BYTEORDER_BIG},
    {SET_ADDRESSES4, CONCAT(TYPE_IFNAME, TYPE_IPV4), IFNAMSIZ + 4, BYTEORDER_BIG},
    {SET_ADDRESSES6, CONCAT(TYPE_IFNAME, TYPE_IPV6), IFNAMSIZ + 16, BYTEORDER_BIG},
    {SET_KIT_PORTS, CONCAT(TYPE_IFNAME, TYPE_PORT), IFNAMSIZ + 4, BYTEORDER_BIG},
    {SET_PROXY_UIDS, TYPE_UID, 4, BYTEORDER_HOST},
    {MAP_LIMITED, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST, VERDICT},
    {SET_CONFINED, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST},
    {MAP_PROJECT, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST, TYPE_MARK, 4, BYTEORDER_HOST},
    {SET_PEERS, CONCAT(TYPE_MARK, TYPE_IFNAME), 4 + IFNAMSIZ, BYTEORDER_BIG},
    {MAP_RELAY4, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST, TYPE_IPV4, 4},
    {MAP_RELAY6, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST, TYPE_IPV6, 16},
    {MAP_FORWARD4, CONCAT(TYPE_PROTOCOL, TYPE_PORT), 8, BYTEORDER_BIG, CONCAT(TYPE_IPV4, TYPE_PORT), 8},
    {MAP_FORWARD6, CONCAT(TYPE_PROTOCOL, TYPE_PORT), 8, BYTEORDER_BIG, CONCAT(TYPE_IPV6, TYPE_PORT), 20},
    {SET_PROXIES, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST},
    {MAP_PROXY_MARKS, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST, TYPE_MARK, 4, BYTEORDER_HOST},
};

/* Of a table of lists. */
static const struct set_kind list_kinds[] = {
    {MAP_TO_CONTAINER, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST, VERDICT},
    {MAP_FROM_CONTAINER, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST, VERDICT},
    {SET_OWN_PARTS, CONCAT(TYPE_MARK, TYPE_MARK), 8, BYTEORDER_HOST, .flags = NFT_SET_EVAL, .size = COUNTED_MAX},
    {SET_OWN_FULL, CONCAT(TYPE_MARK, TYPE_MARK), 8, BYTEORDER_HOST, .flags = NFT_SET_EVAL | NFT_SET_TIMEOUT,
     .size = COUNTED_MAX},
};

static struct nftnl_set *set_named(const struct build *b, const char *name)
{
    struct nftnl_set *s = nftnl_set_alloc();

    if (!s)
        abort();
    nftnl_set_set_str(s, NFTNL_SET_TABLE, b->table);
    nftnl_set_set_str(s, NFTNL_SET_NAME, name);
    nftnl_set_set_u32(s, NFTNL_SET_FAMILY, NFPROTO_INET);
    return s;
}

static void create(const struct build *b, const struct set_kind *kind, uint32_t id)
{
    struct nftnl_set *s = set_named(b, kind->name);
    struct nftnl_udata_buf *u = nftnl_udata_buf_alloc(64);
    struct nlmsghdr *h;

    if (!u)
        abort();
    nftnl_set_set_u32(s, NFTNL_SET_ID, id);
    nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, kind->type);
    nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, kind->len);
    nftnl_set_set_u32(s, NFTNL_SET_FLAGS, kind->flags | (kind->data_len ? NFT_SET_MAP : 0));
    if (kind->size)
        nftnl_set_set_u32(s, NFTNL_SET_DESC_SIZE, kind->size);
    if (kind->data_len) {
        nftnl_set_set_u32(s, NFTNL_SET_DATA_TYPE, kind->data_type);
        nftnl_set_set_u32(s, NFTNL_SET_DATA_LEN, kind->data_len);
    }
    nftnl_udata_put_u32(u, NFTNL_UDATA_SET_KEYBYTEORDER, kind->byteorder);
    if (kind->data_byteorder)
        nftnl_udata_put_u32(u, NFTNL_UDATA_SET_DATABYTEORDER, kind->data_byteorder);
    nftnl_set_set_data(s, NFTNL_SET_USERDATA, nftnl_udata_buf_data(u), nftnl_udata_buf_len(u));
    h = batch_begin(b->batch, NFT_MSG_NEWSET, NLM_F_CREATE, "a set");
    nftnl_set_nlmsg_build_payload(h, s);
    batch_end(b->batch, h);
    nftnl_udata_buf_free(u);
    nftnl_set_free(s);
}

void set_flush(const struct build *b, const char *name)
{
    struct nlmsghdr *h = batch_begin(b->batch, NFT_MSG_DELSETELEM, 0, "the elements of a set");

    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, b->table);
    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, name);
    batch_end(b->batch, h);
}

void set_delete(const struct build *b, const char *name)
{
    struct nlmsghdr *h = batch_begin(b->batch, NFT_MSG_DELSET, 0, "a set");

    mnl_attr_put_strz(h, NFTA_SET_TABLE, b->table);
    mnl_attr_put_strz(h, NFTA_SET_NAME, name);
    batch_end(b->batch, h);
}

void sets_create(const struct build *b)
{
    for (uint32_t i = 0; i < ARRAY_LEN(kinds); i++)
        create(b, &kinds[i], i + 1);
}

void sets_create_counted(const struct build *b, const char *share, const char *all)
{
    const uint32_t type = CONCAT(TYPE_IFINDEX, TYPE_MARK);
    const struct set_kind counted[] = {
        {SET_OWN_LIMIT, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST},
        {share, type, 8, BYTEORDER_HOST, .flags = NFT_SET_EVAL, .size = COUNTED_MAX},
        {all, TYPE_MARK, 4, BYTEORDER_HOST, .flags = NFT_SET_EVAL, .size = COUNTED_MAX},
        {SET_FULL, type, 8, BYTEORDER_HOST, .flags = NFT_SET_EVAL | NFT_SET_TIMEOUT, .size = COUNTED_MAX},
        {SET_AT_LIMIT, type, 8, BYTEORDER_HOST, .flags = NFT_SET_EVAL | NFT_SET_TIMEOUT, .size = COUNTED_MAX},
    };

    for (uint32_t i = 0; i < ARRAY_LEN(counted); i++)
        create(b, &counted[i], FIRST_COUNTED + i);
}

void sets_create_lists(const struct build *b, int which)
{
    uint32_t first =
        1000 + (uint32_t)((size_t)which * ARRAY_LEN(list_kinds)); /* numbers of sets are of the transaction */

    for (uint32_t i = 0; i < ARRAY_LEN(list_kinds); i++)
        create(b, &list_kinds[i], first + i);
}

static struct nftnl_set_elem *element_of(const void *key, uint32_t len)
{
    struct nftnl_set_elem *e = nftnl_set_elem_alloc();

    if (!e)
        abort();
    nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, key, len);
    return e;
}

/* One element a message, so that an error names its container. Takes over e. */
static void change_set(const struct build *b, enum set_change change, const char *set, struct nftnl_set_elem *e)
{
    bool add = change == SET_ADD;
    struct nftnl_set *s = set_named(b, set);
    struct nlmsghdr *h;

    nftnl_set_elem_add(s, e);
    h = batch_begin(b->batch, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, add ? NLM_F_CREATE : 0, "a set element");
    nftnl_set_elems_nlmsg_build_payload(h, s);
    batch_end(b->batch, h);
    nftnl_set_free(s); /* frees the element too */
}

/* chain: of a verdict map, else NULL. */
static void element(const struct build *b, enum set_change change, const char *set, const void *key, uint32_t len,
                    const char *chain)
{
    struct nftnl_set_elem *e = element_of(key, len);

    if (chain && change == SET_ADD) {
        nftnl_set_elem_set_u32(e, NFTNL_SET_ELEM_VERDICT, (uint32_t)NFT_JUMP);
        nftnl_set_elem_set_str(e, NFTNL_SET_ELEM_CHAIN, chain);
    }
    change_set(b, change, set, e);
}

static void data_element(const struct build *b, enum set_change change, const char *map, const void *key,
                         uint32_t key_len, const void *data, uint32_t len)
{
    struct nftnl_set_elem *e = element_of(key, key_len);

    if (change == SET_ADD)
        nftnl_set_elem_set(e, NFTNL_SET_ELEM_DATA, data, len);
    change_set(b, change, map, e);
}

void set_add_uid(const struct build *b, uint32_t uid)
{
    element(b, SET_ADD, SET_PROXY_UIDS, &uid, sizeof(uid), NULL);
}

void set_container(const struct build *b, enum set_change change, const struct slot_net *n)
{
    char key[IFNAMSIZ + 16] = {0}; /* each part of a concatenation starts at a multiple of four */

    memcpy(key, n->ifname, IFNAMSIZ);
    memcpy(key + IFNAMSIZ, n->hw_container, sizeof(n->hw_container));
    element(b, change, SET_HARDWARE, key, IFNAMSIZ + 8, NULL);
    memset(key + IFNAMSIZ, 0, 16);
    memcpy(key + IFNAMSIZ, &n->addr4, sizeof(n->addr4));
    element(b, change, SET_ADDRESSES4, key, IFNAMSIZ + 4, NULL);
    memcpy(key + IFNAMSIZ, &n->addr6, sizeof(n->addr6));
    element(b, change, SET_ADDRESSES6, key, IFNAMSIZ + 16, NULL);
    memcpy(key + IFNAMSIZ, &n->link_local, sizeof(n->link_local));
    element(b, change, SET_ADDRESSES6, key, IFNAMSIZ + 16, NULL);
}

void set_lists(const struct build *b, enum set_change change, const struct slot_net *n, const char *ingress_chain,
               const char *egress_chain)
{
    element(b, change, MAP_TO_CONTAINER, n->ifname, IFNAMSIZ, ingress_chain);
    element(b, change, MAP_FROM_CONTAINER, n->ifname, IFNAMSIZ, egress_chain);
}

void set_kit_port(const struct build *b, enum set_change change, const struct slot_net *n, uint16_t port)
{
    const uint16_t big = htons(port);
    char key[IFNAMSIZ + 4] = {0};

    memcpy(key, n->ifname, IFNAMSIZ);
    memcpy(key + IFNAMSIZ, &big, sizeof(big));
    element(b, change, SET_KIT_PORTS, key, sizeof(key), NULL);
}

void set_ready(const struct build *b, enum set_change change, const struct slot_net *n)
{
    element(b, change, SET_READY, n->ifname, IFNAMSIZ, NULL);
}

void set_limited(const struct build *b, enum set_change change, const struct slot_net *n, const char *chain)
{
    element(b, change, MAP_LIMITED, n->ifname, IFNAMSIZ, chain);
}

void set_confined(const struct build *b, enum set_change change, const struct slot_net *n)
{
    element(b, change, SET_CONFINED, n->ifname, IFNAMSIZ, NULL);
}

void set_project(const struct build *b, enum set_change change, const struct slot_net *n, uint16_t group)
{
    const uint32_t mark = NF_MARK_OF_GROUP(group);
    char key[sizeof(mark) + IFNAMSIZ];

    data_element(b, change, MAP_PROJECT, n->ifname, IFNAMSIZ, &mark, sizeof(mark));
    memcpy(key, &mark, sizeof(mark));
    memcpy(key + sizeof(mark), n->ifname, IFNAMSIZ);
    element(b, change, SET_PEERS, key, sizeof(key), NULL);
}

void set_relayed(const struct build *b, enum set_change change, const struct slot_net *n)
{
    data_element(b, change, MAP_RELAY4, n->ifname, IFNAMSIZ, &n->relay_addr4, sizeof(n->relay_addr4));
    data_element(b, change, MAP_RELAY6, n->ifname, IFNAMSIZ, &n->relay_addr6, sizeof(n->relay_addr6));
}

void set_forward(const struct build *b, enum set_change change, const struct slot_net *n, const struct nf_forward *f)
{
    const uint16_t host_port = htons(f->host_port), port = htons(f->port);
    char key[8] = {0}, data4[8] = {0}, data6[20] = {0}; /* parts as in set_container */

    key[0] = (char)f->protocol;
    memcpy(key + 4, &host_port, sizeof(host_port));
    memcpy(data4, &n->addr4, sizeof(n->addr4));
    memcpy(data4 + sizeof(n->addr4), &port, sizeof(port));
    memcpy(data6, &n->addr6, sizeof(n->addr6));
    memcpy(data6 + sizeof(n->addr6), &port, sizeof(port));
    data_element(b, change, MAP_FORWARD4, key, sizeof(key), data4, sizeof(data4));
    data_element(b, change, MAP_FORWARD6, key, sizeof(key), data6, sizeof(data6));
}

void set_counted(const struct build *b, enum set_change change, const char *set, uint32_t index, uint32_t first,
                 uint32_t last)
{
    bool add = change == SET_ADD;

    while (first <= last) {
        uint32_t end = MIN(first + ELEMENTS_A_MESSAGE - 1, last);
        struct nftnl_set *s = set_named(b, set);
        struct nlmsghdr *h;

        for (; first <= end; first++)
            nftnl_set_elem_add(s, element_of((const uint32_t[]){index, first}, 8));
        h = batch_begin(b->batch, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, add ? NLM_F_CREATE : 0,
                        "elements of a set");
        nftnl_set_elems_nlmsg_build_payload(h, s);
        batch_end(b->batch, h);
        nftnl_set_free(s); /* frees the elements too */
    }
}

void set_own_limit(const struct build *b, enum set_change change, const struct slot_net *n)
{
    element(b, change, SET_OWN_LIMIT, n->ifname, IFNAMSIZ, NULL);
}

void set_proxy(const struct build *b, enum set_change change, const struct slot_net *n, uint32_t mark)
{
    element(b, change, SET_PROXIES, n->ifname, IFNAMSIZ, NULL);
    data_element(b, change, MAP_PROXY_MARKS, n->ifname, IFNAMSIZ, &mark, sizeof(mark));
}
