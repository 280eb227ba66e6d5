# SPDX-License-Identifier: Apache-2.0
"""Ports of the host that lead to containers, by the API and nodectl: tests/run tests/integration/test_node_forwards.py"""
import http.client
import json
import socket
import subprocess

import pytest
from daemon import Daemon
from netlab import ask
from test_node_network import HOST4, HOST6, WORLD4, WORLD6, world  # noqa: F401
from world import BUILD, wait_for

# Answers with the client's address, by the container's own systemd, so it is there again after a restart.
UNITS = {"/etc/systemd/system/forward.socket": """[Socket]
ListenStream=[::]:8099
BindIPv6Only=both
Accept=yes
[Install]
WantedBy=sockets.target
""", "/etc/systemd/system/forward@.service": """[Service]
ExecStart=/bin/sh -c 'echo "$REMOTE_ADDR"'
StandardInput=socket
StandardOutput=socket
"""}


@pytest.fixture(scope="module")
def node(world):  # noqa: F811
    d = Daemon(kits=True, network__uplink="net0").start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    cid = node.create("forward-box")["id"]
    node.wait_booted(cid)
    return cid


@pytest.fixture(scope="module")
def other(node):
    return node.create("forward-other", hoody_kit=False)["id"]


@pytest.fixture
def path(node, box):
    path = f"/api/v1/containers/{box}/forwards"
    yield path
    for f in node.get(path).data["forwards"]:
        node.call("DELETE", f"{path}/{f['protocol']}/{f['host_port']}")


@pytest.fixture
def service(node, box):
    for path, text in UNITS.items():
        node.inside(box, "sh", "-c", f"cat >{path} <<'EOF'\n{text}EOF")
    node.inside(box, "systemctl", "enable", "--now", "forward.socket")
    return 8099


def event_types(node, box):
    return [e["event_type"] for e in node.get(f"/api/v1/events?container_id={box}&limit=20").data["events"]
            if "forward" in e["event_type"]]


def test_life(node, box, path, service, world):  # noqa: F811
    r = node.post(path, {"host_port": 9080, "container_port": service})
    assert r.status == 201, r
    assert r.data == {"container_id": box, "max_forwards": 64, "forwards": [
        {"protocol": "tcp", "host_port": 9080, "container_port": service}]}
    assert ask(world, HOST4, 9080, WORLD4) == WORLD4
    assert ask(world, HOST6, 9080, WORLD6) == WORLD6
    assert node.post(path, {"host_port": 9080, "container_port": service, "protocol": "tcp"}).status == 200
    assert event_types(node, box)[0] == "container.forward.added"

    assert node.op(box, "restart").status == 200
    wait_for(lambda: node.container(box)["status"] == "running", 60)
    node.wait_booted(box)
    assert ask(world, HOST4, 9080, WORLD4) == WORLD4
    node.kill9()
    node.start()
    assert ask(world, HOST4, 9080, WORLD4) == WORLD4
    assert len(node.get(path).data["forwards"]) == 1

    assert node.call("DELETE", path + "/tcp/9080").data["forwards"] == []
    with pytest.raises(OSError):
        ask(world, HOST4, 9080, WORLD4)
    assert event_types(node, box)[:2] == ["container.forward.removed", "container.forward.added"]
    assert node.call("DELETE", path + "/tcp/9080").status == 404


@pytest.mark.parametrize("body,field", [
    ({}, "host_port"), ({"host_port": 0}, "host_port"), ({"host_port": 65536}, "host_port"),
    ({"host_port": "80"}, "host_port"), ({"host_port": 9000, "container_port": 0}, "container_port"),
    ({"host_port": 9000, "protocol": "icmp"}, "protocol"), ({"host_port": 9000, "x": 1}, "x")])
def test_bad_input_changes_nothing(node, path, body, field):
    r = node.post(path, body)
    assert (r.status, r.json["field"]) == (400, field)
    assert node.get(path).data["forwards"] == []


def test_kit_ports_are_for_the_proxy(node, box, path):
    port = next(s["port"] for r in node.get("/api/v1/node/routes").data["routes"] if r["container_id"] == box
                for s in r["services"])
    r = node.post(path, {"host_port": 9000, "container_port": port})
    assert (r.status, r.json["field"]) == (400, "container_port")
    assert node.post(path, {"host_port": 9000, "container_port": port, "protocol": "udp"}).status == 201


