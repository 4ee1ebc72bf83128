"""Debian's own packages of services on this node, which ours have not replaced yet."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openstack_node import ini, manifest, system
from openstack_node.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from openstack_node.manifest import Service

KNOWN = Path(__file__).with_name("debian.json")
FIELDS = "${db:Status-Status}\\t${source:Package}\\t${Package}\\t${Version}\\t${Maintainer}\\n"


def read_known(path: Path = KNOWN) -> dict[str, Any]:
    """Return which of Debian's packages are of which service; nothing if there is no file."""
    none: dict[str, Any] = {"maintainer": "", "services": {}}
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else none


def find_services(path: Path = KNOWN) -> list[Service]:
    """Return the services installed from Debian's own packages, in setup order.

    They have no manifest, so no units; `make_later` adds what ours has.
    """
    data = read_known(path)
    if not data["services"]:
        return []
    said = system.read_output(["dpkg-query", "-W", "-f", FIELDS], seconds=60)
    rows = [line.split("\t") for line in said.splitlines()]
    theirs = [row[1:4] for row in rows if row[0] == "installed" and row[4] != data["maintainer"]]
    services = (_make_service(name, row, theirs) for name, row in data["services"].items())
    return sorted((s for s in services if s), key=lambda s: s.order)


def _make_service(name: str, row: Mapping[str, Any], theirs: list[list[str]]) -> Service | None:
    packages = {
        package: version
        for source, package, version in theirs
        if source in row["sources"] and not package.endswith("-doc")
    }
    if not packages:
        return None
    # A node may have only some of them; those of the service's own source have its version.
    own = {package: v for source, package, v in theirs if source == name}
    version = packages.get(row["package"]) or next(iter(own.values()), "")
    major = version.split(":")[-1].split(".")[0]
    without = {p: why for p, why in row["without"].items() if p in packages}
    return manifest.Service(
        name=name,
        title=row["title"],
        series=row["series"].get(major, "unknown"),
        version=version,
        tree=manifest.DEBIAN,
        user=row["user"],
        order=row["order"],
        installed=frozenset(packages),
        units=[],
        data={
            "package": row["package"],
            "packages": sorted(packages),
            "directory": row["directory"],
            "without": without,
            "unread": _find_set_files(row.get("unread", [])),
        },
    )


def _find_set_files(directories: Iterable[str]) -> list[str]:
    """Return the files of options in some directories that set any."""
    files = (file for name in directories for file in sorted(Path(name).glob("*.conf")))
    return [str(file) for file in files if ini.read(str(file))[0]]


def make_later(service: Service, data: dict[str, Any], coming: Iterable[str]) -> Service:
    """Return a service from Debian with the units and files of its new packages (`data`).

    `coming`: all packages the move installs. Names, files and databases are the same there.
    """
    names = {*service.installed, *coming, data["package"]} & set(data["packages"])
    later = manifest.make_service(data, dict.fromkeys(names, service.version))
    assert later is not None  # noqa: S101 - its common package is among them
    return later


def make_before(service: Service, later: Service) -> Service:
    """Return a service from Debian as an upgrade sees it: its files are where ours are."""
    return manifest.Service(
        name=service.name,
        title=service.title,
        series=service.series,
        version=service.version,
        tree=service.tree,
        user=service.user,
        order=service.order,
        installed=service.installed | later.installed,
        units=later.units,
        data=later.data,
    )


def check(services: list[Service], series: str) -> None:
    """Raise NodeError if Debian's packages of services cannot be moved to a series.

    That is if a package would be removed that has no successor here, if a file of options would
    lose its effect, if their series is unknown, or if apt has no source of the new one.
    """
    without = {p: why for s in services for p, why in s.data.get("without", {}).items()}
    if without:
        raise system.NodeError(
            f"no package here replaces {', '.join(sorted(without))}",
            *(f"{name}: {why}" for name, why in sorted(without.items())),
            "if nothing needs it: apt-get remove " + " ".join(sorted(without)),
        )
    for service in services:
        if files := service.data.get("unread", []):
            place = f"{service.data['directory']}/{service.name}.conf.d"
            raise system.NodeError(
                f"{service.name}: the new units do not read {', '.join(files)}",
                f"move what they set to a file in {place}, which the new units read",
            )
        if service.series == "unknown":
            raise system.NodeError(
                f"{service.name}: the series of {service.version} is not known",
                "a later openstack-node may know it",
            )
    if not Sources().list_suites(series):
        raise system.NodeError(
            f"no apt source has a suite of {series}",
            "install that repository's sources and key (see its README), then: apt-get update",
        )


def close_directory(service: Service) -> None:
    """Give root a service's configuration directory, which Debian's packages gave to its user.

    Anyone who can write there can have rootwrap run anything as root.
    """
    path = Path(service.data["directory"])
    owner = pwd.getpwnam(service.user)
    if path.is_dir() and path.stat().st_uid == owner.pw_uid:
        os.chown(path, 0, owner.pw_gid)
        path.chmod(0o750)
