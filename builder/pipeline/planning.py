"""Plan a build: what is made, reused or kept, and why. Nothing is changed here."""

from __future__ import annotations

import dataclasses
import glob
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from builder import cache as caches
from builder import log, publish
from builder.catalogue import load as catalogues
from builder.debs import archive, debian, library, node, tool, tree
from builder.debs.roles import make_role_packages
from builder.debs.service import package as service_package
from builder.debs.versions import make_full_version
from builder.errors import DataError, FetchError
from builder.fetch import files as fetch
from builder.files import hash_text, read_regular_file
from builder.model import graph
from builder.model.service import narrow_roles
from builder.pipeline.actions import Action, Known, decide
from builder.pipeline.locking import (
    compute_epoch,
    fill_artifacts,
    find_unlocked,
    make_request,
    read_lock,
)
from builder.pipeline.values import Options, Work, locate_package, name_suite
from builder.pipeline.vouching import read_keys
from builder.wheels import build as wheels

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from builder.debs.plain import Plain
    from builder.dirs import Dirs
    from builder.model.service import Service
    from builder.model.values import (
        Catalogue,
        Lock,
        Patch,
        Series,
        Target,
    )
    from builder.resolve import uv as resolve


def prepare(catalogue: Catalogue, dirs: Dirs, options: Options, *, look: bool = True) -> Work:
    """Plan a build: what is made, reused or kept, and why. Changes nothing.

    A package's inputs decide whether it is built, so tarballs whose sha256 no lock has are needed
    before the plan: they are fetched, or with `look` (a dry run) only looked for.
    """
    keys, wish = read_keys(catalogue, options), _read_key_wish(options)  # before any work
    lock = read_lock(catalogue, dirs, options)
    unlocked = find_unlocked(catalogue, lock, options.services)
    known, failure = fetch.identify(
        unlocked, dirs.downloads, tarballs=options.tarballs, offline=options.offline, look=look
    )
    if failure is not None and not options.keep_going:
        left = [w for w in unlocked if w.artifact.file not in known]
        raise explain_failure(failure, catalogue, options, left)
    work = plan(catalogue, dirs, options, fill_artifacts(lock, known), unlocked, wish)
    return dataclasses.replace(work, keys=keys, failures=(failure,) if failure else ())


def explain_failure(
    failure: FetchError, catalogue: Catalogue, options: Options, absent: Sequence[fetch.Wanted]
) -> FetchError:
    """Return `failure` with what to do if only services' tarballs are missing."""
    if options.offline or not all(w.service for w in absent):
        return failure
    lost = {w.distribution for w in absent}
    of = {n: catalogue.services[n].distribution in lost for n in options.services}
    others = [n for n, gone in of.items() if not gone]
    hint = "provide them with --tarballs DIR|URL"
    if others:
        projects = " ".join(f"--project {n}" for n in others)
        hint += f", or build without their services: {projects}, or --keep-going"
    names = ", ".join(n for n, gone in of.items() if gone)
    message = f"no release tarball found for: {names}"
    return FetchError(message, details=failure.details, hint=hint)


