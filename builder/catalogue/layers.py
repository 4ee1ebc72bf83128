"""Layers of data: `projects/`, and on top of it the overlays of a site, with the same rooms.

Later wins. A file that describes one thing (a service, a series, a target) may be in several
layers: a key takes the value of the latest layer, and tables are merged key by key. Files of
rows (drivers, recipes, overrides, roles) are concatenated, later rows last. Of two locks the
later one is used. Patches come after those of the layers below.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from builder import patches
from builder.errors import DataError, list_nearest
from builder.model import reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.model.values import Patch

T = TypeVar("T")
LIKE = 0.7  # difflib ratio from which a name counts as mistyped
ROOMS = frozenset({"locks", "overrides", "patches", "series", "services", "targets"})
FILES = frozenset(
    f"{name}.toml" for name in ("drivers", "lintian", "recipes", "roles", "successors", "upgrades")
)


@dataclass(frozen=True, slots=True)
class Layers:
    """The directories of the data, the lowest first."""

    roots: tuple[Path, ...]

    def list_files(self, room: str) -> dict[str, list[Path]]:
        """Return the TOML files of a room by what they describe, lower layers first."""
        found: dict[str, list[Path]] = {}
        for root in self.roots:
            for path in sorted((root / room).glob("*.toml")):
                found.setdefault(path.stem, []).append(path)
        return dict(sorted(found.items()))

    def read_rows(self, name: str, cls: type[T]) -> T:
        """Return a file of rows, joined over all layers, as one value of `cls`."""
        found = [path for root in self.roots if (path := root / name).exists()]
        return read_rows(found, cls) if found else cls()

    def read_patches(self) -> Mapping[str, Mapping[str, tuple[Patch, ...]]]:
        """Return the patches by series and canonical name of a distribution."""
        found: dict[str, dict[str, tuple[Patch, ...]]] = {}
        for i, root in enumerate(self.roots):
            layer = name_layer(root) if i else ""
            for series, by_name in patches.load(root / "patches", layer).items():
                own = found.setdefault(series, {})
                for name, more in by_name.items():
                    known = {patch.name for patch in own.get(name, ())}
                    if twice := [patch.name for patch in more if patch.name in known]:
                        place = root / "patches" / series / name / twice[0]
                        raise DataError(f"{place}: a lower layer already has a patch of that name")
                    own[name] = (*own.get(name, ()), *more)
        return found

    def check(self) -> None:
        """Raise DataError for a name in an overlay that looks like one of the data's but is not.

        A site may keep other things there: a repository, notes.
        """
        for root in self.roots[1:]:
            for path in sorted(root.iterdir()):
                known = ROOMS if path.is_dir() else FILES
                close = difflib.get_close_matches(path.name, known, cutoff=LIKE)
                if path.name not in known and (close or path.suffix == ".toml"):
                    raise DataError(
                        f"{path}: not a name that an overlay may use",
                        hint=f"nearest: {list_nearest(path.name, known)}",
                    )

    def list_overlay_files(self) -> list[str]:
        """Return the files of the overlays, each with its overlay's path."""
        return [
            str(path)
            for root in self.roots[1:]
            for name in sorted(ROOMS | FILES)
            for path in sorted([root / name, *(root / name).rglob("*")])
            if path.is_file()
        ]


def name_layer(root: Path) -> str:
    """Return an overlay's name for use in versions: letters and digits of its directory's name."""
    kept = "".join(c for c in root.resolve().name.lower() if c.isascii() and c.isalnum())
    return kept or "local"


def read(paths: Sequence[Path], cls: type[T]) -> T:
    """Read one thing from files of several layers; later values replace earlier ones.

    DataError names the file at fault.
    """
    raw: dict[str, Any] = {}
    value: Any = None
    for path in paths:
        for key, own in reading.parse(path).items():
            before = raw.get(key)
            both = isinstance(before, dict) and isinstance(own, dict)
            raw[key] = {**before, **own} if both else own  # type: ignore[dict-item]
        value = reading.build(raw, cls, str(path))
    return value  # type: ignore[no-any-return]


def read_rows(paths: Sequence[Path], cls: type[T]) -> T:
    """Read files of rows, those of later layers last."""
    rows: dict[str, list[Any]] = {}
    for path in paths:
        raw = reading.parse(path)
        reading.build(raw, cls, str(path))  # separately, so that an error has the row's own number
        for key, more in raw.items():
            rows[key] = [*rows.get(key, ()), *more]
    return reading.build(rows, cls, str(paths[-1]))  # type: ignore[no-any-return]
