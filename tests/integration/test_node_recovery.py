# SPDX-License-Identifier: Apache-2.0
"""A database or a pool that is lost, old, empty or another node's: no byte of a container or snapshot is lost, and one command
brings the node back. The cases and their outcomes are printed as a table at the end (-s shows it)."""
import contextlib
import os
import re
import shutil
import sqlite3
import subprocess

import pytest
from daemon import PROJECT, Daemon
from world import BUILD, run, wait_for

OUTCOMES = []


def ctl(node, *argv, check=True):
    r = subprocess.run([BUILD + "/nodectl", "--socket", node.socket, *argv], capture_output=True, text=True, check=False)
    assert not check or r.returncode == 0, (argv, r.stdout, r.stderr, node.log())
    return r


def wait_held(node):
    def held():
        assert node.process.poll() is None, node.log()
        with contextlib.suppress(OSError):
            return node.get("/healthz").data["held"]
        return None
    return wait_for(held, 60, what="a held node")


def recover(node, action):
    ctl(node, "recover", action)

    def ready():
        with contextlib.suppress(OSError, ValueError):
            return node.get("/healthz").data["ready"]
        return False
    wait_for(ready, 60, what="the node after a recovery")


def start_held(node):
    node.start(wait=False)
    return wait_held(node)


def digest(node):
    """Every byte of the disks and snapshots, by the pool's own names: marks that the tests put there, and all names below."""
    found = {}
    for root in sorted(run("find", node.pool + "/slots", "-mindepth", "2", "-maxdepth", "3", "(", "-name", "rootfs", "-o", "-path",
                           "*/snapshots/*", ")").split()):
        if os.path.exists(root + "/root"):
            with contextlib.suppress(OSError), open(root + "/root/mark", encoding="utf-8") as f:
                found[root.removeprefix(node.pool)] = (f.read(), len(os.listdir(root + "/etc")))
    return found


def mark(node, cid, text):
    slot = node.container(cid)["node"]["slot"]
    with open(f"{node.pool}/slots/{slot}/rootfs/root/mark", "w", encoding="utf-8") as f:
        f.write(text)


def snapshots(node, cid):
    return sorted(s["name"] for s in node.get(f"/api/v1/containers/{cid}/snapshots").data["snapshots"])


def describe(node):
    """What clients see of all containers: enough to tell whether a recovery brought everything back."""
    return {c["id"]: {"name": c["name"], "slot": c["node"]["slot"], "ipv4": c["node"]["ipv4"], "status": c["status"],
                      "env": c["environment_vars"], "comment": c["comment"], "init": c["node"]["init_pid"],
                      "snapshots": snapshots(node, c["id"]),
                      "rules": node.get(f"/api/v1/containers/{c['id']}/firewall/rules").data} for c in node.list()}


def backup(node, to):
    """A copy of the database as a backup program makes it."""
    source, target = sqlite3.connect(node.state + "/noded.db"), sqlite3.connect(to)
    with target:
        source.backup(target)
    source.close()
    target.close()


def remove_database(node):
    for name in ("noded.db", "noded.db-wal", "noded.db-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{node.state}/{name}")


def put_database(node, file):
    remove_database(node)
    shutil.copy(file, node.state + "/noded.db")


def records_written(node):
    """The records follow the commits on a lane of their own."""
    node.wait_idle()
    node.stop()


@pytest.fixture
def node():
    with made() as n:
        yield n


@contextlib.contextmanager
def made(**more):
    run("ip", "link", "set", "lo", "up")
    n = Daemon(loop_bytes=2 << 30, **more)
    try:
        n.start()
        yield n
    finally:
        if n.process and n.process.poll() is None:
            n.process.kill()
            n.process.wait(10)
        n.close()


