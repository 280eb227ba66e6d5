# SPDX-License-Identifier: Apache-2.0
"""Two nodes on one machine, each in a network of its own: copies and syncs between them, who may ask, and what is refused."""
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from authority import Authority
from daemon import PROJECT
from pair import ADDRESSES, IDS
from peering import MIB, ask_copy, checksum, copy_to, gone, in_step, kept, nothing_left, outcome, slot, sync, write
from world import BUILD, run, wait_for

pytest_plugins = ["peer_fixtures"]
NODECTL = BUILD + "/nodectl"


def test_a_copy_on_another_node(near, far, source, nodes):
    write(near, source, "/root/data", 8 * MIB)
    path = f"/api/v1/containers/{source}"
    first = near.post(path + "/snapshots", {"alias": "one"}).data["snapshot"]["name"]
    write(near, source, "/root/later", MIB)
    near.post(path + "/snapshots", {"alias": "two"})
    near.post(path + "/firewall/ingress", {"action": "drop", "protocol": "udp"})
    before = nodes.wire_bytes()
    r = ask_copy(near, source, "elsewhere", copy_firewall_rules=True)
    assert r.status == 201, (r, near.log(), far.log())
    assert r.data["node"]["source_server_id"] == IDS["near"]
    assert r.data["status"] == "copying" and r.data["server_id"] == IDS["far"] and r.data["source_container_id"] == source
    assert r.data["copy_firewall_rules"] and not r.data["copy_network_rules"]
    cid, operation = r.data["id"], r.data["operation_id"]
    assert near.get(f"/api/v1/containers/{cid}").status == 404
    wait_for(lambda: outcome(far, operation), 120, what="the end of the copy")
    assert outcome(far, operation)["event_type"] == "container.operation.completed", (outcome(far, operation), far.log(), near.log())
    far.wait_booted(cid)
    # The image is on both, so only the difference came.
    assert nodes.wire_bytes() - before < 60 * MIB
    assert checksum(far, cid, "/root/data", "/root/later") == checksum(near, source, "/root/data", "/root/later")
    assert far.inside(cid, "cat", "/etc/hostname") == "elsewhere"
    assert far.inside(cid, "cat", "/etc/machine-id") != near.inside(source, "cat", "/etc/machine-id")
    c = far.container(cid)
    assert c["environment_vars"] == {"WHO": "source"} and c["snapshot_count"] == 2
    assert far.get(f"/api/v1/containers/{cid}/firewall/rules").data["rule_count"] == 1
    names = [(s["name"], s["alias"]) for s in far.get(f"/api/v1/containers/{cid}/snapshots").data["snapshots"]]
    assert names == [(s["name"], s["alias"]) for s in near.get(path + "/snapshots").data["snapshots"]]
    assert far.call("PUT", f"/api/v1/containers/{cid}/snapshots/{first}").status == 200
    assert "cannot access" in far.inside(cid, "sh", "-c", "ls /root/data /root/later 2>&1 || true")
    assert len(kept(near, source)) == 1
    gone(far, cid)
    wait_for(lambda: not kept(near, source), 60, what="what was kept for the copy to go")
    for name, _ in names:
        near.call("DELETE", path + f"/snapshots/{name}")
    near.post(path + "/firewall/reset")


def identity(node, cid):
    node.inside(cid, "systemctl", "start", "ssh-host-keys.service")
    return [node.inside(cid, "cat", path) for path in ("/etc/machine-id", "/etc/hostname", "/etc/ssh/ssh_host_ed25519_key.pub")]


