# SPDX-License-Identifier: Apache-2.0
"""The form of requests and replies across the platform's routes, in the surroundings of test_contract.py: methods, headers, paths,
members, pages and refusals."""
import base64
import json
import re
import urllib.parse

import openapi
from daemon import PROJECT, UnixConnection
from test_contract import ABSENT, at, box, make, node, project, refused, server  # noqa: F401, the fixtures


def test_members_that_tables_of_a_client_read(node, box, server):
    c = node.get(at(box, "")).data
    assert c["image"] == c["container_image"]
    event = node.get("/api/v1/events?limit=1").data["events"][0]
    assert event["type"] == event["event_type"] and event["resource_id"] in event["message"]
    image = node.get("/api/v1/images/public").data["images"][0]
    assert (image["name"], image["version"]) == (image["alias"], image["serial"])
    snapshot = node.post(at(box, "/snapshots"), {"alias": "read by tables"}).data["snapshot"]
    assert snapshot["id"] == snapshot["name"] == "readbytables"
    assert node.call("DELETE", at(box, "/snapshots/readbytables")).status == 200
    body = {"source_path": "/srv", "mode": "readonly", "target_project_id": c["project_id"]}
    share = node.post(at(box, "/storage/shares"), body).data
    assert (share["name"], share["type"]) == ("/srv", "project")
    assert node.call("PATCH", at(box, f"/storage/shares/{share['id']}"), {"alias": "the-alias"}).data["name"] == "the-alias"
    assert node.call("DELETE", f"/api/v1/storage/shares/{share['id']}").status == 200
    assert isinstance(node.get(f"/api/v1/servers/{server}").data["region"], str)


def test_absent_is_not_null(node, box):
    """The published types of these members know no null."""
    assert "subserver_name" not in node.get(at(box, "/stats")).data
    assert None not in node.get(at(box, "/stats")).data["disk"]["root"].values()
    assert None not in node.get(at(box, "/network")).data.values()
    none = node.get("/api/v1/events/stats?event_type=container.never").data
    assert none["total_events"] == 0 and None not in none.values()


def test_head_is_get_without_the_body(node, box, server):
    streams = {"/api/v1/node/routes/stream": "text/event-stream", "/api/v1/events/stream": "text/event-stream",
               "/api/v1/containers/{id}/export": "application/zstd"}
    ids = {"/containers/{": box, "/projects/{": PROJECT, "/servers/{": server}
    for template in sorted(t for m, t in openapi.operations() if m == "get"):
        owner = next((i for prefix, i in ids.items() if prefix in template), ABSENT)
        path = re.sub(r"\{[^}]*\}", ABSENT, template.replace("{id}", owner).replace("{serverId}", owner))
        r = node.call("HEAD", path, check=False)
        assert r.text == "" and r.status != 405, (path, r.status)
        if template in streams:
            assert (r.status, r.headers["Content-Type"]) == (200, streams[template]), path
        else:
            got = node.call("GET", path, check=False)
            assert (r.status, r.headers["Content-Type"]) == (got.status, got.headers["Content-Type"]), (path, got)
            assert int(r.headers["Content-Length"]) > 0, path
    r = node.call("HEAD", at(box, "/start"), check=False)
    assert r.status == 405 and r.headers["Allow"] == "POST"
    r = node.call("POST", at(box), {})
    assert {v.strip() for v in r.headers["Allow"].split(",")} >= {"GET", "HEAD", "DELETE"}


def test_head_leaves_the_connection_in_order(node, box):
    c = UnixConnection(node.socket, 10)
    for method in ("HEAD", "GET", "HEAD", "HEAD", "GET"):
        c.request(method, at(box), None, {"Content-Type": "application/json"})
        r = c.getresponse()
        text = r.read()
        assert r.status == 200 and (text == b"" if method == "HEAD" else json.loads(text)["data"]["id"] == box)
    c.close()


