# SPDX-License-Identifier: Apache-2.0
"""The firewall of a container through a whole node."""
import socket
import subprocess

import pytest
from daemon import Daemon
from world import BUILD, run, wait_for


@pytest.fixture(scope="module")
def node():
    d = Daemon()
    d.start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    cid = node.create("fw-box", hoody_kit=False)["id"]
    node.wait_booted(cid)
    return cid


def test_a_refused_rule_is_named(node, box):
    """When the kernel refuses a rule that passes all checks, the answer says which, and nothing has changed."""
    path = f"/api/v1/containers/{box}/firewall"
    for port in range(3):
        assert node.post(path + "/egress", {"action": "drop", "protocol": "tcp", "destination_port": str(port + 1)}).status == 201
    before = node.get(path + "/rules").text
    node.restart("rule.egress.3=error")
    r = node.post(path + "/egress", {"action": "reject", "protocol": "tcp"})
    assert (r.status, r.json["code"], r.json["field"]) == (503, "FIREWALL_HOST_UNAVAILABLE", "egress[3]"), r
    assert "container fw-box: " in r.json["message"] and "egress rule 3: " in r.json["message"], r
    assert r.data == {"container_id": box} and r.headers["Retry-After"]
    assert node.get(path + "/rules").text == before
    assert node.post(path + "/ingress", {"action": "allow", "protocol": "tcp"}).status == 201, "others are applied"
    node.restart()
    assert node.post(path + "/reset").status == 200


def test_a_refused_container_is_closed_and_the_rest_is_not(node, box):
    """One container's rules that the kernel refuses leave neither the node down nor the others without a firewall."""
    other = node.create("fw-other", hoody_kit=False)["id"]
    addresses = [node.get(f"/api/v1/containers/{cid}").data["node"]["ipv4"] for cid in (box, other)]

    def reached():
        """Whose port 9 refuses, which shows that the packet came there."""
        found = []
        for address in addresses:
            with socket.socket() as s:
                s.settimeout(0.7)
                try:
                    s.connect((address, 9))
                except OSError as e:
                    found.append(isinstance(e, ConnectionRefusedError))
        return found

    path = f"/api/v1/containers/{box}/firewall"
    assert node.post(path + "/ingress", {"action": "allow", "protocol": "tcp"}).status == 201
    wait_for(lambda: reached() == [True, True], 20, what="both")
    node.restart("rule.ingress.0=error")
    assert reached() == [False, True]
    assert "container fw-box: slot 1: ingress rule 0: nftables refuses it" in node.log(), node.log()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    wait_for(lambda: "lists_1" in run("nft", "list", "tables"), 5, what="the repair")
    assert reached() == [False, True], "the repair does the same"
    node.restart()
    assert reached() == [True, True]
    assert node.post(path + "/reset").status == 200
    assert node.delete(other).status == 200


def test_bytes_are_limited(node, box):
    path = f"/api/v1/containers/{box}/firewall"
    for n in range(500):
        r = node.post(path + "/ingress", {"action": "drop", "protocol": "udp", "destination_port": str(n + 1), "description": "\U0001f6ab" * 255})
        if r.status != 201:
            break
    listed = node.get(path + "/rules").data
    assert (r.status, r.json["code"]) == (400, "CONTAINER_FIREWALL_BYTES_LIMIT"), r
    assert r.data["current_bytes"] > r.data["limit"] == 262144 >= listed["byte_count"] and listed["rule_count"] == n
    assert listed["byte_count"] > 262144 - 1400, "as full as it gets"
    assert node.post(path + "/reset").status == 200


def test_combinations_are_limited_before_they_are_made(node, box):
    path = f"/api/v1/containers/{box}/firewall"
    many = ",".join(f"10.0.0.{2 * n}" for n in range(45))
    for n in range(56):
        r = node.post(path + "/ingress", {"action": "drop", "protocol": "tcp", "source": many, "source_port": str(n + 1),
                                          "destination_port": "1,3,5,7,9,11,13,15"})
        if r.status != 201:
            break
    assert (n, r.status, r.json["code"]) == (55, 400, "CONTAINER_FIREWALL_RULE_LIMIT"), r
    assert (r.data["limit"], r.data["current_combinations"]) == (20000, 20160)
    assert node.get(path + "/rules").data["rule_count"] == 55
    assert node.post(path + "/reset").status == 200


def test_counters(node, box):
    """What each rule has matched; without being asked for, the contract's own reply."""
    path = f"/api/v1/containers/{box}/firewall"
    rules = [{"action": "drop", "protocol": "udp", "destination_port": "9"}, {"action": "allow", "protocol": "udp", "state": "disabled"}]
    for r in rules:
        assert node.post(path + "/ingress", r).status == 201
    address = node.get(f"/api/v1/containers/{box}").data["node"]["ipv4"]

    def counted():
        return [r["counters"] for r in node.get(path + "/rules?counters=true").data["ingress"]]

    assert counted() == [{"packets": 0, "bytes": 0}, None]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(3):
            with pytest.raises(PermissionError):
                client.sendto(b"x" * 72, (address, 9))
    assert counted() == [{"packets": 3, "bytes": 300}, None]
    assert node.post(path + "/egress", {"action": "allow", "protocol": "tcp"}).status == 201
    assert counted()[0] == {"packets": 3, "bytes": 300}, "a change of another rule"
    node.restart()
    assert counted()[0] == {"packets": 3, "bytes": 300}, "a new noded"
    assert all("counters" not in r for r in node.get(path + "/rules").data["ingress"])
    assert node.get(path + "/rules?counters=maybe").json["field"] == "counters"
    shown = run(BUILD + "/nodectl", "--socket", node.socket, "firewall", "list", "fw-box").split("\n")
    assert "PACKETS" in shown[0] and " 3 " in shown[1] and " 300 " in shown[1] and "disabled  -" in shown[2], shown
    node.post(f"/api/v1/containers/{box}/stop?wait=true")
    assert counted() == [None, None]
    node.post(f"/api/v1/containers/{box}/start?wait=true")
    assert counted() == [{"packets": 0, "bytes": 0}, None]
    assert node.post(path + "/reset").status == 200
