# SPDX-License-Identifier: Apache-2.0
"""Two nodes on one machine, each in a network of its own: copies and syncs between them, and everything that can go wrong."""
import contextlib
import http.client
import json
import os
import sqlite3
import subprocess

import pytest
from daemon import PROJECT
from pair import ADDRESSES, IDS, pair
from world import BUILD, run, wait_for

MIB = 1 << 20
NODECTL = BUILD + "/nodectl"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with pair(str(tmp_path_factory.mktemp("pki"))) as p:
        p.near.start()
        p.far.start()
        yield p


@pytest.fixture(scope="module")
def spaces(nodes):
    return nodes.spaces


@pytest.fixture(scope="module")
def pki(nodes):
    return nodes.pki


@pytest.fixture(scope="module")
def near(nodes):
    return nodes.near


@pytest.fixture(scope="module")
def far(nodes):
    return nodes.far


@pytest.fixture(scope="module")
def source(near):
    cid = near.create("source", hoody_kit=False, environment_vars={"WHO": "source"})["id"]
    near.wait_booted(cid)
    return cid


def write(node, cid, path, size):
    """Bytes that nothing can compress, on disk."""
    node.inside(cid, "sh", "-c", f"head -c {size} /dev/urandom > {path}; sync -f {path}")


def checksum(node, cid, *paths):
    return node.inside(cid, "sha256sum", *paths)


def ask_copy(near, source, name, wait=False, **more):
    return near.call("POST", f"/api/v1/containers/{source}/copy" + ("?wait=true" if wait else ""),
                     {"target_project_id": PROJECT, "target_server_id": IDS["far"], "name": name, **more}, timeout=300)


def copy_to(near, far, source, name, **more):
    r = ask_copy(near, source, name, True, **more)
    assert r.status == 201, (r, near.log(), far.log())
    return r.data["id"]


def sync(node, cid, wait=True):
    return node.call("POST", f"/api/v1/containers/{cid}/sync" + ("?wait=true" if wait else ""), timeout=300)


def outcome(node, operation_id):
    events = node.get("/api/v1/events?resource_type=container&limit=500").data["events"]
    return next((e for e in events if e["payload"].get("operation_id") == operation_id and
                 e["event_type"].startswith("container.operation.")), None)


def slot(node, cid):
    return f"{node.pool}/slots/{node.container(cid)['node']['slot']}"


def kept(near, source):
    """What the source's node keeps for its copies elsewhere."""
    path = slot(near, source) + "/sent"
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def gone(node, *cids):
    for cid in cids:
        assert node.delete(cid).status == 200
    node.wait_idle()
    node.assert_consistent()


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
    wait_for(lambda: not kept(near, source), 20, what="what was kept for the copy to go")
    for name, _ in names:
        near.call("DELETE", path + f"/snapshots/{name}")
    near.post(path + "/firewall/reset")


@pytest.fixture(scope="module")
def copy(near, far, source):
    cid = copy_to(near, far, source, "followed")
    far.wait_booted(cid)
    return cid


def identity(node, cid):
    node.inside(cid, "systemctl", "start", "ssh-host-keys.service")
    return [node.inside(cid, "cat", path) for path in ("/etc/machine-id", "/etc/hostname", "/etc/ssh/ssh_host_ed25519_key.pub")]


def in_step(near, far, source, copy, mark):
    """A sync works, and brings what is new."""
    near.inside(source, "sh", "-c", f"echo {mark} > /root/mark; sync -f /root/mark")
    r = sync(far, copy)
    assert r.status == 200, (r, near.log(), far.log())
    assert far.container(copy)["status"] == "running"
    assert far.inside(copy, "cat", "/root/mark") == mark


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
        wait_for(lambda: far.get("/api/v1/node/transfers").data["transfers"], 10, what="the transfer")
        t = far.get("/api/v1/node/transfers").data["transfers"][0]
        assert (t["container_id"], t["direction"], t["server_id"], t["operation_id"]) == (copy, "in", IDS["near"], r.data["operation_id"])
        wait_for(lambda: near.get("/api/v1/node/transfers").data["transfers"], 10, what="the transfer")
        t = near.get("/api/v1/node/transfers").data["transfers"][0]
        assert (t["container_id"], t["direction"], t["server_id"]) == (source, "out", IDS["far"])
        text = run(NODECTL, "--socket", near.socket, "transfers")
        assert source in text and "out" in text
        # It goes on, both ways.
        assert near.delete(source).json["code"] == "RESOURCE_IN_USE"
        assert far.op(copy, "stop").status == 409
        assert near.inside(source, "echo", "alive") == "alive"
    wait_for(lambda: far.container(copy)["status"] == "running", 60, what="the end")
    wait_for(lambda: not near.get("/api/v1/node/transfers").data["transfers"], 10, what="the end of the transfer")
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


class Slow:
    """A failpoint in the jobs of a node that sleeps while the block runs, and a little longer."""

    def __init__(self, node, point, ms):
        self.node, self.point = node, f"{point}=sleep:{ms}"

    def __enter__(self):
        self.node.restart(self.point)

    def __exit__(self, *_):
        pass


