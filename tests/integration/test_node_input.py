# SPDX-License-Identifier: Apache-2.0
"""Wrong input on every route: the envelope, a 4xx that names the field, and nothing changed."""
import json
import socket

import pytest
from daemon import PROJECT, Daemon

ID = "1d" * 12
C = f"/api/v1/containers/{ID}"
CREATE = f"/api/v1/projects/{PROJECT}/containers"
OK = {"server_id": "self", "name": "fine-name", "hoody_kit": False}


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    d.create("target", id=ID, hoody_kit=False)
    assert d.post(C + "/snapshots", {"alias": "s"}).status == 200
    assert d.post(C + "/firewall/ingress", {"action": "allow", "protocol": "tcp", "destination_port": "80"}).status == 201
    yield d
    d.close()


def state(d):
    """All that a request could change, as the API and the host show it."""
    return (d.get(C).text, d.get(C + "/snapshots").text, d.get(C + "/firewall/rules").text, d.get(C + "/env").text,
            json.dumps([c["id"] for c in d.list()]), d.everything(), d.table().split("counter")[0])


BAD_BODIES = [
    # method, path, body, status, field
    ("POST", CREATE, {**OK, "name": 5}, 400, "name"),
    ("POST", CREATE, {**OK, "name": "ab"}, 400, "name"),
    ("POST", CREATE, {**OK, "name": "a b c"}, 400, "name"),
    ("POST", CREATE, {**OK, "name": "x" * 101}, 400, "name"),
    ("POST", CREATE, {**OK, "name": "../../etc"}, 400, "name"),
    ("POST", CREATE, {"name": "abc"}, 400, "server_id"),
    ("POST", CREATE, {**OK, "server_id": None}, 400, "server_id"),
    ("POST", CREATE, {**OK, "server_id": "f" * 24}, 404, "server_id"),
    ("POST", CREATE, {**OK, "id": "xyz"}, 400, "id"),
    ("POST", CREATE, {**OK, "id": "AA" * 12}, 400, "id"),
    ("POST", CREATE, {**OK, "color": "red"}, 400, "color"),
    ("POST", CREATE, {**OK, "container_image": "no/such"}, 404, "container_image"),
    ("POST", CREATE, {**OK, "container_image": "../../../etc"}, 400, "container_image"),
    ("POST", CREATE, {**OK, "ai": "yes"}, 400, "ai"),
    ("POST", CREATE, {**OK, "environment_vars": []}, 400, "environment_vars"),
    ("POST", CREATE, {**OK, "environment_vars": {"A": 1}}, 400, "environment_vars"),
    ("POST", CREATE, {**OK, "environment_vars": {"A": "x\x0blxc.hook.start = /bin/sh"}}, 400, "environment_vars"),
    ("POST", CREATE, {**OK, "environment_vars": {"1A": "x"}}, 400, "environment_vars"),
    ("POST", CREATE, {**OK, "environment_vars": {"HOODY_X": "x"}}, 400, "environment_vars"),
    ("POST", CREATE, {**OK, "environment_vars": {f"K{i}": "x" for i in range(257)}}, 400, "environment_vars"),
    ("POST", CREATE, {**OK, "environment_vars": {"A": "x" * 4097}}, 400, "environment_vars"),
    ("POST", CREATE, {**OK, "ssh_public_key": "nonsense"}, 400, "ssh_public_key"),
    ("POST", CREATE, {**OK, "ssh_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA\ncommand"}, 400, "ssh_public_key"),
    ("POST", CREATE, {**OK, "realm_ids": ["x"]}, 400, "realm_ids"),
    ("POST", CREATE, {**OK, "kvm": True}, 403, "kvm"),
    ("POST", CREATE, {**OK, "prespawn": True}, 403, "prespawn"),
    ("POST", CREATE, {**OK, "comment": "x" * 16001}, 400, "comment"),
    ("POST", CREATE, [1], 400, "body"),
    ("POST", CREATE, '{"server_id": "self"', 400, "body"),
    ("POST", CREATE, '{"name": "a", "name": "b"}', 400, "body"),
    ("POST", CREATE, "\x00", 400, "body"),
    ("POST", "/api/v1/projects/xyz/containers", OK, 400, "id"),
    ("POST", C + "/start", {"timeout": 0}, 400, "timeout"),
    ("POST", C + "/stop", {"timeout": 601}, 400, "timeout"),
    ("POST", C + "/stop", {"timeout": "5"}, 400, "timeout"),
    ("POST", C + "/stop", {"time": 5}, 400, "time"),
    ("POST", C + "/bogus", None, 400, "operation"),
    ("POST", C + "/snapshots", {"alias": 5}, 400, "alias"),
    ("POST", C + "/snapshots", {"alias": "x" * 101}, 400, "alias"),
    ("POST", C + "/snapshots", {"alias": "red\x1b[31m"}, 400, "alias"),
    ("PUT", C + "/snapshots/s/alias", {"alias": "two\nlines"}, 400, "alias"),
    ("POST", C + "/snapshots", {"alias": "s"}, 409, "alias"),
    ("POST", C + "/snapshots", {"expiry": 0}, 400, "expiry"),
    ("POST", C + "/snapshots", {"expiry": 3651}, 400, "expiry"),
    ("POST", C + "/snapshots", {"days": 3}, 400, "days"),
    ("PUT", C + "/snapshots/none", None, 404, "none"),
    ("PUT", C + "/snapshots/..%2f..%2fx", None, 404, ""),
    ("DELETE", C + "/snapshots/none", None, 404, "none"),
    ("POST", C + "/copy", {}, 400, "target_project_id"),
    ("POST", C + "/copy", {"target_project_id": "x"}, 400, "target_project_id"),
    ("POST", C + "/copy", {"target_project_id": PROJECT, "name": "!"}, 400, "name"),
    ("POST", C + "/copy", {"target_project_id": PROJECT, "source_snapshot": "none"}, 404, "source_snapshot"),
    ("POST", C + "/copy", {"target_project_id": PROJECT, "target_server_id": "e" * 24}, 404, "target_server_id"),
    ("PUT", C + "/env", {}, 400, "body"),
    ("PATCH", C + "/env", {"A": 5}, 400, "environment_vars"),
    ("PUT", C + "/env/A", {}, 400, "value"),
    ("PUT", C + "/env/A", {"value": ""}, 400, "value"),
    ("PUT", C + "/env/A", {"value": "x", "more": 1}, 400, "more"),
    ("PUT", C + "/env/A-B", {"value": "x"}, 400, "key"),
    ("DELETE", C + "/env/HOODY_TOKEN", None, 400, "key"),
    ("POST", C + "/firewall/ingress", {}, 400, "action"),
    ("POST", C + "/firewall/ingress", {"action": "maybe", "protocol": "tcp"}, 400, "action"),
    ("POST", C + "/firewall/ingress", {"action": "allow", "protocol": "sctp"}, 400, "protocol"),
    ("POST", C + "/firewall/ingress", {"action": "allow", "protocol": "tcp", "destination_port": "0-70000"}, 400,
     "destination_port"),
    ("POST", C + "/firewall/ingress", {"action": "allow", "protocol": "tcp", "source": "10.0.0.0/33"}, 400, "source"),
    ("POST", C + "/firewall/ingress", {"action": "allow", "protocol": "tcp", "destination": "10.0.0.1"}, 400,
     "destination"),
    ("POST", C + "/firewall/egress", {"action": "allow", "protocol": "tcp", "destination": "; flush ruleset"}, 400,
     "destination"),
    ("POST", C + "/firewall/egress", {"action": "allow", "protocol": "tcp", "extra": 1}, 400, "extra"),
    ("PATCH", C + "/firewall/ingress", {}, 400, "state"),
    ("PATCH", C + "/firewall/ingress", {"state": "off"}, 400, "state"),
    ("PATCH", C + "/firewall/egress", {"state": "disabled"}, 404, ""),
    ("DELETE", C + "/firewall/ingress", {"acton": None}, 400, "acton"),
    ("DELETE", C + "/firewall/ingress", {"destination_port": "81"}, 404, ""),
    ("POST", "/api/v1/node/kits", {}, 400, "file"),
    ("POST", "/api/v1/node/kits", {"file": "../../etc/passwd.kit"}, 400, "file"),
    ("POST", "/api/v1/node/kits", {"file": "none-1.0.kit"}, 404, "none-1.0.kit"),
    ("DELETE", "/api/v1/node/kits/..%2f..%2fx/1.0", None, 404, ""),
    ("POST", "/api/v1/node/kits/rollout", {"parallel": 0}, 400, "parallel"),
    ("POST", "/api/v1/node/kits/rollout", {"kits": {}}, 400, "kits"),
    ("POST", "/api/v1/node/kits/rollout", {"project_id": "x"}, 400, "project_id"),
    ("POST", "/api/v1/node/kits/rollout", {"containers": ["x"]}, 404, "containers"),
    ("POST", "/api/v1/node/kits/rollout", {"on_failure": "hope"}, 400, "on_failure"),
    ("DELETE", "/api/v1/node/kits/rollout", None, 400, ""),
    ("PUT", C + "/kits", {"kits": "all"}, 400, "kits"),
    ("PUT", C + "/kits", {"version": 1}, 400, "version"),
    ("PATCH", C + "/kits", {"kits": [{"name": "x", "version": "1"}]}, 400, "kits"),
    ("GET", "/api/v1/containers?limit=0", None, 400, "limit"),
    ("GET", "/api/v1/containers?limit=101", None, 400, "limit"),
    ("GET", "/api/v1/containers?page=x", None, 400, "page"),
    ("GET", "/api/v1/containers?sort_by=secret", None, 400, "sort_by"),
    ("GET", "/api/v1/containers?sort_order=up", None, 400, "sort_order"),
    ("GET", C + "/status-logs?limit=1000", None, 400, "limit"),
    ("GET", C + "/status-logs?sort_by=id;drop", None, 400, "sort_by"),
]


