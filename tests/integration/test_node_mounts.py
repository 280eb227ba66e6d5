# SPDX-License-Identifier: Apache-2.0
"""What the node mounts into a container comes back when it is unmounted there: by systemd's soft-reboot, by root, again and again."""
import os
import subprocess
import time

import pytest
from daemon import LOGIN, PROJECT, Daemon
from kitlab import KitLab
from world import wait_for

KIT = "/hoody/.kits"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    lab = KitLab(tmp_path_factory.mktemp("kits"))
    d = Daemon(kits__public_key=lab.public)
    os.makedirs(d.dir + "/kits")
    d.start()
    lab.nodectl("--socket", d.socket, "kit", "install", lab.build("one", "1.0", 7101))
    yield d
    d.close()


@pytest.fixture(scope="module")
def giver(node):
    cid = node.create("giver", hoody_kit=False)["id"]
    node.wait_booted(cid)
    node.inside(cid, "sh", "-c", "mkdir -p /srv/data && echo hello > /srv/data/file")
    return cid


@pytest.fixture
def box(node):
    cid = node.create("box")["id"]
    node.wait_booted(cid)
    yield cid
    assert node.delete(cid).status == 200


@pytest.fixture
def share(node, giver, box):
    """A read-only one of the giver's for the box."""
    r = node.post(f"/api/v1/containers/{giver}/storage/shares",
                  {"source_path": "/srv/data", "mode": "readonly", "target_container_id": box})
    sid = r.data["id"]
    wait_for(lambda: kind(node, box, f"/hoody/shares/{sid}") == "btrfs", 10, what="the share")
    yield sid
    assert node.call("DELETE", f"/api/v1/storage/shares/{sid}").status in (200, 404)


def kind(node, cid, path):
    """Of the file system that is mounted there, as the container sees it; None when nothing is."""
    return next((line.split()[2] for line in reversed(node.inside(cid, "cat", "/proc/mounts").splitlines()) if line.split()[1] == path), None)


def events(node, cid, what):
    found = node.get(f"/api/v1/events?container_id={cid}&event_type={what}&sort_by=created_at&sort_order=asc&limit=500").data["events"]
    return [e["payload"] for e in found]


def restored(node, cid):
    return [path for e in events(node, cid, "container.mounts.restored") for path in e["mounts"]]


def service(node, cid):
    services = node.get(f"/api/v1/containers/{cid}/kits").data["services"]
    return services[0]["state"] if services else None


