#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# libmicrohttpd in external polling mode (no thread of its own), a connection handed over by MHD_add_connection:
#
#   0.9.75 (Debian 12)   MHD_OPTION_NOTIFY_CONNECTION's function is called before MHD_add_connection returns
#   1.0.1  (Debian 13)   it is called by a later MHD_run; with MHD_USE_NO_THREAD_SAFETY it is called at once, as before
#
# The manual of both says that the function is called when a connection starts, and the flag's description speaks of
# speed. A program that keeps "whose connection is this" in a variable around the call finds the variable empty on the
# newer version, and no warning at compile time.
#
# usage: libmicrohttpd-added-connections.sh      (as root, for mmdebstrap; needs gcc and mmdebstrap; 2 x about 25 MB from Debian's mirror)
# Ends with 0 when both versions behave as written above, with 1 when one does not any more.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

cat > "$work/added.c" <<'CODE'
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int told;

static void on_connection(void *cls, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode code)
{
    (void)cls, (void)c, (void)context;
    told += code == MHD_CONNECTION_NOTIFY_STARTED;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **context)
{
    (void)cls, (void)c, (void)url, (void)method, (void)version, (void)data, (void)size, (void)context;
    return MHD_NO;
}

static void try(const char *name, unsigned flags)
{
    struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | flags, 0, NULL, NULL, on_request,
                                            NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL, MHD_OPTION_END);
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    int pair[2], at_once;

    told = 0;
    if (!d || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 ||
        MHD_add_connection(d, pair[0], (struct sockaddr *)&address, sizeof(sa_family_t)) != MHD_YES) {
        printf("%s: failed\n", name);
        return;
    }
    at_once = told;
    MHD_run(d);
    printf("%s: %s\n", name, at_once ? "at once" : told ? "by MHD_run" : "never");
    close(pair[1]);
    MHD_stop_daemon(d);
}

int main(void)
{
    printf("version %.*s\n", (int)strcspn(MHD_get_version(), " "), MHD_get_version());
    try("plain", 0);
#if MHD_VERSION >= 0x00097707
    try("no thread safety", MHD_USE_NO_THREAD_SAFETY);
#endif
    return 0;
}
CODE

# The library and what it needs of a release, unpacked and not installed; the program runs by that release's own loader.
look() {
    suite=$1
    unshare --mount mmdebstrap --quiet --mode=root --variant=extract --include=libmicrohttpd-dev,libc6 "$suite" "$work/$suite"
    lib=$work/$suite/usr/lib/x86_64-linux-gnu
    mkdir "$work/include-$suite"
    cp "$work/$suite/usr/include/microhttpd.h" "$work/include-$suite"
    gcc -w -I"$work/include-$suite" "$work/added.c" -o "$work/added-$suite" -L"$lib" -l:libmicrohttpd.so.12 \
        -Wl,--allow-shlib-undefined
    loader=$(find "$work/$suite" -name ld-linux-x86-64.so.2 -type f | head -n 1)
    "$loader" --library-path "$lib:$work/$suite/lib/x86_64-linux-gnu" "$work/added-$suite"
}

look bookworm > "$work/old"
look trixie > "$work/new"
printf 'Debian 12:\n%s\nDebian 13:\n%s\n' "$(cat "$work/old")" "$(cat "$work/new")"
printf 'version 0.9.75\nplain: at once\n' | cmp -s - "$work/old" || { echo "changed on Debian 12" >&2; exit 1; }
printf 'version 1.0.1\nplain: by MHD_run\nno thread safety: at once\n' | cmp -s - "$work/new" || { echo "changed on Debian 13" >&2; exit 1; }
echo "as described"
