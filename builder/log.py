"""Messages for the user: all go to stderr; stdout is for data.

On a terminal, rich draws the running steps in the last lines; elsewhere, and if `CI` is set, a step
is one line when it ends.
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

    from rich.progress import Progress, TaskID

REFRESHES = 4  # a second

_lock = threading.RLock()
_level = 1  # 0 quiet, 1 normal, 2 verbose


def set_level(level: int) -> None:
    """Choose how much is printed: 0 errors and warnings, 1 steps, 2 each package."""
    global _level  # noqa: PLW0603 - the process has one stderr and one level
    _level = level


def _say(text: str) -> None:
    with _lock:
        if not _display.say(text):
            write(f"{text}\n")


def write(text: str) -> None:
    """Write to stderr; once its reader is gone, discard all further output."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def info(text: str) -> None:
    """Print one line about a step."""
    if _level >= 1:
        _say(text)


def detail(text: str) -> None:
    """Print one line about one package, with -v."""
    if _level >= 2:
        _say(text)


def warning(text: str) -> None:
    """Print a warning, whatever the level."""
    _say(f"warning: {text}")


class Step:
    """Progress of one long step: `advance` per item; drawn only on a terminal."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done, self.size, self.name = title, total, 0, 0, ""
        self.start = time.monotonic()
        self.task: TaskID | None = None

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self.start

    def advance(self, name: str, size: int = 0) -> None:
        """Count one item as done; `size` is in bytes, 0 where it does not matter."""
        with _lock:
            self.done += 1
            self.size += size
            self.name = name
            _display.draw(self)
        detail(f"  {name}")


class _Display:
    """The last lines of a terminal, one for each running step."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.end = threading.Event()

    def push(self, step: Step) -> None:
        with _lock:
            if self.progress is None:
                self.progress = _begin_progress()
                self.end = threading.Event()
                threading.Thread(target=self._tick, args=(self.end,), daemon=True).start()
            count = f"0/{step.total}" if step.total else ""
            whole = step.total or None
            step.task = self.progress.add_task(step.title, total=whole, count=count, facts="")
            self.progress.refresh()

    def pop(self, step: Step) -> None:
        """Remove a step and its line: the next message, perhaps an error, begins a new one."""
        with _lock:
            if self.progress is None or step.task is None:
                return
            self.progress.remove_task(step.task)
            if not self.progress.tasks:
                self.end.set()
                self.progress.stop()
                self.progress = None

    def draw(self, step: Step) -> None:
        if self.progress is not None and step.task is not None:
            size = f"{step.size / 1e6:.1f} MB " if step.size else ""
            count = f"{step.done}/{step.total}" if step.total else ""
            facts = f"{size}{step.name}"
            self.progress.update(step.task, completed=step.done, count=count, facts=facts)

    def _tick(self, end: threading.Event) -> None:
        """Redraw periodically; rich's own thread could cut into messages."""
        while not end.wait(1 / REFRESHES):
            with _lock:
                if self.progress is not None and not end.is_set():
                    self.progress.refresh()

    def say(self, text: str) -> bool:
        """Print a line above the display; return False if there is none."""
        if self.progress is None:
            return False
        plain = {"markup": False, "highlight": False, "emoji": False, "soft_wrap": True}
        self.progress.console.print(text, **plain)  # type: ignore[arg-type]
        return True


def _begin_progress() -> Progress:
    """Return rich's running display, which erases itself at the end."""
    # imported here: it takes as long as all of `--help`, and most runs have no terminal
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.table import Column  # noqa: PLC0415

    fixed, rest = Column(no_wrap=True), Column(no_wrap=True, overflow="ellipsis", ratio=1)
    progress = Progress(
        TextColumn("{task.description}", markup=False, table_column=fixed),
        BarColumn(bar_width=12, table_column=fixed),
        TextColumn("{task.fields[count]}", markup=False, table_column=fixed),
        TimeElapsedColumn(table_column=fixed),
        TextColumn("{task.fields[facts]}", markup=False, table_column=rest),
        console=Console(file=sys.stderr),
        expand=True,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    progress.start()
    return progress


_display = _Display()


def _has_terminal() -> bool:
    plain = os.environ.get("TERM") == "dumb" or os.environ.get("CI")
    return sys.stderr.isatty() and not plain


@contextmanager
def show_step(title: str, total: int = 0) -> Iterator[Step]:
    """Show a running step on a terminal, and print nothing at its end."""
    step = Step(title, total)
    if _level < 1 or not _has_terminal():
        yield step
        return
    _display.push(step)
    try:
        yield step
    finally:
        _display.pop(step)


@contextmanager
def step(title: str, total: int | None = None) -> Iterator[Step]:
    """Time a step and report its end: `title: N (S s)`; a step without items prints nothing."""
    if total == 0:
        yield Step(title, 0)
        return
    with show_step(title, total or 0) as progress:
        yield progress
    count = f": {progress.done}" if total else ""
    info(f"{title}{count} ({progress.seconds:.1f} s)")
