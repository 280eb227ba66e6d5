# SPDX-License-Identifier: Apache-2.0
"""Sync: a copy gets the state of its source and keeps what makes it itself."""
import socket

import pytest
from daemon import PROJECT, Daemon
from world import wait_for

MARK = "echo {0} > /root/mark; sync -f /root/mark"


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def source(node):
    cid = node.create("sync-source", hoody_kit=False, environment_vars={"WHO": "source"})["id"]
    node.wait_booted(cid)
    return cid


@pytest.fixture
def copy(node, source):
    r = node.post(f"/api/v1/containers/{source}/copy?wait=true", {"target_project_id": PROJECT, "name": "sync-copy"})
    assert r.status == 201
    yield r.data["id"]
    assert node.delete(r.data["id"]).status == 200
    node.assert_consistent()


def sync(node, cid, wait=True):
    return node.post(f"/api/v1/containers/{cid}/sync" + ("?wait=true" if wait else ""))


def identity(node, cid):
    """The first connection makes the host keys; here by hand."""
    node.inside(cid, "systemctl", "start", "ssh-host-keys.service")
    return [node.inside(cid, "cat", path) for path in ("/etc/machine-id", "/etc/hostname", "/etc/ssh/ssh_host_ed25519_key.pub")]


def test_a_running_copy(node, source, copy):
    node.wait_booted(copy)
    before = identity(node, copy)
    assert before[0] != identity(node, source)[0] and before[2] != identity(node, source)[2]
    path = f"/api/v1/containers/{copy}"
    node.call("PUT", path + "/env", {"WHO": "copy"})
    node.post(path + "/firewall/ingress", {"action": "drop", "protocol": "udp"})
    node.post(path + "/snapshots", {"alias": "mine"})
    node.inside(source, "sh", "-c", MARK.format("fresh"))
    node.inside(copy, "sh", "-c", "touch /root/local /ramdisk/kept")
    r = sync(node, copy)
    assert r.status == 200 and r.data["status"] == "running"
    node.wait_booted(copy)
    assert node.inside(copy, "cat", "/root/mark") == "fresh"
    assert node.inside(copy, "sh", "-c", "test -e /root/local || echo replaced") == "replaced"
    assert node.inside(copy, "ls", "/ramdisk") == "kept"
    assert identity(node, copy) == before
    c = node.container(copy)
    assert c["environment_vars"] == {"WHO": "copy"} and not c["env_sync"]["pending"] and c["snapshot_count"] == 1
    assert "WHO=copy" in node.inside(copy, "cat", "/etc/environment").replace('"', "")
    assert node.get(path + "/firewall/rules").data["rule_count"] == 1
    assert node.container(source)["environment_vars"] == {"WHO": "source"}
    logs = [(x["from_status"], x["to_status"]) for x in node.get(path + "/status-logs?limit=2").data["logs"]]
    assert logs == [("copying", "running"), ("running", "copying")]


def test_a_stopped_copy_stays_stopped(node, source, copy):
    assert node.op(copy, "stop", {"timeout": 10}).status == 200
    node.inside(source, "sh", "-c", MARK.format("later"))
    r = sync(node, copy)
    assert r.status == 200 and r.data["status"] == "stopped" and node.container(copy)["status"] == "stopped"
    assert node.op(copy, "start").status == 200
    assert node.inside(copy, "cat", "/root/mark") == "later"


def test_answers_at_once_without_wait(node, copy):
    r = sync(node, copy, wait=False)
    assert r.status == 200 and r.data["status"] == "copying"
    assert node.op(copy, "stop").status == 409 and node.delete(copy).status == 409
    wait_for(lambda: node.container(copy)["status"] == "running", 30, what="the end")


def test_refusals(node, source, copy):
    assert sync(node, source).json["code"] == "CONTAINER_NOT_COPIED"
    assert node.op(source, "pause").status == 200
    assert sync(node, copy).json["code"] == "OPERATION_STATE_CONFLICT"
    assert node.op(source, "resume").status == 200
    assert node.op(copy, "pause").status == 200
    assert sync(node, copy).json["code"] == "OPERATION_STATE_CONFLICT"
    assert node.op(copy, "resume").status == 200


def test_not_while_it_is_read(node, copy):
    """A sync that fails tidies the slot, and what an export reads is in there."""
    c = socket.socket(socket.AF_UNIX)
    try:
        c.connect(node.socket)
        c.sendall(f"GET /api/v1/containers/{copy}/export HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert c.recv(1000).startswith(b"HTTP/1.1 200")
        for method, rest in (("POST", "/sync"), ("DELETE", "")):
            r = node.call(method, f"/api/v1/containers/{copy}" + rest)
            assert (r.status, r.json["code"]) == (409, "RESOURCE_IN_USE"), r
    finally:
        c.close()
    wait_for(lambda: sync(node, copy).status == 200, 60, what="the end of the export")


def test_a_source_that_is_gone(node, source):
    first = node.post(f"/api/v1/containers/{source}/copy?wait=true", {"target_project_id": PROJECT, "name": "first"}).data["id"]
    second = node.post(f"/api/v1/containers/{first}/copy?wait=true", {"target_project_id": PROJECT, "name": "second"}).data["id"]
    assert node.delete(first).status == 200
    r = sync(node, second)
    assert r.status == 404 and r.json["code"] == "SOURCE_CONTAINER_NOT_FOUND" and node.container(second)["status"] == "running"
    assert node.delete(second).status == 200
