# SPDX-License-Identifier: Apache-2.0
"""Servers, their commands, and images."""
import json
import sqlite3
import time

import openapi
import pytest

from daemon import Daemon
from world import wait_for



@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def server(node):
    return "/api/v1/servers/" + node.get("/api/v1/node").data["id"]


def get(node, path):
    r = node.get(path)
    assert not openapi.complaint("GET", path, r.status, r.json), openapi.complaint("GET", path, r.status, r.json)
    return r


def execute(node, server, slug, wait=True, **more):
    path = server + "/execute-command"
    r = node.post(path, {"command_slug": slug, "wait": wait, **more})
    assert not openapi.complaint("POST", path, r.status, r.json), openapi.complaint("POST", path, r.status, r.json)
    return r


def confirmed(node, server, failpoint=None):
    """A token, as soon as the command may run again: a day in the past is as good as waiting."""
    node.stop()
    db = sqlite3.connect(f"{node.state}/noded.db")
    db.execute("UPDATE command_logs SET started_at = started_at - 86400000 WHERE slug = 'container-restart-all'")
    db.commit()
    db.close()
    node.start(failpoint)
    return execute(node, server, "container-restart-all").json["data"]["confirmation_token"]


def test_the_one_server(node, server):
    r = get(node, "/api/v1/servers").data
    assert r["pagination"]["total"] == 1 and "/api/v1/servers/" + r["servers"][0]["id"] == server
    assert get(node, server).data["specs"]["cpu_cores"] >= 1
    assert get(node, "/api/v1/servers?page=2").data["servers"] == []
    for tail in ("", "/runtime", "/available-commands", "/command-logs/" + "1" * 24):
        assert get(node, "/api/v1/servers/" + "9" * 24 + tail).status == 404
    assert node.post("/api/v1/servers/" + "9" * 24 + "/execute-command", {"command_slug": "node-status"}).status == 404


def test_runtime(node, server):
    r = get(node, server + "/runtime").data
    with open("/proc/uptime", encoding="ascii") as f:
        assert abs(float(f.read().split()[0]) - r["uptime_s"]) < 5
    assert set(r["load"]) == {"1", "5", "15"} and r["cores"] >= 1 and r["stale"] is False
    assert 0 <= r["cpu"]["busy_pct"] <= 100 and 0 <= r["cache_age_ms"] <= 1000
    for part in ("mem", "swap", "storage"):
        assert r[part]["used_bytes"] + r[part]["free_bytes"] == r[part]["total_bytes"]
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        pass
    assert get(node, server + "/runtime").data["cpu"]["busy_pct"] > 20


def test_the_table(node, server):
    r = get(node, server + "/available-commands").data
    slugs = {c["slug"]: c for c in r["commands"]}
    assert len(slugs) == len(r["commands"]) >= 9 and r["server_info"]["rental_status"] == "active"
    assert {"node-status", "disk-usage", "container-restart-all"} <= set(slugs)
    assert [c["slug"] for c in r["commands"] if c["requires_confirmation"]] == ["container-restart-all"]
    low = get(node, server + "/available-commands?risk_level=low").data["commands"]
    assert {c["risk_level"] for c in low} == {"low"} and 0 < len(low) < len(slugs)
    medium = get(node, server + "/available-commands?risk_level=medium").data["commands"]
    assert {c["risk_level"] for c in medium} == {"low", "medium"}
    network = get(node, server + "/available-commands?category=network").data["commands"]
    assert [c["slug"] for c in network] == ["network-resync"]
    assert get(node, server + "/available-commands?risk_level=huge").json["field"] == "risk_level"


