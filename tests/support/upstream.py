# SPDX-License-Identifier: Apache-2.0
"""An internet for tests of the way out: upstream proxies (SOCKS5, HTTP CONNECT, with TLS), a name server and what can
be connected to, all in one namespace; and an eye on what passes an interface."""
import base64
import contextlib
import select
import socket
import ssl
import struct
import subprocess
import threading
import time


class Service:
    """A listening TCP socket whose connections are served by threads; stop() cuts them all."""

    def __init__(self, space, address, port):
        self.space, self.address, self.port = space, address, port
        self.open, self.listener = [], None
        self.start()

    def start(self):
        self.listener = self.space.socket(self.address)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in self.address:
            self.listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.listener.bind((self.address, self.port))
        self.listener.listen(64)
        self.listener.settimeout(None)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for c in self.open:
            with contextlib.suppress(OSError):
                c.shutdown(socket.SHUT_RDWR)
            c.close()
        self.open = []

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                c, peer = listener.accept()
                self.open.append(c)
                threading.Thread(target=self._run, args=(c, peer), daemon=True).start()

    def _run(self, c, peer):
        with contextlib.suppress(OSError, ssl.SSLError, EOFError):
            self.serve(c, peer)
        c.close()

    def serve(self, c, peer):
        raise NotImplementedError


def exactly(c, n):
    data = b""
    while len(data) < n:
        more = c.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def splice(a, b):
    """Both directions, half-closes handed on."""
    ends = {a: b, b: a}
    while ends:
        pending = [s for s in ends if isinstance(s, ssl.SSLSocket) and s.pending()]
        for s in pending or select.select(list(ends), [], [])[0]:
            data = s.recv(65536)
            if data:
                ends[s].sendall(data)
            else:
                other = ends.pop(s)
                with contextlib.suppress(OSError):
                    (other.unwrap if isinstance(other, ssl.SSLSocket) else lambda o=other: o.shutdown(socket.SHUT_WR))()


