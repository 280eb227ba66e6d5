# SPDX-License-Identifier: Apache-2.0
"""Live streams: nothing missing, nothing twice, whoever crashes, lags or hangs up."""
import concurrent.futures
import socket
import sqlite3
import ssl
import time

import pytest

from daemon import Daemon
from sse import Stream
from world import BUILD, run, wait_for

EVENTS = "/api/v1/events"
STREAM = EVENTS + "/stream"


@pytest.fixture(scope="module")
def node():
    d = Daemon(events__stream_buffer=20, events__streams=8)
    run(BUILD + "/nodectl", "pki", "init", "--dir", d.dir + "/pki", "--host", "127.0.0.1")
    with open(d.conf, "a", encoding="ascii") as f:
        f.write(f"[tls]\nlisten = 127.0.0.1:8444\ncertificate = {d.dir}/pki/server.crt\nkey = {d.dir}/pki/server.key\n"
                f"client_ca = {d.dir}/pki/ca.crt\n")
    yield d.start()
    d.close()


@pytest.fixture(scope="module")
def box(node):
    return node.create("box")


def listed(node, after):
    return [e["id"] for e in node.get(f"{EVENTS}?after={after}&limit=500").data["events"]]


def latest(node):
    return node.get(EVENTS + "?limit=1").data["latest_cursor"]


def rules(node, box, count, start=1000):
    """That many events, each with its port."""
    for i in range(count):
        body = {"action": "drop", "protocol": "tcp", "description": "x" * 200, "destination_port": str(start + i)}
        assert node.post(f"/api/v1/containers/{box['id']}/firewall/ingress", body).status == 201


def reset(node, box):
    node.post(f"/api/v1/containers/{box['id']}/firewall/reset")


def test_live_events_are_those_of_the_history(node, box):
    start, s = latest(node), Stream.open(node, STREAM)
    assert s.started() == 200 and "content-type: text/event-stream" in s.head
    node.op(box["id"], "pause")
    node.op(box["id"], "resume")
    found = [s.next() for _ in range(4)]
    assert [e["event"] for e in found] == ["container.paused", "container.operation.completed", "container.running",
                                           "container.operation.completed"]
    assert [e["data"]["id"] for e in found] == listed(node, start)
    assert all(e["data"]["event_type"] == e["event"] for e in found)
    assert listed(node, found[1]["id"]) == [e["data"]["id"] for e in found[2:]]
    s.close()


def test_filters(node, box):
    other = node.create("other")
    streams = {q: Stream.open(node, f"{STREAM}?{q}") for q in (
        f"container_id={box['id']}", f"project_id={box['project_id']}", "event_type=container.paused",
        "project_id=" + "9" * 24)}
    for s in streams.values():
        s.started()
    node.op(other["id"], "pause")
    node.op(box["id"], "pause")
    node.op(box["id"], "resume")
    node.delete(other["id"])
    mine, project, paused, _ = streams.values()
    assert [e["event"] for e in (mine.next(), mine.next(), mine.next())] == [
        "container.paused", "container.operation.completed", "container.running"]
    assert {e["data"]["container_id"] for e in (project.next(), project.next(), project.next())} == {other["id"], box["id"]}
    assert [e["data"]["container_id"] for e in (paused.next(), paused.next())] == [other["id"], box["id"]]
    for s in streams.values():
        s.close()


@pytest.mark.parametrize("how", ["header", "query"])
def test_resume_without_gap_or_double(node, box, how):
    start, first = latest(node), Stream.open(node, STREAM)
    first.started()
    rules(node, box, 5)
    seen = [first.next() for _ in range(3)]
    first.close()
    rules(node, box, 150, 3000)
    at = seen[-1]["id"]
    again = (Stream.open(node, STREAM, {"Last-Event-ID": at}) if how == "header" else
             Stream.open(node, f"{STREAM}?after={at}"))
    rules(node, box, 5, 6000)
    seen += again.until(lambda e: e["data"].get("payload", {}).get("rule", {}).get("destination_port") == "6004")
    assert [e["data"]["id"] for e in seen] == listed(node, start)
    again.close()
    reset(node, box)


def test_resume_over_a_crash(node, box):
    start, s = latest(node), Stream.open(node, STREAM)
    s.started()
    rules(node, box, 3)
    seen = [s.next() for _ in range(2)]
    node.kill9()
    with pytest.raises((EOFError, ConnectionError)):
        seen += [s.next() for _ in range(2)]
    node.start()
    s = Stream.open(node, STREAM, {"Last-Event-ID": seen[-1]["id"]})
    rules(node, box, 3, 2000)
    seen += [s.next() for _ in range(6 - len(seen))]
    assert [e["data"]["id"] for e in seen] == listed(node, start)
    s.close()
    reset(node, box)


def test_a_slow_reader_is_told_and_misses_nothing(node, box):
    start, s = latest(node), Stream.open(node, STREAM, buffer=4096)
    s.started()
    fast = Stream.open(node, STREAM)
    fast.started()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(fast.until, lambda e: e["data"].get("payload", {}).get("rule", {}).get("destination_port") == "1399")
        rules(node, box, 400)
        last = reading.result(30)
    begun = time.monotonic()
    assert node.get("/healthz").status == 200 and time.monotonic() - begun < 5
    assert "lagged" not in [e["event"] for e in last]
    found = s.until(lambda e: e["data"].get("payload", {}).get("rule", {}).get("destination_port") == "1399")
    lagged = [e for e in found if e["event"] == "lagged"]
    assert lagged and all(e["data"]["cursor"] == e["id"] for e in lagged)
    assert [e["data"]["id"] for e in found if e["event"] != "lagged"] == listed(node, start)
    before = found.index(lagged[0])
    assert listed(node, lagged[0]["data"]["cursor"])[0] == found[before + 1]["data"]["id"]
    node.op(box["id"], "pause")
    assert s.next()["event"] == fast.next()["event"] == "container.paused", "live again"
    node.op(box["id"], "resume")
    s.close()
    fast.close()
    reset(node, box)


