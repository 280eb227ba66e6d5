# SPDX-License-Identifier: Apache-2.0
"""Trees of everything that Linux lets root make in a container: made by chance, and looked at as one value that can be compared.

A tree is made again by its seed: NODED_TREES_SEED is the first one of a run.
"""
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import random
import stat
import struct
import time
SEED = int(os.environ.get("NODED_TREES_SEED", str(time.time_ns() % 10**9)))
LIBC = ctypes.CDLL(None, use_errno=True)
GET_FLAGS, SET_FLAGS, NOCOW = 0x80086601, 0x40086602, 0x800000  # linux/fs.h
SUBVOL_CREATE = 0x5000940e  # linux/btrfs.h
PATH_MAX = 900  # of a tree's own paths: a tar archive holds paths of 1023 bytes


# A tree as one value.


def segments(fd, size):
    """[start, end) of what holds data."""
    found, at = [], 0
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            assert e.errno == errno.ENXIO
            break
        at = min(os.lseek(fd, data, os.SEEK_HOLE), size)
        found.append((data, at))
    return found


def content(path, size):
    """(where data that is not all zeros is and its checksum, where any data is)."""
    fd = os.open(path, os.O_RDONLY)
    try:
        digest, parts = hashlib.sha256(), segments(fd, size)
        for start, end in parts:
            for at in range(start, end, 4096):
                block = os.pread(fd, min(4096, end - at), at)
                if block.count(0) != len(block):
                    digest.update(struct.pack("<Q", at) + block)
        return digest.hexdigest(), parts if size > 1 else []  # a tar says no hole of a single byte (provisioning/pack_holes.h)
    finally:
        os.close(fd)


def attributes(path):
    return {k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)}


def map_fits(name):
    """Whether libarchive can say where the holes of a file of this path are (provisioning/pack_holes.h)."""
    path = b"rootfs/srv/trees" + name
    return path.isascii() or len(path) < 100 or any(path[i:i + 1] == b"/" and len(path) - i - 1 <= 98 for i in range(min(len(path), 151)))


def picture(top, tar):
    """What the archive's format keeps of a tree: {path: facts about the file}. "twins" are the names of one file."""
    found, inodes, top = {}, {}, os.fsencode(top)
    for base, dirs, files in os.walk(top):
        for path in [base] + [os.path.join(base, n) for n in sorted(dirs + files) if os.path.islink(os.path.join(base, n)) or n in files]:
            s = os.lstat(path)
            if tar and stat.S_ISSOCK(s.st_mode):
                continue
            name = path[len(top):]
            regular = stat.S_ISREG(s.st_mode)
            inner = content(path, s.st_size) if regular and (not tar or map_fits(name)) else content(path, s.st_size)[0] if regular else None
            attr = attributes(path)
            if tar:
                attr.pop("btrfs.compression", None)
            twins = inodes.setdefault((s.st_dev, s.st_ino), []) if regular or (not tar and not stat.S_ISDIR(s.st_mode)) else []
            twins.append(name)
            found[name] = {"mode": oct(s.st_mode), "owner": (s.st_uid, s.st_gid), "mtime": s.st_mtime_ns // 10**9 if tar else s.st_mtime_ns,
                           "rdev": s.st_rdev, "attributes": attr, "twins": twins, "size": s.st_size if regular else 0,
                           "content": os.readlink(path) if stat.S_ISLNK(s.st_mode) else inner}
    for twins in inodes.values():
        twins.sort()
        if tar and not all(map_fits(name) for name in twins): # the first name in the archive decides about all
            for name in twins:
                thing = found[name]["content"]
                found[name]["content"] = thing[0] if isinstance(thing, tuple) else thing
    return found


def compare(was, now, form):
    assert was.keys() == now.keys(), (form, was.keys() ^ now.keys(), f"NODED_TREES_SEED={SEED}")
    for name, thing in was.items():
        for key, value in thing.items():
            assert value == now[name][key], (form, name, key, f"NODED_TREES_SEED={SEED}")


# By chance.

NAMES = [b"plain", b"with blank", b" ", b"-rf", b"...", b".hidden", b"trailing ", b"new\nline", b"\xff\xfe", b"\x01\x7f", b"100%", b"%41", b"a=b", b"a\\b",
         "é".encode(), "e\u0301".encode(), "日本語".encode(), b"GNUSparseFile.0", b"PaxHeader", b"x" * 100, b"y" * 101, b"z" * 255, b"q'\"`$x", b"*?[", b"CON", b"~"]
ATTRIBUTE_NAMES = ["user.a", "user.a b", "user.a%20b", "user.a%2520b", "user.=", "user.%", "user.ü", os.fsdecode(b"user.\xff"), "user.DosStream.my notes:$DATA",
                   "user.overlay.opaque", "user." + "n" * 245, "user.line\nend", "user.SCHILY.xattr.user.x"]
ENTRY = "<HHI"


def acl(rng):
    entries = [(1, rng.randrange(8), 0xffffffff)] + [(2, rng.randrange(8), uid) for uid in sorted(rng.sample(range(1, 65536), rng.randrange(1, 4)))]
    entries += [(4, rng.randrange(8), 0xffffffff), (16, rng.randrange(8), 0xffffffff), (32, rng.randrange(8), 0xffffffff)]
    return struct.pack("<I", 2) + b"".join(struct.pack(ENTRY, *e) for e in entries)


