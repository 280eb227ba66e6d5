# SPDX-License-Identifier: Apache-2.0
"""The limit of a container's disk, and what it has written: one account for all its roots, whatever becomes of them."""
import os
import time

import pytest
from daemon import PROJECT, Account, Daemon
from world import run, wait_for

MIB = 1 << 20


@pytest.fixture(scope="module")
def node():
    d = Daemon(storage__loop_size="2G")
    d.start()
    yield d
    d.close()


@pytest.fixture
def box(node):
    box = node.create(f"disk-{os.urandom(3).hex()}", hoody_kit=False)["id"]
    yield box
    node.delete(box)
    node.wait_idle()


def at(box, rest):
    return f"/api/v1/containers/{box}{rest}"


def slot(node, box):
    return node.container(box)["node"]["slot"]


def rootfs(node, box):
    return f"{node.pool}/slots/{slot(node, box)}/rootfs"


def limit(node, box, mib):
    r = node.call("PATCH", at(box, "/limits"), {"disk": mib * MIB if mib else None})
    assert r.status == 200, r


def write(node, box, path, mib):
    """What went wrong, or nothing."""
    return node.inside(box, "sh", "-c", f"dd if=/dev/urandom of={path} bs=1M count={mib} conv=fsync 2>&1 | grep -o 'Disk quota exceeded'", check=False)


def usage(node, box):
    return node.get(at(box, "/stats")).data["disk"]["root"]


def test_it_is_kept_by_the_kernel(node, box):
    limit(node, box, 64)
    assert write(node, box, "/root/a", 40) == ""
    assert write(node, box, "/root/b", 40) == "Disk quota exceeded"
    node.inside(box, "rm", "/root/a", "/root/b")
    run("sync", "-f", node.pool)
    assert write(node, box, "/root/c", 40) == "", "deleting makes room"
    limit(node, box, 128)
    assert write(node, box, "/root/d", 40) == "", "more is more at once"
    limit(node, box, None)
    assert write(node, box, "/root/e", 100) == ""
    limit(node, box, 64)
    assert write(node, box, "/root/f", 1) == "Disk quota exceeded", "what is there stays, and counts"
    assert node.inside(box, "stat", "-c", "%s", "/root/e") == str(100 * MIB)


def test_snapshots_and_former_roots_count(node, box):
    limit(node, box, 96)
    assert write(node, box, "/root/a", 60) == ""
    name = node.post(at(box, "/snapshots")).data["snapshot"]["name"]
    node.inside(box, "rm", "/root/a")
    run("sync", "-f", node.pool)
    assert write(node, box, "/root/b", 60) == "Disk quota exceeded", "the snapshot has it still"
    account = Account(node, slot(node, box))
    assert node.call("PUT", at(box, f"/snapshots/{name}?wait=true")).status == 200
    after = Account(node, slot(node, box))
    assert (after.id, after.limit) == (account.id, 96 * MIB) and after.members > account.members
    assert write(node, box, "/root/c", 60) == "Disk quota exceeded", "another root, the same account"
    assert usage(node, box)["total"] == 96 * MIB
    wait_for(lambda: usage(node, box)["usage"] >= 60 * MIB, 30, 0.5, "figures of after the writing: they are up to 2 s old")
    assert node.call("DELETE", at(box, f"/snapshots/{name}")).status == 200


def test_subvolumes_inside_count(node, box):
    """They are in the account when they are made, and after a restore as well."""
    run("btrfs", "subvolume", "create", rootfs(node, box) + "/srv/inner")
    name = node.post(at(box, "/snapshots")).data["snapshot"]["name"]
    limit(node, box, 48)
    for _ in range(2):
        assert write(node, box, "/srv/inner/a", 80) == "Disk quota exceeded"
        node.inside(box, "rm", "-f", "/srv/inner/a")
        run("sync", "-f", node.pool)
        assert node.call("PUT", at(box, f"/snapshots/{name}?wait=true")).status == 200


