# SPDX-License-Identifier: Apache-2.0
"""A container's root sends what it likes, as fast as it can: the network of the others and of the host goes on.

NODED_ATTACK_SECONDS is how long an attack lasts.
"""
import contextlib
import json
import socket
import time

import pytest
from attacker import ACCOMPLICES, Attack, accomplice
from daemon import Daemon
from neighbours import ATTACK_SECONDS, Neighbours
from world import run, wait_for

API_P99_MS = 250  # on a machine that others use too; the acceptance run prints what it is


def conntrack(name):
    with open(f"/proc/sys/net/netfilter/nf_conntrack_{name}", encoding="ascii") as f:
        return int(f.read())


def neighbour_entries(node, version):
    """Entries of the host's neighbour table at containers' links that the kernel counts: all but the permanent ones, which
    the node makes."""
    listed = json.loads(run("ip", f"-{version}", "-j", "neigh", "show", "nud", "all"))
    return [n for n in listed if n["dev"].startswith(node.veth) and not {"PERMANENT", "NOARP"} & set(n.get("state", []))]


def link_of(node, cid):
    return node.container(cid)["node"]["interface"]


@pytest.fixture(scope="module")
def node():
    run("ip", "link", "set", "lo", "up")
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def mallory(node):
    cid = node.create("mallory", hoody_kit=False)["id"]
    node.wait_booted(cid)
    return cid


@pytest.fixture(scope="module")
def others(node, mallory):
    with Neighbours(node) as n:
        yield n


def check(seen):
    print(seen)
    assert seen.success >= 0.999, seen
    assert not seen.api_failed and seen.api_p99_ms < API_P99_MS, seen


def flood(node, mallory, others, kinds, *addresses):
    """What the connection table held at most."""
    attack, most = Attack(node, mallory), 0
    with others.watched() as seen:
        for kind in kinds:
            attack.begin(kind, ATTACK_SECONDS, *addresses)
        end = time.monotonic() + ATTACK_SECONDS + 1
        while time.monotonic() < end:
            most = max(most, conntrack("count"))
            time.sleep(0.1)
        sent = attack.wait()
    print(f"{sent} sent, at most {most} of {conntrack('max')} entries")
    check(seen)
    assert all(n > 1000 for n in sent.values()), sent
    return most


def told(node, state, cid=None):
    found = node.get("/api/v1/events?event_type=server.health_changed&limit=500").data["events"]
    return [e for e in found if e["payload"]["component"] == "connections" and e["payload"]["state"] == state and e["container_id"] == cid]


def settled(node):
    """What one container has left behind goes soon."""
    wait_for(lambda: conntrack("count") < 0.1 * conntrack("max"), 60, 0.5, "a table that is empty again")


@pytest.mark.parametrize("kinds", [("udp",), ("syn",), ("udp", "syn")], ids="-".join)
def test_silence_does_not_fill_the_connection_table(node, mallory, others, kinds):
    """New connections to everybody else work while one container sends to addresses that do not answer."""
    before = len(told(node, "limited", mallory))
    most = flood(node, mallory, others, kinds, "203.0.113.2", "203.0.113.6", "2001:db8:113::2", "2001:db8:113:1::2", "192.0.2.1", "192.0.2.2")
    assert most < conntrack("max") * 0.25
    shown = node.get("/healthz").data["network"]["connections"]
    assert shown["at_limit"] == [mallory] and shown["share"] < shown["all"] < shown["max"] == conntrack("max"), shown
    assert len(told(node, "limited", mallory)) == max(before, 1), "one event, as long as it goes on"
    settled(node)


def test_the_hosts_own_ports_do_not_fill_it_either(node, mallory, others):
    most = flood(node, mallory, others, ("udp", "syn"), "169.254.1.1", "203.0.113.1", "2001:db8:113::1")
    assert most < conntrack("max") * 0.25
    settled(node)


def test_an_accomplice_does_not_fill_it(node, mallory, others):
    """Whole connections: the kernel makes no room for others by dropping these."""
    def route(word):
        run("ip", "route", word, ACCOMPLICES, "via", "203.0.113.2")
    with accomplice(others.clients[0], route):
        most = flood(node, mallory, others, ("establish",))
    assert most < conntrack("max") * 0.25
    assert node.op(mallory, "force-stop").status == 200
    settled(node)
    assert node.op(mallory, "start").status == 200
    node.wait_booted(mallory)


