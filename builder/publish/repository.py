"""Add packages to a suite, and list what is in it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from builder.files import write_atomically
from builder.publish.contents import read, sort_stanzas
from builder.publish.keys import check
from builder.publish.layout import COMPONENT, Layout
from builder.publish.locking import lock_directory
from builder.publish.pool import conflict_error, lost_files_error, split, stage_debs, stage_sources
from builder.publish.state import find_unsound, load, read_stamp
from builder.publish.write import Change, make_public_directory, report_disk_errors, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.model.values import SourcePackage
    from builder.publish.contents import Entry, Stanza
    from builder.publish.signer import Signer
    from builder.publish.state import Stamp

ORIGIN = "build-debs"


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite: a series (`2026.1`, title `Gazpacho`) for a Debian target (`bookworm`)."""

    target: str
    series: str
    title: str = ""
    architecture: str = "amd64"

    @property
    def name(self) -> str:
        """The directory below `dists/`, also the Suite and the Codename."""
        return f"{self.target}-{self.series}"


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication did.

    `added` and `kept` are pool files, relative to the repository; `rewritten` the other
    files. All but `kept` are empty when nothing changed.
    """

    added: tuple[str, ...]
    kept: tuple[str, ...]
    rewritten: tuple[str, ...]


def publish(
    repo: Path,
    suite: Suite,
    debs: Sequence[Path],
    sources: Sequence[SourcePackage],
    signer: Signer,
    *,
    missing: Sequence[str] = (),
    absent: Sequence[str] = (),
    epoch_seconds: int | None = None,
    description: str = "",
    new_key: bool = False,
    files: Mapping[str, bytes] = MappingProxyType({}),
    wait: float = 600.0,
) -> Published:
    """Add `debs`, and `sources` with their own debs, to `suite` in the directory `repo`.

    Everything the suite already lists remains listed. Release names what a partial build left
    out (`missing`) and what was not asked for (`absent`). Date is `epoch_seconds` (default:
    now), adjusted by `write.choose_date`.
    A suite is signed with the same key as before, unless it gets a `new_key`.
    A missing or damaged pool file of the suite is written again if it is given.
    `files` are further files for the top of the repository (name to content); the key
    is put there as `<suite>.asc`. Waits up to `wait` seconds for another writer.
    Raises PublishError (also for a lost pool file that is not given) or BusyError; the
    repository is then unchanged.
    """
    wanted = _Wanted(
        Layout(repo, suite.name),
        make_release_fields(suite, description, missing, absent),
        tuple(dict.fromkeys([*debs, *(deb for source in sources for deb in source.debs)])),
        tuple(sources),
        {f"{suite.name}.asc": signer.export_key(), **files},
        new_key,
    )
    with report_disk_errors(repo):
        # Planned without the lock first: a run that changes nothing neither waits nor writes.
        plan = _plan(wanted, signer)
        if not plan.changes:
            return Published((), plan.kept, ())
        make_public_directory(repo)
        with lock_directory(repo, f"publishing {suite.name}", wait=wait):
            if read_stamp(wanted.layout) != plan.stamp:  # another writer was first
                plan = _plan(wanted, signer)
            added: tuple[str, ...] = ()
            rewritten: list[str] = []
            if plan.suite_changes:
                added, rewritten = _add(wanted, plan, signer, epoch_seconds)
            else:
                for name in plan.top:
                    write_atomically(repo / name, wanted.top[name])
            return Published(added, plan.kept, (*rewritten, *plan.top))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a publication should contain."""

    layout: Layout
    fields: Mapping[str, str]
    debs: tuple[Path, ...]
    sources: tuple[SourcePackage, ...]
    top: Mapping[str, bytes]
    new_key: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """The parts of it not yet published; `kept` are the pool files that are.

    `listed` are the entries of the suite today: binaries, sources. `stamp` is that suite's.
    """

    debs: tuple[Path, ...]
    sources: tuple[SourcePackage, ...]
    kept: tuple[str, ...]
    listed: tuple[Sequence[Entry], Sequence[Entry]]
    suite_changes: bool
    top: tuple[str, ...]
    stamp: Stamp

    @property
    def changes(self) -> bool:
        return self.suite_changes or bool(self.top)


