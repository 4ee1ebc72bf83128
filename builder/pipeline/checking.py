"""Check that release tarballs have the files that services' files take from them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from builder import archives
from builder.catalogue.load import find_service_file
from builder.errors import BuildError, DataError, list_nearest
from builder.model import graph

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from builder.model.service import File, Service
    from builder.model.values import Fetched
    from builder.pipeline.values import Work

KEYS = ("config_generator", "policy_generator", "from_")
PATCHED = re.compile(r"^\+\+\+ [^/\s]+/(\S+)", re.MULTILINE)


def check_sources(work: Work, fetched: Fetched) -> None:
    """Raise DataError if a service to build takes a file that its tarball does not have.

    Its build would notice, but only at its end, and without the name of the file at fault.
    """
    known = graph.index_by_name(work.lock)
    for name, service in work.services.items():
        row = known[canonicalize_name(service.distribution)]
        tarball = fetched.files.get(row.artifacts[0].sha256)
        if tarball and work.service_actions[name].verb == "build":
            _check_service(work, service, tarball)


def _check_service(work: Work, service: Service, tarball: Path) -> None:
    try:
        names = _list_names(tarball)
    except BuildError:  # reported when its wheel is built, which --keep-going tolerates
        return
    for patch in work.context.patches.get(canonicalize_name(service.distribution), ()):
        names |= set(PATCHED.findall(patch.text))
    for file in service.files:
        for key in KEYS:
            if (word := getattr(file, key)) and not _has(names, file, word):
                layer = find_service_file(work.catalogue, service.name, "files")
                raise DataError(
                    f"{layer}: files ({file.path}): {key.strip('_').replace('_', '-')}: "
                    f"{tarball.name} has no {word!r}",
                    hint=f"nearest: {list_nearest(word, names)}",
                )


def _list_names(tarball: Path) -> set[str]:
    """Return the paths of a tarball's members below its top directory."""
    with archives.open_tar(tarball, "release tarball") as (_, members):
        return {member.name.removeprefix("./").partition("/")[2] for member in members}


def _has(names: Collection[str], file: File, word: str) -> bool:
    """Whether there is what `word` names, for a directory a glob."""
    if not file.path.endswith("/"):
        return word in names
    if "**" in word:  # of any depth
        return True
    parts = word.split("/")
    rows = (name.split("/") for name in names)
    return any(len(row) == len(parts) and all(map(fnmatchcase, row, parts)) for row in rows)
