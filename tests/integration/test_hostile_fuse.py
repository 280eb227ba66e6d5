# SPDX-License-Identifier: Apache-2.0
"""A file system of the container's own that stops answering, where the node has to look: who asks it cannot be killed. Each
change is answered all the same, and nothing of the node stays behind waiting."""
import os
import signal
import stat
import subprocess
import time

import nesting
import pytest
from daemon import Daemon
from kitlab import KitLab
from world import run, wait_for

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe fuse@test"
SECONDS = 30  # less than any deadline of a job


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """/dev/fuse as udev makes it, for everybody; in the tests' mount namespace only."""
    path = str(tmp_path_factory.mktemp("dev") / "fuse")
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(10, 229))
    os.chmod(path, 0o666)
    run("mount", "--bind", path, "/dev/fuse")
    yield
    run("umount", "/dev/fuse")


@pytest.fixture(scope="module")
def node(device, tmp_path_factory):
    lab = KitLab(tmp_path_factory.mktemp("kits"))
    d = Daemon(kits__public_key=lab.public)
    d.trap = nesting.program("fusetrap", d.dir)
    os.makedirs(d.dir + "/kits")
    d.start()
    for version in ("1.0", "2.0"):
        lab.nodectl("--socket", d.socket, "kit", "install", lab.build("web", version, 7201))
    yield d
    d.close()


@pytest.fixture
def box(node):
    cid = node.create("hostile", ssh_public_key=KEY)["id"]
    node.wait_booted(cid)
    yield cid
    assert node.delete(cid).status == 200
    node.wait_idle()
    node.assert_consistent()


def enter(node, cid):
    return ["nsenter", "-t", str(node.container(cid)["node"]["init_pid"]), "-a"]


def below(top):
    path = top + "/hidden/deep"
    os.makedirs(path, exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):  # a new one has none, and takes nobody then
        for place in (top + "/hidden", path):
            if os.path.exists(f"{place}/{name}"):
                with open(f"{top}/{name}", encoding="ascii") as source, open(f"{place}/{name}", "w", encoding="ascii") as f:
                    f.write(source.read())
    return path


def set_trap(node, cid, *how, hidden=False):
    argv = enter(node, cid)
    with open(node.trap, "rb") as f:
        subprocess.run([*argv, "sh", "-c", "cat > /run/fusetrap && chmod 755 /run/fusetrap"], stdin=f, check=True)
    with open(f"/proc/{argv[2]}/cgroup", encoding="ascii") as f:
        places = [line.strip().split(":", 2) for line in f]

    def among_its_own():
        """In the cgroups of the container, as all that it starts itself: with those it is ended. Hidden: in some below."""
        for _, kind, path in places:
            for top in ("/sys/fs/cgroup/" + kind.removeprefix("name="), "/sys/fs/cgroup/unified")[kind == "":]:
                if os.path.exists(f"{top}{path}/cgroup.procs"):
                    place = below(f"{top}{path}") if hidden else f"{top}{path}"
                    with open(f"{place}/cgroup.procs", "w", encoding="ascii") as f:
                        f.write(str(os.getpid()))
    r = subprocess.run([*argv, "/run/fusetrap", *how], capture_output=True, text=True, timeout=60, check=False, preexec_fn=among_its_own)
    assert r.stdout == "ready\n", r


def change(node, cid, method, rest, body):
    begun = time.monotonic()
    r = node.call(method, f"/api/v1/containers/{cid}{rest}", body, timeout=120)
    assert time.monotonic() - begun < SECONDS, r
    node.wait_idle()
    return r


def test_over_the_kits(node, box):
    kits = node.get(f"/api/v1/containers/{box}/kits").data["kits"]
    set_trap(node, box, "over", "/hoody")
    r = change(node, box, "PUT", "/kits", {"kits": [{"name": "web", "version": "1.0"}]})
    assert r.status == 502 and r.json["code"] == "KIT_RESTART_NEEDED", r
    assert node.get(f"/api/v1/containers/{box}/kits").data["kits"] == kits


def test_where_a_session_says_its_key_is(node, box):
    """A session that cannot be asked is one of the removed key's."""
    node.inside(box, "mkdir", "/x")
    session = subprocess.Popen([*enter(node, box), "bash", "-c",
                                "exec -a 'sshd: root@notty' bash -c 'SSH_USER_AUTH=/x/auth sleep 1000; true'"])
    try:
        wait_for(lambda: node.inside(box, "pgrep", "-x", "sleep", check=False), 30, 0.1, "the session")
        set_trap(node, box, "over", "/x")
        assert change(node, box, "PATCH", "", {"ssh_public_key": None}).status == 200
        assert session.wait(30) != 0
    finally:
        session.kill()
        session.wait()


def test_over_the_ramdisk(node, box):
    set_trap(node, box, "over", "/ramdisk")
    assert change(node, box, "PATCH", "", {"ramdisk_scope": "project"}).status == 502
    assert change(node, box, "PATCH", "", {"ramdisk": False}).status == 200
    assert "/ramdisk" not in node.inside(box, "cat", "/proc/self/mounts")


@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "hidden"])
def test_as_the_root_of_all(node, box, hidden):
    """Its deletion ends who is asked, wherever among the container's cgroups that is."""
    init = node.container(box)["node"]["init_pid"]
    set_trap(node, box, "root", hidden=hidden)
    os.kill(init, signal.SIGHUP)  # systemd reads its configuration, and waits for ever itself
    r = change(node, box, "PATCH", "/env", {"COLOUR": "blue"})
    assert r.status == 200 and not r.data["synced"] and r.data["env_sync"]["last_error"] == "ENV_DEST_UNSUPPORTED", r
    assert change(node, box, "PATCH", "", {"ramdisk": False}).status == 502
    assert change(node, box, "PUT", "/kits", {"kits": []}).status == 502
