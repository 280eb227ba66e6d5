# SPDX-License-Identifier: Apache-2.0
"""noded-worker's storage: snapshots, restores, copies, subvolumes that a container has made, and the pool itself."""
import ctypes
import os
import threading

import frames
import pytest
import world
from slots import boot, system_state


def test_snapshot_and_restore(node, slot):
    pid = boot(node, slot)
    node.job("snapshot.create", slot, {"name": "first"})
    with open(node.rootfs(slot, "/root/big"), "wb") as f:
        f.write(os.urandom(8 << 20))
    size = node.job("snapshot.create", slot, {"name": "second", "previous": "first"})["size_bytes"]
    assert 8 << 20 <= size < 12 << 20
    assert node.job("snapshot.create", slot, {"name": "third", "previous": "second"})["size_bytes"] < 2 << 20
    assert node.slot(slot)["snapshots"] == ["first", "second", "third"]
    with pytest.raises(frames.JobError) as info:
        node.job("snapshot.restore", slot, {"name": "first"})
    assert info.value.code == "ERR_WRONG_STATE"
    node.job("container.stop", slot, {"timeout_ms": 0})
    node.job("snapshot.restore", slot, {"name": "first"})
    assert not os.path.exists(node.rootfs(slot, "/root/big"))
    node.job("snapshot.restore", slot, {"name": "second"})
    assert os.path.exists(node.rootfs(slot, "/root/big"))
    again = node.start(slot)
    assert again != pid
    world.wait_for(lambda: system_state(node, slot, again) == "running", what="systemd running")
    node.job("snapshot.delete", slot, {"name": "second"})
    node.job("snapshot.delete", slot, {"name": "second"})
    assert node.slot(slot)["snapshots"] == ["first", "third"]


def test_copy_of_a_container(node, slot):
    node.create(slot)
    with open(node.rootfs(slot, "/root/note"), "w", encoding="ascii") as f:
        f.write("old")
    node.job("snapshot.create", slot, {"name": "old"})
    with open(node.rootfs(slot, "/root/note"), "w", encoding="ascii") as f:
        f.write("new")
    latest, earlier = slot + 500, slot + 501
    node.create(latest, source_slot=slot, snapshots=["old"])
    node.create(earlier, source_slot=slot, source_snapshot="old")
    with open(node.rootfs(latest, "/root/note"), encoding="ascii") as f:
        assert f.read() == "new"
    with open(node.rootfs(earlier, "/root/note"), encoding="ascii") as f:
        assert f.read() == "old"
    assert node.slot(latest)["snapshots"] == ["old"] and node.slot(earlier)["snapshots"] == []
    for copy in (latest, earlier):
        with open(node.rootfs(copy, "/etc/hostname"), encoding="ascii") as f:
            assert f.read().strip() == f"box{copy}"
        node.job("container.destroy", copy)
        assert node.leftovers(copy) == []


def test_nested_subvolumes_go_with_the_container(node, slot):
    node.create(slot)
    deep = node.rootfs(slot, "/var/lib/docker/btrfs/subvolumes")
    os.makedirs(deep)
    for name in ("a", "a/b", "a/b/c", "d"):
        world.run("btrfs", "subvolume", "create", f"{deep}/{name}")
    world.run("btrfs", "property", "set", "-ts", f"{deep}/a/b/c", "ro", "true")
    node.job("snapshot.create", slot, {"name": "with-nested"})
    node.job("snapshot.restore", slot, {"name": "with-nested"})
    assert node.slot(slot)["leftovers"] is False
    world.run("btrfs", "subvolume", "create", f"{deep}/e")
    node.job("container.destroy", slot)
    assert node.leftovers(slot) == []


@pytest.fixture
def nested(node, slot):
    """A container with subvolumes of its own: a, a/b (read-only) and c, each with a file."""
    node.create(slot)
    top = node.rootfs(slot, "/var/lib/docker/btrfs/subvolumes")
    os.makedirs(top)
    for name in ("a", "a/b", "c"):
        world.run("btrfs", "subvolume", "create", f"{top}/{name}")
        write(f"{top}/{name}/file", "old")
    world.run("btrfs", "property", "set", "-ts", f"{top}/a/b", "ro", "true")
    return slot, top


