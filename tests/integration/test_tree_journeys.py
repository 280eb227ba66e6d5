# SPDX-License-Identifier: Apache-2.0
"""Trees of chance (support/trees.py) on every way that a container's disk can go, and back: both formats of archives, copies, syncs and
published images, on one node and between two. Whatever arrives is the same tree.

NODED_TREES trees are made (500), NODED_TREES_SEED makes those of an earlier run again.
"""
import os
import random
import shutil

import pytest
from daemon import PROJECT
from peering import copy_to, slot, sync
from test_archive_trees import export
from test_archives import nodectl
from trees import SEED, compare, grow, picture
from world import run

pytest_plugins = ["peer_fixtures"]
TREES = int(os.environ.get("NODED_TREES", "500"))
BATCH = 250  # a system around the trees costs more than they do


def top_of(node, cid):
    return slot(node, cid) + "/rootfs/srv/trees"


def fill(node, top, first, count):
    for i in range(first, first + count):
        grow(random.Random(SEED + i), os.fsencode(f"{top}/{i}"))
    run("btrfs", "filesystem", "sync", node.pool)


class Expected:
    """The trees of a container, and whether those of another are the same."""

    def __init__(self, node, cid):
        self.whole, self.tar = (picture(top_of(node, cid), tar) for tar in (False, True))

    def check(self, node, cid, way):
        tar = "tar" in way
        compare(self.tar if tar else self.whole, picture(top_of(node, cid), tar), way)


def carry(expected, start, end, cid, form):
    """From one node to the other and back, as an archive."""
    for way, source, target in (("there", start, end), ("back", end, start)):
        path = export(source, {"id": cid}, form)
        r = nodectl(target, "--json", "import", path)
        os.unlink(path)
        assert r.returncode == 0, (form, way, r, target.log()[-1500:], f"NODED_TREES_SEED={SEED}")
        if source is end:
            assert source.delete(cid).status == 200
        cid = newest(target)
        expected.check(target, cid, f"{form} {way}")
    assert start.delete(cid).status == 200


def newest(node):
    return max(node.list(), key=lambda c: c["created_at"])["id"]


def publish(expected, node, cid):
    snapshot = node.post(f"/api/v1/containers/{cid}/snapshots", {}).data["snapshot"]["name"]
    r = node.post(f"/api/v1/containers/{cid}/publish", {"snapshot": snapshot, "aliases": ["trees/1"]})
    assert r.status == 201, (r, node.log())
    made = node.create("of-an-image", container_image="trees/1", hoody_kit=False)["id"]
    expected.check(node, made, "image")
    assert node.delete(made).status == 200
    assert node.call("DELETE", f"/api/v1/node/images/{r.data['fingerprint']}").status == 200
    assert node.call("DELETE", f"/api/v1/containers/{cid}/snapshots/{snapshot}").status == 200


def copies(node, other, cid, first, count):
    """Here and on the other node; then a part of the trees goes, others come, and both copies follow. Then back from the other node."""
    r = node.post(f"/api/v1/containers/{cid}/copy?wait=true", {"target_project_id": PROJECT, "name": "local-copy"})
    assert r.status == 201, (r, node.log())
    near, far = r.data["id"], copy_to(node, other, cid, "far-copy")
    expected = Expected(node, cid)
    expected.check(node, near, "copy")
    expected.check(other, far, "copy to a node")
    for i in range(first, first + count, 3):
        shutil.rmtree(f"{top_of(node, cid)}/{i}")
    fill(node, top_of(node, cid), TREES + first, count // 10)
    expected = Expected(node, cid)
    for where, copy in ((node, near), (other, far)):
        r = sync(where, copy)
        assert r.status == 200, (r, node.log(), other.log())
        expected.check(where, copy, "sync")
    assert node.delete(near).status == other.delete(far).status == 200


@pytest.mark.parametrize("first", range(0, TREES, BATCH))
def test_trees_of_chance(near, far, first):
    print(f"NODED_TREES={TREES} NODED_TREES_SEED={SEED}")
    count = min(BATCH, TREES - first)
    cid = near.create("trees", hoody_kit=False)["id"]
    os.mkdir(top_of(near, cid))
    fill(near, top_of(near, cid), first, count)
    expected = Expected(near, cid)
    for form in ("tar", "stream"):
        carry(expected, near, far, cid, form)
    publish(expected, near, cid)
    copies(near, far, cid, first, count)
    assert near.delete(cid).status == 200
    for node in (near, far):
        node.wait_reclaimed()
        node.assert_consistent()
