"""The pipeline: the one module that sees two stages. It plans, then has the plan carried out.

catalogue → resolve → fetch → wheels → debs → publish
"""

from __future__ import annotations

import calendar
import dataclasses
import multiprocessing
import os
import time
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from packaging.utils import canonicalize_name

from builder import catalogue as catalogues
from builder import diff, fetch, log, pins, publish, resolve, roots, signatures, smoke, wheels
from builder import lock as locks
from builder.debs import archive, library, node, source, tree
from builder.debs.manifest import read_options
from builder.debs.roles import role_packages
from builder.debs.versions import full_version
from builder.errors import BuildDebsError, BuildError, DataError, FetchError
from builder.files import (
    area_of_a_run,
    directory_atomically,
    scratch,
    sha256_file,
    sha256_text,
)
from builder.model import (
    Artifact,
    Catalogue,
    Distribution,
    Fetched,
    Lock,
    Patch,
    Recipe,
    Series,
    ServiceBuild,
    SourcePackage,
    Target,
    Wheel,
)
from builder.plan import Action, Known, Outcome, decide, summary
from builder.run import run as execute
from builder.service import holds, roles_for

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from builder.debs.pack import Plain
    from builder.dirs import Dirs
    from builder.service import Service


BEHIND = 5  # how much nicer than the services' builds the libraries' are: a third of the time


@dataclass(frozen=True, slots=True)
class Options:
    """The command line, resolved into one value before any work starts."""

    series: Series
    target: Target
    services: tuple[str, ...]
    repo: Path
    jobs: int
    url: str = ""
    tarballs: str | None = None
    constraints: str | None = None
    override: Path | None = None
    offline: bool = False
    keep_going: bool = False
    key: str = ""
    keyring: Path | None = None
    root_days: float = roots.DAYS


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the report: one package, what was done, why, and in how many seconds."""

    package: str
    version: str
    outcome: Outcome
    reason: str
    seconds: float = 0.0


Check = Literal["signed and verified", "hash-locked", "neither"]


@dataclass(frozen=True, slots=True)
class Tarball:
    """A service's release tarball, and what vouches for it: a signature, a committed lock."""

    distribution: str
    file: str
    sha256: str
    check: Check
    note: str


@dataclass(slots=True)
class Result:
    """What a run did. `failures` is empty unless --keep-going let it go on past them.

    `missing` is what could not be made, `absent` the series' services that are not in the
    suite because nobody asked for them.
    """

    lock: Lock
    rows: list[Row] = field(default_factory=list)
    failures: list[BuildDebsError] = field(default_factory=list)
    missing: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    tarballs: tuple[Tarball, ...] = ()
    published: publish.Published | None = None


@dataclass(frozen=True, slots=True)
class _Work:
    """Everything a run knows before it starts to change anything."""

    options: Options
    dirs: Dirs
    catalogue: Catalogue
    lock: Lock
    context: library.Context
    services: Mapping[str, Service]
    libraries: tuple[library.Package, ...]
    library_actions: Mapping[str, Action]
    service_actions: Mapping[str, Action]
    recipes: Mapping[str, Recipe]
    unlocked: Collection[str]
    """The tarballs whose sha256 no lock had, by file name."""

    @property
    def actions(self) -> list[Action]:
        return [*self.library_actions.values(), *self.service_actions.values()]


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
    return locks.read(path)


def side(catalogue: Catalogue, dirs: Dirs, series: Series, target: Target, repo: Path) -> diff.Side:
    """Return what a series is on a target, for `diff.compare`.

    Options are those of the newest packages the repository `repo` lists, where it lists any.
    Raises DataError when there is no lock, PublishError for a package that is damaged.
    """
    locked, order = committed_lock(dirs, series, target), catalogues.order(catalogue)
    versions = {canonicalize_name(d.name): d.version for d in locked.distributions}
    listed = publish.published(repo, publish.Suite(target.suite, series.id))
    services = {}
    for name, version in series.versions.items():
        service = catalogue.services[name].for_series(series.id, order)
        entries = listed.get(service.common, ())
        services[name] = diff.ServiceSide(
            version=versions.get(canonicalize_name(service.distribution), version),
            footprint=source.footprint(service, series, target),
            options=read_options(repo / entries[-1].files[0].path, name) if entries else None,
        )
    return diff.Side(series, locked.python, services, diff.libraries(locked))


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
    """Resolve a lock anew, from the live constraints or those given."""
    text = resolve.read_constraints(constraints, series)
    directory = Path(tarballs) if tarballs and "://" not in tarballs else None
    wanted = request(catalogue, series, target)
    with log.step(f"resolve {series.id} on {target.suite}"):
        if target.is_python2:
            return _lock_of_pins(catalogue, dirs, wanted, text, user, tarballs=directory)
        return resolve.resolve(wanted, text, user, directory)