@pytest.fixture
def two(node):
    """One that runs, one that is stopped; both with a mark, rules, a snapshot and a variable."""
    up = node.create("running", environment_vars={"COLOUR": "green"}, comment="keep me")["id"]
    down = node.create("stopped")["id"]
    node.op(down, "force-stop")
    for cid, text in ((up, "of the running one"), (down, "of the stopped one")):
        mark(node, cid, text)
        assert node.post(f"/api/v1/containers/{cid}/snapshots", {"alias": "before"}).status == 200
        r = node.post(f"/api/v1/containers/{cid}/firewall/ingress",
                      {"action": "drop", "protocol": "tcp", "destination_port": "23"})
        assert r.status in (200, 201), r
    return up, down


def lose_nothing(node, case, damage, reason, action, seen=None):
    """Stops, damages, starts: the node is held, nothing has changed; after the action everything is as before."""
    before, bytes_before = describe(node), digest(node)
    records_written(node)
    damage()
    held = start_held(node)
    assert held["reason"] == reason, (held, node.log())
    assert "nodectl recover" in held["remedy"]
    assert node.get("/api/v1/containers").status == 503
    assert node.get("/api/v1/containers").json["code"] == "NODE_HELD"
    assert ctl(node, "list", check=False).returncode != 0
    shown = ctl(node, "recover").stdout
    assert reason in shown, shown
    if seen:
        assert all(word in shown for word in seen), shown
    if action:
        recover(node, action)
        assert describe(node) == before
        assert digest(node) == bytes_before
        node.assert_consistent()
    OUTCOMES.append((case, reason, f"nodectl recover {action}", "every container, snapshot, rule and variable is back"))
    return before, bytes_before


def test_the_database_is_removed(node, two):
    lose_nothing(node, "database removed", lambda: remove_database(node), "database_lost", "adopt", ["running", "stopped"])
    assert node.op(two[1], "start").status == 200
    assert node.create("afterwards")["node"]["slot"] == 3


def test_the_database_is_emptied(node, two):
    def empty():
        remove_database(node)
        open(node.state + "/noded.db", "wb").close()
    lose_nothing(node, "database emptied", empty, "database_lost", "adopt")


def test_the_state_directory_is_not_mounted(node, two):
    before, bytes_before = describe(node), digest(node)
    records_written(node)
    run("mount", "-t", "tmpfs", "tmpfs", node.state)
    assert start_held(node)["reason"] == "database_lost"
    node.stop()
    run("umount", node.state)
    node.start()
    assert describe(node) == before and digest(node) == bytes_before
    OUTCOMES.append(("state directory not mounted", "database_lost", "mount it, restart noded", "nothing was touched"))


def test_the_state_directory_is_mounted_while_the_node_is_held(node, two):
    before = describe(node)
    records_written(node)
    os.rename(node.state, node.state + ".away")
    os.mkdir(node.state)
    assert start_held(node)["reason"] == "database_lost"
    run("mount", "--bind", node.state + ".away", node.state)
    try:
        recover(node, "retry")
        assert describe(node) == before
        node.stop()
    finally:
        run("umount", node.state)
    shutil.rmtree(node.state)
    os.rename(node.state + ".away", node.state)
    OUTCOMES.append(("state directory mounted late", "database_lost", "nodectl recover retry", "nothing was touched"))