def socks_address(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return bytes([4 if ":" in host else 1]) + socket.inet_pton(family, host) + struct.pack("!H", port)


class Proxy(Service):
    """kind socks5, http or https; login (user, password) or None. It connects from `source`, and knows what it was asked."""

    def __init__(self, space, address, port, kind, source, login=None, certificate=None):
        self.kind, self.source, self.login = kind, source, login
        self.asked, self.logins = [], []
        self.associations, self.datagrams = [], []  # open ones; (target, length) of what was sent
        self.carries, self.bound, self.strangers = True, None, False  # UDP at all; a lie; datagrams of others, too
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
        super().__init__(space, address, port)

    def serve(self, c, peer):
        if self.context:
            c = self.context.wrap_socket(c, server_side=True)
        target = self._socks5(c) if self.kind == "socks5" else self._http(c)
        if not target:
            return
        if target == "udp":
            self._associate(c)
            return
        self.asked.append(target)
        try:
            out = self.space.socket(target[0])
            out.bind((self.source[":" in target[0]], 0))
            out.connect(target)
            out.settimeout(None)
        except OSError:
            c.sendall(b"\5\5\0\1\0\0\0\0\0\0" if self.kind == "socks5" else b"HTTP/1.1 502 No\r\n\r\n")
            return
        c.sendall(b"\5\0\0\1\0\0\0\0\0\0" if self.kind == "socks5" else b"HTTP/1.1 200 Yes\r\nX: y\r\n\r\n")
        self.open.append(out)
        with out:
            splice(c, out)

    def _socks5(self, c):
        _, n = exactly(c, 2)
        methods = exactly(c, n)
        want = 2 if self.login else 0
        if want not in methods:
            c.sendall(b"\5\xff")
            return None
        c.sendall(bytes([5, want]))
        if self.login:
            user = exactly(c, exactly(c, 2)[1]).decode()
            password = exactly(c, exactly(c, 1)[0]).decode()
            self.logins.append((user, password))
            c.sendall(b"\1\0" if (user, password) == self.login else b"\1\1")
            if (user, password) != self.login:
                return None
        _, command, _, kind = exactly(c, 4)
        family = {1: socket.AF_INET, 4: socket.AF_INET6}[kind]
        address = socket.inet_ntop(family, exactly(c, 4 if kind == 1 else 16))
        port, = struct.unpack("!H", exactly(c, 2))
        return "udp" if command == 3 else (address, port)

    def _associate(self, c):
        if not self.carries:
            c.sendall(b"\5\7\0\1\0\0\0\0\0\0")
            return
        relay = self.space.socket(self.address, socket.SOCK_DGRAM)
        relay.bind((self.address, 0))
        out = {}
        for six, source in enumerate(self.source):
            out[six] = self.space.socket(source, socket.SOCK_DGRAM)
            out[six].bind((source, 0))
        host, port = self.bound or relay.getsockname()
        c.sendall(b"\5\0\0" + socks_address(host, port))
        self.associations.append(c)
        try:
            self._datagrams(c, relay, out)
        finally:
            self.associations.remove(c)
            for s in (relay, *out.values()):
                s.close()

    def _datagrams(self, c, relay, out):
        client = None
        while True:
            for s in select.select([c, relay, *out.values()], [], [])[0]:
                if s is c:
                    if not c.recv(100):
                        return
                    continue
                data, peer = s.recvfrom(65536)
                if s is not relay:
                    relay.sendto(b"\0\0\0" + socks_address(*peer[:2]) + data, client)
                    continue
                client, six = peer, data[3] == 4
                at = 20 if six else 8
                host = socket.inet_ntop(socket.AF_INET6 if six else socket.AF_INET, data[4:at])
                port, = struct.unpack("!H", data[at:at + 2])
                self.datagrams.append(((host, port), len(data) - at - 2))
                out[six].sendto(data[at + 2:], (host, port))
                if self.strangers:
                    for what in (b"", b"\0\0\0\3\1x\0\1hello", b"\0\0\1" + data[3:], b"\0\0\0\4short",
                                 b"\0\0\0" + socks_address("203.0.113.5", 53) + b"stranger"):
                        relay.sendto(what, client)

    def _http(self, c):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(c, 1)
        lines = head.decode().split("\r\n")
        verb, target, _ = lines[0].split(" ")
        assert verb == "CONNECT"
        if self.login:
            wanted = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
            given = next((line.split(": ")[1] for line in lines if line.lower().startswith("proxy-authorization:")), None)
            self.logins.append(given)
            if given != wanted:
                c.sendall(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
                return None
        host, port = target.rsplit(":", 1)
        return host.strip("[]"), int(port)


class Names(Service):
    """DNS over TCP and UDP: every A question gets `answer`; "big.*" gets more than fits into 512 bytes."""

    def __init__(self, space, address, answer):
        self.answer, self.asked = answer, []
        self.udp = space.socket(address, socket.SOCK_DGRAM)
        self.udp.bind((address, 53))
        self.udp.settimeout(None)
        threading.Thread(target=self._datagrams, daemon=True).start()
        super().__init__(space, address, 53)

    def reply(self, query):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind, = struct.unpack("!H", query[at + 1:at + 3])
        question, count = query[12:at + 5], (60 if labels[0] == "big" else 1) if kind == 1 else 0
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(self.answer)
        return query[:2] + struct.pack("!HHHHH", 0x8180, 1, count, 0, 0) + question + record * count, ".".join(labels)

    def serve(self, c, peer):
        while True:
            query = exactly(c, struct.unpack("!H", exactly(c, 2))[0])
            answer, name = self.reply(query)
            self.asked.append(("tcp", peer[0], name))
            c.sendall(struct.pack("!H", len(answer)) + answer)

    def _datagrams(self):
        with contextlib.suppress(OSError):
            while True:
                query, peer = self.udp.recvfrom(4096)
                if not query:
                    return
                answer, name = self.reply(query)
                self.asked.append(("udp", peer[0], name))
                self.udp.sendto(answer, peer)

    def stop(self):
        with contextlib.suppress(OSError):
            self.udp.shutdown(socket.SHUT_RDWR)
        self.udp.close()
        super().stop()


class Eye:
    """Every IP packet that leaves by an interface of this namespace: (source, destination, protocol, port)."""

    def __init__(self, interface):
        self.seen, self.stopped = [], False
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((interface, 0))
        self.socket.settimeout(0.2)
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self):
        while not self.stopped:
            with contextlib.suppress(TimeoutError):
                data, origin = self.socket.recvfrom(65536)
                if origin[2] != 4:  # PACKET_OUTGOING
                    continue
                kind, ip = struct.unpack("!H", data[12:14])[0], data[14:]
                if kind == 0x800:
                    rest = ip[(ip[0] & 15) * 4:]
                    self._note(socket.AF_INET, ip[12:16], ip[16:20], ip[9], rest)
                elif kind == 0x86dd:
                    self._note(socket.AF_INET6, ip[8:24], ip[24:40], ip[6], ip[40:])

    def _note(self, family, source, destination, protocol, rest):
        port = struct.unpack("!H", rest[2:4])[0] if protocol in (6, 17) else None
        self.seen.append((socket.inet_ntop(family, source), socket.inet_ntop(family, destination), protocol, port))

    def stop(self):
        time.sleep(0.3)
        self.stopped = True
        self.thread.join()
        self.socket.close()
        return self.seen


def make_certificate(directory, address):
    """(CA file, (certificate, key)) for an address or a name."""
    ca, key, crt = (f"{directory}/{n}" for n in ("ca.crt", "server.key", "server.crt"))

    def openssl(*argv):
        subprocess.run(["openssl", *argv], check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            f"{directory}/ca.key", "-out", ca, "-subj", "/CN=test ca", "-days", "2", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
            f"{directory}/server.csr", "-subj", "/CN=proxy")
    with open(f"{directory}/ext", "w", encoding="ascii") as f:
        f.write(f"subjectAltName={'DNS' if address[-1].isalpha() else 'IP'}:{address}\nauthorityKeyIdentifier=keyid\n")
    openssl("x509", "-req", "-in", f"{directory}/server.csr", "-CA", ca, "-CAkey", f"{directory}/ca.key",
            "-CAcreateserial", "-out", crt, "-days", "2", "-extfile", f"{directory}/ext")
    return ca, (crt, key)
