# SPDX-License-Identifier: Apache-2.0
"""What runs inside, as the inside says it; and what a container can do to who asks."""
import concurrent.futures
import json
import subprocess
import time
import urllib.parse

import pytest

from daemon import PROJECT, Daemon
from world import wait_for



@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    c = node.create("inside")
    node.wait_booted(c["id"])
    return c


def look(node, box, query="true"):
    r = node.get(f"/api/v1/containers/{box['id']}?runtime={urllib.parse.quote(query)}")
    assert r.status == 200, r
    return r.data["runtime_info"]


def listen(node, box, name, *argv):
    """A program that stays, as a service of its own."""
    node.inside(box["id"], "systemd-run", "--unit", name, *argv)


PERL = ("use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => 8099, Listen => 1);"
        "my $u = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8098, Proto => 'udp'); sleep 3600")


def test_not_asked_for(node, box):
    for query in ("", "?runtime=false"):
        assert node.get(f"/api/v1/containers/{box['id']}{query}").data["runtime_info"] is None


def test_services_are_those_of_systemctl(node, box):
    info = look(node, box)
    assert set(info) == {"displays", "services", "network_services", "terminals", "kits"}
    units = {s["unit"]: s for s in info["services"]}
    journal = units["systemd-journald.service"]
    assert (journal["name"], journal["load"], journal["active"], journal["sub"], journal["status"]) == (
        "systemd-journald", "loaded", "active", "running", "running")
    pid = node.inside(box["id"], "systemctl", "show", "-P", "MainPID", "systemd-journald")
    figures = [s[member] for s in units.values() for member in ("memory", "cpu_usage")]
    assert all(f is None or isinstance(f, str) for f in figures), "strings, as the platform's type has them"
    assert all(s[member] is not None for s in units.values() for member in ("pid", "since") if member in s)
    assert journal["pid"] == int(pid) and journal["restart_count"] == 0 and journal["since"].endswith("Z")
    assert journal["description"] == node.inside(box["id"], "systemctl", "show", "-P", "Description", "systemd-journald")
    listed = node.inside(box["id"], "systemctl", "list-units", "--type=service", "--all", "--plain", "--no-legend")
    known = {line.split()[0] for line in listed.splitlines() if line.split()[1] == "loaded"}
    assert known <= set(units), known - set(units)


def test_listening_sockets_with_their_programs(node, box):
    listen(node, box, "listener", "perl", "-e", PERL)

    def found():
        return {(s["protocol"], s["port"]): s for s in look(node, box, '{"network_services":true}')["network_services"]}
    wait_for(lambda: ("udp", 8098) in found(), 10, 0.5, "the sockets")
    tcp, udp = found()["tcp", 8099], found()["udp", 8098]
    pid = int(node.inside(box["id"], "systemctl", "show", "-P", "MainPID", "listener"))
    assert (tcp["ip"], tcp["pid"], tcp["user"], tcp["program"]) == ("0.0.0.0", pid, "root", "perl")
    assert tcp["path"] == "/usr/bin/perl" and tcp["args"].split(" ")[1] == "-e"
    assert (udp["ip"], udp["pid"]) == ("127.0.0.1", pid)
    assert isinstance(tcp["args"], str) and len(tcp["args"]) <= 33 * 257
    assert all(v is not None for s in found().values() for v in s.values()), "the types of the platform have no null"


@pytest.mark.parametrize("query,keys", [
    ("{}", {"displays", "services", "network_services", "terminals", "kits"}), ('{"displays":true}', {"displays"}),
    ('{"services":true,"terminals":false}', {"services"})])
def test_sections(node, box, query, keys):
    assert set(look(node, box, query)) == keys


@pytest.mark.parametrize("query", ["yes", "[]", "{", '{"other":true}', '{"services":1}', "1"])
def test_bad_queries(node, box, query):
    for path in (f"/api/v1/containers/{box['id']}", "/api/v1/containers/"):
        r = node.get(f"{path}?runtime={urllib.parse.quote(query)}")
        assert r.status == 400 and r.json["field"] == "runtime", r


def test_in_lists(node, box):
    node.wait_booted(node.create("other")["id"])
    time.sleep(2.1)
    for path in ("/api/v1/containers/", f"/api/v1/projects/{PROJECT}/containers"):
        r = node.get(path + "?runtime=true").data["containers"]
        assert len(r) == 2 and all(len(c["runtime_info"]["services"]) > 3 for c in r)
        assert all(c["runtime_info"] is None for c in node.get(path).data["containers"])


def test_many_requests_are_answered_by_few_jobs(node, box):
    time.sleep(2.1)
    before = node.get("/healthz").data
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: len(look(node, box)["services"]), range(64)))
    assert min(found) > 3 and time.monotonic() - begun < 10 and before["ready"]


def test_stopped_and_paused(node, box):
    node.op(box["id"], "pause")
    time.sleep(2.1)
    begun = time.monotonic()
    info = look(node, box)
    assert info["services"] == [] and [s for s in info["network_services"] if s["port"] == 8099]
    assert time.monotonic() - begun < 5
    node.op(box["id"], "resume")
    node.op(box["id"], "force-stop")
    assert look(node, box) is None
    node.op(box["id"], "start")
    node.wait_booted(box["id"])
    time.sleep(2.1)
    assert len(look(node, box)["services"]) > 3


def test_a_service_manager_that_does_not_answer_costs_its_container_only(node, box):
    """Somebody else sits behind the socket and says nothing."""
    mute = ("use IO::Socket::UNIX; unlink '/run/systemd/private';"
            "my $s = IO::Socket::UNIX->new(Local => '/run/systemd/private', Listen => 5);"
            "my @c; while (my $x = $s->accept) { push @c, $x }")
    pid = node.container(box["id"])["node"]["init_pid"]
    p = subprocess.Popen(["nsenter", "-t", str(pid), "-a", "perl", "-e", mute])
    try:
        time.sleep(2.5)
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            slow = pool.submit(look, node, box)
            time.sleep(0.1)
            assert node.get("/healthz").status == 200 and not slow.done()
            info = slow.result(10)
        assert time.monotonic() - begun < 8 and info["services"] == []
    finally:
        p.kill()
        p.wait()
    assert subprocess.run(["pgrep", "-f", "container.look"], capture_output=True, check=False).returncode == 1


def test_garbage_behind_the_socket(node):
    c = node.create("liar")
    node.wait_booted(c["id"])
    noise = ("use IO::Socket::UNIX; unlink '/run/systemd/private';"
             "my $s = IO::Socket::UNIX->new(Local => '/run/systemd/private', Listen => 5);"
             "while (my $x = $s->accept) { print $x \"OK 0123456789abcdef0123456789abcdef\\r\\n\"; for (1..20000) "
             "{ print $x pack('C*', 108, 2, 1, 1, 255, 255, 255, 7, 1, 0, 0, 0, 255, 255, 0, 0) x 64 } }")
    pid = node.container(c["id"])["node"]["init_pid"]
    p = subprocess.Popen(["nsenter", "-t", str(pid), "-a", "perl", "-e", "$SIG{PIPE} = 'IGNORE';" + noise])
    try:
        time.sleep(1)
        begun = time.monotonic()
        info = look(node, c)
        assert info["services"] == [] and time.monotonic() - begun < 8
        assert json.dumps(info)
    finally:
        p.kill()
        p.wait()
    node.delete(c["id"])
