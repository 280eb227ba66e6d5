# SPDX-License-Identifier: Apache-2.0
"""Containers of a node without a daemon: booted, and asked how they are."""
import subprocess

import world


def system_state(node, slot, pid):
    try:
        return node.attach(slot, pid, "systemctl", "is-system-running").strip()
    except subprocess.CalledProcessError as e:
        return e.stdout.strip()


def boot(node, slot, **more):
    node.create(slot)
    pid = node.start(slot, **more)
    world.wait_for(lambda: system_state(node, slot, pid) == "running", what="systemd running")
    return pid
