# SPDX-License-Identifier: Apache-2.0
"""The netfilter module with real packets: tests/run tests/integration/test_netfilter.py"""
import socket
import threading
import time

import pytest

from netlab import (PATIENCE, Drive, Relay, Server, ask, driven_lab, opens, outcome, ping, pings, refuses, tables, udp_opens, udp_outcome,
                    udp_refuses)

V4, V6 = "10.96.0.{}", "fd6e:6f64:6564::{}"
HOST4, HOST6, WORLD4, WORLD6 = "198.51.100.1", "2001:db8:1::1", "198.51.100.7", "2001:db8:1::7"
KIT = 7681
MARK_PROXIED = 0x200


def rule(action, protocol="tcp", **fields):
    return {"action": action, "protocol": protocol, **fields}


def container(slot, **fields):
    return {"slot": slot, "kit_ports": [KIT], **fields}


@pytest.fixture(scope="module")
def lab():
    with driven_lab([container(1), container(2)], host_tcp_ports=[8080, 8081], proxy_uids=[33]) as lab:
        yield lab


@pytest.fixture(autouse=True)
def clean(lab, request):
    """Every test starts with two open containers and no server."""
    lab.drive("sync", containers=[container(1), container(2)])
    opened = []

    def serve(*args, **kwargs):
        opened.append(Server(*args, **kwargs))
        return opened[-1]

    def relay(*args, **kwargs):
        opened.append(Relay(*args, **kwargs))
        return opened[-1]

    lab.serve, lab.relay = serve, relay
    yield
    for server in opened:
        server.close()


def listing(lab):
    return tables(lab.host)


