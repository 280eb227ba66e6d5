# SPDX-License-Identifier: Apache-2.0
"""A container whose way out is a proxy, with real proxies, a real name server and a look at every packet of the uplink.

    host (198.51.100.1) --- net: proxies at .7 (their connections come from .20), servers and names at .8
"""
import glob
import os
import socket
import subprocess
import time

import pytest
from daemon import Daemon
from netlab import Server, Space
from upstream import Eye, Names, Proxy, Service, make_certificate
from world import run, wait_for

HOST4, HOST6, SECOND4 = "198.51.100.1", "2001:db8:1::1", "198.51.100.3"
PROXY4, EXIT4, EXIT6 = "198.51.100.7", "198.51.100.20", "2001:db8:1::20"
TARGET4, TARGET6 = "198.51.100.8", "2001:db8:1::8"
USER, SECRET = "us er", "p@ss:w/rd-of-the-test"
URL_LOGIN = "us%20er:p%40ss%3Aw%2Frd-of-the-test@"
PORTS = {"socks5": 1080, "http": 3128, "https": 3129}


@pytest.fixture(scope="module")
def net():
    space = Space("egress-net")
    run("ip", "link", "add", "egr0", "type", "veth", "peer", "name", "eth0", "netns", space.name)
    run("ip", "addr", "add", HOST4 + "/24", "dev", "egr0")
    run("ip", "addr", "add", HOST6 + "/64", "dev", "egr0", "nodad")
    run("ip", "link", "set", "egr0", "up")
    for address in (PROXY4, EXIT4, TARGET4):
        space.ip("addr", "add", address + "/24", "dev", "eth0")
    for address in (EXIT6, TARGET6):
        space.ip("addr", "add", address + "/64", "dev", "eth0", "nodad")
    space.ip("link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", TARGET4)
    run("ip", "-6", "route", "add", "default", "via", TARGET6)
    yield space
    space.delete()
    subprocess.run(["ip", "link", "del", "egr0"], check=False, capture_output=True)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls")
    os.chmod(path, 0o755)
    for parent in path.parents:
        if str(parent) != "/" and not os.stat(parent).st_mode & 1:
            os.chmod(parent, os.stat(parent).st_mode | 0o11)
    return make_certificate(path, PROXY4)


@pytest.fixture(scope="module")
def servers(net):
    made = [Server(net, "0.0.0.0", 9000), Server(net, "::", 9000), Names(net, TARGET4, TARGET4)]
    yield {"echo4": made[0], "echo6": made[1], "names": made[2]}
    for s in made[:2]:
        s.close()
    made[2].stop()


@pytest.fixture(scope="module")
def proxies(net, certificate, servers):
    made = {kind: Proxy(net, PROXY4, port, kind, (EXIT4, EXIT6), (USER, SECRET),
                        certificate[1] if kind == "https" else None) for kind, port in PORTS.items()}
    yield made
    for p in made.values():
        p.stop()


@pytest.fixture(scope="module")
def node(net, certificate):
    d = Daemon(network__uplink="egr0", network__relay_ca=certificate[0]).start()
    yield d
    with open(d.log_path, encoding="utf-8", errors="replace") as f:
        assert "Sanitizer" not in f.read()
    d.close()


@pytest.fixture(scope="module")
def box(node):
    cid = node.create("egress-box", hoody_kit=False)["id"]
    node.wait_booted(cid)
    return cid


@pytest.fixture
def path(node, box):
    path = f"/api/v1/containers/{box}/network"
    yield path
    node.call("DELETE", path)


def configure(node, path, kind, start=True, login=URL_LOGIN, **more):
    r = node.call("PUT", path, {"type": kind, "proxy": f"{kind}://{login}{PROXY4}:{PORTS[kind]}", "dns_servers": [TARGET4],
                                **more})
    assert r.status == 200, r
    if start:
        r = node.post(path + "/start")
        assert r.status == 200 and r.data["status"] == "running", node.get(path).data["status_message"]
    return r


def ask(node, box, host=TARGET4, port=9000, seconds=3):
    """What the server says first: the address it saw; empty when there is no connection."""
    target = f"[{host}]" if ":" in host else host
    return node.inside(box, "curl", "-s", "-m", str(seconds), "--http0.9", f"http://{target}:{port}/",
                       check=False).split("\n")[0]


