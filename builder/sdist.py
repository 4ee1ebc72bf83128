"""Read source distributions (PEP 517, PEP 625) without running them."""

from __future__ import annotations

import errno
import posixpath
import tarfile
import tomllib
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from builder.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)
LONGEST_WALK = 1000  # steps; links that go in circles lead nowhere
DEFAULT_BACKEND = ("setuptools>=40.8.0", "wheel")  # PEP 517: no pyproject.toml means setuptools


def pyproject_requires(path: Path) -> tuple[str, ...]:
    """Return `[build-system] requires` of an sdist file, or PEP 517's default.

    Raises BuildError when the file is no archive, or its pyproject.toml no TOML.
    """
    try:
        text = _member(path, "pyproject.toml")
        table: dict[str, Any] = tomllib.loads(text or "").get("build-system", {})
    except (*UNREADABLE, ValueError) as error:
        raise BuildError(f"{path.name}: not a usable source distribution: {error}") from error
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
                _check_members(path, archive.getmembers())
                archive.extractall(into)  # noqa: S202 - every member was checked
    except (*UNREADABLE, OSError) as error:
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


def _check_members(path: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """Refuse members that are, or lead, outside; links are followed as the kernel would."""
    links = {posixpath.normpath(m.name): m.linkname for m in members if m.issym()}
    for member in members:
        _check_name(path, member.name)
        if member.islnk():
            _check_name(path, member.linkname)
        elif not (member.isfile() or member.isdir() or member.issym()):
            raise BuildError(f"{path.name}: the member {member.name!r} is a device or a pipe")
        parents = PurePosixPath(posixpath.normpath(member.name)).parents
        if any(str(parent) in links for parent in parents):
            raise BuildError(f"{path.name}: the member {member.name!r} lies behind a link")
        if member.issym() and not _stays(member, links):
            raise BuildError(
                f"{path.name}: the link {member.name!r} leads out, to {member.linkname!r}"
            )


def _stays(link: tarfile.TarInfo, links: Mapping[str, str]) -> bool:
    """Whether what a link names lies in the archive; `links` are the targets of all its links."""
    if link.linkname.startswith("/"):
        return False
    here, todo = posixpath.normpath(link.name).split("/")[:-1], [link.linkname]
    for _ in range(LONGEST_WALK):
        if not todo:
            break
        first, _, rest = todo.pop().partition("/")
        todo += [rest] if rest else []
        if first == "..":
            if not here:
                return False
            here.pop()
        elif first not in {"", "."}:
            here.append(first)
        if (target := links.get("/".join(here))) is not None:
            here.pop()
            todo.append(target)
    return True


def _check_name(path: Path, name: str) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise BuildError(
            f"{path.name}: the member {name!r} lies outside the archive's own directory",
            hint="do not use this file; fetch the release again from another place",
        )
