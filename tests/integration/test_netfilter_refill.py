# SPDX-License-Identifier: Apache-2.0
"""A rebuild keeps our tables, chains and sets, and only what is in them changes; what has another shape is made anew."""
import json
import socket
import threading

import pytest

from netlab import lists_of, opens, outcome
from test_netfilter import V4, WORLD4, clean, container, lab, rule  # noqa: F401, the fixtures
from world import wait_for

TABLE = "noded"


def nft(lab, *words):
    return lab.host.exec("nft", *words).stdout


def objects(lab, *kinds):
    """(kind, table, name) -> handle"""
    found = {}
    for item in json.loads(nft(lab, "-j", "list", "ruleset"))["nftables"]:
        for kind in kinds:
            if kind in item:
                found[kind, item[kind].get("table", ""), item[kind]["name"]] = item[kind]["handle"]
    return found


def test_chains_and_sets_stay(lab):
    lists = lists_of(1)
    lab.drive("set", **container(1, ingress=[rule("drop", destination_port="80")],
                                 connections=5, up=1000000))
    three = [container(1), container(2), container(9)]
    lab.drive("sync", containers=three)
    before = objects(lab, "table", "chain", "set", "map")
    assert len(before) > 60 and ("chain", lists, "in_1") in before
    for command in (f"add chain inet {TABLE} foreign {{ type filter hook forward priority -10 ; policy drop ; }}",
                    f"add chain inet {lists} stranger", f"add rule inet {lists} stranger drop",
                    f"add set inet {TABLE} strange {{ type inet_service ; elements = {{ 1, 2 }} ; }}",
                    f"insert rule inet {lists} in_1 jump stranger",
                    f"insert rule inet {TABLE} routed tcp dport @strange drop",
                    f"insert rule inet {TABLE} routed tcp dport {{ 3, 4 }} drop",
                    f"chain inet {TABLE} routed {{ policy drop ; }}",
                    f"flush set inet {TABLE} ready"):
        nft(lab, *command.split(" "))
    lab.drive("sync", containers=three)
    assert objects(lab, "table", "chain", "set", "map") == before
    assert "policy drop" not in nft(lab, "list", "chain", "inet", TABLE, "routed")
    lab.serve(lab.c1, "0.0.0.0", 80)
    assert opens(lab.world, V4.format(1), 80)
    lab.drive("sync", containers=three[:2])
    gone = set(before) - set(objects(lab, "table", "chain", "set", "map"))
    assert gone == {("chain", lists, "in_9"), ("chain", lists, "out_9")}
    assert '"nd9"' not in nft(lab, "list", "ruleset")


def test_what_a_container_had_goes(lab):
    """Limits, forwards, projects and proxies that are not said any more leave nothing behind."""
    plain = [container(1), container(2)]
    lab.drive("sync", containers=plain)
    before = nft(lab, "-s", "list", "ruleset")
    lab.drive("sync", containers=[
        dict(container(1), kit_ports=[7000, 7001], connections=5, up=1000000, group=3, proxy=True,
                  forwards=[["tcp", 8080, 80]]),
        container(2, way_out="relayed", group=3)])
    assert nft(lab, "-s", "list", "ruleset") != before
    lab.drive("sync", containers=plain)
    assert nft(lab, "-s", "list", "ruleset") == before


def test_a_table_that_sleeps_is_woken(lab):
    lab.serve(lab.c1, "0.0.0.0", 80)
    closed = container(1, ingress=[rule("drop", destination_port="80")])
    lab.drive("sync", containers=[closed, container(2)])
    for table in (TABLE, lists_of(1)):
        nft(lab, *f"add table inet {table} {{ flags dormant ; }}".split(" "))
    assert opens(lab.world, V4.format(1), 80)
    lab.drive("sync", containers=[closed, container(2)])
    assert "dormant" not in nft(lab, "list", "ruleset")
    assert outcome(lab.world, V4.format(1), 80) == "silent"


@pytest.mark.parametrize("shape", [
    "chain inet {table} routed {{ type filter hook forward priority 10 ; }}",
    "chain inet {table} routed {{ type filter hook input priority 0 ; }}",
    "chain inet {table} routed",
    "chain inet {table} routed_to {{ type filter hook forward priority 0 ; policy drop ; }}",
    "set inet {table} ready {{ type inet_service ; }}",
    "map inet {table} ready {{ type ifname : mark ; }}",
    "set inet {table} limited {{ type ifname ; }}"])
def test_another_shape_is_replaced(lab, shape):
    lab.serve(lab.c1, "0.0.0.0", 80)
    lab.serve(lab.c1, "0.0.0.0", 81)
    wanted = [container(1, ingress=[rule("drop", destination_port="80")]), container(2)]
    lab.drive("sync", containers=wanted)
    before = set(objects(lab, "table", "chain", "set", "map"))
    nft(lab, "delete", "table", "inet", TABLE)
    nft(lab, "add", "table", "inet", TABLE)
    nft(lab, "add", *shape.format(table=TABLE).split(" "))
    lab.drive("sync", containers=wanted)
    assert set(objects(lab, "table", "chain", "set", "map")) == before
    assert outcome(lab.world, V4.format(1), 80) == "silent"
    assert opens(lab.world, V4.format(1), 81)


def test_a_stream_does_not_notice(lab):
    """Every datagram of an allowed stream arrives while all is rebuilt, none of a dropped one."""
    allowed = lab.serve(lab.c1, "0.0.0.0", 7, socket.SOCK_DGRAM)
    dropped = lab.serve(lab.c1, "0.0.0.0", 9, socket.SOCK_DGRAM)
    wanted = [container(1, ingress=[rule("allow", "udp", destination_port="7"), rule("drop", "udp")]), container(2)]
    lab.drive("sync", containers=wanted)
    stop, sent = threading.Event(), [0]

    def stream():
        with lab.world.socket(WORLD4, socket.SOCK_DGRAM) as s:
            while not stop.is_set():
                for port in (9, 7):
                    s.sendto(b"x", (V4.format(1), port))
                sent[0] += 1
                stop.wait(0.0002)

    thread = threading.Thread(target=stream)
    thread.start()
    for _ in range(40):
        lab.drive("sync", containers=wanted)
    stop.set()
    thread.join()
    wait_for(lambda: len(allowed.seen) == sent[0], 5)
    assert sent[0] > 100
    assert dropped.seen == []
