"""The state of services as status shows it: in words for a person, as data for a program."""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openstack_node.status import Report

COLOURS = {"critical": "31", "warning": "33", "unknown": "35", "note": "36", "ok": "32"}


def make_table(reports: list[Report], level: str) -> dict[str, object]:
    """Return the reports as data; `format` is incremented when readers have to change."""
    return {
        "format": 1,
        "host": socket.gethostname(),
        "status": "ok" if level == "note" else level,
        "services": [
            {
                "service": r.service,
                "title": r.title,
                "series": r.series,
                "version": r.version,
                "status": "ok" if r.level == "note" else r.level,
                "findings": [dataclasses.asdict(line) for line in r.lines],
            }
            for r in reports
        ],
    }


def render_report(report: Report, *, colour: bool) -> Iterator[str]:
    """Yield the lines of a report for a person."""
    yield f"{report.service}  {report.series}  {report.version}"
    for line in report.lines:
        mark = f"{line.level:<8}"
        if colour:
            mark = f"\033[{COLOURS[line.level]}m{mark}\033[0m"
        yield f"  {mark}  {line.kind}  {line.name}: {line.text}"
        if line.level != "ok":
            for hint in line.hints:
                yield f"{'':12}{hint}"


def summarise(reports: list[Report]) -> str:
    """Return the number of findings by level, in words."""
    counts = {
        level: sum(line.level == level for r in reports for line in r.lines)
        for level in ("critical", "warning", "unknown")
    }
    services = f"{len(reports)} service{'s' if len(reports) != 1 else ''}"
    return ", ".join([services, *(f"{level}: {n}" for level, n in counts.items() if n)])
