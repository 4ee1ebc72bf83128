"""What a suite lists, in a form that loads in milliseconds.

The indices are the authority. The state is trusted only while the files it was written
for are untouched (size and mtime), and is derived again from the indices otherwise.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.files import write_atomically
from builder.publish.contents import Entry, PoolFile, read
from builder.publish.layout import SIGNED, SOURCE_INDEX, SUFFIXES, Layout, binary_index

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1


@dataclass(frozen=True, slots=True)
class State:
    """A published suite: Release fields, key, entries, and size and mtime_ns of its files."""

    fields: Mapping[str, str]
    fingerprint: str
    binaries: tuple[Entry, ...]
    sources: tuple[Entry, ...]
    stat: Mapping[str, tuple[int, int]]

    def intact(self, layout: Layout) -> bool:
        """Whether every file of `dists/<suite>` is the one this state was written for."""
        return bool(self.stat) and all(
            _stat(layout, name) == known for name, known in self.stat.items()
        )


def load(layout: Layout) -> State | None:
    """Return what the suite lists, None when it was never published."""
    try:
        raw = json.loads(layout.state.read_text())
    except (FileNotFoundError, ValueError):
        raw = {}
    if raw.get("format") == FORMAT:
        stat = {name: (size, mtime) for name, (size, mtime) in raw["stat"].items()}
        if stat["InRelease"] == _stat(layout, "InRelease"):
            binaries, sources = (tuple(map(_entry, raw[k])) for k in ("binaries", "sources"))
            return State(raw["fields"], raw["fingerprint"], binaries, sources, stat)
    contents = read(layout)
    if not contents.fields:
        return None
    binaries = tuple(stanza.entry for stanza in contents.binaries)
    sources = tuple(stanza.entry for stanza in contents.sources)
    return State(contents.fields, "", binaries, sources, {})


def save(
    layout: Layout,
    fields: Mapping[str, str],
    fingerprint: str,
    binaries: tuple[Entry, ...],
    sources: tuple[Entry, ...],
) -> None:
    """Record what was just published."""
    indices = (binary_index(fields["Architectures"]), SOURCE_INDEX)
    names = [index + suffix for index in indices for suffix in SUFFIXES]
    rows = {
        "format": FORMAT,
        "fields": dict(fields),
        "fingerprint": fingerprint,
        "binaries": [dataclasses.asdict(entry) for entry in binaries],
        "sources": [dataclasses.asdict(entry) for entry in sources],
        "stat": {name: _stat(layout, name) for name in (*names, *SIGNED)},
    }
    write_atomically(layout.state, json.dumps(rows, separators=(",", ":")).encode())


def _entry(row: dict[str, Any]) -> Entry:
    files = tuple(PoolFile(**file) for file in row["files"])
    return Entry(**{**row, "files": files})


def _stat(layout: Layout, name: str) -> tuple[int, int]:
    try:
        found = (layout.dists / name).stat()
    except FileNotFoundError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
