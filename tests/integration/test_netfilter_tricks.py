# SPDX-License-Identifier: Apache-2.0
"""What a hostile container may try with packets of its own making: forged addresses, link-local addresses, the sockets of relays and proxies."""
import itertools
import socket
import struct
import time

import pytest
from netlab import PATIENCE, opens, outcome, ping, pings, udp_outcome
from test_netfilter import HOST4, HOST6, V4, V6, WORLD4, WORLD6, clean, container, lab, rule  # noqa: F401, the fixtures
from test_netfilter_confined import relay_socket
from test_netfilter_differential import TCP, UDP, End, checksum, payload, tag_of
from world import wait_for

GATEWAY4, GATEWAY6 = "169.254.1.1", "fe80::1"
MAC = "02:6e:65:00:00:{:02x}"
tags = itertools.count(1000)


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def address_of(space, interface):
    return space.exec("cat", f"/sys/class/net/{interface}/address").stdout.strip()


class Raw:
    """Frames on a container's link, header by header."""

    def __init__(self, space):
        with space.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind(("eth0", 0))

    def send(self, source_mac, target_mac, source, target, protocol, dport=9000, sport=4000):
        six = ":" in source
        p = {"family": 6 if six else 4, "protocol": protocol, "sport": sport, "dport": dport, "tag": next(tags)}
        body = payload(p, source, target)
        if six:
            head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + b"".join(socket.inet_pton(socket.AF_INET6, a) for a in (source, target))
        else:
            head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + socket.inet_aton(source) + socket.inet_aton(target)
            head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        self.socket.send(mac(target_mac) + mac(source_mac) + struct.pack("!H", 0x86dd if six else 0x0800) + head + body)
        return p["tag"]

    def close(self):
        self.socket.close()


@pytest.fixture(scope="module", autouse=True)
def settled(lab):
    wait_for(lambda: ping(lab.world, V6.format(1)) and ping(lab.c1, WORLD6) and ping(lab.c2, HOST6), PATIENCE, what="IPv6")


@pytest.fixture
def raw(lab):
    raw = Raw(lab.c1)
    raw.host = address_of(lab.host, "nd1")
    yield raw
    raw.close()


@pytest.fixture
def ends(lab):
    """Who sees what arrives: the world, the other container, the host behind its rules."""
    ends = {"world": End(lab.world, "up0"), "other": End(lab.c2, "eth0")}
    yield ends
    for end in ends.values():
        for s in (end.seen, end.header4, end.header6):
            s.close()


def arrived(ends, wanted):
    time.sleep(0.15)
    return {name: end.take() & wanted for name, end in ends.items()}


def host_services(lab):
    return [lab.serve(lab.host, address, 9000, socket.SOCK_DGRAM) for address in ("0.0.0.0", "::")]


def test_forged_frames_arrive_nowhere(lab, raw, ends):
    """MAC, IPv4 and IPv6 must be the container's own, all of them together."""
    services, sent = host_services(lab), set()
    own = {4: V4.format(1), 6: V6.format(1)}
    targets = {4: (WORLD4, V4.format(2), HOST4, GATEWAY4), 6: (WORLD6, V6.format(2), HOST6)}
    forged = {4: (V4.format(2), HOST4, WORLD4, GATEWAY4, "169.254.9.9", "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1"),
              6: (V6.format(2), HOST6, WORLD6, GATEWAY6, "::1", "fe80::9", "ff02::1", "::", "::ffff:10.96.0.1")}
    for family, protocol in ((4, UDP), (4, TCP), (6, UDP), (6, TCP)):
        for target in targets[family]:
            sent |= {raw.send(MAC.format(1), raw.host, source, target, protocol) for source in forged[family]}
            sent |= {raw.send(other, raw.host, own[family], target, protocol) for other in (MAC.format(2), raw.host, "02:00:00:00:00:09")}
    assert arrived(ends, sent) == {"world": set(), "other": set()}
    assert [s.seen for s in services] == [[], []]
    good = {raw.send(MAC.format(1), raw.host, own[family], targets[family][0], UDP) for family in (4, 6)}
    assert arrived(ends, good)["world"] == good, "what is not forged passes"


def test_forged_neighbours_change_nothing(lab, raw):
    """Who says that another container's address is his is not believed."""
    for protocol, body in ((1, "request"), (2, "reply")):
        raw.socket.send(mac("ff:ff:ff:ff:ff:ff") + mac(MAC.format(1)) + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, protocol) +
                        mac(MAC.format(1)) + socket.inet_aton(V4.format(2)) + mac(raw.host) + socket.inet_aton(V4.format(2)))
    neighbours = lab.host.ip("neigh").stdout
    assert f"{V4.format(2)} dev nd1" not in neighbours
    assert pings(lab.host, V4.format(2)) and pings(lab.c2, GATEWAY4) and pings(lab.host, V6.format(2))


