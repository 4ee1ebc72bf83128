"""The first stage: read all of `projects/`, check it, and look up what the user named."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from packaging.utils import canonicalize_name

from builder.catalogue.layers import Layers, read, read_rows
from builder.errors import DataError, UsageError, list_nearest
from builder.files import find_first
from builder.model import reading
from builder.model.service import Package, Service, Successor, holds
from builder.model.values import (
    Catalogue,
    Driver,
    LintianOverride,
    Overrides,
    Proof,
    Recipe,
    Series,
    Target,
    UpgradeStep,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

STATUSES = ("development", "maintained", "unmaintained", "end of life")


@dataclass(frozen=True, slots=True)
class _DriverFile:
    driver: tuple[Driver, ...] = ()


@dataclass(frozen=True, slots=True)
class _RecipeFile:
    recipe: tuple[Recipe, ...] = ()


@dataclass(frozen=True, slots=True)
class _LintianFile:
    override: tuple[LintianOverride, ...] = ()


@dataclass(frozen=True, slots=True)
class _RoleFile:
    role: tuple[Package, ...] = ()


@dataclass(frozen=True, slots=True)
class _SuccessorFile:
    package: tuple[Successor, ...] = ()


@dataclass(frozen=True, slots=True)
class _ProofFile:
    proof: tuple[Proof, ...] = ()


@dataclass(frozen=True, slots=True)
class _UpgradeFile:
    step: tuple[UpgradeStep, ...] = ()


def load(root: Path, overlays: Sequence[Path] = ()) -> Catalogue:
    """Read the directory `root` (`projects/`) whole, and check that its files fit together.

    `overlays` go on top, the last one wins. Raises DataError that names the file and the key.
    """
    layers = Layers((root, *overlays))
    layers.check()
    overrides = layers.list_files("overrides")
    catalogue = Catalogue(
        root=root,
        overlays=tuple(overlays),
        series=_load_each(layers, "series", Series, "id"),
        targets=_load_each(layers, "targets", Target, "suite"),
        services=load_services(root, overlays),
        drivers=layers.read_rows("drivers.toml", _DriverFile).driver,
        overrides={name: read_rows(paths, Overrides) for name, paths in overrides.items()},
        lintian=layers.read_rows("lintian.toml", _LintianFile).override,
        recipes=layers.read_rows("recipes.toml", _RecipeFile).recipe,
        roles=layers.read_rows("roles.toml", _RoleFile).role,
        patches=layers.read_patches(),
        upgrade_steps=layers.read_rows("upgrades.toml", _UpgradeFile).step,
        successors=layers.read_rows("successors.toml", _SuccessorFile).package,
        proofs=load_proofs(root),
    )
    _check(catalogue)
    return catalogue


def load_services(root: Path, overlays: Sequence[Path] = ()) -> Mapping[str, Service]:
    """Read only the services; regenerating the series needs them before any series exists."""
    return _load_each(Layers((root, *overlays)), "services", Service, "name")


def load_proofs(root: Path) -> tuple[Proof, ...]:
    """Read the proofs below `root` (`projects/`)."""
    return Layers((root,)).read_rows("proven.toml", _ProofFile).proof


def _load_each(layers: Layers, room: str, cls: type[T], key: str) -> dict[str, T]:
    """Read each `<key>.toml` of a room; the file's name must match its `key`."""
    found = {}
    for stem, paths in layers.list_files(room).items():
        value = read(paths, cls)
        name = getattr(value, key)
        if name != stem:
            raise DataError(f"{paths[-1]}: {key} is {name!r}, but the file is named {stem!r}")
        found[stem] = value
    return found


def _find_file(catalogue: Catalogue, room: str, name: str = "") -> Path:
    """Return the data file that takes precedence: one of a room, or a file of rows."""
    ends = [f"{room}/{name}.toml", f"{room}/{name}"] if name else [f"{room}.toml"]
    roots = (*catalogue.overlays[::-1], catalogue.root)
    return find_first([root / end for root in roots for end in ends])


def find_service_file(catalogue: Catalogue, service: str, key: str) -> Path:
    """Return the file, of the last layer that has one, with the value of a service's key."""
    paths = Layers((catalogue.root, *catalogue.overlays)).list_files("services")[service]
    return next((path for path in reversed(paths) if key in reading.parse(path)), paths[-1])


