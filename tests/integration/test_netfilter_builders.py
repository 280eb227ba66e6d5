# SPDX-License-Identifier: Apache-2.0
"""Every builder of rules, sets and chains, loaded into the kernel and read back as nft(8) understands it."""
import json
import os
import re

import pytest

from netlab import Space
from world import BUILD, REPOSITORY, run

HEADERS = ("expr.h", "match.h", "set.h", "chain.h")


def match(left, right, op="=="):
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key):
    return {"meta": {"key": key}}


def ct(key):
    return {"ct": {"key": key}}


def payload(protocol, field):
    return {"payload": {"protocol": protocol, "field": field}}


def prefix(addr, length):
    return {"prefix": {"addr": addr, "len": length}}


def mangle(key, value):
    return {"mangle": {"key": key, "value": value}}


def masked(key, mask):
    return {"&": [key, mask]}


COUNTER = {"counter": {"packets": 0, "bytes": 0}}
V4, TCP = match(meta("nfproto"), "ipv4"), match(meta("l4proto"), "tcp")

# What a chain of that name has: the expressions of each rule; a text among them is the rule's comment.
PORT_UNREACHABLE = 3
RULES = {
    "rule_begin": [[COUNTER]],
    "rule_end": [["a comment"]],
    "rule_end_user": [["rule 1"]],
    "rule_pass": [[{"accept": None}]],
    "rule_drop": [[COUNTER, {"drop": None}, "why"]],
    "expr_meta": [[match(meta("mark"), 5)]],
    "expr_meta_set": [[mangle(meta("mark"), 7)]],
    "expr_ct": [[match(ct("mark"), 5)]],
    "expr_ct_set": [[mangle(ct("mark"), 7)]],
    "expr_payload": [[match(payload("tcp", "dport"), 80)]],
    "expr_bitwise": [[match(masked(meta("mark"), 0xff00), 0x100)]],
    "expr_cmp": [[match(meta("mark"), 5, "!=")]],
    "expr_range": [[match(payload("udp", "sport"), {"range": [80, 90]})]],
    "expr_lookup": [[match(meta("iifname"), "@ready")], [match(meta("oifname"), "@ready", "!=")]],
    "expr_map": [[mangle(meta("mark"), {"map": {"key": meta("iifname"), "data": "@project_of"}})]],
    "expr_value": [[mangle(ct("mark"), 5)]],
    "expr_fib_type": [[match({"fib": {"result": "type", "flags": ["saddr"]}}, "local", "!=")]],
    "expr_socket": [[match({"socket": {"key": "transparent"}}, 1)]],
    "expr_counter": [[COUNTER]],
    "expr_counter_from": [[{"counter": {"packets": 3, "bytes": 4000}}]],
    "expr_reject_tcp": [[TCP, {"reject": {"type": "tcp reset"}}]],
    "expr_reject_icmp": [[{"reject": {"type": "icmpx", "expr": "port-unreachable"}}]],
    "expr_masquerade": [[{"masquerade": None}]],
    "expr_dnat": [[V4, TCP, {"dnat": {"family": "ip", "addr": "192.0.2.1", "port": 443}}]],
    "expr_tproxy": [[V4, TCP, {"tproxy": {"family": "ip", "addr": "192.0.2.1", "port": 443}}]],
    "expr_verdict": [[{"accept": None}], [{"drop": None}], [{"return": None}], [{"jump": {"target": "expr_counter"}}],
                     [{"goto": {"target": "expr_masquerade"}}]],
    "expr_limit_over": [[{"limit": {"rate": 125000, "burst": 30000, "per": "second", "inv": True, "rate_unit": "bytes",
                                    "burst_unit": "bytes"}}, {"drop": None}]],
    "expr_connections_over": [[{"ct count": {"val": 20, "inv": True}}, {"drop": None}]],
    "expr_part": [[mangle(meta("mark"), {"symhash": {"mod": 64, "offset": 128}})]],
    "expr_count_in": [[{"set": {"op": "add", "elem": meta("mark"), "set": "@all_counted", "stmt": [{"ct count": {"val": 20, "inv": True}}]}}, {"drop": None}]],
    "expr_put": [[{"set": {"op": "update", "elem": {"elem": {"val": {"concat": [meta("iif"), meta("mark")]}, "timeout": 10}}, "set": "@at_limit"}}]],
    "rule_dispatch": [[{"vmap": {"key": meta("iifname"), "data": "@limited"}}]],
    "match_interface": [[match(meta("iifname"), "eth0")], [match(meta("oifname"), "lo", "!=")]],
    "match_interface_prefix": [[match(meta("iifname"), "nd*")], [match(meta("oifname"), "nd*", "!=")]],
    "match_interface_set": [[match(meta("iifname"), "@confined")], [match(meta("oifname"), "@ready", "!=")]],
    "match_family": [[V4], [match(meta("nfproto"), "ipv6")]],
    "match_protocol": [[match(meta("l4proto"), "icmp")]],
    "match_port": [[match(payload("tcp", "sport"), 80)], [match(payload("udp", "dport"), {"range": [8000, 8010]})]],
    "match_icmp": [[match(payload("icmp", "type"), "echo-request")], [match(payload("icmp", "code"), PORT_UNREACHABLE)]],
    "match_network4": [[match(payload("ip", "saddr"), "192.0.2.1")], [match(payload("ip", "daddr"), prefix("10.0.0.0", 8))],
                       [match(payload("ip", "saddr"), {"range": ["192.0.2.1", "192.0.2.7"]})]],
    "match_network6": [[match(payload("ip6", "saddr"), "2001:db8::1")],
                       [match(payload("ip6", "daddr"), prefix("fd6e:6f64:6564::", 64))]],
    "match_pool": [[match(payload("ip", "saddr"), prefix("10.96.0.0", 16))],
                   [match(payload("ip6", "daddr"), prefix("fd6e:6f64:6564::", 64))]],
    "match_error_about_own": [
        [match({"concat": [meta("iifname"), {"payload": {"base": "th", "offset": 192, "len": 32}}]}, "@addresses4")],
        [match({"concat": [meta("iifname"), {"payload": {"base": "th", "offset": 256, "len": 128}}]}, "@addresses6")]],
    "match_own_source": [[match({"concat": [meta("iifname"), {"payload": {"base": "nh", "offset": 96, "len": 32}}]}, "@addresses4")],
                         [match({"concat": [meta("iifname"), {"payload": {"base": "nh", "offset": 64, "len": 128}}]}, "@addresses6",
                                "!=")]],
    "match_ct_state": [[match(ct("state"), ["established", "related"], "in")], [match(ct("state"), "invalid", "in")]],
    "match_ct_status": [[match(ct("status"), "dnat", "in")], [match(ct("status"), "dnat", "!")]],
    "match_ct_direction": [[match(ct("direction"), "reply")], [match(ct("direction"), "original")]],
    "match_mark": [[match(masked(meta("mark"), 0xff00), 0x100)], [match(masked(ct("mark"), 0x100), 0x100)]],
    "set_mark": [[  # nft(8) keeps the bits that are set anyway
        mangle(meta("mark"), {"|": [masked(meta("mark"), 0xffff01ff), 0x100]})],
                 [mangle(ct("mark"), {"|": [ct("mark"), 0x100]})]],
    "chain_base": [], "chain_plain": [], "chain_flush": [],
}

