# SPDX-License-Identifier: Apache-2.0
"""Create and copy field by field, lists, aliases of snapshots, and paths that belong to the control plane."""
import re
import sqlite3
import threading

import pytest
from daemon import PROJECT, Daemon

URL = f"/api/v1/projects/{PROJECT}/containers"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe a"


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


def create(d, project=PROJECT, **body):
    return d.post(f"/api/v1/projects/{project}/containers?wait=true", {"server_id": "self", "hoody_kit": False, **body})


@pytest.fixture
def made(node):
    """Creates, and deletes everything afterwards."""
    def begin(**body):
        r = create(node, **body)
        assert r.status == 201, r
        return r.data
    yield begin
    for c in node.list():
        assert node.delete(c["id"]).status == 200


# Create.

def test_what_the_command_line_always_sends(node, made):
    c = made(name="cli-like", ai=True, hoody_kit=True, autostart=True, ramdisk=True, cache=True, cache_image=False,
             prespawn=False, bypass_prespawn=False, server_id=node.get("/api/v1/node").data["id"], never_heard_of=[1])
    assert (c["ai"], c["hoody_kit"], c["dev_kit"], c["autostart"], c["ramdisk"], c["kvm"], c["prespawn"]) == (
        True, True, True, True, True, False, False)
    assert c["container_image"] == "debian/13" and c["environment_vars"] == {} and c["realm_ids"] == []
    assert c["ssh_public_key"] is c["ssh_key_fingerprint"] is c["ssh_key_installed_at"] is c["comment"] is None
    assert c["ramdisk_scope"] == "container" and c["volumes"] == {} and c["project_alias"] == "default"


def test_names_and_colours_are_made(node, made):
    a, b = made(), made(name="rand", color=None, comment=None, ssh_public_key=None, container_image=None,
                        environment_vars=None, realm_ids=None)
    for c in (a, b):
        assert re.fullmatch(r"[a-zA-Z0-9-_]{3,100}", c["name"]) and re.fullmatch(r"#[0-9A-F]{6}", c["color"])
    assert a["name"] != b["name"]
    # names that are made from the id do not meet each other
    ids = ["1" * 16 + "abcdef12", "2" * 16 + "abcdef12"]
    assert len({made(id=i)["name"] for i in ids}) == 2


@pytest.mark.parametrize("image", ["debian/13", "debian", "debian-13", "debian:13", "debian 13", "Debian/13", ""])
def test_names_of_the_image(node, made, image):
    assert made(container_image=image)["container_image"] == "debian/13"


@pytest.mark.parametrize("color,shown", [("abc", "#ABC"), ("#aBcDeF", "#ABCDEF"), ("123456", "#123456")])
def test_colours(node, made, color, shown):
    assert made(color=color)["color"] == shown


def test_kits_and_switches(node, made):
    assert made(hoody_kit=False)["dev_kit"] is False
    c = made(hoody_kit=False, dev_kit=True, ai=False, autostart=False, ramdisk=False, kvm=False, dev_kvm=False,
             comment="ä" * 16000, realm_ids=["ab" * 12, "cd" * 12], ssh_public_key=KEY)
    assert c["dev_kit"] and not c["ai"] and not c["autostart"] and not c["ramdisk"]
    assert c["comment"] == "ä" * 16000 and c["realm_ids"] == ["ab" * 12, "cd" * 12] and c["ssh_key_installed_at"]
    assert " /ramdisk " not in node.inside(c["id"], "mount")
    assert made(bypass_prespawn=True, cache=False, cache_image=True)["status"] == "running"


@pytest.mark.parametrize("body,status,code", [
    ({"server_id": "9" * 24}, 404, "RESOURCE_NOT_FOUND"), ({"container_image": "debian/99"}, 404, "RESOURCE_NOT_FOUND"),
    ({"container_image": "x" * 256}, 400, "VALIDATION_ERROR"), ({"prespawn": True}, 403, "INSUFFICIENT_PERMISSIONS"),
    ({"kvm": True}, 403, "INSUFFICIENT_PERMISSIONS"), ({"dev_kvm": True}, 403, "INSUFFICIENT_PERMISSIONS"),
    ({"kvm": True, "dev_kvm": False}, 400, "VALIDATION_ERROR"), ({"kvm": False, "dev_kvm": True}, 400, "VALIDATION_ERROR"),
    ({"kvm": 1}, 400, "VALIDATION_ERROR"), ({"cache": "yes"}, 400, "VALIDATION_ERROR"), ({"cache_image": 0}, 400, "VALIDATION_ERROR"),
    ({"bypass_prespawn": "no"}, 400, "VALIDATION_ERROR"), ({"dev_kit": "x"}, 400, "VALIDATION_ERROR"),
    ({"name": ""}, 400, "INVALID_CONTAINER_NAME"), ({"name": "x" * 101}, 400, "INVALID_CONTAINER_NAME"),
    ({"ssh_public_key": ""}, 400, "VALIDATION_ERROR"), ({"comment": "a\x07b"}, 400, "VALIDATION_ERROR"),
    ({"realm_ids": [1]}, 400, "VALIDATION_ERROR"), ({"realm_ids": {}}, 400, "VALIDATION_ERROR"),
    ({"environment_vars": {"HOODY_A": "1"}}, 400, "RESERVED_ENV_PREFIX"), ({"environment_vars": {"-": "1"}}, 400, "INVALID_ENV_KEY"),
])
def test_refused_creates_leave_nothing(node, body, status, code):
    r = create(node, **body)
    assert (r.status, r.json["code"]) == (status, code), r
    assert node.list() == []


