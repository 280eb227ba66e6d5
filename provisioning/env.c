/* SPDX-License-Identifier: Apache-2.0 */
#include "provisioning/env.h"

#include <stdio.h>

#include "base/str.h"
#include "provisioning/confined.h"

#define BEGIN_MARK "# begin: set through the platform, do not edit"
#define END_MARK "# end: set through the platform"
#define ID_KEY "HOODY_CONTAINER_ID="
#define OLD_MAX ((size_t)2 * 1024 * 1024) /* more than 256 variables of the largest size */
#define PAM_FILE "/etc/environment"
#define PROFILE_FILE "/etc/profile.d/hoody-20-environment.sh"
#define MANAGER_FILE "/etc/systemd/system.conf.d/91-hoody-environment.conf"
#define UNITS_FILE "/etc/systemd/hoody-environment"
#define HEAD "# Set through the platform; written anew with every change.\n"
#define ROOT_OWNED ((struct confined_owner){0, 0})

bool env_is_key(const char *key)
{
    return str_is_made_of(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_", 128) &&
           (key[0] < '0' || key[0] > '9');
}

/* pam_env reads KEY="value" line by line: it takes off one pair of quotes, ends the line at any '#', knows no escapes.
 */
static bool pam_can_hold(const char *value)
{
    return !strpbrk(value, "#\n\r") && str_is_text(value) && strlen(value) <= 4096;
}

/* The lines of `old` that are not ours. */
static void keep_foreign_lines(FILE *out, const char *old, bool drop_id)
{
    bool ours = false;

    while (*old) {
        size_t len = strcspn(old, "\n");

        if (len == strlen(BEGIN_MARK) && strncmp(old, BEGIN_MARK, len) == 0)
            ours = true;
        else if (len == strlen(END_MARK) && strncmp(old, END_MARK, len) == 0)
            ours = false;
        else if (!ours && !(drop_id && strncmp(old, ID_KEY, strlen(ID_KEY)) == 0))
            fprintf(out, "%.*s\n", (int)len, old);
        old += len + (old[len] == '\n');
    }
}

char *env_render_pam(const char *old, const char *container_id, const json_t *environment)
{
    const char *key;
    const json_t *value;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        abort();
    keep_foreign_lines(out, old ? old : "", container_id != NULL);
    if (container_id)
        fprintf(out, ID_KEY "%s\n", container_id);
    fprintf(out, BEGIN_MARK "\n");
    json_object_foreach((json_t *)(uintptr_t)environment, key, value)
    {
        const char *text_value = json_string_value(value);

        if (!env_is_key(key) || !text_value)
            continue;
        if (pam_can_hold(text_value))
            fprintf(out, "%s=\"%s\"\n", key, text_value);
        else
            fprintf(out, "# %s cannot be written here: " PROFILE_FILE "\n", key);
    }
    fprintf(out, END_MARK "\n");
    if (fclose(out) != 0)
        abort();
    return text;
}

/* A line of a reader: before, the key, open, the value as `put` writes each of its bytes, close. */
struct syntax {
    const char *before, *open, *close;
    void (*put)(FILE *out, char c);
};

static void write_lines(FILE *out, const struct syntax *s, const json_t *environment)
{
    const char *key;
    const json_t *value;

    json_object_foreach((json_t *)(uintptr_t)environment, key, value)
    {
        const char *p = json_string_value(value);

        if (!env_is_key(key) || !p || !str_is_text(p))
            continue;
        fprintf(out, "%s%s%s", s->before, key, s->open);
        for (; *p; p++)
            s->put(out, *p);
        fputs(s->close, out);
    }
}

static char *render(const char *head, const struct syntax *s, const json_t *environment)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        abort();
    fputs(head, out);
    write_lines(out, s, environment);
    if (fclose(out) != 0)
        abort();
    return text;
}

/* Between single quotes of a shell. */
static void put_shell(FILE *out, char c)
{
    if (c == '\'')
        fputs("'\\''", out);
    else
        fputc(c, out);
}

