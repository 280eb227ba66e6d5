# SPDX-License-Identifier: Apache-2.0
"""Every path of a root file system that the node touches, replaced by every kind of trap: nothing outside is read or written,
and each job ends in time, done or with an error that says what stood in the way."""
import collections
import ctypes
import multiprocessing
import os
import re
import shutil
import socket
import stat
import subprocess
import time

import pytest
import touched
from daemon import PROJECT, Daemon
from frames import JobError
from kitlab import KitLab
from world import BUILD, run, wait_for

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe life@test"
KITS = [{"name": "web", "version": "1.0"}]
CLEAN, TRAPPED, COPY = 100, 101, 102  # slots that the daemon does not know of
SECONDS = 10
libc = ctypes.CDLL(None, use_errno=True)


def traced(**settings):
    """A node with traces of all that its workers do."""
    d = Daemon(**settings)
    with open(d.conf, encoding="utf-8") as f:
        text = f.read().replace(f"worker = {d.worker}\n", f"worker = {touched.wrapper(d.dir, d.worker)}\n")
    with open(d.conf, "w", encoding="utf-8") as f:
        f.write(text)
    return d


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    lab = KitLab(tmp_path_factory.mktemp("kits"))
    d = traced(kits__public_key=lab.public)
    os.makedirs(d.dir + "/kits")
    d.start()
    for version in ("1.0", "2.0"):
        lab.nodectl("--socket", d.socket, "kit", "install", lab.build("web", version, 7201, service={"environment": {"A": "1"}}, directories=["state"]))
    d.image = next(iter(os.listdir(d.pool + "/images")))
    yield d
    for slot in (CLEAN, TRAPPED, COPY):
        d.job("container.destroy", slot)
    d.close()


# The list is whole.

def ok(r, *more):
    assert r.status in (200, 201, *more), r
    return r.data


def test_no_other_path_is_touched(node, tmp_path):
    """All that can happen to a container, one after the other."""
    cid = node.create("all", environment_vars={"A": "1"}, ssh_public_key=KEY)["id"]
    path = f"/api/v1/containers/{cid}"
    node.wait_booted(cid)
    for version in ("1.0", "2.0"):
        ok(node.call("PUT", path + "/kits", {"kits": [{"name": "web", "version": version}]}, timeout=120))
    ok(node.call("PATCH", path + "/env", {"B": "2"}))
    ok(node.call("PATCH", path, {"ssh_public_key": None}))
    ok(node.call("PATCH", path, {"ramdisk": False}))
    ok(node.call("PATCH", path, {"ramdisk": True, "ramdisk_scope": "project"}))
    ok(node.get(path + "?runtime=true"))
    ok(node.get(path + "/stats"))
    node.inside(cid, "sh", "-c", "systemctl start ssh-host-keys; mkdir /srv/data; sync")
    ok(node.post(path + "/snapshots", {"alias": "s"}))
    copy = ok(node.post(path + "/copy?wait=true", {"target_project_id": PROJECT, "name": "copy"}))["id"]
    node.wait_booted(copy)
    ok(node.post(path + "/storage/shares", {"source_path": "/srv/data", "mode": "readonly", "target_container_id": copy}))
    ok(node.post(f"/api/v1/containers/{copy}/sync?wait=true"))
    ok(node.call("PUT", path + "/snapshots/s"))
    run(BUILD + "/nodectl", "--socket", node.socket, "export", cid, str(tmp_path / "x.tar"), "--snapshots")
    ok(node.op(cid, "stop"))
    node.call("PATCH", path + "/env", {"B": "3"})
    ok(node.post(path + "/publish", {"aliases": ["golden/1"]}))
    ok(node.op(cid, "start"))
    ok(node.op(cid, "restart"))
    for c in (cid, copy):
        node.delete(c)
    node.wait_idle()
    paths, breaches = touched.look(node.dir)
    assert not breaches, breaches[:5]
    known = touched.FILES | touched.DIRECTORIES | touched.ASKED | touched.LIVE
    paths = {p: jobs for p, jobs in paths.items() if p not in touched.MOUNTS}
    assert set(paths) == known, ({p: jobs for p, jobs in paths.items() if p not in known}, known - set(paths))


