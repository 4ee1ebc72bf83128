"""Whether the daemons of all nodes report, by their rows in a service's databases.

A node with such a database sees those of the whole cloud; all it needs is the address in its
files. A row of a host long gone may keep the next release from starting.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from openstack_node import ini, system, units

if TYPE_CHECKING:
    from openstack_node.databases import Answer, Record
    from openstack_node.manifest import Service
    from openstack_node.system import UnitState

GONE = 86400  # seconds after which a daemon may be gone for good
# Times its patience, for a daemon's first report: a scheduler may wait for others before it begins
# to report (scheduler_driver_init_wait_time, 60 s).
FIRST = 2
Told = tuple[str, str, str, list[str]]  # name, level, text, hints


def list_findings(
    service: Service, settings: ini.Settings, answer: Answer, states: dict[str, UnitState]
) -> list[Told]:
    """Return the findings on the daemons: each that is down, and how many are not.

    `states` of this node's units show which have had no time to report yet.
    """
    down = [r for r in answer.records if _is_down(service, settings, r)]
    off = [r for r in answer.records if r.off]
    lines = [_describe_down(service, settings, r, states) for r in down if not r.off]
    alive = len(answer.records) - len({*down, *off})
    if alive or off:
        texts = [f"{alive} alive" if alive else "", f"{len(off)} disabled" if off else ""]
        names = [f"{r.daemon} on {r.host}: disabled, not an alarm" for r in off]
        level = "note" if off else "ok"
        lines.append((service.name, level, ", ".join(filter(None, texts)), names))
    return lines


def _is_down(service: Service, settings: ini.Settings, record: Record) -> bool:
    return record.age is None or record.age > _find_patience(service, settings, record)


def _find_patience(service: Service, settings: ini.Settings, record: Record) -> int:
    """Return after how many seconds the service considers a daemon dead."""
    rule = service.data["records"][record.rule]
    section, _, option = rule["down_after"].partition("/")
    value = settings.find_value(section, option)
    seconds = int(value) if value.isdecimal() else int(rule["seconds"])
    return seconds * int(rule.get("intervals", 1))  # packages of before have none


def _describe_down(
    service: Service, settings: ini.Settings, record: Record, states: dict[str, UnitState]
) -> Told:
    """Return the finding on a daemon that is down; on this node it is critical."""
    name = f"{record.daemon} on {record.host}"
    host, _, backend = record.host.partition("@")
    if host == (settings.find_value("DEFAULT", "host") or socket.gethostname()):
        patience = FIRST * _find_patience(service, settings, record)
        early = _find_excuse(states.get(f"{record.daemon}.service"), patience)
        if early:
            return name, "note", early, []
        log = f"see journalctl -u {record.daemon} and /var/log/{service.name}"
        hint = f"its back end {backend} is not usable: {log}" if backend else log
        return name, "critical", describe_silence(record), [hint]
    hints = [f"start {record.daemon} on {host}"]
    if record.age is None or record.age > GONE:
        hints.append(f"or, if that host is gone for good: {render_remedy(service, record)}")
    return name, "warning", describe_silence(record), hints


def _find_excuse(state: UnitState | None, patience: int) -> str:
    """Return why a daemon of this node can have made no report yet, or nothing."""
    if state and state.pending:
        return "no report yet, waits to be started"
    if state and state.started and state.active in {"active", "activating"}:
        since = time.time() - state.started
        if since < patience:
            return f"no report yet, {units.render_span(int(since))} after its start"
    return ""


def describe_silence(record: Record) -> str:
    """Return for how long a daemon has not reported, in words."""
    if record.age is None:
        return "has never reported"
    return f"no report for {units.render_span(record.age)}"


def render_remedy(service: Service, record: Record) -> str:
    """Return the command that removes a row."""
    template: str = service.data["records"][record.rule]["remove"]
    return template.format(id=record.id, host=record.host, daemon=record.daemon)


def list_obstacles(service: Service, answer: Answer) -> list[Record]:
    """Return the rows that keep daemons of a service's release from starting."""
    settings = ini.Settings(service.configs)
    rules: list[dict[str, Any]] = service.data.get("records", [])
    waived = set()
    for index, rule in enumerate(rules):
        section, _, option = rule["unless"].partition("/")
        if option and settings.find_value(section, option).lower() in ini.TRUE:
            waived.add(index)
    return [r for r in answer.records if r.old and r.rule not in waived]


def describe_obstacle(service: Service, record: Record) -> tuple[str, str]:
    """Return a line on why a row is in the way, and what to do about it."""
    text = (
        f"row {record.id} of {record.daemon} on {record.host} is too old: "
        f"{service.series} does not start while it exists; {describe_silence(record)}"
    )
    if record.age is not None and record.age <= GONE:
        return (
            text,
            f"upgrade {record.host} to a later release first, or: {render_remedy(service, record)}",
        )
    return text, render_remedy(service, record)


def refuse(service: Service, records: list[Record]) -> None:
    """Raise NodeError for rows that would keep a release from starting."""
    if not records:
        return
    rows = [describe_obstacle(service, r) for r in records]
    details = "\n".join(f"{text}\n  {hint}" for text, hint in rows)
    count = f"{len(rows)} rows of daemons are" if len(rows) > 1 else "a row of a daemon is"
    raise system.NodeError(
        f"{service.name}: {count} too old for {service.series}", rows[0][1], details=details
    )