@pytest.mark.parametrize("age", ["an hour", "a day", "a schema"])
def test_the_database_is_older(node, two, age, tmp_path):
    up, down = two
    old = str(tmp_path / "old.db")
    backup(node, old)
    if age == "a schema":
        with sqlite3.connect(old) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            db.execute("DROP TABLE images")
            db.execute(f"PRAGMA user_version = {version - 1}")
        db.close()
    # What the backup has not seen: a new container and snapshot, another name and variable, a deleted container whose slot and
    # name another one has got, a deleted snapshot.
    assert node.call("PATCH", f"/api/v1/containers/{up}", {"name": "renamed"}).status == 200
    assert node.call("PUT", f"/api/v1/containers/{up}/env/COLOUR", {"value": "red"}).status == 200
    first = snapshots(node, up)
    assert node.post(f"/api/v1/containers/{up}/snapshots", {"alias": "second"}).status == 200
    if age != "an hour":
        assert node.call("DELETE", f"/api/v1/containers/{up}/snapshots/{first[0]}").status == 200
        slot = node.container(down)["node"]["slot"]
        assert node.delete(down).status == 200
        successor = node.create("stopped")["id"]
        assert node.container(successor)["node"]["slot"] == slot
        mark(node, successor, "of the successor")
    node.create("younger")
    before, bytes_before = describe(node), digest(node)
    records_written(node)
    put_database(node, old)
    held = start_held(node)
    assert held["reason"] == "database_old", held
    assert digest(node) == bytes_before
    recover(node, "adopt")
    after = describe(node)
    if age == "an hour":
        assert after == before
    else:
        # The database still tells of the deleted container and snapshot; they are listed as what they are, and can be deleted.
        lost = after.pop(down)
        assert lost["status"] == "failed" and lost["name"].startswith("stopped-"), lost
        listed = {s["name"]: s for s in node.get(f"/api/v1/containers/{up}/snapshots").data["snapshots"]}
        assert listed[first[0]]["missing"] is True
        r = node.call("PUT", f"/api/v1/containers/{up}/snapshots/{first[0]}")
        assert (r.status, r.json["code"]) == (409, "SNAPSHOT_MISSING"), r
        assert node.call("DELETE", f"/api/v1/containers/{up}/snapshots/{first[0]}").status == 200
        assert node.delete(down).status == 200
        assert describe(node) == before
    assert digest(node) == bytes_before
    node.assert_consistent()
    OUTCOMES.append((f"database older by {age}", "database_old", "nodectl recover adopt", "newest names, rules, snapshots are back"))


def test_an_old_database_can_be_accepted(node, two, tmp_path):
    """The operator decides otherwise: the new container's disk is quarantined, its slot given to nobody."""
    old = str(tmp_path / "old.db")
    backup(node, old)
    younger = node.create("younger")["id"]
    node.op(younger, "force-stop")
    mark(node, younger, "of the younger one")
    bytes_before = digest(node)
    records_written(node)
    put_database(node, old)
    start_held(node)
    recover(node, "accept")
    assert digest(node) == bytes_before
    assert node.get("/healthz").data["records"]["quarantined"] == 1
    assert "run \"nodectl recover\"" in ctl(node, "health").stdout
    assert node.create("newest")["node"]["slot"] == 4, "a quarantined slot was given away"
    node.restart()
    assert digest(node).items() >= bytes_before.items()
    recover(node, "adopt")
    assert node.container(younger)["status"] == "stopped"
    assert node.op(younger, "start").status == 200
    assert node.get("/healthz").data["records"]["quarantined"] == 0
    OUTCOMES.append(("old database accepted", "database_old", "nodectl recover accept", "unknown disk quarantined, adopted later"))


def test_the_file_of_the_pool_is_gone(node, two):
    """Only what is stopped: a pool whose containers run cannot be taken away."""
    node.op(two[0], "force-stop")
    before, bytes_before = describe(node), digest(node)
    records_written(node)
    node.job("pool.close")
    os.rename(node.loop_file, node.loop_file + ".away")
    assert start_held(node)["reason"] == "pool_missing"
    assert not os.path.exists(node.loop_file), "a new file was made although the database knows containers"
    assert node.get("/healthz").data["storage"]["pool"] == "missing"
    assert node.get("/api/v1/node").data["capacity"]["pool_total_bytes"] == 0
    os.rename(node.loop_file + ".away", node.loop_file)
    recover(node, "retry")
    assert describe(node) == before and digest(node) == bytes_before
    OUTCOMES.append(("pool's file missing", "pool_missing", "nodectl recover retry", "no new file was made"))


