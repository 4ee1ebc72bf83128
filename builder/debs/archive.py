"""What makes a node use our repository: a bootstrap script, then a package that takes over.

The script at the top of the repository, `<suite>.sh`, writes the repository's key and a
deb822 source (sources.list(5)) with the address it is given: only the node knows where a
repository is served (docs/decisions/0018). The package `openstack-<series>-archive` owns the
key and a pin (apt_preferences(5)), and leaves an existing source alone. Every file name
includes the series, so two series install side by side.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from builder.debs.plain import Plain, make_common_values
from builder.errors import UsageError
from builder.templates import render

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.model.values import Series, Target

DIRECTORY = "archive"
SERIES = "usr/share/openstack-node/series"
SCRIPTS = ("postinst", "postrm")
# A host with or without a port, and a path; or a path alone. No passwords: what is published is
# readable by everyone, and apt keeps them in a file of their own (apt_auth.conf(5)). Of the
# characters RFC 3986 allows, none that is special to a shell.
URL = re.compile(
    r"(?:https?://[A-Za-z0-9._\[\]:-]+(?=/|$)|file:(?://)?(?=/))[A-Za-z0-9._~:/?#@!*+,=%\[\]-]*"
)


def check_url(url: str) -> None:
    """Raise UsageError for a repository address that apt cannot use (sources.list(5))."""
    # only printable ASCII (RFC 3986): a space would end it, a line feed start another field
    if re.match(r"\w+://[^/]*@", url):
        raise UsageError(
            "the URL contains a user or password, and it would be published for everyone to read",
            hint="put them in /etc/apt/auth.conf.d on the nodes (apt_auth.conf(5))",
        )
    if not URL.fullmatch(url):
        raise UsageError(
            f"{url!a} is not a URL apt can use",
            hint="use http://host/directory/ or file:/directory, and write a space as %20",
        )


def render_bootstrap(
    series: Series, target: Target, key: bytes, base_url: str, templates: Path
) -> bytes:
    """Return the script, for the top of the repository, that makes a node's apt use the suite.

    `key` is the armoured public key of the repository. `base_url` is where nodes find it unless
    they name another place: an http(s) or file URL, or empty.
    """
    if base_url:
        check_url(base_url)
    values = {"url": base_url, "key": key.decode(), "stem": _name_stem(series)}
    return _render("setup.j2", series, target, templates, **values)


def make_archive_package(
    series: Series,
    target: Target,
    key: bytes,
    base_url: str,
    templates: Path,
    *,
    upgrade: Mapping[str, object],
) -> Plain:
    """Return the package for a suite. `key` is the armoured public key of the repository.

    `base_url`: the address of the source the package adds if a node has none; if empty, it adds
    none. `upgrade` is what `openstack-node plan` needs to know about the series.
    """
    if base_url:
        check_url(base_url)
    stem = _name_stem(series)
    name = f"{stem}-archive"
    # ucf manages the pin instead of dpkg, because it asks nothing without a terminal.
    # apt reads only files with the extension .pref or none, and what follows the dot of the
    # series would count as one.
    pin = _render("preferences.j2", series, target, templates)
    values = {"url": base_url, "stem": stem, "package": name}
    files = {
        _name_keyring(series): key,
        f"{SERIES}/{series.id}.json": json.dumps(upgrade, indent=1).encode() + b"\n",
        f"usr/share/{name}/{stem}.pref": pin,
        **{
            f"DEBIAN/{script}": _render(f"{script}.j2", series, target, templates, **values)
            for script in SCRIPTS
        },
    }
    executable = frozenset(f"DEBIAN/{script}" for script in SCRIPTS)
    return Plain(name, templates / DIRECTORY, series, target, files, {"stem": stem}, executable)


def _render(
    template: str, series: Series, target: Target, templates: Path, **values: object
) -> bytes:
    values = {**make_common_values(series, target), "keyring": _name_keyring(series), **values}
    return render(templates / DIRECTORY, template, **values).encode()


def _name_stem(series: Series) -> str:
    return f"openstack-{series.id}"


def _name_keyring(series: Series) -> str:
    return f"usr/share/keyrings/{_name_stem(series)}-archive-keyring.asc"
