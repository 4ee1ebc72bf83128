"""Archives from others: what a wheel, an sdist or a release tarball may contain.

Each is checked before any of it is written. A problem is a BuildError, one line that names the
archive and, if there is one, the member.
"""

from __future__ import annotations

import bz2
import csv
import errno
import gzip
import lzma
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from builder.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

# The largest archives of the locks (numpy, nova) unpack to 70 MB and 6,000 members.
LARGEST = 1 << 30  # bytes, of all members together
MOST_MEMBERS = 100_000
# Zeros shrink to a thousandth, sources to a fifth; small archives may shrink more.
HIGHEST_RATIO = 100
SMALL = 64 << 20  # bytes
LARGEST_HEADER = 1 << 20  # bytes; tarfile reads a member's extended header in one piece
LARGEST_TEXT = 16 << 20  # bytes of one file that is read into memory: RECORD, pyproject.toml
LONGEST_NAME = 255  # bytes of a file's name, on any file system of Debian's (NAME_MAX)
LONGEST_PATH = 1024  # bytes; it is put below other directories, up to PATH_MAX, 4096
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ENCRYPTED = 0x1  # bit of a member's flags (APPNOTE.TXT 4.4.4)
# What the standard library raises for malformed data.
UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    csv.Error,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,  # NotImplementedError, RecursionError
)
# Errors of the operating system that the archive causes, not the machine.
OF_THE_ARCHIVE = {
    None,
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ELOOP, errno.EILSEQ, errno.ENOENT, errno.EPERM, errno.ENOTEMPTY),
}


def escape(text: object) -> str:
    """Return a text for a message: one line, printable, of bounded length."""
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return line if len(line) <= 200 else f"{line[:200]}…"


def quote(name: str) -> str:
    """Return a member's name for a message."""
    return repr(name if len(name) <= 120 else f"{name[:120]}…")


@contextmanager
def report_damage(path: Path, kind: str) -> Iterator[None]:
    """Turn errors from a damaged archive in the block into BuildError: `not a usable <kind>`."""
    try:
        yield
    except UNREADABLE as error:
        raise _unusable_error(path, kind, error) from error
    except OSError as error:
        if error.errno not in OF_THE_ARCHIVE:
            raise
        raise _unusable_error(path, kind, error) from error


def _unusable_error(path: Path, kind: str, error: Exception) -> BuildError:
    # KeyError's text is a repr
    text = error.args[0] if isinstance(error, LookupError) and error.args else error
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return BuildError(f"{path.name}: not a usable {kind}: {escape(text) or type(error).__name__}")


def check_name(path: Path, name: str) -> None:
    """Raise BuildError for a member that would be elsewhere, or has a name no file should have."""
    if name.startswith("/") or ".." in name.split("/"):
        raise BuildError(
            f"{path.name}: the member {quote(name)} is outside the archive's own directory",
            hint="do not use this file; fetch the release again from another source",
        )
    if name.isascii() and len(name) <= LONGEST_NAME and name.isprintable():
        return  # as nearly all are
    raw = name.encode("utf-8", "surrogateescape")
    if len(raw) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in raw.split(b"/")):
        raise BuildError(
            f"{path.name}: the member {quote(name)} has a name of {len(raw)} bytes",
            hint=f"the limit is {LONGEST_NAME} bytes for a file's name, {LONGEST_PATH} for a path",
        )
    if any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in name):
        raise BuildError(f"{path.name}: the member {quote(name)} contains control characters")


class Tally:
    """Counts the members of an archive; raises BuildError if it exceeds the limits."""

    def __init__(self, path: Path) -> None:
        self.path, self.members, self.bytes = path, 0, 0
        self.packed = path.stat().st_size

    def add(self, name: str, size: int) -> None:
        """Count a member of `size` bytes."""
        self.members, self.bytes = self.members + 1, self.bytes + size
        if size < 0:
            raise ValueError(f"the member {quote(name)} has a negative size")
        where = f"{self.path.name}: at the member {quote(name)}"
        if self.members > MOST_MEMBERS:
            raise BuildError(f"{where} it has more than {MOST_MEMBERS} members")
        if self.bytes > LARGEST:
            raise BuildError(f"{where} it unpacks to more than {LARGEST >> 20} MiB")
        if self.bytes > SMALL and self.bytes > HIGHEST_RATIO * self.packed:
            raise BuildError(
                f"{where} it unpacks to more than {HIGHEST_RATIO} times its size, as no source does"
            )


