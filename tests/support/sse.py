# SPDX-License-Identifier: Apache-2.0
"""A reader of server-sent events that reads when it is told to, and no sooner."""
import json
import socket
import time


class Stream:
    def __init__(self, sock, path, headers=None, buffer=None):
        self.sock, self.raw, self.body, self.status, self.comments = sock, b"", b"", None, 0
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        lines = [f"GET {path} HTTP/1.1", "Host: n", "Accept: text/event-stream"]
        lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
        sock.sendall("\r\n".join(lines + ["", ""]).encode())

    @classmethod
    def open(cls, node, path, headers=None, timeout=20, **more):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(timeout)
        s.connect(node.socket)
        return cls(s, path, headers, **more)

    def fill(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError
        self.raw += piece
        if self.status is None:
            if b"\r\n\r\n" not in self.raw:
                return
            head, self.raw = self.raw.split(b"\r\n\r\n", 1)
            self.status, self.head = int(head.split()[1]), head.decode().lower()
        while b"\r\n" in self.raw and self.status == 200:
            size, rest = self.raw.split(b"\r\n", 1)
            n = int(size, 16)
            if len(rest) < n + 2:
                return
            if n == 0:
                raise EOFError
            self.body += rest[:n]
            self.raw = rest[n + 2:]

    def next(self):
        """The next event: {"id", "event", "data"}. Comments are counted and skipped, for a minute at most."""
        end = time.monotonic() + 60
        while True:
            while b"\n\n" not in self.body:
                assert time.monotonic() < end, "no event comes"
                self.fill()
            block, self.body = self.body.split(b"\n\n", 1)
            event = {}
            for line in block.decode().split("\n"):
                name, _, value = line.partition(":")
                if name:
                    event[name] = value.strip()
                else:
                    self.comments += 1
            if "event" in event:
                event["data"] = json.loads(event["data"])
                return event

    def until(self, condition):
        found = [self.next()]
        while not condition(found[-1]):
            found.append(self.next())
        return found

    def started(self):
        while self.status is None:
            self.fill()
        return self.status

    def rest(self):
        """Up to the end of the stream."""
        found = []
        try:
            while True:
                found.append(self.next())
        except EOFError:
            return found

    def close(self):
        self.sock.close()
