# SPDX-License-Identifier: Apache-2.0
"""Environment variables: limits, what processes of every kind inside see, and that `synced` is what is so inside."""
import random
import sqlite3
import subprocess
import threading

import pytest
from daemon import LOGIN, Daemon
from world import wait_for

SYNC = {"pending", "revision", "applied_revision", "verified_at", "attempted_at", "last_error", "exhausted"}


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def box(node):
    cid = node.create("env-box", hoody_kit=False, environment_vars={"FIRST": "1"})["id"]
    node.wait_booted(cid)
    return cid


def env(d, cid):
    return f"/api/v1/containers/{cid}/env"


def patch(d, cid, **values):
    r = d.call("PATCH", env(d, cid), values)
    assert r.status == 200, r
    return r.data


def sync(d, cid):
    return d.container(cid)["env_sync"]


def unit_environment(d, cid):
    """What a unit that is started now gets."""
    return d.inside(cid, "systemd-run", "--quiet", "--wait", "--pipe", "env")


def test_a_create_is_verified_by_its_start(node, box):
    s = sync(node, box)
    assert set(s) == SYNC
    assert (s["pending"], s["revision"], s["applied_revision"], s["last_error"], s["exhausted"]) == (False, 1, 1, None, False)
    assert s["verified_at"] and s["attempted_at"]


def test_every_kind_of_new_process_sees_a_change(node, box):
    values = {"PLAIN": "a b=c", "TRICKY": """it's "q" $(id) `id` \\ %n 100%""", "HASH": "a#b", "UNICODE": "äöü €"}
    r = patch(node, box, **values)
    assert r["synced"] is True and r["environment_vars"] == {"FIRST": "1", **values}
    assert r["env_sync"]["revision"] == r["env_sync"]["applied_revision"] == 2
    # a PAM session (pam_env cannot hold a '#')
    seen = node.inside(box, "su", "-s", "/usr/bin/env", "user")
    for key in ("PLAIN", "UNICODE"):
        assert f"{key}={values[key]}" in seen.split("\n"), (key, seen)
    # a login shell, and a unit of systemd
    for seen in (node.inside(box, "bash", "-lc", "env"), unit_environment(node, box)):
        for key, value in values.items():
            assert f"{key}={value}" in seen.split("\n"), (key, seen)
        assert f"HOODY_CONTAINER_ID={box}" in seen.split("\n")
    r = node.call("DELETE", env(node, box) + "/TRICKY")
    assert r.status == 200 and r.data["synced"] is True
    assert "TRICKY" not in unit_environment(node, box) and "TRICKY" not in node.inside(box, "bash", "-lc", "env")


PEM = "-----BEGIN PRIVATE KEY-----\n" + "MC4CAQAwBQYDK2VwBCIEIF+/=\n" * 3 + "-----END PRIVATE KEY-----\n"
VALUES = [
    PEM, PEM.replace("\n", "\r\n"), "\r", "a\rb",  "two\nlines", "\n", "\n\n leading and trailing \n\n", "a\tb", "\t", " ", "  blanks around  ", "plain", "a=b=c", "=", "'", '"', "\\", "''", '""',
    "\\\\", "ends with \\", 'ends with "', "ends with '", '"in quotes"', "'in quotes'", '\\"', "\\'", "\\n is no line break", "\\x41", "it's",
    "it's \"both\"", "$HOME", "${HOME}", "$(id)", "`id`", "$", "%", "%%", "%n", "%h 100%", "#", "a#b", "a #b", "# not a comment", ";", "; rm", "a;b", "&", "|", "!",
    "!!", "~", "*", "[a]", "{a,b}", "<>", "\\\n continued", "EOF\nA=1", "export B=2", "\nexport LD_PRELOAD=/x\n", "äöü €", "日本語", "🙂\n🙂", "x" * 4096,
    "x\n" * 2048, "'" * 4096, '"' * 4096, "\\" * 4096, "$" * 4096, "%" * 4096]


