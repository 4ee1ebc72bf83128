"""The package `openstack-<series>-archive`: a node that has it uses our repository.

It carries the repository's key, a deb822 source (sources.list(5)) and a pin
(apt_preferences(5)); every file name has the series, so that two install side by side.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.debs.pack import Plain, common_values
from builder.errors import UsageError
from builder.templates import render

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.model import Series, Target

DIRECTORY = "archive"
SERIES = "usr/share/openstack-node/series"


def suite_sources(series: Series, target: Target, base_url: str, templates: Path) -> bytes:
    """Return the deb822 source of the suite, as the package and the repository's top have it.

    `base_url` is where nodes find the repository: an http(s) or a file URL (`Path.as_uri`).
    """
    scheme, colon, rest = base_url.partition(":")
    if scheme not in ("http", "https", "file") or not colon or not rest or " " in base_url:
        raise UsageError(
            f"{base_url!r} is no URL apt can use",
            hint="http://host/directory/ or file:/directory, a space written as %20",
        )
    return _text("sources.j2", series, target, templates, url=base_url)


def archive_package(
    series: Series,
    target: Target,
    key: bytes,
    base_url: str,
    templates: Path,
    *,
    upgrade: Mapping[str, object],
) -> Plain:
    """Return the package for a suite. `key` is the armoured public key of the repository.

    `upgrade` is what `openstack-node plan` is told of the series.
    """
    stem = _stem(series)
    files = {
        _keyring(series): key,
        f"{SERIES}/{series.id}.json": json.dumps(upgrade, indent=1).encode() + b"\n",
        f"etc/apt/sources.list.d/{stem}.sources": suite_sources(
            series, target, base_url, templates
        ),
        # apt reads a file there only if it has the extension .pref or none, and what
        # follows the dot of the series would be one.
        f"etc/apt/preferences.d/{stem}.pref": _text("preferences.j2", series, target, templates),
    }
    name, room = f"{stem}-archive", templates / DIRECTORY
    return Plain(name, room, series, target, files, {"stem": stem})


def _text(
    template: str, series: Series, target: Target, templates: Path, **values: object
) -> bytes:
    values = {**common_values(series, target), "keyring": _keyring(series), **values}
    return render(templates / DIRECTORY, template, **values).encode()


def _stem(series: Series) -> str:
    return f"openstack-{series.id}"


def _keyring(series: Series) -> str:
    return f"usr/share/keyrings/{_stem(series)}-archive-keyring.asc"
