# SPDX-License-Identifier: Apache-2.0
"""Containers that are proxies: nginx and haproxy in one, with the files of docs/proxies and what docs/PROXIES.md says
about such a container's own network; real packets, containers are namespaces.

    world --- host (port 443 leads to p) --- c1 (the service: TCP 7001, UDP 443), c2 (another one), p (the proxy)
"""
import json
import os
import re
import socket
import tempfile

import pytest

from netlab import IP_TRANSPARENT, IPV6_TRANSPARENT, PATIENCE, SILENCE, Drive, Lab
from proxy import Datagrams, Proxy, Web, documented

HOST = {4: "198.51.100.1", 6: "2001:db8:1::1"}
WORLD = {4: "198.51.100.7", 6: "2001:db8:1::7"}
BOX, OTHER, PROXY = ({4: f"10.96.0.{n}", 6: f"fd6e:6f64:6564::{n}"} for n in (1, 2, 3))
SERVICE = 7001
FORWARDS = [[protocol, 443, 443] for protocol in ("tcp", "udp")]
INVALID = """
table inet strict {
    chain forward { type filter hook forward priority 10; policy accept; ct state invalid counter drop; }
}
"""


def container(slot, **more):
    return {"slot": slot, "kit_ports": [SERVICE], "ingress": [{"action": "drop", "protocol": "tcp"}] if slot == 1 else [],
            "proxy": slot == 3, "forwards": FORWARDS if slot == 3 else [], **more}


ALL = [container(slot) for slot in (1, 2, 3)]


@pytest.fixture(scope="module")
def lab():
    lab = Lab()
    services = []
    try:
        drive = Drive(lab.host)
        drive("open")
        drive("sync", containers=[])
        for slot in (1, 2, 3):
            drive("link_create", slot=slot)
            drive("set", **container(slot))
            lab.container(slot)
        lab.drive = drive
        lab.c1, lab.c2, lab.p = (lab.containers[n] for n in (1, 2, 3))
        with tempfile.NamedTemporaryFile("w", suffix=".nft") as f:
            f.write(INVALID)
            f.flush()
            lab.host.exec("nft", "-f", f.name)
        in_proxy(lab.p)
        services += [Web(lab.c1, address, SERVICE) for address in ("0.0.0.0", "::")]
        services += [Datagrams(lab.c1, address, 443) for address in ("0.0.0.0", "::")]
        yield lab
        drive.close()
    finally:
        for service in services:
            service.stop()
        lab.close()


def in_proxy(space):
    """What docs/PROXIES.md has the root of the container do, once a boot."""
    if "iif eth0" in space.ip("rule").stdout:
        return
    for line in documented("container.sh").splitlines():
        if line.startswith("ip "):
            space.exec(*line.split())


@pytest.fixture(autouse=True)
def declared(lab):
    lab.drive("set", **container(3))


@pytest.fixture(scope="module", params=["haproxy", "haproxy-tcp", "nginx", "nginx-stream"])
def proxy(request, lab, tmp_path_factory):
    directory = tmp_path_factory.mktemp("proxy")
    for path in (directory, directory.parent, directory.parent.parent):
        os.chmod(path, 0o755)
    p = Proxy(request.param, str(directory), {"ipv4": BOX[4], "ipv6": BOX[6]}, enter=["ip", "netns", "exec", lab.p.name])
    yield p
    p.stop()


def ask(space, proxy, family, source=None):
    s = space.socket(HOST[family])
    if source:
        s.bind((source, 0))
    s.connect((HOST[family], 443))
    return proxy.ask(s)


def connects(space, source, target, port, kind=socket.SOCK_STREAM, timeout=PATIENCE):
    """A connection, or an answer, from an address that need not be its own."""
    with space.socket(target, kind) as s:
        if ":" in target:
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        else:
            s.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        s.settimeout(timeout)
        s.bind((source, 0))
        try:
            s.connect((target, port))
            if kind == socket.SOCK_DGRAM:
                s.send(b"?")
                return bool(s.recv(100))
            return True
        except OSError:
            return False