def set_values(node, box, values):
    """Replaces all variables of the container by these, and checks that the API shows the same."""
    values = {f"V_{i}": v for i, v in enumerate(values)}
    r = node.call("PUT", f"/api/v1/containers/{box}", {"environment_vars": values})
    assert r.status == 200 and r.data["environment_vars"] == values and not r.data["env_sync"]["pending"], r
    assert node.get(env(node, box)).data["environment_vars"] == values
    return values


def random_values(seed):
    chance = random.Random(seed)
    letters = ["\n", "\r", "\t", " ", "'", '"', "\\", "$", "`", "%", "#", "=", "a", "n", "é", "{", "}", "(", ")", ";", "!"]
    return ["".join(chance.choices(letters, k=chance.randint(1, 12))) for _ in range(200)]


def read_inside(node, box, *argv):
    """The variables of the test that a process has that was begun so; bytes, since text would lose carriage returns."""
    init = str(node.container(box)["node"]["init_pid"])
    done = subprocess.run(["nsenter", "-t", init, "-a", *argv], capture_output=True, check=False, env=LOGIN)
    assert done.returncode == 0, (argv, done)
    text = done.stdout.decode()
    return {k: v for k, _, v in (line.partition("=") for line in text.split("\0")) if k.startswith("V_")}


@pytest.mark.parametrize("values", [VALUES, random_values(1), random_values(2)], ids=["chosen", "random-1", "random-2"])
def test_each_reader_sees_what_was_set(node, box, values):
    values = set_values(node, box, values)
    assert read_inside(node, box, "bash", "-lc", "env -0") == values
    assert read_inside(node, box, "sh", "-lc", "env -0") == values
    assert read_inside(node, box, "su", "-", "user", "-c", "env -0") == values
    assert read_inside(node, box, "systemd-run", "--quiet", "--wait", "--pipe", "env", "-0") == values
    file = "/etc/systemd/hoody-environment"
    assert read_inside(node, box, "env", "-i", "/bin/sh", "-c", f"set -a; . {file}; env -0") == values
    only = {k: v for k, v in values.items() if not set("#\n\r") & set(v)}
    assert read_inside(node, box, "su", "-s", "/usr/bin/env", "user", "--", "-0") == only


def test_a_unit_with_the_file(node, box):
    """What the file says is what a unit gets whose manager has not read the defaults."""
    values = set_values(node, box, VALUES)
    node.inside(box, "sh", "-ec", "mv /etc/systemd/system.conf.d/91-hoody-environment.conf /root/; systemctl daemon-reload")
    try:
        run = ("systemd-run", "--quiet", "--wait", "--pipe")
        assert read_inside(node, box, *run, "env", "-0") == {}
        assert read_inside(node, box, *run, "-pEnvironmentFile=/etc/systemd/hoody-environment", "env", "-0") == values
    finally:
        node.inside(box, "sh", "-ec", "mv /root/91-hoody-environment.conf /etc/systemd/system.conf.d/; systemctl daemon-reload")


def test_values_of_several_lines_survive_a_restart(node, box):
    """liblxc gets none of them: process 1 lacks them, and nothing of them is a setting."""
    values = set_values(node, box, [PEM, "a\nlxc.hook.start = /x", "one"])
    assert node.op(box, "restart").status == 200
    node.wait_booted(box)
    assert not sync(node, box)["pending"]
    assert read_inside(node, box, "bash", "-lc", "env -0") == values
    assert read_inside(node, box, "systemd-run", "--quiet", "--wait", "--pipe", "env", "-0") == values
    assert read_inside(node, box, "cat", "/proc/1/environ") == {"V_2": "one"}
    text = node.inside(box, "cat", "/etc/environment")
    assert "V_0 cannot be written here" in text and "BEGIN" not in text


def test_merge_replace_delete(node, box):
    before = node.get(env(node, box)).data["environment_vars"]
    assert node.call("PUT", env(node, box), {"A": "1"}).data["environment_vars"] == {**before, "A": "1"}
    assert node.call("PUT", env(node, box) + "/A", {"value": "2"}).data["environment_vars"]["A"] == "2"
    unchanged = node.call("PATCH", env(node, box) + "/A", {"value": "2"}).data
    assert unchanged["synced"] is False and unchanged["env_sync"]["pending"] is False
    for _ in range(2):
        assert node.call("DELETE", env(node, box) + "/A").status == 200
    r = node.call("PUT", f"/api/v1/containers/{box}", {"environment_vars": {"ONLY": "this"}})
    assert r.data["environment_vars"] == {"ONLY": "this"} and not r.data["env_sync"]["pending"]
    assert "ONLY=this" in node.inside(box, "bash", "-lc", "env")
    assert "FIRST" not in node.inside(box, "cat", "/etc/environment")


