"""Start and restart the units of a service, when that is safe and not deferred.

On an upgrade a unit is restarted at once, unless the administrator defers that, or its
database is not ready for the new code yet. Then it keeps running from the old tree, whose files
remain until `apt autoremove`, and `openstack-node status` names it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from openstack_node import gate, manifest, system

DEFAULTS = Path("/etc/default/openstack-node")
VARIABLE = "OPENSTACK_NODE_RESTARTS"
POLICY = Path("/usr/sbin/policy-rc.d")
SYSTEMD = Path("/run/systemd/system")  # exists while it runs
FORBIDDEN = 101  # the exit status of policy-rc.d(8) for an action that is not allowed


def main(action: str, name: str, names: list[str]) -> int:
    """Start (`action` start) or restart units as their packages are configured; always return 0."""
    if SYSTEMD.is_dir():
        try:
            _carry_out(action, name, names)
        except system.NodeError as error:
            print(f"{error}; openstack-node restart {name}")
    return 0


def _carry_out(action: str, name: str, names: list[str]) -> None:
    system.read_output(["systemctl", "--system", "daemon-reload"], seconds=60)
    states = system.read_unit_states(names)
    due = [
        n
        for n in names
        if n in states and states[n].enabled == "enabled" and _is_allowed(n, action)
    ]
    if action == "start":
        _act("start", name, due)
        return
    running = [n for n in due if states[n].active == "active"]
    reason = _find_reason(name) if running else ""
    for unit in running if reason else ():
        print(f"{unit} keeps running the code it was started with: {reason}")
    # One that is not running uses the new code anyway: it may be waiting for a retry, or its
    # package was removed and installed again.
    others = [n for n in due if n not in running or not reason]
    _act("restart", name, others)


def _act(verb: str, name: str, names: list[str]) -> None:
    """Have systemd do it, and wait only for units that are up at once.

    uWSGI is. Other daemons report READY when they reach the database and the message broker,
    which a node may not have yet. A unit that cannot start does not fail the installation.
    """
    service = manifest.load_shipped(name)
    quick = {u.name for u in service.units if u.kind == "uwsgi"} if service else set()
    for wait in (False, True):
        units = [n for n in names if (n in quick) is wait]
        done = system.run_systemctl(verb, units, wait=wait) if units else None
        if done is not None and done.code != 0:
            print(done.read_tail(2))


def _is_allowed(unit: str, action: str) -> bool:
    """Ask the administrator's policy, as deb-systemd-invoke does."""
    if not os.access(POLICY, os.X_OK):
        return True
    return system.run([str(POLICY), unit, action], seconds=30).code != FORBIDDEN


def _find_reason(name: str) -> str:
    """Return why the units of a service must not be restarted now, or nothing."""
    if is_deferred():
        return f"restarts are deferred; openstack-node restart {name}"
    service = manifest.load_shipped(name)
    if service is None or not service.wants_database:
        return ""
    verdict = gate.judge_now(service)
    return f"{verdict.text}; {verdict.hint}" if verdict.code == gate.MAY_NOT else ""


def list_held() -> list[str]:
    """Return the units not to restart now, for needrestart, which knows nothing of databases."""
    names = []
    for service in manifest.load([]):
        # Querying the databases takes a second, and an earlier positive result still holds.
        whole = manifest.load_shipped(service.name)
        if is_deferred() or (whole and not gate.is_fit(whole) and _find_reason(service.name)):
            names += [u.name for u in service.units]
    return names


def is_deferred() -> bool:
    """Whether restarts wait for the administrator: by RESTARTS=defer in the defaults file."""
    wish = os.environ.get(VARIABLE, "")
    if not wish and DEFAULTS.is_file():
        found = re.findall(
            r"^\s*RESTARTS=[\"']?(\w+)", DEFAULTS.read_text(encoding="utf-8"), re.MULTILINE
        )
        wish = found[-1] if found else ""
    return wish == "defer"
