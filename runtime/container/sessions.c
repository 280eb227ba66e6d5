/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/container/sessions.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "provisioning/live.h"

#define TITLE_MAX 4096
#define CHILDREN_MAX 65536
#define ENVIRON_MAX ((size_t)2 * 1024 * 1024)
#define INFO_MAX 65536
#define INFO_VARIABLE "SSH_USER_AUTH="

bool sessions_is_title(const char *title)
{
    static const char *const programs[] = {"sshd: ", "sshd-session: "};

    for (size_t i = 0; i < ARRAY_LEN(programs); i++)
        if (strncmp(title, programs[i], strlen(programs[i])) == 0)
            return strchr(title, '@') && !strstr(title, "[listener]");
    return false;
}

/* "TYPE BASE64" of an authorized_keys line without options. */
static size_t key_length(const char *line)
{
    size_t type = strcspn(line, " ");

    return line[type] ? type + 1 + strcspn(line + type + 1, " \n") : type;
}

bool sessions_names_key(const char *info, const char *line)
{
    size_t len = key_length(line);

    for (const char *p = info; (p = strstr(p, "publickey ")); p++) {
        const char *key = p + strlen("publickey ");

        if (strncmp(key, line, len) == 0 && (key[len] == '\n' || key[len] == ' ' || !key[len]))
            return true;
    }
    return false;
}

/* NULL when there is none, or too much. */
static char *read_proc(pid_t pid, const char *file, size_t max, size_t *ret_len)
{
    autofree char *path = str_fmt("/proc/%d/%s", (int)pid, file);
    char *text = NULL;

    err_ignore(fd_read_file(path, max, &text, ret_len));
    return text;
}

static char *info_of_process(pid_t pid, const struct live *live)
{
    size_t len = 0;
    autofree char *variables = read_proc(pid, "environ", ENVIRON_MAX, &len);
    char *info = NULL;

    for (const char *p = variables; p && p < variables + len; p += strlen(p) + 1)
        if (strncmp(p, INFO_VARIABLE, strlen(INFO_VARIABLE)) == 0)
            err_ignore(live_read(live, p + strlen(INFO_VARIABLE), INFO_MAX, &info));
    return info;
}

/* What sshd wrote about the authentication of a session; NULL when nobody of it can tell. */
static char *info_of_session(pid_t pid, const struct live *live)
{
    autofree char *file = str_fmt("task/%d/children", (int)pid);
    autofree char *children = read_proc(pid, file, CHILDREN_MAX, NULL);
    char *word, *rest = children, *info = NULL;

    while (!info && (word = strsep(&rest, " ")))
        if (*word)
            info = info_of_process((pid_t)strtol(word, NULL, 10), live);
    return info;
}

static bool is_removed(pid_t pid, const struct live *live, const json_t *removed)
{
    autofree char *info = info_of_session(pid, live);
    const json_t *line;
    size_t i;

    if (!info)
        return true;
    json_array_foreach((json_t *)(uintptr_t)removed, i, line)
    {
        if (json_is_string(line) && sessions_names_key(info, json_string_value(line)))
            return true;
    }
    return false;
}

static bool same_namespace(pid_t pid, const struct stat *wanted)
{
    autofree char *path = str_fmt("/proc/%d/ns/pid", (int)pid);
    struct stat st;

    return stat(path, &st) == 0 && st.st_ino == wanted->st_ino && st.st_dev == wanted->st_dev;
}

/* The pidfd is opened first: what is looked at is what is ended. */
static bool end_if_removed(pid_t pid, const struct stat *namespace, const struct live *live, const json_t *removed)
{
    autofd int pidfd = pidfd_open(pid, 0);
    autofree char *title = NULL;

    if (pidfd < 0 || !same_namespace(pid, namespace))
        return false;
    title = read_proc(pid, "cmdline", TITLE_MAX, NULL);
    return title && sessions_is_title(title) && is_removed(pid, live, removed) &&
           pidfd_send_signal(pidfd, SIGKILL, NULL, 0) == 0;
}

struct err *sessions_end(const struct live *live, const json_t *removed, int *ret_count)
{
    autofree char *path = str_fmt("/proc/%d/ns/pid", (int)live->init);
    const struct dirent *entry;
    struct stat namespace;
    DIR *proc;

    if (stat(path, &namespace) < 0)
        return err_recode(err_errno(errno, "'%s'", path), errno == ENOENT ? ERR_WRONG_STATE : ERR_HOST);
    proc = opendir("/proc");
    if (!proc)
        return err_errno(errno, "/proc");
    while ((entry = readdir(proc))) {
        int64_t pid;

        if (str_to_i64(entry->d_name, &pid) && pid > 0 && end_if_removed((pid_t)pid, &namespace, live, removed))
            (*ret_count)++;
    }
    closedir(proc);
    return NULL;
}