def test_a_copy_has_its_own_account(node, box):
    limit(node, box, 48)
    assert write(node, box, "/root/a", 30) == ""
    copy = node.post(at(box, "/copy?wait=true"), {"target_project_id": PROJECT, "name": "disk-copy"}).data["id"]
    try:
        assert node.get(at(copy, "/limits")).data["disk"] is None
        account = Account(node, slot(node, copy))
        assert account.id != Account(node, slot(node, box)).id and account.usage < 20 * MIB
        assert write(node, copy, "/root/b", 80) == ""
        limit(node, copy, 256)
        assert node.post(at(copy, "/sync?wait=true")).status == 200
        after = Account(node, slot(node, copy))
        assert (after.id, after.limit) == (account.id, 256 * MIB), "a sync keeps it"
    finally:
        node.delete(copy)


def test_an_account_ends_with_its_container(node):
    box = node.create("disk-ends", hoody_kit=False)["id"]
    mine = Account(node, slot(node, box)).id
    assert node.delete(box).status == 200
    node.wait_idle()

    def gone():
        run("btrfs", "filesystem", "sync", node.pool)
        run("btrfs", "subvolume", "sync", node.pool)
        node.restart()  # which looks for what is left to destroy, two seconds later
        time.sleep(3)
        return mine not in run("btrfs", "qgroup", "show", "--raw", node.pool).split()
    wait_for(gone, 60, 1, "the end of the account")


@pytest.mark.parametrize("kill", [f"op.{step}=kill" for step in ("host-setting.disk", "host-setting.rules", "host-setting.commit", "restore.swap", "restore.start")])
def test_a_crash_on_the_way(node, box, kill):
    limit(node, box, 64)
    name = node.post(at(box, "/snapshots")).data["snapshot"]["name"]
    node.restart(kill)
    try:
        if "restore" in kill:
            node.call("PUT", at(box, f"/snapshots/{name}"))
        else:
            node.call("PATCH", at(box, "/limits"), {"disk": 80 * MIB})
    except OSError:
        pass
    node.wait_dead()
    node.start()
    node.wait_idle()
    assert Account(node, slot(node, box)).limit == node.get(at(box, "/limits")).data["disk"]
    assert write(node, box, "/root/a", 120) == "Disk quota exceeded"


def test_without_quotas_it_is_refused():
    d = Daemon(storage__quota="no", storage__loop_size="1G")
    d.start()
    try:
        box = d.create("disk-none", hoody_kit=False)["id"]
        r = d.call("PUT", at(box, "/limits"), {"disk": 64 * MIB})
        assert (r.status, r.json["field"]) == (400, "disk"), r
        assert usage(d, box) == {"total": 0}
    finally:
        d.close()


KEYS = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe first@test",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILBq5cQJnWUZgQzUE2WfX8Nw2S6y4S9nZk5zq5kF1c1k second@test"]


def fill(node, box, mib):
    """Up to its limit, to the last byte."""
    node.inside(box, "sh", "-c", f"dd if=/dev/urandom of=/root/fill bs=1M count={mib} conv=fsync; sync", check=False)
    for n in range(40):
        node.inside(box, "sh", "-c", f"head -c 4096 /dev/urandom > /root/f{n}; sync", check=False)


def keys_inside(node, box):
    with open(f"{rootfs(node, box)}/root/.ssh/authorized_keys", encoding="utf-8") as f:
        return f.read()


