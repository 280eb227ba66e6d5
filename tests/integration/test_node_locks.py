# SPDX-License-Identifier: Apache-2.0
"""Two daemons in every combination: the second one ends, names what is in use and by whom, and has changed nothing."""
import os
import re
import subprocess

import pytest
from daemon import Daemon
from world import BUILD, run


@pytest.fixture(scope="module")
def first():
    run("ip", "link", "set", "lo", "up")
    n = Daemon(loop_bytes=1 << 30)
    try:
        n.start()
        n.running = n.create("running")["id"]
        n.stopped = n.create("stopped")["id"]
        assert n.op(n.stopped, "force-stop").status == 200
        yield n
    finally:
        n.close()


@pytest.fixture
def second():
    n = Daemon(loop_bytes=1 << 30)
    try:
        yield n
    finally:
        subprocess.run([BUILD + "/noded-down", "--config", n.dir + "/noded.conf", "purge", "--data"], capture_output=True, check=False,
                       env={**os.environ, **n.env})
        n.remove_files()


OUTCOMES = []
SHARED = {
    "state directory": {"state_dir": "state"},
    "run directory": {"run_dir": "run_dir"},
    "pool by its loop file": {"loop_file": "loop_file"},
    "pool by its directory": {"pool": "pool", "loop_file": "none"},
    "pool by directory and file": {"pool": "pool", "loop_file": "loop_file"},
    "cgroup": {"cgroup": "name"},
    "table": {"table": "name"},
    "interface prefix": {"veth_prefix": "veth"},
    "everything": {"state_dir": "state", "run_dir": "run_dir", "pool": "pool", "loop_file": "loop_file", "cgroup": "name",
                   "table": "name", "veth_prefix": "veth"},
}


def configure(second, first, shared):
    """The second node's configuration with these keys of the first one's."""
    with open(second.conf, encoding="utf-8") as f:
        lines = f.read().splitlines()
    for key, member in shared.items():
        value = member if member == "none" else getattr(first, member)
        lines = [f"{key} = {value}" if line.split(" = ")[0] == key else line for line in lines]
    conf = second.dir + "/shared.conf"
    with open(conf, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    return conf


def state_of(first):
    return ({c["id"]: (c["status"], c["node"]["init_pid"]) for c in first.list()}, first.everything(), first.links())


@pytest.mark.parametrize("what", list(SHARED))
def test_a_second_daemon_is_refused(first, second, what):
    first.wait_idle()
    before = state_of(first)
    conf = configure(second, first, SHARED[what])
    r = subprocess.run([BUILD + "/noded", "-c", conf, "-d"], env={**os.environ, **second.env}, capture_output=True,
                       text=True, timeout=60, check=False)
    assert r.returncode == 1, r.stderr
    assert "in use by" in r.stderr, r.stderr
    if what not in ("cgroup", "table", "interface prefix"):
        assert f"process {first.process.pid}" in r.stderr and first.state in r.stderr, r.stderr
    assert first.get("/healthz").data["ready"]
    assert state_of(first) == before
    assert not os.path.ismount(second.pool), "a second mount of the first one's pool stays"
    assert first.op(first.stopped, "start").status == 200
    assert first.op(first.stopped, "force-stop").status == 200
    OUTCOMES.append((what, re.search(r"cannot start: (.*?)(?: ERR_CODE|$)", r.stderr, re.MULTILINE).group(1)))


def test_noded_down_is_refused_while_noded_runs(first):
    for argv in (["halt"], ["purge"], ["purge", "--data"]):
        r = subprocess.run([BUILD + "/noded-down", "--config", first.conf, *argv], capture_output=True, text=True, check=False,
                           env={**os.environ, **first.env})
        assert r.returncode == 1 and "in use by noded" in r.stderr, r.stderr
    assert first.container(first.running)["status"] == "running"


def test_a_killed_daemon_holds_nothing(first):
    pid = first.container(first.running)["node"]["init_pid"]
    for _ in range(3):
        first.kill9()
        first.start()
    assert first.container(first.running)["node"]["init_pid"] == pid


def test_the_table_of_pairs():
    """Last: what the second daemon of each pair said. In none did the first one notice anything."""
    print()
    for what, said in OUTCOMES:
        print(f"same {what:28} {said}")
    assert {what for what, _ in OUTCOMES} == set(SHARED), "a pair is missing: run the whole file"
