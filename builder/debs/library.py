"""Library packages: one Debian package per Python distribution, in the series' own tree.

`plan` derives the packages from the lock alone; `build` makes one from its wheel.
A package is laid out in a directory and packed by dpkg-deb.
"""

from __future__ import annotations

import gzip
import re
import shlex
import tempfile
import textwrap
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from builder.debs import elf, licences, pack, tree
from builder.debs.debian import describe_transition, is_lower
from builder.debs.versions import make_full_version, translate_specifier, translate_version
from builder.files import hash_text
from builder.model import graph
from builder.model.values import LintianOverride
from builder.templates import MAINTAINER, format_date, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.requirements import Requirement

    from builder.model.service import Successor
    from builder.model.values import Distribution, Lock, Patch, Series, Target, Wheel
    from builder.roots import Root

RECIPE = "2"  # increase it when a change here changes the bits of a package


@dataclass(frozen=True, slots=True)
class Package:
    """A library package to build: everything in its control file, and what it is made from.

    The pipeline chooses `revision`: it knows what is already published.
    """

    name: str
    series: Series
    target: Target
    upstream: str
    summary: str
    description: tuple[str, ...]
    relations: Mapping[str, tuple[str, ...]]
    inputs: str
    homepage: str = ""
    epoch: int = 0
    distribution: Distribution | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    lintian: tuple[LintianOverride, ...] = ()
    revision: int = 1
    patches: tuple[Patch, ...] = ()
    section: str = "python"

    @property
    def version(self) -> str:
        """The full Debian version."""
        return self.make_version(self.revision)

    def make_version(self, revision: int) -> str:
        """Return the full Debian version of another revision."""
        layers = (patch.layer for patch in self.patches)
        return make_full_version(self.upstream, self.target.release, revision, self.epoch, layers)


@dataclass(frozen=True, slots=True)
class Context:
    """What all packages of a run share.

    `patches` are the series' patches of each distribution, by canonical name; `successors` are
    the transitional packages that belong to no service. `exclude` lists the parts of a wheel
    that are not packaged: paths (globs whose `*` does not match `/`) relative to the tree;
    `{site}` stands for its site-packages.
    """

    series: Series
    target: Target
    templates: Path
    epoch_seconds: int
    lintian: tuple[LintianOverride, ...] = ()
    patches: Mapping[str, tuple[Patch, ...]] = field(default_factory=dict)
    successors: tuple[Successor, ...] = ()
    exclude: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """The prefix of every package name of the series."""
        return f"openstack-{self.series.id}-"

    @property
    def base(self) -> str:
        """The package that owns the tree's interpreter."""
        return f"{self.prefix}base"

    @property
    def site(self) -> str:
        """The tree's site-packages, as an absolute path on a node."""
        return f"{self.series.tree}/lib/python{self.target.python_minor}/site-packages"

    def list_excluded(self, distribution: str) -> tuple[str, ...]:
        """Return which paths of a distribution's wheel are not packaged, relative to the tree."""
        site = self.site.removeprefix(f"{self.series.tree}/")
        rows = self.exclude.get(canonicalize_name(distribution), ())
        return tuple(row.replace("{site}", site) for row in rows)

    @property
    def base_rooms(self) -> tuple[str, ...]:
        """The directories searched for templates of the package that owns the interpreter."""
        return ("base-python2", "base") if self.target.is_python2 else ("base",)

    def find_base_template(self, name: str) -> str:
        """Return the first existing template of that package, relative to `templates`."""
        paths = (f"{room}/{name}.j2" for room in self.base_rooms)
        return next(path for path in paths if (self.templates / path).exists())

    def hash_recipe(self) -> str:
        """Return a checksum of everything but a package's own data that decides its bits."""
        parts = [
            f.read_text(encoding="utf-8")
            for room in ("library", *self.base_rooms)
            for f in sorted((self.templates / room).glob("*.j2"))
        ]
        target = (self.target.suite, self.target.python, self.target.compression)
        return hash_text(
            RECIPE, *parts, *target, str(self.target.compression_level), str(self.epoch_seconds)
        )


def name_package(context: Context, distribution: str) -> str:
    """Return the package name of a distribution: `openstack-2026.1-oslo-config`."""
    return f"{context.prefix}{canonicalize_name(distribution)}"


def translate_requirements(
    context: Context, requirements: Iterable[Requirement], epochs: Mapping[str, int]
) -> tuple[str, ...]:
    """Translate requirements (markers already applied) to Debian relations.

    `epochs` has the Debian epoch of each distribution whose package has one.
    """
    rows: dict[str, None] = {}
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        package = name_package(context, name)
        found = [
            text
            for specifier in sorted(requirement.specifier, key=str)
            for text in translate_specifier(package, specifier, epochs.get(name, 0))
        ]
        rows.update(dict.fromkeys(found or [package]))
    return tuple(rows)


