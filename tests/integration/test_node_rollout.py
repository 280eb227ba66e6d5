# SPDX-License-Identifier: Apache-2.0
"""Another version of a kit for many running containers under traffic, and back; and one that is not healthy.

NODED_ROLLOUT_CONTAINERS: how many (4). Prints how long each service was away, as its clients saw it.
"""
import contextlib
import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import threading

import pytest
from daemon import Daemon
from kitlab import KitLab
from world import REPOSITORY, wait_for

COUNT = int(os.environ.get("NODED_ROLLOUT_CONTAINERS", "4"))
ROLLOUT = "/api/v1/node/kits/rollout"
WEB, SIDE = 7301, 7302


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return KitLab(tmp_path_factory.mktemp("kits"))


def install(node, lab, name, version, port, **more):
    lab.nodectl("--socket", node.socket, "kit", "install", lab.build(name, version, port, **more))


@pytest.fixture(scope="module")
def node(lab):
    d = Daemon(loop_bytes=8 << 30, kits__public_key=lab.public, kits__health_timeout=20)
    os.makedirs(d.dir + "/kits")
    d.start()
    install(d, lab, "web", "1.0", WEB)
    install(d, lab, "side", "1.0", SIDE)
    yield d
    d.close()


@pytest.fixture(scope="module")
def boxes(node, lab):
    ids = [node.create(f"rollout-{i}")["id"] for i in range(COUNT)]
    for cid in ids:
        node.wait_booted(cid, 180)
    install(node, lab, "web", "2.0", WEB)  # from here on the suite has another one than they have
    return ids


def health_timeout(node, seconds):
    node.stop()
    with open(node.conf, encoding="utf-8") as f:
        text = re.sub(r"health_timeout = \d+", f"health_timeout = {seconds}", f.read())
    with open(node.conf, "w", encoding="utf-8") as f:
        f.write(text)
    node.start()


class Traffic:
    """A client in the network of each container."""

    def __init__(self, node, ids):
        self.clients = {cid: subprocess.Popen(
            ["nsenter", "-t", str(node.container(cid)["node"]["init_pid"]), "-n", sys.executable,
             REPOSITORY + "/tests/support/traffic.py", str(WEB), str(SIDE)], stdout=subprocess.PIPE, text=True) for cid in ids}

    def end(self):
        for p in self.clients.values():
            p.terminate()
        return {cid: {int(port): s for port, s in json.loads(p.communicate(timeout=30)[0]).items()} for cid, p in self.clients.items()}


def main_pids(node, ids, unit):
    return {cid: node.inside(cid, "systemctl", "show", f"hoody-{unit}.service", "-p", "MainPID", "--value") for cid in ids}


def versions(node, ids):
    return {cid: {k["name"]: k["version"] for k in node.get(f"/api/v1/containers/{cid}/kits").data["kits"]} for cid in ids}


def rollout(node, **body):
    r = node.post(ROLLOUT, body)
    assert r.status == 202, r
    wait_for(lambda: node.get(ROLLOUT).data["ended_at"], 600, 0.2, "the end of the rollout")
    return node.get(ROLLOUT).data


def show(what, report, seen):
    told = sorted(s["ready_ms"] for r in report["results"] for s in r["services"] if s["ready_ms"] is not None)
    away = sorted(s[WEB]["away_ms"] for s in seen.values())
    requests = sum(s[p]["requests"] for s in seen.values() for p in s)
    print(f"\n{what} of {COUNT} containers: {requests} requests; web away ms: median {statistics.median(away):.0f}, max {away[-1]:.0f} "
          f"as its clients saw it; median {statistics.median(told):.0f}, max {told[-1]} as reported; "
          f"side: {sum(s[SIDE]['failed'] for s in seen.values())} requests failed")
    for cid, s in seen.items():
        print(f"  {cid} web {s[WEB]['away_ms']:.0f} ms, {s[WEB]['failed']} of {s[WEB]['requests']} failed; side {s[SIDE]['away_ms']:.0f} ms")


