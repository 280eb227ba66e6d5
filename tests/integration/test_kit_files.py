# SPDX-License-Identifier: Apache-2.0
"""The kit files in a container, as a WebDAV client behind a proxy that ends TLS uses it: writing, copies, locks; no IPv6."""
import re

import pytest
from daemon import Daemon
from world import wait_for

TREE = "/hoody/storage/files"
PUBLIC = "https://files.example.org"
DATABASE = "/var/lib/hoody-files/webdav.db"
LOCK = ('<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
        '<D:locktype><D:write/></D:locktype></D:lockinfo>')

COLOUR = ('<?xml version="1.0"?><D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><colour xmlns="urn:test">red</colour></D:prop></D:set>'
          '</D:propertyupdate>')


class Share:
    """The kit of one container, asked from inside: its port is closed to all but proxies."""

    def __init__(self, node, name):
        self.node, self.cid = node, node.create(name)["id"]
        node.wait_booted(self.cid)

    def inside(self, *argv, **more):
        return self.node.inside(self.cid, *argv, **more)

    def ask(self, method, path, body=None, **headers):
        """(status, head and body of the answer)"""
        given = [x for name, value in headers.items() for x in ("-H", f"{name.replace('_', '-')}: {value}")]
        kind = "xml" if body and body.startswith("<?xml") else "plain"
        sent = [] if body is None else ["--data-binary", body, "-H", "Content-Type: text/" + kind]
        text = self.inside("curl", "-s", "-i", "-m", "20", "-X", method, *given, *sent, "-w", "\n%{http_code}", "http://127.0.0.1:7003" + path)
        return int(text.rsplit("\n", 1)[1]), text

    def status(self, *argv, **headers):
        return self.ask(*argv, **headers)[0]

    def lock(self, path, seconds=600):
        """(status, token)"""
        status, text = self.ask("LOCK", path, LOCK, Depth="0", Timeout=f"Second-{seconds}")
        return status, re.search(r"^Lock-Token: <(.*)>", text, re.M)[1]

    def read(self, path):
        return self.inside("cat", TREE + path)

    def append(self, path, text):
        self.inside("sh", "-c", f"echo {text} >>{TREE}{path}")

    def files(self):
        """All there is, temporary and hidden files too."""
        return sorted(self.inside("find", TREE, "-mindepth", "1", "-printf", "%P\n").split())


@pytest.fixture(scope="module")
def node():
    d = Daemon(kits=True).start()
    yield d
    d.close()


@pytest.fixture(scope="module")
def share(node):
    return Share(node, "share")


@pytest.fixture(autouse=True)
def empty(share):
    yield
    share.inside("find", TREE, "-mindepth", "1", "-delete")


@pytest.mark.parametrize("base", [PUBLIC, "http://127.0.0.1:7003", "HTTPS://files.example.org:8443", ""])
def test_move_and_copy_to_the_name_that_the_client_knows(share, base):
    """The kit sees http and its own address; the client names the proxy's scheme and host, or these, or the path alone."""
    assert share.status("PUT", "/one", "first") == 201
    assert share.status("MOVE", "/one", Destination=base + "/a%20b") == 201
    assert share.status("COPY", "/a%20b", Destination=base + "/three") == 201
    assert share.inside("ls", TREE).split("\n") == ["a b", "three"] and share.read("/three") == "first"
    assert share.status("COPY", "/three", Destination=base + "/../../../etc/shadow") == 409  # /etc of the tree is not there
    assert share.status("COPY", "/three", Destination="ftp://files.example.org/four") == 400
    assert share.inside("ls", TREE).split("\n") == ["a b", "three"]


def test_a_copy_keeps_its_bytes(share):
    assert share.status("PUT", "/original", "first") == 201
    assert share.status("MKCOL", "/dir") == 201
    assert share.status("COPY", "/original", Destination=PUBLIC + "/copy") == 201
    assert share.status("COPY", "/original", Destination=PUBLIC + "/dir/copy") == 201
    assert share.status("COPY", "/dir/", Destination=PUBLIC + "/dir2/") == 200
    assert share.status("COPY", "/original", Destination=PUBLIC + "/copy") == 204  # over one that is there
    for changed in ("/original", "/dir/copy"):
        share.append(changed, "second")
    assert share.read("/original") == share.read("/dir/copy") == "firstsecond"
    assert share.read("/copy") == share.read("/dir2/copy") == "first"
    assert share.files() == ["copy", "dir", "dir/copy", "dir2", "dir2/copy", "original"]
    assert share.inside("find", TREE, "-type", "f", "-links", "+1") == ""
    assert share.inside("stat", "-c", "%U %s", TREE + "/copy") == "user 5"


