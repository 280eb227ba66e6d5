# SPDX-License-Identifier: Apache-2.0
"""The platform's route table, row by row, on a live node with real containers. Every reply is also checked against
docs/openapi.yaml (support/openapi.py); here are the values, the order and what happens to the container."""
import contextlib
import datetime
import http.client
import re

import openapi
import pytest
from daemon import Daemon
from world import wait_for

ABSENT = "f" * 24
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe contract@test"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAr2a4EZdA2k3jrXuMsnGkFUQ3zlqNuU8A0OW1ncJsZC other@test"


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def server(node):
    return node.get("/api/v1/node").data["id"]


@pytest.fixture(scope="module")
def project(node):
    r = node.post("/api/v1/projects/", {"alias": "contract"})
    assert r.status == 201
    return r.data["id"]


@pytest.fixture(scope="module")
def make(node, project, server):
    def create(name, **more):
        """As the platform's CLI sends it, then polled until it runs."""
        body = {"server_id": server, "name": name, "ai": True, "hoody_kit": False, "autostart": True, "ramdisk": True, "cache": True,
                "cache_image": False, "prespawn": False, "bypass_prespawn": False, **more}
        r = node.post(f"/api/v1/projects/{project}/containers", body)
        assert r.status == 201 and r.json["message"] == "Container created successfully" and r.data["status"] in ("creating", "running")
        wait_for(lambda: node.container(r.data["id"])["status"] == "running", 60, 0.05, "running")
        return r.data["id"]
    return create


@pytest.fixture(scope="module")
def box(make):
    make("second-box")
    return make("contract-box", environment_vars={"COLOUR": "blue"}, ssh_public_key=KEY, comment="first", color="ABC")


def at(cid, rest=""):
    return f"/api/v1/containers/{cid}{rest}"


def refused(reply, status, code=None, field=None, word=None):
    assert reply.status == status, reply
    assert reply.json.get("code") == code or code is None, reply
    assert reply.json.get("field") == field or field is None, reply
    assert word is None or word in reply.json["message"], reply
    return True


BOTH = pytest.mark.parametrize("verb", ["PUT", "PATCH"])
SLASH = pytest.mark.parametrize("slash", ["", "/"])


@SLASH
def test_row_1_list(node, box, slash):
    query = "?page=1&limit=50&sort_by=created_at&sort_order=desc"
    r = node.get(f"/api/v1/containers{slash}{query}")
    assert box in [c["id"] for c in r.data["containers"]]
    assert r.data["pagination"]["page"] == 1 and r.data["pagination"]["limit"] == 50
    for flag in ("include_expired", "include_deleting", "include_prespawn", "include_proxy_domains", "include_proxy_permissions", "runtime"):
        for value in ("true", "false"):
            assert node.get(f"/api/v1/containers{slash}?{flag}={value}").status == 200
    for bad in ("page=0", "limit=0", "limit=101", "limit=x", "sort_by=color", "sort_order=up", "realm_id=7", "include_expired=maybe"):
        assert refused(node.get(f"/api/v1/containers{slash}?{bad}"), 400, field=bad.split("=")[0])


@SLASH
def test_row_2_list_by_project(node, box, project, slash):
    r = node.get(f"/api/v1/projects/{project}/containers{slash}")
    assert {c["project_id"] for c in r.data["containers"]} == {project} and r.data["pagination"]["limit"] == 50
    assert refused(node.get(f"/api/v1/projects/{ABSENT}/containers{slash}"), 404, "RESOURCE_NOT_FOUND")