@pytest.mark.parametrize("case", BAD_BODIES, ids=lambda c: f"{c[0]} {c[1].replace(ID, 'C')} {str(c[2])[:50]}")
def test_bad_input(node, case):
    method, path, body, status, field = case
    before = state(node)
    r = node.call(method, path, body)
    assert r.status == status, r
    assert r.json["statusCode"] == status and isinstance(r.json["error"], str) and "data" in r.json, r
    assert field in r.json["message"] or field == r.json.get("field"), r
    assert state(node) == before


@pytest.mark.parametrize("tail", ["", "/stats", "/status-logs", "/env", "/snapshots", "/firewall/rules"])
@pytest.mark.parametrize("bad", ["zz", "1" * 23, "g" * 24, "0" * 25, "%00" * 8])
def test_bad_ids(node, tail, bad):
    r = node.get(f"/api/v1/containers/{bad}{tail}")
    assert r.status in (400, 404) and r.json["error"] in ("INVALID_ID_FORMAT", "RESOURCE_NOT_FOUND"), r


@pytest.mark.parametrize("tail", ["", "/stats", "/status-logs", "/env", "/snapshots", "/firewall/rules"])
def test_absent_container(node, tail):
    r = node.get(f"/api/v1/containers/{'e' * 24}{tail}")
    assert r.status == 404 and r.json["error"] == "CONTAINER_NOT_FOUND", r


