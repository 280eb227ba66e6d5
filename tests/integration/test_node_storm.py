# SPDX-License-Identifier: Apache-2.0
"""
Everything at once: several clients ask for anything of a few containers, none waits for another, and the node is killed in between.
Any of them may be refused, by an error that is the client's; when steps of operations fail or end the process, too, also by one that
is the host's. Afterwards the API, the disk, the kernel and the database agree, each snapshot that is listed can be restored, a restart
changes nothing of what is said, and when all is deleted nothing is left.

    NODED_STORM_SECONDS=600 NODED_STORM_SEED=3 tests/run -s tests/integration/test_node_storm.py
"""
import collections
import http.client
import os
import random
import threading
import time

import pytest
from daemon import PROJECT, Daemon, UnixConnection
from kitlab import KitLab
from test_node_churn import emptied, rows, subvolumes
from world import run, wait_for

SECONDS = float(os.environ.get("NODED_STORM_SECONDS", "25"))
SEED = int(os.environ.get("NODED_STORM_SEED", "1"))
CLIENTS, ALIVE_MAX = 6, 6
STEPS = ("clean", "rootfs", "network", "start", "open", "commit", "snapshot", "swap", "unlink", "kits", "rules", "apply")
# Not in the jobs that undo: when an undo fails, too, something is left until the next start or the deletion.
FAULTS = [f"op.{kind}.{step}" for kind in ("create", "copy", "start", "restart", "restore", "snapshot", "sync", "kits")
          for step in STEPS] + [
    "create.rootfs", "create.seeded", "env.written", "export.snapshot", "image.base", "image.published", "install.readonly",
    "install.rename", "kits.linked", "ramdisk.mounted", "restore.made", "share.refresh", "shares.mount", "snapshot.held",
    "snapshot.made", "start.before", "start.after", "sync.made", "project.delete.intent", "project.delete.commit"]
OTHER = "5b" * 12
REFUSALS = (400, 404, 409, 422, 429, 503, 504)  # 504: the host was too slow
CUT = (OSError, http.client.HTTPException)  # the node was killed while it worked


