"""Stage new packages, and work out their stanzas and their places in the pool."""

from __future__ import annotations

import dataclasses
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

from builder import log
from builder.errors import PublishError
from builder.files import hash_file
from builder.publish.contents import move_stanza, parse_packages, parse_sources
from builder.publish.layout import list_layouts, name_pool_directory
from builder.publish.state import load
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from builder.model.values import SourcePackage
    from builder.publish.contents import Entry, PoolFile, Stanza
    from builder.publish.layout import Layout

# apt checks SHA256; the other digests cost time and add nothing.
ONLY_SHA256 = tuple(
    word
    for digest in ("MD5", "SHA1", "SHA512")
    for word in ("-o", f"APT::FTPArchive::{digest}=false")
)


@dataclasses.dataclass(frozen=True, slots=True)
class Staged:
    """New stanzas, and which staged file becomes which file of the pool."""

    stanzas: tuple[Stanza, ...]
    moves: tuple[tuple[Path, Path], ...]


def split(
    repo: Path, paths: Sequence[Path], listed: Iterable[Entry], bad: Mapping[str, str]
) -> tuple[list[Path], list[str]]:
    """Split `paths` (.deb or .dsc) into new ones and the pool names of those already listed.

    A replacement for a pool file that is `bad` (path to missing or damaged) is new as well.
    Raises PublishError if a listed name has different bytes.
    """
    known = {file.name: (entry, file) for entry in listed for file in entry.files}
    candidates = [path for path in paths if path.name in known]
    with ThreadPoolExecutor() as threads:
        verdicts = threads.map(
            lambda path: _is_pooled(repo, path, *known[path.name], bad), candidates
        )
        same = {path for path, verdict in zip(candidates, verdicts, strict=True) if verdict}
    new = [path for path in paths if path not in same]
    return new, [known[path.name][1].path for path in candidates if path in same]


def _is_pooled(
    repo: Path, path: Path, entry: Entry, file: PoolFile, bad: Mapping[str, str]
) -> bool:
    """Whether `path` is in the pool already; False when the pool lost a file of its entry."""
    pooled = repo / file.path
    if any(other.path in bad for other in entry.files):
        if hash_file(path) != file.sha256:
            raise changed_error(file.path, path)
        return False
    ours, theirs = _stat(path), pooled.stat()
    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
        return True
    # A copy keeps the time stamp to the nanosecond, so this is the file copied then.
    if (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns):
        return True
    if ours.st_size != file.size or hash_file(path) != file.sha256:
        raise conflict_error(file.path, path)
    return True


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise PublishError(f"{path} does not exist", hint="build the package again") from None


def conflict_error(name: str, path: Path | str) -> PublishError:
    """Return the error for a published name whose bytes differ."""
    return PublishError(
        f"{name} is already published, with content other than that of {path}",
        hint="a published file never changes: build the package with a higher revision",
    )


def changed_error(name: str, path: Path) -> PublishError:
    """Return the error for a lost pool file that cannot be rebuilt bit for bit."""
    return PublishError(
        f"{name} is missing or damaged, and the rebuilt {path} differs from what is listed",
        hint="restore it from a copy of the repository; or remove that version from the suite "
        "(build-debs repo remove SUITE PACKAGE VERSION) and build again",
    )


def lost_files_error(layout: Layout, lost: Mapping[str, str]) -> PublishError:
    """Return the error for pool files that are lost (path to missing or damaged)."""
    return PublishError(
        f"{layout.repo}: {len(lost)} files of the pool are missing or damaged",
        details=[f"{path}: {what}" for path, what in sorted(lost.items())],
        hint="restore them from a copy of the repository; or remove these versions from the "
        f"suite: build-debs repo remove {layout.suite} PACKAGE VERSION",
    )


