# SPDX-License-Identifier: Apache-2.0
"""Streams of subvolumes, made by hand (storage/send_format.h)."""
import struct

KIND = {name: i for i, name in enumerate(
    "subvol snapshot mkfile mkdir mknod mkfifo mksock symlink rename link unlink rmdir set_xattr remove_xattr write clone "
    "truncate chmod chown utimes end".split(), 1)}
ATTRIBUTE = {name: i for i, name in enumerate(
    "uuid ctransid ino size mode uid gid rdev ctime mtime atime otime xattr_name xattr_data path path_to path_link "
    "file_offset data clone_uuid clone_ctransid clone_path clone_offset clone_len".split(), 1)}
UUID = b"u" * 16


def crc32c(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


def command(name, **attributes):
    body = b""
    for key, value in attributes.items():
        value = struct.pack("<Q", value) if isinstance(value, int) else value.encode() if isinstance(value, str) else value
        body += struct.pack("<HH", ATTRIBUTE[key], len(value)) + value
    kind = KIND[name] if isinstance(name, str) else name
    return struct.pack("<IHI", len(body), kind, crc32c(struct.pack("<IHI", len(body), kind, 0) + body)) + body


HEAD = b"btrfs-stream\0" + struct.pack("<I", 1)
BEGIN = HEAD + command("subvol", path="x", uuid=UUID, ctransid=7)
END = command("end")


def make(path="f", **more):
    return command("mkfile", path=path, ino=257, **more)


def write(path="f", data=b"data", at=0):
    return command("write", path=path, file_offset=at, data=data)