def test_row_3_create_defaults_and_refusals(node, box, project, server):
    path = f"/api/v1/projects/{project}/containers"
    c = node.container(box)
    assert (c["name"], c["color"], c["comment"], c["container_image"], c["environment_vars"]) == (
        "contract-box", "#ABC", "first", "debian/13", {"COLOUR": "blue"})
    assert c["ai"] and c["autostart"] and c["ramdisk"] and not c["hoody_kit"] and not c["dev_kit"] and not c["kvm"]
    assert c["server_id"] == server and c["project_id"] == project and c["project_alias"] == "contract" and c["realm_ids"] == []
    for image in ("debian", "debian-13", "debian:13", "debian 13", None):
        r = node.post(path + "?wait=true", {"server_id": server, "container_image": image, "hoody_kit": False})
        assert r.status == 201 and r.data["container_image"] == "debian/13"
        assert re.fullmatch(r"[a-zA-Z0-9_-]{3,100}", r.data["name"]) and re.fullmatch("#[0-9A-F]{6}", r.data["color"])
        assert node.delete(r.data["id"]).status == 200
    base = {"server_id": server, "name": "refused"}
    for more, status, code, field in [
            ({"name": "ab"}, 400, "INVALID_CONTAINER_NAME", "name"), ({"name": "a b c"}, 400, "INVALID_CONTAINER_NAME", "name"),
            ({"name": "contract-box"}, 409, "CONTAINER_NAME_IN_USE", None), ({"ssh_public_key": KEY}, 409, "SSH_PUBLIC_KEY_IN_USE", None),
            ({"ssh_public_key": ""}, 400, None, "ssh_public_key"), ({"server_id": ABSENT}, 404, "RESOURCE_NOT_FOUND", None),
            ({"server_id": None}, 400, None, "server_id"), ({"container_image": "ubuntu/24"}, 404, "RESOURCE_NOT_FOUND", None),
            ({"prespawn": True}, 403, None, None), ({"kvm": True}, 403, None, None), ({"kvm": True, "dev_kvm": False}, 400, None, None),
            ({"environment_vars": {"HOODY_X": "1"}}, 400, "RESERVED_ENV_PREFIX", None), ({"environment_vars": {"1A": "1"}}, 400, "INVALID_ENV_KEY", None),
            ({"environment_vars": {"A": ""}}, 400, None, None), ({"color": "12345"}, 400, None, "color"), ({"ai": "yes"}, 400, None, "ai"),
            ({"comment": "x" * 16001}, 400, None, "comment"), ({"realm_ids": ["x"]}, 400, None, "realm_ids")]:
        assert refused(node.post(path, {**base, **more}), status, code, field), more
    assert refused(node.post(path, {"name": "no-server"}), 400, field="server_id")
    assert "refused" not in [c["name"] for c in node.list()]


@SLASH
def test_row_4_get(node, box, slash):
    assert node.get(at(box, slash)).data["id"] == box
    assert node.get(at(box.upper(), slash)).data["id"] == box
    assert refused(node.get(at(ABSENT)), 404, "CONTAINER_NOT_FOUND")
    assert refused(node.get(at("xyz")), 400, "INVALID_ID_FORMAT")


@BOTH
@SLASH
def test_row_5_update(node, box, verb, slash):
    r = node.call(verb, at(box, slash), {"name": "renamed-box", "color": "00ff00", "comment": None, "autostart": False, "ai": False})
    assert r.status == 200
    assert (r.data["name"], r.data["color"], r.data["comment"], r.data["autostart"], r.data["ai"]) == ("renamed-box", "#00FF00", None, False, False)
    back = {"name": "contract-box", "color": "#ABC", "comment": "first", "autostart": True, "ai": True}
    r = node.call(verb, at(box, slash), back)
    assert {k: r.data[k] for k in back} == back and r.data["environment_vars"]["COLOUR"] == "blue"
    for more, status, code, field in [
            ({"name": "x"}, 400, "INVALID_CONTAINER_NAME", "name"), ({"name": "second-box"}, 409, "CONTAINER_NAME_IN_USE", None),
            ({"color": "#12"}, 400, None, "color"), ({"autostart": "no"}, 400, None, "autostart"), ({"ssh_public_key": " "}, 400, None, "ssh_public_key"),
            ({"ramdisk_scope": "world"}, 400, None, "ramdisk_scope"), ({"environment_vars": {"HOODY_A": "1"}}, 400, "RESERVED_ENV_PREFIX", None)]:
        assert refused(node.call(verb, at(box, slash), more), status, code, field), more
    assert {k: node.container(box)[k] for k in back} == back


def test_row_5_ssh_key(node, box, make):
    other = make("key-box")
    assert refused(node.call("PUT", at(other), {"ssh_public_key": KEY}), 409, "SSH_PUBLIC_KEY_IN_USE")
    r = node.call("PUT", at(other), {"ssh_public_key": OTHER_KEY})
    assert r.data["ssh_public_key"] == OTHER_KEY and r.data["ssh_key_fingerprint"].startswith("SHA256:")
    wait_for(lambda: OTHER_KEY in node.inside(other, "cat", "/root/.ssh/authorized_keys"), 10, what="the key")
    r = node.call("PATCH", at(other), {"ssh_public_key": None})
    assert r.data["ssh_public_key"] is None and r.data["ssh_key_fingerprint"] is None
    wait_for(lambda: OTHER_KEY not in node.inside(other, "sh", "-c", "cat /root/.ssh/authorized_keys || true"), 10, what="no key")
    assert node.delete(other).status == 200


