/* SPDX-License-Identifier: Apache-2.0 */
/* "pki init": what a node and its clients need to talk mTLS on a developer's machine, in one step. */
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "cli/certificate.h"
#include "cli/cli.h"

enum { HOSTS_MAX = 64 };
#define HOST_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.:*"

static const char *const files[] = {
    "ca.crt",       "ca.key",      "server.crt", "server.key", "control-plane.crt", "control-plane.key",
    "operator.crt", "operator.key"};

static struct err *collect_hosts(const struct cli *cli, const char *own, const char **ret)
{
    const char *const always[] = {"localhost", "127.0.0.1", "::1"};
    size_t n = 0;

    for (size_t i = 0; cli_nth(cli, "host", i); i++) {
        const char *host = cli_nth(cli, "host", i);

        if (!str_is_made_of(host, HOST_CHARACTERS, 253))
            return cli_usage("--host: '%s' is neither a name nor an address", host);
        if (n >= HOSTS_MAX)
            return cli_usage("--host: at most %d", HOSTS_MAX);
        ret[n++] = host;
    }
    if (str_is_made_of(own, HOST_CHARACTERS, 253))
        ret[n++] = own;
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        ret[n++] = always[i];
    ret[n] = NULL;
    return NULL;
}

static size_t count_present(const char *dir)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        autofree char *path = str_fmt("%s/%s", dir, files[i]);

        n += access(path, F_OK) == 0;
    }
    return n;
}

static struct err *make_all(const char *dir, const char *const *hosts, int days)
{
    const struct certificate_request ca_request = {CERTIFICATE_CA, "noded development CA", NULL, NULL, 3650};
    const struct {
        const char *file;
        struct certificate_request request;
    } leaves[] = {
        {"server", {CERTIFICATE_SERVER, hosts[0], NULL, hosts, days}},
        {"control-plane", {CERTIFICATE_CLIENT, "control-plane", "control-plane", NULL, days}},
        {"operator", {CERTIFICATE_CLIENT, "operator", "operator", NULL, days}},
    };
    auto_(certificate_free) struct certificate *ca = NULL;
    struct err *e = certificate_new(&ca_request, NULL, &ca);

    if (!e)
        e = certificate_write(ca, dir, "ca");
    for (size_t i = 0; !e && i < ARRAY_LEN(leaves); i++) {
        auto_(certificate_free) struct certificate *c = NULL;

        e = certificate_new(&leaves[i].request, ca, &c);
        if (!e)
            e = certificate_write(c, dir, leaves[i].file);
    }
    return e;
}

struct err *cmd_pki_init(struct cli *cli)
{
    const char *dir = cli_value(cli, "dir") ? cli_value(cli, "dir") : "/etc/noded/pki";
    const char *hosts[HOSTS_MAX + 8], *days_text = cli_value(cli, "days");
    char own[256] = "";
    int64_t days = 825;
    size_t present;
    struct err *e;

    if (days_text && (!str_to_i64(days_text, &days) || days < 1 || days > 3650))
        return cli_usage("--days: must be 1..3650");
    gethostname(own, sizeof(own) - 1);
    e = collect_hosts(cli, own, hosts);
    if (e)
        return e;
    present = count_present(dir);
    if (present == ARRAY_LEN(files) && !cli_has(cli, "force")) {
        printf("'%s' has all certificates already; --force makes new ones\n", dir);
        return NULL;
    }
    if (present && !cli_has(cli, "force"))
        return err_new(ERR_CONFLICT, "'%s' has some of the files: --force replaces them, or choose another --dir", dir);
    e = fd_mkdirs(dir, 0755);
    if (!e)
        e = make_all(dir, hosts, (int)days);
    if (!e && !cli->quiet)
        printf("'%s' has a CA and certificates for the server, control-plane and operator\n", dir);
    return e;
}
