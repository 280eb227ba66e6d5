# SPDX-License-Identifier: Apache-2.0
"""Statistics: every field of the contract, against what the kernel says."""
import concurrent.futures
import os
import re
import socket
import time

import pytest

from daemon import Daemon
from world import run, wait_for

MIB = 1 << 20


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    c = node.create("stats")
    node.wait_booted(c["id"])
    return c


def stats(node, box):
    r = node.get(f"/api/v1/containers/{box['id']}/stats")
    assert r.status == 200, r
    return r.data


def test_every_field_has_its_shape(node, box):
    s = stats(node, box)
    assert set(s) >= {"id", "project_id", "status", "status_code", "processes", "started_at", "disk", "network",
                      "processing_time", "project_name", "server_name", "cpu", "memory", "ramdisk"}
    assert (s["id"], s["project_id"], s["status"], s["status_code"]) == (box["id"], box["project_id"], "Running", 103)
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$", s["started_at"]), s["started_at"]
    assert re.match(r"^\d+ms$", s["processing_time"])
    assert s["processes"] >= 2
    assert set(s["cpu"]) == {"usage", "allocated_time", "usage_percent"}
    assert s["cpu"]["usage"] > 10**6 and s["cpu"]["allocated_time"] == os.cpu_count() * 10**9
    assert set(s["memory"]) == {"usage", "total", "usage_percent", "swap_usage", "swap_usage_peak", "usage_peak"}
    m = s["memory"]
    assert MIB < m["usage"] <= m["usage_peak"] <= m["total"] and 0 < m["usage_percent"] < 100
    swap = int(re.search(r"SwapTotal:\s+(\d+)", open("/proc/meminfo", encoding="ascii").read()).group(1))
    assert swap or (m["swap_usage"], m["swap_usage_peak"]) == (0, 0)
    assert s["ramdisk"]["scope"] == "container" and s["ramdisk"]["capacity_reserved"] is False
    assert s["ramdisk"]["shared_pool_maximum"] == 512 * MIB
    n = s["network"][0]
    assert n["interface"] == "eth0" and n["state"] == "up" and n["type"] == "broadcast"
    assert [(a["address"], a["family"], a["netmask"], a["scope"]) for a in n["addresses"]] == [
        (box["node"]["ipv4"], "inet", "32", "global"), (box["node"]["ipv6"], "inet6", "128", "global")]
    assert set(n["counters"]) == {"bytes_received", "bytes_sent", "packets_received", "packets_sent", "errors_received",
                                  "errors_sent", "packets_dropped_inbound", "packets_dropped_outbound"}


def test_cpu_counts(node, box):
    before = stats(node, box)["cpu"]["usage"]
    time.sleep(0.6)
    # One second of processor time, however long the machine takes to give it.
    node.inside(box["id"], "systemd-run", "--wait", "sh", "-c", "ulimit -t 1; while :; do :; done", check=False)
    s = stats(node, box)["cpu"]
    assert s["usage"] - before > 9 * 10**8, s
    assert 0 < s["usage_percent"] <= 110, s


def test_network_counts_as_the_container_sees_it(node, box):
    before = stats(node, box)["network"][0]["counters"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
        for _ in range(5):
            u.sendto(b"x" * 1000, (box["node"]["ipv4"], 9999))
    after = stats(node, box)["network"][0]["counters"]
    assert after["bytes_received"] - before["bytes_received"] >= 5000, (before, after)
    assert after["packets_received"] - before["packets_received"] >= 5
    assert after["bytes_sent"] >= before["bytes_sent"]


def test_disk_counts_what_the_container_wrote(node, box):
    before = stats(node, box)["disk"]["root"]
    assert before["total"] == 0 and isinstance(before["usage"], int)
    node.inside(box["id"], "dd", "if=/dev/urandom", "of=/root/big", "bs=1M", "count=24")
    run("sync", "-f", node.pool)

    def grown():
        return stats(node, box)["disk"]["root"]["usage"] - before["usage"]
    wait_for(lambda: grown() >= 24 * MIB, 10, 0.5, "the usage of the disk")
    assert grown() < 40 * MIB
    node.inside(box["id"], "rm", "/root/big")
    run("sync", "-f", node.pool)
    wait_for(lambda: grown() < 12 * MIB, 10, 0.5, "the usage of the disk to fall")


def test_ramdisk_counts_also_when_stopped(node, box):
    assert stats(node, box)["ramdisk"]["usage"]["private"] == 0
    node.inside(box["id"], "dd", "if=/dev/zero", "of=/ramdisk/x", "bs=1M", "count=5")
    wait_for(lambda: stats(node, box)["ramdisk"]["usage"] == {"private": 5 * MIB, "secrets": 0, "project": 0}, 10, 0.5,
             "the usage of the ramdisk")


def test_paused_and_stopped(node, box):
    node.op(box["id"], "pause")
    s = stats(node, box)
    assert (s["status"], s["status_code"]) == ("Frozen", 110) and s["cpu"] and s["memory"] and s["processes"] >= 2
    node.op(box["id"], "resume")
    node.op(box["id"], "force-stop")
    s = stats(node, box)
    assert (s["status"], s["status_code"], s["processes"], s["started_at"]) == ("Stopped", 102, 0, None)
    assert s["cpu"] is None and s["memory"] is None and s["network"] == []
    assert s["ramdisk"]["usage"]["private"] == 5 * MIB and isinstance(s["disk"]["root"]["usage"], int)
    node.op(box["id"], "start")


def test_many_requests_cost_one_job(node, box):
    time.sleep(2.1)
    before = node.log().count("node.usage")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: stats(node, box)["disk"]["root"]["usage"], range(100)))
    assert all(isinstance(n, int) for n in found) and node.log().count("node.usage") - before <= 2


def test_without_quotas_the_usage_is_absent():
    d = Daemon(storage__quota="no").start()
    c = d.create("plain", ramdisk=False)
    s = d.get(f"/api/v1/containers/{c['id']}/stats").data
    assert s["disk"]["root"] == {"total": 0} and "ramdisk" not in s
    d.close()
