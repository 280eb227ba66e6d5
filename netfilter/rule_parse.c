/* SPDX-License-Identifier: Apache-2.0 */
#include "netfilter/rule_parse.h"

#include <arpa/inet.h>
#include <inttypes.h>

#include "base/str.h"

/* Decimal digits only, without a sign or blanks. */
static bool to_number(const char *s, uint32_t max, uint32_t *ret)
{
    int64_t v;

    if (strlen(s) > 5 || strspn(s, "0123456789") != strlen(s) || !str_to_i64(s, &v) || v > max)
        return false;
    *ret = (uint32_t)v;
    return true;
}

static int by_first(const void *a, const void *b)
{
    const struct rule_range *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

/* Sorts, then joins what overlaps or touches. Returns the new count. */
static size_t merge(struct rule_range *r, size_t count)
{
    size_t kept = 0;

    qsort(r, count, sizeof(*r), by_first);
    for (size_t i = 1; i < count; i++) {
        if ((uint64_t)r[i].first <= (uint64_t)r[kept].last + 1)
            r[kept].last = MAX(r[kept].last, r[i].last);
        else
            r[++kept] = r[i];
    }
    return count ? kept + 1 : 0;
}

static bool parse_network(char *item, struct rule_range *ret, char normal[32])
{
    char *slash = strchr(item, '/'), shown[INET_ADDRSTRLEN];
    uint32_t length = 32, mask;
    struct in_addr a;

    if (slash) {
        *slash = '\0';
        if (!to_number(slash + 1, 32, &length))
            return false;
    }
    if (inet_pton(AF_INET, item, &a) != 1)
        return false;
    mask = length ? UINT32_MAX << (32 - length) : 0;
    ret->first = ntohl(a.s_addr) & mask;
    ret->last = ret->first | ~mask;
    a.s_addr = htonl(ret->first);
    inet_ntop(AF_INET, &a, shown, sizeof(shown));
    if (slash)
        snprintf(normal, 32, "%s/%u", shown, length);
    else
        snprintf(normal, 32, "%s", shown);
    return true;
}

static bool parse_ports(char *item, struct rule_range *ret, char normal[32])
{
    char *dash = strchr(item, '-');

    if (dash)
        *dash = '\0';
    if (!to_number(item, 65535, &ret->first) || ret->first == 0)
        return false;
    ret->last = ret->first;
    if (dash && (!to_number(dash + 1, 65535, &ret->last) || ret->last < ret->first))
        return false;
    if (dash)
        snprintf(normal, 32, "%u-%u", ret->first, ret->last);
    else
        snprintf(normal, 32, "%u", ret->first);
    return true;
}

typedef bool parse_item_fn(char *item, struct rule_range *ret, char normal[32]);

/* Comma separated items; blanks around them, and around the dash or slash inside, do not count. */
static struct err *parse_list(const char *field, const char *rule, parse_item_fn *parse, char **text,
                              struct rule_range **ret, size_t *ret_count)
{
    autofree char *work = str_dup(*text), *normal = str_dup("");
    autofree struct rule_range *list = NULL;
    size_t count = 0;
    char *next, *out = work;

    for (const char *in = work; *in; in++)
        if (*in != ' ')
            *out++ = *in;
    *out = '\0';
    for (char *item = work; item; item = next) {
        char one[32], *longer;

        next = strchr(item, ',');
        if (next)
            *next++ = '\0';
        list = mem_grow(list, count + 1, sizeof(*list));
        if (!parse(item, &list[count], one))
            return err_field(field, "%s", rule);
        count++;
        longer = str_fmt("%s%s%s", normal, *normal ? "," : "", one);
        free(normal);
        normal = longer;
    }
    str_set(text, normal);
    *ret_count = merge(list, count);
    *ret = steal(&list);
    return NULL;
}

struct err *rule_parse_networks(const char *field, char **text, struct rule_range **ret, size_t *ret_count)
{
    struct rule_range *list = NULL;
    size_t count = 0;
    struct err *e = parse_list(field, "must be IPv4 addresses or networks such as 192.0.2.0/24, separated by commas",
                               parse_network, text, &list, &count);

    if (e)
        return e;
    if (count == 1 && list[0].first == 0 && list[0].last == UINT32_MAX) {
        free(steal(&list));
        count = 0;
    }
    *ret = list;
    *ret_count = count;
    return NULL;
}

struct err *rule_parse_ports(const char *field, char **text, struct rule_range **ret, size_t *ret_count)
{
    struct rule_range *list = NULL;
    size_t count = 0;
    struct err *e = parse_list(field, "must be ports such as 80, 80-90 or 80,443", parse_ports, text, &list, &count);

    if (e)
        return e;
    if (count == 1 && list[0].first == 1 && list[0].last == 65535) {
        free(steal(&list));
        count = 0;
    }
    *ret = list;
    *ret_count = count;
    return NULL;
}

struct err *rule_parse_icmp(const char *field, char **text, int *ret)
{
    uint32_t v;

    if (str_empty(*text) || !to_number(*text, 255, &v))
        return err_field(field, "must be a number 0..255");
    free(*text);
    *text = str_fmt("%u", v);
    *ret = (int)v;
    return NULL;
}
