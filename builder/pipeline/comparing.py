"""Describe a series on a target, for `build-debs diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from builder import diff, publish
from builder.debs.manifest import read_options
from builder.debs.service.view import make_footprint
from builder.pipeline.locking import read_committed_lock
from builder.pipeline.planning import narrow_service

if TYPE_CHECKING:
    from pathlib import Path

    from builder.dirs import Dirs
    from builder.model.values import (
        Catalogue,
        Series,
        Target,
    )


def describe_side(
    catalogue: Catalogue, dirs: Dirs, series: Series, target: Target, repo: Path
) -> diff.Side:
    """Return the description of a series on a target, for `diff.compare`.

    Options are those of the newest packages the repository `repo` lists, if any.
    Raises DataError if there is no lock, PublishError for a damaged package.
    """
    locked = read_committed_lock(dirs, series, target)
    versions = {canonicalize_name(d.name): d.version for d in locked.distributions}
    listed = publish.list_published(repo, publish.Suite(target.suite, series.id))
    services = {}
    for name, version in series.versions.items():
        service = narrow_service(catalogue, name, series, target)
        entries = listed.get(service.common, ())
        services[name] = diff.ServiceSide(
            version=versions.get(canonicalize_name(service.distribution), version),
            footprint=make_footprint(service, series, target),
            options=read_options(repo / entries[-1].files[0].path, name) if entries else None,
        )
    return diff.Side(series, locked.python, services, diff.list_libraries(locked))
