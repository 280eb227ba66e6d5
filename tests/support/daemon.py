# SPDX-License-Identifier: Apache-2.0
"""A real noded of its own: configuration, process, requests over the unix socket, crash and restart, clean-up."""
import glob
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess

from enclosure import SYSTEM_PATH
from world import BUILD, REPOSITORY, Node, image_archive, run, wait_for

PROJECT = "0" * 23 + "1"
LOGIN = {"PATH": SYSTEM_PATH, "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TERM": "dumb"}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("node", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Account:
    """What a container's roots are charged to, by btrfs-progs."""

    def __init__(self, node, slot):
        self.id, self.limit, self.usage, self.members = None, None, None, 0
        shown = run("btrfs", "subvolume", "show", f"{node.pool}/slots/{slot}/rootfs")
        root = "0/" + next(line.split()[-1] for line in shown.splitlines() if "Subvolume ID" in line)
        groups = [line.split() for line in run("btrfs", "qgroup", "show", "-rpc", "--raw", node.pool).splitlines()[2:]]
        for name, referenced, _, limit, _, members, *_ in groups:
            if root in members.split(","):
                self.id, self.usage, self.members = name, int(referenced), len(members.split(","))
                self.limit = None if limit == "none" else int(limit)


class Reply:
    def __init__(self, status, headers, text):
        self.status, self.headers, self.text = status, headers, text
        self.json = json.loads(text) if text else None

    @property
    def data(self):
        return self.json["data"]

    def __repr__(self):
        return f"<{self.status} {self.text[:600]}>"


def kits_dir():
    """The demonstration suite, built once and kept; its public key is kits.pub."""
    given = os.environ.get("NODED_TEST_KITS")
    if given:
        return given
    out = os.path.join(os.environ.get("NODED_BUILD_CACHE", "/var/cache/noded-build"), "kits")
    os.makedirs(out + ".new", exist_ok=True)
    run(os.path.join(REPOSITORY, "kits", "build"), out + ".new")
    shutil.rmtree(out, ignore_errors=True)
    os.rename(out + ".new", out)
    return out


class Daemon(Node):
    judge = None  # called with (method, path, status, body) of every reply; validated.py sets it for tests

    def __init__(self, kits=False, loop_bytes=4 << 30, space=None, **settings):
        """space: a network namespace that it lives in, a netlab.Space."""
        super().__init__(loop_bytes)
        self.within = ["nsenter", f"--net=/run/netns/{space.name}"] if space else []
        self.conf, self.socket = self.dir + "/noded.conf", self.run_dir + "/control.sock"
        self.state, self.log_path = self.dir + "/state", self.dir + "/noded.log"
        self.process = None
        self.veth = "t" + self.name[2:6].translate(str.maketrans("0123456789", "ghijklmnop"))
        os.makedirs(self.dir + "/images")
        shutil.copy(image_archive(), self.dir + "/images/debian-13.tar.zst")
        os.makedirs(self.state)
        sections = {
            "node": {"state_dir": self.state, "run_dir": self.run_dir, "worker": self.worker, "cgroup": self.name,
                     "relay": os.environ.get("NODED_RELAY", BUILD + "/noded-relay")},
            "storage": {"pool": self.pool, "loop_file": self.loop_file, "loop_size": self.loop_bytes},
            "images": {"dir": self.dir + "/images"},
            "kits": {"dir": kits_dir() if kits else self.dir + "/kits", "public_key": (kits_dir() if kits else self.dir) + "/kits.pub"},
            "network": {"veth_prefix": self.veth, "table": self.name, "relay_user": "nobody"},
        }
        for key, value in settings.items():
            section, name = key.split("__")
            sections.setdefault(section, {})[name] = value
        with open(self.conf, "w", encoding="utf-8") as f:
            for section, keys in sections.items():
                f.write(f"[{section}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()))

    # Process.

    def start(self, failpoint=None, wait=True):
        env = {**os.environ, **self.env, "UV_THREADPOOL_SIZE": "4"}
        if failpoint:
            env["NODED_FAILPOINT"] = failpoint
        with open(self.log_path, "ab") as log:
            program = os.environ.get("NODED_DAEMON", BUILD + "/noded")
            self.process = subprocess.Popen([*self.within, program, "-c", self.conf, "-d"], env=env, stderr=log,
                                            stdin=subprocess.DEVNULL)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"noded ended with {self.process.returncode}:\n{self.log()}")
            try:
                return self.get("/healthz").data["ready"]
            except (OSError, http.client.HTTPException):
                return False
        wait_for(ready, 60, what="noded")

    def wait_idle(self):
        """No operation, worker or lane has anything left to do."""
        def idle():
            h = self.get("/healthz").data
            return not (h["operations"] or h["workers"] or h["store_lane"] or h["network_lane"])
        wait_for(idle, 60, what="an idle node")

    def wait_reclaimed(self):
        """Nothing that was deleted takes room any more."""
        self.wait_idle()

        def done():
            run("btrfs", "filesystem", "sync", self.pool)
            r = self.get("/api/v1/node/storage").data["reclaim"]
            return not r["subvolumes"] and not r["trash"]
        wait_for(done, 120, 1, "the end of what was deleted")

    def wait_dead(self):
        self.process.wait(30)

    def kill9(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(40) == 0, self.log()

    def restart(self, failpoint=None):
        self.stop()
        return self.start(failpoint)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()[-6000:]

    # Requests.

    def call(self, method, path, body=None, headers=None, timeout=60, check=True):
        """check: the reply is judged, when there is a judge."""
        c = UnixConnection(self.socket, timeout)
        text = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
        try:
            c.request(method, path, text, {"Content-Type": "application/json", **(headers or {})})
        except BrokenPipeError:
            pass  # refused by its head: the answer is there
        r = c.getresponse()
        reply = Reply(r.status, r.headers, r.read().decode())
        c.close()
        if check and self.judge:
            self.judge(method, path, reply.status, reply.json)
        return reply

    def get(self, path):
        return self.call("GET", path)

    def post(self, path, body=None):
        return self.call("POST", path, body)

    def create(self, name, wait=True, ok=True, **more):
        r = self.post(f"/api/v1/projects/{PROJECT}/containers" + ("?wait=true" if wait else ""),
                      {"server_id": "self", "name": name, **more})
        assert not ok or r.status == 201, (r, self.log())
        return r.data if ok else r

    def container(self, cid):
        return self.get(f"/api/v1/containers/{cid}").data

    def op(self, cid, operation, body=None):
        return self.post(f"/api/v1/containers/{cid}/{operation}", body)

    def delete(self, cid):
        return self.call("DELETE", f"/api/v1/containers/{cid}")

    def list(self):
        return self.get("/api/v1/containers/?limit=100").data["containers"]

    # The inside.

    def inside(self, cid, *argv, check=True):
        """Runs it as root in the container, with the environment that a login gives and nothing of this process's own."""
        pid = self.container(cid)["node"]["init_pid"]
        with subprocess.Popen(["nsenter", "-t", str(pid), "-a", *argv], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=LOGIN) as p:
            while True:
                try:
                    out, errors = p.communicate(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    p.send_signal(signal.SIGCONT)  # systemd on its way down stops all processes; nsenter stops with its child
        assert not check or p.returncode == 0, (argv, p.returncode, out, errors)
        return out.strip()

    def wait_booted(self, cid, seconds=60):
        def state():
            return self.inside(cid, "systemctl", "is-system-running", check=False) in ("running", "degraded")
        wait_for(state, seconds, 0.1, f"the boot of {cid}")
        return self.inside(cid, "systemctl", "is-system-running", check=False)

    # What is there.

    def links(self):
        names = [link["ifname"] for link in json.loads(run(*self.within, "ip", "-j", "link"))]
        return sorted(n for n in names if n.startswith(self.veth))

    def table(self):
        r = subprocess.run([*self.within, "nft", "list", "table", "inet", self.name], text=True, capture_output=True, check=False)
        return r.stdout

    def everything(self):
        """Every object of the node's containers, to compare with what the API says."""
        slots = sorted(int(s) for s in os.listdir(self.pool + "/slots") if s.isdigit())
        return {"slots": slots, "links": self.links(), "cgroups": sorted({os.path.basename(c) for c in self.cgroups()}),
                "monitors": len(self.monitors()), "mounts": [m for m in self.mounts() if m != self.pool],
                "run": sorted(os.path.basename(p) for p in glob.glob(self.run_dir + "/c[0-9]*"))}

    def assert_consistent(self):
        """Nothing on the host that the API does not know of, and nothing missing of what it does."""
        self.wait_idle()
        listed = self.list()
        have = self.everything()
        slots = sorted(c["node"]["slot"] for c in listed if c["status"] != "failed")
        up = sorted(c["node"]["slot"] for c in listed if c["status"] in ("running", "paused"))
        assert have["slots"] == slots, (have, listed)
        assert have["links"] == sorted(f"{self.veth}{s}" for s in up), (have, listed)
        assert have["monitors"] == len(up), (have, listed)
        assert have["cgroups"] == sorted([f"c{s}" for s in up] + [f"m{s}" for s in up]), (have, listed)
        for s in have["slots"]:
            left = [n for n in os.listdir(f"{self.pool}/slots/{s}") if n.startswith(".new")]
            assert not left, left
        text = self.table()
        for s in range(1, 20):
            assert (f'"{self.veth}{s}"' in text) == (s in up), (s, text)

    def close(self):
        """The uninstall: nothing of the node stays, not even its table, which the next node's packets would meet."""
        self.stop()
        r = subprocess.run([*self.within, BUILD + "/noded-down", "--config", self.conf, "purge", "--data"], capture_output=True, text=True,
                           env={**os.environ, **self.env}, check=False)
        assert r.returncode == 0, r.stderr
        assert not self.table() and not self.links(), (self.table(), self.links())
        self.remove_files()
