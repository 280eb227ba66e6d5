# SPDX-License-Identifier: Apache-2.0
"""Streams of subvolumes: what is sent is what arrives, and what a stranger sends stays inside or is refused."""
import os
import struct
import subprocess

import pytest
from sendstream import BEGIN, END, HEAD, UUID, command, crc32c, make, write
from world import BUILD, Node, run, wait_for

DRIVE = BUILD + "/streamdrive"


@pytest.fixture(scope="module")
def pool():
    n = Node(loop_bytes=1 << 30)
    n.open()
    os.mkdir(n.pool + "/in")
    yield n.pool
    n.close()


@pytest.fixture
def place(pool, request):
    """An empty directory for subvolumes; what is in it goes afterwards."""
    path = f"{pool}/in/{request.node.name.replace('/', '_')[:60]}"
    os.mkdir(path)
    yield path
    for name in os.listdir(path):
        run("btrfs", "subvolume", "delete", f"{path}/{name}")
    os.rmdir(path)


def send(subvolume, *parent):
    return subprocess.run([DRIVE, "send", subvolume, *parent], capture_output=True, check=True).stdout


def receive(place, stream, name="got", limit=1 << 30, reserve=0, parent=None):
    r = subprocess.run([DRIVE, "receive", place, name, str(limit), str(reserve), *([parent] if parent else [])], input=stream,
                       capture_output=True, check=False)
    return r.returncode, r.stderr.decode()


def refused(place, stream, text, **more):
    code, error = receive(place, stream, **more)
    assert code == 1 and text in error, (code, error)
    assert os.listdir(place) == [], "something was left"


