"""Wheels, sdists and release tarballs that are damaged, or made to do harm: one line for each.

What is wrong with an archive is a BuildError that names it; nothing is written outside, and
nothing without measure.
"""

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from values import BOOKWORM, GAZPACHO
from wheelhouse import TEMPLATES, distribution, metadata_text, ready, tarball, wheel, write_wheel

from builder import archives
from builder import sdist as sdists
from builder.debs import library, licences, tree
from builder.errors import BuildDebsError, BuildError

CONTEXT = library.Context(GAZPACHO, BOOKWORM, TEMPLATES, 0)
INFO = "odd-1.0.dist-info"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
GOOD = {
    f"{INFO}/METADATA": metadata_text("odd", "1.0"),
    f"{INFO}/WHEEL": WHEEL,
    f"{INFO}/entry_points.txt": "[console_scripts]\nodd = odd:main\n[odd.plugins]\nplain = odd\n",
    "odd-1.0.data/scripts/odd-old": "#!python\n",
    "odd.py": "def main():\n    pass\n",
}


def made(area, files=(), without=(), record=None):
    """Write a wheel of a few files, less some, whose RECORD is `record` where that is given."""
    rows = {k: v for k, v in {**GOOD, **dict(files)}.items() if k not in without}
    path = write_wheel(area / "odd-1.0-py3-none-any.whl", INFO, rows)
    if record is not None or f"{INFO}/RECORD" in without:
        with zipfile.ZipFile(path) as archive:
            rows = {n: archive.read(n) for n in archive.namelist()}
        del rows[f"{INFO}/RECORD"]
        if record is not None:
            rows[f"{INFO}/RECORD"] = record
        zipped(path, rows.items())
    return path


def zipped(path, rows):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in rows:
            archive.writestr(name, data)
    return path


def unpack(path, area):
    """Unpack a wheel as a build does, and read of it what a package says."""
    one = ready(distribution("odd", path=path), path)
    laid = tree.unpack(CONTEXT, one, area)
    licences.describe(area / CONTEXT.site[1:], one)
    return laid


def is_one_line(error):
    """Whether an error is a line a person can read, with the archive in it."""
    text = error.message
    objects = (" object at 0x", "Error(", "RecordEntry", "ZipInfo", "TarInfo")
    return text.isprintable() and len(text) < 500 and not any(o in text for o in objects)


def refused(path, area):
    with pytest.raises(BuildError) as raised:
        unpack(path, area / "tree")
    error = raised.value
    assert error.exit_code == 6
    assert error.message.startswith(f"{path.name}: ")
    assert is_one_line(error)
    return error.message


def test_a_good_wheel_is_laid_out(tmp_path):
    laid = unpack(made(tmp_path), tmp_path / "tree")
    assert {Path(f).name for f in laid.files} >= {"odd", "odd-old", "odd.py", "RECORD", "INSTALLER"}


MALFORMED = {
    "no colon": ("[console_scripts]\nx = tinylib\n", "'x = tinylib' of"),
    "no function": ("[console_scripts]\nx = tinylib:\n", "'x = tinylib:' of"),
    "no module": ("[gui_scripts]\nx = :main\n", "'x = :main' of"),
    "code for a module": ("[console_scripts]\nx = os;import evil:main\n", "of the form"),
    "code for a function": ("[console_scripts]\nx = os:main() or x\n", "of the form"),
    "a path for a name": ("[console_scripts]\n../../x = odd:main\n", "of the form"),
    "an absolute path": ("[console_scripts]\n/bin/sh = odd:main\n", "of the form"),
    "no name": ("[console_scripts]\n = odd:main\n", "line 2 of"),
    "no section": ("x = odd:main\n", "line 1 of"),
    "half a section": ("[console_scripts\nx = odd:main\n", "line 1 of"),
    "no equals sign": ("[odd.plugins]\nodd\n", "line 2 of"),
    "no text": (b"\xff\xfe\x00[", "codec can't decode"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_entry_points_are_named(tmp_path, case):
    text, said = MALFORMED[case]
    path = made(tmp_path, {f"{INFO}/entry_points.txt": text})
    message = refused(path, tmp_path)
    assert said in message
    assert f"{INFO}/entry_points.txt" in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n\n",
        "[console_scripts]\nodd=odd:main\n\n    [babel.extractors]\n    x = odd:y [extra]\n",
        "[console_scripts]\nodd = odd : main.run [extra]\n[gui_scripts]\nodd = odd:main\n",
        "[odd.plugins]\nname with blanks = odd\n100% = odd:f\n",
    ],
)
def test_entry_points_as_they_are_found_are_taken(tmp_path, text):
    unpack(made(tmp_path, {f"{INFO}/entry_points.txt": text}), tmp_path / "tree")


