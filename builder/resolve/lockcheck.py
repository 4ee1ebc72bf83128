"""Check a lock for contradictions before anything is fetched or built from it.

A lock is data just like a file of `projects/`. `builder.model.reading` checks its form; this
module compares its parts with each other, and with what is to be built.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from builder.model import reading
from builder.model.shapes import parse_requirement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from builder.model.values import Artifact, Distribution, Lock

OUR_OWN = frozenset({"base", "archive"})  # our own packages that are not distributions
SDIST_ENDING = re.compile(r"\.(tar\.gz|tgz|tar\.bz2|zip)$")


def check(lock: Lock) -> list[tuple[str, str]]:
    """Return the contradictions in a lock: the place in the file, and what is wrong there.

    Each name must occur once, each requirement must be met by a version in the lock, and each
    file must be one of its distribution.
    """
    # an unreadable requirement cannot be followed in a closure
    return list(_check_rows(lock)) or list(_check_closure(lock))


def _check_rows(lock: Lock) -> Iterator[tuple[str, str]]:
    for rows, key in ((lock.distributions, "distributions"), (lock.build, "build")):
        seen: dict[str, int] = {}
        for i, row in enumerate(rows):
            place, name = f"{key}[{i}]", canonicalize_name(row.name)
            if name in seen:
                yield f"{place}.name", f"{row.name} is already {key}[{seen[name]}]"
            seen[name] = i
            if (row.kind == "build") != (key == "build"):
                yield f"{place}.kind", f"{row.kind!r} is not allowed in {key}"
            for at, problem in _check_row(row, name):
                yield f"{place}.{at}", problem


def _check_closure(lock: Lock) -> Iterator[tuple[str, str]]:
    known = _index_by_name(lock)
    asked = _collect_extras(lock, known)
    for i, row in enumerate(lock.distributions):
        wanted = [(f"requires[{n}]", text) for n, text in enumerate(row.requires)]
        for extra in sorted(asked.get(canonicalize_name(row.name), ())):
            wanted += [(f"extras.{extra}[{n}]", t) for n, t in enumerate(row.extras.get(extra, ()))]
        for at, text in wanted:
            if problem := _explain_unmet(text, known):
                yield f"distributions[{i}].{at}", problem


def _check_row(row: Distribution, name: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a distribution by itself; `name` is its normalised name."""
    if name in OUR_OWN or name.startswith("closure-"):
        yield "name", f"{row.name} would be packaged under one of our own names"
    yield from _check_artifacts(row, name)
    for extra in row.extras:
        if extra != canonicalize_name(extra):
            yield f"extras.{extra}", f"expected the normalised name {canonicalize_name(extra)}"
    everything = [("requires", row.requires), *((f"extras.{e}", t) for e, t in row.extras.items())]
    for key, texts in everything:
        for n, text in enumerate(texts):
            if problem := _explain_invalid(text):
                yield f"{key}[{n}]", problem


def _check_artifacts(row: Distribution, name: str) -> Iterator[tuple[str, str]]:
    if not row.artifacts:
        yield "artifacts", "expected at least one file"
    for n, artifact in enumerate(row.artifacts):
        if problem := _explain_misplaced(artifact, name, row.version):
            yield f"artifacts[{n}].file", problem
        if not artifact.sha256 and row.kind != "service":
            yield f"artifacts[{n}].sha256", "only a service's release tarball may be without one"


def _explain_misplaced(artifact: Artifact, name: str, version: str) -> str:
    """Return why a file does not belong to a distribution (PEP 427, PEP 625), or nothing."""
    said = f"{artifact.file} is not a file of {name} {version}"
    try:
        if artifact.is_wheel:
            found, of_version, _, _ = parse_wheel_filename(artifact.file)
            return "" if found == name and of_version == Version(version) else said
    except (InvalidWheelFilename, InvalidVersion) as error:
        return str(error)
    # An sdist's name was free-form before PEP 625, and its version's spelling still is.
    stem = canonicalize_name(SDIST_ENDING.sub("", artifact.file))
    return "" if stem.startswith(f"{name}-") else said


def _explain_invalid(text: str) -> str:
    """Return why a text is not a requirement a lock can have, or nothing."""
    try:
        found = parse_requirement(text)
    except (ValueError, RecursionError):
        return f"expected a requirement (PEP 508), got {reading.describe_value(text)}"
    if found.url or found.marker:
        part = "URL" if found.url else "marker"
        return (
            f"{reading.describe_value(text)} has a {part}: a lock has only what holds on its target"
        )
    return ""


def _explain_unmet(text: str, known: Mapping[str, Distribution]) -> str:
    """Return why a requirement is not met in the lock, or nothing."""
    wanted = parse_requirement(text)
    found = known.get(canonicalize_name(wanted.name))
    if found is None:
        return f"{wanted.name}, required by {text!r}, is not in the lock"
    if not wanted.specifier.contains(found.version, prereleases=True):
        return f"{text!r} does not allow {found.name} {found.version}"
    return ""


def _collect_extras(lock: Lock, known: Mapping[str, Distribution]) -> dict[str, set[str]]:
    """Return the extras that requirements name, by distribution, and those these name in turn."""
    asked: dict[str, set[str]] = {}
    queue = deque(text for d in lock.distributions for text in d.requires)
    while queue:
        wanted = parse_requirement(queue.popleft())
        name = canonicalize_name(wanted.name)
        for extra in map(canonicalize_name, wanted.extras):
            if name in known and extra not in asked.setdefault(name, set()):
                asked[name].add(extra)
                queue.extend(known[name].extras.get(extra, ()))
    return asked


def check_for(
    lock: Lock,
    services: Mapping[str, str],
    others: Iterable[str],
    loads: Callable[[str], bool],
) -> Iterator[tuple[str, str]]:
    """Yield where a lock does not fit what is to be built: the place, and what is wrong there.

    `services` maps the distribution of each service to its version, `others` are further
    distributions that must be there, and `loads` tells whether a wheel loads on the target.
    """
    wanted = {canonicalize_name(n): v for n, v in services.items()}
    known = _index_by_name(lock)
    for i, row in enumerate(lock.distributions):
        place, version = f"distributions[{i}]", wanted.get(canonicalize_name(row.name))
        if (row.kind == "service") != (version is not None):
            right = "library" if version is None else "service"
            yield f"{place}.kind", f"{row.name} is a {right}, not a {row.kind}"
        elif version is not None and Version(version) != Version(row.version):
            yield f"{place}.version", f"{row.name} is {version} in this series"
        elif version is not None and row.artifacts[0].is_wheel:
            yield f"{place}.artifacts[0].file", "a service is built from an sdist"
        elif row.artifacts[0].is_wheel and not loads(row.artifacts[0].file):
            yield f"{place}.artifacts[0].file", "a wheel of these tags does not load on the target"
    for name in [*services, *others]:
        if canonicalize_name(name) not in known:
            yield "distributions", f"{name} is missing"


def _index_by_name(lock: Lock) -> dict[str, Distribution]:
    return {canonicalize_name(d.name): d for d in lock.distributions}
