# SPDX-License-Identifier: Apache-2.0
"""Reading all that is in the pool: what is wrong is found and told, and it goes on after whatever happens."""
import json
import os
import sqlite3
import subprocess

import pytest
from daemon import Daemon
from world import BUILD, run, wait_for

MIB = 1 << 20


@pytest.fixture
def node():
    d = Daemon(loop_bytes=1024 * MIB, storage__scrub_rate="0")
    d.start()
    yield d
    d.close()


def scrub(node):
    return node.get("/api/v1/node/storage").data["scrub"]


def act(node, action):
    return node.post("/api/v1/node/storage/scrub", {"action": action})


def finished(node):
    return wait_for(lambda: next((s for s in [scrub(node)] if s["state"] != "running"), None), 60, what="the end")


def events(node, component):
    all_of = node.get("/api/v1/events?event_type=server.health_changed").data["events"]
    return [e["payload"] for e in all_of if e["payload"]["component"] == component]


def test_a_clean_pool(node):
    assert scrub(node)["state"] == "never" and scrub(node)["started_at"] is None
    assert act(node, "cancel").status == 400
    r = act(node, "start")
    assert (r.status, r.data["state"]) == (200, "running")
    done = finished(node)
    assert (done["state"], done["errors"], done["problem"]) == ("finished", 0, None), done
    assert done["done_bytes"] == done["total_bytes"] > 100 * MIB and done["ended_at"] >= done["started_at"]
    assert events(node, "scrub") == []
    node.restart()
    assert scrub(node) == done, "it is remembered"
    for body in ({}, {"action": "stop"}, None):
        r = node.post("/api/v1/node/storage/scrub", body)
        assert (r.status, r.json["field"]) == (400, "action"), r
    ctl = [f"{BUILD}/nodectl", "--socket", node.socket]
    assert "finished" in subprocess.run([*ctl, "storage", "show"], capture_output=True, text=True, check=True).stdout
    assert "running" in subprocess.run([*ctl, "storage", "scrub", "start"], capture_output=True, text=True, check=True).stdout
    finished(node)
    assert subprocess.run([*ctl, "storage", "scrub", "cancel"], capture_output=True, check=False).returncode == 1


def spoil(node, pattern):
    """Changes a byte of it on the disk below the pool."""
    with open(node.loop_file, "r+b") as f:
        at, tail = 0, b""
        while data := f.read(MIB):
            place = (tail + data).find(pattern)
            if place >= 0:
                f.seek(at - len(tail) + place)
                f.write(b"\xff")
                os.fsync(f.fileno())
                return True
            at, tail = at + len(data), data[-len(pattern):]
    return False


def test_a_spoiled_file_is_found_and_told(node):
    box = node.create("scrub-box", hoody_kit=False)["id"]
    pattern = os.urandom(64)
    path = f"{node.pool}/slots/{node.container(box)['node']['slot']}/rootfs/root/spoiled"
    with open(path, "wb") as f:
        f.write(pattern * 2048)
    run("sync", "-f", node.pool)
    assert spoil(node, pattern * 2)
    assert act(node, "start").status == 200
    done = finished(node)
    assert done["state"] == "finished" and done["errors"] - done["corrected"] >= 1, done
    told = wait_for(lambda: events(node, "scrub"), 10, what="the event")
    assert told[0]["state"] == "errors" and told[0]["errors"] >= 1 and told[0]["remedy"]
    node.restart()  # which looks at once at what the devices have counted
    told = wait_for(lambda: events(node, "device"), 10, what="the event")
    assert told[0]["errors"] >= 1
    os.unlink(path)
    run("sync", "-f", node.pool)
    assert act(node, "start").status == 200
    assert finished(node)["errors"] == 0


def test_it_goes_on_after_a_crash(node):
    node.restart("scrub.part=kill")
    assert act(node, "start").status == 200
    failed = finished(node)
    assert failed["state"] == "failed" and failed["problem"]
    node.restart("scrub.part=sleep:3000")
    assert act(node, "start").status == 200
    assert act(node, "start").status == 409
    started = scrub(node)["started_at"]
    node.kill9()
    node.start()
    done = finished(node)
    assert (done["state"], done["started_at"]) == ("finished", started)


def test_cancelled(node):
    node.restart("scrub.part=sleep:3000")
    assert act(node, "start").status == 200
    assert act(node, "cancel").data["state"] == "cancelled"
    assert scrub(node)["state"] == "cancelled"
    assert act(node, "start").status == 200
    done = finished(node)
    assert done["done_bytes"] == done["total_bytes"], "what the cancelled one was reading does not count"


def test_it_comes_by_itself(node):
    node.stop()
    with sqlite3.connect(f"{node.state}/noded.db") as db:
        (text,) = db.execute("SELECT value FROM meta WHERE key = 'scrub'").fetchone()
        record = json.loads(text)
        assert record["state"] == "never" and record["since"] > 0, "since when nothing has happened outlives restarts"
        db.execute("UPDATE meta SET value = ? WHERE key = 'scrub'", (json.dumps({**record, "since": 1000}),))
    node.start()
    wait_for(lambda: scrub(node)["state"] == "finished", 60, what="a scrub that nobody began")
