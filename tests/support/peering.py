# SPDX-License-Identifier: Apache-2.0
"""What tests of two nodes (pair.py) ask of them: copies and syncs, and what is there afterwards."""
import os

from daemon import PROJECT
from pair import IDS
from world import wait_for

MIB = 1 << 20


def write(node, cid, path, size):
    """Bytes that nothing can compress, on disk."""
    node.inside(cid, "sh", "-c", f"head -c {size} /dev/urandom > {path}; sync -f {path}")


def checksum(node, cid, *paths):
    return node.inside(cid, "sha256sum", *paths)


def ask_copy(near, source, name, wait=False, **more):
    return near.call("POST", f"/api/v1/containers/{source}/copy" + ("?wait=true" if wait else ""),
                     {"target_project_id": PROJECT, "target_server_id": IDS["far"], "name": name, **more}, timeout=300)


def copy_to(near, far, source, name, **more):
    r = ask_copy(near, source, name, True, **more)
    assert r.status == 201, (r, near.log(), far.log())
    return r.data["id"]


def sync(node, cid, wait=True):
    return node.call("POST", f"/api/v1/containers/{cid}/sync" + ("?wait=true" if wait else ""), timeout=300)


def outcome(node, operation_id):
    events = node.get("/api/v1/events?resource_type=container&limit=500").data["events"]
    return next((e for e in events if e["payload"].get("operation_id") == operation_id and
                 e["event_type"].startswith("container.operation.")), None)


def slot(node, cid):
    return f"{node.pool}/slots/{node.container(cid)['node']['slot']}"


def kept(near, source):
    """What the source's node keeps for its copies elsewhere."""
    path = slot(near, source) + "/sent"
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def gone(node, *cids):
    for cid in cids:
        assert node.delete(cid).status == 200
    node.wait_idle()
    node.assert_consistent()


def in_step(near, far, source, copy, mark):
    """A sync works, and brings what is new."""
    near.inside(source, "sh", "-c", f"echo {mark} > /root/mark; sync -f /root/mark")
    r = sync(far, copy)
    assert r.status == 200, (r, near.log(), far.log())
    assert far.container(copy)["status"] == "running"
    assert far.inside(copy, "cat", "/root/mark") == mark


def leftovers(node):
    """Names of half-made things in the pool."""
    found = []
    for directory, names, _ in os.walk(node.pool + "/slots"):
        depth = directory[len(node.pool):].count("/")
        found += [os.path.join(directory, n) for n in names if n.startswith(".new-")]
        if depth >= 3:
            names.clear()
        names[:] = [n for n in names if n not in ("rootfs", "base")]
    return found


def nothing_left(near, far, source, copy):
    """The copy goes, and with it what both nodes kept for it."""
    gone(far, copy)
    wait_for(lambda: not kept(near, source), 60, what="what was kept")
    assert not leftovers(near) and not leftovers(far)
