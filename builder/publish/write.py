"""Make a new state of a suite visible: everything is staged first, then renamed in order.

Until the last rename, that of InRelease, apt sees the state before: indices are fetched
by hash, and the files the old InRelease names are still there.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from builder.errors import PublishError
from builder.files import clear_way_for_file
from builder.publish.contents import parse_date, read_release, render
from builder.publish.layout import (
    SIGNED,
    SOURCE_INDEX,
    SUFFIXES,
    Layout,
    name_binary_index,
    name_by_hash,
)
from builder.publish.state import save

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.publish.contents import Stanza
    from builder.publish.signer import Signer

# Indices of the last publications, and those replaced less than this many seconds ago, can be
# fetched by hash: a client with an older InRelease, from a stale proxy or mirror, finds what it
# names.
GENERATIONS = 4
SECONDS_KEPT = 86400.0
# Bytes from which an index is packed six times faster by xz, and becomes a third larger.
LARGE = 2_000_000


class Change:
    """Staged files and the renames that make them visible, in order."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.staging = layout, layout.staging
        self._renames: list[tuple[Path, Path]] = []
        self._touched: list[Path] = []
        self._replaced: list[Path] = []

    @classmethod
    @contextmanager
    def begin(cls, layout: Layout) -> Iterator[Change]:
        """Yield a change with an empty staging directory, removed when the block ends.

        The caller holds the repository's lock, so an existing directory is a dead run's.
        """
        if layout.staging.is_dir() and not layout.staging.is_symlink():
            shutil.rmtree(layout.staging, ignore_errors=True)
        else:
            layout.staging.unlink(missing_ok=True)  # rmtree would wait for a fifo
        layout.staging.mkdir(parents=True)
        try:
            yield cls(layout)
        finally:
            shutil.rmtree(layout.staging, ignore_errors=True)

    def rename(self, staged: Path, target: Path) -> None:
        """Queue a rename."""
        self._renames.append((staged, target))

    def add_index(self, name: str, data: bytes) -> None:
        """Queue a file of the suite unless it is there with this content."""
        target = self.layout.dists / name
        if target.is_file() and target.stat().st_size == len(data) and target.read_bytes() == data:
            self._touched.append(target)
            return
        staged = self.staging / name.replace("/", "_")
        staged.write_bytes(data)
        self.rename(staged, target)

    def note_replaced(self, indices: Sequence[tuple[str, str]]) -> None:
        """Note the index files, name and digest, that are current until this is committed."""
        self._replaced = [self.layout.dists / name_by_hash(*index) for index in indices]

    def list_names(self) -> list[str]:
        """Return what will be renamed, relative to the repository."""
        return [str(target.relative_to(self.layout.repo)) for _, target in self._renames]

    def commit(self) -> None:
        """Rename everything, in the order it was queued."""
        # From now on, their age decides when `_expire` deletes files by hash.
        for target in (*self._touched, *self._replaced):
            if target.parent.name == "SHA256" and target.exists():
                os.utime(target)
        for staged, target in self._renames:
            make_public_directory(target.parent)
            clear_way_for_file(target)
            staged.chmod(0o644)
            staged.replace(target)


def make_public_directory(path: Path) -> None:
    """Make a directory and its parents, readable by a web server and by apt's own user."""
    new = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in new:
        directory.chmod(0o755)