@BOTH
def test_row_7_kvm(node, box, verb):
    assert refused(node.call(verb, at(box, "/kvm"), {"kvm": True}), 403)
    second = next(c["id"] for c in node.list() if c["name"] == "second-box")
    node.op(second, "force-stop")
    assert node.call(verb, at(second, "/kvm"), {"kvm": False}).data == {"id": second, "name": "second-box", "status": "stopped", "kvm": False}
    assert refused(node.call(verb, at(box, "/kvm"), {"kvm": True, "dev_kvm": False}), 400)
    assert refused(node.call(verb, at(box, "/kvm"), {"kvm": "yes"}), 400, field="kvm")


@pytest.mark.parametrize("row, operation, start, end", [
    (9, "stop", "running", "stopped"), (8, "start", "stopped", "running"), (11, "restart", "running", "running"), (12, "pause", "running", "paused"),
    (13, "resume", "paused", "running"), (10, "force-stop", "running", "stopped"), (8, "start", "stopped", "running")])
def test_rows_8_to_13_operations(node, box, project, row, operation, start, end):
    assert node.container(box)["status"] == start
    r = node.op(box, operation, {"timeout": 30} if row in (9, 11) else None)
    assert r.status == 200 and r.json["message"] == "Container operation completed successfully"
    assert (r.data["error"], r.data["operation"], r.data["container_id"], r.data["project_id"], r.data["status"]) == (False, operation, box, project, end)
    done = [e for e in node.get(f"/api/v1/events?container_id={box}&event_type=container.operation.completed").data["events"]
            if e["payload"]["operation_id"] == r.data["operation_id"]]
    assert len(done) == 1 and node.container(box)["status"] == end
    if operation not in ("restart", "force-stop"):
        again = node.op(box, operation)
        assert refused(again, 400) and again.json["data"]["error"] is True and again.json["data"]["status"] == end


@SLASH
def test_row_14_status_logs(node, box, slash):
    r = node.get(at(box, f"/status-logs{slash}?page=1&limit=10&sort_by=transition_time&sort_order=desc"))
    newest = r.data["logs"][0]
    assert newest["from_status"] and newest["metadata"]["command"] and newest["triggered_by"] == "user" and newest["duration_ms"] > 0
    assert r.data["pagination"]["total"] >= 8
    for key in ("transition_time", "created_at", "to_status", "from_status"):
        for order in ("asc", "desc"):
            logs = node.get(at(box, f"/status-logs?limit=100&sort_by={key}&sort_order={order}")).data["logs"]
            values = [log[key] or "" for log in logs]
            assert values == sorted(values, reverse=order == "desc")
    assert refused(node.get(at(box, "/status-logs?limit=101")), 400, field="limit")


