# SPDX-License-Identifier: Apache-2.0
"""Ports of the host that lead to containers: tests/run tests/integration/test_netfilter_forward.py"""
import socket

import pytest

from netlab import ask, opens, outcome, refuses, udp_opens
from test_netfilter import HOST4, HOST6, KIT, V4, V6, WORLD4, WORLD6, clean, container, lab, rule  # noqa: F401

TCP, UDP = ["tcp", 8000, 80], ["udp", 5300, 53]


@pytest.fixture
def forwarded(lab):
    for address in ("0.0.0.0", "::"):
        lab.serve(lab.c1, address, 80)
        lab.serve(lab.c1, address, 53, socket.SOCK_DGRAM)
    lab.drive("set", **container(1, forwards=[TCP, UDP]))
    return lab


def elements(lab, name):
    return lab.host.exec("nft", "list", "map", "inet", "noded", name).stdout


def test_client_address_is_kept(forwarded):
    lab = forwarded
    assert ask(lab.world, HOST4, 8000, WORLD4) == WORLD4
    assert ask(lab.world, HOST6, 8000, WORLD6) == WORLD6
    assert udp_opens(lab.world, HOST4, 5300) and udp_opens(lab.world, HOST6, 5300)
    assert refuses(lab.world, HOST4, 8001)  # the host's own


def test_it_is_listed(forwarded):
    assert f"tcp . 8000 : {V4.format(1)} . 80" in elements(forwarded, "forward4")
    assert f"udp . 5300 : {V6.format(1)} . 53" in elements(forwarded, "forward6")
    assert "dnat ip to meta l4proto . th dport map @forward4" in forwarded.host.exec(
        "nft", "list", "chain", "inet", "noded", "forwarded").stdout


def test_between_containers(forwarded):
    """From another container, and from the container itself: both by the host's address, isolation or not."""
    lab = forwarded
    assert ask(lab.c2, HOST4, 8000) == V4.format(2)
    assert ask(lab.c2, HOST6, 8000) == V6.format(2)
    assert outcome(lab.c2, V4.format(1), 80) == "silent"
    assert ask(lab.c1, HOST4, 8000) == HOST4  # its own address would look forged to it
    assert opens(lab.c1, HOST6, 8000)


def test_ingress_rules_apply(forwarded):
    lab = forwarded
    lab.drive("set", **container(1, forwards=[TCP], ingress=[
        rule("allow", source=WORLD4, destination_port="80"), rule("reject")]))
    assert opens(lab.world, HOST4, 8000, WORLD4)
    assert refuses(lab.world, HOST4, 8000, "198.51.100.8")
    assert refuses(lab.c2, HOST4, 8000)


def test_kit_ports_and_confinement_win(forwarded):
    lab = forwarded
    lab.serve(lab.c1, "0.0.0.0", KIT)
    lab.drive("set", **container(1, forwards=[["tcp", 8000, KIT]]))
    assert outcome(lab.world, HOST4, 8000) == "silent"
    lab.drive("set", **container(1, forwards=[TCP], way_out="blocked"))
    assert outcome(lab.world, HOST4, 8000) == "silent"
    lab.drive("set", **container(1, forwards=[TCP], closed=True))
    assert outcome(lab.world, HOST4, 8000) == "silent"


def test_change_and_removal(forwarded):
    lab = forwarded
    with lab.world.socket(WORLD4) as s:
        s.connect((HOST4, 8000))
        assert s.recv(100) == WORLD4.encode() + b"\n"
        lab.drive("set", **container(1, forwards=[["tcp", 8000, 81], UDP]))
        s.settimeout(0.5)
        with pytest.raises((TimeoutError, ConnectionError)):  # what came by the old one is cut
            s.sendall(b"?")
            s.recv(100)
    lab.serve(lab.c1, "0.0.0.0", 81)
    assert opens(lab.world, HOST4, 8000)
    assert udp_opens(lab.world, HOST4, 5300)
    lab.drive("set", **container(1))
    assert refuses(lab.world, HOST4, 8000)
    assert "8000" not in elements(lab, "forward4") + elements(lab, "forward6")


def test_it_goes_with_the_container(forwarded):
    lab = forwarded
    lab.drive("remove", slot=1)
    assert refuses(lab.world, HOST4, 8000)
    lab.drive("set", **container(2, forwards=[TCP]))
    lab.serve(lab.c2, "0.0.0.0", 80)
    assert ask(lab.world, HOST4, 8000) == WORLD4
    lab.drive("sync", containers=[container(1, forwards=[TCP]), container(2)])
    assert V4.format(1) in elements(lab, "forward4")


def test_a_running_udp_flow_takes_the_new_way(lab):
    """The kernel would keep sending it where its first packet went: to the host."""
    lab.serve(lab.c1, "0.0.0.0", 53, socket.SOCK_DGRAM)
    host = lab.serve(lab.host, HOST4, 5300, socket.SOCK_DGRAM)
    with lab.world.socket(HOST4, socket.SOCK_DGRAM) as s:
        s.bind((WORLD4, 0))
        s.connect((HOST4, 5300))
        s.send(b"1")
        s.recv(100)
        assert len(host.seen) == 1
        lab.drive("set", **container(1, forwards=[UDP]))
        s.send(b"2")
        s.recv(100)
        assert len(host.seen) == 1
        lab.drive("set", **container(1))
        s.send(b"3")
        s.recv(100)
        assert len(host.seen) == 2
