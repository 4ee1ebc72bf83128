"""What a move of this node to another series would do. Nothing is changed."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openstack_node import ini, options, system
from openstack_node.apt import Apt, Change
from openstack_node.manifest import SERVICES

if TYPE_CHECKING:
    from openstack_node.manifest import Service

SERIES = Path("/usr/share/openstack-node/series")


@dataclass(frozen=True)
class Move:
    """What becomes of a service: its packages' versions, and what a person should know.

    `problems` are those of the live files under the new series' options, without those they
    have now. `databases`: the schemas there are here, and what is done about each.
    """

    service: str
    old: str
    new: str
    restarts: list[str]
    added: list[str]
    gone: list[str]
    problems: list[options.Problem]
    databases: list[str]
    before: list[str]
    after: list[str]


@dataclass(frozen=True)
class Plan:
    """A move from one series to another: `size` in bytes to fetch."""

    old: str
    new: str
    changes: list[Change]
    size: int
    moves: list[Move]


def plan(services: list[Service], new: str, *, apt: Apt | None = None) -> Plan:
    """Return what moving `services` to the series `new` means.

    Raises NodeError where upstream supports no such step, and where the suite is not to be
    had.
    """
    found = sorted({s.series for s in services if s.series != new})
    if not found:
        raise system.NodeError(f"everything here is of {new} already")
    if len(found) > 1:
        raise system.NodeError(
            f"the services here are of several series: {', '.join(found)}",
            "name those of one, such as: openstack-node plan "
            f"{new} {next(s.name for s in services if s.series == found[0])}",
        )
    moving = [s for s in services if s.series != new]
    with tempfile.TemporaryDirectory(prefix="openstack-node-") as name:
        apt = apt or Apt(Path(name), found[0], new)
        apt.update()
        known = facts(apt, found[0], new)
        changes = apt.changes()
        coming = {c.package: c for c in changes if c.new}
        packages = [str(s.data["package"]) for s in moving]
        root = apt.unpack([p for p in packages if p in coming])
        moves = [_move(s, coming, root, known) for s in moving]
        return Plan(found[0], new, changes, apt.size(), moves)


def facts(apt: Apt, old: str, new: str) -> dict[str, Any]:
    """Return what the new series' archive package says of upgrades to it."""
    path = apt.unpack([f"openstack-{new}-archive"]) / str(SERIES / f"{new}.json").lstrip("/")
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if old not in facts["from"]:
        ways = ", ".join(facts["from"]) or "none"
        raise system.NodeError(
            f"upstream supports no upgrade from {old} to {new}",
            f"to {new} from: {ways}",
        )
    return facts


def _move(service: Service, coming: dict[str, Change], root: Path, facts: dict[str, Any]) -> Move:
    change = coming.get(str(service.data["package"]))
    if change is None:
        raise system.NodeError(
            f"{service.name}: {facts['series']} has no newer {service.data['package']}",
            "apt-cache policy says where it would come from; a suite may be incomplete",
        )
    later = dataclasses.replace(service, data=later_manifest(service.name, root))
    here = service.installed | coming.keys()
    names = {u["name"] for u in later.data["units"] if u["package"] in here}
    have = {u.name for u in service.units}
    steps = [s for s in facts["steps"] if s["service"] == service.name]
    return Move(
        service=service.name,
        old=service.version,
        new=change.new,
        restarts=_running(names & have),
        added=sorted(names - have),
        gone=sorted(have - names),
        problems=_problems(service, later),
        databases=_databases(service),
        before=[s["text"] for s in steps if s["when"] == "before"],
        after=[s["text"] for s in steps if s["when"] == "after"],
    )


def later_manifest(name: str, root: Path) -> dict[str, Any]:
    """Return the manifest of a service in packages that are unpacked below `root`."""
    path = root / str(SERVICES / f"{name}.json").lstrip("/")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {**data, "options": str(root / data["options"].lstrip("/"))}


def _running(names: set[str]) -> list[str]:
    states = system.unit_states(sorted(names))
    return sorted(n for n in names if n in states and states[n].active == "active")


def _problems(service: Service, later: Service) -> list[options.Problem]:
    """Return what the new series' options say of the live files, and these' do not."""
    series = str(later.data["series"])
    now = {(p.place, p.text.replace(service.series, series)) for p in options.problems(service)}
    coming = options.problems(dataclasses.replace(later, series=series))
    return [p for p in coming if (p.place, p.text) not in now]


def _databases(service: Service) -> list[str]:
    """Return what is done about each database here, by the setup steps of its service."""
    if not service.wants_database:
        return []
    settings = ini.Settings(service.configs)
    rows = []
    for schema in service.data["schemas"]:
        if settings.value(schema["section"], schema["option"]):
            titles = [s["title"] for s in service.steps if schema["name"] in s["schemas"]]
            rows.append(f"{schema['name']}: {'; '.join(titles) or 'nothing is done'}")
    return rows
