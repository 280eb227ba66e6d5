# SPDX-License-Identifier: Apache-2.0
"""How large a ramdisk is, whose memory it takes, and when that is given back. That it comes, goes and is shared while containers run
is in test_api_update.py."""
import glob

import pytest
from daemon import Daemon
from world import wait_for

MIB = 1 << 20
SIZE = 64


@pytest.fixture(scope="module")
def node():
    d = Daemon(containers__ramdisk_size=f"{SIZE}M").start()
    yield d
    d.close()


@pytest.fixture
def box(node):
    cid = node.create("ram", hoody_kit=False)["id"]
    node.wait_booted(cid)
    yield cid
    node.delete(cid)


def fill(node, cid, mib, name="fill", directory="/ramdisk"):
    """By a process of the container's own: others have another one's memory."""
    return node.inside(cid, "systemd-run", "--quiet", "--wait", "--pipe", "sh", "-c",
                       f"dd if=/dev/zero of={directory}/{name} bs=1M count={mib} 2>&1; true")


def stats(node, cid):
    return node.get(f"/api/v1/containers/{cid}/stats").data


def used(node, cid, area="private"):
    usage = stats(node, cid)["ramdisk"]["usage"]  # null: the last look is older than the container
    return usage and usage[area]


def memory(node, cid):
    return stats(node, cid)["memory"]["usage"]


def holders(device):
    """Processes in whose mount namespace a file system is still there: its memory is given back when there is none."""
    found = []
    for path in glob.glob("/proc/[0-9]*/mountinfo"):
        try:
            with open(path, encoding="utf-8", errors="replace") as f:
                found += [path for line in f if line.split()[2] == device]
        except OSError:  # it has ended
            pass
    return found


def test_its_size_is_a_bound(node, box):
    other = node.create("ram-other", hoody_kit=False)["id"]
    node.wait_booted(other)
    assert node.inside(box, "findmnt", "-bno", "SIZE", "/ramdisk") == str(SIZE * MIB)
    assert "No space left on device" in fill(node, box, SIZE + 10)
    wait_for(lambda: used(node, box) == SIZE * MIB, 10, 0.5, "the usage")
    assert "No space" not in fill(node, other, SIZE - 1), "each has its own"
    node.inside(box, "sh", "-c", "rm /ramdisk/fill; echo again > /ramdisk/small")
    wait_for(lambda: used(node, box) == 4096, 10, 0.5, "the usage")
    node.delete(other)


def test_inodes_are_bounded(node, box):
    """They are kernel memory that the size does not count."""
    count = int(node.inside(box, "df", "--output=itotal", "/ramdisk").split()[-1])
    assert count == SIZE * MIB // 8192
    said = node.inside(box, "sh", "-c", f"mkdir /ramdisk/d && cd /ramdisk/d && seq {count + 10} | xargs touch 2>&1 | tail -n 1")
    assert "No space left on device" in said
    assert int(node.inside(box, "df", "--output=iavail", "/ramdisk").split()[-1]) == 0


def test_it_is_memory_of_who_writes(node, box):
    """As long as that one runs; then it is the node's until the deletion."""
    before = memory(node, box)
    fill(node, box, 48)
    wait_for(lambda: memory(node, box) - before > 44 * MIB, 10, 0.2, "the memory")
    wait_for(lambda: used(node, box) == 48 * MIB, 10, 0.5, "the usage")
    assert node.op(box, "force-stop").status == 200
    assert used(node, box) == 48 * MIB and stats(node, box)["memory"] is None
    assert node.op(box, "start").status == 200
    node.wait_booted(box)
    assert used(node, box) == 48 * MIB and "48M" in node.inside(box, "du", "-sm", "/ramdisk").replace("\t", "M ")
    assert memory(node, box) - before < 30 * MIB
    node.inside(box, "rm", "/ramdisk/fill")
    wait_for(lambda: used(node, box) == 0, 10, 0.5, "the usage")


