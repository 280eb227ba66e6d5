# SPDX-License-Identifier: Apache-2.0
"""Images from simplestreams servers, and what goes wrong with them: tests/run tests/integration/test_remotes.py"""
import json
import os
import shutil
import subprocess
import tempfile

import archives
import pytest
import world
from archives import directory, entry, system, tar
from daemon import PROJECT, Daemon
from streams import Streams, sha
from world import BUILD, image_archive

IMAGES = "/api/v1/node/images"
META = archives.COMPRESSIONS["xz"](tar([entry("metadata.yaml", archives.METADATA.encode()), directory("templates")]))


def root(text, size=300000):
    return archives.squashfs(system() + [entry("which", text.encode()), entry("data", os.urandom(size))])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    world.run("ip", "link", "set", "lo", "up")
    s = Streams()
    yield s
    s.close()


@pytest.fixture(scope="module")
def node(server):
    d = Daemon(images__remotes=server.url).start()
    yield d
    d.close()


@pytest.fixture(autouse=True)
def honest(server):
    server.requests.clear()
    server.cuts.clear()
    server.cut_paths.clear()
    server.redirects.clear()
    server.ranges = True


def fetch(node, name, **more):
    return node.post(IMAGES + "/fetch?wait=true", {"image": name, **more})


def parts(node):
    return sorted(n for n in os.listdir(node.pool + "/images") if n.startswith("."))


def test_split_and_newer(node, server):
    first = root("first")
    server.add("tiny/1", "20260101_0000", META, first)
    server.add("tiny/1", "20260101_0000", META, root("other"), arch="arm64")
    r = fetch(node, "tiny/1")
    assert r.status == 200, (r, node.log())
    assert r.data["fingerprint"] == sha(META + first) and r.data["aliases"] == ["tiny/1"] and r.data["source"] == "remote"
    assert r.data["origin"] == server.url and not r.data["cached"] and parts(node) == []
    # Nothing new: only the catalogues are asked for.
    server.requests.clear()
    assert fetch(node, "tiny/1").data["fingerprint"] == r.data["fingerprint"]
    assert [p for p, _ in server.requests] == ["/streams/v1/index.json", "/streams/v1/images.json"]
    second = root("second")
    server.add("tiny/1", "20260301_0000", META, second)
    new = fetch(node, "tiny:1".replace(":", "/")).data
    assert new["fingerprint"] == sha(META + second) and new["aliases"] == ["tiny/1"]
    assert node.get(f"{IMAGES}/{r.data['fingerprint']}").data["aliases"] == []


def test_other_forms(node, server):
    xz = archives.COMPRESSIONS["xz"](tar(system() + [entry("xz", b"1")]))
    server.add("tiny/xz", "1", META, xz, "root.tar.xz", meta_type="lxd.tar.xz")
    assert fetch(node, "tiny/xz").data["fingerprint"] == sha(META + xz)
    one = archives.COMPRESSIONS["gzip"](archives.unified())
    server.add("tiny/one", "1", None, one, "lxd_combined.tar.gz")
    assert fetch(node, "tiny/one").data["fingerprint"] == sha(one)
    server.add("tiny/none", "1", None, b"x", "disk.qcow2")
    assert "no form" in fetch(node, "tiny/none").json["message"]


def ubuntu(server, serials):
    """A product as cloud-images.ubuntu.com has it. serials: serial -> root, or what else it has instead."""
    for serial, content in serials.items():
        items = server.add("ubuntu/noble", serial, META, content if isinstance(content, bytes) else b"none", meta_type="lxd.tar.xz")
        if not isinstance(content, bytes):
            for ftype in set(items) - set(content):
                del items[ftype]
    product = server.products["ubuntu:noble:amd64:default"]
    product.update(aliases="24.04, n,noble", os="Ubuntu", release="noble", version="24.04", variant="default")
    return product


@pytest.mark.parametrize("name", ["ubuntu/24.04", "ubuntu:24.04", "Ubuntu/24.04", "ubuntu 24.04", "ubuntu-noble", "ubuntu/noble",
                                  "noble", "24.04", "n", "ubuntu/n"])
def test_names_of_a_product(node, server, name):
    content = root("noble", 4096)
    product = ubuntu(server, {"20260101": content})
    try:
        r = fetch(node, name)
        assert r.status == 200 and r.data["fingerprint"] == sha(META + content), r
        assert node.call("DELETE", f"{IMAGES}/{r.data['fingerprint']}").status == 200
    finally:
        server.products = {k: p for k, p in server.products.items() if p is not product}


