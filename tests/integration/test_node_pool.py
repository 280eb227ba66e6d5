# SPDX-License-Identifier: Apache-2.0
"""Spare containers, started ahead: a create takes one and it is its owner's in every way; nobody sees one before; what is
old or ill is replaced; whatever breaks off a claim or a refill leaves nothing behind."""
import glob
import os
import subprocess
import threading

import pytest
from daemon import PROJECT, Daemon
from kitlab import KitLab
from world import BUILD, run, wait_for

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYV6oFMzHwYHCkWQUcJXGwmGzfYyFq1YpNlB0uBCsbe pool@test"
ID = "c1" * 12


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return KitLab(tmp_path_factory.mktemp("kits"))


@pytest.fixture(scope="module")
def node(lab):
    """Two kits: one that knows nothing of identities, one whose service says that it needs nothing."""
    d = Daemon(kits__public_key=lab.public, kits__health_timeout=20, warm__pools="dev_kit:debian/13=2", warm__pressure=100)
    os.makedirs(d.dir + "/kits")
    for name, port, more in (("web", 7201, {}), ("still", 7202, {"service": {"identity": "live"}})):
        os.rename(lab.build(name, "1.0", port, **more), f"{d.dir}/kits/{name}-1.0.kit")
    d.start()
    yield d
    d.close()


def pool(d, at=0):
    return d.get("/api/v1/node/pools").data["pools"][at]


def spares(d):
    return [s for p in d.get("/api/v1/node/pools").data["pools"] for s in p["spares"]]


def wait_full(d, count=2):
    wait_for(lambda: pool(d)["ready"] == count, 90, 0.1, "a full pool")


def root_of(init_pid, path):
    with open(f"/proc/{init_pid}/root{path}", encoding="ascii") as f:
        return f.read()


def operation_of(d, cid):
    logs = d.get(f"/api/v1/containers/{cid}/status-logs?limit=100").data["logs"]
    return next(log["metadata"]["command"] for log in logs if log["to_status"] == "running")


def whoami(d, cid, port=7201):
    return d.inside(cid, "curl", "-s", f"http://127.0.0.1:{port}/")


def identity(d, cid):
    """All that no two machines have in common."""
    d.inside(cid, "systemctl", "start", "ssh-host-keys.service")
    found = {"machine-id": d.inside(cid, "cat", "/etc/machine-id"), "boot id": d.inside(cid, "cat", "/proc/sys/kernel/random/boot_id"),
             "hostname": d.inside(cid, "hostname"), "id": d.inside(cid, "bash", "-lc", "echo $HOODY_CONTAINER_ID")}
    for key in ("ed25519", "ecdsa"):
        found[key] = d.inside(cid, "cat", f"/etc/ssh/ssh_host_{key}_key.pub")
    seed = d.inside(cid, "sh", "-c", "sha256sum /var/lib/systemd/random-seed 2>/dev/null || true")
    return {**found, **({"seed": seed} if seed else {})}


