"""Make what a plan asks for: files, wheels, the staged tree, packages."""

from __future__ import annotations

import dataclasses
import json
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
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from builder import cache as caches
from builder import log, roots
from builder.debs import library, tree
from builder.debs.service.package import build_source_package
from builder.errors import BuildError
from builder.fetch import files as fetch
from builder.model import graph
from builder.model.values import (
    Distribution,
    Fetched,
    Lock,
    ServiceBuild,
    SourcePackage,
    Wheel,
)
from builder.pipeline.checking import check_sources
from builder.pipeline.locking import make_request, open_root
from builder.pipeline.planning import (
    decide_actions,
    explain_failure,
    list_closure_roots,
    list_depends,
    plan_own,
    share_files,
)
from builder.pipeline.publishing import read_source_package
from builder.pipeline.values import Result, Row, Work, locate_package
from builder.pipeline.vouching import vouch
from builder.start import end_with_parent
from builder.wheels import build as wheels
from builder.wheels import smoke

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from builder.model.service import Service


BEHIND = 5  # niceness of library builds relative to services': a third of the time


@dataclass(frozen=True, slots=True)
class Room:
    """Where a run builds: its directory, and the build root if one is needed."""

    area: Path
    needs: Path
    """Where it is kept which libraries machine code needs."""
    root: roots.Root | None = None

    @property
    def tree(self) -> Path:
        """The directory below which the series' tree is staged."""
        return self.area / "tree"


@dataclass(frozen=True, slots=True)
class Ready:
    """A distribution ready for packaging: its wheel, and the wheel's files in the staged tree."""

    wheel: Wheel
    laid: tree.Laid


def make_packages(
    work: Work, result: Result, suite_of_machine: str, area: Path
) -> tuple[Work, dict[str, Path], dict[str, SourcePackage]]:
    """Make what the plan asks for in `area`; return the part that was made, and its packages."""
    workers = work.options.jobs
    # A process forked while a thread starts another one may wait for a lock for ever, and the
    # socket path of a fork server does not fit below a long TMPDIR.
    context = multiprocessing.get_context("spawn")
    with (
        _report_killed_workers(),
        ThreadPoolExecutor(workers) as threads,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as processes,
    ):
        work, room, ready = _prepare_build(work, result, suite_of_machine, area, processes)
        # The services run debhelper, the libraries Python: one queue each. Services take
        # longest: libraries use the processor time that services leave, so that no service
        # is built alone at the end.
        services = _start_services(work, ready, threads, room)
        debs, failed = _build_libraries(work, ready, processes, result, room)
        packages = _collect_services(work, services, result)
    if failed:
        work = _leave_out(work, result, failed)
        debs = {n: deb for n, deb in debs.items() if n in work.library_actions}
        packages = {n: built for n, built in packages.items() if n in work.services}
    return work, debs, packages


@contextmanager
def _report_killed_workers() -> Iterator[None]:
    """Report in one line that something else killed a worker process."""
    try:
        yield
    except BrokenProcessPool as error:
        raise BuildError(
            "a worker process was killed",
            hint="the kernel kills processes that use too much memory; --jobs 1 uses less",
        ) from error


def _begin_worker() -> None:
    """Set up a worker process: it ends with this one, and yields the processors to services."""
    end_with_parent()
    os.nice(BEHIND)


def check_machine(work: Work, suite_of_machine: str) -> None:
    """Raise MissingToolError if this machine lacks what the plan needs."""
    if all(a.verb != "build" for a in work.release_actions):
        return
    if wheels.needs_root(work.options.target, suite_of_machine):
        roots.check_machine()
    else:
        wheels.check_machine(_restrict_to_build(work), work.options.target, work.recipes)


def _prepare_build(
    work: Work, result: Result, suite_of_machine: str, area: Path, pool: Executor
) -> tuple[Work, Room, dict[str, Ready]]:
    """Return the part of `work` that can be made, where, and from what, by canonical name."""
    needs = work.dirs.wheels / "needs"
    if all(a.verb != "build" for a in work.release_actions):
        result.tarballs = vouch(work, offline=True)
        return work, Room(area, needs), {}
    options = work.options
    lock, fetched, lost = _fetch_files(work, result)
    check_sources(work, fetched)
    root = None
    if wheels.needs_root(options.target, suite_of_machine):
        root = open_root(work.dirs, options.target, work.recipes, area, options.root_days)
    room = Room(area, needs, root)
    ready, shared, broken = _make_wheels(work, result, room, lock, fetched, pool)
    lost = {str(canonicalize_name(n)) for n in lost | broken}
    work = _leave_out(work, result, lost) if lost else work
    if shared != work.shared:
        rows = json.dumps([dataclasses.astuple(s) for s in shared])
        caches.write(work.memory, rows.encode())
        work = decide_actions(share_files(work, shared))
    return work, room, ready


