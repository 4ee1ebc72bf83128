"""Locks: what one is made from, made again, and the one a build works from."""

from __future__ import annotations

import calendar
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from packaging.utils import canonicalize_name, parse_wheel_filename

from builder import log, roots
from builder.catalogue import load as catalogues
from builder.errors import DataError, ResolveError
from builder.fetch import files as fetch
from builder.files import (
    area_of_a_run,
    sha256_file,
)
from builder.model.service import holds
from builder.model.values import (
    Artifact,
    Catalogue,
    Distribution,
    Fetched,
    Lock,
    Recipe,
    Series,
    Target,
)
from builder.resolve import lockcheck, pins
from builder.resolve import lockfile as locks
from builder.resolve import uv as resolve
from builder.wheels import build as wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from builder.dirs import Dirs
    from builder.pipeline.values import Options


def request(catalogue: Catalogue, series: Series, target: Target) -> resolve.Request:
    """Return what a lock of `series` on `target` is resolved from."""
    order = catalogues.order(catalogue)
    drivers = tuple(d for d in catalogue.drivers if holds(d, series.id, order))
    services = {s: catalogue.services[s].distribution for s in series.versions}
    rows = catalogues.overrides_for(catalogue, series)
    return resolve.Request(series, target, services, drivers, rows.override, rows.build)


def lock_path(dirs: Dirs, series: Series, target: Target) -> Path:
    """Return where the lock of a series on a target is kept."""
    return dirs.locks / f"{series.id}-{target.suite}.json"


def committed_lock(dirs: Dirs, series: Series, target: Target) -> Lock:
    """Return the lock of a series on a target as it was made, stale or not."""
    path = lock_path(dirs, series, target)
    if not path.exists():
        made = sorted(p.stem for p in dirs.locks.glob("*.json"))
        raise DataError(
            f"no lock of {series.id} on {target.suite} (there is: {', '.join(made) or 'none'})",
            hint=f"make it with: build-debs lock {series.id} --target {target.suite}",
        )
    lock = locks.read(path)
    locks.refuse(
        path,
        [
            (place, f"{said} is not {wanted}, which the lock's name stands for")
            for place, said, wanted in (
                ("series", lock.series, series.id),
                ("target", lock.target, target.suite),
                ("python", lock.python, target.python),
            )
            if said != wanted
        ],
    )
    return lock


def make_lock(
    catalogue: Catalogue,
    dirs: Dirs,
    series: Series,
    target: Target,
    *,
    constraints: str | None = None,
    user: Sequence[str] = (),
    tarballs: str | None = None,
) -> Lock:
    """Resolve a lock again, from the live constraints or those given."""
    text = resolve.read_constraints(constraints, series)
    directory = Path(tarballs) if tarballs and "://" not in tarballs else None
    wanted = request(catalogue, series, target)
    with log.step(f"resolve {series.id} on {target.suite}"):
        return _refuse_unsound(_resolver(catalogue, dirs, wanted).resolve(text, user, directory))


def _refuse_unsound(lock: Lock) -> Lock:
    """Return a lock that has been resolved; ResolveError where it is none that could be read."""
    if problems := lockcheck.check(lock):
        raise ResolveError(
            f"what was resolved for {lock.series} on {lock.target} does not fit together",
            details=[f"{place}: {problem}" for place, problem in problems],
        )
    return lock


class _Resolver(Protocol):
    """What makes locks: chosen once, by the Python of the target."""

    def resolve(self, constraints: str, user: Sequence[str], tarballs: Path | None) -> Lock:
        """Return the lock of what is wanted; `user` are a person's overrides."""

    def override(self, lock: Lock, user: Sequence[str]) -> Lock:
        """Return the lock with a person's overrides, and what follows from them."""


@dataclass(frozen=True, slots=True)
class _Uv:
    """Resolves by what an index says of each distribution."""

    wanted: resolve.Request

    def resolve(self, constraints: str, user: Sequence[str], tarballs: Path | None) -> Lock:
        return resolve.resolve(self.wanted, constraints, user, tarballs)

    def override(self, lock: Lock, user: Sequence[str]) -> Lock:
        return resolve.override(self.wanted, lock, user)


@dataclass(frozen=True, slots=True)
class _Pins:
    """Resolves for Python 2.7, by what wheels say once they are built."""

    catalogue: Catalogue
    dirs: Dirs
    wanted: resolve.Request

    def resolve(self, constraints: str, user: Sequence[str], tarballs: Path | None) -> Lock:
        return _lock_pins(
            self.catalogue, self.dirs, self.wanted, constraints, user, tarballs=tarballs
        )

    def override(self, lock: Lock, user: Sequence[str]) -> Lock:
        return pins.moved(lock, self.resolve(pins.constraints(lock), user, None))


def _resolver(catalogue: Catalogue, dirs: Dirs, wanted: resolve.Request) -> _Resolver:
    if wanted.target.is_python2:
        return _Pins(catalogue, dirs, wanted)
    return _Uv(wanted)


