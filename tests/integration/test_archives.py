# SPDX-License-Identifier: Apache-2.0
"""Containers as files: out, in, across crashes and a full pool, and hostile ones: tests/run tests/integration/test_archives.py"""
import copy
import hashlib
import http.client
import io
import json
import os
import socket
import sqlite3
import stat
import struct
import subprocess
import tarfile

import archives
import pytest
from archives import directory, entry, symlink, tar
from daemon import PROJECT, Account, Daemon
from world import BUILD, run, wait_for

IMPORT = f"/api/v1/projects/{PROJECT}/containers/import"


@pytest.fixture(scope="module")
def node():
    d = Daemon(loop_bytes=3 << 30, storage__reserve="64M").start()
    yield d
    d.close()


# user::rw-, user:1000:rwx, group::r--, mask::rwx, other::r--
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", t, p, i) for t, p, i in (
    (1, 6, 0xffffffff), (2, 7, 1000), (4, 4, 0xffffffff), (16, 7, 0xffffffff), (32, 4, 0xffffffff)))


@pytest.fixture(scope="module")
def box(node):
    c = node.create("arch-box", hoody_kit=False, environment_vars={"COLOUR": "blue"}, comment="to be moved")
    node.wait_booted(c["id"])
    node.inside(c["id"], "sh", "-c", """set -e
        mkdir -p /srv/deep/er; echo data >/srv/deep/er/file; ln /srv/deep/er/file /srv/hard; ln -s /nowhere /srv/soft
        echo 1 >"/srv/$(printf 'e\\314\\201 \\377')"; chmod 4711 /srv/hard; chown 1000:1000 /srv/deep; mkfifo /srv/fifo
        head -c 3M /dev/urandom >/srv/random; truncate -s 5M /srv/sparse; touch -d @1000000000 /srv/deep""")
    srv = node.pool + "/slots/1/rootfs/srv"
    os.setxattr(srv + "/random", "user.note", b"kept")
    os.setxattr(srv + "/random", "system.posix_acl_access", ACL)
    os.setxattr(srv + "/deep", "user.overlay.opaque", b"y")
    os.setxattr(srv + "/deep", "system.posix_acl_default", ACL)
    os.mknod(srv + "/whiteout", 0o000 | stat.S_IFCHR, 0)
    assert node.post(f"/api/v1/containers/{c['id']}/snapshots", {"alias": "first"}).status == 200
    node.inside(c["id"], "sh", "-c", "echo later >/srv/later; sync")
    return c


def nodectl(node, *argv, stdin=None):
    return subprocess.run([BUILD + "/nodectl", "--socket", node.socket, *argv], input=stdin, capture_output=True, check=False)


@pytest.fixture(scope="module")
def archive(node, box):
    path = node.dir + "/box.tar.zst"
    r = nodectl(node, "export", box["name"], path, "--snapshots")
    assert r.returncode == 0, (r, node.log()[-1500:])
    assert node.container(box["id"])["status"] == "running"
    assert not [n for n in os.listdir(node.pool + "/slots/1") if n.startswith(".")]
    with open(path, "rb") as f:
        return f.read()


def upload(node, data, query=""):
    return node.call("POST", IMPORT + query, data)


def root_of(node, cid):
    slot = next(s for s in os.listdir(node.pool + "/slots") if s.isdigit() and os.path.exists(f"{node.pool}/slots/{s}/rootfs/etc/machine-id")
                and node.container(cid)["node"]["slot"] == int(s)) if "slot" in node.container(cid).get("node", {}) else None
    return f"{node.pool}/slots/{slot}/rootfs" if slot else None


def newest_slot(node):
    slots = [s for s in os.listdir(node.pool + "/slots") if s.isdigit()]
    return f"{node.pool}/slots/" + max(slots, key=lambda s: os.stat(f"{node.pool}/slots/{s}").st_ctime_ns)


def listing(path):
    out = {}
    for base, dirs, files in os.walk(os.fsencode(path)):
        for name in dirs + files:
            full = os.path.join(base, name)
            s = os.lstat(full)
            content = os.readlink(full) if os.path.islink(full) else hashlib.sha256(open(full, "rb").read()).hexdigest() if os.path.isfile(full) else None
            out[full[len(os.fsencode(path)):]] = (s.st_mode, s.st_uid, s.st_gid, int(s.st_mtime), s.st_nlink if os.path.isfile(full) else 0, content)
    return out


