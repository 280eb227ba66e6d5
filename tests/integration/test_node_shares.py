# SPDX-License-Identifier: Apache-2.0
"""Shares: live mounts between real containers, who may do what with them, and how long they last."""
import http.client
import os
import sqlite3
import subprocess
import threading
import time

import pytest
from daemon import PROJECT, Daemon
from world import wait_for

OTHER = "0" * 23 + "7"


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def boxes(node):
    """A source and two receivers in the default project."""
    ids = [node.create(name, hoody_kit=False)["id"] for name in ("giver", "taker", "third")]
    for cid in ids:
        node.wait_booted(cid)
    node.inside(ids[0], "sh", "-c", "mkdir -p /srv/data/deep && echo hello > /srv/data/file && chown -R 1000:1000 /srv/data")
    return ids


@pytest.fixture
def share(node, boxes):
    made = []

    def create(path="/srv/data", source=boxes[0], **more):
        body = {"source_path": path, "mode": "readonly", **more}
        if "target_project_id" not in more:
            body.setdefault("target_container_id", boxes[1])
        r = node.post(f"/api/v1/containers/{source}/storage/shares", body)
        assert r.status == 201, r
        made.append(r.data["id"])
        return r.data["id"]
    yield create
    for sid in made:
        assert node.call("DELETE", f"/api/v1/storage/shares/{sid}").status in (200, 404)
    for cid in boxes:
        wait_for(lambda cid=cid: mounted(node, cid) == [], 10, what="no mounts")


def mounted(node, cid):
    """Ids of what is mounted, as the container sees it."""
    return sorted(line.split()[1].split("/")[-1] for line in node.inside(cid, "cat", "/proc/mounts").splitlines()
                  if line.split()[1].startswith("/hoody/shares/"))


def shell(node, cid, script):
    return node.inside(cid, "sh", "-c", script, check=False)


def get(node, sid, source):
    return node.get(f"/api/v1/containers/{source}/storage/shares/{sid}").data


def test_ids_agree_on_both_sides(node, boxes, share):
    sid = share(mode="readwrite")
    where = f"/hoody/shares/{sid}"
    wait_for(lambda: mounted(node, boxes[1]) == [sid], 10, what="the mount")
    assert shell(node, boxes[1], f"cat {where}/file; stat -c '%u:%g' {where}/file") == "hello\n1000:1000"
    shell(node, boxes[1], f"touch {where}/root {where}/user; chown 1000:1000 {where}/user")
    assert shell(node, boxes[0], "stat -c '%u' /srv/data/root /srv/data/user") == "0\n1000"
    options = [line for line in node.inside(boxes[1], "cat", "/proc/mounts").splitlines() if where in line][0].split()[3].split(",")
    assert "nosuid" in options and "nodev" in options and "rw" in options


def test_the_receivers_root_cannot_make_it_writable(node, boxes, share):
    sid = share()
    where = f"/hoody/shares/{sid}"
    wait_for(lambda: mounted(node, boxes[1]) == [sid], 10, what="the mount")
    for attempt in (f"mount -o remount,bind,rw {where}", f"mount -o remount,bind,suid,ro {where}",
                    f"mkdir -p /mnt/b && mount --bind {where} /mnt/b && mount -o remount,bind,rw /mnt/b && touch /mnt/b/x",
                    f"unshare -m sh -c 'mount -o remount,bind,rw {where} && touch {where}/x'", f"touch {where}/x"):
        assert shell(node, boxes[1], f"({attempt}) 2>/dev/null && echo done") == "", attempt
    assert shell(node, boxes[0], "ls /srv/data/x 2>/dev/null || echo none") == "none"
    shell(node, boxes[1], "umount /mnt/b; rmdir /mnt/b")
    assert mounted(node, boxes[1]) == [sid]


def test_restarts_of_both_sides(node, boxes, share):
    sid = share()
    where = f"/hoody/shares/{sid}/file"
    for cid in boxes[:2]:
        for how in ("restart", "force-stop"):
            assert node.op(cid, how, {"timeout": 10} if how == "restart" else None).status == 200
            if how == "force-stop":
                if cid == boxes[0]:
                    assert shell(node, boxes[1], f"cat {where}") == "hello", "the source's disk serves on"
                assert node.op(cid, "start").status == 200
            assert shell(node, boxes[1], f"cat {where}") == "hello"
    node.wait_booted(boxes[1])
    before = node.container(boxes[1])["node"]["init_pid"]
    shell(node, boxes[1], "systemctl reboot")
    wait_for(lambda: node.container(boxes[1])["node"]["init_pid"] not in (0, before), 40, what="a reboot")
    wait_for(lambda: shell(node, boxes[1], f"cat {where}") == "hello", 10, what="the mount after a reboot from the inside")
    node.wait_booted(boxes[0])
    node.wait_booted(boxes[1])


