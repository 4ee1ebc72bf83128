"""Publish what was made, with the packages that are not part of a release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder import cache as caches
from builder import log, publish
from builder.debs import archive
from builder.debs.versions import split_revision
from builder.files import (
    hash_file,
    open_scratch,
)
from builder.model.values import SourcePackage
from builder.pipeline.values import Result, Row, Work, locate_package, name_suite

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from builder.pipeline.actions import Outcome


def choose_signer(work: Work) -> publish.Signer:
    """Return the signer of the suite, with the key it has, or the one the options name."""
    options = work.options
    suite = name_suite(options).name
    return publish.choose(options.repo, suite, work.dirs.keys, **work.wish)


def publish_suite(
    work: Work,
    result: Result,
    debs: Mapping[str, Path],
    packages: Mapping[str, SourcePackage],
    signer: publish.Signer,
) -> Result:
    """Publish `debs` and source `packages`, by name, with the build's own packages."""
    options, suite = work.options, name_suite(work.options)
    _add_remaining_rows(work, result)
    here = {*publish.list_published_sources(options.repo, suite), *packages, *result.missing}
    result.absent = tuple(sorted(set(options.series.versions) - here))
    script = archive.render_bootstrap(
        options.series, options.target, signer.export_key(), options.url, work.dirs.templates
    )
    with open_scratch() as area:
        extra = _build_own(work, result, area)
        older, older_sources = _restore_lost(work, suite, packages)
        result.rows.sort(key=lambda row: row.package)
        with log.step(f"publish {suite.name}"):
            result.published = publish.publish(
                options.repo,
                suite,
                [*debs.values(), *extra, *older],
                [*packages.values(), *older_sources],
                signer,
                new_key=options.new_key,
                missing=result.missing,
                absent=result.absent,
                files={f"{suite.name}.sh": script},
            )
    return result


def _restore_lost(
    work: Work, suite: publish.Suite, packages: Collection[str]
) -> tuple[list[Path], list[SourcePackage]]:
    """Return from the cache the files the pool has lost of versions the plan does not rebuild.

    `packages` are the services whose files this run publishes anyway.
    """
    debs, sources = [], []
    for entry in publish.find_lost(work.options.repo, suite):
        _, revision = split_revision(entry.version)
        place = locate_package(work.dirs, entry.inputs, revision)
        if not entry.inputs or not caches.is_sound(place):
            continue
        if entry.architecture != "source":
            (file,) = entry.files
            debs += [d for d in place.glob("*.deb") if hash_file(d) == file.sha256]
        elif entry.package not in packages:
            sources.append(read_source_package(entry.package, entry.version, place))
    return debs, sources


def read_source_package(name: str, version: str, place: Path) -> SourcePackage:
    """Read a source package back from the cache."""
    (dsc,) = place.glob("*.dsc")
    return SourcePackage(
        name=name,
        version=version,
        dsc=dsc,
        files=tuple(sorted(place.glob("*.tar.*"))),
        debs=tuple(sorted(place.glob("*.deb"))),
    )


def _build_own(work: Work, result: Result, area: Path) -> list[Path]:
    """Build the packages that are not part of a release, except those already published."""
    debs = []
    for package in work.own:
        action = work.own_actions[package.name]
        if action.verb != "keep":
            seconds = work.context.epoch_seconds
            debs.append(package.build(area, revision=action.revision, epoch_seconds=seconds))
            result.rows.append(Row(action.package, action.version, "built", action.reason))
    return debs


def _add_remaining_rows(work: Work, result: Result) -> None:
    """Report what was not built: reused from the cache, or kept in the repository."""
    outcomes: dict[str, Outcome] = {"reuse": "reused", "keep": "kept"}
    seen = {row.package for row in result.rows}
    result.rows += [
        Row(a.package, a.version, outcomes[a.verb], a.reason)
        for a in work.actions
        if a.verb in outcomes and a.package not in seen
    ]