def test_a_claim_is_its_owners_in_every_way(node):
    wait_full(node)
    spare = min(spares(node), key=lambda s: s["created_at"])
    before = {"machine-id": root_of(spare["init_pid"], "/etc/machine-id").strip(), "id": spare["id"],
              "hostname": root_of(spare["init_pid"], "/etc/hostname").strip()}
    services = {u: run("nsenter", "-t", str(spare["init_pid"]), "-a", "systemctl", "show", f"hoody-{u}.service", "-p", "MainPID", "--value")
                for u in ("web", "still")}
    made = node.create("claimed", wait=False, environment_vars={"COLOUR": "blue and 'green'"}, ssh_public_key=KEY,
                       comment="mine", color="#abc", realm_ids=["ab" * 12], autostart=False)
    cid = made["id"]
    assert made["status"] == "running" and made["node"]["slot"] == spare["slot"] and cid != spare["id"]
    # A service asked at once, and one that is only told on restart: both of the new one, only the latter restarted.
    assert answers(spare["slot"], 7201)
    assert f'"container_id": "{cid}"' in whoami(node, cid) and node.inside(cid, "hostname") == "claimed"
    assert node.inside(cid, "systemctl", "show", "hoody-web.service", "-p", "MainPID", "--value").strip() != services["web"].strip()
    assert node.inside(cid, "systemctl", "show", "hoody-still.service", "-p", "MainPID", "--value").strip() == services["still"].strip()
    assert "COLOUR=blue and 'green'" in node.inside(cid, "systemd-run", "--wait", "-P", "-q", "env")
    assert f"HOODY_CONTAINER_ID={cid}" in node.inside(cid, "systemd-run", "--wait", "-P", "-q", "env")
    assert node.inside(cid, "bash", "-lc", "echo $COLOUR $HOODY_CONTAINER_ID") == f"blue and 'green' {cid}"
    assert f"HOODY_CONTAINER_ID={cid}" in node.inside(cid, "cat", "/etc/environment")
    assert KEY in node.inside(cid, "cat", "/root/.ssh/authorized_keys")
    assert "claimed" in node.inside(cid, "cat", "/etc/hosts")
    now = identity(node, cid)
    assert not set(before.values()) & set(now.values()) and now["machine-id"] == node.inside(cid, "cat", "/etc/machine-id")
    # The journal goes on under the new name.
    assert node.inside(cid, "ls", "/run/log/journal") == now["machine-id"]
    wait_for(lambda: "Kit: web" in node.inside(cid, "journalctl", "--no-pager", "-u", "hoody-web.service"), 10, 0.3, "old lines")
    # Nothing of before is found in what systemd, the login shells and the network are configured with.
    for word in before.values():
        assert node.inside(cid, "grep", "-rlF", word, "/etc", "/run/systemd/system", check=False) == ""
        assert word not in node.inside(cid, "systemctl", "show-environment")
    pid = node.inside(cid, "systemctl", "show", "hoody-web.service", "-p", "MainPID", "--value")
    environ = node.inside(cid, "cat", f"/proc/{pid}/environ", "/proc/1/environ")
    assert spare["id"] not in environ and f"HOODY_CONTAINER_ID={cid}" in environ
    shown = node.container(cid)
    assert shown["comment"] == "mine" and shown["color"] == "#ABC" and shown["realm_ids"] == ["ab" * 12] and not shown["autostart"]
    assert shown["env_sync"]["pending"] is False and shown["ssh_key_installed_at"] and shown["prespawn"] is False
    assert operation_of(node, cid) == "claim" and node.create("claimed", wait=False, ok=False).status == 409
    # It is a container like others from then on.
    assert node.call("PUT", f"/api/v1/containers/{cid}/env/COLOUR", {"value": "red"}).data["synced"]
    wait_for(lambda: "COLOUR=red" in node.inside(cid, "systemd-run", "--wait", "-P", "-q", "env"), 10, 0.3, "the change")
    assert node.post(f"/api/v1/containers/{cid}/snapshots", {"alias": "s"}).status == 200
    boot = now["boot id"]
    node.inside(cid, "systemctl", "reboot", check=False)
    wait_for(lambda: node.container(cid)["status"] == "running" and node.inside(cid, "cat", "/proc/sys/kernel/random/boot_id", check=False)
             not in ("", boot), 30, 0.3, "another boot")
    assert node.wait_booted(cid) and node.inside(cid, "hostname") == "claimed"
    assert node.op(cid, "restart").status == 200
    node.wait_booted(cid)
    assert node.inside(cid, "hostname") == "claimed" and f'"container_id": "{cid}"' in whoami(node, cid)
    assert node.delete(cid).status == 200


def test_two_claims_share_nothing(node):
    wait_full(node)
    waiting = {v for s in spares(node) for v in (s["id"], root_of(s["init_pid"], "/etc/machine-id").strip(),
                                                 root_of(s["init_pid"], "/etc/hostname").strip())}
    ids = [node.create(f"twin-{k}", wait=False)["id"] for k in "ab"]
    assert [operation_of(node, c) for c in ids] == ["claim", "claim"]
    first, second = (identity(node, c) for c in ids)
    assert set(first) == set(second) and all(first[k] != second[k] for k in first), (first, second)
    assert not waiting & (set(first.values()) | set(second.values()))
    for c in ids:
        assert node.delete(c).status == 200


def answers(slot, port):
    """Seen from the host, by an account whose connections count as the proxy's."""
    r = subprocess.run(["setpriv", "--reuid=www-data", "--clear-groups", "curl", "-s", "-o", "/dev/null", "-m", "1", "-w", "%{http_code}",
                        f"http://10.96.0.{slot}:{port}/"], capture_output=True, text=True, check=False)
    return r.stdout == "200"


