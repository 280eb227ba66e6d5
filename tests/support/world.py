# SPDX-License-Identifier: Apache-2.0
"""A node's surroundings for tests: pool, run directory, cgroup name, veths, and what is left of them."""
import glob
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid

import frames
from enclosure import remove_cgroups

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("NODED_BUILD", os.path.join(REPOSITORY, "build", "release"))
RUN = os.environ.get("NODED_TEST_RUN", "0")  # in every node's name of its directory, so that a run finds its own loop devices
ID_BASE = 1_000_000_000


class ProgramFailed(subprocess.CalledProcessError):
    """Says also what the program wrote last, so that a report of a failed test says why."""

    def __str__(self):
        return f"{super().__str__()} It wrote: {(self.stderr or self.stdout)[-2000:]}"


def run(*argv, **options):
    done = subprocess.run(argv, text=True, capture_output=True, **options)
    if done.returncode:
        raise ProgramFailed(done.returncode, argv, done.stdout, done.stderr)
    return done.stdout


def wait_for(condition, seconds=30, pause=0.02, what="the condition"):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true in {seconds} s")
        time.sleep(pause)


def image_archive():
    """The image's archive: built once and kept by the recipe's hash, or given by NODED_TEST_IMAGE."""
    given = os.environ.get("NODED_TEST_IMAGE")
    if given:
        return given
    out = os.path.join(os.environ.get("NODED_BUILD_CACHE", "/var/cache/noded-build"), "out")
    run(os.path.join(REPOSITORY, "images", "debian-13", "build"), out)
    return os.path.join(out, "debian-13.tar.zst")


