# SPDX-License-Identifier: Apache-2.0
"""UDP of a container through a SOCKS5 proxy, in the surroundings of test_egress.py: it goes by the proxy or not at all."""
import json
import os
import socket
import subprocess
import time

import pytest
from netlab import Server
from test_egress import (EXIT4, EXIT6, HOST4, PROXY4, TARGET4, TARGET6, ask, box, certificate, configure, net,  # noqa: F401
                         node, path, proxies, relays, servers)
from upstream import Eye
from world import run, wait_for

PORT = 9000


@pytest.fixture(scope="module")
def echo(net):  # noqa: F811
    made = {a: Server(net, a, PORT, socket.SOCK_DGRAM) for a in (TARGET4, TARGET6)}
    yield made
    for s in made.values():
        s.close()


@pytest.fixture
def proxy(proxies):  # noqa: F811
    p = proxies["socks5"]
    p.carries, p.bound, p.strangers = True, None, False
    p.datagrams.clear()
    yield p
    p.carries, p.bound, p.strangers = True, None, False


TALK = """
import json, socket, sys, time
targets, sizes, sources, wait = json.loads(sys.argv[1])
made = {f: [socket.socket(f, socket.SOCK_DGRAM) for _ in range(sources)] for f in (socket.AF_INET, socket.AF_INET6)}
heard = []
for size in sizes:
    for host, port in targets:
        senders = made[socket.AF_INET6 if ":" in host else socket.AF_INET]
        for s in senders:
            try:
                s.sendto(b"x" * size, (host, port))
            except OSError:
                pass
        end = time.monotonic() + wait
        for s in senders:
            s.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data, peer = s.recvfrom(65536)
                heard.append([data.decode().strip(), peer[0], peer[1]])
            except OSError:
                heard.append(None)
print(json.dumps(heard))
"""


