# SPDX-License-Identifier: Apache-2.0
"""Kits of a node: installed, listed and removed while it runs, and refused by name."""
import io
import json
import os
import re
import shutil
import subprocess
import tarfile

import pytest
from daemon import Daemon
from kitlab import KitLab
from world import BUILD, REPOSITORY, run

KITS = "/api/v1/node/kits"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return KitLab(tmp_path_factory.mktemp("kits"))


@pytest.fixture(scope="module")
def node(lab):
    d = Daemon(kits__public_key=lab.public)
    os.makedirs(d.dir + "/kits")
    d.start()
    yield d
    d.close()


def ctl(lab, node, *argv, ok=True):
    return lab.nodectl("--socket", node.socket, *argv, ok=ok)


def installed(node):
    """As the API and the pool say."""
    api = sorted(f"{k['name']}-{k['version']}" for k in node.get(KITS).data["kits"])
    assert sorted(os.listdir(node.pool + "/kits")) == api
    return api


def rewrite(bundle, target, change):
    """The bundle with some of its three files changed."""
    with tarfile.open(bundle) as old, tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as new:
        for info in old.getmembers():
            data = change(info.name, old.extractfile(info).read())
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))


def resign(lab, work, manifest):
    with open(work + "/m", "wb") as f:
        f.write(manifest)
    run("openssl", "pkeyutl", "-sign", "-rawin", "-inkey", lab.key, "-in", work + "/m", "-out", work + "/s")
    with open(work + "/s", "rb") as f:
        return f.read()


def test_install_list_remove(node, lab):
    bundle = lab.build("one", "1.0", 7101)
    ctl(lab, node, "kit", "install", bundle)
    ctl(lab, node, "kit", "install", bundle)  # again is fine
    assert installed(node) == ["one-1.0"]
    kit = node.get(KITS).data["kits"][0]
    assert kit["in_suite"] and kit["containers"] == 0
    ctl(lab, node, "kit", "install", lab.build("one", "1.1", 7101))
    assert node.get(KITS).data["suite"] == [{"name": "one", "version": "1.1"}]
    cid = node.create("has-one")["id"]
    node.wait_booted(cid)
    assert node.inside(cid, "readlink", "-f", "/hoody/kits/one/bin/whoami") == "/hoody/.kits/one-1.1/files/bin/whoami"
    assert "7101" in ctl(lab, node, "kit", "list") and "1.1" in ctl(lab, node, "kit", "list")
    text = ctl(lab, node, "kit", "remove", "one", "1.1", ok=False)
    assert "has-one" in text
    ctl(lab, node, "kit", "remove", "one", "1.0")
    assert installed(node) == ["one-1.1"] and not os.path.exists(node.dir + "/kits/one-1.0.kit")
    assert node.call("DELETE", KITS + "/one/1.0").status == 404
    node.restart()
    assert installed(node) == ["one-1.1"]
    services = node.get("/api/v1/node/routes").data["routes"][0]["services"]
    assert [s["port"] for s in services] == [7101]
    node.delete(cid)
    node.wait_idle()
    ctl(lab, node, "kit", "remove", "one", "1.1")
    assert installed(node) == []
    types = [e["event_type"] for e in node.get("/api/v1/events?limit=100").data["events"]]
    assert types.count("server.kit.removed") == 2 and types.count("server.kit.installed") == 3


def test_what_a_manifest_says_holds_inside(node, lab):
    """Environment, capabilities, ordering, directories."""
    ctl(lab, node, "kit", "install", lab.build("says", "1.0", 7110, directories=["data/deep"], service={
        "environment": {"COLOUR": "a \"b\" 50%"}, "capabilities": ["CAP_NET_BIND_SERVICE"], "after": ["hoody-other.service"]}))
    ctl(lab, node, "kit", "install", lab.build("future", "1.0", 7111, minimum_image="debian/99"))
    cid = node.create("manifest")["id"]
    node.wait_booted(cid)
    show = node.inside(cid, "systemctl", "show", "hoody-says.service", "-p", "Environment,CapabilityBoundingSet,After")
    assert 'COLOUR=a \\"b\\" 50%' in show and "CapabilityBoundingSet=cap_net_bind_service" in show
    assert "hoody-other.service" in show
    assert node.inside(cid, "stat", "-c", "%U", "/hoody/storage/says/data/deep") == "user"
    assert not node.inside(cid, "ls", "/hoody/kits").count("future")
    node.delete(cid)
    node.wait_idle()
    ctl(lab, node, "kit", "remove", "says", "1.0")
    ctl(lab, node, "kit", "remove", "future", "1.0")


def refused(node, lab, file, code, status, *words):
    """By verify where no node is (but a clash, which only a node can see), by install, and nothing is installed."""
    before = installed(node), sorted(os.listdir(node.dir + "/kits"))
    if code not in ("KIT_CLASH", "KIT_CONFLICT"):
        text = lab.nodectl("kit", "verify", file, "--public-key", lab.public, ok=False)
        assert all(w in text for w in words), text
    text = ctl(lab, node, "kit", "install", file, ok=False)
    assert all(w in text for w in words), text
    name = os.path.basename(file)
    shutil.copy(file, node.dir + "/kits/" + name)
    r = node.post(KITS, {"file": name})
    assert (r.status, r.json["code"]) == (status, code), r
    os.remove(node.dir + "/kits/" + name)
    assert (installed(node), sorted(os.listdir(node.dir + "/kits"))) == before


