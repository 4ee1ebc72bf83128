"""Let only one openstack-node work on a node, and none while a killed one's commands run.

A migration keeps running when the openstack-node that started it is killed, and a second one
would collide with it. So there are two locks (flock(2), released by the last process that has
the file open): one the command keeps for itself, one it shares with the commands it runs.
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
def work_alone(say: Callable[[str], None]) -> Iterator[None]:
    """Keep other runs from working on this node during the block.

    Waits for what an interrupted run left; NodeError if another one is working.
    """
    shared = RUN / "openstack-node.work.lock"
    with _open_lock(RUN / "openstack-node.lock") as own, _open_lock(shared) as work:
        if not _try_lock(own):
            raise system.NodeError("another openstack-node is working on this node")
        if not _try_lock(work):
            say("waiting for what an interrupted openstack-node started:\n")
            say("".join(f"  {line}\n" for line in _list_holders(shared)))
            fcntl.flock(work, fcntl.LOCK_EX)
        system.SHARED.append(work.fileno())
        try:
            yield
        finally:
            system.SHARED.clear()


def _open_lock(path: Path) -> TextIO:
    return path.open("a", encoding="utf-8")


def _try_lock(lock: TextIO) -> bool:
    """Take a lock if it is free."""
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _list_holders(path: Path) -> Iterator[str]:
    """Yield number and command of each other process that has a file open."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended
            opened = {fd.readlink() for fd in (process / "fd").iterdir()}
            if path in opened and process.name != str(os.getpid()):
                words = (process / "cmdline").read_text(encoding="utf-8", errors="replace")
                yield system.mask_passwords(f"{process.name} {words.replace(chr(0), ' ').strip()}")
