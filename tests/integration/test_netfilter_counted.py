# SPDX-License-Identifier: Apache-2.0
"""What containers may take of the host's connection table: one's share in each direction, and that of all together."""
import contextlib
import socket

import pytest
from netlab import PATIENCE, Drive, Server, driven_lab, opens, outcome, ping
from test_netfilter import HOST4, V4, V6, WORLD4, WORLD6, clean, container, rule  # noqa: F401, the fixture
from world import wait_for

SHARE_PERCENT = 1


@pytest.fixture(scope="module")
def lab():
    with driven_lab([container(1), container(2)], host_tcp_ports=[8080], host_udp_ports=[8080], share_percent=SHARE_PERCENT) as lab:
        with open("/proc/sys/net/netfilter/nf_conntrack_max", encoding="ascii") as f:
            lab.max = int(f.read())
        lab.share = lab.max * SHARE_PERCENT // 100
        wait_for(lambda: ping(lab.world, V6.format(1)) and ping(lab.c1, WORLD6), PATIENCE, what="IPv6")
        yield lab


@pytest.fixture(autouse=True)
def empty(lab):
    """No connection is left of the test before, and no part of its containers' shares counts as full."""
    lab.host.exec("conntrack", "-F", check=False)
    for name in ("full", "at_limit"):
        lab.host.exec("nft", "flush", "set", "inet", "noded_lists_7", name)
    servers = [Server(space, address, 80) for space in (lab.world, lab.c1, lab.c2) for address in ("0.0.0.0", "::")]
    yield
    for s in servers:
        s.close()


