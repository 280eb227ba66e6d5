# SPDX-License-Identifier: Apache-2.0
"""Clients that abuse the API, and good ones beside them that count how often they are served."""
import contextlib
import multiprocessing
import os
import selectors
import socket
import ssl
import time

SECONDS = float(os.environ.get("NODED_ATTACK_SECONDS", "8"))
GET = b"GET /healthz HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n"


def is_sanitized(pid):
    """AddressSanitizer keeps what is freed: such a process is not measured, only watched for errors."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as f:
        return "libasan" in f.read()


def rss_mib(pid):
    """What the process holds of memory now; 0 for one with AddressSanitizer."""
    if is_sanitized(pid):
        return 0.0
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 1024


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def context_of(pki, name="operator"):
    context = ssl.create_default_context(cafile=f"{pki}/ca.crt")
    if name:
        context.load_cert_chain(f"{pki}/{name}.crt", f"{pki}/{name}.key")
    return context


def tls(context, address, source="127.0.0.1", timeout=20):
    raw = socket.create_connection(address, timeout, (source, 0))
    try:
        return context.wrap_socket(raw, server_hostname="127.0.0.1")
    except BaseException:
        raw.close()
        raise


def read_all(s):
    data = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := s.recv(65536):
            data += piece
    return data


class Count:
    def __init__(self):
        self.tried, self.failed, self.times, self.errors = 0, 0, [], {}

    @property
    def success(self):
        return 1 - self.failed / self.tried if self.tried else 0.0

    def __str__(self):
        times = sorted(self.times) or [0.0]
        return (f"{self.tried} tried, {self.failed} failed: {self.success:.3%} succeed, p50 {times[len(times) // 2]:.1f} "
                f"p99 {times[int(len(times) * 0.99)]:.1f} max {times[-1]:.1f} ms {self.errors or ''}")


def visit(pki, address, source, seconds, per_second=20):
    """New mTLS connections, one after the other, with one request each."""
    count, context, end = Count(), context_of(pki), time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        count.tried += 1
        try:
            with tls(context, address, source) as s:
                s.sendall(GET)
                if not read_all(s).startswith(b"HTTP/1.1 200"):
                    raise OSError("no answer")
            count.times.append((time.monotonic() - begun) * 1000)
        except OSError as e:
            count.failed += 1
            count.errors[str(e)[:60]] = count.errors.get(str(e)[:60], 0) + 1
        time.sleep(max(0.0, 1 / per_second - (time.monotonic() - begun)))
    return count


def stutter(address, source, seconds, per_second, data):
    """Connections that send so little and then nothing. Each is kept until the server closes it."""
    selector, due, begun, end = selectors.DefaultSelector(), time.monotonic(), 0, time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        while due <= now:
            due += 1 / per_second
            with contextlib.suppress(OSError):
                s = socket.socket()
                s.bind((source, 0))
                s.connect(address)
                s.sendall(data)
                s.setblocking(False)
                selector.register(s, selectors.EVENT_READ)
                begun += 1
        for key, _ in selector.select(0.002):
            selector.unregister(key.fileobj)
            key.fileobj.close()
    return begun


class Apart:
    """A function in a process of its own, whose answer is had at the end."""

    def __init__(self, function, *arguments):
        self.here, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=self._run, args=(there, function, arguments), daemon=True)
        self.process.start()

    @staticmethod
    def _run(pipe, function, arguments):
        pipe.send(function(*arguments))

    def result(self, seconds=120):
        assert self.here.poll(seconds), "no result"
        value = self.here.recv()
        self.process.join(10)
        return value
