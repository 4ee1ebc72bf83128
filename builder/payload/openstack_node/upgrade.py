"""Move the services of this node to another series, in the order their projects document.

Services move one at a time: first the packages, while the daemons keep running from the old tree;
then the databases, to a state that both releases can use; then the daemons restart; and once
nothing of the old release runs any more, the rest follows. Finished steps are recorded, so that
the same command resumes where it was interrupted.
"""

from __future__ import annotations

import dataclasses
import json
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
    manifest,
    plan,
    restarts,
    setup,
    status,
    system,
    tools,
)
from openstack_node.apt import Apt, refuse_held
from openstack_node.sources import Sources

if TYPE_CHECKING:
    from openstack_node.manifest import Service, Unit

JOURNAL = Path("/var/lib/openstack-node/upgrade.json")
APT_SECONDS = 3600
MOST_TURNS = 10000  # of a command that reports there is more to do
DPKG_LOCK = "/var/lib/dpkg/lock-frontend"
LOCK_SECONDS = 300
APT_OPTIONS = (
    f"DPkg::Lock::Timeout={LOCK_SECONDS}",
    "Dpkg::Options::=--force-confdef",
    "Dpkg::Options::=--force-confold",
)
APT = ("apt-get", "--yes", "--quiet=2", *(w for o in APT_OPTIONS for w in ("-o", o)))
# The lines in which apt and dpkg give the cause of a failure; dpkg does on the next line.
CAUSE = re.compile(r"^(?:E: .*|.*\berror\b.*(?:\n .*)?)$", re.MULTILINE)
# Ask nothing, and restart no daemon before its databases are ready: neither from its package nor
# from needrestart, which apt calls if installed (README.Debian of needrestart; the second variable
# is for versions that do not know the first, and makes it only list what it would restart).
QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    restarts.VARIABLE: "defer",
    "NEEDRESTART_SUSPEND": "1",
    "NEEDRESTART_MODE": "l",
}


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


class Journal:
    """A file of the finished steps of an upgrade under way, and the units that ran before it."""

    def __init__(self, series: str, path: Path = JOURNAL) -> None:
        self.path = path
        self.done: list[str] = []
        self.running: list[str] = []
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["series"] == series:
                self.done, self.running = found["done"], found.get("running", [])
        self.series = series

    def remember(self, running: list[str]) -> None:
        """Record the units that run as an upgrade begins; when it resumes, keep that record."""
        if not self.done and not self.running:
            self.running = running
            self._write()

    def note(self, key: str) -> None:
        """Record a finished step, synced to disk."""
        self.done.append(key)
        self._write()

    def forget(self, service: str) -> None:
        """Remove a service's steps: it was rolled back."""
        self.done = [k for k in self.done if not k.startswith(f"{service}/")]
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            data = {"series": self.series, "done": self.done, "running": self.running}
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def close(self) -> None:
        """Delete the file: the upgrade is complete."""
        if self.path.exists():
            self.path.unlink()


def prepare(services: list[Service], series: str) -> list[Move]:
    """Return the moves to `series`; NodeError if upstream or apt here has no such step."""
    moves = [Move(s, s, _in_the_way(s, Path("/"))) for s in services if s.series == series]
    for old in sorted({s.series for s in services} - {series}):
        with tempfile.TemporaryDirectory(prefix="openstack-node-", dir=plan.AREA) as name:
            apt = Apt(Path(name), old, series)
            apt.update()
            plan.facts(apt, old, series)
            ours = [s for s in services if s.series == old]
            # Find whatever would stop apt before the first step, not between two services.
            # The next installation repairs what a power cut left.
            changes = [] if apt.broken() else apt.changes()
            if changes:
                refuse_held(plan.held_back(apt, ours, changes))
            coming = [c.package for c in changes if c.new]
            root = apt.unpack([str(s.data["package"]) for s in ours])
            pairs = [_pair(s, plan.later_manifest(s.name, root), coming) for s in ours]
            # The code says what is too old.
            apt.unpack([later.data["packages"][0] for _, later in pairs if _looks(later)])
            moves += [
                Move(s, later, _in_the_way(dataclasses.replace(later, tree=s.tree), root))
                for s, later in pairs
            ]
    return sorted(moves, key=lambda m: m.service.order)


def _looks(service: Service) -> bool:
    """Whether the release of other nodes' daemons matters to a service and is visible here."""
    rules = service.data.get("records", [])
    floors = any(r["floor"] or r["floor_file"] for r in rules)
    return floors and _works_on_databases(service)


