"""Carry out a build: everything in its plan, then a single publication."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from builder import log, publish
from builder.files import (
    open_area,
    sweep,
)
from builder.pipeline.actions import summarise
from builder.pipeline.building import check_machine, make_packages
from builder.pipeline.planning import decide_actions, plan_own, prepare
from builder.pipeline.publishing import choose_signer, publish_suite
from builder.pipeline.values import Options, Result, Work
from builder.pipeline.vouching import vouch
from builder.run import run as execute

if TYPE_CHECKING:
    from builder.dirs import Dirs
    from builder.model.values import Catalogue


def run(catalogue: Catalogue, dirs: Dirs, options: Options, suite_of_machine: str) -> Result:
    """Carry out a build: everything in the plan, then a single publication."""
    work = prepare(catalogue, dirs, options, look=False)
    result = Result(work.lock, failures=[*work.failures])
    log.info(f"plan for {options.series.id} on {options.target.suite}: {summarise(work.actions)}")
    if all(a.verb == "keep" for a in work.release_actions):
        result.tarballs = vouch(work, offline=True)
        signer = choose_signer(work)
        if signer.public != work.public:
            work = plan_own(dataclasses.replace(work, public=signer.public))
        return publish_suite(work, result, {}, {}, signer)
    check_machine(work, suite_of_machine)
    with publish.lock_directory(
        options.repo, f"building {options.series.id} for {options.target.suite}"
    ):
        signer = choose_signer(work)
        signer.prove()  # fail now, rather than after the build
        # decided again: another build may have published while this one waited
        work = decide_actions(dataclasses.replace(work, public=signer.public))
        return _build(work, result, suite_of_machine, signer)


def _build(work: Work, result: Result, suite_of_machine: str, signer: publish.Signer) -> Result:
    for room in (work.dirs.downloads, work.dirs.wheels, *work.dirs.debs.glob("*")):
        sweep(room)
    with open_area(work.dirs.work) as area:
        work, debs, packages = make_packages(work, result, suite_of_machine, area)
        with ThreadPoolExecutor(1) as aside:
            # tens of thousands of files take as long to remove as a suite takes to publish
            aside.submit(execute, ["rm", "-rf", "--", *area.glob("[!.]*")])
            return publish_suite(work, result, debs, packages, signer)


def describe_result(result: Result) -> dict[str, object]:
    """Return what a run did, for its report (the keys are documented in README.md)."""
    tarballs = {t.distribution: dataclasses.asdict(t) for t in result.tarballs}
    return {
        "missing": result.missing,
        "absent": result.absent,
        "tarballs": {
            name: {k: v for k, v in row.items() if k != "distribution"}
            for name, row in tarballs.items()
        },
        "packages": [dataclasses.asdict(row) for row in result.rows],
    }
