#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lighttpd's mod_webdav (1.4.69 of Debian 12, 1.4.79 of Debian 13): a WebDAV lock never ends by itself. The reply to LOCK says
# "Second-5", and seconds later a PUT by somebody else is answered 423 still; RFC 4918 (6.6) has the server remove a lock
# whose time is over. In the database the end of the lock is the hour of the day (UTC) plus the seconds: SQLite's CURRENT_TIME
# is the text "HH:MM:SS", which is a number up to the first colon only, and where ends are compared with it a number is always
# less than a text. When a client dies while it holds a lock, no other client can change the file without the lock's token.
#
# usage: lighttpd-webdav-locks.sh      (as root, for mmdebstrap and unshare; needs curl, iproute2, mmdebstrap, python3; 2 x about 10 MB
#                                       from Debian's mirror)
# Ends with 0 when both versions behave as written above, with 1 when one does not any more.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

cat > "$work/body" <<'BODY'
<?xml version="1.0" encoding="utf-8"?>
<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>
BODY

cat > "$work/ask" <<'ASK'
set -eu
ip link set lo up
"$loader" --library-path "$lib:$here/lib/x86_64-linux-gnu" "$here/usr/sbin/lighttpd" -D -m "$here/usr/lib/lighttpd" -f "$here/conf" &
server=$!
trap 'kill $server; wait $server || :' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10; do
    curl -s -o "$here/none" http://127.0.0.1:8080/file && break
    sleep 0.5
done
hour=$(date -u +%H)
curl -s -X LOCK -H 'Timeout: Second-5' -H 'Depth: 0' --data-binary "@$here/../body" http://127.0.0.1:8080/file > "$here/reply"
grep -q '<D:timeout>Second-5</D:timeout>' "$here/reply" && echo "LOCK: for 5 seconds"
sleep 8
echo "PUT after 8 seconds: $(curl -s -o "$here/none" -w '%{http_code}' -T "$here/../body" http://127.0.0.1:8080/file)"
python3 - "$here/locks.db" "$hour" <<'LOOK'
import sqlite3, sys
(end,), = sqlite3.connect(sys.argv[1]).execute("SELECT timeout FROM locks")
hour = int(sys.argv[2])
print("recorded end:", "hour + 5" if end in (hour + 5, (hour + 1) % 24 + 5) else end)
LOOK
ASK

look() {
    here=$work/$1
    unshare --mount mmdebstrap --quiet --mode=root --variant=extract --include=lighttpd,lighttpd-mod-webdav,libc6 "$1" "$here"
    mkdir "$here/served"
    echo content > "$here/served/file"
    printf '%s\n' 'server.modules = ("mod_webdav")' 'server.port = 8080' 'server.bind = "127.0.0.1"' "server.document-root = \"$here/served\"" \
        'webdav.activate = "enable"' "webdav.sqlite-db-name = \"$here/locks.db\"" > "$here/conf"
    lib=$here/usr/lib/x86_64-linux-gnu
    loader=$(find "$here" -name ld-linux-x86-64.so.2 -type f | head -n 1)
    export here lib loader
    "$loader" --library-path "$lib:$here/lib/x86_64-linux-gnu" "$here/usr/sbin/lighttpd" -v | sed -n 's:^lighttpd/\([^ ]*\).*:version \1:p'
    unshare --net sh "$work/ask" 2> "$work/log-$1"
}

seen='LOCK: for 5 seconds\nPUT after 8 seconds: 423\nrecorded end: hour + 5\n'
look bookworm > "$work/old"
look trixie > "$work/new"
printf 'Debian 12:\n%s\nDebian 13:\n%s\n' "$(cat "$work/old")" "$(cat "$work/new")"
printf "version 1.4.69\n$seen" | cmp -s - "$work/old" || { echo "changed on Debian 12" >&2; exit 1; }
printf "version 1.4.79\n$seen" | cmp -s - "$work/new" || { echo "changed on Debian 13" >&2; exit 1; }
echo "as described"