def decorate(rng, path, is_dir):
    """Owner, mode, attributes, time, in an order that keeps all of them."""
    os.chown(path, *(rng.choice((0, 1, 1000, 65534, 65535, rng.randrange(65536))) for _ in "ug"))
    os.chmod(path, rng.choice((0, 0o444, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o6711, 0o7777, rng.randrange(0o10000))))
    for name in rng.sample(ATTRIBUTE_NAMES, rng.choice((0, 0, 1, 3, 5))):
        os.setxattr(path, name, rng.choice((b"", b"v", b"v", rng.randbytes(100), b"a\0b\n=", rng.randbytes(3000) if not is_dir else b"x")))
    if rng.random() < 0.2:
        os.setxattr(path, "system.posix_acl_access", acl(rng))
    if is_dir and rng.random() < 0.2:
        os.setxattr(path, "system.posix_acl_default", acl(rng))
    if not is_dir and rng.random() < 0.2:
        os.setxattr(path, "security.capability", rng.choice((struct.pack("<5I", 0x02000001, 0x2400, 0, 0, 0),
                                                              struct.pack("<6I", 0x03000000, 1 << 10, 1 << 10, 0, 0, 100000))))
    if rng.random() < 0.1 and not flags_of(path) & NOCOW:
        os.setxattr(path, "btrfs.compression", rng.choice((b"zlib", b"lzo", b"zstd")))


def flags_of(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return struct.unpack("l", fcntl.ioctl(fd, GET_FLAGS, bytes(8)))[0]
    finally:
        os.close(fd)


def flag(rng, path):
    """One of those that the owner of an empty file or a directory may set; no format keeps them, none stumbles over them."""
    fd = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):  # some exclude those that came from the directory
        fcntl.ioctl(fd, SET_FLAGS, struct.pack("l", rng.choice((NOCOW, 0x8, 0x40, 0x80, 0x400, 0x80 | NOCOW))))
    os.close(fd)


def punch(rng, fd, size):
    """Allocated and never written, or a hole where data was."""
    mode, at = rng.choice((0, 1, 3)), rng.randrange(max(size, 1))
    LIBC.fallocate(fd, mode, ctypes.c_long(at), ctypes.c_long(rng.randrange(1, 200000)))


def make_file(rng, path, holes):
    size = rng.choice((0, 1, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 262144, 262145, rng.randrange(400000)))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    if rng.random() < 0.1:
        flag(rng, path)
    shape = rng.random()
    if shape < 0.5 or not holes and rng.random() < 0.5:
        os.write(fd, rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size)))
    else:
        end = rng.choice((size + 2, size + 2, 10 << 20, (8 << 30) + 3, 1 << 40, (1 << 40) + 4097)) if holes else rng.choice((size + 2, 10 << 20))
        os.ftruncate(fd, end)
        for _ in range(rng.choice((0, 1, 2, 20))):
            data = rng.choice((rng.randbytes, bytes))(rng.choice((1, 4096, 10000)))
            at = rng.choice((0, max(end - len(data), 0), rng.randrange(max(end, 1)) & ~4095, rng.randrange(max(end, 1))))
            os.pwrite(fd, data[:max(end - at, 0)], at)
    if rng.random() < 0.2:
        punch(rng, fd, os.fstat(fd).st_size)
    os.close(fd)


def make_special(rng, path):
    kind = rng.randrange(4)
    if kind == 0:
        os.symlink(rng.choice((b"/nowhere", b"plain", b"../..", rng.choice(NAMES), b"/" + b"long/" * 180, b"t" * 1023, "ü\n".encode())), path)
        os.chown(path, rng.randrange(65536), 7, follow_symlinks=False)
    elif kind == 1:
        os.mkfifo(path)
        os.chmod(path, rng.randrange(0o1000))
    elif kind == 2:
        os.mknod(path, stat.S_IFCHR, 0)
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)


def make_subvolume(path):
    fd = os.open(os.path.dirname(path), os.O_RDONLY)
    fcntl.ioctl(fd, SUBVOL_CREATE, bytearray(struct.pack("q4088s", 0, os.path.basename(path))))
    os.close(fd)


def grow(rng, top):
    """One tree; times come last, from the leaves up."""
    os.mkdir(top)
    dirs, files, rest, used = [top], [], [], len(top)
    for _ in range(rng.randrange(5, 40)):
        path = os.path.join(rng.choice(dirs), rng.choice(NAMES) + (b"" if rng.random() < 0.5 else b"%d" % rng.randrange(100)))
        if len(os.path.basename(path)) > 255 or len(path) - used > PATH_MAX - 50 or os.path.lexists(path):
            continue
        what = rng.random()
        if what < 0.25 and len(path) - used < PATH_MAX // 2:
            if rng.random() < 0.05:
                make_subvolume(path)
            else:
                os.mkdir(path)
            if rng.random() < 0.1:
                flag(rng, path)
            dirs.append(path)
        elif what < 0.65:
            make_file(rng, path, map_fits(path[len(os.path.dirname(top)):]))
            files.append(path)
        elif what < 0.8 and files and map_fits(path[len(os.path.dirname(top)):]):
            with contextlib.suppress(OSError):  # no file has names in two subvolumes
                os.link(rng.choice(files), path)
        else:
            make_special(rng, path)
            rest.append(path)
    for path in files:
        decorate(rng, path, False)
    for path in dirs:
        decorate(rng, path, True)
    for path in rest + files + dirs[::-1]:
        when = rng.choice((0, 1, -1, -10**9, 10**9, 2**31 - 1, 2**31, 2**32, 2**33 + 5)) * 10**9 + rng.choice((0, 1, 999999999))
        os.utime(path, ns=(0, when), follow_symlinks=False)
