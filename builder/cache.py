"""Directories of a cache: sealed with the checksums of their files, checked before use.

A cache is on disk for months and does not always return what was put in. A damaged directory
counts as absent, and its content is rebuilt.
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder import log
from builder.files import make_directory_atomically, open_area, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)")
# Directories this process has already checked, with size and mtime_ns of their files.
_sound: dict[Path, list[tuple[str, int, int]]] = {}
_told: set[Path] = set()


def seal(directory: Path) -> None:
    """Write the checksums of a directory's files next to them, in the format of sha256sum(1)."""
    rows = [f"{sha256_file(p)}  {p.name}\n" for p in sorted(directory.iterdir())]
    (directory / SUMS).write_text("".join(rows), encoding="utf-8")


def is_sound(directory: Path, *, quiet: bool = False) -> bool:
    """Whether a sealed directory has all it was sealed with, bit by bit; warns if not.

    Additional files do not matter.
    """
    try:
        text = (directory / SUMS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return False  # absent, or made by a version that did not seal
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
        log.warning(f"{directory} in the cache is damaged: rebuilding it")
    return good


def _stat(directory: Path, name: str) -> tuple[str, int, int]:
    try:
        found = (directory / name).stat()
    except OSError:
        return name, -1, -1
    return name, found.st_size, found.st_mtime_ns


@contextmanager
def sealed(directory: Path) -> Iterator[Path]:
    """Yield a new directory that is sealed and becomes `directory` when the block succeeds.

    An existing one that is damaged is removed.
    """
    with make_directory_atomically(directory) as new:
        yield new
        seal(new)
        if directory.exists() and not is_sound(directory, quiet=True):
            discard(directory)


def discard(directory: Path) -> None:
    """Remove a whole directory from a cache, even if others do so at the same time."""
    with open_area(directory.parent) as area:
        try:
            directory.replace(area / "old")
        except FileNotFoundError:
            return
        shutil.rmtree(area / "old", ignore_errors=True)