class Client:
    def __init__(self, storm, number):
        self.storm, self.node, self.random = storm, storm.node, random.Random(SEED * 1000 + number)
        self.actions = [self.create, self.copy, self.copy, self.sync, self.delete, self.operate, self.operate, self.operate, self.snapshot,
                        self.snapshot, self.restore, self.snapshot_delete, self.alias, self.rule, self.forward, self.network,
                        self.environment, self.environment, self.share, self.unshare, self.change, self.limit, self.kits, self.publish,
                        self.export, self.project, self.look, self.look]

    def call(self, method, path, body=None, label=None):
        """The reply; None when the node was killed meanwhile."""
        try:
            r = self.node.call(method, path, body, timeout=120, check=False)
        except CUT:
            self.storm.seen[f"{label or method} cut"] += 1
            time.sleep(0.2)
            return None
        self.storm.seen[f"{label or method} {r.status}"] += 1
        # A container that could not be made has no disk; one that was made without kits sees them from its next start on.
        if r.status >= 400 and not self.storm.faults and r.status not in REFUSALS and "has no root file system" not in r.json["message"] \
                and r.json.get("code") not in ("KIT_RESTART_NEEDED", "KIT_UNHEALTHY"):
            self.storm.wrong.append((method, path, body, r))
        return r

    def box(self):
        ids = list(self.storm.ids)
        return self.random.choice(ids) if ids else "0" * 24

    def at(self, rest=""):
        return f"/api/v1/containers/{self.box()}{rest}"

    def made(self, r):
        if r and r.status == 201:
            self.storm.ids.append(r.data["id"])

    def snapshots(self, cid):
        r = self.call("GET", f"/api/v1/containers/{cid}/snapshots", label="snapshots")
        return [s["name"] for s in r.data["snapshots"]] if r and r.status == 200 else []

    def full(self):
        r = self.call("GET", "/api/v1/containers/?limit=100", label="list")
        if not r or r.status != 200:
            return True
        self.storm.ids[:] = [c["id"] for c in r.data["containers"]]
        return len(self.storm.ids) >= ALIVE_MAX

    # What clients do.

    def create(self):
        if not self.full():
            wait = self.random.choice(["", "?wait=true"])
            self.made(self.call("POST", f"/api/v1/projects/{self.random.choice([PROJECT, OTHER])}/containers{wait}",
                                {"server_id": "self", "hoody_kit": self.random.random() < 0.5}, "create"))

    def copy(self):
        if self.full():
            return
        cid, body = self.box(), {"target_project_id": self.random.choice([PROJECT, OTHER]), "copy_firewall_rules": True}
        names = self.snapshots(cid) if self.random.random() < 0.4 else []
        if names:
            body["source_snapshot"] = self.random.choice(names)
        self.made(self.call("POST", f"/api/v1/containers/{cid}/copy", body, "copy"))

    def sync(self):
        self.call("POST", self.at("/sync"), label="sync")

    def delete(self):
        if len(self.storm.ids) > 3:
            self.call("DELETE", self.at(), label="delete")

    def operate(self):
        self.call("POST", self.at("/" + self.random.choice(["start", "stop", "force-stop", "restart", "pause", "resume", "resume"])),
                  label="operate")

    def snapshot(self):
        cid = self.box()
        if len(self.snapshots(cid)) < 6:
            self.call("POST", f"/api/v1/containers/{cid}/snapshots", {"alias": f"s{self.random.randrange(9)}"}, "snapshot")

    def restore(self):
        cid = self.box()
        for name in self.snapshots(cid)[-1:]:
            self.call("PUT", f"/api/v1/containers/{cid}/snapshots/{name}", label="restore")

    def snapshot_delete(self):
        cid = self.box()
        for name in self.snapshots(cid)[:1]:
            self.call("DELETE", f"/api/v1/containers/{cid}/snapshots/{name}", label="snapshot delete")

    def alias(self):
        cid = self.box()
        for name in self.snapshots(cid)[:1]:
            self.call("PATCH", f"/api/v1/containers/{cid}/snapshots/{name}/alias", {"alias": f"a{self.random.randrange(99)}"}, "alias")

    def rule(self):
        if self.random.random() < 0.2:
            self.call("POST", self.at("/firewall/reset"), label="reset")
        else:
            self.call("POST", self.at(f"/firewall/{self.random.choice(['ingress', 'egress'])}"),
                      {"action": "drop", "protocol": "tcp", "destination_port": str(self.random.randrange(1000, 9000))}, "rule")

    def forward(self):
        port = self.random.randrange(20000, 20004)
        if self.random.random() < 0.5:
            self.call("POST", self.at("/forwards"), {"host_port": port, "container_port": 80}, "forward")
        else:
            self.call("DELETE", self.at(f"/forwards/tcp/{port}"), label="forward end")

    def network(self):
        path = self.at("/network")
        if self.random.random() < 0.4:
            self.call("DELETE", path, label="network end")
        elif self.call("PUT", path, {"type": "block"}, "network"):
            self.call("POST", path + self.random.choice(["/start", "/stop"]), label="network power")

    def environment(self):
        self.call("PUT", self.at(f"/env/S{self.random.randrange(5)}"), {"value": str(self.random.random())}, "env")

    def share(self):
        self.call("POST", self.at("/storage/shares"),
                  {"source_path": "/srv", "mode": self.random.choice(["readonly", "readwrite"]), "target_container_id": self.box()}, "share")

    def unshare(self):
        r = self.call("GET", "/api/v1/storage/shares", label="shares")
        if r and r.status == 200 and r.data:
            self.call("DELETE", f"/api/v1/storage/shares/{self.random.choice(r.data)['id']}", label="unshare")

    def change(self):
        body = self.random.choice([{"name": f"n{self.random.randrange(99)}-x"}, {"ramdisk": self.random.random() < 0.5},
                                   {"ramdisk_scope": self.random.choice(["container", "project"])}, {"comment": "x"}])
        self.call("PATCH", self.at(), body, "change")

    def limit(self):
        self.call("PATCH", self.at("/limits"), {"connections": self.random.choice([None, 100])}, "limit")

    def kits(self):
        kits = self.random.choice([[], [{"name": "web", "version": "1.0"}], [{"name": "web", "version": "2.0"}]])
        self.call("PUT", self.at("/kits"), {"kits": kits}, "kits")

    def publish(self):
        r = self.call("POST", self.at("/publish"), {"aliases": ["storm/1"]}, "publish")
        if r and r.status == 201 and self.random.random() < 0.5:
            self.call("DELETE", f"/api/v1/node/images/{r.data['fingerprint']}", label="image delete")

    def export(self):
        """Read to its end, by somebody who may hang up before."""
        c = UnixConnection(self.node.socket, 60)
        try:
            c.request("GET", self.at("/export" + self.random.choice(["", "?format=stream&snapshots=true"])))
            r = c.getresponse()
            self.storm.seen[f"export {r.status}"] += 1
            r.read(1 << self.random.randrange(10, 24))
        except CUT:
            self.storm.seen["export cut"] += 1
            time.sleep(0.2)
        finally:
            c.close()

    def project(self):
        if self.random.random() < 0.05:
            self.call("DELETE", f"/api/v1/projects/{OTHER}", label="project delete")

    def look(self):
        self.call("GET", self.random.choice([self.at("?runtime=true"), self.at("/stats"), "/api/v1/node/routes", "/api/v1/node/storage",
                                             "/api/v1/events?limit=20"]), label="look")

    def run(self):
        while time.monotonic() < self.storm.end and not self.storm.wrong:
            try:
                self.random.choice(self.actions)()
            except Exception as e:  # pylint: disable=broad-exception-caught
                self.storm.wrong.append(repr(e))
                raise


