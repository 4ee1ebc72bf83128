"""Whether the daemons of all nodes are heard of, by their rows in a service's databases.

A node with such a database sees those of the whole cloud; it needs no more for it than the
address in its files. A row of a host that is long gone may keep the next release from starting.
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

GONE = 86400  # seconds after which a daemon may be one nobody will start again
Told = tuple[str, str, str, list[str]]  # name, level, text, hints


def told(
    service: Service, settings: ini.Settings, answer: Answer, states: dict[str, UnitState]
) -> list[Told]:
    """Return what is to be said of the daemons: each that is down, and how many are not.

    By `states` of this node's units one may be known to have had no time yet to be heard of.
    """
    down = [r for r in answer.records if _is_down(service, settings, r)]
    off = [r for r in answer.records if r.off]
    lines = [_down(service, settings, r, states) for r in down if not r.off]
    alive = len(answer.records) - len({*down, *off})
    if alive or off:
        texts = [f"{alive} alive" if alive else "", f"{len(off)} disabled" if off else ""]
        names = [f"{r.daemon} on {r.host}: disabled, which is no alarm" for r in off]
        level = "note" if off else "ok"
        lines.append((service.name, level, ", ".join(filter(None, texts)), names))
    return lines


def _is_down(service: Service, settings: ini.Settings, record: Record) -> bool:
    return record.age is None or record.age > _patience(service, settings, record)


def _patience(service: Service, settings: ini.Settings, record: Record) -> int:
    """Return after how many seconds the service takes a daemon for dead."""
    rule = service.data["records"][record.rule]
    section, _, option = rule["down_after"].partition("/")
    value = settings.value(section, option)
    return int(value) if value.isdecimal() else int(rule["seconds"])


def _down(
    service: Service, settings: ini.Settings, record: Record, states: dict[str, UnitState]
) -> Told:
    """Return what is told of one that is down; here a person can do something about it."""
    here = settings.value("DEFAULT", "host") or socket.gethostname()
    host, _, backend = record.host.partition("@")
    text = silence(record)
    if host == here:
        state = states.get(f"{record.daemon}.service")
        since = time.time() - state.started if state and state.active == "active" else None
        if since is not None and since < _patience(service, settings, record):
            text = f"not heard of yet, {units.span(int(since))} after its start"
            return f"{record.daemon} on {record.host}", "note", text, []
        log = f"see journalctl -u {record.daemon} and /var/log/{service.name}"
        hint = f"its back end {backend} is not usable: {log}" if backend else log
        return f"{record.daemon} on {record.host}", "critical", text, [hint]
    hints = [f"start {record.daemon} on {host}"]
    if record.age is None or record.age > GONE:
        hints.append(f"or, if that host is gone for good: {remedy(service, record)}")
    return f"{record.daemon} on {record.host}", "warning", text, hints


def silence(record: Record) -> str:
    """Return for how long nobody has heard of a daemon, in words."""
    if record.age is None:
        return "was never heard of"
    return f"not heard of for {units.span(record.age)}"


def remedy(service: Service, record: Record) -> str:
    """Return the command that takes a row away."""
    template: str = service.data["records"][record.rule]["remove"]
    return template.format(id=record.id, host=record.host, daemon=record.daemon)


def in_the_way(service: Service, answer: Answer) -> list[Record]:
    """Return the rows beside which no daemon of a service's release would start."""
    settings = ini.Settings(service.configs)
    rules: list[dict[str, Any]] = service.data.get("records", [])
    waived = set()
    for index, rule in enumerate(rules):
        section, _, option = rule["unless"].partition("/")
        if option and settings.value(section, option).lower() in ini.TRUE:
            waived.add(index)
    return [r for r in answer.records if r.old and r.rule not in waived]


def obstacle(service: Service, record: Record) -> tuple[str, str]:
    """Return in a line why a row is in the way, and what to do about it."""
    text = (
        f"row {record.id} of {record.daemon} on {record.host} is of a release beside which "
        f"{service.series} does not start; {silence(record)}"
    )
    if record.age is not None and record.age <= GONE:
        return (
            text,
            f"upgrade {record.host} to a later release first, or: {remedy(service, record)}",
        )
    return text, remedy(service, record)


def refuse(service: Service, records: list[Record]) -> None:
    """Raise NodeError for rows that would keep a release from starting."""
    if not records:
        return
    rows = [obstacle(service, r) for r in records]
    details = "\n".join(f"{text}\n  {hint}" for text, hint in rows)
    count = f"{len(rows)} rows of daemons are" if len(rows) > 1 else "a row of a daemon is"
    raise system.NodeError(
        f"{service.name}: {count} too old for {service.series}", rows[0][1], details=details
    )
