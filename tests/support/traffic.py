#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client of services on loopback ports, until it is told to end; then prints what it saw.

usage: traffic.py PORT...     (in the network namespace of a container)
"""
import json
import signal
import socket
import sys
import time

PAUSE_S = 0.01
over = False


def end(_signal, _frame):
    global over
    over = True


def ask(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as s:
            s.settimeout(1)
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return s.recv(64).split(b" ")[1] == b"200"
    except (OSError, IndexError):
        return False


def main():
    signal.signal(signal.SIGTERM, end)
    seen = {int(p): {"requests": 0, "failed": 0, "times_away": 0, "away_ms": 0.0} for p in sys.argv[1:]}
    last, away = {p: time.monotonic() for p in seen}, {p: False for p in seen}
    while not over:
        for port, s in seen.items():
            good = ask(port)
            s["requests"] += 1
            s["failed"] += not good
            if good:
                now = time.monotonic()
                if away[port]:  # from the last answer before to the first one after
                    s["times_away"] += 1
                    s["away_ms"] = max(s["away_ms"], round((now - last[port]) * 1000, 1))
                last[port] = now
            away[port] = not good
        time.sleep(PAUSE_S)
    print(json.dumps(seen))


main()
