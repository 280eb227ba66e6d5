# SPDX-License-Identifier: Apache-2.0
"""Events: one row for each thing that happened, in order, over crashes too."""
import http.client
import json
import re
import sqlite3
import time

import pytest

from daemon import Daemon
from world import wait_for



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


DONE, FAILED = "operation.completed", "operation.failed"
RESTORED = ["snapshot.restored", "stopped", "running", DONE]


@pytest.mark.parametrize("point,method,tail,expected", [
    ("op.delete.intent", "DELETE", "", ["deleting", "deleted", DONE]),
    ("op.delete.destroy", "DELETE", "", ["deleting", "deleted", DONE]),
    ("op.delete.commit", "DELETE", "", ["deleting", "deleted", DONE]),
    ("op.force-stop.intent", "POST", "/force-stop", ["stopped", DONE]),
    ("op.force-stop.commit", "POST", "/force-stop", ["stopped", DONE]),
    ("op.pause.commit", "POST", "/pause", ["paused", DONE]),
    ("op.restart.start", "POST", "/restart", ["stopped", "running", DONE]),
    ("op.snapshot.intent", "POST", "/snapshots", [FAILED]),
    ("op.snapshot.commit", "POST", "/snapshots", [FAILED]),
    ("op.restore.swap", "PUT", "/snapshots/first", RESTORED),
    ("op.restore.commit", "PUT", "/snapshots/first", RESTORED),
    ("op.snapshot-delete.commit", "DELETE", "/snapshots/first", ["snapshot.deleted", DONE])])
def test_events_of_a_recovery(node, point, method, tail, expected):
    """The daemon dies in the middle; what it began is told once, when the next one has ended it."""
    c = node.create("recovered")
    path = f"/api/v1/containers/{c['id']}"
    assert node.post(path + "/snapshots", {"alias": "first"}).status == 200
    before = len(rows(node, c["id"]))
    node.restart(failpoint=point + "=kill")
    with pytest.raises((OSError, http.client.HTTPException)):
        node.call(method, path + tail)
    node.wait_dead()
    node.start()
    node.wait_idle()
    found = rows(node, c["id"])[before:]
    assert types(found) == expected, (point, types(found))
    assert all(r["payload"]["triggered_by"] == "recovery" for r in found if r["event_type"] != "container.deleting")
    everything = [r["seq"] for r in rows(node)]
    assert everything == sorted(set(everything))
    if method != "DELETE" or tail:
        assert node.delete(c["id"]).status == 200


EVENTS = "/api/v1/events"
CURSOR = re.compile("^[A-Za-z0-9_-]{46}$")


def history(node, count, project="b" * 24, kind="firewall.rule.added"):
    """Rows of long ago and of other things, put into the database of a node that is down."""
    db = sqlite3.connect(f"{node.state}/noded.db")
    now = int(time.time() * 1000)
    first = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0] + 1
    for i in range(count):
        db.execute("INSERT INTO events VALUES (?, ?, ?, 'firewall', ?, ?, ?, ?, ?, ?)",
                   (first + i, f"{first + i:024x}", kind, "d" * 24, project, "d" * 24, json.dumps({"n": i}),
                    json.dumps(["f" * 24] if i % 2 else []), now))
    db.commit()
    db.close()


@pytest.fixture(scope="module")
def filled():
    d = Daemon().start()
    d.stop()
    history(d, 1200)
    d.start()
    d.delete(d.create("first")["id"])
    yield d
    d.close()


def test_pages_by_offset(filled):
    r = filled.get(EVENTS).data
    assert len(r["events"]) == 100 and r["pagination"]["limit"] == 100 and r["pagination"]["offset"] == 0
    assert r["pagination"]["has_more"] is True and r["pagination"]["total"] == len(rows(filled))
    assert r["next_cursor"] is None and CURSOR.match(r["latest_cursor"])
    last = r["events"][0]
    assert last["event_type"] == "container.operation.completed" and last["resource_type"] == "container"
    assert set(last) >= {"id", "event_type", "resource_type", "resource_id", "user_id", "payload", "realm_ids", "created_at"}
    total, seen = r["pagination"]["total"], []
    while True:
        page = filled.get(f"{EVENTS}?limit=500&offset={len(seen)}&sort_order=asc").data
        seen += page["events"]
        if not page["pagination"]["has_more"]:
            break
    assert [e["id"] for e in seen] == [r["id"] for r in rows(filled)] and len(seen) == total
    by_type = [e["event_type"] for e in filled.get(f"{EVENTS}?limit=500&sort_by=event_type&sort_order=asc").data["events"]]
    assert by_type == sorted(by_type)