@pytest.mark.parametrize("unit, says, words", [
    ("root", "user", "services.user: is 'user', but 'hoody-who.service' runs as 'root'"), ("user", "daemon", "runs as 'user'"), ("", "user", "runs as 'root'")])
def test_who_it_runs_as(node, lab, unit, says, words):
    """A manifest that says another account than the unit makes no bundle."""
    folder = lab.source("who", "1.0", 7115, user=unit, service={"user": says})
    text = lab.nodectl("-q", "kit", "build", folder, "--key", lab.key, "--out", lab.bundles, ok=False)
    assert words in text, text


def test_refused_by_name(node, lab, tmp_path):
    work = str(tmp_path)
    ctl(lab, node, "kit", "install", lab.build("good", "1.0", 7120))
    bundle, bad = lab.build("bad", "1.0", 7121), work + "/bad-1.0.kit"

    def flip(data, at):
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
    # A tampered payload, a digest that is not the payload's, a manifest that was changed, no good signature, a stranger.
    rewrite(bundle, bad, lambda n, d: flip(d, len(d) // 2) if n.startswith("payload") else d)
    refused(node, lab, bad, "KIT_DIGEST", 403, "payload.tar.zst")
    changed = {}

    def digest(name, data):
        if name == "manifest.json":
            at = data.index(b'"sha256": "') + 11
            changed["m"] = data[:at] + b"0" * 64 + data[at + 64:]
            return changed["m"]
        return resign(lab, work, changed["m"]) if name == "manifest.sig" else data
    rewrite(bundle, bad, digest)
    refused(node, lab, bad, "KIT_DIGEST", 403, "payload.sha256")
    rewrite(bundle, bad, lambda n, d: d.replace(b"7121", b"7122") if n == "manifest.json" else d)
    refused(node, lab, bad, "KIT_SIGNATURE", 403, "manifest.sig")
    rewrite(bundle, bad, lambda n, d: flip(d, 40) if n == "manifest.sig" else d)
    refused(node, lab, bad, "KIT_SIGNATURE", 403, "manifest.sig")
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", work + "/other.key")
    refused(node, lab, lab.build("bad", "1.0", 7121, key=work + "/other.key"), "KIT_KEY_UNKNOWN", 403, "manifest.sig", "key")

    # A path that escapes: the build refuses it, so the manifest is changed and signed again.
    def escape(name, data):
        if name == "manifest.json":
            changed["m"] = data.replace(b'"format"', b'"directories": ["../../etc"], "format"')
            return changed["m"]
        return resign(lab, work, changed["m"]) if name == "manifest.sig" else data
    bundle = lab.build("bad", "1.0", 7121)
    rewrite(bundle, bad, escape)
    refused(node, lab, bad, "KIT_PATH", 400, "kit bad 1.0", "directories", "../../etc")
    # Clashes with what is installed: port, slug, unit; and other content under the same version.
    refused(node, lab, lab.build("clash", "1.0", 7120), "KIT_CLASH", 409, "kit clash 1.0", "7120", "good")
    refused(node, lab, lab.build("clash", "1.0", 7115, service={"port_last": 7125}), "KIT_CLASH", 409, "services.port", "good")
    refused(node, lab, lab.build("clash", "1.0", 7123, service={"slug": "good"}), "KIT_CLASH", 409, "services.slug", "good")
    again = lab.build("good", "1.0", 7129)
    assert "other content" in ctl(lab, node, "kit", "install", again, ok=False)
    os.rename(node.dir + "/kits/good-1.0.kit", work + "/kept")
    refused(node, lab, again, "KIT_CONFLICT", 409, "kit good 1.0")
    os.rename(work + "/kept", node.dir + "/kits/good-1.0.kit")
    ctl(lab, node, "kit", "remove", "good", "1.0")


@pytest.mark.parametrize("more, words", [
    ({"directories": ["/etc"]}, ("directories", "/etc")),
    ({"directories": ["a/../../b"]}, ("directories", "a/../../b")),
    ({"units": ["../../etc/hoody-x.service"]}, ("units",)),
    ({"units": ["hoody-absent.service", "hoody-wrong.service"]}, ("units", "hoody-absent.service")),
    ({"color": "red"}, ("color",)),
    ({"minimum_image": "../debian"}, ("minimum_image",)),
    ({"service": {"capabilities": ["CAP_SYS_MODULE"]}}, ("services.capabilities", "CAP_SYS_MODULE")),
    ({"service": {"identity": "sometimes"}}, ("services.identity", "restart, reload or live")),
    ({"service": {"port": 0}}, ("services.port",)),
    ({"service": {"port_last": 1}}, ("services.port_last",)),
    ({"service": {"unit": "hoody-other.service"}}, ("services.unit",)),
])
def test_build_refuses(lab, more, words):
    text = lab.nodectl("kit", "build", lab.source("wrong", "1.0", 7130, **more), "--key", lab.key, "--out", lab.bundles, ok=False)
    assert all(w in text for w in words) and "wrong" in text, text
    assert not [f for f in os.listdir(lab.bundles) if "wrong" in f]


def two_of_one_unit(lab, name, **second):
    """A kit whose unit has two services, the first of which must not be more than it says."""
    folder = lab.source(name, "1.0", 7150, service={"capabilities": ["CAP_CHOWN"]})
    with open(folder + "/kit.json", encoding="ascii") as f:
        kit = json.load(f)
    kit["services"].append({**kit["services"][0], "slug": name + "-2", "port": 7151, **second})
    with open(folder + "/kit.json", "w", encoding="ascii") as f:
        json.dump(kit, f)
    return folder


@pytest.mark.parametrize("field, second", [("capabilities", {"capabilities": None}), ("environment", {"environment": {"A": "1"}}),
                                           ("after", {"after": ["hoody-x.service"]}), ("identity", {"identity": "live"}), ("user", {"user": None})])
def test_services_of_one_unit_agree(lab, field, second):
    """systemd has one setting for both: what one says must not undo what the other does."""
    build = ("-q", "kit", "build", two_of_one_unit(lab, "pair", **second), "--key", lab.key, "--out", lab.bundles)
    text = lab.nodectl(*build, ok=False)
    assert f"services.{field}: 'pair' and 'pair-2' are of one unit" in text, text


def test_a_bundle_whose_services_do_not_agree(node, lab, tmp_path):
    bundle = lab.nodectl("-q", "kit", "build", two_of_one_unit(lab, "pair"), "--key", lab.key, "--out", lab.bundles)
    bad, changed = str(tmp_path / "pair-1.0.kit"), {}

    def loosen(name, data):
        if name == "manifest.json":
            manifest = json.loads(data)
            manifest["services"][1].update(capabilities=None, environment={"A": "1"})
            changed["m"] = json.dumps(manifest).encode()
            return changed["m"]
        return resign(lab, str(tmp_path), changed["m"]) if name == "manifest.sig" else data
    rewrite(bundle, bad, loosen)
    refused(node, lab, bad, "KIT_INVALID", 400, "kit pair 1.0", "services.", "are of one unit")
    ctl(lab, node, "kit", "install", bundle)  # it says the same twice
    ctl(lab, node, "kit", "remove", "pair", "1.0")


def test_body_of_install(node):
    for file in ("../x.kit", "a/b.kit", ".x.kit", "x.tar", "", 5, "x" * 90 + ".kit"):
        r = node.post(KITS, {"file": file})
        assert (r.status, r.json["field"]) == (400, "file"), r
    r = node.post(KITS, {"file": "absent-1.0.kit"})
    assert r.status == 404 and "absent-1.0.kit" in r.json["message"]


@pytest.mark.parametrize("point", ["kit.unpack", "install.rename", "kit.file_removed"])
def test_interrupted(node, lab, point):
    bundle = lab.build("cut", "1.0", 7140)
    if point == "kit.file_removed":
        ctl(lab, node, "kit", "install", bundle)
    node.env["NODED_FAILPOINT"] = point + "=kill"
    node.restart()
    if point == "kit.file_removed":
        assert node.call("DELETE", KITS + "/cut/1.0").status >= 500
    else:
        ctl(lab, node, "kit", "install", bundle, ok=False)
    del node.env["NODED_FAILPOINT"]
    if point == "kit.file_removed":
        assert [k["name"] for k in node.get(KITS).data["kits"]] == ["cut"]
        node.restart()
        ctl(lab, node, "kit", "remove", "cut", "1.0")
    else:
        node.restart()
        assert [n for n in os.listdir(node.pool + "/kits") if n.startswith(".")] == []
        ctl(lab, node, "kit", "install", bundle)
        ctl(lab, node, "kit", "remove", "cut", "1.0")
    assert installed(node) == []


def test_the_guide_works(tmp_path):
    """The commands of docs/KITS.md, as they stand there."""
    with open(REPOSITORY + "/docs/KITS.md", encoding="utf-8") as f:
        script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", f.read(), re.M | re.S))
    assert script.count("nodectl") > 8
    os.symlink(REPOSITORY + "/kits", tmp_path / "kits")
    d = Daemon(kits__public_key=str(tmp_path / "work/kits.pub"))
    os.makedirs(d.dir + "/kits")
    d.start()
    try:
        env = {**os.environ, "PATH": BUILD + ":" + os.environ["PATH"], "NODED_SOCKET": d.socket}
        r = subprocess.run(["bash", "-euxc", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=180, check=False)
        assert r.returncode == 0, (r.stdout, r.stderr)
        kits = d.get(KITS).data
        assert [k["version"] for k in kits["kits"]] == ["1.1.0"] and kits["kits"][0]["containers"] == 1
        cid = d.list()[0]["id"]
        assert "improved" in d.inside(cid, "systemctl", "show", "hoody-hello.service", "-p", "Description")
        assert d.inside(cid, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:7050/") == "200"
    finally:
        d.close()
