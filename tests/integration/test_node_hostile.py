# SPDX-License-Identifier: Apache-2.0
"""What the owner of a container can do to the node through the container's own files: nothing. And what a damaged or
interrupted kit can do to it."""
import glob
import os
import shutil

import pytest
from daemon import PROJECT, Daemon, kits_dir
from world import wait_for

POINTS = ["kit.unpack", "install.readonly", "install.rename"]


@pytest.fixture(scope="module")
def node():
    d = Daemon(kits=True).start()
    yield d
    d.close()


def set_env(d, cid, **values):
    r = d.call("PATCH", f"/api/v1/containers/{cid}/env", values)
    assert r.status == 200, r
    d.wait_idle()


# Each is run as the container's root; {victim} is a file of the host.
TRAPS = {
    "absolute link": "ln -sfn {victim} {path}",
    "relative link": "ln -sfn ../../../../../../../../..{victim} {path}",
    "link through proc": "ln -sfn /proc/1/root{victim} {path}",
    "link of the directory": "mkdir -p /x && cp -a {dir}/. /x/ && rm -rf {dir} && ln -sfn $(dirname {victim}) {dir}",
    "fifo": "rm -rf {path} && mkfifo {path}",
    "directory": "rm -rf {path} && mkdir {path} && touch {path}/x",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_environment_of_a_hostile_container(node, trap, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    os.chmod(tmp_path, 0o777)
    cid = node.create("hostile", hoody_kit=False)["id"]
    node.wait_booted(cid)
    for path in ("/etc/environment", "/etc/profile.d/hoody-20-environment.sh"):
        if trap == "link of the directory" and not path.startswith("/etc/profile.d"):
            continue
        node.inside(cid, "sh", "-c", TRAPS[trap].format(victim=victim, path=path, dir=os.path.dirname(path)))
    set_env(node, cid, GREETING="hello")
    assert victim.read_text() == "untouched"
    assert sorted(os.listdir(tmp_path)) == ["victim"]
    assert "GREETING=" in node.inside(cid, "cat", "/etc/environment")
    assert "export GREETING='hello'" in node.inside(cid, "cat", "/etc/profile.d/hoody-20-environment.sh")
    # A copy is seeded with an identity of its own into the same traps.
    r = node.post(f"/api/v1/containers/{cid}/copy?wait=true", {"target_project_id": PROJECT, "name": "hostile-copy"})
    assert r.status in (200, 201, 202), r
    node.wait_idle()
    assert victim.read_text() == "untouched"
    assert sorted(os.listdir(tmp_path)) == ["victim"]
    for c in node.list():
        node.delete(c["id"])
    node.assert_consistent()


def test_kits_are_active(node):
    cid = node.create("kits")["id"]
    assert node.wait_booted(cid) == "running"
    for unit in ("hoody-whoami.service", "hoody-files.service", "hoody-terminal.socket", "hoody-journal.socket"):
        assert node.inside(cid, "systemctl", "is-active", unit, check=False) == "active", unit
    for port, path in ((7001, "/"), (7002, "/"), (7003, "/"), (7004, "/machine")):
        code = node.inside(cid, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "10",
                           f"http://127.0.0.1:{port}{path}")
        assert code == "200", (port, code)
    assert node.inside(cid, "systemctl", "is-system-running") == "running"
    node.delete(cid)
    node.wait_idle()


def test_kits_cannot_be_changed_from_inside(node):
    cid = node.create("read-only")["id"]
    node.wait_booted(cid)
    for command in ("echo x > /hoody/kits/whoami/bin/whoami", "rm /hoody/kits/whoami/bin/whoami",
                    "mount -o remount,rw,bind /hoody/kits/whoami && echo x > /hoody/kits/whoami/bin/whoami"):
        node.inside(cid, "sh", "-c", command, check=False)
    source = glob.glob(node.pool + "/kits/whoami-*/files/bin/whoami")
    assert source and os.path.getsize(source[0]) > 10000
    node.delete(cid)
    node.wait_idle()


@pytest.mark.parametrize("point", POINTS)
def test_interrupted_install(point):
    d = Daemon(kits=True)
    try:
        d.start(failpoint=point + "=kill")
        assert not [k for k in os.listdir(d.pool + "/kits") if not k.startswith(".")]
        d.restart()
        kits = os.listdir(d.pool + "/kits")
        assert len(kits) == len(glob.glob(kits_dir() + "/*.kit")) and not [k for k in kits if k.startswith(".")], kits
    finally:
        d.close()


def test_bundle_that_somebody_changed(tmp_path):
    for file in glob.glob(kits_dir() + "/*"):
        shutil.copy(file, tmp_path)
    changed = glob.glob(str(tmp_path / "whoami-*.kit"))[0]
    with open(changed, "r+b") as f:
        f.seek(os.path.getsize(changed) // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))
    d = Daemon(kits=True, kits__dir=str(tmp_path), kits__public_key=str(tmp_path / "kits.pub")).start()
    try:
        assert "not the one that was signed" in d.log()
        names = os.listdir(d.pool + "/kits")
        assert not [n for n in names if "whoami" in n] and [n for n in names if n.startswith("files-")], names
        cid = d.create("without")["id"]
        wait_for(lambda: d.container(cid)["status"] == "running", 60, what="running")
    finally:
        d.close()


FREEZE = """
set -e
if [ -d /sys/fs/cgroup/freezer ]; then d=/sys/fs/cgroup/freezer/ice procs=tasks; else d=/sys/fs/cgroup/ice procs=cgroup.procs; fi
mkdir -p $d/deep/er
for c in $d $d/deep/er; do
    sleep 1000 > /dev/null 2>&1 & p=$!
    echo $p > $c/$procs || continue
    [ -e $c/freezer.state ] && echo FROZEN > $c/freezer.state || echo 1 > $c/cgroup.freeze
done
"""


@pytest.mark.parametrize("how", ["force-stop", "stop", "restart", "delete", "restore"])
def test_what_is_frozen_inside_ends(node, how):
    """A process in a frozen version 1 cgroup dies of no signal until it is thawed; in version 2 it does."""
    cid = node.create(f"ice-{how}")["id"]
    node.wait_booted(cid)
    name = node.post(f"/api/v1/containers/{cid}/snapshots").data["snapshot"]["name"]
    node.inside(cid, "sh", "-c", f"cat > /root/freeze <<'EOT'\n{FREEZE}\nEOT")
    node.inside(cid, "systemd-run", "-q", "--wait", "-p", "KillMode=none", "bash", "/root/freeze")
    if how == "delete":
        r = node.delete(cid)
    elif how == "restore":
        r = node.call("PUT", f"/api/v1/containers/{cid}/snapshots/{name}")
    else:
        r = node.op(cid, how, {"timeout": 5} if how == "stop" else None)
    assert r.status == 200, r
    if how != "delete":
        assert node.delete(cid).status == 200
    node.assert_consistent()
