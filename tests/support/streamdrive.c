/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of storage/send.h and storage/receive.h:
 *   streamdrive send SUBVOLUME [PARENT]                      the stream to stdout
 *   streamdrive receive DIRECTORY NAME BYTES RESERVE [PARENT]   a subvolume from stdin
 * Exit 0, or 1 with CODE: message on stderr; a failed receive removes what it began.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/str.h"
#include "storage/nested.h"
#include "storage/receive.h"
#include "storage/send.h"

static struct err *to_stdout(UNUSED void *owner, const void *data, size_t len)
{
    return fd_write_all(STDOUT_FILENO, data, len);
}

static struct err *feed_all(struct receiver *r, struct receive_info *info)
{
    static char buf[65536];
    struct err *e = NULL;
    ssize_t n;

    while (!e && (n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
        e = receive_feed(r, buf, (size_t)n);
    return e ? e : receive_end(r, info);
}

static struct err *receive(char **argv, const char *parent_path)
{
    autofd int dir = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    autofd int parent = parent_path ? open(parent_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    autofree char *path = str_fmt("%s/%s", argv[0], argv[1]);
    auto_(receive_free) struct receiver *r = NULL;
    struct receive_limits limits = {0};
    struct receive_info info;
    struct err *e;

    if (dir < 0 || (parent_path && parent < 0) || !str_to_i64(argv[2], &limits.bytes) ||
        !str_to_i64(argv[3], &limits.reserve))
        return err_new(ERR_INVALID, "arguments");
    e = receive_begin(dir, argv[1], parent, &limits, &r);
    if (!e)
        e = feed_all(r, &info);
    if (!e)
        e = receive_mark(path, &info);
    if (e)
        err_ignore(nested_destroy(path));
    return e;
}

int main(int argc, char **argv)
{
    struct err *e;

    (void)signal(SIGPIPE, SIG_IGN);
    if (argc >= 3 && str_eq(argv[1], "send"))
        e = send_stream(argv[2], argc > 3 ? argv[3] : NULL, to_stdout, NULL);
    else if (argc >= 6 && str_eq(argv[1], "receive"))
        e = receive(argv + 2, argc > 6 ? argv[6] : NULL);
    else
        return 2;
    if (e)
        fprintf(stderr, "%s: %s\n", err_code_name(e->code), err_message(e));
    err_free(e);
    return e ? 1 : 0;
}
