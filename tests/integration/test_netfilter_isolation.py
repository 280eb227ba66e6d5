# SPDX-License-Identifier: Apache-2.0
"""What containers can and cannot reach: IPv6 of a container with rules, services of the host, other containers."""
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from netlab import PATIENCE, Drive, ask, opens, outcome, ping, pings, refuses, udp_opens, udp_outcome
from test_netfilter import (HOST4, HOST6, KIT, V4, V6, WORLD4, WORLD6, clean, container, lab, listing,  # noqa: F401, the fixtures
                            rule)
from world import wait_for


@pytest.fixture(scope="module", autouse=True)
def settled(lab):
    """Link-local addresses of the lab's own links take a moment."""
    wait_for(lambda: ping(lab.world, V6.format(1)) and ping(lab.c1, WORLD6) and ping(lab.c1, HOST6), PATIENCE, what="IPv6")


@pytest.fixture
def opened(lab):
    """Another handle, with another configuration: opened(**configuration)."""
    drives = []

    def open_with(**configuration):
        drive = Drive(lab.host)
        drives.append(drive)
        drive("open", **configuration)
        drive("sync", containers=[container(1), container(2)])
        return drive

    yield open_with
    for drive in drives:
        drive.close()


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_ipv6_dropped_where_there_are_rules(lab, opened, direction):
    client, server, v4, v6 = (lab.world, lab.c1, V4.format(1), V6.format(1)) if direction == "ingress" else (
        lab.c1, lab.world, WORLD4, WORLD6)
    lab.serve(server, "0.0.0.0", 80)
    lab.serve(server, "::", 80)
    lab.serve(server, "::", 80, socket.SOCK_DGRAM)
    drive = opened(drop_ipv6=True)
    allow = rule("allow", destination_port="80")
    for rules in ([], [{**allow, "state": "disabled"}]):
        drive("set", **container(1, **{direction: rules}))
        assert opens(client, v6, 80) and pings(client, v6)
    with client.socket(v6) as s:
        s.connect((v6, 80))
        s.recv(100)
        drive("set", **container(1, **{direction: [allow]}))
        s.sendall(b"still here")
        assert s.recv(100) == b"still here"
    assert opens(client, v4, 80)
    assert outcome(client, v6, 80) == "silent" and udp_outcome(client, v6, 80) == "silent" and not ping(client, v6)
    other = (lab.c1, lab.world, WORLD6) if direction == "ingress" else (lab.world, lab.c1, V6.format(1))
    lab.serve(other[1], "::", 81)
    assert opens(other[0], other[2], 81), "the other direction has no rules"


def test_services_of_the_host(lab, opened):
    """Names and time of the host, by both of its gateway addresses and its own, for containers that may have them."""
    addresses = ("169.254.1.1", HOST4, HOST6)
    lab.serve(lab.host, "169.254.1.1", 123, socket.SOCK_DGRAM)
    for address in addresses:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            lab.serve(lab.host, address, 53, kind)
        assert udp_outcome(lab.c1, address, 53) == "silent" and outcome(lab.c1, address, 53) == "silent"
    drive = opened(host_tcp_ports=[53], host_udp_ports=[53, 123])
    for way_out in ("open", "blocked"):
        drive("set", **container(1, way_out=way_out))
        for address in addresses:
            assert udp_opens(lab.c1, address, 53) and opens(lab.c1, address, 53)
        assert udp_opens(lab.c1, "169.254.1.1", 123)
        assert udp_outcome(lab.c1, "169.254.1.1", 124) == "silent"


def apart(lab, a, b):
    """Neither family, no protocol, both directions. At the same time, for each has to wait in vain."""
    checks = [lambda x=x, at=y.format(n), check=check: check(x, at) for x, n in ((lab.containers[a], b), (lab.containers[b], a))
              for y in (V4, V6) for check in (lambda x, at: outcome(x, at, 80) == "silent",
                                              lambda x, at: udp_outcome(x, at, 80) == "silent", lambda x, at: not ping(x, at))]
    with ThreadPoolExecutor(len(checks)) as pool:
        return all(pool.map(lambda check: check(), checks))


def together(lab, a, b):
    return all(ask(x, y.format(n), 80) == y.format(m) and pings(x, y.format(n))
               for x, m, n in ((lab.containers[a], a, b), (lab.containers[b], b, a)) for y in (V4, V6))


def everywhere(lab, c):
    for address in ("0.0.0.0", "::"):
        lab.serve(c, address, 80)
        lab.serve(c, address, 80, socket.SOCK_DGRAM)


@pytest.fixture
def third(lab):
    lab.drive("set", **container(3))
    lab.drive("link_create", slot=3)
    yield lab.container(3)
    lab.drive("remove", slot=3)
    lab.drive("link_delete", slot=3)
    lab.containers.pop(3).delete()


def test_projects(lab, third):
    """Containers of a group reach each other and nobody else's, kit ports stay closed, both lists hold."""
    for c in (lab.c1, lab.c2, third):
        everywhere(lab, c)
    lab.serve(lab.c2, "0.0.0.0", KIT)
    wait_for(lambda: ping(third, WORLD6), PATIENCE, what="IPv6")
    assert apart(lab, 1, 2) and apart(lab, 1, 3)
    for slot in (1, 2):
        lab.drive("set", **container(slot, group=7))
    lab.drive("set", **container(3, group=8))
    assert together(lab, 1, 2) and apart(lab, 1, 3) and apart(lab, 2, 3)
    assert outcome(lab.c1, V4.format(2), KIT) == "silent"
    text = listing(lab)
    assert '"nd1" : 0x00070000' in text and '0x00080000 . "nd3"' in text, text[text.index("project_of"):][:700]
    assert 'meta mark set iifname map @project_of' in text and 'meta mark . oifname @project_members goto delivered' in text, text
    lab.drive("set", **container(2, group=7, ingress=[rule("reject", source=V4.format(1))]))
    assert refuses(lab.c1, V4.format(2), 80)
    lab.drive("set", **container(2, group=7))
    lab.drive("set", **container(1, group=7, egress=[rule("reject", destination=V4.format(2))]))
    assert refuses(lab.c1, V4.format(2), 80)
    lab.drive("set", **container(2, group=7, closed=True))
    assert outcome(lab.c1, V6.format(2), 80) == "silent", "not ready"
    lab.drive("sync", containers=[container(1, group=7), container(2, group=7), container(3)])
    assert together(lab, 1, 2) and apart(lab, 1, 3)
    lab.drive("remove", slot=2)
    assert '. "nd2"' not in listing(lab) and '"nd2" :' not in listing(lab)
    lab.drive("set", **container(2))
    assert apart(lab, 1, 2)


def test_leaving_a_project_cuts_what_is_open(lab):
    """What two containers had with each other ends; what they have with the world goes on."""
    for c in (lab.c1, lab.c2, lab.world):
        everywhere(lab, c)
    for slot in (1, 2):
        lab.drive("set", **container(slot, group=7))
    targets = (V4.format(2), V6.format(2), WORLD4, WORLD6)
    open_ones = {t: lab.c1.socket(t) for t in targets}
    for target, s in open_ones.items():
        s.connect((target, 80))
        assert s.recv(100)
    lab.drive("set", **container(1))
    for target, s in open_ones.items():
        s.sendall(b"still there?")
        if target in (WORLD4, WORLD6):
            assert s.recv(100) == b"still there?"
        else:
            s.settimeout(0.7)
            with pytest.raises(TimeoutError):
                s.recv(100)
        s.close()
    assert apart(lab, 1, 2)
