"""Gather what is installed here and its state, in parallel, with a time limit on each part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openstack_node import databases, gate, heartbeats, ini, options, system, tools, units

if TYPE_CHECKING:
    from openstack_node.manifest import Service

CHECK_SECONDS = 60
WORKERS = 3
# Worst first, with the exit status (as in Nagios plugins).
LEVELS = {"critical": 2, "warning": 1, "unknown": 3, "note": 0, "ok": 0}
OF_STATE = {"current": "ok", "behind": "warning", "ahead": "warning", "unknown": "note"}


@dataclass(frozen=True)
class Line:
    """One finding: the state of something, and what to do if it is not well.

    `kind` is `unit`, `database`, `setup`, `broker`, `heartbeat`, `upgrade-check` or
    `configuration`.
    """

    kind: str
    name: str
    level: str
    text: str
    hints: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """The findings on one service."""

    service: str
    title: str
    series: str
    version: str
    lines: list[Line]

    @property
    def level(self) -> str:
        """The worst of its lines."""
        return find_worst([line.level for line in self.lines])


def find_worst(levels: list[str]) -> str:
    """Return the worst of some levels."""
    return next((level for level in LEVELS if level in levels), "ok")


def gather(services: list[Service], *, upgrade_checks: bool = True) -> list[Report]:
    """Check all services, several at a time."""
    states = system.read_unit_states([u.name for s in services for u in s.units])
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(_check_service, s, states, upgrade_checks) for s in services]
        return [
            Report(s.name, s.title, s.series, s.version, future.result())
            for s, future in zip(services, futures)
        ]


def report_foreign(service: Service) -> Report:
    """Report that a service is installed from Debian's own packages."""
    line = Line(
        "unit",
        service.data["package"],
        "note",
        "Debian's own packages; not checked any further",
        ["openstack-node adopt SERIES replaces them"],
    )
    return Report(service.name, service.title, service.series, service.version, [line])


def _check_service(
    service: Service, states: dict[str, system.UnitState], upgrade_checks: bool
) -> list[Line]:
    settings = ini.Settings(service.configs)
    answer = databases.ask(
        service, service.list_files(), later_site=gate.find_later_site(service), records=True
    )
    fitness = gate.judge(service, answer)
    lines = []
    for unit in service.units:
        level, text, hints = units.judge(service, unit, states.get(unit.name), fitness)
        lines.append(Line("unit", unit.name, level, text, hints))
    lines += _check_databases(service, settings, answer) + _check_steps(service, answer)
    lines += _check_broker(service, settings, answer)
    lines += [
        Line("heartbeat", name, level, text, hints)
        for name, level, text, hints in heartbeats.list_findings(service, settings, answer, states)
    ]
    if upgrade_checks:
        lines += _run_upgrade_check(service, answer)
    return lines + _check_configuration(service, answer)


def _check_databases(
    service: Service, settings: ini.Settings, answer: databases.Answer
) -> list[Line]:
    if answer.error and answer.unreadable:
        return []  # the file is reported
    if answer.error:
        return [Line("database", service.name, "unknown", answer.error)]
    lines = []
    for schema in answer.schemas.values():
        if schema.state in ("current", "unknown", "ahead"):
            text, hints = f"{schema.where} {databases.STATES[schema.state]}", [schema.detail]
        else:
            text, hints = databases.advise(service, schema, settings)
        level = OF_STATE.get(schema.state, "warning" if schema.state == "unset" else "critical")
        lines.append(Line("database", schema.name, level, text, [h for h in hints if h]))
    return lines + _check_cells(service, answer)


def _check_broker(service: Service, settings: ini.Settings, answer: databases.Answer) -> list[Line]:
    if answer.broker is None or not service.units:
        return []
    if answer.broker.state == "current":
        return [Line("broker", "rabbit", "ok", f"{answer.broker.host} answers")]
    text, hints = databases.advise_on_broker(answer.broker, settings)
    return [Line("broker", "rabbit", "critical", text, [h for h in hints if h])]