def test_open_by_default(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.serve(lab.c1, "::", 80)
    assert ask(lab.world, V4.format(1), 80) == WORLD4
    assert ask(lab.world, V6.format(1), 80, WORLD6) == WORLD6
    assert ask(lab.host, V4.format(1), 80) == "169.254.1.1"


def test_names_are_listed(lab):
    text = listing(lab)
    assert '"nd1" : jump in_1' in text and '"nd2" : jump out_2' in text
    assert '"nd1" . 02:6e:65:00:00:01' in text and '"nd2" . 10.96.0.2' in text
    assert 'iifname "nd*" jump routed_from' in text


def test_ingress_first_match_wins(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.drive("set", **container(1, ingress=[rule("allow", source=WORLD4, destination_port="80"), rule("drop")]))
    assert opens(lab.world, V4.format(1), 80, WORLD4)
    assert outcome(lab.world, V4.format(1), 80, "198.51.100.8") == "silent"
    lab.drive("set", **container(1, ingress=[rule("drop"), rule("allow", source=WORLD4, destination_port="80")]))
    assert outcome(lab.world, V4.format(1), 80, WORLD4) == "silent"
    lab.drive("set", **container(1, ingress=[rule("drop", state="disabled")]))
    assert opens(lab.world, V4.format(1), 80, "198.51.100.8")


def test_ingress_counts_for_the_host_too(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.drive("set", **container(1, ingress=[rule("drop", destination_port="80")]))
    assert outcome(lab.host, V4.format(1), 80) == "silent"


def test_egress_first_match_wins(lab):
    lab.serve(lab.world, "0.0.0.0", 80)
    lab.serve(lab.world, "0.0.0.0", 81)
    allow, drop = rule("allow", destination=WORLD4 + "/32", destination_port="80"), rule("drop", destination="0.0.0.0/0")
    lab.drive("set", **container(1, egress=[allow, drop]))
    assert opens(lab.c1, WORLD4, 80)
    assert outcome(lab.c1, WORLD4, 81) == "silent"
    assert outcome(lab.c1, "198.51.100.8", 80) == "silent"
    assert opens(lab.c2, WORLD4, 81)  # only its own
    lab.drive("set", **container(1, egress=[drop, allow]))
    assert outcome(lab.c1, WORLD4, 80) == "silent"


def test_everything_means_both_families(lab):
    lab.serve(lab.c1, "::", 80)
    lab.drive("set", **container(1, ingress=[rule("drop", source="10.0.0.0/8")]))
    assert opens(lab.world, V6.format(1), 80)
    for rules in ([rule("drop")], [rule("drop", source="0.0.0.0/0")]):
        lab.drive("set", **container(1, ingress=rules))
        assert outcome(lab.world, V6.format(1), 80) == "silent"


def test_ports_and_lists(lab):
    for port in (80, 85, 90, 91, 443):
        lab.serve(lab.c1, "0.0.0.0", port)
    lab.drive("set", **container(1, ingress=[
        rule("allow", destination_port="80-90,443", source="203.0.113.0/24,198.51.100.0/28"), rule("reject")]))
    results = {port: outcome(lab.world, V4.format(1), port, timeout=PATIENCE) for port in (80, 85, 90, 91, 443)}
    assert results == {80: "open", 85: "open", 90: "open", 91: "refused", 443: "open"}


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_reject_answers_and_drop_does_not(lab, direction):
    client, server, address = (lab.world, lab.c1, V4.format(1)) if direction == "ingress" else (
        lab.c1, lab.world, WORLD4)
    lab.serve(server, "0.0.0.0", 80)
    lab.serve(server, "0.0.0.0", 80, socket.SOCK_DGRAM)
    assert opens(client, address, 80)
    assert udp_opens(client, address, 80)
    lab.drive("set", **container(1, **{direction: [rule("reject"), rule("reject", "udp")]}))
    assert refuses(client, address, 80)
    assert udp_refuses(client, address, 80)
    lab.drive("set", **container(1, **{direction: [rule("drop"), rule("drop", "udp")]}))
    assert outcome(client, address, 80) == "silent"
    assert udp_outcome(client, address, 80) == "silent"


def test_icmp(lab):
    assert pings(lab.world, V4.format(1)) and pings(lab.world, V6.format(1))
    assert pings(lab.c1, "169.254.1.1")
    lab.drive("set", **container(1, ingress=[rule("drop", "icmp4", icmp_type="8")]))
    assert not ping(lab.world, V4.format(1))
    assert pings(lab.world, V6.format(1)) and pings(lab.c1, WORLD4)


def test_established_connections_stay(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    with lab.world.socket(WORLD4) as s:
        s.connect((V4.format(1), 80))
        assert s.recv(100) == WORLD4.encode() + b"\n"
        lab.drive("set", **container(1, ingress=[rule("drop")], egress=[rule("drop")]))
        s.sendall(b"still here")
        assert s.recv(100) == b"still here"
        lab.drive("sync", containers=[container(1, ingress=[rule("drop")], egress=[rule("drop")]), container(2)])
        s.sendall(b"and now")
        assert s.recv(100) == b"and now"
    assert outcome(lab.world, V4.format(1), 80) == "silent"


@pytest.mark.parametrize("own,other,target", [
    (V4.format(1), V4.format(2), WORLD4), (V4.format(1), "192.0.2.1", WORLD4),
    (V6.format(1), V6.format(2), WORLD6), (V6.format(1), "2001:db8:9::1", WORLD6)])
def test_spoofed_addresses_are_dropped(lab, own, other, target):
    server = lab.serve(lab.world, target, 9000, socket.SOCK_DGRAM)
    host = lab.serve(lab.host, HOST6 if ":" in target else HOST4, 8080, socket.SOCK_DGRAM)
    length = "/128" if ":" in other else "/32"
    lab.c1.ip("addr", "add", other + length, "dev", "eth0", *(["nodad"] if ":" in other else []))
    try:
        assert udp_opens(lab.c1, target, 9000, own)
        server.seen.clear()
        assert udp_outcome(lab.c1, target, 9000, other) == "silent"
        assert udp_outcome(lab.c1, HOST6 if ":" in target else HOST4, 8080, other) == "silent"
        assert server.seen == [] and host.seen == []
    finally:
        lab.c1.ip("addr", "del", other + length, "dev", "eth0")


def test_spoofed_mac_is_dropped(lab):
    lab.serve(lab.world, "0.0.0.0", 9000)
    assert opens(lab.c1, WORLD4, 9000)
    lab.c1.ip("link", "set", "eth0", "address", "02:6e:65:00:00:02")
    try:
        assert outcome(lab.c1, WORLD4, 9000) == "silent"
    finally:
        lab.c1.ip("link", "set", "eth0", "address", "02:6e:65:00:00:01")
    assert opens(lab.c1, WORLD4, 9000)


def test_containers_do_not_see_each_other(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.serve(lab.c1, "::", 80)
    assert outcome(lab.c2, V4.format(1), 80) == "silent"
    assert outcome(lab.c2, V6.format(1), 80) == "silent"


@pytest.fixture
def inter_container(lab):
    drive = Drive(lab.host)
    drive("open", inter_container=True)
    drive("sync", containers=[container(1), container(2)])
    yield drive
    drive.close()


def test_inter_container_passes_both_lists(lab, inter_container):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.serve(lab.c1, "::", 80)
    lab.serve(lab.c1, "0.0.0.0", KIT)
    assert ask(lab.c2, V4.format(1), 80) == V4.format(2)
    assert ask(lab.c2, V6.format(1), 80) == V6.format(2)
    assert outcome(lab.c2, V4.format(1), KIT) == "silent"
    inter_container("set", **container(1, ingress=[rule("reject", source=V4.format(2))]))
    assert refuses(lab.c2, V4.format(1), 80)
    inter_container("set", **container(1))
    inter_container("set", **container(2, egress=[rule("reject", destination=V4.format(1))]))
    assert refuses(lab.c2, V4.format(1), 80)


def test_kit_port_is_for_the_proxy_only(lab):
    lab.serve(lab.c1, "0.0.0.0", KIT)
    lab.serve(lab.c1, "::", KIT)
    lab.relay(lab.host, HOST4, 8080, (V4.format(1), KIT))
    lab.relay(lab.host, HOST6, 8081, (V6.format(1), KIT))
    for space in (lab.world, lab.c2, lab.host):
        assert outcome(space, V4.format(1), KIT) == "silent"
        assert outcome(space, V6.format(1), KIT) == "silent"
    assert ask(lab.world, HOST4, 8080) == WORLD4
    assert ask(lab.world, HOST6, 8081, WORLD6) == WORLD6
    assert opens(lab.host, V4.format(1), KIT, mark=MARK_PROXIED)
    assert opens(lab.host, V6.format(1), KIT, mark=MARK_PROXIED)


def test_kit_ports_can_change(lab):
    lab.serve(lab.c1, "0.0.0.0", KIT)
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.drive("set", slot=1, kit_ports=[80, 81])
    assert opens(lab.world, V4.format(1), KIT)
    assert outcome(lab.world, V4.format(1), 80) == "silent"
    lab.drive("set", slot=1, kit_ports=[])
    assert opens(lab.world, V4.format(1), 80)
    assert '"nd1" .' not in lab.host.exec("nft", "list", "set", "inet", "noded", "kit_ports").stdout
    assert f'"nd2" . {KIT}' in lab.host.exec("nft", "list", "set", "inet", "noded", "kit_ports").stdout


def test_proxy_by_user(lab):
    lab.serve(lab.c1, "0.0.0.0", KIT)
    code = (f"import socket,sys; s=socket.create_connection(('{V4.format(1)}',{KIT}),1); "
            "print(s.recv(100).decode().strip())")
    for uid, wanted in ((33, 0), (34, 1)):
        done = lab.host.exec("setpriv", f"--reuid={uid}", "--clear-groups", "/usr/bin/python3", "-c", code, check=False)
        assert done.returncode == wanted, done.stderr


def test_proxied_traffic_skips_user_rules(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.relay(lab.host, HOST4, 8080, (V4.format(1), 80))
    lab.drive("set", **container(1, ingress=[rule("drop")]))
    assert outcome(lab.world, V4.format(1), 80) == "silent"
    assert ask(lab.world, HOST4, 8080) == WORLD4


@pytest.mark.parametrize("mark", [None, MARK_PROXIED])
def test_the_service_sees_the_real_client(lab, mark):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.serve(lab.c1, "::", 80)
    v4 = lab.relay(lab.host, HOST4, 8080, (V4.format(1), 80), mark)
    v6 = lab.relay(lab.host, HOST6, 8081, (V6.format(1), 80), mark)
    assert ask(lab.world, HOST4, 8080, WORLD4) == WORLD4
    assert ask(lab.world, HOST4, 8080, "198.51.100.8") == "198.51.100.8"
    assert ask(lab.world, HOST6, 8081, WORLD6) == WORLD6
    assert ask(lab.c2, HOST4, 8080) == V4.format(2)  # the client is another container
    assert ask(lab.c2, HOST6, 8081) == V6.format(2)
    assert ask(lab.host, HOST4, 8080) == HOST4
    assert not v4.errors and not v6.errors


def test_masquerade(lab):
    lab.serve(lab.world, "0.0.0.0", 9000)
    lab.serve(lab.world, "::", 9000)
    assert ask(lab.c1, WORLD4, 9000) == HOST4
    assert ask(lab.c1, WORLD6, 9000) == HOST6


def test_host_is_closed_to_containers(lab):
    lab.serve(lab.host, "0.0.0.0", 22)
    lab.serve(lab.host, "0.0.0.0", 8080)
    for address in (HOST4, "169.254.1.1"):
        assert outcome(lab.c1, address, 22) == "silent"
        assert opens(lab.c1, address, 8080)
    assert opens(lab.world, HOST4, 22)


def test_closed_until_ready(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.relay(lab.host, HOST4, 8080, (V4.format(1), 80))
    lab.drive("set", **container(1, closed=True))
    assert outcome(lab.world, V4.format(1), 80) == "silent"
    assert outcome(lab.world, HOST4, 8080) == "silent"
    lab.drive("set", **container(1))
    assert opens(lab.world, V4.format(1), 80)
    assert ask(lab.world, HOST4, 8080) == WORLD4


def test_unknown_link_is_closed(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.serve(lab.world, "0.0.0.0", 9000)
    lab.drive("remove", slot=1)
    assert outcome(lab.world, V4.format(1), 80) == "silent"
    assert outcome(lab.host, V4.format(1), 80) == "silent"
    assert outcome(lab.c1, WORLD4, 9000) == "silent"


def test_replacing_rules_is_atomic(lab):
    """While rules are replaced, no packet of a dropped port gets through and none of an allowed one is lost."""
    dropped = lab.serve(lab.c1, "0.0.0.0", 9, socket.SOCK_DGRAM)
    allowed = lab.serve(lab.c1, "0.0.0.0", 7, socket.SOCK_DGRAM)
    variants = [container(1, ingress=[rule("allow", "udp", destination_port="7")] +
                          [rule("drop", "udp", source_port=str(n)) for n in range(1, filler)] + [rule("drop", "udp")])
                for filler in (2, 40)]
    stop, sent = threading.Event(), [0]

    def flood():
        with lab.world.socket(WORLD4, socket.SOCK_DGRAM) as s:
            while not stop.is_set():
                s.sendto(b"x", (V4.format(1), 9))
                s.sendto(b"x", (V4.format(1), 7))
                sent[0] += 1
                time.sleep(0.0005)

    lab.drive("set", **variants[0])
    thread = threading.Thread(target=flood)
    thread.start()
    for n in range(100):
        lab.drive("set", **variants[n % 2])
        if n % 10 == 0:
            lab.drive("sync", containers=[variants[n % 2], container(2)])
    stop.set()
    thread.join()
    time.sleep(0.3)
    assert sent[0] > 20
    assert dropped.seen == []
    assert len(allowed.seen) == sent[0]


def test_remove_forgets_connections(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.serve(lab.world, "0.0.0.0", 9000)
    for client, address, port in ((lab.world, V4.format(1), 80), (lab.c1, WORLD4, 9000), (lab.c2, WORLD4, 9000)):
        assert opens(client, address, port)

    def entries():
        return lab.host.exec("conntrack", "-L", check=False).stdout

    assert V4.format(1) + " " in entries()
    lab.drive("remove", slot=1)
    lab.drive("remove", slot=1)
    assert V4.format(1) + " " not in entries() and V4.format(2) + " " in entries()
    text = listing(lab)
    assert '"nd1"' not in text and "in_1" not in text and '"nd2"' in text
    lab.drive("set", **container(1))
    assert opens(lab.world, V4.format(1), 80)


def test_large_conntrack_table(lab):
    """Over 4096 entries the kernel filters; the result is the same."""
    with lab.world.socket(WORLD4, socket.SOCK_DGRAM) as s:
        for port in range(1000, 6000):
            s.sendto(b"x", (V4.format(2), port))
    lab.serve(lab.c1, "::", 80)
    lab.serve(lab.c1, "0.0.0.0", 80)
    assert opens(lab.world, V6.format(1), 80)
    assert opens(lab.world, V4.format(1), 80)
    lab.drive("remove", slot=1)
    for family, address in (("ipv4", V4.format(1)), ("ipv6", V6.format(1))):
        assert address + " " not in lab.host.exec("conntrack", "-L", "-f", family).stdout
    assert V4.format(2) + " " in lab.host.exec("conntrack", "-L").stdout
    lab.host.exec("conntrack", "-F")


def test_links(lab):
    lab.drive("link_create", slot=5)
    lab.drive("link_create", slot=5)  # replaces it
    names = lab.host.ip("-o", "link").stdout
    assert "nd5@ndp5" in names
    lab.drive("sync", containers=[container(1), container(2)])  # 5 is nobody's
    names = lab.host.ip("-o", "link").stdout
    assert "nd5" not in names and "nd1@" in names
    lab.drive("link_delete", slot=5)


def test_counters(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    before = lab.drive("counters", slot=1)
    with lab.world.socket(WORLD4) as s:
        s.connect((V4.format(1), 80))
        s.recv(100)
        for _ in range(20):
            s.sendall(b"x" * 4000)
            while len(s.recv(65536)) and False:
                pass
    after = lab.drive("counters", slot=1)
    assert after["received_bytes"] - before["received_bytes"] > 80000
    assert after["sent_bytes"] > before["sent_bytes"]
    assert lab.drive.raw("counters", slot=77)["error"]["code"] == "ERR_NOT_FOUND"


def test_limits_are_errors(lab):
    many = [rule("drop", source=",".join(f"10.0.0.{2 * n}" for n in range(45)), destination_port="1,3,5,7,9,11,13,15")
            for _ in range(100)]
    assert lab.drive.raw("set", **container(1, ingress=many))["error"]["code"] == "ERR_LIMIT"
    assert lab.drive.raw("set", **container(20000))["error"]["code"] == "ERR_LIMIT"


def test_scale(lab):
    """A change costs the same beside a thousand containers: well under 20 ms even on a busy machine."""
    rules = [rule("allow", destination_port=str(port)) for port in range(1, 11)]
    every = [container(n, ingress=rules, egress=rules) for n in range(1, 1001)]
    started = time.monotonic()
    lab.drive("sync", containers=every)
    whole = time.monotonic() - started
    times = sorted(lab.drive.raw("set", **container(n, ingress=rules, egress=rules))["us"] for n in range(500, 540))
    print(f"1000 containers: sync {whole * 1000:.0f} ms, set p50 {times[20]} us, max {times[-1]} us")
    assert times[20] < 20000


def test_uninstall_leaves_nothing(lab):
    other = lab.space("spare")
    drive = Drive(other)
    drive("open")
    drive("sync", containers=[container(1)])
    drive("link_create", slot=1)
    drive("uninstall")
    drive("uninstall")
    drive.close()
    assert other.exec("nft", "list", "ruleset").stdout == ""
    assert "nd1" not in other.ip("-o", "link").stdout
    for family in ("-4", "-6"):
        assert "lookup 100" not in other.ip(family, "rule").stdout
        assert other.ip(family, "route", "show", "table", "100", check=False).stdout == ""
