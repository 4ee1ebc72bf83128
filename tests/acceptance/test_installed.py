"""An installed copy of build-debs, as pip makes it, away from any checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Return a function that runs the installed command in a directory of its own."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", place, CHECKOUT], check=True)
    (wheel,) = place.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    subprocess.run([place / "venv/bin/python", *pip[1:], "install", wheel], check=True)
    here = place / "here"
    here.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BUILD_DEBS", "PYTHON"))}

    def run(*words, code=0):
        done = subprocess.run(
            [place / "venv/bin/build-debs", *words],
            cwd=here, env=clean, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout, done.stderr

    run.here = here
    return run


def test_it_makes_the_packages_a_checkout_makes(command, repository):
    """All inputs are the same: nothing is left to do of what the checkout's build published."""
    out, _ = command("2026.1", "--dry-run", "--repo", repository)
    rows = [row.split("\t") for row in out.splitlines()]
    assert len(rows) > 200
    assert [row for row in rows if row[0] != "keep"] == []


def test_it_builds_into_the_directory_it_is_called_in(command):
    _, err = command("repo", "verify", code=7)
    assert f"error: {command.here}/repo holds no published suite" in err


def files(directory):
    """Return the files below a directory, with their contents."""
    return {
        str(Path(parent, name).relative_to(directory)): Path(parent, name).read_bytes()
        for parent, _, names in os.walk(directory)
        for name in names
        if not name.endswith(".pyc")  # pip compiles what it installs
    }


def test_it_has_all_data_of_a_checkout(command):
    (data,) = command.here.parent.glob("venv/lib/*/site-packages/builder/data")
    for room in ("projects", "debian-templates"):
        assert files(data / room) == files(CHECKOUT / room)


def test_its_data_stay_as_they_are(command):
    for words in (("lock", "2026.1"), ("update-series", "https://example.org")):
        _, err = command(*words, code=2)
        assert "is part of an installed copy" in err
        assert "BUILD_DEBS_DATA" in err