def test_every_low_command_answers(node, server):
    box = node.create("subject")
    node.wait_booted(box["id"])
    for c in get(node, server + "/available-commands?risk_level=low").data["commands"]:
        given = {"container_id": box["id"]} if "container_id" in c["parameter_schema"]["properties"] else {}
        r = execute(node, server, c["slug"], parameters=given)
        assert r.status == 200 and r.data["status"] == "completed" and r.data["exit_code"] == 0, (c["slug"], r)
        output = json.loads(r.data["output"])
        if c["slug"] == "disk-usage":
            assert [x["container_id"] for x in output["containers"]] == [box["id"]]
        if c["slug"] == "list-images":
            assert output["images"] == ["debian/13"]
        if c["slug"] == "container-services":
            assert "systemd-journald.service" in {s["unit"] for s in output["services"]}
        log = get(node, f"{server}/command-logs/{r.data['command_log_id']}").data
        assert log["output"] == r.data["output"] and log["command_id"] == c["id"] and log["status"] == "completed"
        by_id = node.post(server + "/execute-command", {"command_id": c["id"], "parameters": given})
        assert by_id.status in (200, 429) and (by_id.status == 429) == (c["cooldown_seconds"] > 0), by_id
    node.delete(box["id"])


@pytest.mark.parametrize("body,field", [
    ({}, "command_id"), ({"command_slug": "node-status", "command_id": "1" * 24}, "command_slug"),
    ({"command_slug": "node-status", "timeout": 0}, "timeout"), ({"command_slug": "node-status", "timeout": 7201}, "timeout"),
    ({"command_slug": "node-status", "parameters": []}, "parameters"),
    ({"command_slug": "node-status", "parameters": {"x": 1}}, "parameters"),
    ({"command_slug": "node-status", "wait": "no"}, "wait"), ({"command_slug": 5}, "command_slug"),
    ({"command_slug": "prune-events", "parameters": {"retention_days": 0}}, "parameters.retention_days"),
    ({"command_slug": "prune-events", "parameters": {"retention_days": "7"}}, "parameters.retention_days"),
    ({"command_slug": "container-services", "parameters": {"container_id": "x"}}, "parameters.container_id")])
def test_bad_requests(node, server, body, field):
    r = node.post(server + "/execute-command", body)
    assert r.status == 400 and r.json["field"] == field, r


def test_missing_and_unknown(node, server):
    r = execute(node, server, "prune-events")
    assert r.status == 400 and r.json["data"]["missing_params"] == ["retention_days"]
    assert execute(node, server, "rm-rf").status == 404
    assert execute(node, server, "container-services", parameters={"container_id": "1" * 24}).status == 404


def test_not_waited_for(node, server):
    r = execute(node, server, "node-inventory", wait=False)
    if r.status == 429:
        time.sleep(r.json["data"]["retry_after"])
        r = execute(node, server, "node-inventory", wait=False)
    assert r.status == 202 and r.data["status"] == "pending" and r.data["estimated_completion"], r
    path = f"{server}/command-logs/{r.data['command_log_id']}"
    wait_for(lambda: get(node, path).data["status"] == "completed", what="the command")
    log = get(node, path).data
    assert log["exit_code"] == 0 and log["end_time"] >= log["start_time"] and log["execution_time"] >= 0


def test_limits(node, server):
    first = execute(node, server, "network-resync")
    assert first.status == 200, first
    r = execute(node, server, "network-resync")
    assert r.status == 429 and r.json["error"] == "RATE_LIMIT_EXCEEDED"
    assert r.json["data"]["rate_limit_type"] == "cooldown" and r.headers["Retry-After"] == str(r.json["data"]["retry_after"])
    node.kill9()
    node.start()
    assert execute(node, server, "network-resync").json["data"]["rate_limit_type"] == "cooldown", "a restart changes nothing"
    time.sleep(5)
    assert execute(node, server, "network-resync").status == 200