def test_a_container_moves(node, box, archive):
    r = upload(node, archive, "?name=arch-moved")
    assert r.status == 201, (r, node.log())
    c = r.data
    assert (c["status"], c["name"], c["comment"], c["environment_vars"], c["container_image"]) == (
        "stopped", "arch-moved", "to be moved", {"COLOUR": "blue"}, "debian/13")
    with sqlite3.connect(f"file:{node.state}/noded.db?mode=ro", uri=True) as db:
        record = json.loads(db.execute("SELECT body FROM containers WHERE id = ?", (c["id"],)).fetchone()[0])
    assert record["autostart"] and not record["wanted_running"], "a boot of the host does not start it either"
    assert (record["hostname"], record["base"]) == ("arch-moved", -1)
    slot = newest_slot(node)
    was, now = listing(node.pool + "/slots/1/rootfs/srv"), listing(slot + "/rootfs/srv")
    assert was == now and b"/fifo" in now
    for name, key in (("random", "user.note"), ("random", "system.posix_acl_access"), ("deep", "user.overlay.opaque"),
                      ("deep", "system.posix_acl_default")):
        assert os.getxattr(f"{slot}/rootfs/srv/{name}", key) == os.getxattr(f"{node.pool}/slots/1/rootfs/srv/{name}", key)
    run("btrfs", "filesystem", "sync", node.pool)
    assert Account(node, os.path.basename(slot)).usage > 100 << 20, "what came counts for it"
    assert os.stat(slot + "/rootfs/srv/whiteout").st_rdev == 0 and os.listxattr(slot + "/rootfs/srv/deep/er") == [], "made before it could inherit"
    snapshots = node.get(f"/api/v1/containers/{c['id']}/snapshots").data["snapshots"]
    assert [(s["name"], s["alias"]) for s in snapshots] == [("first", "first")]
    assert not os.path.exists(slot + "/snapshots/first/srv/later") and os.path.exists(slot + "/snapshots/first/srv/random")
    assert not [n for n in os.listdir(slot) + os.listdir(slot + "/snapshots") if n.startswith(".")]
    with open(slot + "/rootfs/etc/machine-id", encoding="ascii") as a, open(node.pool + "/slots/1/rootfs/etc/machine-id", encoding="ascii") as b:
        assert a.read() != b.read(), "an identity of its own"
    assert node.op(c["id"], "start").status == 200
    node.wait_booted(c["id"])
    assert node.inside(c["id"], "cat", "/srv/later") == "later"
    assert 'COLOUR="blue"' in node.inside(c["id"], "cat", "/etc/environment")
    assert node.call("PUT", f"/api/v1/containers/{c['id']}/snapshots/first").status == 200
    wait_for(lambda: node.container(c["id"])["status"] == "running", 60, what="the restore")
    node.delete(c["id"])


