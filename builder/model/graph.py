"""Which distributions of a lock require which."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from builder.model.shapes import parse_requirement
from builder.model.values import Distribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packaging.requirements import Requirement

    from builder.model.values import Lock


def index_by_name(lock: Lock) -> dict[str, Distribution]:
    """Map normalised name (PEP 503) to distribution."""
    return {canonicalize_name(d.name): d for d in lock.distributions}


def expand_requirements(
    distribution: Distribution,
    extras: Iterable[str],
    known: Mapping[str, Distribution],
    seen: frozenset[tuple[str, str]] = frozenset(),
) -> Iterator[Requirement]:
    """Yield what `distribution` requires with `extras`, and what the extras it names add.

    `seen`: extras that led here, as name and extra; two may name each other.
    """
    wanted = [*distribution.requires]
    for extra in sorted(extras):
        wanted += distribution.extras.get(canonicalize_name(extra), ())
    for text in wanted:
        needed = parse_requirement(text)
        yield needed
        name = canonicalize_name(needed.name)
        added = {(name, canonicalize_name(extra)) for extra in needed.extras} - seen
        if added and name in known:
            # X[e] has no package of its own: what requires it depends on what e adds
            base = dataclasses.replace(known[name], requires=())
            yield from expand_requirements(base, {extra for _, extra in added}, known, seen | added)


def find_closure(lock: Lock, roots: Iterable[str]) -> dict[str, Distribution]:
    """Return every distribution reachable from `roots`, by normalised name."""
    known, found = index_by_name(lock), dict[str, Distribution]()
    queue = deque(canonicalize_name(r) for r in roots)
    while queue:
        name = queue.popleft()
        if name in found or name not in known:
            continue
        found[name] = known[name]
        needed = expand_requirements(known[name], (), known)
        queue.extend(canonicalize_name(r.name) for r in needed)
    return dict(sorted(found.items()))


def find_dependents(lock: Lock, name: str) -> list[tuple[Distribution, str]]:
    """Return the distributions that require `name` directly, each with the requirement as text."""
    wanted, known = canonicalize_name(name), index_by_name(lock)
    rows = []
    for distribution in lock.distributions:
        found = {
            str(r): None
            for r in expand_requirements(distribution, (), known)
            if canonicalize_name(r.name) == wanted
        }
        rows += [(distribution, text) for text in found]
    return rows
