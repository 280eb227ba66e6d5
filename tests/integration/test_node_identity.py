# SPDX-License-Identifier: Apache-2.0
"""What makes a container this one and no other, looked at in booted ones: a container, its copy, and it again after a snapshot's
restore. And what every machine of the platform has: an account, directories, language and time."""
import re
import subprocess

import pytest
from daemon import PROJECT, Daemon
from world import run, wait_for


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("key") / "id")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "identity@test", "-f", path)
    return path


def public(key):
    with open(key + ".pub", encoding="ascii") as f:
        return f.read().strip()


@pytest.fixture(scope="module")
def box(node, key):
    cid = node.create("identity", hoody_kit=False, ssh_public_key=public(key))["id"]
    assert node.wait_booted(cid) == "running"
    return cid


@pytest.fixture(scope="module")
def copy(node, box):
    node.inside(box, "sh", "-c", "systemctl start ssh-host-keys; sync")  # the source has all that it could pass on
    r = node.post(f"/api/v1/containers/{box}/copy?wait=true", {"target_project_id": PROJECT, "name": "identity-copy"})
    assert r.status == 201, r
    node.wait_booted(r.data["id"])
    return r.data["id"]


def ssh(node, cid, key, user, *argv):
    r = subprocess.run(["ssh", "-q", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                        "BatchMode=yes", "-o", "ConnectTimeout=20", f"{user}@{node.container(cid)['node']['ipv4']}", *argv],
                       text=True, capture_output=True, check=False, timeout=60)
    assert r.returncode == 0, (r.stdout, r.stderr)
    return r.stdout.strip()


def variables(text):
    return dict(line.split("=", 1) for line in text.split("\n") if "=" in line)


def kinds_of_processes(node, cid, key):
    """The environment as each kind of process finds it."""
    pid = node.container(cid)["node"]["init_pid"]
    with open(f"/proc/{pid}/environ", encoding="utf-8") as f:
        yield "init", f.read().replace("\0", "\n")
    yield "login shell", node.inside(cid, "env", "-i", "bash", "-lc", "env")
    yield "su", node.inside(cid, "env", "-i", "su", "-s", "/usr/bin/env", "user")
    yield "sudo -i", node.inside(cid, "sudo", "-i", "-u", "user", "env")
    yield "unit", node.inside(cid, "systemd-run", "--quiet", "--wait", "--pipe", "env")
    yield "timer", timer(node, cid)
    for user in ("root", "user"):
        yield f"ssh {user}", ssh(node, cid, key, user, "env")
        yield f"ssh {user}, login", ssh(node, cid, key, user, "bash -lc env")


def timer(node, cid):
    node.inside(cid, "systemd-run", "--quiet", "--on-active=100ms", "--timer-property=AccuracySec=10ms", "sh", "-c",
                "env > /run/.of-timer && mv /run/.of-timer /run/of-timer")
    wait_for(lambda: node.inside(cid, "ls", "/run/of-timer", check=False), 30, 0.1, "the timer")
    return node.inside(cid, "cat", "/run/of-timer")


def test_every_process_knows_its_container(node, box, key):
    for kind, text in kinds_of_processes(node, box, key):
        seen = variables(text)
        assert seen.get("HOODY_CONTAINER_ID") == box, (kind, seen)
        if kind != "init":
            assert seen.get("LANG") == "C.UTF-8" or kind in ("login shell", "sudo -i"), (kind, seen)


