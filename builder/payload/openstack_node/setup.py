"""Bring the databases of a node's services up to what their code needs, then start them."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from openstack_node import databases, gate, ini, system, tools, units

if TYPE_CHECKING:
    from openstack_node.manifest import Service

UP_SECONDS = 30
END_SECONDS = 15


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for; `say` prints a text as it is.

    `options`: the values given for options of setup steps, by name.
    """

    say: Callable[[str], None]
    options: dict[str, str] = field(default_factory=dict)
    start: bool = True
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def tell(self, line: str) -> None:
        """Print a line."""
        self.say(f"{line}\n")


def setup(services: list[Service], wishes: Wishes, *, named: bool) -> None:
    """Set up services, in order; `named`: they were named on the command line.

    Raises NodeError at the first failure. A unit that does not come up is not one yet: many wait
    for what is set up after them, and systemd tries again.
    """
    down = []
    for service in services:
        wishes.tell(f"{service.name} ({service.title}, {service.series})")
        if _set_up_databases(service, wishes, named=named) and wishes.start:
            down += _start(service, wishes)
    if down:
        wishes.tell(f"not up yet: {', '.join(down)}; check with: openstack-node status")


def _set_up_databases(service: Service, wishes: Wishes, *, named: bool) -> bool:
    """Run the steps that are due; return whether the service can be started."""
    for path in dict.fromkeys(f for u in service.units for f in ini.list_files(u.configs)):
        for mistake in ini.read(path)[1]:
            place = f"{mistake.path}:{mistake.line}"
            raise system.NodeError(f"{service.name}: {place}: {mistake.text}", "correct it")
    if not service.wants_database:
        return True
    answer = databases.ask(service, service.list_files())
    if answer.unreadable:
        path = answer.unreadable[0]
        raise system.NodeError(
            f"{service.name}: its user {service.user} cannot read {path}",
            f"chgrp {service.user} {path} && chmod g+r {path}",
        )
    if answer.error:
        raise system.NodeError(f"{service.name}: {answer.error}", "see openstack-node status")
    settings = ini.Settings(service.configs)
    unset = [s for s in answer.schemas.values() if s.state == "unset"]
    if unset and not named:
        text, hints = databases.advise(service, unset[0], settings)
        wishes.tell(f"  not configured yet: {text}; {hints[0]}")
        return False
    for index, step in enumerate(service.steps):
        databases.check_usable(
            service, [answer.schemas[name] for name in step["schemas"]], settings
        )
        _run_step(service, step, answer, wishes, done=answer.done.get(index, False))
    return True


def _run_step(
    service: Service,
    step: dict[str, Any],
    answer: databases.Answer,
    wishes: Wishes,
    *,
    done: bool,
) -> None:
    """Run one step, unless it is done."""
    done = done or (step["done"] == "current" and _is_current(step, answer))
    secrets = {name: wishes.environment.get(name, "") for name in step["secret"]}
    if done and not any(secrets.values()):
        wishes.tell(f"  {step['title']} ... already done")
        return
    env = _make_environment(step, wishes, repeated=done)
    env.update(_collect_secrets(service, step, secrets))
    wishes.say(f"  {step['title']} ... ")
    _run_command(service, step, env, wishes)


def _is_current(step: dict[str, Any], answer: databases.Answer) -> bool:
    """Whether the databases of a step, including further cells, need nothing."""
    cells = [s for name, s in answer.schemas.items() if name.startswith("cell ")]
    schemas = [answer.schemas[name] for name in step["schemas"]]
    return all(s.state in ("current", "ahead") for s in (*schemas, *cells))


def _make_environment(step: dict[str, Any], wishes: Wishes, *, repeated: bool) -> dict[str, str]:
    """Return the variables of a step: requested values, else (the first time) the defaults.

    A repeated step changes only what was requested: addresses may have been chosen with care.
    """
    env = {name: wishes.environment.get(name, "") for name in step["passed"]}
    for name, template in step["environment"].items():
        used = [o for o in step["options"] if f"{{{o['name']}}}" in template]
        asked = any(wishes.options.get(o["name"]) for o in used)
        usual = "" if repeated and used and not asked else _fill(template, used, wishes)
        env[name] = usual if asked else wishes.environment.get(name) or usual
    return {name: value for name, value in env.items() if value}


