# SPDX-License-Identifier: Apache-2.0
"""What others do to the kernel's state of the module: noticed, named, put right. tests/run tests/integration/test_netfilter_drift.py"""

import pytest

from netlab import Drive, Server, driven_lab, outcome

V4, KIT = "10.96.0.{}", 7681


def container(slot, **fields):
    return {"slot": slot, "kit_ports": [KIT], **fields}


@pytest.fixture(scope="module")
def lab():
    with driven_lab([container(1), container(2)]) as lab:
        lab.drive("watch")
        lab.server = Server(lab.c1, "0.0.0.0", KIT)
        yield lab
        lab.server.close()


@pytest.fixture(autouse=True)
def calm(lab):
    lab.drive("sync", containers=[container(1), container(2)])
    lab.drive("changed", timeout_ms=100)


def seen(lab, ms=10000):
    got = lab.drive("changed", timeout_ms=ms)
    return [k for k in ("table", "host", "foreign") if got[k]], got["words"]


def test_foreign_flush_is_noticed_and_repaired(lab):
    lab.drive("set", **container(1))
    lab.drive("sync", containers=[container(1), container(2)])
    assert seen(lab, 300) == ([], []), "our own changes"
    lab.host.exec("nft", "add", "table", "inet", "other")
    lab.host.exec("nft", "delete", "table", "inet", "other")
    assert seen(lab, 300) == (["foreign"], []), "other tables"
    lab.host.exec("nft", "flush", "ruleset")
    kind, words = seen(lab)
    assert kind == ["table"] and words[0] == "table noded was deleted"
    assert lab.drive.raw("set", **container(1))["error"]["code"] == "ERR_NOT_FOUND"
    lab.drive("repair", table=True, containers=[container(1), container(2)])
    assert outcome(lab.world, V4.format(1), KIT) == "silent"
    lab.host.exec("nft", "flush", "set", "inet", "noded", "kit_ports")
    assert seen(lab) == (["table"], ["set kit_ports lost an element"])
    lab.drive("repair", table=True, containers=[container(1), container(2)])
    assert outcome(lab.world, V4.format(1), KIT) == "silent"
    assert seen(lab, 300) == ([], [])


LINK = ["state up of nd1", "IPv6 gateway address of nd1", "IPv4 route of nd1", "IPv6 route of nd1",
        "IPv4 neighbour entry of nd1", "IPv6 neighbour entry of nd1"]