def _in_the_way(service: Service, root: Path) -> list[databases.Record]:
    """Return the daemons' rows that would keep a service, its code below `root`, from starting."""
    if not _looks(service):
        return []
    return heartbeats.in_the_way(service, plan.look(service, root))


def refuse(moves: list[Move], wishes: Wishes) -> None:
    """Raise NodeError before the first step if the new release would not start."""
    for move in moves if wishes.checks else ():
        heartbeats.refuse(move.later, move.records)


def _pair(service: Service, data: dict[str, Any], coming: list[str]) -> tuple[Service, Service]:
    """Return a service as it is and as its new packages describe it."""
    if not service.foreign:
        return service, _later(service, data)
    later = debian.as_later(service, data, coming)
    return debian.as_before(service, later), later


def _later(service: Service, data: dict[str, Any]) -> Service:
    """Return a service as the manifest of its new packages describes it."""
    found = manifest.narrowed(data, dict.fromkeys(service.installed | {data["package"]}, ""))
    assert found is not None  # noqa: S101 - its common package is among them
    return found


def steps(moves: list[Move], wishes: Wishes, *, everything: bool) -> list[Step]:
    """Return all steps, in order; `everything`: the moves cover all services of the node."""
    olds = sorted({m.service.series for m in moves if m.moves})
    found = [
        Step(f"source/{old}", f"add an apt source of {wishes.series}", "apt-get update",
             partial(_add_source, old, wishes))
        for old in olds
    ]  # fmt: skip
    for move in moves:
        found += _of_service(move, wishes)
    if everything and not wishes.reversible:
        archive = f"openstack-{wishes.series}-archive"
        found.append(
            Step("node/settle", f"move the rest of this node to {wishes.series}",
                 f"apt-get install {archive} ...", partial(_settle, wishes))
        )  # fmt: skip
    return found


def _of_service(move: Move, wishes: Wishes) -> list[Step]:
    name, found = move.service.name, []
    if move.moves:
        packages = move.service.packages
        found.append(
            Step(f"{name}/packages", f"install the packages of {wishes.series}",
                 f"apt-get install {' '.join(packages)}", partial(_install, move, wishes))
        )  # fmt: skip
    with_databases = _works_on_databases(move.service)
    rows = move.later.data.get("upgrade", []) if with_databases else []
    rows = [r for r in rows if not r["package"] or r["package"] in move.service.installed]
    phases: dict[str, list[Step]] = {"expand": [], "contract": []}
    for number, row in enumerate(rows):
        phases[row["phase"]].append(
            Step(f"{name}/{row['phase']}-{number}", row["title"], " ".join(row["command"]),
                 partial(_command, name, row, wishes))
        )  # fmt: skip
    units = [u.name for u in restarts.in_order(move.later) if u.start == "now"]
    command = f"systemctl restart {' '.join(units)}"
    found += phases["expand"]
    if units:
        text = "restart the units that run the old code"
        found.append(
            Step(f"{name}/restart", text, command, partial(restart_pending, name, wishes.say))
        )
    if wishes.reversible:
        return found
    # Useless on a node without databases: the old daemons were its own.
    if with_databases and units and _negotiates(move):
        text = "restart again, to talk to other daemons as this release does"
        phases["contract"].append(
            Step(f"{name}/again", text, command, partial(_restart_all, name, wishes.say))
        )
    return found + phases["contract"]


def _works_on_databases(service: Service) -> bool:
    """Whether a service has databases here; an unconfigured one has none yet."""
    settings, schemas = ini.Settings(service.configs), service.data["schemas"]
    own = [s for s in schemas if not s["suffix"]]
    return service.wants_database and any(settings.value(s["section"], s["option"]) for s in own)


def _negotiates(move: Move) -> bool:
    """Whether a service's daemons check at startup what others understand."""
    how = str(move.later.data.get("negotiated_by", ""))
    section, _, option = how.partition("/")
    wanted = option and ini.Settings(move.service.configs).value(section, option)
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
    syslog.openlog("openstack-node")
    syslog.syslog(line)


def apt_get(words: list[str], seconds: float = APT_SECONDS) -> str:
    """Run apt-get without questions or restarts; return its output."""
    done = system.run([*APT, *words], seconds=seconds, merged=True, env=QUIET)
    if done.code != 0:
        # Below the cause there may be a page of packages left unchanged.
        causes = system.Done(done.code, "\n".join(CAUSE.findall(done.out)))
        raise system.NodeError(f"apt-get {words[0]} failed", details=causes.tail() or done.tail())
    return done.out


