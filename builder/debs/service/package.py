"""A service as a real Debian source package: `debian/` is rendered, debhelper builds it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from builder.debs.service.texts import render
from builder.debs.service.view import View
from builder.debs.versions import translate_version
from builder.errors import BuildError
from builder.model.values import ServiceBuild, SourcePackage
from builder.roots import BUILD
from builder.run import find, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.roots import Root


RECIPE = "5"  # increase it when a change here changes the bits of a package


# What dpkg-buildpackage does, without the files nobody reads afterwards (.changes, .buildinfo)
# and without dpkg-source's comparison of the tarball with the tree just unpacked from it, which
# can take as long as the build itself: the format "custom" accepts files unchecked.
# $1 is the source directory, $2 and $3 are the tarballs of its source package.
COMMANDS = r"""
set -eu
umask 022
dpkg-source --before-build "$1"
tar -C "$1" --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime \
    --owner=0 --group=0 --numeric-owner -cJf "$3" debian
dpkg-source --format="3.0 (custom)" --target-format="3.0 (quilt)" -b "$@"
eval "$(dpkg-architecture --print-set)"
cd "$1"
debian/rules build
debian/rules binary
"""


def build_source_package(
    build: ServiceBuild,
    library_depends: Sequence[str],
    templates: Path,
    *,
    work: Path,
    output: Path,
    log: Path,
    root: Root | None = None,
) -> SourcePackage:
    """Build the source package and its binary packages; return them, moved into `output`.

    `work` is an empty directory for this build alone. The build runs on this machine, or in
    the build root `root`. Raises BuildError, which names `log`.
    """
    files = render(build, library_depends, templates)
    source = _unpack(build, work, log)
    for path, rendered in files.items():
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rendered.text, encoding="utf-8")
        target.chmod(rendered.mode)
    version = View(build).version
    _, *tarballs = _name_source_files(build.service.name, version)
    argv = ["sh", "-c", COMMANDS, "sh", source.name, *tarballs]
    env = {
        "SOURCE_DATE_EPOCH": str(build.epoch_seconds),
        "DEB_BUILD_OPTIONS": "nocheck parallel=2",
        "DEB_RULES_REQUIRES_ROOT": "no",
    }
    try:
        if root is None:
            env |= {"OPENSTACK_TREE": str(build.tree), "OPENSTACK_WHEEL": str(build.wheel)}
            find("dpkg-source")  # raises an error that names the package
            run(argv, cwd=work, env=env, log=log)
        else:
            shutil.copyfile(build.wheel, work / build.wheel.name)
            env["OPENSTACK_WHEEL"] = str(BUILD / build.wheel.name)
            tree = build.series.tree
            shown = {Path(f"{build.tree}{tree}"): tree}
            root.run(argv, work, env=env, log=log, shown=shown)
    except BuildError as error:
        raise BuildError(
            f"{build.service.name} {build.version}: its packages failed to build",
            details=error.details,
            hint=error.hint,
        ) from error
    return _collect(build, version, work, output)


def _name_source_files(name: str, version: str) -> tuple[str, str, str]:
    """Return the names dpkg-source uses for a format 3.0 source package: .dsc, tarballs."""
    of_files = version.split(":", 1)[-1]
    upstream = of_files.rsplit("-", 1)[0]
    stem = f"{name}_{of_files}"
    return f"{stem}.dsc", f"{name}_{upstream}.orig.tar.gz", f"{stem}.debian.tar.xz"


def _unpack(build: ServiceBuild, work: Path, log: Path) -> Path:
    """Put the tarball next to its unpacked tree, under the names dpkg-source expects."""
    upstream = translate_version(build.version)
    work.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(build.tarball, work / f"{build.service.name}_{upstream}.orig.tar.gz")
    source = work / f"{build.service.name}-{upstream}"
    source.mkdir()
    argv = ["tar", "--extract", "--strip-components=1", "--no-same-owner"]
    run([*argv, "--file", build.tarball, "--directory", source], log=log)
    return source


def _collect(build: ServiceBuild, version: str, work: Path, output: Path) -> SourcePackage:
    """Move the source package and the binary packages into `output`."""
    name = build.service.name
    output.mkdir(parents=True, exist_ok=True)
    dsc, *sources = _name_source_files(name, version)
    debs = sorted(p.name for p in work.glob("*.deb"))
    for file in (dsc, *sources, *debs):
        shutil.move(work / file, output / file)
    return SourcePackage(
        name=name,
        version=version,
        dsc=output / dsc,
        files=tuple(output / s for s in sources),
        debs=tuple(output / d for d in debs),
    )
