"""The series' Python tree, laid out below a directory as it is on a node.

Wheels are unpacked into it by `installer` (PEP 427), once a run: library packages take their
files from it, and what runs the code of the whole closure (smoke tests, the generators of
sample files), of which the build machine has no packages, runs in it.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.sources import WheelFile
from installer.utils import copyfileobj_with_hashing
from packaging.utils import canonicalize_name

from builder.errors import BuildError
from builder.templates import render

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from installer.utils import Scheme

    from builder.debs.library import Context
    from builder.model import Wheel

UNUSABLE = (InstallerError, zipfile.BadZipFile, zlib.error, FileExistsError, ValueError, KeyError)
INSTALLER = {"INSTALLER": b"dpkg\n"}  # PEP 376: who owns the files, so that pip leaves them


@dataclass(frozen=True, slots=True)
class Laid:
    """What one wheel has in a tree: `files`, relative to `root`, below which the tree is."""

    root: Path
    files: tuple[str, ...]

    def link(self, root: Path) -> None:
        """Have the files below `root` as well: hard links, which are not to be written to."""
        for parent in {name.rpartition("/")[0] for name in self.files}:
            (root / parent).mkdir(parents=True, exist_ok=True)
        for name in self.files:
            os.link(f"{self.root}/{name}", f"{root}/{name}")


@dataclass
class _Destination(SchemeDictionaryDestination):
    """Lets an entry point stand in place of a script of the same name, as pip does.

    Entry points are written first. Programs are executable whatever the wheel says: one that
    was made on Windows has no modes. Paths are texts, and directories made once: installer's
    own takes half the time of a wheel of a thousand files to join and look for them. Other
    processes may unpack into the same tree.
    """

    files: list[str] = field(default_factory=list)
    parents: set[str] = field(default_factory=set)

    def _path_with_destdir(self, scheme: Scheme, path: str) -> Path:
        return Path(f"{self.destdir}{self._inside(scheme, path)}")

    def _inside(self, scheme: Scheme, path: str) -> str:
        """Return where a member goes; ValueError for one that would lie outside its scheme."""
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"the member {path!r} lies outside it")
        return f"{self.scheme_dict[scheme]}/{path}"

    def write_to_fs(
        self, scheme: Scheme, path: str, stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        """Write a file; what is there in place of a script stays."""
        name = self._inside(scheme, path)
        target = f"{self.destdir}{name}"
        if scheme == "scripts" and name in self.files:
            stream = io.BytesIO(Path(target).read_bytes())
            Path(target).unlink()
            self.files.remove(name)
        parent = target.rpartition("/")[0]
        if parent not in self.parents:
            Path(parent).mkdir(parents=True, exist_ok=True)
            self.parents.add(parent)
        try:
            file = open(target, "xb")  # noqa: PTH123, SIM115 - thousands of them
        except FileExistsError:
            raise FileExistsError(f"{name} is in the tree already") from None
        with file:
            digest, size = copyfileobj_with_hashing(stream, file, self.hash_algorithm)
            if is_executable or parent == f"{self.destdir}{self.scheme_dict['scripts']}":
                os.fchmod(file.fileno(), 0o755)
        self.files.append(name)
        return RecordEntry(path, Hash(self.hash_algorithm, digest), size)


def unpack(context: Context, wheel: Wheel, root: Path) -> Laid:
    """Unpack a wheel into the tree below `root`; BuildError for one that cannot be used."""
    tree = context.series.tree
    scheme = {
        "purelib": context.site,
        "platlib": context.site,
        "headers": f"{tree}/include/{canonicalize_name(wheel.distribution.name)}",
        "scripts": f"{tree}/bin",
        "data": tree,
    }
    destination = _Destination(scheme, f"{tree}/bin/python", "posix", destdir=str(root))
    try:
        with WheelFile.open(wheel.path) as source, warnings.catch_warnings():
            # numpy's wheel carries stray byte code; installer leaves it out, as it should
            warnings.filterwarnings("ignore", "Skip installing .*__pycache__", RuntimeWarning)
            install(source, destination, INSTALLER)
    except UNUSABLE as error:
        raise BuildError(f"{wheel.path.name}: not a usable wheel: {error}") from error
    return Laid(root, tuple(name.lstrip("/") for name in destination.files))


def lay_base(context: Context, root: Path) -> None:
    """Put what the tree's Python is into the tree below `root`: files and links."""
    tree, minor = root / context.series.tree.lstrip("/"), context.target.python_minor
    (root / context.site.lstrip("/")).mkdir(parents=True, exist_ok=True)
    interpreter = (
        (
            ("python", tree / "bin/python", 0o755),
            ("site.py", tree / f"lib/python{minor}/site.py", 0o644),
        )
        if context.target.is_python2
        else (("pyvenv.cfg", tree / "pyvenv.cfg", 0o644),)
    )
    for name, path, mode in (
        *interpreter,
        ("compile-modules", tree / "libexec/compile-modules", 0o755),
    ):
        write_base(context, name, path, mode)
    lay_links(base_links(context), root)


def write_base(context: Context, name: str, path: Path, mode: int) -> None:
    """Render a template of the package that owns the tree's interpreter."""
    minor = context.target.python_minor
    values = {
        "interpreter": context.target.interpreter,
        "python_minor": minor,
        "site": context.site,
        "stdlib": f"/usr/lib/python{minor}",
        "tree": context.series.tree,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(context.templates, context.base_template(name), **values))
    path.chmod(mode)


def base_links(context: Context) -> dict[str, str]:
    """Return the links of the tree's interpreter.

    Python 2.7 knows no virtual environments: it takes a directory for its own by os.py and
    lib-dynload in it.
    """
    tree, target = context.series.tree, context.target
    minor = target.python_minor
    if target.is_python2:
        library = f"lib/python{minor}"
        return {
            f"{tree}/bin/python2": "python",
            f"{tree}/bin/python{minor}": "python",
            f"{tree}/{library}/os.py": f"/usr/{library}/os.py",
            f"{tree}/{library}/lib-dynload": f"/usr/{library}/lib-dynload",
        }
    return {
        f"{tree}/bin/python": target.interpreter,
        f"{tree}/bin/python3": "python",
        f"{tree}/bin/python{minor}": "python",
    }


def lay_links(links: Mapping[str, str], root: Path) -> None:
    """Make links below `root`: where each one is on a node, and what it says."""
    for link, to in links.items():
        path = root / link.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(to)
