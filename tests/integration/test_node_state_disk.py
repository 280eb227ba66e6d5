# SPDX-License-Identifier: Apache-2.0
"""A state directory without room, and a pool that is not where it should be while the node runs: what frees things works, what needs
room is refused, the health tells of it."""
import os
import subprocess

import pytest
from daemon import Daemon
from world import BUILD, run, wait_for


@pytest.fixture
def node():
    """Its state directory is a small file system of its own; the pool is not in it."""
    run("ip", "link", "set", "lo", "up")
    d = Daemon(loop_bytes=1 << 30)
    run("mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", d.state)
    try:
        yield d.start()
    finally:
        with open("/proc/self/mounts", encoding="ascii") as f:
            extra = [line.split()[1] for line in f if line.split()[1] in (d.state, d.pool)]
        if d.process.poll() is None:
            d.process.kill()
            d.process.wait(10)
        if os.path.exists(d.state + "/fill"):
            os.unlink(d.state + "/fill")
        assert extra
        subprocess.run([BUILD + "/noded-down", "--config", d.conf, "purge", "--data"], env={**os.environ, **d.env}, check=True,
                       capture_output=True)
        run("umount", d.state)
        d.remove_files()


def fill(node):
    """To the last byte."""
    with open(node.state + "/fill", "ab", buffering=0) as f:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while f.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    assert os.statvfs(node.state).f_bavail == 0


def storage_state(node):
    return node.get("/healthz").data["storage"]["state_disk"]["state"]


def test_what_frees_things_works_with_a_full_state_disk(node):
    boxes = [node.create(f"full-{n}")["id"] for n in range(3)]
    name = node.post(f"/api/v1/containers/{boxes[0]}/snapshots").data["snapshot"]["name"]
    fill(node)
    assert storage_state(node) == "full"
    assert "state directory is full" in subprocess.run([BUILD + "/nodectl", "--socket", node.socket, "health"], capture_output=True, text=True,
                                                       check=False).stdout
    r = node.create("one-more", ok=False)
    assert r.status == 502 and "state directory is full" in r.json["message"], r
    assert node.post(f"/api/v1/containers/{boxes[0]}/snapshots").status == 502
    assert node.op(boxes[0], "force-stop").status == 200
    assert node.container(boxes[0])["status"] == "stopped"
    assert node.call("DELETE", f"/api/v1/containers/{boxes[0]}/snapshots/{name}").status == 200
    assert node.delete(boxes[0]).status == 200
    assert node.delete(boxes[1]).status == 200, "a running one"
    assert [c["id"] for c in node.list()] == [boxes[2]]
    node.kill9()
    node.start()
    assert [c["id"] for c in node.list()] == [boxes[2]] and node.container(boxes[2])["status"] == "running"
    os.unlink(node.state + "/fill")
    wait_for(lambda: storage_state(node) == "ok", 10, what="room")
    node.create("afterwards")
    wait_for(lambda: os.stat(node.state + "/noded.db.reserve").st_size >= 8 << 20 or node.create(f"again-{os.urandom(4).hex()}"), 30, 1,
             "the reserve")

    def told():
        events = node.get("/api/v1/events?event_type=server.health_changed&limit=100").data["events"]
        return {e["payload"]["state"] for e in events if e["payload"]["component"] == "state_disk"}
    wait_for(lambda: "ok" in told(), 30, 0.2, "the event")


def test_a_pool_that_is_mounted_over(node):
    """Another file system at the pool's path: nothing new goes there, and its figures are not told as the pool's."""
    cid = node.create("kept")["id"]
    before = node.get("/api/v1/node/storage").data["total_bytes"]
    run("mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", node.pool)
    try:
        wait_for(lambda: node.get("/healthz").data["storage"]["pool"] == "missing", 10, what="the health")
        s = node.call("GET", "/api/v1/node/storage").data
        assert s["state"] == "missing" and s["total_bytes"] == before, s
        assert node.get("/api/v1/node").data["capacity"]["pool_total_bytes"] == before
        r = node.create("into-nowhere", ok=False)
        assert r.status == 502 and "not mounted" in r.json["message"], r
        assert node.container(cid)["status"] == "running"
        seen = wait_for(lambda: [e["payload"] for e in node.get("/api/v1/events?event_type=server.health_changed&limit=100").data["events"]
                                 if e["payload"]["state"] == "missing"], 10, what="the event")
        assert "mount the pool" in seen[0]["remedy"]
    finally:
        run("umount", node.pool)
    wait_for(lambda: node.get("/healthz").data["storage"]["pool"] == "ok", 10, what="the pool")
    assert node.create("again")["status"] == "running"
    assert not os.listdir(node.dir + "/pool/slots") == []
