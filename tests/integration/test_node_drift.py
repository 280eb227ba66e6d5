# SPDX-License-Identifier: Apache-2.0
"""A real node whose network others change: put right within a second, named in one event, never fought over without end."""
import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import threading
import time

import pytest
from daemon import Daemon
from netlab import PATIENCE, Inside, Server, opens, outcome, uplink
from world import BUILD, run, wait_for


@pytest.fixture(scope="module")
def world():
    with uplink("drift-world") as space:
        yield space


@pytest.fixture(scope="module")
def node(world):
    d = Daemon(network__uplink="net0").start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node, world):
    c = node.create("drift-box", hoody_kit=False)
    node.wait_booted(c["id"])
    c = node.container(c["id"])
    inside = Inside(c["node"]["init_pid"])
    servers = [Server(inside, "0.0.0.0", 80), Server(inside, "::", 80)]
    yield c
    for s in servers:
        s.close()
    inside.delete()


def health(node):
    return node.get("/healthz").data["network"]


def events(node):
    found = node.get("/api/v1/events?event_type=server.health_changed&limit=500&sort_order=asc").data["events"]
    return [e["payload"] for e in found]


class Client:
    """Tries a new connection all the time; knows when the last one failed."""

    def __init__(self, space, address):
        self.space, self.address, self.stop, self.good = space, address, threading.Event(), []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.is_set():
            begun = time.monotonic()
            with contextlib.suppress(OSError):
                if outcome(self.space, self.address, 80) == "open":
                    self.good.append(begun)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


CASES = [
    ("nft flush ruleset", "table {table} was deleted", "table"),
    ("nft delete table inet {table}", "table {table} was deleted", "table"),
    ("nft flush chain inet {table} routed", "chain routed lost a rule", "table"),
    ("nft delete element inet {table} ready {{ {veth}1 }}", "set ready lost an element", "table"),
    ("nft add rule inet {table} routed drop", "chain routed got a rule", "table"),
    ("nft add rule inet {table}_lists_1 in_1 drop", "chain in_1 got a rule", "nft list table inet {table}_lists_1"),
    ("ip rule del pref 100", "IPv4 ip rule 100", "ip rule"),
    ("ip -6 rule del pref 100", "IPv6 ip rule 100", "ip -6 rule"),
    ("ip route flush table 100", "IPv4 local route of table 100", "ip route show table 100"),
    ("ip -6 route flush table 100", "IPv6 local route of table 100", "ip -6 route show table 100"),
    ("ip route del {ipv4}", "IPv4 route of {veth}1", "ip route"),
    ("ip -6 route del {ipv6}", "IPv6 route of {veth}1", "ip -6 route"),
    ("ip link set {veth}1 down", "state up of {veth}1", "ip route"),
    ("sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward", "sysctl net.ipv4.ip_forward"),
    ("sysctl -qw net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.all.forwarding", "sysctl net.ipv6.conf.all.forwarding"),
    ("sysctl -qw net.ipv4.conf.{veth}1.rp_filter=0", "IPv4 forwarding or rp_filter of {veth}1",
     "sysctl net.ipv4.conf.{veth}1.rp_filter"),
]


@pytest.fixture
def fresh(node):
    """Counts repairs anew: a process that has just started has none that it could find too many."""
    if health(node)["repairs"] >= 6:
        node.restart()
    assert health(node) == {**health(node), "state": "ok", "lost_links": []}


@pytest.mark.parametrize("command,word,look", CASES, ids=[c[0].replace("{table}", "T").replace("{veth}", "V") for c in CASES])
def test_put_right_within_a_second(node, box, world, fresh, command, word, look):
    names = {"table": node.name, "veth": node.veth, **{k: box["node"][k] for k in ("ipv4", "ipv6")}}
    command, word, look = command.format(**names), word.format(**names), look.format(**names)
    address = names["ipv6"] if "6" in command.split()[1] else names["ipv4"]

    def state():
        return node.table() if look == "table" else run(*look.split())

    def shape():
        """Without counters."""
        return [line.split("counter")[0] for line in state().split("\n")]
    before, repairs, told = shape(), health(node)["repairs"], len(events(node))
    with Client(world, address) as client:
        wait_for(lambda: client.good, 5, 0.01, "the first connection")
        begun = time.monotonic()
        run(*command.split())
        assert shape() != before or health(node)["repairs"] > repairs
        wait_for(lambda: health(node)["repairs"] > repairs, 5, 0.01, "the repair")
        took = time.monotonic() - begun
        wait_for(lambda: any(t > begun + took for t in client.good), 5, 0.01, "a connection after it")
    assert took < 1, took
    wait_for(lambda: shape() == before, 1, 0.01, "the state of before")
    node.wait_idle()
    new = events(node)[told:]
    assert len(new) == 1 and new[0]["state"] == "repaired" and new[0]["component"] == "network"
    assert word in [f["what"] for f in new[0]["found"]], new
    if f"{node.veth}1" in word or "in_1" in word:
        assert box["id"] in [f["container_id"] for f in new[0]["found"]]