@pytest.mark.parametrize("method,tail,body,code", [
    ("PUT", "", {"HOODY_X": "1"}, "RESERVED_ENV_PREFIX"), ("PUT", "/HOODY_X", {"value": "1"}, "RESERVED_ENV_PREFIX"),
    ("DELETE", "/HOODY_X", None, "RESERVED_ENV_PREFIX"), ("PUT", "", {"A-B": "1"}, "INVALID_ENV_KEY"),
    ("PUT", "", {"": "1"}, "INVALID_ENV_KEY"), ("PUT", "/9A", {"value": "1"}, "INVALID_ENV_KEY"),
    ("DELETE", "/A.B", None, "INVALID_ENV_KEY"), ("PUT", "", {"K" * 129: "1"}, "INVALID_ENV_KEY"),
    ("PUT", "", {"A": ""}, "VALIDATION_ERROR"), ("PUT", "", {"A": None}, "VALIDATION_ERROR"),
    ("PUT", "", {"A": "x" * 4097}, "VALIDATION_ERROR"), ("PUT", "", {"A": "back\bspace"}, "VALIDATION_ERROR"), ("PUT", "", {"A": "\x1b[1m"}, "VALIDATION_ERROR"),
    ("PUT", "/A", {"value": "bell \x07"}, "VALIDATION_ERROR"), ("PUT", "", {"A": "nul \x00"}, "VALIDATION_ERROR"),
    ("PUT", "", {}, "VALIDATION_ERROR"), ("PUT", "/A", {}, "VALIDATION_ERROR"), ("PUT", "/A", {"value": 1}, "VALIDATION_ERROR"),
    ("PUT", "/A", {"value": "1", "x": 1}, "VALIDATION_ERROR"), ("PUT", "", {f"K{i}": "x" for i in range(257)}, "VALIDATION_ERROR"),
])
def test_bad_input_changes_nothing(node, box, method, tail, body, code):
    before = node.get(f"/api/v1/containers/{box}").text
    r = node.call(method, env(node, box) + tail, body)
    assert r.status == 400 and r.json["code"] == code and r.json["field"], r
    assert node.get(f"/api/v1/containers/{box}").text == before


def test_the_largest_set(node, box):
    big = {"K" * 125 + f"{i:03}": "x" * 4096 for i in range(256)}
    r = node.call("PUT", f"/api/v1/containers/{box}", {"environment_vars": big})
    assert r.status == 200 and not r.data["env_sync"]["pending"], r.text[-500:]
    assert node.call("PUT", env(node, box) + "/ONE_MORE", {"value": "1"}).status == 400
    assert node.inside(box, "bash", "-lc", "env | grep -c ^KKK") == "256"
    assert node.op(box, "restart").status == 200
    node.wait_booted(box)
    r = node.call("PUT", f"/api/v1/containers/{box}", {"environment_vars": {"SMALL": "1"}})
    assert r.status == 200 and not r.data["env_sync"]["pending"]
    assert "KKK" not in node.inside(box, "cat", "/etc/environment")


def test_a_stopped_container_has_it_with_its_start(node, box):
    assert node.op(box, "force-stop").status == 200
    r = patch(node, box, LATE="yes")
    assert r["synced"] is False and r["env_sync"]["pending"] and r["env_sync"]["last_error"] is None
    node.restart()
    assert sync(node, box)["pending"]
    assert node.op(box, "start").status == 200
    s = sync(node, box)
    assert not s["pending"] and s["applied_revision"] == s["revision"] and s["verified_at"] >= s["attempted_at"]
    node.wait_booted(box)
    assert "LATE=yes" in unit_environment(node, box)
    assert "LATE=yes" in node.inside(box, "cat", "/proc/1/environ").split("\0")


