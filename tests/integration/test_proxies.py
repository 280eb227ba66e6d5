# SPDX-License-Identifier: Apache-2.0
"""The files of docs/proxies with the nginx and haproxy of Debian, in every case that docs/PROXIES.md lists: who the client
is, IPv4 and IPv6, TCP with TLS and UDP, both ways of finding back, both settings of rp_filter; a foreign chain drops what
the connection tracking calls invalid.

    world (a client outside) --- host (the proxy, 443) --- c1 (the service: TCP 7001, UDP 443), c2 (another container)
"""
import ipaddress
import os
import pwd
import re
import socket
import tempfile
import time

import pytest
import yaml

from netlab import IP_TRANSPARENT, IPV6_TRANSPARENT, Drive, Lab
from proxy import FILES, Datagrams, Proxy, Web, documented

HOST = {4: "198.51.100.1", 6: "2001:db8:1::1"}
WORLD = {4: "198.51.100.7", 6: "2001:db8:1::7"}
BOX, OTHER = {4: "10.96.0.1", 6: "fd6e:6f64:6564::1"}, {4: "10.96.0.2", 6: "fd6e:6f64:6564::2"}
LINK = {4: "169.254.1.1", 6: "fe80::1"}  # the host's end of every container's link
SERVICE = 7001
INVALID = """
table inet strict {
    chain input { type filter hook input priority 10; policy accept; ct state invalid counter drop; }
    chain output { type filter hook output priority 10; policy accept; ct state invalid counter drop; }
    chain forward { type filter hook forward priority 10; policy accept; ct state invalid counter drop; }
}
"""

# client: (its namespace, where it finds the proxy, its address, whether the service can see that)
CLIENTS = {
    "outside": ("world", HOST, WORLD, True),
    "another container": ("c2", HOST, OTHER, True),
    "the container itself": ("c1", HOST, BOX, False),
    "the host by its public address": ("host", HOST, HOST, True),
    "the host by its address on the link": ("host", {4: LINK[4], 6: LINK[6] + "%nd1"}, LINK, False),
    "the host by loopback": ("host", {4: "127.0.0.1", 6: "::1"}, {4: "127.0.0.1", 6: "::1"}, False),
}


@pytest.fixture(scope="module")
def lab():
    lab = Lab()
    services = []
    try:
        uids = [pwd.getpwnam(name).pw_uid for name in ("haproxy", "www-data")]
        drive = Drive(lab.host)
        drive("open", host_tcp_ports=[443, 8443], host_udp_ports=[443], proxy_uids=uids)
        drive("sync", containers=[{"slot": slot, "kit_ports": [SERVICE]} for slot in (1, 2)])
        for slot in (1, 2):
            drive("link_create", slot=slot)
            lab.container(slot)
        lab.drive, lab.c1, lab.c2 = drive, lab.containers[1], lab.containers[2]
        load(lab, INVALID)
        services += [Web(lab.c1, address, SERVICE) for address in ("0.0.0.0", "::")]
        services += [Datagrams(lab.c1, address, 443) for address in ("0.0.0.0", "::")]
        lab.datagrams = {4: services[2], 6: services[3]}
        yield lab
        drive.close()
    finally:
        for service in services:
            service.stop()
        lab.close()


def load(lab, text, space=None):
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as f:
        f.write(text)
        f.flush()
        (space or lab.host).exec("nft", "-f", f.name)


def set_rp_filter(lab, value):
    """For all interfaces; a container's link has 1, and the larger one counts."""
    for name in ("all", "up0"):
        lab.host.exec("sh", "-c", f"echo {value} >/proc/sys/net/ipv4/conf/{name}/rp_filter")


def run_proxy(lab, kind, directory, **more):
    return Proxy(kind, str(directory), {"ipv4": BOX[4], "ipv6": BOX[6]}, enter=["ip", "netns", "exec", lab.host.name], **more)


PROXIES = [(kind, way, rp) for kind in FILES for way, rp in (("socket", 1), ("socket", 2), ("mark", 1))]


def name_of(params):
    kind, way, rp = params
    return f"{kind}-{way}-rp{rp}"


