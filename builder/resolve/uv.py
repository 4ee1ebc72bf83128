"""Resolve: service versions and upper-constraints become a lock (PEP 440, PEP 508, PEP 751).

uv does the resolving; this module asks it, and turns its answer into the
closure with the requirement chains that put each distribution there.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import deque
from dataclasses import dataclass, replace
from importlib.metadata import Distribution as InstalledDistribution
from importlib.metadata import distributions as installed_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from builder import index, web
from builder.errors import BuildError, DataError, FetchError, ResolveError, list_nearest
from builder.files import hash_file, hash_text, open_scratch
from builder.model import reading
from builder.model.shapes import URL, make_line
from builder.model.values import Artifact, Distribution, Lock
from builder.resolve import constraints as constraint_files
from builder.run import find_uv, run
from builder.sdist import read_build_requires

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from builder.model.values import Driver, Override, Series, Target

# Upstream's own redirector to the newest constraints of a series.
LIVE_CONSTRAINTS = "https://releases.openstack.org/constraints/upper/{id}"
OPTION_GROUPS = frozenset({"oslo.config.opts", "oslo.policy.policies"})
REFUSED = re.compile(r"\b(401 Unauthorized|403 Forbidden|407 Proxy)")  # uv's wording
LARGEST_SDIST = 1 << 30
NEWEST_PLATFORM = 40  # the highest glibc 2.x uv has a platform name for


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be resolved: everything that decides the lock, before any file is read."""

    series: Series
    target: Target
    services: Mapping[str, str]
    """Distribution name of each service, by service."""
    drivers: tuple[Driver, ...]
    overrides: tuple[Override, ...]
    build: tuple[Override, ...] = ()
    """What builds sdists beyond what their pyproject.toml names."""

    def digest(self) -> str:
        """Return a checksum of all that is of no single service; a lock with another is stale."""
        rows = sorted(f"driver {d.name}" for d in self.drivers if not d.services)
        rows += [f"override {o.requirement}" for o in self.overrides]
        rows += [f"build {o.requirement}" for o in self.build]
        return hash_text(self.series.id, self.target.suite, self.target.python, *rows)

    def hash_services(self) -> dict[str, str]:
        """Return a checksum of what each service asks for; a lock with another is stale there."""
        return {name: self._hash_service(name) for name in sorted(self.services)}

    def lock(
        self,
        constraints: str,
        user: Sequence[str],
        rows: tuple[Distribution, ...],
        build: tuple[Distribution, ...],
    ) -> Lock:
        """Return the lock of what was resolved: its rows, and what builds the sdists among them."""
        inputs = {"request": self.digest(), "constraints": hash_text(constraints)}
        if user:
            inputs["override"] = hash_text(*user)
        where = (self.series.id, self.target.suite, self.target.python)
        return Lock(*where, inputs, rows, build, self.hash_services())

    def _hash_service(self, service: str) -> str:
        drivers = sorted(canonicalize_name(d.name) for d in self.drivers if service in d.services)
        return hash_text(self.services[service], self.series.versions[service], *drivers)


def read_constraints(source: str | None, series: Series) -> str:
    """Return the text of upper-constraints from a file or URL, or live from upstream."""
    where = source or LIVE_CONSTRAINTS.format(id=series.id)
    return constraint_files.read(where, f"the constraints of {series.id}")


def apply_overrides(constraints: str, overrides: Iterable[str]) -> list[str]:
    """Return constraint lines in which each override replaces the pins of its name."""
    replaced = {canonicalize_name(Requirement(o).name): o for o in overrides}
    lines = [
        text
        for _, text in constraint_files.split_lines(constraints)
        if canonicalize_name(re.split(r"[=<>!~;\[ ]", text)[0]) not in replaced
    ]
    return lines + list(replaced.values())


def read_overrides(path: Path) -> tuple[str, ...]:
    """Read a user's `--override` file: one PEP 508 requirement per line, `#` begins a comment."""
    raw = reading.read_given(path, constraint_files.LARGEST)
    text = constraint_files.decode(raw, str(path))
    return tuple(constraint_files.parse(text, str(path)))


