# SPDX-License-Identifier: Apache-2.0
"""The node's images: every form that can be imported, names, references, removal: tests/run tests/integration/test_images.py"""
import contextlib
import hashlib
import http.client
import json
import os
import socket
import sqlite3
import stat
import subprocess
import urllib.parse

import archives
import pytest
from archives import directory, entry, hardlink, symlink, system, tar, unified
from daemon import PROJECT, Daemon
from world import BUILD, wait_for

IMAGES = "/api/v1/node/images"


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


def upload(node, data, **query):
    return node.call("POST", IMAGES + "/upload?" + urllib.parse.urlencode(query, safe="/,"), data)


def listed(node):
    return {i["fingerprint"]: i for i in node.get(IMAGES).data["images"]}


def tree(node, fingerprint):
    return os.path.join(node.pool, "images", fingerprint)


def nodectl(node, *argv, stdin=None):
    return subprocess.run([BUILD + "/nodectl", "--socket", node.socket, *argv], input=stdin, capture_output=True, check=False)


FULL = system() + [
    directory("home", uid=0), directory("home/user", uid=1000, gid=1000), entry("bin/su", b"s" * 5000, mode=0o4755),
    hardlink("bin/su2", "bin/su"), symlink("lib", "usr/lib"), symlink("etc/abs", "/etc/passwd"),
    entry("f\xfcnf-\u4e2d\u6587-e\u0301", b"names"), archives.device("dev/null"), archives.device("dev/fifo", archives.tarfile.FIFOTYPE),
    entry("usr/x", b"x", pax={"SCHILY.xattr.user.note": "kept", "SCHILY.xattr.trusted.evil": "dropped"}),
]


def check_full(path):
    assert os.stat(path + "/home/user").st_uid == 1000
    su = os.stat(path + "/bin/su")
    assert su.st_mode & 0o7777 == 0o4755 and su.st_nlink == 2 and os.stat(path + "/bin/su2").st_ino == su.st_ino
    assert os.readlink(path + "/lib") == "usr/lib" and os.readlink(path + "/etc/abs") == "/etc/passwd"
    assert not os.path.lexists(path + "/dev/null"), "devices are left out"
    assert stat.S_ISFIFO(os.lstat(path + "/dev/fifo").st_mode)
    with open(path + "/f\xfcnf-\u4e2d\u6587-e\u0301", "rb") as f:
        assert f.read() == b"names"
    assert os.listxattr(path + "/usr/x") == ["user.note"]
    assert os.stat(path).st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("form", archives.COMPRESSIONS)
def test_every_compression(node, form):
    data = archives.COMPRESSIONS[form](tar(FULL))
    digest = hashlib.sha256(data).hexdigest()
    r = upload(node, data, aliases=f"tiny/{form}", fingerprint=digest)
    assert r.status == 201, (r, node.log())
    assert r.data["fingerprint"] == digest and r.data["aliases"] == [f"tiny/{form}"] and r.data["archive_bytes"] == len(data)
    check_full(tree(node, digest))
    # Again is nothing new.
    again = upload(node, data)
    assert again.status == 201 and again.data["created_at"] == r.data["created_at"]


def test_squashfs(node):
    data = archives.squashfs(FULL)
    r = upload(node, data, aliases="tiny/squash")
    assert r.status == 201, (r, node.log())
    check_full(tree(node, hashlib.sha256(data).hexdigest()))


def test_squashfs_with_sockets(node, tmp_path):
    """As of a tar archive, what only a process can be behind is left out; nothing else is."""
    for path, info, data in ((str(tmp_path) + "/" + info.name, info, data) for info, data in system() + [entry("zz/last", b"last"), entry("zz/.first", b"f")]):
        os.makedirs(path if info.isdir() else os.path.dirname(path), exist_ok=True)
        if info.isreg():
            with open(path, "wb") as f:
                f.write(data)
    for name in ("zz/a.sock", "etc/.sock"):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(f"{tmp_path}/{name}")
    os.mkfifo(str(tmp_path) + "/zz/pipe")
    data = archives.squashfs_of(str(tmp_path))
    r = upload(node, data, aliases="tiny/sockets")
    assert r.status == 201, (r, node.log())
    there = tree(node, r.data["fingerprint"])
    assert sorted(os.listdir(there)) == ["etc", "sbin", "zz"] and sorted(os.listdir(there + "/etc")) == ["passwd"]
    assert sorted(os.listdir(there + "/zz")) == [".first", "last", "pipe"]