@pytest.fixture(scope="module", params=PROXIES, ids=name_of)
def proxy(request, lab, tmp_path_factory):
    kind, way, rp = request.param
    directory = tmp_path_factory.mktemp("proxy")
    for path in (directory, directory.parent, directory.parent.parent):
        os.chmod(path, 0o755)
    set_rp_filter(lab, rp)
    if way == "mark":
        load(lab, documented("mark.nft"))
    p = run_proxy(lab, kind, directory)
    p.way = way
    yield p
    p.stop()
    if way == "mark":
        lab.host.exec("nft", "delete", "table", "inet", "proxy_mark")


def connected(lab, proxy, client, family, kind=socket.SOCK_STREAM):
    space, address, own, _ = CLIENTS[client]
    space, (address, _, link) = getattr(lab, space), address[family].partition("%")
    s = space.socket(address, kind)
    if client == "outside":
        s.bind((own[family], 0))
    with space.entered():
        scope = socket.if_nametoindex(link) if link else 0
    s.connect((address, proxy.port, 0, scope) if family == 6 else (address, proxy.port))
    return s


def ask(lab, proxy, client, family):
    return proxy.ask(connected(lab, proxy, client, family))


def drops(lab):
    """Packets that a rule about invalid connections dropped: the foreign ones' and ours."""
    text = lab.host.exec("nft", "list", "ruleset").stdout
    return sum(int(n) for n in re.findall(r"ct state invalid counter packets (\d+)", text))


def is_hosts(address):
    return address in (HOST[4], HOST[6], LINK[4]) or ipaddress.ip_address(address.split("%")[0]).is_link_local


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("client", list(CLIENTS))
def test_tcp(lab, proxy, client, family):
    _, _, own, seen = CLIENTS[client]
    before, begin = drops(lab), time.monotonic()
    answer = ask(lab, proxy, client, family)
    assert time.monotonic() - begin < 3, "no waiting for a time limit"
    if seen:
        assert answer["peer"] == own[family]
        assert answer["told"] is None, "no PROXY header where the address itself is seen"
    else:
        assert answer["peer"] != own[family] or own is LINK
        assert is_hosts(answer["peer"]), answer
        assert proxy.kind != "haproxy-tcp" or answer["told"] == own[family]
    if proxy.kind in ("haproxy", "nginx"):
        assert answer["forwarded"] == own[family]
    assert drops(lab) == before


REJECTS = """
table inet own {
    chain input { type filter hook input priority 0; tcp dport 7009 reject with icmpx port-unreachable; }
}
"""


@pytest.fixture(scope="module")
def rejecting(lab):
    """The service's own firewall refuses a port."""
    load(lab, REJECTS, lab.c1)
    yield
    lab.c1.exec("nft", "delete", "table", "inet", "own")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("way", ["socket", "mark"])
def test_a_port_that_the_container_rejects_is_refused_at_once(lab, rejecting, way, family):
    """An ICMP error is addressed to the client, whose address the proxy has; it must not wait for its time limit."""
    with lab.host.socket(BOX[family]) as s:
        if family == 6:
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        else:
            s.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        if way == "mark":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x200)
        s.bind((WORLD[family], 0))
        s.settimeout(60)
        begin = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            s.connect((BOX[family], 7009))
        assert time.monotonic() - begin < 20, "not by the end of its patience"


@pytest.mark.parametrize("family", [4, 6])
def test_the_way_back(lab, proxy, family):
    """The mark is on the connection exactly when it is the way."""
    lab.host.exec("conntrack", "-F")
    assert ask(lab, proxy, "outside", family)["peer"] == WORLD[family]
    entries = lab.host.exec("conntrack", "-L", "-f", f"ipv{family}", "-p", "tcp", "--orig-port-dst", str(SERVICE)).stdout
    assert ("mark=256" in entries) == (proxy.way == "mark"), entries


def exchange(lab, proxy, client, family, count=5):
    """Datagrams of different sizes there and back over one socket; from whom the service saw them."""
    service = lab.datagrams[family]
    service.seen.clear()
    with connected(lab, proxy, client, family, socket.SOCK_DGRAM) as s:
        for i in range(count):
            sent = bytes([i]) * (1 + 290 * i)
            s.send(sent)
            answers = {s.recv(65536), s.recv(65536)}
            assert sent in answers
            (who,) = answers - {sent}
    assert len(service.seen) == count and len(set(service.seen)) == 1, "one flow"
    return who.decode()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("client", list(CLIENTS))
