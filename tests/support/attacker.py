# SPDX-License-Identifier: Apache-2.0
"""What a hostile container sends: frames made by hand, by its root, as fast as one processor can.

Runs inside a container (`Attack` starts it there, as a service of the container's systemd, so that what it uses is the
container's), and needs nothing but Python's own modules.

usage: attacker.py KIND SECONDS PER_SECOND [ADDRESS...]     PER_SECOND 0: as many as possible; prints how many it sent
       attacker.py answer INTERFACE                         an accomplice beyond the host, until it is told to end
"""
import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
import time

GATEWAY4, GATEWAY6 = "169.254.1.1", "fe80::1"
UDP, TCP, ICMP6 = 17, 6, 58
ALL_NODES, ALL_ROUTERS = "ff02::1", "ff02::2"
ACCOMPLICES = "198.18.0.0/15"  # addresses that an accomplice answers for
SYN, ACK, OWN_SEQUENCE, THEIR_SEQUENCE = 2, 16, 1000, 5000  # both sides of a connection know the numbers ahead


def total(data):
    if len(data) % 2:
        data += b"\0"
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def folded(number):
    while number >> 16:
        number = (number & 0xffff) + (number >> 16)
    return ~number & 0xffff or 0xffff


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


class Packets:
    """Frames from this container to the host. source: another source address than its own."""

    def __init__(self):
        with open("/sys/class/net/eth0/address", encoding="ascii") as f:
            self.mac = bytes.fromhex(f.read().strip().replace(":", ""))
        self.gateway = self.mac[:2] + b"\x64" + self.mac[3:]  # how the node gives MAC addresses to the two ends of a link
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.bind(("eth0", 0))
        shown = subprocess.run(["ip", "-o", "addr", "show", "eth0"], text=True, capture_output=True, check=True).stdout
        self.own = {version: packed(line.split()[3].split("/")[0]) for version, word in ((4, "inet "), (6, "inet6 "))
                    for line in shown.splitlines() if word in line and " fe80" not in line}

    def frame(self, ethertype, body):
        return self.gateway + self.mac + struct.pack("!H", ethertype) + body

    def ip(self, protocol, target, body, source=None, hops=64):
        target = packed(target) if isinstance(target, str) else target
        if len(target) == 16:
            source = source or self.own[6]
            return self.frame(0x86dd, struct.pack("!IHBB", 6 << 28, len(body), protocol, hops) + source + target + body)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0x4000, hops, protocol, 0, source or self.own[4], target)
        return self.frame(0x0800, head[:10] + struct.pack("!H", folded(total(head))) + head[12:] + body)

    def transport(self, protocol, target, ports, source=None):
        """A SYN or an empty UDP packet, with the right checksum: the kernel keeps no connection for a wrong one."""
        target = packed(target) if isinstance(target, str) else target
        source = source or self.own[6 if len(target) == 16 else 4]
        head = struct.pack("!HH", *ports)
        if protocol == TCP:
            head += struct.pack("!IIBBHHH", random.getrandbits(32), 0, 5 << 4, 2, 64240, 0, 0)
            at = 16
        else:
            head += struct.pack("!HH", 8, 0)
            at = 6
        check = folded(total(head) + total(source + target) + protocol + len(head))
        return self.ip(protocol, target, head[:at] + struct.pack("!H", check) + head[at + 2:], source)

    def icmp6(self, target, body, source):
        """body: type and code, two bytes for the checksum, the rest."""
        target = packed(target) if isinstance(target, str) else target
        check = folded(total(body) + total(source + target) + ICMP6 + len(body))
        return self.ip(ICMP6, target, body[:2] + struct.pack("!H", check) + body[4:], source, hops=255)

    def arp(self, operation, sender, target):
        return self.frame(0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + self.mac + sender + bytes(6) + target)


def link_local():
    return bytes.fromhex("fe80000000000000") + random.randbytes(8)


def link_option(kind, packets):
    return bytes([kind, 1]) + packets.mac


