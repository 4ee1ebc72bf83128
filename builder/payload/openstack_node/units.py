"""The units of a service: the state of each, in words, and what starting it takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from openstack_node import gate, ini, system

if TYPE_CHECKING:
    from openstack_node.gate import Verdict as Fitness
    from openstack_node.manifest import Service, Unit
    from openstack_node.system import UnitState

LISTS = Path("/var/lib/dpkg/info")
STARTING_SECONDS = 60  # a daemon not up by then is more than slow
Verdict = tuple[str, str, list[str]]  # level, text, hints


def judge(
    service: Service, unit: Unit, state: UnitState | None, fitness: Fitness | None = None
) -> Verdict:
    """Return a unit's state; `fitness` of the databases is why it may not have started."""
    if state is None:
        return "unknown", "systemd is not running here", []
    if state.load == "not-found":
        return "critical", "missing", [f"apt-get install --reinstall {unit.package}"]
    if state.load == "masked" or state.enabled in {"disabled", "masked"}:
        return _judge_switched_off(unit, state)
    if state.active == "active":
        return _judge_active(service, unit, state, fitness)
    if state.active in {"activating", "reloading", "deactivating"}:
        return _judge_moving(service, unit, state)
    return _judge_down(service, unit, state, fitness)


def _render_hint(service: Service, unit: Unit) -> str:
    return f"see journalctl -u {unit.name} and /var/log/{service.name}"


def _judge_moving(service: Service, unit: Unit, state: UnitState) -> Verdict:
    log = _render_hint(service, unit)
    if state.sub == "auto-restart":
        return "critical", f"exited with status {state.exit_status}, will be restarted", [log]
    seconds = int(time.time() - state.since)
    if state.active == "deactivating":
        again = ", then restarts" if state.pending else ""
        return "note", f"finishing its work for {render_span(seconds)}{again}", []
    text = f"{state.active} for {render_span(seconds)}"
    if state.restarts:
        return "critical", f"{text}, after {state.restarts} failed starts", [log]
    if seconds <= STARTING_SECONDS:
        return "note", text, []
    return "warning", text, [f"it is waiting for its database or broker; {log}"]


def _judge_down(service: Service, unit: Unit, state: UnitState, fitness: Fitness | None) -> Verdict:
    setup = f"openstack-node setup {service.name}"
    if gate.is_left_out(service, unit, state):
        return "note", "not started: its defaults file does not select it", []
    if state.waits:
        option = service.find_needed(unit)
        if fitness and fitness.text and not option:
            return "critical", f"not started: {fitness.text}", [fitness.hint]
        if not option:
            return "warning", "not started since it was configured", [setup]
        return "warning", f"waits for {option}", [f"set it, then {setup}"]
    if state.active == "inactive" and (unit.start != "now" or not state.condition):
        return "note", "not started, which is fine", []
    text = "failed" if state.active == "failed" else "stopped"
    return "critical", text, [setup, _render_hint(service, unit)]


def _judge_switched_off(unit: Unit, state: UnitState) -> Verdict:
    running = state.active == "active"
    text = f"{state.enabled or 'masked'}, {'but running' if running else 'not running'}"
    level = "warning" if running else "note"
    return level, text, [f"systemctl enable {unit.name}"] if running else []


def _judge_active(
    service: Service, unit: Unit, state: UnitState, fitness: Fitness | None
) -> Verdict:
    text = f"active for {render_span(int(time.time() - state.since))}"
    if is_replaced(service, state):
        why = f": {fitness.text}" if fitness and fitness.text else ""
        hint = fitness.hint if fitness and fitness.text else ""
        hint = hint or f"openstack-node restart {service.name}"
        return "warning", f"{text}, needs a restart to run newer code{why}", [hint]
    later = find_changed(unit, state)
    if not later:
        return "ok", text, []
    if not find_changed(unit, state, since=_find_reload(unit, state)):
        hint = f"to apply what a running daemon cannot change: systemctl restart {unit.name}"
        return "note", f"{text}, reloaded after {later} was changed", [hint]
    hint = f"openstack-node setup {service.name} restarts it"
    return "warning", f"{text}, but {later} was changed since", [hint]


def is_replaced(service: Service, state: UnitState) -> bool:
    """Whether a service's code, or its dependencies, were unpacked after a unit started.

    On a rollback the older series' tree was there all along, but not its common package.
    """
    code = str(service.data["packages"][0])
    closure = f"openstack-{service.series}-closure-{service.name}"
    packages = (code, closure, service.data["package"])
    lists = (LISTS / f"{package}.list" for package in packages)
    times = [p.stat().st_mtime for p in lists if p.exists()]
    return state.active == "active" and 0 < state.started < max(times, default=0)


def find_changed(unit: Unit, state: UnitState, since: float = 0.0) -> str:
    """Return a file written after the unit read its files, or after `since`; or nothing.

    On a reload, or a SIGHUP, uWSGI keeps its first process and replaces the others, each of which
    loads the application and reads the files again.
    """
    born = system.list_workers(state.main_pid) if unit.kind == "uwsgi" else {}
    since = since or max(state.started, min(born.values(), default=0.0))
    for path in (*ini.list_files(unit.configs), *unit.others):
        file = Path(path)
        if file.exists() and file.stat().st_mtime > since > 0:
            return path
    return ""


def _find_reload(unit: Unit, state: UnitState) -> float:
    """Return when a daemon was told to reread its files, 0 for never.

    systemd records its own reloads; a SIGHUP replaces all workers, so their age shows it.
    oslo.config applies what can change while a daemon runs ("mutable" options).
    """
    same = system.read_command_line(state.main_pid)
    born = system.list_workers(state.main_pid).items() if unit.kind == "daemon" else ()
    times = [start for pid, start in born if same and system.read_command_line(pid) == same]
    return max(state.reloaded, min(times, default=0.0))


def render_span(seconds: int) -> str:
    """Return a duration in words: `42 s`, `17 min`, `5 h`, `3 days`."""
    for size, name in ((172800, "days"), (7200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds // {'days': 86400, 'h': 3600, 'min': 60}[name]} {name}"
    return f"{max(seconds, 0)} s"