def test_upgrade_and_rollback_under_traffic(node, lab, boxes):
    side = main_pids(node, boxes, "side")
    for what, body, version in (("upgrade", {}, "2.0"), ("rollback", {"rollback": True}, "1.0")):
        web = main_pids(node, boxes, "web")
        traffic = Traffic(node, boxes)
        report = rollout(node, parallel=4, **body)
        seen = traffic.end()
        show(what, report, seen)
        assert report["state"] == "completed" and [r["result"] for r in report["results"]] == ["changed"] * COUNT, report
        assert all(v == {"web": version, "side": "1.0"} for v in versions(node, boxes).values())
        assert main_pids(node, boxes, "side") == side  # only what changed has restarted
        assert not set(web.values()) & set(main_pids(node, boxes, "web").values()) or all(
            web[c] != p for c, p in main_pids(node, boxes, "web").items())
        for s in seen.values():
            assert s[SIDE]["failed"] == 0 and s[WEB]["times_away"] <= 1 and s[WEB]["requests"] > 5, s
    again = rollout(node, kits=[{"name": "web", "version": "1.0"}, {"name": "side", "version": "1.0"}])
    assert {r["result"] for r in again["results"]} == {"unchanged"}


def test_a_failure_stops_it_and_is_rolled_back(node, lab, boxes):
    install(node, lab, "web", "3.0", WEB, listen=7399)
    health_timeout(node, 2)  # it will not come
    before, side = versions(node, boxes), main_pids(node, boxes, "side")
    report = rollout(node, parallel=2)
    results = [r["result"] for r in report["results"]]
    assert report["state"] == "failed" and set(results) == {"failed"} and len(results) <= 2, report
    assert report["waiting"] == COUNT - len(results)
    assert all("web 3.0" in r["error"] for r in report["results"])
    assert versions(node, boxes) == before and main_pids(node, boxes, "side") == side
    for cid in boxes:
        code = node.inside(cid, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", f"http://127.0.0.1:{WEB}/")
        assert code == "200"
    # The command says so too.
    text = lab.nodectl("--socket", node.socket, "kit", "rollout", ok=False)
    assert "failed" in text
    health_timeout(node, 20)
    types = [e["event_type"] for e in node.get("/api/v1/events?limit=100&resource_type=server").data["events"]]
    assert types.count("server.rollout.started") == types.count("server.rollout.ended") >= 2


def test_all_go_back_when_one_fails(node, boxes):
    """The last container has a change of its owner's that keeps the service from starting."""
    sick, before = boxes[-1], versions(node, boxes)
    node.inside(sick, "sh", "-c", "mkdir -p /etc/systemd/system/hoody-web.service.d && printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' "
                ">/etc/systemd/system/hoody-web.service.d/99-own.conf")
    report = rollout(node, kits=[{"name": "web", "version": "2.0"}, {"name": "side", "version": "1.0"}], parallel=1, on_failure="rollback")
    results = [r["result"] for r in report["results"]]
    assert report["state"] == "failed" and results == ["changed"] * (COUNT - 1) + ["failed"] + ["rolled_back"] * (COUNT - 1), report
    assert versions(node, boxes) == before
    assert node.inside(sick, "ls", "/etc/systemd/system/hoody-web.service.d").split() == ["99-own.conf"]
    node.inside(sick, "sh", "-c", "rm /etc/systemd/system/hoody-web.service.d/99-own.conf; systemctl daemon-reload; systemctl reset-failed; "
                "systemctl restart hoody-web.service")


def test_passed_over_and_stopped(node, lab, boxes):
    node.op(boxes[0], "pause")
    wanted = [{"name": "web", "version": "2.0"}, {"name": "side", "version": "1.0"}]
    report = rollout(node, kits=wanted, containers=boxes[:2])
    assert [r["result"] for r in report["results"]] == ["skipped", "changed"], report
    assert "paused" in report["results"][0]["error"]
    node.op(boxes[0], "resume")
    assert node.call("DELETE", ROLLOUT).status == 400
    done = []
    other = threading.Thread(target=lambda: done.append(node.post(ROLLOUT, {"kits": wanted, "parallel": 1})))
    other.start()
    other.join()
    assert done[0].status == 202
    assert node.post(ROLLOUT, {"kits": wanted}).status in (202, 409)
    wait_for(lambda: node.get(ROLLOUT).data["ended_at"], 120, 0.2, "the end of the rollout")
    for body, status in (({"parallel": 0}, 400), ({"parallel": 17}, 400), ({"kits": [{"name": "web", "version": "9"}]}, 404),
                         ({"containers": ["0" * 24]}, 404), ({"rollback": True, "kits": []}, 400), ({"more": 1}, 400)):
        assert node.post(ROLLOUT, body).status == status, body


def ended(node):
    wait_for(lambda: node.get(ROLLOUT).data["ended_at"], 600, 0.2, "the end of the rollout")
    return node.get(ROLLOUT).data


@pytest.mark.parametrize("graceful", [False, True], ids=["killed", "stopped"])
def test_a_restart_goes_on(node, lab, boxes, graceful):
    """Wherever it is cut: each container has exactly one result, and all are counted as changed."""
    for number, version in (("2.0", 0), ("1.0", 1)):
        wanted = [{"name": "web", "version": number}, {"name": "side", "version": "1.0"}]
        before = versions(node, boxes)
        assert node.post(ROLLOUT, {"kits": wanted, "parallel": 2}).status == 202
        for done in (0, COUNT // 2):
            wait_for(lambda: len(node.get(ROLLOUT).data["results"]) >= done, 60, what="some results")
            if graceful:
                node.stop()
            else:
                node.kill9()
            node.start()
        report = ended(node)
        assert report["state"] == "completed", [(r["result"], r["error"], r["services"]) for r in report["results"]]
        assert sorted(r["container_id"] for r in report["results"]) == sorted(boxes), report
        assert {r["container_id"] for r in report["results"] if r["result"] == "changed"} == {c for c in boxes if before[c]["web"] != number}
        assert all(v["web"] == number for v in versions(node, boxes).values())
    node.wait_idle()
    node.assert_consistent()


def test_a_restart_while_all_go_back(node, lab, boxes):
    """One fails, the others go back, noded is killed in between: they still go back, all of them."""
    sick, before = boxes[-1], versions(node, boxes)
    node.inside(sick, "sh", "-c", "mkdir -p /etc/systemd/system/hoody-web.service.d && printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' "
                ">/etc/systemd/system/hoody-web.service.d/99-own.conf")
    assert node.post(ROLLOUT, {"kits": [{"name": "web", "version": "2.0"}, {"name": "side", "version": "1.0"}], "parallel": 1,
                               "on_failure": "rollback"}).status == 202
    for word in ("changed", "rolled_back"):
        wait_for(lambda: word in {r["result"] for r in node.get(ROLLOUT).data["results"]}, 120, what=word)
        node.kill9()
        node.start()
    report = ended(node)
    assert report["state"] == "failed" and [r["result"] for r in report["results"]].count("rolled_back") == COUNT - 1, report
    assert versions(node, boxes) == before
    node.inside(sick, "sh", "-c", "rm /etc/systemd/system/hoody-web.service.d/99-own.conf; systemctl daemon-reload; systemctl reset-failed; "
                "systemctl restart hoody-web.service")
    node.wait_idle()


def test_too_many_restarts_leave_it_interrupted(node, lab, boxes):
    """When nothing comes of it, it is not begun for ever."""
    wanted = [{"name": "web", "version": "2.0"}, {"name": "side", "version": "1.0"}]
    assert node.post(ROLLOUT, {"kits": wanted, "parallel": 1}).status == 202
    node.kill9()
    with contextlib.closing(sqlite3.connect(node.state + "/noded.db")) as db, db:
        saved = json.loads(db.execute("SELECT value FROM meta WHERE key = 'kit_rollout'").fetchone()[0])
        assert saved["state"] == "running" and len(saved["waiting"]) + len(saved["active"]) == COUNT
        db.execute("UPDATE meta SET value = ? WHERE key = 'kit_rollout'", (json.dumps({**saved, "restarts": 3}),))
    node.start()
    node.wait_idle()
    assert node.get(ROLLOUT).data["state"] == "interrupted"
    assert rollout(node, kits=wanted)["state"] == "completed"
    assert all(v["web"] == "2.0" for v in versions(node, boxes).values())
    node.assert_consistent()