def rehearse(words: list[str]) -> str:
    """Return the output of a simulated apt-get; nothing if something has to be repaired first."""
    if system.run([*APT, "check"], seconds=APT_SECONDS, env=QUIET).code != 0:
        return ""
    return apt_get(["--quiet=0", "--simulate", *words])


def install(packages: list[str], *options: str) -> None:
    """Install packages at their candidate or given versions; repair what is half done first.

    Packages keep their marks as installed automatically or manually. What a transitional package
    that somebody asked for leads to becomes manual, or `apt autoremove` would remove what runs:
    not every apt passes the mark on to what is installed already.
    """
    _wait_for_dpkg()
    _repair()
    names = [p.split("=")[0] for p in packages]
    auto = _list_automatic(names)
    heirs = _find_heirs([name for name in names if name not in auto])
    # Before apt: if this is interrupted, the next run no longer names them.
    if asked_for := [name for name in auto if name in heirs]:
        system.output(["apt-mark", "manual", *asked_for], seconds=60)
    apt_get(["install", *options, *packages])
    if kept := [name for name in auto if name not in heirs]:
        system.output(["apt-mark", "auto", *kept], seconds=60)


def _list_automatic(names: list[str]) -> list[str]:
    """Return which of some packages were installed automatically."""
    return system.output(["apt-mark", "showauto", *names], seconds=60).split() if names else []


def _find_heirs(names: list[str]) -> set[str]:
    """Return what those of some packages depend on whose candidates are transitional."""
    if not names:
        return set()
    said = system.output(["apt-cache", "show", "--no-all-versions", *names], seconds=60)
    heirs: set[str] = set()
    for stanza in said.split("\n\n"):
        depends = re.search(r"^Depends: (.*)$", stanza, re.MULTILINE)
        if depends and re.search(r"^Section: (?:\S+/)?oldlibs$", stanza, re.MULTILINE):
            heirs.update(re.findall(r"(?:^|[,|] *)([a-z0-9][a-z0-9.+-]+)", depends[1]))
    return heirs


def _wait_for_dpkg() -> None:
    """Wait while another process installs packages, as apt would, and name it."""
    end, said = time.monotonic() + LOCK_SECONDS, 0
    while pid := system.holder(DPKG_LOCK):
        command = system.command_line(pid).replace("\0", " ").strip()
        who = f"{command} (process {pid}), which holds {DPKG_LOCK}"
        if time.monotonic() > end:
            raise system.NodeError(
                f"waited {LOCK_SECONDS} s for {who}", "run this again when it has finished"
            )
        if pid != said:
            print(f"waiting for {who}", file=sys.stderr, flush=True)
            said = pid
        time.sleep(1)


def _repair() -> None:
    """Finish what dpkg was interrupted in; apt reports later what still fails.

    While a dependency is missing, no package may be named; one that was just being unpacked must
    be, since --fix-broken would first configure what depends on it.
    """
    how: dict[str, Any] = {"seconds": APT_SECONDS, "env": QUIET}
    # Unlike apt, dpkg passes its open files to the scripts it runs, and to what they start.
    system.run(["dpkg", "--configure", "-a"], shared=False, **how)
    if system.run([*APT, "check"], **how).code != 0:
        system.run([*APT, "install", "--fix-broken"], **how)
    show = ["dpkg-query", "-W", "-f", "${db:Status-Eflag} ${Package}\\n"]
    flags = system.output(show, seconds=60)
    half = re.findall(r"^reinstreq (\S+)$", flags, re.MULTILINE)
    if half:
        apt_get(["install", "--reinstall", *half])


def _add_source(old: str, wishes: Wishes) -> None:
    """Add the source of the new series, and have its openstack-node do the rest."""
    sources = Sources()
    sources.add(old, wishes.series)
    apt_get(["update", "--error-on=any"])
    before = system.versions(["openstack-node"])
    sources.choose_of("openstack-node", wishes.series)
    install(["openstack-node"])
    if system.versions(["openstack-node"]) != before:
        wishes.say("done; a newer openstack-node continues\n")
        sys.stdout.flush()
        # The same command again, without asking a second time.
        os.execv(sys.argv[0], [*sys.argv, "--yes"])  # noqa: S606