def write(
    change: Change,
    fields: Mapping[str, str],
    binaries: Sequence[Stanza],
    sources: Sequence[Stanza],
    *,
    signer: Signer,
    epoch_seconds: int | None = None,
) -> list[str]:
    """Publish these stanzas and what `change` holds; return the files of dists/ rewritten.

    Date is `epoch_seconds` (default: now), but see `choose_date`.
    """
    layout = change.layout
    before = read_release(layout)
    date = choose_date(before, epoch_seconds)
    indices = {
        name_binary_index(fields["Architectures"]): render(binaries),
        SOURCE_INDEX: render(sources),
    }
    with ThreadPoolExecutor() as threads:
        packed = list(threads.map(_pack, indices.values()))
    files = {
        index + suffix: data
        for index, row in zip(indices, packed, strict=True)
        for suffix, data in zip(SUFFIXES, row, strict=True)
    }
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    for name, data in files.items():
        change.add_index(name_by_hash(name, digests[name]), data)
    for name, data in files.items():
        change.add_index(name, data)
    release = change.staging / "Release"
    release.write_text(render_release(fields, date, digests, files), encoding="utf-8")
    inrelease, _ = signer.sign(release)
    if before:
        change.note_replaced(list(before["SHA256"].items()))
    _make_later(inrelease, layout.inrelease)
    for name in SIGNED:
        change.rename(change.staging / name, layout.dists / name)
    rewritten = [name for name in change.list_names() if name.startswith("dists/")]
    change.commit()
    _expire(layout, digests)
    entries = [tuple(stanza.entry for stanza in stanzas) for stanzas in (binaries, sources)]
    save(layout, fields, date, signer.fingerprint, entries[0], entries[1])
    return rewritten


def choose_date(before: Mapping[str, Any] | None, epoch_seconds: int | None = None) -> float:
    """Return the Date for the Release that replaces `before`: `epoch_seconds`, or now.

    It is never before the Date it replaces, because apt ignores a Release older than the
    one it has, and never later than now, because apt refuses one from the future. A future
    Date left by a wrong clock is not carried over.
    """
    now = time.time()
    old = parse_date(before) if before else 0.0
    wanted = now if epoch_seconds is None else min(float(epoch_seconds), now)
    return wanted if old > now else max(old, wanted)


def render_release(
    fields: Mapping[str, str],
    date: float,
    digests: Mapping[str, str],
    files: Mapping[str, bytes],
) -> str:
    """Return the text of Release; `date` is in seconds since 1970, `files` the indices."""
    from debian import deb822  # noqa: PLC0415 - slow to import

    release: Any = deb822.Release({**fields, "Date": _format_date(date)})
    release["SHA256"] = [
        {"sha256": digests[name], "size": len(data), "name": name}
        for name, data in sorted(files.items())
    ]
    return str(release)


def _format_date(seconds: float) -> str:
    """Return a time in the format of Release: RFC 2822 with the zone named UTC."""
    return formatdate(seconds, usegmt=True).replace("GMT", "UTC")


def _pack(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the variants of an index in the order of SUFFIXES, without a time stamp."""
    preset = 6 if len(data) < LARGE else 1
    return data, gzip.compress(data, 9, mtime=0), lzma.compress(data, preset=preset)


def _make_later(new: Path, old: Path) -> None:
    """Give `new` an mtime in a later second than `old`: apt and HTTP compare whole seconds.

    Waits for that second, since a server may object to an mtime in the future.
    """
    seconds = time.time()
    if old.exists() and seconds - 1 < (last := int(old.stat().st_mtime)) <= seconds:
        time.sleep(last + 1 - seconds)
        seconds = max(time.time(), float(last + 1))
    os.utime(new, (seconds, seconds))


def _expire(layout: Layout, current: Mapping[str, str]) -> None:
    """Delete index files by hash that are both beyond the youngest generations and old.

    Their mtime is the time they were last current (`Change.note_replaced`).
    """
    keep, now = set(current.values()), time.time()
    for directory in layout.dists.glob("*/*/by-hash/SHA256"):
        # anything but a file is nobody's index, and not ours to delete
        old = [p for p in directory.iterdir() if p.name not in keep and p.is_file()]
        times = {p: p.stat().st_mtime for p in old}
        for path in [p for p, seconds in times.items() if seconds > now]:
            os.utime(path)  # from a wrong clock; it would be kept until that day
        files = sorted(times, key=lambda path: times[path], reverse=True)
        for path in files[(GENERATIONS - 1) * len(SUFFIXES) :]:
            if times[path] < now - SECONDS_KEPT:
                path.unlink()


@contextmanager
def report_disk_errors(repo: Path) -> Iterator[None]:
    """Turn file system errors into one line."""
    try:
        yield
    except OSError as error:
        where = error.filename or repo
        raise PublishError(
            f"{where}: {error.strerror or error}",
            hint="nothing half-written is visible: make room or fix permissions, then run again",
        ) from error
