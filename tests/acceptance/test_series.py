"""A second series comes into a repository beside the first, and the first stays as it is."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from suites import CHECKOUT, stanzas

from builder import dirs
from builder.publish import Signer, Suite, publish

# Small, of different Debian suites and Pythons, and in the cache after `make repo old-series`.
FIRST, SECOND = ("2026.1", "bookworm"), ("pike", "bullseye")
PROJECT = "keystone"
BUILD_DEBS = Path(sys.executable).with_name("build-debs")


def build(repo, series, target):
    words = ["--project", PROJECT, "--offline", "--repo", repo]
    argv = [BUILD_DEBS, series, "--target", target, *words]
    subprocess.run(argv, env={**os.environ, "BUILD_DEBS_DATA": str(CHECKOUT)}, check=True)


def digests(repo):
    """Return what every file below the repository has in it; who worked on it does not count."""
    paths = (p for p in repo.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(repo)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def named(repo, suite):
    """Return the files of the pool a suite names, each with its checksum."""
    found = {}
    for index in (repo / "dists" / suite).glob("main/*/Packages"):
        found |= {fields["Filename"]: fields["SHA256"] for fields in stanzas(index)}
    for text in (repo / "dists" / suite / "main/source/Sources").read_text().split("\n\n"):
        directory = ""
        for line in text.splitlines():
            words = line.split()
            if line.startswith("Directory: "):
                directory = words[1]
            elif len(words) == 3 and len(words[0]) == 64:
                found[words[2]] = words[0]
        found = {p if "/" in p else f"{directory}/{p}": digest for p, digest in found.items()}
    return found


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A repository of one series that got another, and what was in it before."""
    repo = tmp_path_factory.mktemp("grown") / "repo"
    build(repo, *FIRST)
    before = digests(repo)
    build(repo, *SECOND)
    return repo, before


def test_a_second_series_leaves_every_file_of_the_first_as_it_is(grown):
    repo, before = grown
    after = digests(repo)
    assert {p: d for p, d in before.items() if after.get(p) != d} == {}
    own = f"dists/{FIRST[1]}-{FIRST[0]}/"
    assert {p for p in after if p.startswith(own)} == {p for p in before if p.startswith(own)}
    assert len({p for p in before if p.startswith(own)}) > 5


def test_what_a_suite_names_is_in_the_pool_as_it_says(grown):
    repo, _ = grown
    files = digests(repo)
    for series, target in (FIRST, SECOND):
        names = named(repo, f"{target}-{series}")
        assert len(names) > 100
        assert {p: d for p, d in names.items() if files.get(p) != d} == {}


def test_packages_another_suite_has_too_are_shared(grown, tmp_path):
    repo, _ = grown
    names = sorted(named(repo, f"{FIRST[1]}-{FIRST[0]}"))
    chosen = [p for p in names if p.endswith("_all.deb")][:20]
    copies = [Path(shutil.copy(repo / p, tmp_path)) for p in chosen]
    before = digests(repo)
    third = Suite("trixie", FIRST[0], "Gazpacho")
    publish(repo, third, copies, (), Signer.open(dirs.locate().keys))
    assert sorted(named(repo, third.name)) == chosen
    new = digests(repo).keys() - before.keys()
    assert [p for p in new if p.startswith("pool/")] == []


def test_no_suite_of_the_repository_has_a_copy_of_anothers_file(repository):
    copies = defaultdict(set)
    for index in repository.glob("dists/*/InRelease"):
        for path, digest in named(repository, index.parent.name).items():
            copies[digest].add(path)
    assert len(copies) > 200
    assert [paths for paths in copies.values() if len(paths) > 1] == []