def resolve(
    request: Request, constraints: str, user: Sequence[str] = (), tarballs: Path | None = None
) -> Lock:
    """Resolve `request` under `constraints` into a lock; layers: constraints < project < `user`.

    `tarballs` is a directory searched for release tarballs before the index is asked.
    Raises ResolveError with uv's explanation of a conflict.
    """
    lines = apply_overrides(constraints, [*(o.requirement for o in request.overrides), *user])
    roots = {
        d: _require_root(d, request.series.versions[s], tarballs)
        for s, d in request.services.items()
    }
    wanted = [*roots.values(), *(d.name for d in request.drivers)]
    services = {canonicalize_name(d) for d in roots}
    check_dependencies(user, services)
    with open_scratch() as work:
        packages = _compile(request.target, wanted, lines, work / "pylock.toml")
        metadata = _read_metadata(request.target, packages, work / "site")
        sources = [p for p in packages if p["name"] in services or not p.get("wheels")]
        named = {r for p in sources for r in read_build_requires(_fetch_sdist(p, work))}
        needed = sorted(named | {b.requirement for b in request.build})
        pinned = [f"{p['name']}=={p['version']}" for p in packages]
        builders = _compile(request.target, needed, [*lines, *pinned], work / "pylock.build.toml")
        rows = make_lock_rows(request, packages, metadata, services)
    check_effect(user, [p["name"] for p in (*packages, *builders)])
    build = tuple(
        Distribution(
            p["name"], p["version"], "build", (), {}, _rank_artifacts(p, request.target, False), ()
        )
        for p in builders
    )
    return request.lock(constraints, user, rows, build)


def check_dependencies(user: Iterable[str], services: Collection[str]) -> None:
    """Refuse an override of a service: its version decides more than its code."""
    for text in user:
        name = canonicalize_name(Requirement(text).name)
        if name in services:
            raise DataError(
                f"override {text!r}: {name} is a service, whose version is set in projects/series",
                hint="override only dependencies",
            )


def check_effect(user: Iterable[str], known: Iterable[str]) -> None:
    """Refuse an override, perhaps misspelt, of a name that is not in the closure."""
    names = {canonicalize_name(n) for n in known}
    for text in user:
        name = canonicalize_name(Requirement(text).name)
        if name not in names:
            raise DataError(
                f"override {text!r}: nothing here requires {name}",
                hint=f"nearest: {list_nearest(name, names)}",
            )


def _require_root(name: str, version: str, tarballs: Path | None) -> str:
    stem = f"{name}-{version}.tar.gz"
    for file in (stem, stem.replace("-", "_", name.count("-"))):
        if tarballs and (tarballs / file).exists():
            return f"{name} @ {(tarballs / file).resolve().as_uri()}"
    return f"{name}==={version}"


def _compile(
    target: Target, wanted: Sequence[str], constraints: Sequence[str], output: Path
) -> list[dict[str, Any]]:
    """Ask uv for the closure of `wanted`; returns the packages of its pylock.toml (PEP 751)."""
    files = output.with_suffix(".in"), output.with_suffix(".constraints")
    files[0].write_text("\n".join(wanted) + "\n", encoding="utf-8")
    files[1].write_text("\n".join(constraints) + "\n", encoding="utf-8")
    argv = [find_uv(), "pip", "compile", "--quiet", "--no-header", *_choose_platform(target)]
    argv += ["--format", "pylock.toml", "-c", str(files[1]), "-o", str(output), str(files[0])]
    done = run([*argv, *index.list_uv_arguments()], index=True, check=False)
    if done.returncode != 0:
        details = index.mask_secrets(done.stderr.decode(errors="replace")).strip().splitlines()
        _check_refused(details)
        if not any("No solution found" in line for line in details):
            raise FetchError(
                f"the requirements of {target.suite} cannot be resolved",
                details=details,
                hint="check the network and the package index settings",
            )
        raise ResolveError(
            f"the requirements of {target.suite} have no solution",
            details=details,
            hint="see the chain above; --override replaces a pin",
        )
    packages: list[dict[str, Any]] = tomllib.loads(output.read_text(encoding="utf-8")).get(
        "packages", []
    )
    return packages


