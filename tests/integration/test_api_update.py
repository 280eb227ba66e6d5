# SPDX-License-Identifier: Apache-2.0
"""Changes of a container: what the record says, and what is really so inside it, at once, after a start, after a crash."""
import os
import sqlite3
import subprocess
import time

import pytest
from daemon import PROJECT, Daemon
from world import wait_for

OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe other"


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    cid = node.create("update-box", hoody_kit=False)["id"]
    node.wait_booted(cid)
    return cid


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two key pairs: (private file, public line, fingerprint)."""
    made = []
    for name in ("one", "two"):
        path = str(tmp_path_factory.mktemp("keys") / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
        with open(path + ".pub", encoding="ascii") as f:
            line = f.read().strip()
        shown = subprocess.run(["ssh-keygen", "-lf", path], check=True, text=True, capture_output=True).stdout
        made.append((path, line, shown.split()[1]))
    return made


def update(d, cid, ok=True, verb="PATCH", **body):
    r = d.call(verb, f"/api/v1/containers/{cid}", body)
    assert not ok or r.status == 200, r
    return r.data if ok else r


def events(d, cid):
    db = sqlite3.connect(d.state + "/noded.db")
    rows = db.execute("SELECT event_type FROM events WHERE resource_id = ? ORDER BY seq", (cid,)).fetchall()
    db.close()
    return [r[0] for r in rows]


def ssh_command(d, cid, key):
    return ["ssh", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
            "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=20", "-o", "LogLevel=ERROR",
            "root@" + d.container(cid)["node"]["ipv4"]]


def can_login(d, cid, key):
    return subprocess.run([*ssh_command(d, cid, key), "true"], check=False, capture_output=True, timeout=60).returncode == 0


# The record.

def test_every_field(node, box):
    before = node.container(box)
    c = update(node, box, verb="PUT", name="Renamed_1", color="abc", ai=False, autostart=False, comment="two\nlines",
               realm_ids=["ab" * 12], unknown_field=1)
    assert (c["name"], c["color"], c["ai"], c["autostart"], c["comment"], c["realm_ids"]) == (
        "Renamed_1", "#ABC", False, False, "two\nlines", ["ab" * 12])
    kept = set(c) - {"name", "color", "ai", "autostart", "comment", "realm_ids", "updated_at"}
    assert {k: c[k] for k in kept} == {k: before[k] for k in kept}
    assert c["updated_at"] > before["updated_at"]
    assert node.inside(box, "hostname") == "update-box", "the host name stays"
    assert [e for e in events(node, box) if "update" in e or "rename" in e or "autostart" in e] == [
        "container.updated", "container.renamed", "container.autostart_disabled"]
    c = update(node, box, name="update-box", comment=None, autostart=True)
    assert c["comment"] is None and c["color"] == "#ABC"
    node.restart()
    assert node.container(box) == c | {"warnings": []}


def test_nothing_changed_tells_nothing(node, box):
    seen = events(node, box)
    c = node.container(box)
    assert update(node, box, name=c["name"], autostart=c["autostart"], comment=c["comment"])["name"] == c["name"]
    assert update(node, box)["name"] == c["name"]
    assert events(node, box) == seen


@pytest.mark.parametrize("body,field,code", [
    ({"name": "ab"}, "name", "INVALID_CONTAINER_NAME"), ({"name": "x" * 101}, "name", "INVALID_CONTAINER_NAME"),
    ({"name": "a b c"}, "name", "INVALID_CONTAINER_NAME"), ({"name": None}, "name", "VALIDATION_ERROR"),
    ({"color": "red"}, "color", "VALIDATION_ERROR"), ({"ai": 1}, "ai", "VALIDATION_ERROR"),
    ({"autostart": "yes"}, "autostart", "VALIDATION_ERROR"), ({"ramdisk": None}, "ramdisk", "VALIDATION_ERROR"),
    ({"ramdisk_scope": "node"}, "ramdisk_scope", "VALIDATION_ERROR"),
    ({"environment_vars": {"HOODY_X": "1"}}, "key", "RESERVED_ENV_PREFIX"),
    ({"environment_vars": {"1X": "1"}}, "key", "INVALID_ENV_KEY"),
    ({"environment_vars": {f"K{i}": "x" for i in range(257)}}, "environment_vars", "VALIDATION_ERROR"),
    ({"ssh_public_key": ""}, "ssh_public_key", "VALIDATION_ERROR"),
    ({"ssh_public_key": "  "}, "ssh_public_key", "VALIDATION_ERROR"),
    ({"comment": "x" * 16001}, "comment", "VALIDATION_ERROR"), ({"realm_ids": ["x"]}, "realm_ids", "VALIDATION_ERROR"),
])
def test_bad_bodies_change_nothing(node, box, body, field, code):
    before = node.get(f"/api/v1/containers/{box}").text
    r = update(node, box, ok=False, **{"comment": "never", **body})
    assert r.status == 400 and r.json["code"] == code and r.json["field"] == field, r
    assert node.get(f"/api/v1/containers/{box}").text == before


def test_names_and_keys_are_taken_once(node, box):
    other = node.create("update-other", hoody_kit=False, ssh_public_key=OTHER)["id"]
    r = update(node, box, ok=False, name="update-other")
    assert (r.status, r.json["code"]) == (409, "CONTAINER_NAME_IN_USE")
    r = update(node, box, ok=False, ssh_public_key=OTHER.replace("other", "another comment"))
    assert (r.status, r.json["code"]) == (409, "SSH_PUBLIC_KEY_IN_USE")
    assert update(node, other, name="update-other", ssh_public_key=OTHER)["name"] == "update-other"
    node.delete(other)
    assert update(node, box, name="update-other")["name"] == "update-other"
    update(node, box, name="update-box")


def test_what_cannot_be_recorded_is_undone(node, box):
    before = node.container(box)
    db = sqlite3.connect(node.state + "/noded.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    r = update(node, box, ok=False, name="unlucky", environment_vars={"A": "1"}, ramdisk=False, ssh_public_key=OTHER)
    assert r.status == 500, r
    db.execute("ROLLBACK")
    db.close()
    assert node.container(box) == before
    assert "ramdisk" in node.inside(box, "mount")


# The ramdisk.

def test_the_ramdisk_goes_and_comes_while_it_runs(node, box):
    pid = node.container(box)["node"]["init_pid"]
    node.inside(box, "sh", "-c", "echo data > /ramdisk/file")
    assert update(node, box, ramdisk=False)["ramdisk"] is False
    assert " /ramdisk " not in node.inside(box, "mount")
    assert not [m for m in node.mounts() if m.endswith("/ramdisk")]
    assert update(node, box, ramdisk=True)["ramdisk"] is True
    assert " on /ramdisk type tmpfs" in node.inside(box, "mount")
    assert node.inside(box, "ls", "/ramdisk") == ""
    node.inside(box, "sudo", "-u", "user", "sh", "-c", "echo mine > /ramdisk/mine")
    assert node.inside(box, "stat", "-c", "%U", "/ramdisk/mine") == "user"
    options = node.inside(box, "findmnt", "-no", "OPTIONS", "/ramdisk")
    assert "nosuid" in options and "nodev" in options
    assert node.container(box)["node"]["init_pid"] == pid, "no restart"
    assert "container.resource_updated" in events(node, box)


def test_the_ramdisk_of_a_stopped_container(node, box):
    assert node.op(box, "force-stop").status == 200
    update(node, box, ramdisk=False)
    assert not [m for m in node.mounts() if m.endswith("/ramdisk")]
    assert node.op(box, "start").status == 200
    assert " /ramdisk " not in node.inside(box, "mount")
    update(node, box, ramdisk=True)
    assert " on /ramdisk type tmpfs" in node.inside(box, "mount")


def test_the_ramdisk_after_a_reboot_from_the_inside(node, box):
    for wanted in (False, True):
        update(node, box, ramdisk=wanted)
        node.wait_booted(box)
        pid = node.container(box)["node"]["init_pid"]
        node.inside(box, "systemctl", "reboot", "-ff", check=False)
        wait_for(lambda: node.container(box)["node"]["init_pid"] not in (0, pid), 60, what="the reboot")
        node.wait_idle()
        wait_for(lambda: (" on /ramdisk " in node.inside(box, "mount")) == wanted, 10, what="the ramdisk as it was set")
    node.wait_booted(box)


@pytest.mark.parametrize("trap", ["ln -s /etc /ramdisk", "touch /ramdisk", "mkdir -p /x && ln -s x /ramdisk"])
def test_a_trap_in_place_of_the_mount_point(node, box, trap):
    update(node, box, ramdisk=False)
    node.inside(box, "sh", "-c", f"rm -rf /ramdisk; {trap}")
    r = update(node, box, ok=False, ramdisk=True)
    mounts = node.inside(box, "mount")
    assert " on /etc " not in mounts and " on /x " not in mounts
    assert r.status == (200 if "touch" in trap else 502), r
    assert (" on /ramdisk " in mounts) == (r.status == 200)
    update(node, box, ramdisk=False)
    node.inside(box, "sh", "-c", "rm -rf /ramdisk /x; mkdir /ramdisk")
    update(node, box, ramdisk=True)
    assert " on /ramdisk type tmpfs" in node.inside(box, "mount")


def shared_mounts(d):
    return [m for m in d.mounts() if "/run/p" in m]


def test_a_project_shares_a_ramdisk(node, box):
    project = "42" * 12
    one, two = (node.post(f"/api/v1/projects/{project}/containers?wait=true", {"server_id": "self", "name": f"shared-{i}",
                                                                              "hoody_kit": False}).data["id"] for i in (1, 2))
    outside = update(node, box, ramdisk_scope="project")
    assert outside["ramdisk_scope"] == "project"
    for cid in (one, two):
        node.wait_booted(cid)
        assert update(node, cid, ramdisk_scope="project")["ramdisk_scope"] == "project"
    node.inside(one, "sudo", "-u", "user", "sh", "-c", "echo ours > /ramdisk/project/file")
    assert node.inside(two, "cat", "/ramdisk/project/file") == "ours"
    assert node.inside(two, "stat", "-c", "%U", "/ramdisk/project/file") == "user", "ids are each container's own"
    assert node.inside(two, "stat", "-c", "%U", "/ramdisk/project") == "root"
    assert node.inside(box, "ls", "/ramdisk/project") == "", "another project has its own"
    options = node.inside(one, "findmnt", "-no", "OPTIONS", "/ramdisk/project")
    assert "nosuid" in options and "nodev" in options
    stats = node.get(f"/api/v1/containers/{one}/stats").data["ramdisk"]
    assert stats["scope"] == "project" and stats["usage"]["project"] == 4096, stats
    # it outlives stops, noded, and reboots from the inside
    assert node.op(one, "restart").status == 200
    assert node.inside(one, "cat", "/ramdisk/project/file") == "ours"
    node.restart()
    node.wait_idle()
    assert node.inside(one, "cat", "/ramdisk/project/file") == "ours"
    node.wait_booted(two)
    pid = node.container(two)["node"]["init_pid"]
    node.inside(two, "systemctl", "reboot", "-ff", check=False)
    wait_for(lambda: node.container(two)["node"]["init_pid"] not in (0, pid), 60, what="the reboot")
    node.wait_idle()
    wait_for(lambda: node.inside(two, "cat", "/ramdisk/project/file", check=False) == "ours", 10, what="the shared ramdisk")
    # a copy in the project has it too; one elsewhere has not
    for target, scope in ((project, "project"), ("43" * 12, "container")):
        r = node.post(f"/api/v1/containers/{one}/copy?wait=true", {"target_project_id": target})
        assert r.status == 201 and r.data["ramdisk_scope"] == scope, r
        assert (" on /ramdisk/project " in node.inside(r.data["id"], "mount")) == (scope == "project")
        assert node.delete(r.data["id"]).status == 200
    assert len(shared_mounts(node)) == 2
    # what goes, goes for one; the last one ends it
    update(node, two, ramdisk_scope="container")
    assert " on /ramdisk/project " not in node.inside(two, "mount") and " on /ramdisk " in node.inside(two, "mount")
    assert node.inside(one, "cat", "/ramdisk/project/file") == "ours"
    update(node, two, ramdisk_scope="project")
    assert node.inside(two, "cat", "/ramdisk/project/file") == "ours"
    update(node, two, ramdisk=False)
    assert "ramdisk" not in node.inside(two, "mount")
    assert node.delete(one).status == 200
    node.wait_idle()
    assert len(shared_mounts(node)) == 1
    update(node, box, ramdisk_scope="container")
    node.wait_idle()
    assert shared_mounts(node) == [] and not any(n.startswith("p") for n in os.listdir(node.run_dir))
    assert node.delete(two).status == 200


def test_a_trap_in_place_of_the_shared_mount_point(node, box):
    node.inside(box, "sh", "-c", "mkdir /victim; rm -rf /ramdisk/project; ln -s /victim /ramdisk/project")
    r = update(node, box, ok=False, ramdisk_scope="project")
    assert r.status == 502 and " on /victim " not in node.inside(box, "mount"), r
    node.inside(box, "sh", "-c", "rm /ramdisk/project; rmdir /victim")
    assert update(node, box, ramdisk_scope="container")["ramdisk_scope"] == "container"
    node.wait_idle()
    assert shared_mounts(node) == []


# The key, with the real sshd.

@pytest.fixture
def session(node, box):
    """Opens ssh sessions that stay open; what is left is ended."""
    opened = []

    def begin(key):
        p = subprocess.Popen([*ssh_command(node, box, key), "echo ready; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
        opened.append(p)
        assert p.stdout.readline() == b"ready\n"
        return p
    yield begin
    for p in opened:
        p.kill()
        p.wait()


@pytest.mark.parametrize("options", [("ed25519",), ("rsa", "-b", "2048"), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "384"),
                                     ("ecdsa", "-b", "521")])
def test_keys_of_each_type_as_their_files_have_them(node, tmp_path, options):
    box = node.create("key-spelt", hoody_kit=False)["id"]
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", *options, "-N", "", "-C", "some body", "-f", file], check=True)
    line = (tmp_path / "key.pub").read_text()
    told = subprocess.run(["ssh-keygen", "-lf", f"{file}.pub"], capture_output=True, text=True, check=True).stdout
    kind, blob, comment = line.strip().split(" ", 2)
    for spelling in (line, f"{kind}  {blob} {comment}\r\n", f" {kind}\t{blob}  {comment} "):
        update(node, box, ssh_public_key=None)
        c = update(node, box, ssh_public_key=spelling)
        assert c["ssh_public_key"] == line.strip() and c["ssh_key_fingerprint"] == told.split()[1]
    wrong = "ssh-rsa" if kind != "ssh-rsa" else "ssh-ed25519"
    for bad in (f"{kind} {blob[:40]}", f"{kind} {blob[:-4]}", f"{wrong} {blob} {comment}", line + line, f"{kind} {blob}AAAA"):
        r = update(node, box, ok=False, ssh_public_key=bad)
        assert r.status == 400 and r.json["field"] == "ssh_public_key", r
        r = node.post(f"/api/v1/projects/{PROJECT}/containers", {"server_id": "self", "ssh_public_key": bad})
        assert r.status == 400 and r.json["field"] == "ssh_public_key", r
    assert node.container(box)["ssh_public_key"] == line.strip()
    assert node.delete(box).status == 200


def test_a_key_is_added_rotated_and_removed(node, box, keys, session):
    (one, one_line, one_print), (two, two_line, two_print) = keys
    node.wait_booted(box)
    assert node.container(box)["ssh_key_fingerprint"] is None and not can_login(node, box, one)
    c = update(node, box, ssh_public_key=one_line)
    assert c["ssh_public_key"] == one_line and c["ssh_key_fingerprint"] == one_print and c["ssh_key_installed_at"]
    assert can_login(node, box, one)
    first = session(one)
    seen = len(events(node, box))
    assert update(node, box, ssh_public_key=one_line.replace(" one", " comment"))["ssh_public_key"] == one_line
    assert len(events(node, box)) == seen and first.poll() is None, "the same key is no change"
    # A key of the owner's own, and its session, are none of our business.
    node.inside(box, "sh", "-c", f"echo '{OTHER}' >> /root/.ssh/authorized_keys")
    c = update(node, box, ssh_public_key=two_line)
    assert c["ssh_key_fingerprint"] == two_print
    first.wait(10)
    assert can_login(node, box, two) and not can_login(node, box, one)
    second = session(two)
    assert update(node, box, ssh_public_key=None)["ssh_key_fingerprint"] is None
    second.wait(10)
    assert not can_login(node, box, two)
    assert node.inside(box, "cat", "/root/.ssh/authorized_keys") == OTHER
    assert [e for e in events(node, box) if "ssh_key" in e] == [
        "container.ssh_key.added", "container.ssh_key.removed", "container.ssh_key.added", "container.ssh_key.removed"]
    # free again, at once
    other = node.create("update-key", hoody_kit=False, ssh_public_key=two_line)
    assert other["ssh_key_installed_at"] and other["ssh_key_fingerprint"] == two_print
    node.delete(other["id"])


def test_sessions_of_other_keys_stay(node, box, keys, session):
    (one, one_line, _), (two, two_line, _) = keys
    node.inside(box, "sh", "-c", f"echo '{two_line}' >> /root/.ssh/authorized_keys")
    update(node, box, ssh_public_key=one_line)
    mine, owners = session(one), session(two)
    update(node, box, ssh_public_key=None)
    mine.wait(10)
    time.sleep(0.5)
    assert owners.poll() is None, "opened with a key that was not removed"
    owners.stdin.write(b"still here\n")
    owners.stdin.flush()
    assert owners.stdout.readline() == b"still here\n"
    node.inside(box, "sh", "-c", "rm /root/.ssh/authorized_keys")


def test_a_stopped_container_starts_with_its_new_key(node, box, keys):
    (one, one_line, _), _ = keys
    assert node.op(box, "force-stop").status == 200
    c = update(node, box, ssh_public_key=one_line)
    assert c["ssh_key_installed_at"]
    assert node.op(box, "start").status == 200
    node.wait_booted(box)
    assert can_login(node, box, one)


def test_a_restore_does_not_bring_a_removed_key_back(node, box, keys):
    (one, _, _), _ = keys
    assert node.post(f"/api/v1/containers/{box}/snapshots", {"alias": "with-key"}).status == 200
    update(node, box, ssh_public_key=None)
    assert node.call("PUT", f"/api/v1/containers/{box}/snapshots/with-key").status == 200
    assert " # noded" not in node.inside(box, "cat", "/root/.ssh/authorized_keys")
    node.wait_booted(box)
    assert not can_login(node, box, one)


# Crashes and failures of the work.

@pytest.mark.parametrize("point", ["ssh.written", "ramdisk.mounted", "ramdisk.mount"])
@pytest.mark.parametrize("how", ["kill", "error"])
def test_what_failed_is_brought_in_later(node, box, point, how):
    body = {"ssh_public_key": OTHER} if point.startswith("ssh") else {"ramdisk": True}
    update(node, box, ssh_public_key=None, ramdisk=False)
    node.restart(f"{point}={how}")
    r = update(node, box, ok=False, **body)
    assert r.status in (500, 502) and "not in effect" in r.json["message"], r
    assert node.container(box)["ramdisk"] == body.get("ramdisk", False)
    assert node.container(box)["ssh_key_installed_at"] is None
    node.restart()
    node.wait_idle()
    if "ramdisk" in body:
        assert " on /ramdisk type tmpfs" in node.inside(box, "mount")
    else:
        assert OTHER in node.inside(box, "cat", "/root/.ssh/authorized_keys")
        assert node.container(box)["ssh_key_installed_at"]
    node.assert_consistent()


def test_a_rotated_key_is_not_installed_until_it_is(node, box, keys):
    _, (_, two_line, _) = keys
    update(node, box, ssh_public_key=OTHER, ramdisk=True)
    node.restart("ssh.written=error")
    r = update(node, box, ok=False, ssh_public_key=two_line)
    assert r.status in (500, 502) and node.container(box)["ssh_key_installed_at"] is None
    # until the old one is out of the files it is in use
    r = node.post(f"/api/v1/projects/{PROJECT}/containers", {"server_id": "self", "ssh_public_key": OTHER})
    assert (r.status, r.json["code"]) == (409, "SSH_PUBLIC_KEY_IN_USE")
    node.restart()
    node.wait_idle()
    assert node.container(box)["ssh_key_installed_at"]
    other = node.create("update-free", hoody_kit=False, ssh_public_key=OTHER)
    assert node.delete(other["id"]).status == 200


def test_noded_killed_between_record_and_work(node, box):
    update(node, box, ssh_public_key=None, ramdisk=True)
    node.restart("ssh.written=sleep:3000")
    with pytest.raises(Exception):
        node.call("PATCH", f"/api/v1/containers/{box}", {"ssh_public_key": OTHER}, timeout=1)
    node.kill9()
    node.start()
    node.wait_idle()
    c = node.container(box)
    assert c["ssh_public_key"] == OTHER and c["ssh_key_installed_at"]
    assert OTHER in node.inside(box, "cat", "/root/.ssh/authorized_keys")


# Other calls.

def test_kvm(node, box):
    path = f"/api/v1/containers/{box}/kvm"
    for body in ({}, {"kvm": "no"}, {"kvm": True, "dev_kvm": False}, {"more": True}):
        assert node.call("PUT", path, body).status == 400, body
    assert node.call("PUT", path, {"kvm": True}).status == 403
    assert node.call("PATCH", path, {"dev_kvm": True}).status == 403
    r = node.call("PUT", path, {"kvm": False})
    assert (r.status, r.json["code"]) == (409, "OPERATION_STATE_CONFLICT")
    assert node.op(box, "force-stop").status == 200
    for body in ({"kvm": False}, {"dev_kvm": False}, {"kvm": False, "dev_kvm": False}):
        r = node.call("PATCH", path, body)
        assert r.status == 200 and r.data == {"id": box, "name": "update-box", "status": "stopped", "kvm": False}, r
    assert node.op(box, "start").status == 200


def test_authorize(node, box):
    r = node.post(f"/api/v1/containers/{box}/authorize")
    assert (r.status, r.json["error"]) == (503, "SIGNING_NOT_CONFIGURED") and "control plane" in r.json["message"]
    assert node.post(f"/api/v1/containers/{'9' * 24}/authorize").status == 404


def test_while_it_comes_into_being(node):
    cid = node.create("update-young", wait=False, hoody_kit=False)["id"]
    r = update(node, cid, ok=False, name="update-younger")
    assert (r.status, r.json["code"]) == (409, "CONTAINER_OPERATION_IN_PROGRESS"), r
    node.wait_idle()
    assert update(node, cid, name="update-younger")["name"] == "update-younger"
    assert node.delete(cid).status == 200
    assert not os.path.exists(f"{node.run_dir}/c{2}/ramdisk")