def _lock_pins(
    catalogue: Catalogue,
    dirs: Dirs,
    wanted: resolve.Request,
    constraints: str,
    user: Sequence[str],
    *,
    tarballs: Path | None = None,
) -> Lock:
    """Resolve for Python 2.7, whose sdists say what they require only when they are built."""
    series, target = wanted.series, wanted.target
    index = _Index(dirs.downloads, tarballs)
    tools = pins.build_tools(wanted, index)
    recipes = catalogues.recipes_for(catalogue, series)
    patched = catalogue.patches.get(series.id, {})
    fetched, failure = fetch.fetch(fetch.wanted(tools), dirs.downloads)
    if failure:
        raise failure
    empty = Lock(series.id, target.suite, target.python, {}, (), tools)
    unseen = {
        str(canonicalize_name(u.distribution)): u
        for u in catalogues.overrides_for(catalogue, series).unseen
    }
    with area_of_a_run(dirs.work) as area:
        root = open_root(dirs, target, recipes, area)
        builder = wheels.Builder(
            empty,
            fetched,
            target,
            recipes,
            dirs.wheels,
            dirs.logs,
            epoch_seconds(series),
            root,
            patched=patched,
        )
        source = _Source(index, wheels.unpack_tools(builder, area / "tools"))
        return pins.lock(
            wanted, constraints, user, source, tools,
            recipes=recipes, patched=patched, unseen=unseen,
        )  # fmt: skip


class _Index:
    """The index, and before it a directory of tarballs, as `pins.Index`."""

    def __init__(self, downloads: Path, tarballs: Path | None) -> None:
        self.client = fetch.Client()
        self.downloads, self.tarballs = downloads, tarballs

    def files(self, name: str) -> dict[str, list[Artifact]]:
        """Return what there is of a distribution, by version."""
        found = self.client.files(name)
        for path in sorted(self.tarballs.glob(f"{name}-*.tar.gz")) if self.tarballs else ():
            version = path.name.removeprefix(f"{name}-").removesuffix(".tar.gz")
            row = Artifact(path.name, sha256_file(path), path.stat().st_size)
            found[version] = [row, *found.get(version, ())]
        return found

    def fetch(self, name: str, version: str, artifact: Artifact) -> Fetched:
        """Return the file, in the cache."""
        given = str(self.tarballs) if self.tarballs else None
        one = fetch.Wanted(name, version, artifact, service=bool(given))
        fetched, failure = fetch.fetch([one], self.downloads, tarballs=given, quiet=True)
        if failure:
            raise failure
        return fetched


@dataclass(frozen=True, slots=True)
class _Source:
    """What a closure is walked with, as `pins.Source`."""

    index: _Index
    builder: wheels.Builder

    def files(self, name: str) -> dict[str, list[Artifact]]:
        """Return what there is of a distribution, by version."""
        return self.index.files(name)

    def wheel(self, name: str, version: str, artifact: Artifact) -> Path:
        """Return the wheel that `artifact` is, or that is built from it."""
        fetched = self.index.fetch(name, version, artifact)
        if artifact.is_wheel:
            return fetched.files[artifact.sha256]
        row = Distribution(name, version, "library", (), {}, (artifact,), ())
        files = Fetched({**self.builder.fetched.files, **fetched.files})
        return dataclasses.replace(self.builder, fetched=files).wheel(row).path


def open_root(
    dirs: Dirs, target: Target, recipes: Mapping[str, Recipe], area: Path, days: float = roots.DAYS
) -> roots.Root:
    """Return a build root of `target` for a run, with what the recipes name in it."""
    return roots.open_root(
        target.suite,
        wheels.every_build_package(target, recipes),
        machine=catalogues.machine_suite(),
        cache=dirs.roots,
        area=area,
        days=days,
    )


def read_lock(catalogue: Catalogue, dirs: Dirs, options: Options) -> Lock:
    """Return the lock a build works from: the committed one, or one resolved as the options say."""
    series, target = options.series, options.target
    path = lock_path(dirs, series, target)
    if options.constraints:
        user = resolve.read_overrides(options.override) if options.override else ()
        return make_lock(
            catalogue,
            dirs,
            series,
            target,
            constraints=options.constraints,
            user=user,
            tarballs=options.tarballs,
        )
    lock = committed_lock(dirs, series, target)
    wanted = request(catalogue, series, target)
    if lock.inputs.get("request") != wanted.digest():
        raise DataError(
            f"{path.name} was made for other versions, drivers or overrides than projects/ has",
            hint=f"refresh it with: build-debs lock {series.id} --target {target.suite}",
        )
    services = {d: series.versions[s] for s, d in wanted.services.items()}
    others = [d.name for d in wanted.drivers]
    locks.refuse(path, lockcheck.check_for(lock, services, others, _loads_on(target)))
    if options.override:
        user = resolve.read_overrides(options.override)
        with log.step(f"resolve {series.id} with {options.override.name}"):
            return _refuse_unsound(_resolver(catalogue, dirs, wanted).override(lock, user))
    return lock


def _loads_on(target: Target) -> Callable[[str], bool]:
    """Return whether a wheel of a name loads on the target, by its tags (PEP 425)."""
    tags = frozenset(resolve.supported_tags(target))
    return lambda wheel: not parse_wheel_filename(wheel)[3].isdisjoint(tags)


def epoch_seconds(series: Series) -> int:
    """Return the SOURCE_DATE_EPOCH of a series: midnight (UTC) of its release."""
    return calendar.timegm(time.strptime(series.date, "%Y-%m-%d"))


def find_unlocked(
    catalogue: Catalogue, lock: Lock, services: Collection[str]
) -> list[fetch.Wanted]:
    """Return the tarballs of services that were unavailable when the lock was made."""
    names = {canonicalize_name(catalogue.services[s].distribution) for s in services}
    rows = [d for d in lock.distributions if canonicalize_name(d.name) in names]
    return [w for w in fetch.wanted(rows) if not w.artifact.sha256]


def with_artifacts(lock: Lock, known: Mapping[str, Artifact]) -> Lock:
    """Return the lock with the artifacts that are `known` by now, by file name, in it."""
    rows = tuple(
        dataclasses.replace(d, artifacts=(known[d.artifacts[0].file],))
        if d.artifacts[0].file in known
        else d
        for d in lock.distributions
    )
    return dataclasses.replace(lock, distributions=rows)