def plan(  # noqa: PLR0917 - one value per thing read before
    catalogue: Catalogue,
    dirs: Dirs,
    options: Options,
    lock: Lock,
    unlocked: Sequence[fetch.Wanted],
    wish: publish.KeyWish,
) -> Work:
    """Return all a run knows before it changes anything; `unlocked` is from `find_unlocked`."""
    series, target = options.series, options.target
    wanted = make_request(catalogue, series, target)
    closures = list_closure_roots(wanted, lock)
    patches = catalogue.patches.get(series.id, {})
    check_patched(lock, patches)
    recipes = catalogues.select_recipes(catalogue, series)
    order = catalogues.order_series(catalogue)
    services = {
        n: narrow_service(catalogue, n, series, options.target)
        for n, s in catalogue.services.items()
        if s.exists_in(series.id, order)
    }
    exclude = {n: r.exclude for n, r in recipes.items()}
    for service in services.values():
        name = str(canonicalize_name(service.distribution))
        exclude[name] = (*exclude.get(name, ()), *service.exclude)
    leading_on = debian.select_successors(catalogue.successors, series, target, order)
    context = library.Context(
        series,
        target,
        dirs.templates,
        compute_epoch(series),
        catalogue.lintian,
        patches,
        tuple(s for s in leading_on if not s.service),
        exclude,
    )
    clients = [d.name for d in wanted.drivers if d.client]
    built = {
        d.name: wheels.hash_inputs(d, lock, target, recipes.get(n), patches.get(n, ()))
        for n, d in graph.index_by_name(lock).items()
        if not d.artifacts[0].is_wheel
    }
    libraries = library.plan(
        context, lock, _list_service_epochs(catalogue, lock), closures, clients, built
    )
    memory = _locate_memory(dirs, context, lock, libraries)
    shared = recall_shared(memory)
    if _is_partial(options):
        others = [d.name for d in wanted.drivers if not d.services and not d.builder]
        others += [s.owner for s in shared]
        lock = _restrict_lock(lock, {n: closures[n] for n in options.services}, others)
        libraries = _restrict_packages(
            context, libraries, lock, set(closures) - set(options.services)
        )
    work = Work(
        options=options,
        dirs=dirs,
        catalogue=catalogue,
        lock=lock,
        context=context,
        services={s: services[s] for s in options.services},
        libraries=libraries,
        library_actions={},
        service_actions={},
        recipes=recipes,
        unlocked={w.artifact.file for w in unlocked},
        memory=memory,
        plain=libraries,
        plain_services=services,
        wish=wish,
        public=publish.foresee(options.repo, name_suite(options).name, dirs.keys, **wish),
    )
    return decide_actions(share_files(work, shared))


def narrow_service(catalogue: Catalogue, name: str, series: Series, target: Target) -> Service:
    """Return a service as it is in a series, on a target."""
    order = catalogues.order_series(catalogue)
    narrowed = catalogue.services[name].narrow_to_series(series.id, order)
    return debian.adapt_to_target(narrowed, catalogue.successors, series, target, order)


def _locate_memory(
    dirs: Dirs, context: library.Context, lock: Lock, libraries: Sequence[library.Package]
) -> Path:
    """Return the path that records which files a lock's wheels share, which no lock lists."""
    sources = [d.artifacts[0].sha256 for d in lock.distributions if d.kind == "service"]
    exclude = repr(sorted(context.exclude.items()))
    digest = hash_text(*(p.inputs for p in libraries), *sources, exclude)
    return dirs.wheels / "shared" / f"{digest[:32]}.json"


def recall_shared(memory: Path) -> tuple[tree.Shared, ...]:
    """Return which files are known to be shared; none if that is not known, or damaged."""
    try:
        rows = json.loads(read_regular_file(memory, follow=False))
        shared = tuple(tree.Shared(path, owner, tuple(others)) for path, owner, others in rows)
    except (OSError, ValueError, TypeError, RecursionError):
        return ()  # recomputed when the tree is laid out
    sound = all(isinstance(word, str) for s in shared for word in (s.path, s.owner, *s.others))
    return shared if sound else ()


def share_files(work: Work, shared: Sequence[tree.Shared]) -> Work:
    """Put each file that wheels share into one package, on which the others depend."""
    prefix = f"{work.options.series.tree.lstrip('/')}/"
    names = graph.index_by_name(work.lock)
    shared = tuple(s for s in shared if s.owner in names)
    services = {}
    for name in work.services:
        service = work.plain_services[name]
        own = str(canonicalize_name(service.distribution))
        lost = (s.path.removeprefix(prefix) for s in shared if own in s.others)
        exclude = (*service.exclude, *(e for path in lost if (e := glob.escape(path))))
        services[name] = dataclasses.replace(service, exclude=exclude)
    here = {p.name for p in work.libraries}
    libraries = tuple(
        library.add_shared_relations(work.context, p, shared) for p in work.plain if p.name in here
    )
    return dataclasses.replace(work, services=services, libraries=libraries, shared=shared)


def check_patched(lock: Lock, patches: Mapping[str, Sequence[Patch]]) -> None:
    """Raise DataError if a patched distribution is locked as a wheel, which cannot be patched."""
    known = graph.index_by_name(lock)
    for name in patches:
        if name not in known:
            log.warning(f"{lock.series} has patches for {name}, which is not in its lock")
        elif (artifact := known[name].artifacts[0]).is_wheel:
            raise DataError(
                f"{name} has patches in {lock.series}, but its lock has a wheel: {artifact.file}",
                hint="patches apply to sdists: lock the sdist, or remove the patches",
            )


