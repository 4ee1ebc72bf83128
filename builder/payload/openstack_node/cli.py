"""The command line of openstack-node."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from contextlib import nullcontext
from typing import Any

from openstack_node import (
    debian,
    leftovers,
    manifest,
    plan,
    plan_text,
    restarting,
    restarts,
    rollback,
    setup,
    status,
    status_text,
    system,
    upgrade,
)
from openstack_node.alone import work_alone
from openstack_node.journal import Journal

UNKNOWN = 3
EXIT = """\
exit status:
  status          0 ok, 1 warning, 2 critical (as a monitoring plugin)
  other commands  0 done, 1 something failed
  all commands    3 unknown (no such service, not root)
"""


class Parser(argparse.ArgumentParser):
    """Exits with UNKNOWN on usage errors, as monitoring expects if nothing was checked."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Report a usage error and exit."""
        self.print_usage(sys.stderr)
        self.exit(UNKNOWN, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; return its exit status."""
    options = parse(arguments)
    if not system.is_root():
        error = system.NodeError(
            "must run as root, to check the services as their own users",
            f"sudo openstack-node {options.verb}",
        )
        return _tell(error, UNKNOWN)
    try:
        with work_alone(_say) if options.works else nullcontext():
            return _carry_out(options)
    except system.NodeError as error:
        return _tell(error, UNKNOWN if options.run is run_status else 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNKNOWN
    except KeyboardInterrupt:
        return _tell(system.NodeError("interrupted"), 1)


def _carry_out(options: argparse.Namespace) -> int:
    """Run a verb for the selected services, read while nothing else changes the node."""
    try:
        services = _choose_services(options.services, foreign=options.run in FOREIGN)
    except system.NodeError as error:
        return _tell(error, UNKNOWN)
    code: int = options.run(services, options)
    return code


def _choose_services(names: list[str], *, foreign: bool) -> list[manifest.Service]:
    """Return the selected services, those from Debian's own packages only if `foreign`."""
    theirs = debian.find_services()
    if foreign:
        services = sorted([*manifest.load([]), *theirs], key=lambda s: s.order)
        known = {s.name for s in services}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise system.NodeError(
                f"service {unknown[0]} is not installed here",
                f"installed: {', '.join(sorted(known)) or 'none'}",
            )
        services = [s for s in services if not names or s.name in names]
    else:
        services = manifest.load(names)
    if not services:
        hint = "openstack-node adopt SERIES replaces Debian's own packages" if theirs else ""
        raise system.NodeError(
            "no service is installed here",
            hint or "install a service's packages with apt-get first",
        )
    return services


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line; services may follow options."""
    top = make_parser()
    options, more = top.parse_known_args(arguments)
    if more and (options.run is run_rollback or any(word.startswith("-") for word in more)):
        top.error(f"unrecognized arguments: {' '.join(more)}")
    options.services += more
    return options


def make_parser() -> Parser:
    """Return the command line's parser; each verb names the function that runs it.

    `works`: the verb changes the node, so nothing else may change it at the same time.
    """
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
    _add_upgrade(verbs)
    _add_adopt(verbs)
    _add_restart(verbs)
    _add_rollback(verbs)
    return top


def _add_setup(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Bring the databases of the services up to what their code needs (including first users "
        "and further databases), then start the services, and restart those whose files changed "
        "after they started. Safe to repeat."
    )
    steps = manifest.list_setup_steps()
    verb = verbs.add_parser(
        "setup",
        help="set up databases, start services",
        description=text,
        epilog=_describe_asked(steps),
    )
    _add_services(verb)
    options = {option["name"]: option for step in steps for option in step["options"]}
    for name, option in options.items():
        usual = f" (default: {option['default'].replace('{host}', '<this host>')})"
        title = option["title"] + (usual if option["default"] else "")
        verb.add_argument(f"--{name}", metavar="VALUE", default="", help=title.replace("%", "%%"))
    verb.add_argument("--no-start", action="store_true", help="do not start or restart services")
    verb.set_defaults(run=run_setup, works=True, of_steps=list(options))


def _describe_asked(steps: list[dict[str, Any]]) -> str:
    """Return the help text on what setup takes from the environment."""
    secrets = {name: question for step in steps for name, question in step["secret"].items()}
    passed = [name for step in steps for name in (*step["environment"], *step["passed"])]
    lines = [
        f"{question}: from the environment variable {name}, or asked for on a terminal."
        for name, question in secrets.items()
    ]
    if passed:
        lines.append(f"Passed on if set: {', '.join(dict.fromkeys(passed))}.")
    return " ".join(lines)


def _add_status(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Show the state of the services installed here: series and version, units, databases, "
        "the services' own upgrade checks, and problems in the configuration files."
    )
    verb = verbs.add_parser(
        "status",
        help="show the state of the services",
        description=text,
        epilog=EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_services(verb)
    verb.add_argument("--json", action="store_true", help="print JSON, for programs")
    verb.add_argument(
        "--quick", action="store_true", help="skip the upgrade checks, which take seconds"
    )
    verb.set_defaults(run=run_status, works=False)


def _add_plan(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Show what moving this node to another series would do, without changing anything: "
        "packages, services that restart, databases, options in the live configuration files "
        "that the new series no longer reads, and what is left for you to do."
    )
    verb = verbs.add_parser("plan", help="show what an upgrade would do", description=text)
    _add_series(verb)
    verb.add_argument("--json", action="store_true", help="print JSON, for programs")
    verb.set_defaults(run=run_plan, works=False)


def _add_upgrade(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Move the services of this node to another series, in the order their projects document: "
        "for each its packages, then its databases, its daemons, and last the changes that the "
        "previous release cannot work with. Run the command again to resume an interrupted "
        "upgrade. Upgrade nodes with databases first, then compute nodes."
    )
    verb = verbs.add_parser("upgrade", help="move services to another series", description=text)
    _add_series(verb)
    verb.add_argument("--dry-run", action="store_true", help="show the steps without running them")
    verb.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    verb.add_argument(
        "--reversible",
        action="store_true",
        help="skip the changes that services of the previous release cannot work with: for clouds "
        "with more nodes to move, and to be able to go back; run it again without this option "
        "to make them",
    )
    verb.add_argument(
        "--skip-checks",
        action="store_true",
        help="continue even if a service's upgrade check fails",
    )
    verb.set_defaults(run=run_upgrade, works=True)


def _add_adopt(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Replace Debian's own packages of the services on this node by those of a series, one "
        "service after the other, keeping configuration, databases and users. Run the command "
        "again to resume an interrupted move. With --clean, remove what Debian's packages left "
        "behind instead."
    )
    verb = verbs.add_parser("adopt", help="move from Debian's own packages", description=text)
    verb.add_argument(
        "series",
        metavar="SERIES",
        nargs="?",
        default="",
        help="the series to move to, such as 2023.1",
    )
    _add_services(verb)
    verb.add_argument(
        "--dry-run", action="store_true", help="show what it would do, and do nothing"
    )
    verb.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    verb.add_argument(
        "--clean",
        action="store_true",
        help="remove init scripts, obsolete configuration files and debconf answers",
    )
    verb.add_argument(
        "--skip-checks",
        action="store_true",
        help="continue even if a service's upgrade check fails",
    )
    verb.set_defaults(run=run_adopt, works=True, reversible=False)


def _add_restart(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Restart the units that still run replaced code because restarts are deferred "
        f"(RESTARTS=defer in {restarts.DEFAULTS}), the APIs last."
    )
    verb = verbs.add_parser("restart", help="restart units that wait for it", description=text)
    _add_services(verb)
    verb.set_defaults(run=run_restart, works=True)


def _add_rollback(verbs: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Return a service to the previous series, if its databases still let the older code "
        "work; an apt source must still provide that series."
    )
    verb = verbs.add_parser(
        "rollback", help="return a service to the previous series", description=text
    )
    verb.add_argument("services", nargs=1, metavar="SERVICE", help="the service to return")
    verb.add_argument("--to", metavar="SERIES", default="", help="the series to return to")
    verb.set_defaults(run=run_rollback, works=True)


def _add_series(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("series", metavar="SERIES", help="the series to move to, such as 2026.1")
    _add_services(verb)


def _add_services(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "services",
        nargs="*",
        metavar="SERVICE",
        help="names of services (default: all installed)",
    )


def run_setup(services: list[manifest.Service], options: argparse.Namespace) -> int:
    """Set up services."""
    wishes = setup.Wishes(
        say=_say,
        options={n: getattr(options, n.replace("-", "_")) for n in options.of_steps},
        start=not options.no_start,
    )
    setup.setup(services, wishes, named=bool(options.services))
    return 0


def run_status(services: list[manifest.Service], options: argparse.Namespace) -> int:
    """Show the state of services."""
    ours = [s for s in services if not s.foreign]
    reports = status.gather(ours, upgrade_checks=not options.quick)
    reports += [status.report_foreign(s) for s in services if s.foreign]
    level = status.find_worst([r.level for r in reports])
    if options.json:
        print(json.dumps(status_text.make_table(reports, level), indent=1))
    else:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        for report in reports:
            for line in status_text.render_report(report, colour=colour):
                print(line)
        print(f"{level.upper() if level != 'note' else 'OK'}: {status_text.summarise(reports)}")
    return status.LEVELS[level]


def run_plan(services: list[manifest.Service], options: argparse.Namespace) -> int:
    """Show what moving to another series would do."""
    if theirs := [s for s in services if s.foreign]:
        debian.check(theirs, options.series)
    found = plan.plan(services, options.series)
    if options.json:
        print(json.dumps({"format": 1, **dataclasses.asdict(found)}, indent=1))
    else:
        for line in plan_text.render_lines(found):
            print(line)
    return 0


def run_upgrade(services: list[manifest.Service], options: argparse.Namespace) -> int:
    """Move services to another series."""
    wishes = upgrade.Wishes(
        options.series, _say, reversible=options.reversible, checks=not options.skip_checks
    )
    return _upgrade(services, wishes, options)


def _upgrade(
    services: list[manifest.Service], wishes: upgrade.Wishes, options: argparse.Namespace
) -> int:
    moves = upgrade.prepare(services, options.series)
    todo = upgrade.list_steps(moves, wishes, everything=not options.services)
    if options.dry_run:
        for step in todo:
            print(f"{step.key.split('/')[0]:<9}  {step.text}\n{'':11}{step.command}")
        return 0
    upgrade.refuse(moves, wishes)
    if not options.yes:
        _ask(f"{len(todo)} steps to {options.series} (--dry-run shows them). Begin?")
    journal = Journal(options.series)
    journal.remember(upgrade.list_running(services))
    upgrade.walk(todo, journal, wishes)
    upgrade.start_again([s.name for s in services], journal.running, wishes)
    journal.close()
    return 0


def run_adopt(services: list[manifest.Service], options: argparse.Namespace) -> int:
    """Replace Debian's own packages with ours, or remove what they left."""
    if options.clean:
        return _clean(options)
    if not options.series:
        raise system.NodeError("no series given", "for example: openstack-node adopt 2023.1")
    # Includes those of ours that an interrupted adoption has already moved.
    ours = [s for s in services if s.foreign or s.series == options.series]
    theirs = [s for s in ours if s.foreign]
    if not theirs and not Journal(options.series).done:
        raise system.NodeError(
            "no service here is from Debian's own packages",
            "openstack-node status shows what is installed",
        )
    debian.check(theirs, options.series)
    wishes = upgrade.Wishes(options.series, _say, checks=not options.skip_checks, verb="adopt")
    _upgrade(ours, wishes, options)
    if not options.dry_run and (left := leftovers.find()):
        _say(
            f"left over from Debian's packages, without effect: {len(left)} files and sets of "
            "debconf answers\n"
            "  openstack-node adopt --clean removes them; add --dry-run to list them only\n"
        )
    return 0


def _clean(options: argparse.Namespace) -> int:
    found = leftovers.find()
    for left in found:
        _say(f"{left.text}\n")
    if options.dry_run or not found:
        return 0
    if not options.yes:
        _ask(f"Remove these {len(found)}?")
    for left in found:
        leftovers.remove(left)
    return 0


def run_restart(services: list[manifest.Service], _: argparse.Namespace) -> int:
    """Restart units that run replaced code."""
    for service in services:
        restarting.restart_units(service, restarting.list_pending(service), _say, named=True)
    return 0


def run_rollback(services: list[manifest.Service], options: argparse.Namespace) -> int:
    """Return a service to the previous series."""
    rollback.rollback(services[0], options.to, _say)
    return 0


def _say(text: str) -> None:
    print(text, end="", flush=True)


def _ask(question: str) -> None:
    """Ask for confirmation; raise NodeError if it is not given."""
    if not sys.stdin.isatty():
        raise system.NodeError(
            "cannot ask for confirmation: not a terminal", "pass --yes to proceed"
        )
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise system.NodeError("nothing was done")


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


# Verbs that also see services from Debian's own packages.
FOREIGN = (run_adopt, run_plan, run_status)