# The elements that a builder has put there for slot 1; those of slot 2 it has added and taken away.
SETS = {
    "set_add_uid": {"proxy_uids": [33]},
    "set_container": {"hardware_addresses": [{"concat": ["nd1", "02:6e:65:00:00:01"]}],
                      "addresses4": [{"concat": ["nd1", "10.96.0.1"]}], "addresses6": [{"concat": ["nd1", "fd6e:6f64:6564::1"]}, {"concat": ["nd1", "fe80::6e:65ff:fe00:1"]}]},
    "set_lists": {"to_container": [["nd1", {"jump": {"target": "in_1"}}]], "from_container": [["nd1", {"jump": {"target": "out_1"}}]]},
    "set_kit_port": {"kit_ports": [{"concat": ["nd1", 7681]}]},
    "set_confined": {"confined": ["nd1"]},
    "set_relayed": {"relay4": [["nd1", "127.110.0.1"]], "relay6": [["nd1", "100::6e64:1"]]},
    "set_forward": {"forward4": [[{"concat": ["udp", 5354]}, {"concat": ["10.96.0.1", 53]}]],
                    "forward6": [[{"concat": ["udp", 5354]}, {"concat": ["fd6e:6f64:6564::1", 53]}]]},
    "set_project": {"project_of": [["nd1", 0x10000]], "project_members": [{"concat": [0x10000, "nd1"]}]},
    "set_proxy": {"proxies": ["nd1"], "proxy_marks": [["nd1", 0x10300]]},
    "set_own_limit": {"own_limit": ["nd1"]},
    "set_ready": {"ready": ["nd1"]},
    "sets_create_counted": {"shares_counted": [], "all_counted": [], "full": [], "own_limit": ["nd1"]},
    "set_counted": {"at_limit": [{"concat": ["lo", 1]}, {"concat": ["lo", 2]}]},
    "set_limited": {"limited": [["nd1", {"jump": {"target": "expr_counter"}}]]},
}
# Of every table of lists; packets put elements into them.
OF_LISTS = {"own_parts", "own_full"}
# Seen in all the rest: without them there is no table, no set, and nothing to be deleted.
WHOLE = {"table_present", "table_absent", "sets_create", "sets_create_lists", "chain_delete"}
# What they leave of a table that had two chains with rules and two maps with elements.
EMPTYING = {"table_flush", "set_flush", "set_delete"}


