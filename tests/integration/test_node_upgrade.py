# SPDX-License-Identifier: Apache-2.0
"""Other kits for containers that are there: what restarts, what does not, what is undone, and what a crash leaves."""
import os
import threading
import time

import pytest
from daemon import Daemon
from kitlab import KitLab
from world import wait_for


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return KitLab(tmp_path_factory.mktemp("kits"))


@pytest.fixture(scope="module")
def node(lab):
    d = Daemon(kits__public_key=lab.public, kits__health_timeout=5, kits__create_wait=3)
    os.makedirs(d.dir + "/kits")
    d.start()
    for name, version, port, more in (("web", "1.0", 7201, {}), ("web", "2.0", 7201, {}), ("web", "3.0", 7211, {}),
                                      ("web", "4.0", 7201, {"listen": 7299}), ("side", "1.0", 7202, {}), ("extra", "1.0", 7203, {})):
        lab.nodectl("--socket", d.socket, "kit", "install", lab.build(name, version, port, **more))
    yield d
    d.close()


def refs(**kits):
    return [{"name": name, "version": version} for name, version in kits.items()]


V1 = refs(web="1.0", side="1.0")
V2 = refs(web="2.0", side="1.0")


def kits_of(node, cid):
    return node.get(f"/api/v1/containers/{cid}/kits").data


def change(node, cid, **body):
    return node.call("PUT", f"/api/v1/containers/{cid}/kits", body, timeout=120)


def pids(node, cid):
    return {unit: node.inside(cid, "systemctl", "show", f"hoody-{unit}.service", "-p", "MainPID", "--value") for unit in ("web", "side")}


def answers(node, cid, port):
    return node.inside(cid, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "2", f"http://127.0.0.1:{port}/",
                       check=False) == "200"


def made(node, name, kits=V1):
    cid = node.create(name)["id"]
    node.wait_booted(cid)
    r = change(node, cid, kits=kits)
    assert r.status == 200, (r, node.log())
    return cid


def test_upgrade_and_rollback(node):
    cid = made(node, "updown")
    node.inside(cid, "sh", "-c", "echo kept > /hoody/storage/web/state")
    before = pids(node, cid)
    r = change(node, cid, kits=V2)
    assert r.status == 200 and r.data["kits"] == V2 and r.data["previous"] == V1, r
    service = next(s for s in r.data["services"] if s["kit"] == "web")
    assert service["state"] == "ready" and service["version"] == "2.0" and 0 <= service["ready_ms"] < 5000
    after = pids(node, cid)
    assert after["side"] == before["side"] and after["web"] != before["web"] != "0"
    assert "2.0" in node.inside(cid, "systemctl", "show", "hoody-web.service", "-p", "Description")
    r = change(node, cid, rollback=True)
    assert r.status == 200 and r.data["kits"] == V1 and r.data["previous"] == V2
    assert pids(node, cid)["side"] == before["side"]
    assert "1.0" in node.inside(cid, "systemctl", "show", "hoody-web.service", "-p", "Description")
    assert node.inside(cid, "cat", "/hoody/storage/web/state") == "kept"
    assert change(node, cid, kits=V1).json["message"] == "Kits unchanged"
    events = node.get(f"/api/v1/events?container_id={cid}&event_type=container.kits.changed").data["events"]
    assert len(events) == 3 and all(e["payload"]["services"] for e in events[:2])
    # Another port: closed to all but the proxy, in the map of routes, and the old one is forgotten.
    change(node, cid, kits=refs(web="3.0", side="1.0"))
    assert answers(node, cid, 7211) and not answers(node, cid, 7201)
    route = next(r for r in node.get("/api/v1/node/routes").data["routes"] if r["container_id"] == cid)
    assert sorted(s["port"] for s in route["services"]) == [7202, 7211]
    # A kit less, a kit more.
    assert change(node, cid, kits=refs(side="1.0", extra="1.0")).status == 200
    assert answers(node, cid, 7203) and not answers(node, cid, 7211)
    assert pids(node, cid)["side"] == before["side"]
    node.delete(cid)


