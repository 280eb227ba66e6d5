# SPDX-License-Identifier: Apache-2.0
"""Archives made to do harm: each is refused with a reason that names it, and nothing is written anywhere else."""
import hashlib
import os
import urllib.parse

import archives
import pytest
from archives import entry, symlink, system, tar, unified
from daemon import Daemon

IMAGES = "/api/v1/node/images"


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


def upload(node, data, **query):
    return node.call("POST", IMAGES + "/upload?" + urllib.parse.urlencode(query, safe="/,"), data)


def outside():
    """What an archive would like to change."""
    paths = ["/etc", "/root", "/etc/shadow", "/etc/passwd", "/"]
    for directory in ("/tmp", "/", "/etc"):
        assert not any(os.path.lexists(os.path.join(directory, name)) for name in ("escaped", "harm", "etc/harm"))
    return [(p, s.st_mtime_ns, s.st_ino, s.st_nlink, s.st_mode) for p in paths for s in [os.stat(p)]]


def refused(node, data, words, **query):
    before, images = outside(), sorted(os.listdir(node.pool + "/images"))
    r = upload(node, data, **query)
    assert r.status in (400, 413), (r, node.log())
    assert words in r.json["message"], r
    assert outside() == before and sorted(os.listdir(node.pool + "/images")) == images


@pytest.mark.parametrize("name, entries, words", archives.hostile(), ids=[h[0] for h in archives.hostile()])
def test_plain(node, name, entries, words):
    refused(node, tar(system() + entries), words, aliases="hostile/1")


@pytest.mark.parametrize("name, entries, words", archives.hostile("rootfs/"), ids=[h[0] for h in archives.hostile()])
def test_in_lxd_form(node, name, entries, words):
    refused(node, unified(entries), words if name != "absolute" and name != "dotdot-first" else "")


METADATA = {
    "huge": ("x: " + "A" * 70000 + "\n", "65536"), "no-yaml": ("{[", "metadata.yaml"), "list": ("- 1\n", "no object"),
    "alias": ("a: &x 1\nb: *x\n", "alias"), "deep": ("a: " + "[" * 50 + "]" * 50 + "\n", "too deep"),
    "bomb": ("a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n", "alias"),
    "many": ("a:\n" + "  - 1\n" * 9000, "too many"), "architecture": ("architecture: s390x\n", "processor"),
    "control": ('properties:\n  os: "a\\nb"\n', "short text"), "nul": ('properties:\n  os: "a\\0b"\n', "short text"),
    "long": ("properties:\n  description: " + "A" * 600 + "\n", "short text"), "empty": ("", "no object"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata(node, name):
    text, words = METADATA[name]
    refused(node, unified(metadata=text), words)


def test_tops_in_lxd_form(node):
    refused(node, unified([symlink("rootfs", "/")]), "no directory")
    refused(node, unified([entry("backup.yaml", b"x")]), "nothing else")
    refused(node, unified([entry("metadata.yaml", b"x: y\n")]), "duplicate")
    refused(node, tar([symlink("metadata.yaml", "/etc/shadow"), *system("rootfs/")]), "no regular file")
    refused(node, tar([archives.directory("rootfs"), *system("rootfs/")]), "no metadata.yaml")
    meta = tar([entry("metadata.yaml", archives.METADATA.encode()), *system("rootfs/")])
    refused(node, meta + tar(system()), "nothing else", split_bytes=len(meta))
    refused(node, tar(system()), "fewer bytes", split_bytes=10**6)


def test_bombs(node):
    bomb = archives.zstd(tar(system() + [entry("zeros", bytes(600 << 20))]))
    assert len(bomb) < 1 << 20
    refused(node, bomb, "bytes when unpacked")
    refused(node, archives.zstd(unified([entry("templates/zeros", bytes(600 << 20))])), "bytes when unpacked")


def test_what_is_no_archive(node):
    refused(node, b"", "")
    refused(node, b"no archive at all" * 100, "")
    refused(node, tar([entry("readme", b"x")]), "no root file system")
    good = archives.squashfs(system() + [entry("data", os.urandom(300000))])
    refused(node, good[:len(good) // 2], "")
    refused(node, good[:-3000], "")
    whole = archives.COMPRESSIONS["xz"](tar(system() + [entry("data", os.urandom(300000))]))
    refused(node, whole[:-2000], "")


def test_wrong_digest(node):
    data = tar(system())
    digest = hashlib.sha256(data).hexdigest()
    before = sorted(os.listdir(node.pool + "/images"))
    r = upload(node, data, fingerprint="f" * 64)
    assert (r.status, r.json["code"]) == (400, "IMAGE_DIGEST_WRONG") and digest in r.json["message"]
    assert upload(node, data, fingerprint="../../x").json["field"] == "fingerprint"
    assert sorted(os.listdir(node.pool + "/images")) == before


def test_devices_are_left_out_and_set_ids_kept(node):
    """A root file system may have both; what a device would be is the container's configuration's business, and ids are mapped."""
    r = upload(node, tar(system() + [archives.device("dev/sda", archives.tarfile.BLKTYPE, 8, 0), archives.device("null"),
                                     entry("bin/su", b"x", mode=0o6755)]))
    assert r.status == 201, r
    path = os.path.join(node.pool, "images", r.data["fingerprint"])
    assert not os.path.lexists(path + "/dev/sda") and not os.path.lexists(path + "/null")
    assert os.stat(path + "/bin/su").st_mode & 0o7777 == 0o6755
    refused(node, tar(system() + [archives.device("null"), archives.hardlink("etc/null", "null")]), "hard link")