def test_confirmation_and_its_events(node, server):
    boxes = [node.create(f"many{i}") for i in range(2)]
    r = execute(node, server, "container-restart-all")
    assert r.status == 400 and r.json["error"] == "CONFIRMATION_REQUIRED", r
    token = r.json["data"]["confirmation_token"]
    assert token in r.json["message"], "a command line client prints nothing else"
    assert execute(node, server, "container-restart-all", confirmation_token="0" * 32).status == 400
    r = execute(node, server, "container-restart-all", confirmation_token=token)
    assert r.status == 200 and sorted(json.loads(r.data["output"])["restarted"]) == sorted(b["id"] for b in boxes), r
    assert execute(node, server, "container-restart-all", confirmation_token=token).status in (400, 429)
    assert all(node.container(b["id"])["node"]["init_pid"] != b["node"]["init_pid"] for b in boxes)
    events = node.get("/api/v1/events?event_type=server.command.completed&limit=500").data["events"]
    mine = events[0]
    assert mine["resource_type"] == "server" and server.endswith(mine["resource_id"])
    assert mine["payload"]["command_slug"] == "container-restart-all" and mine["payload"]["command_log_id"] == r.data["command_log_id"]
    for b in boxes:
        node.delete(b["id"])


def test_a_failure_is_told(node, server):
    box = node.create("down")
    node.op(box["id"], "force-stop")
    r = execute(node, server, "container-services", parameters={"container_id": box["id"]})
    assert r.status == 200 and r.data["status"] == "failed" and r.data["exit_code"] == 1 and "not running" in r.data["output"]
    failed = node.get("/api/v1/events?event_type=server.command.failed").data["events"][0]
    assert failed["container_id"] == box["id"] and failed["payload"]["exit_code"] == 1
    node.delete(box["id"])


def test_a_command_whose_time_is_over(node, server):
    """A restart that takes six seconds on the host; the client gives the command one."""
    box = node.create("late")
    token = confirmed(node, server, "start.before=sleep:6000")
    begun = time.monotonic()
    r = execute(node, server, "container-restart-all", timeout=1, confirmation_token=token)
    assert r.status == 504 and r.json["code"] == "CONTAINER_HOST_TIMEOUT" and time.monotonic() - begun < 5, r
    node.wait_idle()
    assert node.container(box["id"])["status"] == "running"
    node.restart()
    node.delete(box["id"])


def test_interrupted_by_a_crash(node, server):
    boxes = [node.create(f"slow{i}") for i in range(2)]
    token = confirmed(node, server)
    r = execute(node, server, "container-restart-all", wait=False, confirmation_token=token)
    assert r.status == 202
    node.kill9()
    node.start()
    log = get(node, f"{server}/command-logs/{r.data['command_log_id']}").data
    assert log["status"] == "failed" and "interrupted" in log["output"]
    node.wait_idle()
    for b in boxes:
        node.delete(b["id"])


def test_images(node):
    r = get(node, "/api/v1/images/public").data
    assert [i["alias"] for i in r["images"]] == ["debian/13"] and r["pagination"] == {"total": 1, "page": 1, "limit": 20, "totalPages": 1}
    image = r["images"][0]
    assert (image["os"], image["release"], image["price"], image["architecture"]) == ("debian", "13", 0, "amd64")
    assert image["size"] > 10**7 and image["serial"] == image["added_date"][:10].replace("-", "")
    assert get(node, f"/api/v1/images/public/{image['id']}").data == image
    assert get(node, "/api/v1/images/public/" + "1" * 24).status == 404
    assert get(node, "/api/v1/images/user").data["images"] == []
    for query, count in (("os=Debian", 1), ("os=arch", 0), ("search=DEB", 1), ("search=zz", 0), ("min_price=1", 0), ("max_price=0", 1),
                         ("min_rating=0.5", 0), ("architecture=amd64", 1), ("page=2", 0), ("sort_by=price&sort_order=asc", 1)):
        assert len(get(node, "/api/v1/images/public?" + query).data["images"]) == count, query
    for query, field in (("min_price=x", "min_price"), ("max_rating=-1", "max_rating"), ("limit=101", "limit"), ("sort_by=id", "sort_by")):
        assert get(node, "/api/v1/images/public?" + query).json["field"] == field
    assert node.get(f"/api/v1/images/{image['id']}/icon").status == 404
    for verb in ("import", "purchase", "rate"):
        r = node.post(f"/api/v1/images/{verb}/{image['id']}", {"rating": 3})
        assert r.status == 503 and r.json["error"] == "MARKETPLACE_NOT_CONFIGURED" and "control" in r.json["message"]
