# SPDX-License-Identifier: Apache-2.0
"""For `pytest_plugins`: two nodes, a source on one, its copy on the other."""
import pytest
from pair import pair
from peering import copy_to


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with pair(str(tmp_path_factory.mktemp("pki"))) as p:
        p.near.start()
        p.far.start()
        yield p


@pytest.fixture(scope="module")
def spaces(nodes):
    return nodes.spaces


@pytest.fixture(scope="module")
def pki(nodes):
    return nodes.pki


@pytest.fixture(scope="module")
def near(nodes):
    return nodes.near


@pytest.fixture(scope="module")
def far(nodes):
    return nodes.far


@pytest.fixture(scope="module")
def source(near):
    cid = near.create("source", hoody_kit=False, environment_vars={"WHO": "source"})["id"]
    near.wait_booted(cid)
    return cid


@pytest.fixture(scope="module")
def copy(near, far, source):
    cid = copy_to(near, far, source, "followed")
    far.wait_booted(cid)
    return cid


class Slow:
    """A failpoint in the jobs of a node that sleeps while the block runs, and a little longer."""

    def __init__(self, node, point, ms):
        self.node, self.point = node, f"{point}=sleep:{ms}"

    def __enter__(self):
        self.node.restart(self.point)

    def __exit__(self, *_):
        pass


@pytest.fixture
def slow(near):
    yield lambda point, ms=4000: Slow(near, point, ms)
    near.restart()
