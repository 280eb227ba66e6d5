# SPDX-License-Identifier: Apache-2.0
"""Docker and podman inside an unprivileged container, and that nothing is open which they do not need."""
import os
import shutil
import subprocess

import nesting
import pytest
from daemon import PROJECT, Daemon
from world import wait_for

HELLO = "hello from inside"


@pytest.fixture(scope="module")
def node():
    d = Daemon(loop_bytes=8 << 30)
    d.nested, d.closed = (nesting.program(name, d.dir) for name in ("nested", "closed"))
    shutil.copy(nesting.archive(), d.dir + "/images/debian-13.dev.tar.zst")
    d.start()
    yield d
    d.close()


def put(node, cid, path, data, mode="644"):
    pid = node.container(cid)["node"]["init_pid"]
    subprocess.run(["nsenter", "-t", str(pid), "-a", "sh", "-c", f"cat > {path} && chmod {mode} {path}"], input=data, check=True)


def put_program(node, cid, program):
    with open(program, "rb") as f:
        put(node, cid, "/usr/local/bin/" + os.path.basename(program), f.read(), "755")


@pytest.fixture(scope="module")
def box(node):
    cid = node.create("nest", dev_kit=True, hoody_kit=False)["id"]
    assert node.wait_booted(cid) == "running"
    put(node, cid, "/root/hello.tar", nesting.image("hello:1", [node.nested, node.closed]))
    put_program(node, cid, node.closed)
    return cid


def test_jobs_of_cron_have_the_identity(node, box):
    """Those of every kind of process are in test_node_identity.py; cron is not in every image."""
    node.inside(box, "sh", "-c", "echo '@reboot user env > /tmp/of-cron' > /etc/cron.d/probe; rm -f /run/crond.reboot; systemctl restart cron")
    seen = wait_for(lambda: node.inside(box, "cat", "/tmp/of-cron", check=False), 30, 0.1, "cron's job").split("\n")
    assert f"HOODY_CONTAINER_ID={box}" in seen and "LANG=C.UTF-8" in seen, seen
    node.inside(box, "systemctl", "stop", "cron")


def docker(node, cid, *argv):
    return node.inside(cid, "docker", *argv)


def address_of(node, cid, name):
    return docker(node, cid, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)


def test_docker_runs_an_image(node, box):
    docker(node, box, "load", "-i", "/root/hello.tar")
    assert docker(node, box, "run", "--rm", "hello:1") == HELLO
    assert docker(node, box, "run", "--rm", "-m", "64m", "--pids-limit", "20", "hello:1") == HELLO
    assert docker(node, box, "info", "-f", "{{.Driver}}") == "overlay2", "not one that copies whole layers"
    assert node.inside(box, "sudo", "-u", "user", "docker", "run", "--rm", "hello:1") == HELLO


def test_docker_has_networks(node, box):
    docker(node, box, "run", "-d", "--name", "web", "--restart", "always", "-p", "8080:80", "-v", "data:/data", "hello:1", "serve")
    own = node.container(box)["node"]["ipv4"]
    for url in (f"http://{address_of(node, box, 'web')}/", "http://127.0.0.1:8080/", f"http://{own}:8080/"):
        assert node.inside(box, "curl", "-s", "-m", "10", url) == "nested", url
    node.inside(box, "sh", "-c", "echo kept > /var/lib/docker/volumes/data/_data/note; sync")


def web_is_there(node, cid):
    wait_for(lambda: node.inside(cid, "curl", "-s", "-m", "5", "http://127.0.0.1:8080/", check=False) == "nested", 60, 0.2,
             "the nested service")
    assert node.inside(cid, "cat", "/var/lib/docker/volumes/data/_data/note") == "kept"
    assert docker(node, cid, "run", "--rm", "hello:1") == HELLO


