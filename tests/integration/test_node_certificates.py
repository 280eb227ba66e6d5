# SPDX-License-Identifier: Apache-2.0
"""Certificates that are refused, and what both sides are told; lists that expire; connections of revoked certificates."""
import json
import signal
import ssl
import subprocess
import time

import pytest
from attack import context_of, read_all, tls
from authority import Authority
from daemon import Daemon
from sse import Stream
from world import BUILD, run, wait_for

NODECTL, NODED = BUILD + "/nodectl", BUILD + "/noded"
PORT = 8446
ADDRESS = ("127.0.0.1", PORT)
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n"


@pytest.fixture(scope="module")
def node():
    run("ip", "link", "set", "lo", "up")
    d = Daemon()
    d.pki, d.crl = d.dir + "/pki", d.dir + "/crl.pem"
    run(NODECTL, "pki", "init", "--dir", d.pki, "--host", "127.0.0.1")
    run(NODECTL, "pki", "init", "--dir", d.dir + "/foreign", "--host", "127.0.0.1")
    d.authority = Authority(d.pki, d.dir + "/authority")
    d.authority.list(d.crl)
    with open(d.conf, "a", encoding="ascii") as f:
        f.write(f"[tls]\nlisten = 127.0.0.1:{PORT}\ncertificate = {d.pki}/server.crt\nkey = {d.pki}/server.key\n"
                f"client_ca = {d.pki}/ca.crt\ncrl = {d.crl}\n")
    yield d.start()
    d.close()


def served(node, name="operator"):
    try:
        with tls(context_of(node.pki, name), ADDRESS) as s:
            s.sendall(REQUEST)
            return s.recv(65536).startswith(b"HTTP/1.1 200")
    except (OSError, ssl.SSLError):
        return False


def logged_since(node, mark):
    with open(node.log_path, encoding="utf-8", errors="replace") as f:
        f.seek(mark)
        return f.read()


def mark_of(node):
    with open(node.log_path, "rb") as f:
        return f.seek(0, 2)


def reload(node, word):
    mark = mark_of(node)
    node.process.send_signal(signal.SIGHUP)
    wait_for(lambda: word in logged_since(node, mark), 10, what="the reload")
    return logged_since(node, mark)


def ctl(node, name, *argv, pki=None):
    pki = pki or node.pki
    return subprocess.run([NODECTL, "--url", f"https://127.0.0.1:{PORT}", "--cert", f"{pki}/{name}.crt", "--key", f"{pki}/{name}.key",
                           "--ca", node.pki + "/ca.crt", *argv], capture_output=True, text=True, check=False)


SUBJECTS = {
    "two roles": "/OU=operator/OU=node/CN=x",
    "a role twice": "/OU=operator/OU=operator/CN=x",
    "two roles in one part": "/OU=control-plane+OU=operator/CN=x",
    "none": "/CN=x",
    "another word": "/OU=boss/CN=x",
    "two names": "/OU=operator/CN=x/CN=y",
    "no name": "/OU=operator/O=z",
}


@pytest.mark.parametrize("what", SUBJECTS)
def test_a_subject_without_exactly_one_role_is_refused(node, what):
    name, mark = "bad-" + what.replace(" ", "-"), mark_of(node)
    node.authority.client(name, SUBJECTS[what])
    assert not served(node, name)
    wait_for(lambda: "a client was refused: 127.0.0.1 port " in logged_since(node, mark), 5, what="the entry")
    entry = next(line for line in logged_since(node, mark).split("\n") if "a client was refused" in line)
    assert SUBJECTS[what].split("=", 1)[1].split("/")[0].split("+")[0] in entry, entry
    assert ("OU" in entry if "name" not in what else "CN" in entry), entry


def test_one_role_is_let_in(node):
    node.authority.client("good", "/O=z/OU=operator/CN=someone")
    assert served(node, "good")


@pytest.mark.parametrize("case", ["foreign", "role", "revoked", "server"])
def test_both_sides_are_told_of_a_refused_certificate(node, case):
    time.sleep(11)  # the log has room for entries again
    mark, pki, name = mark_of(node), node.pki, "x-" + case
    if case == "foreign":
        pki, name = node.dir + "/foreign", "operator"
        word, reason = "unknown ca", "unable to get local issuer certificate"
    elif case == "role":
        node.authority.client(name, "/OU=boss/CN=x-role")
        word, reason = "bad certificate", "its OU is no role"
    elif case == "server":
        name, word, reason = "server", "unsupported certificate", "unsuitable certificate purpose"
    else:
        node.authority.client(name, "/OU=operator/CN=x-revoked")
        node.authority.revoke(name)
        node.authority.list(node.crl)
        reload(node, "certificates reloaded")
        word, reason = "certificate revoked", "certificate revoked"
    for _ in range(10):
        r = ctl(node, name, "health", pki=pki)
        assert r.returncode == 1 and f"the server refused the certificate: {word}" in r.stderr, (r.stderr, node.log())
    wait_for(lambda: reason in logged_since(node, mark), 5, what="the entry")
    entry = next(line for line in logged_since(node, mark).split("\n") if reason in line)
    assert "127.0.0.1 port " in entry and "CN=" in entry, entry


def test_a_client_without_a_certificate_is_logged(node):
    mark = mark_of(node)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with tls(context_of(node.pki, None), ADDRESS) as s:
            s.sendall(REQUEST)
            raise ConnectionError(s.recv(100) or "closed")
    wait_for(lambda: "without a certificate" in logged_since(node, mark), 5, what="the entry")


def test_refusals_do_not_fill_the_log(node):
    mark, context = mark_of(node), context_of(node.dir + "/foreign")
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(200):
        try:
            with tls(context, ADDRESS) as s:
                read_all(s)
        except OSError:
            pass
    wait_for(lambda: "more clients were refused" in logged_since(node, mark), 30, what="the sum")
    assert logged_since(node, mark).count("a client was refused") <= 60