def test_bad_places(node):
    r = node.get(f"{STREAM}?after=nonsense")
    assert r.status == 400 and r.json["field"] == "after"
    assert node.call("GET", STREAM, headers={"Last-Event-ID": "x"}).json["field"] == "Last-Event-ID"
    assert node.get(f"{STREAM}?start_date=2026-01-01").json["field"] == "start_date"
    assert node.call("POST", STREAM).status == 405


def test_from_the_beginning(node, box):
    s = Stream.open(node, STREAM + "?bootstrap=true")
    assert s.next()["data"]["event_type"]
    s.close()


def test_streams_are_counted_and_given_back(node):
    def all_open():
        """Eight of them; the places of those before are given back a moment after their ends."""
        streams = [Stream.open(node, STREAM) for _ in range(8)]
        if [s.started() for s in streams] == [200] * 8:
            return streams
        for s in streams:
            s.close()
        return None

    for _ in range(3):
        streams = wait_for(all_open, 20, 0.2, "free places")
        r = node.get(STREAM)
        assert r.status == 503 and r.headers["Retry-After"]
        for s in streams:
            s.close()


def test_through_tls(node, box):
    context = ssl.create_default_context(cafile=f"{node.dir}/pki/ca.crt")
    context.load_cert_chain(f"{node.dir}/pki/operator.crt", f"{node.dir}/pki/operator.key")
    raw = socket.create_connection(("127.0.0.1", 8444), 10)
    s = Stream(context.wrap_socket(raw, server_hostname="127.0.0.1"), STREAM)
    assert s.started() == 200
    start = latest(node)
    rules(node, box, 60)
    found = [s.next() for _ in range(60)]
    assert [e["data"]["id"] for e in found] == listed(node, start)
    s.close()
    reset(node, box)


def test_a_comment_every_fifteen_seconds(node):
    """So that both sides notice a connection that is dead."""
    streams = [Stream.open(node, path) for path in (STREAM, "/api/v1/node/routes/stream")]
    streams[1].next()
    for s in streams:
        while b":\n\n" not in s.body:
            s.fill()
        s.close()


def test_the_feed_of_a_proxy(node, box):
    """Every change is told; what comes and goes between two looks need not be."""
    s = Stream.open(node, "/api/v1/node/routes/stream")
    whole = s.next()
    assert whole["event"] == "routes" and whole["data"] == node.get("/api/v1/node/routes").data
    routes = {r["container_id"]: r for r in whole["data"]["routes"]}
    revision, states = whole["data"]["revision"], []

    def until(condition):
        nonlocal revision
        end = time.monotonic() + 5
        while not condition():
            event = s.next()
            assert event["event"] == "changed" and event["data"]["revision"] > revision and time.monotonic() < end
            revision = event["data"]["revision"]
            routes.update({r["container_id"]: r for r in event["data"]["changed"]})
            states.extend(r["status"] for r in event["data"]["changed"] if r["container_id"] == c["id"])
            for gone in event["data"]["removed"]:
                del routes[gone]
    c = node.create("fed")
    until(lambda: c["id"] in routes and routes[c["id"]]["running"])
    node.op(c["id"], "pause")
    node.op(box["id"], "pause")
    node.op(box["id"], "resume")
    node.delete(c["id"])
    until(lambda: c["id"] not in routes)
    now = node.get("/api/v1/node/routes").data
    assert sorted(routes.values(), key=str) == sorted(now["routes"], key=str)
    assert "running" in states and states[-1] in ("paused", "running", "deleting")
    s.close()


def test_the_feed_knows_keys(node, box, tmp_path):
    """A gateway finds the container by the key that a client offers, from the moment on that the update is answered."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", str(tmp_path / "key"))
    wanted = run("ssh-keygen", "-lf", str(tmp_path / "key.pub")).split()[1]
    s = Stream.open(node, "/api/v1/node/routes/stream")
    mine = next(r for r in s.next()["data"]["routes"] if r["container_id"] == box["id"])
    assert mine["ssh_key_fingerprint"] is None
    for key, fingerprint in (((tmp_path / "key.pub").read_text().strip(), wanted), (None, None)):
        assert node.call("PUT", f"/api/v1/containers/{box['id']}", {"ssh_public_key": key}).status == 200
        changed = s.next()["data"]["changed"]
        assert [(r["container_id"], r["ssh_key_fingerprint"]) for r in changed] == [(box["id"], fingerprint)]
        assert next(r for r in node.get("/api/v1/node/routes").data["routes"] if r["container_id"] == box["id"]) == changed[0]
    s.close()


def test_retention_overtakes_a_reader(node, box):
    at = latest(node)
    rules(node, box, 2)
    node.stop()
    db = sqlite3.connect(f"{node.state}/noded.db")
    db.execute("UPDATE events SET created_at = 1000")
    db.commit()
    db.close()
    node.start()
    wait_for(lambda: node.get(f"{EVENTS}?after={at}").status == 410, 10, what="the expiry")
    r = node.get(f"{STREAM}?after={at}")
    assert r.status == 410 and r.json["error"] == "EVENTS_CURSOR_EXPIRED"
    reset(node, box)


def test_the_stream_ends_when_the_daemon_stops(node):
    s = Stream.open(node, STREAM)
    s.started()
    begun = time.monotonic()
    node.stop()
    assert s.rest() == [] and time.monotonic() - begun < 5
    node.start()
