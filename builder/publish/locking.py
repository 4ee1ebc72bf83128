"""One writer at a time per directory: flock on its `.lock`, which names the holder."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder import log
from builder.errors import BusyError, PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLL_SECONDS = 0.1
KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a fifo"),
    (stat.S_ISREG, "another name of a file"),
)

# What this process holds, so that a function that locks can be called under the lock.
# The thread and the process are in the key: neither a second thread nor a forked
# child holds what its parent took.
_held: set[tuple[str, int, int]] = set()


@contextmanager
def lock_directory(directory: Path, purpose: str, *, wait: float = 600.0) -> Iterator[None]:
    """Hold `directory` (made if missing) for `purpose`; re-entrant within a thread.

    Waits up to `wait` seconds for another holder, and logs once who it is.
    Raises BusyError after that; the kernel drops the lock of a killed process.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = _open_lock(directory / ".lock")
    except OSError as error:
        raise _unusable_error(directory, error) from error
    key = (str(directory.resolve()), os.getpid(), threading.get_ident())
    try:
        if key in _held:
            yield
            return
        _acquire(descriptor, directory, wait)
        _held.add(key)
        try:
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{purpose} (process {os.getpid()})\n".encode(), 0)
            yield
        finally:
            _held.discard(key)
    finally:
        os.close(descriptor)


def _unusable_error(directory: Path, error: OSError) -> PublishError:
    """Return the error for a directory that cannot be made, or not written to."""
    elsewhere = "choose another place (--repo, or XDG_DATA_HOME for the keys)"
    if isinstance(error, FileExistsError | NotADirectoryError):
        places = (directory, *directory.parents)
        file = next((p for p in places if os.path.lexists(p) and not p.is_dir()), directory)
        return PublishError(f"{file} is not a directory", hint=f"move it away, or {elsewhere}")
    return PublishError(
        f"{directory} cannot be written: {error.strerror}", hint=f"change that, or {elsewhere}"
    )


def _open_lock(path: Path) -> int:
    """Return a descriptor of a lock; never of what a link put there leads to, which is truncated.

    Raises PublishError if it is no file of its own, OSError if it cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise
        raise _not_a_lock_error(path, path.lstat()) from error
    found = os.fstat(descriptor)
    # A file with a second name may be anybody's.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise _not_a_lock_error(path, found)
    return descriptor


def _not_a_lock_error(path: Path, found: os.stat_result) -> PublishError:
    kind = next((what for is_one, what in KINDS if is_one(found.st_mode)), "a special file")
    return PublishError(
        f"{path} is not a regular file of its own, but {kind}",
        hint="nothing writes through it: find out who put it there, and remove it; the next run "
        "makes a new one",
    )


def _acquire(descriptor: int, directory: Path, wait: float) -> None:
    deadline, said = time.monotonic() + wait, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = (
                os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another build"
            )
            if time.monotonic() >= deadline:
                raise BusyError(
                    f"{directory} is in use: {holder}",
                    hint="wait for it to end and run again, or build into another --repo",
                ) from None
            if not said:
                log.info(f"waiting for {directory}: {holder}")
                said = True
            time.sleep(POLL_SECONDS)
        else:
            return
