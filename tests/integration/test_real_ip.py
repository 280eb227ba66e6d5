# SPDX-License-Identifier: Apache-2.0
"""A kit service behind nginx and haproxy on the host sees the client's own address: IPv4 and IPv6, a client in another
network namespace and a client that is another container."""
import json
import subprocess

import pytest
from daemon import Daemon
from netlab import Space
from proxy import Proxy, documented
from world import BUILD, run, wait_for

HOST4, HOST6, CLIENT4, CLIENT6 = "198.51.100.1", "2001:db8:1::1", "198.51.100.7", "2001:db8:1::7"
OTHER4 = "198.51.100.8"
PORTS = {"haproxy": 8081, "nginx": 8082, "haproxy-tcp": 8083, "nginx-stream": 8085}
PLAIN_PORT, INNER_PORT = 8084, 8443


@pytest.fixture(scope="module")
def client():
    space = Space("rip-client")
    run("ip", "link", "add", "rip0", "type", "veth", "peer", "name", "eth0", "netns", space.name)
    run("ip", "addr", "add", HOST4 + "/24", "dev", "rip0")
    run("ip", "addr", "add", HOST6 + "/64", "dev", "rip0", "nodad")
    run("ip", "link", "set", "rip0", "up")
    space.ip("addr", "add", CLIENT4 + "/24", "dev", "eth0")
    space.ip("addr", "add", OTHER4 + "/24", "dev", "eth0")
    space.ip("addr", "add", CLIENT6 + "/64", "dev", "eth0", "nodad")
    space.ip("link", "set", "eth0", "up")
    space.ip("route", "add", "default", "via", HOST4)
    space.ip("-6", "route", "add", "default", "via", HOST6)
    yield space
    space.delete()
    subprocess.run(["ip", "link", "del", "rip0"], check=False, capture_output=True)  # it may have gone with its peer


@pytest.fixture(scope="module")
def node(client):
    d = Daemon(kits=True, network__host_ports="8081, 8082, 8083, 8085").start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def boxes(node):
    made = [node.create(name)["id"] for name in ("rip-one", "rip-two")]
    for cid in made:
        assert node.wait_booted(cid) == "running"
    return [node.container(cid) for cid in made]


@pytest.fixture(scope="module", params=list(PORTS))
def proxy(request, node, boxes):
    p = Proxy(request.param, node.dir, boxes[0]["node"], PORTS[request.param])
    yield p
    p.stop()


def curl(proxy, family, *options):
    scheme = "http" if proxy.kind == "plain" else "https"
    return ["curl", "-s", "-k", "-m", "5", *options, f"{scheme}://{HOST4 if family == 4 else f'[{HOST6}]'}:{proxy.port}/"]


@pytest.mark.parametrize("family", [4, 6])
def test_client_in_another_namespace(proxy, client, family):
    def ask():
        return client.exec(*curl(proxy, family), check=False).stdout
    answer = wait_for(ask, 20, what="an answer")
    assert json.loads(answer)["peer"] == (CLIENT4 if family == 4 else CLIENT6)


def test_two_clients_are_told_apart(proxy, client):
    for source in (OTHER4, CLIENT4, OTHER4):
        answer = client.exec(*curl(proxy, 4, "--interface", source)).stdout
        assert json.loads(answer)["peer"] == source


@pytest.mark.parametrize("family", [4, 6])
def test_client_is_another_container(node, proxy, boxes, family):
    answer = node.inside(boxes[1]["id"], *curl(proxy, family))
    assert json.loads(answer)["peer"] == boxes[1]["node"][f"ipv{family}"]


def test_user_rules_do_not_gate_the_proxy_but_direct_traffic(node, proxy, client, boxes):
    path = f"/api/v1/containers/{boxes[0]['id']}/firewall"
    assert node.post(path + "/ingress", {"action": "drop", "protocol": "tcp"}).status == 201
    assert client.exec(*curl(proxy, 4)).stdout
    assert client.exec("curl", "-s", "-m", "1", f"http://{boxes[0]['node']['ipv4']}:22/", check=False).returncode != 0
    assert node.post(path + "/reset").status == 200


def test_kit_ports_are_closed_to_everybody_but_the_proxy(node, client, boxes):
    address = boxes[0]["node"]["ipv4"]
    for port in (7001, 7002, 7003, 7004):
        assert client.exec("curl", "-s", "-m", "1", f"http://{address}:{port}/", check=False).returncode != 0
    assert node.inside(boxes[1]["id"], "sh", "-c", f"curl -s -m 1 http://{address}:7001/ || echo closed") == "closed"


@pytest.mark.parametrize("user", ["root", "haproxy"])
def test_without_the_clients_address_the_account_decides(node, client, boxes, user):
    """haproxy is in proxy.users, root is not and finds the kit port as closed as everybody."""
    plain = Proxy("plain", node.dir, boxes[0]["node"], PLAIN_PORT, user=user)
    try:
        for family in (4, 6):
            answer = client.exec(*curl(plain, family), check=False).stdout
            if user == "root":
                assert not answer
            else:
                assert json.loads(answer)["peer"] not in (CLIENT4, CLIENT6)
    finally:
        plain.stop()