RECORDS = {
    "two fields": ("odd.py,\n", "2"),
    "a hash without its kind": ("odd.py,abc,3\n", "hash"),
    "a hash nobody knows": ("odd.py,rot13=abc,3\n", "rot13"),
    "a size that is no number": ("odd.py,,many\n", "size"),
    "no path": (",sha256=abc,3\n", "path"),
    "no text": (b"\xff\xfe,,\n", "codec can't decode"),
    "a field without an end": (f'"odd.py,{"x" * 200_000}', "field larger"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_malformed_record_is_named(tmp_path, case):
    record, said = RECORDS[case]
    message = refused(made(tmp_path, record=record), tmp_path)
    assert said in message
    assert f"{INFO}/RECORD" in message


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD"])
def test_what_a_wheel_lacks_is_named(tmp_path, name):
    path = made(tmp_path, without=[f"{INFO}/{name}"])
    assert refused(path, tmp_path).endswith(f"it has no {INFO}/{name}")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("METADATA", "", "METADATA has the name ''"),
        ("METADATA", metadata_text("even", "1.0"), "METADATA has the name 'even'"),
        ("METADATA", metadata_text("odd", "2.0"), "METADATA has the version '2.0'"),
        ("METADATA", "Name: odd\n", "METADATA has the version ''"),
        ("WHEEL", "", "Wheel-Version is None"),
        ("WHEEL", WHEEL.replace("1.0", "2.0"), "Wheel-Version is 2.0"),
        ("WHEEL", b"\x00\xff", "Wheel-Version is None"),
    ],
)
def test_what_a_wheel_says_of_itself_is_held_against_its_name(tmp_path, file, text, said):
    assert said in refused(made(tmp_path, {f"{INFO}/{file}": text}), tmp_path)


