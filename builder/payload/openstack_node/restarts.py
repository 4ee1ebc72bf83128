"""Starting and restarting the units of a service, when that is safe and when it is wanted.

On an upgrade a unit is restarted at once, unless the administrator defers that, or its
database is not fit for the new code yet. Then it goes on from the old tree, whose files
stay until `apt autoremove`, and is named by `openstack-node status`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from openstack_node import arrival, gate, manifest, system

if TYPE_CHECKING:
    from openstack_node.manifest import Service, Unit
    from openstack_node.system import UnitState

DEFAULTS = Path("/etc/default/openstack-node")
VARIABLE = "OPENSTACK_NODE_RESTARTS"
LISTS = Path("/var/lib/dpkg/info")
POLICY = Path("/usr/sbin/policy-rc.d")
SYSTEMD = Path("/run/systemd/system")  # is there when it runs
FORBIDDEN = 101  # what policy-rc.d(8) ends with where an action is not allowed
UP_SECONDS = 300  # a daemon finishes its work before it ends, and loads all its code after


def main(action: str, name: str, names: list[str]) -> int:
    """Start (`action` start) or restart units as their packages are configured; 0 always."""
    if SYSTEMD.is_dir():
        try:
            _configured(action, name, names)
        except system.NodeError as error:
            print(f"{error}; openstack-node restart {name}")
    return 0


def _configured(action: str, name: str, names: list[str]) -> None:
    system.output(["systemctl", "--system", "daemon-reload"], seconds=60)
    states = system.unit_states(names)
    due = [
        n for n in names if n in states and states[n].enabled == "enabled" and _allowed(n, action)
    ]
    if action == "start":
        _act("start", name, due)
        return
    running = [n for n in due if states[n].active == "active"]
    reason = _reason(name) if running else ""
    for unit in running if reason else ():
        print(f"{unit} goes on with the code it was started with: {reason}")
    # One that does not run would use the new code anyway: it may be waiting for a new try, or
    # its package was removed and is installed again.
    others = [n for n in due if n not in running or not reason]
    _act("restart", name, others)


def _act(verb: str, name: str, names: list[str]) -> None:
    """Have systemd do it, and wait for what is up at once.

    uWSGI is. Other daemons say READY when they reach the database and the message broker,
    which a node may not have yet. A unit that cannot start is no failed installation.
    """
    service = manifest.shipped(name)
    quick = {u.name for u in service.units if u.kind == "uwsgi"} if service else set()
    for wait in (False, True):
        units = [n for n in names if (n in quick) is wait]
        done = system.systemctl(verb, units, wait=wait) if units else None
        if done is not None and done.code != 0:
            print(done.tail(2))


def _allowed(unit: str, action: str) -> bool:
    """Ask the administrator's policy, as deb-systemd-invoke does."""
    if not os.access(POLICY, os.X_OK):
        return True
    return system.run([str(POLICY), unit, action], seconds=30).code != FORBIDDEN


def _reason(name: str) -> str:
    """Return why the units of a service are not to be restarted now, or nothing."""
    if deferred():
        return f"restarts are deferred; openstack-node restart {name}"
    service = manifest.shipped(name)
    if service is None or not service.wants_database:
        return ""
    verdict = gate.verdict(service)
    return f"{verdict.text}; {verdict.hint}" if verdict.code == gate.MAY_NOT else ""


def held() -> list[str]:
    """Return the units nobody should restart now: needrestart asks, which knows no databases."""
    names = []
    for service in manifest.load([]):
        # To ask the databases takes a second, and what a unit was told before still holds.
        whole = manifest.shipped(service.name)
        if deferred() or (whole and not gate.is_fit(whole) and _reason(service.name)):
            names += [u.name for u in service.units]
    return names


def deferred() -> bool:
    """Whether restarts wait for the administrator: by RESTARTS=defer of the defaults file."""
    wish = os.environ.get(VARIABLE, "")
    if not wish and DEFAULTS.is_file():
        found = re.findall(
            r"^\s*RESTARTS=[\"']?(\w+)", DEFAULTS.read_text(encoding="utf-8"), re.MULTILINE
        )
        wish = found[-1] if found else ""
    return wish == "defer"


def replaced(service: Service, state: UnitState) -> bool:
    """Whether a service's code, or what it is built on, was unpacked after a unit started.

    The tree of a series a service goes back to was there all the time, its common package not.
    """
    code = str(service.data["packages"][0])
    closure = f"openstack-{service.series}-closure-{service.name}"
    packages = (code, closure, service.data["package"])
    lists = (LISTS / f"{package}.list" for package in packages)
    times = [p.stat().st_mtime for p in lists if p.exists()]
    return state.active == "active" and 0 < state.started < max(times, default=0)


def in_order(service: Service) -> list[Unit]:
    """Return the units of a service in the order of their restart: the APIs last."""
    return sorted(service.units, key=lambda u: u.kind == "uwsgi" or u.name.endswith("-api.service"))


def pending(service: Service) -> list[Unit]:
    """Return the units that run with code which was replaced, or were left waiting for it.

    One that waits for an option nobody set yet is none of them, nor one nobody chose.
    """
    units = [u for u in in_order(service) if u.start == "now"]
    states = system.unit_states([u.name for u in units])
    return [
        u
        for u in units
        if (state := states.get(u.name))
        and state.enabled == "enabled"
        and (replaced(service, state) or _down(state))
        and not (state.waits and service.needed(u))
        and not gate.left_out(service, u, state)
    ]


def _down(state: UnitState) -> bool:
    """Whether a unit does not run that should; by a Condition of its own it need not.

    systemd counts an ExecCondition among those, by which a unit waits for its database. One
    that is on its way down may have been told so by a restart nobody waits for any more: its
    old processes still work, and may do so for minutes.
    """
    return (
        state.waits
        or state.active in ("failed", "deactivating")
        or (state.active == "inactive" and state.condition)
    )


def restart(
    service: Service,
    unit: Unit,
    say: Callable[[str], None] = lambda _text: None,
    *,
    seconds: float = UP_SECONDS,
) -> bool:
    """Restart a unit and wait until it is up; NodeError when it is not in time.

    False: it stays down, as the administrator chose since it was started.
    """
    wait = arrival.Wait(service, unit, say)
    done = system.systemctl("restart", [unit.name])
    if done.code != 0:
        raise system.NodeError(f"{unit.name}: {done.tail(1)}")
    return wait.up(seconds)
