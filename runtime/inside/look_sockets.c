/* SPDX-License-Identifier: Apache-2.0 */
/* proc(5): /proc/net/{tcp,tcp6,udp,udp6} name the sockets, /proc/PID/fd who holds them. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json_table.h"
#include "base/str.h"
#include "runtime/inside/look.h"

enum { SOCKETS_MAX = 256, LINES_MAX = 20000, PROCESSES_MAX = 4096, FDS_MAX = 1024, PASSWD_MAX = 262144 };
enum { ARGS_MAX = 32, ARGS_BYTES = 4096, TEXT_MAX = 256 };

struct seen {
    const char *protocol;
    char ip[INET6_ADDRSTRLEN];
    unsigned port, uid;
    unsigned long inode;
    int pid; /* 0: nobody was found */
};

struct table {
    struct seen seen[SOCKETS_MAX];
    size_t count;
};

/* Hex digits of 32 bit words in the byte order of the host. */
static bool parse_address(const char *hex, bool v6, char ret[INET6_ADDRSTRLEN])
{
    uint32_t words[4] = {0};

    for (int i = 0; i < (v6 ? 4 : 1); i++)
        if (sscanf(hex + 8 * i, "%8x", &words[i]) != 1)
            return false;
    return inet_ntop(v6 ? AF_INET6 : AF_INET, words, ret, INET6_ADDRSTRLEN) != NULL;
}

/* A socket that waits: state "listen" for tcp, without a peer for udp. */
static bool parse_line(const char *line, bool v6, bool udp, struct seen *s)
{
    char local[33], remote[33];
    unsigned port, remote_port, state;

    if (sscanf(line, " %*d: %32[0-9A-F]:%x %32[0-9A-F]:%x %x %*x:%*x %*x:%*x %*x %u %*d %lu", local, &port, remote,
               &remote_port, &state, &s->uid, &s->inode) != 7)
        return false;
    if (strlen(local) != (v6 ? 32 : 8) || port == 0 || port > 65535 || (udp ? remote_port != 0 : state != 0x0a))
        return false;
    s->port = port;
    return parse_address(local, v6, s->ip);
}

static void read_table(const char *protocol, struct table *t)
{
    bool udp = protocol[0] == 'u', v6 = strchr(protocol, '6') != NULL;
    autofree char *path = str_fmt("/proc/net/%s", protocol);
    FILE *f = fopen(path, "re");
    char line[512];

    for (int i = 0; f && i < LINES_MAX && t->count < SOCKETS_MAX && fgets(line, sizeof(line), f); i++) {
        struct seen s = {.protocol = protocol};

        if (parse_line(line, v6, udp, &s))
            t->seen[t->count++] = s;
    }
    if (f)
        fclose(f);
}

static int by_inode(const void *x, const void *y)
{
    const struct seen *a = x, *b = y;

    return (a->inode > b->inode) - (a->inode < b->inode);
}

static void look_at_fds(int pid, struct table *t)
{
    autofree char *dir = str_fmt("/proc/%d/fd", pid);
    DIR *d = opendir(dir);
    const struct dirent *entry;

    for (int i = 0; d && i < FDS_MAX && (entry = readdir(d)); i++) {
        char target[64];
        ssize_t n = readlinkat(dirfd(d), entry->d_name, target, sizeof(target) - 1);
        struct seen wanted = {0}, *s;

        if (n < 0)
            continue;
        target[n] = '\0';
        if (sscanf(target, "socket:[%lu]", &wanted.inode) != 1)
            continue;
        s = bsearch(&wanted, t->seen, t->count, sizeof(wanted), by_inode);
        if (s && (s->pid == 0 || pid < s->pid))
            s->pid = pid;
    }
    if (d)
        closedir(d);
}

static void find_owners(struct table *t)
{
    DIR *d = opendir("/proc");
    const struct dirent *entry;
    int64_t pid;

    qsort(t->seen, t->count, sizeof(t->seen[0]), by_inode);
    for (int i = 0; d && i < PROCESSES_MAX && (entry = readdir(d)); i++)
        if (str_to_i64(entry->d_name, &pid) && pid > 0 && pid <= INT32_MAX)
            look_at_fds((int)pid, t);
    if (d)
        closedir(d);
}