def _fetch_files(work: Work, result: Result) -> tuple[Lock, Fetched, set[str]]:
    """Fetch what will be built: return that part of the lock, its files, and what is missing.

    Something may be missing only with --keep-going.
    """
    options = work.options
    lock = _restrict_to_build(work)
    asked = {d.name for d in lock.distributions}
    known = [d for d in lock.distributions if d.artifacts[0].sha256]
    fetched, failure = fetch.fetch(
        fetch.list_wanted([*known, *lock.build]),
        work.dirs.downloads,
        tarballs=options.tarballs,
        offline=options.offline,
    )
    had = tuple(d for d in known if d.artifacts[0].sha256 in fetched.files)
    if failure is not None:
        if not options.keep_going:
            left = fetch.list_wanted(
                d for d in [*known, *lock.build] if d.artifacts[0].sha256 not in fetched.files
            )
            raise explain_failure(failure, work.catalogue, options, left)
        result.failures.append(failure)
    result.tarballs = vouch(work, offline=options.offline)
    lost = asked - {d.name for d in had}
    return dataclasses.replace(lock, distributions=had), fetched, lost


def _restrict_to_build(work: Work) -> Lock:
    """Return the lock with only the distributions whose wheels this run needs.

    That is all as soon as one is packaged: what needs it is tried again, a path that two of them
    have is found, and services' sample files are generated from the whole tree.
    """
    built = {a.package for a in work.library_actions.values() if a.verb == "build"}
    if any(a.verb == "build" for a in work.service_actions.values()) or any(
        p.distribution and p.name in built for p in work.libraries
    ):
        return work.lock
    return dataclasses.replace(work.lock, distributions=())


