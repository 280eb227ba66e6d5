# SPDX-License-Identifier: Apache-2.0
"""Limits of a container, measured: what it sends, what it receives, how many connections it has."""
import contextlib
import json
import os
import socket
import threading
import time

import pytest
from netlab import PATIENCE, Drive, lists_of, opens, outcome, ping, tables
from test_netfilter import HOST4, V4, V6, WORLD4, WORLD6, clean, container, lab, rule  # noqa: F401, the fixtures
from world import wait_for

MBIT = 1000000 // 8


def rate_of(sender, receiver, address, seconds=3.0, streams=2):
    """Mbit a second that TCP gets through, after a second of going on."""
    with receiver.socket(address) as listener, contextlib.ExitStack() as stack:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, 9100))
        listener.listen(streams)
        got, stop = [0] * streams, threading.Event()

        def send():
            with contextlib.suppress(OSError), sender.socket(address) as s:
                s.connect((address, 9100))
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        s.send(b"x" * 65536)

        def receive(i, s):
            with contextlib.suppress(OSError):
                while data := s.recv(1 << 18):
                    got[i] += len(data)

        for i in range(streams):
            threading.Thread(target=send, daemon=True).start()
            s = stack.enter_context(listener.accept()[0])
            threading.Thread(target=receive, args=(i, s), daemon=True).start()
        time.sleep(1.0)
        before, begun = sum(got), time.monotonic()
        time.sleep(seconds)
        rate = (sum(got) - before) * 8 / (time.monotonic() - begun) / 1e6
        stop.set()
        return rate


def qdisc(lab, slot=1):
    return json.loads(lab.host.exec("tc", "-j", "qdisc", "show", "dev", f"nd{slot}").stdout)[0]["kind"]


@pytest.fixture(scope="module", autouse=True)
def settled(lab):
    wait_for(lambda: ping(lab.world, V6.format(1)) and ping(lab.c1, WORLD6), PATIENCE, what="IPv6")


@pytest.mark.parametrize("mbit", [10, 100, 1000])
def test_what_it_sends(lab, mbit):
    lab.drive("set", **container(1, up=mbit * MBIT))
    got = rate_of(lab.c1, lab.world, WORLD4)
    print(f"up {mbit} mbit: {got:.1f}")
    assert 0.85 * mbit < got < 1.15 * mbit
    lab.drive("set", **container(1))
    assert rate_of(lab.c1, lab.world, WORLD4, 1.0) > 2 * mbit, "lifted"


@pytest.mark.parametrize("mbit", [1, 40000, 100000])
def test_a_limit_is_read_as_it_was_set(lab, mbit):
    """Rates of more than 32 bits, too: else each look would find it wrong."""
    limited = container(1, down=mbit * MBIT)
    lab.drive("set", **limited)
    assert lab.drive("repair", containers=[limited, container(2)]) == []


@pytest.mark.parametrize("mbit", [10, 100, 1000])
def test_what_it_receives(lab, mbit):
    lab.drive("set", **container(1, down=mbit * MBIT))
    got = rate_of(lab.world, lab.c1, V4.format(1))
    print(f"down {mbit} mbit: {got:.1f}")
    assert 0.85 * mbit < got < 1.15 * mbit
    lab.drive("set", **container(1))
    assert rate_of(lab.world, lab.c1, V4.format(1), 1.0) > 2 * mbit, "lifted"


def test_both_families_the_host_and_only_its_own(lab):
    """IPv6, and what comes from this host, as a proxy's does, count too; another container's does not."""
    lab.drive("set", **container(1, up=20 * MBIT, down=20 * MBIT))
    assert 17 < rate_of(lab.c1, lab.world, WORLD6) < 23
    assert 17 < rate_of(lab.world, lab.c1, V6.format(1)) < 23
    assert 17 < rate_of(lab.host, lab.c1, V4.format(1)) < 23
    assert rate_of(lab.c2, lab.world, WORLD4, 1.0) > 60 and rate_of(lab.world, lab.c2, V4.format(2), 1.0) > 60


def test_a_limit_holds_for_what_is_established(lab):
    with lab.world.socket(WORLD4) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((WORLD4, 9100))
        listener.listen()
        with lab.c1.socket(WORLD4) as s:
            s.connect((WORLD4, 9100))
            with listener.accept()[0] as far:
                lab.drive("set", **container(1, up=10 * MBIT))
                begun = time.monotonic()
                threading.Thread(target=lambda: s.sendall(b"x" * 5000000), daemon=True).start()
                left = 5000000
                while left:
                    left -= len(far.recv(65536))
                # 40 Mbit at 10 a second; what a second and the burst allow goes at once.
                assert 2.7 < time.monotonic() - begun < 8


def hold(stack, space, address, port, count, room):
    """How many of them get through; they stay open. room: how many should."""
    passed = 0
    for i in range(count):
        s = stack.enter_context(space.socket(address))
        s.settimeout(PATIENCE if i < room else 0.3)
        with contextlib.suppress(TimeoutError):
            s.connect((address, port))
            passed += bool(s.recv(10))
    return passed


