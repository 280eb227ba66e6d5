# SPDX-License-Identifier: Apache-2.0
"""Two hundred clients at once read, create, operate and delete (NODED_LOAD_SECONDS, two minutes). Afterwards no container is lost or there
twice, no event is missing or out of order, and what the API says is what the kernel has."""
import asyncio
import collections
import json
import os
import random
import threading

import pytest
from daemon import PROJECT, Daemon
from sse import Stream

CLIENTS = int(os.environ.get("NODED_LOAD_CLIENTS", "200"))
SECONDS = float(os.environ.get("NODED_LOAD_SECONDS", "120"))
ALIVE_MAX = 40  # containers at once: each boots a whole system on the test machine's two cores
OPERATIONS = ("start", "stop", "force-stop", "restart", "pause", "resume")
EVENTS = "/api/v1/events"


class Client:
    """One connection that stays open, one request at a time."""

    def __init__(self, path):
        self.path, self.reader, self.writer = path, None, None

    async def call(self, method, path, body=None):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_unix_connection(self.path, limit=1 << 22)
        data = json.dumps(body).encode() if body is not None else b""
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: node\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 120)).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        text = await asyncio.wait_for(self.reader.readexactly(length), 120)
        if "connection: close" in head:
            self.writer.close()
            self.writer = None
        return int(head.split(" ")[1]), json.loads(text)


class Ledger:
    """What the node has promised to all clients together."""

    def __init__(self):
        self.created, self.deleted, self.maybe = {}, {}, set()
        self.operations = collections.Counter()  # operation id -> replies that said completed
        self.statuses = collections.Counter()


def new_id(rng):
    return f"{rng.getrandbits(96):024x}"


async def read(client, ledger, rng):
    cid = rng.choice(list(ledger.created) or ["0" * 24])
    path = rng.choice(["/api/v1/containers?limit=100", "/api/v1/node/routes", EVENTS + "?limit=50", "/api/v1/node", "/healthz",
                       f"/api/v1/containers/{cid}", f"/api/v1/containers/{cid}/stats", f"/api/v1/containers/{cid}/status-logs",
                       f"/api/v1/containers/{cid}/env", f"/api/v1/projects/{PROJECT}/containers?sort_by=name"])
    status, reply = await client.call("GET", path)
    assert status in (200, 404), (path, reply)
    if path.startswith("/api/v1/containers?"):
        ids = [c["id"] for c in reply["data"]["containers"]]
        assert len(ids) == len(set(ids)) and reply["data"]["pagination"]["total"] >= len(ids)


async def create(client, ledger, rng):
    if len(ledger.created) - len(ledger.deleted) >= ALIVE_MAX:
        return await read(client, ledger, rng)
    cid = new_id(rng)
    body = {"id": cid, "server_id": "self", "name": f"load-{cid[:12]}", "hoody_kit": False, "environment_vars": {"A": cid}}
    ledger.maybe.add(cid)
    for _ in range(1 + (rng.random() < 0.3)):  # a client that did not see the answer asks again
        status, reply = await client.call("POST", f"/api/v1/projects/{PROJECT}/containers", body)
        ledger.statuses[f"create {status}"] += 1
        assert status in (201, 400, 503), reply
        if status == 201:
            assert reply["data"]["id"] == cid
            ledger.created.setdefault(cid, reply["data"]["name"])
        else:
            assert status == 503 or reply["code"] == "SERVER_CONTAINER_LIMIT", reply
    ledger.maybe.discard(cid)


async def operate(client, ledger, rng):
    if not ledger.created:
        return
    cid, operation = rng.choice(list(ledger.created)), rng.choice(OPERATIONS)
    status, reply = await client.call("POST", f"/api/v1/containers/{cid}/{operation}", {"timeout": rng.choice([1, 5])})
    ledger.statuses[f"operation {status}"] += 1
    assert status in (200, 400, 404, 409, 503) or (status in (502, 504) and reply["data"]), reply
    if status == 200:
        ledger.operations[reply["data"]["operation_id"]] += 1


async def change(client, ledger, rng):
    if not ledger.created:
        return
    cid = rng.choice(list(ledger.created))
    method, rest, body = rng.choice([("PATCH", "", {"comment": new_id(rng)}), ("PUT", "/env", {"A": new_id(rng)}),
                                     ("POST", "/firewall/ingress", {"action": "drop", "protocol": "tcp", "destination_port": str(rng.randrange(1, 30))}),
                                     ("DELETE", "/firewall/ingress", {"all": True})])
    status, reply = await client.call(method, f"/api/v1/containers/{cid}{rest}", body)
    ledger.statuses[f"change {status}"] += 1
    assert status in (200, 201, 404, 409, 503), reply


async def delete(client, ledger, rng):
    alive = [c for c in ledger.created if c not in ledger.deleted]
    if len(alive) < ALIVE_MAX // 2:
        return
    cid = rng.choice(alive)
    status, reply = await client.call("DELETE", f"/api/v1/containers/{cid}")
    ledger.statuses[f"delete {status}"] += 1
    assert status in (200, 404, 409, 503), reply
    if status == 200:
        assert cid not in ledger.deleted, "deleted twice"
        ledger.deleted[cid] = True


