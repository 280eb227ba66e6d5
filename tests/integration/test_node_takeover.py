# SPDX-License-Identifier: Apache-2.0
"""Force-stop and delete do not wait for a stop that waits for its guest; everything else keeps its container."""
import http.client
import os
import signal
import subprocess
import threading
import time

import pytest
from daemon import Daemon
from world import BUILD, wait_for

SOON = 8  # seconds; the stop that is ended has 600


class Caller(threading.Thread):
    """A request in the background; `reply` is None when the connection died."""

    def __init__(self, call, *args):
        super().__init__()
        self.what, self.reply = (call, args), None
        self.start()

    def run(self):
        call, args = self.what
        try:
            self.reply = call(*args)
        except (OSError, http.client.HTTPException):
            pass

    def answer(self):
        self.join(SOON)
        assert not self.is_alive(), "no answer"
        return self.reply


@pytest.fixture(scope="module")
def node():
    d = Daemon(node__workers=1).start()
    yield d
    d.close()


@pytest.fixture
def stubborn(node):
    """A container whose init does not listen to the shutdown signal."""
    cid = node.create("stubborn", hoody_kit=False)["id"]
    deafen(node, cid)
    yield cid
    if node.process.poll() is not None:
        node.start()
    node.wait_idle()
    assert node.delete(cid).status in (200, 404)
    node.assert_consistent()


def deafen(node, cid):
    node.wait_booted(cid)
    node.inside(cid, "systemctl", "mask", "--runtime", "halt.target")


def waiting(node, cid, operation="stop", seconds=600):
    """The operation, which has come to its wait."""
    caller = Caller(node.call, "POST", f"/api/v1/containers/{cid}/{operation}", {"timeout": seconds}, None, 700)
    wait_for(lambda: (node.container(cid)["operation"] or {}).get("interruptible"), SOON, what="the wait")
    assert node.container(cid)["operation"]["name"] == operation
    return caller


def ends(node, cid):
    """The ends of its operations, the newest first."""
    return [e["payload"] for e in node.get(f"/api/v1/events?container_id={cid}").data["events"]
            if e["event_type"].startswith("container.operation.")]


def is_taken_over(reply, operation, by):
    assert (reply.status, reply.json["code"]) == (409, "OPERATION_TAKEN_OVER"), reply
    assert reply.json["message"] == f"The {operation} ended because {by} took over"
    assert reply.json["data"]["error"] is True and reply.json["data"]["operation"] == operation
    return True


@pytest.mark.parametrize("operation", ["stop", "restart"])
def test_force_stop_takes_over(node, stubborn, operation):
    first = waiting(node, stubborn, operation)
    begun = time.monotonic()
    r = node.op(stubborn, "force-stop")
    assert r.status == 200 and r.data["status"] == "stopped", r
    assert time.monotonic() - begun < SOON
    assert is_taken_over(first.answer(), operation, "force-stop")
    c = node.container(stubborn)
    assert (c["status"], c["operation"], c["node"]["init_pid"]) == ("stopped", None, 0)
    last, ended = ends(node, stubborn)[:2]
    assert (last["operation"], last["status"]) == ("force-stop", "completed")
    assert (ended["operation"], ended["status"], ended["taken_over_by"]) == (operation, "failed", last["operation_id"])
    assert ended["error"] == {"code": "OPERATION_TAKEN_OVER", "message": f"The {operation} ended because force-stop took over"}
    logs = node.get(f"/api/v1/containers/{stubborn}/status-logs?limit=1").data["logs"][0]
    assert (logs["from_status"], logs["to_status"], logs["metadata"]["command"]) == ("running", "stopped", "force-stop")
    node.assert_consistent()
    assert node.op(stubborn, "start").status == 200, "nothing of it is left half done"


@pytest.mark.parametrize("operation", ["stop", "restart"])
def test_delete_takes_over(node, stubborn, operation):
    first = waiting(node, stubborn, operation)
    begun = time.monotonic()
    assert node.delete(stubborn).status == 200
    assert time.monotonic() - begun < SOON and node.get(f"/api/v1/containers/{stubborn}").status == 404
    assert is_taken_over(first.answer(), operation, "delete")
    node.assert_consistent()


def test_a_projects_deletion_takes_over(node):
    project = node.post("/api/v1/projects", {"alias": "stubborn-one"}).data["id"]
    cid = node.post(f"/api/v1/projects/{project}/containers?wait=true", {"server_id": "self", "name": "theirs", "hoody_kit": False}).data["id"]
    deafen(node, cid)
    first = waiting(node, cid)
    begun = time.monotonic()
    assert node.call("DELETE", f"/api/v1/projects/{project}").status == 200
    assert time.monotonic() - begun < SOON
    assert is_taken_over(first.answer(), "stop", "delete")
    node.assert_consistent()