/* At most `max` bytes of a regular file; what is not one could keep us waiting. NULL when there is nothing. */
static char *read_some(const char *path, size_t max, size_t *ret_len)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    char *text = mem_new_array(char, max + 1);
    struct stat st;
    size_t len = 0;
    ssize_t n = -1;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        while (len < max && (n = read(fd, text + len, max - len)) > 0)
            len += (size_t)n;
    if (fd >= 0)
        close(fd);
    text[len] = '\0';
    *ret_len = len;
    if (len > 0)
        return text;
    free(text);
    return NULL;
}

static json_t *user_name(const char *passwd, unsigned uid)
{
    for (const char *line = passwd; line && *line; line = strchr(line, '\n')) {
        char name[33];
        unsigned found;

        line += *line == '\n';
        if (sscanf(line, "%32[^:\n]:%*[^:\n]:%u:", name, &found) == 2 && found == uid)
            return json_text(name, TEXT_MAX);
    }
    return NULL;
}

/* The words of the command line with blanks between them. */
static json_t *args_of(int pid)
{
    autofree char *path = str_fmt("/proc/%d/cmdline", pid);
    size_t len = 0;
    autofree char *text = read_some(path, ARGS_BYTES, &len);
    autofree char *line = str_dup("");
    size_t count = 0;

    for (size_t at = 0; text && at < len && count < ARGS_MAX; at += strlen(text + at) + 1, count++) {
        autofree char *before = steal(&line);
        autojson word = json_text(text + at, TEXT_MAX);

        line = str_fmt("%s%s%s", before, count ? " " : "", json_string_value(word));
    }
    return json_string(line);
}

static json_t *program_of(int pid)
{
    autofree char *path = str_fmt("/proc/%d/comm", pid);
    size_t len = 0;
    autofree char *text = read_some(path, 64, &len);

    if (text)
        text[strcspn(text, "\n")] = '\0';
    return text ? json_text(text, TEXT_MAX) : NULL;
}

static json_t *path_of(int pid)
{
    autofree char *path = str_fmt("/proc/%d/exe", pid);
    char target[TEXT_MAX + 1];
    ssize_t n = readlink(path, target, sizeof(target) - 1);

    if (n < 0)
        return NULL;
    target[n] = '\0';
    return json_text(target, TEXT_MAX);
}

/* Sets the member, or leaves it out when value is NULL. value is taken over. */
static void set_known(json_t *j, const char *name, json_t *value)
{
    if (value)
        json_object_set_new(j, name, value);
}

static json_t *describe(const struct seen *s, const char *passwd)
{
    json_t *user = user_name(passwd, s->uid);
    json_t *j = json_pack("{s:s, s:I, s:s}", "protocol", s->protocol, "port", (json_int_t)s->port, "ip", s->ip);

    set_known(j, "user", user);
    if (s->pid > 0) {
        json_object_set_new(j, "pid", json_integer(s->pid));
        set_known(j, "program", program_of(s->pid));
        set_known(j, "path", path_of(s->pid));
        json_object_set_new(j, "args", args_of(s->pid));
    }
    return j;
}

static int by_port(const void *x, const void *y)
{
    const struct seen *a = x, *b = y;
    int d = strcmp(a->protocol, b->protocol);

    return d ? d : (a->port > b->port) - (a->port < b->port);
}

json_t *look_sockets(void)
{
    static const char *const protocols[] = {"tcp", "tcp6", "udp", "udp6"};
    autofree struct table *t = mem_new(struct table);
    size_t len = 0;
    autofree char *passwd = read_some("/etc/passwd", PASSWD_MAX, &len);
    json_t *list = json_array();

    for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
        read_table(protocols[i], t);
    find_owners(t);
    qsort(t->seen, t->count, sizeof(t->seen[0]), by_port);
    for (size_t i = 0; i < t->count; i++)
        json_array_append_new(list, describe(&t->seen[i], passwd));
    return list;
}