def relays(node):
    """Their processes, without the brokers that they begin."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        pid = path.split("/")[2]
        try:
            with open(path, "rb") as f, open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                if f.read().startswith(b"noded-relay\0"):
                    name, _, rest = stat.read().partition("(")[2].rpartition(")")
                    found[int(pid)] = (name, int(rest.split()[1]))
        except OSError:
            pass
    return sorted(pid for pid, (name, parent) in found.items() if name != "relay-broker" and parent not in found)


@pytest.mark.parametrize("kind", list(PORTS))
def test_tcp_and_names_go_through_the_proxy(node, box, path, servers, proxies, kind):
    configure(node, path, kind)
    proxy, names = proxies[kind], servers["names"]
    proxy.asked.clear()
    names.asked.clear()
    eye = Eye("egr0")
    assert ask(node, box) == EXIT4
    assert ask(node, box, TARGET6) == EXIT6
    assert ask(node, box, "some.name.test") == EXIT4
    assert node.inside(box, "getent", "ahostsv4", "big.name.test").count("STREAM") >= 1
    seen = eye.stop()
    assert {n[:2] for n in names.asked} == {("tcp", EXIT4)}, names.asked
    assert {n[2] for n in names.asked} >= {"some.name.test", "big.name.test"}
    assert (TARGET4, 9000) in proxy.asked and (TARGET6, 9000) in proxy.asked and (TARGET4, 53) in proxy.asked
    strangers = [p for p in seen if p[1] != PROXY4 and p[2] in (6, 17, 1)]
    assert not strangers, strangers
    assert all(port == PORTS[kind] for _, to, protocol, port in seen if to == PROXY4 and protocol == 6)


def test_nothing_else_gets_out(node, box, path, proxies):
    configure(node, path, "socks5")
    eye = Eye("egr0")
    script = (
        "import socket\n"
        f"for a in ('{TARGET4}', '{TARGET6}', '{PROXY4}', '224.0.0.251', 'ff02::fb'):\n"
        "    f = socket.AF_INET6 if ':' in a else socket.AF_INET\n"
        "    for port in (123, 443, 5353, 33434):\n"
        "        s = socket.socket(f, socket.SOCK_DGRAM)\n"
        "        try: s.sendto(b'leak', (a, port))\n"
        "        except OSError: pass\n"
        "    for p in (1, 58, 47, 132):\n"
        "        try: socket.socket(f, socket.SOCK_RAW, p).sendto(bytes([8 if f == 2 else 128, 0] + [0] * 14), (a, 0))\n"
        "        except OSError: pass\n")
    pid = node.container(box)["node"]["init_pid"]
    run("nsenter", "-t", str(pid), "-n", "/usr/bin/python3", "-c", script)
    node.inside(box, "ping", "-c1", "-W1", TARGET4, check=False)
    seen = eye.stop()
    assert [p for p in seen if p[2] in (1, 47, 132) or (p[2] == 17 and p[1] != PROXY4)] == [], seen
    inner = {"10.96.0.1", node.container(box)["node"]["ipv4"], node.container(box)["node"]["ipv6"]}
    assert not [p for p in seen if p[0] in inner], seen


def test_egress_rules_hold_for_what_is_relayed(node, box, path, proxies, servers):
    configure(node, path, "socks5")
    rules = f"/api/v1/containers/{box}/firewall"
    assert node.post(rules + "/egress", {"action": "reject", "protocol": "tcp", "destination": TARGET4,
                                         "destination_port": "9000"}).status == 201
    try:
        assert ask(node, box) == "" and ask(node, box, TARGET6) == EXIT6
    finally:
        assert node.post(rules + "/reset").status == 200
    assert ask(node, box) == EXIT4


def test_large_transfers_both_ways_and_half_close(node, box, path, proxies, net):
    """4 MiB to an echo and back; the end of what is sent is seen before the end of the answer."""
    configure(node, path, "socks5")
    script = (
        "import socket, threading, hashlib, os\n"
        f"s = socket.create_connection(('{TARGET4}', 9000)); s.settimeout(20)\n"
        "f = s.makefile('rb'); f.readline()\n"
        "data = os.urandom(4 << 20)\n"
        "def send():\n    s.sendall(data)\n    s.shutdown(socket.SHUT_WR)\n"
        "threading.Thread(target=send).start()\n"
        "got = f.read()\n"
        "print(got == data)")
    pid = node.container(box)["node"]["init_pid"]
    for kind in ("socks5", "https"):
        configure(node, path, kind, start=False)
        wait_for(lambda: node.get(path).data["status"] == "running", 10, what="running")
        out = run("nsenter", "-t", str(pid), "-n", "/usr/bin/python3", "-c", script)
        assert out.strip() == "True", kind


@pytest.mark.parametrize("login,words", [("", "login"), (f"{USER.replace(' ', '%20')}:wrong@", "login")])
@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_a_wrong_login_is_an_error_and_closed(node, box, path, proxies, servers, kind, login, words):
    node.call("DELETE", path)
    node.call("PUT", path, {"type": kind, "proxy": f"{kind}://{login}{PROXY4}:{PORTS[kind]}", "dns_servers": [TARGET4]})
    r = node.post(path + "/start")
    assert (r.status, r.data["status"], r.data["is_running"]) == (200, "error", False)
    data = node.get(path).data
    assert words in data["status_message"] and data["last_status_check"]
    assert ask(node, box) == ""


def test_an_untrusted_certificate_is_refused(node, box, path, proxies, net, tmp_path):
    other = Proxy(net, PROXY4, 4443, "https", (EXIT4, EXIT6), None, make_certificate(tmp_path, PROXY4)[1])
    try:
        node.call("PUT", path, {"type": "https", "proxy": f"https://{PROXY4}:4443", "dns_servers": [TARGET4]})
        assert node.post(path + "/start").data["status"] == "error"
        assert "certificate" in node.get(path).data["status_message"]
        assert ask(node, box) == "" and not other.asked
    finally:
        other.stop()


@pytest.fixture
def every_address():
    """The host listens at a port of all its addresses; the interface has a second one of the same network."""
    run("ip", "addr", "add", SECOND4 + "/24", "dev", "egr0")
    listeners = [socket.create_server(("", 3130), family=family) for family in (socket.AF_INET, socket.AF_INET6)]
    yield listeners
    for s in listeners:
        s.close()
    run("ip", "addr", "del", SECOND4 + "/24", "dev", "egr0")


@pytest.mark.parametrize("proxy", [
    "127.0.0.1", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", HOST4, SECOND4, f"[{HOST6}]", "[::ffff:127.0.0.1]", f"[::ffff:{HOST4}]",
    "169.254.169.254", "169.254.1.1", "[::ffff:169.254.169.254]", "[fe80::1]", "10.96.0.77", "[::ffff:10.96.0.77]",
    "[fd6e:6f64:6564::77]", "224.0.0.1", "198.51.100.255"])
def test_the_host_and_its_surroundings_are_no_proxy(node, box, path, every_address, proxy):
    """No address of the host, however it is written, none that a cloud's metadata may have, none of another container."""
    assert node.call("PUT", path, {"type": "http", "proxy": f"http://{proxy}:3130"}).status == 200
    assert node.post(path + "/start").data["status"] == "error"
    assert "do not connect to" in node.get(path).data["status_message"], node.get(path).data
    for listener in every_address:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_proxy_without_a_way_there_says_so(node, box, path):
    run("ip", "route", "add", "unreachable", "203.0.113.77/32")
    try:
        node.call("PUT", path, {"type": "http", "proxy": "http://203.0.113.77"})
        assert node.post(path + "/start").data["status"] == "error"
        assert "unreachable" in node.get(path).data["status_message"], node.get(path).data
    finally:
        run("ip", "route", "del", "unreachable", "203.0.113.77/32")