def test_what_a_test_runs_inside_has_nothing_of_the_tests_environment(node, box, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("STRANGER", "yes")
    seen = variables(node.inside(box, "env"))
    assert "/usr/local/bin" in seen["PATH"].split(":") and "/nowhere" not in seen["PATH"] and "STRANGER" not in seen, seen


def test_names(node, box):
    assert node.inside(box, "hostname") == node.inside(box, "cat", "/etc/hostname") == "identity"
    assert node.inside(box, "hostnamectl", "hostname") == "identity"
    assert node.inside(box, "getent", "hosts", "identity").split()[0] in ("127.0.1.1", "::1")
    assert node.inside(box, "getent", "ahostsv4", "localhost").split()[0] == "127.0.0.1"
    servers = re.findall(r"^nameserver (\S+)$", node.inside(box, "cat", "/etc/resolv.conf"), re.M)
    assert servers and node.inside(box, "stat", "-c", "%F %a", "/etc/resolv.conf") == "regular file 644"


def test_machine_id(node, box):
    wanted = node.inside(box, "cat", "/etc/machine-id")
    assert re.fullmatch("[0-9a-f]{32}", wanted)
    assert wanted in node.inside(box, "sh", "-c", "ls /var/log/journal /run/log/journal 2>/dev/null; true")


def test_account(node, box, key):
    assert node.inside(box, "id", "user") == "uid=1000(user) gid=1000(user) groups=1000(user),27(sudo)"
    assert node.inside(box, "getent", "passwd", "user").split(":")[2:] == ["1000", "1000", "", "/home/user", "/bin/bash"]
    assert node.inside(box, "stat", "-c", "%U:%G", "/home/user") == "user:user"
    assert node.inside(box, "cat", "/etc/sudoers.d/user") == "user ALL=(ALL) NOPASSWD: ALL\n#1000 ALL=(ALL) NOPASSWD: ALL"
    assert node.inside(box, "stat", "-c", "%U:%G %a", "/etc/sudoers.d/user") == "root:root 440"
    assert ssh(node, box, key, "user", "sudo -n id -u") == "0" and ssh(node, box, key, "root", "id -u") == "0"
    for home, user in (("/root", "root"), ("/home/user", "user")):
        assert node.inside(box, "stat", "-c", "%U:%G %a", home + "/.ssh") == f"{user}:{user} 700"
        assert node.inside(box, "stat", "-c", "%U:%G %a", home + "/.ssh/authorized_keys") == f"{user}:{user} 600"


# What is mounted at /hoody/shares is the node's: nobody inside may change it.
DIRECTORIES = {"/hoody": "root 755", "/hoody/storage": "user 755", "/hoody/databases": "user 755", "/hoody/mounts": "root 755",
               "/hoody/shares": "nobody 755", "/ramdisk": "root 1777", "/dev/hoody": "root 755"}


def test_directories(node, box):
    for path, wanted in DIRECTORIES.items():
        assert node.inside(box, "stat", "-c", "%F %U %a", path) == "directory " + wanted, path
    assert node.inside(box, "findmnt", "-no", "FSTYPE", "/dev/hoody") == "tmpfs"
    node.inside(box, "sudo", "-u", "user", "touch", "/hoody/storage/mine", "/hoody/databases/mine", "/ramdisk/mine")


def test_network_that_networkd_leaves_alone(node, box):
    c = node.container(box)["node"]

    def network():
        text = node.inside(box, "ip", "-o", "addr", "show", "eth0") + node.inside(box, "ip", "route") + node.inside(box, "ip", "-6", "route")
        return f"{c['ipv4']}/32" in text and f"{c['ipv6']}/128" in text and "default via 169.254.1.1" in text and "default via fe80::1" in text
    assert network()
    node.inside(box, "systemctl", "start", "systemd-networkd")
    wait_for(lambda: "configured" in node.inside(box, "networkctl", "--no-pager", "--no-legend", "list", "eth0", check=False), 30, 0.2,
             "networkd's word on eth0")
    assert network()
    node.inside(box, "systemctl", "stop", "systemd-networkd.socket", "systemd-networkd")
    assert network()


def test_language_and_time(node, box):
    assert node.inside(box, "env", "-i", "date", "+%Z %z") == "UTC +0000"
    assert node.inside(box, "cat", "/etc/locale.conf") == node.inside(box, "cat", "/etc/default/locale") == "LANG=C.UTF-8"
    assert "LANG=C.UTF-8" in node.inside(box, "localectl", "--no-pager", "status")
    # who has set another one keeps it
    node.inside(box, "sh", "-c", "echo LANG=de_DE.UTF-8 > /etc/locale.conf; ln -sf /usr/share/zoneinfo/Europe/Rome /etc/localtime; sync")
    r = node.post(f"/api/v1/containers/{box}/copy?wait=true", {"target_project_id": PROJECT, "name": "elsewhere"})
    assert node.inside(r.data["id"], "cat", "/etc/default/locale") == "LANG=de_DE.UTF-8"
    assert node.inside(r.data["id"], "readlink", "/etc/localtime") == "/usr/share/zoneinfo/Europe/Rome"
    node.delete(r.data["id"])
    node.inside(box, "sh", "-c", "echo LANG=C.UTF-8 > /etc/locale.conf; rm /etc/localtime; sync")


SECRETS = {
    "hostname": "cat /etc/hostname", "machine id": "cat /etc/machine-id", "container id": "echo $HOODY_CONTAINER_ID",
    "boot id": "cat /proc/sys/kernel/random/boot_id", "random seed": "sha256sum < /var/lib/systemd/random-seed",
    "ed25519 host key": "cat /etc/ssh/ssh_host_ed25519_key.pub", "ecdsa host key": "cat /etc/ssh/ssh_host_ecdsa_key.pub",
    "address": "hostname -I", "MAC": "cat /sys/class/net/eth0/address",
}


def identity(node, cid):
    node.inside(cid, "systemctl", "start", "ssh-host-keys")
    return {what: node.inside(cid, "bash", "-lc", command) for what, command in SECRETS.items()}


def test_two_containers_share_nothing(node, box, copy):
    other = node.create("identity-other", hoody_kit=False)["id"]
    node.wait_booted(other)
    found = [identity(node, cid) for cid in (box, copy, other)]
    for what in SECRETS:
        values = {f[what] for f in found}
        assert len(values) == 3 and all(values), (what, values)
    assert node.inside(box, "stat", "-c", "%U %a %s", "/var/lib/systemd/random-seed") == "root 600 256"
    assert node.inside(copy, "sh", "-c", "cat /root/.ssh/authorized_keys /home/user/.ssh/authorized_keys 2>/dev/null || true") == ""
    node.delete(other)


def test_a_restore_leaves_who_it_is(node, box):
    before = identity(node, box)
    assert node.post(f"/api/v1/containers/{box}/snapshots", {"alias": "who"}).status == 200
    assert node.call("PUT", f"/api/v1/containers/{box}/snapshots/who").status == 200
    node.wait_booted(box)
    after = identity(node, box)
    assert {what for what in SECRETS if before[what] != after[what]} == {"boot id"}