def list_closure_roots(wanted: resolve.Request, lock: Lock) -> dict[str, list[str]]:
    """Return the roots of each locked service's closure: its distribution, and its drivers."""
    locked = graph.index_by_name(lock)
    roots = {
        name: [distribution, *(d.name for d in wanted.drivers if name in d.services)]
        for name, distribution in wanted.services.items()
        if canonicalize_name(distribution) in locked
    }
    # a stale service, which is not built, may lack a driver
    return {s: [n for n in names if canonicalize_name(n) in locked] for s, names in roots.items()}


def _restrict_packages(
    context: library.Context,
    libraries: Sequence[library.Package],
    lock: Lock,
    left_out: Collection[str],
) -> tuple[library.Package, ...]:
    """Return the packages of the distributions a restricted lock still has."""
    names = graph.index_by_name(lock)
    closures = {f"{context.prefix}closure-{service}" for service in left_out}
    return tuple(
        p
        for p in libraries
        if p.name not in closures
        and (p.distribution is None or canonicalize_name(p.distribution.name) in names)
    )


def decide_actions(work: Work) -> Work:
    """Return `work` with the action for each package, from what is published and cached."""
    options, suite = work.options, name_suite(work.options)
    lost = publish.find_lost(options.repo, suite)
    binaries = list_known_versions(
        publish.list_published(options.repo, suite), {e.key for e in lost}
    )
    # the packages of a service are made together, from its source
    of_sources = {(e.source, e.source_version, "source") for e in lost}
    sources = list_known_versions(publish.list_published_sources(options.repo, suite), of_sources)

    def is_cached(inputs: str, revision: int) -> bool:
        return caches.is_sound(locate_package(work.dirs, inputs, revision))

    def decide_package(package: library.Package) -> Action:
        known = binaries.get(package.name, [])
        return decide(package.name, package.inputs, package.make_version, known, is_cached)

    with ThreadPoolExecutor() as threads:  # cached files are read in full
        library_actions = {a.package: a for a in threads.map(decide_package, work.libraries)}
    service_actions = {}
    for name, service in work.services.items():
        version = partial(
            make_full_version,
            options.series.versions[name],
            options.target.release,
            epoch=service.epoch,
            layers=[patch.layer for patch in _find_patches(work, service)],
        )
        inputs = _hash_service_inputs(work, service)
        service_actions[name] = decide(name, inputs, version, sources.get(name, []), is_cached)
    decided_work = dataclasses.replace(
        work,
        libraries=tuple(
            dataclasses.replace(p, revision=library_actions[p.name].revision)
            for p in work.libraries
        ),
        library_actions=library_actions,
        service_actions=service_actions,
    )
    return _plan_own(decided_work, binaries)


def plan_own(work: Work) -> Work:
    """Return `work` with the packages that are not part of a release, and the action for each.

    These are the package with the repository's key, the node command, and the node roles.
    """
    options, suite = work.options, name_suite(work.options)
    lost = {e.key for e in publish.find_lost(options.repo, suite)}
    return _plan_own(work, list_known_versions(publish.list_published(options.repo, suite), lost))


def _plan_own(work: Work, published: Mapping[str, Sequence[Known]]) -> Work:
    options, templates = work.options, work.dirs.templates
    series, target = options.series, options.target
    upgrade = catalogues.describe_upgrade(work.catalogue, series)
    own = (
        archive.make_archive_package(
            series, target, work.public, options.url, templates, upgrade=upgrade
        ),
        node.make_node_package(series, target, templates, _describe_debian(work)),
        *_choose_roles(work),
        *_choose_tool(work),
    )
    actions = (
        decide(p.name, p.hash_inputs(), p.make_version, published.get(p.name, []), lambda *_: False)
        for p in own
    )
    return dataclasses.replace(work, own=own, own_actions={a.package: a for a in actions})


def _describe_debian(work: Work) -> Mapping[str, object]:
    """Return what nodes need to know about Debian's own packages of the services."""
    catalogue, series, target = work.catalogue, work.options.series, work.options.target
    services = [work.plain_services[name] for name in series.versions]
    versions = {id_: each.versions for id_, each in catalogue.series.items()}
    return debian.describe_services(services, catalogue.successors, versions, target)