def list_floors(context: Context, members: Iterable[Distribution]) -> tuple[str, ...]:
    """Return the relations to distributions at least at their locked version."""
    return tuple(_make_floor(context, d) for d in members)


def _make_floor(context: Context, distribution: Distribution, epoch: int = 0) -> str:
    version = translate_version(distribution.version, epoch)
    return f"{name_package(context, distribution.name)} (>= {version})"


def plan(  # noqa: PLR0917 - what a lock leaves open
    context: Context,
    lock: Lock,
    epochs: Mapping[str, int],
    closures: Mapping[str, Iterable[str]],
    clients: Iterable[str],
    built: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Package, ...]:
    """Return every library package of the lock: base, distributions, closures and client.

    `closures` maps a service to the roots of its closure; `clients` are the distributions
    the command line client depends on. The code of a service comes from its source package.
    `built` has, for each wheel built here, a checksum of what decides its bits.
    """
    known = graph.index_by_name(lock)
    rows = [_make_base(context)]
    for distribution in lock.distributions:
        if distribution.kind != "service":
            needed = graph.expand_requirements(distribution, (), known)
            depends = translate_requirements(context, needed, epochs)
            rows.append(_make_library(context, distribution, depends))
    members = {service: graph.find_closure(lock, roots) for service, roots in closures.items()}
    rows += _make_closures(context, members, epochs)
    if members_of_client := [known[canonicalize_name(c)] for c in clients]:
        rows += _make_clients(context, members_of_client)
    recipe = context.hash_recipe()
    return tuple(replace(row, inputs=_hash_inputs(context, row, recipe, built)) for row in rows)


def add_shared_relations(
    context: Context, package: Package, files: Iterable[tree.Shared]
) -> Package:
    """Return a package with relations to others that have identical files.

    The owner of such a file takes it over from packages made before that was known
    (policy 7.6.1); the others depend on the owner.
    """
    name = canonicalize_name(package.distribution.name) if package.distribution else ""
    mine = [s for s in files if name == s.owner or name in s.others]
    if not mine:
        return package
    rows = {**package.relations}
    owners = dict.fromkeys(name_package(context, s.owner) for s in mine if name in s.others)
    named = {text.split(" ")[0] for text in rows.get("Depends", ())}
    rows["Depends"] = (*rows.get("Depends", ()), *(o for o in owners if o not in named))
    others = sorted({name_package(context, n) for s in mine if name == s.owner for n in s.others})
    if others:
        rows["Replaces"] = (*rows.get("Replaces", ()), *others)
    inputs = hash_text(package.inputs, *(repr(s) for s in mine))
    return replace(package, relations=rows, inputs=inputs)


def _hash_inputs(context: Context, package: Package, recipe: str, built: Mapping[str, str]) -> str:
    row = package.distribution
    source = built.get(row.name, row.artifacts[0].sha256) if row else ""
    control = (package.name, package.upstream, package.summary, *package.description)
    needs = [f"{k}: {', '.join(v)}" for k, v in package.relations.items()]
    own = (package.homepage, str(package.links), str(package.lintian))
    patches = [f"{p.name}: {p.description}{p.layer and f' ({p.layer})'}" for p in package.patches]
    exclude = [f"exclude: {e}" for e in context.list_excluded(row.name)] if row else []
    return hash_text(recipe, source, *control, *needs, *own, *patches, *exclude)


def _make_base(context: Context) -> Package:
    minor = context.target.python_minor
    return Package(
        name=context.base,
        series=context.series,
        target=context.target,
        upstream=f"{minor}.0",
        summary=f"Python tree of OpenStack {context.series.id}",
        description=(
            f"The virtual environment {context.series.tree}, assembled by dpkg, in which all",
            f"of OpenStack {context.series.id} runs; its interpreter is Debian's python{minor}.",
            "This package compiles the modules of the others when they are installed.",
        ),
        relations={"Depends": _list_python_depends(context.target)},
        inputs="",
        links=tree.list_base_links(context),
    )


def _list_python_depends(target: Target) -> tuple[str, ...]:
    """Return the Depends on Debian's Python; for Python 3, also on the version of python3."""
    minor = target.python_minor
    if target.is_python2:
        return (f"python{minor}", "netbase")
    major, number = minor.split(".")
    newest = f"python3 (<< {major}.{int(number) + 1}~)"
    return (f"python{minor}", f"python3 (>= {minor}~)", newest, "netbase")