def test_a_second_sync_moves_what_changed(near, far, source, copy, nodes):
    in_step(near, far, source, copy, "first")
    far.wait_booted(copy)
    before, own = identity(far, copy), {"WHO": "copy"}
    far.call("PUT", f"/api/v1/containers/{copy}/env", own)
    far.post(f"/api/v1/containers/{copy}/firewall/egress", {"action": "drop", "protocol": "udp"})
    far.inside(copy, "touch", "/root/local", "/ramdisk/kept")
    write(near, source, "/root/fresh", 10 * MIB)
    moved = nodes.wire_bytes()
    in_step(near, far, source, copy, "second")
    moved = nodes.wire_bytes() - moved
    assert 10 * MIB < moved < 15 * MIB, moved
    assert checksum(far, copy, "/root/fresh") == checksum(near, source, "/root/fresh")
    far.wait_booted(copy)
    assert identity(far, copy) == before
    assert far.inside(copy, "sh", "-c", "test -e /root/local || echo replaced") == "replaced"
    assert far.inside(copy, "ls", "/ramdisk") == "kept"
    c = far.container(copy)
    assert c["environment_vars"] == own and not c["env_sync"]["pending"]
    assert far.get(f"/api/v1/containers/{copy}/firewall/rules").data["rule_count"] == 1
    logs = [(x["from_status"], x["to_status"]) for x in far.get(f"/api/v1/containers/{copy}/status-logs?limit=2").data["logs"]]
    assert logs == [("copying", "running"), ("running", "copying")]
    assert len(kept(near, source)) == 2
    moved = nodes.wire_bytes()
    in_step(near, far, source, copy, "third")
    assert nodes.wire_bytes() - moved < 4 * MIB
    assert len(kept(near, source)) == 2


def test_a_stopped_copy_stays_stopped(near, far, source, copy):
    assert far.op(copy, "stop", {"timeout": 10}).status == 200
    near.inside(source, "sh", "-c", "echo asleep > /root/mark; sync -f /root/mark")
    r = sync(far, copy)
    assert r.status == 200 and r.data["status"] == "stopped", (r, far.log())
    assert far.op(copy, "start").status == 200
    assert far.inside(copy, "cat", "/root/mark") == "asleep"


def test_answers_at_once_and_shows_what_moves(near, far, source, copy, slow):
    write(near, source, "/root/fresh", 4 * MIB)
    with slow("peer.sent"):
        r = sync(far, copy, wait=False)
        assert r.status == 200 and r.data["status"] == "copying" and r.data["source_container_id"] == source
        wait_for(lambda: far.get("/api/v1/node/transfers").data["transfers"], 60, what="the transfer")
        t = far.get("/api/v1/node/transfers").data["transfers"][0]
        assert (t["container_id"], t["direction"], t["server_id"], t["operation_id"]) == (copy, "in", IDS["near"], r.data["operation_id"])
        wait_for(lambda: near.get("/api/v1/node/transfers").data["transfers"], 60, what="the transfer")
        t = near.get("/api/v1/node/transfers").data["transfers"][0]
        assert (t["container_id"], t["direction"], t["server_id"]) == (source, "out", IDS["far"])
        text = run(NODECTL, "--socket", near.socket, "transfers")
        assert source in text and "out" in text
        # It goes on, both ways.
        assert near.delete(source).json["code"] == "RESOURCE_IN_USE"
        assert far.op(copy, "stop").status == 409
        assert near.inside(source, "echo", "alive") == "alive"
    wait_for(lambda: far.container(copy)["status"] == "running", 60, what="the end")
    wait_for(lambda: not near.get("/api/v1/node/transfers").data["transfers"], 60, what="the end of the transfer")
    assert outcome(far, r.data["operation_id"])["event_type"] == "container.operation.completed"


def test_one_snapshot(near, far, source):
    near.inside(source, "sh", "-c", "echo then > /root/mark; sync -f /root/mark")
    name = near.post(f"/api/v1/containers/{source}/snapshots", {"alias": "then"}).data["snapshot"]["name"]
    near.inside(source, "sh", "-c", "echo now > /root/mark; sync -f /root/mark")
    cid = copy_to(near, far, source, "of-then", source_snapshot="then")
    assert far.inside(cid, "cat", "/root/mark") == "then" and far.container(cid)["snapshot_count"] == 0
    in_step(near, far, source, cid, "followed")
    gone(far, cid)
    assert near.call("DELETE", f"/api/v1/containers/{source}/snapshots/{name}").status == 200