def test_the_pool_is_replaced_by_an_empty_one(node, two):
    node.op(two[0], "force-stop")
    before, bytes_before = describe(node), digest(node)
    records_written(node)
    node.job("pool.close")
    os.rename(node.loop_file, node.loop_file + ".away")
    node.job("pool.open", args={"loop_file": node.loop_file, "loop_bytes": 1 << 30})
    assert start_held(node)["reason"] == "pool_empty"
    recover(node, "accept")
    assert {c["status"] for c in node.list()} == {"failed"}
    assert node.get("/healthz").data["records"]["missing_containers"] == 2
    assert {s["missing"] for s in node.get(f"/api/v1/containers/{two[0]}/snapshots").data["snapshots"]} == {True}
    assert node.create("on-the-new-pool")["status"] == "running"
    node.stop()
    # The first pool comes back after all: the database has another one by now, so nothing is mixed.
    for c in node.inventory()["slots"]:
        node.job("container.destroy", c["slot"])
    node.job("pool.close")
    os.unlink(node.loop_file)
    os.rename(node.loop_file + ".away", node.loop_file)
    assert start_held(node)["reason"] == "pool_foreign"
    assert digest(node) == bytes_before
    node.stop()
    remove_database(node)
    assert start_held(node)["reason"] == "database_lost"
    recover(node, "adopt")
    assert describe(node) == before and digest(node) == bytes_before
    OUTCOMES.append(("pool replaced by an empty one", "pool_empty", "nodectl recover accept", "rows stay as failed; first pool untouched"))


def test_the_pool_is_another_nodes(two, node):
    node.op(two[0], "force-stop")
    before, bytes_before = describe(node), digest(node)
    with made() as other:
        theirs = other.create("of-the-other-node")["id"]
        other.op(theirs, "force-stop")
        mark(other, theirs, "of the other node")
        their_bytes = digest(other)
        records_written(other)
        records_written(node)
        for n in (node, other):
            n.job("pool.close")
        os.rename(node.loop_file, node.loop_file + ".own")
        os.rename(other.loop_file, node.loop_file)
        held = start_held(node)
        assert held["reason"] == "pool_foreign", held
        r = node.post("/api/v1/node/recovery", {"action": "adopt"})
        assert r.status == 409 and "database" in r.json["message"], r
        r = node.post("/api/v1/node/recovery", {"action": "accept"})
        assert r.status == 409 and theirs in r.json["message"], r
        assert digest(node) == their_bytes
        node.stop()
        node.job("pool.close")
        os.rename(node.loop_file, other.loop_file)
        os.rename(node.loop_file + ".own", node.loop_file)
        node.start()
        other.start()
        assert describe(node) == before and digest(node) == bytes_before
        assert digest(other) == their_bytes and other.container(theirs)["status"] == "stopped"
    OUTCOMES.append(("pool of another node", "pool_foreign", "mount the right one, restart", "neither node's data was touched"))


def test_both_are_new_on_a_server_that_had_a_node(node):
    records_written(node)
    remove_database(node)
    node.job("pool.close")
    os.unlink(node.loop_file)
    assert start_held(node)["reason"] == "state_lost"
    recover(node, "accept")
    assert node.create("new-life")["status"] == "running"
    OUTCOMES.append(("database and pool both new", "state_lost", "nodectl recover accept", "an empty node by decision only"))


