# SPDX-License-Identifier: Apache-2.0
"""Copies and syncs between two nodes, and everything that can go wrong: kills, cuts, errors, a full pool."""
import contextlib
import http.client
import os
import subprocess

import pytest
from pair import ADDRESSES, IDS
from peering import MIB, ask_copy, checksum, gone, in_step, kept, leftovers, nothing_left, outcome, slot, sync, write
from world import run, wait_for

pytest_plugins = ["peer_fixtures"]


def untouched(node, copy, mark):
    """The copy is as before, and nothing is left of what was tried."""
    wait_for(lambda: node.container(copy)["status"] == "running", 60, what="the copy running")
    assert node.inside(copy, "cat", "/root/mark") == mark
    node.wait_idle()
    node.assert_consistent()
    assert not leftovers(node)


@pytest.fixture
def marked(near, far, source, copy):
    """A copy that is in step, and a source that is ahead of it by some megabytes."""
    in_step(near, far, source, copy, "before")
    near.inside(source, "sh", "-c", "echo after > /root/mark; sync -f /root/mark")
    write(near, source, "/root/fresh", 6 * MIB)
    return copy


def test_source_node_killed_while_it_sends(near, far, source, marked, slow):
    with slow("peer.sent", 20000):
        r = sync(far, marked, wait=False)
        wait_for(lambda: near.get("/api/v1/node/transfers").data["transfers"], 60, what="the transfer")
        near.kill9()
    wait_for(lambda: outcome(far, r.data["operation_id"]), 60, what="the end")
    e = outcome(far, r.data["operation_id"])
    assert e["event_type"] == "container.operation.failed" and "broke" in e["payload"]["error"]["message"], e
    untouched(far, marked, "before")
    # Nobody is there: a clear answer, and nothing happens.
    r = sync(far, marked)
    assert r.status == 503 and "does not answer" in r.json["message"], r
    r = ask_copy(far, marked, "nobody", target_server_id=IDS["near"])
    assert r.status == 503 and "does not answer" in r.json["message"], r
    untouched(far, marked, "before")
    near.start()
    near.wait_idle()
    in_step(near, far, source, marked, "again")
    assert len(kept(near, source)) <= 2 and not leftovers(near)


def test_stopping_a_node_ends_what_it_sends(near, far, marked, slow):
    with slow("peer.sent", 60000):
        r = sync(far, marked, wait=False)
        wait_for(lambda: near.get("/api/v1/node/transfers").data["transfers"], 60, what="the transfer")
        near.restart()
    wait_for(lambda: outcome(far, r.data["operation_id"]), 60, what="the end")
    assert outcome(far, r.data["operation_id"])["event_type"] == "container.operation.failed"
    untouched(far, marked, "before")


def test_connection_cut(near, far, source, marked, slow, spaces):
    with slow("peer.sent", 3000):
        r = sync(far, marked, wait=False)
        wait_for(lambda: near.get("/api/v1/node/transfers").data["transfers"], 60, what="the transfer")
        spaces["far"].exec("ss", "-K", "dst", ADDRESSES["near"], "dport", "=", "8443")
    wait_for(lambda: outcome(far, r.data["operation_id"]), 60, what="the end")
    e = outcome(far, r.data["operation_id"])
    assert e["event_type"] == "container.operation.failed", e
    untouched(far, marked, "before")
    in_step(near, far, source, marked, "again")


@contextlib.contextmanager
def failing(node, point):
    """Inside, the node has a failpoint; it may be dead at the end."""
    node.restart(point)
    try:
        yield
    finally:
        if node.process.poll() is None:
            node.stop()
        node.start()
        node.wait_idle()


# Where the copy's node is killed, and what comes of a sync: the old state or the new one, never anything else.
FAR_POINTS = ["op.sync.intent", "op.sync.rootfs", "peer.received", "peer.fetched", "sync.made", "op.sync.stop", "op.sync.swap", "sync.swapped",
              "op.sync.start", "op.sync.commit"]


@pytest.mark.parametrize("point", FAR_POINTS)
def test_copys_node_fails_in_a_sync(near, far, source, marked, point):
    worker = not point.startswith("op.")
    with failing(far, f"{point}=kill"):
        try:
            r = sync(far, marked, wait=False)
        except http.client.HTTPException as e:
            r = e
        if worker:
            wait_for(lambda: not far.get("/healthz").data["operations"], 60, what="the end")
        else:
            far.wait_dead()
    wait_for(lambda: far.container(marked)["status"] in ("running", "stopped"), 60, what="the end")
    mark = "after" if not worker or point == "sync.swapped" else "before"
    if far.container(marked)["status"] == "stopped":
        assert far.op(marked, "start").status == 200
    assert far.inside(marked, "cat", "/root/mark") == mark, (r, far.log())
    far.wait_idle()
    far.assert_consistent()
    assert not leftovers(far) and not leftovers(near)
    in_step(near, far, source, marked, "again")
    assert len(kept(near, source)) <= 2


