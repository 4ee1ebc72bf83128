"""Restart the units of a service that run replaced code, and wait until each is up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from openstack_node import arrival, databases, gate, ini, manifest, system
from openstack_node.units import is_replaced

if TYPE_CHECKING:
    from openstack_node.manifest import Service, Unit
    from openstack_node.system import UnitState

UP_SECONDS = 300  # a daemon finishes its work before it exits, then loads all its code


def say_nothing(_text: str) -> None:
    """Ignore what is to be said."""


def sort_units(service: Service) -> list[Unit]:
    """Return the units of a service in the order to restart them: the APIs last."""
    return sorted(service.units, key=lambda u: u.kind == "uwsgi" or u.name.endswith("-api.service"))


def list_pending(service: Service) -> list[Unit]:
    """Return the units that run replaced code, or were left waiting for the new one.

    Leaves out units that wait for an option not set yet, and those not selected.
    """
    units = [u for u in sort_units(service) if u.start == "now"]
    states = system.read_unit_states([u.name for u in units])
    return [
        u
        for u in units
        if (state := states.get(u.name))
        and state.enabled == "enabled"
        and (is_replaced(service, state) or _is_down(state))
        and not (state.waits and service.find_needed(u))
        and not gate.is_left_out(service, u, state)
    ]


def _is_down(state: UnitState) -> bool:
    """Whether a unit that should run does not; its own Condition may excuse it.

    systemd counts an ExecCondition, by which a unit waits for its database, among those. A unit
    that is deactivating may be in a restart that nobody waits for any more: its old processes
    still work, possibly for minutes.
    """
    return (
        state.waits
        or state.active in ("failed", "deactivating")
        or (state.active == "inactive" and state.condition)
    )


def restart_unit(service: Service, unit: Unit, say: Callable[[str], None] = say_nothing) -> bool:
    """Restart a unit and wait until it is up; NodeError if it is not up in time.

    Returns False if it remains down, as the administrator has chosen since it was started.
    """
    wait = arrival.Wait(service, unit, say)
    done = system.run_systemctl("restart", [unit.name])
    if done.code != 0:
        raise system.NodeError(f"{unit.name}: {done.read_tail(1)}")
    return wait.wait_until_up(UP_SECONDS)


def restart_pending(name: str, say: Callable[[str], None] = say_nothing) -> None:
    """Restart the units that run replaced code of a service, one after the other.

    `say` gets what is being waited for, if that takes long. Raises NodeError if one does not come
    up, or if the broker is down.
    """
    service = manifest.load([name])[0]
    restart_units(service, list_pending(service), say)


def restart_running(name: str, say: Callable[[str], None] = say_nothing) -> None:
    """Restart all units of a service that run, as `restart_pending` does."""
    service = manifest.load([name])[0]
    units = [u for u in sort_units(service) if u.start == "now"]
    states = system.read_unit_states([u.name for u in units])
    running = [u for u in units if u.name in states and states[u.name].active == "active"]
    restart_units(service, running, say)


def restart_units(
    service: Service, units: list[Unit], say: Callable[[str], None], *, named: bool = False
) -> None:
    """Restart units of a service, one after the other; with `named`, say the name of each.

    Raises NodeError if one does not come up, or if the broker is down.
    """
    _check_broker(service, units)
    for unit in units:
        if named:
            say(f"{unit.name} ... ")
        runs = restart_unit(service, unit, say)
        if named:
            say("restarted\n" if runs else "stopped: its defaults file does not select it\n")


def _check_broker(service: Service, units: list[Unit]) -> None:
    """Raise NodeError if the broker that daemons wait for at startup is down.

    The old daemons keep running without it until it is back.
    """
    if any(u.kind != "uwsgi" for u in units):
        broker = databases.demand(service, service.list_files()).broker
        if broker is not None and broker.state in ("unreachable", "denied"):
            text, hints = databases.advise_on_broker(broker, ini.Settings(service.configs))
            raise system.NodeError(f"{service.name}: {text}", *hints)