def talk(node, box, targets, sizes=(1,), sources=1, wait=2):  # noqa: F811
    """What is heard for each datagram: [its text, from whom]."""
    pid = node.container(box)["node"]["init_pid"]
    r = subprocess.run(["nsenter", "-t", str(pid), "-n", "/usr/bin/python3", "-c", TALK,
                        json.dumps([targets, sizes, sources, wait])], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(r.stdout)


def udp(node, path):  # noqa: F811
    return node.get(path).data["remote_status"]["udp"]


def only_the_proxy(seen):
    return [p for p in seen if p[1] != PROXY4 and p[2] in (1, 6, 17)] == []


def test_datagrams_go_there_and_back(node, box, path, proxy, echo):  # noqa: F811
    configure(node, path, "socks5")
    assert udp(node, path) == {"carried": None, "associations": 0, "dropped": 0}
    eye = Eye("egr0")
    sizes = [1, 0, 500, 1200, 1400]
    heard = talk(node, box, [(TARGET4, PORT), (TARGET6, PORT)], sizes)
    seen = eye.stop()
    assert heard == [[EXIT4, TARGET4, PORT], [EXIT6, TARGET6, PORT]] * len(sizes), "from whom it was sent to"
    assert [n for (host, _), n in proxy.datagrams if host == TARGET4] == sizes
    assert only_the_proxy(seen), seen
    assert any(p[2] == 17 for p in seen)
    wait_for(lambda: udp(node, path)["carried"] is True, 5, what="the status")
    assert node.get(path).data["status"] == "running"


def test_many_sources_and_targets(node, box, path, proxy, echo, net):  # noqa: F811
    configure(node, path, "socks5")
    more = [Server(net, TARGET4, PORT + n, socket.SOCK_DGRAM) for n in (1, 2, 3)]
    try:
        targets = [(TARGET4, PORT + n) for n in range(4)]
        heard = talk(node, box, targets, [10, 20, 30], sources=20)
        assert heard == [[EXIT4, TARGET4, port] for _ in range(3) for _, port in targets for _ in range(20)]
        assert len(proxy.associations) >= 20
    finally:
        for s in more:
            s.close()


def test_there_are_bounds(node, box, path, proxy, echo):  # noqa: F811
    """More sources than associations: those above get nothing, the others go on."""
    configure(node, path, "socks5")
    (pid,) = relays(node)
    heard = talk(node, box, [(TARGET4, PORT)], [1], sources=150, wait=3)
    assert heard.count([EXIT4, TARGET4, PORT]) == 128 and heard.count(None) == 22
    wait_for(lambda: udp(node, path)["dropped"] >= heard.count(None), 8, what="the count")
    assert relays(node) == [pid]
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    assert rss < 32768, rss
    time.sleep(5.5)
    assert talk(node, box, [(TARGET4, PORT)]) == [[EXIT4, TARGET4, PORT]], "one that was idle makes room"


def test_a_proxy_that_refuses(node, box, path, proxy, servers, echo):  # noqa: F811
    proxy.carries = False
    configure(node, path, "socks5")
    eye = Eye("egr0")
    assert talk(node, box, [(TARGET4, PORT), (TARGET6, PORT)], [1, 1], wait=0.5) == [None] * 4
    assert ask(node, box) == EXIT4, "TCP works"
    wait_for(lambda: udp(node, path)["dropped"] >= 4, 8, what="the count")
    assert udp(node, path)["carried"] is False and udp(node, path)["associations"] == 0
    assert node.get(path).data["status"] == "running"
    assert only_the_proxy(eye.stop())


@pytest.mark.parametrize("kind", ["http", "https"])
def test_other_proxies_carry_none(node, box, path, proxies, echo, kind):  # noqa: F811
    configure(node, path, kind)
    eye = Eye("egr0")
    assert talk(node, box, [(TARGET4, PORT), (TARGET6, PORT)], wait=0.5) == [None] * 2
    assert not [p for p in eye.stop() if p[2] in (1, 17)]
    assert udp(node, path) is None


@pytest.mark.parametrize("bound", [("127.0.0.1", 9000), (HOST4, 9000), ("169.254.169.254", 9000), ("10.96.0.1", 9000),
                                   ("fe80::1", 9000), ("::1", 9000), (PROXY4, 0), ("127.0.0.53", 9000), ("::ffff:127.0.0.1", 9000),
                                   ("::ffff:10.96.0.1", 9000), ("224.0.0.1", 9000), ("198.51.100.255", 9000)])
def test_a_proxy_that_names_another_place(node, box, path, proxy, echo, bound):  # noqa: F811
    """Datagrams are not sent to the host itself, its surroundings or its containers."""
    proxy.bound = bound
    configure(node, path, "socks5")
    eyes = [Eye("egr0"), Eye("lo")]
    assert talk(node, box, [(TARGET4, PORT)], wait=0.5) == [None]
    assert not [p for eye in eyes for p in eye.stop() if p[2] == 17]
    wait_for(lambda: udp(node, path)["carried"] is False, 8, what="the status")


@pytest.fixture
def any_bind():
    """Hosts with addresses that move to and fro have it so."""
    names = [f"net.{ip}.ip_nonlocal_bind" for ip in ("ipv4", "ipv6")]
    for name in names:
        run("sysctl", "-qw", f"{name}=1")
    yield
    for name in names:
        run("sysctl", "-qw", f"{name}=0")


def test_on_a_host_that_binds_any_address(node, box, path, proxy, echo, any_bind):  # noqa: F811
    """What is the host's own is told apart all the same."""
    configure(node, path, "socks5")
    assert talk(node, box, [(TARGET4, PORT), (TARGET6, PORT)]) == [[EXIT4, TARGET4, PORT], [EXIT6, TARGET6, PORT]]
    assert talk(node, box, [("198.51.100.255", PORT), ("224.0.0.9", PORT)], wait=0.5) == [None] * 2


def test_a_proxy_that_means_itself(node, box, path, proxy, echo):  # noqa: F811
    """0.0.0.0 is the proxy's own address: nobody listens at this port there, but that is where they go."""
    proxy.bound = ("0.0.0.0", 4321)
    configure(node, path, "socks5")
    eye = Eye("egr0")
    talk(node, box, [(TARGET4, PORT)], wait=0.5)
    assert {p[1:] for p in eye.stop() if p[2] == 17} == {(PROXY4, 17, 4321)}


def test_strangers_and_nonsense_are_dropped(node, box, path, proxy, echo):  # noqa: F811
    proxy.strangers = True
    configure(node, path, "socks5")
    heard = talk(node, box, [(TARGET4, PORT)], [1] * 5)
    assert heard == [[EXIT4, TARGET4, PORT]] * 5
    wait_for(lambda: udp(node, path)["dropped"] >= 20, 8, what="the count")


def test_the_end_of_the_connection_ends_the_association(node, box, path, proxy, echo):  # noqa: F811
    configure(node, path, "socks5")
    assert talk(node, box, [(TARGET4, PORT)]) == [[EXIT4, TARGET4, PORT]]
    (pid,) = relays(node)
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for c in list(proxy.associations):
        c.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) == before - 3, 5, what="the sockets' end")
    assert talk(node, box, [(TARGET4, PORT)]) == [[EXIT4, TARGET4, PORT]], "a new one"