NAMES = {
    "too long": ("n" * 300, "300 bytes"),
    "too long in bytes": ("\N{SNOWMAN}" * 100 + ".py", "303 bytes"),
    "too deep": ("d/" * 600 + "x", "1201 bytes"),
    "a newline": ("odd\n.py", r"'odd\n.py' contains control characters"),
    "an escape": ("odd\x1b[2J.py", r"'odd\x1b[2J.py' contains control characters"),
    "a next line": ("odd\x85.py", "control characters"),
    "above": ("../odd.py", "is outside"),
    "absolute": ("/etc/odd.py", "is outside"),
    "a directory of a file": ("odd.py/x.py", "'odd.py' is a file"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_member_of_an_odd_name_is_named(tmp_path, case):
    name, said = NAMES[case]
    assert said in refused(made(tmp_path, {name: ""}), tmp_path)
    said = re.sub(r"\d+ bytes", "bytes", said.replace("'odd", "'odd/odd"))
    path = zipped(tmp_path / "odd-1.0.zip", [("odd/odd.py", ""), (f"odd/{name}", "")])
    if case != "absolute":  # below odd/ it is not
        assert said in re.sub(r"\d+ bytes", "bytes", sdist_refused(path))
    member = tarfile.TarInfo(f"odd/{name}")
    path = tarball(tmp_path / "odd-1.0.tar.gz", {"odd/odd.py": ""}, member)
    if case != "absolute":
        assert said in re.sub(r"\d+ bytes", "bytes", sdist_refused(path))


@pytest.mark.parametrize("name", ["./odd.py", "odd//x.py", "a/./x.py", "odd-1.0.data//x"])
def test_a_member_of_a_wheel_whose_name_is_not_plain_is_named(tmp_path, name):
    """It could be another member's file by another name."""
    assert f"the member {name!r} has an empty part" in refused(made(tmp_path, {name: ""}), tmp_path)


def sdist_refused(path):
    with tempfile.TemporaryDirectory() as area, pytest.raises(BuildError) as raised:
        sdists.unpack(path, Path(area) / "into")
    assert raised.value.message.startswith(f"{path.name}: ")
    assert is_one_line(raised.value)
    return raised.value.message


def test_a_name_that_a_nul_cuts_short_is_named(tmp_path):
    path = made(tmp_path, {"odd!.py": ""})
    path.write_bytes(path.read_bytes().replace(b"odd!.py", b"odd\0.py"))
    assert r"'odd\x00.py' contains control characters" in refused(path, tmp_path)


def test_an_encrypted_member_is_named(tmp_path):
    path = made(tmp_path)
    assert "'odd.py' is encrypted" in refused(flagged(path, 8, b"\x01\0"), tmp_path)


def test_a_compression_nobody_knows_is_named(tmp_path):
    path = flagged(made(tmp_path), 10, b"\x63\0")
    assert "'odd.py' is compressed by method 99" in refused(path, tmp_path)


def flagged(path, offset, value):
    """Write into the entry of odd.py of a zip's directory."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"odd.py") - 46 + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


def test_a_member_that_is_damaged_is_named(tmp_path):
    path = made(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"def main", b"def mean", 1))
    assert "the member 'odd.py': Bad CRC-32" in refused(path, tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_twice_in_a_wheel_is_named(tmp_path):
    path = made(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("odd.py", "other")
    assert "'odd.py' occurs 2 times" in refused(path, tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_member_of_another_kind_is_a_file(tmp_path, kind):
    """As pip has it: a zip's links and devices are nothing but files."""
    path = made(tmp_path)
    info = zipfile.ZipInfo("link.py")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    unpack(path, tmp_path / "tree")
    link = tmp_path / f"tree{CONTEXT.site}/link.py"
    assert link.is_file()
    assert not link.is_symlink()
    assert link.stat().st_mode & 0o777 == 0o644


# -- without measure


def test_a_wheel_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path):
    path = made(tmp_path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("odd/zeros", bytes(1 << 20))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"odd/zeros") - 46 + 24  # the size it has unpacked (APPNOTE.TXT 4.3.12)
    data[at : at + 4] = struct.pack("<I", 2_000_000_000)
    path.write_bytes(data)
    message = refused(path, tmp_path)
    assert "'odd/zeros'" in message
    assert "1024 MiB" in message
    assert not (tmp_path / "tree").exists()


def test_a_tarball_of_gigabytes_is_refused_at_its_header(tmp_path):
    entry = tarfile.TarInfo("odd/zeros")
    entry.size = 2_000_000_000
    path = tmp_path / "odd-1.0.tar.gz"
    path.write_bytes(gzip.compress(entry.tobuf()))
    assert "'odd/zeros' it unpacks to more than 1024 MiB" in sdist_refused(path)


def test_what_unpacks_to_a_hundred_times_its_size_is_refused(tmp_path):
    entry = tarfile.TarInfo("odd/zeros")
    entry.size = 100 << 20
    path = tmp_path / "odd-1.0.tar.gz"
    path.write_bytes(gzip.compress(entry.tobuf()))
    assert "more than 100 times its size" in sdist_refused(path)
    small = tarball(tmp_path / "x-1.0.tar.gz", {"odd/zeros": "\0" * (8 << 20)})
    assert sdists.unpack(small, tmp_path / "into").name == "odd"


def test_an_archive_of_too_many_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 10)
    files = {f"odd/{n}": "" for n in range(11)}
    assert "more than 10 members" in sdist_refused(tarball(tmp_path / "odd-1.0.tar.gz", files))
    assert "more than 10 members" in refused(made(tmp_path, files), tmp_path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_of_gigabytes_is_not_read_into_memory(tmp_path, kind):
    entry = tarfile.TarInfo("odd/x")
    entry.type, entry.size = kind, 2_000_000_000
    path = tmp_path / "odd-1.0.tar.gz"
    path.write_bytes(gzip.compress(entry.tobuf() + bytes(10240)))
    assert "a header of" in sdist_refused(path)


def test_a_record_of_gigabytes_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_TEXT", 1000)
    assert "RECORD" in refused(made(tmp_path, record="odd.py,,\n" * 200), tmp_path)


# -- links of a tarball


@pytest.mark.parametrize("target", ["odd/nothing", "odd/later", "odd/self", "odd", "odd/sub"])
def test_a_hard_link_to_nothing_is_named(tmp_path, target):
    entry = tarfile.TarInfo("odd/self")
    entry.type, entry.linkname = tarfile.LNKTYPE, target
    sub = tarfile.TarInfo("odd/sub")
    sub.type = tarfile.DIRTYPE
    path = tarball(
        tmp_path / "odd-1.0.tar.gz", {"odd/x": ""}, sub, entry, tarfile.TarInfo("odd/later")
    )
    message = sdist_refused(path)
    assert f"the hard link 'odd/self' is to {target!r}" in message


def test_a_pyproject_whose_requires_is_no_list_is_one_error(tmp_path):
    for text in (
        "[build-system]\nrequires = 1\n",
        "[build-system]\nrequires = [1]\n",
        "build-system = 3\n",
    ):
        path = tarball(tmp_path / "odd-1.0.tar.gz", {"odd/pyproject.toml": text})
        with pytest.raises(BuildError) as raised:
            sdists.read_build_requires(path)
        assert is_one_line(raised.value)


# -- whatever there may be

QUICK = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "cut", "drop", "double", "zero"]),
        st.integers(0, 255),
        st.integers(1, 40),
    ),
    min_size=1, max_size=3,
)  # fmt: skip


