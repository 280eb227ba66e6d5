# SPDX-License-Identifier: Apache-2.0
"""Ordinary odd trees out and in again, in both formats: what a node exports, every node imports, and the same tree comes back.

NODED_TREES trees are made by chance (25); NODED_TREES_SEED makes those of an earlier run again.
"""
import ctypes
import errno
import hashlib
import json
import os
import random
import stat
import struct
import subprocess
import time

import archives
import pytest
from archives import directory, entry
from daemon import PROJECT, Daemon
from test_archives import crafted, head, newest_slot, nodectl
from world import run, wait_for

TREES = int(os.environ.get("NODED_TREES", "25"))
SEED = int(os.environ.get("NODED_TREES_SEED", str(time.time_ns() % 10**9)))
IMPORT = f"/api/v1/projects/{PROJECT}/containers/import"
FORMATS = ("tar", "stream")
LIBC = ctypes.CDLL(None, use_errno=True)
PATH_MAX = 900  # of a tree's own paths: a tar archive holds paths of 1023 bytes


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
    assert r.returncode == 0, (r, node.log()[-1500:], f"NODED_TREES_SEED={SEED}")
    return newest_slot(node) + "/rootfs/srv/trees", json.loads(r.stdout)["id"]


def through(node, box, form):
    c, top = box
    run("btrfs", "filesystem", "sync", node.pool)
    path = export(node, c, form)
    try:
        return bring_in(node, path)
    finally:
        os.unlink(path)


# A tree as one value.


def segments(fd, size):
    """[start, end) of what holds data."""
    found, at = [], 0
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            assert e.errno == errno.ENXIO
            break
        at = min(os.lseek(fd, data, os.SEEK_HOLE), size)
        found.append((data, at))
    return found


def content(path, size):
    """(where data that is not all zeros is and its checksum, where any data is)."""
    fd = os.open(path, os.O_RDONLY)
    try:
        digest, parts = hashlib.sha256(), segments(fd, size)
        for start, end in parts:
            for at in range(start, end, 4096):
                block = os.pread(fd, min(4096, end - at), at)
                if block.count(0) != len(block):
                    digest.update(struct.pack("<Q", at) + block)
        return digest.hexdigest(), parts if size > 1 else []  # a tar says no hole of a single byte (provisioning/pack_holes.h)
    finally:
        os.close(fd)


def attributes(path):
    return {k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)}


def map_fits(name):
    """Whether libarchive can say where the holes of a file of this path are (provisioning/pack_holes.h)."""
    path = b"rootfs/srv/trees" + name
    return path.isascii() or len(path) < 100 or any(path[i:i + 1] == b"/" and len(path) - i - 1 <= 98 for i in range(min(len(path), 151)))


def picture(top, tar):
    """What the archive's format keeps of a tree: {path: facts about the file}. "twins" are the names of one file."""
    found, inodes, top = {}, {}, os.fsencode(top)
    for base, dirs, files in os.walk(top):
        for path in [base] + [os.path.join(base, n) for n in sorted(dirs + files) if os.path.islink(os.path.join(base, n)) or n in files]:
            s = os.lstat(path)
            if tar and stat.S_ISSOCK(s.st_mode):
                continue
            name = path[len(top):]
            regular = stat.S_ISREG(s.st_mode)
            inner = content(path, s.st_size) if regular and (not tar or map_fits(name)) else content(path, s.st_size)[0] if regular else None
            attr = attributes(path)
            if tar:
                attr.pop("btrfs.compression", None)
            twins = inodes.setdefault(s.st_ino, []) if regular or (not tar and not stat.S_ISDIR(s.st_mode)) else []
            twins.append(name)
            found[name] = {"mode": oct(s.st_mode), "owner": (s.st_uid, s.st_gid), "mtime": s.st_mtime_ns // 10**9 if tar else s.st_mtime_ns,
                           "rdev": s.st_rdev, "attributes": attr, "twins": twins, "size": s.st_size if regular else 0,
                           "content": os.readlink(path) if stat.S_ISLNK(s.st_mode) else inner}
    for twins in inodes.values():
        twins.sort()
        if tar and not all(map_fits(name) for name in twins): # the first name in the archive decides about all
            for name in twins:
                thing = found[name]["content"]
                found[name]["content"] = thing[0] if isinstance(thing, tuple) else thing
    return found


def compare(was, now, form):
    assert was.keys() == now.keys(), (form, was.keys() ^ now.keys(), f"NODED_TREES_SEED={SEED}")
    for name, thing in was.items():
        for key, value in thing.items():
            assert value == now[name][key], (form, name, key, f"NODED_TREES_SEED={SEED}")


# By chance.

NAMES = [b"plain", b"with blank", b" ", b"-rf", b"...", b".hidden", b"trailing ", b"new\nline", b"\xff\xfe", b"\x01\x7f", b"100%", b"%41", b"a=b", b"a\\b",
         "é".encode(), "e\u0301".encode(), "日本語".encode(), b"GNUSparseFile.0", b"PaxHeader", b"x" * 100, b"y" * 101, b"z" * 255, b"q'\"`$x", b"*?[", b"CON", b"~"]
ATTRIBUTE_NAMES = ["user.a", "user.a b", "user.a%20b", "user.a%2520b", "user.=", "user.%", "user.ü", os.fsdecode(b"user.\xff"), "user.DosStream.my notes:$DATA",
                   "user.overlay.opaque", "user." + "n" * 245, "user.line\nend", "user.SCHILY.xattr.user.x"]
ENTRY = "<HHI"


