# SPDX-License-Identifier: Apache-2.0
"""Containers of a project that may reach each other, through a whole node."""
import subprocess

import pytest
from daemon import Daemon
from world import BUILD, run

MINE, OTHER = "c" * 24, "d" * 24


@pytest.fixture(scope="module")
def node():
    d = Daemon()
    d.start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def boxes(node):
    made = {}
    for name, project in (("one", MINE), ("two", MINE), ("away", OTHER)):
        made[name] = node.post(f"/api/v1/projects/{project}/containers?wait=true", {"name": name, "server_id": "self", "hoody_kit": False}).data["id"]
        node.wait_booted(made[name])
    return made


PROBE = """
import socket, sys
for address in sys.argv[1:]:
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
    s.settimeout(0.7)
    try:
        s.connect((address, 9))
    except OSError as e:
        print(type(e).__name__)
"""


def reaches(node, source, target):
    """By IPv4 and IPv6: that nobody listens is said by the container itself."""
    def about(cid):
        return node.get(f"/api/v1/containers/{cid}").data["node"]
    said = run("nsenter", "-t", str(about(source)["init_pid"]), "-n", "/usr/bin/python3", "-c", PROBE, about(target)["ipv4"],
               about(target)["ipv6"]).split()
    assert len(set(said)) == 1 and len(said) == 2, said
    return said[0] == "ConnectionRefusedError"


def switch(node, project, on, status=200):
    r = node.call("PATCH", f"/api/v1/projects/{project}/network", {"inter_container": on})
    assert r.status == status, r
    return r


def test_a_project_is_opened_and_closed(node, boxes):
    one, two, away = boxes["one"], boxes["two"], boxes["away"]
    assert node.get(f"/api/v1/projects/{MINE}/network").data == {"project_id": MINE, "inter_container": False}
    assert not reaches(node, one, two)
    assert switch(node, MINE, True).data == {"project_id": MINE, "inter_container": True}
    assert reaches(node, one, two) and reaches(node, two, one)
    assert not reaches(node, one, away) and not reaches(node, away, two)
    switch(node, OTHER, True)
    assert not reaches(node, one, away) and not reaches(node, away, two), "each for itself"
    node.restart()
    assert node.get(f"/api/v1/projects/{MINE}/network").data["inter_container"] is True
    assert reaches(node, one, two) and not reaches(node, one, away)
    new = node.post(f"/api/v1/projects/{MINE}/containers?wait=true", {"name": "new", "server_id": "self", "hoody_kit": False}).data["id"]
    assert reaches(node, one, new) and not reaches(node, away, new)
    node.post(f"/api/v1/containers/{two}/stop?wait=true")
    node.post(f"/api/v1/containers/{two}/start?wait=true")
    assert reaches(node, two, new)
    assert node.post(f"/api/v1/containers/{two}/firewall/ingress", {"action": "drop", "protocol": "tcp"}).status == 201
    assert not reaches(node, one, two) and reaches(node, two, one)
    node.post(f"/api/v1/containers/{two}/firewall/reset")
    assert node.delete(new).status == 200
    switch(node, MINE, False)
    assert not reaches(node, one, two) and not reaches(node, two, one)
    switch(node, OTHER, False)
    told = [(r["project_id"], r["payload"]["inter_container"]) for r in
            node.get("/api/v1/events?event_type=project.network.updated&sort_order=asc").data["events"]]
    assert sorted(told) == [(MINE, False), (MINE, True), (OTHER, False), (OTHER, True)], told
    elements = node.table()
    assert "0x0001" not in elements, elements


def test_input(node, boxes):
    for body in ({}, {"inter_container": "yes"}, {"inter_container": True, "more": 1}, None):
        r = node.call("PATCH", f"/api/v1/projects/{MINE}/network", body)
        assert (r.status, r.json["code"]) == (400, "VALIDATION_ERROR"), r
    r = node.call("PUT", f"/api/v1/projects/{'e' * 24}/network", {"inter_container": True})
    assert (r.status, r.json["code"]) == (404, "PROJECT_NOT_FOUND")
    assert node.get(f"/api/v1/projects/{'e' * 24}/network").status == 404


def test_nodectl(node, boxes):
    def ctl(*argv, **options):
        return subprocess.run([BUILD + "/nodectl", "--socket", node.socket, "project", "network", *argv], text=True, capture_output=True,
                              check=False, **options)
    assert ctl(MINE).stdout.split()[-1] == "no"
    assert ctl(MINE, "on").stdout.split()[-1] == "yes" and ctl(MINE).stdout.split()[-1] == "yes"
    assert ctl(MINE, "off").returncode == 0 and ctl(MINE, "maybe").returncode == 2


def test_a_refusal_changes_nothing(node, boxes):
    node.restart("net.project=error")
    assert switch(node, MINE, True, 500).json["code"] == "CONTAINER_HOST_COMMAND_FAILED"
    assert node.get(f"/api/v1/projects/{MINE}/network").data["inter_container"] is False
    assert not reaches(node, boxes["one"], boxes["two"])
    node.restart()
    assert node.get(f"/api/v1/projects/{MINE}/network").data["inter_container"] is False
    assert not reaches(node, boxes["one"], boxes["two"])
