# SPDX-License-Identifier: Apache-2.0
"""A pool that runs full, and one that grows: tests/run tests/integration/test_node_storage.py"""
import json
import os
import subprocess
import time

import pytest
from daemon import PROJECT, Daemon
from world import BUILD, run, wait_for

MIB = 1 << 20


@pytest.fixture(scope="module")
def node():
    d = Daemon(loop_bytes=2048 * MIB, storage__reserve="128M", storage__low_percent="35").start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    c = node.create("storage-box", hoody_kit=False)
    node.wait_booted(c["id"])
    assert node.post(f"/api/v1/containers/{c['id']}/snapshots", {"alias": "before"}).status == 200
    return c


@pytest.fixture(scope="module")
def copy(node, box):
    r = node.post(f"/api/v1/containers/{box['id']}/copy?wait=true", {"target_project_id": PROJECT, "name": "storage-copy"})
    assert r.status in (200, 201, 202), r
    return r.data


def storage(node):
    return node.get("/api/v1/node/storage").data


def states(node):
    events = node.get("/api/v1/events?event_type=server.health_changed&limit=500&sort_order=asc").data["events"]
    return [e["payload"]["state"] for e in events if e["payload"]["component"] == "storage"]


class Ballast:
    """A file that leaves only so much of the pool."""

    def __init__(self, node):
        self.path = node.pool + "/ballast"

    def leave(self, node, left):
        with open(self.path, "ab", buffering=0) as f:
            for step in (64 * MIB, 8 * MIB, MIB):
                while storage(node)["free_bytes"] > left + step:
                    try:
                        f.write(os.urandom(MIB) * (step // MIB))
                        os.fsync(f.fileno())
                    except OSError:
                        return

    def remove(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
            subprocess.run(["sync", "-f", os.path.dirname(self.path)], check=True)


@pytest.fixture
def ballast(node):
    b = Ballast(node)
    yield b
    b.remove()


def needs_room(node, box, copy):
    """Everything that is refused without room."""
    at = f"/api/v1/containers/{box['id']}"
    return {
        "create": node.post(f"/api/v1/projects/{PROJECT}/containers?wait=true", {"server_id": "self", "name": "storage-new"}),
        "copy": node.post(at + "/copy?wait=true", {"target_project_id": PROJECT, "name": "storage-new-copy"}),
        "snapshot": node.post(at + "/snapshots", {"alias": "during"}),
        "sync": node.post(f"/api/v1/containers/{copy['id']}/sync?wait=true"),
    }


def test_tree_nodes_are_pages(node):
    """Larger ones make each further snapshot of a container dearer."""
    uuid = run("findmnt", "-no", "UUID", node.pool).strip()
    assert int(open(f"/sys/fs/btrfs/{uuid}/nodesize", encoding="ascii").read()) == os.sysconf("SC_PAGESIZE")


def test_low_is_told_before_it_is_full(node, box, ballast):
    total = storage(node)["total_bytes"]
    ballast.leave(node, total * 18 // 100)
    wait_for(lambda: states(node)[-1:] == ["low"], 10, what="the event")
    assert storage(node)["state"] == "low"
    ballast.remove()
    wait_for(lambda: states(node)[-1:] == ["ok"], 30, what="the event")


def test_below_the_reserve_nothing_new_is_begun(node, box, copy, ballast):
    before = {c["id"]: c["status"] for c in node.list()}
    ballast.leave(node, 100 * MIB)
    assert storage(node)["state"] == "full"
    wait_for(lambda: states(node)[-1:] == ["full"], 10, what="the event")
    for what, r in needs_room(node, box, copy).items():
        assert (r.status, r.json["code"]) == (502, "CONTAINER_HOST_COMMAND_FAILED"), (what, r)
        assert "pool is full" in r.json["message"] and "nodectl storage grow" in r.json["message"], what
    assert {c["id"]: c["status"] for c in node.list()} == before
    # What makes room, and what runs, goes on.
    at = f"/api/v1/containers/{box['id']}"
    assert node.op(box["id"], "restart").status == 200
    wait_for(lambda: node.container(box["id"])["status"] == "running", 60, what="the restart")
    assert node.call("PUT", at + "/snapshots/before").status == 200
    node.wait_idle()
    node.assert_consistent()
    ballast.remove()
    wait_for(lambda: storage(node)["state"] == "ok" and states(node)[-1] == "ok", 30, what="room")
    for what, r in needs_room(node, box, copy).items():
        assert r.status in (200, 201, 202), (what, r)
        if what in ("create", "copy"):
            node.delete(r.data["id"])
    assert node.call("DELETE", at + "/snapshots/during").status == 200


def test_really_full(node, box, copy, ballast):
    """Its own containers can fill the pool past the reserve: clear errors, nothing lost, all works again."""
    at = f"/api/v1/containers/{box['id']}"
    node.inside(box["id"], "sh", "-c", "echo precious >/root/kept; sync -f /root/kept")
    node.stop()
    conf = node.conf
    with open(conf, encoding="utf-8") as f:
        text = f.read()
    with open(conf, "w", encoding="utf-8") as f:
        f.write(text.replace("reserve = 128M", "reserve = 0"))
    node.start()
    try:
        ballast.leave(node, 0)
        before = {c["id"]: c["status"] for c in node.list()}
        snapshots = [s["name"] for s in node.get(at + "/snapshots").data["snapshots"]]
        full = node.inside(box["id"], "sh", "-c", "head -c 64M /dev/urandom >/root/more && sync -f /root/more", check=False)
        assert full == ""
        for what, r in needs_room(node, box, copy).items():
            assert r.status < 300 or (r.status >= 500 and r.json["message"]), (what, r)
            if r.status < 300 and what in ("create", "copy"):
                before[r.data["id"]] = node.container(r.data["id"])["status"]
        node.wait_idle()
        now = {c["id"]: c["status"] for c in node.list()}
        assert {i: now[i] for i in before if i in now and now[i] != "failed"}.items() <= before.items()
        assert set(snapshots) <= {s["name"] for s in node.get(at + "/snapshots").data["snapshots"]}
        assert node.inside(box["id"], "cat", "/root/kept") == "precious"
    finally:
        ballast.remove()
        node.inside(box["id"], "rm", "-f", "/root/more", check=False)
        node.stop()
        with open(conf, "w", encoding="utf-8") as f:
            f.write(text)
        node.start()
    wait_for(lambda: storage(node)["state"] == "ok", 60, what="room")
    for c in node.list():
        if c["name"].startswith("storage-new"):
            node.delete(c["id"])
    node.call("DELETE", at + "/snapshots/during")
    for what, r in needs_room(node, box, copy).items():
        assert r.status in (200, 201, 202), (what, r)
        if what in ("create", "copy"):
            node.delete(r.data["id"])
    assert node.inside(box["id"], "cat", "/root/kept") == "precious"
    node.assert_consistent()


def test_what_is_deleted_waits_over_a_crash(node):
    """The queue is on disk; who destroys it may be killed at any time."""
    node.wait_reclaimed()
    cids = [node.create(f"storage-queue-{n}", hoody_kit=False)["id"] for n in range(2)]
    node.restart("reclaim.destroy=kill")
    for cid in cids:
        node.delete(cid)
    node.wait_idle()
    waiting = os.listdir(node.pool + "/trash")
    assert len(waiting) == 2
    time.sleep(5)
    assert os.listdir(node.pool + "/trash") == waiting, "every attempt is killed"
    assert node.log().count("cannot be destroyed yet") == 1
    node.kill9()
    node.start()
    wait_for(lambda: not os.listdir(node.pool + "/trash"), 10, what="an empty trash")
    node.wait_reclaimed()


def test_the_queue_is_limited():
    d = Daemon(loop_bytes=1024 * MIB, storage__reclaim_max="10").start()
    try:
        box = d.create("storage-many", hoody_kit=False)["id"]
        d.restart("reclaim.destroy=error")
        for n in range(12):
            name = d.post(f"/api/v1/containers/{box}/snapshots").data["snapshot"]["name"]
            assert d.call("DELETE", f"/api/v1/containers/{box}/snapshots/{name}").status == 200

        def refused():
            r = d.post(f"/api/v1/containers/{box}/snapshots")
            if r.status == 200:
                d.call("DELETE", f"/api/v1/containers/{box}/snapshots/{r.data['snapshot']['name']}")
            return r if r.status != 200 else None
        r = wait_for(refused, 15, 0.5, "the limit")
        assert r.status == 502 and "storage.reclaim_max" in r.json["message"], r
        assert d.create("storage-more", ok=False).status == 502
        d.restart()
        wait_for(lambda: d.post(f"/api/v1/containers/{box}/snapshots").status == 200, 30, 0.5, "a snapshot")
    finally:
        d.close()


def test_what_is_shown(node, box):
    s = storage(node)
    assert (s["path"], s["loop_file"]) == (node.pool, node.loop_file)
    assert set(s["device_errors"].values()) == {0}
    mine = next(c for c in s["containers"] if c["container_id"] == box["id"])
    assert mine["snapshots"] >= 1 and mine["disk_bytes"] is not None


def test_deleted_is_counted_until_it_is_reclaimed(node):
    cid = node.create("storage-gone", hoody_kit=False)["id"]
    node.inside(cid, "sh", "-c", "head -c 64M /dev/urandom >/root/big; sync -f /root/big")
    run("sync", "-f", node.pool)
    node.delete(cid)
    node.wait_idle()
    seen = wait_for(lambda: next((r for r in [storage(node)["reclaim"]] if r["trash"] + r["subvolumes"]), None), 10, what="the queue")
    assert seen["bytes"] >= 64 * MIB and seen["limit"] == 2000
    assert seen["trash"] == 0 or seen["oldest_at"]
    node.wait_reclaimed()


def test_grow(node, box):
    ctl = [f"{BUILD}/nodectl", "--socket", node.socket]
    before = storage(node)["total_bytes"]
    r = node.post("/api/v1/node/storage/grow", {"size_bytes": before - MIB})
    assert (r.status, r.json["field"]) == (400, "size_bytes")
    for body, field in (({}, "size_bytes"), ({"size_bytes": 1}, "size_bytes"), ({"size_bytes": 1 << 60}, "size_bytes"), ({"size_bytes": "1G"}, "size_bytes")):
        r = node.post("/api/v1/node/storage/grow", body)
        assert (r.status, r.json["field"]) == (400, field)
    done = subprocess.run([*ctl, "storage", "grow", "3G"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert storage(node)["total_bytes"] == 3 << 30
    assert node.container(box["id"])["status"] == "running"
    node.restart()  # the configured size is a least one
    assert storage(node)["total_bytes"] == 3 << 30
    shown = subprocess.run([*ctl, "storage", "show"], capture_output=True, text=True, timeout=60).stdout
    assert "storage-box" in shown and "3.0 GiB" in shown
    assert json.loads(subprocess.run([*ctl, "--json", "storage", "show"], capture_output=True, text=True,
                                     timeout=60).stdout)["state"] == "ok"
    assert subprocess.run([*ctl, "storage", "grow", "much"], capture_output=True, timeout=60).returncode == 2


def test_a_crash_while_it_grows_is_completed(node, box):
    node.stop()
    node.env["NODED_FAILPOINT"] = "pool.grown=kill"  # the worker's
    node.start()
    try:
        r = node.post("/api/v1/node/storage/grow", {"size_bytes": (3 << 30) + 256 * MIB})
        assert r.status >= 500
        assert storage(node)["total_bytes"] == 3 << 30
    finally:
        del node.env["NODED_FAILPOINT"]
        node.stop()
        node.start()
    r = node.post("/api/v1/node/storage/grow", {"size_bytes": (3 << 30) + 512 * MIB})
    assert r.status == 200 and r.data["total_bytes"] == (3 << 30) + 512 * MIB