def test_restore_of_the_source_shows_the_restored_directory(node, boxes, share):
    sid = share()
    where = f"/hoody/shares/{sid}/state"
    shell(node, boxes[0], "echo old > /srv/data/state; sync -f /srv/data")
    assert node.post(f"/api/v1/containers/{boxes[0]}/snapshots", {"alias": "share"}).status == 200
    shell(node, boxes[0], "echo new > /srv/data/state")
    assert shell(node, boxes[1], f"cat {where}") == "new"
    assert node.call("PUT", f"/api/v1/containers/{boxes[0]}/snapshots/share").status == 200
    wait_for(lambda: shell(node, boxes[1], f"cat {where}") == "old", 10, what="the restored state")
    assert node.call("DELETE", f"/api/v1/containers/{boxes[0]}/snapshots/share").status == 200
    node.wait_booted(boxes[0])


def test_project_shares_reach_present_and_future_members(node, boxes, share):
    sid = share(target_project_id=PROJECT)
    wait_for(lambda: mounted(node, boxes[1]) == [sid] == mounted(node, boxes[2]), 10, what="both mounts")
    assert mounted(node, boxes[0]) == [], "never to its own source"
    late = node.create("late", hoody_kit=False)["id"]
    assert mounted(node, late) == [sid]
    direct = share(target_container_id=late)
    assert [s["id"] for s in node.get(f"/api/v1/containers/{late}/storage/incoming").data] == [direct], "the direct one wins"
    wait_for(lambda: mounted(node, late) == [direct], 10, what="the direct mount")
    stranger = node.post(f"/api/v1/projects/{OTHER}/containers?wait=true", {"server_id": "self", "name": "far", "hoody_kit": False}).data["id"]
    assert mounted(node, stranger) == [] and node.get(f"/api/v1/containers/{stranger}/storage/incoming").data == []
    for cid in (late, stranger):
        assert node.delete(cid).status == 200
    assert node.get(f"/api/v1/containers/{boxes[0]}/storage/shares").data[-1]["id"] == sid, "the direct one went with its receiver"


def test_a_missing_directory_is_told_and_mends_itself(node, boxes, share):
    r = node.post(f"/api/v1/containers/{boxes[0]}/storage/shares",
                  {"source_path": "/srv/later", "mode": "readonly", "target_container_id": boxes[1]})
    assert r.status == 201 and r.data["status"] == "failed" and "/srv/later" in r.data["status_message"], r
    path = f"/api/v1/containers/{boxes[0]}/storage/shares/{r.data['id']}"
    assert node.get(path).data == r.data
    shell(node, boxes[0], "mkdir /srv/later")
    again = node.call("PATCH", path, {"enabled": True})
    assert again.status == 200 and (again.data["status"], again.data["status_message"]) == ("active", None)
    assert mounted(node, boxes[1]) == [r.data["id"]]
    assert node.call("DELETE", f"/api/v1/storage/shares/{r.data['id']}").status == 200


def test_the_answer_comes_when_it_holds(node, boxes, share):
    """The receivers' jobs take their time; nothing here waits for anything but the answers."""
    node.restart("shares.begin=sleep:700")
    try:
        sid = share(mode="readwrite", target_project_id=PROJECT)
        path, where = f"/api/v1/containers/{boxes[0]}/storage/shares/{sid}", f"/hoody/shares/{sid}"
        assert mounted(node, boxes[1]) == [sid] == mounted(node, boxes[2])
        assert shell(node, boxes[1], f"touch {where}/new && echo done") == "done"
        assert node.call("PATCH", path, {"mode": "readonly"}).status == 200
        for cid in boxes[1:]:
            assert shell(node, cid, f"touch {where}/new 2>/dev/null && echo done") == ""
        switch = f"/api/v1/containers/{boxes[1]}/storage/incoming/{sid}/mount"
        assert node.call("PATCH", switch, {"mount": False}).status == 200 and mounted(node, boxes[1]) == []
        assert node.call("PATCH", switch, {"mount": True}).status == 200 and mounted(node, boxes[1]) == [sid]
        assert node.call("PATCH", path, {"enabled": False}).status == 200 and mounted(node, boxes[1]) == [] == mounted(node, boxes[2])
        assert node.call("PATCH", path, {"enabled": True}).status == 200 and mounted(node, boxes[1]) == [sid]
        assert node.call("DELETE", f"/api/v1/storage/shares/{sid}").status == 200
        assert mounted(node, boxes[1]) == [] == mounted(node, boxes[2])
    finally:
        node.restart()


