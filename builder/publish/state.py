"""What a suite lists, in a form that loads in milliseconds.

The indices are the authority. The state is trusted only while the files it was written
for are untouched (size and mtime), and is derived again from the indices otherwise.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.files import (
    clear_way_for_file,
    hash_if_readable,
    read_regular_file,
    write_atomically,
)
from builder.publish.contents import Entry, PoolFile, read
from builder.publish.layout import SIGNED, SOURCE_INDEX, SUFFIXES, Layout, name_binary_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

FORMAT = 3
PARTS = ("stat", "pool")
Stamp = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class State:
    """A published suite: Release fields and Date, key, entries, and size and mtime_ns of files.

    `stat` covers the files of the suite's directory, `pool` those of the pool, as they were
    when last known to have the listed sha256. A derived state has neither.
    """

    fields: Mapping[str, str]
    date: float
    fingerprint: str
    binaries: tuple[Entry, ...]
    sources: tuple[Entry, ...]
    stat: Mapping[str, tuple[int, int]]
    pool: Mapping[str, tuple[int, int]]

    @property
    def listed(self) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        """The entries: binaries, sources."""
        return self.binaries, self.sources

    @property
    def files(self) -> dict[str, PoolFile]:
        """Every file of the pool that the suite lists, by path."""
        return {f.path: f for entry in (*self.binaries, *self.sources) for f in entry.files}

    def is_intact(self, layout: Layout) -> bool:
        """Whether every file of `dists/<suite>` is the one this state was written for."""
        return bool(self.stat) and all(
            _stat(layout.dists / name) == known for name, known in self.stat.items()
        )


def load(layout: Layout) -> State | None:
    """Return what the suite lists, or None if it was never published."""
    if known := _recall(layout):
        return known
    contents = read(layout)
    if not contents.fields:
        return None
    binaries = tuple(stanza.entry for stanza in contents.binaries)
    sources = tuple(stanza.entry for stanza in contents.sources)
    return State(contents.fields, contents.date, "", binaries, sources, {}, {})


def _recall(layout: Layout) -> State | None:
    """Return the recorded state; None if there is none, or one that does not fit the suite.

    It is only a record of what the indices say: whatever is wrong with it, they are read instead.
    """
    try:
        raw = json.loads(read_regular_file(layout.state))
        if raw["format"] != FORMAT:
            return None
        stat, pool = ({n: (size, mtime) for n, (size, mtime) in raw[k].items()} for k in PARTS)
        if stat["InRelease"] != _stat(layout.inrelease):
            return None
        binaries, sources = (tuple(map(_row_to_entry, raw[k])) for k in ("binaries", "sources"))
        fields, date, fingerprint = raw["fields"], raw["date"], raw["fingerprint"]
        _check_types([*fields, *fields.values(), fingerprint], str)
        _check_types([date], int, float)
        _check_types([n for row in (*stat.values(), *pool.values()) for n in row], int)
    # whatever else JSON may hold: a list has no items(), a number no length
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return State(fields, date, fingerprint, binaries, sources, stat, pool)


def _check_types(values: Iterable[object], *wanted: type) -> None:
    """Raise TypeError unless each value is of one of these types (a bool is no int here)."""
    if not {type(value) for value in values} <= set(wanted):
        raise TypeError


def save(  # noqa: PLR0917 - what a publication is
    layout: Layout,
    fields: Mapping[str, str],
    date: float,
    fingerprint: str,
    binaries: tuple[Entry, ...],
    sources: tuple[Entry, ...],
) -> None:
    """Record what was just published."""
    indices = (name_binary_index(fields["Architectures"]), SOURCE_INDEX)
    names = [index + suffix for index in indices for suffix in SUFFIXES]
    rows = {
        "format": FORMAT,
        "fields": dict(fields),
        "date": date,
        "fingerprint": fingerprint,
        "binaries": [_entry_to_row(entry) for entry in binaries],
        "sources": [_entry_to_row(entry) for entry in sources],
        "stat": {name: _stat(layout.dists / name) for name in (*names, *SIGNED)},
        "pool": {
            file.path: _stat(f"{layout.repo}/{file.path}")
            for entry in (*binaries, *sources)
            for file in entry.files
        },
    }
    clear_way_for_file(layout.state)
    write_atomically(layout.state, json.dumps(rows, separators=(",", ":")).encode())


def _entry_to_row(entry: Entry) -> list[Any]:
    *words, files = (getattr(entry, name) for name in Entry.__slots__)
    return [*words, [[file.path, file.size, file.sha256] for file in files]]


def _row_to_entry(row: list[Any]) -> Entry:
    package, version, architecture, source, source_version, inputs, files = row
    _check_types([*row[:-1], *(word for path, _, digest in files for word in (path, digest))], str)
    _check_types([size for _, size, _ in files], int)
    if not files:
        raise ValueError("an entry without files")
    return Entry(
        package,
        version,
        architecture,
        source,
        source_version,
        inputs,
        tuple(PoolFile(*file) for file in files),
    )


def find_unsound(layout: Layout, state: State) -> dict[str, str]:
    """Return the suite's pool files that differ from what it lists, each with what is wrong.

    A file with the size and mtime it had when it was published is assumed sound; any other
    is read in full.
    """
    files = state.files
    found = {path: _stat(f"{layout.repo}/{path}") for path in files}
    bad = {path: "missing" for path in files if found[path][0] < 0}
    doubtful = [p for p in files if p not in bad and state.pool.get(p) != found[p]]
    with ThreadPoolExecutor() as threads:
        sums = threads.map(lambda path: hash_if_readable(layout.repo / path), doubtful)
        pairs = zip(doubtful, sums, strict=True)
        bad |= {path: "damaged" for path, digest in pairs if digest != files[path].sha256}
    return bad


def read_stamp(layout: Layout) -> Stamp:
    """Return what changes with each publication of a suite."""
    return _stat(layout.inrelease), _stat(layout.state)


def _stat(path: Path | str) -> tuple[int, int]:
    """Return size and mtime in ns; of a pool of thousands, making each Path would take longest."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return -1, -1
    return found.st_size, found.st_mtime_ns