def test_a_newest_version_that_is_incomplete(node, server):
    content = root("whole", 4096)
    product = ubuntu(server, {"20260101": root("oldest", 4096), "20260201": content, "20260301": ("disk.qcow2",),
                              "20260401": ("lxd.tar.xz",)})
    try:
        assert fetch(node, "ubuntu/24.04").data["fingerprint"] == sha(META + content)
        del product["versions"]["20260101"], product["versions"]["20260201"]
        assert "no form" in fetch(node, "ubuntu/24.04").json["message"]
    finally:
        server.products = {k: p for k, p in server.products.items() if p is not product}
    assert fetch(node, "ubuntu/../x").json["field"] == "image"


def test_cut_and_resumed(node, server):
    data = root("cut", 3 << 20)
    items = server.add("tiny/cut", "1", META, data)
    server.cut_paths.add(items["squashfs"]["path"])
    server.cuts[:] = [100000, 1 << 20, 50000]
    r = fetch(node, "tiny/cut")
    assert r.status == 200, (r, node.log())
    ranges = [rng for p, rng in server.requests if p.endswith("squashfs")]
    assert len(ranges) == 4 and ranges[0] is None and all(r and r != "bytes=0-" for r in ranges[1:])


def test_resumed_after_a_failure_and_without_ranges(node, server):
    data = root("again", 2 << 20)
    items = server.add("tiny/again", "1", META, data)
    server.cut_paths.add(items["squashfs"]["path"])
    server.cuts[:] = [200000] * 5
    r = fetch(node, "tiny/again")
    assert r.status in (502, 503), r
    assert parts(node), "what came is kept"
    server.requests.clear()
    assert fetch(node, "tiny/again").status == 200
    assert [rng for p, rng in server.requests if p.endswith("squashfs")] == ["bytes=1000000-"]
    assert parts(node) == []
    data = root("whole", 1 << 20)
    items = server.add("tiny/whole", "1", META, data)
    server.ranges = False
    server.cut_paths.add(items["squashfs"]["path"])
    server.cuts[:] = [300000]
    assert fetch(node, "tiny/whole").data["fingerprint"] == sha(META + data)


def test_wrong_digests_and_sizes(node, server):
    images = {i["fingerprint"] for i in node.get(IMAGES).data["images"]}

    def bent(name, change):
        items = server.add(name, "1", META, root(name))
        change(items)
        r = fetch(node, name)
        assert r.status >= 400, r
        return r
    assert "digest" in bent("bad/sha", lambda i: i["squashfs"].update(sha256="0" * 64)).json["message"]
    assert "digest" in bent("bad/combined", lambda i: i["incus.tar.xz"].update(combined_squashfs_sha256="1" * 64)).json["message"]
    assert "more than" in bent("bad/short", lambda i: i["squashfs"].update(size=1000)).json["message"]
    r = bent("bad/long", lambda i: i["squashfs"].update(size=i["squashfs"]["size"] + 1000))
    assert "bytes" in r.json["message"] or r.status >= 500
    assert "are taken" in bent("bad/huge", lambda i: i["squashfs"].update(size=1 << 50)).json["message"]
    assert "sha256" in bent("bad/path", lambda i: i["squashfs"].update(sha256="../../x")).json["message"]
    for path in ("../../etc/passwd", "/etc/passwd", "a//b", "http://x/y?z"):
        assert "path" in bent("bad/up" + str(abs(hash(path))), lambda i, p=path: i["squashfs"].update(path=p)).json["message"]
    assert {i["fingerprint"] for i in node.get(IMAGES).data["images"]} == images


def test_catalogues_that_are_none(node, server):
    good = server.content
    try:
        for text in (b"", b"{", b"[]", b'{"index": {}}', b'{"index": {"x": {"datatype": "image-downloads", "path": "../x"}}}'):
            server.content = lambda path, t=text: t
            assert fetch(node, "tiny/1").status >= 400
        server.content = lambda path: None
        assert fetch(node, "tiny/1").status == 404
    finally:
        server.content = good
    assert fetch(node, "none/1").status == 404
    assert fetch(node, "../x").json["field"] == "image"


def test_redirects(node, server):
    items = server.add("tiny/moved", "1", META, root("moved"))
    path = items["squashfs"]["path"]
    server.files["elsewhere"] = server.files.pop(path)
    server.redirects[path] = "/elsewhere"
    assert fetch(node, "tiny/moved").status == 200
    for target in ("file:///etc/passwd", "/" + path):
        items = server.add("tiny/loop", target[:1] + "1", META, root("loop" + target[:1]))
        path = items["squashfs"]["path"]
        server.redirects[path] = target if target.startswith("file") else "/" + path
        assert fetch(node, "tiny/loop").status >= 400