def test_what_is_locked_is_its_holders(share):
    share.status("PUT", "/doc", "first")
    status, token = share.lock("/doc")
    assert status == 200
    for refused in (("PUT", "/doc", "other"), ("DELETE", "/doc"), ("LOCK", "/doc", LOCK)):
        assert share.status(*refused) == 423, refused
    assert share.status("MOVE", "/doc", Destination=PUBLIC + "/away") == 423
    assert share.status("PROPPATCH", "/doc", COLOUR, If=f"(<{token}>)") == 204
    share.inside("systemctl", "restart", "hoody-files.service")
    assert ">red<" in share.ask("PROPFIND", "/doc", Depth="0")[1]
    assert share.status("PUT", "/doc", "other") == 423
    assert share.status("PUT", "/doc", "other", If="(<urn:uuid:00000000-0000-4000-8000-000000000000>)") == 423
    assert share.status("PUT", "/doc", "mine", If=f"(<{token}>)") == 204
    assert share.status("LOCK", "/doc", If=f"(<{token}>)") == 200
    assert share.status("UNLOCK", "/doc", Lock_Token=f"<{token}>") == 204
    assert share.status("UNLOCK", "/doc", Lock_Token=f"<{token}>") == 409
    assert share.status("PUT", "/doc", "other") == 204 and share.read("/doc") == "other"
    assert share.files() == ["doc"]


def test_a_lock_ends_with_its_time(share):
    """Its holder may be gone for good."""
    status, token = share.lock("/new", 5)
    assert status == 201 and share.files() == ["new"]  # of a name that is free, RFC 4918 has LOCK make an empty file
    assert share.status("LOCK", "/new", If=f"(<{token}>)", Timeout="Second-6") == 200
    assert share.status("PUT", "/new", "other") == 423
    wait_for(lambda: share.status("PUT", "/new", "other") == 204, 20, 1, "the end of the lock")
    assert share.status("LOCK", "/new", If=f"(<{token}>)") == 412
    assert share.status("PUT", "/new", "again") == 204


@pytest.mark.parametrize("asked, given", [("Second-4294967295", 600), ("Infinite", 600),
                                          ("Second-60", 60), ("Infinite, Second-60", 60)])
def test_no_lock_is_for_good(share, asked, given):
    assert f"<D:timeout>Second-{given}<" in share.ask("LOCK", f"/{given}-{len(asked)}", LOCK, Timeout=asked)[1]


def test_nothing_is_left_of_what_fails(share):
    share.status("PUT", "/there", "first")
    share.status("PUT", "/other", "second")
    assert share.status("COPY", "/there", Destination=PUBLIC + "/absent/x") == 409
    assert share.status("MOVE", "/there", Destination=PUBLIC + "/absent/x") == 409
    assert share.status("COPY", "/there", Destination=PUBLIC + "/other", Overwrite="F") == 412
    assert share.status("PUT", "/there", "XX", Content_Range="bytes 0-1/5") == 400
    assert share.status("LOCK", "/free", "no lock") == 400
    assert share.status("LOCK", "/absent/free", LOCK) == 403
    assert share.status("LOCK", "/free", If="(<urn:uuid:00000000-0000-4000-8000-000000000000>)") == 412
    share.inside("chmod", "0400", DATABASE)
    assert share.status("LOCK", "/free", LOCK) == 500
    share.inside("chmod", "0600", DATABASE)
    assert share.files() == ["other", "there"] and (share.read("/other"), share.read("/there")) == ("second", "first")
    assert share.lock("/there")[0] == 200


def test_starts_without_ipv6(node):
    """As on a kernel without: systemd finds no /proc/net/if_inet6, and the service gets no socket of that family."""
    share = Share(node, "without-ipv6")
    unit = "/run/systemd/system/hoody-files.service.d"
    share.inside("mkdir", "-p", unit)
    share.inside("sh", "-c", f"printf '[Service]\\nRestrictAddressFamilies=AF_UNIX AF_INET\\n' >{unit}/no-ipv6.conf")
    share.inside("systemctl", "stop", "hoody-files.socket", "hoody-files.service")
    share.inside("mount", "-t", "tmpfs", "none", "/proc/1/net")
    share.inside("systemctl", "daemon-reexec")
    share.inside("systemctl", "start", "hoody-files.service")
    share.inside("umount", "/proc/1/net")
    assert share.inside("ss", "-Hltn", "sport = :7003").split()[3] == "0.0.0.0:7003"
    assert share.status("PUT", "/one", "first") == 201
    node.delete(share.cid)