@pytest.mark.parametrize("family", [4, 6])
def test_the_service_sees_the_client(lab, proxy, family):
    for rp in (1, 2):
        lab.host.exec("sh", "-c", f"echo {rp} >/proc/sys/net/ipv4/conf/all/rp_filter; echo {rp} >/proc/sys/net/ipv4/conf/up0/rp_filter")
        assert ask(lab.world, proxy, family, WORLD[family])["peer"] == WORLD[family]
        assert ask(lab.c2, proxy, family)["peer"] == OTHER[family], "another container"
    assert ask(lab.c1, proxy, family)["peer"] == PROXY[family], "the container itself: plainly"


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("proxy", ["nginx-stream"], indirect=True)
def test_udp(lab, proxy, family):
    for space, own in ((lab.world, WORLD[family]), (lab.c2, OTHER[family]), (lab.c1, PROXY[family])):
        with space.socket(HOST[family], socket.SOCK_DGRAM) as s:
            if space is lab.world:
                s.bind((own, 0))
            s.connect((HOST[family], 443))
            for i in range(5):
                s.send(bytes([i]) * (200 * i + 1))
                assert {s.recv(4096), s.recv(4096)} == {own.encode(), bytes([i]) * (200 * i + 1)}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_what_it_may_and_what_not(lab, kind, family):
    port = SERVICE if kind == socket.SOCK_STREAM else 443
    client, service = WORLD[family], BOX[family]
    assert connects(lab.p, client, service, port, kind)
    assert connects(lab.p, PROXY[family], service, port, kind), "its own address"
    assert not connects(lab.p, HOST[family], service, port, kind, timeout=SILENCE), "an address of the host"
    in_proxy(lab.c2)
    assert not connects(lab.c2, client, service, port, kind, timeout=SILENCE), "it is not declared"
    with_server = lab.world.socket(WORLD[family], kind)
    with_server.bind((WORLD[family], 9999))
    if kind == socket.SOCK_STREAM:
        with_server.listen()
        assert connects(lab.p, PROXY[family], WORLD[family], 9999)
    foreign = {4: "203.0.113.9", 6: "2001:db8:9::9"}[family]
    assert not connects(lab.p, foreign, WORLD[family], 9999, kind, timeout=SILENCE), "only towards containers"
    if kind == socket.SOCK_DGRAM:
        with_server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            with_server.recv(10)
    with_server.close()


def rules(lab, family):
    return lab.host.ip(f"-{family}", "rule").stdout


def test_taking_it_back_is_at_once_and_whole(lab):
    stream = lab.p.socket(BOX[4])
    stream.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    stream.bind((WORLD[4], 0))
    stream.connect((BOX[4], SERVICE))
    assert "0x30300" in rules(lab, 4) and "0x30300" in rules(lab, 6)
    assert lab.host.exec("cat", "/proc/sys/net/ipv4/conf/nd3/rp_filter").stdout == "2\n"
    assert lab.host.exec("cat", "/proc/sys/net/ipv4/conf/nd1/rp_filter").stdout == "1\n"
    assert "dev nd3" in lab.host.ip("route", "show", "table", "1100003").stdout
    lab.drive("set", **container(3, proxy=False))
    stream.settimeout(0.5)
    stream.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(TimeoutError):
        stream.recv(100)
    stream.close()
    for family in (4, 6):
        assert not connects(lab.p, WORLD[family], BOX[family], SERVICE, timeout=SILENCE)
        assert not connects(lab.p, PROXY[family], BOX[family], SERVICE, timeout=SILENCE), "a kit port, for a container like any other"
        assert "0x30300" not in rules(lab, family)
    assert lab.host.exec("cat", "/proc/sys/net/ipv4/conf/nd3/rp_filter").stdout == "1\n"
    assert lab.host.ip("route", "show", "table", "1100003", check=False).stdout == ""
    assert str(0x30300) not in lab.host.exec("conntrack", "-L").stdout
    lab.drive("set", **container(3))
    assert connects(lab.p, WORLD[4], BOX[4], SERVICE)


