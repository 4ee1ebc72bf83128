"""Find out what moving this node to another series would do, without changing anything."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openstack_node import databases, debian, heartbeats, options, preview, system
from openstack_node.apt import Apt, Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openstack_node.manifest import Service

FETCHED, INSTALLED = "/var/cache/apt/archives", "/usr"


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
    with tempfile.TemporaryDirectory(prefix="openstack-node-", dir=preview.AREA) as name:
        apt = apt or Apt(Path(name), found[0], new)
        apt.update()
        known = preview.read_facts(apt, found[0], new)
        if apt.is_broken():
            raise system.NodeError(
                "a package installation was interrupted, or a dependency is missing",
                "dpkg --configure -a",
                "apt-get install --fix-broken",
            )
        changes = apt.list_changes()
        held = preview.list_held(apt, moving, changes)
        coming = {c.package: c for c in changes if c.new}
        root = apt.unpack([str(s.data["package"]) for s in moving])
        laters = [_make_later(s, root, coming) for s in moving]
        # With databases, the code as well: it has the migrations.
        apt.unpack([later.data["packages"][0] for later in laters if later.wants_database])
        moves = [_describe_move(*pair, coming, root, known) for pair in zip(moving, laters)]
        size, disk = apt.compute_sizes()
        spaces = _measure_spaces({INSTALLED: disk, FETCHED: size})
        return Plan(found[0], new, changes, size, disk, held, spaces, moves)


def _measure_spaces(needs: dict[str, int]) -> list[Space]:
    """Return the file systems of directories, and the space needed on each."""
    found: dict[int, Space] = {}
    for path, needed in needs.items():
        there = next(p for p in (Path(path), *Path(path).parents) if p.exists())
        device = there.stat().st_dev
        before = found.get(device, Space(path, 0, shutil.disk_usage(there).free))
        found[device] = dataclasses.replace(before, needed=before.needed + needed)
    return list(found.values())


def _make_later(service: Service, root: Path, coming: Iterable[str]) -> Service:
    """Return a service with its present tree and the manifest of its new packages."""
    data = preview.read_manifest(service.name, root)
    if service.foreign:
        return debian.make_before(service, debian.make_later(service, data, coming))
    return dataclasses.replace(service, data=data)


def _describe_move(
    service: Service,
    later: Service,
    coming: dict[str, Change],
    root: Path,
    facts: dict[str, Any],
) -> Move:
    here = service.installed | coming.keys()
    names = {u["name"] for u in later.data["units"] if u["package"] in here}
    have = {u.name for u in service.units} or _select_loaded(names)
    steps = [s for s in facts["steps"] if s["service"] == service.name]
    answer = preview.query_databases(later, root)
    named = dataclasses.replace(later, series=str(later.data["series"]))
    rows = (
        heartbeats.describe_obstacle(named, r) for r in heartbeats.list_obstacles(named, answer)
    )
    return Move(
        service=service.name,
        old=service.version,
        new=coming[str(service.data["package"])].new,
        restarts=_select_running(names & have),
        added=sorted(names - have),
        gone=sorted(have - names),
        problems=_find_problems(service, later),
        # The options of Debian's packages are not known here.
        defaults=[] if service.foreign else options.compare_defaults(service, later),
        databases=_describe_databases(answer),
        records=[f"{text}: {hint}" for text, hint in rows],
        before=[s["text"] for s in steps if s["when"] == "before"],
        after=[s["text"] for s in steps if s["when"] == "after"],
    )


def _select_loaded(names: set[str]) -> set[str]:
    return {
        n for n, state in system.read_unit_states(sorted(names)).items() if state.load == "loaded"
    }


def _select_running(names: set[str]) -> list[str]:
    states = system.read_unit_states(sorted(names))
    return sorted(n for n in names if n in states and states[n].active == "active")


def _find_problems(service: Service, later: Service) -> list[options.Problem]:
    """Return the live files' problems under the new series that they do not have now."""
    series = str(later.data["series"])
    before = [] if service.foreign else options.find_problems(service)
    now = {(p.place, p.text.replace(service.series, series)) for p in before}
    coming = options.find_problems(dataclasses.replace(later, series=series))
    return [p for p in coming if (p.place, p.text) not in now]


def _describe_databases(answer: databases.Answer) -> list[Database]:
    """Return the databases that have an address here."""
    if answer.error:
        return [Database("", "", "error", answer.error, [])]
    return [
        Database(s.name, s.where, s.state, s.detail, s.pending)
        for s in answer.schemas.values()
        if s.state != "unset"
    ]