def acl(rng):
    entries = [(1, rng.randrange(8), 0xffffffff)] + [(2, rng.randrange(8), uid) for uid in sorted(rng.sample(range(1, 65536), rng.randrange(1, 4)))]
    entries += [(4, rng.randrange(8), 0xffffffff), (16, rng.randrange(8), 0xffffffff), (32, rng.randrange(8), 0xffffffff)]
    return struct.pack("<I", 2) + b"".join(struct.pack(ENTRY, *e) for e in entries)


def decorate(rng, path, is_dir):
    """Owner, mode, attributes, time, in an order that keeps all of them."""
    os.chown(path, *(rng.choice((0, 1, 1000, 65534, 65535, rng.randrange(65536))) for _ in "ug"))
    os.chmod(path, rng.choice((0, 0o444, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o6711, 0o7777, rng.randrange(0o10000))))
    for name in rng.sample(ATTRIBUTE_NAMES, rng.choice((0, 0, 1, 3, 5))):
        os.setxattr(path, name, rng.choice((b"", b"v", b"v", rng.randbytes(100), b"a\0b\n=", rng.randbytes(3000) if not is_dir else b"x")))
    if rng.random() < 0.2:
        os.setxattr(path, "system.posix_acl_access", acl(rng))
    if is_dir and rng.random() < 0.2:
        os.setxattr(path, "system.posix_acl_default", acl(rng))
    if not is_dir and rng.random() < 0.2:
        os.setxattr(path, "security.capability", rng.choice((struct.pack("<5I", 0x02000001, 0x2400, 0, 0, 0),
                                                              struct.pack("<6I", 0x03000000, 1 << 10, 1 << 10, 0, 0, 100000))))
    if rng.random() < 0.1:
        os.setxattr(path, "btrfs.compression", rng.choice((b"zlib", b"lzo", b"zstd")))


def punch(rng, fd, size):
    """Allocated and never written, or a hole where data was."""
    mode, at = rng.choice((0, 1, 3)), rng.randrange(max(size, 1))
    LIBC.fallocate(fd, mode, ctypes.c_long(at), ctypes.c_long(rng.randrange(1, 200000)))


def make_file(rng, path, holes):
    size = rng.choice((0, 1, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 262144, 262145, rng.randrange(400000)))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    shape = rng.random()
    if shape < 0.5 or not holes and rng.random() < 0.5:
        os.write(fd, rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size)))
    else:
        end = rng.choice((size + 2, size + 2, 10 << 20, (8 << 30) + 3, 1 << 40, (1 << 40) + 4097)) if holes else rng.choice((size + 2, 10 << 20))
        os.ftruncate(fd, end)
        for _ in range(rng.choice((0, 1, 2, 20))):
            data = rng.choice((rng.randbytes, bytes))(rng.choice((1, 4096, 10000)))
            at = rng.choice((0, max(end - len(data), 0), rng.randrange(max(end, 1)) & ~4095, rng.randrange(max(end, 1))))
            os.pwrite(fd, data[:max(end - at, 0)], at)
    if rng.random() < 0.2:
        punch(rng, fd, os.fstat(fd).st_size)
    os.close(fd)


def make_special(rng, path):
    kind = rng.randrange(4)
    if kind == 0:
        os.symlink(rng.choice((b"/nowhere", b"plain", b"../..", rng.choice(NAMES), b"/" + b"long/" * 180, b"t" * 1023, "ü\n".encode())), path)
        os.chown(path, rng.randrange(65536), 7, follow_symlinks=False)
    elif kind == 1:
        os.mkfifo(path)
        os.chmod(path, rng.randrange(0o1000))
    elif kind == 2:
        os.mknod(path, stat.S_IFCHR, 0)
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)


def grow(rng, top):
    """One tree; times come last, from the leaves up."""
    os.mkdir(top)
    dirs, files, rest, used = [top], [], [], len(top)
    for _ in range(rng.randrange(5, 40)):
        path = os.path.join(rng.choice(dirs), rng.choice(NAMES) + (b"" if rng.random() < 0.5 else b"%d" % rng.randrange(100)))
        if len(os.path.basename(path)) > 255 or len(path) - used > PATH_MAX - 50 or os.path.lexists(path):
            continue
        what = rng.random()
        if what < 0.25 and len(path) - used < PATH_MAX // 2:
            os.mkdir(path)
            dirs.append(path)
        elif what < 0.65:
            make_file(rng, path, map_fits(path[len(os.path.dirname(top)):]))
            files.append(path)
        elif what < 0.8 and files and map_fits(path[len(os.path.dirname(top)):]):
            os.link(rng.choice(files), path)
        else:
            make_special(rng, path)
            rest.append(path)
    for path in files:
        decorate(rng, path, False)
    for path in dirs:
        decorate(rng, path, True)
    for path in rest + files + dirs[::-1]:
        when = rng.choice((0, 1, -1, -10**9, 10**9, 2**31 - 1, 2**31, 2**32, 2**33 + 5)) * 10**9 + rng.choice((0, 1, 999999999))
        os.utime(path, ns=(0, when), follow_symlinks=False)


def test_trees_of_chance(node, box):
    """25 of them at once: a container's system around them costs more than they do."""
    c, top = box
    print(f"NODED_TREES={TREES} NODED_TREES_SEED={SEED}")
    for first in range(0, TREES, 25):
        for i in range(first, min(first + 25, TREES)):
            grow(random.Random(SEED + i), os.fsencode(f"{top}/{i}"))
        for form in FORMATS:
            there, cid = through(node, (c, top), form)
            compare(picture(top, form == "tar"), picture(there, form == "tar"), form)
            node.delete(cid)
            node.wait_reclaimed()
        run("rm", "-rf", *(f"{top}/{i}" for i in range(first, min(first + 25, TREES))))


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
    r = nodectl(node, "export", c["id"], node.dir + "/none")
    assert r.returncode != 0 and not os.path.exists(node.dir + "/none") and "rich" in node.log(), r


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