def test_nor_by_a_claim():
    """A container that was started ahead gets the identity of its owner while it runs."""
    d = traced(warm__pools="bare:debian/13=1", warm__pressure=100).start()
    try:
        wait_for(lambda: d.get("/api/v1/node/pools").data["pools"][0]["ready"] == 1, 60, 0.2, "a full pool")
        c = d.create("claimed", hoody_kit=False, environment_vars={"A": "1"}, ssh_public_key=KEY)
        assert d.inside(c["id"], "hostname") == "claimed"
        d.delete(c["id"])
        paths, breaches = touched.look(d.dir)
        assert not breaches, breaches[:5]
        assert any("container.claim" in jobs for jobs in paths.values()), paths
        known = touched.FILES | touched.DIRECTORIES | touched.ASKED
        assert not set(paths) - known, {p: paths[p] for p in set(paths) - known}
    finally:
        d.close()


# The traps. What is outside is watched by inotify: nobody has opened, read, written or changed it.

class Outside:
    def __init__(self, directory):
        self.dir = directory
        os.mkdir(directory)
        for name in ("victim", "secret"):
            with open(f"{directory}/{name}", "w", encoding="ascii") as f:
                f.write("untouched\n")
        os.mkfifo(directory + "/pipe")
        os.mkdir(directory + "/below")
        self.watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path in (directory, directory + "/below"):
            assert libc.inotify_add_watch(self.watch, path.encode(), 0xfff & ~0x10) >= 0  # all but IN_CLOSE_NOWRITE

    def check(self, what):
        try:
            events = os.read(self.watch, 65536)
        except BlockingIOError:
            return
        raise AssertionError(f"{what}: something outside was touched: {events!r}")


@pytest.fixture(scope="module")
def outside(node):
    return Outside(node.dir + "/outside")


def link(target):
    return lambda path, out: os.symlink(target.format(out=out), path)


def unix_socket(path, _):
    where = os.open(os.path.dirname(path), os.O_PATH)  # the path itself may be longer than an address
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(f"/proc/self/fd/{where}/{os.path.basename(path)}")
    os.close(where)


def full_directory(path, _):
    os.makedirs(path + "/deeper")
    with open(path + "/something", "w", encoding="ascii") as f:
        f.write("kept")


def huge(path, _):
    with open(path, "wb") as f:
        f.truncate(1 << 40)


def subvolume(path, _):
    run("btrfs", "subvolume", "create", path)


def readonly_subvolume(path, _):
    subvolume(path, _)
    run("btrfs", "property", "set", path, "ro", "true")


def immutable(path, _, flag="+i"):
    with open(path, "w", encoding="ascii") as f:
        f.write("fixed\n")
    run("chattr", flag, path)


# "refuse": an error is right. All others must be got over.
TRAPS = {
    "absolute link to a file": (link("{out}/victim"), ""),
    "absolute link to a directory": (link("{out}/below"), ""),
    "relative link out": (link("../" * 24 + "{out}/victim"), ""),
    "relative link to a directory out": (link("../" * 24 + "{out}"), ""),
    "link out through proc": (link("/proc/1/root{out}/victim"), ""),
    "link to a directory out through proc": (link("/proc/self/root{out}"), ""),
    "link through a process's directory": (link("/proc/self/cwd"), ""),
    "link through a descriptor": (link("/proc/self/fd/3"), ""),
    "link to a pipe": (link("{out}/pipe"), ""),
    "dangling link": (link("{out}/made-by-us"), ""),
    "link to itself": (lambda path, _: os.symlink(path, path), ""),
    "fifo": (lambda path, _: os.mkfifo(path, 0o666), ""),
    "socket": (unix_socket, ""),
    "character device": (lambda path, _: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)), ""),
    "block device": (lambda path, _: os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(7, 0)), ""),
    "full directory": (full_directory, ""),
    "file without rights": (lambda path, _: os.close(os.open(path, os.O_CREAT, 0)), ""),
    "subvolume": (subvolume, ""),
    "huge file": (huge, "refuse"),
    "read-only subvolume": (readonly_subvolume, "refuse"),
    "immutable file": (immutable, "refuse"),
    "append-only file": (lambda path, _: immutable(path, _, "+a"), "refuse"),
}