def test_an_attribute_that_the_pool_cannot_hold(node):
    """btrfs has no other word for it than for a full disk."""
    name = "user.note"
    most = os.sysconf("SC_PAGESIZE") - 101 - 25 - 30 - len(name)  # the pool has tree nodes of 4 KiB

    def image(size, kind):
        more = {"pax": {"SCHILY.xattr." + name: "A" * size}}
        return system() + [entry("srv/deep/file", b"1", **more) if kind == "file" else directory("srv/deep", **more)]
    for kind, path in (("file", "srv/deep/file"), ("directory", "srv/deep")):
        for make in (tar, archives.squashfs):
            r = upload(node, make(image(most, kind)))
            assert r.status == 201, (r, node.log())
            assert len(os.getxattr(tree(node, r.data["fingerprint"]) + "/" + path, name)) == most
            for size in (most + 1, 20000):
                r = upload(node, make(image(size, kind)))
                assert r.status in (400, 413) and f"the attribute '{name}' of '{path}' has {size} bytes, the pool takes at most {most}" in r.json["message"], r
                assert "full" not in r.json["message"]


def test_unified_and_split(node):
    one = unified([directory("templates"), entry("templates/hosts.tpl", b"{{ x }}")])
    r = upload(node, one, aliases="tiny/unified")
    assert r.status == 201, (r, node.log())
    assert (r.data["os"], r.data["release"], r.data["description"]) == ("Tiny", "1", "a tiny one")
    assert sorted(os.listdir(tree(node, r.data["fingerprint"]))) == ["etc", "sbin"], "templates are not used"
    meta = archives.COMPRESSIONS["xz"](tar([entry("metadata.yaml", archives.METADATA.encode()), directory("templates")]))
    for root in (archives.squashfs(system() + [entry("split", b"s")]), archives.COMPRESSIONS["xz"](tar(system() + [entry("split", b"x")]))):
        r = upload(node, meta + root, split_bytes=len(meta), aliases="tiny/split")
        assert r.status == 201, (r, node.log())
        assert r.data["fingerprint"] == hashlib.sha256(meta + root).hexdigest() and r.data["os"] == "Tiny"
        assert os.path.exists(tree(node, r.data["fingerprint"]) + "/split")


def test_names_move_and_old_images_go(node):
    first, second = tar(system() + [entry("v1", b"1")]), tar(system() + [entry("v2", b"2")])
    a = upload(node, first, aliases="Moving:1,other-1").data
    assert a["aliases"] == ["moving/1", "other/1"]
    b = upload(node, second, aliases="moving/1").data
    assert listed(node)[a["fingerprint"]]["aliases"] == ["other/1"] and b["aliases"] == ["moving/1"]
    r = node.call("PATCH", f"{IMAGES}/{a['fingerprint']}", {"aliases": [], "description": "without a name"})
    assert r.status == 200 and r.data["aliases"] == [] and r.data["description"] == "without a name"
    assert node.call("PATCH", f"{IMAGES}/{a['fingerprint']}", {"aliases": ["../x"]}).json["field"] == "aliases"
    removed = node.post(IMAGES + "/prune").data["removed"]
    assert a["fingerprint"] in removed and b["fingerprint"] not in removed
    wait_for(lambda: not os.path.exists(tree(node, a["fingerprint"])), 60, what="the removal")
    assert b["fingerprint"] in listed(node)
    node.restart()
    assert listed(node)[b["fingerprint"]]["aliases"] == ["moving/1"]
    assert node.call("DELETE", f"{IMAGES}/{b['fingerprint']}").status == 200
    assert node.call("DELETE", f"{IMAGES}/{b['fingerprint']}").status == 404
    assert not os.path.exists(tree(node, b["fingerprint"]))
    types = [e["event_type"] for e in node.get("/api/v1/events?resource_id=" + b["fingerprint"]).data["events"]]
    assert types == ["image.deleted", "image.created"]


def test_what_cannot_be_recorded_has_not_happened(node):
    """Names and descriptions are as before, and nobody takes the image for one that has lost its names."""
    a, b = (upload(node, tar(system() + [entry(name, b"1")]), aliases=f"{name}/1", description=name).data for name in ("held", "other"))
    db = sqlite3.connect(node.state + "/noded.db", isolation_level=None)
    for method, body in (("PATCH", {"aliases": ["other/1", "new/1"], "description": "changed"}), ("DELETE", None)):
        db.execute("BEGIN IMMEDIATE")
        try:
            assert node.call(method, f"{IMAGES}/{a['fingerprint']}", body).status == 500
        finally:
            db.execute("ROLLBACK")
        now = listed(node)
        assert [(now[i["fingerprint"]]["aliases"], now[i["fingerprint"]]["description"]) for i in (a, b)] == [(["held/1"], "held"), (["other/1"], "other")]
        assert a["fingerprint"] not in node.post(IMAGES + "/prune").data["removed"]
    db.close()
    for i in (a, b):
        assert node.call("DELETE", f"{IMAGES}/{i['fingerprint']}").status == 200


