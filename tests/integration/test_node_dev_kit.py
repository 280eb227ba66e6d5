# SPDX-License-Identifier: Apache-2.0
"""dev_kit: a layer on the image that was prepared beforehand, and costs a create nothing."""
import os
import statistics
import subprocess
import time

import pytest
from daemon import Daemon
from world import BUILD, image_archive

MARK = "/usr/local/share/dev-layer"
ROUNDS = 5


@pytest.fixture(scope="module")
def node():
    d = Daemon()
    layered = d.dir + "/images/debian-13.dev.tar"
    with open(layered, "wb") as f:
        subprocess.run(["zstd", "-dc", image_archive()], stdout=f, check=True)
    os.makedirs(d.dir + "/layer" + os.path.dirname(MARK))
    with open(d.dir + "/layer" + MARK, "w", encoding="ascii") as f:
        f.write("tools\n")
    subprocess.run(["tar", "-rf", layered, "--owner=0", "--group=0", "-C", d.dir + "/layer", "." + MARK], check=True)
    d.start()
    yield d
    d.close()


def has_layer(node, cid):
    return node.inside(cid, "cat", MARK, check=False) == "tools"


@pytest.mark.parametrize("body, wanted", [({"dev_kit": True}, True), ({"dev_kit": False}, False), ({}, True), ({"hoody_kit": False}, False),
                                          ({"hoody_kit": False, "dev_kit": True}, True)])
def test_who_has_it(node, body, wanted):
    c = node.create("layer", **body)
    assert (c["dev_kit"], has_layer(node, c["id"])) == (wanted, wanted)
    assert c["container_image"] == "debian/13"
    copy = node.post(f"/api/v1/containers/{c['id']}/copy?wait=true", {"target_project_id": c["project_id"], "name": "layer-copy"}).data
    assert copy["dev_kit"] == wanted and has_layer(node, copy["id"]) == wanted
    node.delete(copy["id"])
    node.delete(c["id"])


def test_nodectl_can_do_without(node):
    ctl = [BUILD + "/nodectl", "--socket", node.socket, "-q", "create", "--wait"]
    for more, wanted in (([], True), (["--no-dev-kit"], False)):
        subprocess.run([*ctl, "by-command", *more], check=True, capture_output=True, timeout=60)
        c = next(c for c in node.list() if c["name"] == "by-command")
        assert has_layer(node, c["id"]) == wanted
        node.delete(c["id"])


def test_it_costs_a_create_nothing(node):
    took = {True: [], False: []}
    for i in range(2 * ROUNDS):
        begun = time.monotonic()
        cid = node.create(f"timed-{i}", dev_kit=i % 2 == 0)["id"]
        took[i % 2 == 0].append((time.monotonic() - begun) * 1000)
        node.delete(cid)
    with_it, without = statistics.median(took[True]), statistics.median(took[False])
    print(f"\ncreate: {with_it:.0f} ms with dev_kit, {without:.0f} ms without (median of {ROUNDS})")
    assert with_it < 2 * without + 50


def test_without_the_layer():
    d = Daemon().start()
    try:
        c = d.create("plain", dev_kit=True)
        assert c["dev_kit"] and not has_layer(d, c["id"])
        d.delete(c["id"])
    finally:
        d.close()
