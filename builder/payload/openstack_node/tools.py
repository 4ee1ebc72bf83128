"""The services' own command-line tools, run as the service's user with its tree's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openstack_node import system

if TYPE_CHECKING:
    from openstack_node.manifest import Service

SECONDS = 3600  # a large database may take long; nothing else does


def run(service: Service, command: list[str], env: dict[str, str] | None = None) -> system.Done:
    """Run a script of the service's tree, what it says on standard error included."""
    script, *arguments = command
    return system.run(
        [str(service.tree / "bin" / script), *arguments],
        user=service.user,
        seconds=SECONDS,
        # What goes wrong is logged, to a file by default; the person here wants to see it.
        env={"OS_DEFAULT__USE_STDERR": "true", **(env or {})},
        merged=True,
    )


def failure(
    service: Service, command: list[str], done: system.Done, again: str
) -> system.NodeError:
    """Return what to tell of a command that failed; `again` is what goes on from there."""
    ended = "had no end" if done.code is None else f"ended with status {done.code}"
    return system.NodeError(
        f"{service.name}: {' '.join(command)} {ended}",
        f"its log: /var/log/{service.name}/{command[0]}.log; when it is put right, {again}",
        details=done.tail(),
    )