def _make_library(context: Context, distribution: Distribution, needed: tuple[str, ...]) -> Package:
    summary = _make_synopsis(distribution.summary or distribution.name)
    return Package(
        name=name_package(context, distribution.name),
        series=context.series,
        target=context.target,
        upstream=distribution.version,
        summary=f"{distribution.name} for OpenStack {context.series.id}",
        description=(
            *textwrap.wrap(summary, 78),
            ".",
            f"The Python distribution {distribution.name} {distribution.version}, in the tree",
            f"of OpenStack {context.series.id}. No other Python program sees it.",
        ),
        relations={"Depends": (context.base, *needed)},
        inputs="",
        homepage=distribution.homepage,
        distribution=distribution,
        lintian=_select_lintian_overrides(context, distribution.name),
        patches=context.patches.get(canonicalize_name(distribution.name), ()),
    )


def _select_lintian_overrides(context: Context, distribution: str) -> tuple[LintianOverride, ...]:
    names = ("*", canonicalize_name(distribution))
    return tuple(o for o in context.lintian if canonicalize_name(o.distribution.strip()) in names)


def _make_synopsis(text: str) -> str:
    """Return a summary as one clean line (Debian policy 3.4.1)."""
    return re.sub(r"\s+", " ", text).strip().rstrip(".") or "Python distribution"


def _make_closures(
    context: Context, members: Mapping[str, Mapping[str, Distribution]], epochs: Mapping[str, int]
) -> list[Package]:
    """Return a package per service, and one for what all services share.

    Shared floors are listed once: a Depends field of over 5000 characters is unwieldy.
    """
    floors = {
        service: {
            _make_floor(context, d, epochs.get(n, 0)): None
            for n, d in found.items()
            if d.kind != "service"
        }
        for service, found in sorted(members.items())
    }
    shared = [f for f in next(iter(floors.values()), {}) if all(f in x for x in floors.values())]
    common = f"{context.prefix}closure-common"
    rows = [_make_closure(context, common, "every service", (context.base, *shared))]
    for service, wanted in floors.items():
        own = (common, *(f for f in wanted if f not in shared))
        rows.append(_make_closure(context, f"{context.prefix}closure-{service}", service, own))
    return rows


def _make_closure(context: Context, name: str, users: str, depends: tuple[str, ...]) -> Package:
    return Package(
        name=name,
        series=context.series,
        target=context.target,
        upstream=context.series.date.replace("-", "."),
        summary=f"locked dependencies of {users} in OpenStack {context.series.id}",
        description=(
            f"Depends on the Python distributions {users} uses, at least at the versions",
            "the release was constrained to, so that no node runs anything older.",
        ),
        relations={"Depends": depends},
        inputs="",
    )


def _make_clients(context: Context, members: Sequence[Distribution]) -> list[Package]:
    """Return the client, and the transitional packages that lead to it from Debian's.

    Both have /usr/bin/openstack. If Debian's version is later, they exclude each other.
    """
    main = members[0]
    version = translate_version(main.version)
    if not is_lower("python-openstackclient", version, context.target):
        return [_make_client(context, members, "python3-openstackclient")]
    older = f"python3-openstackclient (<< {version}~)"
    return [_make_client(context, members, older), *_make_client_successors(context, main)]


def _make_client_successors(context: Context, main: Distribution) -> list[Package]:
    return [
        Package(
            name=successor.name,
            series=context.series,
            target=context.target,
            upstream=main.version,
            summary="OpenStack command line client - transitional package",
            description=tuple(textwrap.wrap(describe_transition(successor), 78)),
            relations={"Depends": successor.to, "Breaks": successor.breaks},
            inputs="",
            homepage=main.homepage,
            section="oldlibs",
        )
        for successor in context.successors
    ]


def _make_client(context: Context, members: Sequence[Distribution], other: str) -> Package:
    main = members[0]
    return Package(
        name="openstackclient",
        series=context.series,
        target=context.target,
        upstream=main.version,
        summary="OpenStack command line client",
        description=(
            "The command openstack, with the plug-ins and the services' own clients, from",
            f"OpenStack {context.series.id}.",
        ),
        relations={
            "Depends": list_floors(context, members),
            "Breaks": (other,),
            "Replaces": (other,),
        },
        inputs="",
        homepage=main.homepage,
        links={"/usr/bin/openstack": f"{context.series.tree}/bin/openstack"},
        section="net",
    )


