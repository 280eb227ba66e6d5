# SPDX-License-Identifier: Apache-2.0
"""LXD from Debian as the peer: a daemon of its own in the benchmark's namespaces, driven over its unix socket."""
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time

from daemon import UnixConnection
from world import run, wait_for


def own_sysfs():
    """/sys of this network namespace, where LXD looks for its interfaces; the cgroups stay where they are."""
    with tempfile.TemporaryDirectory() as keep:
        run("mount", "--rbind", "/sys/fs/cgroup", keep)
        run("mount", "-t", "sysfs", "sysfs", "/sys")
        run("mount", "--rbind", keep, "/sys/fs/cgroup")
        run("umount", "-R", keep)


class Lxd:
    name = "lxd"

    def __init__(self, image, pool_gib=6):
        self.dir = tempfile.mkdtemp(prefix="noded-bench-lxd-")
        os.makedirs("/run/lxc", exist_ok=True)
        self.env = {**os.environ, "LXD_DIR": self.dir, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        with open("/etc/subuid", encoding="ascii") as f:
            self.subuid = f.read()
        self.log = open(self.dir + "/out", "wb")
        self.process = subprocess.Popen(["/usr/bin/lxd", "--group", "root"], env=self.env, stdout=self.log, stderr=self.log,
                                        stdin=subprocess.DEVNULL)
        wait_for(self.answers, 60, 0.1, "lxd")
        self.call("POST", "/1.0/storage-pools", {"name": "bench", "driver": "btrfs", "config": {"size": f"{pool_gib}GiB"}})
        self.call("PUT", "/1.0/profiles/default", {"devices": {
            "root": {"type": "disk", "path": "/", "pool": "bench"},
            "eth0": {"type": "nic", "nictype": "p2p", "name": "eth0"}}})
        self.import_image(image)
        self.source = {"type": "image", "alias": "debian-13"}

    def answers(self):
        assert self.process.poll() is None, open(self.dir + "/out", encoding="utf-8", errors="replace").read()[-2000:]
        try:
            return self.call("GET", "/1.0")["api_status"] == "stable"
        except OSError:
            return False

    def call(self, method, path, body=None):
        c = UnixConnection(self.dir + "/unix.socket", 600)
        c.request(method, path, None if body is None else json.dumps(body))
        reply = json.loads(c.getresponse().read())
        c.close()
        if reply["type"] == "async":
            c = UnixConnection(self.dir + "/unix.socket", 600)
            c.request("GET", reply["operation"] + "/wait")
            reply = json.loads(c.getresponse().read())
            c.close()
            assert reply["metadata"]["status_code"] == 200, reply
        assert reply["type"] != "error", reply
        return reply["metadata"]

    def import_image(self, archive):
        """The same root file system, with the metadata that LXD wants beside it."""
        meta, root = self.dir + "/meta.tar", self.dir + "/rootfs.tar.zst"
        with open(self.dir + "/metadata.yaml", "w", encoding="ascii") as f:
            f.write(f"architecture: x86_64\ncreation_date: {int(time.time())}\nproperties:\n  description: bench\n")
        with tarfile.open(meta, "w") as tar:
            tar.add(self.dir + "/metadata.yaml", "metadata.yaml")
        run("zstd", "-dqf", archive, "-o", root[:-4])
        run("gzip", "-1", "-f", root[:-4])
        run("lxc", "image", "import", meta, root[:-4] + ".gz", "--alias", "debian-13",
            env={**self.env, "LXD_CONF": self.dir + "/conf"})

    # What is measured.

    def create(self, name):
        self.call("POST", "/1.0/instances", {"name": name, "source": self.source})

    def create_start(self, name):
        self.create(name)
        self.start(name)

    def _state(self, name, action, force=False):
        self.call("PUT", f"/1.0/instances/{name}/state", {"action": action, "timeout": 30, "force": force})

    def start(self, name):
        self._state(name, "start")

    def force_stop(self, name):
        self._state(name, "stop", True)

    def snapshot(self, name, snap):
        self.call("POST", f"/1.0/instances/{name}/snapshots", {"name": snap})

    def restore(self, name, snap):
        self.call("PUT", f"/1.0/instances/{name}", {"restore": snap})

    def copy(self, source, snap, name):
        self.call("POST", "/1.0/instances", {"name": name, "profiles": ["default"],
                                           "source": {"type": "copy", "source": f"{source}/{snap}"}})
        self.start(name)

    def snapshot_delete(self, name, snap):
        self.call("DELETE", f"/1.0/instances/{name}/snapshots/{snap}")

    def delete(self, name):
        self.call("DELETE", f"/1.0/instances/{name}")

    def pid(self):
        return self.process.pid

    def monitors(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    text = f.read()
            except OSError:
                continue
            if b"[lxc monitor]" in text and self.dir.encode() in text:
                found.append(int(pid))
        return found

    def init_pid(self, name):
        return self.call("GET", f"/1.0/instances/{name}/state")["pid"]

    def close(self):
        for c in self.call("GET", "/1.0/instances?recursion=1"):
            if c["status"] == "Running":
                self.force_stop(c["name"])
            self.delete(c["name"])
        self.process.terminate()
        self.process.wait(60)
        self.log.close()
        subprocess.run(["umount", "-R", self.dir + "/storage-pools/bench"], check=False, capture_output=True)
        subprocess.run(["umount", "-R", self.dir + "/devlxd", self.dir + "/shmounts"], check=False, capture_output=True)
        shutil.rmtree(self.dir)
        with open("/etc/subuid", encoding="ascii") as f:
            assert f.read() == self.subuid