def write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def read(path):
    with open(path, encoding="ascii") as f:
        return f.read()


def is_readonly(path):
    return world.run("btrfs", "property", "get", "-ts", path, "ro").strip() == "ro=true"


def test_nested_subvolumes_are_in_a_snapshot(node, nested):
    slot, top = nested
    node.job("snapshot.create", slot, {"name": "s"})
    write(f"{top}/a/file", "new")
    world.run("btrfs", "subvolume", "delete", f"{top}/c")
    world.run("btrfs", "subvolume", "create", f"{top}/later")
    node.job("snapshot.restore", slot, {"name": "s"})
    assert [read(f"{top}/{name}/file") for name in ("a", "a/b", "c")] == ["old"] * 3
    assert sorted(os.listdir(top)) == ["a", "c"]
    assert is_readonly(f"{top}/a/b") and not is_readonly(f"{top}/a")
    write(f"{top}/a/file", "again")
    node.job("snapshot.restore", slot, {"name": "s"})
    assert read(f"{top}/a/file") == "old"


def test_nested_subvolumes_are_in_a_copy(node, nested):
    slot, top = nested
    node.job("snapshot.create", slot, {"name": "s"})
    copy = slot + 700
    node.create(copy, source_slot=slot, snapshots=["s"])
    try:
        write(f"{top}/c/file", "new")
        there = top.replace(f"/slots/{slot}/", f"/slots/{copy}/")
        assert [read(f"{there}/{name}/file") for name in ("a", "a/b", "c")] == ["old"] * 3
        node.job("snapshot.restore", copy, {"name": "s"})
        assert read(f"{there}/c/file") == "old" and is_readonly(f"{there}/a/b")
    finally:
        node.job("container.destroy", copy)
    assert node.leftovers(copy) == []


def test_a_nested_subvolume_behind_a_symlink_is_left_out(node, nested):
    """Its owner has moved it and put a link to somebody else's in its place, in the middle of the work."""
    slot, top = nested
    victim = slot + 701
    node.create(victim)
    secret = node.rootfs(victim, "/root/private")
    world.run("btrfs", "subvolume", "create", secret)
    write(f"{secret}/file", "secret")
    os.rename(f"{top}/c", f"{top}/a/c")
    os.rename(f"{top}/a", f"{top}/elsewhere")
    os.symlink(secret, f"{top}/a")
    node.job("snapshot.create", slot, {"name": "s"})
    node.job("snapshot.restore", slot, {"name": "s"})
    assert os.path.islink(f"{top}/a") and read(f"{top}/elsewhere/c/file") == "old"
    found = [os.path.join(d, f) for d, _, files in os.walk(top) for f in files]
    assert all(read(path) == "old" for path in found) and len(found) == 3
    node.job("container.destroy", victim)


def swap_forever(top, aside, stop):
    """Exchanges two names as fast as it can."""
    libc = ctypes.CDLL(None)
    while not stop.is_set():
        libc.renameat2(-100, f"{top}/a".encode(), -100, aside.encode(), 2)


def test_nested_subvolumes_that_change_places(node, nested):
    slot, top = nested
    victim = slot + 702
    node.create(victim)
    secret = node.rootfs(victim, "/root/b")
    world.run("btrfs", "subvolume", "create", secret)
    write(f"{secret}/file", "secret")
    aside = f"{top}/aside"
    os.symlink(os.path.dirname(secret), aside)  # while it stands at "a", "a/b" is the victim's
    stop = threading.Event()
    racer = threading.Thread(target=swap_forever, args=(top, aside, stop))
    racer.start()
    try:
        for i in range(60):
            node.job("snapshot.create", slot, {"name": f"s{i}"})
    finally:
        stop.set()
        racer.join()
    snapshots = top.replace("/rootfs/", "/snapshots/{}/")
    for i in range(60):
        for d, _, files in os.walk(snapshots.format(f"s{i}")):
            assert all(read(os.path.join(d, f)) == "old" for f in files)
    node.job("container.destroy", victim)


