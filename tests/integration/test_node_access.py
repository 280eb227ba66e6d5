# SPDX-License-Identifier: Apache-2.0
"""Who gets in: mTLS on TCP, the unix socket by its group, roles, nodectl over both."""
import json
import os
import socket
import ssl
import subprocess
import time

import pytest
from daemon import Daemon
from world import BUILD, run, wait_for

NODECTL = BUILD + "/nodectl"


@pytest.fixture(scope="module")
def node():
    d = Daemon(control__group="nogroup")
    run(NODECTL, "pki", "init", "--dir", d.dir + "/pki", "--host", "127.0.0.1")
    run(NODECTL, "pki", "init", "--dir", d.dir + "/foreign", "--host", "127.0.0.1")
    with open(d.conf, "a", encoding="ascii") as f:
        f.write(f"[tls]\nlisten = 127.0.0.1:8443\ncertificate = {d.dir}/pki/server.crt\nkey = {d.dir}/pki/server.key\n"
                f"client_ca = {d.dir}/pki/ca.crt\n")
    yield d.start()
    d.close()


def connect(d, pki="pki", name="operator", versions=(ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3), path="/healthz",
            method="GET"):
    context = ssl.create_default_context(cafile=f"{d.dir}/pki/ca.crt")
    context.minimum_version, context.maximum_version = versions
    if name:
        context.load_cert_chain(f"{d.dir}/{pki}/{name}.crt", f"{d.dir}/{pki}/{name}.key")
    with socket.create_connection(("127.0.0.1", 8443), 5) as raw:
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as s:
            s.sendall(f"{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while piece := s.recv(65536):
                data += piece
            return data


@pytest.mark.parametrize("name", ["operator", "control-plane"])
def test_the_roles_get_in(node, name):
    assert connect(node, name=name).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("name,status", [("operator", 404), ("control-plane", 403)])
def test_what_is_for_operators_only(node, name, status):
    answer = connect(node, name=name, path=f"/api/v1/containers/{'0' * 24}/transparent-proxy")
    assert answer.startswith(f"HTTP/1.1 {status}".encode()), answer


@pytest.mark.parametrize("name,installed,removed", [("operator", 400, 404), ("control-plane", 403, 403)])
def test_kits_of_the_node_are_the_operators(node, name, installed, removed):
    """Those of containers are not: a rollout is for both."""
    for method, path, status in (("POST", "", installed), ("DELETE", "/x/1.0", removed), ("GET", "", 200), ("GET", "/rollout", 404)):
        answer = connect(node, name=name, method=method, path="/api/v1/node/kits" + path)
        assert answer.startswith(f"HTTP/1.1 {status}".encode()), (method, path, answer)


def test_no_certificate(node):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        assert connect(node, name=None) == b""
        raise ConnectionError


def test_foreign_ca(node):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(node, pki="foreign")


def test_server_certificate_as_client_has_no_role(node):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(node, name="server")


def test_tls_1_2(node):
    with pytest.raises(ssl.SSLError):
        connect(node, versions=(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2))


def test_plain_http_on_the_tls_port(node):
    with socket.create_connection(("127.0.0.1", 8443), 5) as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n")
        try:
            assert b"HTTP" not in s.recv(4096)
        except ConnectionError:
            pass


def test_a_large_reply_and_body_cross_the_pump(node):
    body = json.dumps({"server_id": "self", "name": "x", "comment": "y" * 500000})
    context = ssl.create_default_context(cafile=f"{node.dir}/pki/ca.crt")
    context.load_cert_chain(f"{node.dir}/pki/operator.crt", f"{node.dir}/pki/operator.key")
    with socket.create_connection(("127.0.0.1", 8443), 5) as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as s:
        s.sendall(f"POST /api/v1/projects/{'0' * 24}/containers HTTP/1.1\r\nHost: n\r\nContent-Length: {len(body)}\r\n"
                  "Connection: close\r\n\r\n".encode() + body.encode())
        assert b" 400 " in s.recv(65536)


def test_many_connections_at_once(node):
    context = ssl.create_default_context(cafile=f"{node.dir}/pki/ca.crt")
    context.load_cert_chain(f"{node.dir}/pki/operator.crt", f"{node.dir}/pki/operator.key")
    open_ones = [context.wrap_socket(socket.create_connection(("127.0.0.1", 8443), 5), server_hostname="127.0.0.1")
                 for _ in range(40)]
    for s in open_ones:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n")
    for s in open_ones:
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
        s.close()
    assert connect(node).startswith(b"HTTP/1.1 200")


def test_reload_takes_new_certificates_and_keeps_old_ones_when_bad(node):
    crt = node.dir + "/pki/server.crt"
    with open(crt, "rb") as f:
        good = f.read()
    try:
        with open(crt, "wb") as f:
            f.write(b"garbage")
        node.process.send_signal(1)
        wait_for(lambda: "reload failed" in node.log(), 10, what="the reload")
        assert connect(node).startswith(b"HTTP/1.1 200")
    finally:
        with open(crt, "wb") as f:
            f.write(good)
    node.process.send_signal(1)
    wait_for(lambda: "certificates reloaded" in node.log(), 10, what="the reload")
    assert connect(node).startswith(b"HTTP/1.1 200")


def test_slow_head_is_cut(node):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(15)
        s.connect(node.socket)
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        begun = time.monotonic()
        assert s.recv(100).startswith(b"HTTP/1.1 408 ")
        assert 8 < time.monotonic() - begun < 14


def as_user(uid, groups, path):
    """Connects as another user; what it got."""
    code = f"import os,socket; os.setgroups({groups}); os.setgid(60000); os.setuid({uid}); " \
           f"s=socket.socket(socket.AF_UNIX); s.connect({path!r}); print('in')"
    return subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True, check=False)


def test_the_socket_is_for_root_and_its_group(node):
    os.chmod(node.run_dir, 0o711)
    assert as_user(60000, [65534], node.socket).stdout.strip() == "in"
    refused = as_user(60000, [], node.socket)
    assert refused.returncode != 0 and "PermissionError" in refused.stderr
    assert oct(os.stat(node.socket).st_mode)[-3:] == "660"


def test_nodectl_over_both(node):
    local = json.loads(run(NODECTL, "--socket", node.socket, "--json", "node"))
    remote = json.loads(run(NODECTL, "--url", "https://127.0.0.1:8443", "--cert", node.dir + "/pki/operator.crt", "--key",
                            node.dir + "/pki/operator.key", "--ca", node.dir + "/pki/ca.crt", "--json", "node"))
    assert local["id"] == remote["id"]


def test_nodectl_drives_a_container(node):
    def ctl(*argv, check=True):
        return subprocess.run([NODECTL, "--socket", node.socket, *argv], capture_output=True, text=True, check=check)
    ctl("create", "ctl-box", "--no-kit", "--wait")
    assert "ctl-box" in ctl("list").stdout
    assert "running" in ctl("list").stdout
    ctl("snapshot", "create", "ctl-box", "one")
    assert "one" in ctl("snapshot", "list", "ctl-box").stdout
    ctl("firewall", "add", "ctl-box", "ingress", "drop", "tcp", "--port", "23")
    assert "23" in ctl("firewall", "list", "ctl-box").stdout
    ctl("env", "set", "ctl-box", "A=1")
    assert "A" in ctl("env", "list", "ctl-box").stdout
    bad = ctl("start", "ctl-box", check=False)
    assert bad.returncode == 1 and "already running" in bad.stderr
    assert ctl("frobnicate", check=False).returncode == 2
    ctl("delete", "ctl-box")
    assert "ctl-box" not in ctl("list").stdout
