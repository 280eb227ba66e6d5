# SPDX-License-Identifier: Apache-2.0
"""What the services of kits make of another identity, what becomes of a pool whose claims fail, and what may keep one from being
filled."""
import os
import subprocess
import threading
import time

import pytest
from daemon import Daemon
from kitlab import KitLab
from world import run, wait_for

NOTE = "echo $HOODY_CONTAINER_ID $(hostname) >> /hoody/storage/{name}/told"
SOCKET = """[Unit]
Description=Kit: behind

[Socket]
ListenStream=7304
"""
BEHIND = """[Unit]
Description=Kit: behind, the service

[Service]
ExecStart=/bin/sleep infinity
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return KitLab(tmp_path_factory.mktemp("kits"))


def reloads(name):
    """Lines of a unit that knows how to read its configuration again."""
    return "ExecReload=/bin/sh -c '" + NOTE.format(name=name).replace("$", "$$") + "'\n"


def behind_a_socket(lab):
    folder = lab.source("behind", "1.0", 7304, service={"unit": "hoody-behind.socket", "user": None, "health": None, "identity": "live"},
                        units=["hoody-behind.socket", "hoody-behind.service"])
    for name, text in (("socket", SOCKET), ("service", BEHIND)):
        with open(f"{folder}/tree/units/hoody-behind.{name}", "w", encoding="ascii") as f:
            f.write(text)
    return lab.nodectl("-q", "kit", "build", folder, "--key", lab.key, "--out", lab.bundles)


@pytest.fixture(scope="module")
def node(lab):
    d = Daemon(kits__public_key=lab.public, kits__health_timeout=20, warm__pools="dev_kit:debian/13=1", warm__pressure=100)
    os.makedirs(d.dir + "/kits")
    for bundle in (lab.build("asked", "1.0", 7301, lines=reloads("asked"), service={"identity": "reload"}),
                   lab.build("unable", "1.0", 7302, service={"identity": "reload"}),
                   behind_a_socket(lab)):
        os.rename(bundle, f"{d.dir}/kits/{os.path.basename(bundle)}")
    d.start()
    yield d
    d.close()


def pool(d):
    return d.get("/api/v1/node/pools").data["pools"][0]


def wait_full(d, count=1, seconds=120):
    wait_for(lambda: pool(d)["ready"] == count, seconds, 0.1, "a full pool")


def operation_of(d, cid):
    logs = d.get(f"/api/v1/containers/{cid}/status-logs?limit=100").data["logs"]
    return next(log["metadata"]["command"] for log in logs if log["to_status"] == "running")


def enter(spare, *argv):
    return run("nsenter", "-t", str(spare["init_pid"]), "-a", *argv).strip()


def pid_of(ask, name):
    return ask("systemctl", "show", f"hoody-{name}.service", "-p", "MainPID", "--value").strip()


def test_how_services_are_told(node):
    wait_full(node)
    spare = pool(node)["spares"][0]
    enter(spare, "systemctl", "start", "hoody-behind.service")
    names = ("asked", "unable", "behind")
    before = {n: pid_of(lambda *a: enter(spare, *a), n) for n in names}
    assert "0" not in before.values(), before
    cid = node.create("told", wait=False)["id"]
    assert operation_of(node, cid) == "claim"
    after = {n: pid_of(lambda *a: node.inside(cid, *a), n) for n in names}
    # Told and not started anew, by then with the new names; one that cannot be told is started anew.
    assert after["asked"] == before["asked"] and node.inside(cid, "cat", "/hoody/storage/asked/told") == f"{cid} told"
    assert after["unable"] not in (before["unable"], "0")
    # What a service behind a socket is told stands at the socket.
    assert after["behind"] == before["behind"]
    assert node.delete(cid).status == 200


def test_claims_that_fail_are_told_and_not_tried_at_once(lab):
    """A service that begins only once in a container: no claim of it can end well."""
    bundle = lab.build("once", "1.0", 7305, lines="Restart=no\nExecStart=\nExecStart=/bin/sh -c 'test ! -e /hoody/storage/once/was && "
                       "touch /hoody/storage/once/was && exec /hoody/kits/once/bin/whoami 7305'\n")
    d = Daemon(kits__public_key=lab.public, warm__pools="dev_kit:debian/13=2", warm__pressure=100)
    os.makedirs(d.dir + "/kits")
    os.rename(bundle, d.dir + "/kits/once-1.0.kit")
    try:
        d.start()
        wait_full(d, 2)
        first = d.create("first", wait=False)
        begun = time.monotonic()
        second = d.create("second", wait=False)
        in_time = time.monotonic() - begun < 1.5
        assert first["status"] == second["status"] == "creating"
        for c in (first, second):
            wait_for(lambda: d.container(c["id"])["status"] == "running", 60, 0.1, "the container")
            assert operation_of(d, c["id"]) == "create"
        assert pool(d)["failed"] == 1 or not in_time
        assert "once" in pool(d)["last_error"], pool(d)
        for c in (first, second):
            assert d.delete(c["id"]).status == 200
    finally:
        d.close()


@pytest.fixture(scope="module")
def bare():
    d = Daemon(warm__pools="bare:debian/13=1", warm__pressure=100).start()
    yield d
    d.close()


def test_another_image_of_that_name(bare):
    """The name of the image moves: what was made from the one before goes."""
    cid = bare.create("maker", hoody_kit=False, bypass_prespawn=True)["id"]
    bare.inside(cid, "sh", "-c", "echo newer > /etc/marker; sync")
    assert bare.op(cid, "stop").status == 200
    wait_full(bare)
    old = pool(bare)["spares"][0]["id"]
    assert bare.post(f"/api/v1/containers/{cid}/publish", {"aliases": ["debian/13"]}).status == 201
    wait_for(lambda: old not in [s["id"] for s in pool(bare)["spares"]], 60, 0.2, "the end of the old one")
    wait_full(bare)
    events = bare.get("/api/v1/events?event_type=server.pool.replaced").data["events"]
    assert "the image is another one" in [e["payload"]["reason"] for e in events]
    made = bare.create("newer", hoody_kit=False, wait=False)
    assert operation_of(bare, made["id"]) == "claim" and bare.inside(made["id"], "cat", "/etc/marker") == "newer"
    for c in (cid, made["id"]):
        assert bare.delete(c).status == 200


def test_a_long_operation_does_not_keep_it_empty(bare):
    cid = bare.create("slow", hoody_kit=False, bypass_prespawn=True)["id"]
    bare.wait_booted(cid)
    bare.inside(cid, "systemd-run", "--unit=slow", "-p", "TimeoutStopSec=infinity", "-p", "ExecStop=/bin/sleep 1001", "/bin/sleep", "1000")
    wait_full(bare)
    init_pid = bare.container(cid)["node"]["init_pid"]
    stop = threading.Thread(target=bare.call, args=("POST", f"/api/v1/containers/{cid}/stop", {"timeout": 400}), kwargs={"timeout": 500})
    stop.start()
    try:
        taken = bare.create("taker", hoody_kit=False, wait=False)
        assert operation_of(bare, taken["id"]) == "claim"
        wait_full(bare)
        assert stop.is_alive() and bare.get("/healthz").data["operations"] == 1
    finally:
        subprocess.run(["nsenter", "-t", str(init_pid), "-a", "pkill", "-x", "sleep"], check=False)
        stop.join(120)
    assert bare.container(cid)["status"] == "stopped"
    for c in (cid, taken["id"]):
        assert bare.delete(c).status == 200