def _install(move: Move, wishes: Wishes) -> None:
    service = move.service
    Sources().choose_of(service.name, wishes.series)
    # A package the new series no longer has cannot be requested; apt removes it with the rest.
    said = system.output(["apt-cache", "policy", *service.packages], seconds=60)
    found = re.findall(r"^(\S+):\n  Installed: (\S+)\n  Candidate: (\S+)", said, re.MULTILINE)
    names = [package for package, old, new in found if old != new]
    install(names or [str(service.data["package"])])
    if service.foreign:
        debian.close_directory(service)
    if manifest.load([service.name])[0].series != wishes.series:
        raise system.NodeError(
            f"{service.name} is still at {service.series}",
            f"apt-cache policy {service.data['package']} shows why",
        )


def _command(name: str, row: dict[str, Any], wishes: Wishes) -> None:
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
    error = tools.failure(service, row["command"], done, "run the upgrade again")
    failed = [f"{c.name}: {c.details}" for c in status.checks(done.out) if c.result == "Failure"]
    if check and failed:
        error.details = system.masked("\n".join(failed))
        error.hints.append("to continue anyway, pass --skip-checks")
    raise error


def _check_databases(service: Service) -> None:
    answer = databases.demand(service, status.read_files(service))
    names = [s["name"] for s in service.data["schemas"]]
    own = [schema for name, schema in answer.schemas.items() if name in names]
    setup.check_usable(service, own, ini.Settings(service.configs))


def _quietly(_text: str) -> None:
    """Say nothing."""


def restart_pending(name: str, say: Callable[[str], None] = _quietly) -> None:
    """Restart the units that run replaced code of a service, one after the other.

    `say` gets what is being waited for, if that takes long.
    """
    service = manifest.load([name])[0]
    _restart(service, restarts.pending(service), say)


def _restart_all(name: str, say: Callable[[str], None] = _quietly) -> None:
    service = manifest.load([name])[0]
    units = [u for u in restarts.in_order(service) if u.start == "now"]
    states = system.unit_states([u.name for u in units])
    running = [u for u in units if u.name in states and states[u.name].active == "active"]
    _restart(service, running, say)


def restart(service: Service, units: list[Unit], say: Callable[[str], None] = _quietly) -> None:
    """Restart units, and name each."""
    _check_broker(service, units)
    for unit in units:
        say(f"{unit.name} ... ")
        runs = restarts.restart(service, unit, say)
        say("restarted\n" if runs else "stopped: its defaults file does not select it\n")


def _restart(service: Service, units: list[Unit], say: Callable[[str], None]) -> None:
    _check_broker(service, units)
    for unit in units:
        restarts.restart(service, unit, say)


def _check_broker(service: Service, units: list[Unit]) -> None:
    """Raise NodeError if the broker that daemons wait for at startup is down.

    The old daemons keep running without it until it is back.
    """
    if any(u.kind != "uwsgi" for u in units):
        broker = databases.demand(service, status.read_files(service)).broker
        if broker is not None and broker.state in ("unreachable", "denied"):
            where = ini.Settings(service.configs).place("DEFAULT", "transport_url")
            text, hints = databases.broker_advice(broker, where)
            raise system.NodeError(f"{service.name}: {text}", *hints)


def running(services: list[Service]) -> list[str]:
    """Return the units that are running or starting."""
    states = system.unit_states([u.name for s in services for u in s.units])
    return sorted(n for n, s in states.items() if s.active in ("active", "activating"))


def start_again(names: list[str], before: list[str], wishes: Wishes) -> None:
    """Start the units that ran before an upgrade and no longer do, and wait for them.

    Restarting units while a database is behind (needrestart, a person) leaves them down.
    """
    for service in manifest.load(names):
        units = [u for u in restarts.in_order(service) if u.name in before]
        states = system.unit_states([u.name for u in units])
        down = [
            u
            for u in units
            if (state := states.get(u.name))
            and state.enabled == "enabled"
            and state.active in ("inactive", "failed")
            and not gate.left_out(service, u, state)
        ]
        if down:
            wishes.say(f"{service.name}\n  start the units that ran before ... ")
            _restart(service, down, wishes.say)
            wishes.say("done\n")


def _settle(wishes: Wishes) -> None:
    """Install the archive package for key and pin, and move packages of no service."""
    sources = Sources()
    sources.settle(wishes.series)
    install([f"openstack-{wishes.series}-archive"])
    apt_get(["update", "--error-on=any"])
    suites = "|".join(map(re.escape, sources.suites(wishes.series)))
    said = apt_get(["--simulate", "full-upgrade"])
    behind = re.findall(rf"^Inst (\S+) \[\S+\] \(\S+ [^)]*\b(?:{suites})\b", said, re.MULTILINE)
    if behind:
        install(behind)
