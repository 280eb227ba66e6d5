# SPDX-License-Identifier: Apache-2.0
"""A small network of namespaces: a world, a host, containers. Used by tests that need real packets.

    world (198.51.100.7 and .8, 2001:db8:1::7) --- host (198.51.100.1, 2001:db8:1::1) --- containers

Named namespaces are files of /run/netns; a tmpfs over it, in the mount namespace of the test run, keeps them from the
machine's own and lets nothing outlive the run.
"""
import contextlib
import ctypes
import functools
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time

from world import BUILD

CLONE_NEWNET = 0x40000000
IP_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT, IPV6_TRANSPARENT, SO_MARK = 19, 24, 75, 36

# What shall not come is waited for so long; what shall come has all the time that a machine may need that stops for a
# while: then the kernel sends a lost first packet again after a second.
SILENCE, PATIENCE = 0.5, 60

_libc = ctypes.CDLL(None, use_errno=True)


def run(*argv, check=True):
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=60)


class Space:
    """A network namespace."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *argv, check=True):
        return run("ip", "-n", self.name, *argv, check=check)

    def exec(self, *argv, check=True):
        return run("ip", "netns", "exec", self.name, *argv, check=check)

    def popen(self, *argv, **kwargs):
        return subprocess.Popen(["ip", "netns", "exec", self.name, *argv], text=True, **kwargs)

    @contextlib.contextmanager
    def entered(self):
        """This thread is inside; sockets made here stay here."""
        with open("/proc/thread-self/ns/net") as home, open("/run/netns/" + self.name) as there:
            if _libc.setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                _libc.setns(home.fileno(), CLONE_NEWNET)

    def socket(self, address, kind=socket.SOCK_STREAM):
        with self.entered():
            s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        s.settimeout(PATIENCE)
        return s

    def delete(self):
        run("ip", "netns", "delete", self.name, check=False)


class Inside(Space):
    """The network namespace of a container's init."""

    def __init__(self, pid):
        self.name = f"pid-{pid}"
        os.makedirs("/run/netns", exist_ok=True)
        run("ip", "netns", "attach", self.name, str(pid))


@contextlib.contextmanager
def uplink(name):
    """A namespace beyond the host's interface net0: 198.51.100.7 and 2001:db8:1::7, the host is .1; it knows the way to the pools."""
    space = Space(name)
    run("ip", "link", "add", "net0", "type", "veth", "peer", "name", "eth0", "netns", space.name)
    for ip, last, device in ((functools.partial(run, "ip"), "1", "net0"), (space.ip, "7", "eth0")):
        ip("addr", "add", f"198.51.100.{last}/24", "dev", device)
        ip("addr", "add", f"2001:db8:1::{last}/64", "dev", device, "nodad")
        ip("link", "set", device, "up")
    space.ip("route", "add", "10.96.0.0/16", "via", "198.51.100.1")
    space.ip("route", "add", "fd6e:6f64:6564::/64", "via", "2001:db8:1::1")
    yield space
    space.delete()
    run("ip", "link", "del", "net0", check=False)


