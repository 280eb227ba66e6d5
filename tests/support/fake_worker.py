#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A noded-worker that plays a script: the file named by NODED_FAKE_PLAN maps a job's name to what it shall do."""
import json
import os
import signal
import socket
import struct
import sys
import time

OK = {
    "pool.open": {"total_bytes": 1, "free_bytes": 1, "loop_device": None}, "pool.prepare": {"quota": False},
    "node.inventory": {"slots": [], "images": ["debian/13"], "kits": []},
    "container.create": {"seeded": True}, "container.start": {"init_pid": 1}, "snapshot.create": {"size_bytes": 7},
    "container.settle": {"running": False, "init_pid": 0},
}


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        piece = s.recv(n - len(data))
        if not piece:
            sys.exit(1)
        data += piece
    return data


def main():
    s = socket.socket(fileno=3)
    request = json.loads(read_exactly(s, struct.unpack("<I", read_exactly(s, 4))[0]))
    with open(os.environ["NODED_FAKE_PLAN"], encoding="utf-8") as f:
        plan = json.load(f)
    what = plan.get(request["job"], "ok")
    if request["job"] == "pool.open":
        os.makedirs(request["target"]["pool"], exist_ok=True)  # the daemon locks a file in it

    def send(value):
        text = json.dumps(value).encode()
        s.sendall(struct.pack("<I", len(text)) + text)
    if what == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "half":
        s.sendall(struct.pack("<I", 100) + b'{"ok"')
    elif what == "garbage":
        s.sendall(struct.pack("<I", 9) + b"not json!")
    elif what == "huge":
        s.sendall(b"\xff\xff\xff\xff")
        time.sleep(60)
    elif what == "exit":
        send({"ok": {}})
        sys.exit(3)
    elif what == "error":
        send({"error": {"code": "ERR_HOST", "message": "the fake says no"}})
    elif what == "chatter":
        for i in range(2000):
            send({"progress": f"step {i}"})
        send({"ok": OK.get(request["job"], {})})
    elif what == "hang":
        time.sleep(600)
    elif what != "silence":
        send({"ok": OK.get(request["job"], {})})


main()
