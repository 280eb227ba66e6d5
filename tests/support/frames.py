# SPDX-License-Identifier: Apache-2.0
"""Speaks to noded-worker as noded does: frames of JSON on a socket that is the worker's fd 3."""
import json
import os
import signal
import socket
import struct
import subprocess


class JobError(Exception):
    """The worker answered with an error."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code, self.message, self.field = error["code"], error["message"], error.get("field")


class WorkerDied(Exception):
    """The worker ended without an answer."""

    def __init__(self, status):
        super().__init__(f"the worker ended with status {status}")
        self.status = status


def send(sock, value):
    data = json.dumps(value).encode()
    sock.sendall(struct.pack("<I", len(data)) + data)


def _exactly(sock, count):
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def receive(sock):
    (length,) = struct.unpack("<I", _exactly(sock, 4))
    return json.loads(_exactly(sock, length))


class Job:
    """A worker at work."""

    def __init__(self, program, request, env=None, timeout=90):
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(timeout)
        saved = os.dup(3) if _is_open(3) else None
        os.dup2(theirs.fileno(), 3)
        try:
            self.process = subprocess.Popen([program], pass_fds=[3], stdin=subprocess.DEVNULL,
                                            env={**os.environ, **(env or {})})
        finally:
            if saved is None:
                os.close(3)
            else:
                os.dup2(saved, 3, inheritable=False)
                os.close(saved)
        theirs.close()
        if request is not None:
            send(self.sock, request)

    def result(self):
        """What the job answered; progress frames are skipped."""
        try:
            while True:
                frame = receive(self.sock)
                if "progress" not in frame:
                    break
        except (EOFError, ConnectionResetError):
            raise WorkerDied(self.process.wait()) from None
        finally:
            self.sock.close()
        status = self.process.wait(10)
        assert status == 0, f"the worker answered and then ended with {status}"
        if "error" in frame:
            raise JobError(frame["error"])
        return frame["ok"]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.sock.close()


def _is_open(fd):
    try:
        os.fstat(fd)
        return True
    except OSError:
        return False