def test_podman_runs_an_image(node, box):
    node.inside(box, "podman", "load", "-q", "-i", "/root/hello.tar")
    assert node.inside(box, "podman", "run", "--rm", "hello:1") == HELLO
    assert "overlay" in node.inside(box, "podman", "info", "-f", "{{.Store.GraphDriverName}}")
    node.inside(box, "podman", "run", "-d", "--name", "stays", "-p", "8081:80", "hello:1", "serve")
    assert node.inside(box, "curl", "-s", "-m", "10", f"http://{node.container(box)['node']['ipv4']}:8081/") == "nested"
    node.inside(box, "podman", "rm", "-f", "stays")


def test_it_survives_a_restart(node, box):
    assert node.op(box, "restart").status == 200
    node.wait_booted(box)
    node.inside(box, "systemctl", "start", "docker")  # a socket's service: the image starts it with its first use
    web_is_there(node, box)


def test_it_survives_snapshot_and_restore(node, box):
    assert node.post(f"/api/v1/containers/{box}/snapshots", {"alias": "running"}).status == 200
    docker(node, box, "rm", "-f", "web")
    docker(node, box, "volume", "rm", "data")
    docker(node, box, "rmi", "-f", "hello:1")
    assert docker(node, box, "images", "-q") == ""
    assert node.call("PUT", f"/api/v1/containers/{box}/snapshots/running").status == 200
    node.wait_booted(box)
    node.inside(box, "systemctl", "start", "docker")
    web_is_there(node, box)
    assert node.inside(box, "podman", "run", "--rm", "hello:1") == HELLO


def test_a_copy_has_it_too(node, box):
    r = node.post(f"/api/v1/containers/{box}/copy?wait=true", {"target_project_id": PROJECT, "name": "nest-copy"})
    assert r.status == 201, r
    copy = r.data["id"]
    node.wait_booted(copy)
    node.inside(copy, "systemctl", "start", "docker")
    web_is_there(node, copy)
    node.delete(copy)
    node.wait_idle()


# What stays closed.

def opened(text):
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines())
    assert len(lines) > 40 and set(lines.values()) <= {"refused", "DONE"}, text
    return [name for name, result in lines.items() if result == "DONE"]


def test_root_of_a_container_cannot(node, box):
    assert opened(node.inside(box, "closed")) == []


def test_root_of_a_privileged_container_inside_cannot(node, box):
    text = docker(node, box, "run", "--rm", "--privileged", "-v", "/:/host", "-v", "/dev/.lxc:/dev/.lxc", "--pid", "host",
                  "--entrypoint", "/closed", "hello:1")
    assert opened(text) == []


DEVICES = """
import os, stat
for where, below, files in os.walk("/dev"):
    below[:] = [d for d in below if d != ".lxc" and not os.path.islink(where + "/" + d)]
    for path in (where + "/" + f for f in files):
        if stat.S_ISBLK(os.lstat(path).st_mode) or stat.S_ISCHR(os.lstat(path).st_mode):
            print(path[5:])
"""


def test_devices_are_those_of_a_machine(node, box):
    found = {f for f in node.inside(box, "python3", "-c", DEVICES).split() if not f.removeprefix("pts/").isdigit()}
    assert found == {"fuse", "net/tun", "full", "null", "random", "tty", "urandom", "zero", "ptmx", "pts/ptmx"}


def test_keys_are_each_container_s_own(node, box):
    other = node.create("keys", hoody_kit=False)["id"]
    node.wait_booted(other)
    put_program(node, other, node.closed)
    pid = node.container(box)["node"]["init_pid"]
    keeper = subprocess.Popen(["nsenter", "-t", str(pid), "-a", "closed", "keep", "secret"], stdout=subprocess.PIPE, text=True)
    try:
        key = keeper.stdout.readline().strip()
        assert node.inside(box, "closed", "read", key) == "key DONE"
        assert node.inside(other, "closed", "read", key) == "key refused"
    finally:
        node.inside(box, "pkill", "-x", "closed", check=False)
        keeper.wait(70)
    for cid in (box, other):
        lines = node.inside(cid, "systemd-run", "--quiet", "--pipe", "--wait", "cat", "/proc/keys").splitlines()
        assert lines and "65534" not in {line.split()[5] for line in lines}, lines  # nobody's: the host's
    node.delete(other)
