"""The package `openstack-<series>-archive`: a node that has it uses our repository.

It carries the repository's key, a deb822 source (sources.list(5)) and a pin
(apt_preferences(5)); every file name has the series, so that two install side by side.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from builder.debs.pack import installed_size, md5sums, own_version, pack
from builder.errors import UsageError
from builder.files import sha256_text
from builder.templates import MAINTAINER, date_822, render

if TYPE_CHECKING:
    from pathlib import Path

    from builder.model import Series, Target

DIRECTORY = "archive"


def archive_name(series: Series) -> str:
    """Return the name of the package."""
    return f"{_stem(series)}-archive"


def archive_version(series: Series, target: Target, revision: int) -> str:
    """Return the version of the package: the series' id, and a revision of ours."""
    return own_version(series, target, revision)


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
    return _render("sources.j2", series, target, templates, url=base_url).encode()


def archive_inputs(
    series: Series, target: Target, key: bytes, base_url: str, templates: Path
) -> str:
    """Return the digest of all the package is made from, its version excepted (Build-Inputs)."""
    values = {"version": "", "inputs": "", "installed_size": 0}
    files = _files(series, target, key, base_url, templates)
    texts = [name + "\0" + data.decode() for name, data in sorted(files.items())]
    return sha256_text(*texts, _render("control.j2", series, target, templates, **values))


def build_archive_package(
    series: Series,
    target: Target,
    key: bytes,
    base_url: str,
    output: Path,
    *,
    revision: int,
    epoch_seconds: int,
    templates: Path,
) -> Path:
    """Build the package into the directory `output`, and return its path.

    `key` is the armoured public key. The same arguments give the same bytes.
    """
    name, version = archive_name(series), archive_version(series, target, revision)
    files = _files(series, target, key, base_url, templates)
    change = _render(
        "changelog.j2", series, target, templates, version=version, date=date_822(epoch_seconds)
    )
    files[f"usr/share/doc/{name}/changelog.Debian.gz"] = gzip.compress(change.encode(), 9, mtime=0)
    conffiles = sorted(path for path in files if path.startswith("etc/"))
    control = _render(
        "control.j2",
        series,
        target,
        templates,
        version=version,
        inputs=archive_inputs(series, target, key, base_url, templates),
        installed_size=installed_size(files),
    )
    files["DEBIAN/control"] = control.encode()
    files["DEBIAN/conffiles"] = "".join(f"/{path}\n" for path in conffiles).encode()
    files["DEBIAN/md5sums"] = md5sums(files)
    return pack(files, output / f"{name}_{version}_all.deb", epoch_seconds)


def _files(
    series: Series, target: Target, key: bytes, base_url: str, templates: Path
) -> dict[str, bytes]:
    """Return the files the package installs, but for the changelog."""
    name, stem = archive_name(series), _stem(series)
    return {
        _keyring(series): key,
        f"etc/apt/sources.list.d/{stem}.sources": suite_sources(
            series, target, base_url, templates
        ),
        # apt reads a file there only if it has the extension .pref or none, and what
        # follows the dot of the series would be one.
        f"etc/apt/preferences.d/{stem}.pref": _render(
            "preferences.j2", series, target, templates
        ).encode(),
        f"usr/share/doc/{name}/copyright": _render(
            "copyright.j2", series, target, templates
        ).encode(),
        f"usr/share/lintian/overrides/{name}": _render(
            "lintian-overrides.j2", series, target, templates
        ).encode(),
    }


def _render(
    template: str, series: Series, target: Target, templates: Path, **values: object
) -> str:
    return render(
        templates,
        f"{DIRECTORY}/{template}",
        package=archive_name(series),
        stem=_stem(series),
        keyring=_keyring(series),
        series=series.id,
        title=series.name.title(),
        year=series.date[:4],
        target=target.suite,
        architecture=target.architecture,
        suite=f"{target.suite}-{series.id}",
        maintainer=MAINTAINER,
        **values,
    )


def _stem(series: Series) -> str:
    return f"openstack-{series.id}"


def _keyring(series: Series) -> str:
    return f"usr/share/keyrings/{_stem(series)}-archive-keyring.asc"