@pytest.fixture
def slow(near):
    yield lambda point, ms=4000: Slow(near, point, ms)
    near.restart()


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


def leftovers(node):
    """Names of half-made things in the pool."""
    found = []
    for directory, names, _ in os.walk(node.pool + "/slots"):
        depth = directory[len(node.pool):].count("/")
        found += [os.path.join(directory, n) for n in names if n.startswith(".new-")]
        if depth >= 3:
            names.clear()
        names[:] = [n for n in names if n not in ("rootfs", "base")]
    return found


def untouched(node, copy, mark):
    """The copy is as before, and nothing is left of what was tried."""
    wait_for(lambda: node.container(copy)["status"] == "running", 60, what="the copy running")
    assert node.inside(copy, "cat", "/root/mark") == mark
    node.wait_idle()
    node.assert_consistent()
    assert not leftovers(node)


@pytest.fixture
def marked(near, far, source, copy):
    """A copy that is in step, and a source that is ahead of it by some megabytes."""
    in_step(near, far, source, copy, "before")
    near.inside(source, "sh", "-c", "echo after > /root/mark; sync -f /root/mark")
    write(near, source, "/root/fresh", 6 * MIB)
    return copy


def test_source_node_killed_while_it_sends(near, far, source, marked, slow):
    with slow("peer.sent", 20000):
        r = sync(far, marked, wait=False)
        wait_for(lambda: near.get("/api/v1/node/transfers").data["transfers"], 20, what="the transfer")
        near.kill9()
    wait_for(lambda: outcome(far, r.data["operation_id"]), 60, what="the end")
    e = outcome(far, r.data["operation_id"])
    assert e["event_type"] == "container.operation.failed" and "broke" in e["payload"]["error"]["message"], e
    untouched(far, marked, "before")
    # Nobody is there: a clear answer, and nothing happens.
    r = sync(far, marked)
    assert r.status == 503 and "does not answer" in r.json["message"], r
    r = ask_copy(far, marked, "nobody", target_server_id=IDS["near"])
    assert r.status == 503 and "does not answer" in r.json["message"], r
    untouched(far, marked, "before")
    near.start()
    near.wait_idle()
    in_step(near, far, source, marked, "again")
    assert len(kept(near, source)) <= 2 and not leftovers(near)


def test_stopping_a_node_ends_what_it_sends(near, far, marked, slow):
    with slow("peer.sent", 60000):
        r = sync(far, marked, wait=False)
        wait_for(lambda: near.get("/api/v1/node/transfers").data["transfers"], 20, what="the transfer")
        near.restart()
    wait_for(lambda: outcome(far, r.data["operation_id"]), 60, what="the end")
    assert outcome(far, r.data["operation_id"])["event_type"] == "container.operation.failed"
    untouched(far, marked, "before")


def test_connection_cut(near, far, source, marked, slow, spaces):
    with slow("peer.sent", 3000):
        r = sync(far, marked, wait=False)
        wait_for(lambda: near.get("/api/v1/node/transfers").data["transfers"], 20, what="the transfer")
        spaces["far"].exec("ss", "-K", "dst", ADDRESSES["near"], "dport", "=", "8443")
    wait_for(lambda: outcome(far, r.data["operation_id"]), 60, what="the end")
    e = outcome(far, r.data["operation_id"])
    assert e["event_type"] == "container.operation.failed", e
    untouched(far, marked, "before")
    in_step(near, far, source, marked, "again")


@contextlib.contextmanager
def failing(node, point):
    """Inside, the node has a failpoint; it may be dead at the end."""
    node.restart(point)
    try:
        yield
    finally:
        if node.process.poll() is None:
            node.stop()
        node.start()
        node.wait_idle()


# Where the copy's node is killed, and what comes of a sync: the old state or the new one, never anything else.
FAR_POINTS = ["op.sync.intent", "op.sync.rootfs", "peer.received", "peer.fetched", "sync.made", "op.sync.stop", "op.sync.swap", "sync.swapped",
              "op.sync.start", "op.sync.commit"]


@pytest.mark.parametrize("point", FAR_POINTS)
def test_copys_node_fails_in_a_sync(near, far, source, marked, point):
    worker = not point.startswith("op.")
    with failing(far, f"{point}=kill"):
        try:
            r = sync(far, marked, wait=False)
        except http.client.HTTPException as e:
            r = e
        if worker:
            wait_for(lambda: not far.get("/healthz").data["operations"], 60, what="the end")
        else:
            far.wait_dead()
    wait_for(lambda: far.container(marked)["status"] in ("running", "stopped"), 60, what="the end")
    mark = "after" if not worker or point == "sync.swapped" else "before"
    if far.container(marked)["status"] == "stopped":
        assert far.op(marked, "start").status == 200
    assert far.inside(marked, "cat", "/root/mark") == mark, (r, far.log())
    far.wait_idle()
    far.assert_consistent()
    assert not leftovers(far) and not leftovers(near)
    in_step(near, far, source, marked, "again")
    assert len(kept(near, source)) <= 2


