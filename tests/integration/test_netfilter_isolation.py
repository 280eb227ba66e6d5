# SPDX-License-Identifier: Apache-2.0
"""What containers can and cannot reach: IPv6 of a container with rules, services of the host, other containers."""
import os
import socket

import pytest
from netlab import Drive, ask, outcome, ping, udp_outcome
from test_netfilter import HOST4, HOST6, KIT, V4, V6, WORLD4, WORLD6, clean, container, lab, rule  # noqa: F401, the fixtures
from world import BUILD, wait_for


@pytest.fixture(scope="module", autouse=True)
def settled(lab):
    """Link-local addresses of the lab's own links take a moment."""
    wait_for(lambda: ping(lab.world, V6.format(1)) and ping(lab.c1, WORLD6) and ping(lab.c1, HOST6), 10, what="IPv6")


@pytest.fixture
def opened(lab):
    """Another handle, with another configuration: opened(**configuration)."""
    drives = []

    def open_with(**configuration):
        drive = Drive(os.path.join(BUILD, "nfdrive"), lab.host)
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
        assert outcome(client, v6, 80) == "open" and ping(client, v6)
    with client.socket(v6) as s:
        s.connect((v6, 80))
        s.recv(100)
        drive("set", **container(1, **{direction: [allow]}))
        s.sendall(b"still here")
        assert s.recv(100) == b"still here"
    assert outcome(client, v4, 80) == "open"
    assert outcome(client, v6, 80) == "silent" and udp_outcome(client, v6, 80) == "silent" and not ping(client, v6)
    other = (lab.c1, lab.world, WORLD6) if direction == "ingress" else (lab.world, lab.c1, V6.format(1))
    lab.serve(other[1], "::", 81)
    assert outcome(other[0], other[2], 81) == "open", "the other direction has no rules"


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
            assert udp_outcome(lab.c1, address, 53) == "open" and outcome(lab.c1, address, 53) == "open"
        assert udp_outcome(lab.c1, "169.254.1.1", 123) == "open"
        assert udp_outcome(lab.c1, "169.254.1.1", 124) == "silent"
