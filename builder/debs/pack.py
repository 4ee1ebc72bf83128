"""Pack a binary package: a directory laid out as it will be installed becomes a .deb.

The directory has the control files in `DEBIAN/`, as dpkg-deb(1) wants it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import BuildError
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


def list_files(root: Path) -> list[str]:
    """Return the files and symlinks the package installs, sorted, relative to `root`."""
    found = []
    for parent, names, files in os.walk(root):
        if parent == str(root):
            names.remove("DEBIAN")
        found += [os.path.relpath(os.path.join(parent, name), root) for name in files]  # noqa: PTH118 - thousands of them
    return sorted(found)


def measure_installed_size(root: Path, files: Sequence[str]) -> int:
    """Return KiB as deb-substvars(5) counts them: each file rounded up, 1 for anything else."""
    sizes = (os.lstat(f"{root}/{name}") for name in files)
    directories = {parent for name in files for parent in _list_parents(name)}
    regular = sum(-(-s.st_size // 1024) if stat.S_ISREG(s.st_mode) else 1 for s in sizes)
    return regular + len(directories)


def _list_parents(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def write_md5sums(root: Path, files: Sequence[str], conffiles: Collection[str] = ()) -> None:
    """Write md5sums as dh_md5sums does: without conffiles, which dpkg tracks itself."""
    rows = []
    for name in files:
        path = f"{root}/{name}"
        if name not in conffiles and not os.path.islink(path):  # noqa: PTH114 - thousands of them
            with open(path, "rb") as stream:  # noqa: PTH123
                rows.append(f"{hashlib.file_digest(stream, 'md5').hexdigest()}  {name}\n")
    (root / "DEBIAN/md5sums").write_text("".join(rows), encoding="utf-8")


def pack(root: Path, deb: Path, *, compression: Sequence[str], epoch_seconds: int) -> None:
    """Write the .deb of `root`, with everything owned by root.

    `compression` are options of dpkg-deb(1). The same directory gives the same bits, whenever
    and by whom it was laid out. Raises BuildError.
    """
    for parent, _, _ in os.walk(root):
        Path(parent).chmod(0o755)
    environment = {"SOURCE_DATE_EPOCH": str(epoch_seconds)}
    try:
        run(["dpkg-deb", "--root-owner-group", *compression, "--build", root, deb], env=environment)
    except BuildError as error:
        raise BuildError(f"{deb.name}: {error.message}", details=error.details) from error