def answers(node, cid):
    return node.inside(cid, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/7101 2>/dev/null && echo yes", check=False)


def assert_readonly(node, cid, share):
    """As after a start, for the container's root as well."""
    where = f"/hoody/shares/{share}"
    for attempt in (f"mount -o remount,bind,rw {where}", f"mount -o remount,bind,suid,ro {where}", f"touch {where}/x", f"touch {KIT}/x",
                    f"mkdir -p /mnt/b && mount --bind {where} /mnt/b && mount -o remount,bind,rw /mnt/b && touch /mnt/b/x"):
        assert node.inside(cid, "sh", "-c", f"({attempt}) 2>/dev/null && echo done", check=False) == "", attempt


def looked_at(node, cid):
    """Its first look, which comes three seconds after the start, is over."""
    wait_for(lambda: int(node.inside(cid, "ps", "-o", "etimes=", "-p", "1")) > 4, 10, 0.2, "a look")


def test_soft_reboot(node, box, share):
    wait_for(lambda: service(node, box) == "ready", 20, what="its kit")
    node.inside(box, "sh", "-c", "echo kept > /ramdisk/before")
    init = node.container(box)["node"]["init_pid"]
    started = events(node, box, "container.kits.ready")
    systemd = node.inside(box, "systemctl", "show", "-P", "UserspaceTimestampMonotonic")
    node.inside(box, "systemctl", "soft-reboot", check=False)
    wait_for(lambda: node.inside(box, "systemctl", "show", "-P", "UserspaceTimestampMonotonic", check=False) not in ("", systemd), 30,
             what="another systemd")
    wait_for(lambda: set(restored(node, box)) >= {"/ramdisk", KIT}, 20, what="the event")  # what is busy systemd leaves mounted
    assert node.container(box)["node"]["init_pid"] == init
    assert kind(node, box, "/ramdisk") == "tmpfs" and node.inside(box, "cat", "/ramdisk/before") == "kept"
    wait_for(lambda: node.inside(box, "cat", f"/hoody/shares/{share}/file", check=False) == "hello", 10, what="the share")
    wait_for(lambda: len(events(node, box, "container.kits.ready")) == len(started) + 1, 30, what="its kit again")
    assert service(node, box) == "ready" and answers(node, box) == "yes"
    assert not events(node, box, "container.mounts.failed") and not events(node, box, "container.mounts.covered")
    assert_readonly(node, box, share)
    # What changes afterwards is carried over as before.
    assert node.call("DELETE", f"/api/v1/storage/shares/{share}").status == 200
    wait_for(lambda: kind(node, box, f"/hoody/shares/{share}") is None, 10, what="the end of the share")


def test_roots_umount(node, box, share):
    """Also of what processes use, and while the mount points are gone."""
    looked_at(node, box)
    holder = subprocess.Popen(["nsenter", "-t", str(node.container(box)["node"]["init_pid"]), "-a", "sleep", "60"], env=LOGIN)
    node.inside(box, "sh", "-c", "cd /ramdisk; sleep 60 >/dev/null 2>&1 & umount -l /ramdisk && rmdir /ramdisk")
    wait_for(lambda: kind(node, box, "/ramdisk") == "tmpfs", 10, what="the ramdisk")
    node.inside(box, "umount", "-l", "/hoody/shares")
    wait_for(lambda: kind(node, box, f"/hoody/shares/{share}") == "btrfs", 10, what="the share")
    assert_readonly(node, box, share)
    node.inside(box, "umount", "-l", KIT)
    wait_for(lambda: kind(node, box, KIT) == "btrfs", 15, what="the kits")
    wait_for(lambda: service(node, box) == "ready" and answers(node, box) == "yes", 20, what="the kit's service")
    wait_for(lambda: set(restored(node, box)) == {"/ramdisk", "/hoody/shares", f"/hoody/shares/{share}", KIT}, 5, what="the events")
    holder.kill()
    holder.wait()


def test_a_shared_ramdisk(node, box):
    assert node.call("PATCH", f"/api/v1/containers/{box}", {"ramdisk_scope": "project"}).status == 200
    looked_at(node, box)
    node.inside(box, "sh", "-c", "echo shared > /ramdisk/project/x; umount -l /ramdisk/project")
    wait_for(lambda: restored(node, box) == ["/ramdisk/project"], 10, what="the shared one")
    node.inside(box, "umount", "-l", "/ramdisk")
    wait_for(lambda: restored(node, box)[1:] == ["/ramdisk", "/ramdisk/project"], 15, what="both")
    assert node.inside(box, "cat", "/ramdisk/project/x") == "shared" and kind(node, box, "/ramdisk/project") == "tmpfs"
    assert node.call("PATCH", f"/api/v1/containers/{box}", {"ramdisk": False}).status == 200
    time.sleep(2)
    assert kind(node, box, "/ramdisk") is None and len(restored(node, box)) == 3


@pytest.fixture
def shared_run(node):
    """The node's files in /run are on a mount that others share, as systemd has it on every host."""
    point = subprocess.run(["findmnt", "-n", "-o", "TARGET", "-T", node.run_dir], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["mount", "--make-shared", point], check=True)
    yield
    subprocess.run(["mount", "--make-private", point], check=True)


def test_what_is_mounted_in_them_stays_inside(node, shared_run, box):
    """A mount that was brought into a running container is not a way for its mounts to the host."""
    looked_at(node, box)
    node.inside(box, "sh", "-c", "umount -l /ramdisk; umount -l /hoody/shares")
    wait_for(lambda: kind(node, box, "/ramdisk") == "tmpfs" and kind(node, box, "/hoody/shares") == "tmpfs", 10, what="the mounts")
    node.inside(box, "sh", "-c", "mkdir -p /ramdisk/sub && mount -t tmpfs of_its_own /ramdisk/sub && mount -t tmpfs of_its_own /hoody/shares")
    assert kind(node, box, "/ramdisk/sub") == "tmpfs"
    with open("/proc/self/mounts", encoding="utf-8") as f:
        assert "of_its_own" not in f.read()


def test_its_own_mounts_stay(node, box):
    looked_at(node, box)
    node.inside(box, "sh", "-c", "umount -l /ramdisk; mount -t tmpfs -o size=1m own /ramdisk && touch /ramdisk/own")
    wait_for(lambda: [e["mounts"] for e in events(node, box, "container.mounts.covered")] == [["/ramdisk"]], 10, what="the event")
    assert node.inside(box, "ls", "/ramdisk") == "own" and restored(node, box) == []
    node.inside(box, "umount", "/ramdisk")
    wait_for(lambda: restored(node, box) == ["/ramdisk"], 25, what="ours")


def test_a_paused_one(node, box):
    looked_at(node, box)
    node.inside(box, "umount", "-l", "/ramdisk")
    assert node.op(box, "pause").status == 200
    pid = node.container(box)["node"]["init_pid"]

    def is_there():
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
            return any(line.split()[4] == "/ramdisk" for line in f)
    wait_for(is_there, 10, what="the ramdisk")
    assert node.op(box, "resume").status == 200
    wait_for(lambda: restored(node, box) == ["/ramdisk"], 10, what="the event")


def test_a_shutdown_is_left_alone(node, box):
    """systemd unmounts everything while one of its services takes its time to stop."""
    looked_at(node, box)
    slow = "[Unit]\\nDefaultDependencies=no\\nConflicts=shutdown.target\\nBefore=shutdown.target\\n" \
           "[Service]\\nExecStart=sleep 600\\nExecStop=sleep 6\\n"
    node.inside(box, "sh", "-c", f"printf '{slow}' > /run/systemd/system/slow.service && systemctl daemon-reload && systemctl start slow")
    pid = node.container(box)["node"]["init_pid"]

    def mounted():
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
            return any(line.split()[4] == "/ramdisk" for line in f)
    node.inside(box, "systemctl", "poweroff", "--no-block")
    wait_for(lambda: not mounted(), 20, 0.05, "an unmount")
    for _ in range(40):
        assert not mounted()
        time.sleep(0.1)
    wait_for(lambda: node.container(box)["status"] == "stopped", 60, what="the end")
    assert restored(node, box) == [] and not events(node, box, "container.mounts.failed")


def test_a_loop_of_unmounts(node, box):
    """It gets its mounts back some times at once, then rarely; the node has nothing to do meanwhile."""
    looked_at(node, box)
    init = node.container(box)["node"]["init_pid"]
    script = "while :; do umount -l /ramdisk 2>/dev/null && echo >> /run/count; mount -t tmpfs x /mnt; umount /mnt; done"
    loop = subprocess.Popen(["nsenter", "-t", str(init), "-a", "sh", "-c", script], env=LOGIN)
    wait_for(lambda: any(e["slowed"] for e in events(node, box, "container.mounts.restored")) or
             len(events(node, box, "container.mounts.restored")) >= 5, 120, 1, "some of them")
    count = len(restored(node, box))
    used = cpu(node.process.pid)
    time.sleep(15)
    assert len(restored(node, box)) - count <= 1
    assert cpu(node.process.pid) - used < 1.5
    loop.kill()
    loop.wait()
    assert node.get(f"/api/v1/projects/{PROJECT}/containers").status in (200, 404)


def cpu(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_loss_while_noded_was_away(node, box):
    pid = node.container(box)["node"]["init_pid"]
    node.stop()
    subprocess.run(["nsenter", "-t", str(pid), "-a", "umount", "-l", "/ramdisk"], env=LOGIN, check=True)
    node.start()
    wait_for(lambda: restored(node, box) == ["/ramdisk"], 15, what="the ramdisk")


def test_what_cannot_be_mounted_is_told(node, box):
    looked_at(node, box)
    node.restart(failpoint="mounts.mount=error")
    node.inside(box, "umount", "-l", "/ramdisk")
    wait_for(lambda: [list(e["problems"]) for e in events(node, box, "container.mounts.failed")] == [["/ramdisk"]], 15, what="the event")
    node.restart()
    wait_for(lambda: restored(node, box) == ["/ramdisk"], 15, what="the ramdisk")
