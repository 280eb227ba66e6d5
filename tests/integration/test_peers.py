# SPDX-License-Identifier: Apache-2.0
"""Two nodes on one machine, each in a network of its own: copies and syncs between them, and everything that can go wrong."""
import json
import os
import subprocess

import pytest
from daemon import PROJECT, Daemon
from netlab import Space
from world import BUILD, run, wait_for

MIB = 1 << 20
IDS = {"near": "a" * 24, "far": "b" * 24}
ADDRESSES = {"near": "192.0.2.1", "far": "192.0.2.2"}
NODECTL = BUILD + "/nodectl"


@pytest.fixture(scope="module")
def spaces():
    made = {name: Space("peer-" + name) for name in IDS}
    run("ip", "link", "add", "wire0", "netns", made["near"].name, "type", "veth", "peer", "name", "wire0", "netns", made["far"].name)
    for name, space in made.items():
        space.ip("addr", "add", ADDRESSES[name] + "/24", "dev", "wire0")
        space.ip("link", "set", "wire0", "up")
    yield made
    for space in made.values():
        space.delete()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("pki"))
    run(NODECTL, "pki", "init", "--dir", path)
    for name, server in IDS.items():
        run(NODECTL, "pki", "node", server, "--dir", path, "--out", f"{path}/{name}", "--host", ADDRESSES[name])
    return path


@pytest.fixture(scope="module")
def nodes(spaces, pki):
    made = {}
    for name, other in (("near", "far"), ("far", "near")):
        at = f"{pki}/{name}"
        made[name] = Daemon(space=spaces[name], loop_bytes=3 << 30, node__id=IDS[name], tls__listen=ADDRESSES[name] + ":8443",
                            tls__certificate=at + "/server.crt", tls__key=at + "/server.key", tls__client_ca=at + "/ca.crt",
                            peers__nodes=f"{IDS[other]}={ADDRESSES[other]}:8443", peers__certificate=at + "/node.crt",
                            peers__key=at + "/node.key")
        made[name].start()
    yield made
    for d in made.values():
        d.close()


@pytest.fixture(scope="module")
def near(nodes):
    return nodes["near"]


@pytest.fixture(scope="module")
def far(nodes):
    return nodes["far"]


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


def wire_bytes(space):
    return sum(json.loads(space.ip("-j", "-s", "link", "show", "dev", "wire0").stdout)[0]["stats64"][d]["bytes"] for d in ("rx", "tx"))


def gone(node, *cids):
    for cid in cids:
        assert node.delete(cid).status == 200
    node.wait_idle()
    node.assert_consistent()


def test_a_copy_on_another_node(near, far, source, spaces):
    write(near, source, "/root/data", 8 * MIB)
    path = f"/api/v1/containers/{source}"
    first = near.post(path + "/snapshots", {"alias": "one"}).data["snapshot"]["name"]
    write(near, source, "/root/later", MIB)
    near.post(path + "/snapshots", {"alias": "two"})
    near.post(path + "/firewall/ingress", {"action": "drop", "protocol": "udp"})
    before = wire_bytes(spaces["near"])
    r = ask_copy(near, source, "elsewhere", copy_firewall_rules=True)
    assert r.status == 201, (r, near.log(), far.log())
    assert r.data["status"] == "copying" and r.data["server_id"] == IDS["far"] and r.data["source_container_id"] == source
    assert r.data["copy_firewall_rules"] and not r.data["copy_network_rules"]
    cid, operation = r.data["id"], r.data["operation_id"]
    assert near.get(f"/api/v1/containers/{cid}").status == 404
    wait_for(lambda: outcome(far, operation), 120, what="the end of the copy")
    assert outcome(far, operation)["event_type"] == "container.operation.completed", (outcome(far, operation), far.log(), near.log())
    far.wait_booted(cid)
    # The image is on both, so only the difference came.
    assert wire_bytes(spaces["near"]) - before < 60 * MIB
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