def test_a_create_that_cannot_be_recorded_made_nothing(node, made):
    body = {"name": "unlucky", "id": "ee" * 12, "ssh_public_key": KEY}
    db = sqlite3.connect(node.state + "/noded.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    r = create(node, **body)
    db.execute("ROLLBACK")
    db.close()
    assert (r.status, r.json["code"]) == (500, "CONTAINER_CREATE_DISPATCH_FAILED"), r
    assert node.list() == []
    made(**body)  # name, key and id are free again


# Copy.

def test_copy(node, made):
    c = made(name="copy-source", comment="kept", environment_vars={"A": "1"}, ssh_public_key=KEY)
    path = f"/api/v1/containers/{c['id']}/copy"
    for body, status, code in (({"kvm": True}, 403, "INSUFFICIENT_PERMISSIONS"), ({"kvm": True, "dev_kvm": False}, 400, "VALIDATION_ERROR"),
                               ({"target_server_id": "9" * 24}, 404, "RESOURCE_NOT_FOUND"), ({"name": "x"}, 400, "INVALID_CONTAINER_NAME"),
                               ({"name": "copy-source"}, 409, "CONTAINER_NAME_IN_USE"), ({"ssh_public_key": KEY}, 409, "SSH_PUBLIC_KEY_IN_USE"),
                               ({"copy_firewall_rules": 1}, 400, "VALIDATION_ERROR")):
        r = node.post(path, {"target_project_id": PROJECT, **body})
        assert (r.status, r.json["code"]) == (status, code), (body, r)
    r = node.post(f"/api/v1/containers/{'9' * 24}/copy", {"target_project_id": PROJECT})
    assert (r.status, r.json["code"]) == (404, "SOURCE_CONTAINER_NOT_FOUND")
    r = node.post(path, {"target_project_id": PROJECT})
    assert r.status == 201 and r.data["status"] == "copying" and r.data["source_container_id"] == c["id"], r
    assert r.data["copy_firewall_rules"] is False and r.data["copy_network_rules"] is False
    node.wait_idle()
    copy = node.container(r.data["id"])
    assert copy["comment"] == "kept" and copy["environment_vars"] == {"A": "1"} and copy["ssh_public_key"] is None
    assert not copy["env_sync"]["pending"] and copy["env_sync"]["verified_at"]
    assert " # noded" not in node.inside(copy["id"], "cat", "/root/.ssh/authorized_keys")


# Lists.

def test_lists(node, made):
    other = "31" * 12
    a, b = made(name="list-b", realm_ids=["ab" * 12]), made(name="list-a")
    assert create(node, project=other, name="list-b").status == 201
    names = lambda query: [c["name"] for c in node.get(f"/api/v1/containers/?{query}").data["containers"]]
    assert names("sort_by=name&sort_order=asc") == ["list-a", "list-b", "list-b"]
    assert names("sort_by=created_at&sort_order=asc")[:2] == ["list-b", "list-a"]
    assert names(f"realm_id={'ab' * 12}") == ["list-b"] and names(f"realm_id={'cd' * 12}") == []
    # equal keys stand by id, and pages are parts of the one order
    pages = [node.get(f"/api/v1/containers?limit=1&page={p}&sort_by=status").data for p in (1, 2, 3, 4)]
    ids = [c["id"] for p in pages for c in p["containers"]]
    assert ids == sorted(ids, reverse=True) and len(set(ids)) == 3 and pages[3]["containers"] == []
    assert all(p["pagination"] == {"total": 3, "page": i + 1, "limit": 1, "totalPages": 3} for i, p in enumerate(pages))
    r = node.get(f"/api/v1/projects/{PROJECT}/containers").data
    assert {c["id"] for c in r["containers"]} == {a["id"], b["id"]} and r["pagination"]["limit"] == 50
    for flag in ("include_expired", "include_deleting", "include_prespawn", "include_proxy_domains", "include_proxy_permissions"):
        assert len(names(f"{flag}=true")) == len(names(f"{flag}=false")) == 3
        r = node.get(f"/api/v1/containers?{flag}=yes")
        assert r.status == 400 and r.json["field"] == flag
    for query, field in (("page=0", "page"), ("page=x", "page"), ("limit=0", "limit"), ("limit=101", "limit"),
                         ("sort_by=color", "sort_by"), ("sort_order=up", "sort_order"), ("realm_id=x", "realm_id")):
        r = node.get(f"/api/v1/containers?{query}")
        assert r.status == 400 and r.json["field"] == field, r


def test_a_container_that_goes_is_hidden(node, made):
    c = made(name="going")
    node.restart("op.delete.destroy=error")
    assert node.delete(c["id"]).status >= 500
    assert node.container(c["id"])["status"] == "failed" and len(node.list()) == 1
    node.restart("destroy.stopped=sleep:2000")
    t = threading.Thread(target=node.delete, args=(c["id"],))
    t.start()
    while node.container(c["id"])["status"] != "deleting":
        pass
    assert node.list() == []
    seen = node.get("/api/v1/containers?include_deleting=true").data
    assert [x["id"] for x in seen["containers"]] == [c["id"]] and seen["pagination"]["total"] == 1
    t.join()
    node.restart()


# Aliases of snapshots.

def test_an_alias_of_several_snapshots(node, made):
    """A guess could delete the wrong one. A name goes before any alias."""
    c = made(name="ambiguous")
    path = f"/api/v1/containers/{c['id']}/snapshots"
    for name in ("one", "two"):
        assert node.post(path, {"alias": name}).status == 200
        assert node.call("PUT", f"{path}/{name}/alias", {"alias": "same"}).status == 200
    for method, rest, body in (("DELETE", "", None), ("PUT", "", None), ("PUT", "/alias", {"alias": "x"})):
        r = node.call(method, path + "/same" + rest, body)
        assert (r.status, r.json["code"]) == (409, "DUPLICATE_ALIAS"), r
    r = node.post(f"/api/v1/containers/{c['id']}/copy", {"target_project_id": PROJECT, "source_snapshot": "same"})
    assert (r.status, r.json["code"], r.json["field"]) == (409, "DUPLICATE_ALIAS", "source_snapshot"), r
    assert node.call("PUT", path + "/one/alias", {"alias": "two"}).status == 200
    for name, gone in (("two", "two"), ("two", "one")):
        assert node.call("DELETE", f"{path}/{name}").data["snapshot_name"] == gone


def test_snapshot_alias(node, made):
    c = made(name="aliased")
    path = f"/api/v1/containers/{c['id']}/snapshots"
    assert node.post(path, {"alias": "First one!"}).data["snapshot"]["name"] == "Firstone"
    for verb, alias in (("PUT", "second ä"), ("PATCH", "x" * 100), ("PUT", None), ("PATCH", "third")):
        r = node.call(verb, path + "/Firstone/alias", {"alias": alias})
        assert r.status == 200 and r.data["snapshot"]["alias"] == alias and r.data["snapshot"]["name"] == "Firstone", r
        assert set(r.data) == {"container_id", "project_id", "snapshot"}
    assert node.call("PUT", path + "/third/alias", {"alias": "by alias"}).status == 200
    for body in ({}, {"alias": 5}, {"alias": "x" * 101}, {"alias": "a", "name": "b"}):
        assert node.call("PUT", path + "/Firstone/alias", body).status == 400, body
    assert node.call("PUT", path + "/none/alias", {"alias": "a"}).status == 404
    node.restart()
    assert node.get(path).data["snapshots"][0]["alias"] == "by alias"
    events = node.get(f"/api/v1/events?container_id={c['id']}&event_type=container.snapshot.renamed").data["events"]
    assert len(events) == 5 and events[0]["payload"]["snapshot_name"] == "Firstone"


# The control plane's.

@pytest.mark.parametrize("method,path", [
    ("GET", "/realms"), ("POST", "/realms/x/y"), ("GET", "/pools"), ("GET", "/servers/available"),
    ("GET", "/rentals"), ("POST", f"/rentals/{'9' * 24}/extend"), ("GET", "/vault/keys"), ("GET", "/wallet"), ("GET", "/users/me"),
    ("POST", "/auth/login"), ("GET", "/notifications/"), ("GET", "/proxy/aliases"), ("GET", f"/containers/{'9' * 24}/proxy/permissions"),
    ("POST", f"/containers/{'9' * 24}/proxy"), ("PUT", f"/projects/{'9' * 24}/proxy/permissions/groups/x")])
def test_what_a_node_does_not_keep(node, method, path):
    r = node.call(method, "/api/v1" + path)
    assert (r.status, r.json["error"]) == (501, "CONTROL_PLANE_ONLY") and "control plane" in r.json["message"], r


@pytest.mark.parametrize("path", ["/realmsx", "/real", "/containers/proxy/x", f"/containers/{'9' * 24}/proxyx/y"])
def test_what_nobody_has(node, path):
    assert node.get("/api/v1" + path).status in (400, 404)