def test_a_running_container_is_held_for_its_nested_subvolumes(node, slot):
    """What is written to one first is never missing there when it is in the other; a killed job leaves nothing frozen."""
    pid = boot(node, slot)
    node.attach(slot, pid, "mkdir", "/srv/v")
    for name in ("first", "second"):
        world.run("btrfs", "subvolume", "create", node.rootfs(slot, f"/srv/v/{name}"))
        os.chmod(node.rootfs(slot, f"/srv/v/{name}"), 0o777)
    node.attach(slot, pid, "systemd-run", "-q", "sh", "-c",
                "i=0; while :; do i=$((i+1)); echo $i >/srv/v/first/n; echo $i >/srv/v/second/n; done")
    world.wait_for(lambda: os.path.exists(node.rootfs(slot, "/srv/v/second/n")), what="the writer")
    for i in range(10):
        node.job("snapshot.create", slot, {"name": f"s{i}", "hold": True})
    for i in range(10):
        values = []
        for name in ("first", "second"):
            text = read(node.rootfs(slot, f"/srv/v/{name}/n").replace("/rootfs/", f"/snapshots/s{i}/"))
            values.append(int(text) if text else None)
        assert None in values or 0 <= values[0] - values[1] <= 1, values
    with pytest.raises(frames.WorkerDied):
        node.job("snapshot.create", slot, {"name": "cut", "hold": True}, failpoint="snapshot.held=kill")
    assert node.slot(slot)["frozen"] is True
    node.job("snapshot.delete", slot, {"name": "cut", "hold": True})
    assert node.slot(slot)["frozen"] is False


def test_pool_made_in_two_attempts():
    """A kill after the file was formatted, and a half-formatted file of an earlier attempt."""
    n = world.Node(loop_bytes=1 << 30)
    try:
        with pytest.raises(frames.JobError) as info:
            n.job("pool.open", args={"loop_file": None, "loop_bytes": 0})
        assert info.value.code == "ERR_INVALID"
        with open(n.loop_file + ".new", "wb") as f:
            f.write(b"remains")
        with pytest.raises(frames.WorkerDied):
            n.job("pool.open", args={"loop_file": n.loop_file, "loop_bytes": n.loop_bytes}, failpoint="pool.made=kill")
        assert n.open()["total_bytes"] == 1 << 30
        assert not os.path.exists(n.loop_file + ".new")
    finally:
        n.open()
        n.close()


def test_pool_is_not_closed_under_a_container(archive):
    n = world.Node(loop_bytes=1 << 30)
    try:
        n.open()
        n.image = n.job("image.import", args={"file": archive})["fingerprint"]
        n.create(1)
        pid = n.start(1)
        with pytest.raises(frames.JobError) as info:
            n.job("pool.close")
        assert info.value.code == "ERR_WRONG_STATE"
        # Somebody else unmounts it; the file must not be attached a second time.
        world.run("umount", n.pool)
        n.open()
        assert n.slot(1)["init_pid"] == pid
        assert world.run("losetup", "--associated", n.loop_file).count("\n") == 1
    finally:
        n.open()
        n.close()


def test_pool_close_and_reopen(archive):
    """Growing, closing while in use, and what a crash left in the trash."""
    n = world.Node(loop_bytes=1 << 30)
    try:
        first = n.open()
        n.image = n.job("image.import", args={"file": archive})["fingerprint"]
        n.create(1)
        os.rename(f"{n.pool}/slots/1", f"{n.pool}/trash/left")
        with open(f"{n.pool}/held", "w", encoding="ascii"):
            with pytest.raises(frames.JobError) as info:
                n.job("pool.close")
            assert info.value.code == "ERR_WRONG_STATE"
        n.job("pool.close")
        n.job("pool.close")
        n.loop_bytes = 2 << 30
        again = n.open()
        assert again["total_bytes"] > first["total_bytes"]
        assert os.listdir(f"{n.pool}/trash") == ["left"]
        left = n.job("node.reclaim", args={"most": 1 << 40})
        assert (left["trash"], os.listdir(f"{n.pool}/trash")) == (0, [])
        assert n.inventory()["images"][0]["fingerprint"] == n.image
    finally:
        device = n.open()["loop_device"]
        n.close()
        assert not os.path.exists(f"/sys/block/{os.path.basename(device)}/loop")