def _check(catalogue: Catalogue) -> None:
    """Check that the files fit together."""
    for service in catalogue.services.values():
        _check_service(service, catalogue)
    for i, role in enumerate(catalogue.roles):
        file, where = _find_file(catalogue, "roles"), f"role[{i}] ({role.name})"
        _check_bounds(role, catalogue.series, file, where)
    for series in catalogue.series.values():
        _check_series(series, catalogue, _find_file(catalogue, "series", series.id))
    for id_ in catalogue.overrides:
        _check_known(id_, catalogue.series, _find_file(catalogue, "overrides", id_), "file name")
    for id_ in catalogue.patches:
        _check_known(id_, catalogue.series, _find_file(catalogue, "patches", id_), "directory name")
    for i, step in enumerate(catalogue.upgrade_steps):
        file = _find_file(catalogue, "upgrades")
        _check_known(step.to, catalogue.series, file, f"step[{i}].to")
        _check_known(step.service, catalogue.services, file, f"step[{i}].service")
    _check_proofs(catalogue)
    _check_successors(catalogue)
    for i, driver in enumerate(catalogue.drivers):
        file, where = _find_file(catalogue, "drivers"), f"driver[{i}] ({driver.name})"
        for name in driver.services:
            _check_known(name, catalogue.services, file, f"{where}.services")
        _check_bounds(driver, catalogue.series, file, where)
    for i, recipe in enumerate(catalogue.recipes):
        file, where = _find_file(catalogue, "recipes"), f"recipe[{i}] ({recipe.distribution})"
        _check_bounds(recipe, catalogue.series, file, where)


def _check_bounds(value: object, series: Iterable[str], file: Path, where: str) -> None:
    """Check every `since` and `until` of a dataclass, at any depth."""
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        item, place = getattr(value, field.name), f"{where}.{field.name}".lstrip(".")
        if field.name in ("since", "until") and item:
            _check_known(item, series, file, place)
        elif isinstance(item, tuple) and item and dataclasses.is_dataclass(item[0]):
            for i, entry in enumerate(item):
                _check_bounds(entry, series, file, f"{place}[{i}]")


def _check_service(service: Service, catalogue: Catalogue) -> None:
    file = _find_file(catalogue, "services", service.name)
    _check_bounds(service, catalogue.series, file, "")
    roles = sorted({role.name for role in catalogue.roles})
    for i, package in enumerate(service.packages):
        for name in package.roles:
            _check_known(name, roles, file, f"packages[{i}].roles")


def _check_proofs(catalogue: Catalogue) -> None:
    file = _find_file(catalogue, "proven")
    for i, proof in enumerate(catalogue.proofs):
        _check_known(proof.series, catalogue.series, file, f"proof[{i}].series")
        _check_known(proof.target, catalogue.targets, file, f"proof[{i}].target")


def _check_successors(catalogue: Catalogue) -> None:
    file = _find_file(catalogue, "successors")
    for i, successor in enumerate(catalogue.successors):
        where = f"package[{i}] ({successor.name})"
        if successor.service:
            _check_known(successor.service, catalogue.services, file, f"{where}.service")
        for suite in successor.targets:
            _check_known(suite, catalogue.targets, file, f"{where}.targets")
        _check_bounds(successor, catalogue.series, file, where)


def _check_series(series: Series, catalogue: Catalogue, file: Path) -> None:
    _check_known(series.status, STATUSES, file, "status")
    for target in series.targets:
        _check_known(target, catalogue.targets, file, "targets")
    for service in series.versions:
        _check_known(service, catalogue.services, file, "versions")
        if not catalogue.services[service].exists_in(series.id, order_series(catalogue)):
            raise DataError(f"{file}: versions: {service} is not part of {series.id}")


def _check_known(word: str, valid: Iterable[str], file: Path, where: str) -> None:
    names = list(valid)
    if word not in names:
        hint = f"nearest: {list_nearest(word, names)}" if names else ""
        raise DataError(f"{file}: {where}: {word!r} is not known", hint=hint)


def order_series(catalogue: Catalogue) -> tuple[str, ...]:
    """Return the ids of the series, oldest release first."""
    return tuple(sorted(catalogue.series, key=lambda id_: catalogue.series[id_].date))


def find_upgrades(catalogue: Catalogue, series: Series) -> tuple[str, ...]:
    """Return the series upstream supports an upgrade from: the one before, and SLURP to SLURP.

    Source: the OpenStack TC's resolution of 2022-02-10 on the release cadence.
    """
    ids = order_series(catalogue)
    before = ids[: ids.index(series.id)]
    slurps = [s for s in before if catalogue.series[s].slurp]
    found = {*before[-1:], *(slurps[-1:] if series.slurp else ())}
    return tuple(s for s in before if s in found)


def describe_upgrade(catalogue: Catalogue, series: Series) -> Mapping[str, object]:
    """Return what a node needs to know of an upgrade to `series`, for `openstack-node plan`.

    `from`: the series it may upgrade from. `steps`: what you must do by hand on the way from
    the oldest of them, oldest first.
    """
    found, ids = find_upgrades(catalogue, series), order_series(catalogue)
    passed = ids[ids.index(found[0]) + 1 : ids.index(series.id) + 1] if found else ()
    steps = sorted(
        (s for s in catalogue.upgrade_steps if s.to in passed), key=lambda s: ids.index(s.to)
    )
    return {
        "format": 1,
        "series": series.id,
        "from": list(found),
        "steps": [dataclasses.asdict(step) for step in steps],
    }


