"""The package `openstack-node`: the command that sets up, checks and upgrades a node.

Its programs and manual page are in `debian-templates/node`, their modules in
`payload/openstack_node`.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

from builder.debs.plain import Plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.model.values import Series, Target

NAME = "openstack-node"
# What services depend on: the programs below /usr/libexec that their units and maintainer
# scripts call. Change the number when the way to call them changes.
INTERFACE = f"{NAME}-interface-3"
# Services of a series built earlier still call it the old way, on a node that moves from it.
FORMER = (f"{NAME}-interface-1", f"{NAME}-interface-2")
SHARE = f"usr/share/{NAME}"
MODULES = Path(__file__).parents[1] / "payload/openstack_node"
PROGRAMS = ("held-units", "schema-gate", "serve-wsgi", "start-gate", "start-units")
SCRIPTS = ("postinst", "prerm")


def make_node_package(
    series: Series,
    target: Target,
    templates: Path,
    debian: Mapping[str, object],
    modules: Path = MODULES,
) -> Plain:
    """Return the package for a suite; `templates` is `debian-templates/`.

    `debian` is what it knows about Debian's own packages of the services (debs/debian.py).
    """
    room = templates / "node"
    command = f"usr/sbin/{NAME}"
    manual = (room / f"{NAME}.8").read_bytes()
    files = {
        command: (room / NAME).read_bytes(),
        f"etc/needrestart/conf.d/{NAME}.conf": (room / "needrestart.conf").read_bytes(),
        f"usr/share/man/man8/{NAME}.8.gz": gzip.compress(manual, 9, mtime=0),
        **{f"DEBIAN/{name}": (room / name).read_bytes() for name in SCRIPTS},
        **{f"usr/libexec/{NAME}/{name}": (room / name).read_bytes() for name in PROGRAMS},
    }
    for path in sorted(p for p in modules.iterdir() if p.suffix in {".py", ".json"}):
        files[f"{SHARE}/openstack_node/{path.name}"] = path.read_bytes()
    files[f"{SHARE}/openstack_node/debian.json"] = json.dumps(debian, indent=1).encode() + b"\n"
    programs = (f"usr/libexec/{NAME}/{name}" for name in PROGRAMS)
    executable = frozenset({command, *programs, *(f"DEBIAN/{name}" for name in SCRIPTS)})
    interfaces = ", ".join((*FORMER, INTERFACE))
    return Plain(NAME, room, series, target, files, {"interface": interfaces}, executable)