def test_conflicts(node, other, path):
    assert node.post(path, {"host_port": 9001}).status == 201
    theirs = f"/api/v1/containers/{other}/forwards"
    for where, body in ((theirs, {"host_port": 9001}), (path, {"host_port": 9001, "container_port": 5})):
        r = node.post(where, body)
        assert (r.status, r.json["code"], r.json["field"]) == (409, "FORWARD_PORT_IN_USE", "host_port")
        assert "forward-box" in r.json["message"]
    assert node.post(theirs, {"host_port": 9001, "protocol": "udp"}).status == 201  # another protocol, another port
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for kind, protocol in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
            with socket.socket(family, kind) as s:
                s.bind((address, 9002))
                if protocol == "tcp":
                    s.listen()
                r = node.post(theirs, {"host_port": 9002, "protocol": protocol})
                assert (r.status, r.json["code"]) == (409, "FORWARD_PORT_IN_USE") and "program" in r.json["message"]
    assert [f["host_port"] for f in node.get(theirs).data["forwards"]] == [9001]
    assert node.call("DELETE", theirs + "/udp/9001").status == 200


def test_limit(node, path):
    for port in range(20000, 20064):
        assert node.post(path, {"host_port": port}).status == 201
    r = node.post(path, {"host_port": 20064})
    assert (r.status, r.json["field"]) == (400, "host_port")


def test_a_refusal_of_the_kernel_changes_nothing(node, box, path):
    """The record goes back when the rules do not get there."""
    assert node.post(path, {"host_port": 9003}).status == 201
    node.stop()
    node.start(failpoint="op.host-setting.rules=error")
    r = node.post(path, {"host_port": 9004})
    assert r.status >= 500, r
    assert [f["host_port"] for f in node.get(path).data["forwards"]] == [9003]
    node.stop()
    node.start()
    assert [f["host_port"] for f in node.get(path).data["forwards"]] == [9003]


@pytest.mark.parametrize("where", ["intent", "rules", "commit"])
def test_a_crash_is_finished_at_the_next_start(node, box, path, where):
    node.stop()
    node.start(failpoint=f"op.host-setting.{where}=kill")
    with pytest.raises((OSError, http.client.HTTPException)):
        node.post(path, {"host_port": 9005})
    node.wait_dead()
    node.start()
    node.wait_idle()
    assert [f["host_port"] for f in node.get(path).data["forwards"]] == [9005]
    assert "tcp . 9005" in node.table()
    node.assert_consistent()


def test_a_copy_has_none_and_deletion_frees_the_port(node, other, path):
    c = node.create("forward-gone", hoody_kit=False)["id"]
    mine = f"/api/v1/containers/{c}/forwards"
    assert node.post(mine, {"host_port": 9006}).status == 201
    copy = node.post(f"/api/v1/containers/{c}/copy?wait=true", {"target_project_id": node.container(c)["project_id"]})
    assert copy.status in (200, 201, 202), copy
    assert node.get(f"/api/v1/containers/{copy.data['id']}/forwards").data["forwards"] == []
    assert node.op(c, "force-stop").status == 200
    assert node.post(path, {"host_port": 9006}).status == 409
    node.delete(c)
    assert node.post(path, {"host_port": 9006}).status == 201
    node.delete(copy.data["id"])


def test_nodectl(node, box, path):
    def ctl(*argv):
        return subprocess.run([f"{BUILD}/nodectl", "--socket", node.socket, *argv], capture_output=True, text=True,
                              timeout=30)

    assert ctl("forward", "list", "forward-box").stderr.strip() == "No port of the host leads to it."
    assert ctl("forward", "add", "forward-box", "9007:80").returncode == 0
    done = ctl("forward", "add", "forward-box", "9008/udp")
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [["tcp", "9007", "80"], ["udp", "9008", "9008"]]
    assert len(json.loads(ctl("--json", "forward", "list", "forward-box").stdout)["forwards"]) == 2
    assert ctl("forward", "remove", "forward-box", "9008/udp").returncode == 0
    for bad in ("x", "80:", "80/icmp", ":80", "80:90:100"):
        assert ctl("forward", "add", "forward-box", bad).returncode == 2, bad
