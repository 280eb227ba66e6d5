# SPDX-License-Identifier: Apache-2.0
"""Projects on a live node: their own routes, quotas, deletion with everything in them, and that after a crash."""
import sqlite3
import threading

import pytest
from daemon import PROJECT, Daemon

P = "/api/v1/projects"
KEYS = {"id", "user_id", "alias", "color", "created_at", "updated_at", "max_containers", "is_default", "realm_ids"}


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


def make(d, alias, **more):
    r = d.post(P, {"alias": alias, **more})
    assert r.status == 201, r
    return r.data


def put_in(d, project, name, **more):
    return d.post(f"{P}/{project}/containers?wait=true", {"server_id": "self", "name": name, "hoody_kit": False, **more})


def test_the_default_project_is_there_from_the_start(node):
    r = node.get(f"{P}/{PROJECT}")
    assert r.status == 200 and set(r.data) == KEYS
    assert r.data["alias"] == "default" and r.data["is_default"] and r.data["max_containers"] is None
    assert r.data["user_id"] == node.get("/api/v1/node").data["id"]
    assert node.call("DELETE", f"{P}/{PROJECT}").status == 409


def test_create_get_update(node):
    p = make(node, "Ünïcode läuft", color="a1b", max_containers=3, realm_ids=["ab" * 12])
    assert p["color"] == "#A1B" and p["max_containers"] == 3 and p["realm_ids"] == ["ab" * 12] and not p["is_default"]
    assert node.get(f"{P}/{p['id']}/?include_permissions=false").data == p
    assert node.call("PUT", f"{P}/{p['id']}", {"alias": "renamed", "max_containers": None}).data["max_containers"] is None
    q = node.call("PATCH", f"{P}/{p['id']}/", {"color": "#00ff00"}).data
    assert (q["alias"], q["color"], q["realm_ids"]) == ("renamed", "#00FF00", ["ab" * 12])
    assert q["updated_at"] >= p["updated_at"] and q["created_at"] == p["created_at"]
    node.restart()
    assert node.get(f"{P}/{p['id']}").data == q
    assert node.call("DELETE", f"{P}/{p['id']}").data == {"deleted": {"containers": 0, "permissions": 0, "aliases": 0}}


BAD = [({}, "INVALID_ALIAS_FORMAT"), ({"alias": None}, "INVALID_ALIAS_FORMAT"), ({"alias": ""}, "INVALID_ALIAS_FORMAT"),
       ({"alias": "x" * 101}, "INVALID_ALIAS_FORMAT"), ({"alias": "a\nb"}, "INVALID_ALIAS_FORMAT"),
       ({"alias": 5}, "INVALID_ALIAS_FORMAT"), ({"alias": "a", "color": "red"}, "INVALID_COLOR_FORMAT"),
       ({"alias": "a", "color": 5}, "INVALID_COLOR_FORMAT"), ({"alias": "a", "max_containers": -1}, "INVALID_QUOTA_VALUE"),
       ({"alias": "a", "max_containers": 1.5}, "INVALID_QUOTA_VALUE"),
       ({"alias": "a", "max_containers": "3"}, "INVALID_QUOTA_VALUE"),
       ({"alias": "a", "realm_ids": ["x"]}, "VALIDATION_ERROR"), ({"alias": "a", "realm_ids": 5}, "VALIDATION_ERROR"),
       ({"alias": "a", "id": "x"}, "VALIDATION_ERROR")]


@pytest.mark.parametrize("body,code", BAD)
def test_bad_bodies_change_nothing(node, body, code):
    before = node.get(P).text
    r = node.post(P, body)
    assert r.status == 400 and r.json["code"] == code and r.json["field"], r
    assert node.get(P).text == before


def test_bad_updates_change_nothing(node):
    p = make(node, "steady")
    for body, code in BAD[1:12]:
        r = node.call("PUT", f"{P}/{p['id']}", body)
        assert r.status == 400 and r.json["code"] == code, (body, r)
    assert node.get(f"{P}/{p['id']}").data == p
    assert node.call("PUT", f"{P}/{p['id']}", {"color": "fff"}).json["code"] == "INVALID_ALIAS_FORMAT"


def test_an_alias_is_unique(node):
    p, q = make(node, "one"), make(node, "two")
    r = node.post(P, {"alias": "one"})
    assert (r.status, r.json["code"]) == (409, "DUPLICATE_ALIAS")
    assert node.call("PUT", f"{P}/{q['id']}", {"alias": "one"}).json["code"] == "DUPLICATE_ALIAS"
    assert node.call("PUT", f"{P}/{p['id']}", {"alias": "one"}).status == 200


