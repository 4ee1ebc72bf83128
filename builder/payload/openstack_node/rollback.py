"""Return a service to the previous series, if its databases let the older code work."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from openstack_node import apt, databases, installing, preview, restarting, system
from openstack_node.journal import Journal
from openstack_node.sources import Sources

if TYPE_CHECKING:
    from openstack_node.manifest import Service

ROW = re.compile(r"^ *(\S+) \| +(\S+) \| \S+ (\S+)/\S+ \S+ Packages$", re.MULTILINE)


@dataclass(frozen=True)
class Way:
    """Where a service returns to: `versions` of its packages, all in `suite`."""

    series: str
    suite: str
    versions: dict[str, str]


def rollback(service: Service, series: str, say: Callable[[str], None]) -> None:
    """Return a service to `series`, or to the newest before its own.

    Raises NodeError, without changing anything, if apt has no earlier release of it, or a
    database has moved past what that release can read.
    """
    way = find_way(service, series)
    with tempfile.TemporaryDirectory(prefix="openstack-node-") as name:
        area = Path(name)
        area.chmod(0o755)  # the service's user reads the code in it
        common, root = str(service.data["package"]), area / "root"
        packages = (common, _name_code(service, way.series))
        apt.unpack([f"{p}={way.versions[common]}" for p in packages], area, root)
        older = preview.read_manifest(service.name, root)
        say(f"{service.name}  {service.series} to {way.series}\n")
        if service.wants_database:
            check(service, older, root, way.series)
    wanted = [f"{p}={v}" for p, v in sorted(way.versions.items())]
    rehearsal = [*apt.HELD_TOO, "install", "--allow-downgrades", *wanted]
    apt.refuse_held(apt.parse_held(installing.rehearse(rehearsal)))
    Sources().choose(service.name, way.suite)
    say("  install the packages of the previous release ... ")
    installing.install(wanted, "--allow-downgrades")
    say("done\n")
    journal = Journal(service.series)
    if journal.done:
        journal.forget(service.name)
    say("  restart the units that run the newer code ... ")
    restarting.restart_pending(service.name)
    say("done\n")


def find_way(service: Service, series: str) -> Way:
    """Return where apt has an earlier release of a service, that of `series` if given."""
    common = str(service.data["package"])
    rows = _list_versions(service.packages)
    # Debian has services of the same names, but nothing named after a series.
    suites = {suite for _, _, suite in rows if _parse_series(suite) not in ("", service.series)}
    ours = {
        suite
        for _, _, suite in _list_versions([_name_code(service, _parse_series(s)) for s in suites])
    }
    earlier = [
        suite
        for package, version, suite in rows
        if package == common
        and suite in suites & ours
        and series in ("", _parse_series(suite))
        and _is_older(version, service.version)
    ]
    if not earlier:
        raise system.NodeError(
            f"apt has no {common} of {series or 'an earlier series'}",
            "an apt source must provide that series; to check: apt-cache policy " + common,
        )
    suite = earlier[0]  # madison has the newest version first
    versions: dict[str, str] = {}
    for package, version, where in rows:
        if where == suite:
            versions.setdefault(package, version)
    return Way(_parse_series(suite), suite, versions)


def _list_versions(packages: list[str]) -> list[tuple[str, str, str]]:
    """Return apt's versions of packages: name, version, suite."""
    said = system.read_output(["apt-cache", "madison", *packages], seconds=60) if packages else ""
    return ROW.findall(said)


def _name_code(service: Service, series: str) -> str:
    """Return the package with a service's code in a series."""
    return str(service.data["packages"][0]).replace(service.series, series, 1)


def _parse_series(suite: str) -> str:
    """Return the series of a suite such as bookworm-2025.2."""
    return suite.partition("-")[2]


def _is_older(version: str, than: str) -> bool:
    return system.run(["dpkg", "--compare-versions", version, "lt", than], seconds=20).code == 0


def check(service: Service, older: dict[str, Any], root: Path, series: str) -> None:
    """Raise NodeError if the older code cannot work on the databases as they are."""
    site = str(older["site"])
    data = {**service.data, "schemas": older["schemas"], "site": str(root / site.lstrip("/"))}
    # The present tree's Python queries; it compares with the older code.
    answer = databases.demand(
        replace(service, data=data), service.list_files(), later_site=service.data["site"]
    )
    for schema in answer.schemas.values():
        if schema.state not in ("current", "behind", "ahead"):
            raise system.NodeError(
                f"{service.name}: the database {schema.where} {databases.STATES[schema.state]}",
                "see openstack-node status",
            )
        taken = [m for m in schema.later if m.removes]
        if taken:
            what = f" ({taken[0].title})" if taken[0].title else ""
            raise system.NodeError(
                f"{service.name}: the database {schema.where} has moved past {series}: "
                f"{taken[0].revision}{what} removed what {series} may read",
                "the only way back is a copy of the database from before the upgrade",
            )