@pytest.mark.parametrize("command,words", [
    ("ip rule del pref 100", ["IPv4 ip rule 100"]),
    ("ip -6 rule del pref 100", ["IPv6 ip rule 100"]),
    ("ip route flush table 100", ["IPv4 local route of table 100"]),
    ("ip -6 route flush table 100", ["IPv6 local route of table 100"]),
    ("ip route del 10.96.0.1/32", ["IPv4 route of nd1"]),
    ("ip -6 route del fd6e:6f64:6564::1/128", ["IPv6 route of nd1"]),
    ("ip route replace 10.96.0.1/32 dev lo", ["IPv4 route of nd1"]),
    ("ip route replace blackhole 10.96.0.1/32", ["IPv4 route of nd1"]),
    ("ip -6 route replace unreachable fd6e:6f64:6564::1/128", ["IPv6 route of nd1"]),
    ("ip addr del 169.254.1.1/32 dev nd1", ["IPv4 gateway address of nd1", "IPv4 route of nd1", "IPv4 neighbour entry of nd1"]),
    ("ip addr del fe80::1/64 dev nd1", ["IPv6 gateway address of nd1"]),
    ("ip neigh del 10.96.0.1 dev nd1", ["IPv4 neighbour entry of nd1"]),
    ("ip neigh replace 10.96.0.1 lladdr 02:00:00:00:00:09 dev nd1 nud permanent", ["IPv4 neighbour entry of nd1"]),
    ("ip -6 neigh replace fd6e:6f64:6564::1 dev nd1 nud failed", ["IPv6 neighbour entry of nd1"]),
    ("ip link set nd1 down", LINK),
    ("sysctl -qw net.ipv6.conf.nd1.disable_ipv6=1", ["IPv6 gateway address of nd1", "IPv6 route of nd1", "IPv6 neighbour entry of nd1"]),
    ("sysctl -qw net.ipv4.conf.nd1.rp_filter=0", ["IPv4 forwarding or rp_filter of nd1"]),
    ("sysctl -qw net.ipv6.conf.nd2.forwarding=0", ["IPv6 forwarding of nd2"]),
    ("sysctl -qw net.ipv4.ip_forward=0", ["net.ipv4.ip_forward", "IPv4 forwarding or rp_filter of nd1",
                                          "IPv4 forwarding or rp_filter of nd2"]),
    ("ip link del nd2", ["link 2"]),
])
def test_each_is_noticed_and_put_right(lab, command, words):
    def state():
        return [lab.host.exec(*what.split()).stdout for what in (
            "ip rule", "ip -6 rule", "ip route show table all proto 110", "ip -6 route show table all proto 110", "ip -o -4 addr show dev nd1",
            "ip -o -6 addr show dev nd1", "ip neigh show nud permanent dev nd1")] + [
                sorted(lab.host.exec("ip", "-4", "netconf").stdout.split("\n")), lab.host.exec("ip", "-o", "link", "show", "nd1").stdout]
    before = state()
    lab.host.exec(*command.split())
    assert seen(lab)[0] == ["host"]
    assert seen(lab, 100)[0] in ([], ["host"])
    found = lab.drive("repair", containers=[container(1), container(2)])
    assert sorted(found) == sorted(words)
    if words == ["link 2"]:
        lab.drive("link_create", slot=2)
        lab.container(2)
    else:
        assert state() == before
    assert lab.drive("repair", containers=[container(1), container(2)]) == []
    lab.drive("changed", timeout_ms=100)
    assert seen(lab, 200) == ([], [])


@pytest.mark.parametrize("command", [
    "ip rule add pref 5000 lookup 5000", "ip rule del pref 5000", "ip route add 203.0.113.0/24 dev up0", "ip route del 203.0.113.0/24",
    "ip link add foreign0 type veth peer name foreign1", "ip link set foreign0 up", "ip addr add 192.0.2.1/24 dev foreign0", "ip link del foreign0",
    "sysctl -qw net.ipv4.conf.up0.rp_filter=2", "ip route add 10.96.0.1/32 dev up0 metric 7", "ip route del 10.96.0.1/32 dev up0 metric 7"])
def test_others_may_do_with_their_own_what_they_want(lab, command):
    lab.host.exec(*command.split())
    assert seen(lab, 200)[1] == []
    assert lab.drive("repair", containers=[container(1), container(2)]) == []


def test_a_restart_of_the_daemon_repairs_what_happened_meanwhile(lab):
    for command in ("ip rule del pref 100", "ip route del 10.96.0.1/32", "sysctl -qw net.ipv4.ip_forward=0"):
        lab.host.exec(*command.split())
    lab.drive("sync", containers=[container(1), container(2)])
    assert lab.drive("repair", containers=[container(1), container(2)]) == []


def test_a_flood_of_foreign_changes_is_one_more_look(lab):
    """What does not fit into the socket is an error there; it counts as a change of everything."""
    text = "".join(f"add table inet t{n}\ndelete table inet t{n}\n" for n in range(20000))
    with lab.host.popen("nft", "-f", "-", stdin=-1) as p:
        p.communicate(text)
        assert p.returncode == 0
    assert "table" in seen(lab)[0]


def test_a_look_at_many(lab):
    """Flat for the loop, small for the lane: a thousand links are looked at in well under 200 ms."""
    other = lab.space("many")
    drive = Drive(other)
    drive("open")
    every = [container(n) for n in range(1, 201)]
    drive("sync", containers=every)
    for n in range(1, 201):
        drive("link_create", slot=n)
    took = sorted(drive.raw("repair", containers=every)["us"] for _ in range(5))
    print(f"200 links: a look takes {took[2]} us")
    assert drive("repair", containers=every) == [] and took[2] < 200000
    drive("uninstall")
    drive.close()