def test_references(node):
    image = next(i for i in listed(node).values() if "debian/13" in i["aliases"])
    assert image["source"] == "directory" and image["containers"] == 0
    box = node.create("image-ref", hoody_kit=False)
    copy = node.post(f"/api/v1/containers/{box['id']}/copy?wait=true", {"target_project_id": PROJECT, "name": "image-ref-2"}).data
    path = f"{IMAGES}/{image['fingerprint']}"
    assert node.get(path).data["containers"] == 2
    r = node.call("DELETE", path)
    assert (r.status, r.json["code"]) == (409, "RESOURCE_IN_USE")
    assert node.post(IMAGES + "/prune").data["removed"] == []
    node.delete(copy["id"])
    # The name goes to another image: the old one stays for its container, and its containers go on without it.
    assert node.call("PATCH", path, {"aliases": []}).status == 200
    assert node.post(IMAGES + "/prune").data["removed"] == []
    assert node.post(f"/api/v1/projects/{PROJECT}/containers", {"server_id": "self", "name": "no-image"}).json["code"] == "RESOURCE_NOT_FOUND"
    assert node.call("PATCH", path, {"aliases": ["debian"]}).data["aliases"] == ["debian/13"]
    assert node.call("DELETE", path + "?force=true").status == 200
    assert node.op(box["id"], "restart").status == 200
    node.wait_booted(box["id"])
    node.delete(box["id"])
    # The directory has it: the next start brings it back, once.
    node.restart()
    assert node.get(path).data["aliases"] == ["debian/13"]
    before = node.get(path).data["created_at"]
    node.restart()
    assert node.get(path).data["created_at"] == before


def test_publish(node):
    box = node.create("image-pub", hoody_kit=False, environment_vars={"SECRET": "hidden"})
    node.wait_booted(box["id"])
    node.inside(box["id"], "sh", "-c", "echo golden >/srv/kept; sync")
    path = f"/api/v1/containers/{box['id']}/publish"
    r = node.post(path, {"aliases": ["golden/1"]})
    assert (r.status, r.json["code"]) == (400, "OPERATION_STATE_CONFLICT")
    assert node.post(path, {"snapshot": "none"}).status == 404
    assert node.post(f"/api/v1/containers/{box['id']}/snapshots", {"alias": "gold"}).status == 200
    r = node.post(path, {"snapshot": "gold", "aliases": ["golden/1"], "description": "made by hand"})
    assert r.status == 201, (r, node.log())
    assert (r.data["source"], r.data["origin"], r.data["description"]) == ("publish", box["id"], "made by hand")
    root = tree(node, r.data["fingerprint"])
    found = subprocess.run(["grep", "-rl", "-e", "hidden", "-e", box["id"], root + "/etc"], capture_output=True, text=True, check=False).stdout
    assert found == "" and os.path.getsize(root + "/etc/machine-id") == 0
    assert not [n for n in os.listdir(root + "/etc/ssh") if n.startswith("ssh_host_")]
    assert node.op(box["id"], "stop").status == 200
    ctl = nodectl(node, "--json", "image", "publish", "image-pub", "--alias", "golden/2")
    assert ctl.returncode == 0, ctl
    made = node.create("image-pub-2", container_image="golden-2", hoody_kit=False)
    node.wait_booted(made["id"])
    assert node.inside(made["id"], "cat", "/srv/kept") == "golden"
    assert node.inside(made["id"], "sh", "-c", "env; cat /etc/environment").count("hidden") == 0
    for c in (box, made):
        node.delete(c["id"])