def test_what_cannot_be_brought_in_is_said(node, boxes, share):
    sid = share(mode="readwrite")
    path = f"/api/v1/containers/{boxes[0]}/storage/shares/{sid}"
    node.restart("shares.begin=error")
    node.wait_idle()
    r = node.call("PATCH", path, {"mode": "readonly"})
    assert r.status >= 500 and "recorded, but not in effect yet" in r.json["message"], r
    r = node.call("PATCH", f"/api/v1/containers/{boxes[1]}/storage/incoming/{sid}/mount", {"mount": False})
    assert r.status >= 500 and "recorded, but not in effect yet" in r.json["message"], r
    node.restart()
    wait_for(lambda: mounted(node, boxes[1]) == [], 10, what="what was recorded")
    assert get(node, sid, boxes[0])["mode"] == "readonly"


def test_receivers_that_do_not_run(node, boxes, share):
    """Of a stopped one nothing is to be waited for; one that is on its way down is waited for."""
    assert node.op(boxes[1], "force-stop").status == 200
    sid = share("/srv/not-there")
    assert get(node, sid, boxes[0])["status"] == "active", "nobody has tried"
    assert node.call("DELETE", f"/api/v1/storage/shares/{sid}").status == 200
    sid = share(mode="readwrite")
    assert node.op(boxes[1], "start").status == 200 and mounted(node, boxes[1]) == [sid]
    node.wait_booted(boxes[1])
    node.inside(boxes[1], "systemctl", "mask", "--runtime", "halt.target")
    stop = threading.Thread(target=node.op, args=(boxes[1], "stop", {"timeout": 3}))
    stop.start()
    wait_for(lambda: node.container(boxes[1])["operation"], 5, what="the stop")
    assert node.call("DELETE", f"/api/v1/storage/shares/{sid}").status == 200
    assert node.container(boxes[1])["status"] == "stopped"
    stop.join()
    assert node.op(boxes[1], "start").status == 200 and mounted(node, boxes[1]) == []
    node.wait_booted(boxes[1])


def test_disabled_and_expired(node, boxes, share):
    sid = share()
    path = f"/api/v1/containers/{boxes[0]}/storage/shares/{sid}"
    wait_for(lambda: mounted(node, boxes[1]) == [sid], 10, what="the mount")
    assert node.call("PATCH", path, {"enabled": False}).status == 200
    wait_for(lambda: mounted(node, boxes[1]) == [], 10, what="no mount")
    assert node.call("PATCH", path, {"enabled": True, "expires_at": int(time.time()) + 3600}).status == 200
    wait_for(lambda: mounted(node, boxes[1]) == [sid], 10, what="the mount")
    node.restart()  # a start looks at what expires, as the timer does every minute
    wait_for(lambda: get(node, sid, boxes[0])["expiry_notified"], 10, what="the announcement")
    assert node.call("PATCH", path, {"expires_at": int(time.time()) - 5}).status == 200
    assert node.get(f"/api/v1/containers/{boxes[1]}/storage/incoming").data == []
    wait_for(lambda: mounted(node, boxes[1]) == [], 10, what="no mount")
    node.restart()
    wait_for(lambda: node.get(path).status == 404, 10, what="the end of the share")

    def types():
        return [e["event_type"] for e in node.get(f"/api/v1/events?resource_id={sid}&sort_order=asc").data["events"]]
    wait_for(lambda: types()[-1] == "storage.share.expired", 10, what="the event on disk")
    assert types() == ["storage.share.created", "storage.share.updated", "storage.share.disabled", "storage.share.updated",
                     "storage.share.enabled", "storage.share.expiring_soon", "storage.share.updated", "storage.share.expired"]


def test_in_use_is_unmounted_too(node, boxes, share):
    sid = share()
    wait_for(lambda: mounted(node, boxes[1]) == [sid], 10, what="the mount")
    shell(node, boxes[1], f"cd /hoody/shares/{sid} && (sleep 60 < file > /dev/null 2>&1 &)")
    assert node.call("DELETE", f"/api/v1/storage/shares/{sid}").status == 200
    wait_for(lambda: mounted(node, boxes[1]) == [], 10, what="no mount")
    shell(node, boxes[1], "pkill sleep")


SWAPPER = """
import ctypes, os, sys
libc, top, need, done = ctypes.CDLL(None, use_errno=True), sys.argv[1], int(sys.argv[2]), 0
while done < need or not os.path.exists(top + "/stop"):
    for one, other in (("swap", "evil"), ("way", "worse")):
        for _ in range(500):
            if libc.renameat2(-100, f"{top}/{one}".encode(), -100, f"{top}/{other}".encode(), 2):
                sys.exit(os.strerror(ctypes.get_errno()))
            done += 1
print(done)
"""
SWAPS = 100000