def ports():
    return random.randrange(1, 65536), random.randrange(1, 65536)


def flood(p, protocol, addresses):
    """Frames to random ports of the addresses: only the ports and the checksum change, as that is what takes time."""
    made = []
    for address in addresses:
        frame = bytearray(p.transport(protocol, address, (0, 0)))
        head = 14 + (40 if ":" in address else 20)
        at = head + (16 if protocol == TCP else 6)
        made.append((frame, head, at, ~struct.unpack_from("!H", frame, at)[0] & 0xffff))
    numbers, pack, bits = len(made), struct.pack_into, random.getrandbits

    def one():
        r = bits(40)
        frame, head, at, rest = made[(r >> 32) % numbers]
        source, target = r >> 16 & 0xffff or 1, r & 0xffff or 1
        pack("!HH", frame, head, source, target)
        number = rest + source + target
        number = (number & 0xffff) + (number >> 16)
        pack("!H", frame, at, ~((number & 0xffff) + (number >> 16)) & 0xffff or 0xffff)
        return frame
    return one


def establish(p):
    """Connections that are whole: the accomplice answers each SYN, and the ACK that follows a while later fits. The
    container's kernel must not see the answers, or it ends what it knows nothing of: it loses its address."""
    subprocess.run(["ip", "addr", "flush", "dev", "eth0", "scope", "global"], check=True)

    def template(flags, sequence, answer):
        source, target = p.own[4], packed(ACCOMPLICES.split("/", maxsplit=1)[0])
        head = struct.pack("!HHIIBBHHH", 0, 0, sequence, answer, 5 << 4, flags, 64240, 0, 0)
        rest = total(head) + total(source + target) + TCP + len(head)
        return bytearray(p.ip(TCP, target, head)), rest

    pack, first, behind = struct.pack_into, random.randrange(1 << 20), 512
    frames = template(SYN, OWN_SEQUENCE, 0), template(ACK, OWN_SEQUENCE + 1, THEIR_SEQUENCE + 1)
    plain = struct.unpack_from("!H", frames[0][0], 14 + 10)[0]
    turn = 0

    def one():
        nonlocal turn
        which = turn & 1
        number = first + (turn >> 1) - which * behind
        turn += 1
        frame, rest = frames[which]
        low, port = number >> 12 & 0xffff, 1024 + (number & 4095)  # 4096 ports of each address
        pack("!H", frame, 14 + 18, low)
        pack("!H", frame, 14 + 10, folded((~plain & 0xffff) + low))
        pack("!HH", frame, 34, port, 80)
        pack("!H", frame, 34 + 16, folded(rest + low + port + 80))
        return frame
    return one


