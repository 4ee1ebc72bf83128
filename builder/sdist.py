"""Read source distributions (PEP 517, PEP 625) without running them."""

from __future__ import annotations

import posixpath
import tomllib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from builder import archives
from builder.errors import BuildError

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Container, Mapping, Sequence
    from pathlib import Path

KIND = "source distribution"
LONGEST_WALK = 1000  # steps; a longer walk is taken for a circle of links
DEFAULT_BACKEND = ("setuptools>=40.8.0", "wheel")  # PEP 517: no pyproject.toml means setuptools


def read_build_requires(path: Path) -> tuple[str, ...]:
    """Return `[build-system] requires` of an sdist file, or PEP 517's default.

    Raises BuildError if the file is not an archive, or its pyproject.toml not TOML.
    """
    with archives.report_damage(path, KIND):
        text = _read_member(path, "pyproject.toml")
        table: dict[str, Any] = tomllib.loads(text or "").get("build-system", {})
        requires = table.get("requires", DEFAULT_BACKEND)
        if not isinstance(requires, list | tuple) or not all(isinstance(r, str) for r in requires):
            raise ValueError("[build-system] requires of pyproject.toml is not a list of strings")
        return tuple(requires)


def _read_member(path: Path, name: str) -> str | None:
    """Return the text of the member `<top>/<name>`, or None if there is none."""
    if path.suffix == ".zip":
        with archives.open_zip(path, KIND) as archive:
            for entry in archive.namelist():
                if entry.count("/") == 1 and entry.endswith(f"/{name}"):
                    return archives.read_member(archive, entry).decode()
        return None
    with archives.open_tar(path, KIND) as (tar, members):
        for member in members:
            parts = member.name.removeprefix("./").split("/")
            if len(parts) == 2 and parts[1] == name and member.size <= archives.LARGEST_TEXT:
                stream = tar.extractfile(member)
                return stream.read().decode() if stream else None
    return None


def unpack(path: Path, into: Path) -> Path:
    """Unpack an sdist below `into` and return its one top directory.

    Raises BuildError for members outside it (`../`, absolute names, links that lead out), and
    for everything that `archives` refuses.
    """
    into.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with archives.open_zip(path, KIND) as archive:
            files = {n for n in archive.namelist() if not n.endswith("/")}
            archives.check_parents(path, archive.namelist(), files)
            archive.extractall(into)  # noqa: S202 - every member was checked
    else:
        with archives.open_tar(path, KIND) as (tar, members):
            # refuse bad names; tarfile's own filter silently strips a leading /
            _check_members(path, members)
            tar.extractall(into, members)  # noqa: S202 - every member was checked
    tops = [p for p in into.iterdir() if p.is_dir()]
    if len(tops) != 1:
        raise BuildError(f"{path.name}: expected one top directory (PEP 625), got {len(tops)}")
    return tops[0]


def _check_members(path: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """Refuse members that are outside or lead there; links are followed as the kernel would."""
    links = {posixpath.normpath(m.name): m.linkname for m in members if m.issym()}
    files = {posixpath.normpath(m.name) for m in members if m.isfile() or m.islnk()}
    archives.check_parents(path, [posixpath.normpath(m.name) for m in members], files)
    before: set[str] = set()
    for member in members:
        name = posixpath.normpath(member.name)
        if member.islnk():
            _check_hard_link(path, member, before)
        elif not (member.isfile() or member.isdir() or member.issym()):
            raise BuildError(f"{path.name}: the member {member.name!r} is a device or a pipe")
        if any(str(parent) in links for parent in PurePosixPath(name).parents):
            raise BuildError(f"{path.name}: the member {member.name!r} is behind a link")
        if member.issym() and not _stays(member, links):
            raise BuildError(
                f"{path.name}: the link {member.name!r} leads outside, to {member.linkname!r}"
            )
        if not member.isdir():
            before.add(name)


def _check_hard_link(path: Path, member: tarfile.TarInfo, before: Container[str]) -> None:
    """Refuse a hard link to a file outside, or not among the members `before` it."""
    archives.check_name(path, member.linkname)
    if posixpath.normpath(member.linkname) not in before:
        raise BuildError(
            f"{path.name}: the hard link {archives.quote(member.name)} is to "
            f"{archives.quote(member.linkname)}, which is not in the archive before it"
        )


def _stays(link: tarfile.TarInfo, links: Mapping[str, str]) -> bool:
    """Whether a link's target is in the archive; `links` are the targets of all its links."""
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