@pytest.mark.parametrize("query,expected", [
    ("event_type=container.creating", lambda r: r["event_type"] == "container.creating"),
    ("resource_type=firewall", lambda r: r["resource_type"] == "firewall"),
    ("resource_id=" + "d" * 24, lambda r: r["resource_id"] == "d" * 24),
    ("container_id=" + "d" * 24, lambda r: r["container_id"] == "d" * 24),
    ("project_id=" + "b" * 24, lambda r: r["project_id"] == "b" * 24),
    ("realm_id=" + "f" * 24, lambda r: "f" * 24 in r["realm_ids"]),
    ("project_id=" + "b" * 24 + "&realm_id=" + "f" * 24, lambda r: "f" * 24 in r["realm_ids"]),
    ("start_date=2100-01-01", lambda r: False),
    ("end_date=2100-01-01T00:00:00.000Z", lambda r: True),
    ("event_type=server.updated", lambda r: False)])
def test_filters(filled, query, expected):
    r = filled.get(f"{EVENTS}?{query}&limit=500&sort_order=asc").data
    wanted = [x["id"] for x in rows(filled) if expected(x)]
    assert r["pagination"]["total"] == len(wanted)
    assert [e["id"] for e in r["events"]] == wanted[:500]


@pytest.mark.parametrize("query,field", [
    ("limit=0", "limit"), ("limit=501", "limit"), ("offset=-1", "offset"), ("sort_by=id", "sort_by"),
    ("sort_order=up", "sort_order"), ("container_id=zz", "container_id"), ("start_date=yesterday", "start_date"),
    ("start_date=2026-02-30", "start_date"), ("start_date=2026-02-02&end_date=2026-02-01", "start_date"),
    ("after=short", "after"), ("after=" + "A" * 46, "after"), ("bootstrap=true&event_type=x", "event_type"),
    ("bootstrap=yes", "bootstrap"), ("bootstrap=true&offset=3", "offset")])
def test_bad_queries_name_the_field(filled, query, field):
    r = filled.get(f"{EVENTS}?{query}")
    assert r.status == 400 and r.json["field"] == field, r


def follow(node, cursor=None, limit=400):
    seen = []
    while True:
        r = node.get(f"{EVENTS}?limit={limit}&" + (f"after={cursor}" if cursor else "bootstrap=true"))
        assert r.status == 200, r
        seen += [e["id"] for e in r.data["events"]]
        cursor = r.data["next_cursor"]
        assert CURSOR.match(cursor)
        if not r.data["pagination"]["has_more"]:
            return seen, cursor


def test_cursor_mode_misses_nothing_over_a_crash(filled):
    seen, cursor = follow(filled)
    assert seen == [r["id"] for r in rows(filled)]
    assert filled.get(f"{EVENTS}?after={cursor}").data["next_cursor"] == cursor
    c = filled.create("crashed")
    filled.kill9()
    filled.start()
    filled.delete(c["id"])
    more, last = follow(filled, cursor, 3)
    assert seen + more == [r["id"] for r in rows(filled)]
    assert filled.get(f"{EVENTS}?after={cursor}&container_id={c['id']}").json["field"] == "container_id"
    assert filled.get(f"{EVENTS}?limit=1").data["latest_cursor"] == last


def test_stats(filled):
    r = filled.get(EVENTS + "/stats").data
    everything = rows(filled)
    assert r["total_events"] == len(everything) == sum(r["by_type"].values()) == sum(r["by_resource"].values())
    assert r["by_resource"]["firewall"] == 1200 and r["by_type"]["firewall.rule.added"] == 1200
    assert r["oldest_event"] <= r["newest_event"]
    assert filled.get(EVENTS + "/stats?start_date=2100-01-01").data["total_events"] == 0
    bad = filled.get(EVENTS + "/stats?start_date=2026-01-02&end_date=2026-01-01")
    assert bad.status == 400 and bad.json["error"] == "INVALID_DATE_RANGE"


def test_one_event_and_deletion(filled):
    some = rows(filled)[5]
    r = filled.get(f"{EVENTS}/{some['id']}")
    assert r.data["payload"] == some["payload"] and r.data["event_type"] == some["event_type"]
    assert filled.call("DELETE", f"{EVENTS}/{some['id']}").status == 200
    assert filled.get(f"{EVENTS}/{some['id']}").status == 404
    assert filled.call("DELETE", f"{EVENTS}/{some['id']}").status == 404
    assert filled.get(f"{EVENTS}/nothex").json["code"] == "INVALID_ID_FORMAT"
    r = filled.call("DELETE", EVENTS)
    assert r.status == 400 and r.json["error"] == "INVALID_BULK_DELETE_PARAMS"
    before = follow(filled)[1]
    r = filled.call("DELETE", f"{EVENTS}?resource_type=firewall")
    assert r.data["deleted_count"] == 1199
    assert not [x for x in rows(filled) if x["resource_type"] == "firewall"]
    assert filled.get(f"{EVENTS}?after={before}").status == 200, "a deletion by filter expires no cursor"
    r = filled.call("DELETE", EVENTS, {"event_type": "container.creating"})
    assert r.data["deleted_count"] == 2


EPOCH = "1970-01-01T00:00:00.000Z"


