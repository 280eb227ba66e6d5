# SPDX-License-Identifier: Apache-2.0
"""The job that fetches from another node, against a node that lies: nothing of it is used, and nothing is left of it."""
import hashlib
import json
import os
import ssl
import socket
import struct
import threading

import pytest
from archives import zstd
from frames import JobError
from sendstream import BEGIN, END, HEAD, UUID, command, make, write
from world import BUILD, Node, run

NODECTL = BUILD + "/nodectl"
SOURCE, COPY, SELF = "a" * 24, "b" * 24, "c" * 24
SEED = {"ssh_public_key": None, "kits": []}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    run("ip", "link", "set", "lo", "up")
    n = Node(loop_bytes=1 << 30)
    n.open()
    n.pki = str(tmp_path_factory.mktemp("pki"))
    run(NODECTL, "pki", "init", "--dir", n.pki)
    run(NODECTL, "pki", "init", "--dir", n.pki + "/foreign")
    run(NODECTL, "pki", "node", SELF, "--dir", n.pki, "--out", n.pki + "/self")
    run(NODECTL, "pki", "node", SOURCE, "--dir", n.pki, "--out", n.pki + "/liar")
    yield n
    n.close()


class Liar:
    """A node that answers one request with bytes of the test's choice."""

    def __init__(self, node, answer, pki="liar", name="server", status=b"101 Switching Protocols", body=b""):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(f"{node.pki}/{pki}/{name}.crt", f"{node.pki}/{pki}/{name}.key")
        self.context.load_verify_locations(node.pki + "/ca.crt")
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.answer, self.seen = self.listener.getsockname()[1], answer, {}
        self.head = b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        try:
            raw, _ = self.listener.accept()
            with self.context.wrap_socket(raw, server_side=True) as s:
                self.seen["subject"] = dict(x[0] for x in s.getpeercert()["subject"])
                text = b""
                while b"\r\n\r\n" not in text or len(text.split(b"\r\n\r\n", 1)[1]) < int(text.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
                    text += s.recv(65536)
                self.seen["request"] = text
                s.sendall(self.head + self.answer)
                s.unwrap()
        except OSError as e:
            self.seen["error"] = e

    def close(self):
        self.listener.close()


def fetch(node, liar, slot=1, host="127.0.0.1", kind="peer.copy", **more):
    peer = {"host": host, "port": liar.port, "certificate": node.pki + "/self/node.crt", "key": node.pki + "/self/node.key",
            "ca": node.pki + "/ca.crt", "crl": None}
    args = {"peer": peer, "source": SOURCE, "copy": COPY, "image": None, "snapshot": None, "snapshots": ["s1", "s2"], "bytes_max": 1 << 24,
            "reserve": 0, "seed": node.seed(slot), **more}
    try:
        return node.job(kind, slot, args)
    finally:
        liar.close()


def frame(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<I", len(text)) + text


def head(which="root", path="", name=None, parent="none", readonly=True, **more):
    return frame({"stream": {"set": which, "name": name, "path": path, "readonly": readonly, "parent": parent, **more}})


def pieces(stream, size=1000, digest=None):
    cut = b"".join(struct.pack("<I", len(stream[i:i + size])) + stream[i:i + size] for i in range(0, len(stream), size))
    return cut + struct.pack("<I", 0) + (digest or hashlib.sha256(stream).digest())


def packed(data):
    return struct.pack("<I", 1 << 30 | len(data)) + data


def packed_run(stream):
    return packed(zstd(stream)) + struct.pack("<I", 0) + hashlib.sha256(stream).digest()


def end(streams):
    return frame({"end": {"streams": streams}})


ROOT = BEGIN + command("mkdir", path="etc", ino=258) + make("etc/file") + write("etc/file") + END
GOOD = head() + pieces(ROOT) + end(1)


def leftovers(node, slot=1):
    node.job("container.destroy", slot)
    return os.path.exists(f"{node.pool}/slots/{slot}")


def test_one_that_takes_its_time(node):
    """Its kernel compares in silence; it says so."""
    idle = struct.pack("<I", 0xfffffffe)
    run_of = pieces(ROOT)  # its last 36 bytes are its end and its checksum
    answer = head() + 3 * idle + run_of[:-36] + idle + run_of[-36:] + end(1)
    assert fetch(node, Liar(node, answer))["snapshots"] == []
    assert not leftovers(node)


def test_one_that_packs(node):
    """A bomb of pieces that become much more is stopped by the limit of what they become."""
    assert fetch(node, Liar(node, head() + packed_run(ROOT) + end(1)))["snapshots"] == []
    assert not leftovers(node)
    bomb = head() + packed_run(BEGIN + make())[:-36] + 100 * packed(zstd(write(data=bytes(40000)) * 6))
    assert len(bomb) < 100000
    with pytest.raises(JobError) as e:
        fetch(node, Liar(node, bomb))
    assert "longer than" in str(e.value)
    assert not leftovers(node)


def test_an_honest_one_is_believed(node):
    liar = Liar(node, head("snapshot", name="s1") + pieces(ROOT) + head(parent="none") + pieces(ROOT)
                + head(path="etc/inner", readonly=False) + pieces(BEGIN + make("x") + END) + end(3))
    result = fetch(node, liar)
    assert result["snapshots"] == ["s1"] and result["bytes"] > len(ROOT)
    at = f"{node.pool}/slots/1"
    assert sorted(os.listdir(at)) == ["base", "rootfs", "snapshots"] and os.listdir(at + "/snapshots") == ["s1"]
    for tree in ("base", "rootfs"):
        with open(f"{at}/{tree}/etc/file", "rb") as f:
            assert f.read() == b"data"
        assert os.listdir(f"{at}/{tree}/etc/inner") == ["x"]
    assert "ro=true" in run("btrfs", "property", "get", "-ts", at + "/base") and "ro=false" in run("btrfs", "property", "get", "-ts", at + "/rootfs")
    assert liar.seen["subject"] == {"organizationName": "noded", "organizationalUnitName": "node", "commonName": SELF}
    asked = json.loads(liar.seen["request"].split(b"\r\n\r\n", 1)[1])
    assert asked == {"copy": COPY, "base": None, "image": None, "snapshot": None, "snapshots": ["s1", "s2"], "packed": True}
    assert liar.seen["request"].startswith(b"POST /api/v1/peer/containers/" + SOURCE.encode() + b"/stream HTTP/1.1\r\n")
    assert not leftovers(node)


HOSTILE = {
    "a wrong checksum": (head() + pieces(ROOT, digest=b"x" * 32) + end(1), "checksum"),
    "a changed byte": (head() + pieces(ROOT).replace(b"data", b"dada") + end(1), "checksum"),
    "cut in a piece": (GOOD[:200], "broke"),
    "cut before the end": (GOOD[:-len(end(1))], "broke"),
    "nothing": (b"", "broke"),
    "a huge piece": (head() + struct.pack("<I", 1 << 29), "a piece of"),
    "a packed piece that is none": (head() + packed(b"hello"), "is damaged"),
    "an empty packed piece": (head() + packed(b""), "is damaged"),
    "a packed piece that is cut": (head() + packed(zstd(ROOT)[:-5]), "is damaged"),
    "a piece that becomes too long": (head() + packed(zstd(bytes(300000))), "is damaged"),
    "a packed piece that is too long": (head() + struct.pack("<I", 1 << 30 | 300000), "a piece of"),
    "a huge frame": (struct.pack("<I", 1 << 31), "frame"),
    "no JSON": (frame(b"{]"), "not JSON"),
    "no object": (frame([1]), "no frame"),
    "an error": (frame({"error": {"code": "ERR_HOST", "message": "disk on fire"}}), "the other node: disk on fire"),
    "an error in a run": (head() + struct.pack("<I", 5) + b"btrfs" + struct.pack("<I", 0xffffffff) + frame({"error": {"code": "ERR_HOST", "message": "disk on fire"}}),
                          "disk on fire"),
    "only an end": (end(0), "no root"),
    "an end that does not fit": (head() + pieces(ROOT) + end(2), "does not fit"),
    "no stream of btrfs": (head() + pieces(b"hello" * 1000) + end(1), "no stream"),
    "a stream with a hole": (head() + pieces(ROOT[:-10]) + end(1), "too early"),
    "only a snapshot": (head("snapshot", name="s1") + pieces(ROOT) + end(1), "no root"),
    "a snapshot that nobody wants": (head("snapshot", name="s3") + pieces(ROOT) + end(1), "not asked for"),
    "a snapshot twice": (2 * (head("snapshot", name="s1") + pieces(ROOT)) + end(2), "not asked for"),
    "a snapshot elsewhere": (head("snapshot", name="../../../x") + pieces(ROOT), "set that is none"),
    "a snapshot without a name": (head("snapshot") + pieces(ROOT), "set that is none"),
    "a root with a name": (head(name="s1") + pieces(ROOT), "with a name"),
    "another set": (head("volume") + pieces(ROOT), "set that is none"),
    "two roots": (2 * (head() + pieces(ROOT)) + end(2), "behind the root"),
    "a snapshot behind the root": (head() + pieces(ROOT) + head("snapshot", name="s1") + pieces(ROOT) + end(2), "behind the root"),
    "a nested one first": (head(path="etc/x") + pieces(ROOT), "without a place"),
    "a nested one outside": (head() + pieces(ROOT) + head(path="../x") + pieces(ROOT), "without a place"),
    "a nested one at the top": (head() + pieces(ROOT) + head(path="/x") + pieces(ROOT), "without a place"),
    "a nested one nowhere": (head() + pieces(ROOT) + head(path="none/x") + pieces(ROOT), "without a place"),
    "a nested one without a name": (head() + pieces(ROOT) + head(path="etc/") + pieces(ROOT), "without a place"),
    "a nested one over a file": (head() + pieces(ROOT) + head(path="etc/file") + pieces(ROOT), "cannot make the subvolume"),
    "a nested one through a symlink": (head() + pieces(BEGIN + command("symlink", path="l", path_link="/", ino=3) + END) + head(path="l/x") + pieces(ROOT),
                                       "without a place"),
    "a nested one of another set": (head("snapshot", name="s1") + pieces(ROOT) + head(path="etc/x") + pieces(ROOT), "without a place"),
    "a base that nobody has": (head(parent="base") + pieces(ROOT), "No such file"),
    "an image that nobody has": (head(parent="image") + pieces(ROOT), "not there"),
    "a set before the first": (head(parent="previous") + pieces(ROOT), "not there"),
    "another parent": (head(parent="/etc") + pieces(ROOT), "not there"),
    "a difference that is none": (head() + pieces(HEAD + command("snapshot", path="x", uuid=UUID, ctransid=1, clone_uuid=UUID, clone_ctransid=1) + END), "difference"),
    "more members": (head(more=1) + pieces(ROOT), "more"),
    "too much": (head() + b"".join(struct.pack("<I", 200000) + b"\0" * 200000 for _ in range(100)), ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(node, name):
    answer, text = HOSTILE[name]
    with pytest.raises(JobError) as e:
        fetch(node, Liar(node, answer))
    assert text in str(e.value), e.value
    assert not os.path.exists(f"{node.pool}/slots/1/rootfs") and not os.path.exists(f"{node.pool}/slots/1/base")
    assert not leftovers(node)


def test_limits(node):
    stream = BEGIN + make() + b"".join(write(data=b"x" * 30000, at=30000 * i) for i in range(20)) + END
    answer = head() + pieces(stream, 100000) + end(1)
    for more, text in (({"bytes_max": 300000}, "longer than"), ({"reserve": 1 << 40}, "pool is full")):
        with pytest.raises(JobError) as e:
            fetch(node, Liar(node, answer), **more)
        assert text in str(e.value)
    assert not leftovers(node)


@pytest.mark.parametrize("pki, name, host, text", [
    ("foreign", "server", "127.0.0.1", "not accepted"), ("self", "node", "127.0.0.1", "not accepted"),
    ("liar", "server", "127.0.0.2", "not accepted")])
def test_somebody_else(node, pki, name, host, text):
    """Another CA, a certificate that is none of a server, one for another address."""
    liar = Liar(node, GOOD, pki, name)
    if host != "127.0.0.1":
        liar.listener.close()
        liar.listener = socket.create_server((host, liar.port))
        threading.Thread(target=liar._serve, daemon=True).start()
    with pytest.raises(JobError) as e:
        fetch(node, liar, host=host)
    assert text in str(e.value) and "request" not in liar.seen
    assert not leftovers(node)


def test_nobody(node):
    liar = Liar(node, GOOD)
    liar.port = 1
    with pytest.raises(JobError) as e:
        fetch(node, liar)
    assert "does not answer" in str(e.value)
    assert not leftovers(node)


@pytest.mark.parametrize("status, body, text", [
    (b"404 Not Found", json.dumps({"message": "no such thing", "code": "SOURCE_CONTAINER_NOT_FOUND"}).encode(), "no such thing"),
    (b"200 OK", b"{}", "without saying why"), (b"404 Not Found", b"<html>", "not valid JSON"), (b"999999", b"", "")])
def test_other_answers(node, status, body, text):
    with pytest.raises(JobError) as e:
        fetch(node, Liar(node, b"", status=status, body=body))
    assert text in str(e.value), e.value
    assert not leftovers(node)
