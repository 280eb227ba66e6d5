# SPDX-License-Identifier: Apache-2.0
"""A container whose way out is a proxy, when something of it dies: the proxy, the relay, noded or the rules. In the surroundings of
test_egress.py."""
import http.client
import os
import signal
import sqlite3
import subprocess

import pytest
from test_egress import (EXIT4, HOST4, PORTS, PROXY4, TARGET4, URL_LOGIN, ask, box, certificate, configure, net, node,  # noqa: F401
                         path, proxies, relays, servers)
from upstream import Eye
from world import BUILD, run, wait_for


def test_upstream_dies_and_comes_back(node, box, path, proxies, servers):
    configure(node, path, "socks5")
    assert ask(node, box) == EXIT4
    eye = Eye("egr0")
    proxies["socks5"].stop()
    try:
        assert ask(node, box) == "" and ask(node, box, "a.name.test") == ""
        wait_for(lambda: node.get(path).data["status"] == "error", 10, what="an error")
        assert not [p for p in eye.stop() if p[1] != PROXY4 and p[2] in (6, 17, 1)]
    finally:
        proxies["socks5"].start()
    wait_for(lambda: node.get(path).data["status"] == "running", 15, what="running again")
    assert ask(node, box) == EXIT4


def test_relay_dies_and_comes_back(node, box, path, proxies, servers):
    configure(node, path, "socks5")
    (pid,) = relays(node)
    eye = Eye("egr0")
    os.kill(pid, signal.SIGKILL)
    for _ in range(3):
        ask(node, box, seconds=1)
    wait_for(lambda: node.get(path).data["status"] == "running", 10, what="a new relay")
    assert not [p for p in eye.stop() if p[1] != PROXY4 and p[2] in (6, 17, 1)]
    assert relays(node) != [pid] and len(relays(node)) == 1
    assert ask(node, box) == EXIT4
    db = sqlite3.connect(f"file:{node.state}/noded.db?mode=ro", uri=True)
    words = [t for (t,) in db.execute("SELECT event_type FROM events WHERE event_type LIKE 'container.network.%' ORDER BY seq")]
    assert words[-2:] == ["container.network.failed", "container.network.running"]


def test_without_a_relay_nothing_passes(node, box, path, proxies, servers):
    """noded is dead and so is the relay: the rules alone."""
    configure(node, path, "socks5")
    pid = node.container(box)["node"]["init_pid"]
    (relay,) = relays(node)
    node.kill9()
    os.kill(relay, signal.SIGKILL)
    eye = Eye("egr0")
    r = subprocess.run(["nsenter", "-t", str(pid), "-n", "curl", "-s", "-m", "1", f"http://{TARGET4}:9000/"],
                       capture_output=True, check=False)
    assert r.returncode != 0 and not r.stdout
    assert not [p for p in eye.stop() if p[2] in (6, 17, 1)]
    node.start()
    wait_for(lambda: node.get(path).data["status"] == "running", 10, what="a new relay")
    assert ask(node, box) == EXIT4


def test_killed_noded_is_not_noticed(node, box, path, proxies, servers):
    configure(node, path, "socks5")
    before, pid = relays(node), node.container(box)["node"]["init_pid"]
    script = (f"import socket, time\ns = socket.create_connection(('{TARGET4}', 9000)); s.settimeout(5)\n"
              "s.recv(100); print('up', flush=True)\n"
              "for i in range(40):\n    s.send(b'x'); assert s.recv(1) == b'x'; time.sleep(0.05)\nprint('done', flush=True)")
    with subprocess.Popen(["nsenter", "-t", str(pid), "-n", "/usr/bin/python3", "-c", script], stdout=subprocess.PIPE,
                          text=True) as stream:
        assert stream.stdout.readline() == "up\n"
        node.kill9()
        node.start()
        data = node.get(path).data
        assert stream.stdout.readline() == "done\n"
    assert relays(node) == before, "the same process"
    wait_for(lambda: node.get(path).data["status"] == "running", 5, what="running")
    assert data["configured"] and data["credentials_configured"]
    node.restart()
    assert relays(node) == before
    assert ask(node, box) == EXIT4


def test_a_foreign_flush_is_repaired(node, box, path, proxies, servers):
    configure(node, path, "socks5")
    run("nft", "flush", "ruleset")
    wait_for(lambda: "confined" in node.table(), 3, what="the table")
    assert ask(node, box) == EXIT4 and node.get(path).data["status"] == "running"


@pytest.mark.parametrize("step", ["intent", "rules", "relay", "commit"])
@pytest.mark.parametrize("verb", ["start", "stop", "update", "delete"])
def test_noded_killed_while(node, box, path, proxies, servers, verb, step):
    """What was asked for is on record before it begins, so the next noded completes it."""
    configure(node, path, "socks5", start=verb != "start")
    node.restart(f"op.network.{step}=kill")
    calls = {"start": ("POST", path + "/start"), "stop": ("POST", path + "/stop"), "delete": ("DELETE", path),
             "update": ("PUT", path, {"type": "http", "proxy": f"http://{URL_LOGIN}{PROXY4}:{PORTS['http']}",
                                      "dns_servers": [TARGET4]})}
    with pytest.raises((OSError, http.client.HTTPException)):
        node.call(*calls[verb])
    node.wait_dead()
    assert node.process.returncode == -9
    node.start()
    node.wait_idle()
    if verb in ("stop", "delete"):
        assert node.get(path).data.get("status") == ("stopped" if verb == "stop" else None)
        wait_for(lambda: not relays(node), 5, what="the end of the relay")
        assert ask(node, box) == HOST4
        return
    wait_for(lambda: node.get(path).data.get("status") == "running", 10, what="running")
    data = node.get(path).data
    assert data["type"] == ("socks5" if verb == "start" else "http") and len(relays(node)) == 1
    assert ask(node, box) == EXIT4


def test_rules_that_the_kernel_refuses_leave_it_as_it_was(node, box, path, proxies, servers):
    configure(node, path, "socks5", start=False)
    node.restart("op.network.rules=error")
    assert node.post(path + "/start").status == 500
    assert node.get(path).data["status"] == "configured" and ask(node, box) == HOST4 and not relays(node)
    node.restart()
    assert node.get(path).data["status"] == "configured"


def test_halt_ends_relays(node, box, path, proxies):
    configure(node, path, "socks5")
    assert len(relays(node)) == 1
    node.stop()
    assert len(relays(node)) == 1
    r = subprocess.run([BUILD + "/noded-down", "--config", node.conf, "halt"], capture_output=True, text=True,
                       env={**os.environ, **node.env}, check=False)
    assert r.returncode == 0 and not relays(node), r.stderr
    node.start()
    node.wait_idle()
    assert len(relays(node)) == 1
    wait_for(lambda: node.get(path).data["status"] == "running", 10, what="running")