def test_unknown_projects(node):
    unknown = f"{P}/{'9' * 24}"
    for r in (node.get(unknown), node.call("PUT", unknown, {"alias": "x"}), node.call("DELETE", unknown)):
        assert (r.status, r.json["code"]) == (404, "PROJECT_NOT_FOUND"), r
    r = node.get(unknown + "/containers")
    assert (r.status, r.json["code"]) == (404, "RESOURCE_NOT_FOUND"), r
    assert node.get(f"{P}/xyz").json["code"] == "INVALID_ID_FORMAT"


def test_a_create_with_an_id_can_be_repeated(node):
    body = {"alias": "mine", "id": "5e" * 12, "user_id": "ab" * 12}
    first, again = node.post(P, body), node.post(P, body)
    assert first.status == again.status == 201 and first.data == again.data and first.data["user_id"] == "ab" * 12
    assert node.post(P, {**body, "alias": "other"}).json["code"] == "RESOURCE_IN_USE"


def test_pages(node):
    ids = [make(node, f"page-{i}")["id"] for i in range(5)]
    assert [p["alias"] for p in node.get(f"{P}/?limit=3&sort_by=alias&sort_order=asc").data["projects"]][0] == "default"
    seen, total = [], None
    for page in range(1, 99):
        data = node.get(f"{P}?page={page}&limit=2&sort_by=created_at&sort_order=desc").data
        total = data["pagination"]["total"]
        if not data["projects"]:
            break
        seen += [p["id"] for p in data["projects"]]
    assert len(seen) == len(set(seen)) == total and set(ids) <= set(seen)
    for query in ("limit=0", "limit=101", "page=0", "sort_by=color", "sort_order=up"):
        assert node.get(f"{P}?{query}").status == 400


def test_quota_and_deletion_with_all_that_is_in_it(node):
    p = make(node, "full", max_containers=2)
    url = f"{P}/{p['id']}"
    made = [put_in(node, p["id"], f"box-{i}") for i in range(2)]
    assert [r.status for r in made] == [201, 201] and made[0].data["project_alias"] == "full"
    r = put_in(node, p["id"], "one-too-many")
    assert (r.status, r.json["code"]) == (400, "PROJECT_CONTAINER_LIMIT")
    assert r.json["data"]["current_count"] == r.json["data"]["limit"] == 2
    r = node.post(f"/api/v1/containers/{made[0].data['id']}/copy", {"target_project_id": p["id"]})
    assert r.json["code"] == "PROJECT_CONTAINER_LIMIT", r
    assert [c["id"] for c in node.get(url + "/containers").data["containers"]]
    assert node.post(f"/api/v1/containers/{made[0].data['id']}/snapshots").status == 200
    r = node.call("DELETE", url + "?include_deleted_items=true")
    assert r.status == 200, r
    assert r.data["deleted"] == {"containers": 2, "permissions": 0, "aliases": 0}
    assert {(c["id"], c["name"]) for c in r.data["deleted_items"]["containers"]} == {
        (m.data["id"], m.data["name"]) for m in made}
    assert node.get(url).status == 404
    assert all(node.get(f"/api/v1/containers/{m.data['id']}").status == 404 for m in made)
    node.assert_consistent()


def test_stats(node):
    p = make(node, "measured")
    assert node.get(f"{P}/{p['id']}/stats").data["stats"] == []
    made = [put_in(node, p["id"], f"stat-{i}").data for i in range(2)]
    assert node.op(made[0]["id"], "force-stop").status == 200
    data = node.get(f"{P}/{p['id']}/stats/").data
    s = data["summary"]
    assert (s["project_id"], s["project_name"], s["container_count"]) == (p["id"], "measured", 2)
    assert s["total_processing_time"].endswith("ms")
    by_id = {c["id"]: c for c in data["stats"]}
    assert by_id[made[0]["id"]]["status"] == "Stopped" and by_id[made[0]["id"]]["memory"] is None
    assert by_id[made[1]["id"]]["status"] == "Running" and by_id[made[1]["id"]]["memory"]["usage"] > 0
    assert by_id[made[1]["id"]]["project_name"] == "measured"
    assert node.get(f"{P}/{'9' * 24}/stats").json["code"] == "PROJECT_NOT_FOUND"
    assert node.call("DELETE", f"{P}/{p['id']}").status == 200


def test_an_unknown_project_of_a_container_is_recorded(node):
    pid = "77" * 12
    assert put_in(node, pid, "first").status == 201
    p = node.get(f"{P}/{pid}").data
    assert p["alias"] == pid and p["max_containers"] is None
    # the owner of projects may say later what it is
    r = node.post(P, {"id": pid, "alias": "named-later", "max_containers": 1})
    assert r.status == 201 and r.data["created_at"] == p["created_at"], r
    assert node.get(f"{P}/{pid}/containers").data["containers"][0]["project_alias"] == "named-later"
    assert node.call("DELETE", f"{P}/{pid}").status == 200