def picture(root):
    """All that a stream carries of a tree."""
    found = {".": os.stat(root).st_mode}
    for directory, names, files in os.walk(root):
        for path in (os.path.join(directory, name) for name in names + files):
            st = os.lstat(path)
            xattrs = {k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)}
            content = os.readlink(path) if os.path.islink(path) else open(path, "rb").read() if os.path.isfile(path) else None
            found[os.path.relpath(path, root)] = (st.st_mode, st.st_uid, st.st_gid, st.st_rdev, st.st_mtime_ns, st.st_nlink,
                                                  st.st_blocks < st.st_size // 512, xattrs, content)
    return found


def fill(root):
    os.makedirs(root + "/a/b/ü")
    with open(root + "/a/file", "wb") as f:
        f.write(os.urandom(3 << 20))
    with open(root + "/a/sparse", "wb") as f:
        f.truncate(64 << 20)
        f.seek(32 << 20)
        f.write(b"middle")
    os.link(root + "/a/file", root + "/a/b/link")
    os.symlink("/etc/passwd", root + "/a/symlink")
    os.mkfifo(root + "/a/fifo")
    os.mknod(root + "/a/null", 0o020666, os.makedev(1, 3))
    os.mknod(root + "/a/whiteout", 0o020000, os.makedev(0, 0))
    os.setxattr(root + "/a/file", "user.colour", b"blue")
    os.setxattr(root + "/a/b", "user.empty", b"")
    os.setxattr(root + "/a/sparse", "security.capability", bytes.fromhex("0000000200200000000000000000000000000000"[:40]))
    os.chown(root + "/a/file", 1000, 65535)
    os.chmod(root + "/a/file", 0o6755)
    os.chown(root + "/a/symlink", 7, 8, follow_symlinks=False)
    os.utime(root + "/a/symlink", (5, 6), follow_symlinks=False)
    os.chmod(root, 0o751)


def test_what_is_sent_arrives(pool, place):
    source = place + "/source"
    run("btrfs", "subvolume", "create", source)
    fill(source)
    run("btrfs", "subvolume", "snapshot", "-r", source, place + "/one")
    assert receive(place, send(place + "/one"), "got-one") == (0, "")
    assert picture(place + "/got-one") == picture(place + "/one")
    # A difference: moved, grown, copied, gone; directories that change places.
    os.rename(source + "/a/b", source + "/b2")
    os.mkdir(source + "/a/b")
    os.rename(source + "/b2/ü", source + "/a/b/ä")
    with open(source + "/a/file", "r+b") as f:
        f.seek(1 << 20)
        f.write(b"changed")
    run("cp", "--reflink=always", source + "/a/file", source + "/copy")
    os.unlink(source + "/a/fifo")
    os.removexattr(source + "/a/file", "user.colour")
    run("btrfs", "subvolume", "snapshot", "-r", source, place + "/two")
    difference = send(place + "/two", place + "/one")
    assert len(difference) < 1 << 20
    assert receive(place, difference, "got-two", parent=place + "/got-one") == (0, "")
    assert picture(place + "/got-two") == picture(place + "/two")
    assert "Received UUID: \t\t-" not in run("btrfs", "subvolume", "show", place + "/got-two")
    # The other way round, from what was received.
    assert receive(place, send(place + "/got-one", place + "/got-two"), "back", parent=place + "/two") == (0, "")
    assert picture(place + "/back") == picture(place + "/one")


def test_only_readonly_ones_are_sent(place):
    run("btrfs", "subvolume", "create", place + "/rw")
    r = subprocess.run([DRIVE, "send", place + "/rw"], capture_output=True, check=False)
    assert r.returncode == 1 and b"not read-only" in r.stderr


def test_a_reader_that_leaves_ends_the_sender(pool, place):
    run("btrfs", "subvolume", "create", place + "/rw")
    with open(place + "/rw/file", "wb") as f:
        f.write(os.urandom(32 << 20))
    run("btrfs", "subvolume", "snapshot", "-r", place + "/rw", place + "/ro")
    p = subprocess.Popen([DRIVE, "send", place + "/ro"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.read(1000)
    p.stdout.close()
    assert p.wait(10) == 1 and b"EPIPE" not in p.stderr.read()


HOSTILE = {
    "no stream": (b"\x7fELF" * 100, "no stream"),
    "nothing": (b"", "ends too early"),
    "another version": (b"btrfs-stream\0" + struct.pack("<I", 3) + BEGIN[17:], "version"),
    "a difference to nothing": (HEAD + command("snapshot", path="x", uuid=UUID, ctransid=1, clone_uuid=UUID, clone_ctransid=1),
                                "difference"),
    "no beginning": (HEAD + make(), "difference"),
    "two beginnings": (BEGIN + BEGIN[17:], "a second time"),
    "cut": (BEGIN + make()[:-3], "ends too early"),
    "no end": (BEGIN + make(), "ends too early"),
    "more behind the end": (BEGIN + END + b"x", "behind its end"),
    "bad checksum": (BEGIN + make()[:-1] + b"X" + END, "checksum"),
    "unknown command": (BEGIN + command(22, path="f"), "not known"),
    "huge command": (BEGIN + struct.pack("<IHI", 1 << 30, 3, 0), "not known"),
    "attribute beyond its command": (BEGIN + struct.pack("<IHI", 4, 3, crc32c(struct.pack("<IHI", 4, 3, 0) + struct.pack("<HH", 15, 9)))
                                     + struct.pack("<HH", 15, 9), "wrong attribute"),
    "no path": (BEGIN + command("mkfile", ino=1), "lacks"),
    "short number": (BEGIN + make() + command("truncate", path="f", size=b"1"), "lacks"),
    "NUL in a path": (BEGIN + make("a\0b"), "NUL"),
    "absolute": (BEGIN + make("/etc/evil"), "cannot open the directory"),
    "dotdot": (BEGIN + make("../evil"), "cannot open the directory"),
    "dotdot behind": (BEGIN + command("mkdir", path="d", ino=2) + make("d/../../evil"), "cannot open the directory"),
    "dotdot last": (BEGIN + command("mkdir", path=".."), "path that is none"),
    "through a symlink": (BEGIN + command("symlink", path="l", path_link="/", ino=2) + make("l/evil"), "cannot open the directory"),
    "write through a symlink": (BEGIN + command("symlink", path="l", path_link="/etc/passwd", ino=2) + write("l"), "is no file"),
    "chmod of a symlink": (BEGIN + command("symlink", path="l", path_link="/etc/passwd", ino=2) + command("chmod", path="l", mode=511),
                           "mode of a symbolic link"),
    "write to a fifo": (BEGIN + command("mkfifo", path="p", ino=2, mode=0, rdev=0) + write("p"), "is no file"),
    "link from outside": (BEGIN + command("link", path="f", path_link="../../pool.img"), "cannot open the directory"),
    "rename to outside": (BEGIN + make() + command("rename", path="f", path_to="../f"), "cannot open the directory"),
    "disk": (BEGIN + command("mknod", path="sda", ino=2, mode=0o060600, rdev=os.makedev(8, 0)), "not allowed"),
    "memory": (BEGIN + command("mknod", path="mem", ino=2, mode=0o020600, rdev=os.makedev(1, 1)), "not allowed"),
    "a file by mknod": (BEGIN + command("mknod", path="mem", ino=2, mode=0o100600, rdev=0), "not allowed"),
    "owner": (BEGIN + make() + command("chown", path="f", uid=65536, gid=0), "outside a container"),
    "owner that wraps": (BEGIN + make() + command("chown", path="f", uid=1 << 32, gid=0), "outside a container"),
    "trusted attribute": (BEGIN + make() + command("set_xattr", path="f", xattr_name="trusted.x", xattr_data=b"1"), "not allowed"),
    "btrfs attribute": (BEGIN + make() + command("set_xattr", path="f", xattr_name="btrfs.other", xattr_data=b"1"), "not allowed"),
    "overlayfs attribute": (BEGIN + make() + command("set_xattr", path="f", xattr_name="trusted.overlay.opaque", xattr_data=b"y"), "not allowed"),
    "attribute of more than a leaf": (BEGIN + command("mkdir", path="d") + make("d/f") + command("set_xattr", path="d/f", xattr_name="user.x", xattr_data=b"1" * 20000),
                                      "the attribute 'user.x' of 'd/f' has 20000 bytes, the pool takes at most"),
    "security attribute": (BEGIN + make() + command("set_xattr", path="f", xattr_name="security.other", xattr_data=b"1"), "not allowed"),
    "data of a stranger": (BEGIN + make() + command("clone", path="f", file_offset=0, clone_len=4096, clone_uuid=b"v" * 16,
                                                    clone_ctransid=1, clone_path="f", clone_offset=0), "not its parent"),
    "wrong time": (BEGIN + make() + command("utimes", path="f", atime=b"\xff" * 12, mtime=b"\0" * 12, ctime=b"\0" * 12), "time"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(place, name):
    stream, text = HOSTILE[name]
    refused(place, stream + (b"" if name in ("no end", "cut") else END if not stream.endswith(END) else b""), text)


def test_plain_streams_are_taken(place):
    """What the hostile ones are made of is right by itself."""
    assert receive(place, BEGIN + make() + write() + command("chmod", path="f", mode=0o640) + END) == (0, "")
    with open(place + "/got/f", "rb") as f:
        assert f.read() == b"data"


def test_what_the_other_node_noted_is_left_out(place):
    noted = command("set_xattr", path="f", xattr_name="trusted.noded.bytes", xattr_data=b"1")
    assert receive(place, BEGIN + make() + noted + write() + END) == (0, "")
    assert os.listxattr(place + "/got/f") == []


def test_files_that_wish_to_be_compressed(pool, place):
    """chattr +c, which needs no right in a container, is an attribute of btrfs; the wish arrives, and is taken back by a difference."""
    source = place + "/source"
    run("btrfs", "subvolume", "create", source)
    os.mkdir(source + "/dir")
    with open(source + "/file", "wb") as f:
        f.write(b"x" * 100000)
    for path, how in (("/file", b"zlib"), ("/dir", b"zstd"), ("", b"lzo")):
        os.setxattr(source + path, "btrfs.compression", how)
    run("btrfs", "subvolume", "snapshot", "-r", source, place + "/one")
    assert receive(place, send(place + "/one"), "got-one") == (0, "")
    for path, how in (("/file", b"zlib"), ("/dir", b"zstd"), ("", b"lzo")):
        assert os.getxattr(place + "/got-one" + path, "btrfs.compression") == how
    os.removexattr(source + "/file", "btrfs.compression")
    run("btrfs", "subvolume", "snapshot", "-r", source, place + "/two")
    assert receive(place, send(place + "/two", place + "/one"), "got-two", parent=place + "/got-one") == (0, "")
    assert os.listxattr(place + "/got-two/file") == [] and os.getxattr(place + "/got-two/dir", "btrfs.compression") == b"zstd"


# user::rwx, user:1000:rwx, group::r-x, mask::rwx, other::r-x
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in ((1, 7, 0xffffffff), (2, 7, 1000), (4, 5, 0xffffffff), (16, 7, 0xffffffff),
                                                                         (32, 5, 0xffffffff)))


@pytest.mark.parametrize("name, value", [("btrfs.compression", b"lzo"), ("system.posix_acl_default", ACL)])
def test_what_the_root_hands_on_is_not_handed_on_again(pool, place, name, value):
    """Files are made in the root before they are moved to their places: what was made before the root had it has it not."""
    source = place + "/source"
    run("btrfs", "subvolume", "create", source)
    os.mkdir(source + "/dir")
    with open(source + "/dir/file", "w", encoding="ascii") as f:
        f.write("x")
    os.setxattr(source, name, value)
    run("btrfs", "subvolume", "snapshot", "-r", source, place + "/one")
    assert receive(place, send(place + "/one"), "got-one") == (0, "")
    os.mkdir(source + "/dir/later")
    run("btrfs", "subvolume", "snapshot", "-r", source, place + "/two")
    assert receive(place, send(place + "/two", place + "/one"), "got-two", parent=place + "/got-one") == (0, "")
    os.removexattr(source, name)
    run("btrfs", "subvolume", "snapshot", "-r", source, place + "/three")
    assert receive(place, send(place + "/three", place + "/two"), "got-three", parent=place + "/got-two") == (0, "")
    for tree in ("one", "two", "three"):
        assert picture(f"{place}/got-{tree}") == picture(f"{place}/{tree}")
        assert os.listxattr(f"{place}/got-{tree}") == os.listxattr(f"{place}/{tree}") == ([] if tree == "three" else [name])


@pytest.mark.parametrize("name, value", [("btrfs.compression", b"of the future"), ("security.selinux", b"system_u:object_r:x:s0"), ("security.ima", b"1"),
                                         ("security.evm", b"1"), ("security.SMACK64EXEC", b"x"), ("security.apparmor", b"x")])
def test_what_another_host_wants_of_a_file_is_left_out(place, name, value):
    assert receive(place, BEGIN + make() + command("set_xattr", path="f", xattr_name=name, xattr_data=value) + write() + END) == (0, "")
    assert os.listxattr(place + "/got/f") == []


def test_limits(place):
    stream = BEGIN + make() + b"".join(write(data=b"x" * 30000, at=30000 * i) for i in range(20)) + END
    refused(place, stream, "longer than", limit=500000)
    refused(place, stream, "pool is full", reserve=1 << 40)
    assert receive(place, stream) == (0, "")
    assert receive(place, stream)[0] == 1, "a name that is taken"


def test_a_parent_that_does_not_fit(place):
    run("btrfs", "subvolume", "create", place + "/rw")
    with open(place + "/rw/file", "wb") as f:
        f.write(b"x" * 100000)
    run("btrfs", "subvolume", "snapshot", "-r", place + "/rw", place + "/one")
    os.rename(place + "/rw/file", place + "/rw/other")
    run("btrfs", "subvolume", "snapshot", "-r", place + "/rw", place + "/two")
    run("btrfs", "subvolume", "create", place + "/unlike")
    code, error = receive(place, send(place + "/two", place + "/one"), parent=place + "/unlike")
    assert code == 1 and "cannot link" in error and not os.path.exists(place + "/got")


def test_confined(pool, place):
    """While it works: a root directory of its own, no rights over the machine, few files."""
    p = subprocess.Popen([DRIVE, "receive", place, "got", "1000000", "0"], stdin=subprocess.PIPE)
    p.stdin.write(BEGIN)
    p.stdin.flush()
    child = int(wait_for(lambda: subprocess.run(["pgrep", "-P", str(p.pid)], capture_output=True, text=True, check=False).stdout, 10))

    def confined():
        with open(f"/proc/{child}/status", encoding="ascii") as f:
            status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
        return status if status["NoNewPrivs"] == "1" else None

    status = wait_for(confined, 10, what="the confinement")
    assert int(status["CapEff"], 16) & ~0x8800001F == 0 and int(status["CapBnd"], 16) == 0, status
    assert os.readlink(f"/proc/{child}/root") == place + "/got"
    assert len(os.listdir(f"/proc/{child}/fd")) <= 4
    p.stdin.write(END)
    p.stdin.close()
    assert p.wait(10) == 0
