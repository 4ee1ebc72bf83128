"""The same bits in every locale, zone and mask: what is read is bytes, and text is UTF-8."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cloud import BUILD_DEBS, founded
from wheelhouse import REPOSITORY, wheel

from builder import run

LATIN1 = "de_DE.ISO-8859-1"


@pytest.fixture(scope="module")
def locales(tmp_path_factory):
    """Make a locale of another encoding; return the directory it is found in (locale(7))."""
    place = tmp_path_factory.mktemp("locales")
    argv = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", place / LATIN1]
    subprocess.run(argv, check=True, capture_output=True)
    return place


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Found a cloud with a library whose summary, author and a file's name are French."""
    with founded(tmp_path_factory.mktemp("cloud")) as made:
        files = {
            "tinylib/__init__.py": "x = 3\n",
            "tinylib/modèle.txt": "été\n",
            "{info}/LICENSE": "Copyright 2020 Zoë\n",
        }
        metadata = {"summary": "La bibliothèque de l'été", "author": "Zoë Lefèvre"}
        made.index.add(wheel(made.area / "house", "tinylib", "1.3", files, **metadata))
        text = made.constraints.read_text().replace("tinylib===1.0", "tinylib===1.3")
        made.constraints.write_text(text)
        yield made


def pool(repo):
    return {p.name: p.read_bytes() for p in (repo / "pool").rglob("*") if p.is_file()}


def test_every_locale_gives_the_same_lock_and_the_same_packages(cloud, locales, tmp_path):
    lock = next((cloud.data / "projects").glob("locks")) / "x"
    made = []
    # the first is what all the others have to find nothing to do in
    for number, (name, mask, zone) in enumerate(
        [("C.UTF-8", 0o022, "UTC"), (LATIN1, 0o077, "Asia/Tokyo"), ("POSIX", 0o002, "America/Lima")]
    ):
        one = cloud.with_env(
            LC_ALL=name, LOCPATH=locales, TZ=zone, BUILD_DEBS_CACHE=tmp_path / f"cache{number}"
        )
        old = os.umask(mask)
        try:
            one.run("lock", "2099.1", "--constraints", cloud.constraints)
            repo = tmp_path / f"repo{number}"
            words = ("2099.1", "--url", "http://packages.example.org/", "--repo")
            one.run(*words, repo)
            out, _ = one.run(*words, tmp_path / "repo0", "--dry-run")
        finally:
            os.umask(old)
        assert {line.split("\t")[0] for line in out.splitlines()} == {"keep"}, (name, out)
        (lock,) = (cloud.data / "projects/locks").glob("2099.1-*.json")
        made.append((lock.read_bytes(), pool(repo)))
    (first, packages), *others = made
    assert "bibliothèque" in first.decode("utf-8")
    for text, other in others:
        assert text == first
        assert other.keys() == packages.keys()
        assert [n for n in packages if "-archive_" not in n and other[n] != packages[n]] == []
    (deb,) = (tmp_path / "repo0/pool").rglob("openstack-2099.1-tinylib_*.deb")
    fields = subprocess.run(["dpkg-deb", "-f", deb], check=True, capture_output=True).stdout
    assert "La bibliothèque de l'été" in fields.decode("utf-8")
    listed = subprocess.run(["dpkg-deb", "-c", deb], check=True, capture_output=True,
                            env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout  # fmt: skip
    assert b"mod\xc3\xa8le.txt" in listed or rb"mod\303\250le.txt" in listed


def test_a_name_that_is_no_utf_8_is_no_traceback(cloud, locales):
    argv = [BUILD_DEBS, "2099.1", "--tarballs", b"/nowhere/\xff\xe8"]
    for name in ("C.UTF-8", LATIN1, "C"):
        env = {**cloud.env, "LC_ALL": name, "LOCPATH": str(locales)}
        done = subprocess.run(argv, env=env, capture_output=True, check=False)
        assert done.returncode == 2, done.stderr
        assert b"Traceback" not in done.stderr


def test_python_starts_again_in_utf_8_where_the_locale_is_another(locales):
    code = (
        "from builder import run, files; import sys; run.restart_in_utf8(); "
        "print(sys.flags.utf8_mode)"
    )
    for name, mode in ((LATIN1, b"1"), ("C.UTF-8", b"0")):
        env = {"PATH": os.environ["PATH"], "LC_ALL": name, "LOCPATH": str(locales)}
        argv = [sys.executable, "-c", code]
        done = subprocess.run(argv, env=env, capture_output=True, check=True, cwd=REPOSITORY)
        assert done.stdout.strip() == mode
    assert run.make_environment()["LC_ALL"] == "C.UTF-8"


def texts_without_encoding(path):
    """Yield the lines on which a file is read or written as text in whatever the locale has."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        mode = [a.value for a in node.args if isinstance(a, ast.Constant)]
        mode += [k.value.value for k in node.keywords if k.arg == "mode"]
        text = not any(isinstance(m, str) and "b" in m for m in mode)
        opened = name == "open" and isinstance(node.func, ast.Name)
        # a Path's own: with no word, or with one that is a mode
        opened |= name == "open" and all(isinstance(m, str) and len(m) < 4 for m in mode)
        opened &= not any(isinstance(a, ast.Name | ast.Attribute) for a in node.args)
        # an archive is no text
        opened &= getattr(getattr(node.func, "value", None), "id", "") not in {"tarfile", "zipfile"}
        if name in {"read_text", "write_text"} or (opened and text and mode):
            yield f"{path.relative_to(REPOSITORY)}:{node.lineno}"


def test_no_text_is_read_or_written_in_the_locale_s_encoding():
    found = [
        line for path in sorted((REPOSITORY / "builder").rglob("*.py"))
        if path.name != "smoke.py" or path.parent.name != "payload"  # Python 2.7's open takes none
        for line in texts_without_encoding(path)
    ]  # fmt: skip
    assert found == []
    assert list(texts_without_encoding(Path(__file__))) != []  # it finds what there is
