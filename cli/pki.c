/* SPDX-License-Identifier: Apache-2.0 */
/* "pki init" and "pki node": what nodes and their clients need to talk mTLS on a developer's machine, in one step. */
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

static struct err *get_days(const struct cli *cli, int *ret)
{
    const char *text = cli_value(cli, "days");
    int64_t days = 825;

    if (text && (!str_to_i64(text, &days) || days < 1 || days > 3650))
        return cli_usage("--days: must be 1..3650");
    *ret = (int)days;
    return NULL;
}

static const char *directory(const struct cli *cli)
{
    return cli_value(cli, "dir") ? cli_value(cli, "dir") : "/etc/noded/pki";
}

struct err *cmd_pki_init(struct cli *cli)
{
    const char *dir = directory(cli);
    const char *hosts[HOSTS_MAX + 8];
    char own[256] = "";
    size_t present;
    int days = 0;
    struct err *e = get_days(cli, &days);

    if (e)
        return e;
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
        e = make_all(dir, hosts, days);
    if (!e && !cli->quiet)
        printf("'%s' has a CA and certificates for the server, control-plane and operator\n", dir);
    return e;
}

static struct err *make_node(const struct certificate *ca, const char *out, const char *id, const char *const *hosts,
                             int days)
{
    const struct certificate_request server = {CERTIFICATE_SERVER, hosts[0], NULL, hosts, days};
    const struct certificate_request node = {CERTIFICATE_CLIENT, id, "node", NULL, days};
    auto_(certificate_free) struct certificate *as_server = NULL, *as_node = NULL;
    struct err *e = certificate_new(&server, ca, &as_server);

    if (!e)
        e = certificate_new(&node, ca, &as_node);
    if (!e)
        e = fd_mkdirs(out, 0755);
    if (!e)
        e = certificate_write(as_server, out, "server");
    if (!e)
        e = certificate_write(as_node, out, "node");
    return e;
}

struct err *cmd_pki_node(struct cli *cli)
{
    const char *dir = directory(cli), *id = cli_arg(cli, 0), *out = cli_value(cli, "out");
    auto_(certificate_free) struct certificate *ca = NULL;
    autofree char *from = str_fmt("%s/ca.crt", dir), *text = NULL, *to = NULL;
    const char *hosts[HOSTS_MAX + 8];
    int days = 0;
    struct err *e = get_days(cli, &days);

    if (!e && !str_is_object_id(id))
        e = cli_usage("the id of a server is 24 lower case hex digits ('nodectl node' shows it)");
    if (!e && !out)
        e = cli_usage("--out is needed: where to write the certificates");
    if (!e)
        e = collect_hosts(cli, "", hosts);
    if (!e)
        e = certificate_read(dir, "ca", &ca);
    if (!e)
        e = make_node(ca, out, id, hosts, days);
    if (!e)
        e = fd_read_file(from, 1 << 20, &text, NULL);
    to = str_fmt("%s/ca.crt", out);
    if (!e && !str_eq(dir, out))
        e = fd_replace_file(to, text, strlen(text), 0644);
    if (!e && !cli->quiet)
        printf("'%s' has certificates for the node %s: to serve, and to talk with other nodes\n", out, id);
    return e;
}
