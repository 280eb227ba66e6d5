# SPDX-License-Identifier: Apache-2.0
"""The network configuration of a container: what the API takes and shows, and that "block" lets nothing out."""
import json
import sqlite3
import subprocess

import pytest
from daemon import PROJECT, Daemon
from netlab import Server, Space
from world import run, wait_for

HOST4, HOST6, WORLD4, WORLD6 = "198.51.100.1", "2001:db8:1::1", "198.51.100.7", "2001:db8:1::7"
SECRET = "s3cr3t-of-the-test"


@pytest.fixture(scope="module")
def world():
    space = Space("net-world")
    run("ip", "link", "add", "net0", "type", "veth", "peer", "name", "eth0", "netns", space.name)
    run("ip", "addr", "add", HOST4 + "/24", "dev", "net0")
    run("ip", "addr", "add", HOST6 + "/64", "dev", "net0", "nodad")
    run("ip", "link", "set", "net0", "up")
    space.ip("addr", "add", WORLD4 + "/24", "dev", "eth0")
    space.ip("addr", "add", WORLD6 + "/64", "dev", "eth0", "nodad")
    space.ip("link", "set", "eth0", "up")
    space.ip("route", "add", "10.96.0.0/16", "via", HOST4)
    yield space
    space.delete()
    subprocess.run(["ip", "link", "del", "net0"], check=False, capture_output=True)


@pytest.fixture(scope="module")
def node(world):
    d = Daemon(network__uplink="net0").start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    cid = node.create("net-box", hoody_kit=False)["id"]
    node.wait_booted(cid)
    return cid


@pytest.fixture
def path(node, box):
    path = f"/api/v1/containers/{box}/network"
    yield path
    node.call("DELETE", path)


def test_unconfigured(node, path, box):
    data = node.get(path).data
    assert data["container_id"] == box and data["configured"] is False and data["credentials_configured"] is False
    assert not {"type", "proxy", "status", "remote_status", "configured_at", "last_status_check"} & set(data)
    for method, at in (("DELETE", ""), ("POST", "/start"), ("POST", "/stop")):
        r = node.call(method, path + at)
        assert (r.status, r.json["message"]) == (
            (404, "Container or network configuration not found") if method == "DELETE" else
            (400, "Network not configured for this container"))
    assert node.call("POST", path + "/frob").status == 404
    assert node.get("/api/v1/containers/" + "ab" * 12 + "/network").status == 404


@pytest.mark.parametrize("body,field", [
    ({}, "type"), ({"type": "ftp"}, "type"), ({"type": "socks5"}, "proxy"), ({"type": "http", "proxy": ""}, "proxy"),
    ({"type": "socks5", "proxy": "http://h:1"}, "proxy"), ({"type": "http", "proxy": "https://h:1"}, "proxy"),
    ({"type": "socks5", "proxy": "socks5://h:0"}, "proxy"), ({"type": "socks5", "proxy": "socks5://h:1/x"}, "proxy"),
    ({"type": "socks5", "proxy": f"socks5://{SECRET}:{'x' * 256}@h:1"}, "proxy"),
    ({"type": "block", "comment": "x" * 1001}, "comment"), ({"type": "block", "dns_servers": ["1.1.1"]}, "dns_servers"),
    ({"type": "block", "dns_servers": ["1.1.1.1"] * 5}, "dns_servers"), ({"type": "block", "frob": 1}, "frob"),
    ({"type": "block", "country": "a\nb"}, "country"), ({"type": "block", "city": 7}, "city")])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_bad_input_changes_nothing(node, path, method, body, field):
    r = node.call(method, path, body)
    assert (r.status, r.json["field"]) == (400, field), r
    assert SECRET not in r.text
    if body in ({"type": "socks5"}, {"type": "http", "proxy": ""}):
        assert r.json["message"] == "Proxy URL required for non-block type"
    assert node.get(path).data["configured"] is False


def test_what_is_set_is_shown_but_the_secret(node, path):
    body = {"type": "socks5", "proxy": f"socks5://user:{SECRET}@Proxy.Example:1080", "country": "CH", "city": "Bern",
            "region": "BE", "comment": "a note", "dns_servers": ["9.9.9.9", "2620:fe::fe"]}
    r = node.call("PUT", path, body)
    assert r.status == 200 and SECRET not in r.text
    data = node.get(path).data
    assert data == r.data
    assert (data["configured"], data["status"], data["credentials_configured"]) == (True, "configured", True)
    assert data["proxy"] == "socks5://proxy.example:1080" and data["configured_at"]
    assert data["remote_status"]["is_running"] is False
    for key in ("type", "country", "city", "region", "comment", "dns_servers"):
        assert data[key] == body[key]


def test_credentials_belong_to_their_endpoint(node, path):
    def put(proxy, kind="socks5"):
        return node.call("PATCH", path, {"type": kind, "proxy": proxy}).data["credentials_configured"]
    assert put(f"socks5://u:{SECRET}@h:1080")
    assert put("socks5://h:1080") and put("socks5://H"), "the same endpoint keeps them"
    assert not put("socks5://h:1081")
    assert put(f"socks5://u:{SECRET}@h:1080")
    assert not put("http://h:1080", "http")


def test_defaults(node, path):
    data = node.call("PUT", path, {"type": "block", "dns_servers": None, "comment": None}).data
    assert data["dns_servers"] == ["1.1.1.1", "8.8.8.8"] and "proxy" not in data and "comment" not in data


