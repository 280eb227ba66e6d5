# SPDX-License-Identifier: Apache-2.0
"""What "nodectl pki init" does not make: certificates with any subject, and revocation lists, of its CA."""
import datetime
import os
import subprocess

from world import run

CONFIG = """[ca]
default_ca = here
[here]
database = {0}/index.txt
serial = {0}/serial
crlnumber = {0}/crlnumber
new_certs_dir = {0}
certificate = {1}/ca.crt
private_key = {1}/ca.key
default_md = sha256
default_days = 30
policy = any
copy_extensions = none
unique_subject = no
preserve = yes
[any]
commonName = optional
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
"""


def stamp(days):
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return at.strftime("%Y%m%d%H%M%SZ")


class Authority:
    def __init__(self, pki, directory):
        self.pki, self.dir = pki, directory
        os.makedirs(directory, exist_ok=True)
        self.config = directory + "/ca.conf"
        for name, text in (("ca.conf", CONFIG.format(directory, pki)), ("index.txt", ""), ("crlnumber", "01\n")):
            with open(f"{directory}/{name}", "w", encoding="ascii") as f:
                f.write(text)

    def client(self, name, subject):
        """NAME.crt and NAME.key beside the CA's; subject as openssl takes it, "/OU=operator/CN=x"."""
        key, request = f"{self.pki}/{name}.key", f"{self.dir}/request.csr"
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
            "-out", request, "-subj", subject, "-multivalue-rdn")
        run("openssl", "x509", "-req", "-in", request, "-CA", self.pki + "/ca.crt", "-CAkey", self.pki + "/ca.key",
            "-CAcreateserial", "-days", "30", "-extfile", self.config, "-extensions", "client", "-out", f"{self.pki}/{name}.crt")

    def revoke(self, name):
        run("openssl", "ca", "-config", self.config, "-revoke", f"{self.pki}/{name}.crt")

    def list(self, path, days=30, begun=-1):
        """A revocation list that is good from `begun` to `days`, in days from now."""
        subprocess.run(["openssl", "ca", "-config", self.config, "-gencrl", "-crl_lastupdate", stamp(begun), "-crl_nextupdate",
                        stamp(days), "-out", path + ".new"], check=True, capture_output=True)
        os.rename(path + ".new", path)