def test_own_changes_are_no_drift(node, box):
    repairs = health(node)["repairs"]
    other = node.create("drift-other", hoody_kit=False)
    assert node.op(other["id"], "restart", {"timeout": 5}).status == 200
    node.wait_booted(other["id"])
    node.inside(other["id"], "systemctl", "poweroff", "--no-block", check=False)
    wait_for(lambda: node.container(other["id"])["status"] == "stopped", 30, what="its end")
    assert node.op(other["id"], "start").status == 200
    assert node.delete(other["id"]).status == 200
    time.sleep(1.5)
    assert health(node) == {**health(node), "repairs": repairs, "lost_links": [], "state": "ok"}


def test_a_lost_link_is_named_with_its_remedy(node, box):
    other = node.create("drift-lost", hoody_kit=False)
    told = len(events(node))
    interface = node.container(other["id"])["node"]["interface"]
    run("ip", "link", "del", interface)
    wait_for(lambda: health(node)["lost_links"] == [other["id"]], 5, what="the report")
    node.wait_idle()
    new = events(node)[told:]
    assert [(e["state"], e["remedy"], e["found"][0]["container_id"]) for e in new] == [
        ("degraded", "restart the container", other["id"])]
    ctl = run(BUILD + "/nodectl", "--socket", node.socket, "health")
    assert f"network: the interface of container {other['id']} is gone; restart the container" in ctl
    assert node.op(other["id"], "restart", {"timeout": 5}).status == 200
    assert health(node)["lost_links"] == [] and interface in node.links()
    assert node.delete(other["id"]).status == 200


def test_a_fight_is_bounded_and_said(node, box):
    """Another program deletes what we make as often as it can: we answer once a second, and say so once."""
    node.restart()
    told, begun = len(events(node)), time.monotonic()
    while time.monotonic() < begun + 8:
        subprocess.run(["ip", "rule", "del", "pref", "100"], check=False, capture_output=True)
        time.sleep(0.02)
    wait_for(lambda: "lookup 100" in run("ip", "rule"), 2.5, what="the rule")
    node.wait_idle()
    state = health(node)
    assert state["state"] == "contested" and 8 <= state["repairs"] <= 20, state
    new = events(node)[told:]
    assert [e["state"] for e in new][-2:] == ["repaired", "contested"] and len(new) <= 10, new
    assert node.log().count("goes on changing the node's network") == 1
    ctl = run(BUILD + "/nodectl", "--socket", node.socket, "health")
    assert "another program goes on changing it" in ctl


def test_what_happens_while_the_daemon_is_down_is_repaired_by_its_start(node, box, world):
    node.stop()
    for command in ("ip rule del pref 100", "ip route del " + box["node"]["ipv4"], "sysctl -qw net.ipv4.ip_forward=0", "nft flush ruleset"):
        run(*command.split())
    node.start()
    assert outcome(world, box["node"]["ipv4"], 80) == "open" and "lookup 100" in run("ip", "rule")


# Other firewalls. Their tables are made in the namespace of the test.

def conflicts(node):
    return [(c["program"], c["family"], c["table"], c["chain"], c["hook"]) for c in health(node)["conflicts"]]


def await_conflicts(node, wanted):
    wait_for(lambda: conflicts(node) == wanted, PATIENCE, what=f"{wanted}")
    node.wait_idle()


def nft(text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True, capture_output=True)


DOCKER = """add table ip filter
add chain ip filter FORWARD {{ type filter hook forward priority filter; policy drop; }}
add chain ip filter INPUT {{ type filter hook input priority filter; policy accept; }}
add chain ip filter DOCKER-USER
add rule ip filter FORWARD jump DOCKER-USER
add rule ip filter FORWARD iifname "docker0" accept
"""
FIREWALLD = """add table inet firewalld
add chain inet firewalld filter_FORWARD {{ type filter hook forward priority 10; policy accept; }}
add chain inet firewalld filter_INPUT {{ type filter hook input priority 10; policy accept; }}
add rule inet firewalld filter_FORWARD ct state established,related accept
add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited
"""
STRANGER = """add table inet mine
add chain inet mine f {{ type filter hook forward priority -5; policy drop; }}
"""
GUARD = """add table inet mine
add chain inet mine o {{ type filter hook output priority 0; policy drop; }}
add rule inet mine o oifname "lo" accept
"""


