# SPDX-License-Identifier: Apache-2.0
"""The kernel against a reference: random lists of rules, random packets between namespaces, both directions, IPv4 and IPv6. What arrives
must be what an interpreter of a few lines lets through. NODED_DIFFERENTIAL_PACKETS (20000) and NODED_DIFFERENTIAL_SEED choose how
many and which, for each choice of what IPv6 does; a million:

    NODED_DIFFERENTIAL_PACKETS=1000000 tests/run -q tests/integration/test_netfilter_differential.py
"""
import ipaddress
import os
import random
import socket
import struct
import time

import pytest

from netlab import driven_lab

PACKETS = int(os.environ.get("NODED_DIFFERENTIAL_PACKETS", "20000"))
SEED = int(os.environ.get("NODED_DIFFERENTIAL_SEED", "1"))
ROUND = 250  # packets a list of rules
HOSTS = range(2, 21)
BOX = {4: "10.96.0.1", 6: "fd6e:6f64:6564::1"}
FAR = {4: "198.51.100.{}", 6: "2001:db8:1::{}"}
PORTS = [1, 2, 3, 5, 10, 11, 12, 79, 80, 81, 443, 1024, 65535]
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
NUMBER = {"tcp": TCP, "udp": UDP, "icmp4": ICMP}


# What is tested against: no netfilter in it, only what docs/API.md says.

def in_ports(text, port):
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if int(low) <= port <= int(high or low):
            return True
    return False


def in_networks(text, address):
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(part.strip(), strict=False) for part in text.split(","))


def matches(rule, direction, p):
    if rule.get("state") == "disabled" or NUMBER[rule["protocol"]] != p["protocol"]:
        return False
    networks = rule.get("source" if direction == "ingress" else "destination")
    everywhere = networks is None or any(part.strip().endswith("/0") for part in networks.split(","))
    if p["family"] == 6 and not everywhere:
        return False
    if p["family"] == 4 and networks and not in_networks(networks, p["far"]):
        return False
    for field, value in (("destination_port", p.get("dport")), ("source_port", p.get("sport"))):
        if rule.get(field) is not None and not in_ports(rule[field], value):
            return False
    return all(rule.get(field) is None or int(rule[field]) == p[field] for field in ("icmp_type", "icmp_code"))


def passes(rules, direction, p, ipv6="follow"):
    if ipv6 == "drop" and p["family"] == 6 and any(rule.get("state") != "disabled" for rule in rules):
        return False
    for rule in rules:
        if matches(rule, direction, p):
            return rule["action"] == "allow"
    return True


# What is drawn.

def draw_ports(rng):
    def one():
        if rng.random() < 0.6:
            return str(rng.choice(PORTS))
        low, high = sorted(rng.sample(PORTS, 2))
        return f"{low}-{high}"
    return ",".join(one() for _ in range(rng.choice([1, 1, 2, 3])))


def draw_networks(rng):
    def one():
        host = FAR[4].format(rng.choice(HOSTS))
        return rng.choice([host, host + "/32", f"{host}/{rng.choice([24, 27, 28, 29, 30, 31])}", "10.0.0.0/8", "203.0.113.9"])
    if rng.random() < 0.15:
        return "0.0.0.0/0"
    return ",".join(one() for _ in range(rng.choice([1, 1, 2, 3])))


def draw_rule(rng, direction):
    rule = {"action": rng.choice(["allow", "reject", "drop"]), "protocol": rng.choice(["tcp", "udp", "icmp4"]),
            "state": rng.choice(["enabled", "enabled", "enabled", "disabled"])}
    if rng.random() < 0.6:
        rule["source" if direction == "ingress" else "destination"] = draw_networks(rng)
    if rule["protocol"] == "icmp4":
        if rng.random() < 0.6:
            rule["icmp_type"] = rng.choice(["8", "13", "15"])
            if rng.random() < 0.5:
                rule["icmp_code"] = rng.choice(["0", "1"])
        return rule
    if rng.random() < 0.6:
        rule["destination_port"] = draw_ports(rng)
    if rng.random() < 0.25:
        rule["source_port"] = draw_ports(rng)
    return rule


def draw_packet(rng, tag, used, direction="ingress"):
    """A first packet of a connection that there was not before."""
    while True:
        family = rng.choice([4, 4, 6])
        p = {"family": family, "far": FAR[family].format(rng.choice(HOSTS)), "tag": tag, "protocol": rng.choice([TCP, UDP, ICMP if family == 4 else TCP]),
             "icmp_type": 8, "icmp_code": 0}
        if p["protocol"] == ICMP:
            p.update(id=rng.randrange(65536))
        else:
            p.update(sport=rng.choice(PORTS + [rng.randrange(1, 65536)] * 4), dport=rng.choice(PORTS + [rng.randrange(1, 65536)]))
            if p["dport"] == 7681:
                continue  # the port of a kit is another story
        far_port, box_port = ("sport", "dport") if direction == "ingress" else ("dport", "sport")
        key = tuple(p.get(k) for k in ("far", "protocol", far_port, box_port, "id"))
        if key not in used:
            used.add(key)
            return p


# Bytes.

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