def iso(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z"


def test_before_date_bounds_lists_figures_and_deletions(filled):
    c = filled.create("dated")
    filled.delete(c["id"])
    mine = [r for r in rows(filled) if r["resource_id"] == c["id"]]
    at = mine[-1]["created_at"]
    older = [r["id"] for r in mine if r["created_at"] < at]
    assert 0 < len(older) < len(mine)
    query = f"?resource_id={c['id']}&before_date={iso(at)}"
    assert [e["id"] for e in filled.get(f"{EVENTS}{query}&sort_order=asc").data["events"]] == older
    assert filled.get(f"{EVENTS}/stats{query}").data["total_events"] == len(older)
    assert filled.get(f"{EVENTS}{query}&start_date={iso(at)}").json["error"] == "INVALID_DATE_RANGE"
    assert filled.get(f"{EVENTS}/stream?before_date={iso(at)}").json["field"] == "before_date"
    body = {"resource_id": c["id"], "before_date": EPOCH}
    assert filled.call("DELETE", EVENTS, body).data["deleted_count"] == 0
    r = filled.call("DELETE", EVENTS, {**body, "before_date": iso(mine[1]["created_at"] + 1)})
    left = [r["id"] for r in rows(filled) if r["resource_id"] == c["id"]]
    assert r.data["deleted_count"] == len(mine) - len(left) and mine[0]["id"] not in left and mine[-1]["id"] in left
    r = filled.call("DELETE", f"{EVENTS}{query}")
    assert [r["id"] for r in rows(filled) if r["created_at"] < at and r["resource_id"] == c["id"]] == []
    assert filled.call("DELETE", EVENTS, {"before_date": EPOCH}).data["deleted_count"] == 0


@pytest.mark.parametrize("query,body,field", [
    ("", {"event_type": "container.running", "older_than": "2026-01-01"}, "older_than"),
    ("", {"event_type": "container.running", "before_date": None}, "before_date"),
    ("", {"event_type": "container.running", "project_id": 5}, "project_id"),
    ("", {"before_date": "yesterday"}, "before_date"),
    ("?event_type=container.running&limit=1", None, "limit"),
    ("?event_type=container.running&before_date", None, "before_date"),
    ("?event_type=container.running&before_date=", None, "before_date"),
    ("?event_type=container.running&event_type=container.stopped", None, "event_type"),
    ("?event_type=container.running", {"event_type": "container.stopped"}, "event_type"),
    ("", [{"event_type": "container.running"}], "body")])
def test_a_deletion_refuses_what_it_does_not_understand(filled, query, body, field):
    before = rows(filled)
    r = filled.call("DELETE", EVENTS + query, body)
    assert r.status == 400 and r.json["field"] == field, r
    assert rows(filled) == before


def test_retention_expires_cursors(filled):
    start = filled.get(f"{EVENTS}?bootstrap=true&limit=1").data["next_cursor"]
    latest = filled.get(f"{EVENTS}?limit=1").data["latest_cursor"]
    filled.stop()
    db = sqlite3.connect(f"{filled.state}/noded.db")
    db.execute("UPDATE events SET created_at = created_at - 100 * 86400000")
    db.commit()
    left = db.execute("SELECT count(*) FROM events").fetchone()[0]
    db.close()
    filled.start()
    wait_for(lambda: not rows(filled), what="retention")
    assert left > 0
    r = filled.get(f"{EVENTS}?after={start}")
    assert r.status == 410 and r.json["error"] == "EVENTS_CURSOR_EXPIRED", r
    assert r.data["retention_days"] == 90 and r.data["latest_cursor"] == latest
    assert filled.get(f"{EVENTS}?after={r.data['boundary_cursor']}").status == 200
    c = filled.create("later")
    assert len(follow(filled, latest)[0]) == 3
    assert filled.call("POST", EVENTS + "/cleanup", {}).json["field"] == "retention_days"
    r = filled.post(EVENTS + "/cleanup", {"retention_days": 1}).data
    assert r["deleted_count"] == 0 and r["retention_days"] == 1
    assert iso(int(time.time() * 1000) - 2 * 86400000) < r["cutoff_date"] < iso(int(time.time() * 1000))
    filled.delete(c["id"])


def test_another_history(filled):
    latest = filled.get(f"{EVENTS}?limit=1").data["latest_cursor"]
    filled.stop()
    db = sqlite3.connect(f"{filled.state}/noded.db")
    db.execute("DELETE FROM meta WHERE key = 'events_history'")
    db.commit()
    db.close()
    filled.start()
    r = filled.get(f"{EVENTS}?after={latest}")
    assert r.status == 410 and r.json["error"] == "EVENTS_HISTORY_RESET", r
    assert filled.get(f"{EVENTS}?after={r.data['latest_cursor']}").status == 200


def test_retention_by_count():
    d = Daemon(events__max=1000).start()
    d.stop()
    history(d, 2700)
    d.start()
    wait_for(lambda: len(rows(d)) == 1000, what="retention")
    assert [r["seq"] for r in rows(d)] == list(range(rows(d)[-1]["seq"] - 999, rows(d)[-1]["seq"] + 1))
    assert d.get(EVENTS).data["pagination"]["total"] == 1000
    d.close()
