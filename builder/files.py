"""Files written whole or not at all, and their checksums."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from builder import start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader

AREA = "build-debs-run-"
LOCK = ".lock"
DEVICES = ("/dev/", "/proc/")  # what is there is never replaced
# What this process made and removes when it ends.
_temporary: set[Path] = set()
NEW = ".build-debs-new-"


def open_regular_file(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a file for reading; raise OSError for anything else of that name.

    A fifo would be waited for, a device read without end. `follow` says whether a symbolic link
    may lead to the file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    handle = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular_file(path: Path, *, follow: bool = True) -> bytes:
    """Return the bytes of a file; raise OSError for anything else, see `open_regular_file`."""
    with open_regular_file(path, follow=follow) as stream:
        return stream.read()


def hash_file(path: Path, *, follow: bool = True) -> str:
    """Return the hex sha256 of a file; raise OSError for anything else of that name."""
    with open_regular_file(path, follow=follow) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_if_readable(path: Path, *, follow: bool = True) -> str:
    """Return the hex sha256 of a file, or nothing for what cannot be read as one."""
    try:
        return hash_file(path, follow=follow)
    except OSError:
        return ""


def hash_text(*texts: str) -> str:
    """Return the hex sha256 of texts, each terminated by a NUL."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def explain_unusable(text: str, *, file: bool = False) -> str:
    """Return why a path cannot be a directory, or with `file` a file; empty if it can.

    A missing path can be created in an existing directory. Nothing is created here.
    """
    if not text or "\0" in text:
        return "a path cannot contain NUL" if text else "expected a path, got nothing"
    if file and (text == "-" or text.startswith(DEVICES)):
        return ""
    path = Path(text).absolute()
    try:
        there = next(p for p in (path, *path.parents) if os.path.lexists(p))
        if there == path and file == there.is_dir():
            return f"{text!r} is {'a' if file else 'not a'} directory"
        if there != path and not there.is_dir():
            return f"{text!r}: {str(there)!r} is not a directory"
    except OSError as error:
        return f"{text!r}: {error.strerror}"
    return f"{text!r}: no permission" if file and not os.access(there, os.W_OK) else ""


def explain_unreadable(text: str, *, directory: bool = False) -> str:
    """Return why a path cannot be read as a file, or as a directory; empty if it can.

    A file may be a pipe (a shell's `<(...)`).
    """
    path = Path(text)
    try:
        if directory != stat.S_ISDIR(path.stat().st_mode):
            return f"{text!r} is {'not a' if directory else 'a'} directory"
    except OSError as error:
        return f"{text!r}: {error.strerror}"
    return "" if os.access(path, os.R_OK) else f"{text!r}: no permission"


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` under a temporary name in the same directory, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_new_file(path.parent) as (stream, name):
        stream.write(data)
        stream.flush()
        name.chmod(mode)
        name.replace(path)


def clear_way_for_directory(path: Path) -> None:
    """Remove what stands where a directory is to be; a link to one, to another disk, may stay."""
    if not path.is_dir():
        # another thread may have been first, and made it
        with suppress(FileNotFoundError, IsADirectoryError):
            path.unlink()


def clear_way_for_file(path: Path) -> None:
    """Remove what a file cannot be renamed over: a directory, or a file in place of its own."""
    clear_way_for_directory(path.parent)
    if path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)


def discard_unless_file(path: Path) -> None:
    """Remove what is not a file of that name: a directory, a fifo, a link, which may lead out."""
    clear_way_for_file(path)
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()


def find_first(places: Sequence[Path]) -> Path:
    """Return the first of the places that exists, or the last."""
    return next((place for place in places if place.exists()), places[-1])


@contextmanager
def open_new_file(directory: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Yield a file with a temporary name, which is removed unless the block renames it.

    It is locked (flock(2)) while this process has it open, see `sweep`.
    """
    handle, path = _lock_new_file(directory)
    _temporary.add(path)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream, path
    finally:
        path.unlink(missing_ok=True)
        _temporary.discard(path)


def _lock_new_file(directory: Path) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(dir=directory, prefix=NEW)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # it was swept before it had its lock


@contextmanager
def make_directory_atomically(path: Path) -> Iterator[Path]:
    """Yield a new directory that becomes `path` when the block succeeds.

    If another process has made `path` meanwhile, that one is kept: such names are checksums of
    everything that determines the content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_area(path.parent) as area:
        new = area / "new"
        new.mkdir()
        yield new
        try:
            new.replace(path)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise


def sweep(parent: Path) -> None:
    """Remove directories and files that killed runs have left in `parent`.

    Those of active runs are locked (`open_area`, `open_new_file`) and are kept.
    """
    for left in filter(_is_ours, parent.glob(f"{AREA}*")):
        with suppress(OSError), _lock_left(left / LOCK):
            _remove_area(left)
        # left by a run killed before it had a lock, or while removing it; a run about to lock
        # it makes another (`_lock_new_area`)
        with suppress(OSError):
            left.rmdir()
    for left in parent.glob(f"{NEW}*"):
        with suppress(OSError), _lock_left(left):
            left.unlink()


@contextmanager
def _lock_left(path: Path) -> Iterator[None]:
    """Lock what a run has left; raise OSError if it is an active run's.

    Nothing is waited for, as the writer of a fifo would be, and no link is followed.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _is_ours(path: Path) -> bool:
    """Whether this user made that directory: in /tmp others can make such a one, or a link."""
    with suppress(OSError):
        found = path.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False


@contextmanager
def open_area(parent: Path) -> Iterator[Path]:
    """Yield a directory below `parent` for the duration of a run; remove those of killed runs.

    A run locks its own (flock(2); the lock ends with the process that took it).
    """
    sweep(parent)
    area, lock = _lock_new_area(parent)
    _temporary.add(area)
    try:
        yield area
    finally:
        _remove_area(area)
        os.close(lock)
        _temporary.discard(area)


def _remove_area(area: Path) -> None:
    """Remove a run's area, its lock last: `sweep` uses it to recognise what a killed run left."""
    with suppress(OSError):
        for path in area.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
    shutil.rmtree(area, ignore_errors=True)


def _lock_new_area(parent: Path) -> tuple[Path, int]:
    while True:
        area = Path(tempfile.mkdtemp(dir=parent, prefix=AREA))
        try:
            lock = os.open(area / LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except FileNotFoundError:  # it was swept before it had its lock
            continue
        except OSError:
            shutil.rmtree(area, ignore_errors=True)
            raise
        if os.fstat(lock).st_nlink:
            return area, lock
        os.close(lock)  # as above, a moment later


def _remove_all(_code: int) -> None:
    """Remove all temporary files of this process, which is about to end."""
    for path in list(_temporary):
        with suppress(OSError):
            path.unlink() if path.is_file() else _remove_area(path)


start.at_end.append(_remove_all)


def open_scratch() -> AbstractContextManager[Path]:
    """Return a context with a directory for temporary files, like `open_area`."""
    return open_area(Path(tempfile.gettempdir()))
