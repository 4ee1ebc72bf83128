"""Run the services' own command-line tools, as the service's user with its tree's code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openstack_node import system

if TYPE_CHECKING:
    from openstack_node.manifest import Service

SECONDS = 3600  # a large database may take long; nothing else does


def run(service: Service, command: list[str], env: dict[str, str] | None = None) -> system.Done:
    """Run a script of the service's tree; the output includes standard error."""
    script, *arguments = command
    return system.run(
        [str(service.tree / "bin" / script), *arguments],
        user=service.user,
        seconds=SECONDS,
        # Errors are logged, by default to a file; show them here as well.
        env={"OS_DEFAULT__USE_STDERR": "true", **(env or {})},
        merged=True,
    )


def command_error(
    service: Service, command: list[str], done: system.Done, again: str
) -> system.NodeError:
    """Return the error for a command that failed; `again` is what to do once it is fixed."""
    ended = "timed out" if done.code is None else f"exited with status {done.code}"
    return system.NodeError(
        f"{service.name}: {' '.join(command)} {ended}",
        f"see /var/log/{service.name}/{command[0]}.log; after fixing the problem, {again}",
        details=done.read_tail(),
    )


@dataclass(frozen=True)
class Check:
    """A row of an upgrade check's table; `result` is Success, Warning or Failure."""

    name: str
    result: str
    details: str


def parse_checks(out: str) -> list[Check]:
    """Return the checks of the table that `<service>-status upgrade check` prints."""
    found = []
    for row in re.split(r"^\+-+\+$", out, flags=re.MULTILINE):
        text = " ".join(line.strip("| ") for line in row.splitlines() if line.startswith("|"))
        match = re.match(r"Check: (.*?)\s+Result: (\w+)\s+Details: (.*)", text)
        if match:
            found.append(Check(match[1], match[2], match[3]))
    return found
