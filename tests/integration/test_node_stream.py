# SPDX-License-Identifier: Apache-2.0
"""Rules of a container are replaced a thousand times by the API under load: no packet of a running stream is lost, and none
passes that should not.

The numbered datagrams are not answered, so the connection tracking has each of them for new and the rules decide about every
one: a moment without rules, or with half of them, would show in what is lost or in what passes."""
import os
import socket
import struct
import threading
import time

import pytest
from daemon import Daemon
from netlab import Inside, Server, uplink
from world import run, wait_for

WORLD4 = "198.51.100.7"
CHANGES = int(os.environ.get("NODED_STREAM_CHANGES", "1000"))
ALLOWED, DENIED = 7, 9
SO_RCVBUFFORCE = 33
TCP_TOTAL_RETRANS = 100  # offset in struct tcp_info, linux/tcp.h


@pytest.fixture(scope="module")
def world():
    with uplink("stream-world") as space:
        yield space


@pytest.fixture(scope="module")
def node(world):
    d = Daemon(network__uplink="net0").start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    c = node.create("stream-box", hoody_kit=False)
    node.wait_booted(c["id"])
    for direction in ("ingress", "egress"):
        for rule in ({"action": "allow", "protocol": "udp", "destination_port": str(ALLOWED)},
                     {"action": "drop", "protocol": "udp", "destination_port": str(DENIED)},
                     {"action": "drop", "protocol": "tcp", "destination_port": str(DENIED)},
                     {"action": "drop", "protocol": "udp", "destination_port": "1-6"}):
            assert node.post(f"/api/v1/containers/{c['id']}/firewall/{direction}", rule).status == 201
    c = node.container(c["id"])
    c["space"] = Inside(c["node"]["init_pid"])
    yield c
    c["space"].delete()


class Receiver:
    """Keeps what arrives at a UDP port, or who connects to a TCP port."""

    def __init__(self, space, port, kind=socket.SOCK_DGRAM):
        self.socket = space.socket("0.0.0.0", kind)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.socket.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            self.socket.listen(64)
        self.socket.settimeout(0.3)
        self.kind, self.got = kind, []

    def collect(self):
        try:
            while True:
                self.got.append(struct.unpack("!Q", self.socket.recv(8))[0] if self.kind == socket.SOCK_DGRAM else
                                self.socket.accept()[1])
        except TimeoutError:
            return self.got


class Streams:
    """Both ways between two namespaces: numbered datagrams, datagrams and connections that must not pass, and a TCP stream that
    the other end echoes."""

    def __init__(self, world, box, address):
        self.stop, self.sent, self.errors, self.threads = threading.Event(), {}, [], []
        self.ends = {"in": (world, box, address), "out": (box, world, WORLD4)}
        self.allowed = {d: Receiver(to, ALLOWED) for d, (_, to, _) in self.ends.items()}
        self.denied = {d: Receiver(to, DENIED) for d, (_, to, _) in self.ends.items()}
        self.refused = {d: Receiver(to, DENIED, socket.SOCK_STREAM) for d, (_, to, _) in self.ends.items()}
        self.echoes = {d: Server(to, "0.0.0.0", 80) for d, (_, to, _) in self.ends.items()}
        self.retransmitted, self.echoed = {}, {}

    def __enter__(self):
        for direction in self.ends:
            for work in (self.datagrams, self.connections, self.stream):
                self.threads.append(threading.Thread(target=self.guarded, args=(work, direction)))
        for thread in self.threads:
            thread.start()
        return self

    def guarded(self, work, direction):
        try:
            work(direction)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append((work.__name__, direction, repr(error)))

    def datagrams(self, direction):
        space, _, address = self.ends[direction]
        self.sent[direction] = 0
        with space.socket(address, socket.SOCK_DGRAM) as s:
            while not self.stop.is_set():
                data = struct.pack("!Q", self.sent[direction])
                s.sendto(data, (address, DENIED))
                s.sendto(data, (address, ALLOWED))
                self.sent[direction] += 1
                time.sleep(0.001)

    def connections(self, direction):
        space, _, address = self.ends[direction]
        while not self.stop.is_set():
            with space.socket(address) as s:
                s.setblocking(False)
                s.connect_ex((address, DENIED))
                time.sleep(0.005)

    def stream(self, direction):
        space, _, address = self.ends[direction]
        with space.socket(address) as s:
            s.connect((address, 80))
            assert s.recv(100).endswith(b"\n")
            n = 0
            while not self.stop.is_set():
                s.sendall(struct.pack("!Q", n) * 100)
                got = b""
                while len(got) < 800:
                    part = s.recv(800 - len(got))
                    assert part, "closed"
                    got += part
                assert got == struct.pack("!Q", n) * 100
                n += 1
                time.sleep(0.001)
            info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            self.echoed[direction] = n
            self.retransmitted[direction] = struct.unpack_from("=I", info, TCP_TOTAL_RETRANS)[0]

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        for group in (self.allowed, self.denied, self.refused):
            for receiver in group.values():
                receiver.collect()
                receiver.socket.close()
        for echo in self.echoes.values():
            echo.close()

    def check_complete(self):
        assert not self.errors, self.errors
        for direction, receiver in self.allowed.items():
            assert receiver.got == list(range(self.sent[direction])), f"{direction}: datagrams lost or out of order"
            assert self.retransmitted[direction] == 0 and self.echoed[direction] > 100
        print({d: (self.sent[d], self.echoed[d]) for d in self.ends})

    def leaked(self):
        return {d: len(self.denied[d].got) + len(self.refused[d].got) for d in self.ends}


