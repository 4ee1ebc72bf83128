"""The frozen values that pass from stage to stage."""

from __future__ import annotations

import copyreg
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.model.service import Package, Service, Successor
    from builder.model.shapes import (
        Architecture,
        ArtifactName,
        Date,
        DebianRelease,
        DebianVersion,
        DistributionName,
        EnvironmentName,
        EveryDistribution,
        FileSize,
        Fingerprint,
        GlibcVersion,
        Level,
        Line,
        LintianTag,
        ModuleName,
        OptionalSha256,
        OptionalUrl,
        OptionName,
        PackageName,
        PolicyVersion,
        PythonMinor,
        PythonVersion,
        Requirement,
        SeriesBound,
        SeriesId,
        SeriesName,
        ServiceName,
        Sha256,
        SuiteName,
        Text,
        TreeGlob,
        Version,
    )


def _freeze(rows: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(rows)


# Frozen values travel to the processes that build packages.
copyreg.pickle(MappingProxyType, lambda rows: (_freeze, (dict(rows),)))


@dataclass(frozen=True, slots=True)
class DebianServices:
    """Debian's own packages of our services in a suite (`[debian]` of a target).

    `series` is their series; `versions` has the version of each of Debian's source packages
    when its stable release was published (updates keep the upstream version).
    """

    series: SeriesBound = ""
    versions: Mapping[PackageName, DebianVersion] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """A Debian suite packages are made for (`projects/targets/<suite>.toml`).

    `python` is the full version of the suite's python3 (markers see it); `glibc` and
    `compression` determine which wheels load there and which members its dpkg can read.
    """

    suite: SuiteName
    release: DebianRelease
    python: PythonVersion
    glibc: GlibcVersion
    compression: Literal["zstd", "xz", "gzip"]
    compression_level: Level
    architecture: Architecture
    standards_version: PolicyVersion
    python2: PythonVersion = ""
    build_packages: tuple[PackageName, ...] = ()
    debian: DebianServices = field(default_factory=DebianServices)

    @property
    def python_minor(self) -> str:
        """`3.11` of `3.11.2`."""
        return ".".join(self.python.split(".")[:2])

    @property
    def interpreter(self) -> str:
        """The target's own interpreter, as an absolute path."""
        return f"/usr/bin/python{self.python_minor}"

    @property
    def units(self) -> str:
        """Where units are: Debian 13 moved them below /usr, and dpkg distinguishes the two paths.

        A file that moves from one package to another would be removed under its old path.
        """
        return "/usr/lib/systemd/system" if self.release >= 13 else "/lib/systemd/system"

    @property
    def is_python2(self) -> bool:
        """Whether the packages are for Python 2.7."""
        return self.python.startswith("2.")

    def narrow_to_series(self, series: Series) -> Target:
        """Return the target with the one of its Pythons that the series runs on."""
        old = all(minor.startswith("2.") for minor in series.python)
        return replace(self, python=self.python2) if old and self.python2 else self


@dataclass(frozen=True, slots=True)
class Series:
    """One release of OpenStack (`projects/series/<id>.toml`).

    `versions` maps each service to its newest version.
    """

    id: SeriesId
    name: SeriesName
    date: Date
    status: str
    slurp: bool
    python: tuple[PythonMinor, ...]
    targets: tuple[SuiteName, ...]
    signing_key: Fingerprint
    versions: Mapping[ServiceName, Version]

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
    """A distribution upstream leaves to the operator, and why it is included.

    It joins the closure of `services`, or with `every` that of all; drivers for one service are in
    that service's file. `client` adds it to the command line client's. `builder`: it is there for
    build-debs itself, which is a package of every suite with all services of its series.
    """

    name: DistributionName
    reason: Line
    services: tuple[ServiceName, ...] = ()
    every: bool = False
    client: bool = False
    builder: bool = False
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class Override:
    """One project override of a series' constraints, with the reason for it."""

    requirement: Requirement
    reason: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """A service whose tarball may be unavailable when a lock is made, and what it requires."""

    distribution: DistributionName
    requires: tuple[Requirement, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Overrides:
    """A file of `projects/overrides`: what a series' constraints lack.

    `override` rows replace pins. `build` rows are for sdists that do not name their build
    requirements in a pyproject.toml. With Python 2.7 they are all build requirements, pinned, each
    after those it is built with; else they are resolved with what the sdists name.
    """

    override: tuple[Override, ...] = ()
    build: tuple[Override, ...] = ()
    unseen: tuple[Unseen, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What building, trying and packaging a distribution needs beyond its metadata, and why.

    It applies to the series from `since` to `until`. `published`: take a compiled wheel from
    the index, in a series whose compiled modules are otherwise built from sdists.
    `not_imported`: modules that do not import for a good reason, such as one that only does
    so inside the distribution's own program; `not_loaded`: libraries that do not load.
    `exclude`: parts of the wheel that are not packaged. Both are paths relative to the tree
    (globs, `*` does not match `/`), where `{site}` stands for its site-packages.
    """

    distribution: DistributionName
    reason: str
    packages: tuple[PackageName, ...] = ()
    environment: Mapping[EnvironmentName, Line] = field(default_factory=dict)
    published: bool = False
    not_imported: tuple[ModuleName, ...] = ()
    not_loaded: tuple[TreeGlob, ...] = ()
    exclude: tuple[TreeGlob, ...] = ()
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class LintianOverride:
    """A lintian tag (with a context glob) that is not a defect of a package, and why."""

    distribution: EveryDistribution
    tag: LintianTag
    reason: str


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch on a distribution: its file's name, the first line of its Description, its text.

    `layer` is the name of the overlay it is from, empty for one of the project's own.
    """

    name: str
    description: str
    text: str
    layer: str = ""


@dataclass(frozen=True, slots=True)
class UpgradeStep:
    """A manual step for a service on the way to the series `to`.

    `when`: before the packages of that series are installed, or after.
    """

    to: SeriesId
    service: ServiceName
    when: Literal["before", "after"]
    text: Text


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proven of a series on a target by tests that CI has no time for (`make prove`).

    `inputs` is a checksum of everything that determined the outcome, `took` the duration.
    """

    cell: Line
    series: SeriesId
    target: SuiteName
    what: Line
    date: Date
    version: Version
    took: Line
    inputs: Line


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All of `projects/`, read once and frozen, with the `overlays` on top of it.

    `patches` maps a series to canonical names of distributions to their patches.
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
    successors: tuple[Successor, ...] = ()
    proofs: tuple[Proof, ...] = ()
    overlays: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of the package index: name, sha256 (hex) and size in bytes (0 if unknown)."""

    file: ArtifactName
    sha256: OptionalSha256
    size: FileSize

    @property
    def is_wheel(self) -> bool:
        """Whether the file is a wheel (else an sdist)."""
        return self.file.endswith(".whl")


Kind = Literal["service", "library", "build"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A locked distribution.

    `requires` are its requirements whose markers hold on the target (PEP 508, markers
    removed); `extras` the further ones of each extra that something in the lock requires.
    `options`: whether it has options or policies (the entry points oslo.config.opts
    and oslo.policy.policies), so that sample files generated from it depend on its bits.
    """

    name: DistributionName
    version: Version
    kind: Kind
    requires: tuple[str, ...]
    extras: Mapping[DistributionName, tuple[str, ...]]
    artifacts: tuple[Artifact, ...]
    reason: tuple[str, ...]
    summary: str = ""
    homepage: OptionalUrl = ""
    options: bool = False


@dataclass(frozen=True, slots=True)
class Lock:
    """The closure of a series on a target; `build` is what builds its sdists.

    `inputs`: checksums of what it was made from. `asked`: of what each service asked for.
    """

    series: SeriesId
    target: SuiteName
    python: PythonVersion
    inputs: Mapping[OptionName, Sha256]
    distributions: tuple[Distribution, ...]
    build: tuple[Distribution, ...] = field(default=())
    asked: Mapping[ServiceName, Sha256] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Every locked file, in the cache: sha256 to path."""

    files: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel ready to be packaged; `built`: whether it was built here, from the sdist `source`."""

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
    `inputs` is a checksum of everything that determines the packages' bits.
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
    """A built source package: its .dsc, the files it names, and its binary packages."""

    name: str
    version: str
    dsc: Path
    files: tuple[Path, ...]
    debs: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the packages of a service bring to a node, in tables by name.

    `packages`: synopsis. `units`: package and kind. `accounts`: the user, and the groups it
    joins. `directories`, `files` (below /etc): owner, group and mode. `sudoers`: lines,
    whole. `presets`: the value of `<file> [<section>] <option>`. The path of the series' tree
    is written `{tree}`, so that it is not a difference between two series.
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
    `defaults`: the values of unset options that have one; None if the package predates them.
    """

    options: Mapping[str, Mapping[str, str]]
    renamed: Mapping[str, Mapping[str, str]]
    defaults: Mapping[str, Mapping[str, str]] | None = None
