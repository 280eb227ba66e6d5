# SPDX-License-Identifier: Apache-2.0
"""Only so many containers are snapshots of one subvolume: then another copy of their image is made."""
import collections
import glob
import os
import stat
import subprocess

import pytest
from daemon import PROJECT, Daemon
from pair import IDS, pair
from world import run, wait_for

MOST = 8
FAILURE = "a further base of an image could not be made"


@pytest.fixture
def node():
    d = Daemon(loop_bytes=4096 << 20, storage__base_children=str(MOST), storage__reserve="64M")
    d.start()
    yield d
    d.close()


def shown(path):
    fields = (line.strip().split(":", 1) for line in run("btrfs", "subvolume", "show", path).splitlines()[1:] if ":" in line)
    return {key: value.strip() for key, value in fields}


def bases(node):
    """uuid -> name, of images and their copies; one that goes meanwhile is left out."""
    found = {}
    for path in glob.glob(f"{node.pool}/images/*"):
        try:
            found[shown(path)["UUID"]] = os.path.basename(path)
        except subprocess.CalledProcessError:
            assert not os.path.exists(path), path
    return found


def children(node):
    """Containers by base, in the order of the bases' names."""
    of = bases(node)
    slots = sorted(int(s) for s in os.listdir(f"{node.pool}/slots"))
    counted = collections.Counter(of.get(shown(f"{node.pool}/slots/{s}/rootfs")["Parent UUID"]) for s in slots)
    return [counted[name] for name in sorted(of.values())]


def tree(root):
    """All that a copy must have in common with its original."""
    links, found = {}, {}
    for top, dirs, files in os.walk(root):
        for name in [*dirs, *files, "."]:
            path = os.path.join(top, name)
            st = os.lstat(path)
            what = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_rdev,
                    tuple(sorted((x, os.getxattr(path, x, follow_symlinks=False)) for x in os.listxattr(path, follow_symlinks=False)
                                 if not x.startswith("trusted.noded"))))
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what += (hash(f.read()), links.setdefault(st.st_ino, path[len(root):]))
            elif stat.S_ISLNK(st.st_mode):
                what += (os.readlink(path),)
            found[path[len(root):]] = what
    return found


def create(node, count):
    return [node.create(f"base-{os.urandom(3).hex()}", hoody_kit=False)["id"] for _ in range(count)]


def test_a_second_base(node):
    made = create(node, MOST)
    wait_for(lambda: len(bases(node)) == 2, 60, what="another base")
    node.wait_idle()
    first, second = sorted(bases(node).values())
    assert second == first + "~1" and children(node) == [MOST, 0]
    assert tree(f"{node.pool}/images/{first}") == tree(f"{node.pool}/images/{second}")
    made += create(node, 3)
    assert children(node) == [MOST, 3]
    assert node.wait_booted(made[-1]) == "running"
    node.delete(made.pop(0))
    node.wait_idle()
    made += create(node, 2)
    assert children(node) == [MOST, 4], "what has become free is used first"
    copy = node.post(f"/api/v1/containers/{made[-1]}/copy?wait=true", {"target_project_id": PROJECT, "name": "base-copy"})
    assert copy.status == 201, copy
    node.restart()
    made += create(node, 1)
    assert children(node)[1] == 5, "they are known after a restart"
    for cid in (*made, copy.data["id"]):
        node.delete(cid)
    node.wait_idle()
    wait_for(lambda: list(bases(node).values()) == [first], 60, what="the end of the base that nobody needs")
    assert node.call("DELETE", f"/api/v1/node/images/{first}?force=true").status == 200
    wait_for(lambda: bases(node) == {}, 60, what="the end of all bases")


