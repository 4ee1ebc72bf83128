"""The same lock, built twice in different directories, gives the same bits.

The repository compared with must have been built from nothing (make clean repo): one with
a history has later revisions.
"""

import hashlib
import os
import shutil
import subprocess

import pytest
from packaging.version import Version
from suites import CHECKOUT

PROJECTS = ("projects", "debian-templates", "builder")


@pytest.fixture(scope="module")
def second(tmp_path_factory, suite):
    """A repository built from a copy of the checkout, with nothing cached but downloads."""
    root = tmp_path_factory.mktemp("elsewhere")
    for name in PROJECTS:
        shutil.copytree(CHECKOUT / name, root / name)
    home = os.environ.get("XDG_CACHE_HOME") or f"{os.environ['HOME']}/.cache"
    first = os.environ.get("BUILD_DEBS_CACHE") or f"{home}/build-debs"
    (root / "cache").mkdir()
    (root / "cache/downloads").symlink_to(f"{first}/downloads")
    build(root, suite)
    return root / "repo"


def build(root, suite):
    target, series = suite.split("-", 1)
    argv = [CHECKOUT / ".venv/bin/build-debs", series, "--target", target, "--offline"]
    argv += ["--repo", root / "repo", "--url", "http://repository.example/"]
    env = {"BUILD_DEBS_DATA": str(root), "BUILD_DEBS_CACHE": str(root / "cache")}
    subprocess.run(argv, env={**os.environ, **env}, check=True)


def digests(repository, pattern):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in repository.glob(pattern)
        if "-archive_" not in path.name  # has the repository's own key
    }


def test_packages_are_the_same_bits(repository, second):
    first, again = digests(repository, "pool/**/*.deb"), digests(second, "pool/**/*.deb")
    assert len(again) > 200
    assert {n: d for n, d in again.items() if first.get(n) != d} == {}


def test_source_packages_are_the_same_bits(repository, second):
    first = digests(repository, "pool/**/*.dsc")
    again = digests(second, "pool/**/*.dsc")
    assert len(again) >= 6
    assert {n: d for n, d in again.items() if first.get(n) != d} == {}


def test_a_second_run_rewrites_nothing(second, suite):
    before = {p: p.stat().st_mtime_ns for p in second.rglob("*") if p.is_file()}
    build(second.parent, suite)
    assert {p: p.stat().st_mtime_ns for p in second.rglob("*") if p.is_file()} == before


def test_tarballs_are_published_bit_for_bit(second):
    downloads = second.parent / "cache/downloads"
    known = {path.parent.name for path in downloads.glob("*/*/*.tar.gz")}
    originals = list(second.glob("pool/**/*.orig.tar.gz"))
    assert len(originals) >= 6
    for path in originals:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in known, path.name
        assert Version(path.name.split("_")[1].removesuffix(".orig.tar.gz"))