@pytest.mark.parametrize("how", ["running", "restore", "start"])
def test_a_key_that_was_removed_goes_from_a_full_disk(node, box, how):
    """A restore brings the old key back, and with the disk at its limit nothing new could be written: the node's own files do not
    count there."""
    assert node.call("PATCH", at(box, ""), {"ssh_public_key": KEYS[0]}).status == 200
    name = node.post(at(box, "/snapshots")).data["snapshot"]["name"]
    assert "first@test" in keys_inside(node, box)
    if how != "running":
        assert node.call("PATCH", at(box, ""), {"ssh_public_key": KEYS[1]}).status == 200
    limit(node, box, 48)
    fill(node, box, 64)
    if how == "running":
        assert node.call("PATCH", at(box, ""), {"ssh_public_key": KEYS[1]}).status == 200
        assert node.call("PUT", at(box, "/env/COLOUR"), {"value": "red"}).data["env_sync"]["pending"] is False
    elif how == "restore":
        assert node.call("PUT", at(box, f"/snapshots/{name}")).status == 200
    else:
        node.op(box, "force-stop")
        assert node.call("PATCH", at(box, ""), {"ssh_public_key": None}).status == 200
        assert node.op(box, "start").status == 200
    there = keys_inside(node, box)
    assert "first@test" not in there and ("second@test" in there) == (how != "start"), there
    assert write(node, box, "/root/more", 64) == "Disk quota exceeded", "the limit holds again"


@pytest.mark.parametrize("part", ["ssh", "env"])
def test_a_worker_that_dies_leaves_no_disk_without_its_limit(node, box, part):
    """The node writes its own files with the limit lifted."""
    limit(node, box, 48)
    node.restart(f"{part}.lifted=kill")
    if part == "ssh":
        assert node.call("PATCH", at(box, ""), {"ssh_public_key": KEYS[0]}).status == 500
    else:
        assert node.call("PUT", at(box, "/env/COLOUR"), {"value": "blue"}).data["env_sync"]["pending"] is True
    node.wait_idle()
    assert Account(node, slot(node, box)).limit == 48 * MIB
    assert write(node, box, "/root/more", 64) == "Disk quota exceeded"
    node.restart()


def test_a_key_that_cannot_be_written_keeps_the_container_closed(node, box):
    """Its owner has made the directory unchangeable."""
    assert node.call("PATCH", at(box, ""), {"ssh_public_key": KEYS[0]}).status == 200
    node.op(box, "force-stop")
    directory = f"{rootfs(node, box)}/root/.ssh"
    run("chattr", "+i", directory)
    try:
        r = node.call("PATCH", at(box, ""), {"ssh_public_key": KEYS[1]})
        assert r.status == 502 and "not in effect" in r.json["message"], r
        r = node.op(box, "start")
        assert r.status == 502 and "ssh key" in r.json["message"], r
        assert node.container(box)["status"] == "stopped"
    finally:
        run("chattr", "-i", directory)
    assert node.op(box, "start").status == 200
    assert "second@test" in keys_inside(node, box)


def groups(node):
    """Ids of the file system's quota groups, by level."""
    names = [line.split()[0] for line in run("btrfs", "qgroup", "show", "--raw", node.pool).splitlines()[2:]]
    return {n for n in names if n.startswith("0/")}, {n for n in names if not n.startswith("0/")}


def subvolumes(node):
    return {"0/" + line.split()[1] for line in run("btrfs", "subvolume", "list", node.pool).splitlines()} | {"0/5"}


def test_groups_of_deleted_containers_go(node):
    """Also of those whose extents a snapshot shared for a while; at a start, too."""
    boxes = [node.create(f"group-{n}", hoody_kit=False)["id"] for n in range(4)]
    for b in boxes:
        write(node, b, "/root/a", 4)
        node.post(at(b, "/snapshots"))
    copy = node.post(at(boxes[0], "/copy"), {"name": "group-copy", "target_project_id": PROJECT}).data["id"]
    wait_for(lambda: node.container(copy)["status"] == "running", 60, what="the copy")
    run("sync", "-f", node.pool)
    for b in boxes:
        assert node.delete(b).status == 200
    node.wait_reclaimed()
    node.delete(copy)
    node.wait_reclaimed()

    def left():
        run("btrfs", "filesystem", "sync", node.pool)
        return groups(node)[0] - subvolumes(node)
    node.restart()  # what was shared until the last moment is found by the next look, at the latest at a start
    wait_for(lambda: not left(), 60, 1, "the end of the groups")
    assert len(groups(node)[1]) <= len(node.list())
