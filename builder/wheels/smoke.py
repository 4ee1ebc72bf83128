"""Smoke tests: try what is packaged in its target, in the tree of its closure.

Every wheel must have the version in the lock, and all its machine code must load: modules are
imported, libraries loaded. Wheels built here are imported whole; for a service, the modules of
all entry points are imported, and one of its programs is run with --version. The tree holds
exactly what is packaged: files left out of a package are not in it, and no module may import
them. A wheel that passed is not tried again until it or something it needs changes.
"""

from __future__ import annotations

import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from builder.errors import BuildError
from builder.files import hash_text
from builder.model import graph
from builder.roots import BUILD
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.metadata import EntryPoints

    from builder.model.values import Lock, Recipe, Wheel
    from builder.roots import Root

# What runs in the target.
SCRIPT = Path(__file__).parents[1] / "payload/smoke.py"
TEMPEST = "tempest.test_plugins"  # entry points that need tempest, which no service does
PROGRAMS = ("console_scripts", "gui_scripts")
IDENTIFIER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
ROW = ("modules", "libraries", "passed", "programs", "gone", "sources")
STAMPS = "tried"  # below the directory of built wheels


@dataclass(frozen=True, slots=True)
class Installed:
    """A wheel's files in the tree, and those left out of it; paths are relative to the tree.

    `binaries` are those of `files` that are machine code of the target.
    """

    files: tuple[str, ...]
    binaries: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """A wheel to try, and which parts of it, as `smoke.py` reads it.

    `modules` are imported; `libraries` (relative to the tree) are loaded, and imported if they
    are modules, except those in `passed`; the first of `programs` that knows --version must print
    it. `sources` are searched for imports of modules in `gone`. The file `stamp` exists once the
    wheel has passed in its present closure.
    """

    wheel: Wheel
    stamp: Path
    modules: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def _make_subject(
    wheel: Wheel,
    stamp: Path,
    installed: Installed,
    site: str,
    *,
    programs: Sequence[str],
    passed: Sequence[str],
) -> Subject:
    """Return how to try a wheel: all of it except `passed`, which is skipped for a reason."""
    libraries = tuple(f for f in installed.binaries if ".so" in f.rpartition("/")[2])
    if not wheel.built:
        return Subject(wheel, stamp, libraries=libraries, passed=tuple(passed))
    files = [f.removeprefix(f"{site}/") for f in installed.files if f.startswith(f"{site}/")]
    left = [f.removeprefix(f"{site}/") for f in installed.left_out if f.startswith(f"{site}/")]
    gone = _find_left_out_modules(left)
    known: tuple[str, ...] = ()
    modules = _find_top_level(files)
    if wheel.distribution.kind == "service":
        points = _read_entry_points(wheel.path)
        wanted = {p.module for p in points if p.group != TEMPEST and not p.extras}
        # skip entry points in left-out modules (tests' options, say), but for packaged programs
        programs_left_out = {f.removeprefix("bin/") for f in installed.left_out}
        kept = {p.module for p in points if p.group in PROGRAMS and p.name not in programs_left_out}
        modules |= {m for m in wanted if m in kept or not _is_within(m, gone)}
        scripts = points.select(group="console_scripts").names
        known = tuple(p for p in programs if p in scripts)
    return Subject(
        wheel,
        stamp,
        tuple(sorted(modules.difference(passed))),
        libraries,
        tuple(passed),
        known,
        gone,
        tuple(f"{site}/{f}" for f in files if f.endswith(".py")) if gone else (),
    )


def _list_skipped(recipe: Recipe, site: str) -> tuple[str, ...]:
    """Return the modules and libraries (relative to the tree) that are not tried."""
    return (*recipe.not_imported, *(p.replace("{site}", site) for p in recipe.not_loaded))


def _read_entry_points(wheel: Path) -> EntryPoints:
    with zipfile.ZipFile(wheel) as archive:
        info = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        directory = zipfile.Path(archive, info.removesuffix("METADATA"))
        return PathDistribution(directory).entry_points


def _find_top_level(names: Sequence[str]) -> set[str]:
    found = set()
    for name in names:
        parts = name.split("/")
        if parts[1:] == ["__init__.py"]:
            found.add(parts[0])
        elif len(parts) == 1 and name.endswith(".py"):
            found.add(name.removesuffix(".py"))
    return {name for name in found if IDENTIFIER.fullmatch(name)}


def _find_left_out_modules(names: Sequence[str]) -> tuple[str, ...]:
    """Return the left-out modules, except those in a left-out package."""
    modules = {
        n.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for n in names
        if n.endswith(".py")
    }
    return tuple(sorted(m for m in modules if m.rpartition(".")[0] not in modules))


