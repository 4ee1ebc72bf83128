"""Locks: what they are made from, how they are remade, and the one a build works from."""

from __future__ import annotations

import calendar
import dataclasses
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from packaging.utils import canonicalize_name, parse_wheel_filename

from builder import log, roots
from builder.catalogue import load as catalogues
from builder.errors import DataError, FetchError, ResolveError, UsageError
from builder.fetch import files as fetch
from builder.files import (
    hash_file,
    open_area,
)
from builder.model import graph
from builder.model.shapes import VERSION
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


TRAILING = 14  # days after a series within which its last services are released


def make_request(catalogue: Catalogue, series: Series, target: Target) -> resolve.Request:
    """Return what a lock of `series` on `target` is resolved from."""
    drivers = catalogues.select_drivers(catalogue, series)
    services = {s: catalogue.services[s].distribution for s in series.versions}
    rows = catalogues.select_overrides(catalogue, series)
    return resolve.Request(series, target, services, drivers, rows.override, rows.build)


def locate_lock(dirs: Dirs, series: Series, target: Target) -> Path:
    """Return the path of the lock of a series on a target: that of the last overlay with one."""
    return dirs.locate_lock(f"{series.id}-{target.suite}")


def read_committed_lock(dirs: Dirs, series: Series, target: Target) -> Lock:
    """Return the lock of a series on a target as it was made, stale or not."""
    path = locate_lock(dirs, series, target)
    if not path.exists():
        raise DataError(
            f"no lock of {series.id} on {target.suite} "
            f"(locks: {', '.join(dirs.list_locks()) or 'none'})",
            hint=f"make it with: build-debs lock {series.id} --target {target.suite}",
        )
    lock = locks.read(path)
    locks.refuse(
        path,
        [
            (place, f"expected {wanted}, as in the lock's name, got {said}")
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
    services: Collection[str] = (),
    constraints: str | None = None,
    user: Sequence[str] = (),
    tarballs: str | None = None,
) -> Lock:
    """Resolve a lock again, from the live constraints or those given.

    With `services`, only these are resolved in the committed lock, again or for the first time:
    rows that others also need are kept. Raises ResolveError if that is impossible.
    """
    directory = Path(tarballs) if tarballs and "://" not in tarballs else None
    wanted = make_request(catalogue, series, target)
    if not services:
        text = resolve.read_constraints(constraints, series)
        with log.step(f"resolve {series.id} on {target.suite}"):
            made = _choose_resolver(catalogue, dirs, wanted).resolve(text, user, directory)
        return _refuse_unsound(made)
    lock = read_committed_lock(dirs, series, target)
    _refuse_stale(locate_lock(dirs, series, target), lock, wanted, ())
    wanted = _restrict_request(wanted, lock, services)
    kept = _select_other_rows(wanted, lock, services)
    pinned = [f"{d.name}==={d.version}" for d in (*lock.build, *kept.values())]
    text = "\n".join(resolve.apply_overrides(_read_constraints(constraints, series), pinned))
    with log.step(f"resolve {', '.join(services)} of {series.id} on {target.suite}"):
        made = _choose_resolver(catalogue, dirs, wanted).resolve(text, user, directory)
    return _refuse_unsound(_merge_services(lock, made, kept, services))


def _read_constraints(constraints: str | None, series: Series) -> str:
    """Return the constraints for what a service brings that no other has.

    The lock pins all others. Without a file, and if upstream does not answer, there are none.
    """
    try:
        return resolve.read_constraints(constraints, series)
    except FetchError as error:
        if constraints is not None:
            raise
        log.warning(
            f"{error.message}: distributions that no other service has get their newest version; "
            "pin them with --constraints FILE"
        )
        return ""


def _merge_services(
    lock: Lock, made: Lock, kept: Mapping[str, Distribution], services: Collection[str]
) -> Lock:
    """Return `made`, with everything in `lock` outside `services` unchanged."""
    tools = {(d.name, d.version): d for d in lock.build}
    return dataclasses.replace(
        made,
        inputs=lock.inputs,
        # one that left the series is only in `lock`
        asked={n: a if n in services else lock.asked.get(n, a) for n, a in made.asked.items()},
        distributions=tuple(_keep_row(kept, row) for row in made.distributions),
        build=tuple(tools.get((d.name, d.version), d) for d in made.build),
    )


def choose_versions(catalogue: Catalogue, series: Series, words: Sequence[str]) -> Series:
    """Return the series with a version of each service in `words` (NAME or NAME==VERSION).

    If neither the word nor the series has one, it is the newest of the major release that was
    on the index when the series was released. Raises UsageError if there is none.
    """
    versions, ids = dict(series.versions), catalogues.order_series(catalogue)
    for word in words:
        name, _, version = word.partition("==")
        service = catalogues.find_service(catalogue, name)
        if version and not VERSION.fits(version):
            raise UsageError(f"--service {word}: {version!r} is not a version")
        if not service.exists_in(series.id, ids):
            raise UsageError(f"{service.name} is not part of {series.id}: see its since and until")
        day = date.fromisoformat(series.date) + timedelta(days=TRAILING)
        found = version or versions.get(service.name)
        found = found or fetch.Client().find_newest(service.distribution, day)
        if not found:
            raise UsageError(
                f"{series.id} has no version of {service.name}, and the package index has none",
                hint=f"name it, as in --service {service.name}==1.0.0, or run update-series",
            )
        versions[service.name] = found
    return dataclasses.replace(series, versions=dict(sorted(versions.items())))


def _restrict_request(
    wanted: resolve.Request, lock: Lock, services: Collection[str]
) -> resolve.Request:
    """Return the request with the services a lock has, at its versions, and the given ones."""
    locked = graph.index_by_name(lock)
    versions = {}
    for name, version in wanted.series.versions.items():
        row = locked.get(canonicalize_name(wanted.services[name]))
        if name in services or row is not None:
            versions[name] = row.version if row and name not in services else version
    return dataclasses.replace(
        wanted,
        series=dataclasses.replace(wanted.series, versions=versions),
        services={name: wanted.services[name] for name in versions},
        drivers=tuple(
            d
            for d in wanted.drivers
            if not d.services or {*d.services} & {*services} or canonicalize_name(d.name) in locked
        ),
    )


def _select_other_rows(
    wanted: resolve.Request, lock: Lock, services: Collection[str]
) -> dict[str, Distribution]:
    """Return the rows of a lock that others than `services` need, by normalised name."""
    locked = graph.index_by_name(lock)
    roots = [d for s, d in wanted.services.items() if s not in services]
    roots += [d.name for d in wanted.drivers if not d.services or {*d.services} - {*services}]
    return graph.find_closure(lock, [r for r in roots if canonicalize_name(r) in locked])


def _keep_row(kept: Mapping[str, Distribution], row: Distribution) -> Distribution:
    """Return the row others have for a distribution, with new extras added."""
    old = kept.get(canonicalize_name(row.name))
    if old is None or old.version != row.version:
        return row
    return dataclasses.replace(old, extras={**row.extras, **old.extras})


def _refuse_unsound(lock: Lock) -> Lock:
    """Return a lock as resolved; raise ResolveError if it could not be read back."""
    if problems := lockcheck.check(lock):
        raise ResolveError(
            f"the lock resolved for {lock.series} on {lock.target} is inconsistent",
            details=[f"{place}: {problem}" for place, problem in problems],
        )
    return lock


class _Resolver(Protocol):
    """Makes locks; chosen once, by the Python of the target."""

    def resolve(self, constraints: str, user: Sequence[str], tarballs: Path | None) -> Lock:
        """Return the lock for the request; `user` are the user's overrides."""

    def override(self, lock: Lock, user: Sequence[str]) -> Lock:
        """Return the lock with the user's overrides, and what follows from them."""


@dataclass(frozen=True, slots=True)
class _Uv:
    """Resolves from the index's metadata of each distribution."""

    wanted: resolve.Request

    def resolve(self, constraints: str, user: Sequence[str], tarballs: Path | None) -> Lock:
        return resolve.resolve(self.wanted, constraints, user, tarballs)

    def override(self, lock: Lock, user: Sequence[str]) -> Lock:
        return resolve.override(self.wanted, lock, user)


@dataclass(frozen=True, slots=True)
class _Pins:
    """Resolves for Python 2.7, from the metadata of wheels once built."""

    catalogue: Catalogue
    dirs: Dirs
    wanted: resolve.Request

    def resolve(self, constraints: str, user: Sequence[str], tarballs: Path | None) -> Lock:
        return _lock_pins(
            self.catalogue, self.dirs, self.wanted, constraints, user, tarballs=tarballs
        )

    def override(self, lock: Lock, user: Sequence[str]) -> Lock:
        return pins.keep_unchanged(lock, self.resolve(pins.render_constraints(lock), user, None))


def _choose_resolver(catalogue: Catalogue, dirs: Dirs, wanted: resolve.Request) -> _Resolver:
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
    """Resolve for Python 2.7, whose sdists reveal their requirements only when built."""
    series, target = wanted.series, wanted.target
    index = _Index(dirs.downloads, tarballs)
    tools = pins.choose_build_tools(wanted, index)
    recipes = catalogues.select_recipes(catalogue, series)
    patched = catalogue.patches.get(series.id, {})
    fetched, failure = fetch.fetch(fetch.list_wanted(tools), dirs.downloads)
    if failure:
        raise failure
    empty = Lock(series.id, target.suite, target.python, {}, (), tools)
    unseen = {
        str(canonicalize_name(u.distribution)): u
        for u in catalogues.select_overrides(catalogue, series).unseen
    }
    with open_area(dirs.work) as area:
        root = open_root(dirs, target, recipes, area)
        builder = wheels.Builder(
            empty,
            fetched,
            target,
            recipes,
            dirs.wheels,
            dirs.logs,
            compute_epoch(series),
            root,
            patched=patched,
        )
        source = _Source(index, wheels.unpack_tools(builder, area / "tools"))
        return pins.lock(
            wanted, constraints, user, source, tools,
            recipes=recipes, patched=patched, unseen=unseen,
        )  # fmt: skip


class _Index:
    """The index, preceded by a directory of tarballs, as `pins.Index`."""

    def __init__(self, downloads: Path, tarballs: Path | None) -> None:
        self.client = fetch.Client()
        self.downloads, self.tarballs = downloads, tarballs

    def list_files(self, name: str) -> dict[str, list[Artifact]]:
        """Return the files of a distribution, by version."""
        found = self.client.list_files(name)
        for path in sorted(self.tarballs.glob(f"{name}-*.tar.gz")) if self.tarballs else ():
            version = path.name.removeprefix(f"{name}-").removesuffix(".tar.gz")
            row = Artifact(path.name, hash_file(path), path.stat().st_size)
            found[version] = [row, *found.get(version, ())]
        return found

    def fetch(self, name: str, version: str, artifact: Artifact) -> Fetched:
        """Fetch the file into the cache and return it."""
        given = str(self.tarballs) if self.tarballs else None
        one = fetch.Wanted(name, version, artifact, service=bool(given))
        fetched, failure = fetch.fetch([one], self.downloads, tarballs=given, quiet=True)
        if failure:
            raise failure
        return fetched


@dataclass(frozen=True, slots=True)
class _Source:
    """The source a closure is walked with, as `pins.Source`."""

    index: _Index
    builder: wheels.Builder

    def list_files(self, name: str) -> dict[str, list[Artifact]]:
        """Return the files of a distribution, by version."""
        return self.index.list_files(name)

    def provide_wheel(self, name: str, version: str, artifact: Artifact) -> Path:
        """Return the wheel that `artifact` is, or that is built from it."""
        fetched = self.index.fetch(name, version, artifact)
        if artifact.is_wheel:
            return fetched.files[artifact.sha256]
        row = Distribution(name, version, "library", (), {}, (artifact,), ())
        files = Fetched({**self.builder.fetched.files, **fetched.files})
        return dataclasses.replace(self.builder, fetched=files).provide_wheel(row).path


def open_root(
    dirs: Dirs, target: Target, recipes: Mapping[str, Recipe], area: Path, days: float = roots.DAYS
) -> roots.Root:
    """Return a build root of `target` for a run, with the packages that recipes name."""
    return roots.open_root(
        target.suite,
        wheels.list_root_packages(target, recipes),
        machine=catalogues.find_machine_suite(),
        cache=dirs.roots,
        area=area,
        days=days,
    )


def read_lock(catalogue: Catalogue, dirs: Dirs, options: Options) -> Lock:
    """Return the lock a build works from: the committed one, or one resolved as the options say."""
    series, target = options.series, options.target
    path = locate_lock(dirs, series, target)
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
    wanted = make_request(catalogue, series, target)
    lock = _remove_gone(read_committed_lock(dirs, series, target), wanted)
    _refuse_stale(path, lock, wanted, options.services)
    others = [
        d.name for d in wanted.drivers if not d.services or {*d.services} & {*options.services}
    ]
    versions = _list_expected_versions(lock, wanted, options.services)
    locks.refuse(path, lockcheck.check_for(lock, versions, others, _make_load_check(target)))
    if options.override:
        user = resolve.read_overrides(options.override)
        with log.step(f"resolve {series.id} with {options.override.name}"):
            return _refuse_unsound(_choose_resolver(catalogue, dirs, wanted).override(lock, user))
    return lock


def _remove_gone(lock: Lock, wanted: resolve.Request) -> Lock:
    """Return a lock without services that are no longer part of the series."""
    if not lock.asked.keys() - wanted.services.keys():
        return lock
    roots = [*wanted.services.values(), *(d.name for d in wanted.drivers)]
    kept = graph.find_closure(lock, roots)
    rows = tuple(d for d in lock.distributions if canonicalize_name(d.name) in kept)
    return dataclasses.replace(lock, distributions=rows)


def _list_expected_versions(
    lock: Lock, wanted: resolve.Request, services: Collection[str]
) -> dict[str, str]:
    """Return the version a lock must have of each service's distribution.

    For a service that is not being built, this is the version it has, if any.
    """
    locked, found = graph.index_by_name(lock), {}
    for service, distribution in wanted.services.items():
        if service in services:
            found[distribution] = wanted.series.versions[service]
        elif row := locked.get(canonicalize_name(distribution)):
            found[distribution] = row.version
    return found


def _refuse_stale(
    path: Path, lock: Lock, wanted: resolve.Request, services: Collection[str]
) -> None:
    """Raise DataError if what is to build was locked for another request, or not at all."""
    series, target = wanted.series, wanted.target
    command = f"build-debs lock {series.id} --target {target.suite}"
    if lock.inputs.get("request") != wanted.digest():
        raise DataError(
            f"{path.name} was made for different drivers or overrides than those in projects/",
            hint=f"refresh it with: {command}",
        )
    asked = wanted.hash_services()
    stale = [name for name in services if lock.asked.get(name) != asked[name]]
    if stale:
        new = [name for name in stale if name not in lock.asked]
        what = "has no" if new else "was made for another version or other drivers of"
        raise DataError(
            f"{path.name} {what} {', '.join(new or stale)}",
            hint=f"add it with: {command} {' '.join(f'--service {n}' for n in new or stale)}; "
            "or build other services with --project",
        )


def _make_load_check(target: Target) -> Callable[[str], bool]:
    """Return a function that tells whether a wheel of a name loads on the target (PEP 425)."""
    tags = frozenset(resolve.list_supported_tags(target))
    return lambda wheel: not parse_wheel_filename(wheel)[3].isdisjoint(tags)


def compute_epoch(series: Series) -> int:
    """Return the SOURCE_DATE_EPOCH of a series: midnight (UTC) of its release."""
    return calendar.timegm(time.strptime(series.date, "%Y-%m-%d"))


def find_unlocked(
    catalogue: Catalogue, lock: Lock, services: Collection[str]
) -> list[fetch.Wanted]:
    """Return the tarballs of services that were unavailable when the lock was made."""
    names = {canonicalize_name(catalogue.services[s].distribution) for s in services}
    rows = [d for d in lock.distributions if canonicalize_name(d.name) in names]
    return [w for w in fetch.list_wanted(rows) if not w.artifact.sha256]


def fill_artifacts(lock: Lock, known: Mapping[str, Artifact]) -> Lock:
    """Return the lock with the artifacts that are now `known` (by file name) filled in."""
    rows = tuple(
        dataclasses.replace(d, artifacts=(known[d.artifacts[0].file],))
        if d.artifacts[0].file in known
        else d
        for d in lock.distributions
    )
    return dataclasses.replace(lock, distributions=rows)