def test_a_paused_container_has_it_at_once(node, box):
    assert node.op(box, "pause").status == 200
    assert patch(node, box, FROZEN="1")["synced"] is True
    assert node.op(box, "resume").status == 200
    wait_for(lambda: "FROZEN=1" in unit_environment(node, box), 10, what="systemd to have read it")


def test_it_is_not_synced_when_something_else_is_mounted_there(node, box):
    node.inside(box, "sh", "-c", "mount -t tmpfs none /etc/profile.d")
    r = patch(node, box, HIDDEN="1")
    assert r["synced"] is False and r["env_sync"]["pending"]
    assert r["env_sync"]["last_error"] == "ENV_DEST_UNSUPPORTED" and not r["env_sync"]["exhausted"]
    for _ in range(6):
        node.post(f"/api/v1/containers/{box}/pause")
        node.post(f"/api/v1/containers/{box}/resume")
        node.wait_idle()
    s = sync(node, box)
    assert s["exhausted"] is True and s["pending"], s
    node.inside(box, "umount", "/etc/profile.d")
    assert patch(node, box, HIDDEN="2")["synced"] is True
    assert not sync(node, box)["exhausted"]


def test_what_the_owner_has_in_the_file_stays(node, box):
    node.inside(box, "sh", "-c", "sed -i '1i OWNERS=first' /etc/environment; echo OWNERS=last >> /etc/environment")
    assert patch(node, box, MORE="1")["synced"] is True
    text = node.inside(box, "cat", "/etc/environment")
    assert "OWNERS=first" in text and "OWNERS=last" in text
    # without its end nobody knows what is ours
    node.inside(box, "sed", "-i", "/^# end: set through the platform/d", "/etc/environment")
    r = patch(node, box, MORE="2")
    assert r["synced"] is False and r["env_sync"]["last_error"] == "ENV_BLOCK_MALFORMED"
    assert "OWNERS=last" in node.inside(box, "cat", "/etc/environment")
    node.inside(box, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x > /etc/environment")
    assert patch(node, box, MORE="3")["env_sync"]["last_error"] == "ENV_HOST_CONFIG_TOO_LARGE"
    node.inside(box, "rm", "/etc/environment")
    assert patch(node, box, MORE="4")["synced"] is True


@pytest.mark.parametrize("point", ["env.written", "env.verify"])
@pytest.mark.parametrize("how", ["kill", "error"])
def test_a_failed_write_is_made_good(node, box, point, how):
    node.restart(f"{point}={how}")
    r = patch(node, box, POINT=f"{point} {how}")
    assert r["synced"] is False and r["env_sync"]["pending"] and r["env_sync"]["last_error"] == "ENV_APPLY_FAILED"
    node.restart()
    node.wait_idle()
    assert not sync(node, box)["pending"] and sync(node, box)["last_error"] is None
    assert f"POINT={point} {how}" in unit_environment(node, box)


def test_noded_killed_while_it_is_written(node, box):
    node.restart("env.written=sleep:3000")
    with pytest.raises(Exception):
        node.call("PATCH", env(node, box), {"KILLED": "1"}, timeout=1)
    node.kill9()
    node.start()
    node.wait_idle()
    assert not sync(node, box)["pending"]
    assert "KILLED=1" in unit_environment(node, box)


def test_changes_at_the_same_time_all_arrive(node, box):
    threads = [threading.Thread(target=patch, args=(node, box), kwargs={f"T{i}": str(i)}) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    node.wait_idle()
    assert not sync(node, box)["pending"]
    seen = node.inside(box, "bash", "-lc", "env").split("\n")
    assert all(f"T{i}={i}" in seen for i in range(12))


def test_events(node, box):
    db = sqlite3.connect(node.state + "/noded.db")
    rows = [r[0] for r in db.execute("SELECT event_type FROM events WHERE resource_id = ?", (box,)).fetchall()]
    texts = "".join(r[0] for r in db.execute("SELECT payload FROM events WHERE event_type LIKE 'container.env.%'").fetchall())
    db.close()
    assert {"container.env.updated", "container.env.applied", "container.env.failed"} <= set(rows)
    assert "this" not in texts and "round" not in texts, "values are in no event"