def test_one_state_and_pipes(node, box, archive, tmp_path):
    out = nodectl(node, "export", box["id"], "--snapshot", "first")
    assert out.returncode == 0
    r = nodectl(node, "--json", "import", "-", "--start", stdin=out.stdout)
    assert r.returncode == 0, r
    c = json.loads(r.stdout)
    assert c["name"] != box["name"], "that name is taken"
    node.wait_booted(c["id"])
    assert node.inside(c["id"], "hostname") == node.inside(c["id"], "cat", "/etc/hostname") == box["name"]
    assert node.inside(c["id"], "sh", "-c", "ls /srv/later", check=False) == ""
    node.delete(c["id"])
    assert b"no snapshot" in nodectl(node, "export", box["id"], str(tmp_path / "x"), "--snapshot", "none").stderr
    assert list(tmp_path.iterdir()) == []
    # The world's tar reads it.
    plain = subprocess.run(["zstd", "-dqc"], input=archive, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as t:
        names = t.getnames()
    assert names[0] == "noded.json" and names[-1] == "digests.json" and "rootfs/srv/random" in names and "snapshots/first/etc/passwd" in names


def test_what_has_no_place_in_a_tar(node, box):
    """It is known before the first byte: who asked for it is told what it is and what to do."""
    for make, undo in (("mkdir -p /srv/far/" + "d/" * 63, "rm -r /srv/far"),
                       ("cd /srv; for i in 1 2 3 4 5; do n=$(printf '%0250d' $i); mkdir $n; cd $n; done", "rm -r /srv/0*"),
                       ("ln -s " + "x" * 2000 + " /srv/longlink", "rm /srv/longlink")):
        node.inside(box["id"], "sh", "-c", make)
        r = nodectl(node, "export", box["id"], node.dir + "/none")
        assert r.returncode != 0 and os.listdir(node.dir).count("none") == os.listdir(node.dir).count("none.part") == 0, r
        assert b"'rootfs/srv/" in r.stderr and b"has no place in an archive" in r.stderr and b"'stream' can" in r.stderr, r
        r = node.get(f"/api/v1/containers/{box['id']}/export")
        assert (r.status, r.json["code"]) == (502, "CONTAINER_HOST_COMMAND_FAILED") and "has no place" in r.json["message"], r
        r = nodectl(node, "export", box["id"], node.dir + "/some", "--format", "stream")
        assert r.returncode == 0, r
        os.unlink(node.dir + "/some")
        node.inside(box["id"], "sh", "-c", undo)


def refused(node, data, words):
    before = {c["id"] for c in node.list()}
    slots = sorted(os.listdir(node.pool + "/slots"))
    r = upload(node, data, "?name=arch-refused")
    assert r.status in (400, 413) and r.json["code"] == "IMPORT_REFUSED", (r, node.log())
    assert words in r.json["message"], r
    assert {c["id"] for c in node.list()} == before and sorted(os.listdir(node.pool + "/slots")) == slots
    assert not any(os.path.lexists(os.path.join(d, n)) for d in ("/", "/tmp", "/etc") for n in ("escaped", "harm"))
    assert not any(os.path.lexists(os.path.join(node.pool, d, n)) for d in ("", "slots") for n in ("escaped", "harm"))


def head(snapshots=(), **more):
    c = {"name": "arch-hostile", "environment": {}, **more}
    return json.dumps({"format": 1, "container": c, "snapshots": [{"name": n} for n in snapshots]}).encode()


def crafted(entries, header=None, digests=None):
    return archives.zstd(tar([entry("noded.json", header or head()), directory("rootfs"), *archives.system("rootfs/"), *entries,
                              entry("digests.json", json.dumps(digests or {"header": "", "trees": {}}).encode())]))


HOSTILE = [h for h in archives.hostile("rootfs/") if h[0] not in ("absolute", "dotdot-first")]


def rootfs_digest():
    """Of crafted([]): provisioning/tree_digest.h in other words."""
    d = hashlib.sha256()
    for info, data in [directory("rootfs"), *archives.system("rootfs/")]:
        kind = "d" if info.isdir() else "f"
        d.update(f"{info.name}\0{kind} {info.mode:o} 0:0 0 {info.size}\0\0".encode() + data)
    return d.hexdigest()


ROOTFS_DIGEST = rootfs_digest()


def test_an_honest_one_by_hand(node):
    header = head()
    r = upload(node, crafted([], header, {"header": hashlib.sha256(header).hexdigest(), "trees": {"rootfs": ROOTFS_DIGEST}}))
    assert r.status == 201 and r.data["name"] == "arch-hostile", r
    node.delete(r.data["id"])


@pytest.mark.parametrize("name, entries, words", HOSTILE, ids=[h[0] for h in HOSTILE])
def test_hostile(node, name, entries, words):
    refused(node, crafted(entries), words)


def test_hostile_forms(node, archive):
    for data, words in [
        (b"", ""), (b"nothing" * 1000, ""), (archive[:len(archive) // 2], ""), (archive[:-100], ""),
        (archives.zstd(tar(archives.system())), "begins with noded.json"),
        (archives.zstd(tar([symlink("noded.json", "/etc/shadow")])), "no regular file"),
        (archives.zstd(tar([entry("noded.json", b"{")])), "noded.json"), (archives.zstd(tar([entry("noded.json", b"[]")])), "no JSON object"),
        (archives.zstd(tar([entry("noded.json", b'{"format": 2}')])), "format"),
        (archives.zstd(tar([entry("noded.json", b'{"x": "' + b"A" * (2 << 20) + b'"}')])), "bytes"),
        (archives.zstd(tar([entry("noded.json", head(["../x"]))])), "no valid name"),
        (archives.zstd(tar([entry("noded.json", head()), directory("rootfs"), *archives.system("rootfs/")])), "cut off"),
        (crafted([]), "digest of noded.json is wrong"),
        (crafted([directory("snapshots/x")]), "not announced"), (crafted([directory("other")]), "at its top"),
        (crafted([entry("escaped", b"1")]), "at its top"), (crafted([directory("snapshots")]), "at its top"),
        (crafted([directory("snapshots/a"), entry("snapshots/a/x", b"1"), entry("rootfs/late", b"1")], head(["a"])), "duplicate"),
        (crafted([symlink("snapshots/a", "/tmp"), entry("snapshots/a/escaped", b"1")], head(["a"])), "begins with its directory"),
        (crafted([directory("rootfs")]), "duplicate"),
        (crafted([entry("digests.json", b"{}"), entry("rootfs/harm", b"1")]), "behind"),
        (archives.zstd(tar([entry("noded.json", head()), entry("rootfs/etc/x", b"1")])), "begins with its directory"),
        (crafted([archives.hardlink("rootfs/got", "noded.json")]), "hard link"),
        (crafted([entry("rootfs/zeros", bytes(1 << 20))]), "digest of noded.json is wrong"),
    ]:
        refused(node, data, words)


def test_what_is_changed_is_noticed(node, archive):
    """One byte of a file, a mode, an owner: the digest of the tree tells."""
    plain = subprocess.run(["zstd", "-dqc"], input=archive, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as t:
        all_members = t.getmembers()
        ends = [m.offset for m in all_members[1:]] + [None]
        members = [(m, t.extractfile(m).read() if m.isreg() else b"", plain[m.offset:end] if m.sparse else None)
                   for m, end in zip(all_members, ends)]

    def changed(change):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape") as t:
            for m, data, as_it_is in members:
                if as_it_is: # tarfile cannot write files with holes
                    t.fileobj.write(as_it_is)
                    t.offset += len(as_it_is)
                    continue
                m, data = change(copy.copy(m), data)
                t.addfile(m, io.BytesIO(data) if m.isreg() else None)
        return archives.zstd(out.getvalue())

    def byte(m, data):
        return (m, b"dbta\n") if m.name == "rootfs/srv/hard" or data == b"data\n" else (m, data)

    def mode(m, data):
        if m.name == "rootfs/etc/shadow":
            m.mode = 0o644
        return m, data

    def environment(m, data):
        if m.name == "noded.json":
            data = data.replace(b"blue", b"pink")
        return m, data
    r = upload(node, changed(lambda m, data: (m, data)), "?name=arch-same")
    assert r.status == 201, "in other words it is the same"
    node.delete(r.data["id"])
    for change, words in ((byte, "digest of"), (mode, "digest of rootfs is wrong"), (environment, "digest of noded.json is wrong")):
        refused(node, changed(change), words)


@pytest.mark.parametrize("container, words", [
    ({"environment": {"HOODY_X": "1"}}, "environment"), ({"environment": {"A B": "1"}}, "environment"), ({"color": "zebra"}, "color"),
    ({"name": "../x"}, "name"), ({"comment": "a\u0007"}, "comment"), ({"image_fingerprint": "../../x"}, "fingerprint")])
def test_hostile_descriptions(node, container, words):
    header = head(**container)
    digest = hashlib.sha256(header).hexdigest()
    refused(node, crafted([], header, {"header": digest, "trees": {"rootfs": ROOTFS_DIGEST}}), words)


def sender_goes_away(node, path, archive):
    """In the middle of an import: nothing stays of it."""
    before = {c["id"] for c in node.list()}
    c = socket.socket(socket.AF_UNIX)
    c.connect(node.socket)
    c.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(archive)}\r\n\r\n".encode() + archive[:len(archive) // 3])
    wait_for(lambda: {c["id"] for c in node.list()} != before, 60, what="the beginning")
    c.close()
    wait_for(lambda: {c["id"] for c in node.list()} == before, 60, what="the removal")
    node.wait_idle()
    node.assert_consistent()


def taker_goes_away(node, box, query):
    """In the middle of an export, during which the container cannot be deleted."""
    c = socket.socket(socket.AF_UNIX)
    c.connect(node.socket)
    c.sendall(f"GET /api/v1/containers/{box['id']}/export{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert c.recv(10000).startswith(b"HTTP/1.1 200")
    busy = node.delete(box["id"])
    assert (busy.status, busy.json["code"]) == (409, "RESOURCE_IN_USE")
    busy = node.call("PUT", f"/api/v1/containers/{box['id']}/snapshots/first")
    assert (busy.status, busy.json["code"]) == (409, "RESOURCE_IN_USE")
    c.close()
    node.wait_idle()


def test_sender_goes_away(node, archive):
    sender_goes_away(node, IMPORT + "?name=arch-gone", archive)


def test_taker_goes_away(node, box):
    taker_goes_away(node, box, "")
    wait_for(lambda: not [n for n in os.listdir(node.pool + "/slots/1") if n.startswith(".")], 60, what="the snapshot's removal")


@pytest.mark.parametrize("point", ["op.import.rootfs=kill", "import.unpack=kill", "import.seeded=kill", "op.import.commit=kill", "op.import.intent=kill"])
def test_crashes(node, box, archive, point):
    before = {c["id"] for c in node.list()}
    node.restart(point)
    if point.startswith("op."):
        with pytest.raises((OSError, http.client.HTTPException)):
            upload(node, archive, "?name=arch-crash")
        node.wait_dead()
        node.start()
    else:
        assert upload(node, archive, "?name=arch-crash").status >= 500
        node.restart()
    node.wait_idle()
    for c in node.list():
        if c["id"] not in before:
            assert c["status"] == "failed", c
            assert node.delete(c["id"]).status == 200
    node.wait_idle()
    node.assert_consistent()


def test_export_after_a_crash_leaves_nothing(node, box):
    node.restart("export.snapshot=kill")
    r = node.call("GET", f"/api/v1/containers/{box['id']}/export")
    assert r.status == 500
    node.restart()
    node.wait_idle()
    assert not [n for n in os.listdir(node.pool + "/slots/1") if n.startswith(".")]


def test_pool_full(node, box, archive):
    """An archive that the pool has no room for: refused with the reason, the rest goes on, and works with room."""
    before = {c["id"] for c in node.list()}
    big = os.urandom(1 << 20)
    filler = archives.zstd(tar(archives.system() + [entry(f"fill{i}", os.urandom(1 << 20)) for i in range(140)]))
    ballast = node.pool + "/ballast"
    node.wait_reclaimed()
    free = node.get("/api/v1/node/storage").data["free_bytes"]
    with open(ballast, "wb") as f:
        for _ in range((free - (150 << 20)) >> 20):
            f.write(big)
        os.fsync(f.fileno())
    try:
        r = upload(node, archive, "?name=arch-full")
        assert r.status == 502 and "no room" in r.json["message"], r
        images = sorted(os.listdir(node.pool + "/images"))
        r = node.call("POST", "/api/v1/node/images/upload?aliases=full/1", filler)
        assert r.status == 502 and ("full" in r.json["message"] or "No space" in r.json["message"]), r
        assert sorted(os.listdir(node.pool + "/images")) == images
        assert {c["id"] for c in node.list()} == before
        assert node.container(box["id"])["status"] == "running"
        node.wait_idle()
        node.assert_consistent()
    finally:
        os.unlink(ballast)
        subprocess.run(["sync", "-f", node.pool], check=True)
    wait_for(lambda: node.get("/api/v1/node/storage").data["free_bytes"] > free - (100 << 20), 60, what="room")
    r = upload(node, archive, "?name=arch-full")
    assert r.status == 201, r
    node.delete(r.data["id"])
