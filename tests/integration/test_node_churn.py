# SPDX-License-Identifier: Apache-2.0
"""
Random operations on a few containers, compared with a model of what they should do: contents of the disk over snapshot,
restore, copy and sync, states, rules, forwards, shares. The node is killed in between. In the end everything is deleted,
and nothing may be left: no subvolume, mount, row or byte.

    tests/run tests/integration/test_node_churn.py
    NODED_CHURN_OPERATIONS=10000 tests/run tests/integration/test_node_churn.py      two weeks of a busy server
"""
import os
import random
import sqlite3
import subprocess

import pytest
from daemon import PROJECT, Daemon
from world import run, wait_for

OPERATIONS = int(os.environ.get("NODED_CHURN_OPERATIONS", "120"))
SEED = int(os.environ.get("NODED_CHURN_SEED", "1"))
CONTAINERS_MAX, SNAPSHOTS_MAX = 5, 4
LOOK_EVERY, KILL_EVERY = 20, 30
TABLES = ("containers", "snapshots", "firewalls", "network_configs", "shares", "intents")


class Box:
    """What a container should be."""

    def __init__(self, cid, note, running=True, source=None):
        self.id, self.note, self.running, self.source = cid, note, running, source
        self.paused, self.snapshots, self.rules, self.forwards, self.network = False, {}, 0, [], None


class Churn:
    def __init__(self, node, seed):
        self.node, self.random, self.boxes, self.count, self.done = node, random.Random(seed), [], 0, {}
        self.actions = [self.create, self.copy, self.sync, self.delete, self.start, self.stop, self.pause, self.write,
                        self.write, self.snapshot, self.snapshot, self.restore, self.snapshot_delete, self.rule,
                        self.forward, self.network, self.environment, self.share]

    # Helpers: an action that has nothing to do now returns None.

    def fresh(self, word):
        self.count += 1
        return f"{word}-{self.count}"

    def pick(self, condition=lambda b: True):
        fit = [b for b in self.boxes if condition(b)]
        return self.random.choice(fit) if fit else None

    def call(self, method, path, body=None, ok=(200, 201, 202)):
        r = self.node.call(method, path, body)
        assert r.status in ok, (method, path, body, r)
        return r.data

    def at(self, box, rest=""):
        return f"/api/v1/containers/{box.id}{rest}"

    def rootfs(self, box, path):
        slot = self.node.container(box.id)["node"]["slot"]
        return f"{self.node.pool}/slots/{slot}/rootfs{path}"

    # Actions.

    def create(self):
        if len(self.boxes) >= CONTAINERS_MAX:
            return None
        c = self.node.create(self.fresh("churn"), hoody_kit=False)
        self.boxes.append(Box(c["id"], None))
        return True

    def copy(self):
        source = self.pick()
        if not source or len(self.boxes) >= CONTAINERS_MAX:
            return None
        body = {"target_project_id": PROJECT, "name": self.fresh("churn")}
        snapshot = self.random.choice([None, *source.snapshots])
        if snapshot:
            body["source_snapshot"] = snapshot
        data = self.call("POST", self.at(source, "/copy?wait=true"), body)
        box = Box(data["id"], source.snapshots[snapshot] if snapshot else source.note, source=source.id)
        if not snapshot:
            box.snapshots = dict(source.snapshots)
        self.boxes.append(box)
        return True

    def sync(self):
        box = self.pick(lambda b: not b.paused and b.source and any(s.id == b.source and not s.paused for s in self.boxes))
        if not box:
            return None
        self.call("POST", self.at(box, "/sync?wait=true"))
        box.note = next(s for s in self.boxes if s.id == box.source).note
        return True

    def delete(self):
        box = self.pick()
        if not box or len(self.boxes) < 3:
            return None
        self.node.delete(box.id)
        self.boxes.remove(box)
        return True

    def start(self):
        box = self.pick(lambda b: not b.running)
        if box:
            assert self.node.op(box.id, "start").status == 200
            box.running = True
        return box

    def stop(self):
        box = self.pick(lambda b: b.running and not b.paused)
        if box:
            assert self.node.op(box.id, self.random.choice(["stop", "force-stop"])).status == 200
            box.running = False
        return box

    def pause(self):
        box = self.pick(lambda b: b.running)
        if not box:
            return None
        r = self.node.op(box.id, "resume" if box.paused else "pause")
        # A process that waits for a slow disk cannot be frozen: that is said in time, and all go on as before.
        assert r.status == 200 or (r.status == 504 and not box.paused), r
        box.paused = not box.paused and r.status == 200
        return True

    def write(self):
        """Also into a subvolume of its own, as Docker has them."""
        box = self.pick()
        if not box:
            return None
        nested = self.rootfs(box, "/srv/nested")
        if not os.path.exists(nested):
            run("btrfs", "subvolume", "create", nested)
        box.note = self.fresh("note")
        for path in (self.rootfs(box, "/root/note"), nested + "/note"):
            with open(path, "w", encoding="ascii") as f:
                f.write(box.note)
        return box

    def snapshot(self):
        box = self.pick(lambda b: len(b.snapshots) < SNAPSHOTS_MAX)
        if not box:
            return None
        name = self.call("POST", self.at(box, "/snapshots"), {"alias": self.fresh("s")})["snapshot"]["name"]
        box.snapshots[name] = box.note
        return True

    def restore(self):
        box = self.pick(lambda b: b.snapshots)
        if not box:
            return None
        name = self.random.choice(list(box.snapshots))
        self.call("PUT", self.at(box, f"/snapshots/{name}"))
        box.note, box.running, box.paused = box.snapshots[name], True, False
        return True

    def snapshot_delete(self):
        box = self.pick(lambda b: b.snapshots)
        if not box:
            return None
        name = self.random.choice(list(box.snapshots))
        self.call("DELETE", self.at(box, f"/snapshots/{name}"))
        del box.snapshots[name]
        return True

    def rule(self):
        box = self.pick()
        if not box:
            return None
        if box.rules > 3:
            self.call("POST", self.at(box, "/firewall/reset"))
            box.rules = 0
        else:
            self.call("POST", self.at(box, f"/firewall/{self.random.choice(['ingress', 'egress'])}"), {
                "action": "drop", "protocol": "tcp", "destination_port": str(1000 + self.count), "description": self.fresh("r")})
            box.rules += 1
        return True

    def forward(self):
        box = self.pick()
        if not box:
            return None
        if box.forwards:
            self.call("DELETE", self.at(box, f"/forwards/tcp/{box.forwards.pop()}"))
        else:
            self.count += 1
            box.forwards.append(20000 + self.count)
            self.call("POST", self.at(box, "/forwards"), {"host_port": box.forwards[0], "container_port": 80})
        return True

    def network(self):
        box = self.pick()
        if not box:
            return None
        if box.network:
            self.call("DELETE", self.at(box, "/network"))
        else:
            self.call("PUT", self.at(box, "/network"), {"type": "block"})
            self.call("POST", self.at(box, "/network/start"))
        box.network = not box.network
        return True

    def environment(self):
        box = self.pick(lambda b: not b.paused)
        if box:
            self.call("PUT", self.at(box, "/env/CHURN"), {"value": self.fresh("v")})
        return box

    def share(self):
        source, target = self.pick(lambda b: not b.paused), self.pick(lambda b: not b.paused)
        if not source or source is target:
            return None
        mine = self.node.get(self.at(source, "/storage/shares")).data
        if mine:
            self.call("DELETE", f"/api/v1/storage/shares/{mine[0]['id']}")
        else:
            self.call("POST", self.at(source, "/storage/shares"),
                      {"source_path": "/srv", "mode": "readonly", "target_container_id": target.id})
        return True

    # Looks.

    def look(self):
        self.node.wait_idle()
        listed = {c["id"]: c for c in self.node.list()}
        assert sorted(listed) == sorted(b.id for b in self.boxes)
        for b in self.boxes:
            wanted = "paused" if b.paused else "running" if b.running else "stopped"
            assert listed[b.id]["status"] == wanted, (b.id, listed[b.id], wanted)
            names = {s["name"] for s in self.node.get(self.at(b, "/snapshots")).data["snapshots"]}
            assert names == set(b.snapshots), b.id
            assert [f["host_port"] for f in self.node.get(self.at(b, "/forwards")).data["forwards"]] == b.forwards
            for path in ("/root/note", "/srv/nested/note"):
                file = self.rootfs(b, path)
                text = open(file, encoding="ascii").read() if os.path.exists(file) else None
                assert text == b.note, (b.id, path)
        self.node.assert_consistent()

    def step(self):
        action = self.random.choice(self.actions)
        if action():
            self.done[action.__name__] = self.done.get(action.__name__, 0) + 1
            return True
        return False