def test_the_network_configuration_goes_along_with_its_credentials(near, far, source):
    """It works on the other node as it did here, and nobody but the relay sees the password."""
    password = "pa55-" + os.urandom(8).hex()
    asked = {"type": "socks5", "proxy": f"socks5://who:{password}@198.51.100.20:1080"}
    path = f"/api/v1/containers/{source}/network"
    assert near.call("PUT", path, asked).status == 200
    try:
        cid = copy_to(near, far, source, "by-proxy", copy_network_rules=True)
        plain = copy_to(near, far, source, "not-by-proxy")
        here, there = near.get(path).data, far.get(f"/api/v1/containers/{cid}/network").data
        assert there["configured"] and there["credentials_configured"] and there["proxy"] == here["proxy"]
        assert not far.get(f"/api/v1/containers/{plain}/network").data["configured"]
        for node in (near, far):
            seen = [node.log(), json.dumps(node.get("/api/v1/events?limit=500").data), run("ps", "-eo", "args"),
                    json.dumps(node.get(f"/api/v1/containers/{source if node is near else cid}").data)]
            assert not [text for text in seen if password in text]
        with contextlib.closing(sqlite3.connect(f"file:{far.state}/noded.db?mode=ro", uri=True)) as db:
            ((credentials,),) = db.execute("SELECT credentials FROM network_configs").fetchall()
        assert password in credentials
        gone(far, cid, plain)
    finally:
        near.call("DELETE", path)


def test_by_nodectl(near, far, source):
    text = run(NODECTL, "--socket", near.socket, "copy", "source", "--server", IDS["far"], "--name", "by-nodectl", "--wait")
    cid = next(c["id"] for c in far.list() if c["name"] == "by-nodectl")
    assert "by-nodectl" in text and far.container(cid)["status"] == "running"
    assert "running" in run(NODECTL, "--socket", far.socket, "sync", "by-nodectl")
    assert "CONTAINER" not in run(NODECTL, "--socket", far.socket, "transfers"), "nothing is on its way"
    assert json.loads(run(NODECTL, "--socket", far.socket, "--json", "transfers"))["nodes"] == [
        {"server_id": IDS["near"], "host": ADDRESSES["near"], "port": 8443}]
    gone(far, cid)


def test_nested_subvolumes(near, far, source, copy):
    """As Docker's btrfs driver makes them: new ones, changed ones, read-only ones, gone ones, in snapshots too."""
    inside = slot(near, source) + "/rootfs/srv"
    for name in ("one", "one/inner", "two", "gone"):
        run("btrfs", "subvolume", "create", f"{inside}/{name}")
        with open(f"{inside}/{name}/file", "w", encoding="ascii") as f:
            f.write(name)
    run("btrfs", "property", "set", "-ts", inside + "/two", "ro", "true")
    near.post(f"/api/v1/containers/{source}/snapshots", {"alias": "nested"})
    assert sync(far, copy).status == 200
    cid = copy_to(near, far, source, "nested")

    def seen(at):
        return {name: open(f"{at}/srv/{name}/file", encoding="ascii").read() for name in ("one", "one/inner", "two", "gone")
                if os.path.exists(f"{at}/srv/{name}/file")}

    whole = {name: name for name in ("one", "one/inner", "two", "gone")}
    snapshot = os.listdir(slot(far, cid) + "/snapshots")[0]
    for at in (slot(far, copy) + "/rootfs", slot(far, cid) + "/rootfs", f"{slot(far, cid)}/snapshots/{snapshot}"):
        assert seen(at) == whole, at
        assert "ro=true" in run("btrfs", "property", "get", "-ts", at + "/srv/two")
        assert "ro=false" in run("btrfs", "property", "get", "-ts", at + "/srv/one/inner")
    with open(inside + "/one/inner/file", "w", encoding="ascii") as f:
        f.write("changed")
    run("btrfs", "subvolume", "delete", inside + "/gone")
    run("btrfs", "subvolume", "create", inside + "/late")
    assert sync(far, copy).status == 200, far.log()
    at = slot(far, copy) + "/rootfs"
    assert seen(at) == {"one": "one", "one/inner": "changed", "two": "two"} and os.path.isdir(at + "/srv/late")
    assert far.call("PUT", f"/api/v1/containers/{cid}/snapshots/{snapshot}").status == 200
    assert seen(slot(far, cid) + "/rootfs") == whole
    assert not [n for n in kept(near, source) if n.startswith(".new")]
    gone(far, cid)
    for name in ("one/inner", "one", "late"):
        run("btrfs", "subvolume", "delete", f"{inside}/{name}")
    run("btrfs", "property", "set", "-ts", inside + "/two", "ro", "false")
    run("btrfs", "subvolume", "delete", inside + "/two")
    near.call("DELETE", f"/api/v1/containers/{source}/snapshots/nested")