def levels():
    """Paths that do not hide one another: the directories by depth, and the files."""
    by_depth = collections.defaultdict(list)
    for path in sorted(touched.DIRECTORIES):
        by_depth[path.count("/")].append(path)
    return {**{f"directories {depth}": paths for depth, paths in by_depth.items()}, "files": sorted(touched.FILES)}


def rootfs(node, slot):
    return f"{node.pool}/slots/{slot}/rootfs"


@pytest.fixture(scope="module")
def clean(node):
    """A seeded root with everything in its place, to begin from."""
    node.job("container.create", CLEAN, {"image": node.image, "seed": node.seed(CLEAN, kits=KITS, ssh_public_key=KEY)})
    for name in ("ed25519", "ecdsa"):
        run("ssh-keygen", "-q", "-t", name, "-N", "", "-f", f"{rootfs(node, CLEAN)}/etc/ssh/ssh_host_{name}_key")
    return CLEAN


@pytest.fixture
def trapped(node, clean, outside):
    """A function that makes slot TRAPPED anew with traps in it."""
    target = rootfs(node, TRAPPED)

    def make(trap, paths):
        remove(node, TRAPPED)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        run("btrfs", "subvolume", "snapshot", rootfs(node, clean), target)
        for path in paths:
            full = f"{target}/{path}"
            if os.path.islink(full) or os.path.isfile(full):
                os.remove(full)
            shutil.rmtree(full, ignore_errors=True)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            TRAPS[trap][0](full, outside.dir)
    yield make
    remove(node, TRAPPED)
    remove(node, COPY)


def remove(node, slot):
    if os.path.exists(f"{node.pool}/slots/{slot}"):
        node.job("container.destroy", slot)


def attempt(node, job, slot, args, allowed):
    """Its error's text, or None. allowed: an error is right."""
    begun = time.monotonic()
    try:
        node.job(job, slot, args)
        problem = None
    except JobError as e:
        problem = str(e)
    took = time.monotonic() - begun
    assert took < SECONDS, f"{job} took {took:.1f} s"
    if job == "env.write" and problem and "the container does not run" in problem:
        return None  # what was written cannot be verified inside
    assert problem is None or allowed and re.search(r"'[^']+'", problem), f"{job}: {problem}"
    return problem


def copy_of(node):
    return {"image": None, "source_slot": TRAPPED, "seed": node.seed(COPY, kits=KITS, ssh_public_key=KEY)}


def check_copy(node, problem, what):
    root = rootfs(node, COPY)
    if problem:
        assert not os.path.exists(root), "half a copy"
        return
    for path in touched.FILES - touched.CHANGED_WHERE_THERE - {"etc/passwd", "etc/group", "etc/shadow", "etc/locale.conf", "etc/default/locale"}:
        full = f"{root}/{path}"
        if "ssh_host" in path or path == "var/lib/dbus/machine-id":
            assert not os.path.lexists(full) or os.path.isdir(full), (what, path)  # a full directory is nobody's key
        elif "/hoody-web" in path or path == "hoody/kits/web":
            assert os.path.islink(full) and "hoody" in os.readlink(full), (what, path)
        else:
            assert os.path.isfile(full) and not os.path.islink(full), (what, path)
    with open(root + "/etc/hostname", encoding="ascii") as f:
        assert f.read() == f"box{COPY}\n", what


def writes():
    """The jobs that write into a root that is there."""
    return [("env.write", {"environment": {"COLOUR": "red"}}), ("ssh.write", {"ssh_public_key": KEY, "removed": []}),
            ("container.kits", {"before": KITS, "kits": [{"name": "web", "version": "2.0"}], "timeout_ms": 1000})]