def test_what_holds_it_is_shown(node, stubborn):
    assert node.container(stubborn)["operation"] is None
    mine = "5" * 32
    first = Caller(node.call, "POST", f"/api/v1/containers/{stubborn}/stop", {"timeout": 600, "operation_id": mine}, None, 700)
    wait_for(lambda: (node.container(stubborn)["operation"] or {}).get("interruptible"), SOON, what="the wait")
    held = node.container(stubborn)["operation"]
    assert (held["name"], held["operation_id"]) == ("stop", mine) and "force-stop or delete" in held["hint"]
    assert next(c for c in node.list() if c["id"] == stubborn)["operation"] == held
    ctl = [BUILD + "/nodectl", "--socket", node.socket]
    shown = subprocess.run([*ctl, "get", stubborn], capture_output=True, text=True, check=True).stdout
    assert f"stop since {held['since']} ({mine})" in shown and held["hint"] in shown
    rows = subprocess.run([*ctl, "list"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert rows[0].split()[:4] == ["ID", "NAME", "STATUS", "OPERATION"]
    assert next(row.split()[3] for row in rows if row.startswith(stubborn)) == "stop"
    for word in ("start", "stop", "restart", "pause"):
        r = node.op(stubborn, word)
        assert r.status == 409 and r.json["code"] == "CONTAINER_OPERATION_IN_PROGRESS" and held["hint"] in r.json["message"], r
    r = node.op(stubborn, "force-stop", {"operation_id": mine})
    assert (r.status, r.json["code"]) == (409, "RESOURCE_IN_USE"), "two operations with one id"
    assert node.op(stubborn, "force-stop").status == 200
    assert is_taken_over(first.answer(), "stop", "force-stop")
    again = node.op(stubborn, "stop", {"timeout": 600, "operation_id": mine})
    assert is_taken_over(again, "stop", "force-stop"), "the answer is kept"


@pytest.mark.parametrize("other", ["force-stop", "delete"])
def test_two_at_once(node, stubborn, other):
    first = waiting(node, stubborn)
    one = Caller(node.op, stubborn, "force-stop")
    two = Caller(node.delete, stubborn) if other == "delete" else Caller(node.op, stubborn, "force-stop")
    replies = sorted((c.answer() for c in (one, two)), key=lambda r: r.status)
    assert replies[0].status == 200, replies
    # The later one came while the first took over, or found its work done; a delete after that is as good as any.
    assert replies[1].status in ({200, 404, 409} if other == "delete" else {400, 409}), replies
    r = first.answer()
    assert (r.status, r.json["code"]) == (409, "OPERATION_TAKEN_OVER"), r
    node.assert_consistent()


def test_many_that_wait_are_in_nobodys_way(node, stubborn):
    """The node has one worker for short work."""
    others = [node.create(f"deaf{i}", hoody_kit=False)["id"] for i in range(2)]
    for cid in others:
        deafen(node, cid)
    callers = [waiting(node, cid) for cid in (*others, stubborn)]
    begun = time.monotonic()
    assert node.op(stubborn, "force-stop").status == 200
    for cid in others:
        assert node.delete(cid).status == 200
    assert time.monotonic() - begun < SOON
    for caller in callers:
        assert caller.answer().json["code"] == "OPERATION_TAKEN_OVER"


def test_what_moves_data_keeps_its_container(node, stubborn):
    node.restart("snapshot.made=sleep:2000")
    first = Caller(node.post, f"/api/v1/containers/{stubborn}/snapshots", {"alias": "kept"})
    wait_for(lambda: node.container(stubborn)["operation"], SOON, what="the snapshot")
    held = node.container(stubborn)["operation"]
    assert held["name"] == "snapshot" and held["interruptible"] is False
    for r in (node.op(stubborn, "force-stop"), node.delete(stubborn)):
        assert (r.status, r.json["code"]) == (409, "CONTAINER_OPERATION_IN_PROGRESS"), r
    assert first.answer().status == 200
    node.restart()


def test_a_guest_that_ends_in_that_moment(node, stubborn):
    """The stop is asked to give way when its guest is gone already: it answers as ever, and the other one finds nothing to do."""
    node.restart("stop.asked=sleep:3000")
    pid = node.container(stubborn)["node"]["init_pid"]
    first = waiting(node, stubborn)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), SOON, what="the guest's end")
    r = node.op(stubborn, "force-stop")
    assert r.status == 200 and r.data["status"] == "stopped", r
    assert is_taken_over(first.answer(), "stop", "force-stop")
    node.assert_consistent()
    node.restart()


@pytest.mark.parametrize("point,after", [("force-stop.takeover", {"stopped"}), ("force-stop.intent", {"stopped"}),
                                         ("force-stop.kill", {"stopped"}), ("force-stop.commit", {"stopped"}),
                                         ("delete.takeover", {"stopped"}), ("delete.intent", {None}), ("delete.destroy", {None})])
def test_noded_killed_at(node, stubborn, point, after):
    """Before the transaction the stop is repeated, with its three seconds; after it, the one that took over."""
    node.restart(f"op.{point}=kill")
    first = waiting(node, stubborn, seconds=3)
    second = Caller(node.delete, stubborn) if point.startswith("delete") else Caller(node.op, stubborn, "force-stop")
    node.wait_dead()
    assert node.process.returncode == -9
    assert second.answer() is None
    first.answer()
    node.start()
    node.wait_idle()
    r = node.get(f"/api/v1/containers/{stubborn}")
    assert (r.data["status"] if r.status == 200 else None) in after, r
    node.assert_consistent()


@pytest.mark.parametrize("operation", ["stop", "restart"])
def test_a_takeover_that_fails_leaves_what_was(node, stubborn, operation):
    node.restart("op.force-stop.takeover=error")
    first = waiting(node, stubborn, operation)
    assert node.op(stubborn, "force-stop").status >= 500
    assert first.answer().status >= 500
    node.wait_idle()
    c = node.container(stubborn)
    assert (c["status"], c["operation"]) == ("running", None) and c["node"]["init_pid"] > 0, "it is watched again"
    node.assert_consistent()
    node.restart()


def test_a_recovered_stop_gives_way_too(node, stubborn):
    first = waiting(node, stubborn)
    node.kill9()
    first.join(SOON)
    node.start()
    wait_for(lambda: (node.container(stubborn)["operation"] or {}).get("interruptible"), SOON, what="the stop again")
    assert node.op(stubborn, "force-stop").status == 200
    assert ends(node, stubborn)[1]["error"]["code"] == "OPERATION_TAKEN_OVER"
    node.assert_consistent()
