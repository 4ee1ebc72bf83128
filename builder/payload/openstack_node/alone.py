"""One openstack-node at a time works on a node, and none beside what a killed one began.

A migration goes on when the openstack-node that began it is killed, and a second one beside it
would collide with it. So there are two locks (flock(2), which ends with the last process that
has the file open): one the command has for itself, one it shares with the commands it runs.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Callable, TextIO

from openstack_node import system

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = Path("/run")


@contextmanager
def alone(say: Callable[[str], None]) -> Iterator[None]:
    """Let nothing else work on this node for the block.

    Waits for what an interrupted run left; NodeError where another one works.
    """
    shared = RUN / "openstack-node.work.lock"
    with _open(RUN / "openstack-node.lock") as own, _open(shared) as work:
        if not _taken(own):
            raise system.NodeError("another openstack-node works on this node")
        if not _taken(work):
            say("waiting for what an interrupted openstack-node began:\n")
            say("".join(f"  {line}\n" for line in _holders(shared)))
            fcntl.flock(work, fcntl.LOCK_EX)
        system.SHARED.append(work.fileno())
        try:
            yield
        finally:
            system.SHARED.clear()


def _open(path: Path) -> TextIO:
    return path.open("a", encoding="utf-8")


def _taken(lock: TextIO) -> bool:
    """Take a lock if it is free."""
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _holders(path: Path) -> Iterator[str]:
    """Yield each process that has a file open, this one aside: its number, its command."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended
            opened = {fd.readlink() for fd in (process / "fd").iterdir()}
            if path in opened and process.name != str(os.getpid()):
                words = (process / "cmdline").read_text(encoding="utf-8", errors="replace")
                yield system.masked(f"{process.name} {words.replace(chr(0), ' ').strip()}")
