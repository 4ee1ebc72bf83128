"""The plan: what a build will do and why, as data. Nothing here touches a disk or a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from builder.debs.versions import split_revision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Verb = Literal["build", "reuse", "keep"]
Outcome = Literal["planned", "built", "reused", "kept", "failed", "left out"]


@dataclass(frozen=True, slots=True)
class Known:
    """A version of a package in the repository: its full Debian version, and its Build-Inputs.

    `lost` means that a file of it is missing from the pool, or damaged.
    """

    version: str
    inputs: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """What is done for one package (for a service: its source package), and why."""

    package: str
    version: str
    revision: int
    inputs: str
    verb: Verb
    reason: str


def decide(
    package: str,
    inputs: str,
    version: Callable[[int], str],
    known: Sequence[Known],
    is_cached: Callable[[str, int], bool],
) -> Action:
    """Choose a package's revision, and whether it is built, taken from the cache or published.

    `version` returns the full version for a revision; `known` are the package's versions in
    the repository. Bits that differ from the newest published revision get the next one: no
    file of the pool ever changes, older revisions may have been pruned, and apt takes what
    was asked for last. Files the pool has lost are rebuilt bit for bit, under the same
    revision.
    """
    stem, _ = split_revision(version(1))
    numbers = ((split_revision(k.version), k) for k in known)
    revisions = {n: k for (start, n), k in numbers if n and start == stem}
    newest = max(revisions, default=0)
    if newest and revisions[newest].inputs == inputs:
        if not revisions[newest].lost:
            reason = "in the repository, made from the same inputs"
            return Action(package, version(newest), newest, inputs, "keep", reason)
        verb: Verb = "reuse" if is_cached(inputs, newest) else "build"
        reason = "its files in the pool are missing or damaged"
        return Action(package, version(newest), newest, inputs, verb, reason)
    revision = newest + 1
    if is_cached(inputs, revision):
        reason = "built before from the same inputs"
        return Action(package, version(revision), revision, inputs, "reuse", reason)
    reason = "new" if not known else _explain_build(version(revision), revision)
    return Action(package, version(revision), revision, inputs, "build", reason)


def _explain_build(version: str, revision: int) -> str:
    if revision > 1:
        return f"its inputs differ from those of revision {revision - 1}"
    return f"{version} is not in the repository yet"


def summarise(actions: Sequence[Action]) -> str:
    """Return the plan in one line: how many packages are built, reused, kept."""
    verbs: Mapping[str, str] = {"build": "to build", "reuse": "from the cache", "keep": "unchanged"}
    counts = {verb: sum(a.verb == verb for a in actions) for verb in verbs}
    return ", ".join(f"{n} {verbs[v]}" for v, n in counts.items() if n) or "nothing to do"