def _fill(template: str, options: list[dict[str, str]], wishes: Wishes) -> str:
    """Return a text with the options filled in, as given or by default."""
    for option in options:
        usual = option["default"].replace("{host}", socket.gethostname())
        given = wishes.options.get(option["name"]) or usual
        template = template.replace(f"{{{option['name']}}}", given)
    return template


def _collect_secrets(
    service: Service, step: dict[str, Any], given: dict[str, str]
) -> dict[str, str]:
    """Return the secrets of a step, asking for those that were not given."""
    found = dict(given)
    for name, question in step["secret"].items():
        if not found[name]:
            found[name] = _ask(service, name, question)
    return found


def _ask(service: Service, name: str, question: str) -> str:
    if not sys.stdin.isatty():
        raise system.NodeError(
            f"{service.name}: {question.lower()}: not given, and this is not a terminal",
            f"set the environment variable {name}, or run this on a terminal",
        )
    while True:
        first = getpass.getpass(f"  {question}: ")
        if first and first == getpass.getpass("  Repeat it: "):
            return first
        sys.stdout.write("  Empty, or the two entries differ.\n")


def _run_command(
    service: Service, step: dict[str, Any], env: dict[str, str], wishes: Wishes
) -> None:
    done = tools.run(service, step["command"], env)
    if done.code == 0:
        wishes.tell(f"done ({done.seconds:.0f} s)")
        return
    wishes.tell("failed")
    error = tools.command_error(
        service, step["command"], done, f"run openstack-node setup {service.name}"
    )
    error.details = _mask_secrets(error.details, env)
    raise error


def _mask_secrets(text: str, env: dict[str, str]) -> str:
    """Return `text` without the secrets that were passed."""
    for name, value in env.items():
        if "PASSWORD" in name and value:
            text = text.replace(value, "***")
    return text


def _start(service: Service, wishes: Wishes) -> list[str]:
    """Start enabled units that are not running; restart those with an older configuration.

    Returns the units that are not up.
    """
    todo: dict[str, list[str]] = {"start": [], "restart": [], "": []}
    states = system.read_unit_states([u.name for u in service.units])
    for unit in service.units:
        state = states.get(unit.name)
        if state and state.enabled == "enabled" and unit.start != "manual":
            if state.active in {"inactive", "failed"}:
                todo["start"].append(unit.name)
            elif (
                state.sub == "auto-restart"  # a start would wait until RestartSec= is over
                or units.find_changed(unit, state)
                or units.is_replaced(service, state)
            ):
                todo["restart"].append(unit.name)
            elif state.active == "activating":
                todo[""].append(unit.name)
    for verb, names in todo.items():
        if verb and names:
            done = system.run_systemctl(verb, names)
            if done.code != 0:
                raise system.NodeError(f"{service.name}: {done.read_tail(1)}")
    return _wait_for_started(service, todo, wishes)


def _wait_for_started(service: Service, todo: dict[str, list[str]], wishes: Wishes) -> list[str]:
    """Wait for the units that were started, report on each, and return those not up."""
    names = [n for some in todo.values() for n in some]
    states = _wait_until_settled(names)
    down = []
    for unit in (u for u in service.units if u.name in names):
        state = states.get(unit.name)
        if state and state.active == "active" and not state.pending:
            said = "restarted" if unit.name in todo["restart"] else "started"
        else:
            _, text, hints = units.judge(service, unit, state)
            said = f"{text} ({hints[0]})" if hints and not (state and state.waits) else text
            if not (state and gate.is_left_out(service, unit, state)):
                down.append(unit.name)
        wishes.tell(f"  {unit.name} ... {said}")
    return down


def _wait_until_settled(names: list[str]) -> dict[str, system.UnitState]:
    """Return the states of units once they have settled, or when that takes too long.

    A service that restarts first finishes its work, which may take minutes.
    """
    start = time.monotonic()
    while True:
        states = system.read_unit_states(names)
        moving = [s for s in states.values() if s.pending or _is_starting(s)]
        ending = all(s.active == "deactivating" for s in moving)
        if time.monotonic() - start > (END_SECONDS if ending else UP_SECONDS) or not moving:
            return states
        time.sleep(0.3)


def _is_starting(state: system.UnitState) -> bool:
    return state.active == "activating" and state.sub != "auto-restart"