def _check_refused(details: Iterable[str]) -> None:
    """Raise FetchError if uv reports that the index refused its credentials."""
    lines = [line.strip() for line in details if REFUSED.search(line)]
    if lines:
        raise FetchError(
            "the package index refuses to answer without the right user and password",
            details=lines[:3],
            hint=index.HINT,
        )


def _choose_platform(target: Target) -> list[str]:
    glibc = min(int(target.glibc.split(".")[1]), NEWEST_PLATFORM)
    platform = ["--python-platform", f"x86_64-manylinux_2_{glibc}"]
    return [*_choose_interpreter(target), "--python-version", target.python, *platform]


def _choose_interpreter(target: Target) -> list[str]:
    """Name the target's interpreter if this machine has it, else the running one."""
    known = Path(target.interpreter).exists()
    return ["--python", target.interpreter if known else sys.executable]


def _read_metadata(
    target: Target, packages: Sequence[dict[str, Any]], site: Path
) -> dict[str, InstalledDistribution]:
    """Unpack every distribution, and return its metadata by normalised name."""
    published = [p for p in packages if p.get("wheels")]
    sources = [p for p in packages if not p.get("wheels")]
    # An sdist is built for this machine, whatever the target: only its metadata is read.
    for rows, platform in (
        (published, _choose_platform(target)),
        (sources, _choose_interpreter(target)),
    ):
        if not rows:
            continue
        wanted = site.with_suffix(".txt")
        wanted.write_text("".join(f"{_require_exactly(p)}\n" for p in rows), encoding="utf-8")
        argv = [find_uv(), "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
        try:
            run([*argv, *platform, *index.list_uv_arguments(), "-r", str(wanted)], index=True)
        except BuildError as error:
            _check_refused(error.details)
            raise ResolveError(
                "the metadata of the closure cannot be read", details=error.details
            ) from error
    found = installed_distributions(path=[str(site)])
    return {canonicalize_name(d.name): d for d in found}


def _fetch_sdist(package: Mapping[str, Any], work: Path) -> Path:
    """Return the sdist of a package, downloaded from where uv found it."""
    if "archive" in package:
        return Path(package["archive"]["path"])
    row: Mapping[str, str] = package["sdist"]
    if "path" in row:
        return Path(row["path"])
    path = work / row["url"].rsplit("/", 1)[1]
    try:
        path.write_bytes(web.get(row["url"], timeout=120, largest=LARGEST_SDIST))
    except web.NoAnswerError as error:
        raise FetchError(
            f"cannot download {path.name}",
            details=[str(error)],
            hint=web.choose_hint(error.status, "check the network and the package index settings"),
        ) from error
    return path


def _require_exactly(package: Mapping[str, Any]) -> str:
    if "archive" in package:
        archive = package["archive"]
        return f"{package['name']} @ {archive.get('url') or Path(archive['path']).as_uri()}"
    return f"{package['name']}=={package['version']}"


def make_environment(target: Target) -> dict[str, str]:
    """Return the marker environment (PEP 508) of the target's own Python."""
    return {
        "implementation_name": "cpython",
        "implementation_version": target.python,
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": target.python,
        "python_version": target.python_minor,
        "sys_platform": "linux",
    }


def _rank_artifacts(
    package: Mapping[str, Any], target: Target, source: bool
) -> tuple[Artifact, ...]:
    """Return the usable files, the one to take first: the best wheel, or the sdist if `source`."""
    if "archive" in package:
        path = Path(package["archive"]["path"])
        return (Artifact(path.name, hash_file(path), path.stat().st_size),)
    order = {tag: n for n, tag in enumerate(list_supported_tags(target))}
    ranked = []
    for wheel in package.get("wheels", ()):
        artifact = _parse_artifact(wheel)
        tags = parse_wheel_filename(artifact.file)[3]
        rank = min((order[t] for t in tags if t in order), default=None)
        if rank is not None:
            ranked.append((rank, artifact.file, artifact))
    wheels = [artifact for _, _, artifact in sorted(ranked, key=lambda row: row[:2])]
    sdist = [_parse_artifact(package["sdist"])] if "sdist" in package else []
    return tuple(sdist if source else wheels + sdist)


def _parse_artifact(row: Mapping[str, Any]) -> Artifact:
    file = row.get("name") or row["url"].rsplit("/", 1)[1]
    return Artifact(file, row["hashes"]["sha256"], row.get("size", 0))


def list_supported_tags(target: Target) -> list[Any]:
    """Return the wheel tags (PEP 425, PEP 600) that load on the target, best first."""
    minor = tuple(int(n) for n in target.python_minor.split("."))
    abis = ["cp27mu"] if target.is_python2 else None  # Debian's has wide characters
    newest = int(target.glibc.split(".")[1])
    platforms = [f"manylinux_2_{n}_x86_64" for n in range(newest, 4, -1)]
    platforms += [
        "manylinux2014_x86_64",
        "manylinux2010_x86_64",
        "manylinux1_x86_64",
        "linux_x86_64",
    ]
    return [
        *cpython_tags(minor, abis, platforms),
        *compatible_tags(minor, interpreter=f"cp{minor[0]}{minor[1]}", platforms=platforms),
    ]


def make_lock_rows(
    request: Request,
    packages: Sequence[dict[str, Any]],
    metadata: Mapping[str, InstalledDistribution],
    services: Collection[str],
) -> tuple[Distribution, ...]:
    """Return the rows of a lock: `packages` as a pylock.toml has them, with their `metadata`."""
    env = make_environment(request.target)
    needs = {n: select_requirements(d, env) for n, d in metadata.items()}
    asked = collect_extras(needs)
    reasons = _find_reasons(request, needs, services)
    rows = []
    for package in packages:
        name = canonicalize_name(package["name"])
        extras = {e: needs[name][e] for e in sorted(asked.get(name, ())) if needs[name].get(e)}
        row = _make_row(package, metadata[name], request.target, name in services)
        row = replace(row, requires=needs[name][""], extras=extras, reason=reasons.get(name, ()))
        rows.append(row)
    return tuple(sorted(rows, key=lambda d: canonicalize_name(d.name)))


def _make_row(
    package: Mapping[str, Any], found: InstalledDistribution, target: Target, service: bool
) -> Distribution:
    """Return the row of a package without its edges."""
    artifacts = _rank_artifacts(package, target, service)
    if not artifacts:
        raise ResolveError(f"{package['name']} {package['version']}: no usable file on the index")
    return Distribution(
        name=found.metadata["Name"],
        version=package["version"],
        kind="service" if service else "library",
        requires=(),
        extras={},
        artifacts=artifacts,
        reason=(),
        summary=make_line(found.metadata["Summary"] or ""),
        homepage=_find_homepage(found),
        options=any(e.group in OPTION_GROUPS for e in found.entry_points),
    )


def override(request: Request, lock: Lock, user: Sequence[str]) -> Lock:
    """Return `lock` with the pins of `user` in place of its own; all else is kept.

    Every other distribution keeps its locked version, so a conflict with one is reported
    (ResolveError), never resolved by moving it.
    """
    pins = "\n".join(f"{d.name}==={d.version}" for d in lock.distributions)
    lines = apply_overrides(pins, user)
    wanted = [d.name for d in lock.distributions if d.kind == "service"]
    wanted += [d.name for d in request.drivers]
    known = {canonicalize_name(d.name): d for d in lock.distributions}
    check_dependencies(user, {n for n, d in known.items() if d.kind == "service"})
    with open_scratch() as work:
        packages = _compile(request.target, wanted, lines, work / "pylock.toml")
        moved = [p for p in packages if _is_moved(p, known.get(canonicalize_name(p["name"])))]
        metadata = _read_metadata(request.target, moved, work / "site") if moved else {}
        env = make_environment(request.target)
        fresh = {}
        for package in moved:
            key = canonicalize_name(package["name"])
            needs = select_requirements(metadata[key], env)
            row = _make_row(package, metadata[key], request.target, service=False)
            extras = {e: rows for e, rows in needs.items() if e and rows}
            reason = known[key].reason if key in known else ("required by an override",)
            fresh[key] = replace(row, requires=needs[""], extras=extras, reason=reason)
    names = {canonicalize_name(p["name"]) for p in packages}
    check_effect(user, [*names, *(d.name for d in lock.build)])
    rows = {**{n: d for n, d in known.items() if n in names}, **fresh}
    inputs = {**lock.inputs, "override": hash_text(*user)}
    return replace(lock, inputs=inputs, distributions=tuple(rows[n] for n in sorted(rows)))


def _is_moved(package: Mapping[str, Any], row: Distribution | None) -> bool:
    return row is None or row.version != package["version"]


def _find_homepage(distribution: InstalledDistribution) -> str:
    info = distribution.metadata
    urls = [u.split(",", 1) for u in info.get_all("Project-URL") or []]
    named = [u.strip() for label, u in urls if label.strip().lower() in {"homepage", "home"}]
    found = [info["Home-page"] or "", *named, *(u.strip() for _, u in urls)]
    # A page of a package index is not the project's own, and the lock names no index.
    own = re.compile(r"https?://(?!(?:\w+\.)?(?:pypi|pythonhosted|cheeseshop)\b)")
    return next((u for u in found if own.match(u) and URL.fits(u)), "")


def select_requirements(
    distribution: InstalledDistribution, env: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return requirements that hold on the target, without markers, by extra ('' is always)."""
    rows = [Requirement(text) for text in distribution.requires or ()]
    extras = distribution.metadata.get_all("Provides-Extra") or []
    found = {"": [r for r in rows if _holds(r, env, "")]}
    for extra in extras:
        more = [r for r in rows if _holds(r, env, extra) and r not in found[""]]
        found[canonicalize_name(extra)] = more
    return {extra: tuple(_strip_marker(r) for r in rows) for extra, rows in found.items()}


def _holds(requirement: Requirement, env: Mapping[str, str], extra: str) -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate({**env, "extra": extra})


def _strip_marker(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def collect_extras(needs: Mapping[str, Mapping[str, tuple[str, ...]]]) -> dict[str, set[str]]:
    """Return, by distribution, the extras that any requirement names (and those these name)."""
    asked: dict[str, set[str]] = {}
    queue = deque((n, "") for n in needs)
    while queue:
        name, extra = queue.popleft()
        for text in needs.get(name, {}).get(extra, ()):
            requirement = Requirement(text)
            other = canonicalize_name(requirement.name)
            for further in map(canonicalize_name, requirement.extras):
                if further not in asked.setdefault(other, set()):
                    asked[other].add(further)
                    queue.append((other, further))
    return asked


def _find_reasons(
    request: Request, needs: Mapping[str, Mapping[str, tuple[str, ...]]], services: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Return why each distribution is in: a root's own reason, or the shortest chain from one."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(
        sorted(services), (f"service of {request.series.id}",)
    )
    for driver in request.drivers:
        found.setdefault(canonicalize_name(driver.name), (f"driver: {driver.reason}",))
    queue = deque(found)
    chains: dict[str, tuple[str, ...]] = {n: (n,) for n in found}
    while queue:
        name = queue.popleft()
        for text in (t for rows in needs.get(name, {}).values() for t in rows):
            requirement = Requirement(text)
            other = canonicalize_name(requirement.name)
            if other not in chains and other in needs:
                chains[other] = (*chains[name], _strip_marker(requirement))
                found[other] = chains[other]
                queue.append(other)
    return found
