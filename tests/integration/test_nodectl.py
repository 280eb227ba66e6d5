# SPDX-License-Identifier: Apache-2.0
"""nodectl against a real node, over the socket and over mTLS, and its certificates."""
import json
import os
import re
import stat
import subprocess
import time

import pytest
from daemon import PROJECT, Daemon
from world import BUILD, run, wait_for

NODECTL = os.path.join(BUILD, "nodectl")


def nodectl(*argv, code=0, env=None):
    done = subprocess.run([NODECTL, *argv], text=True, capture_output=True, check=False, timeout=90,
                          env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL)
    assert done.returncode == code, (argv, done.returncode, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    path = tmp_path_factory.mktemp("pki")
    nodectl("pki", "init", "--dir", str(path), "--host", "node.example")
    return path


@pytest.fixture(scope="module")
def node(pki):
    run("ip", "link", "set", "lo", "up")
    d = Daemon(tls__listen="127.0.0.1:18443", tls__certificate=f"{pki}/server.crt", tls__key=f"{pki}/server.key",
               tls__client_ca=f"{pki}/ca.crt").start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def ctl(node):
    return lambda *argv, code=0: nodectl("--socket", node.socket, *argv, code=code)


@pytest.fixture(scope="module")
def box(ctl):
    """A running container by its name."""
    ctl("create", "ctl-box", "--env", "COLOUR=blue", "--env", "SENTENCE=a b=c", "--no-kit", "--comment", "two\twords",
        "--wait")
    return "ctl-box"


# Without a node.

def test_pki_of_one_more_node(pki, tmp_path):
    out = tmp_path / "second"
    nodectl("pki", "node", "a" * 24, "--dir", str(pki), "--out", str(out), "--host", "second.example")
    subjects = {name: run("openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253", "-ext", "extendedKeyUsage,subjectAltName", "-in", f"{out}/{name}.crt")
                for name in ("server", "node")}
    assert f"CN={'a' * 24},OU=node," in subjects["node"] and "Client" in subjects["node"]
    assert "DNS:second.example" in subjects["server"] and "Server" in subjects["server"]
    for name in subjects:
        assert stat.S_IMODE(os.stat(out / f"{name}.key").st_mode) == 0o600
        run("openssl", "verify", "-CAfile", str(out / "ca.crt"), f"{out}/{name}.crt")
    assert (out / "ca.crt").read_bytes() == (pki / "ca.crt").read_bytes() and not (out / "ca.key").exists()
    assert "24 lower case" in nodectl("pki", "node", "x", "--dir", str(pki), "--out", str(out), code=2)
    assert "--out" in nodectl("pki", "node", "a" * 24, "--dir", str(pki), code=2)
    assert "ca.key" in nodectl("pki", "node", "a" * 24, "--dir", str(tmp_path), "--out", str(out), code=1)


@pytest.mark.parametrize("argv", [(), ("frob",), ("get",), ("get", "a", "b"), ("list", "--bogus"), ("snapshot",),
                                  ("stop", "x", "--timeout", "0"), ("stop", "x", "--timeout"), ("create", "--env", "A"),
                                  ("firewall", "add", "x", "sideways", "allow", "tcp"), ("list", "--json=1")])
def test_usage_errors_end_with_2(argv):
    assert "nodectl: " in nodectl("--socket", "/nonexistent", *argv, code=2)


def test_no_node_is_one_line_with_a_remedy():
    text = nodectl("--socket", "/nonexistent", "list", code=1)
    assert text.count("\n") == 1 and "systemctl start noded" in text


def test_every_command_has_help():
    overview = nodectl("--help").split("Options of")[0]
    names = re.findall(r"^  ([a-z-]+(?: (?!bash)[a-z-]+)?) ", overview, re.M)
    assert len(names) > 25
    for name in names:
        text = nodectl(*name.split(), "--help")
        assert text.startswith(f"usage: nodectl {name}") and "--json" in text


def test_completion_is_bash(tmp_path):
    script = tmp_path / "completion"
    script.write_text(nodectl("completion", "bash"))
    ask = (f". {script}; COMP_WORDS=(nodectl $1 ''); COMP_CWORD=2; [ $1 ] || COMP_CWORD=1; _nodectl; "
           "echo ${COMPREPLY[*]}")
    assert run("bash", "-c", ask, "-", "snapshot").split() == ["list", "create", "alias", "restore", "delete"]


def test_pki_is_made_once_and_private(pki):
    for name in ("ca", "server", "control-plane", "operator"):
        assert stat.S_IMODE(os.stat(pki / f"{name}.key").st_mode) == 0o600
    before = (pki / "ca.crt").read_bytes()
    assert "already" in nodectl("pki", "init", "--dir", str(pki))
    assert (pki / "ca.crt").read_bytes() == before
    text = run("openssl", "x509", "-in", str(pki / "server.crt"), "-noout", "-ext", "subjectAltName")
    assert "DNS:node.example" in text and "IP Address:127.0.0.1" in text
    for role in ("control-plane", "operator"):
        assert f",OU={role}," in run("openssl", "x509", "-in", str(pki / f"{role}.crt"), "-noout", "-subject", "-nameopt", "RFC2253")
        run("openssl", "verify", "-CAfile", str(pki / "ca.crt"), "-purpose", "sslclient", str(pki / f"{role}.crt"))


def test_pki_does_not_replace_some_files(tmp_path):
    (tmp_path / "ca.key").write_text("mine")
    assert "--force" in nodectl("pki", "init", "--dir", str(tmp_path), code=1)
    assert (tmp_path / "ca.key").read_text() == "mine"


# With one.

def test_node_health_routes(ctl, node, box):
    assert ctl("health") == "ready\n"
    assert "Containers:" in ctl("node")
    assert json.loads(ctl("--json", "node"))["id"] == node.get("/api/v1/node").data["id"]
    assert box in ctl("routes") and "10.96.0." in ctl("routes")


def test_container_by_id_prefix_and_name(ctl, node, box):
    cid = ctl("-q", "get", box).strip()
    assert re.fullmatch("[0-9a-f]{24}", cid)
    for text in (cid, cid[:10], box):
        assert json.loads(ctl("--json", "get", text))["id"] == cid
    assert "nodectl list" in ctl("get", "nobody", code=1)
    assert "nodectl list" in ctl("get", "f" * 24, code=1)
    assert cid in ctl("list") and box in ctl("list", "--project", PROJECT)
    assert ctl("-q", "list").split() == [c["id"] for c in node.list()]


def test_create_keeps_its_options(ctl, box):
    c = json.loads(ctl("--json", "get", box))
    assert c["status"] == "running" and c["hoody_kit"] is False and c["comment"] == "two\twords"
    assert c["environment_vars"] == {"COLOUR": "blue", "SENTENCE": "a b=c"}
    assert "two?words" in ctl("get", box)
    assert "name" in ctl("create", "x", code=1)
    assert "choose another name" in ctl("create", box, code=1)


def test_power(ctl, box):
    assert ctl("pause", box) == f"{box} is paused\n"
    assert ctl("resume", box) == f"{box} is running\n"
    assert "already" in ctl("start", box, code=1)
    assert ctl("force-stop", box) == f"{box} is stopped\n"
    assert ctl("start", box, "--timeout=60") == f"{box} is running\n"
    logs = ctl("logs", box)
    assert "pause" in logs and "force-stop" in logs
    assert "Memory:" in ctl("stats", box)


def test_network(ctl, box, tmp_path, node):
    assert "no network configuration" in ctl("network", "get", box)
    url = tmp_path / "url"
    url.write_text("socks5://user:not-to-be-seen@proxy.example\n")
    out = ctl("network", "set", box, "socks5", "--proxy-file", str(url), "--dns", "9.9.9.9", "--dns", "2620:fe::fe",
              "--country", "CH")
    assert "socks5://proxy.example:1080" in out and "2620:fe::fe" in out and "not-to-be-seen" not in out
    data = json.loads(ctl("network", "get", box, "--json"))
    assert data["credentials_configured"] and data["dns_servers"] == ["9.9.9.9", "2620:fe::fe"] and data["country"] == "CH"
    piped = subprocess.run([NODECTL, "--socket", node.socket, "network", "set", box, "http", "--proxy-file", "-", "--json"],
                           input="http://a:b@h:1", text=True, capture_output=True, check=True)
    assert json.loads(piped.stdout)["proxy"] == "http://h:1"
    assert "one of --proxy" in ctl("network", "set", box, "http", "--proxy", "http://h", "--proxy-file", "-", code=2)
    assert "Proxy URL required" in ctl("network", "set", box, "socks5", code=1)
    ctl("network", "set", box, "block")
    assert ctl("network", "start", box).strip() == "running"
    assert ctl("network", "stop", box).strip() == "stopped"
    ctl("network", "delete", box)
    assert "not found" in ctl("network", "delete", box, code=1)


def test_env(ctl, box):
    ctl("env", "set", box, "A=1", "B=x y")
    assert "B=x y\n" in ctl("env", "list", box)
    ctl("env", "unset", box, "B")
    assert json.loads(ctl("--json", "env", "list", box)) == {"A": "1", "COLOUR": "blue", "SENTENCE": "a b=c"}


def test_snapshot_alias(ctl, box):
    ctl("snapshot", "create", box, "one alias")
    assert "onealias is now another alias" in ctl("snapshot", "alias", box, "one alias", "another alias")
    assert "another alias" in ctl("snapshot", "list", box)
    assert json.loads(ctl("--json", "snapshot", "alias", box, "onealias"))["alias"] is None
    ctl("snapshot", "delete", box, "onealias")


def test_firewall(ctl, box):
    ctl("firewall", "add", box, "ingress", "drop", "tcp", "--port", "80,443", "--source", "192.0.2.0/24",
        "--description", "no web")
    ctl("firewall", "add", box, "egress", "reject", "udp", "--port=53")
    assert "already" in ctl("firewall", "add", box, "egress", "reject", "udp", "--port", "53")
    text = ctl("firewall", "list", box)
    assert "192.0.2.0/24" in text and "no web" in text and "egress" in text
    assert ctl("firewall", "toggle", box, "ingress", "off", "--port", "80,443") == "the rule is disabled\n"
    assert "--all" in ctl("firewall", "remove", box, "egress", code=2)
    assert ctl("firewall", "remove", box, "egress", "--protocol", "udp") == "1 removed\n"
    assert "matches" in ctl("firewall", "remove", box, "egress", "--port", "9", code=1)
    ctl("firewall", "reset", box)
    assert json.loads(ctl("--json", "firewall", "list", box))["rule_count"] == 0


def test_snapshots_and_copy(ctl, box):
    assert ctl("snapshot", "create", box, "before", "--expire", "2") == "before created\n"
    assert "before" in ctl("snapshot", "list", box)
    assert ctl("-q", "snapshot", "list", box) == "before\n"
    assert ctl("snapshot", "restore", box, "before") == "before restored\n"
    assert "source_snapshot" in ctl("copy", box, "--name", "ctl-copy", "--snapshot", "nothing", code=1)
    ctl("copy", box, "--name", "ctl-copy", "--snapshot", "before", "--wait")
    assert json.loads(ctl("--json", "get", "ctl-copy"))["source_container_id"] == ctl("-q", "get", box).strip()
    assert ctl("delete", "ctl-copy") == "ctl-copy deleted\n"
    assert ctl("snapshot", "delete", box, "before") == "before deleted\n"


def test_mtls(node, pki, box):
    def remote(role, *argv, code=0, url="https://127.0.0.1:18443"):
        return nodectl("--url", url, "--cert", f"{pki}/{role}.crt", "--key", f"{pki}/{role}.key", "--ca",
                       f"{pki}/ca.crt", *argv, code=code)

    assert box in remote("operator", "list")
    assert remote("control-plane", "health") == "ready\n"
    remote("server", "list", code=1)  # a certificate without a role
    env = {"NODED_URL": "https://127.0.0.1:18443", "NODED_CERT": f"{pki}/operator.crt",
           "NODED_KEY": f"{pki}/operator.key", "NODED_CA": f"{pki}/ca.crt"}
    assert nodectl("health", env=env) == "ready\n"


def test_delete(ctl, box, node):
    ctl("delete", box)
    assert "no containers" in subprocess.run([NODECTL, "--socket", node.socket, "list"], text=True,
                                             capture_output=True, check=True).stderr


def test_update(ctl, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True)
    ctl("create", "ctl-update", "--no-kit", "--wait")
    ctl("update", "ctl-update", "--name", "ctl-updated", "--comment", "why", "--ramdisk", "off", "--autostart", "off",
        "--ssh-key", str(tmp_path / "k.pub"))
    c = json.loads(ctl("--json", "get", "ctl-updated"))
    assert c["comment"] == "why" and not c["ramdisk"] and not c["autostart"] and c["ssh_key_fingerprint"]
    c = json.loads(ctl("--json", "update", "ctl-updated", "--no-ssh-key", "--comment", "", "--color", "fff",
                       "--ramdisk-scope", "project"))
    assert c["ssh_public_key"] is None and c["comment"] is None and c["color"] == "#FFF"
    assert c["ramdisk_scope"] == "project"
    for argv in ((), ("--ramdisk", "yes"), ("--no-ssh-key", "--ssh-key", str(tmp_path / "k.pub")),
                 ("--ssh-key", str(tmp_path / "k"))):
        ctl("update", "ctl-updated", *argv, code=2)
    ctl("delete", "ctl-updated")


def test_projects(ctl):
    pid = ctl("-q", "project", "create", "ctl project", "--max-containers", "1", "--color", "abc").strip()
    assert "ctl project" in ctl("project", "list") and pid in ctl("-q", "project", "list")
    cid = ctl("-q", "create", "in-project", "--project", pid, "--no-kit", "--wait").strip()
    assert ctl("-q", "list", "--project", "ctl project").split() == [cid]
    assert "takes 1 containers" in ctl("create", "too-many", "--project", pid, "--no-kit", code=1)
    ctl("project", "update", "ctl project", "--max-containers", "none", "--alias", "ctl-other")
    assert json.loads(ctl("--json", "project", "get", pid))["max_containers"] is None
    ctl("project", "update", pid, "--max-containers", "-1", code=2)
    assert cid in ctl("project", "stats", pid) and "Running" in ctl("project", "stats", "ctl-other")
    ctl("project", "update", pid, code=2)
    assert "with 1 containers" in ctl("project", "delete", "ctl-other")
    assert "there is no project 'ctl-other'" in ctl("project", "get", "ctl-other", code=1)




@pytest.fixture(scope="module")
def here(ctl):
    ctl("create", "ctl-here", "--no-kit", "--wait")
    return "ctl-here"


def test_events(node, ctl, here):
    cid = json.loads(ctl("--json", "get", here))["id"]
    ctl("pause", here)
    ctl("resume", here)
    lines = ctl("events", "--container", here).splitlines()
    assert lines[0].startswith("TIME") and "container.creating" in lines[1] and "resume" in lines[-1]
    only = json.loads(ctl("--json", "events", "--type", "container.paused", "--container", here, "--limit", "3"))
    assert only and {e["event_type"] for e in only} == {"container.paused"} and only[0]["container_id"] == cid
    assert "start_date" in ctl("events", "--since", "yesterday", code=1)
    ctl("events", "--follow", "--limit", "5", code=2)
    p = subprocess.Popen([NODECTL, "--socket", node.socket, "--json", "events", "--follow", "--container", here],
                         stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        ctl("pause", here)
        assert [json.loads(p.stdout.readline())["event_type"] for _ in range(2)] == [
            "container.paused", "container.operation.completed"]
        node.restart()
        ctl("resume", here)
        assert [json.loads(p.stdout.readline())["event_type"] for _ in range(2)] == [
            "container.running", "container.operation.completed"]
    finally:
        p.kill()
        p.wait()


def test_runtime_and_stats(node, ctl, here):
    node.wait_booted(json.loads(ctl("--json", "get", here))["id"])
    time.sleep(2.1)
    text = ctl("runtime", here)
    assert "systemd-journald" in text and "SERVICE" in text
    assert set(json.loads(ctl("--json", "runtime", here))) == {"services", "network_services", "displays", "terminals", "kits"}
    stats = ctl("stats", here)
    for label in ("CPU:", "Disk:", "Swap:", "Ramdisk:", "received:"):
        assert label in stats, stats


def test_server(ctl, here):
    assert "container-restart-all" in ctl("server", "commands") and "retention_days" in ctl("server", "commands")
    assert json.loads(ctl("server", "exec", "node-status"))["containers"] >= 1
    cid = json.loads(ctl("--json", "get", here))["id"]
    assert "services" in ctl("server", "exec", "container-services", f"container_id={cid}")
    assert "deleted_count" in ctl("server", "exec", "prune-events", "retention_days=3000")
    assert "retention_days" in ctl("server", "exec", "prune-events", "retention_days=0", code=1)
    assert "confirmation" in ctl("server", "exec", "container-restart-all", code=1)
    assert cid in ctl("server", "exec", "container-restart-all", "--yes")
    log = json.loads(ctl("--json", "server", "exec", "pool-usage", "--no-wait"))["command_log_id"]
    wait_for(lambda: "total_bytes" in ctl("server", "log", log), 5)
    assert "Memory:" in ctl("server", "runtime") and json.loads(ctl("--json", "server", "runtime"))["cores"] > 0
    assert "debian/13" in ctl("images") and ctl("-q", "images") == "debian/13\n"
