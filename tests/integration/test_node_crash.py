# SPDX-License-Identifier: Apache-2.0
"""kill -9 of noded at every step of every operation: after its restart the container is whole or gone, nothing leaks.

The matrix is NODED_FAILPOINT=op.KIND.STEP=kill; a second one kills the worker inside its jobs.
"""
import threading

import pytest
from daemon import PROJECT, Daemon

CREATE = ["intent", "rootfs", "network", "start", "open", "kits", "commit"]
POINTS = ([f"create.{s}" for s in CREATE] + [f"copy.{s}" for s in CREATE] +
          [f"snapshot.{s}" for s in ("intent", "snapshot", "commit")] +
          [f"snapshot-delete.{s}" for s in ("intent", "delete", "commit")] +
          [f"restore.{s}" for s in ("intent", "stop", "unlink", "swap", "network", "start", "open", "commit")] +
          [f"sync.{s}" for s in ("intent", "rootfs", "stop", "unlink", "swap", "network", "start", "open", "commit")] +
          [f"delete.{s}" for s in ("intent", "network", "destroy", "commit")] +
          [f"stop.{s}" for s in ("intent", "stop", "network", "commit")] +
          [f"start.{s}" for s in ("intent", "network", "start", "open", "commit")])
WORKER = ["create.rootfs", "create.seeded", "snapshot.made", "restore.made", "restore.swapped",
          "sync.made", "sync.swapped", "destroy.moved", "start.before", "start.after"]
ID = "c0" * 12
BASE = "ba" * 12
COPY = (f"/api/v1/containers/{BASE}/copy?wait=true", {"target_project_id": PROJECT, "name": "victim", "id": ID})


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    d.create("base", id=BASE, hoody_kit=False)
    assert d.post(f"/api/v1/containers/{BASE}/snapshots", {"alias": "s"}).status == 200
    yield d
    d.close()


def prepare(d, kind):
    """What the operation needs, on a node without failpoints."""
    if kind in ("delete", "stop", "start", "restore", "snapshot-delete"):
        d.create("victim", id=ID, hoody_kit=False)
    if kind == "sync":
        assert d.post(*COPY).status == 201
    if kind in ("restore", "snapshot-delete"):
        assert d.post(f"/api/v1/containers/{ID}/snapshots", {"alias": "s"}).status == 200
    if kind == "start":
        assert d.op(ID, "force-stop").status == 200


def provoke(d, kind):
    path = f"/api/v1/containers/{ID}"
    calls = {
        "create": ("POST", f"/api/v1/projects/{PROJECT}/containers?wait=true",
                   {"server_id": "self", "name": "victim", "id": ID, "hoody_kit": False}),
        "copy": ("POST", *COPY),
        "sync": ("POST", path + "/sync?wait=true", None),
        "snapshot": ("POST", f"/api/v1/containers/{BASE}/snapshots", {"alias": "new"}),
        "snapshot-delete": ("DELETE", path + "/snapshots/s", None),
        "restore": ("PUT", path + "/snapshots/s", None),
        "delete": ("DELETE", path, None),
        "stop": ("POST", path + "/stop", {"timeout": 2}),
        "start": ("POST", path + "/start", None),
    }

    def run():
        try:
            d.call(*calls[kind])
        except Exception:  # the connection dies with noded
            pass
    thread = threading.Thread(target=run)
    thread.start()
    d.wait_dead()
    thread.join(30)


def check(d, kind):
    d.wait_idle()
    d.assert_consistent()
    r = d.get(f"/api/v1/containers/{ID}")
    if kind in ("create", "copy"):
        assert r.status == 404 or r.data["status"] == "running", r
    elif kind == "delete":
        # before its intent is recorded nothing was promised
        assert r.status == 404 or r.data["status"] == "running", r
    elif kind in ("start", "stop", "restore", "sync", "snapshot-delete"):
        assert r.data["status"] in ("running", "stopped"), r
    names = [s["name"] for s in d.get(f"/api/v1/containers/{BASE}/snapshots").data["snapshots"]]
    assert names == ["s"], names
    assert d.container(BASE)["status"] == "running"
    if r.status == 200:
        assert d.delete(ID).status == 200
    d.assert_consistent()


@pytest.mark.parametrize("point", POINTS)
def test_noded_killed_at(node, point):
    kind = point.split(".")[0]
    prepare(node, kind)
    node.restart(f"op.{point}=kill")
    provoke(node, kind)
    assert node.process.returncode == -9, point
    node.start()
    check(node, kind)


KINDS = {"sync": "sync", "create": "create", "snapshot": "snapshot", "restore": "restore", "destroy": "delete", "start": "start"}


@pytest.mark.parametrize("point", WORKER)
def test_worker_killed_at(node, point):
    kind = KINDS[point.split(".")[0]]
    prepare(node, kind)
    node.restart(f"{point}=kill")
    path = f"/api/v1/containers/{ID}"
    if kind == "create":
        assert node.create("victim", id=ID, hoody_kit=False, ok=False).status in (500, 502)
        assert node.container(ID)["status"] == "failed"
    elif kind == "snapshot":
        assert node.post(f"/api/v1/containers/{BASE}/snapshots", {"alias": "new"}).status in (500, 502)
    elif kind == "sync":
        assert node.post(path + "/sync?wait=true").status in (500, 502)
        assert node.container(ID)["status"] in ("running", "stopped")
    elif kind == "restore":
        node.call("PUT", path + "/snapshots/s")
    elif kind == "delete":
        node.delete(ID)
    else:
        node.op(ID, "start")
    node.restart()
    check_after_worker(node)


def check_after_worker(d):
    d.wait_idle()
    if d.get(f"/api/v1/containers/{ID}").status == 200:
        assert d.delete(ID).status == 200
    names = [s["name"] for s in d.get(f"/api/v1/containers/{BASE}/snapshots").data["snapshots"]]
    assert names == ["s"], names
    d.assert_consistent()
