/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/send_format.h"

#include "base/mem.h"

#define MAGIC "btrfs-stream" /* with its NUL */
enum { VERSION = 1, HEAD = 10, POLYNOMIAL = (int)0x82f63b78, SLICES = 8 };

static uint64_t little(const unsigned char *p, size_t len)
{
    uint64_t v = 0;

    for (size_t i = 0; i < len; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* Eight bytes a turn. */
uint32_t send_checksum(uint32_t crc, const unsigned char *p, size_t len)
{
    static uint32_t table[SLICES][256];

    if (!table[0][1]) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t v = i;

            for (int k = 0; k < 8; k++)
                v = v & 1 ? v >> 1 ^ (uint32_t)POLYNOMIAL : v >> 1;
            table[0][i] = v;
        }
        for (int s = 1; s < SLICES; s++)
            for (int i = 0; i < 256; i++)
                table[s][i] = table[s - 1][i] >> 8 ^ table[0][table[s - 1][i] & 255];
    }
    for (; len >= SLICES; len -= SLICES, p += SLICES) {
        uint32_t low = (uint32_t)little(p, 4) ^ crc;

        crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
              table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; len; len--, p++)
        crc = table[0][(crc ^ *p) & 255] ^ crc >> 8;
    return crc;
}

struct err *send_read_head(send_read_fn *read, void *owner)
{
    unsigned char head[sizeof(MAGIC) + 4];
    struct err *e = read(owner, head, sizeof(head));

    if (e)
        return e;
    if (memcmp(head, MAGIC, sizeof(MAGIC)) != 0)
        return err_new(ERR_INVALID, "this is no stream of a subvolume");
    if (little(head + sizeof(MAGIC), 4) != VERSION)
        return err_new(ERR_INVALID, "the stream is not of version %d", VERSION);
    return NULL;
}

static struct err *split(struct send_command *c, size_t len)
{
    memset(c->attribute, 0, sizeof(c->attribute));
    for (size_t at = 0; at < len;) {
        size_t kind, size;

        if (len - at < 4)
            return err_new(ERR_INVALID, "a command of the stream ends inside an attribute");
        kind = (size_t)little(c->data + at, 2);
        size = (size_t)little(c->data + at + 2, 2);
        at += 4;
        if (kind < 1 || kind >= SEND_ATTRIBUTE_MAX || size > len - at || c->attribute[kind].data)
            return err_new(ERR_INVALID, "a command of the stream has a wrong attribute");
        c->attribute[kind].data = c->data + at;
        c->attribute[kind].len = size;
        at += size;
    }
    return NULL;
}

struct err *send_read_command(send_read_fn *read, void *owner, struct send_command *c)
{
    unsigned char head[HEAD];
    struct err *e = read(owner, head, sizeof(head));
    uint32_t crc;
    size_t len;

    if (e)
        return e;
    len = (size_t)little(head, 4);
    c->kind = (int)little(head + 4, 2);
    crc = (uint32_t)little(head + 6, 4);
    if (len > SEND_COMMAND_MAX || c->kind < SEND_SUBVOL || c->kind >= SEND_KIND_MAX)
        return err_new(ERR_INVALID, "the stream has a command that is not known (%d, %zu bytes)", c->kind, len);
    e = read(owner, c->data, len);
    if (e)
        return e;
    memset(head + 6, 0, 4);
    if (send_checksum(send_checksum(0, head, sizeof(head)), c->data, len) != crc)
        return err_new(ERR_INVALID, "a command of the stream has a wrong checksum");
    return split(c, len);
}

static struct err *find(const struct send_command *c, enum send_attribute a, size_t min, size_t max)
{
    if (!c->attribute[a].data || c->attribute[a].len < min || c->attribute[a].len > max)
        return err_new(ERR_INVALID, "command %d of the stream lacks attribute %d", c->kind, (int)a);
    return NULL;
}

struct err *send_number(const struct send_command *c, enum send_attribute a, uint64_t *ret)
{
    struct err *e = find(c, a, 8, 8);

    if (!e)
        *ret = little(c->attribute[a].data, 8);
    return e;
}

struct err *send_text(const struct send_command *c, enum send_attribute a, char **ret)
{
    struct err *e = find(c, a, 0, SEND_TEXT_MAX);

    if (!e && memchr(c->attribute[a].data, 0, c->attribute[a].len))
        e = err_new(ERR_INVALID, "a path of the stream has a NUL");
    if (!e)
        *ret = strndup((const char *)c->attribute[a].data, c->attribute[a].len);
    return e;
}

struct err *send_uuid(const struct send_command *c, enum send_attribute a, unsigned char ret[SEND_UUID_SIZE])
{
    struct err *e = find(c, a, SEND_UUID_SIZE, SEND_UUID_SIZE);

    if (!e)
        memcpy(ret, c->attribute[a].data, SEND_UUID_SIZE);
    return e;
}

struct err *send_time(const struct send_command *c, enum send_attribute a, struct timespec *ret)
{
    struct err *e = find(c, a, 12, 12);

    if (e)
        return e;
    ret->tv_sec = (time_t)little(c->attribute[a].data, 8);
    ret->tv_nsec = (long)little(c->attribute[a].data + 8, 4);
    return ret->tv_nsec < 1000000000 ? NULL : err_new(ERR_INVALID, "a time of the stream is wrong");
}
