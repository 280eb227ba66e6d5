# SPDX-License-Identifier: Apache-2.0
"""Containers that may send nothing out by themselves: blocked ones, and those whose packets go to a relay."""
import socket

import pytest
from netlab import IP_TRANSPARENT, IPV6_TRANSPARENT, ask, opens, outcome, udp_outcome
from test_netfilter import HOST4, V4, V6, WORLD4, WORLD6, clean, container, lab, rule  # noqa: F401, the fixtures


@pytest.mark.parametrize("egress", ["blocked", "relayed"])
def test_confined(lab, egress):
    """Nothing is forwarded for it any more, established connections neither; what comes through a proxy still works."""
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.serve(lab.world, "0.0.0.0", 9000)
    lab.serve(lab.world, "::", 9000)
    lab.relay(lab.host, HOST4, 8080, (V4.format(1), 80))
    with lab.c1.socket(WORLD4) as out, lab.world.socket(V4.format(1)) as into:
        for s, target in ((out, (WORLD4, 9000)), (into, (V4.format(1), 80))):
            s.connect(target)
            s.recv(100)
            s.settimeout(0.7)
        lab.drive("set", **container(1, way_out=egress))
        for s in (out, into):
            s.send(b"still there?")
            with pytest.raises(OSError):
                s.recv(100)
    for target in (WORLD4, WORLD6):
        assert outcome(lab.c1, target, 9000) == "silent"
        assert udp_outcome(lab.c1, target, 9000) == "silent"
    assert lab.c1.exec("ping", "-c1", "-W1", WORLD4, check=False).returncode != 0
    assert outcome(lab.world, V4.format(1), 80) == "silent"
    assert opens(lab.host, V4.format(1), 80)
    assert ask(lab.world, HOST4, 8080) == WORLD4
    lab.drive("set", **container(1))
    assert opens(lab.c1, WORLD4, 9000) and opens(lab.world, V4.format(1), 80)


def relay_socket(lab, address, kind):
    s = lab.host.socket(address, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in address:
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        s.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    s.bind((address, 14641 if kind == socket.SOCK_STREAM else 53))
    if kind == socket.SOCK_STREAM:
        s.listen()
    return s


@pytest.mark.parametrize("listen,target,source", [("127.110.0.1", WORLD4, V4.format(1)), ("100::6e64:1", WORLD6, V6.format(1))])
def test_relayed(lab, listen, target, source):
    """TCP and DNS arrive at the relay's sockets, with the addresses that the container used, after its egress rules."""
    lab.serve(lab.world, target, 9000)
    lab.serve(lab.host, "0.0.0.0", 8081)
    drop = [rule("drop", destination_port="81")]
    lab.drive("set", **container(1, way_out="relayed", egress=drop))
    with relay_socket(lab, listen, socket.SOCK_STREAM) as tcp, relay_socket(lab, listen, socket.SOCK_DGRAM) as udp:
        for port in (9000, 53):
            with lab.c1.socket(target) as c:
                c.connect((target, port))
                got, peer = tcp.accept()
                assert (got.getsockname()[:2], peer[0]) == ((target, port), source)
                got.close()
        assert outcome(lab.c1, target, 81) == "silent"
        with lab.c1.socket(target, socket.SOCK_DGRAM) as c:
            c.sendto(b"name?", (target, 53))
            assert udp.recvfrom(100)[0] == b"name?"
        assert opens(lab.c1, HOST4, 8081), "what the host offers to containers"
    assert outcome(lab.c1, target, 9000) == "silent", "nobody listens, nothing passes"