@pytest.fixture
def public_dir():
    path = tempfile.mkdtemp(prefix="noded-tls-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


def test_tls(server, public_dir):
    s = Streams(public_dir)
    s.add("tiny/tls", "1", META, root("tls"))
    plain = Streams()
    items = s.add("tiny/down", "1", META, root("down"))
    plain.files.update(s.files)
    d = Daemon(images__remotes=s.url, images__remote_ca=s.ca).start()
    try:
        assert fetch(d, "tiny/tls").status == 200, d.log()
        s.redirects[items["squashfs"]["path"]] = f"{plain.url}/{items['squashfs']['path']}"
        assert fetch(d, "tiny/down").status >= 400, "never from https to http"
        assert plain.requests == []
    finally:
        d.close()
    d = Daemon(images__remotes=s.url).start()
    try:
        assert "certificate" in fetch(d, "tiny/tls").json["message"]
    finally:
        d.close()
        s.close()
        plain.close()


def test_create_fetches_and_caches(node, server):
    with open(image_archive(), "rb") as f:
        debian = f.read()
    metadata = archives.COMPRESSIONS["xz"](tar([entry("metadata.yaml", archives.METADATA.encode())]))
    packed = archives.COMPRESSIONS["gzip"](archives.unified())
    assert packed and metadata
    plain = subprocess.run(["zstd", "-dqc"], input=debian, capture_output=True, check=True).stdout
    other = subprocess.run(["tar2sqfs", "-q", "-s", "-c", "zstd", node.dir + "/other.squashfs"], input=plain, check=True)
    assert other.returncode == 0
    with open(node.dir + "/other.squashfs", "rb") as f:
        squashed = f.read()
    server.add("other/1", "1", metadata, squashed)
    c = node.create("remote-box", container_image="other-1", hoody_kit=False)
    assert c["container_image"] == "other/1"
    node.wait_booted(c["id"])
    image = node.get(f"{IMAGES}/{sha(metadata + squashed)}").data
    assert image["cached"] and image["containers"] == 1 and image["aliases"] == ["other/1"]
    # Cached: nobody is asked. Without the cache the remote is, and nothing is fetched twice.
    server.requests.clear()
    again = node.create("remote-box-2", container_image="other/1", hoody_kit=False)
    assert server.requests == []
    third = node.create("remote-box-3", container_image="other/1", hoody_kit=False, cache=False)
    assert len(server.requests) == 2
    for box in (c, again, third):
        node.delete(box["id"])
    assert image["fingerprint"] in node.post(IMAGES + "/prune").data["removed"]


def test_create_of_what_nobody_has(node, server):
    """It is refused at once, with or without waiting, and nothing is made."""
    before = {c["id"] for c in node.list()}
    body = {"server_id": "self", "name": "remote-none", "container_image": "nobody/1"}
    for wait in ("", "?wait=true"):
        r = node.post(f"/api/v1/projects/{PROJECT}/containers{wait}", body)
        assert (r.status, r.json["code"]) == (404, "RESOURCE_NOT_FOUND") and "nobody/1" in r.json["message"], r
    # A remote that cannot be asked is no remote without it.
    server.redirects["streams/v1/index.json"] = "/streams/v1/index.json"
    r = node.post(f"/api/v1/projects/{PROJECT}/containers", body)
    del server.redirects["streams/v1/index.json"]
    assert (r.status, r.json["code"]) == (503, "CONTAINER_HOST_COMMAND_FAILED"), r
    assert {c["id"] for c in node.list()} == before


def test_nodectl(node, server):
    data = root("ctl")
    server.add("tiny/ctl", "1", META, data)
    r = subprocess.run([BUILD + "/nodectl", "--socket", node.socket, "--json", "image", "fetch", "tiny/ctl"], capture_output=True, check=False)
    assert r.returncode == 0, r
    assert json.loads(r.stdout)["fingerprint"] == sha(META + data)
    tasks = node.get(IMAGES).data["tasks"]
    assert tasks[0]["state"] == "completed" and tasks[0]["image"] == "tiny/ctl" and tasks[0]["done_bytes"] > 0
    r = subprocess.run([BUILD + "/nodectl", "--socket", node.socket, "image", "fetch", "none/1"], capture_output=True, check=False)
    assert r.returncode != 0 and b"no image 'none/1'" in r.stderr


def test_a_crash_goes_on(node, server):
    data = root("crash", 1 << 20)
    server.add("tiny/crash", "1", META, data)
    before = set(parts(node))
    node.restart("image.fetched=kill")
    assert fetch(node, "tiny/crash").status == 500
    assert len(set(parts(node)) - before) == 2
    node.restart()
    server.requests.clear()
    assert fetch(node, "tiny/crash").data["fingerprint"] == sha(META + data)
    assert len(server.requests) == 2, "what was fetched is not fetched again"
    assert set(parts(node)) == before