def test_a_service_that_is_not_ready(lab):
    lab.drive("set", **container(1, closed=True))
    assert not connects(lab.p, WORLD[4], BOX[4], SERVICE, timeout=SILENCE)
    lab.drive("set", **container(1))
    assert connects(lab.p, WORLD[4], BOX[4], SERVICE)


@pytest.mark.parametrize("way", ["blocked", "relayed"])
def test_ways_out_are_no_matter(lab, way):
    """Neither the service's nor the proxy's own: the first answers, the second goes to containers only."""
    lab.drive("set", **container(1, way_out=way))
    lab.drive("set", **container(3, way_out=way))
    try:
        for family in (4, 6):
            assert connects(lab.p, WORLD[family], BOX[family], SERVICE)
            assert connects(lab.p, WORLD[family], BOX[family], 443, socket.SOCK_DGRAM)
    finally:
        lab.drive("set", **container(1))


def test_a_rebuild_restores_it(lab):
    lab.host.exec("nft", "flush", "ruleset")
    for family in (4, 6):
        lab.host.ip(f"-{family}", "rule", "del", "pref", "101")
        lab.host.ip(f"-{family}", "route", "flush", "table", "1100003")
        lab.host.ip(f"-{family}", "rule", "add", "pref", "101", "fwmark", "0x90300/0xffffff00", "lookup", "1100009",
                    "protocol", "110")
    lab.drive("sync", containers=ALL)
    for family in (4, 6):
        assert connects(lab.p, WORLD[family], BOX[family], SERVICE)
        assert "0x90300" not in rules(lab, family), "of one that is none any more"
    lab.drive("sync", containers=[container(1), container(2), container(3, proxy=False)])
    assert "101:" not in rules(lab, 4) + rules(lab, 6)
    assert not connects(lab.p, WORLD[4], BOX[4], SERVICE, timeout=SILENCE)
    assert lab.host.exec("cat", "/proc/sys/net/ipv4/conf/nd3/rp_filter").stdout == "1\n"


def test_it_can_be_read(lab):
    text = lab.host.exec("nft", "list", "table", "inet", "noded").stdout
    assert re.search(r'set proxies \{\s+type ifname\s+elements = \{ "nd3" \}', text), text
    assert re.search(r'map proxy_marks \{\s+type ifname : mark\s+elements = \{ "nd3" : 0x00030300 \}', text)
    for line in ('ct mark set iifname map @proxy_marks', 'iifname @proxies oifname "nd*" goto proxied',
                 'meta mark set ct mark', 'iifname @proxies jump antispoof_proxy'):
        assert line in text, line
    j = json.loads(lab.host.exec("nft", "-j", "list", "table", "inet", "noded").stdout)
    before = len(j["nftables"])
    lab.drive("set", **container(2, proxy=True))
    j = json.loads(lab.host.exec("nft", "-j", "list", "table", "inet", "noded").stdout)
    assert len(j["nftables"]) == before, "a second proxy is two elements, nothing else"
    lab.drive("set", **container(2))


def test_the_link_comes_again(lab):
    """As at a restart of the container; then it goes for good."""
    lab.drive("remove", slot=3)
    assert "101:" not in rules(lab, 4) + rules(lab, 6)
    lab.drive("link_create", slot=3)
    lab.drive("set", **container(3))
    lab.container(3)
    in_proxy(lab.p)
    assert connects(lab.p, WORLD[4], BOX[4], SERVICE) and connects(lab.p, WORLD[6], BOX[6], SERVICE)
    lab.drive("remove", slot=3)
    lab.drive("link_delete", slot=3)
    assert "101:" not in rules(lab, 4) + rules(lab, 6)