def test_the_proxy_dies_and_comes_back(node, box, path, proxy, echo):  # noqa: F811
    configure(node, path, "socks5")
    assert talk(node, box, [(TARGET4, PORT)]) == [[EXIT4, TARGET4, PORT]]
    eye = Eye("egr0")
    proxy.stop()
    try:
        assert talk(node, box, [(TARGET4, PORT), (TARGET6, PORT)], [1, 1], wait=0.5) == [None] * 4
        assert only_the_proxy(eye.stop())
    finally:
        proxy.start()
    wait_for(lambda: talk(node, box, [(TARGET4, PORT)], wait=0.5) == [[EXIT4, TARGET4, PORT]], 10, what="the way")


def test_egress_rules_hold(node, box, path, proxy, echo):  # noqa: F811
    configure(node, path, "socks5")
    rules = f"/api/v1/containers/{box}/firewall"
    assert node.post(rules + "/egress", {"action": "drop", "protocol": "udp", "destination": TARGET4}).status == 201
    try:
        assert talk(node, box, [(TARGET4, PORT), (TARGET6, PORT)], wait=0.5) == [None, [EXIT6, TARGET6, PORT]]
    finally:
        assert node.post(rules + "/reset").status == 200


def brokers(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def test_the_broker_has_one_right_and_no_secret_file(node, box, path, proxy, echo):  # noqa: F811
    configure(node, path, "socks5")
    (pid,) = relays(node)
    (broker,) = brokers(pid)
    with open(f"/proc/{broker}/status", encoding="ascii") as f:
        status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == {"65534"} and status["Groups"].strip() == "" and status["NoNewPrivs"] == "1"
    assert {k: int(status[k], 16) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "CapInh": 0, "CapPrm": 1 << 13, "CapEff": 1 << 13, "CapBnd": 0, "CapAmb": 0}
    assert len(os.listdir(f"/proc/{broker}/fd")) == 4, "standard streams and the one to its relay"
    os.kill(broker, 9)
    wait_for(lambda: relays(node) not in ([pid], []) and node.get(path).data["status"] == "running", 10, what="a new relay")
    assert talk(node, box, [(TARGET4, PORT)]) == [[EXIT4, TARGET4, PORT]]
    (pid,) = relays(node)
    (broker,) = brokers(pid)
    os.kill(pid, 9)
    wait_for(lambda: not os.path.exists(f"/proc/{broker}"), 5, what="the end of the broker")
