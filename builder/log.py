"""Speak to a person: everything goes to stderr; stdout is for data.

On a terminal a long step redraws one line; elsewhere (CI) it prints a line when it ends.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_level = 1  # 0 quiet, 1 normal, 2 verbose


def set_level(level: int) -> None:
    """Choose how much is said: 0 errors and warnings, 1 steps, 2 each package."""
    global _level  # noqa: PLW0603 - the process has one stderr and one level
    _level = level


def _say(text: str) -> None:
    with _lock:
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{clear}{text}\n")
        sys.stderr.flush()


def info(text: str) -> None:
    """Say one line about a step."""
    if _level >= 1:
        _say(text)


def detail(text: str) -> None:
    """Say one line about one package, with -v."""
    if _level >= 2:
        _say(text)


def warning(text: str) -> None:
    """Say what a person should look at, whatever the level."""
    _say(f"warning: {text}")


class Step:
    """Progress of one long step: `advance` per item; counts are drawn on a terminal only."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0

    def advance(self, name: str) -> None:
        """Count one item as done."""
        with _lock:
            self.done += 1
            if _level >= 1 and sys.stderr.isatty():
                sys.stderr.write(f"\r\033[K{self.title} {self.done}/{self.total} {name}")
                sys.stderr.flush()
        detail(f"  {name}")


@contextmanager
def step(title: str, total: int | None = None) -> Iterator[Step]:
    """Time a step and say its end: `title: N (S s)`; a step of no items says nothing."""
    start, progress = time.monotonic(), Step(title, total or 0)
    yield progress
    if total == 0:
        return
    count = f": {progress.done}" if total else ""
    info(f"{title}{count} ({time.monotonic() - start:.1f} s)")
