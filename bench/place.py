# SPDX-License-Identifier: Apache-2.0
"""Where the benchmarks run: namespaces of their own, with the image and the kits that the tests use, made before: there is no network."""
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
        image, kits = CACHE + "/out", CACHE + "/kits"
        os.environ.update(NODED_TEST_WORLD="1", NODED_BUILD=os.path.abspath(build), NODED_TEST_IMAGE=image + "/debian-13.tar.zst",
                          NODED_TEST_KITS=kits)
        for argv in (["images/debian-13/build", image], ["kits/build", kits]):
            subprocess.run([os.path.join(REPOSITORY, argv[0]), argv[1]], check=True, stdin=subprocess.DEVNULL)
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
                              os.path.abspath(sys.argv[0]), *sys.argv[1:]])
    sys.path[:0] = [os.path.join(REPOSITORY, "tests", "support")]
    sys.dont_write_bytecode = True
