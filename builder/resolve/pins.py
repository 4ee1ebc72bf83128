"""Resolve for Python 2.7, which uv does not know: follow the pins, and check them.

Upper-constraints pin everything a release may need, so there is nothing to choose: the
closure is walked from the services and drivers, each requirement is checked against its pin,
and one without a pin is an error. Compiled modules come from sdists: the wheels of those
years bundle the OpenSSL of those years.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import PathDistribution
from typing import TYPE_CHECKING, Any, Protocol

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from builder import archives
from builder.errors import BuildError, DataError, ResolveError
from builder.files import open_scratch
from builder.model.shapes import parse_requirement
from builder.model.values import Distribution, Lock
from builder.resolve import uv as resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from builder.model.values import Artifact, Recipe, Unseen
    from builder.resolve.uv import Request

SDISTS = (".tar.gz", ".zip", ".tar.bz2")
JOBS = 4  # files fetched, and sdists built, at a time


class Index(Protocol):
    """Where files come from."""

    def list_files(self, name: str) -> Mapping[str, Sequence[Artifact]]:
        """Return the files of a distribution, by version."""


class Source(Index, Protocol):
    """An index that can also build wheels from sdists."""

    def provide_wheel(self, name: str, version: str, artifact: Artifact) -> Path:
        """Return the wheel `artifact` is, or that is built from it."""


def choose_build_tools(request: Request, index: Index) -> tuple[Distribution, ...]:
    """Return the rows of the build requirements, which the project pins, in their order."""
    rows = []
    for override in request.build:
        pin = Requirement(override.requirement)
        version = next(iter(pin.specifier)).version
        artifact = _choose(request, pin.name, version, index.list_files(pin.name), compiled=True)
        rows.append(Distribution(pin.name, version, "build", (), {}, (artifact,), ()))
    return tuple(rows)


def lock(
    request: Request,
    constraints: str,
    user: Sequence[str],
    source: Source,
    tools: tuple[Distribution, ...],
    *,
    recipes: Mapping[str, Recipe],
    patched: Collection[str],
    unseen: Mapping[str, Unseen],
) -> Lock:
    """Resolve `request` under `constraints`; `tools` are the rows of `choose_build_tools`.

    `user` are pins that replace all others of their names.
    `patched` are the distributions taken as sdists because they have patches. `unseen` has
    the requirements of services whose tarball is unavailable. Raises ResolveError with the
    chain of a requirement that has no pin, or conflicts with it.
    """
    services = {str(canonicalize_name(d)) for d in request.services.values()}
    resolve.check_dependencies(user, services)
    _check_exact(user)
    overrides = resolve.apply_overrides("", [*(o.requirement for o in request.overrides), *user])
    lines = resolve.apply_overrides(constraints, overrides)
    with open_scratch() as area:
        walk = _Walk(request, _parse_pins(lines, request), source, recipes, patched, unseen, area)
        walk.run()
        rows = resolve.make_lock_rows(
            request, list(walk.packages.values()), walk.metadata, services
        )
    resolve.check_effect(user, walk.packages)
    return request.lock(constraints, user, rows, tools)


def _check_exact(user: Iterable[str]) -> None:
    for text in user:
        operators = [s.operator for s in Requirement(text).specifier]
        if len(operators) != 1 or operators[0] not in {"==", "==="}:
            raise DataError(
                f"override {text!r}: for Python 2.7 it must name one version, NAME==VERSION"
            )


def render_constraints(lock: Lock) -> str:
    """Return the versions of a lock as constraints."""
    return "".join(f"{d.name}==={d.version}\n" for d in lock.distributions)


def keep_unchanged(lock: Lock, other: Lock) -> Lock:
    """Return `other`, with the rows of `lock` for all that has the same version in both."""
    known = {(d.name, d.version): d for d in lock.distributions}
    rows = tuple(known.get((d.name, d.version), d) for d in other.distributions)
    return replace(other, inputs={**lock.inputs, "override": other.inputs["override"]},
                   distributions=rows)  # fmt: skip


def _parse_pins(lines: Iterable[str], request: Request) -> dict[str, str]:
    """Return the pinned version of each name whose marker holds on the target."""
    env = resolve.make_environment(request.target)
    found = {}
    for line in lines:
        try:
            wanted = parse_requirement(line)
            holds = wanted.marker is None or wanted.marker.evaluate({**env, "extra": ""})
        except ValueError as error:
            raise DataError(f"constraint {line!r}: {error}") from error
        pinned = [s.version for s in wanted.specifier if s.operator in {"==", "==="}]
        if holds and len(pinned) == 1:
            found[str(canonicalize_name(wanted.name))] = pinned[0]
    for service, distribution in request.services.items():
        found[str(canonicalize_name(distribution))] = request.series.versions[service]
    return found


@dataclass(slots=True)
class _Walk:
    """A walk through the closure: what was found for each distribution."""

    request: Request
    pins: Mapping[str, str]
    source: Source
    recipes: Mapping[str, Recipe]
    patched: Collection[str]
    unseen: Mapping[str, Unseen]
    site: Path
    packages: dict[str, dict[str, Any]] = field(default_factory=dict)
    metadata: dict[str, PathDistribution] = field(default_factory=dict)

    def run(self) -> None:
        """Fetch and read, in waves, until nothing new is required."""
        roots = [*self.request.services.values(), *(d.name for d in self.request.drivers)]
        chains: dict[str, tuple[str, ...]] = {str(canonicalize_name(n)): (n,) for n in roots}
        env = resolve.make_environment(self.request.target)
        needs: dict[str, dict[str, tuple[str, ...]]] = {}
        while new := [n for n in chains if n not in self.packages]:
            with ThreadPoolExecutor(JOBS) as threads:
                for name, found in zip(
                    new, threads.map(lambda n: self._provide(n, chains[n]), new), strict=True
                ):
                    self.packages[name], self.metadata[name] = found
            needs |= {n: resolve.select_requirements(self.metadata[n], env) for n in new}
            asked = resolve.collect_extras(needs)
            for name in list(chains):
                for extra in ("", *sorted(asked.get(name, ()))):
                    for text in needs[name].get(extra, ()):
                        self._follow(chains, name, Requirement(text))

    def _follow(
        self, chains: dict[str, tuple[str, ...]], name: str, requirement: Requirement
    ) -> None:
        """Check a requirement against its pin, and record the chain to its distribution."""
        other = str(canonicalize_name(requirement.name))
        chain = (*chains[name], str(requirement))
        pin = self.pins.get(other)
        if pin is None:
            raise ResolveError(
                f"{requirement.name} has no pin",
                details=[" → ".join(chain)],
                hint=f"pin it in projects/overrides/{self.request.series.id}.toml, with a reason",
            )
        if not requirement.specifier.contains(pin, prereleases=True):
            raise ResolveError(
                f"{requirement.name} is pinned to {pin}, which {chains[name][-1]} does not allow",
                details=[" → ".join(chain)],
                hint=f"override a pin in projects/overrides/{self.request.series.id}.toml",
            )
        chains.setdefault(other, chain)

    def _provide(
        self, name: str, chain: tuple[str, ...]
    ) -> tuple[dict[str, Any], PathDistribution]:
        """Return the package's files, as uv lists them, and its metadata."""
        services = {str(canonicalize_name(d)): d for d in self.request.services.values()}
        if name not in self.pins:
            raise ResolveError(f"{chain[-1]} has no pin")
        version, files = self.pins[name], self.source.list_files(name)
        if name in services and name in self.unseen and version not in files:
            return self._describe_unseen(services[name], version)
        recipe = self.recipes.get(name)
        compiled = bool(recipe and recipe.published)
        try:
            chosen = _choose(
                self.request,
                name,
                version,
                files,
                compiled=compiled,
                source=name in services or name in self.patched,
            )
        except ResolveError as error:
            raise ResolveError(error.message, details=[" → ".join(chain)]) from error
        place = self.site / name
        wheel = self.source.provide_wheel(name, version, chosen)
        with archives.open_zip(wheel, "wheel") as archive:
            members = [m for m in archive.namelist() if ".dist-info/" in m]
            archive.extractall(place, members)
        infos = list(place.glob("*.dist-info"))
        if len(infos) != 1:
            raise BuildError(f"{wheel.name}: expected one .dist-info directory, got {len(infos)}")
        (info,) = infos
        row = {"name": chosen.file, "hashes": {"sha256": chosen.sha256}, "size": chosen.size}
        key = {"wheels": [row]} if chosen.is_wheel else {"sdist": row}
        return {"name": name, "version": version, **key}, PathDistribution(info)

    def _describe_unseen(self, name: str, version: str) -> tuple[dict[str, Any], PathDistribution]:
        """Return a service whose tarball is unavailable, as the project describes it."""
        info = self.site / name / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        row = self.unseen[str(canonicalize_name(name))]
        lines = [f"Requires-Dist: {text}\n" for text in row.requires]
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{''.join(lines)}"
        (info / "METADATA").write_text(text, encoding="utf-8")
        file = {"name": f"{name}-{version}.tar.gz", "hashes": {"sha256": ""}, "size": 0}
        return {"name": name, "version": version, "sdist": file}, PathDistribution(info)


def _choose(
    request: Request,
    name: str,
    version: str,
    files: Mapping[str, Sequence[Artifact]],
    *,
    compiled: bool,
    source: bool = False,
) -> Artifact:
    """Return the file to take: a pure wheel (a `compiled` one too, if asked), or the sdist.

    With `source` it is the sdist.
    """
    rows = next((rows for v, rows in files.items() if _is_same_version(v, version)), ())
    order = {tag: n for n, tag in enumerate(resolve.list_supported_tags(request.target))}
    ranked = []
    for row in rows:
        if row.is_wheel and not source:
            try:
                tags = parse_wheel_filename(row.file)[3]
            except InvalidWheelFilename:
                continue
            ranks = [order[t] for t in tags if t in order and (compiled or t.platform == "any")]
            ranked += [(min(ranks), row.file, row)] if ranks else []
    ranked.sort(key=lambda item: item[:2])
    sdists = [r for ending in SDISTS for r in rows if r.file.endswith(ending)]
    chosen = [row for _, _, row in ranked] + sdists
    if not chosen:
        raise ResolveError(f"{name} {version}: no usable file on the index")
    return chosen[0]


def _is_same_version(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
