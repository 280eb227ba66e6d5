/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account `user` (uid 1000). An image of ours has it; any other gets it here, by one line in passwd, group, shadow.
 * An account that has the name already stays as it is.
 */
#include <stdio.h>

#include "base/str.h"
#include "provisioning/seed_internal.h"

#define FILE_MAX_BYTES (1024 * 1024)
#define KEY_MARK " # noded"

static bool has_account(const char *text, const char *name)
{
    size_t len = strlen(name);

    while (text && *text) {
        if (strncmp(text, name, len) == 0 && text[len] == ':')
            return true;
        text = strchr(text, '\n');
        if (text)
            text++;
    }
    return false;
}

/* Appends a line to a file of accounts; creates the file with this mode when there is none. */
static struct err *add_account(int root, const char *path, const char *line, mode_t mode, struct confined_owner owner)
{
    autofree char *old = NULL, *text = NULL;
    size_t len = 0;
    struct err *e = confined_read(root, path, FILE_MAX_BYTES, &old, &len);

    if (e && e->code == ERR_NOT_FOUND) {
        err_free(e);
        e = NULL;
    }
    if (e || has_account(old, "user"))
        return e;
    text = str_fmt("%s%s%s\n", old ? old : "", len && old[len - 1] != '\n' ? "\n" : "", line);
    return confined_write(root, path, text, strlen(text), mode, owner);
}

/* Puts `user` into group sudo: ":...:" -> member list of the line "sudo:x:27:a,b". */
static struct err *join_sudo(int root)
{
    autofree char *old = NULL, *text = NULL;
    char *line, *end;
    struct err *e = confined_read(root, "/etc/group", FILE_MAX_BYTES, &old, NULL);
    bool empty;

    if (e && e->code == ERR_NOT_FOUND) {
        err_free(e);
        return NULL;
    }
    if (e)
        return e;
    line = strncmp(old, "sudo:", 5) == 0 ? old : strstr(old, "\nsudo:");
    if (!line)
        return NULL;
    line += *line == '\n';
    end = line + strcspn(line, "\n");
    for (const char *p = line; p + 4 <= end; p++)
        if (strncmp(p, "user", 4) == 0 && p > line && (p[-1] == ':' || p[-1] == ',') && (p + 4 == end || p[4] == ','))
            return NULL;
    empty = end > line && end[-1] == ':';
    text = str_fmt("%.*s%suser%s", (int)(end - old), old, empty ? "" : ",", end);
    return confined_write(root, "/etc/group", text, strlen(text), 0644, SEED_ROOT);
}

static struct err *write_key(int root, const char *home, struct confined_owner owner, const char *key)
{
    autofree char *dir = str_fmt("%s/.ssh", home);
    autofree char *path = str_fmt("%s/authorized_keys", dir);
    autofree char *old = NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *out;
    struct err *e = confined_read(root, path, FILE_MAX_BYTES, &old, NULL);

    if (e && e->code != ERR_NOT_FOUND && e->code != ERR_TOO_LARGE)
        return e;
    err_ignore(e);
    if (!old && !key)
        return NULL;
    out = open_memstream(&text, &size);
    if (!out)
        abort();
    /* The line we wrote before goes, lines of the container's owner stay. */
    for (const char *p = old ? old : ""; *p;) {
        size_t len = strcspn(p, "\n"), mark = strlen(KEY_MARK);

        if (len && !(len >= mark && strncmp(p + len - mark, KEY_MARK, mark) == 0))
            fprintf(out, "%.*s\n", (int)len, p);
        p += len + (p[len] == '\n');
    }
    if (key)
        fprintf(out, "%s%s\n", key, KEY_MARK);
    if (fclose(out) != 0)
        abort();
    e = confined_mkdirs(root, dir, 0700, owner);
    if (!e)
        e = confined_write(root, path, text, strlen(text), 0600, owner);
    free(text);
    return e;
}

struct err *seed_ssh_key(int root, const char *ssh_public_key)
{
    struct err *e = write_key(root, "/root", SEED_ROOT, ssh_public_key);

    return e ? e : write_key(root, "/home/user", SEED_USER, ssh_public_key);
}

struct err *seed_accounts(int root, const struct seed *seed, UNUSED const char *pool)
{
    /* By number too: where the image has an account of that number, sudo knows it by that one's name. */
    static const char sudoers[] = "user ALL=(ALL) NOPASSWD: ALL\n#1000 ALL=(ALL) NOPASSWD: ALL\n";
    const struct confined_owner shadow = {0, 42};
    bool bash = confined_exists(root, "/bin/bash") || confined_exists(root, "/usr/bin/bash");
    autofree char *account = str_fmt("user:x:1000:1000::/home/user:/bin/%s", bash ? "bash" : "sh");
    struct err *e = add_account(root, "/etc/passwd", account, 0644, SEED_ROOT);

    if (!e)
        e = add_account(root, "/etc/group", "user:x:1000:", 0644, SEED_ROOT);
    if (!e)
        e = add_account(root, "/etc/shadow", "user:!:19000:0:99999:7:::", 0640, shadow);
    if (!e)
        e = join_sudo(root);
    if (!e)
        e = confined_mkdirs(root, "/home", 0755, SEED_ROOT);
    if (!e)
        e = confined_mkdirs(root, "/home/user", 0755, SEED_USER);
    if (!e)
        e = confined_mkdirs(root, "/etc/sudoers.d", 0750, SEED_ROOT);
    if (!e)
        e = confined_write(root, "/etc/sudoers.d/user", sudoers, strlen(sudoers), 0440, SEED_ROOT);
    if (!e)
        e = seed_ssh_key(root, seed->ssh_public_key);
    return e;
}