def reaches(world, address):
    try:
        return outcome(world, address, 80) == "open"
    except OSError:
        return False


DEFAULT = "add table inet plain\nadd chain inet plain i {{ type filter hook input priority 0; policy accept; }}\n"


@pytest.fixture
def no_other(node):
    yield
    for table in ("ip filter", "ip6 filter", "inet firewalld", "inet mine", "inet plain"):
        subprocess.run(["nft", "delete", "table", *table.split()], check=False, capture_output=True)
    await_conflicts(node, [])


@pytest.mark.parametrize("text,wanted", [
    (DOCKER, [("docker", "ip", "filter", "FORWARD", "forward")]),
    (FIREWALLD, [("firewalld", "inet", "firewalld", "filter_FORWARD", "forward"),
                 ("firewalld", "inet", "firewalld", "filter_INPUT", "input")]),
    (STRANGER, [("another firewall", "inet", "mine", "f", "forward")])], ids=["docker", "firewalld", "stranger"])
def test_another_firewall_is_named_with_its_remedy(node, box, world, no_other, text, wanted):
    address = box["node"]["ipv4"]
    assert opens(world, address, 80)
    told = len(events(node))
    nft(text.format())
    await_conflicts(node, wanted)
    assert not reaches(world, address), "an accept of ours does not override it"
    new = events(node)[told:]
    assert [e["state"] for e in new] == ["conflict"] * len(wanted) and wanted[0][0] in new[0]["found"][0]["what"]
    remedy = health(node)["conflicts"][0]["remedy"]
    assert new[0]["remedy"] == remedy and f"{node.veth}" in remedy
    assert f"Remedy: {remedy}" in node.log()
    assert f"remedy: {remedy}" in run(BUILD + "/nodectl", "--socket", node.socket, "health")
    if wanted[0][0] != "firewalld":  # its remedy needs its daemon
        for command in remedy.split("; "):
            run(*shlex.split(command))
        await_conflicts(node, [])
        assert opens(world, address, 80)


def test_it_is_detected_at_start_and_one_that_drops_nothing_is_none(node, box, no_other):
    nft(DEFAULT.format())
    node.stop()
    nft(DOCKER.format())
    node.start()
    await_conflicts(node, [("docker", "ip", "filter", "FORWARD", "forward")])
    nft("chain ip filter FORWARD { policy accept; }")
    await_conflicts(node, [])


def test_one_that_drops_what_the_host_sends(node, box, world, no_other):
    """What proxies of the host send to containers; what containers send to others goes on."""
    def from_here():
        try:
            with socket.create_connection((box["node"]["ipv4"], 80), 1):
                return True
        except OSError:
            return False
    assert from_here()
    nft(GUARD.format())
    await_conflicts(node, [("another firewall", "inet", "mine", "o", "output")])
    assert not from_here() and opens(world, box["node"]["ipv4"], 80)
    (conflict,) = health(node)["conflicts"]
    assert "proxies" in conflict["effect"]
    run(*shlex.split(conflict["remedy"]))
    await_conflicts(node, [])
    assert from_here()


def test_real_ufw(node, box, world, no_other):
    """The real program in this namespace, with a copy of its configuration; it drops what the host sends, too."""
    mounted = ("/etc/ufw", "/etc/default")
    for directory in mounted:
        copy = node.dir + "/copy-of-" + os.path.basename(directory)
        shutil.copytree(directory, copy, symlinks=True)
        run("mount", "--bind", copy, directory)
    try:
        run("ufw", "--force", "enable")
        run("ufw", "default", "deny", "outgoing")
        wanted = [("ufw", f, "filter", h.upper(), h) for f in ("ip", "ip6") for h in ("input", "forward", "output")]
        wait_for(lambda: sorted(conflicts(node)) == sorted(wanted), PATIENCE, what="ufw")
        assert outcome(world, box["node"]["ipv4"], 80) == "silent" and outcome(world, box["node"]["ipv6"], 80) == "silent"
        for c in health(node)["conflicts"]:
            for command in c["remedy"].split("; "):
                run(*command.split())
        await_conflicts(node, [])
        assert opens(world, box["node"]["ipv4"], 80) and opens(world, box["node"]["ipv6"], 80)
    finally:
        run("ufw", "--force", "disable")
        for directory in mounted:
            run("umount", directory)
