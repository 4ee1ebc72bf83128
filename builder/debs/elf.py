"""Machine code: find what runs on the target, and ask dpkg-shlibdeps which libraries it needs.

Nothing is stripped: strip breaks files that patchelf rewrote (the libraries auditwheel puts into
a wheel), and what is built here is linked without symbols.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from builder import cache as caches
from builder.files import hash_file, hash_text
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.roots import Root

MAGIC = b"\x7fELF"
# elf(5): class (1: 32 bits, 2: 64), byte order (1: little endian, 2: big), machine.
MACHINES = {
    "amd64": (2, 1, 62),
    "arm64": (2, 1, 183),
    "armhf": (1, 1, 40),
    "i386": (1, 1, 3),
    "ppc64el": (2, 1, 21),
    "riscv64": (2, 1, 243),
    "s390x": (2, 2, 22),
}
PROGRAM, SHARED = 2, 3  # e_type: ET_EXEC, ET_DYN
RECIPE = "1"  # increase it when a change here changes what is found
STATUS = Path("var/lib/dpkg/status")  # of the machine or root that is asked
ANSWER = "relations"


def find(root: Path, names: Iterable[str], architecture: str) -> list[str]:
    """Return those of `names`, below `root`, that are machine code of a Debian architecture.

    Code for other machines counts as data: dpkg-shlibdeps would not find its libraries.
    """
    found = []
    for name in names:
        path = f"{root}/{name}"
        if ".so" in name.rpartition("/")[2] or os.access(path, os.X_OK):
            with open(path, "rb") as stream:  # noqa: PTH123 - thousands of them
                if _is_for(stream.read(20), architecture):
                    found.append(name)
    return sorted(found)


def _is_for(header: bytes, architecture: str) -> bool:
    if len(header) < 20 or header[:4] != MAGIC:
        return False
    kind, machine = struct.unpack("<HH" if header[5] == 1 else ">HH", header[16:20])
    return (header[4], header[5], machine) == MACHINES[architecture] and kind in {PROGRAM, SHARED}


def find_libraries(
    binaries: Sequence[Path],
    root: Path,
    work: Path,
    build_root: Root | None = None,
    known: Path | None = None,
) -> tuple[str, ...]:
    """Return the Depends relations dpkg-shlibdeps finds for `binaries`.

    Libraries a wheel bundles (auditwheel's `<name>.libs`) satisfy each other and get no
    relation. `work` holds `root` and the debian/control that dpkg-shlibdeps expects;
    libraries are looked up on this machine, or in `build_root`.

    The answer depends on the binaries, on where they are, and on the packages of the machine or
    the root that is asked: every version of them, dpkg-dev's included, is in dpkg's status. The
    cache `known`, if any, keeps it, and is asked first.
    """
    if known is None:
        return _ask_shlibdeps(binaries, root, work, build_root)
    status = (build_root.directory if build_root else Path("/")) / STATUS
    rows = [f"{p.relative_to(root)} {hash_file(p)}" for p in binaries]
    digest = hash_text(RECIPE, hash_file(status), *rows)
    place = known / digest[:2] / digest
    if not caches.is_sound(place):
        with caches.make_sealed(place) as new:
            found = _ask_shlibdeps(binaries, root, work, build_root)
            (new / ANSWER).write_text("".join(f"{r}\n" for r in found), encoding="utf-8")
    return tuple((place / ANSWER).read_text(encoding="utf-8").splitlines())


def _ask_shlibdeps(
    binaries: Sequence[Path], root: Path, work: Path, build_root: Root | None
) -> tuple[str, ...]:
    control = work / "debian/control"
    control.parent.mkdir(exist_ok=True)
    control.write_text("Source: x\n\nPackage: x\nArchitecture: any\n", encoding="utf-8")
    private = {str(p.parent.relative_to(work)) for p in binaries if ".so" in p.name}
    argv = ["dpkg-shlibdeps", "-O", "--ignore-missing-info", f"-S{root.relative_to(work)}"]
    argv += [f"-l{directory}" for directory in sorted(private)]
    argv += [f"-e{p.relative_to(work)}" for p in binaries]
    done = build_root.run(argv, work) if build_root else run(argv, cwd=work)
    text = done.stdout.decode().strip()
    _, _, relations = text.partition("shlibs:Depends=")
    return tuple(r.strip() for r in relations.split(",") if r.strip())
