# SPDX-License-Identifier: Apache-2.0
"""Two nodes on one machine, each in a network namespace of its own, that know each other; one wire between them."""
import contextlib
import json

from daemon import Daemon
from netlab import Space
from world import BUILD, run

IDS = {"near": "a" * 24, "far": "b" * 24}
ADDRESSES = {"near": "192.0.2.1", "far": "192.0.2.2"}


class Pair:
    """near and far: the nodes; spaces: their namespaces, by the same names; pki: a directory, that of each node below it."""

    def wire_bytes(self):
        """What has gone over the wire so far, both ways."""
        link = json.loads(self.spaces["near"].ip("-j", "-s", "link", "show", "dev", "wire0").stdout)[0]["stats64"]
        return link["rx"]["bytes"] + link["tx"]["bytes"]


@contextlib.contextmanager
def pair(pki, loop_bytes=3 << 30, **settings):
    p = Pair()
    p.pki = pki
    p.spaces = {name: Space("peer-" + name) for name in IDS}
    run("ip", "link", "add", "wire0", "netns", p.spaces["near"].name, "type", "veth", "peer", "name", "wire0", "netns",
        p.spaces["far"].name)
    run(BUILD + "/nodectl", "pki", "init", "--dir", pki)
    for name, other in (("near", "far"), ("far", "near")):
        at = f"{pki}/{name}"
        p.spaces[name].ip("addr", "add", ADDRESSES[name] + "/24", "dev", "wire0")
        p.spaces[name].ip("link", "set", "wire0", "up")
        run(BUILD + "/nodectl", "pki", "node", IDS[name], "--dir", pki, "--out", at, "--host", ADDRESSES[name])
        d = Daemon(space=p.spaces[name], loop_bytes=loop_bytes, node__id=IDS[name], tls__listen=ADDRESSES[name] + ":8443",
                   tls__certificate=at + "/server.crt", tls__key=at + "/server.key", tls__client_ca=at + "/ca.crt",
                   peers__nodes=f"{IDS[other]}={ADDRESSES[other]}:8443", peers__certificate=at + "/node.crt", peers__key=at + "/node.key", **settings)
        setattr(p, name, d)
    try:
        yield p
    finally:
        for d in (p.near, p.far):
            d.close()
        for space in p.spaces.values():
            space.delete()
