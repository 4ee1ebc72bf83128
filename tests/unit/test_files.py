"""Files and directories are whole or not there, whatever happens while they are written."""

import subprocess
import sys

import pytest
from wheelhouse import names

from builder import files


def test_a_file_is_written_with_its_parents_and_mode(tmp_path):
    path = tmp_path / "a/b/file"
    files.write_atomically(path, b"text", 0o600)
    assert path.read_bytes() == b"text"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_atomically(path, b"old")

    def full(_descriptor, _mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fdopen", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_directory_appears_when_its_block_ends_well(tmp_path):
    place = tmp_path / "cache/key"
    with files.make_directory_atomically(place) as new:
        (new / "wheel").write_text("x")
        assert not place.exists()
    assert (place / "wheel").read_text() == "x"
    assert names(place.parent) == ["key"]


def test_a_directory_whose_block_fails_is_not_there(tmp_path):
    place = tmp_path / "key"

    def interrupted():
        with files.make_directory_atomically(place) as new:
            (new / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_two_that_make_one_directory_both_end_well(tmp_path):
    place = tmp_path / "key"
    with files.make_directory_atomically(place) as first:
        (first / "wheel").write_text("same")
        with files.make_directory_atomically(place) as second:
            (second / "wheel").write_text("same")
    assert (place / "wheel").read_text() == "same"
    assert names(tmp_path) == ["key"]


def test_a_checksum_of_texts_knows_where_each_ends():
    assert files.hash_text("ab", "c") != files.hash_text("a", "bc")
    assert files.hash_text("a") != files.hash_text("a", "")


def test_the_area_of_a_run_is_gone_when_it_ends(tmp_path):
    with files.open_area(tmp_path) as area:
        (area / "tree").mkdir()
        assert names(tmp_path) == [area.name]
    assert names(tmp_path) == []


def test_the_area_of_a_killed_run_is_removed_by_the_next_and_a_live_one_s_is_not(tmp_path):
    code = (
        "import os, pathlib, sys; from builder.files import open_area\n"
        "with open_area(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert len(names(tmp_path)) == 1
    with files.open_area(tmp_path) as first, files.open_area(tmp_path) as second:
        assert names(tmp_path) == sorted([first.name, second.name])


@pytest.mark.parametrize("removed", range(1, 5))
def test_a_run_killed_as_it_removes_its_area_leaves_one_that_the_next_removes(tmp_path, removed):
    code = (
        "import os, pathlib, sys; from builder.files import open_area\n"
        "def killed(event, arguments):\n"
        "    global left\n"
        "    left -= event in {'os.remove', 'os.rmdir'}\n"
        "    if left == 0: os.kill(os.getpid(), 9)\n"
        "with open_area(pathlib.Path(sys.argv[1])) as area:\n"
        "    (area / 'tree').mkdir(); (area / 'tree' / 'file').touch()\n"
        "    left = int(sys.argv[2]); sys.addaudithook(killed)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path, str(removed)], check=False)
    assert len(names(tmp_path)) == 1
    files.sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_link_named_like_an_area_keeps_what_it_points_to(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / ".lock").touch()
    (other / "precious").touch()
    (tmp_path / f"{files.AREA}link").symlink_to(other)
    files.sweep(tmp_path)
    assert names(other) == [".lock", "precious"]
