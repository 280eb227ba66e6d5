# SPDX-License-Identifier: Apache-2.0
"""A real noded with a worker that crashes, lies, chatters or hangs: every request is answered, nothing is left waiting."""
import glob
import http.client
import json
import os
import subprocess
import threading
import time

import pytest
from daemon import Daemon
from world import REPOSITORY, wait_for

FAKE = REPOSITORY + "/tests/support/fake_worker.py"


@pytest.fixture
def node():
    d = Daemon(node__worker=FAKE)
    d.env["NODED_FAKE_PLAN"] = d.dir + "/plan.json"
    plan(d)
    os.makedirs(d.pool)
    yield d.start()
    d.stop()
    subprocess.run(["nft", "delete", "table", "inet", d.name], check=False, capture_output=True)
    d.remove_files()


def plan(d, **jobs):
    with open(d.dir + "/plan.json", "w", encoding="ascii") as f:
        json.dump({k.replace("_", "."): v for k, v in jobs.items()}, f)


def children(pid):
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(path)
    return found


FAULTS = {"crash": "killed by signal 9", "half": "without a result", "garbage": "not JSON", "huge": "a frame of",
          "exit": "status 3", "error": "the fake says no", "silence": "without a result"}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("job", ["container.create", "container.start"])
def test_create_fails_cleanly(node, job, fault):
    plan(node, **{job.replace(".", "_"): fault})
    r = node.create("broken", hoody_kit=False, ok=False)
    assert r.status in (500, 502) and FAULTS[fault] in r.json["message"], r
    node.wait_idle()
    assert [c["status"] for c in node.list()] == ["failed"]
    assert node.links() == []
    wait_for(lambda: children(node.process.pid) == [], 30, what="the end of all workers")  # one may destroy what was deleted
    plan(node)
    assert node.delete(node.list()[0]["id"]).status == 200
    assert node.list() == []


@pytest.mark.parametrize("fault", ["crash", "garbage", "error"])
def test_snapshot_fails_cleanly(node, fault):
    cid = node.create("box", hoody_kit=False)["id"]
    plan(node, snapshot_create=fault)
    r = node.post(f"/api/v1/containers/{cid}/snapshots", {"alias": "s"})
    assert r.status in (500, 502), r
    assert node.get(f"/api/v1/containers/{cid}/snapshots").data["snapshots"] == []
    plan(node)
    assert node.post(f"/api/v1/containers/{cid}/snapshots", {"alias": "s"}).status == 200
    assert node.delete(cid).status == 200


def test_chatter_is_no_fault(node):
    plan(node, container_create="chatter")
    assert node.create("box", hoody_kit=False)["status"] == "running"


def test_a_failed_delete_can_be_repeated(node):
    cid = node.create("box", hoody_kit=False)["id"]
    plan(node, container_destroy="crash")
    assert node.delete(cid).status in (500, 502)
    assert node.container(cid)["status"] == "failed"
    plan(node)
    assert node.delete(cid).status == 200


def test_noded_does_not_start_without_its_pool(node):
    node.stop()
    plan(node, pool_open="error")
    node.start(wait=False)
    assert node.process.wait(20) == 1
    assert "storage pool" in node.log() and "the fake says no" in node.log()


def test_a_hanging_job_is_killed_at_its_deadline(node):
    cid = node.create("box", hoody_kit=False)["id"]
    plan(node, env_write="hang")
    r = node.call("PUT", f"/api/v1/containers/{cid}/env/A", {"value": "1"}, timeout=50)
    assert r.status == 200 and r.data["synced"] is False and r.data["env_sync"]["last_error"] == "ENV_APPLY_FAILED", r
    assert node.get("/healthz").status == 200
    assert children(node.process.pid) == []
    assert node.container(cid)["env_sync"]["pending"]
    plan(node)
    assert node.op(cid, "pause").status == 200
    wait_for(lambda: not node.container(cid)["env_sync"]["pending"], 10, what="the retry")


WAITING_AT_ONCE = 32


def test_a_stop_is_taken_over_in_the_queue_and_when_its_worker_does_not_listen(node):
    ids = [node.create(f"box{i}", hoody_kit=False)["id"] for i in range(WAITING_AT_ONCE + 1)]
    plan(node, container_stop="hang")
    replies = {}

    def stop(cid):
        try:
            replies[cid] = node.call("POST", f"/api/v1/containers/{cid}/stop", {"timeout": 600}, timeout=120)
        except (OSError, http.client.HTTPException):
            pass  # the node ended
    threads = [threading.Thread(target=stop, args=(cid,)) for cid in ids]
    for n, (cid, thread) in enumerate(zip(ids, threads), 1):
        thread.start()
        wait_for(lambda cid=cid: (node.container(cid)["operation"] or {}).get("interruptible"), 10, what="the stop")
        wait_for(lambda n=n: len(children(node.process.pid)) == min(n, WAITING_AT_ONCE), 10, what="its worker")
    plan(node)
    begun = time.monotonic()
    r = node.op(ids[-1], "force-stop")  # its stop has no worker yet
    assert r.status == 200 and r.data["status"] == "stopped" and time.monotonic() - begun < 5, r
    r = node.call("POST", f"/api/v1/containers/{ids[0]}/force-stop", timeout=60)
    assert r.status == 200 and r.data["status"] == "stopped", r
    assert 25 < time.monotonic() - begun < 50, "the deadline of a stop without the patience"
    for cid in (ids[-1], ids[0]):
        wait_for(lambda cid=cid: cid in replies, 10, what="the answer")
        assert (replies[cid].status, replies[cid].json["code"]) == (409, "OPERATION_TAKEN_OVER")
    node.kill9()
    for thread in threads:
        thread.join(10)
