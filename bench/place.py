# SPDX-License-Identifier: Apache-2.0
"""Where the benchmarks run: namespaces of their own, with the image and the kits that the tests use, made before: there is no network."""
import os
import subprocess
import sys

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(REPOSITORY, "tests", "support")]
sys.dont_write_bytecode = True
import enclosure  # noqa: E402

CACHE = os.environ.get("NODED_BUILD_CACHE", "/var/cache/noded-build")


def enter(build):
    """Runs the program again inside, once; there the tests' modules can be imported."""
    enclosure.settle()
    if not enclosure.entered():
        if os.geteuid() != 0:
            sys.exit("run this as root: it starts containers")
        image, kits = CACHE + "/out", CACHE + "/kits"
        os.environ.update(NODED_BUILD=os.path.abspath(build), NODED_TEST_IMAGE=image + "/debian-13.tar.zst", NODED_TEST_KITS=kits)
        for argv in (["images/debian-13/build", image], ["kits/build", kits]):
            subprocess.run([os.path.join(REPOSITORY, argv[0]), argv[1]], check=True, stdin=subprocess.DEVNULL)
        sys.exit(enclosure.enter())
    enclosure.arrange()
