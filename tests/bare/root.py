# SPDX-License-Identifier: Apache-2.0
"""A fresh minimal Debian in a directory, and a way in: namespaces, mounts, cgroups of its own. Everything goes with it."""
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
import threading
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get("NODED_BUILD_CACHE", "/var/cache/noded-build")
KEPT = CACHE + "/bare"
SUITES = {"12": "bookworm", "13": "trixie"}
TOKEN = os.environ.get("NODED_TEST_RUN", uuid.uuid4().hex[:8])
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLONE = "/root/a clone of noded"  # a blank in the path, below a folder that only root may enter
# Settings of apt that say what to fetch or how to store it; all others of Acquire say how to reach the mirrors.
NOT_PASSED_ON = ("Acquire::IndexTargets", "Acquire::Changelogs", "Acquire::Gzip", "Acquire::Languages", "Acquire::Compression",
                 "Acquire::cdrom", "Acquire::Allow")
# What a program mounts and starts goes with it.
ALONE = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--propagation", "private"]
PR_SET_PDEATHSIG = 1
running = []  # Popen of every process that was started here and may still run
over = threading.Event()


def run(argv, **options):
    """Runs a program whose output matters only when it fails."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                          errors="replace", start_new_session=True, preexec_fn=die_with(signal.SIGKILL), **options) as process:
        running.append(process)
        if over.is_set():
            process.kill()
        text = process.communicate()[0]
        running.remove(process)
    if process.returncode:
        raise RuntimeError(f"{' '.join(argv[:3])} failed:\n{text[-2000:]}")
    return text


@contextlib.contextmanager
def ended_cleanly():
    """SIGINT, SIGTERM and SIGHUP end what runs; the roots then go on the usual way."""
    def end(number, _frame):
        over.set()
        for process in list(running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        print(f"bare: signal {number}: ending, removing the roots", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    yield
    if over.is_set():
        sys.exit("bare: ended by a signal")


# Waits for the end of the run, whatever ends it, and of all that still runs in the root: those hold the lock. Then removes it.
REMOVER = """cat >/dev/null
exec >/dev/null 2>&1
flock "$1/lock" true
for _ in 1 2 3 4 5; do
    find /sys/fs/cgroup -depth -type d \\( -name "$2" -o -path "*/$2/*" \\) -exec rmdir {} +
    [ -n "$(find /sys/fs/cgroup -type d -name "$2")" ] || break
    sleep 1
done
[ "$3" = keep ] || rm -rf --one-file-system "$1"
"""


def die_with(number):
    """For a child: the signal that it gets when this program ends before it."""
    return lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


class Root:
    """Context manager. say(text) is called with what is being done."""

    def __init__(self, release, keep, say):
        self.release, self.suite, self.keep, self.say = release, SUITES[release], keep, say
        self.dir = tempfile.mkdtemp(prefix=f"noded-bare-{release}-")
        self.name, self.token = os.path.basename(self.dir), f"{TOKEN}b{release}"
        self.lock = open(self.dir + "/lock", "wb")  # inherited by all that runs in the root
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.remover = subprocess.Popen(["sh", "-c", REMOVER, "-", self.dir, self.name, "keep" if keep else "remove"],
                                        stdin=subprocess.PIPE, start_new_session=True)
        os.chmod(self.dir, 0o755)
        self.tree, self.process = self.dir + "/tree", None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.lock.close()
        if self.keep:
            self.say(f"kept {self.dir}")
        self.remover.stdin.close()
        self.remover.wait()

    def make(self):
        begun = time.monotonic()
        mirror, security = run([REPOSITORY + "/images/mirrors"]).split("\n")[:2]
        sources = [f"deb {mirror} {self.suite} main"] + ([f"deb {security} {self.suite}-security main"] if security else [])
        scratch, network = self.dir + "/scratch", self.dir + "/apt-network"
        os.mkdir(scratch)
        with open(network, "w", encoding="utf-8") as f:
            f.write(apt_network())
        run([*ALONE, "--mount-proc", "mmdebstrap", "--mode=root", "--variant=minbase", "--include=apt", "--dpkgopt=force-unsafe-io",
             "--aptopt=Acquire::Languages \"none\"", "--aptopt=" + network, "--skip=cleanup/apt/lists", self.suite, self.tree, *sources],
            env={**os.environ, "LC_ALL": "C", "TMPDIR": scratch}, pass_fds=[self.lock.fileno()])
        shutil.rmtree(self.tree + "/run")
        os.mkdir(self.tree + "/run")
        for path in ("/etc/resolv.conf", "/etc/hosts"):
            shutil.copyfile(path, self.tree + path)
        shutil.copy(network, self.tree + "/etc/apt/apt.conf.d/99network")
        with open(self.tree + "/etc/dpkg/dpkg.cfg.d/unsafe-io", "w", encoding="ascii") as f:
            f.write("force-unsafe-io\n")  # the root does not live long enough to be worth the syncs
        self.say(f"a root with {len(os.listdir(self.tree + '/var/lib/dpkg/info'))} files of packages in {time.monotonic() - begun:.0f} s")

    def clone(self, without=None):
        """The repository as it is now, changes that are not committed included."""
        target = self.tree + CLONE
        run(["git", "clone", "--quiet", "--no-hardlinks", REPOSITORY, target])
        changed = run(["git", "-C", REPOSITORY, "ls-files", "-z", "--modified", "--others", "--exclude-standard"]).split("\0")
        for name in filter(None, changed):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{target}/{name}")
            if os.path.exists(f"{REPOSITORY}/{name}"):
                os.makedirs(os.path.dirname(f"{target}/{name}"), exist_ok=True)
                shutil.copy(f"{REPOSITORY}/{name}", f"{target}/{name}")
                run(["git", "-C", target, "add", "--intent-to-add", name])
        os.chmod(self.tree + "/root", 0o700)
        if without:
            path = target + "/setup/packages"
            with open(path, encoding="utf-8") as f:
                words = [[w for w in line.split(" ") if w != without] for line in f.read().split("\n")]
            with open(path, "w", encoding="utf-8") as f:
                f.write("\n".join(" ".join(line) for line in words))

    def run(self, environment):
        """Starts tests/bare/steps inside; its output is the result's stdout."""
        archives = f"{KEPT}/archives-{self.release}"
        os.makedirs(archives, exist_ok=True)
        self.process = subprocess.Popen(
            [*ALONE, HERE + "/enter", self.tree, self.name, archives, CLONE], env={**environment, "NODED_TEST_RUN": self.token},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
            start_new_session=True, preexec_fn=die_with(signal.SIGKILL), pass_fds=[self.lock.fileno()])
        running.append(self.process)
        if over.is_set():
            self.process.kill()
        return self.process

    def leftovers(self):
        """What outlives the root's namespaces: loop devices and cgroups. The kernel has some seconds to let go of them."""
        for _ in range(10):
            loops = [f"loop device of {text}" for path in glob.glob("/sys/block/loop*/loop/backing_file") if self.token in (text := read(path))]
            left = loops + [f"cgroup {d}" for d in glob.glob(f"/sys/fs/cgroup/**/{self.name}/*/", recursive=True)
                            if not d.endswith("/init.scope/")]
            if not left:
                break
            time.sleep(0.5)
        return left


def read(path):
    with contextlib.suppress(OSError):
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    return ""


def apt_network():
    """This machine's settings of apt that say how the mirrors are reached."""
    lines = run(["apt-config", "dump"]).splitlines()
    return "".join(line + "\n" for line in lines if line.startswith("Acquire::") and not line.startswith(NOT_PASSED_ON)
                   and not line.endswith(' "";'))