def _choose_roles(work: Work) -> list[Plain]:
    """Return the role packages whose parts are all in this build."""
    options, catalogue = work.options, work.catalogue
    built = {p.name for s in work.services.values() for p in s.packages}
    built |= {p.name for p in work.libraries} | {node.NAME}
    ours = {p.name for s in catalogue.services.values() for p in s.packages}
    ours |= {"openstackclient", node.NAME}
    series, order = options.series, catalogues.order_series(catalogue)
    services = [work.plain_services[name] for name in series.versions]
    roles = narrow_roles(catalogue.roles, series.id, order, services)
    return make_role_packages(
        roles, options.series, options.target, work.dirs.templates, ours=ours, built=built
    )


def _choose_tool(work: Work) -> list[Plain]:
    """Return the package of build-debs, if the whole series is built and has what it imports."""
    needed = catalogues.select_builders(work.catalogue, work.options.series)
    if not needed or _is_partial(work.options):
        return []
    known = graph.index_by_name(work.lock)
    members = [known[canonicalize_name(name)] for name in needed]
    return [tool.make_tool_package(work.context, work.dirs, members)]


def _is_partial(options: Options) -> bool:
    """Tell whether services of the series are left out."""
    return set(options.services) != set(options.series.versions)


def _read_key_wish(options: Options) -> publish.KeyWish:
    """Return the key asked for, and the public keys nodes get in addition to it."""
    trusted = publish.check_public_keys(options.trust_key) if options.trust_key else b""
    return {"key": options.key, "new_key": options.new_key, "trusted": trusted}


def list_known_versions(
    entries: Mapping[str, Sequence[publish.Entry]], lost: Collection[tuple[str, str, str]]
) -> dict[str, list[Known]]:
    """Return the versions of each package in the repository; `lost` are keys of entries."""
    return {
        name: [Known(e.version, e.inputs, e.key in lost) for e in rows]
        for name, rows in entries.items()
    }


def _list_service_epochs(catalogue: Catalogue, lock: Lock) -> dict[str, int]:
    """Return the Debian epoch of each service's code package, by distribution."""
    locked = {canonicalize_name(d.name) for d in lock.distributions if d.kind == "service"}
    names = {canonicalize_name(s.distribution): s.epoch for s in catalogue.services.values()}
    return {n: e for n, e in names.items() if n in locked}


def _restrict_lock(
    lock: Lock, closures: Mapping[str, Sequence[str]], others: Sequence[str]
) -> Lock:
    """Return the lock without what only left-out services need."""
    roots = [r for names in closures.values() for r in names]
    kept = graph.find_closure(lock, [*roots, *others])
    rows = tuple(d for d in lock.distributions if canonicalize_name(d.name) in kept)
    return dataclasses.replace(lock, distributions=rows)


def list_depends(
    context: library.Context,
    catalogue: Catalogue,
    lock: Lock,
    service: Service,
    shared: Sequence[tree.Shared] = (),
) -> tuple[str, ...]:
    """Return the Depends of the package that holds a service's Python code."""
    known = graph.index_by_name(lock)
    name = canonicalize_name(service.distribution)
    needed = graph.expand_requirements(known[name], (), known)
    rows = library.translate_requirements(context, needed, _list_service_epochs(catalogue, lock))
    owners = [library.name_package(context, s.owner) for s in shared if name in s.others]
    named = {row.split(" ")[0] for row in rows}
    return (context.base, *rows, *dict.fromkeys(o for o in owners if o not in named))


def _find_patches(work: Work, service: Service) -> tuple[Patch, ...]:
    return work.context.patches.get(canonicalize_name(service.distribution), ())


def _hash_service_inputs(work: Work, service: Service) -> str:
    """Return a checksum of what a service's packages are made from.

    Its sample files depend only on the bits of the distributions in its closure that bring
    options or policies.
    """
    name = canonicalize_name(service.distribution)
    distribution, recipe = graph.index_by_name(work.lock)[name], work.recipes.get(name)
    patches = _find_patches(work, service)
    generators = [
        d.artifacts[0].sha256
        for d in graph.find_closure(work.lock, [service.distribution]).values()
        if d.options and d.kind != "service"
    ]
    target = work.context.target
    room = sorted((work.context.templates / "service").iterdir())
    return hash_text(
        wheels.hash_inputs(distribution, work.lock, target, recipe, patches),
        repr(service),
        *list_depends(work.context, work.catalogue, work.lock, service, work.shared),
        *generators,
        *(p.read_text(encoding="utf-8") for p in room if p.is_file()),
        *(f"{p.name} of {p.layer}" for p in patches if p.layer),
        service_package.RECIPE,
        str(work.context.epoch_seconds),
        f"{target.compression} {target.compression_level}",
    )
