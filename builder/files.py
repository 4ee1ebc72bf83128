"""Files written whole or not at all, and their checksums."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

AREA = "build-debs-run-"
SECONDS_WITHOUT_LOCK = 60


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(*texts: str) -> str:
    """Return the hex sha256 of texts, each one's end marked."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` under a temporary name in the same directory, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def directory_atomically(path: Path) -> Iterator[Path]:
    """Give a new directory beside `path` that becomes `path` when the block ends well.

    Where another process has made `path` meanwhile, that stays: the names of what is kept
    this way are checksums of all that decides it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
        new = Path(name) / "new"
        new.mkdir()
        yield new
        try:
            new.replace(path)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise


@contextmanager
def area_of_a_run(parent: Path) -> Iterator[Path]:
    """Give a directory below `parent` for the time of a run; remove those of runs that were killed.

    A run holds a lock on its own (flock(2), which ends with the last process of the run).
    """
    for left in parent.glob(f"{AREA}*"):
        with suppress(OSError), (left / ".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
        # one that was killed, or interrupted, before it had a lock
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > SECONDS_WITHOUT_LOCK:
                left.rmdir()
    with (
        tempfile.TemporaryDirectory(dir=parent, prefix=AREA) as name,
        (Path(name) / ".lock").open("wb") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


def scratch() -> AbstractContextManager[Path]:
    """Give a directory for temporary files, as `area_of_a_run` does."""
    return area_of_a_run(Path(tempfile.gettempdir()))