def test_nobody_sees_a_spare_one(node):
    wait_full(node)
    listed, spare = node.list(), spares(node)[0]
    path, cid = f"/api/v1/containers/{spare['id']}", spare["id"]
    assert cid not in [c["id"] for c in listed]
    assert node.get("/api/v1/node").data["containers"]["total"] == len(listed)
    assert node.get("/api/v1/servers").data["servers"][0]["container_count"] == len(listed)
    texts = [node.get(p).text for p in ("/api/v1/node/routes", "/api/v1/projects", f"/api/v1/projects/{PROJECT}/stats", "/api/v1/node/storage",
                                        "/api/v1/events?limit=100", f"/api/v1/events?container_id={cid}", "/api/v1/node/images")]
    assert not [t for t in texts if cid in t or '"project_id":""' in t]
    r = node.post(path + "/snapshots", {"alias": "s"})
    assert r.status == 400 and r.json["code"] == "SNAPSHOT_PRESPAWN_FORBIDDEN"
    for method, rest in (("GET", ""), ("DELETE", ""), ("PATCH", ""), ("POST", "/stop"), ("POST", "/copy"), ("GET", "/env"),
                         ("GET", "/stats"), ("GET", "/snapshots"), ("GET", "/status-logs"), ("GET", "/export"), ("GET", "/kits")):
        assert node.call(method, path + rest, {} if method in ("PATCH", "POST") else None).status == 404, rest
    assert node.create("taken", ok=False, id=cid).status == 409
    r = node.post("/api/v1/node/kits/rollout", {"containers": [cid], "kits": None})
    assert r.status == 404, r
    assert not answers(spare["slot"], 7201)  # not ready: no packet of anybody gets in
    assert [s["id"] for s in spares(node) if s["id"] == cid]