@pytest.mark.parametrize("point", ["peer.kept", "peer.sent", "snapshot.nested"])
@pytest.mark.parametrize("how", ["kill", "error"])
def test_sources_job_fails(near, far, source, marked, point, how):
    inner = slot(near, source) + "/rootfs/srv/inner"
    run("btrfs", "subvolume", "create", inner)
    with failing(near, f"{point}={how}"):
        r = sync(far, marked)
        assert r.status in (502, 503) and r.json["code"] == "CONTAINER_HOST_COMMAND_FAILED", r
        untouched(far, marked, "before")
    run("btrfs", "subvolume", "delete", inner)
    in_step(near, far, source, marked, "again")
    assert not leftovers(near) and not leftovers(far)


@pytest.mark.parametrize("point", ["op.copy.intent", "op.copy.rootfs", "peer.received", "peer.fetched", "peer.seeded", "op.copy.start", "op.copy.commit"])
def test_copys_node_fails_in_a_copy(near, far, source, point):
    worker = not point.startswith("op.")
    near.post(f"/api/v1/containers/{source}/snapshots", {"alias": "with"})
    with failing(far, f"{point}=kill"):
        r = ask_copy(near, source, "unlucky")
        if worker:
            assert r.status == 201, r
            cid = r.data["id"]
            wait_for(lambda: far.container(cid)["status"] == "failed", 60, what="the failure")
            assert not os.path.exists(slot(far, cid))
        else:
            far.wait_dead()
            assert r.status in (201, 502, 503), r
    if not worker:
        cid = next(c["id"] for c in far.list() if c["name"] == "unlucky")
        wait_for(lambda: far.container(cid)["status"] == "running", 60, what="the copy")
        assert far.container(cid)["snapshot_count"] == 1
    gone(far, cid)
    near.wait_idle()
    near.call("DELETE", f"/api/v1/containers/{source}/snapshots/with")
    assert not leftovers(far) and not leftovers(near)
    assert not [n for n in kept(near, source) if n.startswith(cid)]


class Ballast:
    """A file that leaves only so much of the pool."""

    def __init__(self, node, left):
        self.path = node.pool + "/ballast"
        with open(self.path, "ab", buffering=0) as f:
            for step in (64 * MIB, 8 * MIB):
                while node.get("/api/v1/node/storage").data["free_bytes"] > left + step:
                    f.write(os.urandom(MIB) * (step // MIB))
                    os.fsync(f.fileno())

    def remove(self):
        os.unlink(self.path)
        subprocess.run(["sync", "-f", os.path.dirname(self.path)], check=True)


def test_receivers_pool_full(near, far, source, marked):
    write(near, source, "/root/large", 200 * MIB)
    reserve = far.get("/api/v1/node/storage").data["reserve_bytes"]
    ballast = Ballast(far, reserve + 60 * MIB)
    try:
        r = sync(far, marked)
        assert r.status == 502 and "pool is full" in r.json["message"], (r, far.log())
        untouched(far, marked, "before")
        r = ask_copy(near, source, "no-room", True)
        assert r.status == 502 and "pool is full" in r.json["message"], r
        failed = [c["id"] for c in far.list() if c["name"] == "no-room"]
        gone(far, *failed)
    finally:
        ballast.remove()
    wait_for(lambda: far.get("/api/v1/node/storage").data["state"] != "full", 60, what="room")
    in_step(near, far, source, marked, "room")
    assert checksum(far, marked, "/root/large") == checksum(near, source, "/root/large")
    near.inside(source, "rm", "/root/large")
    in_step(near, far, source, marked, "smaller")


def test_what_is_lost_is_sent_again(near, far, source, marked, nodes):
    """Either side may lose what it keeps."""
    for path in [slot(near, source) + "/sent/" + n for n in kept(near, source)]:
        run("btrfs", "subvolume", "delete", path)
    in_step(near, far, source, marked, "without sent")
    run("btrfs", "subvolume", "delete", slot(far, marked) + "/base")
    in_step(near, far, source, marked, "without base")
    moved = nodes.wire_bytes()
    in_step(near, far, source, marked, "with both")
    assert nodes.wire_bytes() - moved < 4 * MIB


def test_nothing_is_left_in_the_end(near, far, source, copy):
    nothing_left(near, far, source, copy)
