"""Read and write a lock, and ask it questions. A lock is a value; this is its file format."""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.errors import DataError
from builder.files import write_atomically
from builder.model import Artifact, Distribution, Lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FORMAT = 1


def write(lock: Lock, path: Path) -> bool:
    """Write `lock` as JSON, one value a line so that a change reads well; False if unchanged."""
    rows: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(_plain(lock))}
    text = json.dumps(rows, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if path.exists() and path.read_text() == text:
        return False
    write_atomically(path, text.encode())
    return True


def _plain(lock: Lock) -> Lock:
    """Return the lock with plain dicts inside, which `asdict` and json can copy."""

    def plain(rows: tuple[Distribution, ...]) -> tuple[Distribution, ...]:
        return tuple(dataclasses.replace(d, extras=dict(d.extras)) for d in rows)

    return dataclasses.replace(
        lock,
        inputs=dict(lock.inputs),
        distributions=plain(lock.distributions),
        build=plain(lock.build),
    )


def read(path: Path) -> Lock:
    """Read a lock; DataError when it is not one, or of a later format."""
    try:
        raw = json.loads(path.read_text())
        if raw["format"] != FORMAT:
            raise DataError(f"{path}: format {raw['format']} is not known (this reads {FORMAT})")
        return Lock(
            series=raw["series"],
            target=raw["target"],
            python=raw["python"],
            inputs=MappingProxyType(raw["inputs"]),
            distributions=tuple(_distribution(d) for d in raw["distributions"]),
            build=tuple(_distribution(d) for d in raw["build"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a lock: {error!r}", hint="make it again with `build-debs lock`"
        ) from error


def _distribution(raw: dict[str, Any]) -> Distribution:
    return Distribution(
        name=raw["name"],
        version=raw["version"],
        kind=raw["kind"],
        requires=tuple(raw["requires"]),
        extras=MappingProxyType({k: tuple(v) for k, v in raw["extras"].items()}),
        artifacts=tuple(Artifact(**a) for a in raw["artifacts"]),
        reason=tuple(raw["reason"]),
        summary=raw["summary"],
        homepage=raw["homepage"],
        options=raw["options"],
    )


def by_name(lock: Lock) -> dict[str, Distribution]:
    """Map normalised name (PEP 503) to distribution."""
    return {canonicalize_name(d.name): d for d in lock.distributions}


def requirements(
    distribution: Distribution, extras: Iterable[str], known: Mapping[str, Distribution]
) -> Iterator[Requirement]:
    """Yield what `distribution` requires with `extras`, and what the extras it names add."""
    wanted = [*distribution.requires]
    for extra in sorted(extras):
        wanted += distribution.extras.get(canonicalize_name(extra), ())
    for text in wanted:
        requirement = Requirement(text)
        yield requirement
        name = canonicalize_name(requirement.name)
        if requirement.extras and name in known:
            # package X[e] has no package of its own: whoever asks for it depends on what e adds
            base = dataclasses.replace(known[name], requires=())
            yield from requirements(base, requirement.extras, known)


def closure(lock: Lock, roots: Iterable[str]) -> dict[str, Distribution]:
    """Return every distribution reachable from `roots`, by normalised name."""
    known, found = by_name(lock), dict[str, Distribution]()
    queue = deque(canonicalize_name(r) for r in roots)
    while queue:
        name = queue.popleft()
        if name in found or name not in known:
            continue
        found[name] = known[name]
        needed = requirements(known[name], (), known)
        queue.extend(canonicalize_name(r.name) for r in needed)
    return dict(sorted(found.items()))


def required_by(lock: Lock, name: str) -> list[tuple[Distribution, str]]:
    """Return who requires `name` directly, each with the requirement as it stands."""
    wanted, known = canonicalize_name(name), by_name(lock)
    rows = []
    for distribution in lock.distributions:
        found = {
            str(r): None
            for r in requirements(distribution, (), known)
            if canonicalize_name(r.name) == wanted
        }
        rows += [(distribution, text) for text in found]
    return rows
