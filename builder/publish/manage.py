"""Operator commands on a repository: list, remove, prune, verify."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import PublishError, UsageError, list_nearest
from builder.files import hash_file
from builder.publish.contents import read, read_date, read_release
from builder.publish.keys import check
from builder.publish.layout import Layout, list_layouts, name_by_hash
from builder.publish.locking import lock_directory
from builder.publish.pool import read_listed_files
from builder.publish.signer import Signer, is_signed_by
from builder.publish.state import load
from builder.publish.write import Change, report_disk_errors, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from builder.publish.contents import Contents, Entry, Stanza


@dataclass(frozen=True, slots=True)
class SuiteSummary:
    """A suite in one line: `date` as in Release, counts of listed versions, bytes in the pool."""

    name: str
    description: str
    date: str
    binaries: int
    sources: int
    size: int


def list_suites(repo: Path) -> tuple[SuiteSummary, ...]:
    """Return every suite of the repository, by name."""
    summaries = []
    for layout in list_layouts(repo):
        state, release = load(layout), read_release(layout)
        if state is None or release is None:
            continue
        entries = (*state.binaries, *state.sources)
        size = sum({file.path: file.size for e in entries for file in e.files}.values())
        summaries.append(
            SuiteSummary(
                layout.suite,
                state.fields.get("Description", ""),
                release["Date"],
                len(state.binaries),
                len(state.sources),
                size,
            )
        )
    return tuple(summaries)


def list_packages(repo: Path, suite: str) -> tuple[Entry, ...]:
    """Return the suite's binary, then source packages, by name, oldest version first."""
    state = load(_find_layout(repo, suite))
    return (*state.binaries, *state.sources) if state else ()


def remove(
    repo: Path,
    suite: str,
    package: str,
    version: str = "",
    *,
    signer: Signer,
    epoch_seconds: int | None = None,
    wait: float = 600.0,
) -> tuple[str, ...]:
    """Take a package (one `version`, default all) out of a suite; return the files deleted.

    Naming a source package removes its binary packages too. A source package with no binary
    package left in the suite is also removed. A file another suite lists is kept.
    """

    def choose(contents: Contents) -> tuple[Sequence[Stanza], Sequence[Stanza]]:
        binaries = [s for s in contents.binaries if not _is_named(s.entry, package, version)]
        sources = [s for s in contents.sources if not _is_named(s.entry, package, version)]
        stanzas = (*contents.binaries, *contents.sources)
        if len(binaries) + len(sources) == len(stanzas):
            raise UsageError(
                f"no {package!r}{version and ' '}{version} in {suite}",
                hint=f"nearest: {list_nearest(package, {s.entry.package for s in stanzas})}",
            )
        return binaries, sources

    return _shrink(repo, suite, choose, signer=signer, epoch_seconds=epoch_seconds, wait=wait)


def _is_named(entry: Entry, package: str, version: str) -> bool:
    by_name = entry.package == package and version in ("", entry.version)
    by_source = entry.source == package and version in ("", entry.source_version)
    return by_name or by_source


def prune(
    repo: Path,
    suite: str,
    keep: int,
    *,
    signer: Signer,
    epoch_seconds: int | None = None,
    wait: float = 600.0,
) -> tuple[str, ...]:
    """Keep the newest `keep` (at least 1) versions of each package; return the files deleted.

    Also deletes pool files that no suite lists, left by an interrupted run.
    """
    if keep < 1:
        raise UsageError(f"cannot keep {keep} versions", hint="1 keeps only the newest")

    def choose(contents: Contents) -> tuple[Sequence[Stanza], Sequence[Stanza]]:
        return _select_newest(contents.binaries, keep), contents.sources

    return _shrink(
        repo, suite, choose, signer=signer, epoch_seconds=epoch_seconds, wait=wait, sweep=True
    )


def _select_newest(stanzas: Sequence[Stanza], keep: int) -> list[Stanza]:
    """Return the last `keep` of each package (they are in order, oldest first)."""
    groups: dict[str, list[Stanza]] = {}
    for stanza in stanzas:
        groups.setdefault(stanza.entry.package, []).append(stanza)
    return [stanza for group in groups.values() for stanza in group[-keep:]]