class Node:
    """Directories and names of one node; jobs run against it through noded-worker."""

    def __init__(self, loop_bytes=4 << 30):
        self.name = "nt" + uuid.uuid4().hex[:8]
        self.dir = tempfile.mkdtemp(prefix=f"noded-{self.name}-{RUN}-")
        self.pool, self.run_dir = self.dir + "/pool", self.dir + "/run"
        os.chmod(self.dir, 0o711)
        self.loop_file, self.loop_bytes = self.dir + "/pool.img", loop_bytes
        self.worker = os.path.join(BUILD, "noded-worker")
        self.prefix = "v" + self.name[2:6]
        self.env = {"NODED_SECCOMP": os.path.join(REPOSITORY, "runtime", "seccomp.profile")}

    def request(self, kind, slot=0, args=None):
        target = {"pool": self.pool, "run_dir": self.run_dir, "cgroup": self.name, "slot": slot}
        return {"job": kind, "target": target, "args": args or {}}

    def begin(self, kind, slot=0, args=None, failpoint=None, env=None):
        env = {**self.env, **(env or {}), **({"NODED_FAILPOINT": failpoint} if failpoint else {})}
        return frames.Job(self.worker, self.request(kind, slot, args), env)

    def job(self, kind, slot=0, args=None, failpoint=None):
        return self.begin(kind, slot, args, failpoint).result()

    def open(self):
        opened = self.job("pool.open", args={"loop_file": self.loop_file, "loop_bytes": self.loop_bytes})
        return {**opened, **self.job("pool.prepare", args={"loop_file": self.loop_file})}

    # Arguments of jobs.

    def address(self, slot):
        return f"10.96.{slot >> 8}.{slot & 255}"

    def seed(self, slot, **more):
        return {"container_id": f"{slot:024x}", "hostname": f"box{slot}", "machine_id": uuid.uuid4().hex,
                "environment": {"COLOUR": "blue"}, "ipv4": self.address(slot), "ipv6": f"fd6e:6f64:6564::{slot:x}",
                "gateway4": "169.254.1.1", "gateway6": "fe80::1", "dns": ["9.9.9.9"], "kits": [], **more}

    def start_args(self, slot, **more):
        return {"hostname": f"box{slot}", "id_base": ID_BASE + (slot - 1) * 65536, "link": self.peer(slot),
                "ipv4": self.address(slot), "ipv6": f"fd6e:6f64:6564::{slot:x}", "gateway4": "169.254.1.1",
                "gateway6": "fe80::1", "environment": {"COLOUR": "blue"}, "ramdisk_bytes": 0, "kits": [], **more}

    def create(self, slot, image=None, failpoint=None, **more):
        args = {"image": image or (None if "source_slot" in more else self.image), "seed": self.seed(slot), **more}
        return self.job("container.create", slot, args, failpoint)

    def start(self, slot, failpoint=None, **more):
        self.link(slot)
        return self.job("container.start", slot, self.start_args(slot, **more), failpoint)["init_pid"]

    # The network end of a container, as noded makes it.

    def host_end(self, slot):
        return f"{self.prefix}h{slot}"

    def peer(self, slot):
        return f"{self.prefix}p{slot}"

    def link(self, slot):
        if os.path.exists(f"/sys/class/net/{self.peer(slot)}"):
            return
        self.unlink(slot)
        run("ip", "link", "add", self.host_end(slot), "type", "veth", "peer", "name", self.peer(slot))
        run("ip", "addr", "add", "169.254.1.1/32", "dev", self.host_end(slot))
        run("ip", "addr", "add", "fe80::1/64", "nodad", "dev", self.host_end(slot))
        run("ip", "link", "set", self.host_end(slot), "up")
        run("ip", "route", "replace", self.address(slot), "dev", self.host_end(slot))

    def unlink(self, slot):
        subprocess.run(["ip", "link", "del", self.host_end(slot)], capture_output=True)

    # Looking.

    def inventory(self):
        return self.job("node.inventory")

    def slot(self, slot):
        return next((s for s in self.inventory()["slots"] if s["slot"] == slot), None)

    def rootfs(self, slot, path=""):
        return f"{self.pool}/slots/{slot}/rootfs{path}"

    def cgroups(self):
        return [d for d in glob.glob(f"/sys/fs/cgroup/**/{self.name}/*", recursive=True)
                if os.path.isdir(d) and os.path.basename(d) != "lxc.pivot"]

    def mounts(self):
        with open("/proc/self/mounts", encoding="ascii") as f:
            return [line.split()[1] for line in f if line.split()[1].startswith(self.dir)]

    def monitors(self):
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as f:
                    text = f.read()
            except OSError:
                continue
            if b"[lxc monitor]" in text and self.run_dir.encode() in text:
                found.append(int(path.split("/")[2]))
        return found

    def leftovers(self, slot):
        """Everything that a slot without a container must not have."""
        left = [f"cgroup {d}" for d in self.cgroups() if os.path.basename(d) in (f"c{slot}", f"m{slot}")]
        left += [f"mount {m}" for m in self.mounts() if f"/c{slot}/" in m]
        left += [f"monitor {pid}" for pid in self.monitors() if _ends_with(pid, f"c{slot}")]
        left += [p for p in (f"{self.pool}/slots/{slot}", f"{self.run_dir}/c{slot}") if os.path.exists(p)]
        self.job("node.reclaim", args={"most": 1 << 40})
        left += [f"trash {name}" for name in os.listdir(f"{self.pool}/trash")]
        return left

    def attach(self, slot, pid, *argv):
        """Runs a program inside a running container, as its root."""
        return run("nsenter", "-t", str(pid), "-a", *argv)

    def close(self):
        """Removes everything of the node, whatever state it is in."""
        if os.path.ismount(self.pool):
            for entry in self.inventory()["slots"]:
                self.job("container.destroy", entry["slot"])
                self.unlink(entry["slot"])
            self.job("pool.close")
        self.remove_files()

    def remove_files(self):
        remove_cgroups(self.name)
        shutil.rmtree(self.dir)
        # liblxc makes a directory for lock files here, which nobody uses.
        shutil.rmtree("/run/lxc/lock" + self.dir, ignore_errors=True)


def _ends_with(pid, name):
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        return f.read().rstrip(b"\0").decode().endswith(" " + name)


def dump(value):
    return json.dumps(value, indent=1)
