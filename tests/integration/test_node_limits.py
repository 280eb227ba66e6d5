# SPDX-License-Identifier: Apache-2.0
"""Limits of a container through a whole node: recorded, in the kernel at once, and there again after whatever happens."""
import json
import subprocess

import pytest
from daemon import Account, Daemon
from netlab import lists_of
from world import BUILD, run, wait_for

NONE = {"up": None, "down": None, "connections": None, "disk": None}


@pytest.fixture(scope="module")
def node():
    d = Daemon()
    d.start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    return node.create("lim-box", hoody_kit=False)["id"]


@pytest.fixture
def path(node, box):
    path = f"/api/v1/containers/{box}/limits"
    yield path
    assert node.call("DELETE", path).status == 200


def kernel(node, box):
    """As the kernel has them: bits a second, and connections."""
    link = node.get(f"/api/v1/containers/{box}").data["node"]["interface"]
    slot, found = link.removeprefix(node.veth), dict(NONE)
    listed = [json.loads(run("nft", "-j", "list", "table", "inet", name))["nftables"] for name in (node.name, lists_of(int(slot), node.name))]
    for r in (x["rule"] for table in listed for x in table if "rule" in x):
        for e in r["expr"]:
            if r["chain"] == f"up_{slot}" and "limit" in e:
                assert e["limit"]["per"] == "second" and e["limit"]["rate_unit"] == "bytes", e
                found["up"] = e["limit"]["rate"] * 8
            if r["chain"] == f"conns_{slot}" and "ct count" in e:
                found["connections"] = e["ct count"]["val"]
    for q in json.loads(run("tc", "-j", "qdisc", "show", "dev", link)):
        if q["kind"] == "tbf":
            found["down"] = q["options"]["rate"] * 8
    found["disk"] = Account(node, slot).limit
    return found


def shown(node, path):
    data = node.get(path).data
    return {k: v for k, v in data.items() if k != "container_id"}


def test_set_changed_and_taken_away(node, box, path):
    assert shown(node, path) == NONE == kernel(node, box)
    r = node.call("PATCH", path, {"up": 20000000, "connections": 100})
    assert r.status == 200 and r.data == {"container_id": box, "up": 20000000, "down": None, "connections": 100, "disk": None}
    assert kernel(node, box) == shown(node, path)
    node.call("PATCH", path, {"down": 50000000, "connections": None})
    assert kernel(node, box) == shown(node, path) == {**NONE, "up": 20000000, "down": 50000000}
    node.call("PATCH", path, {"up": 10000000000, "down": 40000000000})
    assert kernel(node, box) == shown(node, path) == {**NONE, "up": 10000000000, "down": 40000000000}
    node.call("PUT", path, {"connections": 7})
    assert kernel(node, box) == shown(node, path) == {**NONE, "connections": 7}
    assert node.call("PUT", path, {"connections": 7}).json["message"] == "Limits unchanged"
    node.call("DELETE", path)
    assert kernel(node, box) == shown(node, path) == NONE
    told = [r["payload"] for r in node.get(f"/api/v1/events?event_type=container.limits.updated&container_id={box}&sort_order=asc").data["events"]]
    assert sorted(str(t["connections"]) for t in told) == ["100", "7", "None", "None", "None"], told


@pytest.mark.parametrize("body,field", [({"up": 1}, "up"), ({"up": 10**12}, "up"), ({"down": "1mbit"}, "down"), ({"down": 1.5}, "down"),
                                        ({"connections": 0}, "connections"), ({"connections": -1}, "connections"), ({"disk": 1000}, "disk"), ({"speed": 1}, "speed"), (None, "body")])
def test_bad_input_changes_nothing(node, box, path, body, field):
    node.call("PUT", path, {"up": 5000000})
    r = node.call("PATCH", path, body)
    assert (r.status, r.json["field"]) == (400, field), r
    assert shown(node, path) == kernel(node, box) == {**NONE, "up": 5000000}


def test_they_hold_over_everything(node, box, path):
    limits = {"up": 20000000, "down": 30000000, "connections": 50, "disk": 1 << 30}
    node.call("PUT", path, limits)
    node.restart()
    assert shown(node, path) == kernel(node, box) == limits, "a new noded"
    node.post(f"/api/v1/containers/{box}/stop?wait=true")
    node.call("PATCH", path, {"connections": 60})
    node.post(f"/api/v1/containers/{box}/start?wait=true")
    limits["connections"] = 60
    assert shown(node, path) == kernel(node, box) == limits, "a start, with a change while it was down"
    node.kill9()
    run("tc", "qdisc", "del", "dev", node.links()[0], "root")
    run("nft", "delete", "table", "inet", node.name)
    node.start()
    assert kernel(node, box) == limits, "a crash, and a table that was deleted meanwhile"
    run("nft", "delete", "table", "inet", node.name)
    wait_for(lambda: node.table() and kernel(node, box) == limits, 5, what="the repair")
    run("tc", "qdisc", "del", "dev", node.links()[0], "root")
    wait_for(lambda: kernel(node, box) == limits, 5, what="the repair of the link")
    copy = node.post(f"/api/v1/containers/{box}/copy?wait=true", {"target_project_id": "0" * 23 + "1", "name": "lim-copy"}).data["id"]
    assert shown(node, f"/api/v1/containers/{copy}/limits") == NONE
    assert node.delete(copy).status == 200


def test_a_refusal_changes_nothing(node, box, path):
    before = {**NONE, "up": 5000000, "disk": 1 << 30}
    node.call("PUT", path, before)
    for step in ("disk", "rules"):
        node.restart(f"op.host-setting.{step}=error")
        r = node.call("PATCH", path, {"up": 6000000, "disk": 2 << 30})
        assert r.status >= 500, r
        assert shown(node, path) == before
        node.restart()
        assert shown(node, path) == kernel(node, box) == before, step


def test_nodectl(node, box, path):
    def ctl(*argv):
        return subprocess.run([BUILD + "/nodectl", "--socket", node.socket, "limits", *argv], text=True, capture_output=True, check=False)
    assert ctl("lim-box", "--up", "100mbit", "--down", "1gbit", "--connections", "9", "--disk", "2G").returncode == 0
    assert shown(node, path) == kernel(node, box) == {"up": 100000000, "down": 1000000000, "connections": 9, "disk": 2 << 30}
    text = ctl("lim-box").stdout
    assert "100 mbit/s" in text and "1000 mbit/s" in text and "9" in text
    assert ctl("lim-box", "--up", "none", "--connections", "none", "--disk", "none").returncode == 0
    assert shown(node, path) == {**NONE, "down": 1000000000}
    for bad in (("--up", "fast"), ("--down", "-1mbit"), ("--connections", "many")):
        assert ctl("lim-box", *bad).returncode == 2
    assert ctl("lim-box", "--up", "1kbit").returncode == 1