# Lists and certificates that end.

def health(node):
    return node.get("/healthz").data["tls"]


def nodectl_health(node):
    return subprocess.run([NODECTL, "--socket", node.socket, "health"], capture_output=True, text=True, check=False)


def check(node):
    return subprocess.run([NODED, "-c", node.conf, "--check"], capture_output=True, text=True, check=False)


def told(node, state):
    events = node.get("/api/v1/events?event_type=server.health_changed&limit=100").data["events"]
    return [e for e in events if e["payload"]["component"] == "tls" and e["payload"]["state"] == state]


def test_a_list_that_expires_soon_is_told_of(node):
    node.authority.list(node.crl, days=3)
    text = reload(node, "certificates reloaded")
    wait_for(lambda: health(node)["state"] == "expiring", 5, what="the state")
    part = next(p for p in health(node)["parts"] if p["part"] == "crl")
    assert part["file"] == node.crl and part["until"] and "expires on" in health(node)["remedy"]
    assert "the revocation list" in text and "expires on" in text
    r = check(node)
    assert r.returncode == 0 and "warning" in r.stderr and node.crl in r.stderr, r
    r = nodectl_health(node)
    assert r.returncode == 0 and "the revocation list" in r.stdout, r
    wait_for(lambda: told(node, "expiring"), 5, what="the event")
    node.authority.list(node.crl)
    reload(node, "certificates reloaded")
    wait_for(lambda: health(node)["state"] == "ok", 5, what="the state")
    assert health(node)["remedy"] is None and not check(node).stderr


def test_an_expired_list_is_not_taken(node):
    node.authority.list(node.crl, days=-0.5, begun=-2)
    try:
        text = reload(node, "reload failed")
        assert node.crl in text and "expired on" in text and "every client certificate is refused" in text, text
        assert served(node) and health(node)["state"] == "ok", "the old list stays"
        r = check(node)
        assert r.returncode == 1 and node.crl in r.stderr and "expired on" in r.stderr, r
    finally:
        node.authority.list(node.crl)
    reload(node, "certificates reloaded")


def test_a_list_that_expires_while_the_node_runs(node):
    node.authority.list(node.crl, days=6 / 86400)
    reload(node, "certificates reloaded")
    try:
        wait_for(lambda: health(node)["state"] == "expired", 20, what="the state")
        assert not served(node)
        r = nodectl_health(node)
        assert r.returncode == 1 and "expired" in r.stderr and "fetch a newer list" in r.stdout, r
        wait_for(lambda: told(node, "expired"), 15, what="the event")
        assert "TLS: the revocation list" in node.log()
        node.restart()
        assert health(node)["state"] == "expired", "a start takes it: the control socket must work"
    finally:
        node.authority.list(node.crl)
    reload(node, "certificates reloaded")
    assert served(node) and health(node)["state"] == "ok"


# Connections that are open when their certificate is revoked.

def test_a_revoked_client_is_cut_wherever_it_is(node):
    node.authority.client("leaver", "/OU=operator/CN=leaver")
    node.authority.client("stayer", "/OU=operator/CN=stayer")
    connections = {name: tls(context_of(node.pki, name), ADDRESS) for name in ("leaver", "stayer")}
    streams = {}
    for name, s in connections.items():
        s.sendall(REQUEST)
        assert s.recv(65536).startswith(b"HTTP/1.1 200")
        streams[name] = Stream(tls(context_of(node.pki, name), ADDRESS, timeout=20), "/api/v1/node/routes/stream")
        assert streams[name].next()["event"] == "routes"
    node.authority.revoke("leaver")
    node.authority.list(node.crl)
    text = reload(node, "certificates reloaded")
    assert text.count("a connection of 'leaver' is cut: certificate revoked") == 2 and "'stayer'" not in text, text
    assert read_all(connections["leaver"]) == b""
    with pytest.raises((EOFError, OSError)):
        while True:
            streams["leaver"].next()
    connections["stayer"].sendall(REQUEST)
    assert connections["stayer"].recv(65536).startswith(b"HTTP/1.1 200")
    assert not served(node, "leaver") and served(node, "stayer")
    for s in (*connections.values(), *(s.sock for s in streams.values())):
        s.close()


def test_another_ca_cuts_the_clients_of_the_old_one(node):
    with open(node.pki + "/ca.crt", encoding="ascii") as f:
        good = f.read()
    with open(node.dir + "/foreign/ca.crt", encoding="ascii") as f:
        other = f.read()
    with open(node.conf, encoding="ascii") as f:
        conf = f.read()
    with open(node.conf, "w", encoding="ascii") as f:
        f.write(conf.replace(f"crl = {node.crl}", "crl ="))
    context = context_of(node.pki)
    try:
        with tls(context, ADDRESS) as s:
            s.sendall(REQUEST)
            assert s.recv(65536).startswith(b"HTTP/1.1 200")
            with open(node.pki + "/ca.crt", "w", encoding="ascii") as f:
                f.write(other)
            reload(node, "certificates reloaded")
            assert read_all(s) == b""
    finally:
        with open(node.pki + "/ca.crt", "w", encoding="ascii") as f:
            f.write(good)
        with open(node.conf, "w", encoding="ascii") as f:
            f.write(conf)
    reload(node, "certificates reloaded")
    assert served(node)


def test_health_without_tls_says_nothing_of_it():
    d = Daemon().start()
    try:
        assert d.get("/healthz").data["tls"] is None
        assert json.loads(run(NODECTL, "--socket", d.socket, "--json", "health"))["tls"] is None
    finally:
        d.close()
