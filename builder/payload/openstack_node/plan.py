"""Find out what moving this node to another series would do, without changing anything."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openstack_node import databases, debian, heartbeats, options, system
from openstack_node.apt import Apt, Change
from openstack_node.manifest import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openstack_node.manifest import Service

SERIES = Path("/usr/share/openstack-node/series")
# Not TMPDIR: the services' users read what is unpacked, and may not have access there.
FETCHED, INSTALLED = "/var/cache/apt/archives", "/usr"
AREA = "/var/tmp"  # noqa: S108 - a new directory is created there


@dataclass(frozen=True)
class Database:
    """A database as the new series' code sees it: `state` and `detail` as in databases.py.

    `migrations` bring it to that series, in order. If it could not be read, `name` is empty and
    `detail` says why.
    """

    name: str
    where: str
    state: str
    detail: str
    migrations: list[databases.Migration]


@dataclass(frozen=True)
class Move:
    """What happens to a service: its packages' versions, and what a person should know.

    `problems`: those the live files get with the new series' options, without present ones;
    `defaults`: those that change, of options not set. `databases`: those with an address here.
    `records`: daemons' rows that keep the new series from starting, with the command that helps.
    """

    service: str
    old: str
    new: str
    restarts: list[str]
    added: list[str]
    gone: list[str]
    problems: list[options.Problem]
    defaults: list[options.Default]
    databases: list[Database]
    records: list[str]
    before: list[str]
    after: list[str]


@dataclass(frozen=True)
class Space:
    """Space on a file system, in bytes; `path` is the first directory that needs it."""

    path: str
    needed: int
    free: int


@dataclass(frozen=True)
class Plan:
    """A move from one series to another: `size` bytes to fetch, `disk` more on disk after.

    `held`: packages on hold that it changes, which keep it from starting.
    """

    old: str
    new: str
    changes: list[Change]
    size: int
    disk: int
    held: list[str]
    spaces: list[Space]
    moves: list[Move]


def plan(services: list[Service], new: str, *, apt: Apt | None = None) -> Plan:
    """Return what moving `services` to the series `new` would do.

    Raises NodeError if upstream supports no such step, or the suite is not available.
    """
    found = sorted({s.series for s in services if s.series != new})
    if not found:
        raise system.NodeError(f"everything here is already at {new}")
    if len(found) > 1:
        raise system.NodeError(
            f"the services here are at several series: {', '.join(found)}",
            "name services of one series, for example: openstack-node plan "
            f"{new} {next(s.name for s in services if s.series == found[0])}",
        )
    moving = [s for s in services if s.series != new]
    with tempfile.TemporaryDirectory(prefix="openstack-node-", dir=AREA) as name:
        apt = apt or Apt(Path(name), found[0], new)
        apt.update()
        known = facts(apt, found[0], new)
        if apt.broken():
            raise system.NodeError(
                "a package installation was interrupted, or a dependency is missing",
                "dpkg --configure -a",
                "apt-get install --fix-broken",
            )
        changes = apt.changes()
        held = held_back(apt, moving, changes)
        coming = {c.package: c for c in changes if c.new}
        root = apt.unpack([str(s.data["package"]) for s in moving])
        laters = [_later(s, root, coming) for s in moving]
        # With databases, the code as well: it has the migrations.
        apt.unpack([later.data["packages"][0] for later in laters if later.wants_database])
        moves = [_move(*pair, coming, root, known) for pair in zip(moving, laters)]
        size, disk = apt.sizes()
        spaces = _spaces({INSTALLED: disk, FETCHED: size})
        return Plan(found[0], new, changes, size, disk, held, spaces, moves)


def held_back(apt: Apt, services: list[Service], changes: list[Change]) -> list[str]:
    """Return the packages on hold that moving `services` changes.

    `changes` are those of the whole node. Raises NodeError if apt takes a package from somewhere
    other than the new series (a pin), or finds a dependency missing.
    """
    coming = {c.package: c for c in changes if c.new}
    for service in services:
        package = str(service.data["package"])
        if package not in coming:
            raise system.NodeError(
                f"{service.name}: {apt.new} has no newer {package}, or apt cannot install it",
                f"apt-cache policy {package} shows where it would come from; a suite may be "
                "incomplete, or Debian's own sources missing",
                details=apt.refusal(package),
            )
    names = {"openstack-node", *(p for s in services for p in s.packages)}
    # Packages the new series no longer has are removed; no other may be.
    lost = apt.has(sorted(names & {c.package for c in changes if not c.new}))
    if lost:
        raise system.NodeError(
            f"apt would remove packages that {apt.new} has: {', '.join(lost)}",
            f"apt-cache policy {' '.join(lost)} shows where they would come from",
        )
    return apt.held(sorted(names & coming.keys()))


def _spaces(needs: dict[str, int]) -> list[Space]:
    """Return the file systems of directories, and the space needed on each."""
    found: dict[int, Space] = {}
    for path, needed in needs.items():
        there = next(p for p in (Path(path), *Path(path).parents) if p.exists())
        device = there.stat().st_dev
        before = found.get(device, Space(path, 0, shutil.disk_usage(there).free))
        found[device] = dataclasses.replace(before, needed=before.needed + needed)
    return list(found.values())


def facts(apt: Apt, old: str, new: str) -> dict[str, Any]:
    """Return the facts on upgrades to the new series, from its archive package."""
    path = apt.unpack([f"openstack-{new}-archive"]) / str(SERIES / f"{new}.json").lstrip("/")
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if old not in facts["from"]:
        ways = ", ".join(facts["from"]) or "none"
        raise system.NodeError(
            f"upstream supports no upgrade from {old} to {new}",
            f"upgrades to {new} are supported from: {ways}",
        )
    return facts


def _later(service: Service, root: Path, coming: Iterable[str]) -> Service:
    """Return a service with its present tree and the manifest of its new packages."""
    data = later_manifest(service.name, root)
    if service.foreign:
        return debian.as_before(service, debian.as_later(service, data, coming))
    return dataclasses.replace(service, data=data)


def _move(
    service: Service,
    later: Service,
    coming: dict[str, Change],
    root: Path,
    facts: dict[str, Any],
) -> Move:
    here = service.installed | coming.keys()
    names = {u["name"] for u in later.data["units"] if u["package"] in here}
    have = {u.name for u in service.units} or _loaded(names)
    steps = [s for s in facts["steps"] if s["service"] == service.name]
    answer = look(later, root)
    named = dataclasses.replace(later, series=str(later.data["series"]))
    rows = (heartbeats.obstacle(named, r) for r in heartbeats.in_the_way(named, answer))
    return Move(
        service=service.name,
        old=service.version,
        new=coming[str(service.data["package"])].new,
        restarts=_running(names & have),
        added=sorted(names - have),
        gone=sorted(have - names),
        problems=_problems(service, later),
        # The options of Debian's packages are not known here.
        defaults=[] if service.foreign else options.defaults(service, later),
        databases=_databases(answer),
        records=[f"{text}: {hint}" for text, hint in rows],
        before=[s["text"] for s in steps if s["when"] == "before"],
        after=[s["text"] for s in steps if s["when"] == "after"],
    )


def later_manifest(name: str, root: Path) -> dict[str, Any]:
    """Return the manifest of a service from packages unpacked below `root`."""
    path = root / str(SERVICES / f"{name}.json").lstrip("/")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {**data, "options": str(root / data["options"].lstrip("/"))}


def _loaded(names: set[str]) -> set[str]:
    return {n for n, state in system.unit_states(sorted(names)).items() if state.load == "loaded"}


def _running(names: set[str]) -> list[str]:
    states = system.unit_states(sorted(names))
    return sorted(n for n in names if n in states and states[n].active == "active")


def _problems(service: Service, later: Service) -> list[options.Problem]:
    """Return the live files' problems under the new series that they do not have now."""
    series = str(later.data["series"])
    before = [] if service.foreign else options.problems(service)
    now = {(p.place, p.text.replace(service.series, series)) for p in before}
    coming = options.problems(dataclasses.replace(later, series=series))
    return [p for p in coming if (p.place, p.text) not in now]


def look(later: Service, root: Path) -> databases.Answer:
    """Query a service's databases, with the present tree's Python, for the code below `root`."""
    if not later.wants_database:
        return databases.Answer()
    site = str(root / later.data["site"].lstrip("/"))
    asked = dataclasses.replace(later, data={**later.data, "site": site})
    return databases.ask(asked, [], records=True)


def _databases(answer: databases.Answer) -> list[Database]:
    """Return the databases that have an address here."""
    if answer.error:
        return [Database("", "", "error", answer.error, [])]
    return [
        Database(s.name, s.where, s.state, s.detail, s.pending)
        for s in answer.schemas.values()
        if s.state != "unset"
    ]
