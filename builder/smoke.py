"""Smoke tests: what was built here is tried in its target, in the tree of its closure.

Every wheel that was built is imported, and has to have the version of the lock; of a
service, the modules of all entry points are imported, and a program of it is asked for
its version. What passed is not tried again until it or something it needs changes.
"""

from __future__ import annotations

import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PathDistribution
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from builder import lock as locks
from builder.errors import BuildError
from builder.files import sha256_text
from builder.roots import BUILD
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from builder.model import Lock, Recipe, Wheel
    from builder.roots import Root

# What runs in the target, below the directory of templates.
SCRIPT = "smoke/smoke.py"
TEMPEST = "tempest.test_plugins"  # entry points that need tempest, which no service does
EXTENSION = re.compile(r"(.+?)(\.cpython-[^/]+|\.abi3)?\.so")
IDENTIFIER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class Subject:
    """A wheel to try: the modules to import, the program to ask for its version (or none).

    `stamp` is the file that says that it passed in the closure it has now.
    """

    wheel: Wheel
    stamp: Path
    modules: tuple[str, ...]
    program: str = ""


def _subject(
    wheel: Wheel, stamp: Path, programs: Sequence[str], not_imported: Collection[str]
) -> Subject:
    """Return how a built wheel is tried: all its modules but those that cannot be.

    The first of `programs` that a service has is asked for its version.
    """
    program = ""
    with zipfile.ZipFile(wheel.path) as archive:
        names = archive.namelist()
        modules = {*_top_level(names), *_extensions(names)}
        if wheel.distribution.kind == "service":
            info = next(n for n in names if n.endswith(".dist-info/METADATA"))
            directory = zipfile.Path(archive, info.removesuffix("METADATA"))
            points = PathDistribution(directory).entry_points
            modules |= {p.module for p in points if p.group != TEMPEST and not p.extras}
            scripts = points.select(group="console_scripts").names
            program = next((p for p in programs if p in scripts), "")
    return Subject(wheel, stamp, tuple(sorted(modules.difference(not_imported))), program)


def _installed(names: Sequence[str]) -> list[str]:
    """Return the members that go to site-packages, as they are named there."""
    lib = re.compile(r"[^/]+\.data/(?:pure|plat)lib/(.+)")
    found = [match[1] if (match := lib.fullmatch(name)) else name for name in names]
    return [name for name in found if not name.split("/")[0].endswith((".data", ".dist-info"))]


def _top_level(names: Sequence[str]) -> set[str]:
    found = set()
    for name in _installed(names):
        parts = name.split("/")
        if parts[1:] == ["__init__.py"]:
            found.add(parts[0])
        elif len(parts) == 1 and name.endswith(".py"):
            found.add(name.removesuffix(".py"))
    return {name for name in found if IDENTIFIER.fullmatch(name)}


def _extensions(names: Sequence[str]) -> set[str]:
    matches = [EXTENSION.fullmatch(name) for name in _installed(names)]
    modules = {m[1].replace("/", ".") for m in matches if m}
    return {name for name in modules if IDENTIFIER.fullmatch(name)}


def untried(
    lock: Lock,
    ready: Sequence[Wheel],
    script: Path,
    programs: Mapping[str, Sequence[str]],
    recipes: Mapping[str, Recipe],
) -> list[Subject]:
    """Return how `script` is to try what was built, has not passed, and has all it needs.

    `programs` has those of a service that know --version, by its distribution.
    """
    bits = {str(canonicalize_name(w.distribution.name)): w.sha256 for w in ready}
    text, found = script.read_text(), []
    for wheel in (w for w in ready if w.built):
        name = wheel.distribution.name
        closure = locks.closure(lock, [name])
        if bits.keys() >= closure.keys():
            digest = sha256_text(text, *(f"{n} {bits[n]}" for n in closure))
            stamp = wheel.path.with_name(f"{digest[:16]}.tried")
            if not stamp.exists():
                recipe = recipes.get(canonicalize_name(name))
                left = recipe.not_imported if recipe else ()
                found.append(_subject(wheel, stamp, programs.get(name, ()), left))
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where wheels are tried: a tree staged below `staged`, which is `tree` on a node.

    In the build root `root`, where there is one, it is at `tree`. `work` is a directory that
    is not there yet, for what this process and those in the target tell each other; there
    `script` runs, what it prints is in `log`.
    """

    staged: Path
    tree: str
    work: Path
    log: Path
    script: Path
    root: Root | None = None

    def run(self, number: int, rows: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
        """Have the target try `rows`; return what it found."""
        work, here = self.work / str(number), self.staged / self.tree.lstrip("/")
        work.mkdir(parents=True)
        (work / "subjects.json").write_text(json.dumps(rows))
        (work / self.script.name).write_bytes(self.script.read_bytes())
        seen, tree = (BUILD, self.tree) if self.root else (work, str(here))
        argv = [f"{tree}/bin/python", str(seen / self.script.name), str(seen), tree]
        if self.root:
            self.root.run(argv, work, log=self.log, shown={here: tree})
        else:
            run(argv, cwd=work, env={"HOME": str(work)}, log=self.log)
        found: list[dict[str, Any]] = json.loads((work / "found.json").read_text())
        return found


def check(subjects: Sequence[Subject], place: Place, jobs: int) -> list[Failure]:
    """Try wheels, `jobs` at once; return what is wrong with those that do not work."""
    rows = [
        {"name": s.wheel.distribution.name, "modules": s.modules, "program": s.program}
        for s in subjects
    ]
    place.log.unlink(missing_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        parts = pool.map(place.run, range(jobs), [rows[n::jobs] for n in range(jobs)])
        found = {row["name"]: row for part in parts for row in part}
    failures = []
    for one in subjects:
        distribution = one.wheel.distribution
        if errors := _errors(one, found[distribution.name]):
            message = f"{distribution.name} {distribution.version}: what was built does not work"
            error = BuildError(message, details=errors, hint=f"log: {place.log}")
            failures.append(Failure(distribution.name, error))
        else:
            one.stamp.touch()
    return failures


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with a distribution's wheel."""

    distribution: str
    error: BuildError


def all_of(failures: Sequence[Failure]) -> BuildError:
    """Return one error that says what all of them say."""
    if len(failures) == 1:
        return failures[0].error
    names = ", ".join(f.distribution for f in failures)
    details = [f"{f.distribution}: {line}" for f in failures for line in f.error.details]
    return BuildError(
        f"what was built does not work: {names}", details=details, hint=failures[0].error.hint
    )


def _errors(one: Subject, found: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a wheel, by what was found in the target."""
    wanted = one.wheel.distribution.version
    errors = [str(line) for line in found["errors"]]
    if Version(found["version"]) != Version(wanted):
        errors.append(f"its metadata has version {found['version']}, the lock {wanted}")
    if one.program and not errors and wanted not in found["said"]:
        errors.append(f"{one.program} --version says {found['said'].strip()!r}")
    return errors
