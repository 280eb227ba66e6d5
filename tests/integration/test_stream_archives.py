# SPDX-License-Identifier: Apache-2.0
"""Containers as files of the format "stream": what goes through, crashes, a full pool, and hostile ones."""
import hashlib
import http.client
import json
import os
import stat
import struct
import subprocess

import pytest
from archives import zstd
from daemon import PROJECT, Daemon
from sendstream import BEGIN, END, HEAD, UUID, command, make, write
from test_archives import listing, newest_slot, nodectl, sender_goes_away, taker_goes_away
from world import run, wait_for

IMPORT = f"/api/v1/projects/{PROJECT}/containers/import"
MAGIC = b"\x8enoded1\n"


@pytest.fixture(scope="module")
def node():
    d = Daemon(loop_bytes=3 << 30, storage__reserve="64M").start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    c = node.create("str-box", hoody_kit=False, environment_vars={"COLOUR": "blue"}, comment="to be moved")
    node.wait_booted(c["id"])
    node.inside(c["id"], "sh", "-c", """set -e
        mkdir -p /srv/deep/er; echo data >/srv/deep/er/file; ln /srv/deep/er/file /srv/hard; ln -s /nowhere /srv/soft
        echo 1 >"/srv/$(printf 'e\\314\\201 \\377')"; chmod 4711 /srv/hard; chown 1000:1000 /srv/deep; mkfifo /srv/fifo
        head -c 3M /dev/urandom >/srv/random; truncate -s 50M /srv/sparse; echo tail >>/srv/sparse; touch -d @1000000000 /srv/deep
        cp --reflink=always /srv/random /srv/clone; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("/srv/socket")' || :""")
    root = node.pool + "/slots/1/rootfs/srv"
    os.setxattr(root + "/random", "user.note", b"kept")
    os.setxattr(root + "/deep/er/file", "system.posix_acl_access", ACL)
    run("btrfs", "subvolume", "create", root + "/inner")
    with open(root + "/inner/inside", "w", encoding="ascii") as f:
        f.write("nested")
    run("btrfs", "subvolume", "snapshot", "-r", root + "/inner", root + "/inner/older")
    assert node.post(f"/api/v1/containers/{c['id']}/snapshots", {"alias": "first"}).status == 200
    node.inside(c["id"], "sh", "-c", "rm -r /srv/deep/er; echo later >/srv/later; echo more >/srv/inner/inside")
    assert node.post(f"/api/v1/containers/{c['id']}/snapshots", {"alias": "second"}).status == 200
    node.inside(c["id"], "sh", "-c", "mv /srv/later /srv/latest; sync")
    return c


# user::rw-, user:1000:rwx, group::r--, mask::rwx, other::r--
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", t, p, i) for t, p, i in (
    (1, 6, 0xffffffff), (2, 7, 1000), (4, 4, 0xffffffff), (16, 7, 0xffffffff), (32, 4, 0xffffffff)))


@pytest.fixture(scope="module")
def archive(node, box):
    path = node.dir + "/box.stream"
    r = nodectl(node, "export", box["name"], path, "--snapshots", "--format", "stream")
    assert r.returncode == 0, (r, node.log()[-1500:])
    assert node.container(box["id"])["status"] == "running"
    assert not passing(node)
    with open(path, "rb") as f:
        return f.read()


def passing(node, slot="1"):
    return [n for n in os.listdir(f"{node.pool}/slots/{slot}") if n.startswith(".")]


def upload(node, data, query=""):
    return node.call("POST", IMPORT + query, data)


def extents(path):
    return {line.split()[2] for line in run("filefrag", "-v", path).splitlines() if ".." in line}


