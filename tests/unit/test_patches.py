"""Patches: read in order, applied as dpkg-source does, and part of what decides a package."""

from dataclasses import replace

import pytest
from values import BOOKWORM
from wheelhouse import REPOSITORY, distribution, lock_of, names

from builder import patches
from builder.errors import BuildError, DataError
from builder.model.values import Patch
from builder.pipeline import planning
from builder.wheels import build as wheels

HEADER = """\
Description: Say two
 One was too few.
Origin: other
Forwarded: not-needed
Last-Update: 2026-01-01
---
"""
CHANGE = HEADER + "--- a/thing.py\n+++ b/thing.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
TWO = Patch("two.patch", "Say two", CHANGE)
THREE = Patch(
    "three.patch", "Say three", CHANGE.replace("x = 2", "x = 3").replace("x = 1", "x = 2")
)


@pytest.fixture
def room(tmp_path):
    """Return a function that writes projects/patches/zed/thing and reads all of it."""
    directory = tmp_path / "patches/zed/thing"
    directory.mkdir(parents=True)

    def read(**files):
        for name, content in files.items():
            file = directory / name.replace("_patch", ".patch")
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        return patches.load(tmp_path / "patches")

    return read


def test_a_series_is_read_in_its_order_with_comments(room):
    series = "# why\n\ntwo.patch  # first\nthree.patch\n"
    found = room(series=series, two_patch=TWO.text, three_patch=THREE.text)
    assert found == {"zed": {"thing": (TWO, replace(THREE, description="Say two"))}}


def test_no_directory_is_no_patches(tmp_path):
    assert patches.load(tmp_path / "patches") == {}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"two_patch": CHANGE}, "series: no such file"),
        ({"series": "two.patch\n"}, r"series: 'two.patch' is not a patch \(\*.patch\) of"),
        ({"series": "", "two_patch": CHANGE}, "series: does not list two.patch"),
        ({"series": "two.patch\n" * 2, "two_patch": CHANGE}, "'two.patch' is listed twice"),
        ({"series": "../two.patch\n", "two_patch": CHANGE}, "'../two.patch' is not a patch"),
        ({"series": "../../ocata/thing/two.patch\n"}, "two.patch' is not a patch"),
        ({"series": "../../zed/other/two.patch\n"}, "two.patch' is not a patch"),
        ({"series": "two.patch -p0\n", "two_patch": CHANGE}, "'two.patch -p0' is not a patch"),
        ({"series": "two.patch\n", "two_patch": "--- a/x\n"}, "has no Description"),
        ({"series": "two.patch\n", "two_patch": b"\xff"}, "not UTF-8"),
    ],
)
def test_a_series_that_does_not_fit_its_directory_is_named(room, files, message):
    with pytest.raises(DataError, match=message) as raised:
        room(**files)
    assert "patches/zed/thing" in raised.value.message


def test_a_patch_of_another_series_is_named_where_it_lies(room, tmp_path):
    other = tmp_path / "patches/ocata/thing"
    other.mkdir(parents=True)
    (other / "series").write_text("two.patch\n")
    (other / "two.patch").write_text(TWO.text)
    series = "../../ocata/thing/two.patch\nthree.patch\n"
    found = room(series=series, three_patch=THREE.text)
    assert found["zed"]["thing"] == (TWO, replace(THREE, description="Say two"))
    assert found["ocata"]["thing"] == (TWO,)


def test_a_file_where_a_directory_belongs_is_named(tmp_path):
    """As a checkout has for a link where the file system knows none."""
    (tmp_path / "zed").mkdir()
    (tmp_path / "zed/thing").write_text("../ocata/thing")
    with pytest.raises(DataError, match="zed/thing: only directories belong here"):
        patches.load(tmp_path)


