/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/str.h"
#include "provisioning/seed_internal.h"

#define LOCALE_MAX 65536
#define RANDOM_SEED_SIZE 256 /* what getrandom gives whole */

struct err *seed_text(int root, const char *path, const char *text)
{
    return confined_write(root, path, text, strlen(text), 0644, SEED_ROOT);
}

struct err *seed_tree(int root, UNUSED const struct seed *seed, UNUSED const char *pool)
{
    static const struct {
        const char *path;
        mode_t mode;
        struct confined_owner owner;
    } dirs[] = {
        {"/hoody", 0755, {0, 0}},
        {"/hoody/kits", 0755, {0, 0}},
        {"/hoody/storage", 0755, {1000, 1000}},
        {"/hoody/databases", 0755, {1000, 1000}},
        {"/hoody/mounts", 0755, {0, 0}},
        {"/hoody/shares", 0755, {0, 0}},
        {"/ramdisk", 0755, {0, 0}},
        {"/dev", 0755, {0, 0}},
        {"/proc", 0555, {0, 0}},
        {"/sys", 0555, {0, 0}},
        {"/run", 0755, {0, 0}},
    };

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        struct err *e = confined_mkdirs(root, dirs[i].path, dirs[i].mode, dirs[i].owner);

        if (e)
            return e;
    }
    return NULL;
}

/* What systemd and others stir into their random numbers at boot: each container has other bytes. */
static struct err *write_random_seed(int root)
{
    unsigned char bytes[RANDOM_SEED_SIZE];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return err_errno(errno, "getrandom");
    return confined_write(root, "/var/lib/systemd/random-seed", bytes, sizeof(bytes), 0600, SEED_ROOT);
}

/* The image of this node's recipe makes its keys itself, at the first connection. Most others make theirs when sshd is
 * installed and never again: without one it does not start. */
static struct err *write_host_key(int root, const struct seed *seed)
{
    static const char path[] = "/etc/ssh/ssh_host_ed25519_key", public[] = "/etc/ssh/ssh_host_ed25519_key.pub";
    struct err *e;

    if (!seed->host_key || !confined_exists(root, "/usr/sbin/sshd") ||
        confined_exists(root, "/etc/systemd/system/ssh-host-keys.service"))
        return NULL;
    e = confined_write(root, path, seed->host_key, strlen(seed->host_key), 0600, SEED_ROOT);
    return e || !seed->host_key_public ? e : seed_text(root, public, seed->host_key_public);
}

struct err *seed_identity(int root, const struct seed *seed, UNUSED const char *pool)
{
    autofree char *hostname = str_fmt("%s\n", seed->hostname);
    autofree char *machine_id = str_fmt("%s\n", seed->machine_id);
    autofree char *hosts = str_fmt("127.0.0.1 localhost\n"
                                   "127.0.1.1 %s\n"
                                   "::1 localhost ip6-localhost ip6-loopback\n",
                                   seed->hostname);
    autofree char *profile = str_fmt("export HOODY_CONTAINER_ID=%s\n", seed->container_id);
    /* Services: systemd gives its units nothing of its own environment. */
    autofree char *manager = str_fmt("[Manager]\nDefaultEnvironment=HOODY_CONTAINER_ID=%s\n", seed->container_id);
    /* By this a session can be told by its key, when a key is removed (runtime/container/sessions.h). */
    static const char sshd[] = "ExposeAuthInfo yes\n";
    const struct {
        const char *path, *text;
    } files[] = {
        {"/etc/hostname", hostname},
        {"/etc/machine-id", machine_id},
        {"/etc/hosts", hosts},
        {"/etc/profile.d/hoody-00-container.sh", profile},
        {"/etc/systemd/system.conf.d/90-hoody.conf", manager},
        {"/etc/ssh/sshd_config.d/60-hoody.conf", sshd},
    };
    struct err *e = NULL;

    for (size_t i = 0; !e && i < ARRAY_LEN(files); i++)
        e = seed_text(root, files[i].path, files[i].text);
    /* A copy must not answer with the keys of its source. */
    if (!e)
        e = confined_remove_prefix(root, "/etc/ssh", "ssh_host_");
    if (!e)
        e = write_host_key(root, seed);
    if (!e)
        e = confined_remove(root, "/var/lib/dbus/machine-id");
    return e ? e : write_random_seed(root);
}

static bool is_file(int root, const char *path)
{
    autofree char *text = NULL;
    autoerr e = confined_read(root, path, LOCALE_MAX, &text, NULL);

    return !e || e->code != ERR_NOT_FOUND;
}

/* For an image that says nothing of it: services have it from systemd, sessions from here. Debian 13 comes with the
 * link and without the file. The time zone is UTC where nothing else is set. */
struct err *seed_locale(int root, UNUSED const struct seed *seed, UNUSED const char *pool)
{
    struct err *e;

    if (is_file(root, "/etc/locale.conf") || is_file(root, "/etc/default/locale"))
        return NULL;
    e = seed_text(root, "/etc/locale.conf", "LANG=C.UTF-8\n");
    return e ? e : confined_symlink(root, "/etc/default/locale", "../locale.conf");
}

static struct err *write_resolv_conf(int root, const json_t *dns)
{
    char *text = NULL;
    size_t size = 0, i;
    FILE *out = open_memstream(&text, &size);
    const json_t *server;
    struct err *e;

    if (!out)
        abort();
    json_array_foreach(dns, i, server)
    {
        const char *address = json_string_value(server);

        if (address && str_is_made_of(address, "0123456789abcdefABCDEF.:", 45))
            fprintf(out, "nameserver %s\n", address);
    }
    fprintf(out, "options edns0\n");
    if (fclose(out) != 0)
        abort();
    e = seed_text(root, "/etc/resolv.conf", text);
    free(text);
    return e;
}

/* For who turns systemd-networkd on: it must not take away what the node has set. */
static struct err *write_network_unit(int root, const struct seed *seed)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct err *e;

    if (!out)
        abort();
    fprintf(out, "[Match]\nName=eth0\n\n[Network]\nDHCP=no\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6\n"
                 "KeepConfiguration=yes\n");
    if (seed->ipv4)
        fprintf(out, "Address=%s/32\n", seed->ipv4);
    if (seed->ipv6)
        fprintf(out, "Address=%s/128\n", seed->ipv6);
    if (seed->gateway4)
        fprintf(out, "\n[Route]\nGateway=%s\nGatewayOnLink=yes\n", seed->gateway4);
    if (seed->gateway6)
        fprintf(out, "\n[Route]\nGateway=%s\nGatewayOnLink=yes\n", seed->gateway6);
    if (fclose(out) != 0)
        abort();
    e = seed_text(root, "/etc/systemd/network/10-eth0.network", text);
    free(text);
    return e;
}

struct err *seed_network(int root, const struct seed *seed, UNUSED const char *pool)
{
    struct err *e = write_resolv_conf(root, seed->dns);

    if (!e)
        e = write_network_unit(root, seed);
    return e ? e : seed_foreign_network(root);
}

struct err *seed_environment(int root, const struct seed *seed, UNUSED const char *pool)
{
    return env_write(root, seed->container_id, seed->environment);
}