def test_the_rule_bites_and_order_counts(node, client, boxes):
    path = f"/api/v1/containers/{boxes[0]['id']}/firewall/ingress"
    address = boxes[0]["node"]["ipv4"]

    def connects():
        with client.socket(address) as s:
            s.settimeout(1)
            try:
                s.connect((address, 22))
                return True
            except OSError:
                return False
    wait_for(connects, 20, what="sshd")
    rule = {"action": "drop", "protocol": "tcp", "destination_port": "22", "source": CLIENT4}
    assert node.post(path, rule).status == 201
    assert not connects()
    assert node.call("PATCH", path, {"state": "disabled", "destination_port": "22"}).status == 200
    assert connects()
    assert node.call("DELETE", path, {"destination_port": "22"}).data["removed_count"] == 1
    for action in ("allow", "drop"):
        assert node.post(path, {"action": action, "protocol": "tcp", "destination_port": "22"}).status == 201
    assert connects(), "the first rule allows"
    assert node.call("DELETE", path, {"all": True}).data["removed_count"] == 2


def test_routes_tell_the_proxy_everything(node, boxes):
    routes = node.get("/api/v1/node/routes").data
    one = next(r for r in routes["routes"] if r["container_id"] == boxes[0]["id"])
    assert one["running"] and one["ipv4"] == boxes[0]["node"]["ipv4"]
    assert {s["slug"]: s["port"] for s in one["services"]}["whoami"] == 7001
    assert node.op(boxes[1]["id"], "pause").status == 200
    after = node.get("/api/v1/node/routes").data
    assert after["revision"] > routes["revision"]
    assert not next(r for r in after["routes"] if r["container_id"] == boxes[1]["id"])["running"]
    assert node.op(boxes[1]["id"], "resume").status == 200


def run_in(node, cid, box):
    """haproxy in the network and user namespace of a container, after what its root does at each boot."""
    node.inside(cid, "sh", "-e", "-c", documented("container.sh"))
    pid = node.container(cid)["node"]["init_pid"]
    return Proxy("haproxy", node.dir, box["node"], INNER_PORT,
                 enter=["nsenter", "-t", str(pid), "-U", "-n", "-S", "0", "-G", "0"])


def test_a_proxy_in_a_container(node, client, boxes):
    cid = node.create("rip-proxy", hoody_kit=False)["id"]
    path = f"/api/v1/containers/{cid}"
    node.wait_booted(cid)

    def peers():
        seen = []
        for family in (4, 6):
            for ask in (lambda *a: client.exec(*a, check=False).stdout, lambda *a: node.inside(boxes[1]["id"], *a, check=False)):
                answer = ask(*curl(p, family))
                seen.append(json.loads(answer)["peer"] if answer.startswith("{") else None)
        return seen
    own = [boxes[1]["node"][f"ipv{family}"] for family in (4, 6)]
    wanted = [CLIENT4, own[0], CLIENT6, own[1]]
    assert node.post(path + "/forwards", {"host_port": INNER_PORT}).status == 201
    assert node.call("PUT", path + "/transparent-proxy", {}).status == 400
    assert node.get(path + "/transparent-proxy").data == {"container_id": cid, "enabled": False}
    p = run_in(node, cid, boxes[0])
    try:
        assert peers() == [None] * 4, "it is not declared"
        ctl = [BUILD + "/nodectl", "--socket", node.socket]
        assert run(*ctl, "proxy", "rip-proxy", "on") == "on\n" and run(*ctl, "proxy", "rip-proxy") == "on\n"
        assert peers() == wanted
        node.restart()
        assert peers() == wanted, "after a restart of noded"
    finally:
        p.stop()
    assert node.op(cid, "restart", {"timeout": 5}).status == 200
    node.wait_booted(cid)
    p = run_in(node, cid, boxes[0])
    try:
        assert peers() == wanted, "after a restart of the container"
        run("nft", "delete", "chain", "inet", node.name, "source_nat")
        for family in ("-4", "-6"):
            run("ip", family, "rule", "del", "pref", "101")
        wait_for(lambda: "101:" in run("ip", "rule") and "101:" in run("ip", "-6", "rule"), 5, what="the ip rules")
        assert peers() == wanted, "after others have changed the network"
        assert node.call("PATCH", path + "/transparent-proxy", {"enabled": False}).data["enabled"] is False
        assert peers() == [None] * 4, "taken back"
        assert node.call("PUT", path + "/transparent-proxy", {"enabled": True}).status == 200
        assert peers() == wanted
    finally:
        p.stop()
    words = [e["event_type"] for e in node.get(f"/api/v1/events?container_id={cid}&limit=100").data["events"]]
    assert words.count("container.proxy.enabled") == 2 and words.count("container.proxy.disabled") == 1
    assert node.delete(cid).status == 200
    assert "101:" not in run("ip", "rule") + run("ip", "-6", "rule")