def test_a_directory_has_the_canonical_name(tmp_path):
    (tmp_path / "zed/oslo.config").mkdir(parents=True)
    with pytest.raises(DataError, match="must be named oslo-config"):
        patches.load(tmp_path)


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "thing-1.0"
    directory.mkdir()
    (directory / "thing.py").write_text("x = 1\n")
    return directory


def test_patches_are_applied_in_order_and_leave_nothing_else(source, tmp_path):
    patches.apply(source, (TWO, THREE), tmp_path / "log")
    assert (source / "thing.py").read_text() == "x = 3\n"
    assert names(source) == ["thing.py"]
    assert "patching file thing.py" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("content", ["x = 0\n", "x = 2\n"], ids=["changed", "applied already"])
def test_a_patch_that_does_not_apply_is_named_with_its_source_and_log(source, tmp_path, content):
    (source / "thing.py").write_text(content)
    with pytest.raises(BuildError) as raised:
        patches.apply(source, (TWO,), tmp_path / "log")
    assert raised.value.message == "thing-1.0: the patch two.patch does not apply"
    assert raised.value.hint == f"log: {tmp_path / 'log'}"
    assert (source / "thing.py").read_text() == content


def test_context_that_differs_is_not_fuzzed_over(source, tmp_path):
    (source / "thing.py").write_text("a\nb\nc\nx = 1\nd\ne\nf\n")
    hunk = "@@ -1,7 +1,7 @@\n a\n b\n c\n-x = 1\n+x = 2\n d\n e\n G\n"
    text = HEADER + "--- a/thing.py\n+++ b/thing.py\n" + hunk
    with pytest.raises(BuildError, match="does not apply"):
        patches.apply(source, (Patch("fuzzy.patch", "", text),), tmp_path / "log")


def test_a_patch_may_make_and_remove_files_with_any_line_ends(source, tmp_path):
    text = HEADER + "--- a/thing.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x = 1\n"
    text += "--- /dev/null\n+++ b/new/file\n@@ -0,0 +1 @@\n+x = 4\r\n"
    patches.apply(source, (Patch("moves.patch", "", text),), tmp_path / "log")
    assert (source / "new/file").read_bytes() == b"x = 4\r\n"
    assert names(source) == ["new"]


def test_a_patch_decides_the_bits_of_its_wheel_and_of_no_other():
    row = distribution("thing")
    lock = lock_of(row)
    plain = wheels.hash_inputs(row, lock, BOOKWORM, None)
    keys = [
        wheels.hash_inputs(row, lock, BOOKWORM, None, p) for p in ((TWO,), (THREE,), (TWO, THREE))
    ]
    assert wheels.hash_inputs(row, lock, BOOKWORM, None, ()) == plain
    assert len({plain, *keys}) == 4


def test_what_is_patched_and_locked_as_a_wheel_stops_the_plan():
    lock = lock_of(distribution("thing"))
    with pytest.raises(DataError) as raised:
        planning.check_patched(lock, {"thing": (TWO,)})
    assert raised.value.message == (
        "thing has patches in 2026.1, but its lock has a wheel: thing-1.0-py3-none-any.whl"
    )


def test_patches_on_what_is_not_locked_are_mentioned(capsys):
    planning.check_patched(lock_of(), {"thing": (TWO,)})
    assert "patches for thing, which is not in its lock" in capsys.readouterr().err


COMMITTED = [
    (series, name, patch)
    for series, found in patches.load(REPOSITORY / "projects/patches").items()
    for name, rows in found.items()
    for patch in rows
]


@pytest.mark.parametrize("patch", [p for *_, p in COMMITTED], ids=lambda p: p.name)
def test_a_committed_patch_has_the_fields_of_dep_3(patch):
    header = patch.text.split("\n---\n")[0].splitlines()
    fields = [line.split(":")[0] for line in header if not line.startswith(" ")]
    assert fields == ["Description", "Origin", "Forwarded", "Last-Update"]
    # a line of a changelog has at most 80 characters, and an end of its own
    assert len(patch.description) <= 75
    assert not patch.description.endswith(".")
