"""Fixtures of the node tests: `pytest tests/node`, as root, against a repository already built.

    --repo DIR     the repository (or $REPO; default: repo/ of this checkout)
    --series ID    the series to install from it (or $SERIES; default 2026.1); the tests of
                   the Python 2.7 series, pike and ocata, install those
    --chain A,B,C  the series a cloud is upgraded through (or $CHAIN)

With pytest-xdist use `--dist loadfile --no-loadscope-reorder`: the tests of a file share a
node, in order, and files come in ours.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cloud import install_blocks, running
from harness import HOST_PACKAGES, Lab, running_nodes
from repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cloud import Cloud

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = (
    *("curl", "ethtool", "ip", "mmdebstrap", "nsenter", "ping", "setpriv", "ssh-keygen"),
    *("systemd-nspawn", "unshare"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nodes")
    repo = os.environ.get("REPO") or CHECKOUT / "repo"
    group.addoption("--repo", type=Path, default=Path(repo), help="the repository under test")
    series = os.environ.get("SERIES") or "2026.1"
    group.addoption("--series", default=series, help="the series nodes install")
    chain = os.environ.get("CHAIN") or "2024.1,2025.1,2025.2"
    group.addoption("--chain", default=chain, help="the three series test_upgrade.py goes through")


# Files that take longest, the longest first: several at a time, none is left alone at the end.
LONGEST = (
    *("test_cloud.py", "test_faults.py", "test_packages.py", "test_services.py"),
    *("test_reproducible.py", "test_trixie.py", "test_docker.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.node)
    items.sort(key=lambda i: [*LONGEST, i.path.name].index(i.path.name))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo):
    """Put beside a failure what the nodes that run noted as errors: they are soon gone."""
    report = yield
    if report.failed and call.when != "teardown":
        report.sections += [(f"errors on {n.name}", n.errors()) for n in running_nodes()]
    return report


@pytest.fixture(scope="session")
def published(request: pytest.FixtureRequest) -> Callable[[str, str], Repository]:
    """Give a suite of the repository under test, by its Debian and its series."""
    path = request.config.getoption("--repo").resolve()

    def suite(target: str, series: str) -> Repository:
        repository = Repository(path, target, series)
        if not repository.release.exists():
            pytest.fail(f"{repository.release} is not there: build that suite first")
        return repository

    return suite


@pytest.fixture(scope="session")
def repository(
    request: pytest.FixtureRequest, published: Callable[[str, str], Repository]
) -> Repository:
    return published("bookworm", request.config.getoption("--series"))


@pytest.fixture(scope="module")
def cloud(repository: Repository, tmp_path_factory) -> Iterator[Cloud]:
    """Give the cloud of docs/install.md, a file's own."""
    made = tmp_path_factory.mktemp("cloud")
    with running(repository, install_blocks(repository.series), made) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest):
    """Give a lab of a file's own: nodes of two files may have one name, and end with theirs."""
    if os.geteuid() != 0:
        pytest.fail("nodes need root")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)} missing: apt-get install {' '.join(HOST_PACKAGES)}")
    path = request.config.getoption("--repo")
    with Lab(path, os.environ.get("PYTEST_XDIST_WORKER", "main")) as lab:
        yield lab
