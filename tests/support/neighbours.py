#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Ten serving containers beside an attack: how many new connections to them fail, and how long the API takes to answer.

    with neighbours.Neighbours(node) as others:
        with others.watched() as seen:
            attack(neighbours.ATTACK_SECONDS)
        print(seen)
        assert seen.success >= 0.999

The measuring is done by processes of their own, so that an attack in the test's process does not slow down the clock:
one serves in the network namespaces of all containers, one for each client opens connections, one asks the API.

usage: neighbours.py serve PID...                     until it is told to end (SIGTERM)
       neighbours.py connect PER_SECOND ADDRESS...    likewise; then prints what it saw
       neighbours.py ask SOCKET PATH PER_SECOND       likewise
"""
import contextlib
import ctypes
import errno
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000

ATTACK_SECONDS = float(os.environ.get("NODED_ATTACK_SECONDS", "8"))
COUNT, PORT = 10, 7007
CONNECTIONS_PER_SECOND, REQUESTS_PER_SECOND = 60, 50  # of each client; of the API
PATIENCE_S = 3.5  # a connection that has no answer then has failed: the kernel sends a lost packet again after 1 and 3 s
SLOW_MS = 900     # the kernel had to send a packet again
CLIENTS = 2  # and the host itself


class Result:
    """tried, failed: new connections. by_client: the same for each client ("host" or a namespace's name) and family, with
    the time that a connection took in the middle and at worst. errors: what the failed ones ended with, and how often.
    api_*: answers of the control socket in ms; api_failed: requests without an answer of status 200."""

    def __init__(self, connections, api):
        self.by_client = connections
        every = [f for families in connections.values() for f in families.values()]
        self.tried, self.failed = sum(f["tried"] for f in every), sum(f["failed"] for f in every)
        self.slow = sum(f["slow"] for f in every)
        self.errors = {}
        for word, count in (e for f in every for e in f["errors"].items()):
            self.errors[word] = self.errors.get(word, 0) + count
        self.success = 1 - self.failed / self.tried if self.tried else 0.0
        self.api_requests, self.api_failed = api["tried"], api["failed"]
        self.api_p50_ms, self.api_p99_ms, self.api_max_ms = api["p50"], api["p99"], api["max"]

    def __str__(self):
        lines = [f"connections: {self.tried} tried, {self.failed} failed, {self.slow} slow: {self.success:.4%} succeed "
                 f"{self.errors or ''}"]
        lines += [f"  {name} IPv{family}: {f['tried']} tried, {f['failed']} failed, p50 {f['p50']:.2f} p99 {f['p99']:.2f} "
                  f"max {f['max']:.1f} ms" for name, families in self.by_client.items() for family, f in families.items()]
        lines.append(f"API: {self.api_requests} requests, {self.api_failed} failed, p50 {self.api_p50_ms:.2f} "
                     f"p99 {self.api_p99_ms:.2f} max {self.api_max_ms:.1f} ms")
        return "\n".join(lines)


class Neighbours:
    """Makes the containers and two clients beyond links of their own; removes all of it. The node's host is the network
    namespace of the test, or node's `space`. names: prefix of what it makes, when a test has two of them."""

    def __init__(self, node, count=COUNT, space=None, names="nb"):
        self.node, self.count, self.space, self.names = node, count, space, names
        self.ids, self.clients, self.server = [], [], None

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        import netlab
        if self.server:
            _end(self.server)
        for client in self.clients:
            client.delete()
        for number in range(len(self.clients)):
            netlab.run(*self._host("ip", "link", "del", f"{self.names}{number}"), check=False)
        for cid in self.ids:
            assert self.node.delete(cid).status == 200, self.node.log()

    def _host(self, *argv):
        return ["nsenter", f"--net=/run/netns/{self.space.name}", *argv] if self.space else list(argv)

    def _client(self, number):
        import netlab
        space, link = netlab.Space(f"{self.names}-client{number}"), f"{self.names}{number}"
        self.clients.append(space)
        own, peer, six = f"203.0.113.{4 * number + 1}", f"203.0.113.{4 * number + 2}", f"2001:db8:113:{number:x}::"
        host = functools.partial(netlab.run, *self._host("ip"))
        host("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space.name)
        for ip, device, v4, v6 in ((host, link, own, six + "1"), (space.ip, "eth0", peer, six + "2")):
            ip("addr", "add", v4 + "/30", "dev", device)
            ip("addr", "add", v6 + "/64", "dev", device, "nodad")
            ip("link", "set", device, "up")
        space.ip("route", "add", "default", "via", own)
        space.ip("-6", "route", "add", "default", "via", six + "1")

    def _make(self):
        for number in range(CLIENTS):
            self._client(number)
        self.ids = [self.node.create(f"{self.names}-{n}", hoody_kit=False)["id"] for n in range(self.count)]
        shown = [self.node.container(cid)["node"] for cid in self.ids]
        for cid in self.ids:
            self.node.wait_booted(cid)
        self.addresses = [n[family] for n in shown for family in ("ipv4", "ipv6")]
        self.server = _begin("serve", *(str(n["init_pid"]) for n in shown), within=[])
        assert self.server.stdout.readline() == "ready\n"
        with self.watched() as seen:
            time.sleep(1)
        assert seen.tried and not seen.failed, f"before any attack: {seen}\n{self.node.log()}"

    @contextlib.contextmanager
    def watched(self):
        """Measures as long as the context lasts; what it yields has the members of Result afterwards."""
        seen = Result.__new__(Result)
        path = f"/api/v1/containers/{self.ids[0]}"
        places = {"host": self._host(), **{c.name: ["ip", "netns", "exec", c.name] for c in self.clients}}
        running = {name: _begin("connect", str(CONNECTIONS_PER_SECOND), *self.addresses, within=within)
                   for name, within in places.items()}
        api = _begin("ask", self.node.socket, path, str(REQUESTS_PER_SECOND), within=[])
        try:
            for process in (*running.values(), api):
                assert process.stdout.readline() == "ready\n"
            yield seen
        finally:
            answers = {name: _end(process) for name, process in running.items()}
            answered = _end(api)
        seen.__init__({name: json.loads(text) for name, text in answers.items()}, json.loads(answered))


def _begin(*argv, within):
    return subprocess.Popen([*within, sys.executable, os.path.abspath(__file__), *argv], text=True, stdout=subprocess.PIPE)


def _end(process):
    process.terminate()
    try:
        text = process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        text = process.communicate()[0]
    return text


# What the processes do.

over = False


def _stop(_signal, _frame):
    global over
    over = True


def serve(pids):
    """Answers each connection with one line and ends it; in the network namespace of each process."""
    selector = selectors.DefaultSelector()
    for pid in pids:
        with open(f"/proc/{pid}/ns/net") as there:
            _setns(there.fileno())
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            s = socket.socket(family)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((address, PORT))
            s.listen(512)
            s.setblocking(False)
            selector.register(s, selectors.EVENT_READ)
    print("ready", flush=True)
    while not over:
        for key, _ in selector.select(0.2):
            with contextlib.suppress(OSError):
                while True:
                    connection = key.fileobj.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        connection.send(b"here\n")


def _setns(fd):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Family:
    def __init__(self):
        self.failed, self.times, self.errors = 0, [], {}

    def fail(self, word):
        self.failed += 1
        self.errors[word] = self.errors.get(word, 0) + 1

    def summary(self):
        return {"tried": self.failed + len(self.times), "failed": self.failed, "errors": self.errors,
                "slow": sum(t > SLOW_MS for t in self.times), **_percentiles(self.times)}


def _percentiles(times):
    times = sorted(times) or [0.0]
    return {"p50": times[len(times) // 2], "p99": times[min(len(times) - 1, int(len(times) * 0.99))], "max": times[-1]}


class Opener:
    """New connections one after the other, without waiting for those before; each is over when the server's line is here."""

    def __init__(self, addresses):
        self.addresses, self.next = addresses, 0
        self.selector, self.open = selectors.DefaultSelector(), {}
        self.families = {4: Family(), 6: Family()}

    def begin(self):
        address = self.addresses[self.next % len(self.addresses)]
        self.next += 1
        family = self.families[6 if ":" in address else 4]
        s = None
        try:
            s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            s.setblocking(False)
            rc = s.connect_ex((address, PORT))
            if rc not in (0, errno.EINPROGRESS):
                raise OSError(rc, os.strerror(rc))
        except OSError as e:
            if s:
                s.close()
            family.fail(errno.errorcode.get(e.errno, str(e)))
            return
        self.open[s] = (time.monotonic(), family)
        self.selector.register(s, selectors.EVENT_READ)

    def finish(self, s, word=None):
        begun, family = self.open.pop(s)
        self.selector.unregister(s)
        try:
            if not word and s.recv(16) != b"here\n":
                word = "closed"
        except OSError as e:
            word = errno.errorcode.get(e.errno, str(e))
        s.close()
        if word:
            family.fail(word)
        else:
            family.times.append((time.monotonic() - begun) * 1000)

    def turn(self, seconds):
        for key, _ in self.selector.select(seconds):
            self.finish(key.fileobj)
        late = time.monotonic() - PATIENCE_S
        for s in [s for s, (begun, _) in self.open.items() if begun < late]:
            self.finish(s, "no answer")


def connect(per_second, addresses):
    opener, pause = Opener(addresses), 1 / per_second
    print("ready", flush=True)
    due = time.monotonic()
    while not over or opener.open:
        now = time.monotonic()
        if not over and now >= due:
            opener.begin()
            due = max(due + pause, now - 1)  # after a stop of the machine: not all of them at once
        opener.turn(max(0.0, min(due - time.monotonic(), 0.1)) if not over else 0.1)
    print(json.dumps({number: family.summary() for number, family in opener.families.items()}))


def ask(path, url, per_second):
    times, failed = [], 0
    print("ready", flush=True)
    while not over:
        begun = time.monotonic()
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                s.connect(path)
                s.sendall(f"GET {url} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n".encode())
                answer = b""
                while data := s.recv(65536):
                    answer += data
            if answer.split(b" ", 2)[1:2] != [b"200"]:
                raise OSError("status")
            times.append((time.monotonic() - begun) * 1000)
        except OSError:
            failed += 1
        time.sleep(max(0.0, 1 / per_second - (time.monotonic() - begun)))
    print(json.dumps({"tried": len(times) + failed, "failed": failed, **_percentiles(times)}))


def main(kind, *argv):
    signal.signal(signal.SIGTERM, _stop)
    if kind == "serve":
        serve(argv)
    elif kind == "connect":
        connect(float(argv[0]), argv[1:])
    else:
        ask(argv[0], argv[1], float(argv[2]))


if __name__ == "__main__":
    main(*sys.argv[1:])