def test_a_container_moves(node, box, archive):
    tar = nodectl(node, "export", box["name"], "--snapshots").stdout
    assert archive.startswith(MAGIC) and len(archive) < len(tar) / 2, "snapshots are differences"
    r = upload(node, archive, "?name=str-moved")
    assert r.status == 201, (r, node.log())
    c = r.data
    assert (c["status"], c["name"], c["comment"], c["environment_vars"], c["container_image"]) == (
        "stopped", "str-moved", "to be moved", {"COLOUR": "blue"}, "debian/13")
    slot = newest_slot(node)
    for tree in ("rootfs", "snapshots/first", "snapshots/second"):
        was, now = listing(f"{node.pool}/slots/1/{tree}/srv"), listing(f"{slot}/{tree}/srv")
        assert was == now and b"/fifo" in now and b"/inner/older/inside" in now, tree
    assert os.path.exists(slot + "/rootfs/srv/latest") and os.path.exists(slot + "/snapshots/second/srv/later")
    first = slot + "/snapshots/first/srv/"
    assert os.getxattr(first + "deep/er/file", "system.posix_acl_access") == ACL and os.getxattr(first + "random", "user.note") == b"kept"
    assert not os.path.exists(first + "later") and os.stat(first + "hard").st_nlink == 2
    with open(first + "inner/inside", encoding="ascii") as f:
        assert f.read() == "nested"
    holes = os.stat(slot + "/rootfs/srv/sparse")
    assert holes.st_size == (50 << 20) + 5 and holes.st_blocks * 512 < 1 << 20
    assert extents(slot + "/rootfs/srv/random") == extents(first + "random"), "and stay so on the disk"
    assert "ro=true" in run("btrfs", "property", "get", "-ts", slot + "/rootfs/srv/inner/older")
    assert "ro=true" in run("btrfs", "property", "get", "-ts", slot + "/snapshots/first")
    assert "ro=false" in run("btrfs", "property", "get", "-ts", slot + "/rootfs/srv/inner")
    assert "Received UUID: \t\t-" in run("btrfs", "subvolume", "show", slot + "/snapshots/first"), "what a file calls it is no name here"
    snapshots = node.get(f"/api/v1/containers/{c['id']}/snapshots").data["snapshots"]
    assert [s["name"] for s in snapshots] == ["second", "first"]
    assert sorted(os.listdir(slot)) == ["records", "rootfs", "snapshots"] and sorted(os.listdir(slot + "/snapshots")) == ["first", "second"]
    with open(slot + "/rootfs/etc/machine-id", encoding="ascii") as a, open(node.pool + "/slots/1/rootfs/etc/machine-id", encoding="ascii") as b:
        assert a.read() != b.read(), "an identity of its own"
    assert node.op(c["id"], "start").status == 200
    node.wait_booted(c["id"])
    assert node.inside(c["id"], "cat", "/srv/latest", "/srv/inner/inside") == "later\nmore"
    assert node.call("PUT", f"/api/v1/containers/{c['id']}/snapshots/first").status == 200
    wait_for(lambda: node.container(c["id"])["status"] == "running", 60, what="the restore")
    assert node.inside(c["id"], "cat", "/srv/inner/inside") == "nested"
    node.delete(c["id"])


def test_one_state_and_pipes(node, box):
    out = nodectl(node, "export", box["id"], "--format", "stream", "--snapshot", "first")
    assert out.returncode == 0
    r = nodectl(node, "--json", "import", "-", "--start", stdin=out.stdout)
    assert r.returncode == 0, r
    c = json.loads(r.stdout)
    assert c["name"] != box["name"], "that name is taken"
    node.wait_booted(c["id"])
    assert node.inside(c["id"], "sh", "-c", "cat /srv/inner/inside; ls /srv/later /srv/latest", check=False) == "nested"
    # What was imported is exported again, in the other format.
    again = nodectl(node, "export", c["id"])
    assert again.returncode == 0 and upload(node, again.stdout, "?name=str-again").status == 201
    node.delete(c["id"])
    node.delete(next(x["id"] for x in node.list() if x["name"] == "str-again"))
    assert b"format" in nodectl(node, "export", box["id"], "-", "--format", "zip").stderr
    assert not passing(node)


# Hostile ones.