@SLASH
def test_row_15_stats(node, box, slash):
    wait_for(lambda: node.get(at(box, "/stats")).data["processes"] > 3, 30, what="processes")
    s = node.get(at(box, f"/stats{slash}")).data
    assert (s["status"], s["status_code"]) == ("Running", 103) and s["cpu"]["usage"] > 0 and s["memory"]["usage"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", s["started_at"]) and s["ramdisk"]["usage"] is not None
    assert s["network"][0]["counters"]["bytes_sent"] >= 0 and s["disk"]["root"]["total"] == 0


def test_row_16_17_copy_and_sync(node, box, project):
    node.inside(box, "sh", "-c", "echo one > /root/data")
    assert refused(node.post(at(box, "/copy"), {}), 400, field="target_project_id")
    assert refused(node.post(at(box, "/copy"), {"target_project_id": project, "name": "contract-box"}), 409, "CONTAINER_NAME_IN_USE")
    assert refused(node.post(at(box, "/copy"), {"target_project_id": project, "source_snapshot": "none"}), 404, "RESOURCE_NOT_FOUND")
    r = node.post(at(box, "/copy"), {"target_project_id": project, "name": "contract-copy", "copy_firewall_rules": True})
    copy = r.data["id"]
    assert r.status == 201 and r.data["source_container_id"] == box and r.data["ssh_public_key"] is None and len(r.data["operation_id"]) == 32
    wait_for(lambda: node.container(copy)["status"] == "running", 60, what="the copy")
    assert node.inside(copy, "cat", "/root/data") == "one"
    node.inside(box, "sh", "-c", "echo two > /root/data; sync /root/data")
    assert refused(node.post(at(box, "/sync")), 409, "CONTAINER_NOT_COPIED")
    r = node.post(at(copy, "/sync"))
    assert r.status == 200 and (r.data["container_id"], r.data["source_container_id"], r.data["status"]) == (copy, box, "copying")
    wait_for(lambda: node.container(copy)["status"] == "running", 60, what="the end of the sync")
    assert node.inside(copy, "cat", "/root/data") == "two" and node.inside(copy, "hostname") == "contract-copy"
    done = node.get(f"/api/v1/events?container_id={copy}&event_type=container.operation.completed").data["events"]
    assert r.data["operation_id"] in [e["payload"]["operation_id"] for e in done]
    assert node.delete(copy).status == 200


def test_row_18_authorize(node, box):
    assert refused(node.post(at(box, "/authorize")), 503, "SIGNING_NOT_CONFIGURED")


@BOTH
@SLASH
def test_rows_19_to_22_environment(node, box, verb, slash):
    before = node.container(box)["env_sync"]["revision"]
    r = node.call(verb, at(box, f"/env{slash}"), {"ONE": "1", "TWO": "two words"})
    assert r.data["synced"] is True and r.data["environment_vars"] == {"COLOUR": "blue", "ONE": "1", "TWO": "two words"}
    sync = r.data["env_sync"]
    assert sync["revision"] == before + 1 == sync["applied_revision"] and not sync["pending"] and sync["verified_at"] and sync["last_error"] is None
    assert node.inside(box, "bash", "-lc", "echo $TWO") == "two words"
    r = node.call(verb, at(box, f"/env/ONE{slash}"), {"value": "2"})
    assert r.data["synced"] is True and node.get(at(box, "/env")).data["environment_vars"]["ONE"] == "2"
    assert node.call(verb, at(box, f"/env/ONE{slash}"), {"value": "2"}).data["synced"] is False
    for key in ("ONE", "TWO", "ONE"):
        assert node.call("DELETE", at(box, f"/env/{key}{slash}")).status == 200
    assert node.get(at(box, f"/env{slash}")).data == {"environment_vars": {"COLOUR": "blue"}}
    for method, path, body, code, field in [
            (verb, "/env", {}, None, "body"), (verb, "/env", {"HOODY_X": "1"}, "RESERVED_ENV_PREFIX", None), (verb, "/env", {"A-B": "1"}, "INVALID_ENV_KEY", None),
            (verb, "/env", {"A": 1}, None, None), (verb, "/env/A", {}, None, "value"), (verb, "/env/A", {"value": ""}, None, "value"),
            (verb, "/env/A", {"value": "x" * 4097}, None, "value"), (verb, "/env/A", {"value": "1", "more": 1}, None, "more"),
            (verb, "/env/HOODY_A", {"value": "1"}, "RESERVED_ENV_PREFIX", None), ("DELETE", "/env/1A", None, "INVALID_ENV_KEY", None)]:
        assert refused(node.call(method, at(box, path), body), 400, code, field), path
    assert node.get(at(box, "/env")).data == {"environment_vars": {"COLOUR": "blue"}}


@BOTH
def test_rows_23_to_27_snapshots(node, box, verb):
    r = node.post(at(box, "/snapshots"), {"alias": "--before it's late", "expiry": 2})
    snap = r.data["snapshot"]
    assert r.status == 200 and snap["alias"] == "--before it's late" and re.fullmatch("[a-zA-Z0-9_-]+", snap["name"]) and snap["name"][0] != "-"
    expires = datetime.datetime.fromisoformat(snap["expires_at"][:-1]) - datetime.datetime.fromisoformat(snap["created_at"][:-1])
    assert expires.days == 2 and snap["stateful"] is False
    bare = node.post(at(box, "/snapshots")).data["snapshot"]
    assert re.fullmatch(r"snap-\d{8}-\d{6}(-\d+)?", bare["name"]) and bare["alias"] is None and bare["expires_at"] is None
    listed = node.get(at(box, "/snapshots")).data
    assert listed["snapshot_count"] == 2 == len(listed["snapshots"]) == node.container(box)["snapshot_count"] and listed["max_snapshots"] == 1000
    r = node.call(verb, at(box, f"/snapshots/{snap['name']}/alias"), {"alias": "other"})
    assert r.data["snapshot"]["name"] == snap["name"] and r.data["snapshot"]["alias"] == "other"
    node.inside(box, "sh", "-c", "echo lost > /root/late")
    r = node.call(verb, at(box, "/snapshots/other"))
    assert r.status == 200 and r.data["success"] is True and r.data["snapshot"]["last_used_at"]
    assert node.container(box)["status"] == "running" and node.container(box)["last_used_snapshot"] == snap["name"]
    assert node.inside(box, "sh", "-c", "test -e /root/late || echo gone") == "gone"
    assert node.call(verb, at(box, f"/snapshots/{snap['name']}/alias"), {"alias": None}).data["snapshot"]["alias"] is None
    for name in (snap["name"], bare["name"]):
        assert node.call("DELETE", at(box, f"/snapshots/{name}")).data["snapshot_name"] == name
    assert refused(node.call("DELETE", at(box, f"/snapshots/{bare['name']}")), 404)
    assert refused(node.call(verb, at(box, "/snapshots/none")), 404) and refused(node.call(verb, at(box, "/snapshots/none/alias"), {"alias": "a"}), 404)
    for body, field in [({"expiry": 0}, "expiry"), ({"expiry": 3651}, "expiry"), ({"alias": "x" * 101}, "alias"), ({"alias": 1}, "alias")]:
        assert refused(node.post(at(box, "/snapshots"), body), 400, field=field)


@pytest.mark.parametrize("row, direction, address", [(29, "ingress", "source"), (32, "egress", "destination")])
def test_rows_28_to_35_firewall(node, box, row, direction, address):
    path = at(box, f"/firewall/{direction}")
    rule = {"action": "drop", "protocol": "tcp", "description": "no telnet", "destination_port": "23", address: "203.0.113.50/32", "state": "enabled"}
    r = node.post(path, rule)
    assert r.status == 201 and r.json["message"] == f"{direction.capitalize()} rule added successfully" and len(r.data[direction]) == 1
    again = node.post(path, {**rule, "description": "another word"})
    assert again.status == 200 and again.data["duplicate"] is True and again.data["duplicate_of"] == {"direction": direction, "index": 0}
    assert node.post(path, {**rule, "destination_port": "80-90,443", "action": "reject"}).status == 201
    listed = node.get(at(box, "/firewall/rules")).data
    assert (listed["rule_count"], listed["max_rules"], listed["max_bytes"]) == (2, 500, 262144) and listed["byte_count"] > 0
    r = node.call("PATCH", path, {"state": "disabled", "destination_port": "23"})
    assert r.data["new_state"] == "disabled" == r.data["updated"]["state"] and r.data["direction"] == direction
    r = node.call("DELETE", path, {"all": True, "state": "enabled"})
    assert r.data["removed_count"] == 1 and r.data["removed"][0]["action"] == "reject"
    assert node.call("DELETE", path, {}).data["removed_count"] == 1
    assert refused(node.call("PATCH", path, {"state": "enabled", "destination_port": "1"}), 404)
    for body, field in [({"protocol": "tcp"}, "action"), ({**rule, "action": "maybe"}, "action"), ({**rule, "destination_port": "99999"}, "destination_port"),
                        ({**rule, address: "10.0.0.0/33"}, address), ({**rule, "more": 1}, "more"), ({**rule, "icmp_type": "8"}, "icmp_type"),
                        ({**rule, "description": "x" * 256}, "description")]:
        assert refused(node.post(path, body), 400, field=field), body
    assert node.post(path, rule).status == 201
    assert node.post(at(box, "/firewall/reset")).data == {"rules": {"ingress": [], "egress": []}}
    assert node.get(at(box, "/firewall/rules")).data["rule_count"] == 0


@BOTH
def test_rows_36_to_39_network(node, box, verb):
    path = at(box, "/network")
    assert node.get(path).data["configured"] is False
    assert refused(node.call("DELETE", path), 404, word="network configuration not found")
    assert refused(node.post(path + "/start"), 400, word="Network not configured for this container")
    assert refused(node.call(verb, path, {"type": "socks5"}), 400, word="Proxy URL required for non-block type")
    for body, field in [({}, "type"), ({"type": "vpn"}, "type"), ({"type": "socks5", "proxy": "ftp://h:1"}, "proxy"),
                        ({"type": "block", "dns_servers": ["1.1.1.1"] * 5}, "dns_servers"), ({"type": "block", "more": 1}, "more")]:
        assert refused(node.call(verb, path, body), 400, field=field), body
    r = node.call(verb, path, {"type": "socks5", "proxy": "socks5://who:secret@192.0.2.1:1080", "country": "de", "comment": "c"})
    assert r.data["status"] == "configured" and r.data["credentials_configured"] is True and r.data["proxy"] == "socks5://192.0.2.1:1080"
    assert r.data["dns_servers"] == ["1.1.1.1", "8.8.8.8"] and "secret" not in r.text and "secret" not in node.get(path).text
    assert node.call(verb, path, {"type": "socks5", "proxy": "socks5://192.0.2.1:1080"}).data["credentials_configured"] is True
    assert node.call(verb, path, {"type": "socks5", "proxy": "socks5://192.0.2.2:1080"}).data["credentials_configured"] is False
    assert node.call(verb, path, {"type": "block"}).data["status"] == "configured"
    r = node.post(path + "/start")
    assert (r.data["status"], r.data["is_running"]) == ("running", True) and node.get(path).data["status"] == "running"
    assert node.get(path).data["remote_status"]["is_running"] is True
    r = node.post(path + "/stop")
    assert (r.data["status"], r.data["is_running"]) == ("stopped", False)
    r = node.call("DELETE", path)
    assert r.status == 200 and r.json["message"] == "Network configuration removed successfully"
    assert node.get(path).data["configured"] is False


def test_rows_40_to_48_shares(node, box, make, project):
    other = make("share-box")
    path = at(box, "/storage/shares")
    node.inside(box, "sh", "-c", "mkdir -p /srv/give && echo hello > /srv/give/file")
    body = {"source_path": "/srv/give", "mode": "readonly", "target_container_id": other, "alias": "given"}
    share = node.post(path, body)
    assert share.status == 201 and share.data["status"] == "active" and share.data["target_type"] == "container" and share.data["enabled"] is True
    sid = share.data["id"]
    assert refused(node.post(path, body), 409, "SHARE_ALREADY_EXISTS") and refused(node.post(path, {**body, "target_container_id": box}), 400, "SELF_SHARE")
    for more, code, field in [({"source_path": "/proc/1"}, "INVALID_PATH", None), ({"source_path": "/a/../b"}, "INVALID_PATH", None), ({"mode": "rw"}, None, "mode"),
                              ({"target_project_id": project}, None, None), ({"alias": "A"}, None, "alias"), ({"more": 1}, None, "more")]:
        assert refused(node.post(path, {**body, **more}), 400, code, field), more
    incoming = node.get(at(other, "/storage/incoming")).data
    assert [s["id"] for s in incoming] == [sid] and "alias" not in incoming[0]
    where = incoming[0]["mount_path"]
    wait_for(lambda: node.inside(other, "cat", where + "/file", check=False) == "hello", 10, what="the mount")
    assert node.inside(other, "sh", "-c", f"touch {where}/x || echo refused") == "refused"
    assert [s["id"] for s in node.get(path).data] == [sid] == [s["id"] for s in node.get("/api/v1/storage/shares").data]
    assert node.get(at(box, f"/storage/shares/{sid}")).data["alias"] == "given"
    assert sid in [s["id"] for s in node.get("/api/v1/storage/incoming").data]
    r = node.call("PATCH", at(other, f"/storage/incoming/{sid}/mount"), {"mount": False})
    assert r.data["override"]["mount"] is False and r.data["override"]["container_id"] == other
    wait_for(lambda: node.inside(other, "cat", where + "/file", check=False) == "", 10, what="no mount")
    assert node.call("PATCH", at(other, f"/storage/incoming/{sid}/mount"), {"mount": True}).status == 200
    r = node.call("PATCH", at(box, f"/storage/shares/{sid}"), {"mode": "readwrite", "alias": None, "label": "label-1"})
    assert (r.data["mode"], r.data["alias"], r.data["label"]) == ("readwrite", None, "label-1")
    wait_for(lambda: node.inside(other, "sh", "-c", f"echo back > {where}/y && echo done", check=False) == "done", 10, what="a writable mount")
    assert node.inside(box, "cat", "/srv/give/y") == "back"
    for query in ("target_type=container", "label=label-1", "status=active", "enabled=true"):
        assert [s["id"] for s in node.get(path + "?" + query).data] == [sid]
    assert node.get(path + "?target_type=project").data == []
    assert refused(node.call("PATCH", at(box, f"/storage/incoming/{sid}/mount"), {"mount": True}), 400, word="does not target")
    assert refused(node.get(at(box, f"/storage/shares/{ABSENT}")), 404)
    assert node.call("DELETE", f"/api/v1/storage/shares/{sid}").json["data"] is None
    assert node.get(path).data == [] and node.get(at(other, "/storage/incoming")).data == []
    assert node.delete(other).status == 200


def test_row_49_images(node):
    r = node.get("/api/v1/images/public?page=1&limit=20")
    image = r.data["images"][0]
    assert image["image_name"] == "debian/13" and node.get(f"/api/v1/images/public/{image['id']}").data == image
    assert node.get("/api/v1/images/public?search=nothing-like-it").data["images"] == []
    assert node.get("/api/v1/images/user?page=1&limit=20").data["images"] == []
    assert refused(node.get(f"/api/v1/images/public/{ABSENT}"), 404)


def test_rows_50_to_52_servers(node, server):
    assert [s["id"] for s in node.get("/api/v1/servers").data["servers"]] == [server] and node.get(f"/api/v1/servers/{server}").data["id"] == server
    runtime = node.get(f"/api/v1/servers/{server}/runtime").data
    assert runtime["cores"] >= 1 and runtime["uptime_s"] > 0 and runtime["scope"] == "server" and runtime["ts"].endswith("Z")
    commands = node.get(f"/api/v1/servers/{server}/available-commands").data["commands"]
    low = next(c for c in commands if c["risk_level"] == "low" and not c["parameter_schema"].get("required"))
    path = f"/api/v1/servers/{server}/execute-command"
    r = node.post(path, {"command_slug": low["slug"]})
    assert r.status == 200 and r.data["status"] == "completed" and r.data["exit_code"] == 0 and r.data["output"]
    other = next(c for c in commands if c["slug"] != low["slug"] and c["risk_level"] == "low" and not c["parameter_schema"].get("required"))
    r = node.post(path, {"command_id": other["id"], "wait": False})
    assert r.status == 202 and r.data["status"] == "pending"
    log = f"/api/v1/servers/{server}/command-logs/{r.data['command_log_id']}"
    wait_for(lambda: node.get(log).data["status"] == "completed", 20, what="the command")
    for body in ({}, {"command_slug": "rm-rf"}, {"command_slug": low["slug"], "command_id": low["id"]}, {"command_slug": low["slug"], "timeout": 0}):
        assert node.post(path, body).status in (400, 404)
    assert refused(node.post(f"/api/v1/servers/{ABSENT}/execute-command", {"command_slug": low["slug"]}), 404)


def test_row_53_events(node, box):
    r = node.get("/api/v1/events?limit=100&offset=0&sort_by=created_at&sort_order=desc")
    assert r.data["pagination"]["total"] > 20 and r.data["events"][0]["created_at"] >= r.data["events"][-1]["created_at"]
    first = node.get("/api/v1/events?bootstrap=true").data
    seen, cursor = [], None
    page = node.get("/api/v1/events?bootstrap=true&limit=5").data
    assert first["latest_cursor"]
    for _ in range(500):
        seen += page["events"]
        cursor = page["next_cursor"]
        if not page["events"] or not cursor:
            break
        page = node.get(f"/api/v1/events?after={cursor}&limit=50").data
    assert len(seen) == len({e["id"] for e in seen})
    assert refused(node.get("/api/v1/events?after=xyz"), 400, field="after")
    assert refused(node.get("/api/v1/events?limit=501"), 400, field="limit")
    one = r.data["events"][-1]
    assert node.get(f"/api/v1/events/{one['id']}").data == one
    stats = node.get("/api/v1/events/stats").data
    assert stats["total_events"] >= r.data["pagination"]["total"] and sum(stats["by_type"].values()) == stats["total_events"]
    assert node.call("DELETE", f"/api/v1/events/{one['id']}").status == 200
    assert refused(node.get(f"/api/v1/events/{one['id']}"), 404)
    assert refused(node.call("DELETE", "/api/v1/events"), 400, "INVALID_BULK_DELETE_PARAMS")
    assert node.call("DELETE", "/api/v1/events?event_type=container.updated").data["deleted_count"] >= 1
    assert node.post("/api/v1/events/cleanup", {"retention_days": 30}).data["deleted_count"] == 0
    assert refused(node.post("/api/v1/events/cleanup", {}), 400, field="retention_days")


@SLASH
def test_rows_54_to_56_projects(node, box, project, server, slash):
    r = node.post(f"/api/v1/projects{slash}", {"alias": f"second{len(slash)}", "color": "fff", "max_containers": 1})
    assert r.status == 201 and r.data["color"] == "#FFF" and r.data["max_containers"] == 1 and r.data["is_default"] is False
    pid = r.data["id"]
    assert refused(node.post(f"/api/v1/projects{slash}", {"alias": f"second{len(slash)}"}), 409, "DUPLICATE_ALIAS")
    for body, code in [({"alias": ""}, None), ({"alias": "x" * 101}, None), ({"alias": "c1", "color": "red"}, None), ({"alias": "c1", "max_containers": -1}, None), ({}, None)]:
        assert refused(node.post(f"/api/v1/projects{slash}", body), 400, code), body
    listed = node.get(f"/api/v1/projects{slash}?page=1&limit=10&sort_by=created_at&sort_order=desc").data
    assert listed["projects"][0]["id"] == pid and listed["pagination"]["limit"] == 10
    assert node.get(f"/api/v1/projects/{pid}{slash}?include_permissions=false").data["alias"] == f"second{len(slash)}"
    for verb in ("PUT", "PATCH"):
        assert node.call(verb, f"/api/v1/projects/{pid}{slash}", {"alias": f"renamed-{verb}{len(slash)}"}).data["alias"] == f"renamed-{verb}{len(slash)}"
    inside = node.post(f"/api/v1/projects/{pid}/containers?wait=true", {"server_id": server, "hoody_kit": False, "name": "contract-box"})
    assert inside.status == 201, "a name is unique in its project only"
    assert refused(node.post(f"/api/v1/projects/{pid}/containers", {"server_id": server}), 400, "PROJECT_CONTAINER_LIMIT")
    stats = node.get(f"/api/v1/projects/{pid}/stats{slash}").data
    assert stats["summary"]["container_count"] == 1 and stats["stats"][0]["id"] == inside.data["id"]
    r = node.call("DELETE", f"/api/v1/projects/{pid}{slash}?include_deleted_items=true")
    assert r.data["deleted"]["containers"] == 1 and r.data["deleted_items"]["containers"] == [{"id": inside.data["id"], "name": "contract-box"}]
    assert refused(node.get(at(inside.data["id"])), 404) and refused(node.get(f"/api/v1/projects/{pid}"), 404, "PROJECT_NOT_FOUND")
    assert node.container(box)["status"] == "running"


def test_row_6_delete(node, make):
    cid = make("to-delete")
    node.post(at(cid, "/snapshots"), {"alias": "gone-too"})
    r = node.delete(cid)
    assert r.status == 200 and r.json["message"] == "Container deleted successfully" and r.json["data"] is None
    assert refused(node.get(at(cid)), 404, "CONTAINER_NOT_FOUND") and refused(node.delete(cid), 404, "CONTAINER_NOT_FOUND")
    types = [e["event_type"] for e in node.get(f"/api/v1/events?container_id={cid}&sort_order=asc").data["events"]]
    assert types[0] == "container.creating" and types.index("container.running") < types.index("container.deleting") < types.index("container.deleted")


def test_what_only_this_node_has(node, box):
    """Beside the platform's rows; each is tested on its own elsewhere."""
    assert node.post(at(box, "/forwards"), {"protocol": "tcp", "host_port": 18080, "container_port": 80}).status == 201
    assert len(node.get(at(box, "/forwards")).data["forwards"]) == 1
    assert node.call("DELETE", at(box, "/forwards/tcp/18080")).data["forwards"] == []
    project = node.container(box)["project_id"]
    for path, body in ((at(box, "/limits"), {"up": 10000000}), (at(box, "/transparent-proxy"), {"enabled": False}),
                       (f"/api/v1/projects/{project}/network", {"inter_container": False})):
        for verb in ("PUT", "PATCH"):
            assert node.call(verb, path, body).status == 200
        assert body.items() <= node.get(path).data.items()
    assert node.call("DELETE", at(box, "/limits")).data["up"] is None
    assert node.get("/api/v1/node/storage").status == 200
    assert node.get("/api/v1/node/recovery").data["held"] is False
    assert node.post("/api/v1/node/recovery", {"action": "accept"}).status == 409
    started = node.get("/api/v1/node").data["started_at"]
    assert node.post("/api/v1/node/recovery", {"action": "retry"}).status == 202

    def again():
        with contextlib.suppress(OSError, http.client.HTTPException, TypeError):
            return node.get("/api/v1/node").data["started_at"] != started and node.get("/healthz").data["ready"]
    wait_for(again, 60, what="the node after a new start")
    assert node.get("/api/v1/node/pools").data["pools"] == []
    assert node.post("/api/v1/node/storage/grow", {"size_bytes": node.loop_bytes + (256 << 20)}).status == 200


# What the platform does not have: test_images.py, test_remotes.py, test_archives.py, test_node_kits.py, test_node_upgrade.py,
# test_node_rollout.py, test_node_scrub.py, test_peers.py ask for it.
OWN = re.compile(r"/api/v1/(node/(images|kits|transfers|storage/scrub)|peer/|(containers|projects)/{id}/(kits|export|publish|containers/import))")


def test_zz_every_operation_was_answered(node):
    """Streams are read elsewhere; authorize has no success on a node."""
    node.get("/healthz")
    node.get("/api/v1/node/routes")
    answered = {(method, template) for method, template, status in openapi.seen if status < 300}
    others = {("get", "/api/v1/node/routes/stream"), ("get", "/api/v1/events/stream")}
    others |= {(m, t) for m, t in openapi.operations() if not any(s.startswith("2") for s in openapi.document()["paths"][t][m]["responses"])}
    assert sorted(o for o in set(openapi.operations()) - answered - others if not OWN.match(o[1])) == []
