"""Move the services of this node to another series, in the order their projects document.

Services move one at a time: first the packages, while the daemons keep running from the old tree;
then the databases, to a state that both releases can use; then the daemons restart; and once
nothing of the old release runs any more, the rest follows. Finished steps are recorded, so that
the same command resumes where it was interrupted.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import syslog
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from openstack_node import (
    databases,
    debian,
    gate,
    heartbeats,
    ini,
    installing,
    manifest,
    preview,
    restarting,
    system,
    tools,
)
from openstack_node.apt import Apt, refuse_held
from openstack_node.sources import Sources

if TYPE_CHECKING:
    from openstack_node.journal import Journal
    from openstack_node.manifest import Service

MOST_TURNS = 10000  # of a command that reports there is more to do


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for.

    `reversible`: skip what the old release cannot work with, because other nodes still run it,
    or to be able to go back. `checks`: stop if an upgrade check fails.
    """

    series: str
    say: Callable[[str], None]
    reversible: bool = False
    checks: bool = True
    verb: str = "upgrade"

    @property
    def again(self) -> str:
        """How to resume after fixing a problem."""
        return f"openstack-node {self.verb} {self.series} resumes from here"


@dataclass(frozen=True)
class Move:
    """A service as it is and as the new series' manifest has it; the same if already there.

    `records`: daemons' rows that would keep it from starting in the new series.
    """

    service: Service
    later: Service
    records: list[databases.Record] = field(default_factory=list)

    @property
    def moves(self) -> bool:
        """Whether its packages are from another series."""
        return self.service.series != self.later.series


@dataclass(frozen=True)
class Step:
    """One step: `command` is what a person would run, `key` names it in the journal."""

    key: str
    text: str
    command: str
    run: Callable[[], None]


def prepare(services: list[Service], series: str) -> list[Move]:
    """Return the moves to `series`; NodeError if upstream or apt here has no such step."""
    moves = [Move(s, s, _list_obstacles(s, Path("/"))) for s in services if s.series == series]
    for old in sorted({s.series for s in services} - {series}):
        with tempfile.TemporaryDirectory(prefix="openstack-node-", dir=preview.AREA) as name:
            apt = Apt(Path(name), old, series)
            apt.update()
            preview.read_facts(apt, old, series)
            ours = [s for s in services if s.series == old]
            # Find whatever would stop apt before the first step, not between two services.
            # The next installation repairs what a power cut left.
            changes = [] if apt.is_broken() else apt.list_changes()
            if changes:
                refuse_held(preview.list_held(apt, ours, changes))
            coming = [c.package for c in changes if c.new]
            root = apt.unpack([str(s.data["package"]) for s in ours])
            pairs = [_pair(s, preview.read_manifest(s.name, root), coming) for s in ours]
            # The code says what is too old.
            apt.unpack([later.data["packages"][0] for _, later in pairs if _needs_records(later)])
            moves += [
                Move(s, later, _list_obstacles(dataclasses.replace(later, tree=s.tree), root))
                for s, later in pairs
            ]
    return sorted(moves, key=lambda m: m.service.order)


def _needs_records(service: Service) -> bool:
    """Whether the release of other nodes' daemons matters to a service and is visible here."""
    rules = service.data.get("records", [])
    floors = any(r["floor"] or r["floor_file"] for r in rules)
    return floors and _works_on_databases(service)


def _list_obstacles(service: Service, root: Path) -> list[databases.Record]:
    """Return the daemons' rows that would keep a service, its code below `root`, from starting."""
    if not _needs_records(service):
        return []
    return heartbeats.list_obstacles(service, preview.query_databases(service, root))


def refuse(moves: list[Move], wishes: Wishes) -> None:
    """Raise NodeError before the first step if the new release would not start."""
    for move in moves if wishes.checks else ():
        heartbeats.refuse(move.later, move.records)


def _pair(service: Service, data: dict[str, Any], coming: list[str]) -> tuple[Service, Service]:
    """Return a service as it is and as its new packages describe it."""
    if not service.foreign:
        return service, _make_later(service, data)
    later = debian.make_later(service, data, coming)
    return debian.make_before(service, later), later


def _make_later(service: Service, data: dict[str, Any]) -> Service:
    """Return a service as the manifest of its new packages describes it."""
    found = manifest.make_service(data, dict.fromkeys(service.installed | {data["package"]}, ""))
    assert found is not None  # noqa: S101 - its common package is among them
    return found


