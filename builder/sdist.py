"""Read source distributions (PEP 517, PEP 625) without running them."""

from __future__ import annotations

import errno
import posixpath
import tarfile
import tomllib
import zipfile
from typing import TYPE_CHECKING, Any

from builder.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_BACKEND = ("setuptools>=40.8.0", "wheel")  # PEP 517: no pyproject.toml means setuptools


def pyproject_requires(path: Path) -> tuple[str, ...]:
    """Return `[build-system] requires` of an sdist file, or PEP 517's default."""
    text = _member(path, "pyproject.toml")
    if text is None:
        return DEFAULT_BACKEND
    table: dict[str, Any] = tomllib.loads(text).get("build-system", {})
    return tuple(table.get("requires", DEFAULT_BACKEND))


def _member(path: Path, name: str) -> str | None:
    """Return the text of the member `<top>/<name>`, or None where there is none."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if entry.count("/") == 1 and entry.endswith(f"/{name}"):
                    return archive.read(entry).decode()
        return None
    with tarfile.open(path) as archive:
        for member in archive:
            parts = member.name.removeprefix("./").split("/")
            if len(parts) == 2 and parts[1] == name:
                stream = archive.extractfile(member)
                return stream.read().decode() if stream else None
    return None


def unpack(path: Path, into: Path) -> Path:
    """Unpack an sdist below `into` and return its one top directory.

    Refuses members outside it (`../`, absolute names, links that lead out): BuildError.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix == ".zip":
            _unpack_zip(path, into)
        else:
            with tarfile.open(path) as archive:
                # refused, not quietly cleaned, as tarfile's own filter does with a leading /
                for member in archive:
                    _check_member(path, member)
                archive.extractall(into)  # noqa: S202 - every member was checked
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise BuildError(f"{path.name}: not a usable source distribution: {error}") from error
    tops = [p for p in into.iterdir() if p.is_dir()]
    if len(tops) != 1:
        raise BuildError(f"{path.name}: {len(tops)} top directories, one is wanted (PEP 625)")
    return tops[0]


def _unpack_zip(path: Path, into: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            _check_name(path, name)
        archive.extractall(into)  # noqa: S202 - every member was checked


def _check_member(path: Path, member: tarfile.TarInfo) -> None:
    _check_name(path, member.name)
    if member.issym():
        _check_name(path, posixpath.normpath(f"{posixpath.dirname(member.name)}/{member.linkname}"))
    elif member.islnk():
        _check_name(path, member.linkname)
    elif not (member.isfile() or member.isdir()):
        raise BuildError(f"{path.name}: the member {member.name!r} is a device or a pipe")


def _check_name(path: Path, name: str) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise BuildError(
            f"{path.name}: the member {name!r} lies outside the archive's own directory",
            hint="do not use this file; fetch the release again from another place",
        )
