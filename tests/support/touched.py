# SPDX-License-Identifier: Apache-2.0
"""Which paths of root file systems the node's workers touch, seen by strace; and the list of those that are known."""
import glob
import os
import re
import shlex

# What a worker writes, makes, reads or removes below a container's root, of a container with kit "web": what seeding,
# changes of variables, keys, kits and the ramdisk, shares and looks inside come to. Every name here is replaced by traps in
# tests/integration/test_hostile_rootfs.py, which also checks that a trace of everything a container goes through has no other.
FILES = {
    "etc/default/locale", "etc/dhcpcd.conf", "etc/environment", "etc/group", "etc/hostname", "etc/hosts", "etc/locale.conf", "etc/machine-id",
    "etc/network/interfaces", "etc/network/interfaces.d/eth0", "etc/passwd", "etc/resolv.conf",
    "etc/shadow",
    "etc/profile.d/hoody-00-container.sh", "etc/profile.d/hoody-10-kits.sh", "etc/profile.d/hoody-20-environment.sh",
    "etc/ssh/ssh_host_ecdsa_key", "etc/ssh/ssh_host_ecdsa_key.pub", "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub", "etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub",
    "etc/ssh/sshd_config.d/60-hoody.conf", "etc/sudoers.d/user", "etc/systemd/network/10-eth0.network",
    "etc/systemd/hoody-environment", "etc/systemd/system.conf.d/90-hoody.conf", "etc/systemd/system.conf.d/91-hoody-environment.conf",
    "etc/systemd/system/hoody-web.service", "etc/systemd/system/hoody-web.service.d/10-manifest.conf",
    "etc/systemd/system/multi-user.target.wants/hoody-web.service",
    "hoody/kits/web", "home/user/.ssh/authorized_keys", "root/.ssh/authorized_keys", "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
}
DIRECTORIES = {
    "dev", "etc", "etc/default", "etc/profile.d", "etc/ssh", "etc/ssh/sshd_config.d", "etc/sudoers.d", "etc/systemd",
    "etc/systemd/network", "etc/systemd/system", "etc/systemd/system.conf.d", "etc/systemd/system/hoody-web.service.d",
    "etc/systemd/system/multi-user.target.wants", "home", "home/user", "home/user/.ssh", "hoody", "hoody/.kits",
    "hoody/databases", "hoody/kits", "hoody/mounts", "hoody/shares", "hoody/storage", "hoody/storage/web",
    "hoody/storage/web/state", "proc", "ramdisk", "root", "root/.ssh", "run", "sys", "var", "var/lib", "var/lib/dbus",
    "var/lib/systemd",
}

# Of the files those that an image of others may have: nothing is put in their place.
CHANGED_WHERE_THERE = {"etc/dhcpcd.conf", "etc/network/interfaces", "etc/network/interfaces.d/eth0"}

# Only asked for their being there, by a create.
ASKED = {"bin", "etc/systemd/system/ssh-host-keys.service", "usr/bin/bash", "usr/sbin", "usr/sbin/sshd"}

# Only looked at, in a running container: where the kits are mounted, and what is shared.
LIVE = {f"hoody/.kits/web-{v}{below}" for v in ("1.0", "2.0") for below in ("", "/files")} | {"srv/data"}

# Only looked at, as names of what is mounted there, and at what time is the container's to say (agent/containers/mount_watch.h).
MOUNTS = {"ramdisk/project", "hoody/shares/ID"}

CALLS = ("%file,openat2,open_tree,move_mount,mount_setattr,mkdirat,unlinkat,renameat,renameat2,symlinkat,linkat,mknodat,fchownat,"
         "fchmodat,utimensat,readlinkat,newfstatat,statx,faccessat,faccessat2,name_to_handle_at")
ROOT = re.compile(r".*/pool/slots/\d+/(?:rootfs|\.new-[^/]*|base|snapshots/[^/]+)(?:/(.*))?$")
PAIR = re.compile(r'(?:(AT_FDCWD|-?\d+)(?:<([^>]*)>)?, )?"((?:[^"\\]|\\.)*)"')
SHARE = re.compile(r"^(hoody/shares/)[0-9a-f]{24}$")
TEMPORARY = re.compile(r"\.noded-[0-9a-f]{16}$")


def wrapper(directory, worker):
    """A program that runs the worker under strace; what forks from it (a container's monitor) runs free."""
    path = directory + "/traced-worker"
    os.makedirs(directory + "/traces")
    with open(path, "w", encoding="ascii") as f:
        f.write(f"#!/bin/sh\nexec strace -qq -y -s 4096 -e trace={CALLS} -o {directory}/traces/$1.$$ {shlex.quote(worker)} \"$@\"\n")
    os.chmod(path, 0o755)
    return path


def _below(directory, name, live, node):
    """The path below a root file system; None for all others. live: the directory may be a container's, as that sees it; node: where
    the directories of the node are."""
    if directory is not None and not (name.startswith("/") and not live):
        found = ROOT.match(directory)
        if found:
            return os.path.normpath((found.group(1) or "") + "/" + name).lstrip("/")
        if live and not directory.startswith(("/proc", "/sys", node)):
            return os.path.normpath(directory + "/" + name).lstrip("/")
        return None
    found = ROOT.match(name)
    return found.group(1) if found else None


def look(directory):
    """({path: jobs}, [calls that name a path below a root other than from a descriptor])."""
    paths, breaches = {}, []
    for file in glob.glob(directory + "/traces/*"):
        job = os.path.basename(file).rsplit(".", 1)[0]
        with open(file, encoding="utf-8", errors="replace") as f:
            for line in f:
                live = "RESOLVE_IN_ROOT" in line or "RESOLVE_BENEATH" in line
                for fd, where, name in PAIR.findall(line):
                    path = _below(where if fd not in ("", "AT_FDCWD") else None, name, live, directory)
                    if path and fd in ("", "AT_FDCWD"):
                        breaches.append(line.strip())
                    if path and path != "." and not TEMPORARY.search(path):
                        path = SHARE.sub(r"\1ID", path)
                        paths.setdefault(path, set()).add(job)
    return paths, breaches
