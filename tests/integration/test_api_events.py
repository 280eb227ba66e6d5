# SPDX-License-Identifier: Apache-2.0
"""Events: one row for each thing that happened, in order, over crashes too."""
import json
import sqlite3

import pytest

from daemon import Daemon
from world import in_world, wait_for

pytestmark = pytest.mark.skipif(not in_world(), reason="needs tests/run")


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


def rows(node, cid=None):
    """What is on disk, oldest first."""
    db = sqlite3.connect(f"file:{node.state}/noded.db?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    found = [dict(r) for r in db.execute("SELECT * FROM events ORDER BY seq")]
    db.close()
    for r in found:
        r["payload"], r["realm_ids"] = json.loads(r["payload"]), json.loads(r["realm_ids"])
    return [r for r in found if cid in (None, r["container_id"])]


def types(found):
    return [r["event_type"].removeprefix("container.") for r in found]


def test_every_transition_and_every_operation_in_order(node):
    c = node.create("all", id="e" * 24, realm_ids=["a" * 24])
    cid = c["id"]
    assert node.op(cid, "pause").status == 200 and node.op(cid, "resume").status == 200
    assert node.op(cid, "restart", {"timeout": 1}).status == 200
    assert node.op(cid, "force-stop").status == 200 and node.op(cid, "start").status == 200
    assert node.post(f"/api/v1/containers/{cid}/snapshots", {"alias": "one"}).status == 200
    assert node.call("PUT", f"/api/v1/containers/{cid}/snapshots/one").status == 200
    assert node.call("DELETE", f"/api/v1/containers/{cid}/snapshots/one").status == 200
    assert node.delete(cid).status == 200
    found = rows(node, cid)
    done = "operation.completed"
    assert types(found) == [
        "creating", "running", done, "paused", done, "running", done, "stopped", "running", done, "stopped", done,
        "running", done, "snapshot.created", done, "snapshot.restored", "stopped", "running", done,
        "snapshot.deleted", done, "deleting", "deleted", done], types(found)
    assert all(r["realm_ids"] == ["a" * 24] and r["project_id"] == c["project_id"] for r in found)
    ends = [r["payload"] for r in found if r["event_type"].endswith(done)]
    assert [e["operation"] for e in ends] == ["create", "pause", "resume", "restart", "force-stop", "start", "snapshot",
                                              "restore", "snapshot-delete", "delete"]
    assert all(e["status"] == "completed" and len(e["operation_id"]) == 32 and e["duration_ms"] >= 0 for e in ends)
    assert len({e["operation_id"] for e in ends}) == len(ends)
    assert [r["created_at"] for r in found] == sorted(r["created_at"] for r in found)


def test_firewall_rules_are_told_one_by_one(node):
    c = node.create("wall")
    path = f"/api/v1/containers/{c['id']}/firewall/"
    rule = {"action": "drop", "protocol": "tcp", "description": "d", "destination_port": "80"}
    assert node.post(path + "ingress", rule).status == 201
    assert node.post(path + "ingress", {**rule, "destination_port": "81"}).status == 201
    assert node.post(path + "ingress", {**rule, "destination_port": "82"}).status == 201
    assert node.call("PATCH", path + "ingress", {"state": "disabled", "destination_port": "81"}).status == 200
    assert node.call("PATCH", path + "ingress", {"state": "enabled", "destination_port": "81"}).status == 200
    assert node.call("DELETE", path + "ingress", {"destination_port": "81"}).status == 200
    assert node.post(path + "egress", rule).status == 201
    assert node.post(path + "reset").status == 200
    found = [r for r in rows(node, c["id"]) if r["resource_type"] == "firewall"]
    told = [(r["event_type"].removeprefix("firewall.rule."), r["payload"]["direction"],
             r["payload"]["rule"]["destination_port"]) for r in found]
    assert told == [("added", "ingress", "80"), ("added", "ingress", "81"), ("added", "ingress", "82"),
                    ("disabled", "ingress", "81"), ("enabled", "ingress", "81"), ("removed", "ingress", "81"),
                    ("added", "egress", "80"), ("removed", "ingress", "80"), ("removed", "ingress", "82"),
                    ("removed", "egress", "80")], told
    node.delete(c["id"])


def test_a_failed_operation_says_why(node):
    node.stop()
    node.start(failpoint="op.create.open=error")
    c = node.create("fails", wait=False)
    wait_for(lambda: node.container(c["id"])["status"] == "failed", what="the failure")
    found = rows(node, c["id"])
    assert types(found) == ["creating", "failed", "operation.failed"]
    assert found[-1]["payload"]["error"]["message"] and found[-1]["payload"]["operation"] == "create"
    node.restart()
    node.delete(c["id"])


@pytest.mark.parametrize("point,expected", [
    ("op.create.intent", ["creating", "running", "operation.completed"]),
    ("op.create.start", ["creating", "running", "operation.completed"]),
    ("op.create.commit", ["creating", "running", "operation.completed"])])
def test_no_event_is_lost_or_doubled_by_a_crash(node, point, expected):
    node.stop()
    node.start(failpoint=point + "=kill")
    cid = "c" * 20 + f"{sum(point.encode()):04x}"
    try:
        node.create("crash", wait=True, ok=False, id=cid)
    except OSError:
        pass
    except Exception as e:
        assert "RemoteDisconnected" in type(e).__name__, e
    node.wait_dead()
    node.start()
    wait_for(lambda: node.container(cid)["status"] == "running", what="the recovery")
    found = rows(node, cid)
    assert types(found) == expected, types(found)
    assert found[-1]["payload"]["triggered_by"] == "recovery"
    node.delete(cid)
    everything = rows(node)
    assert [r["seq"] for r in everything] == sorted({r["seq"] for r in everything})
