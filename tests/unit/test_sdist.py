"""Source distributions: what an archive may not do when it is unpacked, and what it asks for."""

import errno
import tarfile
import zipfile

import pytest
from wheelhouse import names, sdist, tarball

from builder import sdist as sdists
from builder.errors import BuildError

GOOD = {"ok-1.0/setup.py": "", "ok-1.0/pkg/__init__.py": "x = 1\n"}


def member(name, kind=tarfile.REGTYPE, target=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def zipped(path, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, "x")
    return path


def refused(path, into):
    """Return the error with which an archive is refused, nothing having been written outside."""
    outside = names(into.parent)
    with pytest.raises(BuildError) as raised:
        sdists.unpack(path, into)
    assert path.name in raised.value.message
    assert raised.value.exit_code == 6
    assert set(names(into.parent)) <= {*outside, into.name}
    return raised.value


def test_a_good_archive_gives_its_one_directory(tmp_path):
    link = member("ok-1.0/pkg/link.py", tarfile.SYMTYPE, "__init__.py")
    up = member("ok-1.0/pkg/up.py", tarfile.SYMTYPE, "../setup.py")
    hard = member("ok-1.0/hard.py", tarfile.LNKTYPE, "ok-1.0/pkg/__init__.py")
    path = tarball(tmp_path / "ok-1.0.tar.gz", GOOD, link, up, hard)
    top = sdists.unpack(path, tmp_path / "into")
    assert top.name == "ok-1.0"
    assert (top / "pkg/link.py").read_text() == "x = 1\n"
    assert (top / "hard.py").read_text() == "x = 1\n"


def test_a_zip_is_unpacked_too(tmp_path):
    path = zipped(tmp_path / "ok-1.0.zip", "ok-1.0/setup.py", "ok-1.0/PKG-INFO")
    assert names(sdists.unpack(path, tmp_path / "into")) == ["PKG-INFO", "setup.py"]


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("ok-1.0/../../outside"),
        member("/outside"),
        member("ok-1.0/link", tarfile.SYMTYPE, "../../outside"),
        member("ok-1.0/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("ok-1.0/link", tarfile.LNKTYPE, "/etc/passwd"),
        member("ok-1.0/link", tarfile.LNKTYPE, "../outside"),
        member("ok-1.0/null", tarfile.CHRTYPE),
        member("ok-1.0/disk", tarfile.BLKTYPE),
        member("ok-1.0/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda m: f"{m.name}-{m.linkname}",
)
def test_a_member_that_leads_out_is_refused_and_named(tmp_path, bad):
    path = tarball(tmp_path / "ok-1.0.tar.gz", GOOD, bad)
    error = refused(path, tmp_path / "into")
    assert repr(bad.name) in error.message or (bad.islnk() and repr(bad.linkname) in error.message)
    assert names(tmp_path / "into") == []


@pytest.mark.parametrize("bad", ["../outside", "/outside", "ok-1.0/../../outside"])
def test_a_member_of_a_zip_that_leads_out_is_refused_and_named(tmp_path, bad):
    path = zipped(tmp_path / "ok-1.0.zip", "ok-1.0/setup.py", bad)
    assert repr(bad) in refused(path, tmp_path / "into").message
    assert names(tmp_path / "into") == []


def test_a_member_behind_a_link_is_refused(tmp_path):
    # each alone stays inside; written one through the other they would not
    first = member("ok-1.0/a", tarfile.SYMTYPE, ".")
    second = member("ok-1.0/a/b", tarfile.SYMTYPE, "../..")
    path = tarball(tmp_path / "ok-1.0.tar.gz", GOOD, first, second, member("ok-1.0/b/outside"))
    refused(path, tmp_path / "into")
    assert not (tmp_path / "outside").exists()


def test_a_link_that_leads_out_through_another_is_refused(tmp_path):
    up = member("ok-1.0/p/q/up", tarfile.SYMTYPE, "../..")
    out = member("ok-1.0/out", tarfile.SYMTYPE, "p/q/up/../..")
    path = tarball(tmp_path / "ok-1.0.tar.gz", GOOD, up, out)
    assert "'ok-1.0/out' leads outside" in refused(path, tmp_path / "into").message


def test_links_in_a_circle_do_no_harm(tmp_path):
    one = member("ok-1.0/one", tarfile.SYMTYPE, "two")
    two = member("ok-1.0/two", tarfile.SYMTYPE, "one")
    path = tarball(tmp_path / "ok-1.0.tar.gz", GOOD, one, two)
    assert sdists.unpack(path, tmp_path / "into").name == "ok-1.0"


@pytest.mark.parametrize("tops", [{"a/x": "", "b/x": ""}, {"x": ""}, {}])
def test_an_archive_has_one_top_directory(tmp_path, tops):
    path = tarball(tmp_path / "ok-1.0.tar.gz", tops)
    message = refused(path, tmp_path / "into").message
    found = len({t for t in tops if "/" in t})
    assert f"expected one top directory (PEP 625), got {found}" in message


@pytest.mark.parametrize("length", [0, 5, 60, -60])
def test_a_truncated_archive_is_refused(tmp_path, length):
    rows = {f"ok-1.0/{n}": f"{n}\n" * 200 for n in range(50)}
    path = tarball(tmp_path / "ok-1.0.tar.gz", rows)
    path.write_bytes(path.read_bytes()[:length])
    assert "not a usable source distribution" in refused(path, tmp_path / "into").message


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "ok-1.0.tar.gz"
    path.write_text("<html>Sign in to the network</html>")
    refused(path, tmp_path / "into")
    path = tmp_path / "ok-1.0.zip"
    path.write_text("<html>Sign in to the network</html>")
    refused(path, tmp_path / "into")


def test_a_damaged_compression_is_refused(tmp_path):
    path = tarball(tmp_path / "ok-1.0.tar.gz", {"ok-1.0/f": "0123456789" * 5000})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    refused(path, tmp_path / "into")


def test_what_follows_the_compressed_data_is_refused_as_tar_does(tmp_path):
    path = tarball(tmp_path / "pkg-1.0.tar.gz", {"pkg-1.0/setup.py": ""})
    with path.open("ab") as stream:
        stream.write(bytes(512))
    sdists.unpack(path, tmp_path / "padded")
    with path.open("ab") as stream:
        stream.write(b"<html>")
    with pytest.raises(BuildError) as raised:
        sdists.unpack(path, tmp_path / "more")
    assert raised.value.message == (
        "pkg-1.0.tar.gz: something else follows the end of its compressed data"
    )
    assert list((tmp_path / "more").iterdir()) == []


def test_a_full_disk_is_not_taken_for_a_bad_archive(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tarball(tmp_path / "ok-1.0.tar.gz", GOOD)
    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    with pytest.raises(OSError, match="No space left"):
        sdists.unpack(path, tmp_path / "into")


PYPROJECT = '[build-system]\nrequires = ["pbr>=6", "setuptools"]\nbuild-backend = "pbr.build"\n'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"pyproject.toml": PYPROJECT}, ("pbr>=6", "setuptools")),
        ({"pyproject.toml": "[tool.black]\n"}, sdists.DEFAULT_BACKEND),
        ({"setup.py": ""}, sdists.DEFAULT_BACKEND),
        ({"deep/pyproject.toml": PYPROJECT}, sdists.DEFAULT_BACKEND),
    ],
)
def test_what_a_source_needs_to_be_built_is_read_without_running_it(tmp_path, files, expected):
    assert sdists.read_build_requires(sdist(tmp_path, "x", files=files)) == expected


def test_a_zip_tells_what_it_needs_too(tmp_path):
    path = tmp_path / "x-1.0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x-1.0/pyproject.toml", PYPROJECT)
    assert sdists.read_build_requires(path) == ("pbr>=6", "setuptools")


def test_a_pyproject_that_is_no_toml_is_one_error_that_names_the_archive(tmp_path):
    path = sdist(tmp_path, "x", files={"pyproject.toml": "[build-system\n"})
    with pytest.raises(BuildError, match=r"x-1\.0\.tar\.gz"):
        sdists.read_build_requires(path)


def test_a_truncated_archive_tells_nothing(tmp_path):
    path = sdist(tmp_path, "x", files={"pyproject.toml": PYPROJECT})
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BuildError, match=r"x-1\.0\.tar\.gz"):
        sdists.read_build_requires(path)
