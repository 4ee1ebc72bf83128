"""Waiting for a unit that was (re)started: until it is up, or what keeps it from it.

systemd calls a unit active when its first process says so, or merely when there is one. An API
is up when it answers, another daemon that says nothing by itself when it stays.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from openstack_node import gate, system

if TYPE_CHECKING:
    from openstack_node.manifest import Service, Unit
    from openstack_node.system import UnitState

LOGS = Path("/var/log")
ENDS = 3  # so often by itself, and it will go on so
STAYS = 5  # seconds in which a daemon that cannot work has ended
QUIET_SECONDS = 10  # until a person is told what is waited for
ANSWER_SECONDS = 10
CAUSE_LINES = 400
LISTEN = "0A"  # a state of /proc/net/tcp
SILENT = {"simple", "exec", "idle"}  # types of units that do not say that they are up
# What daemons, Python and the gate of a unit say of a failure; a log may have lines without one.
FAILURE = re.compile(
    r".*\b(ERROR|CRITICAL)\s+\S+\s+\S|[A-Za-z_][\w.]*(Error|Exception|Failure|TooOld\w+): \S"
    r"|not started: |!!! |.*\b[Ff]ailed to |\S+: error: "
)


class Wait:
    """What is known of a unit while it is waited for; made before it is restarted."""

    def __init__(self, service: Service, unit: Unit, say: Callable[[str], None]) -> None:
        self.service, self.unit, self._say = service, unit, say
        self._began, self._start = time.time(), time.monotonic()
        self._logs = {path: path.stat().st_size for path in self._log_files()}
        self._said = ""

    def up(self, seconds: float) -> bool:
        """Return when the unit is up; NodeError, with the cause, when it is not in time.

        False: it is not to run.
        """
        while True:
            state = system.unit_states([self.unit.name]).get(self.unit.name)
            if state and not state.pending and gate.left_out(self.service, self.unit, state):
                return False
            lack = self._lack(state)
            if not lack:
                return True
            if state and self._is_over(state):
                break
            if time.monotonic() > self._start + seconds:
                break
            self._tell(lack)
            time.sleep(0.3)
        raise system.NodeError(
            f"{self.unit.name} does not come up: {lack}",
            f"see journalctl -u {self.unit.name} and /var/log/{self.service.name}",
            "openstack-node status",
            details=self.cause(),
        )

    def _lack(self, state: UnitState | None) -> str:
        """Return what it lacks to be up, in words."""
        if state is None:
            return "systemd does not know it"
        times = f", after {_times(state.restarts)}" if state.restarts else ""
        if state.waits and not state.pending:
            return "its start condition does not hold"
        if state.active != "active" or state.pending:
            return f"{state.sub if state.sub == 'auto-restart' else state.active}{times}"
        doors = listening(state.main_pid) if self.unit.kind == "uwsgi" else []
        faults = [fault for fault in map(_fault, doors) if fault is not None]
        if faults:
            return f"it runs, but {max(faults)}{times}" if all(faults) else ""
        silent = state.kind in SILENT or self.unit.kind == "uwsgi"
        if silent and time.time() - state.started < STAYS:
            return f"it may end again{times}"
        return ""

    def _is_over(self, state: UnitState) -> bool:
        """Whether waiting longer is of no use."""
        if state.restarts >= ENDS:
            return True
        return not state.pending and (state.waits or state.active == "failed")

    def _tell(self, lack: str) -> None:
        """Say what is waited for, once it takes its time, and whenever that changes."""
        if lack != self._said and time.monotonic() > self._start + QUIET_SECONDS:
            self._say(f"\n    waits for {self.unit.name}: {lack} ... ")
            self._said = lack

    def cause(self) -> str:
        """Return the last line that speaks of a failure since the restart, or nothing.

        In the journal is what a daemon says before it has a log.
        """
        since = f"--since=@{int(self._began)}"
        words = ["journalctl", "--no-pager", "--output=cat", f"--lines={CAUSE_LINES}", since]
        said = [system.run([*words, f"--unit={self.unit.name}"], seconds=30).out]
        for path in self._log_files():
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(self._logs.get(path, 0))
                said.append(file.read()[-1 << 20 :].decode("utf-8", "replace"))
        lines = [line for text in said for line in text.splitlines() if FAILURE.match(line)]
        return system.masked(lines[-1].strip()) if lines else ""

    def _log_files(self) -> list[Path]:
        name = self.unit.name.rpartition(".")[0]
        return sorted((LOGS / self.service.name).glob(f"{name}*.log"))


def _times(number: int) -> str:
    return "it ended once" if number == 1 else f"it ended {number} times"


def listening(pid: int) -> list[tuple[str, int]]:
    """Return the addresses and ports (TCP) a process listens at, one that means all as loopback."""
    inodes = set()
    with contextlib.suppress(OSError):  # it ended
        for link in Path(f"/proc/{pid}/fd").iterdir():
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            rows = Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
            fields = (row.split() for row in rows)
            found += [_place(f[1]) for f in fields if f[3] == LISTEN and f[9] in inodes]
    return list(dict.fromkeys(found))


def _place(text: str) -> tuple[str, int]:
    """Return what a column of /proc/net/tcp and tcp6 stands for: words of four bytes, reversed."""
    raw, port = text.split(":")
    words = [bytes.fromhex(raw[i : i + 8])[::-1] for i in range(0, len(raw), 8)]
    address = ipaddress.ip_address(b"".join(words))
    # A socket of IPv6 that takes all takes IPv4 as well, unless the system says otherwise.
    host = "localhost" if address.is_unspecified else str(address)
    return host, int(port, 16)


def _fault(door: tuple[str, int]) -> str | None:
    """Return what is wrong with an API's answer, nothing if it is well; None for no HTTP there."""
    host, port = door
    # Its certificate has another name; whoever has this port on this host is it.
    trust = ssl._create_unverified_context()  # noqa: S323
    said = _answer(http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS))
    if isinstance(said, str):  # where TLS is spoken, plain words are hung up on
        link = http.client.HTTPSConnection(host, port, timeout=ANSWER_SECONDS, context=trust)
        secure = _answer(link)
        said = secure if isinstance(secure, int) else said
    if isinstance(said, int):
        return f"answers at port {port} with {said}" if said >= 500 else ""
    return said and f"does not answer at port {port} ({said})"


def _answer(link: http.client.HTTPConnection) -> int | str | None:
    """Return the status of an answer, or why there is none; None for another protocol's words."""
    try:
        link.request("GET", "/")
        return link.getresponse().status
    except http.client.RemoteDisconnected as error:
        return type(error).__name__
    except http.client.HTTPException:
        return None
    except OSError as error:
        return type(error).__name__
    finally:
        link.close()
