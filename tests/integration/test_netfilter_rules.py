# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a user's rules: a refusal names the rule."""
import os

from netlab import Drive
from test_netfilter import clean, container, lab, rule  # noqa: F401, the fixtures
from world import BUILD


def stranger(lab, jump_to):
    """A chain at a hook where no reject is allowed reaches the container's: then the kernel refuses a reject there."""
    lab.host.exec("nft", "add chain inet noded stranger { type filter hook postrouting priority 0 ; }")
    lab.host.exec("nft", "add", "rule", "inet", "noded", "stranger", "jump", jump_to)


def test_a_refusal_names_the_rule(lab):
    allow = [rule("allow", destination_port=str(port)) for port in (1, 2)]
    lists = [*allow, rule("reject", "udp", state="disabled"), rule("reject", destination_port="80,443")]
    lab.drive("set", **container(1, egress=lists))
    lab.drive("sync", containers=[container(1), container(2)])
    stranger(lab, "out_1")
    answer = lab.drive.raw("set", **container(1, ingress=[rule("reject")], egress=lists))["error"]
    assert (answer["field"], answer["data"]) == ("egress[3]", {"slot": 1}), answer
    assert "slot 1: egress rule 3: nftables refuses it" in answer["message"]
    text = lab.host.exec("nft", "list", "chain", "inet", "noded", "in_1").stdout
    assert "reject" not in text, "all or nothing"
    lab.drive("set", **container(2, egress=lists))
    lab.drive("sync", containers=[container(1, egress=lists), container(2)])


def test_a_refused_rebuild_names_the_container(lab):
    """A damaged message stands for a rule that passes every check of ours."""
    os.environ["NODED_FAILPOINT"] = "rule.ingress.1=error"
    drive = Drive(os.path.join(BUILD, "nfdrive"), lab.host)
    del os.environ["NODED_FAILPOINT"]
    drive("open")
    before = lab.host.exec("nft", "-s", "list", "table", "inet", "noded").stdout
    rules = [rule("allow"), rule("drop", "udp")]
    answer = drive.raw("sync", containers=[container(1, ingress=rules[:1], egress=rules), container(2, ingress=rules)])["error"]
    assert (answer["code"], answer["field"], answer["data"]) == ("ERR_HOST", "ingress[1]", {"slot": 2}), answer
    assert lab.host.exec("nft", "-s", "list", "table", "inet", "noded").stdout == before
    drive("sync", containers=[container(1), container(2)])
    drive.close()
