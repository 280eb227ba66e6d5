# SPDX-License-Identifier: Apache-2.0
"""Btrfs subvolumes that processes in containers make: forbidden by default; where they are allowed, they hold up nobody else."""
import pytest
from daemon import Daemon
from world import BUILD, run, wait_for

# struct btrfs_ioctl_vol_args: a descriptor and a name. Arguments: directory, count, and how to call.
MAKE = r"""
use strict; my ($dir, $count, $how) = @ARGV;
open(my $d, "<", $dir) or die; my ($made, $errno) = (0, 0);
for my $i (1..$count) {
    my $args = pack("qa4088", 0, "sub$i");
    my $rc = $how eq "wide" ? syscall(16, fileno($d), -1 << 32 | 0x5000940e, $args)   # what is above 32 bits is not the command
           : $how eq "v2" ? syscall(16, fileno($d), 0x50009418, pack("qqqqqqqa4040", 0, 0, 0, 0, 0, 0, 0, "sub$i"))
           : $how eq "snapshot" ? syscall(16, fileno($d), 0x50009401, pack("qa4088", fileno($d), "sub$i"))
           : syscall(16, fileno($d), 0x5000940e, $args);
    if ($rc == 0) { $made++; rmdir("$dir/sub$i") if $how eq "delete" } else { $errno = $! + 0; last }
}
print "$made $errno\n";
"""


def attempt(node, cid, count, how, directory="/root"):
    """By a process of the container's own, so that its system call filter holds: one that enters from outside has none."""
    unit = f"make-{how}"
    node.inside(cid, "sh", "-c", f"cat > /root/make.pl <<'EOT'\n{MAKE}\nEOT")
    node.inside(cid, "systemd-run", "-q", "--wait", f"--unit={unit}", "-p", "StandardOutput=file:/root/made", "perl", "/root/make.pl", directory,
                str(count), how)
    return tuple(int(n) for n in node.inside(cid, "cat", "/root/made").split())


@pytest.fixture(scope="module")
def node():
    run("ip", "link", "set", "lo", "up")
    d = Daemon(loop_bytes=2 << 30)
    try:
        yield d.start()
    finally:
        d.close()


@pytest.mark.parametrize("how", ["plain", "wide", "v2", "snapshot"])
def test_a_container_makes_no_subvolumes(node, how):
    boxes = node.list()
    cid = boxes[0]["id"] if boxes else node.create("closed")["id"]
    node.wait_booted(cid)
    assert attempt(node, cid, 1, how) == (0, 25), "ENOTTY, as on another file system"
    assert node.inside(cid, "sh", "-c", "mkdir /root/plain && rmdir /root/plain") == ""


def test_where_they_are_allowed_they_hold_up_nobody():
    d = Daemon(loop_bytes=2 << 30, containers__subvolumes="yes", storage__reclaim_max="20")
    try:
        d.start()
        loud, quiet = d.create("loud")["id"], d.create("quiet")["id"]
        d.wait_booted(loud)
        made = attempt(d, loud, 3000, "delete")
        assert made == (3000, 0), made

        def storage():
            return d.get("/api/v1/node/storage").data
        seen = wait_for(lambda: next((s for s in [storage()] if s["reclaim"]["of_containers"] > 20), None), 10, 0.05, "the backlog")
        assert seen["reclaim"]["subvolumes"] <= 20
        for n in range(3):
            r = d.post(f"/api/v1/containers/{quiet}/snapshots")
            assert r.status == 200, r
            assert d.create(f"more-{n}", ok=False).status == 201
        charged = {c["name"]: c["deleted_subvolumes"] for c in seen["containers"]}
        if charged["loud"] is not None:  # a kernel with simple quotas
            assert charged["quiet"] == 0 and charged["loud"] > 20, (charged, seen["reclaim"])
        assert "of containers' own" in run(BUILD + "/nodectl", "--socket", d.socket, "storage", "show")
    finally:
        d.close()