def test_records_that_are_damaged(node, two):
    """A flipped byte in a record is noticed; the disk is kept, under a name that tells where it was."""
    slot = node.container(two[1])["node"]["slot"]
    bytes_before = digest(node)
    records_written(node)
    path = f"{node.pool}/slots/{slot}/records/container.json"
    with open(path, "r+b") as f:
        text = bytearray(f.read())
        text[len(text) // 2] ^= 1
        f.seek(0)
        f.write(text)
    remove_database(node)
    start_held(node)
    recover(node, "adopt")
    assert digest(node) == bytes_before
    names = {c["name"] for c in node.list()}
    assert names == {"running", f"recovered-{slot}"}, names
    found = next(c for c in node.list() if c["name"] == f"recovered-{slot}")
    assert snapshots(node, found["id"]), "its snapshot was lost"
    assert node.op(found["id"], "start").status == 200
    OUTCOMES.append(("a record damaged, database lost", "database_lost", "nodectl recover adopt", "kept as recovered-<slot>"))


def test_a_database_whose_page_is_damaged_is_refused(node, two):
    records_written(node)
    db = sqlite3.connect(node.state + "/noded.db")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page_size = db.execute("PRAGMA page_size").fetchone()[0]
    root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'containers'").fetchone()[0]
    db.close()
    with open(node.state + "/noded.db", "r+b") as f:
        f.seek((root - 1) * page_size)
        f.write(b"\xff" * 64)
    bytes_before = digest(node)
    node.start(wait=False)
    assert node.process.wait(30) == 1
    assert "the database cannot be used" in node.log() and "nodectl recover" in node.log(), node.log()
    assert digest(node) == bytes_before
    remove_database(node)
    start_held(node)
    recover(node, "adopt")
    assert {c["name"] for c in node.list()} == {"running", "stopped"}
    OUTCOMES.append(("database damaged", "noded refuses to start", "move it away, nodectl recover adopt", "everything is back"))


@pytest.mark.parametrize("point", ["recover.adopt", "recover.adopted"])
def test_a_crash_during_the_recovery(node, two, point):
    before, bytes_before = describe(node), digest(node)
    records_written(node)
    remove_database(node)
    node.start(failpoint=point + "=kill", wait=False)
    wait_held(node)
    with contextlib.suppress(OSError):
        ctl(node, "recover", "adopt", check=False)
    node.wait_dead()
    if point == "recover.adopt":
        start_held(node)
        recover(node, "adopt")
    else:
        node.start()
    assert describe(node) == before and digest(node) == bytes_before


def test_a_crash_while_records_are_written(node, two):
    """Half of a record is never taken for one, and the next start writes what is missing."""
    before = describe(node)
    records_written(node)
    slots = [c["slot"] for c in before.values()]
    for slot in slots:
        shutil.rmtree(f"{node.pool}/slots/{slot}/records")
    node.start(failpoint="mirror.written=kill", wait=False)
    node.wait_dead()
    node.start()
    records_written(node)
    for slot in slots:
        assert {"container.json", "firewall.json"} <= set(os.listdir(f"{node.pool}/slots/{slot}/records"))
    remove_database(node)
    start_held(node)
    recover(node, "adopt")
    assert describe(node) == before


def rules_of(node):
    """The node's table without what it has counted."""
    return re.sub(r"packets \d+ bytes \d+", "", node.table())


def test_running_containers_notice_nothing_of_a_hold(node, two):
    """Their processes and their packets go on while the node is held, and after it is not."""
    up = two[0]
    address, pid = node.container(up)["node"]["ipv4"], node.container(up)["node"]["init_pid"]
    table = rules_of(node)
    records_written(node)
    remove_database(node)
    start_held(node)
    assert rules_of(node) == table
    assert run("ping", "-c", "1", "-W", "10", address) if shutil.which("ping") else True
    recover(node, "adopt")
    assert node.container(up)["node"]["init_pid"] == pid


def test_wrong_decisions_are_refused(node):
    assert node.post("/api/v1/node/recovery", {"action": "accept"}).status == 409
    assert node.post("/api/v1/node/recovery", {"action": "burn"}).json["field"] == "action"
    assert node.post("/api/v1/node/recovery", {}).status == 400
    assert ctl(node, "recover").returncode == 0
    assert ctl(node, "recover", "burn", check=False).returncode != 0
    assert PROJECT in str(node.get("/api/v1/projects").data)


def test_the_table_of_cases():
    """Last: what was tried, and what came out."""
    rows = [("case", "noded says", "command", "outcome"), *OUTCOMES]
    widths = [max(len(r[i]) for r in rows) for i in range(3)]
    print()
    for r in rows:
        print("  ".join(r[i].ljust(widths[i]) for i in range(3)) + "  " + r[3])
    assert len(OUTCOMES) >= 13, "a case is missing: run the whole file"
