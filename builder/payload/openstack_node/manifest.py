"""What installed packages declare about their services, and which parts are installed."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openstack_node import ini, system

SERVICES = Path("/usr/share/openstack-node/services")
FORMAT = 2
DEBIAN = Path("/usr")  # the tree of Debian's own packages


@dataclass(frozen=True)
class Unit:
    """A systemd unit of a service; see `builder`'s manifest for the fields' meaning."""

    name: str
    package: str
    kind: str
    start: str
    needs: list[str]
    configs: list[str]
    others: list[str]


@dataclass(frozen=True)
class Service:
    """A service as installed on this node: only the units of installed packages.

    `data` is the whole manifest, for what only one place reads.
    """

    name: str
    title: str
    series: str
    version: str
    tree: Path
    user: str
    order: int
    installed: frozenset[str]
    units: list[Unit]
    data: dict[str, Any]

    @property
    def foreign(self) -> bool:
        """Whether it is installed from Debian's own packages, not ours."""
        return self.tree == DEBIAN

    @property
    def python(self) -> str:
        """The Python that has the modules of the service."""
        return str(self.tree / "bin" / ("python3" if self.foreign else "python"))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The setup steps that apply to this node."""
        return [s for s in self.data["setup"] if not s["package"] or s["package"] in self.installed]

    @property
    def packages(self) -> list[str]:
        """The installed packages without a series in their names, in alphabetical order."""
        return sorted(p for p in self.installed if not p.startswith("openstack-"))

    @property
    def configs(self) -> list[str]:
        """The files that command-line tools and services with a database read, in order."""
        chains = [u.configs for u in self.units if self.uses_database(u)]
        if chains:
            return max(chains, key=len)
        main = [c["live"] for c in self.data["configs"][:1]]
        return [*main, f"{self.data['directory']}/{self.name}.conf.d/"]

    @property
    def wants_database(self) -> bool:
        """Whether a unit installed here works on the database itself."""
        return any(self.uses_database(u) for u in self.units)

    def find_schema(self, name: str) -> dict[str, Any]:
        """Return the entry of a database; that of a further cell is the first one's."""
        schemas: list[dict[str, Any]] = self.data["schemas"]
        return next((s for s in schemas if s["name"] == name), schemas[0])

    def uses_database(self, unit: Unit) -> bool:
        """Whether a unit works on the service's database itself."""
        return unit.kind == "uwsgi" or "connection" in unit.needs

    def find_needed(self, unit: Unit) -> str:
        """Return the option a unit that was not started waits for, and where to set it.

        It may be set in any section of any file in the service's directory: an administrator's
        drop-in may make the unit read other files.
        """
        sections = {s["option"]: s["section"] for s in self.data["schemas"][:1]}
        directory = Path(self.data["directory"])
        # Most often it is in the first.
        paths = dict.fromkeys((*ini.list_files(unit.configs), *map(str, directory.rglob("*.conf"))))
        for option in unit.needs:
            if not any(e.option == option and e.value for p in paths for e in ini.read(p)[0]):
                place = unit.configs[0] if unit.configs else "its files"
                return f"[{sections.get(option, 'DEFAULT')}] {option} in {place}"
        return ""

    def list_files(self) -> list[str]:
        """Return the existing files that its units read."""
        paths = {f for u in self.units for f in (*ini.list_files(u.configs), *u.others)}
        return sorted(p for p in paths if Path(p).exists())

    def read_options(self) -> dict[str, Any]:
        """Return the options in the series' sample files, and former names of some."""
        text = Path(self.data["options"]).read_text(encoding="utf-8")
        known: dict[str, Any] = json.loads(text)
        return known


def load(names: list[str], directory: Path = SERVICES) -> list[Service]:
    """Return the services installed here, in setup order; all, or those named.

    Raises NodeError for a name that is not installed, and for a manifest of a later format.
    """
    manifests = [_read(path) for path in _list_paths(directory)]
    versions = system.list_versions([p for m in manifests for p in m["packages"]])
    found = [s for s in (make_service(m, versions) for m in manifests) if s]
    known = {s.name for s in found}
    for name in names:
        if name not in known:
            raise system.NodeError(
                f"service {name} is not installed here",
                f"installed: {', '.join(sorted(known)) or 'none'}",
            )
    return sorted((s for s in found if not names or s.name in names), key=lambda s: s.order)


def load_shipped(name: str, directory: Path = SERVICES) -> Service | None:
    """Return a service with all its units, installed or not, without asking dpkg."""
    path = directory / f"{name}.json"
    if not path.is_file():
        return None
    data = _read(path)
    return make_service(data, dict.fromkeys(data["packages"], ""))


def _list_paths(directory: Path) -> list[Path]:
    """Return the manifests, without the lists of options (`.options.json`) next to them."""
    return [path for path in sorted(directory.glob("*.json")) if path.suffixes == [".json"]]


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if data["format"] > FORMAT:
        raise system.NodeError(
            f"{path} is from a later release than this openstack-node",
            "apt-get install openstack-node",
        )
    return data if data["format"] > 1 else _complete(data)


def _complete(data: dict[str, Any]) -> dict[str, Any]:
    """Complete a manifest of the first format, which lacks how to read cells and options."""
    schemas = [{**schema, "cells": None} for schema in data["schemas"]]
    setup = [{**step, "options": [], "environment": {}, "passed": []} for step in data["setup"]]
    return {**data, "schemas": schemas, "setup": setup}


def list_setup_steps(directory: Path = SERVICES) -> list[dict[str, Any]]:
    """Return the setup steps of all services here, skipping manifests that cannot be read."""
    steps: list[dict[str, Any]] = []
    for path in _list_paths(directory):
        with suppress(system.NodeError, OSError, ValueError, KeyError):
            steps += _read(path)["setup"]
    return steps


def make_service(data: dict[str, Any], versions: dict[str, str]) -> Service | None:
    """Return the service of a manifest with the units of the packages in `versions`.

    None if its common package is not among them.
    """
    if data["package"] not in versions:  # removed, as its file soon will be
        return None
    units = [Unit(**u) for u in data["units"] if u["package"] in versions]
    return Service(
        name=data["service"],
        title=data["title"],
        series=data["series"],
        version=versions[data["package"]],
        tree=Path(data["tree"]),
        user=data["user"],
        order=data["order"],
        installed=frozenset(p for p in data["packages"] if p in versions),
        units=units,
        data=data,
    )