def test_a_kit_that_does_not_answer_is_rolled_back(node):
    cid = made(node, "sick")
    side = pids(node, cid)["side"]
    r = change(node, cid, kits=refs(web="4.0", side="1.0"))
    assert r.status == 502 and r.json["code"] == "KIT_UNHEALTHY" and "web 4.0" in r.json["message"], r
    assert kits_of(node, cid)["kits"] == V1
    assert answers(node, cid, 7201) and pids(node, cid)["side"] == side
    event = node.get(f"/api/v1/events?container_id={cid}&event_type=container.kits.failed").data["events"][0]["payload"]
    assert [s["state"] for s in event["services"]] == ["failed"] and "7201" in event["error"]
    node.delete(cid)


def events(node, cid, word):
    return [e["payload"] for e in node.get(f"/api/v1/events?container_id={cid}&event_type=container.kits.{word}").data["events"]]


def runtime_kits(node, cid):
    info = node.get(f"/api/v1/containers/{cid}?runtime=true").data["runtime_info"]
    return {s["slug"]: s for s in info["kits"]} if info else {}


def running_event(node, cid):
    return node.get(f"/api/v1/events?container_id={cid}&event_type=container.running").data["events"][0]["payload"]


def test_a_create_runs_when_its_kits_are_ready(node):
    begun = time.monotonic()
    sick = node.create("sick", wait=False)["id"]
    wait_for(lambda: node.container(sick)["status"] == "running", 30, 0.1, "the end of the wait")
    assert 2 < time.monotonic() - begun < 12  # kits.create_wait, and not for ever
    assert running_event(node, sick)["kits_ready_ms"] is None
    assert answers(node, sick, 7202) and not answers(node, sick, 7201)
    node.delete(sick)


def test_ready_and_failed_are_told(node):
    sick = node.create("sick-from-the-start")["id"]  # the newest web does not answer on its port
    cid = made(node, "told")
    node.op(cid, "restart")
    wait_for(lambda: events(node, cid, "ready"), 60, 0.2, "the event")
    told = events(node, cid, "ready")[0]
    assert {s["slug"] for s in told["services"]} == {"web", "side"} and 0 < told["ready_ms"] < 30000
    assert all(0 < s["ready_ms"] <= told["ready_ms"] for s in told["services"])
    assert {k: s["state"] for k, s in runtime_kits(node, cid).items()} == {"web": "ready", "side": "ready"}
    node.restart()  # found out again, without an event
    wait_for(lambda: runtime_kits(node, cid).get("web", {}).get("state") == "ready", 30, 0.2, "the state")
    assert runtime_kits(node, cid)["web"]["ready_ms"] is None and len(events(node, cid, "ready")) == 1
    node.inside(cid, "systemctl", "stop", "hoody-web.service")
    wait_for(lambda: runtime_kits(node, cid)["web"]["state"] == "failed", 10, 0.5, "the failure")
    assert "hoody-web.service" in runtime_kits(node, cid)["web"]["error"]
    node.delete(cid)
    before = len(events(node, sick, "unhealthy"))  # of its creation
    node.op(sick, "restart")
    wait_for(lambda: len(events(node, sick, "unhealthy")) > before, 90, 0.5, "the event")
    told = {s["slug"]: s for s in events(node, sick, "unhealthy")[0]["services"]}
    assert told["web"]["state"] == "failed" and "7201" in told["web"]["error"] and told["side"]["state"] == "ready"
    assert runtime_kits(node, sick)["web"]["state"] == "failed"
    node.delete(sick)


def test_stopped_paused_restored_rebooted(node):
    cid = made(node, "still")
    assert node.post(f"/api/v1/containers/{cid}/snapshots", {"alias": "old"}).status == 200
    node.op(cid, "pause")
    assert change(node, cid, kits=V2).status == 400
    node.op(cid, "resume")
    node.op(cid, "force-stop")
    r = change(node, cid, kits=V2)
    assert r.status == 200 and r.data["services"] is None
    node.op(cid, "start")
    node.wait_booted(cid)
    assert "2.0" in node.inside(cid, "systemctl", "show", "hoody-web.service", "-p", "Description")
    # A restore brings the disk's links of then, but not the kits of then.
    assert node.call("PUT", f"/api/v1/containers/{cid}/snapshots/old").status == 200
    node.wait_booted(cid)
    assert kits_of(node, cid)["kits"] == V2
    assert "2.0" in node.inside(cid, "systemctl", "show", "hoody-web.service", "-p", "Description")
    # What liblxc starts by itself is of the version that it got while it ran.
    assert change(node, cid, kits=V1).status == 200
    pid = node.container(cid)["node"]["init_pid"]
    node.inside(cid, "systemctl", "reboot", check=False)
    wait_for(lambda: node.container(cid)["node"]["init_pid"] not in (0, pid), 60, what="the reboot")
    node.wait_booted(cid)
    assert answers(node, cid, 7201)
    assert "1.0" in node.inside(cid, "systemctl", "show", "hoody-web.service", "-p", "Description")
    node.delete(cid)