def test_a_proxy_by_name_and_the_next_of_its_addresses(node, box, path, proxies, servers, tmp_path):
    """The first address has nobody listening; so has the first name server."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{TARGET6} proxy.test\n{PROXY4} proxy.test\n")
    os.chmod(hosts, 0o644)
    run("mount", "--bind", str(hosts), "/etc/hosts")
    try:
        node.call("PUT", path, {"type": "socks5", "proxy": f"socks5://{URL_LOGIN}proxy.test", "dns_servers": [PROXY4, TARGET4]})
        assert node.post(path + "/start").data["status"] == "running", node.get(path).data
        assert ask(node, box) == EXIT4
        assert ask(node, box, "second.name.test", seconds=10) == EXIT4
        node.call("PUT", path, {"type": "socks5", "proxy": "socks5://no-such-name.test"})
        assert node.get(path).data["status"] == "error" and ask(node, box, seconds=1) == ""
    finally:
        run("umount", "/etc/hosts")


def test_a_proxy_with_an_address_that_is_silent(node, box, path, net, proxies, servers, tmp_path):
    """As where IPv6 leads nowhere: the next address is tried, and from then on it is the first."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{TARGET6} silent.test\n{PROXY4} silent.test\n")
    os.chmod(hosts, 0o644)
    net.exec("nft", f"add table ip6 hole; add chain ip6 hole in {{ type filter hook input priority 0; }}; "
             f"add rule ip6 hole in ip6 daddr {TARGET6} tcp dport 1080 counter drop")
    run("mount", "--bind", str(hosts), "/etc/hosts")

    def tried():
        return net.exec("nft", "list", "table", "ip6", "hole").stdout
    try:
        node.call("PUT", path, {"type": "socks5", "proxy": f"socks5://{URL_LOGIN}silent.test", "dns_servers": [TARGET4]})
        node.post(path + "/start")
        wait_for(lambda: node.get(path).data["status"] == "running", 60, what="the next address")
        before = tried()
        assert "packets 0 " not in before, before
        for _ in range(2):
            assert ask(node, box) == EXIT4
        assert tried() == before, "it is not tried again"
    finally:
        run("umount", "/etc/hosts")
        net.exec("nft", "delete", "table", "ip6", "hole")