def test_what_is_not_needed_goes_and_comes_again(node):
    made = create(node, MOST)
    wait_for(lambda: len(bases(node)) == 2, 60, what="another base")
    made += create(node, 2)
    assert children(node) == [MOST, 2]
    for cid in made[-2:]:
        node.delete(cid)
    node.wait_idle()
    assert children(node) == [MOST, 0], "the next container would need it"
    for cid in made[:3]:
        node.delete(cid)
    node.wait_idle()
    assert children(node) == [MOST - 3, 0], "it would soon be needed again"
    node.restart("image.base_removed=error")
    node.delete(made[3])
    wait_for(lambda: "a base of an image could not be removed" in node.log(), 60, what="the failure")
    assert children(node) == [MOST - 4, 0]
    node.restart()
    node.delete(made[4])
    wait_for(lambda: len(bases(node)) == 1, 60, what="the end of the second base")
    create(node, 5)
    wait_for(lambda: len(bases(node)) == 2, 60, what="another base again")


def test_a_crash_while_it_is_made(node):
    node.restart("image.base=kill")
    create(node, MOST)
    wait_for(lambda: FAILURE in node.log(), 60, what="the failure")
    made = create(node, 2)
    assert children(node) == [MOST + 2], "nobody waits for it"
    assert node.log().count(FAILURE) == 1, "it is not tried again for each container"
    node.restart()
    create(node, 1)
    wait_for(lambda: len(bases(node)) == 2, 60, what="another base")
    assert not [n for n in os.listdir(f"{node.pool}/images") if n.startswith(".new")]
    node.delete(made[0])


def reserve(node, text):
    with open(node.conf, encoding="utf-8") as f:
        lines = [f"reserve = {text}\n" if line.startswith("reserve") else line for line in f]
    with open(node.conf, "w", encoding="utf-8") as f:
        f.writelines(lines)
    node.restart()


def test_no_room_for_another(node):
    """It is written until the reserve is reached; then it goes."""
    made = create(node, MOST - 1)
    for cid in made:
        node.wait_booted(cid)
    node.wait_reclaimed()
    reserve(node, f"{(node.get('/api/v1/node/storage').data['free_bytes'] >> 20) - 150}M")
    made += create(node, 1)
    wait_for(lambda: FAILURE in node.log(), 60, what="the failure")
    assert "the pool is full" in node.log()
    node.wait_reclaimed()
    assert len(bases(node)) == 1 and not [n for n in os.listdir(f"{node.pool}/images") if n.startswith(".new")]
    reserve(node, "64M")
    create(node, 1)
    wait_for(lambda: len(bases(node)) == 2, 60, what="another base")


def test_what_a_crashed_removal_leaves(node):
    made = create(node, MOST)
    wait_for(lambda: len(bases(node)) == 2, 60, what="another base")
    node.restart("image.base_removed=error,image.removed=kill")
    for cid in made:
        node.delete(cid)
    node.wait_idle()
    first = min(bases(node).values())
    node.call("DELETE", f"/api/v1/node/images/{first}")
    node.wait_idle()
    assert list(bases(node).values()) == [first + "~1"]
    os.unlink(f"{node.dir}/images/debian-13.tar.zst")
    node.restart()
    wait_for(lambda: bases(node) == {}, 60, what="the end of what was left")


def test_another_node_has_the_image(tmp_path):
    """What was made from any base of it is sent as a difference to the image."""
    with pair(str(tmp_path), storage__base_children=str(MOST)) as p:
        p.near.start()
        p.far.start()
        create(p.near, MOST)
        wait_for(lambda: len(bases(p.near)) == 2, 60, what="another base")
        p.near.wait_idle()
        (source,) = create(p.near, 1)
        p.near.wait_booted(source)
        before = p.wire_bytes()
        r = p.near.call("POST", f"/api/v1/containers/{source}/copy?wait=true", timeout=300,
                        body={"target_project_id": PROJECT, "target_server_id": IDS["far"], "name": "from-base"})
        assert r.status == 201, r
        assert p.far.wait_booted(r.data["id"]) == "running"
        assert children(p.near) == [MOST, 1] and p.wire_bytes() - before < 60 << 20, p.wire_bytes() - before