@contextmanager
def open_zip(path: Path, kind: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for a block, all its members checked.

    Raises BuildError like `report_damage`.
    """
    with report_damage(path, kind), zipfile.ZipFile(path) as archive:
        tally = Tally(path)
        for member in archive.infolist():
            check_name(path, member.filename)
            if member.orig_filename != member.filename:  # zipfile cuts it off at a NUL
                check_name(path, member.orig_filename)
            tally.add(member.filename, member.file_size)
            if member.flag_bits & ENCRYPTED:
                raise BuildError(f"{path.name}: the member {quote(member.filename)} is encrypted")
            if member.compress_type not in COMPRESSIONS:
                raise BuildError(
                    f"{path.name}: the member {quote(member.filename)} is compressed by method "
                    f"{member.compress_type}, which is not supported"
                )
        yield archive


def check_files(path: Path, names: Collection[str]) -> None:
    """Raise BuildError if two members are the same file, or one is a parent of another."""
    for name, count in Counter(names).items():
        if count > 1:
            raise BuildError(f"{path.name}: the member {quote(name)} occurs {count} times")
    check_parents(path, names, set(names))


def check_parents(path: Path, names: Collection[str], files: Collection[str]) -> None:
    """Raise BuildError for a member that is below one of `files`."""
    parents = {parent for name in names if (parent := name.rpartition("/")[0])}
    for parent in sorted(parents):
        for above in (parent, *map(str, PurePosixPath(parent).parents)):
            if above in files:
                raise BuildError(
                    f"{path.name}: the member {quote(above)} is a file but has others below it"
                )


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the content of a member; ValueError if it is too large to read into memory."""
    member = archive.getinfo(name)
    if member.file_size > LARGEST_TEXT:
        raise ValueError(f"the member {quote(name)} has {member.file_size >> 20} MiB")
    return archive.read(member)


class _Guarded:
    """A stream that refuses large reads.

    tarfile reads a whole extended header, of the size the archive declares, into memory.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()


@contextmanager
def open_tar(path: Path, kind: str) -> Iterator[tuple[tarfile.TarFile, list[tarfile.TarInfo]]]:
    """Open a tar archive for a block, with its members; raises BuildError like `report_damage`.

    Names, sizes and the number of members are checked; link targets are not.
    """
    with (
        report_damage(path, kind),
        path.open("rb") as raw,
        _decompress(raw) as stream,
        tarfile.open(fileobj=cast("IO[bytes]", _Guarded(stream)), mode="r:") as archive,
    ):
        tally, members = Tally(path), []
        for member in archive:
            check_name(path, member.name)
            tally.add(member.name, member.size)
            members.append(member)
        _check_end(path, stream)
        yield archive, members


def _check_end(path: Path, stream: IO[bytes]) -> None:
    """Raise BuildError unless the compressed data ends with the file: GNU tar refuses the rest.

    Zeros may follow, as from a tape.
    """
    left = LARGEST
    try:
        while chunk := stream.read(LARGEST_HEADER):
            left -= len(chunk)
            if left < 0:
                raise BuildError(f"{path.name}: more than {LARGEST >> 20} MiB follow its members")
    except gzip.BadGzipFile as error:
        if "CRC" in str(error) or "length" in str(error):
            raise
        raise BuildError(
            f"{path.name}: something else follows the end of its compressed data",
            hint="it was damaged or changed on its way: fetch the release again",
        ) from error


def _decompress(raw: IO[bytes]) -> IO[bytes]:
    """Return the decompressed stream; the first bytes tell the format."""
    magic = raw.read(3)
    raw.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if magic == b"BZh":
        return cast("IO[bytes]", bz2.BZ2File(raw))
    if magic == b"\xfd7z":
        return cast("IO[bytes]", lzma.LZMAFile(raw))
    return raw