def _make_wheels(  # noqa: PLR0917 - one value per earlier stage
    work: Work,
    result: Result,
    room: Room,
    lock: Lock,
    fetched: Fetched,
    pool: Executor,
) -> tuple[dict[str, Ready], tuple[tree.Shared, ...], set[str]]:
    """Make, stage and try the wheels of a lock; return them, what they share, and what is missing.

    Something may be missing only with --keep-going.
    """
    options = work.options
    made, failures = wheels.provide_wheels(
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
    ready, shared = _stage_tree(work, made, result, room, pool)
    lost = {d.name for d in lock.distributions} - {
        r.wheel.distribution.name for r in ready.values()
    }
    return ready, shared, lost | _try_wheels(work, ready, result, room)


def _stage_tree(
    work: Work, made: Sequence[Wheel], result: Result, room: Room, pool: Executor
) -> tuple[dict[str, Ready], tuple[tree.Shared, ...]]:
    """Lay the series' tree out below `room.tree`; return what is in it, and what is shared.

    The wheels are by canonical name.
    """
    laid = {}
    wheel_of = {str(canonicalize_name(w.distribution.name)): w for w in made}
    with log.step("staged tree"):
        tree.lay_base(work.context, room.tree)
        futures = [
            (n, pool.submit(tree.unpack, work.context, w, room.tree)) for n, w in wheel_of.items()
        ]
        for name, future in futures:
            try:
                laid[name] = future.result()
            except BuildError as error:
                if not work.options.keep_going:
                    raise
                result.failures.append(error)
        owner = partial(_choose_owner, work.lock)
        laid, shared, conflicts = tree.share(laid, work.shared, owner)
    for names, paths in conflicts.items():
        both = _conflict_error(work, [wheel_of[n].distribution for n in sorted(names)], paths)
        if not work.options.keep_going:
            raise both
        result.failures.append(both)
        for name in sorted(names)[1:] or names:
            laid.pop(name, None)
    return {n: Ready(wheel_of[n], row) for n, row in laid.items()}, shared


def _choose_owner(lock: Lock, names: Collection[str]) -> str:
    """Return which distribution gets a file that is the same in each: the one the others need."""
    known = graph.index_by_name(lock)

    def key(name: str) -> tuple[bool, int, str]:
        here = name in known
        needs = graph.find_closure(lock, [name]).keys() & set(names) if here else ()
        return here and known[name].kind == "service", len(needs), name

    return min(names, key=key)


def _conflict_error(work: Work, rows: Sequence[Distribution], paths: Sequence[str]) -> BuildError:
    """Return the error for distributions that have the same files with different content."""
    prefix = f"{work.options.series.tree.lstrip('/')}/"
    place = paths[0].removeprefix(prefix)
    more = f" and {len(paths) - 1} more" if paths[1:] else ""
    names = [f"{d.name} {d.version}" for d in rows]
    others = names[1] if names[1:] else "the tree's own files"
    return BuildError(
        f"{names[0]} and {others} both have {place}{more}, with different content",
        details=[p.removeprefix(prefix) for p in paths[:20]] if more else (),
        hint="leave it out of one: exclude in projects/recipes.toml, or in the service's own file",
    )


def _leave_out(work: Work, result: Result, lost: AbstractSet[str]) -> Work:
    """Leave out the distributions `lost`, and the services with one of them in their closure."""
    roots = list_closure_roots(
        make_request(work.catalogue, work.options.series, work.options.target), work.lock
    )
    closures = {n: graph.find_closure(work.lock, roots[n]) for n in work.services}
    needed = {n: sorted(closures[n].keys() & lost) for n in closures}
    gone = {n for n in needed if needed[n] and work.service_actions[n].verb != "keep"}
    result.missing = tuple(sorted({*result.missing, *gone, *lost}))
    out = {library.name_package(work.context, n) for n in lost}
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
    rest = dataclasses.replace(
        work,
        services={n: s for n, s in work.services.items() if n not in gone},
        service_actions={n: a for n, a in work.service_actions.items() if n not in gone},
        libraries=tuple(p for p in work.libraries if p.name not in out),
        library_actions={n: a for n, a in work.library_actions.items() if n not in out},
    )
    return plan_own(rest)


def _build_libraries(
    work: Work, ready: Mapping[str, Ready], pool: Executor, result: Result, room: Room
) -> tuple[dict[str, Path], set[str]]:
    """Build the library packages, largest wheel first; return each package's .deb.

    Also return the distributions whose package failed, which only --keep-going tolerates.
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
                locate_package(work.dirs, p.inputs, p.revision),
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
    lost = {library.name_package(work.context, n) for n in failed}
    return _collect_libraries(work, lost), failed


def _collect_libraries(work: Work, lost: Collection[str]) -> dict[str, Path]:
    """Return the .deb of each library package not yet published, except those `lost`."""
    found = {}
    for package in work.libraries:
        action = work.library_actions[package.name]
        if action.verb != "keep" and package.name not in lost:
            place = locate_package(work.dirs, action.inputs, action.revision)
            (found[package.name],) = place.glob("*.deb")
    return found


def _build_library(
    context: library.Context,
    package: library.Package,
    ready: Ready | None,
    place: Path,
    room: Room,
) -> float:
    start = time.monotonic()
    try:
        with caches.make_sealed(place) as new:
            wheel, laid = (ready.wheel, ready.laid) if ready else (None, None)
            library.build(
                context,
                package,
                wheel,
                new,
                room.area,
                laid=laid,
                build_root=room.root,
                known=room.needs,
            )
    except BuildError as error:
        raise BuildError(
            f"{package.name} {package.version}: {error.message}",
            details=error.details,
            hint=error.hint,
        ) from error
    return time.monotonic() - start


def _try_wheels(work: Work, ready: Mapping[str, Ready], result: Result, room: Room) -> set[str]:
    """Try what is packaged in its target; return the distributions that do not work.

    Only --keep-going tolerates any.
    """
    options = work.options
    prefix = f"{options.series.tree.lstrip('/')}/"
    subjects = smoke.select_untried(
        work.lock,
        [r.wheel for r in ready.values()],
        installed={n: _list_installed(r.laid, prefix) for n, r in ready.items()},
        site=work.context.site.removeprefix(f"/{prefix}"),
        programs={s.distribution: _list_programs(s) for s in work.services.values()},
        recipes=work.recipes,
        stamps=work.dirs.wheels / smoke.STAMPS,
    )
    if not subjects:
        return set()
    place = smoke.Place(
        room.tree,
        options.series.tree,
        room.area / "smoke",
        work.dirs.logs / f"{options.series.id}-{options.target.suite}.smoke.log",
        room.root,
    )
    with log.step(f"smoke tests of {len(subjects)} wheels"):
        failures = smoke.check(subjects, place, options.jobs)
    if failures and not options.keep_going:
        raise smoke.combine_failures(failures)
    result.failures += [f.error for f in failures]
    return {f.distribution for f in failures}


def _list_installed(laid: tree.Laid, prefix: str) -> smoke.Installed:
    """Return a wheel's paths in the tree, relative to it."""
    rows = (laid.files, laid.binaries, laid.left_out)
    return smoke.Installed(*(tuple(p.removeprefix(prefix) for p in row) for row in rows))


def _list_programs(service: Service) -> list[str]:
    """Return programs of a service, one of which knows --version."""
    return [f"{service.name}-manage", *(d.script for d in service.daemons if d.kind == "daemon")]


def _start_services(
    work: Work, ready: Mapping[str, Ready], pool: Executor, room: Room
) -> dict[str, Future[float]]:
    wheel_of = {
        n: ready[canonicalize_name(work.services[n].distribution)].wheel
        for n, a in work.service_actions.items()
        if a.verb == "build"
    }
    names = sorted(wheel_of, key=lambda n: -wheel_of[n].path.stat().st_size)
    return {n: pool.submit(_build_service, work, n, wheel_of[n], room) for n in names}


def _build_service(work: Work, name: str, wheel: Wheel, room: Room) -> float:
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
    depends = list_depends(work.context, work.catalogue, work.lock, service, work.shared)
    logfile = work.dirs.logs / f"{name}-{action.version.replace(':', '%')}.deb.log"
    logfile.unlink(missing_ok=True)
    with caches.make_sealed(locate_package(work.dirs, action.inputs, action.revision)) as new:
        build_source_package(
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
    work: Work, futures: Mapping[str, Future[float]], result: Result
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
            place = locate_package(work.dirs, action.inputs, action.revision)
            found[name] = read_source_package(name, action.version, place)
    return found