def stage_debs(repo: Path, staging: Path, debs: Sequence[Path], architecture: str) -> Staged:
    """Stage binary packages; `architecture` is the only one allowed besides `all`."""
    directory = staging / "debs"
    directory.mkdir()
    for number, deb in enumerate(debs):
        _bring(deb, directory / f"{number}.deb")
    stanzas, moves = [], Moves(repo)
    for stanza in parse_packages(_run_ftparchive("packages", directory, debs)):
        entry, staged = stanza.entry, stanza.entry.files[0].name
        given = debs[int(staged.removesuffix(".deb"))]
        if entry.architecture not in ("all", architecture):
            raise PublishError(
                f"{given} is for {entry.architecture}; the suite holds {architecture} and all"
            )
        version = entry.version.partition(":")[2] or entry.version
        name = f"{entry.package}_{version}_{entry.architecture}.deb"
        placed = move_stanza(stanza, name_pool_directory(entry.source), name)
        moves.add(directory / staged, placed.entry.files[0], given)
        stanzas.append(placed)
    return Staged(tuple(stanzas), moves.list_renames())


def stage_sources(repo: Path, staging: Path, sources: Sequence[SourcePackage]) -> Staged:
    """Stage source packages: each .dsc and the files it names."""
    top = staging / "sources"
    top.mkdir()
    for number, source in enumerate(sources):
        directory = top / str(number)
        directory.mkdir()
        for path in dict.fromkeys((source.dsc, *source.files)):
            _bring(path, directory / path.name)
    dscs = [source.dsc for source in sources]
    stanzas, moves = [], Moves(repo)
    for stanza in parse_sources(_run_ftparchive("sources", top, dscs)):
        directory = staging / stanza.entry.files[0].path.rpartition("/")[0]
        given = sources[int(directory.name)].dsc.parent
        placed = move_stanza(stanza, name_pool_directory(stanza.entry.package))
        for file in placed.entry.files:
            moves.add(directory / file.name, file, given / file.name)
        stanzas.append(placed)
    return Staged(tuple(stanzas), moves.list_renames())


class Moves:
    """Staged files and their places in the pool; a place never changes its content."""

    def __init__(self, repo: Path) -> None:
        self.repo = repo
        self._wanted: dict[str, tuple[Path, PoolFile]] = {}

    @cached_property
    def _listed(self) -> dict[str, str]:
        return read_listed_files(self.repo)

    def add(self, staged: Path, file: PoolFile, given: Path) -> None:
        """Queue `staged` to become `file`; `given` is the path the user knows."""
        other = self._wanted.get(file.path)
        if other and other[1].sha256 != file.sha256:
            raise conflict_error(file.path, given)
        pooled = self.repo / file.path
        if pooled.exists() and hash_file(pooled) == file.sha256:
            return
        listed = self._listed.get(file.path)
        if listed and listed != file.sha256:
            there = pooled.exists() and hash_file(pooled) == listed
            raise conflict_error(file.path, given) if there else changed_error(file.path, given)
        if listed:
            log.warning(f"{file.path} was missing or damaged: writing it again")
        elif pooled.exists():
            log.detail(f"replacing {file.path}, left by an interrupted run")
        self._wanted[file.path] = staged, file

    def list_renames(self) -> tuple[tuple[Path, Path], ...]:
        """Return the renames to do."""
        return tuple((staged, self.repo / path) for path, (staged, _) in self._wanted.items())


def read_listed_files(repo: Path) -> dict[str, str]:
    """Return the pool files, relative to the repository, that any suite lists: path to sha256."""
    states = (load(layout) for layout in list_layouts(repo))
    return {p: file.sha256 for state in states if state for p, file in state.files.items()}


def _bring(source: Path, target: Path) -> None:
    """Hard-link a file into the staging directory, or copy it with its time stamp."""
    _stat(source)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _run_ftparchive(what: str, directory: Path, given: Sequence[Path]) -> bytes:
    """Run apt-ftparchive once over a staged directory; paths are relative to its parent."""
    if not given:
        return b""
    argv = ["apt-ftparchive", *ONLY_SHA256, what, directory.name]
    done = run(argv, cwd=directory.parent, check=False)
    said = done.stderr.decode(errors="replace")
    for number, path in enumerate(given):  # it knows packages by their staged names
        said = said.replace(f"'{directory.name}/{number}.deb'", str(path))
    errors = [line for line in said.splitlines() if line.startswith("E:")]
    found = done.stdout.count(b"\nVersion: ")
    if done.returncode or errors or found != len(given):
        raise PublishError(
            f"apt-ftparchive read {found} of {len(given)} {what}",
            details=errors or [str(path) for path in given[:5]],
            hint="dpkg-deb --info or dscverify shows whether a file is damaged",
        )
    return done.stdout