def batches():
    """Traps that are got over are set at all paths of a level at once; of the others each must be met alone."""
    for trap, (_, refused) in TRAPS.items():
        for level, paths in levels().items():
            yield from [(trap, paths, level)] if not refused else [(trap, [p], p) for p in paths]


@pytest.mark.parametrize("trap", TRAPS)
def test_traps_of_a_stopped_container(node, trapped, outside, trap):
    for _, paths, what in [b for b in batches() if b[0] == trap]:
        refused = TRAPS[trap][1]
        trapped(trap, paths)
        outside.check(f"{trap} at {what}, before")
        problem = attempt(node, "container.create", COPY, copy_of(node), refused)
        outside.check(f"{trap} at {what}: copy")
        check_copy(node, problem, (trap, what))
        remove(node, COPY)
        for job, args in writes():
            attempt(node, job, TRAPPED, args, refused)
            outside.check(f"{trap} at {what}: {job}")


@pytest.mark.parametrize("trap", ["absolute link to a file", "relative link to a directory out", "fifo", "full directory"])
def test_an_image_of_it(node, trapped, outside, trap):
    """What is forgotten for an image is a link here, or something else."""
    trapped(trap, sorted(touched.FILES - {"etc/passwd"}))
    begun = time.monotonic()
    made = node.job("image.publish", TRAPPED, {"snapshot": None})
    assert time.monotonic() - begun < 2 * SECONDS
    outside.check(trap)
    root = f"{node.pool}/images/{made['fingerprint']}"
    assert os.path.isfile(root + "/etc/machine-id") and os.path.getsize(root + "/etc/machine-id") == 0
    assert not os.path.lexists(root + "/etc/hostname") or trap == "full directory"
    node.job("image.remove", args={"fingerprint": made["fingerprint"]})


# Somebody who exchanges names and links out of the root while jobs write.

def exchange_for_ever(root, pairs):
    at = -100
    while True:
        for one, other in pairs:
            libc.renameat2(at, f"{root}/{one}".encode(), at, f"{root}/{other}".encode(), 2)


@pytest.mark.parametrize("what", ["directories", "files"])
def test_a_race_with_exchanges(node, trapped, outside, what):
    trapped("fifo", [])
    root = rootfs(node, TRAPPED)
    names = {"directories": ["etc", "etc/profile.d", "etc/systemd/system", "root/.ssh", "home/user", "hoody/kits"],
             "files": ["etc/environment", "etc/profile.d/hoody-20-environment.sh", "etc/systemd/hoody-environment", "root/.ssh/authorized_keys", "hoody/kits/web"]}[what]
    for i, name in enumerate(names):
        os.symlink(outside.dir + ("/below" if what == "directories" else "/victim"), f"{root}/swap{i}")
    racer = multiprocessing.get_context("fork").Process(target=exchange_for_ever, daemon=True,
                                                         args=(root, [(name, f"swap{i}") for i, name in enumerate(names)]))
    racer.start()
    try:
        end, rounds = time.monotonic() + 4, 0
        while time.monotonic() < end:
            for job, args in writes():
                attempt(node, job, TRAPPED, args, True)
            attempt(node, "container.create", COPY, copy_of(node), True)
            remove(node, COPY)
            rounds += 1
    finally:
        racer.kill()
        racer.join()
    assert rounds > 3
    outside.check(what)


# Starts: what liblxc and we mount over.

MOUNTED_OVER = ["dev", "proc", "sys", "run", "ramdisk", "hoody", "hoody/shares", "hoody/.kits", "sbin/init", "usr/lib/systemd/systemd"]


@pytest.mark.parametrize("trap", ["absolute link to a directory", "relative link to a directory out", "link to a directory out through proc",
                                  "link to a pipe", "link to itself", "fifo", "immutable file"])