def test_files_that_wish_to_be_compressed(near, far, source, copy):
    """One chattr +c inside does not end copies and syncs."""
    root = slot(near, source) + "/rootfs"
    write(near, source, "/root/compressed", MIB)
    os.setxattr(root + "/root/compressed", "btrfs.compression", b"zlib")
    near.inside(source, "sync", "-f", "/root")
    assert sync(far, copy).status == 200, far.log()
    assert os.getxattr(slot(far, copy) + "/rootfs/root/compressed", "btrfs.compression") == b"zlib"
    cid = copy_to(near, far, source, "compressed")
    assert os.getxattr(slot(far, cid) + "/rootfs/root/compressed", "btrfs.compression") == b"zlib"
    gone(far, cid)
    near.inside(source, "rm", "/root/compressed")


def test_refusals(near, far, source, copy):
    assert ask_copy(near, source, "xyz", target_server_id="c" * 24).json["code"] == "RESOURCE_NOT_FOUND"
    assert ask_copy(near, source, "xyz", target_server_id="none").json["code"] == "RESOURCE_NOT_FOUND"
    assert ask_copy(near, source, "?").json["code"] == "INVALID_CONTAINER_NAME"
    assert ask_copy(near, source, "xyz", source_snapshot="none").json["code"] == "RESOURCE_NOT_FOUND"
    r = ask_copy(near, source, "followed")
    assert (r.status, r.json["code"]) == (409, "CONTAINER_NAME_IN_USE"), "what the other node says"
    r = ask_copy(near, source, "xyz", id=copy)
    assert (r.status, r.json["code"]) == (409, "RESOURCE_IN_USE")
    assert ask_copy(near, source, "xyz", ssh_public_key="ssh-dss x").json["field"] == "ssh_public_key"
    assert sync(near, source).json["code"] == "CONTAINER_NOT_COPIED"
    assert far.op(copy, "pause").status == 200
    assert sync(far, copy).json["code"] == "OPERATION_STATE_CONFLICT"
    assert far.op(copy, "resume").status == 200
    assert near.op(source, "pause").status == 200
    assert sync(far, copy).status == 200, "a paused source is still, and that is fine"
    assert near.op(source, "resume").status == 200
    assert len({n.split(".")[0] for n in kept(near, source)}) == 1, "a refused copy keeps nothing"


def ask_as(pki, space, name, method, path, body=None, whose="far"):
    """A request to `near` with one of the certificates."""
    argv = ["nsenter", f"--net=/run/netns/{space.name}", "curl", "-sS", "-m", "20", "--cacert", pki + "/ca.crt", "--cert", f"{pki}/{name}.crt",
            "--key", f"{pki}/{name}.key", "-X", method, "-o", "-", "-w", "\n%{http_code}", f"https://{ADDRESSES['near']}:8443{path}"]
    if body is not None:
        argv += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    r = subprocess.run(argv, capture_output=True, text=True, check=False)
    text, _, status = r.stdout.rpartition("\n")
    return int(status), json.loads(text) if text else None