def _is_within(module: str, packages: Sequence[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def select_untried(
    lock: Lock,
    ready: Sequence[Wheel],
    *,
    installed: Mapping[str, Installed],
    site: str,
    programs: Mapping[str, Sequence[str]],
    recipes: Mapping[str, Recipe],
    stamps: Path,
) -> list[Subject]:
    """Return the subjects that have not passed yet and whose whole closure is ready.

    `installed` is what each wheel has in the tree, by canonical name; `site` is the tree's
    site-packages, relative to it. `programs` has each service's programs that support
    --version, by its distribution. `stamps` is the directory of stamps.
    """
    bits = {str(canonicalize_name(w.distribution.name)): w.sha256 for w in ready}
    text, found = SCRIPT.read_text(encoding="utf-8"), []
    for wheel in ready:
        name = str(canonicalize_name(wheel.distribution.name))
        closure = graph.find_closure(lock, [name])
        if bits.keys() >= closure.keys():
            recipe = recipes.get(name)
            subject = _make_subject(
                wheel,
                stamps,
                installed[name],
                site,
                programs=programs.get(wheel.distribution.name, ()),
                passed=_list_skipped(recipe, site) if recipe else (),
            )
            # Not the whole path: a cache that has been moved has the same wheels.
            tried = [f"{key} {getattr(subject, key)}" for key in ROW]
            tried += [site, wheel.distribution.version, *wheel.path.parts[-2:]]
            digest = hash_text(text, *tried, *(f"{n} {bits[n]}" for n in closure))
            stamp = stamps / digest[:32]
            if not stamp.exists():
                found.append(replace(subject, stamp=stamp))
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where wheels are tried: a tree staged below `staged`, which is `tree` on a node.

    In the build root `root`, if any, it is at `tree`. `work` is a directory that does not exist
    yet, for the files that this process and those in the target exchange; SCRIPT runs there, and
    its output goes to `log`.
    """

    staged: Path
    tree: str
    work: Path
    log: Path
    root: Root | None = None

    def run(self, number: int, rows: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
        """Have the target try `rows`; return its findings."""
        work, here = self.work / str(number), self.staged / self.tree.lstrip("/")
        work.mkdir(parents=True)
        (work / "subjects.json").write_text(json.dumps(rows), encoding="utf-8")
        (work / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
        seen, tree = (BUILD, self.tree) if self.root else (work, str(here))
        argv = [f"{tree}/bin/python", str(seen / SCRIPT.name), str(seen), tree]
        if self.root:
            self.root.run(argv, work, log=self.log, shown={here: tree})
        else:
            run(argv, cwd=work, env={"HOME": str(work)}, log=self.log)
        found: list[dict[str, Any]] = json.loads((work / "found.json").read_text(encoding="utf-8"))
        return found


def check(subjects: Sequence[Subject], place: Place, jobs: int) -> list[Failure]:
    """Try wheels, `jobs` at once; return the failures."""
    # services first: they take nearly all of the time, so the jobs share them
    longest = sorted(subjects, key=lambda s: -len(s.modules))
    rows = [
        {"name": s.wheel.distribution.name, "wanted": s.wheel.distribution.version}
        | {key: getattr(s, key) for key in ROW}
        for s in longest
    ]
    place.log.unlink(missing_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        parts = pool.map(place.run, range(jobs), [rows[n::jobs] for n in range(jobs)])
        found = {row["name"]: row for part in parts for row in part}
    failures = []
    for one in subjects:
        distribution = one.wheel.distribution
        if errors := _list_errors(one, found[distribution.name]):
            message = f"{distribution.name} {distribution.version}: its packaged files do not work"
            error = BuildError(message, details=errors, hint=f"log: {place.log}", log=place.log)
            failures.append(Failure(distribution.name, error))
        else:
            one.stamp.parent.mkdir(parents=True, exist_ok=True)
            one.stamp.touch()
    return failures


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with a distribution's wheel."""

    distribution: str
    error: BuildError


def combine_failures(failures: Sequence[Failure]) -> BuildError:
    """Return one error that combines all of them."""
    if len(failures) == 1:
        return failures[0].error
    names = ", ".join(f.distribution for f in failures)
    details = [f"{f.distribution}: {line}" for f in failures for line in f.error.details]
    return BuildError(
        f"the packaged files of these distributions do not work: {names}",
        details=details,
        hint=failures[0].error.hint,
        log=failures[0].error.log,
    )


def _list_errors(one: Subject, found: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a wheel, from the findings in the target."""
    wanted = one.wheel.distribution.version
    errors = [str(line) for line in found["errors"]]
    if found["version"] is not None and not _is_same_version(found["version"], wanted):
        errors.append(f"its metadata has version {found['version']}, the lock has {wanted}")
    return errors


def _is_same_version(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