def answer(interface):
    """Each SYN to one of the accomplices' addresses is answered, and nothing is remembered."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    s.bind((interface, 0))
    s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    print("ready", flush=True)
    while True:
        frame = bytearray(s.recv(2048))
        if frame[23] != TCP or frame[30] != 198 or frame[47] != SYN:
            continue
        frame[0:12] = frame[6:12] + frame[0:6]
        frame[26:34] = frame[30:34] + frame[26:30]
        frame[34:38] = frame[36:38] + frame[34:36]
        own = int.from_bytes(frame[38:42], "big")
        struct.pack_into("!IIBB", frame, 38, THEIR_SEQUENCE, own + 1, 5 << 4, SYN | ACK)
        struct.pack_into("!H", frame, 50, 0)
        struct.pack_into("!H", frame, 50, folded(total(bytes(frame[34:54])) + total(bytes(frame[26:34])) + TCP + 20))
        with contextlib.suppress(OSError):
            s.send(frame[:54])


def kinds(p, addresses):
    """Each makes one frame of its kind."""
    def any_address():
        return random.choice(addresses)

    def on_link():  # of a /64
        return packed(any_address())[:8] + random.randbytes(8)

    def advertise(kind, flags):  # of an address that it makes up, from that address
        address = link_local()
        return p.icmp6(ALL_NODES, struct.pack("!BBHI", kind, 0, 0, flags) + address + link_option(2, p), address)

    return {
        "udp": addresses and flood(p, UDP, addresses),
        "syn": addresses and flood(p, TCP, addresses),
        "solicit": lambda: p.icmp6(GATEWAY6, struct.pack("!BBHI", 135, 0, 0, 0) + packed(GATEWAY6) + link_option(1, p), link_local()),
        "solicit-own": lambda: p.icmp6(GATEWAY6, struct.pack("!BBHI", 135, 0, 0, 0) + packed(GATEWAY6) + link_option(1, p),
                                       p.own[6][:8] + random.randbytes(8)),
        "advertise": lambda: advertise(136, 0x20000000),
        "router-solicit": lambda: p.icmp6(ALL_ROUTERS, struct.pack("!BBHI", 133, 0, 0, 0) + link_option(1, p), link_local()),
        "router-advertise": lambda: p.icmp6(ALL_NODES, struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + link_option(1, p),
                                            link_local()),
        "listener": lambda: p.icmp6("ff02::16", struct.pack("!BBHHH", 143, 0, 0, 0, 1) + struct.pack("!BBH", 4, 0, 0) +
                                    packed("ff02::")[:8] + random.randbytes(8), link_local()),
        "on-link": lambda: p.transport(UDP, link_local(), ports()),
        "echo": lambda: p.icmp6(GATEWAY6, struct.pack("!BBHI", 128, 0, 0, random.getrandbits(32)), link_local()),
        "beyond": lambda: p.transport(UDP, on_link(), ports()),
        "arp": lambda: p.arp(1, random.choice((b"\xc6\x12", b"\xc6\x13")) + random.randbytes(2), packed(GATEWAY4)),  # of ACCOMPLICES
        "arp-pool": lambda: p.arp(1, p.own[4][:2] + random.randbytes(2), packed(GATEWAY4)),
        "arp-reply": lambda: p.arp(2, random.randbytes(4), packed(GATEWAY4)),
    }


def main(kind, seconds, per_second, *addresses):
    packets = Packets()
    make = establish(packets) if kind == "establish" else kinds(packets, addresses)[kind]
    sent, begun, rate = 0, time.monotonic(), float(per_second)
    seconds, send = float(seconds), packets.socket.send
    while (now := time.monotonic() - begun) < seconds:
        for _ in range(32):
            try:
                send(make())
                sent += 1
            except OSError:
                pass  # the queue is full
        if rate and sent > rate * now:
            time.sleep(sent / rate - now)
    print(sent)


@contextlib.contextmanager
def accomplice(space, route):
    """Answers in a namespace for ACCOMPLICES; route: makes the host's route there, and takes it away ("add", "del")."""
    process = space.popen(sys.executable, os.path.abspath(__file__), "answer", "eth0", stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == "ready\n"
        route("add")
        yield
    finally:
        route("del")
        process.kill()
        process.communicate()


class Attack:
    """Attacks of a container, beside each other; wait() gives what each has sent."""

    def __init__(self, node, cid):
        self.pid, self.running = node.container(cid)["node"]["init_pid"], []
        with open(os.path.abspath(__file__), encoding="utf-8") as f:
            self.program = f.read()

    def begin(self, kind, seconds, *addresses, per_second=0):
        self.running.append((kind, subprocess.Popen(
            ["nsenter", "-t", str(self.pid), "-a", "/usr/bin/systemd-run", "--quiet", "--pipe", "--wait", "--collect",
             "/usr/bin/python3", "-", kind, str(seconds), str(per_second), *addresses],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)))
        self.running[-1][1].stdin.write(self.program)
        self.running[-1][1].stdin.close()
        self.running[-1][1].stdin = None
        return self

    def wait(self):
        sent = {}
        for kind, process in self.running:
            sent[kind] = int(process.communicate()[0])
            assert process.returncode == 0, kind
        self.running = []
        return sent


if __name__ == "__main__":
    (answer if sys.argv[1] == "answer" else main)(*sys.argv[2 if sys.argv[1] == "answer" else 1:])
