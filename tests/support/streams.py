# SPDX-License-Identifier: Apache-2.0
"""A simplestreams server: an index, a catalogue, files with Range; with TLS, and with what goes wrong on the way."""
import hashlib
import http.server
import json
import re
import ssl
import subprocess
import threading


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        s = self.server.streams
        s.requests.append((self.path, self.headers.get("Range")))
        path = self.path.lstrip("/")
        if path in s.redirects:
            self.send_response(302)
            self.send_header("Location", s.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = s.content(path)
        if data is None:
            self.send_error(404)
            return
        begin = 0
        m = re.match(r"bytes=(\d+)-$", self.headers.get("Range") or "")
        if m and s.ranges:
            begin = int(m.group(1))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        cut = s.cuts.pop(0) if s.cuts and path in s.cut_paths else None
        self.wfile.write(data[begin:] if cut is None else data[begin:begin + cut])
        if cut is not None:
            self.close_connection = True
            self.connection.shutdown(2)


class Streams:
    """files: path -> bytes. add() makes a version of a product of them."""

    def __init__(self, tls_dir=None):
        self.files, self.products, self.redirects = {}, {}, {}
        self.requests, self.cuts, self.cut_paths, self.ranges = [], [], set(), True
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.streams = self
        self.server.handle_error = lambda *args: None  # clients go away
        self.ca = None
        scheme = "http"
        if tls_dir:
            scheme, self.ca = "https", str(tls_dir) + "/ca.pem"
            key = str(tls_dir) + "/key.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                            "-keyout", key, "-out", self.ca, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                           check=True, capture_output=True)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.ca, key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def content(self, path):
        if path == "streams/v1/index.json":
            return json.dumps({"format": "index:1.0", "index": {"images": {
                "datatype": "image-downloads", "path": "streams/v1/images.json", "format": "products:1.0", "products": list(self.products)}}}).encode()
        if path == "streams/v1/images.json":
            return json.dumps({"format": "products:1.0", "datatype": "image-downloads", "content_id": "images", "products": self.products}).encode()
        return self.files.get(path)

    def add(self, name, serial, metadata, root, root_type="squashfs", arch="amd64", aliases=None, meta_type="incus.tar.xz"):
        """Split when there is metadata, else unified. Returns the items, which may be bent afterwards."""
        os_name, release = name.split("/")
        product = self.products.setdefault(f"{os_name}:{release}:{arch}:default", {
            "aliases": aliases or f"{name},{name}/default", "arch": arch, "os": os_name.capitalize(), "release": release,
            "variant": "default", "versions": {}})
        items = {}

        def item(ftype, data):
            path = f"images/{os_name}/{release}/{arch}/{serial}/{ftype}"
            self.files[path] = data
            items[ftype] = {"ftype": ftype, "path": path, "sha256": sha(data), "size": len(data)}
        if metadata is not None:
            item(meta_type, metadata)
            items[meta_type]["combined_squashfs_sha256" if root_type == "squashfs" else "combined_rootxz_sha256"] = sha(metadata + root)
        item(root_type, root)
        product["versions"][serial] = {"items": items}
        return items