def test_a_symlink_that_is_swapped_leads_nowhere(node, boxes, share):
    """The source exchanges the directory, and one on the way to it, with symlinks while mounts are made: what is mounted is
    the directory itself, or nothing."""
    top = f"{node.pool}/slots/{node.container(boxes[0])['node']['slot']}/rootfs/srv/race"
    shell(node, boxes[0], "mkdir -p /srv/race/swap /srv/race/way/inner && cd /srv/race && echo mine | tee swap/marker way/inner/marker && "
                          "ln -s /etc evil && ln -s ../../../../../../../../.. worse && mkdir /inner && echo wrong >/inner/marker")
    swapper = subprocess.Popen(["/usr/bin/python3", "-c", SWAPPER, top, str(SWAPS)], stdout=subprocess.PIPE, text=True)
    seen = []
    try:
        for n in range(80):
            sid = share("/srv/race/swap" if n % 2 else "/srv/race/way/inner")
            wait_for(lambda sid=sid: get(node, sid, boxes[0])["status"] in ("active", "failed"), 10, what="the end of the attempt")
            seen.append(shell(node, boxes[1], f"cd /hoody/shares/{sid} && ls -A && cat marker"))
            assert node.call("DELETE", f"/api/v1/storage/shares/{sid}").status == 200
    finally:
        open(top + "/stop", "w", encoding="utf-8").close()
        swaps = swapper.communicate(timeout=60)[0]
    assert swapper.returncode == 0 and int(swaps) >= SWAPS
    assert "marker\nmine" in seen and set(seen) <= {"", "marker\nmine"}, set(seen)
    shell(node, boxes[0], "rm -rf /srv/race/stop")
    for link in ("/srv/race/evil", "/srv/race/worse/inner"):
        if os.path.islink(top + link.removeprefix("/srv/race").removesuffix("/inner")):
            sid = share(link)
            wait_for(lambda sid=sid: get(node, sid, boxes[0])["status"] == "failed", 10, what="the refusal")
            assert "symbolic link" in get(node, sid, boxes[0])["status_message"]
            assert node.call("DELETE", f"/api/v1/storage/shares/{sid}").status == 200


@pytest.mark.parametrize("when", ["of a creation", "of a start"])
def test_noded_killed_before_the_mount(node, boxes, share, when):
    node.restart()  # removes what an unmount in the moment of a stop has left, so that this start has nothing to refresh
    node.wait_idle()
    if when == "of a start":
        share()
    node.stop()
    node.start("share.refresh=kill", wait=when == "of a creation")
    if when == "of a creation":
        with pytest.raises((OSError, http.client.HTTPException)):
            share()
    node.wait_dead()
    assert node.process.returncode == -9
    node.start()
    ids = [s["id"] for s in node.get("/api/v1/storage/shares").data]
    assert len(ids) == 1
    wait_for(lambda: mounted(node, boxes[1]) == ids, 10, what="the mount")
    assert node.call("DELETE", f"/api/v1/storage/shares/{ids[0]}").status == 200


def test_a_crash_between_a_deletion_and_its_unmount(node, boxes, share):
    sid = share()
    wait_for(lambda: mounted(node, boxes[1]) == [sid], 10, what="the mount")
    node.stop()
    run_sql(node, f"DELETE FROM shares WHERE id = '{sid}'")
    node.start()
    wait_for(lambda: mounted(node, boxes[1]) == [], 10, what="no mount")


def run_sql(node, statement):
    with sqlite3.connect(node.state + "/noded.db") as db:
        db.execute(statement)


def test_the_source_goes(node, boxes):
    source = node.create("short", hoody_kit=False)["id"]
    node.inside(source, "mkdir", "-p", "/srv/data")
    sid = node.post(f"/api/v1/containers/{source}/storage/shares", {"source_path": "/srv/data", "mode": "readonly", "target_container_id": boxes[1]}).data["id"]
    wait_for(lambda: mounted(node, boxes[1]) == [sid], 10, what="the mount")
    assert node.delete(source).status == 200
    wait_for(lambda: mounted(node, boxes[1]) == [], 10, what="no mount")
    assert node.get("/api/v1/storage/shares").data == []
    node.assert_consistent()


def test_the_project_goes(node, boxes):
    r = node.post("/api/v1/projects", {"alias": "short-lived"})
    sid = node.post(f"/api/v1/containers/{boxes[0]}/storage/shares", {"source_path": "/srv/data", "mode": "readonly", "target_project_id": r.data["id"]}).data["id"]
    assert node.call("DELETE", f"/api/v1/projects/{r.data['id']}").status == 200
    assert node.get(f"/api/v1/containers/{boxes[0]}/storage/shares/{sid}").status == 404


def test_too_many(node, boxes, share):
    for i in range(128):
        share(f"/srv/many/{i}", target_container_id=boxes[2])
    r = node.post(f"/api/v1/containers/{boxes[0]}/storage/shares", {"source_path": "/srv/one-more", "mode": "readonly", "target_container_id": boxes[2]})
    assert r.status == 429 and r.json["code"] == "RATE_LIMIT_EXCEEDED"
