"""Directories of a cache: sealed with the checksums of their files, checked before use.

A cache is on disk for months and does not always return what was put in. A damaged directory
counts as absent, and its content is rebuilt. So does anything that is not what was put in: a
link, which may lead out of the cache, a fifo, a file in place of a directory.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder import log
from builder.files import (
    clear_way_for_directory,
    hash_file,
    hash_if_readable,
    make_directory_atomically,
    open_area,
    read_regular_file,
    write_atomically,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)")
# Directories this process has already checked, with size and mtime_ns of their files.
_sound: dict[Path, list[tuple[str, int, int]]] = {}
_told: set[Path] = set()


def seal(directory: Path) -> None:
    """Write the checksums of a directory's files next to them, in the format of sha256sum(1)."""
    rows = [f"{hash_file(p)}  {p.name}\n" for p in sorted(directory.iterdir())]
    (directory / SUMS).write_text("".join(rows), encoding="utf-8")


def is_sound(directory: Path, *, quiet: bool = False) -> bool:
    """Whether a sealed directory has all it was sealed with, bit by bit; warns if not.

    An additional file does not matter, unless it may be taken for one of them: another wheel.
    """
    try:
        linked = directory.is_symlink()
        text = "" if linked else read_regular_file(directory / SUMS, follow=False).decode()
    except FileNotFoundError:
        return False  # absent, or made by a version that did not seal
    except (OSError, UnicodeDecodeError):
        text = ""
    rows = [LINE.fullmatch(line) for line in text.splitlines()]
    wanted = {row[2]: row[1] for row in rows if row}
    stats = [_stat(directory, name) for name in (*wanted, *_list_strays(directory, wanted))]
    if _sound.get(directory) == stats:
        return True
    good = (
        bool(rows)
        and all(rows)
        and text.endswith("\n")
        and len(stats) == len(wanted)
        and all(hash_if_readable(directory / n, follow=False) == s for n, s in wanted.items())
    )
    if good:
        _sound[directory] = stats
    elif not quiet and directory not in _told:
        _told.add(directory)
        log.warning(f"{directory} in the cache is damaged: rebuilding it")
    return good


def _list_strays(directory: Path, wanted: Collection[str]) -> list[str]:
    """Return the files that the seal does not name, but that end like some that it does."""
    ends = {name.rpartition(".")[2] for name in wanted}
    try:
        names = os.listdir(directory)  # noqa: PTH208 - names alone
    except OSError:
        return []
    return [n for n in names if n not in wanted and n.rpartition(".")[2] in ends]


def _stat(directory: Path, name: str) -> tuple[str, int, int]:
    try:
        found = (directory / name).lstat()
    except OSError:
        return name, -1, -1
    if not stat.S_ISREG(found.st_mode):
        return name, -1, -1
    return name, found.st_size, found.st_mtime_ns


@contextmanager
def make_sealed(directory: Path) -> Iterator[Path]:
    """Yield a new directory that is sealed and becomes `directory` when the block succeeds.

    An existing one that is damaged is removed.
    """
    clear_way_for_directory(directory.parent)
    with make_directory_atomically(directory) as new:
        yield new
        seal(new)
        if os.path.lexists(directory) and not is_sound(directory, quiet=True):
            discard(directory)


def make_room(place: Path) -> None:
    """Make the directory of a file in a cache; remove what no file can be renamed over."""
    clear_way_for_directory(place.parent.parent)
    if place.parent.is_symlink():
        place.parent.unlink(missing_ok=True)  # nothing is written out of the cache
    clear_way_for_directory(place.parent)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        discard(place)


def write(place: Path, data: bytes) -> None:
    """Write a file of a cache, whatever stands in its place."""
    make_room(place)
    write_atomically(place, data)


def discard(place: Path) -> None:
    """Remove a whole directory, or what stands for it, even if others do so at the same time."""
    with open_area(place.parent) as area:
        try:
            place.replace(area / "old")
        except FileNotFoundError:
            return
        if (area / "old").is_dir():  # rmtree would wait for a fifo; it goes with the area
            shutil.rmtree(area / "old", ignore_errors=True)