def test_deletion_gives_it_back(node):
    """A container that gets the place of another one finds nothing of it."""
    cid = node.create("gone", hoody_kit=False)
    node.wait_booted(cid["id"])
    slot, device = cid["node"]["slot"], node.inside(cid["id"], "findmnt", "-no", "MAJ:MIN", "/ramdisk")
    fill(node, cid["id"], 48)
    node.inside(cid["id"], "sh", "-c", "echo secret > /ramdisk/secret")
    assert node.op(cid["id"], "force-stop").status == 200
    assert holders(device), "it lasts as long as the container"
    node.delete(cid["id"])
    node.wait_idle()
    assert not [m for m in node.mounts() if m.endswith(f"/c{slot}/ramdisk")]
    wait_for(lambda: not holders(device), 10, 0.2, "its end")
    again = node.create("heir", hoody_kit=False)
    assert again["node"]["slot"] == slot and node.inside(again["id"], "ls", "-A", "/ramdisk") == ""
    node.delete(again["id"])


def test_the_shared_one_is_memory_of_who_writes(node):
    project = "5a" * 12
    ids = [node.post(f"/api/v1/projects/{project}/containers?wait=true", {"server_id": "self", "name": f"ram-{i}", "hoody_kit": False}).data["id"]
           for i in (1, 2)]
    for cid in ids:
        node.wait_booted(cid)
        assert node.call("PATCH", f"/api/v1/containers/{cid}", {"ramdisk_scope": "project"}).status == 200
    before = [memory(node, cid) for cid in ids]
    assert node.inside(ids[0], "findmnt", "-bno", "SIZE", "/ramdisk/project") == str(SIZE * MIB)
    fill(node, ids[0], 40, directory="/ramdisk/project")
    wait_for(lambda: all(used(node, cid, "project") == 40 * MIB and used(node, cid) == 0 for cid in ids), 10, 0.5, "the usage")
    assert memory(node, ids[0]) - before[0] > 30 * MIB and memory(node, ids[1]) - before[1] < 20 * MIB
    assert "No space" in fill(node, ids[1], 40, "more", "/ramdisk/project"), "one size for all of them"
    for cid in ids:
        node.delete(cid)
    node.wait_idle()
    assert not [m for m in node.mounts() if "/run/p" in m]


def test_another_size(node, box):
    """Of a running container with the next start, with what is in it; and never more than half the memory."""
    fill(node, box, 8)
    with open(node.conf, encoding="utf-8") as f:
        text = f.read()

    def configure(size):
        with open(node.conf, "w", encoding="utf-8") as f:
            f.write(text.replace(f"ramdisk_size = {SIZE}M", f"ramdisk_size = {size}"))
        node.restart()
    try:
        configure("32M")
        assert stats(node, box)["ramdisk"]["shared_pool_maximum"] == 32 * MIB
        assert node.inside(box, "findmnt", "-bno", "SIZE", "/ramdisk") == str(SIZE * MIB)
        assert node.op(box, "restart").status == 200
        assert node.inside(box, "findmnt", "-bno", "SIZE", "/ramdisk") == str(32 * MIB)
        assert used(node, box) == 8 * MIB
        configure("900G")
        with open("/proc/meminfo", encoding="ascii") as f:
            half = int(f.readline().split()[1]) * 512
        assert stats(node, box)["ramdisk"]["shared_pool_maximum"] == half and "more than half the memory" in node.log()
    finally:
        configure(f"{SIZE}M")


def test_a_size_that_what_is_there_does_not_fit_into(node, box):
    """The container starts, nothing is lost."""
    fill(node, box, 40)
    with open(node.conf, encoding="utf-8") as f:
        text = f.read()
    with open(node.conf, "w", encoding="utf-8") as f:
        f.write(text.replace(f"ramdisk_size = {SIZE}M", "ramdisk_size = 16M"))
    try:
        node.restart()
        assert node.op(box, "restart").status == 200
        assert used(node, box) == 40 * MIB
    finally:
        with open(node.conf, "w", encoding="utf-8") as f:
            f.write(text)
        node.restart()
