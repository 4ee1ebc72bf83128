"""The values of the pipeline itself: a build's options, plan and result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from builder import publish, roots

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from builder.debs import library, tree
    from builder.debs.plain import Plain
    from builder.dirs import Dirs
    from builder.errors import BuildDebsError
    from builder.model.service import Service
    from builder.model.values import (
        Catalogue,
        Lock,
        Recipe,
        Series,
        Target,
    )
    from builder.pipeline.actions import Action, Outcome
    from builder.publish import KeyWish


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
    new_key: bool = False
    trust_key: Path | None = None
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
    """What a run did. `failures` is empty unless --keep-going let it continue past them.

    `missing` is what could not be made, `absent` the series' services that are not in the
    suite because they were not asked for.
    """

    lock: Lock
    rows: list[Row] = field(default_factory=list)
    failures: list[BuildDebsError] = field(default_factory=list)
    missing: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    tarballs: tuple[Tarball, ...] = ()
    published: publish.Published | None = None


@dataclass(frozen=True, slots=True)
class Work:
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
    memory: Path
    """The file that records which files of the lock's wheels are shared."""
    plain: tuple[library.Package, ...]
    """The libraries, and in `plain_services` the services, as if nothing was shared."""
    plain_services: Mapping[str, Service]
    wish: KeyWish
    """The key asked for, and the public keys nodes get in addition to it."""
    keys: tuple[bytes, ...] = ()
    """The public keys with which signatures of release tarballs are checked."""
    shared: tuple[tree.Shared, ...] = ()
    """The files known to be shared."""
    public: bytes = b""
    """The public key nodes get, armoured; empty if it is still to be made."""
    own: tuple[Plain, ...] = ()
    """The packages that are not part of a release: archive, node, roles, and build-debs."""
    own_actions: Mapping[str, Action] = field(default_factory=dict)
    failures: tuple[BuildDebsError, ...] = ()
    """What could not be fetched before the plan (--keep-going)."""

    @property
    def release_actions(self) -> list[Action]:
        """The action for each package of the release."""
        return [*self.library_actions.values(), *self.service_actions.values()]

    @property
    def actions(self) -> list[Action]:
        """The action for each package."""
        return [*self.release_actions, *self.own_actions.values()]


def name_suite(options: Options) -> publish.Suite:
    """Return the suite a build is published in."""
    series, target = options.series, options.target
    return publish.Suite(target.suite, series.id, series.name.title(), target.architecture)


def locate_package(dirs: Dirs, inputs: str, revision: int) -> Path:
    """Return the directory a package made from `inputs` is kept in."""
    return dirs.debs / inputs[:2] / f"{inputs}-{revision}"