def _lock_of_pins(
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
        root = _open_root(dirs, target, recipes, area)
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


def _open_root(
    dirs: Dirs, target: Target, recipes: Mapping[str, Recipe], area: Path, days: float = roots.DAYS
) -> roots.Root:
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
    if lock.inputs["request"] != request(catalogue, series, target).digest():
        raise DataError(
            f"{path.name} was made for other versions, drivers or overrides than projects/ has",
            hint=f"refresh it with: build-debs lock {series.id} --target {target.suite}",
        )
    if options.override:
        user = resolve.read_overrides(options.override)
        wanted = request(catalogue, series, target)
        with log.step(f"resolve {series.id} with {options.override.name}"):
            if not target.is_python2:
                return resolve.override(wanted, lock, user)
            text = pins.constraints(lock)
            return pins.moved(lock, _lock_of_pins(catalogue, dirs, wanted, text, user))
    return lock


def prepare(catalogue: Catalogue, dirs: Dirs, options: Options) -> _Work:
    """Plan a build: what is made, reused or kept, and why. Changes nothing."""
    lock = read_lock(catalogue, dirs, options)
    unlocked = _unlocked(catalogue, lock, options.services)
    known, _ = fetch.identify(unlocked, dirs.downloads, tarballs=options.tarballs, look=True)
    return _planned(catalogue, dirs, options, _identified(lock, known), unlocked)


def _unlocked(catalogue: Catalogue, lock: Lock, services: Collection[str]) -> list[fetch.Wanted]:
    """Return the tarballs of services that were not to be had when the lock was made."""
    names = {canonicalize_name(catalogue.services[s].distribution) for s in services}
    rows = [d for d in lock.distributions if canonicalize_name(d.name) in names]
    return [w for w in fetch.wanted(rows) if not w.artifact.sha256]


def _identified(lock: Lock, known: Mapping[str, Artifact]) -> Lock:
    """Return the lock with the artifacts that are `known` by now, by file name, in it."""
    rows = tuple(
        dataclasses.replace(d, artifacts=(known[d.artifacts[0].file],))
        if d.artifacts[0].file in known
        else d
        for d in lock.distributions
    )
    return dataclasses.replace(lock, distributions=rows)


def _planned(
    catalogue: Catalogue,
    dirs: Dirs,
    options: Options,
    lock: Lock,
    unlocked: Sequence[fetch.Wanted],
) -> _Work:
    series, target = options.series, options.target
    order = catalogues.order(catalogue)
    wanted = request(catalogue, series, target)
    closures = _closures(wanted)
    patches = catalogue.patches.get(series.id, {})
    _check_patched(lock, patches)
    context = library.Context(
        series, target, dirs.templates, epoch_seconds(series), catalogue.lintian, patches
    )
    clients = [d.name for d in wanted.drivers if d.client]
    recipes = catalogues.recipes_for(catalogue, series)
    built = {
        d.name: wheels.cache_key(d, lock, target, recipes.get(n), patches.get(n, ()))
        for n, d in locks.by_name(lock).items()
        if not d.artifacts[0].is_wheel
    }
    libraries = library.plan(context, lock, _epochs(catalogue, lock), closures, clients, built)
    if set(options.services) != set(series.versions):
        others = [d.name for d in wanted.drivers if not d.services]
        lock = _restricted(lock, {n: closures[n] for n in options.services}, others)
        libraries = _of(context, libraries, lock, set(closures) - set(options.services))
    work = _Work(
        options=options,
        dirs=dirs,
        catalogue=catalogue,
        lock=lock,
        context=context,
        services={s: catalogue.services[s].for_series(series.id, order) for s in options.services},
        libraries=libraries,
        library_actions={},
        service_actions={},
        recipes=recipes,
        unlocked={w.artifact.file for w in unlocked},
    )
    return _decided(work)


def _check_patched(lock: Lock, patches: Mapping[str, Sequence[Patch]]) -> None:
    """Raise DataError where what is patched is locked as a wheel, which nothing is built from."""
    known = locks.by_name(lock)
    for name in patches:
        if name not in known:
            log.warning(f"{lock.series} has patches on {name}, which is not in its lock")
        elif (artifact := known[name].artifacts[0]).is_wheel:
            raise DataError(
                f"{name} has patches in {lock.series}, and its lock has a wheel: {artifact.file}",
                hint="a patch is applied to an sdist: lock that, or remove the patches",
            )


def _closures(wanted: resolve.Request) -> dict[str, list[str]]:
    """Return the roots of each service's closure: its distribution, and its drivers."""
    return {
        name: [distribution, *(d.name for d in wanted.drivers if name in d.services)]
        for name, distribution in wanted.services.items()
    }


def _of(
    context: library.Context,
    libraries: Sequence[library.Package],
    lock: Lock,
    left_out: Collection[str],
) -> tuple[library.Package, ...]:
    """Return the packages of what a restricted lock still has."""
    names = locks.by_name(lock)
    closures = {f"{context.prefix}closure-{service}" for service in left_out}
    return tuple(
        p
        for p in libraries
        if p.name not in closures
        and (p.distribution is None or canonicalize_name(p.distribution.name) in names)
    )


def _decided(work: _Work) -> _Work:
    """Return `work` with what is done for each package, from what is published and cached."""
    options, suite = work.options, publish.Suite(work.options.target.suite, work.options.series.id)
    binaries = _known(publish.published(options.repo, suite))
    sources = _known(publish.published_sources(options.repo, suite))

    def is_cached(inputs: str, revision: int) -> bool:
        return _cached(work.dirs, inputs, revision).exists()

    library_actions, service_actions = {}, {}
    for package in work.libraries:
        library_actions[package.name] = decide(
            package.name, package.inputs, package.at, binaries.get(package.name, []), is_cached
        )
    for name, service in work.services.items():
        version = partial(
            full_version,
            options.series.versions[name],
            options.target.release,
            epoch=service.epoch,
        )
        inputs = _service_inputs(work, service)
        service_actions[name] = decide(name, inputs, version, sources.get(name, []), is_cached)
    return dataclasses.replace(
        work,
        libraries=tuple(
            dataclasses.replace(p, revision=library_actions[p.name].revision)
            for p in work.libraries
        ),
        library_actions=library_actions,
        service_actions=service_actions,
    )


def _known(entries: Mapping[str, Sequence[publish.Entry]]) -> dict[str, list[Known]]:
    return {name: [Known(e.version, e.inputs) for e in rows] for name, rows in entries.items()}


def epoch_seconds(series: Series) -> int:
    """Return the SOURCE_DATE_EPOCH of a series: midnight (UTC) of its release."""
    return calendar.timegm(time.strptime(series.date, "%Y-%m-%d"))


def _epochs(catalogue: Catalogue, lock: Lock) -> dict[str, int]:
    """Return the Debian epoch of each service's code package, by distribution."""
    locked = {canonicalize_name(d.name) for d in lock.distributions if d.kind == "service"}
    names = {canonicalize_name(s.distribution): s.epoch for s in catalogue.services.values()}
    return {n: e for n, e in names.items() if n in locked}


def _restricted(lock: Lock, closures: Mapping[str, Sequence[str]], others: Sequence[str]) -> Lock:
    """Return the lock without what only left-out services need."""
    roots = [r for names in closures.values() for r in names]
    kept = locks.closure(lock, [*roots, *others])
    rows = tuple(d for d in lock.distributions if canonicalize_name(d.name) in kept)
    return dataclasses.replace(lock, distributions=rows)


def library_depends(
    context: library.Context, catalogue: Catalogue, lock: Lock, service: Service
) -> tuple[str, ...]:
    """Return the Depends of the package that holds a service's Python code."""
    known = locks.by_name(lock)
    distribution = known[canonicalize_name(service.distribution)]
    needed = locks.requirements(distribution, (), known)
    return (context.base, *library.depends(context, needed, _epochs(catalogue, lock)))


def _service_inputs(work: _Work, service: Service) -> str:
    """Return a checksum of what a service's packages are made from.

    Its sample files depend on the bits of those distributions of its closure that bring
    options or policies, and on no other's.
    """
    name = canonicalize_name(service.distribution)
    distribution, recipe = locks.by_name(work.lock)[name], work.recipes.get(name)
    patches = work.context.patches.get(name, ())
    generators = [
        d.artifacts[0].sha256
        for d in locks.closure(work.lock, [service.distribution]).values()
        if d.options and d.kind != "service"
    ]
    target = work.context.target
    room = sorted((work.context.templates / "service").iterdir())
    return sha256_text(
        wheels.cache_key(distribution, work.lock, target, recipe, patches),
        repr(service),
        *library_depends(work.context, work.catalogue, work.lock, service),
        *generators,
        *(p.read_text() for p in room if p.is_file()),
        source.RECIPE,
        str(work.context.epoch_seconds),
        f"{target.compression} {target.compression_level}",
    )


def _cached(dirs: Dirs, inputs: str, revision: int) -> Path:
    """Return the directory a package made from `inputs` is kept in."""
    return dirs.debs / inputs[:2] / f"{inputs}-{revision}"


def run(catalogue: Catalogue, dirs: Dirs, options: Options, suite_of_machine: str) -> Result:
    """Carry a build out: everything the plan says, then one publication of it all."""
    lock = read_lock(catalogue, dirs, options)
    unlocked = _unlocked(catalogue, lock, options.services)
    # What a package is made from decides whether it is built, so these come before the plan.
    known, failure = fetch.identify(
        unlocked, dirs.downloads, tarballs=options.tarballs, offline=options.offline
    )
    if failure is not None and not options.keep_going:
        left = [w for w in unlocked if w.artifact.file not in known]
        raise _with_ways_out(failure, catalogue, options, left)
    work = _planned(catalogue, dirs, options, _identified(lock, known), unlocked)
    result = Result(work.lock, failures=[failure] if failure else [])
    log.info(f"plan for {options.series.id} on {options.target.suite}: {summary(work.actions)}")
    if all(a.verb == "keep" for a in work.actions):
        result.tarballs = _vouched(work, offline=True)
        return _publish(work, result, {}, {})
    with publish.locked(options.repo, f"building {options.series.id} for {options.target.suite}"):
        # decided again: another build may have published while this one waited
        return _build(_decided(work), result, suite_of_machine)


def _build(work: _Work, result: Result, suite_of_machine: str) -> Result:
    with area_of_a_run(work.dirs.work) as area:
        work, debs, packages = _made(work, result, suite_of_machine, area)
        with ThreadPoolExecutor(1) as aside:
            # ten thousands of files take as long to remove as a suite takes to publish
            aside.submit(execute, ["rm", "-rf", "--", *area.glob("[!.]*")])
            return _publish(work, result, debs, packages)


def _made(
    work: _Work, result: Result, suite_of_machine: str, area: Path
) -> tuple[_Work, dict[str, Path], dict[str, SourcePackage]]:
    """Make in `area` what the plan says: return what of it there is, and its packages."""
    workers = work.options.jobs
    # A process forked while a thread starts another one may wait for a lock for ever, and the
    # socket of a fork server has no place below a long TMPDIR.
    context = multiprocessing.get_context("spawn")
    with (
        ThreadPoolExecutor(workers) as threads,
        ProcessPoolExecutor(
            workers, mp_context=context, initializer=os.nice, initargs=(BEHIND,)
        ) as processes,
    ):
        work, room, ready = _prepared(work, result, suite_of_machine, area, processes)
        # The services run debhelper, the libraries Python: one queue each. A service takes
        # longest: libraries fill what services leave of the processors, so that no service
        # is built alone at the end.
        services = _start_services(work, ready, threads, room)
        debs, failed = _libraries(work, ready, processes, result, room)
        packages = _collect_services(work, services, result)
    if failed:
        work = _without(work, result, failed)
        debs = {n: deb for n, deb in debs.items() if n in work.library_actions}
        packages = {n: built for n, built in packages.items() if n in work.services}
    return work, debs, packages


def _prepared(
    work: _Work, result: Result, suite_of_machine: str, area: Path, pool: Executor
) -> tuple[_Work, _Room, dict[str, _Ready]]:
    """Return what of `work` can be made, where, and what of, by canonical name."""
    if all(a.verb != "build" for a in work.actions):
        result.tarballs = _vouched(work, offline=True)
        return work, _Room(area), {}
    options = work.options
    here = not wheels.needs_root(options.target, suite_of_machine)
    lock, fetched, lost = _fetched(work, result, here=here)
    room = _Room(area)
    if not here:
        root = _open_root(work.dirs, options.target, work.recipes, area, options.root_days)
        room = _Room(area, root)
    ready, broken = _wheels(work, result, room, lock, fetched, pool)
    lost = {str(canonicalize_name(n)) for n in lost | broken}
    return _without(work, result, lost) if lost else work, room, ready


@dataclass(frozen=True, slots=True)
class _Room:
    """Where the builds of a run are: its directory, and the build root where one is needed."""

    area: Path
    root: roots.Root | None = None

    @property
    def tree(self) -> Path:
        """Below it the series' tree is staged."""
        return self.area / "tree"


@dataclass(frozen=True, slots=True)
class _Ready:
    """A distribution that packages can be made of: its wheel, and that in the staged tree."""

    wheel: Wheel
    laid: tree.Laid


def _fetched(work: _Work, result: Result, *, here: bool) -> tuple[Lock, Fetched, set[str]]:
    """Fetch what is to be built: return what of the lock that is, its files, and what lacks.

    Only with --keep-going something may lack. MissingToolError where it is to be built
    `here`, and cannot be.
    """
    options = work.options
    lock = _to_build(work)
    if here:
        wheels.check_machine(lock, options.target, work.recipes)
    else:
        roots.check_machine()
    asked = {d.name for d in lock.distributions}
    known = [d for d in lock.distributions if d.artifacts[0].sha256]
    fetched, failure = fetch.fetch(
        fetch.wanted([*known, *lock.build]),
        work.dirs.downloads,
        tarballs=options.tarballs,
        offline=options.offline,
    )
    had = tuple(d for d in known if d.artifacts[0].sha256 in fetched.files)
    if failure is not None:
        if not options.keep_going:
            left = fetch.wanted(
                d for d in [*known, *lock.build] if d.artifacts[0].sha256 not in fetched.files
            )
            raise _with_ways_out(failure, work.catalogue, options, left)
        result.failures.append(failure)
    result.tarballs = _vouched(work, offline=options.offline)
    lost = asked - {d.name for d in had}
    return dataclasses.replace(lock, distributions=had), fetched, lost


def _to_build(work: _Work) -> Lock:
    """Return the lock with those distributions alone whose wheels this run needs."""
    lock = work.lock
    if any(a.verb == "build" for a in work.service_actions.values()):
        return lock  # the sample files of services come from the tree of them all
    wanted = {a.package for a in work.library_actions.values() if a.verb == "build"}
    names = {p.distribution.name for p in work.libraries if p.distribution and p.name in wanted}
    # what is built is tried in the tree of its closure
    built = [d for d in lock.distributions if d.name in names and not d.artifacts[0].is_wheel]
    names.update(d.name for d in locks.closure(lock, [d.name for d in built]).values())
    rows = tuple(d for d in lock.distributions if d.name in names)
    return dataclasses.replace(lock, distributions=rows)


def _wheels(  # noqa: PLR0917 - one value per stage before
    work: _Work,
    result: Result,
    room: _Room,
    lock: Lock,
    fetched: Fetched,
    pool: Executor,
) -> tuple[dict[str, _Ready], set[str]]:
    """Have the wheels of a lock made, staged and tried; name those there are none of.

    Only with --keep-going there may be such.
    """
    options = work.options
    made, failures = wheels.wheels(
        lock,
        fetched,
        options.target,
        work.recipes,
        cache=work.dirs.wheels,
        logs=work.dirs.logs,
        epoch_seconds=work.context.epoch_seconds,
        jobs=options.jobs,
        keep_going=options.keep_going,
        root=room.root,
        area=room.area,
        patched=work.context.patches,
    )
    result.failures += failures
    ready = _staged(work, made, result, room, pool)
    lost = {d.name for d in lock.distributions} - {
        r.wheel.distribution.name for r in ready.values()
    }
    return ready, lost | _tried(work, [r.wheel for r in ready.values()], result, room)


def _staged(
    work: _Work, made: Sequence[Wheel], result: Result, room: _Room, pool: Executor
) -> dict[str, _Ready]:
    """Lay the series' tree out below `room.tree`; return what is in it, by canonical name."""
    ready = {}
    with log.step("staged tree"):
        tree.lay_base(work.context, room.tree)
        futures = [(w, pool.submit(tree.unpack, work.context, w, room.tree)) for w in made]
        for wheel, future in futures:
            try:
                ready[str(canonicalize_name(wheel.distribution.name))] = _Ready(
                    wheel, future.result()
                )
            except BuildError as error:
                if not work.options.keep_going:
                    raise
                result.failures.append(error)
    return ready


def _with_ways_out(
    failure: FetchError, catalogue: Catalogue, options: Options, absent: Sequence[fetch.Wanted]
) -> FetchError:
    """Return `failure` with what to do where nothing but services' tarballs is not to be had."""
    if options.offline or not all(w.service for w in absent):
        return failure
    lost = {w.distribution for w in absent}
    of = {n: catalogue.services[n].distribution in lost for n in options.services}
    others = [n for n, gone in of.items() if not gone]
    hint = "give them with --tarballs DIR|URL"
    if others:
        projects = " ".join(f"--project {n}" for n in others)
        hint += f", or build without their services: {projects}, or --keep-going"
    names = ", ".join(n for n, gone in of.items() if gone)
    message = f"the release tarball is not to be had of: {names}"
    return FetchError(message, details=failure.details, hint=hint)


def _vouched(work: _Work, *, offline: bool) -> tuple[Tarball, ...]:
    """Return what vouches for the services' tarballs; say it of each.

    Raises FetchError for one that is signed and not with the series' key: with or without
    --keep-going, nothing is published then.
    """
    options, cache = work.options, work.dirs.downloads
    rows = [d for d in work.lock.distributions if d.kind == "service" and d.artifacts[0].sha256]
    files = {w.artifact.file: w for w in fetch.wanted(rows)}
    here = [w for w in files.values() if fetch.cached(cache, w.artifact).exists()]
    found = fetch.signatures(here, cache, tarballs=options.tarballs, offline=offline)
    own = work.catalogue.root / "keys" / f"{options.series.signing_key}.asc"
    keys = [p for p in (own, options.keyring) if p and (p == options.keyring or p.exists())]
    tarballs = []
    with signatures.keyring(options.series.signing_key, keys if found else ()) as ring:
        for file, item in files.items():
            check, note = _check(work, item, found.get(file), ring)
            artifact = item.artifact
            tarballs.append(Tarball(item.distribution, file, artifact.sha256, check, note))
            if options.keyring and check != "signed and verified":
                log.warning(f"{file}: {check} ({note})")  # it was named for more
            else:
                log.detail(f"  {file}: {check} ({note})")
    return tuple(tarballs)


def _check(
    work: _Work,
    item: fetch.Wanted,
    signature: fetch.Signature | None,
    ring: signatures.Keyring | None,
) -> tuple[Check, str]:
    """Return what vouches for a tarball, and why it is no more than that."""
    key = work.options.series.signing_key
    if signature and ring:
        tarball = fetch.cached(work.dirs.downloads, item.artifact)
        try:
            signatures.verify(tarball, signature.path, signature.place, ring)
        except FetchError:
            signature.path.unlink()  # so that another is looked for the next time
            raise
        return "signed and verified", f"key {key}"
    note = f"no key {key} to check its signature with" if signature else "no signature found"
    locked = not work.options.constraints and item.artifact.file not in work.unlocked
    return ("hash-locked" if locked else "neither"), note


def _without(work: _Work, result: Result, lost: AbstractSet[str]) -> _Work:
    """Leave out the distributions `lost`, and the services whose closure one of them is in."""
    roots = _closures(request(work.catalogue, work.options.series, work.options.target))
    closures = {n: locks.closure(work.lock, roots[n]) for n in work.services}
    needed = {n: sorted(closures[n].keys() & lost) for n in closures}
    gone = {n for n in needed if needed[n] and work.service_actions[n].verb != "keep"}
    result.missing = tuple(sorted({*result.missing, *gone, *lost}))
    out = {library.package_name(work.context, n) for n in lost}
    out |= {f"{work.context.prefix}closure-{n}" for n in gone}
    for package in work.libraries:  # closure-common comes before the closures that need it
        needs = {text.split(" ")[0] for text in package.relations.get("Depends", ())}
        if package.distribution is None and needs & out:
            out.add(package.name)
    result.rows = [
        *(r for r in result.rows if r.outcome == "failed" or r.package not in gone | out),
        *(
            Row(n, work.service_actions[n].version, "left out", f"needs {', '.join(needed[n])}")
            for n in gone
        ),
    ]
    return dataclasses.replace(
        work,
        services={n: s for n, s in work.services.items() if n not in gone},
        service_actions={n: a for n, a in work.service_actions.items() if n not in gone},
        libraries=tuple(p for p in work.libraries if p.name not in out),
        library_actions={n: a for n, a in work.library_actions.items() if n not in out},
    )


def _libraries(
    work: _Work, ready: Mapping[str, _Ready], pool: Executor, result: Result, room: _Room
) -> tuple[dict[str, Path], set[str]]:
    """Build the library packages, largest wheel first; return each package's .deb.

    Beside them the distributions whose package failed, which only --keep-going lets be.
    """
    todo = [p for p in work.libraries if work.library_actions[p.name].verb == "build"]
    source_of = {
        p.name: ready[canonicalize_name(p.distribution.name)] if p.distribution else None
        for p in todo
    }
    todo.sort(key=lambda p: -(r.wheel.path.stat().st_size if (r := source_of[p.name]) else 0))
    failed = set()
    with log.step("library packages", len(todo)) as step:
        futures: dict[Future[float], library.Package] = {
            pool.submit(
                _build_library,
                work.context,
                p,
                source_of[p.name],
                _cached(work.dirs, p.inputs, p.revision),
                room,
            ): p
            for p in todo
        }
        for future in as_completed(futures):
            package = futures[future]
            action = work.library_actions[package.name]
            try:
                row = Row(package.name, package.version, "built", action.reason, future.result())
            except BuildError as error:
                if not work.options.keep_going or package.distribution is None:
                    raise
                result.failures.append(error)
                row = Row(package.name, package.version, "failed", error.message)
                failed.add(str(canonicalize_name(package.distribution.name)))
            step.advance(f"{package.name} {package.version}")
            result.rows.append(row)
    lost = {library.package_name(work.context, n) for n in failed}
    return _packed(work, lost), failed


def _packed(work: _Work, lost: Collection[str]) -> dict[str, Path]:
    """Return the .deb of each library package that is not published yet, but of those `lost`."""
    found = {}
    for package in work.libraries:
        action = work.library_actions[package.name]
        if action.verb != "keep" and package.name not in lost:
            place = _cached(work.dirs, action.inputs, action.revision)
            (found[package.name],) = place.glob("*.deb")
    return found


def _build_library(
    context: library.Context,
    package: library.Package,
    ready: _Ready | None,
    place: Path,
    room: _Room,
) -> float:
    start = time.monotonic()
    try:
        with directory_atomically(place) as new:
            wheel, laid = (ready.wheel, ready.laid) if ready else (None, None)
            library.build(context, package, wheel, new, room.area, laid=laid, build_root=room.root)
    except BuildError as error:
        raise BuildError(
            f"{package.name} {package.version}: {error.message}",
            details=error.details,
            hint=error.hint,
        ) from error
    return time.monotonic() - start


def _tried(work: _Work, ready: Sequence[Wheel], result: Result, room: _Room) -> set[str]:
    """Try what was built in its target; name what does not work.

    Only with --keep-going there may be such.
    """
    options = work.options
    script = work.dirs.templates / smoke.SCRIPT
    programs = {s.distribution: _programs(s) for s in work.services.values()}
    subjects = smoke.untried(work.lock, ready, script, programs, work.recipes)
    if not subjects:
        return set()
    place = smoke.Place(
        room.tree,
        options.series.tree,
        room.area / "smoke",
        work.dirs.logs / f"{options.series.id}-{options.target.suite}.smoke.log",
        script,
        room.root,
    )
    with log.step(f"smoke tests of {len(subjects)} built wheels"):
        failures = smoke.check(subjects, place, options.jobs)
    if failures and not options.keep_going:
        raise smoke.all_of(failures)
    result.failures += [f.error for f in failures]
    return {f.distribution for f in failures}


def _programs(service: Service) -> list[str]:
    """Return programs of a service one of which its release has; they know --version."""
    return [f"{service.name}-manage", *(d.script for d in service.daemons if d.kind == "daemon")]


def _start_services(
    work: _Work, ready: Mapping[str, _Ready], pool: Executor, room: _Room
) -> dict[str, Future[float]]:
    wheel_of = {
        n: ready[canonicalize_name(work.services[n].distribution)].wheel
        for n, a in work.service_actions.items()
        if a.verb == "build"
    }
    names = sorted(wheel_of, key=lambda n: -wheel_of[n].path.stat().st_size)
    return {n: pool.submit(_build_service, work, n, wheel_of[n], room) for n in names}


def _build_service(work: _Work, name: str, wheel: Wheel, room: _Room) -> float:
    start = time.monotonic()
    service, action = work.services[name], work.service_actions[name]
    if wheel.source is None:
        raise BuildError(f"{name}: its wheel was not built from the release tarball")
    build = ServiceBuild(
        service=service,
        series=work.options.series,
        target=work.options.target,
        version=work.options.series.versions[name],
        tarball=wheel.source,
        wheel=wheel.path,
        tree=room.tree,
        revision=action.revision,
        epoch_seconds=work.context.epoch_seconds,
        inputs=action.inputs,
        patches=work.context.patches.get(canonicalize_name(service.distribution), ()),
    )
    depends = library_depends(work.context, work.catalogue, work.lock, service)
    logfile = work.dirs.logs / f"{name}-{action.version.replace(':', '%')}.deb.log"
    logfile.unlink(missing_ok=True)
    with directory_atomically(_cached(work.dirs, action.inputs, action.revision)) as new:
        source.build(
            build,
            depends,
            work.dirs.templates,
            work=room.area / name,
            output=new,
            log=logfile,
            root=room.root,
        )
    log.detail(f"  {name} {action.version}")
    return time.monotonic() - start


def _collect_services(
    work: _Work, futures: Mapping[str, Future[float]], result: Result
) -> dict[str, SourcePackage]:
    found = {}
    with log.step("services", len(futures)) as step:
        for name, future in futures.items():
            action = work.service_actions[name]
            try:
                seconds = future.result()
            except BuildError as error:
                if not work.options.keep_going:
                    raise
                result.failures.append(error)
                result.rows.append(Row(name, action.version, "failed", error.message))
                result.missing = tuple(sorted({*result.missing, name}))
                continue
            step.advance(name)
            result.rows.append(Row(name, action.version, "built", action.reason, seconds))
    for name, action in work.service_actions.items():
        if action.verb != "keep" and name not in result.missing:
            place = _cached(work.dirs, action.inputs, action.revision)
            found[name] = _source_package(name, action.version, place)
    return found


def _source_package(name: str, version: str, place: Path) -> SourcePackage:
    """Read a source package back from the cache."""
    (dsc,) = place.glob("*.dsc")
    return SourcePackage(
        name=name,
        version=version,
        dsc=dsc,
        files=tuple(sorted(place.glob("*.tar.*"))),
        debs=tuple(sorted(place.glob("*.deb"))),
    )


def _publish(
    work: _Work, result: Result, debs: Mapping[str, Path], packages: Mapping[str, SourcePackage]
) -> Result:
    options = work.options
    _remaining_rows(work, result)
    suite = publish.Suite(
        options.target.suite,
        options.series.id,
        options.series.name.title(),
        options.target.architecture,
    )
    signer = (
        publish.Signer.existing(options.key) if options.key else publish.Signer.open(work.dirs.keys)
    )
    here = {*publish.published_sources(options.repo, suite), *packages, *result.missing}
    result.absent = tuple(sorted(set(options.series.versions) - here))
    url = options.url or options.repo.resolve().as_uri()
    sources = archive.suite_sources(options.series, options.target, url, work.dirs.templates)
    with scratch() as area:
        extra = _own(work, result, signer, url, area, suite)
        result.rows.sort(key=lambda row: row.package)
        with log.step(f"publish {suite.name}"):
            result.published = publish.publish(
                options.repo,
                suite,
                [*debs.values(), *extra],
                list(packages.values()),
                signer,
                missing=result.missing,
                absent=result.absent,
                files={f"{suite.name}.sources": sources},
            )
    return result


def _own(  # noqa: PLR0917 - what the publication knows
    work: _Work,
    result: Result,
    signer: publish.Signer,
    url: str,
    area: Path,
    suite: publish.Suite,
) -> list[Path]:
    """Build the packages that are of no release, but for those that are published already.

    They are the one with the repository's key and source, the command of a node, and the
    roles of nodes.
    """
    options, templates = work.options, work.dirs.templates
    series, target = options.series, options.target
    published = publish.published(options.repo, suite)
    debs = []
    for package in (
        archive.archive_package(
            series,
            target,
            signer.export_key(),
            url,
            templates,
            upgrade=catalogues.upgrade_facts(work.catalogue, series),
        ),
        node.node_package(series, target, templates),
        *_roles(work),
    ):
        action = decide(
            package.name,
            package.inputs(),
            package.version,
            [Known(e.version, e.inputs) for e in published.get(package.name, ())],
            lambda _inputs, _revision: False,
        )
        outcome: Outcome = "kept"
        if action.verb != "keep":
            outcome, seconds = "built", work.context.epoch_seconds
            debs.append(package.build(area, revision=action.revision, epoch_seconds=seconds))
        result.rows.append(Row(action.package, action.version, outcome, action.reason))
    return debs


def _roles(work: _Work) -> list[Plain]:
    """Return the role packages all of whose parts this build has."""
    options, catalogue = work.options, work.catalogue
    built = {p.name for s in work.services.values() for p in s.packages}
    built |= {p.name for p in work.libraries} | {node.NAME}
    ours = {p.name for s in catalogue.services.values() for p in s.packages}
    ours |= {"openstackclient", node.NAME}
    roles = roles_for(catalogue.roles, options.series.id, catalogues.order(catalogue))
    return role_packages(
        roles, options.series, options.target, work.dirs.templates, ours=ours, built=built
    )


def _remaining_rows(work: _Work, result: Result) -> None:
    """Report what was not built: reused from the cache, or kept in the repository."""
    outcomes: dict[str, Outcome] = {"reuse": "reused", "keep": "kept"}
    seen = {row.package for row in result.rows}
    result.rows += [
        Row(a.package, a.version, outcomes[a.verb], a.reason)
        for a in work.actions
        if a.verb in outcomes and a.package not in seen
    ]
