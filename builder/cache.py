"""Directories of a cache: sealed with the checksums of their files, checked before they are used.

A cache is a disk for months: what it gives back is not always what was put in. A directory
that is not sound counts as not there, and what was in it is made again.
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder import log
from builder.files import area_of_a_run, directory_atomically, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)")
# What this process has read whole already: a directory, and size and mtime_ns of its files.
_sound: dict[Path, list[tuple[str, int, int]]] = {}
_told: set[Path] = set()


def seal(directory: Path) -> None:
    """Write the checksums of a directory's files beside them, in the form of sha256sum(1)."""
    rows = [f"{sha256_file(p)}  {p.name}\n" for p in sorted(directory.iterdir())]
    (directory / SUMS).write_text("".join(rows), encoding="utf-8")


def is_sound(directory: Path, *, quiet: bool = False) -> bool:
    """Whether a sealed directory has all it was sealed with, bit by bit; says it when not.

    Files beside those it was sealed with do not count.
    """
    try:
        text = (directory / SUMS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return False  # it is not there, or is of a version that sealed none
    except (OSError, UnicodeDecodeError):
        text = ""
    rows = [LINE.fullmatch(line) for line in text.splitlines()]
    wanted = {row[2]: row[1] for row in rows if row}
    stats = [_stat(directory, name) for name in wanted]
    if _sound.get(directory) == stats:
        return True
    good = (
        bool(rows)
        and all(rows)
        and text.endswith("\n")
        and all(
            size >= 0 and sha256_file(directory / name) == wanted[name] for name, size, _ in stats
        )
    )
    if good:
        _sound[directory] = stats
    elif not quiet and directory not in _told:
        _told.add(directory)
        log.warning(f"{directory} in the cache is damaged: it is made again")
    return good


def _stat(directory: Path, name: str) -> tuple[str, int, int]:
    try:
        found = (directory / name).stat()
    except OSError:
        return name, -1, -1
    return name, found.st_size, found.st_mtime_ns


@contextmanager
def sealed(directory: Path) -> Iterator[Path]:
    """Give a new directory that is sealed, and becomes `directory`, when the block ends well.

    One that is there and not sound goes.
    """
    with directory_atomically(directory) as new:
        yield new
        seal(new)
        if directory.exists() and not is_sound(directory, quiet=True):
            discard(directory)


def discard(directory: Path) -> None:
    """Take a directory out of a cache, whole, whoever else does so at the same time."""
    with area_of_a_run(directory.parent) as area:
        try:
            directory.replace(area / "old")
        except FileNotFoundError:
            return
        shutil.rmtree(area / "old", ignore_errors=True)
