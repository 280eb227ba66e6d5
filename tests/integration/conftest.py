# SPDX-License-Identifier: Apache-2.0
import pytest
import world


def pytest_configure(config):
    if not world.in_world():
        raise pytest.UsageError("integration tests run through tests/run, which gives them namespaces of their own")


@pytest.fixture(scope="session")
def archive():
    return world.image_archive()


@pytest.fixture(scope="module")
def node(archive):
    """A node with an open pool and the image; removed with everything on it."""
    world.run("ip", "link", "set", "lo", "up")
    n = world.Node()
    try:
        n.open()
        n.image = n.job("image.import", args={"file": archive})["fingerprint"]
        yield n
    finally:
        n.close()
