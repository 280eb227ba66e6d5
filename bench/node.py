# SPDX-License-Identifier: Apache-2.0
"""A noded of the benchmark's own behind the same verbs as the peer."""
from daemon import PROJECT, Daemon


class Node:
    name = "noded"

    def __init__(self, kits=False):
        self.node = Daemon(kits=kits, loop_bytes=6 << 30).start()
        self.ids = {}

    def _ok(self, reply):
        assert reply.status in (200, 201), reply
        return reply.data

    def create_start(self, name):
        self.ids[name] = self.node.create(name, hoody_kit=False)["id"]

    def start(self, name):
        self._ok(self.node.op(self.ids[name], "start"))

    def force_stop(self, name):
        self._ok(self.node.op(self.ids[name], "force-stop"))

    def snapshot(self, name, snap):
        self._ok(self.node.post(f"/api/v1/containers/{self.ids[name]}/snapshots", {"alias": snap}))

    def restore(self, name, snap):
        self._ok(self.node.call("PUT", f"/api/v1/containers/{self.ids[name]}/snapshots/{snap}"))

    def copy(self, source, snap, name):
        made = self._ok(self.node.post(f"/api/v1/containers/{self.ids[source]}/copy?wait=true",
                                       {"target_project_id": PROJECT, "source_snapshot": snap, "name": name}))
        self.ids[name] = made["id"]

    def delete(self, name):
        self._ok(self.node.delete(self.ids.pop(name)))

    def pid(self):
        return self.node.process.pid

    def monitors(self):
        return self.node.monitors()

    def init_pid(self, name):
        return self.node.container(self.ids[name])["node"]["init_pid"]

    def close(self):
        self.node.close()
