"""Compiled modules: strip them and ask dpkg-shlibdeps for the libraries they need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.roots import Root

MAGIC = b"\x7fELF"


def find(root: Path) -> list[Path]:
    """Return the ELF files below `root`, sorted."""
    found = []
    for parent, _, files in os.walk(root):
        for name in files:
            path = Path(parent, name)
            if path.is_symlink() or not (".so" in name or os.access(path, os.X_OK)):
                continue
            with path.open("rb") as stream:
                if stream.read(4) == MAGIC:
                    found.append(path)
    return sorted(found)


def prepare(
    binaries: Sequence[Path], root: Path, work: Path, build_root: Root | None = None
) -> tuple[str, ...]:
    """Strip `binaries` and return the Depends relations dpkg-shlibdeps finds.

    One that is a hard link becomes a file of its own. Libraries a wheel brings itself
    (auditwheel's `<name>.libs`) satisfy each other and get no relation. `work` holds `root`
    and the debian/control that dpkg-shlibdeps wants to see; libraries are looked for on
    this machine, or in `build_root`.
    """
    for path in binaries:
        if path.stat().st_nlink > 1:
            data = path.read_bytes()
            path.unlink()
            path.write_bytes(data)
    run(["strip", "--strip-unneeded", "--remove-section=.comment", *binaries])
    control = work / "debian/control"
    control.parent.mkdir(exist_ok=True)
    control.write_text("Source: x\n\nPackage: x\nArchitecture: any\n")
    for path in binaries:
        path.chmod(0o755 if path.parent.name == "bin" else 0o644)
    private = {str(p.parent.relative_to(work)) for p in binaries if ".so" in p.name}
    argv = ["dpkg-shlibdeps", "-O", "--ignore-missing-info", f"-S{root.relative_to(work)}"]
    argv += [f"-l{directory}" for directory in sorted(private)]
    argv += [f"-e{p.relative_to(work)}" for p in binaries]
    done = build_root.run(argv, work) if build_root else run(argv, cwd=work)
    text = done.stdout.decode().strip()
    _, _, relations = text.partition("shlibs:Depends=")
    return tuple(r.strip() for r in relations.split(",") if r.strip())
