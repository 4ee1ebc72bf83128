"""What moving to another series brings, from its packages, fetched beside the machine's own.

Nothing on the node changes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openstack_node import databases, system
from openstack_node.manifest import SERVICES

if TYPE_CHECKING:
    from openstack_node.apt import Apt, Change
    from openstack_node.manifest import Service

SERIES = Path("/usr/share/openstack-node/series")
# Not TMPDIR: the services' users read what is unpacked, and may not have access there.
AREA = "/var/tmp"  # noqa: S108 - a new directory is created there


def read_facts(apt: Apt, old: str, new: str) -> dict[str, Any]:
    """Return the facts on upgrades to the new series, from its archive package.

    Raises NodeError if upstream supports no upgrade from `old`.
    """
    path = apt.unpack([f"openstack-{new}-archive"]) / str(SERIES / f"{new}.json").lstrip("/")
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if old not in facts["from"]:
        ways = ", ".join(facts["from"]) or "none"
        raise system.NodeError(
            f"upstream supports no upgrade from {old} to {new}",
            f"upgrades to {new} are supported from: {ways}",
        )
    return facts


def list_held(apt: Apt, services: list[Service], changes: list[Change]) -> list[str]:
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
                details=apt.explain_refusal(package),
            )
    names = {"openstack-node", *(p for s in services for p in s.packages)}
    # Packages the new series no longer has are removed; no other may be.
    lost = apt.list_offered(sorted(names & {c.package for c in changes if not c.new}))
    if lost:
        raise system.NodeError(
            f"apt would remove packages that {apt.new} has: {', '.join(lost)}",
            f"apt-cache policy {' '.join(lost)} shows where they would come from",
        )
    return apt.list_held(sorted(names & coming.keys()))


def read_manifest(name: str, root: Path) -> dict[str, Any]:
    """Return the manifest of a service from packages unpacked below `root`."""
    path = root / str(SERVICES / f"{name}.json").lstrip("/")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {**data, "options": str(root / data["options"].lstrip("/"))}


def query_databases(later: Service, root: Path) -> databases.Answer:
    """Query a service's databases, with the present tree's Python, for the code below `root`."""
    if not later.wants_database:
        return databases.Answer()
    site = str(root / later.data["site"].lstrip("/"))
    asked = dataclasses.replace(later, data={**later.data, "site": site})
    return databases.ask(asked, [], records=True)