def _plan(wanted: _Wanted, signer: Signer) -> _Plan:
    layout, seen = wanted.layout, read_stamp(wanted.layout)
    state = load(layout)
    if state is None or state.fingerprint != signer.fingerprint:
        check(layout.repo, layout.suite, signer, new_key=wanted.new_key)
    bad = find_unsound(layout, state) if state else {}
    listed = state.listed if state else ((), ())
    debs, kept = split(layout.repo, wanted.debs, listed[0], bad)
    all_dscs = [source.dsc for source in wanted.sources]
    dscs, kept_dscs = split(layout.repo, all_dscs, listed[1], bad)
    given = {path.name for path in (*debs, *dscs)}
    given |= {path.name for s in wanted.sources if s.dsc in set(dscs) for path in s.files}
    if lost := {path: what for path, what in bad.items() if Path(path).name not in given}:
        raise lost_files_error(layout, lost)
    current = (
        state is not None
        and state.date <= time.time()
        and state.fields == wanted.fields
        and state.fingerprint == signer.fingerprint
        and state.is_intact(layout)
    )
    return _Plan(
        tuple(debs),
        tuple(source for source in wanted.sources if source.dsc in set(dscs)),
        (*kept, *kept_dscs),
        listed,
        bool(debs or dscs or not current),
        tuple(name for name, data in wanted.top.items() if _differs(layout.repo / name, data)),
        seen,
    )


def _differs(path: Path, data: bytes) -> bool:
    return not path.is_file() or path.read_bytes() != data


def _add(
    wanted: _Wanted, plan: _Plan, signer: Signer, epoch_seconds: int | None
) -> tuple[tuple[str, ...], list[str]]:
    layout, fields = wanted.layout, wanted.fields
    before = read(layout, plan.listed)
    with Change.begin(layout) as change:
        debs = stage_debs(layout.repo, change.staging, plan.debs, fields["Architectures"])
        sources = stage_sources(layout.repo, change.staging, plan.sources)
        for staged, target in (*debs.moves, *sources.moves):
            change.rename(staged, target)
        # The key comes before the suite, so that a visible suite can be verified even if the
        # run is killed.
        for name in plan.top:
            staged = change.staging / name
            staged.write_bytes(wanted.top[name])
            change.rename(staged, layout.repo / name)
        rewritten = write(
            change,
            fields,
            _merge(before.binaries, debs.stanzas),
            _merge(before.sources, sources.stanzas),
            signer=signer,
            epoch_seconds=epoch_seconds,
        )
    were = {f.path for s in (*before.binaries, *before.sources) for f in s.entry.files}
    files = {f.path for s in (*debs.stanzas, *sources.stanzas) for f in s.entry.files}
    return tuple(sorted(files - were)), rewritten


def _merge(old: Sequence[Stanza], new: Sequence[Stanza]) -> tuple[Stanza, ...]:
    """Return both, in order; a version in `old` keeps its stanza, which must match the new one."""
    merged = {stanza.entry.key: stanza for stanza in old}
    for stanza in new:
        there = merged.setdefault(stanza.entry.key, stanza)
        if there.entry.files != stanza.entry.files:
            raise conflict_error(there.entry.files[0].path, stanza.entry.files[0].path)
    return sort_stanzas(merged.values())


def make_release_fields(
    suite: Suite, description: str, missing: Sequence[str], absent: Sequence[str] = ()
) -> dict[str, str]:
    """Return the fields of Release that do not depend on the time or the contents."""
    label = f"OpenStack {suite.series}"
    text = description or f"{label} {suite.title}".rstrip() + f" for Debian {suite.target}"
    if missing:
        text += f"; incomplete, not built: {', '.join(sorted(missing))}"
    if absent:
        text += f"; without {', '.join(sorted(absent))}"
    return {
        "Origin": ORIGIN,
        "Label": label,
        "Suite": suite.name,
        "Codename": suite.name,
        "Architectures": suite.architecture,
        "Components": COMPONENT,
        "Description": text,
        "Acquire-By-Hash": "yes",
    }


def list_published(repo: Path, suite: Suite) -> dict[str, tuple[Entry, ...]]:
    """Return what the suite lists: binary package to its versions, oldest first."""
    with report_disk_errors(repo):
        state = load(Layout(repo, suite.name))
    return _group_by_package(state.binaries if state else ())


def list_published_sources(repo: Path, suite: Suite) -> dict[str, tuple[Entry, ...]]:
    """Return the suite's source packages: name to its versions, oldest first."""
    with report_disk_errors(repo):
        state = load(Layout(repo, suite.name))
    return _group_by_package(state.sources if state else ())


def find_lost(repo: Path, suite: Suite) -> tuple[Entry, ...]:
    """Return the suite's entries that have a file missing or damaged in the pool."""
    layout = Layout(repo, suite.name)
    with report_disk_errors(repo):
        state = load(layout)
        bad = find_unsound(layout, state) if state else {}
    entries = (*state.binaries, *state.sources) if state and bad else ()
    return tuple(e for e in entries if any(f.path in bad for f in e.files))


def _group_by_package(entries: Sequence[Entry]) -> dict[str, tuple[Entry, ...]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.package, []).append(entry)
    return {package: tuple(versions) for package, versions in found.items()}
