# SPDX-License-Identifier: Apache-2.0
"""Archives of small root file systems, and hostile ones, made in memory: a list of entries becomes a tar."""
import gzip
import io
import lzma
import os
import subprocess
import tarfile
import tempfile

METADATA = "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Tiny\n  release: '1'\n  description: a tiny one\n"


def entry(name, data=b"", kind=tarfile.REGTYPE, mode=0o644, target="", pax=None, **more):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, target
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    info.pax_headers = pax or {}
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def directory(name, mode=0o755, **more):
    return entry(name, kind=tarfile.DIRTYPE, mode=mode, **more)


def symlink(name, target):
    return entry(name, kind=tarfile.SYMTYPE, target=target, mode=0o777)


def hardlink(name, target):
    return entry(name, kind=tarfile.LNKTYPE, target=target)


def device(name, kind=tarfile.CHRTYPE, major=1, minor=1):
    return entry(name, kind=kind, mode=0o666, devmajor=major, devminor=minor)


def system(prefix=""):
    """What the smallest image has."""
    return [directory(prefix + "sbin"), entry(prefix + "sbin/init", b"#!/bin/true\n", mode=0o755), directory(prefix + "etc"),
            entry(prefix + "etc/passwd", b"root:x:0:0::/root:/bin/sh\n")]


def tar(entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as t:
        for info, data in entries:
            t.addfile(info, io.BytesIO(data) if info.size else None)
    return out.getvalue()


def unified(entries=None, metadata=METADATA):
    return tar([entry("metadata.yaml", metadata.encode()), directory("rootfs"), *system("rootfs/"), *(entries or [])])


def squashfs(entries):
    """By tar2sqfs's counterpart of Debian's squashfs-tools-ng."""
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "x.squashfs")
        subprocess.run(["tar2sqfs", "-q", "-s", path], input=tar(entries), check=True)
        with open(path, "rb") as f:
            return f.read()


def squashfs_of(folder):
    """Of a directory as it is, sockets and all."""
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "x.squashfs")
        subprocess.run(["gensquashfs", "-q", "-D", folder, path], check=True)
        with open(path, "rb") as f:
            return f.read()


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


COMPRESSIONS = {"plain": bytes, "gzip": lambda d: gzip.compress(d, 1), "xz": lambda d: lzma.compress(d, preset=0), "zstd": zstd}


def hostile(prefix=""):
    """(name, entries to add to a system, words of the reason) of what no importer may take."""
    p = prefix
    long_name = "d/" * 80 + "x"
    return [
        ("absolute", [entry("/" + p + "etc/harm", b"1")], "absolute"),
        ("dotdot", [entry(p + "etc/../../harm", b"1")], "'..'"),
        ("dotdot-first", [entry("../" + p + "harm", b"1")], "'..'"),
        ("through-symlink", [symlink(p + "way", "/tmp"), entry(p + "way/escaped", b"1")], "no directory"),
        ("through-relative-symlink", [symlink(p + "way", "../../../../tmp"), entry(p + "way/escaped", b"1")], "no directory"),
        ("directory-over-symlink", [symlink(p + "way", "/tmp"), directory(p + "way"), entry(p + "way/escaped", b"1")], "cannot open"),
        ("hardlink-outside", [hardlink(p + "etc/out", "/etc/shadow")], "hard link"),
        ("hardlink-dotdot", [hardlink(p + "etc/out", p + "../../etc/shadow")], "hard link"),
        ("hardlink-through-symlink", [symlink(p + "way", "/etc"), hardlink(p + "got", p + "way/shadow")], "hard link"),
        ("hardlink-to-nothing", [hardlink(p + "etc/out", p + "etc/none")], "hard link"),
        ("duplicate-file", [entry(p + "etc/passwd", b"root::0:0::/:/bin/sh\n")], "duplicate"),
        ("duplicate-symlink", [symlink(p + "a", "b"), symlink(p + "a", "c")], "duplicate"),
        ("duplicate-directory", [directory(p + "var"), directory(p + "var", 0o777)], "duplicate"),
        ("file-over-directory", [entry(p + "etc", b"1")], "duplicate"),
        ("symlink-for-directory", [symlink(p + "sbin", "/tmp")], "duplicate"),
        ("owner-outside", [entry(p + "etc/x", b"1", uid=100000)], "owner"),
        ("too-deep", [entry(p + long_name, b"1")], "too deep"),
        ("too-long", [entry(p + "/".join(["y" * 200] * 8), b"1")], "too long"),
        ("long-part", [entry(p + "z" * 300, b"1")], "too deep"),
        ("huge-header", [entry(p + "etc/x", b"1", pax={"comment": "A" * (5 << 20)})], ""),
        ("huge-attribute", [entry(p + "etc/x", b"1", pax={"SCHILY.xattr.user.big": "A" * 70000})], "attribute"),
    ]
