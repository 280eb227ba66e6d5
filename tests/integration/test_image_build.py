# SPDX-License-Identifier: Apache-2.0
"""The recipe of the image: what it says of its packages, which of them moved, and where it fetches them from."""
import http.server
import os
import subprocess
import threading

import pytest
from world import REPOSITORY, run

MOVED, BUILD = f"{REPOSITORY}/images/moved", f"{REPOSITORY}/images/debian-13/build"
SNAPSHOT = "20260801T000000Z"


def moved(*argv):
    r = subprocess.run([MOVED, *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return r.returncode, r.stdout, r.stderr


@pytest.fixture
def lists(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)
    return write


def test_what_moved_is_named_with_both_versions(lists):
    old = lists("old", "apt 3.0.3\ncurl 8.14.1-2\nsudo 1.9.16p2-3\n")
    new = lists("new", "apt 3.0.3\nlibnew1 1.0-1\nsudo 1.9.16p2-3+deb13u5\n")
    assert moved(old, new) == (1, "curl 8.14.1-2 -\nlibnew1 - 1.0-1\nsudo 1.9.16p2-3 1.9.16p2-3+deb13u5\n", "")
    assert moved(old, old) == (0, "", "")


@pytest.mark.parametrize("text", ["", "apt\n", "apt 1 2\n", "apt 3.0.3\n\nsudo 1\n", "äpt 1\n"])
def test_what_is_no_list_is_not_compared(lists, text):
    good, bad = lists("good", "apt 3.0.3\n"), lists("bad", text)
    for argv in ((good, bad), (bad, good), (good, bad + ".missing"), (good,)):
        code, out, err = moved(*argv)
        assert (code, out) == (2, "") and "Traceback" not in err and (bad in err or good in err), err


def test_the_list_is_beside_the_archive():
    """Built and delivered with it; the archive has those packages and no others."""
    archive = os.environ["NODED_TEST_IMAGE"]
    listed = {line.split()[0]: line.split()[1] for line in open(archive.replace(".tar.zst", ".packages"), encoding="ascii")}
    status = run("tar", "--zstd", "-xOf", archive, "./var/lib/dpkg/status")
    real = {}
    for paragraph in status.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.split("\n") if ": " in line and not line.startswith(" "))
        real[fields["Package"]] = fields["Version"]
    assert listed == real


class Mirror(http.server.BaseHTTPRequestHandler):
    asked = []

    def do_GET(self):
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror():
    run("ip", "link", "set", "lo", "up")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Mirror.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}/archive"
    server.shutdown()


def build(tmp_path, **more):
    env = {**os.environ, "NODED_BUILD_CACHE": str(tmp_path / "cache"), **more}
    return subprocess.run([BUILD, str(tmp_path / "out")], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=env, check=False)


def test_a_snapshot_is_fetched_as_of_its_time(tmp_path, mirror):
    r = build(tmp_path, NODED_IMAGE_SNAPSHOT=SNAPSHOT, NODED_SNAPSHOT_MIRROR=mirror)
    assert r.returncode != 0 and "mmdebstrap failed" in r.stderr, r
    asked = set(Mirror.asked)
    assert f"/archive/debian/{SNAPSHOT}/dists/trixie/InRelease" in asked, asked
    assert f"/archive/debian-security/{SNAPSHOT}/dists/trixie-security/InRelease" in asked, asked
    assert not os.listdir(tmp_path / "cache") or os.listdir(tmp_path / "cache") == ["debian-13.lock"]


@pytest.mark.parametrize("time", ["yesterday", "2026-08-01", "20260801", "20260801T000000Z/../x", " "])
def test_a_snapshot_that_is_no_time_is_refused(tmp_path, time):
    r = build(tmp_path, NODED_IMAGE_SNAPSHOT=time)
    assert r.returncode == 1 and f"NODED_IMAGE_SNAPSHOT is '{time}'" in r.stderr, r
    assert not (tmp_path / "cache").exists()
