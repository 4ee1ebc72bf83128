"""The command line of openstack-node."""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from openstack_node import manifest, plan, setup, status, system

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = "/run/openstack-node.lock"
UNKNOWN = 3
COLOURS = {"critical": "31", "warning": "33", "unknown": "35", "note": "36", "ok": "32"}
EXIT = """\
exit status of setup and plan: 0 done, 1 something failed; of status: 0 well, 1 warning,
2 critical (a monitoring plugin's); of all: 3 not known (no such service, not root)
"""


class Parser(argparse.ArgumentParser):
    """Ends with the status that tells monitoring that nothing was found out."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Say what is wrong with the command line."""
        self.print_usage(sys.stderr)
        self.exit(UNKNOWN, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Carry out a command line; return its exit status."""
    options = parser().parse_args(arguments)
    try:
        services = _services(options)
    except system.NodeError as error:
        return _tell(error, UNKNOWN)
    try:
        code: int = options.run(services, options)
    except system.NodeError as error:
        return _tell(error, 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNKNOWN
    except KeyboardInterrupt:
        return _tell(system.NodeError("interrupted"), 1)
    return code


def _services(options: argparse.Namespace) -> list[manifest.Service]:
    """Return the services that are meant."""
    if not system.is_root():
        raise system.NodeError(
            "only root can look at the services as they see themselves",
            f"sudo openstack-node {options.verb}",
        )
    services = manifest.load(options.services)
    if not services:
        raise system.NodeError("no service is installed here", "such as: apt-get install keystone")
    return services


def parser() -> Parser:
    """Return the parser of the command line; each verb names the function that runs it."""
    top = Parser(
        prog="openstack-node",
        description="Set up and check the OpenStack services of this node.",
        epilog=EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_setup(verbs)
    _add_status(verbs)
    _add_plan(verbs)
    return top


def _add_setup(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Bring the databases of the services to what their code wants (keystone's bootstrap and "
        "nova's cells included), then start the services, and restart those whose files were "
        "changed after they started. Safe to repeat."
    )
    epilog = (
        "The password of keystone's first user is taken from the environment variable "
        "OS_BOOTSTRAP_PASSWORD, or asked for on a terminal. The other OS_BOOTSTRAP_ variables of "
        "keystone-manage count as well."
    )
    verb = verbs.add_parser(
        "setup", help="set up databases, start services", description=text, epilog=epilog
    )
    _add_services(verb)
    verb.add_argument(
        "--keystone-url",
        metavar="URL",
        default="",
        help="the address of keystone for all to use (default: http://<this host>:5000/v3/)",
    )
    verb.add_argument("--region", default="", help="the region (default: RegionOne)")
    verb.add_argument("--no-start", action="store_true", help="leave the services as they are")
    verb.set_defaults(run=run_setup)


def _add_status(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Show, for what is installed here: series and version, units, databases, the services' "
        "own upgrade checks, and what is wrong in the configuration files."
    )
    verb = verbs.add_parser(
        "status",
        help="show how the services are",
        description=text,
        epilog=EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_services(verb)
    verb.add_argument("--json", action="store_true", help="print it for programs")
    verb.add_argument(
        "--quick", action="store_true", help="leave out the upgrade checks, which take seconds"
    )
    verb.set_defaults(run=run_status)


def _add_plan(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Show what a move of this node to another series would do, and change nothing: packages, "
        "services that restart, databases, what the new series no longer reads of the live "
        "configuration files, and what is left to a person."
    )
    verb = verbs.add_parser("plan", help="show what an upgrade would do", description=text)
    verb.add_argument("series", metavar="SERIES", help="the series to go to, such as 2026.1")
    _add_services(verb)
    verb.add_argument("--json", action="store_true", help="print it for programs")
    verb.set_defaults(run=run_plan)


def _add_services(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "services",
        nargs="*",
        metavar="SERVICE",
        help="such as keystone or nova (default: all that are installed)",
    )


def run_setup(services: list[manifest.Service], options: argparse.Namespace) -> int:
    """Set services up."""
    wishes = setup.Wishes(
        say=lambda text: print(text, end="", flush=True),
        keystone_url=options.keystone_url,
        region=options.region,
        start=not options.no_start,
    )
    with _alone():
        setup.setup(services, wishes, named=bool(options.services))
    return 0


def run_status(services: list[manifest.Service], options: argparse.Namespace) -> int:
    """Show how services are."""
    reports = status.gather(services, upgrade_checks=not options.quick)
    level = status.worst([r.level for r in reports])
    if options.json:
        print(json.dumps(as_json(reports, level), indent=1))
    else:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        for report in reports:
            for line in as_text(report, colour=colour):
                print(line)
        print(f"{level.upper() if level != 'note' else 'OK'}: {summary(reports)}")
    return status.LEVELS[level]


def run_plan(services: list[manifest.Service], options: argparse.Namespace) -> int:
    """Show what a move to another series would do."""
    found = plan.plan(services, options.series)
    if options.json:
        print(json.dumps({"format": 1, **dataclasses.asdict(found)}, indent=1))
    else:
        for line in plan_text(found):
            print(line)
    return 0


def plan_text(found: plan.Plan) -> Iterator[str]:
    """Yield the lines of a plan for a person."""
    fresh = sum(1 for c in found.changes if not c.old)
    gone = [c.package for c in found.changes if not c.new]
    others = len(found.changes) - fresh - len(gone)
    size = f"{found.size / 1e6:.0f} MB to fetch"
    yield f"{found.old} to {found.new}: {fresh} packages new, {others} upgraded, {size}"
    if gone:
        yield f"  removed   {', '.join(gone)}"
    for move in found.moves:
        yield f"{move.service}  {move.old} to {move.new}"
        rows = [
            *(("before", text) for text in move.before),
            *(("restart", name) for name in move.restarts),
            *(("new unit", name) for name in move.added),
            *(("no unit", name) for name in move.gone),
            *(("database", text) for text in move.databases),
            *((p.level, f"{p.place}: {p.text}") for p in move.problems),
            *(("after", text) for text in move.after),
        ]
        for word, text in rows:
            yield f"  {word:<8}  {text}"


def as_json(reports: list[status.Report], level: str) -> dict[str, object]:
    """Return the reports as data: `format` is raised when a reader would have to change."""
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


def as_text(report: status.Report, *, colour: bool) -> Iterator[str]:
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


def summary(reports: list[status.Report]) -> str:
    """Return in words how many of what is wrong."""
    counts = {
        level: sum(line.level == level for r in reports for line in r.lines)
        for level in ("critical", "warning", "unknown")
    }
    services = f"{len(reports)} service{'s' if len(reports) != 1 else ''}"
    return ", ".join([services, *(f"{level}: {n}" for level, n in counts.items() if n)])


@contextmanager
def _alone() -> Iterator[None]:
    """Let no second setup run on this node for the block."""
    with open(LOCK, "w", encoding="utf-8") as lock:  # noqa: PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise system.NodeError("another openstack-node works on this node") from error
        yield


def _tell(error: system.NodeError, code: int) -> int:
    """Print an error: what, where, what next."""
    red = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    name = "\033[31mopenstack-node:\033[0m" if red else "openstack-node:"
    sys.stdout.flush()
    if error.details:
        sys.stderr.write("".join(f"    {line}\n" for line in error.details.splitlines()))
    sys.stderr.write(f"{name} {error}\n")
    sys.stderr.writelines(f"  {hint}\n" for hint in error.hints)
    return code
