"""Debian's own packages of the services, and how our packages with the same files relate to them.

A node that runs Debian's services moves to ours through apt if Debian's version is lower. If it is
not, as on Debian 11 for the Python 2.7 series, the two exclude each other.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from debian.debian_support import Version

from builder.debs.versions import translate_version
from builder.errors import DataError
from builder.model.service import Package, holds
from builder.templates import MAINTAINER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.model.service import Service, Successor
    from builder.model.values import Series, Target


def adapt_to_target(
    service: Service,
    successors: Iterable[Successor],
    series: Series,
    target: Target,
    order: Sequence[str],
) -> Service:
    """Return a service, already narrowed to `series`, as it is on a target.

    Its packages that take over files from Debian's get relations to those, and transitional
    packages lead apt from Debian's names to ours. Raises DataError for a transitional package
    that would not be an upgrade.
    """
    version = translate_version(series.versions[service.name], service.epoch)
    adopts = is_lower(service.name, version, target)
    own = [
        s for s in select_successors(successors, series, target, order) if s.service == service.name
    ]
    packages = [
        _add_relations(p, service, f"{version}~" if adopts else "") for p in service.packages
    ]
    if adopts:
        real = {p.name for p in packages}
        packages += [
            _make_transitional(s, service, version, target) for s in own if s.name not in real
        ]
    return dataclasses.replace(service, packages=tuple(packages), adopts=adopts)


def select_successors(
    successors: Iterable[Successor], series: Series, target: Target, order: Sequence[str]
) -> list[Successor]:
    """Return the successors, in this series, of packages that this target's Debian has."""
    return [
        s for s in successors if s.to and target.suite in s.targets and holds(s, series.id, order)
    ]


def is_lower(source: str, version: str, target: Target) -> bool:
    """Whether the target's Debian has this source package at a lower version."""
    theirs = target.debian.versions.get(source)
    return theirs is not None and Version(theirs) < Version(version)


def _add_relations(package: Package, service: Service, below: str) -> Package:
    """Return a package with relations to the Debian packages whose files it takes over.

    Policy 7.6.1: Replaces lets dpkg take the files over, Breaks forces the other package to be
    upgraded or removed. Without an upgrade (no `below`) the two conflict (7.4).
    """
    if not package.takes_over:
        return package
    if below:
        older = tuple(f"{name} (<< {below})" for name in package.takes_over)
        return dataclasses.replace(
            package,
            takes_over=(),
            breaks=(*package.breaks, *older),
            replaces=(*package.replaces, *older),
        )
    own = {p.name for p in service.packages}
    others = tuple(name for name in package.takes_over if name not in own)
    return dataclasses.replace(
        package,
        takes_over=(),
        conflicts=(*package.conflicts, *others),
        replaces=(*package.replaces, *others),
    )


def _make_transitional(
    successor: Successor, service: Service, version: str, target: Target
) -> Package:
    if not is_lower(successor.source or service.name, version, target):
        raise DataError(
            f"{successor.name}: {version} is not higher than Debian's version in {target.suite}",
            hint="its targets are in projects/successors.toml",
        )
    return Package(
        name=successor.name,
        summary=f"{service.title} - transitional package",
        description=describe_transition(successor),
        meta=True,
        transitional=True,
        depends=successor.to,
        breaks=successor.breaks,
        aliases=successor.aliases,
    )


def describe_transition(successor: Successor) -> str:
    """Return the description of a transitional package."""
    return (
        f"This is a transitional package. Debian's {successor.name} is replaced by: "
        f"{', '.join(successor.to)}. It can be removed once nothing depends on it."
    )


def describe_services(
    services: Iterable[Service],
    successors: Sequence[Successor],
    versions: Mapping[str, Mapping[str, str]],
    target: Target,
) -> Mapping[str, object]:
    """Return what `openstack-node` knows about Debian's own packages of each service.

    `services` are as `adapt_to_target` returns them; `versions` has each service's version by
    series. In the result, `series` maps the first number of a version to its series; `without`
    maps packages without a successor to the reason; `unread` has directories our units do not read.
    """
    rows = {}
    for service in (s for s in services if s.adopts):
        own = [s for s in successors if s.service == service.name and target.suite in s.targets]
        rows[service.name] = {
            "title": service.title,
            "package": service.common,
            "user": service.user.name,
            "order": service.node.order,
            "directory": f"/etc/{service.name}",
            "sources": sorted({service.name, *(s.source for s in own if s.source)}),
            "without": {s.name: " ".join(s.why.split()) for s in own if not s.to},
            "unread": [path for s in own for path in s.unread],
            "series": {
                of[service.name].split(".")[0]: id_
                for id_, of in versions.items()
                if service.name in of
            },
        }
    return {"format": 1, "maintainer": MAINTAINER, "services": rows}
