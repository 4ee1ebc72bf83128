"""compile-modules, run for real: what the base package's trigger does on a node."""

import os
import subprocess
import sys
import time

import pytest
from wheelhouse import TEMPLATES, names

from builder.templates import render

TAG = f".{sys.implementation.cache_tag}.pyc"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("libexec") / "compile-modules"
    path.write_text(render(TEMPLATES, "base/compile-modules.j2", interpreter=sys.executable))
    path.chmod(0o755)
    return path


@pytest.fixture
def site(tmp_path):
    for name in ("pkg/__init__.py", "pkg/sub/deep.py", "top.py"):
        put(tmp_path, name)
    return tmp_path


def put(site, name, text="answer = 1\n"):
    """Lay a source down as dpkg does: its time of modification is an old one."""
    path = site / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1500000000, 1500000000))
    return path


def run(program, site, check=True):
    time.sleep(0.01)  # the kernel's clock for files ticks every few milliseconds
    return subprocess.run([program, site], check=check, capture_output=True, text=True)


def compiled(site):
    return sorted(str(p.relative_to(site)) for p in site.rglob("*.pyc"))


def imported(site, expression):
    argv = [sys.executable, "-B", "-c", f"import pkg, top; print({expression})"]
    done = subprocess.run(argv, cwd=site, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_every_module_is_compiled(program, site):
    run(program, site)
    assert compiled(site) == [
        f"__pycache__/top{TAG}",
        f"pkg/__pycache__/__init__{TAG}",
        f"pkg/sub/__pycache__/deep{TAG}",
    ]


def test_tests_are_not_compiled_wherever_they_are(program, site):
    put(site, "pkg/tests/unit/test_x.py")
    put(site, "pkg/sub/test/__init__.py")
    put(site, "tests/x.py")
    run(program, site)
    assert len(compiled(site)) == 3


def test_a_second_run_compiles_nothing(program, site):
    run(program, site)
    before = {p: p.stat().st_mtime_ns for p in site.rglob("*.pyc")}
    run(program, site)
    assert {p: p.stat().st_mtime_ns for p in site.rglob("*.pyc")} == before


def test_a_source_that_was_replaced_by_one_of_the_same_size_and_time_is_compiled_again(
    program, site
):
    run(program, site)
    assert imported(site, "top.answer") == "1"
    new = put(site, "new", "answer = 2\n")
    new.replace(site / "top.py")  # as dpkg puts a file in place
    # what Python itself looks at has not changed: it would run the old code
    assert imported(site, "top.answer") == "1"
    run(program, site)
    assert imported(site, "top.answer") == "2"


def test_byte_code_without_its_source_is_removed_and_its_empty_directory_too(program, site):
    put(site, "gone/only.py")
    put(site, "pkg/gone.py")
    run(program, site)
    (site / "gone/only.py").unlink()
    (site / "pkg/gone.py").unlink()
    run(program, site)
    assert names(site / "gone") == []
    assert names(site / "pkg/__pycache__") == [f"__init__{TAG}"]


def test_what_is_not_valid_python_is_passed_over(program, site):
    put(site, "pkg/template.py", "class {{ name }}:\n")
    put(site, "pkg/old.py", "print 'python 2'\n")
    (site / "pkg/latin.py").write_bytes(b"x = '\xf6'\n")
    (site / "pkg/null.py").write_bytes(b"x = 1\0\n")
    done = run(program, site)
    assert done.stderr == ""
    assert len(compiled(site)) == 3


def test_byte_code_is_readable_by_all_whatever_the_mask(program, site):
    subprocess.run(["sh", "-c", f"umask 022; exec {program} {site}"], check=True)
    assert all(p.stat().st_mode & 0o777 == 0o644 for p in site.rglob("*.pyc"))


def test_code_that_deserves_a_warning_says_nothing(program, site):
    put(site, "pkg/odd.py", "import re\nassert re.match('\\d', '1') is not 1\n")
    assert run(program, site).stderr == ""


def test_python_takes_the_byte_code_as_its_own(program, site):
    run(program, site)
    argv = [sys.executable, "-v", "-c", "import top"]
    done = subprocess.run(argv, cwd=site, check=True, capture_output=True, text=True)
    assert f"matches {site}/top.py" in done.stderr
    assert f"code object from '{site}/__pycache__/top{TAG}'" in done.stderr


def test_many_modules_are_compiled_side_by_side(program, site):
    for n in range(120):
        put(site, f"many/m{n}.py", f"x = {n}\n" * (n + 1))
    run(program, site)
    assert len(compiled(site)) == 123


@pytest.mark.parametrize("count", [1, 80])
def test_what_cannot_be_written_is_fatal_and_named(program, site, count):
    # a directory that even root cannot write into: a file is in its place
    put(site, "locked/__pycache__", "no directory")
    for n in range(count):
        put(site, f"locked/m{n}.py")
    done = run(program, site, check=False)
    assert done.returncode != 0
    assert "locked/__pycache__" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_is_fatal(program, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "small", small], check=True)
    try:
        put(small, "big.py", "".join(f"value_{n} = 'text {n}'\n" for n in range(900)))
        done = run(program, small, check=False)
        assert done.returncode != 0
        assert "No space left" in done.stderr
        # half a file would be taken for a whole one, and no import of it would work
        assert names(small / "__pycache__") == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_directory_that_is_not_there_is_no_error(program, tmp_path):
    assert run(program, tmp_path / "absent").returncode == 0