def test_connections(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.serve(lab.world, "0.0.0.0", 80)
    lab.serve(lab.world, "::", 80)
    limited = container(1, connections=5)
    lab.drive("set", **limited)
    with contextlib.ExitStack() as stack:
        assert hold(stack, lab.c1, WORLD4, 80, 2, 2) == 2
        assert hold(stack, lab.world, V4.format(1), 80, 2, 2) == 2
        assert hold(stack, lab.c1, WORLD6, 80, 3, 1) == 1, "both families, both directions"
        assert opens(lab.c2, WORLD4, 80), "only its own"
        lab.drive("set", **container(1, connections=5, ingress=[rule("allow")]))
        assert outcome(lab.c1, WORLD4, 80) == "silent", "a change of rules does not begin to count anew"
        lab.drive("set", **container(1, connections=7))
        assert 'conns_1' in lab.host.exec("nft", "list", "chain", "inet", lists_of(1), "in_1").stdout
    wait_for(lambda: lab.host.exec("conntrack", "-F", check=False) and outcome(lab.c1, WORLD4, 80) == "open", PATIENCE, what="room")
    lab.drive("set", **container(1))
    with contextlib.ExitStack() as stack:
        assert hold(stack, lab.c1, WORLD4, 80, 12, 12) == 12, "lifted"
    text = tables(lab.host)
    assert "conns_1" not in text and "up_1" not in text


def test_rebuilt_removed_and_repaired(lab):
    """The limits outlive a rebuild of the table, come back when another program takes them away, and go with the container."""
    limited = container(1, up=10 * MBIT, down=10 * MBIT, connections=9)
    lab.drive("sync", containers=[limited, container(2)])
    text = tables(lab.host)
    assert '"nd1" : jump up_1' in text and "ct count over 9" in text and "limit rate over 1250000 bytes/second" in text, text
    assert qdisc(lab) == "tbf" and qdisc(lab, 2) != "tbf"
    lab.host.exec("tc", "qdisc", "del", "dev", "nd1", "root")
    lab.drive("sync", containers=[limited, container(2)])
    assert qdisc(lab) == "tbf"
    other = Drive(lab.host)
    other("open")  # as after a restart of the daemon: it knows nothing of what was
    other("sync", containers=[container(1), container(2)])
    assert qdisc(lab) != "tbf" and "up_1" not in tables(lab.host)
    other("sync", containers=[limited, container(2)])
    other("remove", slot=1)
    assert not [x for x in ("in_1", "out_1", "up_1", "conns_1", '"nd1"') if x in tables(lab.host)]
    other.close()


def test_a_foreign_change_is_noticed(lab):
    limited = container(1, down=10 * MBIT)
    lab.drive("set", **limited)
    lab.drive("watch")
    lab.drive("set", **container(1, down=20 * MBIT))
    lab.drive("set", **limited)
    assert not lab.drive("changed", timeout_ms=300)["host"], "our own changes"
    lab.host.exec("tc", "qdisc", "del", "dev", "nd1", "root")
    assert lab.drive("changed", timeout_ms=1000)["host"]
    assert lab.drive("repair", table=False, containers=[limited, container(2)]) == ["nd1: limit of what it receives"]
    assert qdisc(lab) == "tbf"
    lab.host.exec("tc", "qdisc", "replace", "dev", "nd1", "root", "tbf", "rate", "1gbit", "burst", "1m", "latency", "50ms")
    assert lab.drive("changed", timeout_ms=1000)["host"]
    assert lab.drive("repair", table=False, containers=[limited, container(2)]) == ["nd1: limit of what it receives"]
    assert json.loads(lab.host.exec("tc", "-j", "qdisc", "show", "dev", "nd1").stdout)[0]["options"]["rate"] == 10 * MBIT
    lab.host.exec("tc", "qdisc", "add", "dev", "nd2", "root", "tbf", "rate", "1mbit", "burst", "10k", "latency", "50ms")
    assert lab.drive("changed", timeout_ms=1000)["host"]
    assert lab.drive("repair", table=False, containers=[limited, container(2)]) == ["nd2: limit of what it receives"]
    assert qdisc(lab, 2) != "tbf"
    assert lab.drive("repair", table=False, containers=[limited, container(2)]) == []


def test_a_refusal_leaves_the_limits_as_they_were(lab):
    os.environ["NODED_FAILPOINT"] = "rule.egress.0=error"
    drive = Drive(lab.host)
    del os.environ["NODED_FAILPOINT"]
    drive("open")
    drive("sync", containers=[container(1, up=10 * MBIT, down=10 * MBIT), container(2)])
    for change in ({}, {"up": 30 * MBIT, "down": 30 * MBIT}):
        assert "error" in drive.raw("set", **container(1, egress=[rule("drop")], **change))
        text = tables(lab.host)
        assert "rate over 1250000 bytes/second" in text and "rate over 3750000" not in text
        assert json.loads(lab.host.exec("tc", "-j", "qdisc", "show", "dev", "nd1").stdout)[0]["options"]["rate"] == 10 * MBIT
    drive.close()
