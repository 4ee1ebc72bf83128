"""What makes a node use our repository: a bootstrap script, and a package that takes over.

The script at the top of the repository, `<suite>.sh`, writes the repository's key and a
deb822 source (sources.list(5)) with the address it is given: where a repository is served is
known on the node alone (docs/decisions/0018). The package `openstack-<series>-archive` owns
the key and a pin (apt_preferences(5)), and leaves the source that is there as it is. Every
file name has the series, so that two install side by side.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from builder.debs.pack import Plain, common_values
from builder.errors import UsageError
from builder.templates import render

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.model.values import Series, Target

DIRECTORY = "archive"
SERIES = "usr/share/openstack-node/series"
SCRIPTS = ("postinst", "postrm")
# A host with or without a port, and a path; or a path alone. apt has its own file for passwords
# (apt_auth.conf(5)), and what is published is for everybody to read. Of what RFC 3986 lets an
# address consist of, nothing that a shell takes for its own.
URL = re.compile(
    r"(?:https?://[A-Za-z0-9._\[\]:-]+(?=/|$)|file:(?://)?(?=/))[A-Za-z0-9._~:/?#@!*+,=%\[\]-]*"
)


def check_url(url: str) -> None:
    """Raise UsageError for what apt cannot take as the place of a repository (sources.list(5))."""
    # printable ASCII alone: RFC 3986; a blank would end it, a line feed begin another field
    if re.match(r"\w+://[^/]*@", url):
        raise UsageError(
            "a URL with a user or a password in it is not for what everybody may read",
            hint="nodes have them in /etc/apt/auth.conf.d (apt_auth.conf(5))",
        )
    if not URL.fullmatch(url):
        raise UsageError(
            f"{url!a} is no URL apt can use",
            hint="http://host/directory/ or file:/directory, a space written as %20",
        )


def bootstrap(series: Series, target: Target, key: bytes, base_url: str, templates: Path) -> bytes:
    """Return the script that makes a node's apt use the suite, for the repository's top.

    `key` is the armoured public key of the repository, `base_url` where nodes find it unless
    they say another place: an http(s) or a file URL, or empty.
    """
    if base_url:
        check_url(base_url)
    values = {"url": base_url, "key": key.decode(), "stem": _stem(series)}
    return _text("setup.j2", series, target, templates, **values)


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

    `base_url`: the address of a source the package adds where there is none; empty for no
    such source. `upgrade` is what `openstack-node plan` is told of the series.
    """
    if base_url:
        check_url(base_url)
    stem = _stem(series)
    name = f"{stem}-archive"
    # ucf and not dpkg looks after the pin: it asks nothing in a run without a terminal.
    # apt reads a file there only if it has the extension .pref or none, and what follows the
    # dot of the series would be one.
    pin = _text("preferences.j2", series, target, templates)
    values = {"url": base_url, "stem": stem, "package": name}
    files = {
        _keyring(series): key,
        f"{SERIES}/{series.id}.json": json.dumps(upgrade, indent=1).encode() + b"\n",
        f"usr/share/{name}/{stem}.pref": pin,
        **{
            f"DEBIAN/{script}": _text(f"{script}.j2", series, target, templates, **values)
            for script in SCRIPTS
        },
    }
    executable = frozenset(f"DEBIAN/{script}" for script in SCRIPTS)
    return Plain(name, templates / DIRECTORY, series, target, files, {"stem": stem}, executable)


def _text(
    template: str, series: Series, target: Target, templates: Path, **values: object
) -> bytes:
    values = {**common_values(series, target), "keyring": _keyring(series), **values}
    return render(templates / DIRECTORY, template, **values).encode()


def _stem(series: Series) -> str:
    return f"openstack-{series.id}"


def _keyring(series: Series) -> str:
    return f"usr/share/keyrings/{_stem(series)}-archive-keyring.asc"
