"""Fixtures of the acceptance tests, which look at a repository that `make repo` built."""

import os
from pathlib import Path

import pytest
from suites import CHECKOUT


@pytest.fixture(scope="session")
def repository():
    path = Path(os.environ.get("REPO") or CHECKOUT / "repo").resolve()
    if not list(path.glob("dists/*/InRelease")):
        pytest.fail(f"no repository at {path}: build it first (make repo)")
    return path


@pytest.fixture(scope="session")
def suite():
    return "bookworm-2026.1"