@pytest.mark.parametrize("version,kind", [(6, "solicit"), (6, "solicit-own"), (6, "advertise"), (6, "router-solicit"), (6, "router-advertise"),
                                          (6, "listener"), (6, "on-link"), (6, "echo"), (4, "arp"), (4, "arp-pool"), (4, "arp-reply")])
def test_one_container_does_not_fill_the_neighbour_table(node, mallory, version, kind):
    """A frame makes no entry, whatever its sender or destination is."""
    run("ip", f"-{version}", "neigh", "flush", "dev", link_of(node, mallory))
    sent = Attack(node, mallory).begin(kind, 0.3, per_second=1000).wait()[kind]
    assert sent > 100
    assert neighbour_entries(node, version) == []


@pytest.mark.parametrize("kind", ["arp", "arp-pool", "arp-reply"])
def test_a_proxy_does_not_fill_it_either(node, mallory, others, kind):
    """What a proxy sends may have a client's address: so the kernel does not compare it with the routes."""
    path = f"/api/v1/containers/{mallory}/transparent-proxy"
    run("ip", "route", "add", ACCOMPLICES, "via", "203.0.113.2")
    try:
        assert node.call("PATCH", path, {"enabled": True}).status == 200
        test_one_container_does_not_fill_the_neighbour_table(node, mallory, 4, kind)
    finally:
        run("ip", "route", "del", ACCOMPLICES)
        assert node.call("PATCH", path, {"enabled": False}).status == 200


def test_the_ends_of_a_link_know_each_other(node, mallory):
    """By entries that the kernel's limits do not count: with a full table nobody gets a new one."""
    def of_gateway():
        return {n["dst"]: n["lladdr"] for n in json.loads(node.inside(mallory, "ip", "-j", "neigh", "show", "nud", "permanent"))}
    number = int(link_of(node, mallory).removeprefix(node.veth))
    mac = f"02:6e:64:00:{number >> 8:02x}:{number & 255:02x}"
    assert of_gateway() == {"169.254.1.1": mac, "fe80::1": mac}
    assert node.op(mallory, "restart").status == 200
    node.wait_booted(mallory)
    assert of_gateway() == {"169.254.1.1": mac, "fe80::1": mac}
    shown = node.container(mallory)["node"]
    own = [line.split()[3].split("/")[0] for line in node.inside(mallory, "ip", "-6", "-o", "addr", "show", "eth0", "scope", "link").splitlines()]
    listed = json.loads(run("ip", "-j", "neigh", "show", "nud", "permanent", "dev", shown["interface"]))
    assert {n["dst"] for n in listed} == {shown["ipv4"], shown["ipv6"], *own} and len(own) == 1, (listed, own)


def test_neighbour_attacks_beside_others(node, mallory, others):
    attack = Attack(node, mallory)
    with others.watched() as seen:
        for kind in ("solicit", "router-solicit", "on-link", "arp-pool"):
            attack.begin(kind, ATTACK_SECONDS)
        sent = attack.wait()
        left = [neighbour_entries(node, version) for version in (4, 6)]
    print(sent)
    check(seen)
    assert left == [[], []]


def test_a_table_that_fills_is_told(node, others):
    """By the host itself: nothing of that is a container's."""
    high = conntrack("max") * 7 // 10
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(high // 60000 + 1)]
        for s in sockets:
            for port in range(1, 65536):
                s.sendto(b"x", ("203.0.113.2", port))
        wait_for(lambda: told(node, "filling"), 20, 0.2, "the event")
    assert node.get("/healthz").data["network"]["connections"]["state"] == "filling"
    assert told(node, "filling")[0]["payload"]["remedy"]
    wait_for(lambda: told(node, "ok"), 60, 0.5, "the end of it")
    assert node.get("/healthz").data["network"]["connections"]["state"] == "ok"
    with others.watched() as seen:
        time.sleep(1)
    check(seen)