def payload(p, source, target):
    tag = struct.pack("!I", p["tag"])
    if p["protocol"] == ICMP:
        body = struct.pack("!BBHHH", p["icmp_type"], p["icmp_code"], 0, p["id"], 1) + tag
        return body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    if p["protocol"] == UDP:
        body, at = struct.pack("!HHHH", p["sport"], p["dport"], 12, 0) + tag, 6
    else:
        body, at = struct.pack("!HH4sIBBHHH", p["sport"], p["dport"], tag, 0, 5 << 4, 2, 1024, 0, 0), 16
    pseudo = ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed + struct.pack("!HH", p["protocol"], len(body))
    return body[:at] + struct.pack("!H", checksum(pseudo + body) or 0xffff) + body[at + 2:]


def tag_of(frame):
    """The tag of what arrived, or None for what is not ours."""
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind == 0x0800:
        protocol, at = frame[23], 14 + (frame[14] & 15) * 4
    elif kind == 0x86dd:
        protocol, at = frame[20], 54
    else:
        return None
    if protocol == TCP and frame[at + 13] == 2:
        return struct.unpack("!I", frame[at + 4:at + 8])[0]
    if protocol == UDP and len(frame) >= at + 12:
        return struct.unpack("!I", frame[at + 8:at + 12])[0]
    if protocol == ICMP and frame[at] == 8 and len(frame) >= at + 12:
        return struct.unpack("!I", frame[at + 8:at + 12])[0]
    return None


class End:
    """One side: sends packets of its own making, sees what arrives on its interface."""

    def __init__(self, space, interface):
        with space.entered():
            self.seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.seen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            self.seen.bind((interface, 0))
            self.header4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self.header6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.seen.setblocking(False)

    def send(self, p, source, target):
        body = payload(p, source, target)
        if p["family"] == 4:
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), p["tag"] & 0xffff, 0, 64, p["protocol"], 0,
                               socket.inet_aton(source), socket.inet_aton(target))
            self.header4.sendto(head + body, (target, 0))
        else:
            head = struct.pack("!IHBB16s16s", 6 << 28, len(body), p["protocol"], 64, socket.inet_pton(socket.AF_INET6, source),
                               socket.inet_pton(socket.AF_INET6, target))
            self.header6.sendto(head + body, (target, 0))

    def take(self):
        tags = set()
        while True:
            try:
                frame, where = self.seen.recvfrom(2048)
            except BlockingIOError:
                return tags
            if where[2] != socket.PACKET_OUTGOING:
                tags.add(tag_of(frame))


@pytest.fixture(scope="module", params=["follow", "drop"])
def lab(request):
    with driven_lab([{"slot": 1, "kit_ports": [7681]}], host_tcp_ports=[8080], proxy_uids=[33],
                    drop_ipv6=request.param == "drop") as lab:
        interface = "up0"
        for host in HOSTS:
            lab.world.ip("addr", "replace", FAR[4].format(host) + "/24", "dev", interface)
            lab.world.ip("addr", "replace", FAR[6].format(host) + "/64", "dev", interface, "nodad")
        lab.ipv6, lab.box, lab.far = request.param, End(lab.c1, "eth0"), End(lab.world, interface)
        yield lab


def exchange(lab, direction, packets):
    sender, receiver = (lab.far, lab.box) if direction == "ingress" else (lab.box, lab.far)
    for p in packets:
        box = BOX[p["family"]]
        sender.send(p, *((p["far"], box) if direction == "ingress" else (box, p["far"])))
    return receiver


def test_the_kernel_agrees_with_the_reference(lab):
    rng, tag, sent, let = random.Random(SEED), 1, 0, 0
    begun = time.monotonic()
    # neighbours and routes are learned before anything is counted
    for direction in ("ingress", "egress"):
        exchange(lab, direction, [draw_packet(rng, 0, set()) for _ in range(ROUND)])
    time.sleep(0.5)
    while sent < PACKETS:
        rules = {d: [draw_rule(rng, d) for _ in range(rng.randrange(0, 12))] for d in ("ingress", "egress")}
        lab.drive("set", slot=1, kit_ports=[7681], **rules)
        lab.host.exec("conntrack", "-F", check=False)
        used = set()
        for direction in ("ingress", "egress"):
            packets = [draw_packet(rng, tag + i, used, direction) for i in range(ROUND)]
            tag += ROUND
            sent += ROUND
            receiver = exchange(lab, direction, packets)
            expected = {p["tag"] for p in packets if passes(rules[direction], direction, p, lab.ipv6)}
            arrived = receiver.take()
            for _ in range(100):
                if expected <= arrived:
                    break
                time.sleep(0.01)
                arrived |= receiver.take()
            arrived &= {p["tag"] for p in packets}
            let += len(expected)
            wrong = [p for p in packets if (p["tag"] in arrived) != (p["tag"] in expected)]
            assert not wrong, "\n".join(map(str, [direction, *rules[direction], *wrong[:3], f"{len(wrong)} of {ROUND}"]))
    print(f"{lab.ipv6}: {sent} packets, {let} let through, {time.monotonic() - begun:.0f} s")
    assert 0.1 < let / sent < 0.95


def test_the_reference_can_disagree(lab):
    """The comparison notices a kernel that does otherwise."""
    rng, used = random.Random(SEED), set()
    lab.drive("set", slot=1, kit_ports=[7681], ingress=[{"action": "drop", "protocol": "udp"}], egress=[])
    packets = [draw_packet(rng, 2**31 + i, used) for i in range(60)]
    receiver = exchange(lab, "ingress", packets)
    time.sleep(0.2)
    arrived = receiver.take()
    wrong = [p for p in packets if (p["tag"] in arrived) != passes([], "ingress", p)]
    assert wrong and all(p["protocol"] == UDP or (lab.ipv6 == "drop" and p["family"] == 6) for p in wrong)