def test_it_outlives_the_daemon(node, path):
    node.call("PUT", path, {"type": "http", "proxy": f"http://u:{SECRET}@h:3128", "comment": "stays"})
    before = node.get(path).data
    node.kill9()
    node.start()
    assert node.get(path).data == before
    db = sqlite3.connect(f"file:{node.state}/noded.db?mode=ro", uri=True)
    bodies, secrets = zip(*db.execute("SELECT body, credentials FROM network_configs"))
    assert SECRET in secrets[0] and SECRET not in bodies[0]


def test_events_tell_without_the_secret(node, path):
    node.call("PUT", path, {"type": "socks5", "proxy": f"socks5://u:{SECRET}@h:1080"})
    node.call("PUT", path, {"type": "block"})
    node.post(path + "/start")
    node.post(path + "/stop")
    node.call("DELETE", path)
    node.wait_idle()
    db = sqlite3.connect(f"file:{node.state}/noded.db?mode=ro", uri=True)
    rows = list(db.execute("SELECT * FROM events WHERE event_type LIKE 'container.network.%' ORDER BY seq"))
    assert SECRET not in repr(rows)
    words = [next(v.split(".")[2] for v in row if isinstance(v, str) and v.startswith("container.network.")) for row in rows]
    assert words[-5:] == ["created", "updated", "running", "stopped", "deleted"]


# Block.

def reaches(node, box, address=WORLD4, port=9000):
    target = f"[{address}]" if ":" in address else address
    out = node.inside(box, "curl", "-s", "-m", "1", "--http0.9", f"http://{target}:{port}/", check=False)
    return bool(out)


@pytest.fixture(scope="module")
def server(world):
    servers = [Server(world, "0.0.0.0", 9000), Server(world, "::", 9000)]
    yield servers
    for s in servers:
        s.close()


def test_block(node, box, path, server):
    assert reaches(node, box) and reaches(node, box, WORLD6)
    assert node.call("PATCH", path, {"type": "block"}).data["status"] == "configured"
    assert reaches(node, box), "configured is not running"
    r = node.post(path + "/start")
    assert r.status == 200 and r.data["status"] == "running" and r.data["is_running"] is True and r.data["last_check"]
    assert node.get(path).data["status"] == "running"
    assert not reaches(node, box) and not reaches(node, box, WORLD6)
    assert node.post(path + "/start").data["status"] == "running"
    r = node.post(path + "/stop")
    assert r.data["status"] == "stopped" and r.data["is_running"] is False
    assert reaches(node, box) and reaches(node, box, WORLD6)


def test_block_cuts_what_is_established(node, box, path, server):
    node.call("PUT", path, {"type": "block"})
    pid = node.container(box)["node"]["init_pid"]
    script = (f"import socket,sys; s=socket.create_connection(('{WORLD4}', 9000)); s.recv(100); s.send(b'a'); s.recv(9)\n"
              "print('up', flush=True); sys.stdin.readline(); s.settimeout(1); s.send(b'b')\n"
              "try: print(s.recv(9), flush=True)\nexcept OSError as e: print('cut', flush=True)")
    with subprocess.Popen(["nsenter", "-t", str(pid), "-n", "/usr/bin/python3", "-c", script], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        assert p.stdout.readline() == "up\n"
        assert node.post(path + "/start").status == 200
        p.stdin.write("\n")
        p.stdin.flush()
        assert p.stdout.readline() == "cut\n"


def test_block_holds_over_restarts(node, box, path, server):
    node.call("PUT", path, {"type": "block"})
    assert node.post(path + "/start").status == 200
    node.kill9()
    assert not reaches_raw(node, box)
    node.start()
    assert node.get(path).data["status"] == "running" and not reaches(node, box)
    assert node.op(box, "restart", {"timeout": 5}).status == 200
    assert not reaches(node, box)
    # an update takes effect at once
    assert node.call("PUT", path, {"type": "block", "comment": "still"}).data["status"] == "running"
    assert node.call("DELETE", path).json["message"] == "Network configuration removed successfully"
    wait_for(lambda: reaches(node, box), 20, what="the way out")


def reaches_raw(node, box):
    """Without asking the daemon, which is dead."""
    slot = 1
    pid = next(int(p) for p in run("pgrep", "-f", f"{node.run_dir} c{slot}").split())
    init = run("pgrep", "-P", str(pid)).split()[0]
    r = subprocess.run(["nsenter", "-t", init, "-n", "curl", "-s", "-m", "1", "--http0.9", f"http://{WORLD4}:9000/"],
                       capture_output=True, check=False)
    return bool(r.stdout)


def test_copy_carries_it_when_asked(node, box, path):
    node.call("PUT", path, {"type": "socks5", "proxy": f"socks5://u:{SECRET}@h:1080"})
    made = {}
    for asked in (True, False):
        r = node.post(f"/api/v1/containers/{box}/copy?wait=true",
                      {"target_project_id": PROJECT, "copy_network_rules": asked})
        assert r.status == 201 and SECRET not in r.text
        made[asked] = r.data["id"]
    data = node.get(f"/api/v1/containers/{made[True]}/network").data
    assert data["configured"] and data["credentials_configured"] and data["proxy"] == "socks5://h:1080"
    assert not node.get(f"/api/v1/containers/{made[False]}/network").data["configured"]
    for cid in made.values():
        assert node.delete(cid).status == 200
    db = sqlite3.connect(f"file:{node.state}/noded.db?mode=ro", uri=True)
    assert db.execute("SELECT count(*) FROM network_configs").fetchone() == (1,)


def test_the_secret_is_in_no_log(node):
    with open(node.log_path, encoding="utf-8") as f:
        assert SECRET not in f.read()
    assert json.loads(run("stat", "-c", '"%a"', f"{node.state}/noded.db")) == "600"