def _shrink(
    repo: Path,
    suite: str,
    choose: Callable[[Contents], tuple[Sequence[Stanza], Sequence[Stanza]]],
    *,
    signer: Signer,
    epoch_seconds: int | None,
    wait: float,
    sweep: bool = False,
) -> tuple[str, ...]:
    layout = _find_layout(repo, suite)
    with lock_directory(repo, f"removing from {suite}", wait=wait), report_disk_errors(repo):
        before, were = read(layout), read_listed_files(repo)
        binaries, sources = choose(before)
        built_from = {(s.entry.source, s.entry.source_version) for s in binaries}
        sources = [s for s in sources if (s.entry.package, s.entry.version) in built_from]
        if (len(binaries), len(sources)) != (len(before.binaries), len(before.sources)):
            check(repo, suite, signer, new_key=False)
            with Change.begin(layout) as change:
                write(
                    change,
                    before.fields,
                    binaries,
                    sources,
                    signer=signer,
                    epoch_seconds=epoch_seconds,
                )
        # Files that the indices no longer name are deleted only once the new indices are visible.
        listed = read_listed_files(repo)
        there = {str(path.relative_to(repo)) for path in _find_pool_files(repo)}
        gone = sorted(there - set(listed) if sweep else there & (set(were) - set(listed)))
        for name in gone:
            (repo / name).unlink()
            _remove_empty(repo, (repo / name).parent)
    return tuple(gone)


def _remove_empty(repo: Path, directory: Path) -> None:
    while directory != repo / "pool" and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent


def verify(repo: Path) -> tuple[str, ...]:
    """Return what is wrong with the repository, one line each; empty if nothing is.

    Checks signatures (with the key at the top of the repository), every index under
    both its names, size and sha256 of every pool file, and files that no suite lists.
    """
    layouts = list_layouts(repo)
    if not layouts:
        raise PublishError(f"{repo} holds no published suite", hint="build-debs makes one")
    problems: list[str] = []
    files: dict[str, tuple[int, str]] = {}
    for layout in layouts:
        try:
            problems += _verify_suite(layout)
            contents = read(layout)
        except PublishError as error:
            problems.append(error.message)
            continue
        for stanza in (*contents.binaries, *contents.sources):
            files |= {file.path: (file.size, file.sha256) for file in stanza.entry.files}
    with ThreadPoolExecutor() as threads:
        checks = threads.map(lambda name: _verify_file(repo, name, *files[name]), sorted(files))
        problems += [problem for problem in checks if problem]
    there = {str(path.relative_to(repo)) for path in _find_pool_files(repo)}
    problems += [
        f"{name}: no suite lists it (prune deletes it)" for name in sorted(there - set(files))
    ]
    return tuple(problems)


def _verify_suite(layout: Layout) -> Iterator[str]:
    where, key = f"dists/{layout.suite}", layout.repo / f"{layout.suite}.asc"
    # read first, which raises PublishError for what gpgv would wait for
    release_fields = read_release(layout) or {"SHA256": {}, "Date": ""}
    if not key.is_file():
        yield f"{key.name}: missing, the signatures of {layout.suite} cannot be checked"
    else:
        public, release = key.read_bytes(), layout.dists / "Release"
        if not is_signed_by(layout.inrelease, public):
            yield f"{where}/InRelease: no good signature by {key.name}"
        if not release.is_file() or not is_signed_by(release, public, layout.dists / "Release.gpg"):
            yield f"{where}/Release.gpg: no good signature by {key.name} on Release"
    date = read_date(release_fields)
    if date is None:
        yield (
            f"{where}/InRelease: its Date is not a date, {release_fields['Date']!r}: apt refuses "
            "it (the next build rewrites it)"
        )
    elif date > time.time():
        yield (
            f"{where}/InRelease: its Date is in the future, {release_fields['Date']}: apt refuses "
            "it until then (the next build rewrites it)"
        )
    for name, digest in release_fields["SHA256"].items():
        for path in (layout.dists / name, layout.dists / name_by_hash(name, digest)):
            if not path.is_file() or hash_file(path) != digest:
                yield f"{path.relative_to(layout.repo)}: not the file that InRelease names"


def _verify_file(repo: Path, name: str, size: int, sha256: str) -> str:
    path = repo / name
    if not path.is_file():
        return f"{name}: missing"
    if path.stat().st_size != size or hash_file(path) != sha256:
        return f"{name}: damaged, size or sha256 differ from the index"
    return ""


def _find_pool_files(repo: Path) -> Iterable[Path]:
    return (path for path in (repo / "pool").rglob("*") if path.is_file())


def _find_layout(repo: Path, suite: str) -> Layout:
    names = [layout.suite for layout in list_layouts(repo)]
    if suite not in names:
        hint = (
            f"suites: {list_nearest(suite, names)}" if names else "nothing is published there yet"
        )
        raise UsageError(f"no suite {suite} in {repo}", hint=hint)
    return Layout(repo, suite)
