"""All that Tempest has for the services packaged here, on the cloud of docs/install.md.

It takes hours: `make prove CELL=tempest` runs it and writes docs/tempest.md.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import tempest_run
from cloud import install_blocks, running

if TYPE_CHECKING:
    from pathlib import Path

    from repository import Repository


def test_tempest_finds_no_fault_of_ours(repository: Repository, tmp_path_factory) -> None:
    scratch: Path = tmp_path_factory.mktemp("tempest")
    with running(repository, install_blocks(repository.series), scratch) as cloud:
        tempest = tempest_run.Tempest(cloud, repository, scratch)
        began = time.monotonic()
        results = tempest.run(tempest.whole())
        tempest_run.record(tempest, results, time.monotonic() - began)
        assert tempest_run.unexpected(tempest, results) == ""
        assert tempest.expected.unused(results) == []
