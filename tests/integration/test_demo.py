# SPDX-License-Identifier: Apache-2.0
"""`make run`'s demonstration from places and with environments that must not matter; its failures are one sentence, and nothing stays."""
import glob
import os
import signal
import subprocess
import uuid

import pytest
from world import BUILD, REPOSITORY, wait_for

PROGRAM = os.path.join(REPOSITORY, "tests", "demo", "run")
RUN = uuid.uuid4().hex[:8]  # in the names of what the demonstrations of these tests make
BARE = {"PATH": "/usr/bin:/bin", "NODED_TEST_RUN": RUN, **{k: os.environ[k] for k in ("NODED_TEST_IMAGE", "NODED_TEST_KITS") if k in os.environ}}


@pytest.fixture
def place(tmp_path):
    """A folder for temporary files that only root may enter, with a blank in its name; afterwards all of the demonstration's is gone."""
    folder = tmp_path / "of mine"
    folder.mkdir(mode=0o700)
    before = everything()
    yield folder
    assert list(folder.iterdir()) == []
    assert everything() == before


def everything():
    """Loop devices, mounts and containers of this file's demonstrations."""
    loops = [text for path in glob.glob("/sys/block/loop*/loop/backing_file") if RUN in (text := read(path))]
    mounts = sorted(line.split()[1] for line in read("/proc/self/mounts").splitlines())
    monitors = [path for path in glob.glob("/proc/[0-9]*/cmdline") if "[lxc monitor]" in read(path)]
    return {"loops": loops, "mounts": mounts, "monitors": monitors}


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def demo(place, build=BUILD, **more):
    return subprocess.Popen(["sh", "-c", 'umask 077; cd /; exec "$@"', "-", PROGRAM, "--build", build], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**BARE, "TMPDIR": str(place), **more})


def cgroups(name):
    return glob.glob(f"/sys/fs/cgroup/**/{name}", recursive=True)


def node_of(process, place):
    """The name of the demonstration's node, as soon as it has a container."""
    def name():
        assert process.poll() is None, process.stderr.read()
        paths = glob.glob(f"{place}/noded-world-*/noded-nt*")
        return paths and cgroups(os.path.basename(paths[0]).split("-")[1]) and os.path.basename(paths[0]).split("-")[1]
    return wait_for(name, 120, 0.1, "a container's cgroup")


def test_it_works_whatever_the_caller_has_set(place):
    process = demo(place)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, ""), (out, err)
    assert "every container still runs, with the same init" in out and "remove everything" in out


@pytest.fixture
def broken(tmp_path):
    """A build tree as the real one, in which programs can be exchanged."""
    tree = tmp_path / "build"
    tree.mkdir()
    for name in os.listdir(BUILD):
        (tree / name).symlink_to(f"{BUILD}/{name}")

    def exchange(name, script):
        (tree / name).unlink()
        (tree / name).write_text("#!/bin/sh\n" + script.format(real=f"{BUILD}/{name}"))
        (tree / name).chmod(0o755)
        return str(tree)
    return exchange


CREATE = "for word; do [ \"$word\" != create ] || {{ echo 'no room for it' >&2; exit 3; }}; done; exec '{real}' \"$@\"\n"
COPY = CREATE.replace("create", "copy").replace("echo 'no room for it' >&2; ", "")


@pytest.mark.parametrize("program,script,step,reason", [
    ("nodectl", CREATE, "create container 'blue' and start its init", "no room for it"),
    ("noded", "echo 'it is broken' >&2; exit 7\n", "start noded on an empty pool, import image and kits", "noded ended with 7"),
    ("nodectl", COPY, "copy it to 'red'", "'nodectl' ended with 3"),
], ids=["a refused create", "a noded that does not start", "a copy that fails"])
def test_a_failed_step_is_one_sentence(place, broken, program, script, step, reason):
    tree = broken(program, script)
    process = demo(place, tree)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert len(err.splitlines()) == 1 and "Traceback" not in out + err, err
    assert f"'{step}' failed" in err and reason in err, err
    assert f"noded's log is {tree}/demo-noded.log" in err and os.path.getsize(f"{tree}/demo-noded.log"), err
    assert "run 'make run' again" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_nothing_stays(place, number):
    process = demo(place)
    node = node_of(process, place)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in out + err, (out, err)
    assert not cgroups(node)


def test_nothing_stays_when_the_program_is_killed(place):
    """What a kill leaves on the disk and among the cgroups goes with the next run."""
    process = demo(place)
    node = node_of(process, place)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not everything()["monitors"], 60, what="the end of the containers")
    again = demo(place)
    assert again.wait(300) == 0, again.stderr.read()
    assert not cgroups(node)
