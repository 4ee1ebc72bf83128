"""The package `build-debs`: this program, in the Python tree of the series it is built with.

What it imports is locked with the series (rows of `projects/drivers.toml` with `builder`) and
packaged as every other library is; the program itself is its own source.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from builder import __version__
from builder.debs.library import list_floors, render_prerm
from builder.debs.plain import Plain
from builder.templates import render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.debs.library import Context
    from builder.dirs import Dirs
    from builder.model.values import Distribution

NAME = "build-debs"
ROOM = "tool"
# Where Debian's packages have what `docs/share` has.
SHARED = {
    "bash-completion/completions/build-debs": "bash-completion/completions/build-debs",
    "fish/vendor_completions.d/build-debs.fish": "fish/vendor_completions.d/build-debs.fish",
    "zsh/site-functions/_build-debs": "zsh/vendor-completions/_build-debs",
}
MANUAL = "man/man1/build-debs.1"


def make_tool_package(context: Context, dirs: Dirs, members: Sequence[Distribution]) -> Plain:
    """Return the package for a suite; `members` are the distributions the program imports."""
    command = f"usr/bin/{NAME}"
    script = render(
        context.templates,
        f"{ROOM}/{NAME}.j2",
        interpreter=f"{context.series.tree}/bin/python",
        series=context.series.id,
    )
    manual = (dirs.share / MANUAL).read_bytes()
    files = {
        command: script.encode(),
        f"usr/share/{MANUAL}.gz": gzip.compress(manual, 9, mtime=0),
        **{f"usr/share/{t}": (dirs.share / s).read_bytes() for s, t in SHARED.items()},
        **{f"{context.site.lstrip('/')}/builder/{p}": d for p, d in _read_program(dirs)},
        "DEBIAN/prerm": render_prerm(context, ["builder"], []).encode(),
    }
    values = {"base": context.base, "depends": list_floors(context, members)}
    return Plain(
        NAME,
        context.templates / ROOM,
        context.series,
        context.target,
        files,
        values,
        frozenset({command, "DEBIAN/prerm"}),
        # Two series have one version of the program, each in its own tree.
        upstream=f"{__version__}+{context.series.number}",
    )


def _read_program(dirs: Dirs) -> Iterator[tuple[str, bytes]]:
    """Yield all files of an installed `builder`, its data included, relative to it."""
    rooms = {
        "": dirs.program,
        "data/projects/": dirs.projects,
        "data/debian-templates/": dirs.templates,
        "data/share/": dirs.share,
    }
    installed = dirs.program / "data"  # the other rooms, in an installed copy
    for place, room in rooms.items():
        for path in sorted(room.rglob("*")):
            twice = room == dirs.program and installed in path.parents
            if not twice and path.is_file() and path.suffix != ".pyc":
                yield f"{place}{path.relative_to(room)}", path.read_bytes()
