# SPDX-License-Identifier: Apache-2.0
"""A host on which IPv6 is switched off: the node works with IPv4 alone and says so; when IPv6 comes back, so does all that has it."""
import os
import subprocess

import pytest
from daemon import Daemon
from netlab import Space
from world import BUILD, wait_for

SWITCHES = ("all", "default", "lo")
RELAY_PORT = 14641


class Host(Space):
    """A network namespace whose switches can be set."""

    def ipv6(self, **off):
        """all=1 sets the others too, so it comes first."""
        for name in SWITCHES:
            if name in off:
                self.exec("sh", "-c", f"echo {off[name]} > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")

    def on(self):
        self.ipv6(all=0, default=0, lo=0)

    def connects(self, address, port=9):
        """Whether the other end says that nobody listens: packets go there and back."""
        with self.socket(address) as s:
            s.settimeout(2)
            try:
                s.connect((address, port))
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
        return True


@pytest.fixture
def host():
    space = Host("no-ipv6")
    yield space
    space.delete()


@pytest.fixture
def node(host):
    d = Daemon(space=host)
    yield d
    d.close()


def check(node):
    return subprocess.run([*node.within, BUILD + "/noded", "-c", node.conf, "--check"], capture_output=True, text=True, check=True).stdout


def inside6(node, cid):
    """(addresses but link-local ones, default routes) of the container."""
    pid = str(node.container(cid)["node"]["init_pid"])

    def show(*argv):
        return subprocess.run(["nsenter", "-t", pid, "-n", "ip", "-6", *argv], capture_output=True, text=True, check=True).stdout
    return ([line.split()[1] for line in show("addr", "show", "dev", "eth0", "scope", "global").splitlines() if "inet6" in line],
            show("route", "show", "default").split()[:5])


def routes_of(node):
    return {r["container_id"]: r for r in node.get("/api/v1/node/routes").data["routes"]}


def assert_ipv4_only(node, host, cid):
    shown = node.container(cid)["node"]
    assert shown["ipv4"].startswith("10.96.") and "ipv6" not in shown
    assert "ipv6" not in routes_of(node)[cid]
    assert inside6(node, cid) == ([], [])
    assert host.connects(shown["ipv4"])
    addresses = node.get(f"/api/v1/containers/{cid}/stats?runtime=true").data["network"][0]["addresses"]
    assert [a["family"] for a in addresses] == ["inet"]


def assert_both(node, host, cid):
    shown = node.container(cid)["node"]
    assert routes_of(node)[cid]["ipv6"] == shown["ipv6"]
    assert host.connects(shown["ipv4"])
    wait_for(lambda: inside6(node, cid) == ([shown["ipv6"] + "/128"], ["default", "via", "fe80::1", "dev", "eth0"]), 20,
             what="the address inside")
    assert host.connects(shown["ipv6"])


def assert_calm(node):
    """What is not there is not missed."""
    node.wait_idle()
    network = node.get("/healthz").data["network"]
    assert (network["state"], network["lost_links"]) == ("ok", [])
    assert "could not be put right" not in node.log() and "cannot" not in node.log()


@pytest.mark.parametrize("off", [{"all": 1}, {"default": 1}, {"lo": 1}, {"all": 1, "default": 1, "lo": 1}, {"all": 1, "lo": 0}],
                         ids=lambda off: "-".join(f"{k}{v}" for k, v in off.items()))
def test_each_switch_leaves_ipv4(node, host, off):
    assert check(node) == "The configuration is valid.\n"
    host.ipv6(**off)
    reason = f"net.ipv6.conf.{next(iter(off))}.disable_ipv6 is on"
    said = f"IPv6 is disabled on this host, containers get IPv4 only: {reason}"
    assert check(node) == said + ".\nThe configuration is valid.\n"
    node.start()
    assert said in node.log()
    assert node.get("/api/v1/node").data["ipv6"] == {"enabled": False, "reason": reason}
    assert node.get("/healthz").data["network"]["ipv6"] == {"enabled": False, "reason": reason}
    box = node.create("four", hoody_kit=False)
    assert_ipv4_only(node, host, box["id"])
    assert_calm(node)
    assert node.op(box["id"], "restart", {"timeout": 5}).status == 200
    assert_ipv4_only(node, host, box["id"])