def test_refused(node):
    cid = made(node, "refused")
    for body, status, field in (({"kits": 5}, 400, "kits"), ({"kits": [{"name": "web"}]}, 400, "kits.version"), ({"more": 1}, 400, "more"),
                                ({"kits": refs(web="9.0")}, 404, "kits"), ({"kits": V1 + V1}, 400, "kits"),
                                ({"kits": V1, "rollback": True}, 400, "rollback"), ({"kits": [{"name": "../x", "version": "1"}]}, 404, "kits")):
        r = change(node, cid, **body)
        assert (r.status, r.json.get("field")) == (status, field), r
    assert kits_of(node, cid)["kits"] == V1
    bare = node.create("bare", hoody_kit=False)["id"]
    r = change(node, bare, kits=V1)
    assert r.status == 400 and r.json["code"] == "OPERATION_STATE_CONFLICT"
    node.delete(bare)
    node.delete(cid)


@pytest.mark.parametrize("point", ["op.kits.intent", "op.kits.guard", "op.kits.apply", "op.kits.rules", "op.kits.commit"])
def test_killed_at_every_step(node, point):
    cid = made(node, "crash")
    side = pids(node, cid)["side"]
    node.restart(failpoint=point + "=kill")
    with pytest.raises(OSError):
        change(node, cid, kits=V2)
    node.wait_dead()
    node.start()
    node.wait_idle()
    assert kits_of(node, cid)["kits"] == V2
    assert "2.0" in node.inside(cid, "systemctl", "show", "hoody-web.service", "-p", "Description")
    assert answers(node, cid, 7201) and pids(node, cid)["side"] == side
    node.assert_consistent()
    node.delete(cid)


@pytest.mark.parametrize("point", ["kits.link", "kits.linked"])
def test_worker_killed(node, point):
    cid = made(node, "cut")
    side = pids(node, cid)["side"]
    node.restart(failpoint=point + "=kill")  # the undo dies there, too
    assert change(node, cid, kits=V2).status >= 500
    node.restart()
    assert kits_of(node, cid)["kits"] == V1
    assert answers(node, cid, 7201) and pids(node, cid)["side"] == side
    node.op(cid, "restart")
    node.wait_booted(cid)
    assert "1.0" in node.inside(cid, "systemctl", "show", "hoody-web.service", "-p", "Description")
    node.delete(cid)


def test_an_upgrade_that_waits_holds_up_nobody(lab):
    """What waits for services has workers of its own."""
    d = Daemon(kits__public_key=lab.public, kits__health_timeout=30, kits__enabled="web=1.0", node__workers=1)
    os.makedirs(d.dir + "/kits")
    try:
        d.start()
        for version, more in (("1.0", {}), ("4.0", {"listen": 7299})):
            lab.nodectl("--socket", d.socket, "kit", "install", lab.build("web", version, 7201, **more))
        sick, other = (d.create(name)["id"] for name in ("waits", "other"))
        replies = []
        upgrade = threading.Thread(target=lambda: replies.append(change(d, sick, kits=refs(web="4.0"))))
        upgrade.start()
        wait_for(lambda: d.get("/healthz").data["operations"] == 1, 10, 0.05, "the upgrade")
        assert d.op(other, "force-stop").status == 200 and d.op(other, "start").status == 200
        assert upgrade.is_alive(), replies
        upgrade.join(120)
        assert replies[0].status == 502 and replies[0].json["code"] == "KIT_UNHEALTHY", replies
        for cid in (sick, other):
            assert d.delete(cid).status == 200
    finally:
        d.close()
