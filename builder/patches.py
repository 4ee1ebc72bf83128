"""Patches of a series on what its upstreams published: quilt series of `projects/patches/`.

`projects/patches/<series>/<distribution>/series` names the patches in order, one file a line;
`#` begins a comment (quilt(1)). A patch that another series has as well is named where it lies,
`../../<series>/<distribution>/<name>.patch`. Each begins with a DEP-3 header and is applied with
-p1, as dpkg-source does it: without fuzz, and never backwards.
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

    `layer` is the name of the overlay it is of. Raises DataError that names the file.
    """
    return {
        series.name: {d.name: _read(d, layer) for d in _directories(series)}
        for series in _directories(root)
    }


def _directories(parent: Path) -> list[Path]:
    """Return the directories of one that holds nothing else."""
    found = sorted(parent.iterdir()) if parent.is_dir() else []
    if strays := [p for p in found if not p.is_dir()]:
        raise DataError(f"{strays[0]}: only directories belong here")
    return found


def _read(directory: Path, layer: str) -> tuple[Patch, ...]:
    """Read the patches on one distribution, in the order of its series."""
    canonical = canonicalize_name(directory.name)
    if directory.name != canonical:
        raise DataError(f"{directory}: the directory of this distribution is named {canonical}")
    series = directory / SERIES
    if not series.is_file():
        raise DataError(f"{series}: no such file", hint="it names the patches, one a line")
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in _text(series).splitlines()]
    paths = [_path(directory, line) for line in lines if line]
    names = [path.name for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{series}: {twice[0]!r} is named twice")
    if left := sorted({p.name for p in directory.glob("*.patch")} - set(names)):
        raise DataError(f"{series}: {', '.join(left)} is not named in it")
    return tuple(_patch(path, layer) for path in paths)


def _path(directory: Path, line: str) -> Path:
    """Return the file a line of a series names: one beside it, or one of another series."""
    path = directory / line
    shared = _OF_ANOTHER.fullmatch(line)
    of_another = shared is not None and shared["distribution"] == directory.name
    if line not in {p.name for p in directory.glob("*.patch")} and not (
        of_another and path.is_file()
    ):
        what = "is no patch (*.patch) of this directory, nor of another series"
        raise DataError(f"{directory / SERIES}: {line!r} {what}")
    return path.parent.resolve() / path.name


def _patch(path: Path, layer: str) -> Patch:
    text = _text(path)  # a patch may have lines that end in CR LF
    if not _NAME.fullmatch(path.name):
        raise DataError(f"{path.name!r} in {path.parent}: a name such as fix-it.patch is wanted")
    header = re.split(r"^--- ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = _DESCRIPTION.search(header)
    if found is None:
        raise DataError(f"{path}: its header has no Description (DEP-3)")
    if not LINE.fits(found[1]):
        raise DataError(f"{path}: its Description has characters that cannot be printed")
    return Patch(path.name, found[1], text, layer)


def _text(path: Path) -> str:
    try:
        return reading.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from error


def apply(source: Path, patches: Sequence[Patch], log: Path) -> None:
    """Apply `patches` in order to the unpacked source `source`; BuildError names one that does not.

    What patch(1) says goes to `log`.
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


def series_text(patches: Sequence[Patch]) -> str:
    """Return the file `series` of `patches` (debian/patches/series of a source package)."""
    return "".join(f"{patch.name}\n" for patch in patches)