def frame(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<I", len(text)) + text


class File:
    """An archive by hand; the digest of its end is right."""

    def __init__(self, snapshots=(), magic=MAGIC, **container):
        self.all = hashlib.sha256()
        self.data, self.streams = magic, 0
        described = {"name": "str-hostile", "environment": {}, **container}
        self.frame({"header": {"format": 1, "container": described, "snapshots": [{"name": n} for n in snapshots]}})

    def frame(self, value):
        self.data += frame(value)
        if not isinstance(value, bytes):
            self.all.update(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
        return self

    def raw(self, data):
        self.data += data
        return self

    def run(self, stream, which="root", name=None, path="", parent="none", digest=None, pack=False):
        self.streams += 1
        self.frame({"stream": {"set": which, "name": name, "path": path, "readonly": True, "parent": parent}})
        for at in range(0, len(stream), 100000):
            piece = stream[at:at + 100000]
            packed = zstd(piece) if pack else piece
            self.data += struct.pack("<I", len(packed) | (1 << 30 if pack else 0)) + packed
        digest = digest or hashlib.sha256(stream).digest()
        self.data += struct.pack("<I", 0) + digest
        self.all.update(digest)
        return self

    def snapshot(self, name, stream=None, **more):
        return self.run(stream or ROOT, "snapshot", name, **more)

    def end(self, **more):
        return self.frame({"end": {"streams": self.streams, "digest": self.all.hexdigest(), **more}}).data


def root(*commands):
    return BEGIN + command("mkdir", path="etc", ino=258) + make("etc/passwd") + write("etc/passwd", b"root:x:0:0::/:/bin/sh\n") + b"".join(commands) + END


ROOT = root()
DIFFERENCE = HEAD + command("snapshot", path="x", uuid=UUID, ctransid=8, clone_uuid=UUID, clone_ctransid=7) + make("new") + END


def refused(node, data, words):
    before = {c["id"] for c in node.list()}
    slots = sorted(os.listdir(node.pool + "/slots"))
    r = upload(node, data, "?name=str-refused")
    assert r.status in (400, 413) and r.json["code"] == "IMPORT_REFUSED", (r, node.log()[-2000:])
    assert words in r.json["message"], r
    assert {c["id"] for c in node.list()} == before and sorted(os.listdir(node.pool + "/slots")) == slots
    assert not any(os.path.lexists(os.path.join(d, n)) for d in ("/", "/tmp", "/etc") for n in ("escaped", "harm"))
    assert not any(os.path.lexists(os.path.join(node.pool, d, n)) for d in ("", "slots", "images") for n in ("escaped", "harm"))


def test_an_honest_one_by_hand(node):
    honest = File(["a", "b"]).snapshot("a", pack=True).snapshot("b", DIFFERENCE, parent="previous").run(ROOT, parent="none").end()
    r = upload(node, honest)
    assert r.status == 201 and r.data["name"] == "str-hostile", r
    slot = newest_slot(node)
    assert os.path.exists(slot + "/snapshots/b/new") and not os.path.exists(slot + "/snapshots/a/new")
    node.delete(r.data["id"])


def evil(*commands):
    return File().run(root(*commands)).end()


FILES = {
    "nothing behind the magic": (MAGIC, "before the end"),
    "half a magic": (MAGIC[:4], "no archive"),
    "another version": (File(magic=b"\x8enoded2\n").run(ROOT).end(), "newer kind"),
    "no frame": (MAGIC + b"x" * 3, "before the end"),
    "a huge frame": (MAGIC + struct.pack("<I", 1 << 31), "a frame of"),
    "no JSON": (MAGIC + frame(b"{]"), "not JSON"),
    "no object": (MAGIC + frame([1]), "no frame"),
    "no header": (MAGIC + frame({"stream": {}}), "archives of the format"),
    "a header of another format": (MAGIC + frame({"header": {"format": 2}}), "archives of the format"),
    "a snapshot without a name": (MAGIC + frame({"header": {"format": 1, "container": {}, "snapshots": [{}]}}), "no valid name"),
    "a snapshot elsewhere": (File(["../../harm"]).run(ROOT).end(), "no valid name"),
    "too many snapshots": (File([f"s{i}" for i in range(1001)]).run(ROOT).end(), "more than 1000"),
    "no root": (File(["a"]).snapshot("a").end(), "no root file system"),
    "nothing but an end": (File().end(), "no root file system"),
    "a snapshot is missing": (File(["a", "b"]).snapshot("a").run(ROOT).end(), "not all the snapshots"),
    "a snapshot that is not announced": (File(["a"]).snapshot("b").run(ROOT).end(), "not asked for"),
    "a snapshot twice": (File(["a"]).snapshot("a").snapshot("a").run(ROOT).end(), "not asked for"),
    "two roots": (File().run(ROOT).run(ROOT).end(), "behind the root"),
    "a wrong checksum": (File().run(ROOT, digest=b"x" * 32).end(), "checksum"),
    "a wrong digest": (File().run(ROOT).end(digest="0" * 64), "digest"),
    "no digest": (File().run(ROOT).end(digest=None), "digest"),
    "a wrong count": (File().run(ROOT).end(streams=2), "does not fit"),
    "something behind the end": (File().run(ROOT).end() + b"x", "behind"),
    "a second archive behind": (2 * File().run(ROOT).end(), "behind"),
    "a difference to the image": (File().run(DIFFERENCE, parent="image").end(), "not there"),
    "a difference to a base": (File().run(DIFFERENCE, parent="base").end(), "not there"),
    "a difference to nothing": (File().run(DIFFERENCE, parent="previous").end(), "not there"),
    "a parent by path": (File().run(DIFFERENCE, parent="/images").end(), "not there"),
    "a difference that is none": (File(["a"]).snapshot("a").run(ROOT, parent="previous").end(), "difference"),
    "a damaged packed piece": (File().frame({"stream": {"set": "root", "name": None, "path": "", "readonly": True, "parent": "none"}})
                               .raw(struct.pack("<I", 1 << 30 | 5) + b"hello").data, "damaged"),
    "its own error": (File().frame({"error": {"code": "ERR_HOST", "message": "disk on fire"}}).data, "disk on fire"),
    "absolute": (evil(make("/etc/harm")), ""),
    "dotdot": (evil(make("etc/../../harm")), ""),
    "through a symlink": (evil(command("symlink", path="way", path_link="/tmp", ino=9), make("way/escaped")), "way"),
    "a hard link outside": (evil(command("link", path="etc/out", path_link="../../../../etc/shadow")), ""),
    "a duplicate": (evil(make("etc/passwd")), "exists"),
    "a block device": (evil(command("mknod", path="sda", ino=9, mode=stat.S_IFBLK | 0o600, rdev=0x800)), "device"),
    "kernel memory": (evil(command("mknod", path="mem", ino=9, mode=stat.S_IFCHR | 0o600, rdev=0x101)), "device"),
    "a strange owner": (evil(command("chown", path="etc", uid=100000, gid=0)), "owner"),
    "a strange attribute": (evil(command("set_xattr", path="etc", xattr_name="trusted.overlay.opaque", xattr_data=b"y")), "attribute"),
    "a nested one outside": (File().run(ROOT).run(ROOT, path="../../harm").end(), "without a place"),
    "a nested one through a symlink": (File().run(root(command("symlink", path="way", path_link="/tmp", ino=9))).run(ROOT, path="way/escaped").end(),
                                       "without a place"),
    "a place that is not hex digits": (File().run(ROOT).frame({"stream": {"set": "root", "name": None, "path_hex": "6", "readonly": True,
                                                                          "parent": "none"}}).data, "without a place"),
    "a place with a NUL": (File().run(ROOT).frame({"stream": {"set": "root", "name": None, "path_hex": "6100", "readonly": True,
                                                              "parent": "none"}}).data, "without a place"),
    "two places": (File().run(ROOT).frame({"stream": {"set": "root", "name": None, "path": "a", "path_hex": "61", "readonly": True,
                                                      "parent": "none"}}).data, "without a place"),
    "a strange environment": (File(environment={"HOODY_X": "1"}).run(ROOT).end(), "environment"),
    "a strange name": (File(name="../x").run(ROOT).end(), "name"),
    "a strange image": (File(image_fingerprint="../../x").run(ROOT).end(), "fingerprint"),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile(node, name):
    data, words = FILES[name]
    refused(node, data, words)


def boundaries(data):
    """Where frames, lengths of pieces, pieces and checksums end."""
    at, found = len(MAGIC), []
    while at < len(data):
        size = struct.unpack_from("<I", data, at)[0]
        value = json.loads(data[at + 4:at + 4 + size])
        found += [at + 4, at + 4 + size]
        at += 4 + size
        while "stream" in value:
            word = struct.unpack_from("<I", data, at)[0]
            at += 4 + (word & (1 << 30) - 1) + (32 if word == 0 else 0)
            found.append(at)
            if word == 0:
                break
    return found


def test_cut_at_every_frame(node):
    whole = File(["a"]).snapshot("a").run(ROOT, pack=True).run(BEGIN + END, path="etc/inner").end()
    for at in boundaries(whole)[:-1]:
        for cut in (at, at - 1, at + 1):
            refused(node, whole[:cut], "")


def test_what_is_changed_is_noticed(node, archive):
    """A byte of the description, of a run, of a checksum, of the end."""
    where = boundaries(archive)
    colour = archive.index(b"blue")
    for at, words in ((colour, "digest"), (where[4] - 1000, ""), (where[-3] - 5, ""), (len(archive) - 10, "")):
        changed = bytearray(archive)
        changed[at] ^= 1
        refused(node, bytes(changed), words)
    refused(node, archive[:len(archive) // 2], "before the end")


def test_bombs(node):
    """Pieces and clones that would become more than the pool has."""
    f = File().frame({"stream": {"set": "root", "name": None, "path": "", "readonly": True, "parent": "none"}})
    first = BEGIN + make()
    piece = zstd(write(data=bytes(40000)) * 6)
    f.raw(struct.pack("<I", len(first)) + first + (struct.pack("<I", len(piece) | 1 << 30) + piece) * 12000)
    assert len(f.data) < 4 << 20
    r = upload(node, f.data, "?name=str-bomb")
    assert r.status == 502 and ("no room" in r.json["message"] or "full" in r.json["message"]), r
    node.wait_idle()
    node.wait_reclaimed()
    node.assert_consistent()


def test_sender_goes_away(node, archive):
    sender_goes_away(node, IMPORT + "?name=str-gone", archive)


def test_taker_goes_away(node, box):
    taker_goes_away(node, box, "?format=stream&snapshots=true")
    wait_for(lambda: not passing(node), 60, what="the snapshots' removal")


@pytest.mark.parametrize("point", ["op.import.rootfs=kill", "import.unpack=kill", "import.seeded=kill", "op.import.commit=kill"])
def test_crashes(node, archive, point):
    before = {c["id"] for c in node.list()}
    node.restart(point)
    if point.startswith("op."):
        with pytest.raises((OSError, http.client.HTTPException)):
            upload(node, archive, "?name=str-crash")
        node.wait_dead()
        node.start()
    else:
        assert upload(node, archive, "?name=str-crash").status >= 500
        node.restart()
    node.wait_idle()
    for c in node.list():
        if c["id"] not in before:
            assert c["status"] == "failed", c
            assert node.delete(c["id"]).status == 200
    node.wait_idle()
    node.assert_consistent()


@pytest.mark.parametrize("point", ["export.snapshot=kill", "peer.sent=kill"])
def test_export_after_a_crash_leaves_nothing(node, box, point):
    """A job that dies in the middle: what was written is no archive."""
    node.restart(point)
    path = node.dir + "/cut.stream"
    r = nodectl(node, "export", box["id"], path, "--format", "stream")
    assert r.returncode != 0 and not os.path.exists(path) and not os.path.exists(path + ".part"), r
    node.restart()
    node.wait_idle()
    assert not passing(node)


def test_pool_full(node, box, archive):
    before = {c["id"] for c in node.list()}
    big = os.urandom(1 << 20)
    ballast = node.pool + "/ballast"
    node.wait_reclaimed()
    free = node.get("/api/v1/node/storage").data["free_bytes"]
    with open(ballast, "wb") as f:
        for _ in range((free - (150 << 20)) >> 20):
            f.write(big)
        os.fsync(f.fileno())
    try:
        r = upload(node, archive, "?name=str-full")
        assert r.status == 502 and ("no room" in r.json["message"] or "full" in r.json["message"]), r
        assert {c["id"] for c in node.list()} == before
        assert node.container(box["id"])["status"] == "running"
        node.wait_idle()
        node.assert_consistent()
    finally:
        os.unlink(ballast)
        subprocess.run(["sync", "-f", node.pool], check=True)
    wait_for(lambda: node.get("/api/v1/node/storage").data["free_bytes"] > free - (100 << 20), 60, what="room")
    r = upload(node, archive, "?name=str-full")
    assert r.status == 201, r
    node.delete(r.data["id"])