class Strange(Service):
    """Says what it likes, then waits or hangs up."""
    words, stays = b"", False

    def serve(self, c, peer):
        c.sendall(self.words)
        if self.stays:
            time.sleep(8)


@pytest.mark.parametrize("kind", ["socks5", "http", "https"])
def test_strange_proxies(node, box, path, net, kind):
    strange = Strange(net, PROXY4, 4000)
    try:
        node.call("PUT", path, {"type": kind, "proxy": f"{kind}://{URL_LOGIN}{PROXY4}:4000", "dns_servers": [TARGET4]})
        assert node.post(path + "/start").data["status"] == "error"
        (before,) = relays(node)
        for words, stays in ((b"\5\2" + b"A" * 100000, False), (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000, False),
                             (os.urandom(5000), False), (b"\x16\x03\x03\x40\x00" + b"B" * 20000, False), (b"\5", True)):
            strange.words, strange.stays = words, stays
            assert ask(node, box, seconds=1) == "" and ask(node, box, "a.name.test", seconds=1) == ""
        assert relays(node) == [before] and node.get(path).data["status"] == "error"
    finally:
        strange.stop()


def test_a_change_takes_effect_at_once(node, box, path, proxies, servers):
    configure(node, path, "socks5")
    (first,) = relays(node)
    assert configure(node, path, "http", start=False).data["status"] == "running"
    proxies["http"].asked.clear()
    assert ask(node, box) == EXIT4 and (TARGET4, 9000) in proxies["http"].asked
    assert len(relays(node)) == 1 and relays(node) != [first]
    assert node.call("PUT", path, {"type": "block"}).data["status"] == "running"
    assert ask(node, box, seconds=1) == ""
    wait_for(lambda: not relays(node), 5, what="the end of the relay")
    assert configure(node, path, "socks5", start=False).data["status"] == "running"
    assert ask(node, box) == EXIT4
    assert node.post(path + "/stop").data["status"] == "stopped"
    assert ask(node, box) == HOST4, "directly"
    wait_for(lambda: not relays(node), 5, what="the end of the relay")


def test_restart_of_the_container_and_delete(node, box, path, proxies, servers):
    configure(node, path, "socks5")
    eye = Eye("egr0")
    assert node.op(box, "restart", {"timeout": 5}).status == 200
    node.wait_booted(box)
    assert ask(node, box) == EXIT4
    assert not [p for p in eye.stop() if p[1] != PROXY4 and p[2] in (6, 17, 1)]
    made = node.post(f"/api/v1/containers/{box}/copy?wait=true",
                     {"target_project_id": node.container(box)["project_id"], "copy_network_rules": True}).data["id"]
    node.wait_booted(made)
    assert node.get(f"/api/v1/containers/{made}/network").data["status"] == "running"
    assert ask(node, made) == EXIT4 and len(relays(node)) == 2
    assert node.delete(made).status == 200
    wait_for(lambda: len(relays(node)) == 1, 5, what="the end of the copy's relay")


def test_the_relay_has_no_rights_and_shows_no_secret(node, box, path, proxies):
    configure(node, path, "socks5")
    (pid,) = relays(node)
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == {"65534"} and status["Groups"].strip() == ""
    assert all(int(status[k], 16) == 0 for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    assert status["NoNewPrivs"] == "1"
    for secret in (SECRET, URL_LOGIN.split(":")[1][:-1]):
        for path_ in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
            try:
                with open(path_, "rb") as f:
                    assert secret.encode() not in f.read(), path_
            except (FileNotFoundError, ProcessLookupError):
                pass
        with open(node.log_path, encoding="utf-8") as f:
            assert secret not in f.read()
        assert secret not in node.get(path).text + node.get("/api/v1/events?limit=500").text
    assert len([p for p in node.cgroups() if os.path.basename(p) == "r1"]) >= 1
