# SPDX-License-Identifier: Apache-2.0
"""The node as the steps see it: its API over the control socket, its containers' processes, its files."""
import glob
import http.client
import json
import os
import socket
import subprocess
import time

SOCKET = "/run/noded/control.sock"
PROXY_MARK = 0x200


def run(*argv, check=True, seconds=60):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}: {done.stdout[-600:]}")
    return done.stdout.strip()


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
        except (OSError, AssertionError, subprocess.TimeoutExpired) as e:
            last = e
        time.sleep(0.3)
    what = what() if callable(what) else what
    raise AssertionError(f"not within {seconds} s: {what}" + (f" ({last})" if last else ""))


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(90)
        self.sock.connect(SOCKET)


def api(method, path, body=None, expect=(200, 201, 202), root="/api/v1"):
    connection = Connection("noded")
    connection.request(method, root + path, json.dumps(body) if body is not None else None,
                       {"Content-Type": "application/json"})
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    if reply.status not in expect:
        raise AssertionError(f"{method} {path}: {reply.status} {text.decode()[:400]}")
    return json.loads(text)["data"] if text else None


def container(container_id):
    return api("GET", f"/containers/{container_id}")


def wait_status(container_id, status, seconds=60):
    wait_for(lambda: container(container_id)["status"] == status, seconds, f"container is {status}")


def init_pid(slot=1):
    """The container's process 1, found in its cgroup (version 2, or systemd's own hierarchy)."""
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"):
        for file in glob.glob(f"{root}/noded/c{slot}/**/cgroup.procs", recursive=True):
            for pid in open(file, encoding="utf-8").read().split():
                with open(f"/proc/{pid}/status", encoding="utf-8") as status:
                    if any(line.startswith("NSpid:") and line.split()[-1] == "1" and len(line.split()) > 2
                           for line in status):
                        return int(pid)
    return None


def inside(*argv, slot=1, check=True, seconds=60):
    return run("nsenter", "-t", str(init_pid(slot)), "-a", *argv, check=check, seconds=seconds)


def get_as_client(client, address, port, path="/", seconds=10):
    """A request as a proxy on this host makes it: from the client's own address, with the proxy's mark."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(seconds)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, PROXY_MARK)
        if client:
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, 75, 1)  # IPV6_TRANSPARENT
            else:
                s.setsockopt(socket.IPPROTO_IP, 19, 1)  # IP_TRANSPARENT
            s.bind((client, 0))
        s.connect((address, port))
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode(errors="replace")


def leftovers():
    """Everything of ours that can be seen from outside."""
    found = []
    found += [line for line in run("nft", "list", "tables").splitlines() if line.endswith(" noded")]
    found += [line for line in run("ip", "-o", "link").splitlines() if ": nd" in line]
    found += [line for line in run("ip", "rule").splitlines() + run("ip", "-6", "rule").splitlines() if "fwmark" in line]
    found += [line for line in open("/proc/self/mounts", encoding="utf-8") if "noded" in line]
    found += [line for line in run("losetup", "-a").splitlines() if "noded" in line]
    found += glob.glob("/sys/fs/cgroup/noded*") + glob.glob("/sys/fs/cgroup/*/noded*")
    found += [p for p in ("/run/noded", "/var/lib/noded/pool.img", "/var/lib/noded/noded.db") if os.path.exists(p)]
    return found