def list_steps(moves: list[Move], wishes: Wishes, *, everything: bool) -> list[Step]:
    """Return all steps, in order; `everything`: the moves cover all services of the node."""
    olds = sorted({m.service.series for m in moves if m.moves})
    found = [
        Step(f"source/{old}", f"add an apt source of {wishes.series}", "apt-get update",
             partial(_add_source, old, wishes))
        for old in olds
    ]  # fmt: skip
    for move in moves:
        found += _list_service_steps(move, wishes)
    if everything and not wishes.reversible:
        archive = f"openstack-{wishes.series}-archive"
        found.append(
            Step("node/settle", f"move the rest of this node to {wishes.series}",
                 f"apt-get install {archive} ...", partial(_settle, wishes))
        )  # fmt: skip
    return found


def _list_service_steps(move: Move, wishes: Wishes) -> list[Step]:
    """Return the steps of a service: packages, databases, daemons, and what has to come last."""
    name, found = move.service.name, []
    if move.moves:
        packages = move.service.packages
        found.append(
            Step(f"{name}/packages", f"install the packages of {wishes.series}",
                 f"apt-get install {' '.join(packages)}", partial(_install, move, wishes))
        )  # fmt: skip
    with_databases = _works_on_databases(move.service)
    phases = _list_command_steps(move, wishes) if with_databases else {"expand": [], "contract": []}
    units = [u.name for u in restarting.sort_units(move.later) if u.start == "now"]
    command = f"systemctl restart {' '.join(units)}"
    found += phases["expand"]
    if units:
        text = "restart the units that run the old code"
        run = partial(restarting.restart_pending, name, wishes.say)
        found.append(Step(f"{name}/restart", text, command, run))
    if wishes.reversible:
        return found
    # Useless on a node without databases: the old daemons were its own.
    if with_databases and units and _negotiates(move):
        text = "restart again, to talk to other daemons as this release does"
        run = partial(restarting.restart_running, name, wishes.say)
        phases["contract"].append(Step(f"{name}/again", text, command, run))
    return found + phases["contract"]


def _list_command_steps(move: Move, wishes: Wishes) -> dict[str, list[Step]]:
    """Return the commands for a service's databases by phase, `expand` and `contract`."""
    name, here = move.service.name, move.service.installed
    rows = move.later.data.get("upgrade", [])
    rows = [r for r in rows if not r["package"] or r["package"] in here]
    phases: dict[str, list[Step]] = {"expand": [], "contract": []}
    for number, row in enumerate(rows):
        phases[row["phase"]].append(
            Step(f"{name}/{row['phase']}-{number}", row["title"], " ".join(row["command"]),
                 partial(_run_command, name, row, wishes))
        )  # fmt: skip
    return phases


def _works_on_databases(service: Service) -> bool:
    """Whether a service has databases here; an unconfigured one has none yet."""
    settings, schemas = ini.Settings(service.configs), service.data["schemas"]
    own = [s for s in schemas if not s["suffix"]]
    return service.wants_database and any(
        settings.find_value(s["section"], s["option"]) for s in own
    )


def _negotiates(move: Move) -> bool:
    """Whether a service's daemons check at startup what others understand."""
    how = str(move.later.data.get("negotiated_by", ""))
    section, _, option = how.partition("/")
    wanted = option and ini.Settings(move.service.configs).find_value(section, option)
    return how == "start" or bool(wanted)


def walk(todo: list[Step], journal: Journal, wishes: Wishes) -> None:
    """Run the steps not done yet; raise NodeError at the first that fails."""
    service = ""
    for step in todo:
        head = step.key.split("/")[0]
        if head != service:
            service = head
            wishes.say(f"{service}\n")
        if step.key in journal.done:
            wishes.say(f"  {step.text} ... already done\n")
            continue
        wishes.say(f"  {step.text} ... ")
        _log(f"{step.key}: {step.command}")
        start = time.monotonic()
        try:
            step.run()
        except system.NodeError as error:
            wishes.say("failed\n")
            _log(f"{step.key}: failed: {error}")
            error.hints.append(wishes.again)
            raise
        journal.note(step.key)
        _log(f"{step.key}: done")
        wishes.say(f"done ({time.monotonic() - start:.0f} s)\n")


def _log(line: str) -> None:
    """Record what is done to the node in its log."""
    syslog.openlog("openstack-node")
    syslog.syslog(line)