def _check_cells(service: Service, answer: databases.Answer) -> list[Line]:
    """Report a cell whose addresses no longer match those of the files.

    Of several cells, that is one with one of its two addresses matching: the files of a node that
    serves them all may well match neither.
    """
    real = [c for c in answer.cells if not c["derived"]]
    lines = [_report_misfit(service, c) for c in real if c["template"]]
    if lines or any(c["database"] and c["transport"] for c in real):
        return lines
    near = [c for c in real if c["database"] or c["transport"] or len(real) == 1]
    if not near:
        return []
    cell = near[0]
    what = " and ".join(
        words
        for key, words in (
            ("database", "[database] connection"),
            ("transport", "[DEFAULT] transport_url"),
        )
        if not cell[key]
    )
    text = f"registered with an address other than {what} in the files"
    command, _ = _render_registration(service, cell)
    return [Line("database", f"cell {cell['name'] or cell['id']}", "warning", text, [command])]


def _report_misfit(service: Service, cell: dict[str, Any]) -> Line:
    """Report a cell whose address is a template that needs what the files do not have."""
    text = "its address is a template that does not fit the address in the files"
    command, options = _render_registration(service, cell)
    hint = (
        "it may name more brokers than [DEFAULT] transport_url has: correct that, or pass a new "
        f"template to {command} with {' and '.join(options)}"
    )
    return Line("database", f"cell {cell['name'] or cell['id']}", "warning", text, [hint])


def _render_registration(service: Service, cell: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the command that corrects a cell's addresses, and its options for new ones."""
    rule = next(s["cells"] for s in service.data["schemas"] if s["cells"])
    return rule["register"].replace("{id}", cell["id"]), rule["addresses"]


def _check_steps(service: Service, answer: databases.Answer) -> list[Line]:
    """Report setup steps that were not done, in databases that have their tables."""
    lines = []
    for index, step in enumerate(service.steps):
        schema = answer.schemas.get(step["schemas"][0])
        if answer.done.get(index) is False and schema and schema.state in ("current", "ahead"):
            hint = f"openstack-node setup {service.name}"
            lines.append(Line("setup", step["title"], "critical", "not done", [hint]))
    return lines


def _run_upgrade_check(service: Service, answer: databases.Answer) -> list[Line]:
    """Run the service's own check, if its databases are in order."""
    command = service.data["upgrade_check"]
    script = service.tree / "bin" / command[0] if command else service.tree
    usable = {s.state for s in answer.schemas.values()} <= {"current", "ahead", "behind"}
    if not command or not script.is_file() or not answer.schemas or not usable:
        return []
    name = " ".join(command)
    done = system.run(
        [str(script), *command[1:]], user=service.user, seconds=CHECK_SECONDS, merged=True
    )
    if done.code == 0:
        return [Line("upgrade-check", name, "ok", "nothing to do")]
    found = [
        f"{c.name}: {c.details}" for c in tools.parse_checks(done.out) if c.result != "Success"
    ]
    if done.code in (1, 2) and found:
        # They concern future upgrades: what works today may well have some.
        level, text = ("note", "warnings") if done.code == 1 else ("warning", "some checks fail")
        return [Line("upgrade-check", name, level, text, found)]
    code = f"exit status {done.code}" if done.code is not None else f"timed out ({CHECK_SECONDS} s)"
    return [Line("upgrade-check", name, "unknown", code, done.read_tail(2).splitlines())]


def _check_configuration(service: Service, answer: databases.Answer) -> list[Line]:
    found = [
        Line("configuration", p.place, p.level, p.text, [p.hint] if p.hint else [])
        for p in options.find_problems(service)
    ]
    group = f"chgrp {service.user}"
    found += [
        Line("configuration", path, "critical", f"the user {service.user} cannot read it",
             [f"{group} {path} && chmod g+r {path}"])
        for path in answer.unreadable
    ]  # fmt: skip
    found += [
        Line("configuration", path, "warning", f"the user {service.user} can write to it",
             [f"chown root:{service.user} {path} && chmod 0750 {path}"])
        for path in answer.writable
    ]  # fmt: skip
    return found