def test_snapshots_with_a_slash_in_their_alias(node, box):
    path = at(box, "/snapshots")
    made = {alias: node.post(path, {"alias": alias}).data["snapshot"]["name"] for alias in ("a/b", "c%2Fd", "c/d", "../e")}
    assert len(set(made.values())) == 4
    for alias, name in made.items():
        quoted = urllib.parse.quote(alias, safe="")
        r = node.call("PUT", f"{path}/{quoted}/alias", {"alias": alias})
        assert r.status == 200 and r.data["snapshot"]["name"] == name, (alias, r)
        r = node.call("DELETE", f"{path}/{quoted}")
        assert r.status == 200 and r.data["snapshot_name"] == name, (alias, r)
        assert node.call("DELETE", f"{path}/{quoted}").status == 404
    assert node.call("DELETE", f"{path}/none%2Fnone").status == 404
    assert node.get("/api/v1/images/public?search=debian%2F13").data["images"], "a slash in a query is a slash"


def test_wrong_verbs_and_paths(node, box):
    for method, path, allowed in [("POST", at(box), "GET"), ("DELETE", "/api/v1/containers", "GET"), ("PUT", at(box, "/stats"), "GET"), ("GET", at(box, "/start"), "POST"),
                                  ("PATCH", "/api/v1/node", "GET"), ("GET", at(box, "/copy"), "POST"), ("POST", "/api/v1/events", "GET")]:
        r = node.call(method, path)
        assert r.status == 405 and allowed in r.headers["Allow"], (method, path, r)
    for path in ("/", "/api", "/api/v1/containerz", at(box, "/nothing/at/all"), "/api/v2/containers", "/api/v1/projects/x/y/z"):
        r = node.get(path)
        assert r.status == 404 and r.json["statusCode"] == 404 and r.json["message"], path


def test_what_the_platforms_clients_send_is_accepted(node, box):
    """A JSON content type on every request, also without a body, and a token that this node does not look at."""
    head = {"Authorization": "Bearer " + base64.b64encode(b"token").decode(), "User-Agent": "hoody-cli", "Accept": "*/*", "Accept-Language": "*",
            "Accept-Encoding": "gzip, deflate", "Sec-Fetch-Mode": "cors", "Connection": "keep-alive"}
    assert node.call("GET", at(box), None, head).status == 200
    assert node.call("POST", at(box, "/firewall/reset"), b"", {**head, "Content-Length": "0"}).status == 200
    assert node.call("POST", at(box, "/pause"), "null", head).status == 200
    assert node.call("POST", at(box, "/resume"), "{}", head).status == 200


def test_pages_are_stable_and_total_right(node, box, make):
    for i in range(3):
        make(f"page-{i}")
    for key in ("id", "name", "status", "created_at", "updated_at"):
        for order in ("asc", "desc"):
            whole = node.get(f"/api/v1/containers?sort_by={key}&sort_order={order}").data["containers"]
            pages = [node.get(f"/api/v1/containers?limit=1&page={i + 1}&sort_by={key}&sort_order={order}").data for i in range(len(whole) + 1)]
            assert [c["id"] for p in pages for c in p["containers"]] == [c["id"] for c in whole]
            assert {p["pagination"]["total"] for p in pages} == {len(whole)} == {p["pagination"]["totalPages"] for p in pages}
            values = [c[key] for c in whole]
            assert values == sorted(values, reverse=order == "desc")


def test_operations_that_are_refused(node, box):
    assert refused(node.op(box, "start"), 400, word="already running")
    assert refused(node.op(box, "resume"), 400) and refused(node.op(box, "bogus"), 400)
    for bad in (0, 601, "x", 1.5):
        assert refused(node.op(box, "stop", {"timeout": bad}), 400, field="timeout")
    assert refused(node.op(box, "stop", {"speed": 1}), 400, field="speed")
    assert refused(node.op(ABSENT, "stop"), 404, "CONTAINER_NOT_FOUND")
    assert node.container(box)["status"] == "running"


def test_runtime_query(node, box):
    assert node.container(box)["runtime_info"] is None
    node.wait_booted(box)
    info = node.get(at(box, "?runtime=true")).data["runtime_info"]
    assert any(s["unit"] == "systemd-journald.service" and s["active"] == "active" for s in info["services"])
    assert any(s["port"] == 22 and s["protocol"].startswith("tcp") for s in info["network_services"])
    listed = node.get("/api/v1/containers?runtime=%7B%22services%22%3Atrue%7D").data["containers"]
    assert next(c for c in listed if c["id"] == box)["runtime_info"]["services"]
    assert refused(node.get(at(box, "?runtime=perhaps")), 400, field="runtime")
