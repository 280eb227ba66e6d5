# SPDX-License-Identifier: Apache-2.0
"""Where everything lives that starts nodes (tests/run, the demonstration, the benchmarks): a mount, a network and a process
namespace of its own, with a /run and a folder for temporary files of its own. What a program forgets or leaves by a crash
goes with them. Standard library only: the demonstration runs on a machine without the packages for tests."""
import contextlib
import ctypes
import fcntl
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PR_SET_PDEATHSIG, MS_BIND, MS_REC = 1, 4096, 16384


def settle():
    """Takes back the caller's choices that must not matter: where programs are, who may read new files, the language."""
    os.umask(0o022)
    os.environ["PATH"] = ":".join(dict.fromkeys([*SYSTEM_PATH.split(":"), *filter(None, os.environ.get("PATH", "").split(":"))]))
    os.environ["LC_ALL"] = "C.UTF-8"
    os.environ.setdefault("HOME", "/root")


def entered():
    """Whether this process is inside, in an enclosure that enter() or bench/place.py made."""
    return os.environ.get("NODED_TEST_WORLD") == "1"


def remove_cgroups(name):
    """Removes the cgroup of a node and those below; waits a moment for processes in them that are about to end."""
    for d in sorted(glob.glob(f"/sys/fs/cgroup/**/{glob.escape(name)}/**/", recursive=True), key=len, reverse=True):
        for _ in range(100):
            try:
                os.rmdir(d)
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.05)


def remove(directory):
    """Removes a folder for temporary files whose namespaces are gone, and the cgroups of the nodes that had their files in it."""
    for path in glob.glob(glob.escape(directory) + "/noded-nt*"):
        remove_cgroups(os.path.basename(path).split("-")[1])
    shutil.rmtree(directory, ignore_errors=True)


def sweep():
    """Removes what an enclosure left whose outer process was killed: nothing holds the lock in its folder any more."""
    for path in glob.glob(glob.escape(tempfile.gettempdir()) + "/noded-world-*/lock"):
        with contextlib.suppress(OSError), open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(os.path.dirname(path))


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def enter(stdin=None, own_group=False, interrupted=lambda: None, patience=90):
    """Runs this program again, inside, and returns its exit status once everything of it is gone.

    stdin: its standard input, this process's own if None. own_group: Ctrl-C reaches only this process, not what runs inside.
    interrupted() is called when this process is asked to end (SIGINT, SIGTERM, SIGHUP). What runs inside then has `patience`
    seconds to end by itself before it is killed; none when it cannot know, because the signal was for this process only.
    When this process is killed, so is what runs inside; the next sweep() removes its files."""
    sweep()
    directory = tempfile.mkdtemp(prefix="noded-world-")
    with open(directory + "/lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.chmod(directory, 0o1777)
        os.set_inheritable(lock.fileno(), True)
        env = {**os.environ, "NODED_TEST_WORLD": "1", "NODED_TEST_OUTSIDE": directory}
        program = [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]
        deadline = []

        def end(number, _frame):
            deadline.append(time.monotonic() + (patience if own_group or number == signal.SIGINT else 0))
            interrupted()
        before = [(n, signal.signal(n, end)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        inside = subprocess.Popen(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", *program], env=env,
                                  stdin=stdin, process_group=0 if own_group else None, pass_fds=[lock.fileno()],
                                  preexec_fn=_die_with_parent)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = inside.wait(1)
                break
            if deadline and time.monotonic() > deadline[0]:
                inside.kill()
        for number, handler in before:
            signal.signal(number, handler)
        remove(directory)
    return status if status >= 0 else 128 - status


def arrange():
    """The first thing inside: /run and the folder for temporary files. Returns in a child process; the calling one stays
    process 1 of the namespace, reaps what is orphaned as an init does, and ends as the child does."""
    outside = os.environ["NODED_TEST_OUTSIDE"]
    temporary = "/run/" + os.path.basename(outside)  # short, and every account may enter it
    with contextlib.ExitStack() as folders:
        # By open folders: what is below /run has no path any more once another one is mounted there.
        kept = {path: folders.enter_context(_folder(path)) for path in _needed_below_run()}
        kept[temporary] = folders.enter_context(_folder(outside))
        _mount("-t", "tmpfs", "-o", "mode=0755", "noded-tests", "/run")
        for path in ("/run/lock", "/run/netns"):
            os.mkdir(path)
        for path, descriptor in kept.items():
            os.makedirs(path, exist_ok=True)
            _bind(descriptor, path)
    # Names of network namespaces: neither the machine's own nor those of another run.
    _mount("-t", "tmpfs", "-o", "mode=0755", "netns", "/run/netns")
    os.environ["TMPDIR"] = tempfile.tempdir = temporary
    child = os.fork()
    if child == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child's concern
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) % 256)


def _needed_below_run():
    """Folders directly below /run that hold the repository, the build tree or other inputs."""
    paths = [os.path.abspath(sys.argv[0]), *(os.environ[n] for n in os.environ if n.startswith("NODED_") and n != "NODED_TEST_OUTSIDE")]
    return sorted({"/".join(path.split("/")[:3]) for path in map(os.path.realpath, paths) if path.startswith("/run/") and os.path.exists(path)})


@contextlib.contextmanager
def _folder(path):
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mount(*argv):
    subprocess.run(["mount", *argv], check=True)


def _bind(descriptor, target):
    """Shows an open folder at target. Not by mount(8), which would look for the folder by its path."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(f"/proc/self/fd/{descriptor}".encode(), target.encode(), None, ctypes.c_ulong(MS_BIND | MS_REC), None):
        raise OSError(ctypes.get_errno(), f"cannot mount a folder at {target}")
