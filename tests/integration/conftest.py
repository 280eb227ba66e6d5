# SPDX-License-Identifier: Apache-2.0
import enclosure
import pytest
import world


def pytest_configure(config):
    if not enclosure.entered():
        raise pytest.UsageError("integration tests run through tests/run, which gives them namespaces of their own")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A test of packets that fails says what the kernel had at that moment: the next run may not fail again."""
    report = (yield).get_result()
    lab = item.funcargs.get("lab")
    if report.when == "call" and report.failed and hasattr(lab, "state"):
        report.sections.append(("the network", lab.state()))


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


@pytest.fixture
def slot(node, request):
    """A slot of its own for each test; whatever the test leaves must go without a trace."""
    used = getattr(node, "used", 0) + 1
    node.used = used
    yield used
    node.job("container.destroy", used)
    node.unlink(used)
    assert node.leftovers(used) == []