@pytest.mark.parametrize("point", ["peer.kept", "peer.sent", "snapshot.nested"])
@pytest.mark.parametrize("how", ["kill", "error"])
def test_sources_job_fails(near, far, source, marked, point, how):
    inner = slot(near, source) + "/rootfs/srv/inner"
    run("btrfs", "subvolume", "create", inner)
    with failing(near, f"{point}={how}"):
        r = sync(far, marked)
        assert r.status in (502, 503) and r.json["code"] == "CONTAINER_HOST_COMMAND_FAILED", r
        untouched(far, marked, "before")
    run("btrfs", "subvolume", "delete", inner)
    in_step(near, far, source, marked, "again")
    assert not leftovers(near) and not leftovers(far)


@pytest.mark.parametrize("point", ["op.copy.intent", "op.copy.rootfs", "peer.received", "peer.fetched", "peer.seeded", "op.copy.start", "op.copy.commit"])
def test_copys_node_fails_in_a_copy(near, far, source, point):
    worker = not point.startswith("op.")
    near.post(f"/api/v1/containers/{source}/snapshots", {"alias": "with"})
    with failing(far, f"{point}=kill"):
        r = ask_copy(near, source, "unlucky")
        if worker:
            assert r.status == 201, r
            cid = r.data["id"]
            wait_for(lambda: far.container(cid)["status"] == "failed", 60, what="the failure")
            assert not os.path.exists(slot(far, cid))
        else:
            far.wait_dead()
            assert r.status in (201, 502, 503), r
    if not worker:
        cid = next(c["id"] for c in far.list() if c["name"] == "unlucky")
        wait_for(lambda: far.container(cid)["status"] == "running", 60, what="the copy")
        assert far.container(cid)["snapshot_count"] == 1
    gone(far, cid)
    near.wait_idle()
    near.call("DELETE", f"/api/v1/containers/{source}/snapshots/with")
    assert not leftovers(far) and not leftovers(near)
    assert not [n for n in kept(near, source) if n.startswith(cid)]


class Ballast:
    """A file that leaves only so much of the pool."""

    def __init__(self, node, left):
        self.path = node.pool + "/ballast"
        with open(self.path, "ab", buffering=0) as f:
            for step in (64 * MIB, 8 * MIB):
                while node.get("/api/v1/node/storage").data["free_bytes"] > left + step:
                    f.write(os.urandom(MIB) * (step // MIB))
                    os.fsync(f.fileno())

    def remove(self):
        os.unlink(self.path)
        subprocess.run(["sync", "-f", os.path.dirname(self.path)], check=True)


def test_receivers_pool_full(near, far, source, marked):
    write(near, source, "/root/large", 200 * MIB)
    reserve = far.get("/api/v1/node/storage").data["reserve_bytes"]
    ballast = Ballast(far, reserve + 60 * MIB)
    try:
        r = sync(far, marked)
        assert r.status == 502 and "pool is full" in r.json["message"], (r, far.log())
        untouched(far, marked, "before")
        r = ask_copy(near, source, "no-room", True)
        assert r.status == 502 and "pool is full" in r.json["message"], r
        failed = [c["id"] for c in far.list() if c["name"] == "no-room"]
        gone(far, *failed)
    finally:
        ballast.remove()
    wait_for(lambda: far.get("/api/v1/node/storage").data["state"] != "full", 30, what="room")
    in_step(near, far, source, marked, "room")
    assert checksum(far, marked, "/root/large") == checksum(near, source, "/root/large")
    near.inside(source, "rm", "/root/large")
    in_step(near, far, source, marked, "smaller")


def test_what_is_lost_is_sent_again(near, far, source, marked, nodes):
    """Either side may lose what it keeps."""
    for path in [slot(near, source) + "/sent/" + n for n in kept(near, source)]:
        run("btrfs", "subvolume", "delete", path)
    in_step(near, far, source, marked, "without sent")
    run("btrfs", "subvolume", "delete", slot(far, marked) + "/base")
    in_step(near, far, source, marked, "without base")
    moved = nodes.wire_bytes()
    in_step(near, far, source, marked, "with both")
    assert nodes.wire_bytes() - moved < 4 * MIB


def test_a_source_that_is_gone(near, far, source):
    other = near.create("short-lived", hoody_kit=False)["id"]
    cid = copy_to(near, far, other, "orphan")
    gone(near, other)
    r = sync(far, cid)
    assert r.status == 502 and r.json["code"] == "SOURCE_CONTAINER_NOT_FOUND", r
    assert far.container(cid)["status"] == "running"
    gone(far, cid)


def test_nothing_is_left_in_the_end(near, far, source, copy):
    gone(far, copy)
    wait_for(lambda: not kept(near, source), 20, what="what was kept")
    assert not leftovers(near) and not leftovers(far)
