# SPDX-License-Identifier: Apache-2.0
"""Odd trees that broke once, out and in again in both formats: what a node exports, every node imports, and the same tree comes back.
Those made by chance go further: test_tree_journeys.py.
"""
import hashlib
import json
import os
import struct
import subprocess
import time

import archives
import pytest
from archives import directory, entry
from daemon import PROJECT, Daemon
from test_archives import crafted, head, newest_slot, nodectl
from trees import ATTRIBUTE_NAMES, attributes, compare, picture
from world import run, wait_for

IMPORT = f"/api/v1/projects/{PROJECT}/containers/import"
FORMATS = ("tar", "stream")


@pytest.fixture(scope="module")
def node():
    d = Daemon(loop_bytes=6 << 30, storage__reserve="64M").start()
    yield d
    d.close()


@pytest.fixture
def box(node, request):
    """A fresh container, and a directory in it that its tests may fill from outside; both go afterwards."""
    c = node.create("tree-" + str(abs(hash(request.node.name)) % 10**8), hoody_kit=False)
    top = f"{node.pool}/slots/{node.container(c['id'])['node']['slot']}/rootfs/srv/trees"
    os.mkdir(top)
    yield c, top
    node.delete(c["id"])
    node.wait_reclaimed()


def export(node, c, form):
    path = f"{node.dir}/{form}.archive"
    r = nodectl(node, "export", c["id"], path, "--format", form)
    assert r.returncode == 0, (r, node.log()[-1500:])
    return path


def bring_in(node, path):
    """The directory of a new container's tree, and its id."""
    r = nodectl(node, "--json", "import", path)
    assert r.returncode == 0, (r, node.log()[-1500:])
    return newest_slot(node) + "/rootfs/srv/trees", json.loads(r.stdout)["id"]


def through(node, box, form):
    c, top = box
    run("btrfs", "filesystem", "sync", node.pool)
    path = export(node, c, form)
    try:
        return bring_in(node, path)
    finally:
        os.unlink(path)


# What broke.


@pytest.mark.parametrize("form", FORMATS)
def test_names_of_attributes(node, box, form):
    """All names that need care, alone and beside each other, on a file and on a directory."""
    _, top = box
    os.mkdir(top + "/dir")
    for i, names in enumerate([[n] for n in ATTRIBUTE_NAMES] + [ATTRIBUTE_NAMES[:-3]]):
        with open(f"{top}/{i}", "w", encoding="ascii"):
            for name in names:
                os.setxattr(f"{top}/{i}", name, b"the same")
    for name in ATTRIBUTE_NAMES[:5]:
        os.setxattr(top + "/dir", name, b"")
    there, cid = through(node, box, form)
    compare(picture(top, form == "tar"), picture(there, form == "tar"), form)
    node.delete(cid)


@pytest.mark.parametrize("form", FORMATS)
def test_zeros(node, box, form):
    """400 MiB of zeros as data, as many that are only allocated, and a hole: an archive of some KiB becomes all of it."""
    _, top = box
    with open(top + "/zeros", "wb") as f:
        for _ in range(400):
            f.write(bytes(1 << 20))
    run("fallocate", "-l", "400M", top + "/allocated")
    run("truncate", "-s", "2G", top + "/hole")
    there, cid = through(node, box, form)
    compare(picture(top, form == "tar"), picture(there, form == "tar"), form)
    assert os.stat(there + "/zeros").st_blocks * 512 >= 400 << 20 and os.stat(there + "/hole").st_blocks == 0
    node.delete(cid)


@pytest.mark.parametrize("form", FORMATS)
def test_a_large_file_with_little_in_it(node, box, form):
    """Takes as much of the disk as before, and of the archive."""
    c, top = box
    with open(top + "/large", "wb") as f:
        f.truncate(8 << 30)
        f.seek(5 << 30)
        f.write(os.urandom(4096))
    run("btrfs", "filesystem", "sync", node.pool)
    begun = time.monotonic()
    path = export(node, c, form)
    there, cid = bring_in(node, path)
    print(f"{form}: {time.monotonic() - begun:.1f} s")
    assert os.stat(there + "/large").st_blocks == os.stat(top + "/large").st_blocks == 8
    compare(picture(top, form == "tar"), picture(there, form == "tar"), form)
    if form == "tar":
        listed = subprocess.run(["tar", "--zstd", "-tvf", path], capture_output=True, check=True).stdout.decode()
        assert f"{8 << 30}" in next(line for line in listed.splitlines() if line.endswith("/large")), "tar(1) knows such files"
    node.delete(cid)
    os.unlink(path)


def test_holes_that_a_tar_cannot_describe(node, box):
    """The path is not ASCII and long: a file with little hole is written whole, one with much is refused before the first byte."""
    c, top = box
    path = top + "/" + "ü" * 60 + "/" + "ä" * 60
    os.mkdir(os.path.dirname(path))
    run("truncate", "-s", "100M", path)
    there, cid = through(node, box, "tar")
    compare(picture(top, True), picture(there, True), "tar")
    node.delete(cid)
    run("truncate", "-s", "5G", path)
    r = nodectl(node, "export", c["id"], node.dir + "/none")
    assert r.returncode != 0 and "ä'" in r.stderr.decode() and b"'stream'" in r.stderr, r
    there, cid = through(node, box, "stream")
    assert os.stat(there + path[len(top):]).st_blocks == 0
    node.delete(cid)


