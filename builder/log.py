"""Speak to a person: everything goes to stderr; stdout is for data.

On a terminal the step under way is one line, drawn again each second and cut to the terminal's
width; elsewhere (CI) a step is a whole line when it ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK_SECONDS = 1.0
CLEAR = "\r\033[K"
COLUMNS = 80  # of a terminal that does not say

_lock = threading.RLock()
_level = 1  # 0 quiet, 1 normal, 2 verbose


def set_level(level: int) -> None:
    """Choose how much is said: 0 errors and warnings, 1 steps, 2 each package."""
    global _level  # noqa: PLW0603 - the process has one stderr and one level
    _level = level


def _say(text: str) -> None:
    with _lock:
        write(f"{CLEAR if _terminal() else ''}{text}\n")


def write(text: str) -> None:
    """Write to stderr; where nobody reads that any more, it goes nowhere from then on."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


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
    """Progress of one long step: `advance` per item; it is drawn on a terminal only."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done, self.name = title, total, 0, ""
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been under way."""
        return time.monotonic() - self.start

    def advance(self, name: str) -> None:
        """Count one item as done."""
        with _lock:
            self.done += 1
            self.name = name
            _line.draw()
        detail(f"  {name}")

    def __str__(self) -> str:
        """Return what is drawn: the count, the seconds, and the item that was done last."""
        count = f" {self.done}/{self.total}" if self.total else ""
        return f"{self.title}{count} ({self.seconds:.0f} s) {self.name}".rstrip()


class _Line:
    """The last line of a terminal: the innermost step, while there is one."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.end = threading.Event()

    def push(self, step: Step) -> None:
        with _lock:
            self.steps.append(step)
            if len(self.steps) == 1:
                self.end = threading.Event()
                threading.Thread(target=self._tick, args=(self.end,), daemon=True).start()
            self.draw()

    def pop(self, step: Step) -> None:
        """Take a step off, and its line: what is said next, an error perhaps, begins a new one."""
        with _lock:
            self.steps.remove(step)
            if not self.steps:
                self.end.set()
            write(CLEAR)

    def draw(self) -> None:
        with _lock:
            if self.steps:
                write(f"{CLEAR}{str(self.steps[-1])[: _columns() - 1]}")

    def _tick(self, end: threading.Event) -> None:
        while not end.wait(TICK_SECONDS):
            self.draw()


_line = _Line()


def _terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _columns() -> int:
    """Return the width of the terminal; it may change at any time."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or COLUMNS
    except OSError:
        return COLUMNS


@contextmanager
def waiting(title: str, total: int = 0) -> Iterator[Step]:
    """Show on a terminal that something is under way, and say nothing of its end."""
    step = Step(title, total)
    if _level < 1 or not _terminal():
        yield step
        return
    _line.push(step)
    try:
        yield step
    finally:
        _line.pop(step)


@contextmanager
def step(title: str, total: int | None = None) -> Iterator[Step]:
    """Time a step and say its end: `title: N (S s)`; a step of no items says nothing."""
    if total == 0:
        yield Step(title, 0)
        return
    with waiting(title, total or 0) as progress:
        yield progress
    count = f": {progress.done}" if total else ""
    info(f"{title}{count} ({progress.seconds:.1f} s)")