def changed(data, changes):
    """Return bytes that are damaged: at a place in parts of the whole, one way or another."""
    raw = bytearray(data)
    for place, how, byte, length in changes:
        at = int(place * len(raw))
        if how == "flip" and raw:
            raw[at] ^= byte or 1
        elif how == "cut":
            del raw[at:]
        elif how == "drop":
            del raw[at : at + length]
        elif how == "double":
            raw[at:at] = raw[at : at + length]
        elif how == "zero":
            raw[at : at + length] = bytes(min(length, len(raw) - at))
    return bytes(raw)


def survives(work, path):
    """Do `work` in a directory of its own: all is well or an error of ours, nothing outside."""
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        area = Path(name) / "deep"
        area.mkdir()
        error = None
        try:
            work(path, area / "into")
        except BuildDebsError as raised:
            error = raised
        assert error is None or (is_one_line(error) and path.name in error.message), error
        assert {p.name for p in Path(name).iterdir()} == {"deep"}
        assert {p.name for p in area.iterdir()} <= {"into"}


@QUICK
@given(changes=CHANGES, deflated=st.booleans())
def test_whatever_happens_to_a_wheel_is_a_line(tmp_path, changes, deflated):
    files = {"odd.py": "x = 1\n" * 50, "{data}/scripts/odd": "#!python\n"}
    path = wheel(tmp_path, "odd", "1.0", files, scripts={"odd": "odd:main"}, license="BSD")
    if deflated:
        with zipfile.ZipFile(path) as archive:
            rows = {n: archive.read(n) for n in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in rows.items():
                archive.writestr(name, data)
    path.write_bytes(changed(path.read_bytes(), changes))
    survives(unpack, path)


@QUICK
@given(changes=CHANGES, inside=st.booleans(), kind=st.sampled_from(["gz", "bz2", "xz", "zip"]))
def test_whatever_happens_to_an_sdist_is_a_line(tmp_path, changes, inside, kind):
    hard, soft = tarfile.TarInfo("odd-1.0/hard"), tarfile.TarInfo("odd-1.0/soft")
    hard.type, hard.linkname = tarfile.LNKTYPE, "odd-1.0/setup.py"
    soft.type, soft.linkname = tarfile.SYMTYPE, "setup.py"
    files = {"odd-1.0/setup.py": "x = 1\n" * 50, "odd-1.0/pyproject.toml": "[build-system]\n",
             f"odd-1.0/{'n' * 150}": ""}  # fmt: skip
    path = tmp_path / f"odd-1.0.{'zip' if kind == 'zip' else f'tar.{kind}'}"
    if kind == "zip":
        raw = zipped(path, files.items()).read_bytes()
    else:
        raw = gzip.decompress(tarball(path, files, hard, soft).read_bytes())
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zip": bytes}[kind]
    path.write_bytes(pack(changed(raw, changes)) if inside else changed(pack(raw), changes))
    survives(sdists.unpack, path)
    survives(lambda p, _: sdists.read_build_requires(p), path)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAME = st.one_of(
    TEXT.filter(bool),
    st.sampled_from([".", "..", "a/..", "./x", "a//b", "x/", "/", "\\", " ", "~"]),
)


@QUICK
@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(names=st.lists(NAME, max_size=4), points=TEXT, record=TEXT, metadata=TEXT, text=TEXT)
def test_whatever_a_wheel_holds_is_laid_out_or_a_line(
    tmp_path, *, names, points, record, metadata, text
):
    files = dict.fromkeys(names, text)
    files[f"{INFO}/entry_points.txt"] = f"[console_scripts]\n{points}\n"
    files[f"{INFO}/METADATA"] = metadata_text("odd", "1.0") + metadata
    survives(unpack, made(tmp_path, files, record=f"odd.py,,\n{record}\n"))