def build(
    context: Context,
    package: Package,
    wheel: Wheel | None,
    output: Path,
    work: Path | None = None,
    *,
    laid: tree.Laid | None = None,
    build_root: Root | None = None,
    known: Path | None = None,
) -> Path:
    """Make `package` in the directory `output` and return the .deb.

    It is laid out below `work` (default: the directory for temporary files) from the wheel,
    or from where that is already `laid` out. The libraries its compiled modules need are
    looked up on this machine, or in `build_root`; `known` keeps what was found. Raises BuildError.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix="build-debs-") as name:
        root = Path(name) / "root"
        (root / "DEBIAN").mkdir(parents=True)
        if laid is not None:
            laid.link(root)
        elif wheel is not None:
            laid = tree.unpack(context, wheel, root)
        if package.name == context.base:
            _lay_base(context, root)
        else:
            tree.lay_links(package.links, root)
        binaries = [root / file for file in laid.binaries] if laid else []
        needed = (
            elf.find_libraries(binaries, root, Path(name), build_root, known) if binaries else ()
        )
        _write_documentation(context, package, wheel, root)
        _write_control(context, package, wheel, root, needed, bool(binaries))
        architecture = context.target.architecture if binaries else "all"
        version = package.version.split(":", 1)[-1]
        deb = output / f"{package.name}_{version}_{architecture}.deb"
        options = (f"-Z{context.target.compression}", f"-z{context.target.compression_level}")
        pack.pack(root, deb, compression=options, epoch_seconds=context.epoch_seconds)
    return deb


def _lay_base(context: Context, root: Path) -> None:
    """Lay out the package that owns the tree's interpreter."""
    tree.lay_base(context, root)
    for name, mode in (("triggers", 0o644), ("postinst", 0o755), ("prerm", 0o755)):
        tree.write_base(context, name, root / "DEBIAN" / name, mode)


def _write_documentation(
    context: Context, package: Package, wheel: Wheel | None, root: Path
) -> None:
    folder = root / "usr/share/doc" / package.name
    folder.mkdir(parents=True)
    values = licences.describe(root / context.site.lstrip("/"), wheel)
    values |= {"homepage": package.homepage, "patches": package.patches}
    text = render(context.templates, "library/copyright.j2", **values)
    (folder / "copyright").write_text(text, encoding="utf-8")
    change = render(
        context.templates,
        "library/changelog.j2",
        source=package.name,
        version=package.version,
        suite=f"{context.target.suite}-{context.series.id}",
        maintainer=MAINTAINER,
        change=f"Packaged for OpenStack {context.series.id} on Debian {context.target.suite}.",
        patches=package.patches,
        date=format_date(context.epoch_seconds),
    )
    (folder / "changelog.Debian.gz").write_bytes(gzip.compress(change.encode(), 9, mtime=0))
    overrides = [*package.lintian]
    if context.target.compression == "zstd":
        reason = "this Debian's dpkg reads zstd members, but its lintian does not know them yet"
        overrides.append(LintianOverride("*", "malformed-deb-archive *", reason))
    if overrides:
        path = root / "usr/share/lintian/overrides" / package.name
        path.parent.mkdir(parents=True)
        text = render(
            context.templates,
            "library/lintian-overrides.j2",
            name=package.name,
            overrides=overrides,
        )
        path.write_text(text, encoding="utf-8")


def _write_control(  # noqa: PLR0917 - the parts of one package
    context: Context,
    package: Package,
    wheel: Wheel | None,
    root: Path,
    shared: Sequence[str],
    compiled: bool,
) -> None:
    files = pack.list_files(root)
    needed = {**package.relations}
    needed["Depends"] = (*needed.get("Depends", ()), *shared)
    text = render(
        context.templates,
        "library/control.j2",
        name=package.name,
        version=package.version,
        architecture=context.target.architecture if compiled else "all",
        maintainer=MAINTAINER,
        installed_size=pack.measure_installed_size(root, files),
        relations=needed,
        section=package.section,
        homepage=package.homepage,
        inputs=package.inputs,
        summary=package.summary,
        description=package.description,
    )
    (root / "DEBIAN/control").write_text(text, encoding="utf-8")
    if wheel is not None:
        _write_prerm(context, root)
    pack.write_md5sums(root, files)


def _write_prerm(context: Context, root: Path) -> None:
    site = root / context.site.lstrip("/")
    entries = sorted(site.iterdir()) if site.is_dir() else []
    directories = [
        shlex.quote(p.name)
        for p in entries
        if p.is_dir() and not p.name.endswith((".dist-info", ".libs")) and any(p.rglob("*.py"))
    ]
    modules = [shlex.quote(p.stem) for p in entries if p.suffix == ".py"]
    if not directories and not modules:
        return
    script = root / "DEBIAN/prerm"
    script.write_text(render_prerm(context, directories, modules), encoding="utf-8")
    script.chmod(0o755)


def render_prerm(context: Context, directories: Sequence[str], modules: Sequence[str]) -> str:
    """Return the script that removes the byte code of what a package has in site-packages."""
    return render(
        context.templates,
        "library/prerm.j2",
        base=context.base,
        site=context.site,
        directories=directories,
        modules=modules,
        python2=context.target.is_python2,
    )