def test_what_cannot_be_claimed_is_made(node):
    wait_full(node)
    for name, more in (("bypass", {"bypass_prespawn": True}), ("plain", {"hoody_kit": False}), ("nodev", {"dev_kit": False}),
                       ("noram", {"ramdisk": False})):
        cid = node.create(name, **more)["id"]
        assert operation_of(node, cid) == "create", name
        assert node.delete(cid).status == 200
    assert node.create("spawned", ok=False, prespawn=True).status == 403
    claimed = pool(node)["claimed"]
    made = {}

    def one(k):
        made[k] = node.create(f"at-once-{k}")
    threads = [threading.Thread(target=one, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    kinds = sorted(operation_of(node, m["id"]) for m in made.values())
    assert len({m["node"]["slot"] for m in made.values()}) == 4 and all(m["status"] == "running" for m in made.values())
    assert kinds[-2:] == ["create", "create"] and pool(node)["claimed"] == claimed + kinds.count("claim")
    assert kinds.count("claim") == 2
    for m in made.values():
        assert f'"container_id": "{m["id"]}"' in whoami(node, m["id"])
        assert node.delete(m["id"]).status == 200


def gone(d, spare):
    return spare["id"] not in [s["id"] for s in spares(d)]


def test_the_ill_and_the_old_are_replaced(node, lab):
    wait_full(node)
    dead, sick = spares(node)
    os.kill(dead["init_pid"], 9)
    run("nsenter", "-t", str(sick["init_pid"]), "-a", "systemctl", "stop", "hoody-web.service")
    wait_for(lambda: gone(node, dead) and gone(node, sick), 60, 0.3, "their end")
    wait_full(node)
    reasons = [e["payload"]["reason"] for e in node.get("/api/v1/events?event_type=server.pool.replaced").data["events"]]
    assert any("does not run" in r for r in reasons) and any("web" in r for r in reasons), reasons
    old = spares(node)
    lab.nodectl("--socket", node.socket, "kit", "install", lab.build("web", "2.0", 7201))
    cid = node.create("fresh")["id"]  # at once: no spare one has the new suite
    assert operation_of(node, cid) == "create" and {"name": "web", "version": "2.0"} in node.get(f"/api/v1/containers/{cid}/kits").data["kits"]
    assert node.delete(cid).status == 200
    wait_for(lambda: all(gone(node, s) for s in old), 60, 0.3, "the end of the old ones")
    wait_full(node)
    lab.nodectl("--socket", node.socket, "kit", "remove", "web", "1.0")  # no spare one keeps an old kit
    # Over a restart they stay, and can be taken; another configuration replaces them.
    kept = {s["id"] for s in spares(node)}
    node.kill9()
    node.start()
    wait_full(node)
    assert {s["id"] for s in spares(node)} == kept
    node.stop()
    configure(node, "[network]\n", "[network]\ndns = 9.9.9.9\n")
    node.start()
    wait_for(lambda: not kept & {s["id"] for s in spares(node)}, 60, 0.3, "others")
    wait_full(node)


def configure(d, old, new):
    with open(d.conf, encoding="utf-8") as f:
        text = f.read()
    assert old in text
    with open(d.conf, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))


def test_without_a_pool_they_go(node):
    wait_full(node)
    node.stop()
    configure(node, "dev_kit:debian/13=2", "")
    node.start()
    wait_for(lambda: node.everything()["slots"] == [], 60, 0.3, "the end of the spare ones")
    node.assert_consistent()


# What a crash leaves. Without kits, so that it does not take long.

@pytest.fixture(scope="module")
def bare():
    d = Daemon(warm__pools="bare:debian/13=1", warm__pressure=100).start()
    yield d
    d.close()


def empty_then_consistent(d):
    """The pool is switched off; nothing may be left but what the API shows."""
    d.stop()
    configure(d, "pools = bare:debian/13=1", "pools =")
    d.start()
    shown = len(d.list())
    wait_for(lambda: len(d.everything()["slots"]) == shown, 60, 0.3, "the end of the spare ones")
    d.assert_consistent()
    d.stop()
    configure(d, "pools =", "pools = bare:debian/13=1")
    d.start()


def ask(d):
    try:
        d.post(f"/api/v1/projects/{PROJECT}/containers?wait=true", {"server_id": "self", "name": "victim", "id": ID, "hoody_kit": False})
    except Exception:  # the connection dies with noded
        pass


def check_whole(d):
    """The container that was asked for is there, whole, and only once."""
    wait_for(lambda: [c["status"] for c in d.list()] == ["running"], 60, 0.2, "the container")
    d.wait_booted(ID)
    assert d.inside(ID, "hostname") == "victim" and f"HOODY_CONTAINER_ID={ID}" in d.inside(ID, "systemctl", "show-environment")
    assert d.inside(ID, "cat", "/etc/hostname") == "victim"
    assert d.delete(ID).status == 200


@pytest.mark.parametrize("point", ["intent", "identity", "open", "commit"])
def test_a_crash_of_noded_during_a_claim(bare, point):
    wait_full(bare, 1)
    bare.restart(failpoint=f"op.claim.{point}=kill")
    wait_full(bare, 1)
    thread = threading.Thread(target=ask, args=(bare,))
    thread.start()
    bare.wait_dead()
    thread.join(30)
    bare.start()
    check_whole(bare)
    empty_then_consistent(bare)


@pytest.mark.parametrize("point", ["op.claim.intent=error", "op.claim.identity=error", "op.claim.open=error", "claim.begin=kill",
                                   "claim.written=error", "claim.told=kill"])
def test_a_claim_that_fails_becomes_a_create(bare, point):
    wait_full(bare, 1)
    spare = spares(bare)[0]
    bare.restart(failpoint=point)
    wait_full(bare, 1)
    r = bare.post(f"/api/v1/projects/{PROJECT}/containers", {"server_id": "self", "name": "victim", "id": ID, "hoody_kit": False})
    assert r.status == 201 and r.data["status"] == "creating"
    wait_for(lambda: bare.container(ID)["status"] == "running", 60, 0.1, "the container")
    assert operation_of(bare, ID) == "create" and bare.container(ID)["node"]["slot"] == spare["slot"]
    words = [log["to_status"] for log in bare.get(f"/api/v1/containers/{ID}/status-logs?sort_order=asc").data["logs"]]
    assert words == ["claiming", "creating", "running"]
    with open(glob.glob(f"{bare.pool}/slots/{spare['slot']}/rootfs/etc/machine-id")[0], encoding="ascii") as f:
        machine_id = f.read().strip()
    assert bare.inside(ID, "cat", "/etc/machine-id") == machine_id
    check_whole(bare)
    bare.restart()


@pytest.mark.parametrize("point", ["intent", "rootfs", "start", "kits", "trim", "commit"])
def test_a_crash_during_a_refill(bare, point):
    wait_full(bare, 1)
    bare.stop()
    configure(bare, "debian/13=1", "debian/13=2")
    bare.start(failpoint=f"op.create.{point}=kill", wait=False)
    bare.wait_dead()
    bare.start()
    wait_full(bare, 2)
    assert bare.list() == []
    bare.stop()
    configure(bare, "debian/13=2", "debian/13=1")
    bare.start()
    wait_for(lambda: len(bare.everything()["slots"]) == 1, 60, 0.3, "one spare container")
    wait_full(bare, 1)


def test_nodectl_shows_them(bare):
    wait_full(bare, 1)
    text = run(BUILD + "/nodectl", "--socket", bare.socket, "pool", "list")
    assert "debian/13" in text and "bare" in text
    assert '"pools"' in run(BUILD + "/nodectl", "--socket", bare.socket, "--json", "pool", "list")
