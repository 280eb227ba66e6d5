# SPDX-License-Identifier: Apache-2.0
"""noded-down: the containers' stop when the server goes down, and the removal of everything."""
import os
import subprocess
import time

import pytest
from daemon import Daemon
from world import BUILD, wait_for


@pytest.fixture
def node():
    d = Daemon().start()
    yield d
    d.close()


def down(d, *argv):
    r = subprocess.run([BUILD + "/noded-down", "-c", d.conf, *argv], env={**os.environ, **d.env}, text=True,
                       capture_output=True, timeout=120, check=False)
    assert r.returncode == 0, r.stderr
    return r.stderr


def test_halt_ends_all_and_the_next_start_brings_them_back(node):
    ids = [node.create(f"halt{i}", hoody_kit=False)["id"] for i in range(3)]
    for cid in ids:
        node.wait_booted(cid)
    node.inside(ids[0], "sh", "-c", "echo kept > /root/kept")
    node.stop()
    assert len(node.monitors()) == 3
    began = time.monotonic()
    assert "stopping 3 containers" in down(node, "halt")
    assert time.monotonic() - began < 20
    assert not node.monitors() and not node.cgroups()
    assert "stopping 0 containers" in down(node, "halt")
    node.start()
    for cid in ids:
        wait_for(lambda c=cid: node.container(c)["status"] == "running", 60, what="running")
        node.wait_booted(cid)
    assert node.inside(ids[0], "cat", "/root/kept") == "kept"
    node.assert_consistent()


def test_halt_of_a_container_that_has_just_begun_to_boot(node):
    node.create("young", hoody_kit=False)
    node.stop()
    began = time.monotonic()
    down(node, "halt")
    assert time.monotonic() - began < 10, "its init did not see the signal"
    assert not node.monitors()


def test_purge_keeps_the_data_unless_told(node):
    cid = node.create("purge", hoody_kit=False)["id"]
    node.wait_booted(cid)
    node.inside(cid, "sh", "-c", "echo kept > /root/kept")
    node.stop()
    down(node, "purge")
    assert not node.monitors() and not node.cgroups() and not node.links() and not node.table()
    assert not os.path.exists(node.run_dir) and not node.mounts()
    node.start()
    wait_for(lambda: node.container(cid)["status"] == "running", 60, what="running")
    assert node.inside(cid, "cat", "/root/kept") == "kept"
    node.stop()
    down(node, "purge", "--data")
    assert not node.monitors() and not node.cgroups() and not node.links() and not node.mounts()
    assert not os.path.exists(node.loop_file) and os.listdir(node.state) == []


def test_words(node):
    for argv in ([], ["halt", "purge"], ["halt", "--data"], ["stop"]):
        r = subprocess.run([BUILD + "/noded-down", "-c", node.conf, *argv], capture_output=True, check=False)
        assert r.returncode == 2, argv