def flood(space, address, count, first=10000, sources=1):
    """So many flows, by destination ports and sockets; nothing answers."""
    for _ in range(sources):
        with space.socket(address, socket.SOCK_DGRAM) as s:
            for port in range(first, first + count // sources):
                with contextlib.suppress(OSError):
                    s.sendto(b"x", (address, port))


def entries(lab, *match):
    return lab.host.exec("conntrack", "-L", *match, check=False).stdout.count("\n")


def about(number, share):
    """Counted in parts: some are full before the others are."""
    assert 0.8 * share < number <= 1.13 * share, (number, share)


@pytest.mark.parametrize("target", [WORLD4, WORLD6])
def test_what_it_begins(lab, target):
    own = V6.format(1) if ":" in target else V4.format(1)
    flood(lab.c1, target, 3 * lab.share)
    about(entries(lab, "-s", own), lab.share)
    assert opens(lab.c2, target, 80) and opens(lab.world, own, 80) and opens(lab.host, target, 80), "nobody else"
    seen = lab.drive("connections")
    assert seen["at_limit"] == [[1, 1]] and abs(seen["share"] - lab.share) < 0.13 * lab.share and seen["max"] == lab.max
    lab.drive("connections_tidy", slot=1)
    assert entries(lab, "-s", own) < 10, "what was never answered is forgotten"
    assert opens(lab.c1, target, 80)


def test_what_others_begin(lab):
    flood(lab.world, V4.format(1), 3 * lab.share)
    about(entries(lab, "-d", V4.format(1)), lab.share)
    assert opens(lab.c1, WORLD4, 80), "its own connections have a share of their own"
    assert opens(lab.world, V4.format(2), 80)
    assert lab.drive("connections")["at_limit"] == [[1, 2]]
    lab.drive("connections_tidy", slot=1)
    assert opens(lab.world, V4.format(1), 80)


def test_the_hosts_ports_count(lab):
    flood(lab.c1, HOST4, 3 * lab.share, first=8080, sources=3 * lab.share)
    about(entries(lab, "-s", V4.format(1)), lab.share)


def test_one_flow_counts_once(lab):
    """Each of its packets is new to the kernel as long as nothing is answered."""
    with lab.c1.socket(WORLD4, socket.SOCK_DGRAM) as s:
        for _ in range(3 * lab.share):
            with contextlib.suppress(OSError):
                s.sendto(b"x", (WORLD4, 9))
    assert entries(lab, "-s", V4.format(1)) == 1
    assert lab.drive("connections")["at_limit"] == []


def test_what_rules_drop_does_not_count(lab):
    lab.drive("set", **container(1, ingress=[rule("drop", "udp")], egress=[rule("drop", "udp")]))
    flood(lab.world, V4.format(1), 3 * lab.share)
    flood(lab.c1, WORLD4, 3 * lab.share)
    assert entries(lab, "-p", "udp") == 0 and lab.drive("connections")["at_limit"] == []
    assert opens(lab.world, V4.format(1), 80) and opens(lab.c1, WORLD4, 80)


def test_what_was_counted_stays_counted(lab):
    """The rules are made anew, by this handle and by that of a daemon that has just started."""
    other = Drive(lab.host)
    other("open", host_tcp_ports=[8080], host_udp_ports=[8080], share_percent=SHARE_PERCENT)
    for turn, drive in enumerate((lab.drive, lab.drive, other)):
        flood(lab.c1, WORLD4, 2 * lab.share, first=10000 + turn)
        drive("sync", containers=[container(1), container(2)])
        about(entries(lab, "-s", V4.format(1)), lab.share)
    other.close()


@pytest.mark.parametrize("limit", [100, 4000, 8000])
def test_its_own_limit_wins(lab, limit):
    """A small one is exact, a large one is counted in parts; a higher or lower one counts at once."""
    lab.drive("set", **container(1, connections=limit))
    flood(lab.c1, WORLD4, 16000)
    if limit < 4096:
        assert entries(lab, "-s", V4.format(1)) == limit
    else:
        about(entries(lab, "-s", V4.format(1)), limit)
    assert lab.drive("connections")["at_limit"] == []
    lab.host.exec("conntrack", "-F", check=False)
    lab.drive("set", **container(1))
    flood(lab.c1, WORLD4, 16000, first=9000)
    about(entries(lab, "-s", V4.format(1)), lab.share)


def test_all_together(lab):
    """The host's part stays its own."""
    with contextlib.closing(Drive(lab.host)) as other:
        other("open", host_tcp_ports=[8080], host_udp_ports=[8080], share_percent=2, reserve_percent=98)
        other("sync", containers=[container(1), container(2)])
        for c in (lab.c1, lab.c2):
            flood(c, WORLD4, 4 * lab.share)
            flood(c, WORLD6, 4 * lab.share)
        total = entries(lab, "-s", V4.format(1)) + entries(lab, "-s", V4.format(2))
        total += entries(lab, "-f", "ipv6", "-s", V6.format(1)) + entries(lab, "-f", "ipv6", "-s", V6.format(2))
        about(total, 2 * lab.share)
        assert outcome(lab.c2, WORLD4, 80) in ("open", "silent")
        assert all(opens(lab.host, address, 80) for address in (WORLD4, V4.format(1), V6.format(2)))


def test_a_link_that_is_made_anew_counts_from_zero(lab):
    flood(lab.c1, WORLD4, 2 * lab.share)
    lab.drive("remove", slot=1)
    lab.drive("set", **container(1))
    lab.drive("link_create", slot=1)
    lab.container(1)
    flood(lab.c1, WORLD4, 2 * lab.share, first=9000)
    about(entries(lab, "-s", V4.format(1)), lab.share)
    text = lab.host.exec("nft", "list", "ruleset").stdout
    assert 'symhash mod' in text and "invalid type" not in text, "nft(8) understands it"


def test_a_kernel_that_cannot_count(lab, monkeypatch):
    """Everything else holds; and the next start on a kernel that can finds its way back."""
    monkeypatch.setenv("NODED_FAILPOINT", "nf.counted=error")
    with contextlib.closing(Drive(lab.host)) as other:
        other("open", host_tcp_ports=[8080], share_percent=SHARE_PERCENT)
        other("sync", containers=[container(1, ingress=[rule("drop")]), container(2)])
        assert other("connections")["uncounted"]
        assert outcome(lab.world, V4.format(1), 80) == "silent" and opens(lab.world, V4.format(2), 80)
        flood(lab.c1, WORLD4, 2 * lab.share)
        assert entries(lab, "-s", V4.format(1)) > 1.5 * lab.share
    lab.host.exec("conntrack", "-F", check=False)
    lab.drive("sync", containers=[container(1), container(2)])
    assert not lab.drive("connections")["uncounted"]
    flood(lab.c1, WORLD4, 2 * lab.share)
    about(entries(lab, "-s", V4.format(1)), lab.share)
