# SPDX-License-Identifier: Apache-2.0
"""Kits of a test's own: made by `nodectl kit build` of the program whoami, which answers on any port it is told."""
import json
import os
import shutil
import subprocess

from world import BUILD, run

UNIT = """[Unit]
Description=Kit: {name} {version}

[Service]
ExecStart=/hoody/kits/{name}/bin/whoami {listen}
User={user}
Restart=on-failure
{lines}"""


class KitLab:
    def __init__(self, directory):
        self.dir = str(directory)
        self.bundles = self.dir + "/bundles"
        self.key, self.public = self.dir + "/kits.key", self.dir + "/kits.pub"
        os.makedirs(self.bundles)
        run("openssl", "genpkey", "-algorithm", "ed25519", "-out", self.key)
        run("openssl", "pkey", "-in", self.key, "-pubout", "-out", self.public)

    def source(self, name, version, port, listen=None, user="user", lines="", **more):
        """A folder with kit.json and tree/. listen: the port that it really takes; lines: more of the unit."""
        folder = f"{self.dir}/{name}-{version}"
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder + "/tree/bin")
        os.makedirs(folder + "/tree/units")
        shutil.copy(BUILD + "/kit-whoami", folder + "/tree/bin/whoami")
        with open(f"{folder}/tree/units/hoody-{name}.service", "w", encoding="ascii") as f:
            f.write(UNIT.format(name=name, version=version, listen=listen or port, user=user, lines=lines))
        service = {"slug": name, "port": port, "protocol": "http", "unit": f"hoody-{name}.service", "user": "user", "health": "/"}
        kit = {"name": name, "version": version, "units": [f"hoody-{name}.service"],
               "services": [{**service, **more.pop("service", {})}], **more}
        with open(folder + "/kit.json", "w", encoding="ascii") as f:
            json.dump(kit, f)
        return folder

    def nodectl(self, *argv, ok=True):
        r = subprocess.run([BUILD + "/nodectl", *argv], capture_output=True, text=True, check=False, timeout=120)
        assert (r.returncode == 0) == ok, (argv, r.returncode, r.stdout, r.stderr)
        return r.stdout.strip() if ok else r.stderr.strip()

    def build(self, name, version, port, **more):
        key = more.pop("key", self.key)
        return self.nodectl("-q", "kit", "build", self.source(name, version, port, **more), "--key", key, "--out", self.bundles)
