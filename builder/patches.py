"""Patches that a series applies to upstream sources: the quilt series of `projects/patches/`.

`projects/patches/<series>/<distribution>/series` names the patches in order, one per line;
`#` begins a comment (quilt(1)). A patch shared with another series is named by its path there,
`../../<series>/<distribution>/<name>.patch`. Each begins with a DEP-3 header and is applied with
-p1, as dpkg-source does: without fuzz, and never in reverse.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from builder.errors import BuildError, DataError
from builder.model import reading
from builder.model.shapes import LINE
from builder.model.values import Patch
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SERIES = "series"
APPLY = ("patch", "-p1", "--unified", "--fuzz=0", "--batch", "--forward", "--remove-empty-files")
OUTPUT = ("--no-backup-if-mismatch", "--reject-file=-")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.patch")
_OF_ANOTHER = re.compile(r"\.\./\.\./[A-Za-z0-9.]+/(?P<distribution>[a-z0-9-]+)/[^/]+")
_DESCRIPTION = re.compile(r"^(?:Description|Subject):\s*(\S.*?)\s*$", re.MULTILINE)


def load(root: Path, layer: str = "") -> Mapping[str, Mapping[str, tuple[Patch, ...]]]:
    """Read the directory `projects/patches`: series id to canonical distribution name to patches.

    `layer` is the name of the overlay they come from. Raises DataError that names the file.
    """
    return {
        series.name: {d.name: _read(d, layer) for d in _list_directories(series)}
        for series in _list_directories(root)
    }


def _list_directories(parent: Path) -> list[Path]:
    """Return the directories in `parent`; anything else there is a DataError."""
    found = sorted(parent.iterdir()) if parent.is_dir() else []
    if strays := [p for p in found if not p.is_dir()]:
        raise DataError(f"{strays[0]}: only directories belong here")
    return found


def _read(directory: Path, layer: str) -> tuple[Patch, ...]:
    """Read the patches for one distribution, in the order of its series."""
    canonical = canonicalize_name(directory.name)
    if directory.name != canonical:
        raise DataError(f"{directory}: this distribution's directory must be named {canonical}")
    series = directory / SERIES
    if not series.is_file():
        raise DataError(f"{series}: no such file", hint="list the patches in it, one per line")
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in _read_text(series).splitlines()]
    paths = [_find_patch(directory, line) for line in lines if line]
    names = [path.name for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{series}: {twice[0]!r} is listed twice")
    if left := sorted({p.name for p in directory.glob("*.patch")} - set(names)):
        raise DataError(f"{series}: does not list {', '.join(left)}")
    return tuple(_read_patch(path, layer) for path in paths)


def _find_patch(directory: Path, line: str) -> Path:
    """Return the file that a line of a series names, here or in another series."""
    path = directory / line
    shared = _OF_ANOTHER.fullmatch(line)
    of_another = shared is not None and shared["distribution"] == directory.name
    if line not in {p.name for p in directory.glob("*.patch")} and not (
        of_another and path.is_file()
    ):
        what = "is not a patch (*.patch) of this directory or of another series"
        raise DataError(f"{directory / SERIES}: {line!r} {what}")
    return path.parent.resolve() / path.name


def _read_patch(path: Path, layer: str) -> Patch:
    text = _read_text(path)  # a patch may have lines that end in CR LF
    if not _NAME.fullmatch(path.name):
        raise DataError(f"{path.parent}: expected a name such as fix-it.patch, got {path.name!r}")
    header = re.split(r"^--- ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = _DESCRIPTION.search(header)
    if found is None:
        raise DataError(f"{path}: its header has no Description (DEP-3)")
    if not LINE.fits(found[1]):
        raise DataError(f"{path}: its Description has unprintable characters")
    return Patch(path.name, found[1], text, layer)


def _read_text(path: Path) -> str:
    try:
        return reading.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from error


def apply(source: Path, patches: Sequence[Patch], log: Path) -> None:
    """Apply `patches` in order to the unpacked `source`; BuildError names one that does not apply.

    The output of patch(1) goes to `log`.
    """
    for patch in patches:
        try:
            run([*APPLY, *OUTPUT], cwd=source, log=log, input_bytes=patch.text.encode())
        except BuildError as error:
            raise BuildError(
                f"{source.name}: the patch {patch.name} does not apply",
                details=error.details,
                hint=f"log: {log}",
                log=log,
            ) from error


def render_series(patches: Sequence[Patch]) -> str:
    """Return the `series` file that lists `patches` (debian/patches/series of a source package)."""
    return "".join(f"{patch.name}\n" for patch in patches)
