"""The package `openstack-node`: the command that sets up, checks and upgrades a node.

What it installs is in `debian-templates/node`: the command, its modules, its manual page.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from builder.debs.pack import Plain

if TYPE_CHECKING:
    from pathlib import Path

    from builder.model import Series, Target

NAME = "openstack-node"
# What services depend on: the programs below /usr/libexec that their units and maintainer
# scripts call. It gets another number when these are called in another way.
INTERFACE = f"{NAME}-interface-1"
SHARE = f"usr/share/{NAME}"
PROGRAMS = ("schema-gate", "start-units")
SCRIPTS = ("postinst", "prerm")


def node_package(series: Series, target: Target, templates: Path) -> Plain:
    """Return the package for a suite; `templates` is `debian-templates/`."""
    room = templates / "node"
    command = f"usr/sbin/{NAME}"
    manual = (room / f"{NAME}.8").read_bytes()
    files = {
        command: (room / NAME).read_bytes(),
        f"usr/share/man/man8/{NAME}.8.gz": gzip.compress(manual, 9, mtime=0),
        **{f"DEBIAN/{name}": (room / name).read_bytes() for name in SCRIPTS},
        **{f"usr/libexec/{NAME}/{name}": (room / name).read_bytes() for name in PROGRAMS},
    }
    modules = room / "openstack_node"
    for path in sorted(p for p in modules.iterdir() if p.suffix in {".py", ".json"}):
        files[f"{SHARE}/openstack_node/{path.name}"] = path.read_bytes()
    programs = (f"usr/libexec/{NAME}/{name}" for name in PROGRAMS)
    executable = frozenset({command, *programs, *(f"DEBIAN/{name}" for name in SCRIPTS)})
    return Plain(NAME, room, series, target, files, {"interface": INTERFACE}, executable)