class Storm:
    def __init__(self, node, faults):
        self.node, self.faults, self.random = node, faults, random.Random(SEED)
        self.ids, self.wrong, self.seen = [], [], collections.Counter()
        self.end = time.monotonic() + SECONDS

    def weather(self):
        """What goes wrong until the next restart."""
        if not self.faults:
            return None
        return ",".join(f"{point}={self.random.choice(['kill', 'error', 'error'])}" for point in self.random.sample(FAULTS, 12))

    def restart(self, failpoint=None):
        """A point that kills may be met while it starts."""
        if self.node.process.poll() is None:
            self.node.kill9()
        try:
            self.node.start(failpoint)
        except AssertionError:
            assert failpoint and self.node.process.returncode == -9, self.node.log()
            self.node.start()

    def until(self, end):
        """It may end by itself: at a point that kills."""
        while time.monotonic() < end and not self.wrong and self.node.process.poll() is None:
            time.sleep(0.1)

    def run(self):
        threads = [threading.Thread(target=Client(self, i).run) for i in range(CLIENTS)]
        for t in threads:
            t.start()
        while time.monotonic() < self.end and not self.wrong:
            self.until(min(self.end, time.monotonic() + (6 if self.faults else 12)))
            if time.monotonic() < self.end:
                self.restart(self.weather())
        self.restart()
        for t in threads:
            t.join(180)
            assert not t.is_alive(), "a request has no end"
        print("storm:", dict(sorted(self.seen.items())))
        assert not self.wrong, (self.wrong, self.node.log())


@pytest.fixture
def node(tmp_path):
    lab = KitLab(tmp_path / "kits")
    d = Daemon(loop_bytes=8 << 30, kits__public_key=lab.public)
    os.makedirs(d.dir + "/kits", exist_ok=True)
    d.start()
    for version in ("1.0", "2.0"):
        lab.nodectl("--socket", d.socket, "kit", "install", lab.build("web", version, 7201))
    yield d
    d.close()


def settled(node):
    """Also what goes on without an operation: kits that get ready, copies that are made."""
    wait_for(lambda: not any(c["status"] in ("creating", "copying", "deleting") for c in node.list()), 120, 0.5, "the end of what was begun")
    node.wait_idle()


def agree(node):
    """The snapshots that are listed are those on the disk."""
    for c in node.list():
        if c["status"] == "failed":
            continue
        path = f"{node.pool}/slots/{c['node']['slot']}/snapshots"
        there = set(os.listdir(path)) if os.path.isdir(path) else set()
        listed = {s["name"] for s in node.get(f"/api/v1/containers/{c['id']}/snapshots").data["snapshots"]}
        assert listed == there, (c["id"], listed, there)


def said(node):
    """All that the API says of what is recorded."""
    def get(path):
        r = node.get(path)
        return r.data if r.status == 200 else r.status
    ids = sorted(c["id"] for c in node.list())
    of_one = ("", "/snapshots", "/firewall/rules", "/env", "/forwards", "/limits", "/network", "/storage/shares", "/storage/incoming",
              "/status-logs?limit=100", "/transparent-proxy")
    whole = {f"/api/v1/containers/{i}{rest}": get(f"/api/v1/containers/{i}{rest}") for i in ids for rest in of_one}
    for kind in whole.values():
        if isinstance(kind, dict):  # when it was looked whether a way out works
            kind.pop("last_status_check", None)
            kind.pop("remote_status", None)
    return {**whole, **{path: get(path) for path in ("/api/v1/projects/?limit=100", "/api/v1/node/images", "/api/v1/node/kits",
                                                     "/api/v1/storage/shares")}}


def changed(old, new):
    """The members that differ, or all."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return old, new
    keys = [k for k in {*old, *new} if old.get(k) != new.get(k)]
    return {k: old.get(k) for k in keys}, {k: new.get(k) for k in keys}


@pytest.mark.parametrize("faults", [False, True], ids=["calm", "faults"])
def test_storm(node, faults):
    first = node.create("first", hoody_kit=False)["id"]
    node.delete(first)
    emptied(node)
    before = {"subvolumes": subvolumes(node), "rows": rows(node), "mounts": sorted(node.mounts())}
    Storm(node, faults).run()
    settled(node)
    node.assert_consistent()
    agree(node)
    for c in node.list():
        path = f"/api/v1/containers/{c['id']}"
        for s in node.get(path + "/snapshots").data["snapshots"]:
            assert node.call("PUT", f"{path}/snapshots/{s['name']}", timeout=120).status == 200, (c, s, node.log())
        if c["status"] != "failed" and node.op(c["id"], "start").status == 200:
            node.wait_booted(c["id"])
    before_end, names = said(node), [(c["project_id"], c["name"]) for c in node.list()]
    assert len(names) == len(set(names)), names
    node.restart()
    settled(node)
    node.assert_consistent()
    after = said(node)
    differ = [(path, *changed(before_end[path], after.get(path))) for path in before_end if before_end[path] != after.get(path)]
    assert not differ, differ
    for c in node.list():
        assert node.delete(c["id"]).status == 200, c
    for image in node.get("/api/v1/node/images").data["images"]:
        if "storm/1" in image["aliases"] or not image["aliases"]:
            node.call("DELETE", f"/api/v1/node/images/{image['fingerprint']}")
    emptied(node)
    assert {"subvolumes": subvolumes(node), "rows": rows(node), "mounts": sorted(node.mounts())} == before
    assert "answered twice" not in run("cat", node.log_path)