@pytest.mark.parametrize("proxy", [p for p in PROXIES if p[0] == "nginx-stream"], ids=name_of, indirect=True)
def test_udp(lab, proxy, client, family):
    _, _, own, seen = CLIENTS[client]
    before = drops(lab)
    who = exchange(lab, proxy, client, family)
    assert who == own[family] if seen else is_hosts(who)
    assert drops(lab) == before


@pytest.mark.parametrize("way", ["blocked", "relayed"])
@pytest.mark.parametrize("proxy", [p for p in PROXIES if p[0] == "nginx-stream"], ids=name_of, indirect=True)
def test_a_service_without_a_way_out_answers(lab, proxy, way):
    """Its network configuration runs: the relay, if there is one, is not given what is for the proxy."""
    lab.drive("set", slot=1, kit_ports=[SERVICE], way_out=way)
    try:
        for family in (4, 6):
            assert ask(lab, proxy, "outside", family)["peer"] == WORLD[family]
            assert exchange(lab, proxy, "outside", family) == WORLD[family]
    finally:
        lab.drive("set", slot=1, kit_ports=[SERVICE])


def test_without_the_fallback_there_is_an_end(lab, tmp_path):
    """A file without its exceptions: the container that asks for itself gets an error in time."""
    os.chmod(tmp_path, 0o755)
    os.chmod(tmp_path.parent, 0o755)
    p = run_proxy(lab, "haproxy", tmp_path, port=8443, edit=lambda text: re.sub(r" +use_backend .*\n", "", text).replace("connect 5s", "connect 1s"))
    try:
        begin = time.monotonic()
        assert ask(lab, p, "the container itself", 4) == 503
        assert ask(lab, p, "the host by loopback", 4) == 503
        assert time.monotonic() - begin < 12
    finally:
        p.stop()


def test_another_account_is_nobody(lab, tmp_path):
    """The way without the client's address works for the accounts of the configuration only."""
    p = run_proxy(lab, "plain", tmp_path, port=8443, user="root")
    try:
        s = lab.world.socket(HOST[4])
        s.connect((HOST[4], 8443))
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert s.recv(100) == b""
    finally:
        p.stop()


def names_in(value):
    if isinstance(value, dict):
        yield from (v for k, v in value.items() if k in ("@type", "name"))
        for v in value.values():
            yield from names_in(v)
    elif isinstance(value, list):
        for v in value:
            yield from names_in(v)


def test_envoy():
    """Debian has no Envoy: the shape of the file, and the names that Envoy's documentation gives."""
    j = yaml.safe_load(documented("envoy.yaml"))
    api = "type.googleapis.com/envoy.extensions."
    assert {n for n in names_in(j) if "." in n} == {
        "envoy.transport_sockets.tls", api + "transport_sockets.tls.v3.DownstreamTlsContext",
        "envoy.filters.network.http_connection_manager",
        api + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "envoy.filters.http.router", api + "filters.http.router.v3.Router",
        "envoy.filters.http.original_src", api + "filters.http.original_src.v3.OriginalSrc"}
    listeners, clusters = (j["static_resources"][k] for k in ("listeners", "clusters"))
    assert {c["name"] for c in clusters} == {"box4", "box6"}
    for listener, family in zip(listeners, (4, 6)):
        plain, transparent = listener["filter_chains"]
        ranges = [ipaddress.ip_network(f"{r['address_prefix']}/{r['prefix_len']}")
                  for r in plain["filter_chain_match"]["source_prefix_ranges"]]
        assert "filter_chain_match" not in transparent
        for client, (_, _, own, seen) in CLIENTS.items():
            assert any(ipaddress.ip_address(own[family]) in r for r in ranges) == (not seen), client
        for chain, filters in ((plain, ["router"]), (transparent, ["original_src", "router"])):
            manager = chain["filters"][0]["typed_config"]
            assert [f["name"].rsplit(".", 1)[1] for f in manager["http_filters"]] == filters
            assert manager["use_remote_address"] is True
            assert manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] == f"box{family}"
        assert transparent["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]["mark"] == 0x200
