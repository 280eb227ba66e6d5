# SPDX-License-Identifier: Apache-2.0
"""A noded of the benchmark's own behind the same verbs as the peer."""
from daemon import PROJECT, Daemon


class Node:
    name = "noded"

    def __init__(self, kits=False, loop_bytes=6 << 30):
        self.node = Daemon(kits=kits, loop_bytes=loop_bytes).start()
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

    def step_ms(self, name, step):
        """Of the operation that made it, as its status log says."""
        logs = self.node.get(f"/api/v1/containers/{self.ids[name]}/status-logs?limit=100").data["logs"]
        return next(log["metadata"]["steps_ms"][step] for log in logs if step in (log["metadata"] or {}).get("steps_ms", {}))

    def snapshot_delete(self, name, snap):
        self._ok(self.node.call("DELETE", f"/api/v1/containers/{self.ids[name]}/snapshots/{snap}"))

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