def _add_source(old: str, wishes: Wishes) -> None:
    """Add the source of the new series, and have its openstack-node do the rest."""
    sources = Sources()
    sources.add(old, wishes.series)
    installing.run_apt_get(["update", "--error-on=any"])
    before = system.list_versions(["openstack-node"])
    sources.choose_series("openstack-node", wishes.series)
    installing.install(["openstack-node"])
    if system.list_versions(["openstack-node"]) != before:
        wishes.say("done; a newer openstack-node continues\n")
        sys.stdout.flush()
        # The same command again, without asking a second time.
        os.execv(sys.argv[0], [*sys.argv, "--yes"])  # noqa: S606


def _install(move: Move, wishes: Wishes) -> None:
    """Install a service's packages of the new series; NodeError if it stays at the old one."""
    service = move.service
    Sources().choose_series(service.name, wishes.series)
    # A package the new series no longer has cannot be requested; apt removes it with the rest.
    said = system.read_output(["apt-cache", "policy", *service.packages], seconds=60)
    found = re.findall(r"^(\S+):\n  Installed: (\S+)\n  Candidate: (\S+)", said, re.MULTILINE)
    names = [package for package, old, new in found if old != new]
    installing.install(names or [str(service.data["package"])])
    if service.foreign:
        debian.close_directory(service)
    if manifest.load([service.name])[0].series != wishes.series:
        raise system.NodeError(
            f"{service.name} is still at {service.series}",
            f"apt-cache policy {service.data['package']} shows why",
        )


def _run_command(name: str, row: dict[str, Any], wishes: Wishes) -> None:
    """Run a command of the new code until it reports that all is done."""
    service = manifest.load([name])[0]
    _check_databases(service)
    for _ in range(MOST_TURNS):
        done = tools.run(service, row["command"])
        if done.code is None or not row["again"] or done.code != row["again"]:
            break
    check = len(row["accept"]) > 1
    if done.code in row["accept"] or (check and not wishes.checks):
        return
    error = tools.command_error(service, row["command"], done, "run the upgrade again")
    failed = [
        f"{c.name}: {c.details}" for c in tools.parse_checks(done.out) if c.result == "Failure"
    ]
    if check and failed:
        error.details = system.mask_passwords("\n".join(failed))
        error.hints.append("to continue anyway, pass --skip-checks")
    raise error


def _check_databases(service: Service) -> None:
    """Raise NodeError if a database of a service cannot be used."""
    answer = databases.demand(service, service.list_files())
    names = [s["name"] for s in service.data["schemas"]]
    own = [schema for name, schema in answer.schemas.items() if name in names]
    databases.check_usable(service, own, ini.Settings(service.configs))


def list_running(services: list[Service]) -> list[str]:
    """Return the units that are running or starting."""
    states = system.read_unit_states([u.name for s in services for u in s.units])
    return sorted(n for n, s in states.items() if s.active in ("active", "activating"))


def start_again(names: list[str], before: list[str], wishes: Wishes) -> None:
    """Start the units that ran before an upgrade and no longer do, and wait for them.

    Restarting units while a database is behind (needrestart, a person) leaves them down.
    """
    for service in manifest.load(names):
        units = [u for u in restarting.sort_units(service) if u.name in before]
        states = system.read_unit_states([u.name for u in units])
        down = [
            u
            for u in units
            if (state := states.get(u.name))
            and state.enabled == "enabled"
            and state.active in ("inactive", "failed")
            and not gate.is_left_out(service, u, state)
        ]
        if down:
            wishes.say(f"{service.name}\n  start the units that ran before ... ")
            restarting.restart_units(service, down, wishes.say)
            wishes.say("done\n")


def _settle(wishes: Wishes) -> None:
    """Install the archive package for key and pin, and move packages of no service."""
    sources = Sources()
    sources.settle(wishes.series)
    installing.install([f"openstack-{wishes.series}-archive"])
    installing.run_apt_get(["update", "--error-on=any"])
    suites = "|".join(map(re.escape, sources.list_suites(wishes.series)))
    said = installing.run_apt_get(["--simulate", "full-upgrade"])
    behind = re.findall(rf"^Inst (\S+) \[\S+\] \(\S+ [^)]*\b(?:{suites})\b", said, re.MULTILINE)
    if behind:
        installing.install(behind)
