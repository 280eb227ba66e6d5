#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What tests of containers inside containers need: an image of the node with Docker and podman, an image for those, and programs
that run without anything else. As a program it builds the first: nesting.py OUTDIR."""
import hashlib
import io
import json
import os
import sys
import tarfile

from world import REPOSITORY, run

PACKAGES = "cron docker.io docker-cli iptables nftables podman"
NAME = "debian-13.nesting"


def build(out):
    """debian/13 with both; kept by the recipe's hash."""
    run(os.path.join(REPOSITORY, "images", "debian-13.dev", "build"), out,
        env={**os.environ, "NODED_DEV_NAME": NAME, "NODED_DEV_PACKAGES": PACKAGES})
    return f"{out}/{NAME}.tar.zst"


def archive():
    """Given by NODED_TEST_NESTING_IMAGE, or built."""
    return os.environ.get("NODED_TEST_NESTING_IMAGE") or build(
        os.path.join(os.environ.get("NODED_BUILD_CACHE", "/var/cache/noded-build"), "out"))


def program(name, directory):
    """tests/support/NAME.c as a static program."""
    path = os.path.join(directory, name)
    run("cc", "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Os", "-static", "-o", path,
        os.path.join(REPOSITORY, "tests", "support", name + ".c"))
    return path


def _tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data, mode in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def image(name, programs):
    """An archive for `docker load` and `podman load` of one layer: the programs in "/", the first of them is run."""
    files = []
    for path in programs:
        with open(path, "rb") as f:
            files.append((os.path.basename(path), f.read(), 0o755))
    layer = _tar([("tmp/.keep", b"", 0o644), ("etc/hostname", b"nested\n", 0o644), *files])
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/" + files[0][0]]},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    return _tar([("manifest.json", manifest, 0o644), (config_name, config, 0o644), ("layer.tar", layer, 0o644)])


if __name__ == "__main__":
    build(sys.argv[1])