def find_series(catalogue: Catalogue, word: str) -> Series:
    """Return the series of this id or code name, in any case; UsageError if there is none."""
    return _find(index_series(catalogue), word, "series")


def index_series(catalogue: Catalogue) -> dict[str, Series]:
    """Return the series by code name and by id, in lower case."""
    names = {series.name.lower(): series for series in catalogue.series.values()}
    return names | {id_.lower(): series for id_, series in catalogue.series.items()}


def find_service(catalogue: Catalogue, word: str) -> Service:
    """Return the service of this name, in any case; UsageError if there is none."""
    return _find(catalogue.services, word, "project")


def find_target(
    catalogue: Catalogue,
    series: Series,
    word: str | None = None,
    os_release: Path = Path("/etc/os-release"),
) -> Target:
    """Return the target of the suite `word`, with the Python the series runs on.

    None means this machine's suite if that is a target of the series, else the series' first
    target. Raises UsageError if it is not a target, or not one of the series.
    """
    if word is None:
        here = find_machine_suite(os_release)
        if not series.targets:
            raise UsageError(f"{series.id} ({series.name}) has no target yet")
        suite = here if here in series.targets else series.targets[0]
    else:
        suite = _find(catalogue.targets, word, "target").suite
    if suite not in series.targets:
        names = ", ".join(series.targets)
        raise UsageError(
            f"{suite} is not a target of {series.id} ({series.name}), whose targets are: {names}"
        )
    return catalogue.targets[suite].narrow_to_series(series)


def find_shared_target(
    catalogue: Catalogue,
    before: Series,
    after: Series,
    word: str | None = None,
    os_release: Path = Path("/etc/os-release"),
) -> tuple[Target, Target]:
    """Return the target of the suite `word` for each of two series.

    None means this machine's suite if both have it, else the first of `after` that both
    have. Raises UsageError if it is not a target of both, or they share none.
    """
    if word is None:
        shared = [t for t in after.targets if t in before.targets]
        if not shared:
            each = (f"{s.id}: {', '.join(s.targets) or 'none'}" for s in (before, after))
            raise UsageError(
                f"{before.id} and {after.id} have no target in common ({'; '.join(each)})"
            )
        here = find_machine_suite(os_release)
        word = here if here in shared else shared[0]
    return find_target(catalogue, before, word), find_target(catalogue, after, word)


def select_overrides(catalogue: Catalogue, series: Series) -> Overrides:
    """Return the project's overrides and additions to the constraints of `series`."""
    return catalogue.overrides.get(series.id, Overrides())


def select_drivers(catalogue: Catalogue, series: Series) -> tuple[Driver, ...]:
    """Return the drivers that upstream leaves to the operator in `series`, each with its services.

    Those of `drivers.toml` come first, then those of the services' own files.
    """
    names = order_series(catalogue)
    everywhere = tuple(sorted(series.versions))
    rows = [
        dataclasses.replace(d, services=everywhere if d.every else d.services)
        for d in catalogue.drivers
        if holds(d, series.id, names)
    ]
    rows += [
        Driver(d.name, d.reason, services=(service,))
        for service in everywhere
        for d in catalogue.services[service].drivers
        if holds(d, series.id, names)
    ]
    found: dict[str, Driver] = {}
    for row in rows:
        first = found.setdefault(str(canonicalize_name(row.name)), row)
        found[str(canonicalize_name(row.name))] = dataclasses.replace(
            first,
            services=tuple(dict.fromkeys([*first.services, *row.services])),
            client=first.client or row.client,
            builder=first.builder and row.builder,
        )
    return tuple(found.values())


def select_builders(catalogue: Catalogue, series: Series) -> tuple[str, ...]:
    """Return the names of the distributions that build-debs imports, if `series` packages it."""
    names = order_series(catalogue)
    return tuple(d.name for d in catalogue.drivers if d.builder and holds(d, series.id, names))


def select_recipes(catalogue: Catalogue, series: Series) -> dict[str, Recipe]:
    """Return the recipes that apply to `series`, by normalised distribution name."""
    names = order_series(catalogue)
    held = (r for r in catalogue.recipes if holds(r, series.id, names))
    return {str(canonicalize_name(r.distribution)): r for r in held}


def _find(names: Mapping[str, T], word: str, kind: Literal["series", "project", "target"]) -> T:
    found = names.get(word.lower())
    if found is None:
        raise UsageError(f"unknown {kind} {word!r}; nearest: {list_nearest(word, names)}")
    return found


def find_machine_suite(os_release: Path = Path("/etc/os-release")) -> str:
    """Return VERSION_CODENAME of os-release(5), or nothing if this is not Debian."""
    if not os_release.exists():
        return ""
    pairs = (
        line.partition("=")
        for line in os_release.read_text(encoding="utf-8", errors="replace").splitlines()
    )
    values = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    return values.get("VERSION_CODENAME", "") if values.get("ID") == "debian" else ""