class Server:
    """Answers each TCP connection with the peer's address, then echoes; each UDP packet with its sender's address."""

    def __init__(self, space, address, port, kind=socket.SOCK_STREAM):
        self.seen, self.kind = [], kind
        self.listener = space.socket(address, kind)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            self.listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.listener.bind((address, port))
        self.listener.settimeout(None)
        if kind == socket.SOCK_STREAM:
            self.listener.listen(64)
        threading.Thread(target=self._accept if kind == socket.SOCK_STREAM else self._receive, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self.listener.accept()
                self.seen.append(peer[0])
                threading.Thread(target=self._echo, args=(connection, peer), daemon=True).start()

    @staticmethod
    def _echo(connection, peer):
        with contextlib.suppress(OSError), connection:
            connection.sendall(peer[0].encode() + b"\n")
            while data := connection.recv(4096):
                connection.sendall(data)

    def _receive(self):
        with contextlib.suppress(OSError):
            while True:
                data, peer = self.listener.recvfrom(4096)
                if not peer:
                    return  # shut down
                self.seen.append((peer[0], data))
                self.listener.sendto(peer[0].encode() + b"\n", peer)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Relay:
    """A transparent TCP proxy on the host: its connection to the backend has the client's own address."""

    def __init__(self, host, address, port, backend, mark=None):
        self.host, self.backend, self.mark = host, backend, mark
        self.listener = host.socket(address)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(64)
        self.listener.settimeout(None)
        self.errors = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, peer = self.listener.accept()
                threading.Thread(target=self._serve, args=(client, peer), daemon=True).start()

    def _serve(self, client, peer):
        """Hands on the backend's first answer, which is the address it saw."""
        back = None
        try:
            back = self.host.socket(self.backend[0])
            if back.family == socket.AF_INET6:
                back.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
            else:
                back.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
            back.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            if self.mark is not None:
                back.setsockopt(socket.SOL_SOCKET, SO_MARK, self.mark)
            back.bind((peer[0], 0))
            back.settimeout(10)  # not longer: its client may have gone, and the next test has another service
            back.connect(self.backend)
            client.sendall(back.recv(4096))
        except OSError as error:
            self.errors.append(error)
        finally:
            client.close()
            if back:
                back.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def ask(space, address, port, source=None, mark=None, timeout=PATIENCE):
    """What a TCP server answers first: the address it saw. Raises what connect raises."""
    with space.socket(address) as s:
        if mark is not None:
            s.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        if source:
            s.bind((source, 0))
        s.settimeout(timeout)
        s.connect((address, port))
        answer = b""
        while not answer.endswith(b"\n"):
            data = s.recv(4096)
            if not data:
                raise ConnectionError("closed")
            answer += data
        return answer.decode().strip()


def outcome(space, address, port, source=None, mark=None, timeout=SILENCE):
    """"open", "refused" or "silent"."""
    try:
        ask(space, address, port, source, mark, timeout)
        return "open"
    except ConnectionRefusedError:
        return "refused"
    except (TimeoutError, ConnectionError):
        return "silent"


def opens(*where, **how):
    return outcome(*where, **how, timeout=PATIENCE) == "open"


def refuses(*where, **how):
    return outcome(*where, **how, timeout=PATIENCE) == "refused"


def udp_outcome(space, address, port, source=None, tries=1):
    with space.socket(address, socket.SOCK_DGRAM) as s:
        if source:
            s.bind((source, 0))
        s.settimeout(SILENCE)
        s.connect((address, port))
        for _ in range(tries):
            try:
                s.send(b"?")
                s.recv(100)
                return "open"
            except ConnectionRefusedError:
                return "refused"
            except TimeoutError:
                pass
        return "silent"


def udp_opens(*where):
    return udp_outcome(*where, tries=int(PATIENCE / SILENCE)) == "open"


def udp_refuses(*where):
    return udp_outcome(*where, tries=int(PATIENCE / SILENCE)) == "refused"


def ping(space, address):
    """One ICMP or ICMPv6 echo by a raw socket; True when it is answered soon."""
    six = ":" in address
    with space.entered():
        s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW,
                          socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
    body = os.urandom(4)  # an id of its own, so that it is a connection of its own
    request = bytes([128 if six else 8, 0]) + b"\0\0" + body
    if not six:  # the kernel sums ICMPv6 itself
        total = sum(struct.unpack("!4H", request))
        request = request[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xffff) + body
    with s:
        s.sendto(request, (address, 0))
        end = time.monotonic() + SILENCE
        while (left := end - time.monotonic()) > 0:
            s.settimeout(left)
            try:
                answer = s.recv(4096)
            except TimeoutError:
                break
            answer = answer if six else answer[(answer[0] & 15) * 4:]
            if answer[0] == (129 if six else 0) and answer[4:8] == body:
                return True
    return False


def pings(space, address):
    """The same, with all the time that it takes."""
    return any(ping(space, address) for _ in range(int(PATIENCE / SILENCE)))


LISTS = 8  # tables with the chains of containers; a slot's is slot % LISTS


def lists_of(slot, table="noded"):
    return f"{table}_lists_{slot % LISTS}"


def tables(space, *options, table="noded"):
    """Everything that the module has in nftables, as text."""
    return "".join(space.exec("nft", *options, "list", "table", "inet", name).stdout
                   for name in (table, *(lists_of(n, table) for n in range(LISTS))))


class Drive:
    """The program that runs the netfilter module inside the host's namespace."""

    def __init__(self, host):
        self.process = host.popen(os.path.join(BUILD, "nfdrive"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1)

    def raw(self, call, **args):
        self.process.stdin.write(json.dumps({"call": call, **args}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __call__(self, call, **args):
        answer = self.raw(call, **args)
        assert "error" not in answer, answer
        return answer["ok"]

    def close(self):
        self.process.stdin.close()
        try:
            assert self.process.wait(10) == 0
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            raise


@contextlib.contextmanager
def driven_lab(containers, **options):
    """A lab with these containers, whose host runs the netfilter module, opened with the options: lab.drive, lab.c1, lab.c2 ..."""
    lab = Lab()
    try:
        lab.drive = Drive(lab.host)
        lab.drive("open", **options)
        lab.drive("sync", containers=containers)
        for c in containers:
            lab.drive("link_create", slot=c["slot"])
            setattr(lab, f"c{c['slot']}", lab.container(c["slot"]))
        yield lab
        lab.drive.close()
    finally:
        lab.close()


class Lab:
    """prefix: of its namespaces' names, when it is made beside another one."""

    def __init__(self, prefix=""):
        self.spaces, self.prefix = [], prefix
        if not prefix:
            os.makedirs("/run/netns", exist_ok=True)
            run("mount", "-t", "tmpfs", "-o", "mode=0755", "netlab", "/run/netns")
        self.world, self.host = self.space("world"), self.space("host")
        self.world.ip("link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", self.host.name)
        for space, last in ((self.world, "7"), (self.world, "8"), (self.host, "1")):
            space.ip("addr", "add", f"198.51.100.{last}/24", "dev", "up0")
            space.ip("addr", "add", f"2001:db8:1::{last}/64", "dev", "up0", "nodad")
            space.ip("link", "set", "up0", "up")
        self.world.ip("route", "add", "10.96.0.0/16", "via", "198.51.100.1")
        self.world.ip("route", "add", "fd6e:6f64:6564::/64", "via", "2001:db8:1::1")
        self.containers = {}

    def space(self, name):
        space = Space(self.prefix + name)
        self.spaces.append(space)
        return space

    def container(self, slot):
        """Moves the slot's peer in and configures it as a container's init would."""
        c = self.containers.get(slot) or self.space(f"c{slot}")
        self.containers[slot] = c
        self.host.ip("link", "set", f"ndp{slot}", "netns", c.name)
        c.ip("link", "set", f"ndp{slot}", "name", "eth0")
        c.exec("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
        c.ip("addr", "add", f"10.96.0.{slot}/32", "dev", "eth0")
        c.ip("addr", "add", f"fd6e:6f64:6564::{slot:x}/128", "dev", "eth0", "nodad")
        c.ip("link", "set", "eth0", "up")
        c.ip("route", "add", "169.254.1.1", "dev", "eth0")
        c.ip("route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
        c.ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
        return c

    def state(self):
        """What is needed to understand a packet that was lost: neighbours, connections and counters of every namespace, the host's tables."""
        commands = [(space, argv) for space in self.spaces
                    for argv in (("ip", "neigh"), ("conntrack", "-L"), ("ss", "-tan"), ("nstat", "-as"))]
        commands.append((self.host, ("nft", "list", "ruleset")))
        return "\n".join(f"== {space.name}: {' '.join(argv)}\n{space.exec(*argv, check=False).stdout}" for space, argv in commands)

    def close(self):
        for space in self.spaces:
            space.delete()
        if not self.prefix:
            run("umount", "-l", "/run/netns", check=False)