/* Between double quotes of a setting of systemd: escapes as in C, and '%' begins a specifier. */
static void put_setting(FILE *out, char c)
{
    static const char plain[] = "\n\r\t\"\\%", *const escaped[] = {"\\n", "\\r", "\\t", "\\\"", "\\\\", "%%"};
    const char *at = strchr(plain, c);

    if (at)
        fputs(escaped[at - plain], out);
    else
        fputc(c, out);
}

/* Between double quotes of an EnvironmentFile. */
static void put_unit(FILE *out, char c)
{
    if (strchr("\"\\`$", c))
        fputc('\\', out);
    fputc(c, out);
}

char *env_render_profile(const json_t *environment)
{
    return render(HEAD, &(struct syntax){"export ", "='", "'\n", put_shell}, environment);
}

void env_write_settings(FILE *out, const char *setting, const json_t *environment)
{
    autofree char *before = str_fmt("%s=\"", setting);

    write_lines(out, &(struct syntax){before, "=", "\"\n", put_setting}, environment);
}

char *env_render_manager(const json_t *environment)
{
    return render(HEAD "[Manager]\n", &(struct syntax){"DefaultEnvironment=\"", "=", "\"\n", put_setting}, environment);
}

char *env_render_units(const json_t *environment)
{
    return render(HEAD, &(struct syntax){"", "=\"", "\"\n", put_unit}, environment);
}

/* Absent or no file at all: NULL, it is written as if it had been empty. */
static struct err *read_old(int root, char **ret)
{
    struct err *e = confined_read(root, PAM_FILE, OLD_MAX, ret, NULL);
    const char *begin = e ? NULL : strstr(*ret, BEGIN_MARK);

    if (e && e->code == ERR_TOO_LARGE)
        return err_reason(e, "ENV_HOST_CONFIG_TOO_LARGE");
    if (e && e->code == ERR_NOT_FOUND) {
        err_free(e);
        return NULL;
    }
    /* Whatever follows would be lost. */
    if (begin && !strstr(begin, END_MARK))
        e = err_reason(err_new(ERR_HOST, "our part of " PAM_FILE " has lost its last line"), "ENV_BLOCK_MALFORMED");
    return e;
}

static struct err *write_text(int root, const char *path, const char *text)
{
    return confined_write(root, path, text, strlen(text), 0644, ROOT_OWNED);
}

/* Those that are ours alone. */
static const struct {
    const char *path;
    char *(*render)(const json_t *environment);
} files[] = {
    {PROFILE_FILE, env_render_profile},
    {MANAGER_FILE, env_render_manager},
    {UNITS_FILE, env_render_units},
};

struct err *env_write(int rootfs_fd, const char *container_id, const json_t *environment)
{
    autofree char *old = NULL, *pam = NULL;
    struct err *e = read_old(rootfs_fd, &old);

    if (e)
        return e;
    pam = env_render_pam(old, container_id, environment);
    e = write_text(rootfs_fd, PAM_FILE, pam);
    for (size_t i = 0; !e && i < ARRAY_LEN(files); i++) {
        autofree char *text = files[i].render(environment);

        e = write_text(rootfs_fd, files[i].path, text);
    }
    return e;
}

/* part: the file may have more around it. */
static struct err *verify_file(int root, const char *path, const char *wanted, bool part)
{
    autofree char *text = NULL;
    struct err *e = confined_read_unmounted(root, path, OLD_MAX, &text, NULL);

    if (!e && (part ? strstr(text, wanted) != NULL : strcmp(text, wanted) == 0))
        return NULL;
    if (!e)
        e = err_new(ERR_HOST, "%s does not say inside the container what was written", path);
    return err_reason(err_recode(e, ERR_HOST), "ENV_DEST_UNSUPPORTED");
}

struct err *env_verify(int root_fd, const json_t *environment)
{
    autofree char *pam = env_render_pam(NULL, NULL, environment);
    struct err *e = verify_file(root_fd, PAM_FILE, pam, true);

    for (size_t i = 0; !e && i < ARRAY_LEN(files); i++) {
        autofree char *text = files[i].render(environment);

        e = verify_file(root_fd, files[i].path, text, false);
    }
    return e;
}