def test_a_start(node, trapped, outside, trap):
    """It runs or says why not; then nothing of it is left."""
    for path in MOUNTED_OVER:
        trapped(trap, [path])
        node.link(TRAPPED)
        begun = time.monotonic()
        try:
            node.job("container.start", TRAPPED, node.start_args(TRAPPED, kits=KITS, ramdisk_bytes=1 << 20))
        except JobError as e:
            assert e.code in ("ERR_HOST", "ERR_TIMEOUT", "ERR_NOT_FOUND") and e.message, e
        assert time.monotonic() - begun < 2 * SECONDS, (trap, path)
        outside.check(f"{trap} at {path}: start")
        node.job("container.stop", TRAPPED, {"timeout_ms": 0})
        node.unlink(TRAPPED)
        outside.check(f"{trap} at {path}: stop")


# A running container: what its root sees is not only its disk.

# {dir} is bound over with /x, where the file is something else. What is mounted over a file itself goes with the file's
# replacement: the kernel takes a mount away whose place is renamed over from outside.
OVER = {
    "a pipe": "mkfifo /x/{name}",
    "the kernel's log": "ln -s /proc/kmsg /x/{name}",
    "a device": "ln -s /dev/zero /x/{name}",
    "a file of its own": "echo other > /x/{name}",
    "a file that has no end": "truncate -s 1T /x/{name}",
    "a link to itself": "ln -s {name} /x/{name}",
    "nothing": "true",
}


@pytest.fixture(scope="module")
def box(node):
    cid = node.create("live")["id"]
    node.wait_booted(cid)
    return cid


@pytest.mark.parametrize("path", ["/etc/environment", "/etc/profile.d/hoody-20-environment.sh",
                                  "/etc/systemd/system.conf.d/91-hoody-environment.conf"])
@pytest.mark.parametrize("over", OVER)
def test_what_is_mounted_over_a_directory(node, box, outside, over, path):
    """It is said that the container does not see what was set; nothing waits."""
    api, where = f"/api/v1/containers/{box}/env", os.path.dirname(path)
    trap = OVER[over].format(name=os.path.basename(path))
    node.inside(box, "sh", "-ec", f"mkdir /x; {trap}; mount --bind /x {where}")
    try:
        begun = time.monotonic()
        r = node.call("PATCH", api, {"ROUND": over + path}, timeout=90)
        assert time.monotonic() - begun < SECONDS
        assert r.status == 200 and not r.data["synced"] and r.data["env_sync"]["last_error"] == "ENV_DEST_UNSUPPORTED", r
    finally:
        node.inside(box, "sh", "-ec", f"umount -l {where}; rm -rf /x")  # -l: systemd may be reading there
    assert node.call("PATCH", api, {"ROUND": "over"}).data["synced"]
    outside.check(over)


@pytest.mark.parametrize("source", ["/proc/kmsg", "/dev/zero", "/x"])
def test_what_is_mounted_over_a_file(node, box, source):
    node.inside(box, "sh", "-ec", f"mkfifo /x; mount --bind {source} /etc/environment")
    begun = time.monotonic()
    r = node.call("PATCH", f"/api/v1/containers/{box}/env", {"ROUND": source}, timeout=90)
    assert r.status == 200 and r.data["synced"] and time.monotonic() - begun < SECONDS, r
    assert "ROUND" in node.inside(box, "cat", "/etc/environment")
    node.inside(box, "rm", "/x")


def test_a_reboot_from_the_inside_into_a_trap(node):
    """liblxc starts it by itself then, and waits for a writer of the pipe: it is ended, and a start makes it whole."""
    cid = node.create("trap", hoody_kit=False)["id"]
    node.wait_booted(cid)
    node.inside(cid, "sh", "-c", "umount /ramdisk && rmdir /ramdisk && mkfifo /ramdisk && systemctl reboot")
    wait_for(lambda: node.container(cid)["status"] == "stopped", 40, 0.5, "the end of the attempt")
    assert node.op(cid, "start").status == 200
    assert node.inside(cid, "stat", "-c", "%F", "/ramdisk") == "directory"
    node.delete(cid)
    node.wait_idle()