def test_a_database_from_before_there_were_projects(node):
    pid = "79" * 12
    assert put_in(node, pid, "old").status == 201
    node.stop()
    db = sqlite3.connect(node.state + "/noded.db")
    assert db.execute("DELETE FROM projects").rowcount > 1
    db.commit()
    db.close()
    node.start()
    assert node.get(f"{P}/{PROJECT}").data["is_default"]
    assert node.get(f"{P}/{pid}").data["alias"] == pid
    assert node.get(f"{P}/{pid}/containers").data["pagination"]["total"] == 1
    node.restart()
    assert node.call("DELETE", f"{P}/{pid}").status == 200


def test_a_busy_container_is_waited_for(node):
    p = make(node, "busy")
    r = node.post(f"{P}/{p['id']}/containers", {"server_id": "self", "name": "slow", "hoody_kit": False})
    assert r.status == 201 and r.data["status"] == "creating"
    replies = {}
    t = threading.Thread(target=lambda: replies.update(first=node.call("DELETE", f"{P}/{p['id']}")))
    t.start()
    while node.get(f"{P}/{p['id']}").status == 200:
        refused = put_in(node, p["id"], "late")
        if refused.status == 409:
            replies["late"] = refused
            break
    t.join(60)
    assert replies["first"].status == 200, replies
    assert replies["late"].json["code"] == "RESOURCE_IN_USE"
    assert node.get(f"/api/v1/containers/{r.data['id']}").status == 404
    node.assert_consistent()


def test_unknown_projects_can_be_refused():
    d = Daemon(api__unknown_projects="refuse").start()
    try:
        r = put_in(d, "78" * 12, "nowhere")
        assert (r.status, r.json["code"]) == (404, "RESOURCE_NOT_FOUND"), r
        assert put_in(d, PROJECT, "somewhere").status == 201
    finally:
        d.close()


@pytest.mark.parametrize("point", ["project.delete.intent", "op.delete.destroy", "op.delete.commit", "project.delete.commit"])
def test_a_deletion_survives_a_crash(node, point):
    p = make(node, "crash-" + point)
    made = [put_in(node, p["id"], f"victim-{i}") for i in range(2)]
    assert all(m.status == 201 for m in made)
    node.restart(f"{point}=kill")
    with pytest.raises(Exception):
        node.call("DELETE", f"{P}/{p['id']}")
    node.wait_dead()
    assert node.process.returncode == -9
    node.start()
    node.wait_idle()
    assert node.get(f"{P}/{p['id']}").status == 404
    assert all(node.get(f"/api/v1/containers/{m.data['id']}").status == 404 for m in made)
    node.assert_consistent()


@pytest.mark.parametrize("point", ["project.delete.intent", "project.delete.commit", "op.delete.intent"])
def test_a_failed_deletion_can_be_asked_for_again(node, point):
    p = make(node, "again-" + point)
    box = put_in(node, p["id"], "stubborn")
    assert box.status == 201
    node.restart(f"{point}=error")
    assert node.call("DELETE", f"{P}/{p['id']}").status >= 500
    assert put_in(node, p["id"], "newcomer").json["code"] == "RESOURCE_IN_USE"
    assert node.get(f"{P}/{p['id']}").status == 200
    node.restart()
    node.wait_idle()
    assert node.get(f"{P}/{p['id']}").status == 404
    assert node.get(f"/api/v1/containers/{box.data['id']}").status == 404



def test_a_change_that_cannot_be_recorded_is_undone(node):
    p = make(node, "unlucky")
    db = sqlite3.connect(node.state + "/noded.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    assert node.call("PATCH", f"{P}/{p['id']}", {"alias": "lucky"}).status == 500
    assert node.post(P, {"alias": "unborn"}).status == 500
    db.execute("ROLLBACK")
    db.close()
    assert node.get(f"{P}/{p['id']}").data == p
    assert "unborn" not in node.get(f"{P}?limit=100").text


def test_events(node):
    p = make(node, "told")
    node.call("PATCH", f"{P}/{p['id']}", {"alias": "told-again"})
    node.call("DELETE", f"{P}/{p['id']}")
    db = sqlite3.connect(node.state + "/noded.db")
    rows = db.execute("SELECT event_type FROM events WHERE resource_id = ? ORDER BY seq", (p["id"],)).fetchall()
    db.close()
    assert [r[0] for r in rows] == ["project.created", "project.updated", "project.deleted"]
