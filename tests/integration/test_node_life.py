# SPDX-License-Identifier: Apache-2.0
"""One container through the API, from create to delete, on a real node."""
import hashlib
import json
import os
import socket
import subprocess
import time

import pytest
from daemon import Daemon
from world import BUILD, wait_for

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe life@test"


def ssh_answers(address):
    try:
        with socket.create_connection((address, 22), 2) as s:
            return s.recv(4) == b"SSH-"
    except OSError:
        return False


@pytest.fixture(scope="module")
def node():
    d = Daemon(kits=True).start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    c = node.create("box-one", environment_vars={"COLOUR": "blue"}, ssh_public_key=KEY)
    node.wait_booted(c["id"])
    return c["id"]


def test_reaches_running_with_all_kits(node, box):
    assert node.wait_booted(box) == "running", node.inside(box, "systemctl", "--failed")
    for unit in ("hoody-files.service", "hoody-whoami.service", "hoody-journal.socket", "hoody-terminal.socket"):
        assert node.inside(box, "systemctl", "is-active", unit) == "active"


def test_a_create_answers_with_all_kits_ready(node):
    begun = time.monotonic()
    made = node.create("ready")
    seconds, cid = time.monotonic() - begun, made["id"]
    event = node.get(f"/api/v1/events?container_id={cid}&event_type=container.running").data["events"][0]["payload"]
    kits = {s["slug"]: s["state"] for s in node.get(f"/api/v1/containers/{cid}?runtime=true").data["runtime_info"]["kits"]}
    assert made["status"] == "running" and kits == dict.fromkeys(("whoami", "files", "logs", "terminal"), "ready")
    assert 0 < event["kits_ready_ms"] <= seconds * 1000 and seconds < 10
    for port in (7001, 7003):
        assert node.inside(cid, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/") == "200"
    assert node.delete(cid).status == 200


def test_is_unprivileged_with_a_range_of_its_own(node, box):
    other = node.create("box-two", hoody_kit=False)["id"]
    first = node.inside(box, "cat", "/proc/self/uid_map").split()
    second = node.inside(other, "cat", "/proc/self/uid_map").split()
    assert first[0] == "0" and int(first[1]) >= 65536 and first[2] == "65536"
    assert abs(int(first[1]) - int(second[1])) >= 65536
    assert node.delete(other).status == 200


def test_ipv6_is_usable_at_once(node):
    """A connection begun while the kernel still looked for a second owner would take a link-local source."""
    cid = node.create("box-six", hoody_kit=False)["id"]
    c = node.container(cid)
    address = next(a for link in json.loads(node.inside(cid, "ip", "-j", "-6", "addr", "show", "dev", "eth0"))
                   for a in link["addr_info"] if a["local"] == c["node"]["ipv6"])
    assert not address.get("tentative") and address["prefixlen"] == 128
    assert c["node"]["ipv6"] in node.inside(cid, "ip", "-6", "route", "get", "2001:db8:ffff::1")
    assert node.delete(cid).status == 200


def test_identity_and_environment(node, box):
    c = node.container(box)
    assert node.inside(box, "hostname") == "box-one"
    assert "COLOUR" in node.inside(box, "cat", "/etc/environment")
    assert node.inside(box, "bash", "-lc", "echo $HOODY_CONTAINER_ID") == c["id"]
    assert KEY in node.inside(box, "cat", "/root/.ssh/authorized_keys")
    assert node.inside(box, "id", "-u", "user") == "1000"
    assert node.inside(box, "sudo", "-u", "user", "sudo", "-n", "id", "-u") == "0"
    assert node.inside(box, "stat", "-c", "%U", "/ramdisk", "/hoody/storage").split()[0] == "root"
    node.inside(box, "sh", "-c", "echo data > /ramdisk/file")


def test_env_set_reaches_the_container(node, box):
    r = node.call("PUT", f"/api/v1/containers/{box}/env/SHAPE", {"value": "round one"})
    assert r.status == 200 and r.data["synced"] and r.data["env_sync"]["pending"] is False
    assert "SHAPE" in node.inside(box, "cat", "/etc/environment")
    assert node.call("PATCH", f"/api/v1/containers/{box}/env", {"A": "1", "B": "2"}).data["environment_vars"] == {
        "COLOUR": "blue", "SHAPE": "round one", "A": "1", "B": "2"}
    assert node.call("DELETE", f"/api/v1/containers/{box}/env/A").status == 200
    assert node.call("DELETE", f"/api/v1/containers/{box}/env/A").status == 200
    assert "A" not in node.get(f"/api/v1/containers/{box}/env").data["environment_vars"]


class Terminal:
    """A shell of the web terminal, as the browser's program uses it."""

    def __init__(self, node, cid):
        self.node, self.cid = node, cid
        self.session = self.ask("width=200&height=50&rooturl=http://127.0.0.1:7002/")["session"]
        self.seen = ""

    def ask(self, form, seconds=20):
        return json.loads(self.node.inside(self.cid, "curl", "-s", "-m", str(seconds), "-d", form, "http://127.0.0.1:7002/?") or "{}")

    def run(self, command, end):
        """What it shows up to `end`, which the typed command does not say in this form."""
        keys = (command + "\r").encode().hex().upper()
        self.node.inside(self.cid, "curl", "-s", "-m", "20", "-d", f"width=200&height=50&session={self.session}&keys={keys}", "http://127.0.0.1:7002/?")

        def done():
            self.seen += self.ask(f"width=200&height=50&session={self.session}").get("data", "")
            return end in self.seen
        wait_for(done, 30, what="the shell's answer")
        return self.seen


def test_the_web_terminal_has_the_owners_variables(node, box):
    pem = "-----BEGIN KEY-----\nMC4=\n-----END KEY-----\n"
    r = node.call("PATCH", f"/api/v1/containers/{box}/env", {"TYPED": """it's "here" $HOME `id` \\""", "PEM": pem})
    assert r.status == 200 and r.data["synced"], r
    shell = Terminal(node, box)
    seen = shell.run("printf 'ID=%s T=%s P=%s.\\n' $HOODY_CONTAINER_ID \"$TYPED\" $(printf '%s' \"$PEM\" | sha256sum | cut -c1-16); echo en''d", "end")
    digest = hashlib.sha256(pem.encode()).hexdigest()[:16]
    assert f"""ID={box} T=it's "here" $HOME `id` \\ P={digest}.""" in seen, seen
    for key in ("TYPED", "PEM"):
        assert node.call("DELETE", f"/api/v1/containers/{box}/env/{key}").status == 200


def test_stats_are_the_kernels(node, box):
    s = node.get(f"/api/v1/containers/{box}/stats").data
    assert (s["status"], s["status_code"]) == ("Running", 103)
    assert s["processes"] >= 2 and s["memory"]["usage"] > 1 << 20 and s["cpu"]["usage"] > 0
    assert s["network"][0]["addresses"][0]["address"] == node.container(box)["node"]["ipv4"]


def test_pause_and_resume(node, box):
    r = node.op(box, "pause")
    assert r.status == 200 and r.data["status"] == "paused", r
    assert node.op(box, "pause").status == 400
    assert node.op(box, "stop").status == 400
    r = node.op(box, "resume")
    assert r.status == 200 and r.data["status"] == "running", r


def test_snapshot_damage_restore(node, box):
    node.inside(box, "sh", "-c", "echo good > /root/file; sync")
    r = node.post(f"/api/v1/containers/{box}/snapshots", {"alias": "before it"})
    assert r.status == 200 and r.data["snapshot"]["name"] == "beforeit", r
    node.inside(box, "sh", "-c", "rm -rf /root/file /usr/bin/apt*")
    assert node.call("PUT", f"/api/v1/containers/{box}/env/LATE", {"value": "1"}).data["synced"]
    r = node.call("PUT", f"/api/v1/containers/{box}/snapshots/beforeit")
    assert r.status == 200 and r.data["snapshot"]["last_used_at"], r
    assert node.wait_booted(box) == "running"
    assert node.inside(box, "cat", "/root/file") == "good"
    assert node.inside(box, "ls", "/usr/bin/apt") == "/usr/bin/apt"
    assert node.inside(box, "cat", "/ramdisk/file") == "data", "a restore leaves the ramdisk alone"
    assert node.container(box)["last_used_snapshot"] == "beforeit"
    wait_for(lambda: not node.container(box)["env_sync"]["pending"], 10, what="the environment")
    assert "LATE" in node.inside(box, "cat", "/etc/environment"), "variables are the container's, not the snapshot's"
    assert node.get(f"/api/v1/containers/{box}/snapshots").data["snapshot_count"] == 1


def test_copy_has_data_snapshots_and_its_own_identity(node, box):
    r = node.post(f"/api/v1/containers/{box}/copy?wait=true",
                  {"target_project_id": "0" * 23 + "2", "name": "box-copy", "copy_firewall_rules": True})
    assert r.status == 201 and r.data["status"] == "running", r
    copy = r.data["id"]
    node.wait_booted(copy)
    assert node.inside(copy, "cat", "/root/file") == "good"
    assert node.inside(copy, "hostname") == "box-copy"
    assert node.inside(copy, "cat", "/etc/machine-id") != node.inside(box, "cat", "/etc/machine-id")
    assert node.inside(copy, "bash", "-lc", "echo $HOODY_CONTAINER_ID") == copy
    assert node.inside(copy, "sh", "-c", "cat /root/.ssh/authorized_keys 2>/dev/null || true") == ""
    assert node.get(f"/api/v1/containers/{copy}/snapshots").data["snapshot_count"] == 1
    assert node.container(copy)["source_container_id"] == box
    assert node.delete(copy).status == 200


def test_a_snapshot_that_comes_during_a_copy_is_not_the_copys(node, box):
    node.restart("create.seeded=sleep:5000")
    try:
        r = node.post(f"/api/v1/containers/{box}/copy", {"target_project_id": "0" * 23 + "2", "name": "box-late"})
        assert r.status == 201 and r.data["status"] == "copying", r
        copy = r.data["id"]
        late = node.post(f"/api/v1/containers/{box}/snapshots", {"alias": "late"}).status
        wait_for(lambda: node.container(copy)["status"] != "copying", 60, what="the copy")
        said = {s["name"] for s in node.get(f"/api/v1/containers/{copy}/snapshots").data["snapshots"]}
        there = set(os.listdir(f"{node.pool}/slots/{node.container(copy)['node']['slot']}/snapshots"))
        node.delete(copy)
        node.call("DELETE", f"/api/v1/containers/{box}/snapshots/late")
    finally:
        node.restart()
    assert (late, said, there) == (200, {"beforeit"}, {"beforeit"})


@pytest.mark.parametrize("form", ["tar", "stream"])
def test_an_imported_container_has_the_kits_of_its_node(node, box, form):
    path = f"{node.dir}/box.{form}"
    for argv in (("export", box, path, "--format", form), ("import", path, "box-" + form, "--start")):
        r = subprocess.run([BUILD + "/nodectl", "--socket", node.socket, *argv], capture_output=True, text=True, check=False)
        assert r.returncode == 0, r
    os.unlink(path)
    made = next(c for c in node.list() if c["name"] == "box-" + form)
    try:
        node.wait_booted(made["id"])
        assert made["hoody_kit"]
        assert node.get(f"/api/v1/containers/{made['id']}/kits").data["kits"] == node.get("/api/v1/node/kits").data["suite"]
        wait_for(lambda: node.inside(made["id"], "systemctl", "is-active", "hoody-whoami.service", check=False) == "active", 60, what="a kit")
        assert node.inside(made["id"], "cat", "/root/file") == "good"
    finally:
        assert node.delete(made["id"]).status == 200


def test_stop_start_keeps_ramdisk_and_poweroff_is_noticed(node, box):
    node.inside(box, "sh", "-c", "echo again > /ramdisk/file")
    r = node.op(box, "stop", {"timeout": 30})
    assert r.status == 200 and r.data["status"] == "stopped", r
    assert node.op(box, "stop").status == 400
    assert node.op(box, "start").data["status"] == "running"
    node.wait_booted(box)
    assert node.inside(box, "cat", "/ramdisk/file") == "again"
    node.inside(box, "systemctl", "poweroff", check=False)
    wait_for(lambda: node.container(box)["status"] == "stopped", 30, what="the poweroff")
    assert node.op(box, "start").data["status"] == "running"


def test_reboot_from_the_inside(node, box):
    node.wait_booted(box)
    before = node.container(box)["node"]["init_pid"]
    node.inside(box, "systemctl", "reboot", check=False)
    wait_for(lambda: node.container(box)["node"]["init_pid"] not in (0, before), 40, what="the reboot")
    assert node.wait_booted(box) == "running"
    assert node.container(box)["status"] == "running"
    wait_for(lambda: ssh_answers(node.container(box)["node"]["ipv4"]), 20, what="sshd")


def test_noded_killed_containers_serve_on(node, box):
    before, address = node.container(box)["node"]["init_pid"], node.container(box)["node"]["ipv4"]
    wait_for(lambda: ssh_answers(address), 20, what="sshd")
    node.kill9()
    assert ssh_answers(address)
    node.start()
    assert node.container(box)["node"]["init_pid"] == before
    assert node.container(box)["status"] == "running"
    node.assert_consistent()


def test_status_logs(node, box):
    logs = node.get(f"/api/v1/containers/{box}/status-logs?limit=100&sort_order=asc").data["logs"]
    assert [log["to_status"] for log in logs][:2] == ["creating", "running"]
    assert all(a["to_status"] == b["from_status"] for a, b in zip(logs, logs[1:]))
    assert all(isinstance(log["duration_ms"], int) for log in logs if log["to_status"] != "creating")


def test_create_is_idempotent_on_its_id(node):
    cid = "ab" * 12
    first = node.create("same", id=cid, hoody_kit=False)
    again = node.create("same", id=cid, hoody_kit=False)
    assert first["id"] == again["id"] == cid
    assert node.create("other", id=cid, hoody_kit=False, ok=False).status == 409
    assert node.create("same", ok=False).status == 409
    assert node.delete(cid).status == 200
    assert node.get(f"/api/v1/containers/{cid}").status == 404


def test_a_status_that_shows_can_be_acted_on(node):
    """Who polls for a status must not be refused as busy right after: the status shows when the operation has let go."""
    cid = node.create("polled", hoody_kit=False, wait=False)["id"]

    def wait_status(status):
        wait_for(lambda: node.container(cid)["status"] == status, 30, 0, status)
    for _ in range(8):
        wait_status("running")
        node.wait_booted(cid)
        node.inside(cid, "systemctl", "poweroff", "--force", "--force", check=False)
        wait_status("stopped")
        assert node.op(cid, "start").status == 200
    assert node.delete(cid).status == 200


def test_delete_leaves_nothing(node, box):
    assert node.delete(box).status == 200
    assert node.delete(box).status == 404
    node.assert_consistent()
    assert node.everything() == {"slots": [], "links": [], "cgroups": [], "monitors": 0, "mounts": [], "run": []}