@pytest.fixture(scope="module")
def listed():
    os.makedirs("/run/netns", exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "builders", "/run/netns")
    space = Space("builders")
    try:
        space.exec("nft", "add table inet cases; add chain inet cases left_over")
        space.exec(BUILD + "/nfbuild")
        yield json.loads(space.exec("nft", "-j", "list", "ruleset").stdout)["nftables"]
    finally:
        space.delete()
        run("umount", "-l", "/run/netns")


def numbered(rule):
    """nft of Debian 12 has a word for this code of ICMP, that of Debian 13 has not."""
    return json.loads(json.dumps(rule).replace('"right": "port-unreachable"', f'"right": {PORT_UNREACHABLE}'))


def objects(listed, *kinds):
    return [o[k] for o in listed for k in kinds if k in o]


@pytest.mark.parametrize("builder", RULES)
def test_rules(listed, builder):
    assert [c["table"] for c in objects(listed, "chain") if c["name"] == builder] == ["cases"]
    got = [numbered(r.get("expr", [])) + ([r["comment"]] if "comment" in r else []) for r in objects(listed, "rule") if r["chain"] == builder]
    assert got == RULES[builder]


@pytest.mark.parametrize("builder", SETS)
def test_sets(listed, builder):
    have = {s["name"]: s.get("elem", []) for s in objects(listed, "set", "map") if s["table"] != "emptied"}
    assert {name: have[name] for name in SETS[builder]} == SETS[builder]


def test_an_emptied_table(listed):
    mine = [(kind, item) for kind in ("chain", "rule", "map", "set") for item in objects(listed, kind) if item["table"] == "emptied"]
    assert [(kind, item["name"], item.get("elem")) for kind, item in mine] == [
        ("chain", "in_1", None), ("chain", "out_1", None), ("map", "to_container", None), ("set", "own_parts", None), ("set", "own_full", None)]


def test_the_whole(listed):
    assert {t["name"] for t in objects(listed, "table")} == {"cases", "cases_lists_1", "emptied"}
    chains = {c["name"]: c for c in objects(listed, "chain") if c["table"] != "emptied"}
    assert set(chains) == {*RULES, "in_1", "out_1"}, "neither one that was deleted nor one of the table before"
    base = chains["chain_base"]
    assert (base["type"], base["hook"], base["prio"], base["policy"]) == ("filter", "forward", 3, "accept")
    assert {s["name"] for s in objects(listed, "set", "map")} == {*OF_LISTS, *(name for sets in SETS.values() for name in sets)}


def test_every_public_builder_has_its_case():
    public = set()
    for header in HEADERS:
        with open(f"{REPOSITORY}/netfilter/{header}", encoding="utf-8") as f:
            public |= set(re.findall(r"^(?:void|struct nftnl_rule \*) ?\*?(\w+)\(", f.read(), re.M))
    assert public == {*RULES, *SETS, *WHOLE, *EMPTYING}