def toggle(node, box, direction, state):
    r = node.call("PATCH", f"/api/v1/containers/{box['id']}/firewall/{direction}",
                  {"state": state, "action": "drop", "protocol": "udp", "destination_port": "1-6"}, check=False)
    assert r.status == 200, r


def test_a_thousand_replacements_under_load(node, box, world):
    repairs = node.get("/healthz").data["network"]["repairs"]
    with Streams(world, box["space"], box["node"]["ipv4"]) as streams:
        wait_for(lambda: min(streams.sent.values(), default=0) > 50, what="the streams")
        begun = time.monotonic()
        for n in range(CHANGES):
            toggle(node, box, ("ingress", "egress")[n // 2 % 2], ("disabled", "enabled")[n % 2])
            if n % (CHANGES // 3) == 5:  # the whole table made anew, as after a change by a stranger
                run("nft", "add", "rule", "inet", node.name, "routed", "counter")
        print(f"{CHANGES} changes in {time.monotonic() - begun:.1f} s")
        time.sleep(0.2)
    assert node.get("/healthz").data["network"]["repairs"] >= repairs + 2
    streams.check_complete()
    assert streams.leaked() == {"in": 0, "out": 0}


def test_the_measurement_sees_a_replacement_in_two_steps(node, box, world):
    """What the test above must be able to notice: the rules of a list flushed in one transaction and added in the next."""
    slot = box["node"]["slot"]
    table = f"{node.name}_lists_{slot % 8}"
    with Streams(world, box["space"], box["node"]["ipv4"]) as streams:
        wait_for(lambda: min(streams.sent.values(), default=0) > 50, what="the streams")
        for name in ("in", "out"):
            for _ in range(5):
                run("nft", "flush", "chain", "inet", table, f"{name}_{slot}")
                run("nft", "add", "rule", "inet", table, f"{name}_{slot}", "meta l4proto { tcp, udp } th dport 9 drop")
    assert min(streams.leaked().values()) > 0
    wait_for(lambda: "dport 7" in run("nft", "list", "chain", "inet", table, f"in_{slot}"), what="the repair")


def test_the_measurement_sees_a_lost_packet(node, box, world):
    slot = box["node"]["slot"]
    with Streams(world, box["space"], box["node"]["ipv4"]) as streams:
        wait_for(lambda: min(streams.sent.values(), default=0) > 50, what="the streams")
        run("nft", "insert", "rule", "inet", f"{node.name}_lists_{slot % 8}", "lists_routed", "drop")
        time.sleep(0.5)
    with pytest.raises(AssertionError, match="lost"):
        streams.check_complete()
