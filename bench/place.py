# SPDX-License-Identifier: Apache-2.0
"""Where the benchmarks run: namespaces of their own, with the image that the tests use."""
import os
import subprocess
import sys

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.environ.get("NODED_BUILD_CACHE", "/var/cache/noded-build")


def enter(build):
    """Runs the program again inside, once; there the tests' modules can be imported."""
    if os.environ.get("NODED_TEST_WORLD") != "1":
        if os.geteuid() != 0:
            sys.exit("run this as root: it starts containers")
        image = CACHE + "/out"
        subprocess.run([REPOSITORY + "/images/debian-13/build", image], check=True, stdin=subprocess.DEVNULL)
        os.environ.update(NODED_TEST_WORLD="1", NODED_BUILD=os.path.abspath(build),
                          NODED_TEST_IMAGE=image + "/debian-13.tar.zst")
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
                              os.path.abspath(sys.argv[0]), *sys.argv[1:]])
    sys.path[:0] = [os.path.join(REPOSITORY, "tests", "support")]
    sys.dont_write_bytecode = True
