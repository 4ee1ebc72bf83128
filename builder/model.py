"""The frozen values that pass from stage to stage."""

from __future__ import annotations

import copyreg
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.service import Package, Service


def _frozen(rows: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(rows)


# Frozen values travel to the processes that build packages.
copyreg.pickle(MappingProxyType, lambda rows: (_frozen, (dict(rows),)))


@dataclass(frozen=True, slots=True)
class Target:
    """A Debian suite packages are made for (`projects/targets/<suite>.toml`).

    `python` is the full version of the suite's python3 (markers see it); `glibc` and
    `compression` say which wheels load there and which members its dpkg can read.
    """

    suite: str
    release: int
    python: str
    glibc: str
    compression: Literal["zstd", "xz", "gzip"]
    compression_level: int
    architecture: str
    standards_version: str
    python2: str = ""
    build_packages: tuple[str, ...] = ()

    @property
    def python_minor(self) -> str:
        """`3.11` of `3.11.2`."""
        return ".".join(self.python.split(".")[:2])

    @property
    def interpreter(self) -> str:
        """The target's own interpreter, as an absolute path."""
        return f"/usr/bin/python{self.python_minor}"

    @property
    def is_python2(self) -> bool:
        """Whether the packages are for Python 2.7."""
        return self.python.startswith("2.")

    def for_series(self, series: Series) -> Target:
        """Return the target with that of its Pythons the series runs on."""
        old = all(minor.startswith("2.") for minor in series.python)
        return replace(self, python=self.python2) if old and self.python2 else self


@dataclass(frozen=True, slots=True)
class Series:
    """One release of OpenStack (`projects/series/<id>.toml`).

    `versions` maps each service to its newest version.
    """

    id: str
    name: str
    date: str
    status: str
    slurp: bool
    python: tuple[str, ...]
    targets: tuple[str, ...]
    signing_key: str
    versions: Mapping[str, str]

    @property
    def number(self) -> str:
        """A Debian version of the series, later for a later one: `2026.1`; `2017.08.30` of pike."""
        return self.id if self.id[0].isdigit() else self.date.replace("-", ".")

    @property
    def tree(self) -> str:
        """The directory of this series' Python tree on a node."""
        return f"/usr/lib/openstack/{self.id}"


@dataclass(frozen=True, slots=True)
class Driver:
    """A distribution upstream leaves to the operator, and why it is in.

    It joins the closure of `services`; `client` puts it into the command line client's.
    """

    name: str
    reason: str
    services: tuple[str, ...] = ()
    client: bool = False
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """One project override of a series' constraints, with the reason for it."""

    requirement: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """A service whose tarball may not be to be had when a lock is made, and what it requires."""

    distribution: str
    requires: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Overrides:
    """A file of `projects/overrides`: what a series' constraints do not say.

    `override` rows replace pins. `build` rows are what builds sdists that do not say it in a
    pyproject.toml. With Python 2.7 they are all build requirements, pinned, each after those
    it is built with; else they are resolved with what the sdists say.
    """

    override: tuple[Override, ...] = ()
    build: tuple[Override, ...] = ()
    unseen: tuple[Unseen, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What building a distribution from its sdist needs beyond its metadata, and why.

    It holds for the series from `since` to `until`. `published`: a compiled wheel of the
    index is taken, in a series whose compiled modules are otherwise built from sdists.
    `not_imported`: modules that only import inside a program of the distribution's own.
    """

    distribution: str
    reason: str
    packages: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    published: bool = False
    not_imported: tuple[str, ...] = ()
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class LintianOverride:
    """A lintian tag (with a context glob) that is no defect of a package, and why."""

    distribution: str
    tag: str
    reason: str


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch on a distribution: its file's name, the first line of its Description, its text."""

    name: str
    description: str
    text: str


@dataclass(frozen=True, slots=True)
class UpgradeStep:
    """What a person has to do for a service on the way to the series `to`.

    `when`: before the packages of that series are installed, or after.
    """

    to: str
    service: str
    when: Literal["before", "after"]
    text: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All of `projects/`, read once and frozen.

    `patches` maps a series to canonical names of distributions to what is applied to them.
    """

    root: Path
    series: Mapping[str, Series]
    targets: Mapping[str, Target]
    services: Mapping[str, Service]
    drivers: tuple[Driver, ...]
    overrides: Mapping[str, Overrides]
    recipes: tuple[Recipe, ...]
    lintian: tuple[LintianOverride, ...] = ()
    roles: tuple[Package, ...] = ()
    patches: Mapping[str, Mapping[str, tuple[Patch, ...]]] = field(default_factory=dict)
    upgrade_steps: tuple[UpgradeStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of the package index: name, sha256 (hex) and size in bytes (0 when it did not say)."""

    file: str
    sha256: str
    size: int

    @property
    def is_wheel(self) -> bool:
        """Whether the file is a wheel (else an sdist)."""
        return self.file.endswith(".whl")


Kind = Literal["service", "library", "build"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A locked distribution.

    `requires` are its requirements whose markers hold on the target (PEP 508, markers
    removed); `extras` the further ones of each extra somebody in the lock asks for.
    `options` says that it brings options or policies (the entry points oslo.config.opts
    and oslo.policy.policies), so that sample files generated from it depend on its bits.
    """

    name: str
    version: str
    kind: Kind
    requires: tuple[str, ...]
    extras: Mapping[str, tuple[str, ...]]
    artifacts: tuple[Artifact, ...]
    reason: tuple[str, ...]
    summary: str = ""
    homepage: str = ""
    options: bool = False


@dataclass(frozen=True, slots=True)
class Lock:
    """The closure of a series on a target; `build` is what builds the sdists among it."""

    series: str
    target: str
    python: str
    inputs: Mapping[str, str]
    distributions: tuple[Distribution, ...]
    build: tuple[Distribution, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Fetched:
    """Every locked file, in the cache: sha256 to path."""

    files: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel ready to be packaged; `built` says it was built here, from the sdist `source`."""

    distribution: Distribution
    path: Path
    sha256: str
    built: bool
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class ServiceBuild:
    """What the build of one service's source package needs.

    `service` is already narrowed to the series. `tarball` is the release tarball (it
    becomes the orig.tar bit for bit), `wheel` the wheel built from it with `patches`
    applied, `tree` the root of a staging tree that holds the closure below
    `<tree>/usr/lib/openstack/<series>`.
    `inputs` is a checksum of all that decides the packages' bits.
    """

    service: Service
    series: Series
    target: Target
    version: str
    tarball: Path
    wheel: Path
    tree: Path
    revision: int
    epoch_seconds: int
    inputs: str = ""
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True, slots=True)
class SourcePackage:
    """A built source package: its .dsc and the files that names, and its binary packages."""

    name: str
    version: str
    dsc: Path
    files: tuple[Path, ...]
    debs: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the packages of a service bring to a node, in tables of a name to what it is.

    `packages`: synopsis. `units`: package and kind. `accounts`: the user, and the groups it
    joins. `directories`, `files` (below /etc): owner, group and mode. `sudoers`: lines,
    whole. `presets`: the value of `<file> [<section>] <option>`. What names the series'
    tree says `{tree}`, as it is no difference between two series that each has its own.
    """

    packages: Mapping[str, str]
    units: Mapping[str, str]
    accounts: Mapping[str, str]
    directories: Mapping[str, str]
    sudoers: Mapping[str, str]
    files: Mapping[str, str]
    presets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KnownOptions:
    """The options of a service's sample files, by section.

    `options`: to letters, `m` for multi-valued, `d` for deprecated for removal, `v` for a
    default that varies. `renamed`: a former name, with underscores, to `[section] option`.
    `defaults`: what options are when they are not set, of those that are something; None where
    the package is from before it said so.
    """

    options: Mapping[str, Mapping[str, str]]
    renamed: Mapping[str, Mapping[str, str]]
    defaults: Mapping[str, Mapping[str, str]] | None = None
