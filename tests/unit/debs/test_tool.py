"""The package of build-debs itself: what is in it, what it needs, and when a suite has it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from publishing import sh

from builder import __version__, dirs
from builder.catalogue import load as catalogue
from builder.debs import library, tool
from builder.model import graph
from builder.pipeline.locking import read_committed_lock

ROOT = Path(__file__).parents[3]
CATALOGUE = catalogue.load(ROOT / "projects")
SERIES = CATALOGUE.series["2026.1"]
TARGET = CATALOGUE.targets["bookworm"]
DIRS = dirs.locate({"HOME": "/nonexistent"})
LOCK = read_committed_lock(DIRS, SERIES, TARGET)
SITE = "./usr/lib/openstack/2026.1/lib/python3.11/site-packages/builder"


def imported():
    """Return what the project says it needs, without what its developers do."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {canonicalize_name((r := Requirement(d)).name): r for d in project["dependencies"]}


@pytest.fixture(scope="module")
def deb(tmp_path_factory):
    known = graph.index_by_name(LOCK)
    members = [known[canonicalize_name(n)] for n in catalogue.select_builders(CATALOGUE, SERIES)]
    context = library.Context(SERIES, TARGET, DIRS.templates, 1700000000)
    package = tool.make_tool_package(context, DIRS, members)
    return package.build(tmp_path_factory.mktemp("tool"), revision=1, epoch_seconds=1700000000)


def test_the_lock_has_all_that_it_imports():
    needed, known = imported(), graph.index_by_name(LOCK)
    assert {canonicalize_name(n) for n in catalogue.select_builders(CATALOGUE, SERIES)} == set(
        needed
    )
    for name, requirement in needed.items():
        assert requirement.specifier.contains(known[name].version), name


def test_it_depends_on_the_tools_a_build_needs(deb):
    makefile = (ROOT / "Makefile").read_text()
    named = re.search(r"^TOOLS = ((?:.*\\\n)*.*)", makefile, re.MULTILINE)[1]
    # python3 and its venv are how a checkout gets the program.
    tools = set(named.replace("\\\n", " ").split()) - {"python3", "python3-venv"}
    fields = sh("dpkg-deb", "-f", deb, "Depends", "Recommends")
    assert tools <= set(re.findall(r"[a-z][a-z0-9.+-]+", fields))


def test_its_version_is_its_own_and_later_in_a_later_series(deb):
    assert deb.name == f"build-debs_{__version__}+2026.1-1+deb12.1_all.deb"


def test_it_has_the_program_with_its_data_and_what_a_shell_and_man_look_for(deb):
    found = {line.split()[-1]: line.split()[0] for line in sh("dpkg-deb", "-c", deb).splitlines()}
    for path in ("start.py", "data/projects/locks/2026.1-bookworm.json", "data/share/man/man1"):
        assert any(f.startswith(f"{SITE}/{path}") for f in found), path
    assert found["./usr/bin/build-debs"] == "-rwxr-xr-x"
    assert "./usr/share/man/man1/build-debs.1.gz" in found
    for completion in (
        "bash-completion/completions/build-debs",
        "fish/vendor_completions.d/build-debs.fish",
        "zsh/vendor-completions/_build-debs",
    ):
        assert f"./usr/share/{completion}" in found
    assert not [f for f in found if f.endswith(".pyc")]


def test_series_that_cannot_run_it_do_not_have_it():
    for series in ("ocata", "2023.1"):
        assert catalogue.select_builders(CATALOGUE, CATALOGUE.series[series]) == ()
