# SPDX-License-Identifier: Apache-2.0
"""The real proxies of Debian in front of kit services: haproxy with `usesrc clientip`, nginx with `proxy_bind transparent`,
and a haproxy that keeps its own address ("plain"), as an account of one's choice."""
import os
import subprocess

from world import wait_for

HAPROXY = """global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend in4
    bind 0.0.0.0:{port}
    default_backend box4
frontend in6
    bind :::{port} v6only
    default_backend box6
backend box4
    source 0.0.0.0 usesrc clientip
    server box {ipv4}:{service}
backend box6
    source :::0 usesrc clientip
    server box [{ipv6}]:{service}
"""

HAPROXY_PLAIN = """global
    maxconn 200
    user {user}
defaults
    mode tcp
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend in4
    bind 0.0.0.0:{port}
    default_backend box4
frontend in6
    bind :::{port} v6only
    default_backend box6
backend box4
    server box {ipv4}:{service}
backend box6
    server box [{ipv6}]:{service}
"""

NGINX = """daemon off;
user www-data;
pid {dir}/nginx.pid;
error_log {dir}/nginx.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
    scgi_temp_path {dir}/s;
    proxy_bind $remote_addr transparent;
    server {{ listen 0.0.0.0:{port}; location / {{ proxy_pass http://{ipv4}:{service}; }} }}
    server {{ listen [::]:{port} ipv6only=on; location / {{ proxy_pass http://[{ipv6}]:{service}; }} }}
}}
"""

CONFIGURATIONS = {"haproxy": HAPROXY, "haproxy-tcp": HAPROXY.replace("mode http", "mode tcp"), "plain": HAPROXY_PLAIN,
                  "nginx": NGINX}


class Proxy:
    def __init__(self, kind, directory, port, box, service=7001, user="root"):
        self.port = port
        self.dir = os.path.join(directory, f"{kind}-{port}")
        os.makedirs(self.dir, exist_ok=True)
        os.chmod(self.dir, 0o777)
        conf = self.dir + "/conf"
        text = CONFIGURATIONS[kind].format(port=port, service=service, dir=self.dir, user=user, ipv4=box["ipv4"],
                                           ipv6=box["ipv6"])
        with open(conf, "w", encoding="ascii") as f:
            f.write(text)
        argv = ["/usr/sbin/nginx", "-c", conf] if kind == "nginx" else ["/usr/sbin/haproxy", "-db", "-f", conf]
        with open(self.dir + "/out", "wb") as out:
            self.process = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        wait_for(self.listens, 20, what=f"{kind} ({self.dir}/out)")

    def listens(self):
        assert self.process.poll() is None, open(self.dir + "/out", encoding="utf-8").read()
        sockets = subprocess.run(["ss", "-Hltn", f"sport = :{self.port}"], capture_output=True, text=True, check=True)
        return len(sockets.stdout.splitlines()) >= 2

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