def test_roles(near, far, source, copy, pki, spaces):
    space, stream = spaces["far"], f"/api/v1/peer/containers/{source}/stream"
    body = {"copy": copy, "snapshots": []}
    for name in ("operator", "control-plane"):
        for method, path in (("POST", stream), ("POST", "/api/v1/peer/copies"), ("DELETE", f"/api/v1/peer/containers/{source}/copies/{copy}")):
            assert ask_as(pki, space, name, method, path, body)[0] == 403, (name, path)
    assert near.call("POST", stream, body).status == 403, "the socket is an operator's"
    # A node opens nothing but its own routes.
    for method, path in (("GET", "/api/v1/containers"), ("GET", "/healthz"), ("GET", f"/api/v1/containers/{source}"),
                         ("DELETE", f"/api/v1/containers/{source}"), ("POST", f"/api/v1/containers/{source}/copy"), ("GET", "/api/v1/events"),
                         ("GET", "/api/v1/node/transfers"), ("PUT", f"/api/v1/containers/{source}/env")):
        assert ask_as(pki, space, "far/node", method, path, {} if method != "GET" else None)[0] == 403, path
    # And of containers only what was promised to it.
    other = near.create("private", hoody_kit=False)["id"]
    for at, wanted in ((source, "d" * 24), (other, copy), ("e" * 24, copy)):
        status, reply = ask_as(pki, space, "far/node", "POST", f"/api/v1/peer/containers/{at}/stream", {**body, "copy": wanted})
        assert (status, reply["code"]) == (404, "SOURCE_CONTAINER_NOT_FOUND"), at
        assert ask_as(pki, space, "far/node", "DELETE", f"/api/v1/peer/containers/{at}/copies/{wanted}")[0] == 404
    gone(near, other)
    # A node of the same CA that the configuration does not have.
    run(NODECTL, "pki", "node", "f" * 24, "--dir", pki, "--out", pki + "/stranger", "--host", ADDRESSES["far"])
    status, reply = ask_as(pki, space, "stranger/node", "POST", stream, body)
    assert (status, reply["code"]) == (403, "INSUFFICIENT_PERMISSIONS")
    for bad in ({"copy": "x", "snapshots": []}, {"copy": copy}, {**body, "snapshot": "none"}, {**body, "more": 1}):
        assert ask_as(pki, space, "far/node", "POST", stream, bad)[0] in (400, 404), bad


BAD_COPIES = {
    "name": "a b", "environment_vars": {"A B": "x"}, "realm_ids": ["x"], "ssh_public_key": "x", "color": "red", "comment": 7, "snapshots": [{"x": 1}],
    "firewall": {"ingress": [{"action": "x"}]}, "network": {"type": "x"}, "image_fingerprint": "../../x", "id": "x", "project_id": "x",
    "source_container_id": "/", "snapshot": "x" * 200,
}


@pytest.mark.parametrize("field", BAD_COPIES)
def test_what_another_node_wants_is_checked(near, source, pki, spaces, field):
    body = {"id": "1" * 24, "source_container_id": "2" * 24, "project_id": PROJECT, "environment_vars": {}, "realm_ids": [], "snapshots": [],
            "ai": True, "hoody_kit": False, "dev_kit": False, "autostart": True, "ramdisk": False}
    count = len(near.list())
    status, reply = ask_as(pki, spaces["far"], "far/node", "POST", "/api/v1/peer/copies", {**body, field: BAD_COPIES[field]})
    assert status == 400 and field.split("_")[0] in reply["message"], (status, reply)
    assert len(near.list()) == count


@pytest.mark.parametrize("subject,alert", [("/OU=node/OU=operator/CN=" + "b" * 24, "bad certificate"), (None, "unknown CA")])
def test_a_node_whose_certificate_is_refused_is_told(near, far, pki, tmp_path, source, copy, subject, alert):
    """Far asks near for a sync with a certificate of two roles, and with one of another CA."""
    kept_files = {end: Path(f"{pki}/far/node.{end}").read_bytes() for end in ("crt", "key")}
    other = str(tmp_path / "other")
    try:
        if subject:
            Authority(pki, str(tmp_path / "authority")).client("far/node", subject)
        else:
            run(NODECTL, "pki", "init", "--dir", other)
            run(NODECTL, "pki", "node", "b" * 24, "--dir", other, "--out", other + "/far", "--host", ADDRESSES["far"])
            for end in kept_files:
                shutil.copy(f"{other}/far/node.{end}", f"{pki}/far/node.{end}")
        r = sync(far, copy)
        assert r.status == 502 and f"this node's certificate (peers.certificate) was refused: {alert}" in r.json["message"], (r, near.log())
        assert "a client was refused: " + ADDRESSES["far"] in near.log()
    finally:
        for end, content in kept_files.items():
            Path(f"{pki}/far/node.{end}").write_bytes(content)
    assert sync(far, copy).status == 200


def test_a_source_that_is_gone(near, far, source):
    other = near.create("short-lived", hoody_kit=False)["id"]
    cid = copy_to(near, far, other, "orphan")
    gone(near, other)
    r = sync(far, cid)
    assert r.status == 502 and r.json["code"] == "SOURCE_CONTAINER_NOT_FOUND", r
    assert far.container(cid)["status"] == "running"
    gone(far, cid)


def test_nothing_is_left_in_the_end(near, far, source, copy):
    nothing_left(near, far, source, copy)