async def run_client(number, path, ledger, end):
    rng, client, loop = random.Random(number), Client(path), asyncio.get_running_loop()
    while loop.time() < end:
        what = rng.choices([read, create, operate, change, delete], [60, 10, 15, 10, 5])[0]
        await what(client, ledger, rng)
        await asyncio.sleep(rng.random() * 0.2)
    if client.writer:
        client.writer.close()


def follow(node, seen, done):
    """Every event as it comes, resumed where the node cut the stream."""
    last = None
    while not done.is_set():
        stream = Stream.open(node, EVENTS + "/stream", {"Last-Event-ID": last} if last else None, timeout=1)
        while not done.is_set():
            try:
                event = stream.next()
            except TimeoutError:
                continue
            except EOFError:
                break
            last = event["id"]
            if event["event"] != "lagged":
                seen.append(event["data"]["id"])
        stream.sock.close()


async def storm(node, ledger, seen):
    loop, done = asyncio.get_running_loop(), threading.Event()
    follower = threading.Thread(target=follow, args=(node, seen, done))
    follower.start()
    await asyncio.sleep(0.5)
    try:
        await asyncio.gather(*(run_client(n, node.socket, ledger, loop.time() + SECONDS) for n in range(CLIENTS)))
        node.wait_idle()
        await asyncio.sleep(3)
    finally:
        done.set()
        follower.join()


@pytest.fixture(scope="module")
def outcome():
    node = Daemon(loop_bytes=12 << 30, events__max=10000000).start()
    ledger, seen = Ledger(), []
    try:
        start = node.get(EVENTS + "?limit=1").data["latest_cursor"]
        asyncio.run(storm(node, ledger, seen))
        history, cursor = [], start
        while page := node.get(f"{EVENTS}?after={cursor}&limit=500").data["events"]:
            history += page
            cursor = node.get(f"{EVENTS}?after={cursor}&limit=500").data["next_cursor"]
        print(dict(ledger.statuses), f"{len(history)} events, {len(seen)} streamed")
        yield node, ledger, history, seen
    finally:
        node.close()


def containers(node):
    found, page = [], 1
    while some := node.get(f"/api/v1/containers?limit=100&page={page}&sort_by=id").data["containers"]:
        found += some
        page += 1
    return found


def test_no_container_is_lost_or_there_twice(outcome):
    node, ledger, _, _ = outcome
    listed = [c["id"] for c in containers(node)]
    assert len(listed) == len(set(listed))
    assert set(listed) - ledger.maybe == set(ledger.created) - set(ledger.deleted)
    assert ledger.statuses["create 201"] > 20 and ledger.statuses["operation 200"] > 5 and ledger.deleted, ledger.statuses


def test_statuses_agree_with_the_kernel(outcome):
    node, _, _, _ = outcome
    node.assert_consistent()
    for c in containers(node):
        pid = c["node"]["init_pid"]
        assert c["status"] in ("running", "paused", "stopped"), c
        assert (pid > 0) == (c["status"] != "stopped") and (not pid or os.path.exists(f"/proc/{pid}/ns/pid")), c
        frozen = node.get(f"/api/v1/containers/{c['id']}/stats").data["status"]
        assert frozen == {"running": "Running", "paused": "Frozen", "stopped": "Stopped"}[c["status"]]


def test_events_of_each_container_are_whole_and_in_order(outcome):
    node, ledger, history, _ = outcome
    by = collections.defaultdict(list)
    for e in history:
        if e["resource_type"] == "container":
            by[e["resource_id"]].append(e)
    now = {c["id"]: c["status"] for c in containers(node)}
    for cid in ledger.created:
        types = [e["event_type"].removeprefix("container.") for e in by[cid]]
        statuses = [t for t in types if t in ("creating", "running", "stopped", "paused", "failed", "deleting", "deleted")]
        assert statuses[0] == "creating" and types.count("creating") == 1, types
        if cid in ledger.deleted:
            assert statuses[-1] == "deleted" and types.count("deleted") == 1 and cid not in now, types
            continue
        assert statuses[-1] == now[cid], types
        logs = node.get(f"/api/v1/containers/{cid}/status-logs?limit=100&sort_order=asc").data
        if logs["pagination"]["total"] <= 100:
            assert [log["to_status"] for log in logs["logs"]] == statuses
            assert [log["from_status"] for log in logs["logs"]] == [None, *statuses[:-1]]


def test_every_operation_has_its_end(outcome):
    _, ledger, history, _ = outcome
    ends = collections.Counter(e["payload"]["operation_id"] for e in history if e["event_type"].startswith("container.operation."))
    assert set(ends.values()) == {1}
    assert not set(ledger.operations) - set(ends) and set(ledger.operations.values()) == {1}


def test_the_stream_told_all_of_it_once(outcome):
    _, _, history, seen = outcome
    assert len(seen) == len(set(seen))
    assert seen == [e["id"] for e in history][-len(seen):] and len(seen) == len(history)