def test_too_many_attributes_for_a_tar(node, box):
    c, top = box
    with open(top + "/rich", "w", encoding="ascii"):
        for i in range(200):
            os.setxattr(top + "/rich", f"user.{i}", os.urandom(3000))
    r = node.call("GET", f"/api/v1/containers/{c['id']}/export", timeout=60)
    assert r.status == 502 and "rich" in r.json["message"] and "'stream'" in r.json["message"], r
    os.rename(top + "/rich", os.fsencode(top) + b"/rich\xff")
    r = nodectl(node, "export", c["id"], node.dir + "/none")
    assert r.returncode != 0 and not os.path.exists(node.dir + "/none") and b"rich?'" in r.stderr, r


# What an older build wrote: every byte of a hole, and each attribute in two records.


def by_hand(node, entries, lines):
    """An archive whose digest is right: `lines` are what tree_digest.h makes of `entries`."""
    digest = hashlib.sha256()
    for info, data in [directory("rootfs"), *archives.system("rootfs/")]:
        digest.update(f"{info.name}\0{'d' if info.isdir() else 'f'} {info.mode:o} 0:0 0 {info.size}\0\0".encode() + data)
    for line in lines:
        digest.update(line)
    header = head()
    r = node.call("POST", IMPORT, crafted(entries, header, {"header": hashlib.sha256(header).hexdigest(), "trees": {"rootfs": digest.hexdigest()}}))
    assert r.status == 201, r
    return newest_slot(node) + "/rootfs", r.data["id"]


def test_archives_of_older_builds(node):
    zeros = bytes(300 << 20)
    names = ["user.a b", "user.a%20b", "user.plain"]
    encoded = {"user.a b": "user.a%20b", "user.a%20b": "user.a%2520b", "user.plain": "user.plain"}
    pax = {}
    for name in names:
        pax["LIBARCHIVE.xattr." + encoded[name]] = "dg"
        pax["SCHILY.xattr." + encoded[name]] = "v"
    lines = [f"rootfs/etc/zeros\0f 644 0:0 0 {len(zeros)}\0\0".encode(), zeros, b"rootfs/etc/x\0f 644 0:0 0 1\0\0"]
    lines += [name.encode() + b"\0" + struct.pack("<Q", 1) + b"v" for name in names] + [b"1"]
    there, cid = by_hand(node, [entry("rootfs/etc/zeros", zeros), entry("rootfs/etc/x", b"1", pax=pax)], lines)
    assert attributes(there + "/etc/x") == {name: b"v" for name in names}
    assert os.stat(there + "/etc/zeros").st_size == len(zeros)
    node.delete(cid)


# Hostile ones.


def sparse(parts, size, data=b""):
    """A file in GNU's form 1.0 whose map has these (offset, length)."""
    text = f"{len(parts)}\n" + "".join(f"{at}\n{length}\n" for at, length in parts)
    body = text.encode().ljust((len(text) + 511) // 512 * 512, b"\0") + data
    return entry("rootfs/etc/sparse", body, pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "rootfs/etc/sparse",
                                                 "GNU.sparse.realsize": str(size)})


@pytest.mark.parametrize("name, entries", [
    ("overlapping", [sparse([(8192, 4096), (4096, 4096)], 1 << 20, bytes(8192))]),
    ("behind the end", [sparse([(1 << 20, 4096)], 4096, b"x" * 4096)]),
    ("negative size", [sparse([(0, 512)], -5, b"x" * 512)]),
    ("many", [sparse([(i * 8192, 0) for i in range(300000)], 1 << 40)]),
    ("huge", [sparse([(0, 1 << 62)], 1 << 62, b"x" * 512)])])
def test_hostile_maps(node, name, entries):
    before, slots = {c["id"] for c in node.list()}, sorted(os.listdir(node.pool + "/slots"))
    r = node.call("POST", IMPORT, crafted(entries))
    assert r.status in (400, 413, 502), (name, r)
    assert {c["id"] for c in node.list()} == before and sorted(os.listdir(node.pool + "/slots")) == slots, name
    node.assert_consistent()


def test_bombs(node):
    """The pool's room is the bound, before a byte is written where a header says what comes."""
    before = {c["id"] for c in node.list()}
    small = head()
    announced = archives.tarfile.TarInfo("rootfs/etc/bomb")
    announced.size = 1 << 40
    start = archives.tar([entry("noded.json", small), directory("rootfs"), *archives.system("rootfs/")])
    start = start[:len(start.rstrip(b"\0")) + 511 & ~511]
    free = node.get("/api/v1/node/storage").data["free_bytes"]
    r = node.call("POST", IMPORT, archives.zstd(start + announced.tobuf(archives.tarfile.GNU_FORMAT) + bytes(10 << 20)))
    assert r.status == 502 and "no room" in r.json["message"], r
    piece = archives.zstd(bytes(64 << 20))
    many = b"".join(archives.zstd(entry_header(f"rootfs/etc/b{i}", 64 << 20)) + piece for i in range(120))
    assert len(many) < 2 << 20
    r = node.call("POST", IMPORT, archives.zstd(start) + many)
    assert r.status == 502 and "no room" in r.json["message"], r
    assert {c["id"] for c in node.list()} == before
    wait_for(lambda: node.get("/api/v1/node/storage").data["free_bytes"] > free - (200 << 20), 60, what="the room of what was unpacked")
    node.assert_consistent()


def entry_header(name, size):
    info = archives.tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(archives.tarfile.USTAR_FORMAT)