@pytest.fixture
def node():
    d = Daemon(loop_bytes=6 << 30).start()
    yield d
    d.close()


def subvolumes(node):
    return sorted(line.split(" path ")[1] for line in run("btrfs", "subvolume", "list", node.pool).splitlines())


def used(node):
    """After the kernel has reclaimed what is deleted."""
    subprocess.run(["btrfs", "subvolume", "sync", node.pool], check=True, capture_output=True, timeout=300)
    run("btrfs", "filesystem", "sync", node.pool)
    st = os.statvfs(node.pool)
    return (st.f_blocks - st.f_bfree) * st.f_frsize


def rows(node):
    with sqlite3.connect(f"file:{node.state}/noded.db?mode=ro", uri=True) as db:
        tables = {r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in TABLES if t in tables}


def emptied(node):
    node.wait_idle()
    # At most 64 at a time, each time after the kernel has cleaned up the last ones, which it does every 30 s.
    wait_for(lambda: not os.listdir(f"{node.pool}/trash"), 300, 1, "an empty trash")


def test_churn(node):
    first = node.create("first", hoody_kit=False)["id"]  # its image is in the pool then
    node.delete(first)
    emptied(node)
    before = {"subvolumes": subvolumes(node), "rows": rows(node), "mounts": sorted(node.mounts())}
    bytes_before = used(node)
    churn, done = Churn(node, SEED), 0
    while done < OPERATIONS:
        if not churn.step():
            continue
        done += 1
        if done % KILL_EVERY == 0:
            node.kill9()
            node.start()
        if done % LOOK_EVERY == 0:
            churn.look()
    churn.look()
    for box in list(churn.boxes):
        node.delete(box.id)
    emptied(node)
    assert {"subvolumes": subvolumes(node), "rows": rows(node), "mounts": sorted(node.mounts())} == before
    # What b-trees and chunks take comes and goes; what containers wrote must not stay.
    assert used(node) - bytes_before < 16 << 20, (used(node), bytes_before, churn.done)
    print(f"churn: seed {SEED}, {done} operations: {churn.done}")
