# SPDX-License-Identifier: Apache-2.0
"""The six operations: their bound in time, the shape of every answer, what is logged."""
import http.client
import time

import pytest

from daemon import Daemon



@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    return node.create("box")


def is_refusal(r, box, operation, status):
    data = r.json["data"]
    assert set(data) >= {"error", "operation", "container_id", "project_id", "message", "status"}, r
    assert data["error"] is True and data["operation"] == operation and data["container_id"] == box["id"]
    assert data["project_id"] == box["project_id"] and data["message"] == r.json["message"]
    assert data["status"] == status and r.json["statusCode"] == r.status
    return True


@pytest.mark.parametrize("body", [None, "", "null", "{}", '{"timeout": null}', '{"timeout": 600}'])
def test_bodies_that_are_taken(node, box, body):
    r = node.op(box["id"], "pause", body)
    assert r.status == 200, r
    assert r.data["error"] is False and r.data["status"] == "paused" and len(r.data["operation_id"]) == 32
    assert node.op(box["id"], "resume", body).data["status"] == "running"


@pytest.mark.parametrize("body", ['{"timeout": 0}', '{"timeout": 601}', '{"timeout": "5"}', '{"timeout": 1.5}', "[]", "{", '{"x": 1}'])
def test_bodies_that_are_refused(node, box, body):
    r = node.op(box["id"], "stop", body)
    assert r.status == 400 and r.json["field"] in ("timeout", "body", "x"), r
    assert is_refusal(r, box, "stop", "running")


def test_an_unknown_operation(node, box):
    for word in ("bogus", "START", "force_stop"):
        r = node.op(box["id"], word)
        assert r.status == 400 and is_refusal(r, box, word, "running"), r


def test_wrong_states(node, box):
    r = node.op(box["id"], "start")
    assert r.status == 400 and r.json["message"] == "Container is already running" and is_refusal(r, box, "start", "running")
    assert is_refusal(node.op(box["id"], "resume"), box, "resume", "running")


def test_an_operation_is_cut_when_its_time_is_over(node, box):
    """The host takes six seconds for a start; the client gives it one."""
    assert node.op(box["id"], "force-stop").status == 200
    node.restart(failpoint="start.before=sleep:6000")
    begun = time.monotonic()
    r = node.op(box["id"], "start", {"timeout": 1})
    assert r.status == 504 and r.json["code"] == "CONTAINER_HOST_TIMEOUT", r
    assert 0.9 < time.monotonic() - begun < 5 and is_refusal(r, box, "start", "stopped")
    node.restart()
    node.assert_consistent()
    assert node.op(box["id"], "start", {"timeout": 30}).status == 200
    ends = [e for e in node.get(f"/api/v1/events?container_id={box['id']}&event_type=container.operation.failed").data["events"]]
    assert ends[0]["payload"]["error"]["code"] == "CONTAINER_HOST_TIMEOUT"


def test_the_bound_of_a_stop_is_its_patience(node, box):
    """An init that does not listen is killed when the time is over; that is success."""
    node.wait_booted(box["id"])
    node.inside(box["id"], "systemctl", "mask", "--runtime", "--now", "exit.target", "halt.target", "poweroff.target", check=False)
    begun = time.monotonic()
    r = node.op(box["id"], "stop", {"timeout": 1})
    assert r.status == 200 and r.data["status"] == "stopped", r
    assert time.monotonic() - begun < 10


def test_while_an_operation_runs(node, box):
    node.restart(failpoint="start.before=sleep:1500")
    c = node.create("slow", wait=False)
    for word in ("start", "stop", "pause"):
        r = node.op(c["id"], word)
        assert r.status == 409 and r.json["error"] == "CONTAINER_OPERATION_IN_PROGRESS", r
        assert r.json["message"].startswith(f"Cannot perform {word} operation.") and is_refusal(r, c, word, "creating")
    node.restart()
    node.delete(c["id"])


def test_a_repeated_request_gets_the_first_answer(node, box):
    node.op(box["id"], "start")
    first, second = "a" * 32, "b" * 32
    done = node.op(box["id"], "pause", {"operation_id": first})
    assert done.status == 200 and done.data["operation_id"] == first
    assert node.op(box["id"], "pause", {"operation_id": first}).json == done.json
    assert node.op(box["id"], "resume", {"operation_id": second}).data["status"] == "running"
    again = node.op(box["id"], "pause", {"operation_id": first})
    assert again.status == 200 and again.data["status"] == "running", "nothing was begun"
    other = node.op(box["id"], "stop", {"operation_id": first})
    assert other.status == 409 and other.json["error"] == "RESOURCE_IN_USE" and is_refusal(other, box, "stop", "running")
    for bad in ("x", "A" * 32, "a" * 31, 5):
        assert node.op(box["id"], "pause", {"operation_id": bad}).json["field"] == "operation_id"


def test_an_operation_id_is_not_shared(node, box):
    node.restart(failpoint="start.before=sleep:1500")
    other = node.create("other", wait=False)
    busy = node.get(f"/api/v1/containers/{other['id']}/status-logs").data["logs"][0]["metadata"]["operation_id"]
    r = node.op(box["id"], "pause", {"operation_id": busy})
    assert r.status == 409 and r.json["error"] == "RESOURCE_IN_USE", r
    node.restart()
    node.delete(other["id"])


def test_a_repeated_failure_and_a_crash(node, box):
    assert node.op(box["id"], "force-stop").status == 200
    node.restart(failpoint="start.before=sleep:6000")
    first = node.op(box["id"], "start", {"timeout": 1, "operation_id": "c" * 32})
    again = node.op(box["id"], "start", {"timeout": 1, "operation_id": "c" * 32})
    assert first.status == again.status == 504 and first.json == again.json
    node.restart(failpoint="op.start.commit=kill")
    with pytest.raises((OSError, http.client.HTTPException)):
        node.op(box["id"], "start", {"operation_id": "d" * 32})
    node.wait_dead()
    node.start()
    node.wait_idle()
    assert node.op(box["id"], "start", {"operation_id": "d" * 32}).status == 200, "the recovery has ended it"


def test_every_sort_key_of_status_logs(node, box):
    path = f"/api/v1/containers/{box['id']}/status-logs?limit=100"
    for key in ("transition_time", "created_at", "to_status", "from_status"):
        up = [x[key] or "" for x in node.get(f"{path}&sort_by={key}&sort_order=asc").data["logs"]]
        down = [x[key] or "" for x in node.get(f"{path}&sort_by={key}").data["logs"]]
        assert up == sorted(up) and down == sorted(down, reverse=True) and len(up) > 4
    logs = node.get(f"{path}&sort_order=asc").data["logs"]
    assert logs[0]["from_status"] is None and logs[0]["to_status"] == "creating" and logs[0]["duration_ms"] is None
    assert all(a["to_status"] == b["from_status"] for a, b in zip(logs, logs[1:]))
    assert all(x["metadata"]["command"] and x["triggered_by"] in ("user", "recovery") for x in logs)
    assert all(x["duration_ms"] >= 0 for x in logs[1:])
