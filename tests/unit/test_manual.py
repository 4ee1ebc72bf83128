"""The manual page, and what a shell completes."""

import os
import shutil
import subprocess

import pytest
from cloud import BUILD_DEBS
from wheelhouse import REPOSITORY

from builder import manual
from builder.errors import BuildDebsError

ROOM = REPOSITORY / manual.ROOM


def complete(*words, env=None):
    """Return what bash is offered for the last of the words."""
    asked = {
        "COMP_WORDS": " ".join(["build-debs", *words]),
        "COMP_CWORD": str(len(words)),
        manual.VARIABLE: "bash_complete",
    }
    done = subprocess.run(
        [BUILD_DEBS], env={**os.environ, **asked, **(env or {})}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.split()]


def test_the_page_is_that_of_the_command_line():
    page = (ROOM / manual.PAGE).read_text()
    assert page == manual.render_page(), "python -m builder.manual writes it again"
    assert ".SS lock [OPTIONS] RELEASE" in page
    assert ".SS repo verify" in page


def test_the_page_has_every_exit_code():
    def codes(cls):
        return {cls.exit_code} | {c for sub in cls.__subclasses__() for c in codes(sub)}

    assert {str(code) for code in codes(BuildDebsError)} <= set(manual.EXIT_CODES)


def test_man_reads_it_without_a_warning():
    argv = ["man", "--warnings", "-l", "-Tutf8", ROOM / manual.PAGE]
    plain = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANROFFOPT": "-c"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=plain)
    assert done.stderr == ""
    assert "turn an OpenStack release into a signed apt repository" in done.stdout


@pytest.mark.parametrize("path", manual.COMPLETIONS)
def test_a_completion_asks_the_command(path):
    text = (ROOM / path).read_text()
    assert manual.VARIABLE in text
    assert "build-debs" in text


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["rep"], ["repo"]),
        (["2026"], ["2026.1", "2026.2"]),
        (["oc"], ["ocata"]),
        (["build", "gaz"], ["gazpacho"]),
        (["build", "--proj"], ["--project"]),
        (["build", "--project", "ne"], ["neutron"]),
        (["lock", "--service", "pl"], ["placement"]),
        (["lock", "--target", "tr"], ["trixie"]),
        (["diff", "oca"], ["ocata"]),
        (["repo", "ver"], ["verify"]),
    ],
)
def test_a_shell_completes(words, offered):
    assert complete(*words) == offered


def test_without_data_it_completes_nothing_and_says_nothing(tmp_path):
    assert complete("build", "2026", env={"BUILD_DEBS_DATA": str(tmp_path)}) == []


def test_overlays_are_completed_from_and_nothing_is_said_of_them(tmp_path):
    (tmp_path / "services").mkdir()
    shutil.copy(REPOSITORY / "projects/services/keystone.toml", tmp_path / "services")
    assert complete("build", "gaz", env={"BUILD_DEBS_OVERLAY": str(tmp_path)}) == ["gazpacho"]
