"""Fixtures of the node tests: `pytest tests/node`, as root, against a repository already built.

    --repo DIR     the repository (or $REPO; default: repo/ of this checkout)
    --series ID    the series to install from it (or $SERIES; default 2026.1)

With pytest-xdist use `--dist loadfile`: the tests of a file share a node, in order.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from harness import HOST_PACKAGES, Lab
from repository import Repository

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.node)


@pytest.fixture(scope="session")
def repository(request: pytest.FixtureRequest) -> Repository:
    path = request.config.getoption("--repo").resolve()
    repository = Repository(path, "bookworm", request.config.getoption("--series"))
    if not repository.release.exists():
        pytest.fail(f"{repository.release} is not there: build the repository first (make repo)")
    return repository


@pytest.fixture(scope="session")
def lab(repository: Repository):
    if os.geteuid() != 0:
        pytest.fail("nodes need root")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)} missing: apt-get install {' '.join(HOST_PACKAGES)}")
    with Lab(repository.path, os.environ.get("PYTEST_XDIST_WORKER", "main")) as lab:
        yield lab