@pytest.mark.parametrize("case", [("DELETE", "/healthz", "GET"), ("PUT", "/api/v1/node", "GET"),
                                  ("PATCH", "/api/v1/containers/", "GET"), ("PUT", C + "/start", "POST"),
                                  ("POST", C + "/env", "PUT, PATCH"), ("GET", C + "/copy", "POST")])
def test_wrong_verb(node, case):
    r = node.call(case[0], case[1], {} if case[0] != "GET" else None)
    assert r.status == 405 and case[2] in r.headers["Allow"], (r, r.headers["Allow"])


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/api/v2/containers", "/api/v1/container", C + "/env/A/B/C",
                                  "/api/v1/containers//", "/etc/passwd", "/api/v1/node/../containers"])
def test_unknown_path(node, path):
    r = node.get(path)
    assert r.status == 404 and r.json["statusCode"] == 404, r


def test_both_slash_forms(node):
    assert node.get("/api/v1/containers").data == node.get("/api/v1/containers/").data
    assert node.get(C + "/").data["id"] == ID


def test_body_over_the_limit_is_refused_unread(node):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(node.socket)
        s.sendall(f"POST {CREATE} HTTP/1.1\r\nHost: n\r\nContent-Length: 99999999\r\n\r\n".encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("head", [
    "GET /healthz HTTP/1.1\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "BREW /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: a\r\nX y: 1\r\n\r\n",
])
def test_ambiguous_heads_are_refused(node, head):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(node.socket)
        s.sendall(head.encode())
        reply = b""
        while piece := s.recv(4096):
            reply += piece
        assert reply.split()[1] in (b"400", b"501", b"505"), reply
    assert node.get("/healthz").status == 200


def test_limits_of_the_firewall(node):
    rule = {"action": "allow", "protocol": "tcp", "description": "x" * 200}
    for i in range(1, 500):
        r = node.post(C + "/firewall/egress", {**rule, "destination_port": str(i)})
        assert r.status == 201, (i, r)
    r = node.post(C + "/firewall/egress", {**rule, "destination_port": "600"})
    assert r.status == 400 and r.json["error"] == "CONTAINER_FIREWALL_RULE_LIMIT" and r.data["limit"] == 500, r
    r = node.post(C + "/firewall/egress", {"action": "allow", "protocol": "tcp", "destination_port": "7"})
    assert r.status == 200 and r.data["duplicate_of"] == {"direction": "egress", "index": 6}, r
    r = node.call("DELETE", C + "/firewall/egress", {"all": True})
    assert r.status == 200 and r.data["removed_count"] == 499, r
    assert node.post(C + "/firewall/reset").data == {"rules": {"ingress": [], "egress": []}}
