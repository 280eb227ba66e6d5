/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of others ask for an address by DHCP: nobody answers, and the client takes away what the node has set. Their
 * configuration is changed where it speaks of eth0, as little as possible.
 */
#include <stdio.h>

#include "base/str.h"
#include "provisioning/seed_internal.h"

#define CONFIGURATION_MAX 262144
#define DHCPCD_LINE "denyinterfaces eth0"

/* "iface eth0 inet dhcp" (interfaces(5)): the place and the length of the method; NULL: another line. */
static const char *method_of(const char *line, size_t len, size_t *ret_len)
{
    static const char *const words[] = {"iface", "eth0", NULL};
    const char *p = line, *end = line + len;

    for (size_t i = 0; i < 4; i++) {
        size_t n;

        while (p < end && (*p == ' ' || *p == '\t'))
            p++;
        for (n = 0; p + n < end && p[n] != ' ' && p[n] != '\t';)
            n++;
        if (i == 3) {
            *ret_len = n;
            return n ? p : NULL;
        }
        if (i < 2 ? strlen(words[i]) != n || strncmp(p, words[i], n) != 0 : n < 4 || strncmp(p, "inet", 4) != 0)
            return NULL;
        p += n;
    }
    return NULL;
}

/* eth0 is there and has its addresses: "manual" leaves it alone. */
static char *without_dhcp(const char *text)
{
    char *made = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&made, &size);

    if (!out)
        abort();
    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n"), word = 0;
        const char *method = method_of(line, len, &word);

        if (method)
            fprintf(out, "%.*smanual%.*s", (int)(method - line), line, (int)(line + len - method - (long)word),
                    method + word);
        else
            fwrite(line, len, 1, out);
        line += len;
        if (*line) {
            fputc('\n', out);
            line++;
        }
    }
    if (fclose(out) != 0)
        abort();
    return made;
}

static struct err *read_it(int root, const char *path, char **ret)
{
    struct err *e = confined_read(root, path, CONFIGURATION_MAX, ret, NULL);

    if (e && e->code == ERR_NOT_FOUND) {
        err_free(e);
        e = NULL;
    }
    return e;
}

static struct err *quiet_ifupdown(int root, const char *path)
{
    autofree char *old = NULL, *text = NULL;
    struct err *e = read_it(root, path, &old);

    if (e || !old)
        return e;
    text = without_dhcp(old);
    return str_eq(text, old) ? NULL : seed_text(root, path, text);
}

static struct err *quiet_dhcpcd(int root)
{
    autofree char *old = NULL, *text = NULL;
    struct err *e = read_it(root, "/etc/dhcpcd.conf", &old);

    if (e || !old || strstr(old, DHCPCD_LINE))
        return e;
    text = str_fmt("%s%s" DHCPCD_LINE "\n", old, *old && old[strlen(old) - 1] != '\n' ? "\n" : "");
    return seed_text(root, "/etc/dhcpcd.conf", text);
}

struct err *seed_foreign_network(int root)
{
    struct err *e = quiet_ifupdown(root, "/etc/network/interfaces");

    if (!e)
        e = quiet_ifupdown(root, "/etc/network/interfaces.d/eth0");
    return e ? e : quiet_dhcpcd(root);
}
