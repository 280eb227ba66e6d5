# SPDX-License-Identifier: Apache-2.0
"""noded-worker against the real thing: btrfs, liblxc, systemd in the container."""
import json
import os
import socket
import subprocess
import time

import frames
import pytest
import world
from slots import boot, system_state


def reachable(node, slot):
    """A closed port that refuses is an address that answers."""
    try:
        socket.create_connection((node.address(slot), 9), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_container_runs_systemd_with_its_own_identity(node, slot):
    pid = boot(node, slot, environment={"COLOUR": "blue", "ODD": "a 'b' \"c\" $d = #e", "TWO_LINES": "a\nlxc.x = y"})
    assert node.attach(slot, pid, "systemctl", "--failed", "--no-legend") == ""
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as f:
        assert f.read().split() == ["0", str(world.ID_BASE + (slot - 1) * 65536), "65536"]
    with open(f"/proc/{pid}/environ", "rb") as f:
        environment = f.read().split(b"\0")
    assert b"COLOUR=blue" in environment
    assert b"ODD=a 'b' \"c\" $d = #e" in environment
    assert not any(line.startswith(b"TWO_LINES") for line in environment)
    assert node.attach(slot, pid, "hostname").strip() == f"box{slot}"
    assert os.stat(node.rootfs(slot, "/etc/hostname")).st_uid == 0
    assert "default via 169.254.1.1 dev eth0" in node.attach(slot, pid, "ip", "route")
    assert "default via fe80::1 dev eth0" in node.attach(slot, pid, "ip", "-6", "route")
    assert reachable(node, slot)


def test_monitor_is_small(node, slot):
    boot(node, slot)
    (monitor,) = node.monitors()
    with open(f"/proc/{monitor}/smaps_rollup", encoding="ascii") as f:
        fields = dict(line.split(":") for line in f.read().splitlines()[1:])
    if "libasan" not in world.run("ldd", node.worker):
        assert int(fields["Private_Dirty"].split()[0]) <= 512
    # Nothing but standard streams, the lock and liblxc's own.
    names = [os.readlink(f"/proc/{monitor}/fd/{fd}") for fd in os.listdir(f"/proc/{monitor}/fd")]
    assert not any("/slots" in name and "rootfs" not in name for name in names)
    assert f"{node.run_dir}/c{slot}/alive" in names


def test_jobs_can_be_repeated(node, slot):
    node.create(slot)
    node.create(slot)
    pid = node.start(slot)
    assert node.start(slot) == pid
    for _ in range(2):
        node.job("container.stop", slot, {"timeout_ms": 0})
    for _ in range(2):
        node.job("container.destroy", slot)
    assert node.slot(slot) is None


def test_freeze_and_thaw(node, slot):
    pid = boot(node, slot)
    node.job("container.freeze", slot)
    node.job("container.freeze", slot)
    assert node.slot(slot)["frozen"] is True
    node.job("container.thaw", slot)
    assert node.slot(slot)["frozen"] is False
    assert system_state(node, slot, pid) == "running"
    node.job("container.freeze", slot)
    node.job("container.stop", slot, {"timeout_ms": 20000})
    assert ended(pid)
    with pytest.raises(frames.JobError) as info:
        node.job("container.freeze", slot)
    assert info.value.code == "ERR_WRONG_STATE"


def test_stop_lets_services_end(node, slot):
    pid = boot(node, slot)
    node.attach(slot, pid, "systemd-run", "--unit=last-words", "-p", "ExecStop=/usr/bin/touch /var/last-words",
                "-p", "RemainAfterExit=yes", "true")
    node.job("container.stop", slot, {"timeout_ms": 30000})
    assert ended(pid)
    assert os.path.exists(node.rootfs(slot, "/var/last-words"))
    assert node.cgroups() == [] and node.monitors() == []


def test_stop_kills_what_does_not_end(node, slot):
    pid = boot(node, slot)
    node.attach(slot, pid, "systemd-run", "--unit=stubborn", "-p", "TimeoutStopSec=300",
                "-p", "ExecStop=/bin/sleep 300", "-p", "RemainAfterExit=yes", "true")
    begin = time.monotonic()
    node.job("container.stop", slot, {"timeout_ms": 1500})
    assert 1.4 < time.monotonic() - begin < 10
    assert ended(pid) and node.cgroups() == []


def test_poweroff_from_the_inside_settles_as_stopped(node, slot):
    pid = boot(node, slot)
    node.attach(slot, pid, "systemctl", "--no-block", "poweroff")
    world.wait_for(lambda: ended(pid), what="poweroff")
    assert node.job("container.settle", slot) == {"running": False, "init_pid": 0}
    assert node.cgroups() == [] and node.monitors() == []


def test_reboot_from_the_inside_settles_as_running(node, slot):
    pid = boot(node, slot)
    node.attach(slot, pid, "systemctl", "--no-block", "reboot")
    world.wait_for(lambda: ended(pid), what="reboot")
    settled = node.job("container.settle", slot)
    assert settled["running"] and settled["init_pid"] not in (0, pid)
    world.wait_for(lambda: system_state(node, slot, settled["init_pid"]) == "running", what="systemd running")
    assert reachable(node, slot)
    assert node.slot(slot)["init_pid"] == settled["init_pid"]


def test_ramdisk_outlives_a_stop(node, slot):
    pid = boot(node, slot, ramdisk_bytes=64 << 20)
    node.attach(slot, pid, "sh", "-c", "echo kept > /ramdisk/note")
    assert "65536" in node.attach(slot, pid, "df", "-k", "/ramdisk")
    node.job("container.stop", slot, {"timeout_ms": 0})
    assert node.slot(slot)["ramdisk"] is True
    pid = node.start(slot, ramdisk_bytes=64 << 20)
    assert node.attach(slot, pid, "cat", "/ramdisk/note") == "kept\n"


@pytest.mark.parametrize("point", ["ramdisk.mount", "ramdisk.mounted"])
def test_a_ramdisk_that_comes_while_its_container_is_deleted(node, slot, point):
    node.create(slot)
    args = {"bytes": 1 << 20, "id_base": world.ID_BASE}
    late = node.begin("ramdisk.set", slot, args, failpoint=f"{point}=sleep:700")
    time.sleep(0.3)
    node.job("container.destroy", slot)
    with pytest.raises(frames.JobError) as info:
        late.result()
    assert info.value.code == "ERR_NOT_FOUND"
    assert node.leftovers(slot) == []


def test_kits_are_bound_read_only(node, slot):
    kit = f"{node.pool}/kits/demo-1.0"
    world.run("btrfs", "subvolume", "create", kit)
    os.mkdir(kit + "/files")
    with open(kit + "/files/hello", "w", encoding="ascii") as f:
        f.write("hello from the kit\n")
    with open(kit + "/manifest.json", "w", encoding="ascii") as f:
        json.dump({"format": 1, "name": "demo", "version": "1.0", "units": [], "services": [],
                   "payload": {"sha256": "0" * 64, "size": 1}}, f)
    try:
        node.create(slot, seed=node.seed(slot, kits=[{"name": "demo", "version": "1.0"}]))
        pid = node.start(slot, kits=[{"name": "demo", "version": "1.0"}])
        assert node.attach(slot, pid, "cat", "/hoody/kits/demo/hello") == "hello from the kit\n"
        with pytest.raises(subprocess.CalledProcessError):
            node.attach(slot, pid, "touch", "/hoody/kits/demo/new")
    finally:
        node.job("container.stop", slot, {"timeout_ms": 0})
        world.run("btrfs", "subvolume", "delete", kit)


def test_deep_cgroups_do_not_outlive_the_container(node, slot):
    pid = boot(node, slot)
    node.attach(slot, pid, "bash", "-c", """
        for root in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/pids; do
            [ -e $root/cgroup.procs ] || continue
            cd $root && for i in $(seq 60); do mkdir d e 2>/dev/null && cd d || break; done
        done""")
    node.job("container.stop", slot, {"timeout_ms": 0})
    assert node.cgroups() == []


def test_a_start_that_fails_says_why_and_leaves_nothing_running(node, slot):
    node.create(slot)
    os.remove(node.rootfs(slot, "/sbin/init"))
    with pytest.raises(frames.JobError) as info:
        node.start(slot)
    assert info.value.code == "ERR_HOST" and "init" in info.value.message
    assert node.slot(slot)["init_pid"] == 0
    assert node.cgroups() == [] and node.monitors() == []


@pytest.mark.parametrize("field,value", [("hostname", "a\nlxc.hook.start = x"), ("link", "eth0\n"), ("ipv4", "1.2.3.4\n"),
                                         ("gateway6", "\x1b[0m"), ("link", "x" * 16)])
def test_values_of_more_than_one_line_are_refused(node, slot, field, value):
    node.create(slot)
    with pytest.raises(frames.JobError) as info:
        node.job("container.start", slot, node.start_args(slot, **{field: value}))
    assert info.value.code == "ERR_INVALID"


@pytest.mark.parametrize("kind,point,args", [
    ("container.create", "create.rootfs", None),
    ("container.create", "create.seeded", None),
    ("container.start", "start.before", None),
    ("container.start", "start.after", None),
    ("container.stop", "stop.asked", {"timeout_ms": 0}),
    ("container.destroy", "destroy.stopped", {}),
    ("container.destroy", "destroy.moved", {}),
    ("snapshot.create", "snapshot.made", {"name": "s"}),
    ("snapshot.restore", "restore.made", {"name": "base"}),
    ("snapshot.restore", "restore.swapped", {"name": "base"}),
])
def test_killed_worker(node, slot, kind, point, args):
    """After a kill at every step, asking again succeeds and tidying leaves nothing half-made."""
    if kind == "container.create":
        args = {"image": node.image, "seed": node.seed(slot)}
    else:
        node.create(slot)
        node.job("snapshot.create", slot, {"name": "base"})
    if kind == "container.start":
        node.link(slot)
        args = node.start_args(slot)
    if kind in ("container.stop", "container.destroy"):
        node.start(slot)
    with pytest.raises(frames.WorkerDied) as info:
        node.job(kind, slot, args, failpoint=f"{point}=kill")
    assert info.value.status == -9
    node.job("container.tidy", slot)
    left = node.slot(slot)
    assert left is None or not left["leftovers"]
    node.job(kind, slot, args)


@pytest.mark.parametrize("delay_ms", range(0, 60, 4))
def test_worker_killed_at_any_time_of_a_start(node, slot, delay_ms):
    """A start may go on after its worker is gone; a destroy right behind it still gets everything."""
    node.create(slot)
    node.link(slot)
    job = node.begin("container.start", slot, node.start_args(slot))
    time.sleep(delay_ms / 1000)
    job.kill()
    node.job("container.destroy", slot)
    assert node.leftovers(slot) == []
    time.sleep(0.2)
    assert node.leftovers(slot) == [] and node.monitors() == []


def test_many_at_once(node):
    """Workers of different slots do not disturb each other; the cgroup's and the pool's shared parts hold."""
    slots = range(900, 912)

    def all_at_once(kind, args):
        jobs = [node.begin(kind, slot, args(slot)) for slot in slots]
        return [job.result() for job in jobs]

    for slot in slots:
        node.link(slot)
    all_at_once("container.create", lambda slot: {"image": node.image, "seed": node.seed(slot)})
    pids = [r["init_pid"] for r in all_at_once("container.start", node.start_args)]
    assert len(set(pids)) == len(slots) and not any(ended(pid) for pid in pids)
    all_at_once("snapshot.create", lambda slot: {"name": "s"})
    all_at_once("container.destroy", lambda slot: {})
    for slot in slots:
        node.unlink(slot)
        assert node.leftovers(slot) == []


def test_worker_dies_with_its_parent(node):
    job = node.begin("pool.open", args={"loop_file": node.loop_file, "loop_bytes": 0}, failpoint="x=sleep:0")
    assert job.result()["total_bytes"] > 0
    job = frames.Job(node.worker, None)
    job.sock.close()
    assert job.process.wait(5) != 0


@pytest.mark.parametrize("change", [{"pool": "relative"}, {"run_dir": None}, {"cgroup": "../x"}, {"slot": 0},
                                    {"slot": 16384}])
def test_bad_targets_are_refused(node, change):
    request = node.request("container.stop", 1)
    request["target"].update(change)
    with pytest.raises(frames.JobError) as info:
        frames.Job(node.worker, request).result()
    assert info.value.code == "ERR_INVALID"


def test_hardening_inside(node, slot):
    """What a program in the container may not do; and what it may, being root of a whole machine."""
    pid = boot(node, slot)

    def inside(script):
        return subprocess.run(["nsenter", "-t", str(pid), "-a", "systemd-run", "-q", "--wait", "--pipe", "sh", "-c", script],
                              capture_output=True, check=False).returncode == 0

    assert inside("grep -q 'Seccomp:.*2' /proc/self/status")
    for script in ("umount -f /tmp", "mknod /root/null c 1 3", "date -s 2001-01-01", "echo b > /proc/sysrq-trigger",
                   "echo 1 > /proc/sys/kernel/panic", "modprobe dummy",
                   "chown 65536 /root", "ls /proc/1/root/../pool", "test -e /dev/mem"):
        assert not inside(script), script
    for script in ("unshare -pmf --mount-proc true", "su user -c 'unshare -Urpmf --mount-proc true'",
                   "mkdir -p /o/l /o/u /o/w /o/m && mount -t overlay o -o lowerdir=/o/l,upperdir=/o/u,workdir=/o/w /o/m",
                   "ip link add dummy-x type veth peer name dummy-y", "test -e /dev/fuse -o ! -e /proc/1/root/dev/fuse"):
        assert inside(script), script