def test_link_local_reaches_nothing(lab, raw, ends):
    """Neither services of the host nor other containers, nor the world's link-local services through the host."""
    services, sent = host_services(lab), set()
    lab.world.ip("addr", "add", "169.254.169.254/32", "dev", "up0")
    lab.host.ip("route", "add", "169.254.169.254", "dev", "up0")
    own6 = [line.split()[3].split("/")[0] for line in lab.c1.ip("-6", "-o", "addr", "show", "eth0", "scope", "link").stdout.splitlines()]
    theirs = [line.split()[3].split("/")[0] for line in lab.c2.ip("-6", "-o", "addr", "show", "eth0", "scope", "link").stdout.splitlines()]
    assert own6 and theirs
    try:
        for protocol in (UDP, TCP):
            for target in ("169.254.169.254", "169.254.1.2", GATEWAY4):
                sent.add(raw.send(MAC.format(1), raw.host, V4.format(1), target, protocol))
            for source in (own6[0], "fe80::2", V6.format(1)):
                for target in (GATEWAY6, theirs[0], "ff02::1", V6.format(2), WORLD6 if source.startswith("fe80") else GATEWAY6):
                    sent.add(raw.send(MAC.format(1), raw.host, source, target, protocol))
        assert arrived(ends, sent) == {"world": set(), "other": set()}
        assert [s.seen for s in services] == [[], []]
        lab.serve(lab.world, "169.254.169.254", 80)
        assert outcome(lab.c1, "169.254.169.254", 80) == "silent", "the metadata of the host's own cloud"
        assert opens(lab.host, "169.254.169.254", 80)
    finally:
        lab.world.ip("addr", "del", "169.254.169.254/32", "dev", "up0")
        lab.host.ip("route", "del", "169.254.169.254", "dev", "up0")


@pytest.mark.parametrize("way_out", ["open", "relayed", "blocked"])
def test_the_relay_of_another(lab, raw, way_out):
    """Its sockets are found by rules only, by no address that a packet could have."""
    lab.drive("set", **container(1, way_out=way_out))
    lab.drive("set", **container(2, way_out="relayed"))
    # a host that lets loopback addresses in from outside, as some do
    lab.host.exec("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet")
    for address in ("127.110.0.2", "100::6e64:2"):
        with relay_socket(lab, address, socket.SOCK_STREAM) as tcp, relay_socket(lab, address, socket.SOCK_DGRAM) as udp:
            source = V6.format(1) if ":" in address else V4.format(1)
            raw.send(MAC.format(1), raw.host, source, address, TCP, 14641)
            raw.send(MAC.format(1), raw.host, source, address, UDP, 53)
            if ":" in address:
                assert outcome(lab.c1, address, 14641) == "silent" and udp_outcome(lab.c1, address, 53) == "silent"
            for s, take in ((tcp, tcp.accept), (udp, lambda s=udp: s.recvfrom(100))):
                s.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    take()
    lab.host.exec("sh", "-c", "echo 0 >/proc/sys/net/ipv4/conf/all/route_localnet")


@pytest.mark.parametrize("address", [HOST4, HOST6, GATEWAY4])
def test_a_transparent_listener_is_no_way_in(lab, address):
    """A proxy's port that is not for containers stays closed, also when its socket is transparent."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = lab.host.socket(address, kind)
        s.setsockopt(socket.IPPROTO_IPV6 if ":" in address else socket.IPPROTO_IP, 75 if ":" in address else 19, 1)
        s.bind((address, 7000))
        if kind == socket.SOCK_STREAM:
            s.listen()
        with s:
            check = outcome if kind == socket.SOCK_STREAM else udp_outcome
            assert check(lab.c1, address, 7000) == "silent"
            s.settimeout(0.2)
            with pytest.raises(TimeoutError):
                s.accept() if kind == socket.SOCK_STREAM else s.recvfrom(100)


def test_the_next_owner_inherits_nothing(lab):
    """Flows of a container that is deleted do not reach who gets its addresses next."""
    lab.serve(lab.c1, "0.0.0.0", 7, socket.SOCK_DGRAM)
    with lab.world.socket(WORLD4, socket.SOCK_DGRAM) as direct, lab.world.socket(WORLD4, socket.SOCK_DGRAM) as far, \
            lab.c1.socket(WORLD4, socket.SOCK_DGRAM) as near:
        direct.bind((WORLD4, 5001))
        direct.connect((V4.format(1), 7))
        direct.send(b"?")
        assert direct.recv(100)
        far.bind((WORLD4, 5002))
        near.bind((V4.format(1), 5003))
        near.sendto(b"hello", (WORLD4, 5002))
        masqueraded = far.recvfrom(100)[1]
        assert masqueraded[0] == HOST4
        closed = container(1, ingress=[rule("drop", "udp")])
        lab.drive("set", **closed)
        direct.send(b"?")
        assert direct.recv(100), "established"
        lab.drive("remove", slot=1)
        lab.drive("link_delete", slot=1)
        lab.containers.pop(1).delete()
        lab.drive("set", **closed)
        lab.drive("link_create", slot=1)
        lab.c1 = lab.container(1)
        wait_for(lambda: ping(lab.c1, WORLD4), PATIENCE, what="the new owner")
        heir = [lab.serve(lab.c1, "0.0.0.0", port, socket.SOCK_DGRAM) for port in (7, 5003)]
        direct.send(b"?")
        far.sendto(b"for the old one", masqueraded)
        time.sleep(0.3)
        assert [s.seen for s in heir] == [[], []]
        wait_for(lambda: ping(lab.c1, WORLD6), PATIENCE, what="IPv6")