def test_a_crash_leaves_nothing(node):
    data = tar(system() + [entry("crash", b"c" * 100000)])
    digest = hashlib.sha256(data).hexdigest()
    for point in ("image.unpack=kill", "install.readonly=kill", "install.rename=kill"):
        node.restart(point)
        r = upload(node, data, aliases="crash/1")
        assert r.status == 500, r
        assert digest not in listed(node)
    node.restart()
    assert [n for n in os.listdir(node.pool + "/images") if n.startswith(".")] == []
    # In the pool, not yet recorded: nothing is deleted for lack of a row, the start makes one without a name.
    node.job("image.import", args={"file": _file(node, data)})
    assert os.path.exists(tree(node, digest))
    node.restart()
    assert os.path.exists(tree(node, digest))
    found = node.get(f"/api/v1/node/images/{digest}").data
    assert found["source"] == "recovered" and found["aliases"] == []
    assert upload(node, data, aliases="crash/1").status in (200, 201)
    assert node.get(f"/api/v1/node/images/{digest}").data["aliases"] == ["crash/1"]
    assert [n for n in os.listdir(node.pool + "/images") if n.startswith(".")] == []


@pytest.mark.parametrize("point", ["image.delete.marked", "image.delete.removed"])
def test_a_removal_that_is_interrupted_goes_on(node, point):
    data = tar(system() + [entry("removed", point.encode())])
    digest = hashlib.sha256(data).hexdigest()
    assert upload(node, data, aliases="removed/1").status == 201
    node.restart(point + "=kill")
    with contextlib.suppress(OSError, http.client.HTTPException):
        node.call("DELETE", f"/api/v1/node/images/{digest}")
    node.wait_dead()
    node.start()
    wait_for(lambda: not os.path.exists(tree(node, digest)) and digest not in listed(node), 60, 0.1, "the end of the removal")


def test_an_image_that_the_pool_has_lost_keeps_its_row(node):
    data = tar(system() + [entry("lost", b"l" * 1000)])
    digest = hashlib.sha256(data).hexdigest()
    assert upload(node, data, aliases="lost/1").status == 201
    node.stop()
    os.rename(tree(node, digest), node.pool + "/images/put-away")
    node.start()
    assert node.get(f"/api/v1/node/images/{digest}").data["missing"] is True
    assert "lost/1" not in node.get("/api/v1/node").data["images"]
    node.stop()
    os.rename(node.pool + "/images/put-away", tree(node, digest))
    node.start()
    assert "missing" not in node.get(f"/api/v1/node/images/{digest}").data
    assert "lost/1" in node.get("/api/v1/node").data["images"]


def _file(node, data):
    path = node.dir + "/image.tar"
    with open(path, "wb") as f:
        f.write(data)
    return path


def test_a_sender_that_goes_away(node):
    """A plain tar that is cut between two entries is a whole one to tar: the node must know better."""
    data = tar(system())[:-10240] + tar([entry("rest", b"r" * 5000)])
    c = socket.socket(socket.AF_UNIX)
    c.connect(node.socket)
    c.sendall(f"POST {IMAGES}/upload?aliases=cut/1 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data) + 5000}\r\n\r\n".encode() + data)
    wait_for(lambda: node.get("/healthz").data is not None, 60, what="the node")
    c.close()
    node.wait_idle()
    assert "cut/1" not in node.get("/api/v1/node").data["images"]
    assert hashlib.sha256(data).hexdigest() not in listed(node)


def test_nodectl(node, tmp_path):
    data = archives.zstd(tar(system() + [entry("ctl", b"1")]))
    r = nodectl(node, "--json", "image", "import", "-", "--alias", "ctl/1", "--alias", "ctl/2", "--description", "by hand & foot", stdin=data)
    assert r.returncode == 0, r
    image = json.loads(r.stdout)
    assert image["aliases"] == ["ctl/1", "ctl/2"] and image["description"] == "by hand & foot"
    assert b"ctl/1 ctl/2" in nodectl(node, "image", "list").stdout
    assert nodectl(node, "image", "alias", image["fingerprint"][:12], "ctl/3").returncode == 0
    wrong = nodectl(node, "image", "import", "-", "--fingerprint", "0" * 64, stdin=data)
    assert wrong.returncode != 0 and b"its digest is" in wrong.stderr
    meta, root = tmp_path / "meta.tar", tmp_path / "root.squashfs"
    meta.write_bytes(tar([entry("metadata.yaml", archives.METADATA.encode())]))
    root.write_bytes(archives.squashfs(system()))
    assert nodectl(node, "image", "import", str(meta), str(root), "--alias", "ctl/4").returncode == 0
    assert nodectl(node, "image", "remove", "ctl/3", "ctl/4").returncode == 0
    assert nodectl(node, "image", "remove", "ctl/3").returncode != 0
    assert b"ctl/" not in nodectl(node, "image", "list").stdout