def test_ipv6_comes_back_and_goes_again(node, host):
    host.ipv6(all=1)
    node.start()
    box = node.create("back", hoody_kit=False)["id"]
    node.create("stopped", hoody_kit=False)
    stopped = node.list()[0]["id"] if node.list()[0]["id"] != box else node.list()[1]["id"]
    assert node.op(stopped, "stop", {"timeout": 5}).status == 200
    assert_ipv4_only(node, host, box)
    host.on()
    node.restart(failpoint="ipv6.change=error")
    wait_for(lambda: "keeps the IPv6 that it had" in node.log(), 20, what="the warning")
    node.restart()
    assert node.get("/api/v1/node").data["ipv6"] == {"enabled": True}
    assert_both(node, host, box)
    assert node.op(stopped, "start").status == 200
    assert_both(node, host, stopped)
    assert_calm(node)
    host.ipv6(default=1, lo=1)
    node.restart()
    wait_for(lambda: inside6(node, box) == ([], []), 20, what="the end of the address inside")
    assert_ipv4_only(node, host, box)
    assert_calm(node)
    host.on()
    node.restart()
    assert_both(node, host, box)


def test_removal_of_everything(node, host):
    """What was made with IPv6 is removed without it."""
    node.start()
    node.create("purged", hoody_kit=False)
    node.stop()
    host.ipv6(all=1)
    down = subprocess.run([*node.within, BUILD + "/noded-down", "-c", node.conf, "purge"], capture_output=True, text=True, check=False,
                          env={**os.environ, **node.env})
    assert down.returncode == 0, down.stderr
    assert host.ip("-6", "rule", "show").stdout.count("lookup 100") == 0
    assert node.veth not in host.ip("link", "show").stdout


def test_switched_off_while_noded_runs(node, host):
    """Nothing fails; what the API shows is decided by the next start."""
    node.start()
    box = node.create("sudden", hoody_kit=False)["id"]
    assert_both(node, host, box)
    host.ipv6(all=1)
    later = node.create("later", hoody_kit=False)["id"]
    assert host.connects(node.container(later)["node"]["ipv4"]) and host.connects(node.container(box)["node"]["ipv4"])
    assert_calm(node)
    host.on()
    host.ip("rule", "del", "pref", "100")  # the kernel does not tell of the switch; of this it does
    wait_for(lambda: host.connects(node.container(box)["node"]["ipv6"]), 20, what="the repair")


def test_input_that_names_ipv6_is_refused(node, host):
    host.ipv6(all=1)
    node.start()
    box = node.create("input", hoody_kit=False)["id"]
    at = f"/api/v1/containers/{box}"
    r = node.call("PUT", at + "/network", {"type": "http", "proxy": "http://[2001:db8::1]:3128"})
    assert (r.status, r.json["field"]) == (400, "proxy") and "IPv6 is disabled on this host" in r.json["message"]
    assert node.get(at + "/network").data["configured"] is False
    r = node.post(at + "/firewall/ingress", {"action": "allow", "protocol": "tcp", "source": "2001:db8::/32"})
    assert (r.status, r.json["field"]) == (400, "source") and "IPv4" in r.json["message"]
    assert node.post(at + "/forwards", {"protocol": "tcp", "host_port": 2022, "container_port": 9}).status in (200, 201)


def listeners6(host):
    """Ports that somebody listens on by IPv6."""
    lines = host.exec("cat", "/proc/net/tcp6").stdout.splitlines()[1:]
    return {int(line.split()[1].split(":")[1], 16) for line in lines if line.split()[3] == "0A"}


def test_relays_follow(node, host):
    """A relay without IPv6 is replaced when there is IPv6; the proxy here is nobody."""
    host.ipv6(all=1)
    node.start()
    box = node.create("relayed", hoody_kit=False)["id"]
    path = f"/api/v1/containers/{box}/network"
    assert node.call("PUT", path, {"type": "socks5", "proxy": "socks5://127.0.0.1:1"}).status == 200
    assert node.post(path + "/start").status == 200
    wait_for(lambda: "do not connect" in (node.get(path).data.get("status_message") or ""), 20, what="a relay that has tried")
    assert listeners6(host) == set()
    host.on()
    node.restart()
    wait_for(lambda: listeners6(host) == {RELAY_PORT}, 20, what="a relay with IPv6")
