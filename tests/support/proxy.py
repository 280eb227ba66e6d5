# SPDX-License-Identifier: Apache-2.0
"""The real proxies of Debian in front of a container, with the files of docs/proxies as they are but for addresses, ports
and paths; and a haproxy that keeps its own address ("plain"), as an account of one's choice."""
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading

from upstream import Service, exactly, make_certificate
from world import REPOSITORY, wait_for

FILES = {"haproxy": "haproxy.cfg", "haproxy-tcp": "haproxy-tcp.cfg", "nginx": "nginx.conf", "nginx-stream": "nginx-stream.conf"}
NAME = "proxy.test"  # of the certificate

PLAIN = """global
    maxconn 200
    user {user}
defaults
    mode tcp
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend in4
    bind 0.0.0.0:443
    default_backend box4
frontend in6
    bind :::443 v6only
    default_backend box6
backend box4
    server box 10.96.0.1:7001
backend box6
    server box [fd6e:6f64:6564::1]:7001
"""


def documented(name):
    with open(os.path.join(REPOSITORY, "docs", "proxies", name), encoding="ascii") as f:
        return f.read()


class Proxy:
    """box: {"ipv4", "ipv6"} of the container; enter: what runs a program elsewhere ("ip netns exec NAME")."""

    def __init__(self, kind, directory, box, port=443, enter=(), user="root", edit=lambda text: text):
        self.kind, self.port, self.enter = kind, port, list(enter)
        self.dir = os.path.join(directory, f"{kind}-{port}")
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o755)
        self.ca, self.conf = self.certificate(), self.dir + "/conf"
        text = PLAIN.format(user=user) if kind == "plain" else documented(FILES[kind])
        for old, new in ((r"((?:listen|bind) \S*:)443\b", rf"\g<1>{port}"), (r"10\.96\.0\.1\b", box["ipv4"]),
                         (r"fd6e:6f64:6564::1\b", box["ipv6"]), ("/etc/(nginx|haproxy)/site", self.dir + "/site"),
                         ("/run/nginx", self.dir + "/nginx"), ("/var/log/nginx/", self.dir + "/")):
            text = re.sub(old, new, text)
        with open(self.conf, "w", encoding="ascii") as f:
            f.write(edit(text))
        with open(self.dir + "/out", "wb") as out:
            # In "/": as an account of its own haproxy 2.6 ends when it cannot return to its working directory.
            self.process = subprocess.Popen(self.enter + self.program(), cwd="/", stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        wait_for(self.listens, 20, what=f"{kind} ({self.dir}/out)")

    def certificate(self):
        ca, (crt, key) = make_certificate(self.dir, NAME)
        with open(crt, encoding="ascii") as c, open(key, encoding="ascii") as k:
            texts = {"crt": c.read(), "key": k.read()}
        texts["pem"] = texts["crt"] + texts["key"]
        for suffix, text in texts.items():
            with open(f"{self.dir}/site.{suffix}", "w", encoding="ascii") as f:
                f.write(text)
            os.chmod(f.name, 0o644)
        return ca

    def program(self):
        if self.kind.startswith("nginx"):
            return ["/usr/sbin/nginx", "-c", self.conf, "-g", "daemon off;"]
        haproxy = ["/usr/sbin/haproxy", "-db", "-f", self.conf]
        if self.kind == "plain":
            return haproxy
        capabilities = "+net_raw,+net_bind_service"  # as systemd does, see haproxy.cfg
        return ["setpriv", "--reuid=haproxy", "--regid=haproxy", "--clear-groups", "--inh-caps=" + capabilities,
                "--ambient-caps=" + capabilities, "--", *haproxy]

    def listens(self):
        assert self.process.poll() is None, open(self.dir + "/out", encoding="utf-8").read()
        sockets = subprocess.run([*self.enter, "ss", "-Hltn", f"sport = :{self.port}"], capture_output=True, text=True, check=True)
        return len(sockets.stdout.splitlines()) >= 2

    def stop(self):
        self.process.terminate()
        self.process.wait(10)

    def ask(self, s):
        """What the service behind says, over a connected socket; an HTTP status instead when it is not 200."""
        context = ssl.create_default_context(cafile=self.ca)
        with context.wrap_socket(s, server_hostname=NAME) as t:
            t.sendall(b"GET / HTTP/1.1\r\nHost: proxy.test\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := t.recv(65536):
                answer += data
        head, _, body = answer.decode().partition("\r\n\r\n")
        status = int(head.split(" ")[1])
        return json.loads(body) if status == 200 else status


class Web(Service):
    """Answers an HTTP request with whom it sees, what X-Forwarded-For says and what a PROXY header said."""
    SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

    def serve(self, c, peer):
        head, told = exactly(c, 1), None
        if head == b"\r":
            head = exactly(c, 15)
            assert head[:11] == self.SIGNATURE[1:]
            family, length = head[12], struct.unpack("!H", head[13:15])[0]
            rest = exactly(c, length)
            told = socket.inet_ntop(socket.AF_INET if family >> 4 == 1 else socket.AF_INET6, rest[:4 if family >> 4 == 1 else 16])
            head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(c, 1)
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        forwarded = next((v for k, v in lines if k.lower() == "x-forwarded-for"), None)
        body = json.dumps({"peer": peer[0], "forwarded": forwarded, "told": told}).encode()
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                  % (len(body), body))


class Datagrams:
    """Answers each datagram with two: from whom it came, and what it was."""

    def __init__(self, space, address, port):
        self.seen = []
        self.socket = space.socket(address, socket.SOCK_DGRAM)
        if ":" in address:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.bind((address, port))
        self.socket.settimeout(None)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                data, peer = self.socket.recvfrom(65536)
            except OSError:
                return
            if data == b"" or not peer:
                return
            self.seen.append(peer[:2])
            self.socket.sendto(peer[0].encode(), peer)
            self.socket.sendto(data, peer)

    def stop(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
