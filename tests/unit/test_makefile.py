"""`make tools` on a fresh machine: what it has apt do, and what a person sees of it."""

import os
import shutil
import subprocess

import pytest
from wheelhouse import REPOSITORY

# apt asks nothing, whatever sudo hands on of the environment; what it says is kept short.
PROGRAMS = {
    "id": "echo $USER_ID",
    "sudo": 'exec env -i "PATH=$PATH" "SAID=$SAID" "$@"',
    "dpkg-query": 'case "$*" in *gnupg*) echo installed;; esac',
    "apt-get": 'echo "$DEBIAN_FRONTEND: $*" >>"$SAID"; [ "$1" = update ] || '
    'printf "%s x\\n" Unpacking "Setting up"',
    "python3": "mkdir -p .venv/bin; printf '#!/bin/sh\\n' >.venv/bin/pip; chmod +x .venv/bin/pip",
}


@pytest.mark.parametrize("user", [0, 1000])
def test_apt_asks_nothing_and_says_a_line_a_package(tmp_path, user):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    stubs, said = tmp_path / "stubs", tmp_path / "said"
    stubs.mkdir()
    for name, text in PROGRAMS.items():
        (stubs / name).write_text(f"#!/bin/sh\n{text}\n")
        (stubs / name).chmod(0o755)
    env = {"PATH": f"{stubs}:{os.environ['PATH']}", "SAID": str(said), "USER_ID": str(user)}
    argv = ["make", "tools", f"PYTHON={stubs}/python3"]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    first, *lines = done.stdout.splitlines()
    assert first.startswith("Debian packages: apt-utils ")
    assert "gnupg" not in first
    assert lines == ["  set up x", "build-debs itself, into .venv"]
    update, install = said.read_text().splitlines()
    assert update.endswith(": update -qq")
    assert install.startswith("noninteractive: install ")
    # The second time there is nothing to do.
    subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, check=True)
    assert len(said.read_text().splitlines()) == 2
