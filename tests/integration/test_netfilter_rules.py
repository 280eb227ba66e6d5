# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a user's rules: a refusal names the rule."""
import os
import socket

from netlab import Drive, lists_of, tables
from test_netfilter import V4, WORLD4, clean, container, lab, rule  # noqa: F401, the fixtures


def stranger(lab, jump_to):
    """A chain at a hook where no reject is allowed reaches the container's: then the kernel refuses a reject there."""
    table = lists_of(1)
    lab.host.exec("nft", f"add chain inet {table} stranger {{ type filter hook postrouting priority 0 ; }}")
    lab.host.exec("nft", "add", "rule", "inet", table, "stranger", "jump", jump_to)


def test_a_refusal_names_the_rule(lab):
    allow = [rule("allow", destination_port=str(port)) for port in (1, 2)]
    lists = [*allow, rule("reject", "udp", state="disabled"), rule("reject", destination_port="80,443")]
    lab.drive("set", **container(1, egress=lists))
    lab.drive("sync", containers=[container(1), container(2)])
    stranger(lab, "out_1")
    answer = lab.drive.raw("set", **container(1, ingress=[rule("reject")], egress=lists))["error"]
    assert (answer["field"], answer["data"]) == ("egress[3]", {"slot": 1}), answer
    assert "slot 1: egress rule 3: nftables refuses it" in answer["message"]
    text = lab.host.exec("nft", "list", "chain", "inet", lists_of(1), "in_1").stdout
    assert "reject" not in text, "all or nothing"
    lab.drive("set", **container(2, egress=lists))
    lab.drive("sync", containers=[container(1, egress=lists), container(2)])


def test_a_refused_rebuild_names_the_container(lab):
    """A damaged message stands for a rule that passes every check of ours."""
    os.environ["NODED_FAILPOINT"] = "rule.ingress.1=error"
    drive = Drive(lab.host)
    del os.environ["NODED_FAILPOINT"]
    drive("open")
    before = tables(lab.host, "-s")
    rules = [rule("allow"), rule("drop", "udp")]
    answer = drive.raw("sync", containers=[container(1, ingress=rules[:1], egress=rules), container(2, ingress=rules)])["error"]
    assert (answer["code"], answer["field"], answer["data"]) == ("ERR_HOST", "ingress[1]", {"slot": 2}), answer
    assert tables(lab.host, "-s") == before
    drive("sync", containers=[container(1), container(2)])
    drive.close()


def hits(lab, c):
    return lab.drive("hits", **c)


def test_rules_count(lab):
    """Several kernel rules of one rule are summed; what is not changed goes on counting, over a rebuild too."""
    lab.serve(lab.c1, "0.0.0.0", 9, socket.SOCK_DGRAM)

    def send(count, port, source=WORLD4):
        with lab.world.socket(WORLD4, socket.SOCK_DGRAM) as s:
            s.bind((source, 0))
            for _ in range(count):
                s.sendto(b"x" * 72, (V4.format(1), port))

    many = rule("drop", "udp", source=f"{WORLD4},198.51.100.8", destination_port="10,20,30-40")
    web, off = rule("allow", "udp", destination_port="50"), rule("drop", "udp", destination_port="60", state="disabled")
    c = container(1, ingress=[web, off, many], egress=[rule("reject", "udp", destination_port="10")])
    lab.drive("set", **c)
    assert hits(lab, c) == {"ingress": [[0, 0]] * 3, "egress": [[0, 0]]}
    for port, source in ((10, WORLD4), (20, WORLD4), (35, "198.51.100.8"), (60, WORLD4)):
        send(2, port, source)
    wanted = [[0, 0], [0, 0], [6, 600]]
    assert hits(lab, c) == {"ingress": wanted, "egress": [[0, 0]]}
    changed = container(1, ingress=[many, rule("drop", "udp", destination_port="70"), web], egress=[rule("drop", "udp", destination_port="10")])
    lab.drive("set", **changed)
    send(1, 30)
    assert hits(lab, changed) == {"ingress": [[7, 700], [0, 0], [0, 0]], "egress": [[0, 0]]}
    lab.drive("sync", containers=[changed, container(2)])
    send(1, 10)
    assert hits(lab, changed)["ingress"] == [[8, 800], [0, 0], [0, 0]]
    lab.drive("set", **container(1, ingress=[web]))
    lab.drive("set", **c)
    assert hits(lab, c)["ingress"] == [[0, 0]] * 3, "one that went comes back without"
    text = lab.host.exec("nft", "list", "chain", "inet", lists_of(1), "in_1").stdout
    assert 'comment "rule 2"' in text
    assert hits(lab, container(9, ingress=[web])) == {"ingress": [[0, 0]], "egress": []}


def test_counting_costs_little(lab):
    """To read 20 rules before they are replaced, well under a millisecond even on a busy machine."""
    rules = [rule("allow", destination_port=str(port)) for port in range(1, 11)]
    c = container(1, ingress=rules, egress=rules)
    lab.drive("set", **c)
    read = sorted(lab.drive.raw("hits", slot=1)["us"] for _ in range(100))
    whole = sorted(lab.drive.raw("set", **c)["us"] for _ in range(100))
    print(f"20 rules: read p50 {read[50]} us, replace p50 {whole[50]} us")
    assert read[50] < 1000
