# SPDX-License-Identifier: Apache-2.0
"""Machines that were made for others: their init, their network, their accounts and their sshd work here, too."""
import json
import time

import pytest
from archives import directory, entry, symlink, tar
from daemon import PROJECT, Daemon
from test_archives import nodectl
from test_images import upload
from world import run, wait_for

APPLETS = ["sh", "cat", "env", "grep", "hostname", "ifup", "ifdown", "ip", "ls", "mkdir", "ping", "run-parts", "sleep", "touch", "udhcpc", "whoami"]
INTERFACES = "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n\thostname box\niface eth0 inet6 auto\n"
INITTAB = "::sysinit:/bin/sh /etc/rc\n::respawn:/bin/sleep 99999\n::shutdown:/bin/touch /root/clean\n"
DHCP = "#!/bin/sh\n[ \"$1\" != deconfig ] || { ip -4 addr flush dev $interface; ip link set $interface up; }\n"


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


def busybox():
    """The layout of Alpine: busybox is the init and the only program, its ifup asks for an address by udhcpc."""
    program = run("sh", "-c", "command -v busybox").strip()
    with open(program, "rb") as f:
        data = f.read()
    dirs = ["bin", "sbin", "etc", "etc/network", "usr", "usr/share", "usr/share/udhcpc", "var", "var/run", "tmp", "root", "proc", "sys", "dev", "run"]
    return [*map(directory, dirs), entry("bin/busybox", data, mode=0o755), symlink("sbin/init", "/bin/busybox"),
            *(symlink("bin/" + a, "busybox") for a in APPLETS),
            entry("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"), entry("etc/group", b"root:x:0:\n"), entry("etc/inittab", INITTAB.encode()),
            entry("etc/rc", b"ifup -a\n"), entry("etc/network/interfaces", INTERFACES.encode()), entry("etc/dhcpcd.conf", b"hostname"),
            entry("usr/share/udhcpc/default.script", DHCP.encode(), mode=0o755)]


@pytest.fixture(scope="module")
def small(node):
    r = upload(node, tar(busybox()), aliases="other/busybox")
    assert r.status == 201, r
    cid = node.create("small", container_image="other/busybox", hoody_kit=False)["id"]
    yield cid
    node.delete(cid)


def test_an_image_that_asks_for_an_address_keeps_the_nodes(node, small):
    time.sleep(3)  # its ifup has given up by then
    box = node.container(small)["node"]
    assert box["ipv4"] in node.inside(small, "ip", "-4", "addr", "show", "dev", "eth0")
    assert box["ipv6"] in node.inside(small, "ip", "-6", "addr", "show", "dev", "eth0")
    assert "default via 169.254.1.1" in node.inside(small, "ip", "route")
    assert node.inside(small, "cat", "/etc/network/interfaces") == INTERFACES.replace("dhcp", "manual").replace("auto\n", "manual\n").strip()
    assert node.inside(small, "cat", "/etc/dhcpcd.conf") == "hostname\ndenyinterfaces eth0"


def test_its_account_has_a_shell_that_is_there(node, small):
    assert "user:x:1000:1000::/home/user:/bin/sh" in node.inside(small, "cat", "/etc/passwd")


@pytest.mark.parametrize("how", ["stop", "restart"])
def test_busybox_shuts_down(node, small, how):
    if node.container(small)["status"] == "stopped":
        node.op(small, "start")
    node.inside(small, "sh", "-c", "rm -f /root/clean; sleep 1", check=False)
    begun = time.monotonic()
    assert node.op(small, how, {"timeout": 30}).status == 200
    assert time.monotonic() - begun < 20, "nobody waited until the end and killed it"
    if how == "stop":
        assert node.op(small, "start").status == 200
    assert node.inside(small, "ls", "/root/clean") == "/root/clean"


# A Debian as Ubuntu's images are: an account of number 1000, sshd whose keys came with its package.

OTHER = """set -e
rm -r /etc/systemd/system/ssh-host-keys.service /etc/systemd/system/ssh.service.d /etc/ssh/sshd_config.d/50-container.conf /etc/sysctl.d/50-container.conf
rm -f /etc/sudoers.d/user
userdel -r user
useradd -m -u 1000 -s /bin/bash ubuntu
systemctl disable --quiet ssh.socket
systemctl enable --quiet ssh.service
sync -f /etc
"""


@pytest.fixture(scope="module")
def debian(node):
    origin = node.create("origin", hoody_kit=False)["id"]
    node.wait_booted(origin)
    node.inside(origin, "sh", "-c", OTHER)
    assert node.op(origin, "stop", {"timeout": 20}).status == 200
    assert node.post(f"/api/v1/containers/{origin}/publish", {"aliases": ["other/debian"]}).status == 201
    node.delete(origin)
    cid = node.create("large", container_image="other/debian", hoody_kit=False)["id"]
    node.wait_booted(cid)
    return cid


def host_key(node, cid):
    """sshd answers with it."""
    node.wait_booted(cid)
    wait_for(lambda: node.inside(cid, "systemctl", "is-active", "ssh.service", check=False) == "active", 20, what="sshd")
    shown = node.inside(cid, "sh", "-c", "ssh-keyscan -q -t ed25519 127.0.0.1 2>/dev/null").split()[1:]
    assert shown == node.inside(cid, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    assert node.inside(cid, "stat", "-c", "%a %u", "/etc/ssh/ssh_host_ed25519_key") == "600 0"
    return shown[1]


def test_sshd_of_any_image_has_a_key_of_its_own(node, debian):
    first = host_key(node, debian)
    r = node.post(f"/api/v1/containers/{debian}/copy?wait=true", {"target_project_id": PROJECT, "name": "large-copy"})
    copy = r.data["id"]
    archive = node.dir + "/large.tar.zst"
    assert nodectl(node, "export", debian, archive).returncode == 0
    imported = json.loads(nodectl(node, "--json", "import", archive).stdout)["id"]
    assert node.op(imported, "start").status == 200
    assert len({first, host_key(node, copy), host_key(node, imported)}) == 3
    assert node.post(f"/api/v1/containers/{copy}/sync?wait=true").status == 200
    second = host_key(node, copy)
    assert second == host_key(node, copy) != first
    assert host_key(node, debian) == first
    for cid in (copy, imported):
        node.delete(cid)


def test_the_account_of_number_1000_may_use_sudo(node, debian):
    assert node.inside(debian, "su", "-", "user", "-c", "sudo -n id -u") == "0"
    assert node.inside(debian, "su", "-", "ubuntu", "-c", "sudo -n id -u") == "0"


def test_ping_without_privilege(node, debian, small):
    assert node.inside(debian, "cat", "/proc/sys/net/ipv4/ping_group_range").split() == ["0", "65535"]
    node.inside(debian, "su", "-", "user", "-c", "ping -c1 -W2 127.0.0.1")
    assert node.inside(small, "cat", "/proc/sys/net/ipv4/ping_group_range").split() == ["0", "65535"]


def test_the_images_are_what_they_seem(node, debian):
    """Without what the node does for them they would fail: no key comes with the image."""
    image = next(i for i in node.get("/api/v1/node/images").data["images"] if "other/debian" in i["aliases"])
    found = run("ls", f"{node.pool}/images/{image['fingerprint']}/etc/ssh").split()
    assert not [n for n in found if n.startswith("ssh_host_")]
