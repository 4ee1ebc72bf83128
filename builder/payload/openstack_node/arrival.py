"""Wait until a (re)started unit is up, or find out what keeps it from coming up.

systemd calls a unit active when its first process reports so, or merely when there is one. An
API is up when it answers, any other daemon that reports nothing when it keeps running.
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
ENDS = 3  # after so many exits it will not recover
STAYS = 5  # seconds within which a daemon that cannot work has exited
QUIET_SECONDS = 10  # before reporting what is being waited for
ANSWER_SECONDS = 10
CAUSE_LINES = 400
LISTEN = "0A"  # a state of /proc/net/tcp
SILENT = {"simple", "exec", "idle"}  # types of units that do not report that they are up
# How daemons, Python and the gate of a unit report a failure.
FAILURE = re.compile(
    r".*\b(ERROR|CRITICAL)\s+\S+\s+\S|[A-Za-z_][\w.]*(Error|Exception|Failure|TooOld\w+): \S"
    r"|not started: |!!! |.*\b[Ff]ailed to |\S+: error: "
)


class Wait:
    """A wait for a unit; create it before restarting the unit."""

    def __init__(self, service: Service, unit: Unit, say: Callable[[str], None]) -> None:
        self.service, self.unit, self._say = service, unit, say
        self._began, self._start = time.time(), time.monotonic()
        self._logs = {path: path.stat().st_size for path in self._list_logs()}
        self._said = ""

    def wait_until_up(self, seconds: float) -> bool:
        """Return once the unit is up; NodeError, with the cause, if it is not up in time.

        Returns False if it is not supposed to run.
        """
        while True:
            state = system.read_unit_states([self.unit.name]).get(self.unit.name)
            if state and not state.pending and gate.is_left_out(self.service, self.unit, state):
                return False
            lack = self._find_lack(state)
            if not lack:
                return True
            if state and self._is_over(state):
                break
            if time.monotonic() > self._start + seconds:
                break
            self._tell(lack)
            time.sleep(0.3)
        raise system.NodeError(
            f"{self.unit.name} did not come up: {lack}",
            f"see journalctl -u {self.unit.name} and /var/log/{self.service.name}",
            "openstack-node status",
            details=self.find_cause(),
        )

    def _find_lack(self, state: UnitState | None) -> str:
        """Return in words why it is not up, or nothing if it is."""
        if state is None:
            return "systemd does not know it"
        times = f", after {_render_exits(state.restarts)}" if state.restarts else ""
        if state.waits and not state.pending:
            return "its start condition is not met"
        if state.active != "active" or state.pending:
            return f"{state.sub if state.sub == 'auto-restart' else state.active}{times}"
        doors = list_listening(state.main_pid) if self.unit.kind == "uwsgi" else []
        faults = [fault for fault in map(_find_fault, doors) if fault is not None]
        if faults:
            return f"it runs, but {max(faults)}{times}" if all(faults) else ""
        silent = state.kind in SILENT or self.unit.kind == "uwsgi"
        if silent and time.time() - state.started < STAYS:
            return f"it may exit again{times}"
        return ""

    def _is_over(self, state: UnitState) -> bool:
        """Whether waiting longer is pointless."""
        if state.restarts >= ENDS:
            return True
        return not state.pending and (state.waits or state.active == "failed")

    def _tell(self, lack: str) -> None:
        """Report what is being waited for, once that takes long, and whenever it changes."""
        if lack != self._said and time.monotonic() > self._start + QUIET_SECONDS:
            self._say(f"\n    waiting for {self.unit.name}: {lack} ... ")
            self._said = lack

    def find_cause(self) -> str:
        """Return the last line that reports a failure since the restart, or nothing.

        The journal has what a daemon prints before it opens its log.
        """
        since = f"--since=@{int(self._began)}"
        words = ["journalctl", "--no-pager", "--output=cat", f"--lines={CAUSE_LINES}", since]
        said = [system.run([*words, f"--unit={self.unit.name}"], seconds=30).out]
        for path in self._list_logs():
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(self._logs.get(path, 0))
                said.append(file.read()[-1 << 20 :].decode("utf-8", "replace"))
        lines = [line for text in said for line in text.splitlines() if FAILURE.match(line)]
        return system.mask_passwords(lines[-1].strip()) if lines else ""

    def _list_logs(self) -> list[Path]:
        name = self.unit.name.rpartition(".")[0]
        return sorted((LOGS / self.service.name).glob(f"{name}*.log"))


def _render_exits(number: int) -> str:
    return "it exited once" if number == 1 else f"it exited {number} times"


def list_listening(pid: int) -> list[tuple[str, int]]:
    """Return the TCP addresses and ports a process listens on, a wildcard as localhost."""
    inodes = set()
    with contextlib.suppress(OSError):  # it ended
        for link in Path(f"/proc/{pid}/fd").iterdir():
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            rows = Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
            fields = (row.split() for row in rows)
            found += [_parse_address(f[1]) for f in fields if f[3] == LISTEN and f[9] in inodes]
    return list(dict.fromkeys(found))


def _parse_address(text: str) -> tuple[str, int]:
    """Return the address in a column of /proc/net/tcp and tcp6: words of four bytes, reversed."""
    raw, port = text.split(":")
    words = [bytes.fromhex(raw[i : i + 8])[::-1] for i in range(0, len(raw), 8)]
    address = ipaddress.ip_address(b"".join(words))
    # An IPv6 wildcard socket accepts IPv4 as well, unless the system is set otherwise.
    host = "localhost" if address.is_unspecified else str(address)
    return host, int(port, 16)


def _find_fault(door: tuple[str, int]) -> str | None:
    """Return what is wrong with an API's answer, or nothing; None if it does not speak HTTP."""
    host, port = door
    # Its certificate has another name; what listens on this port of this host is known to be it.
    trust = ssl._create_unverified_context()  # noqa: S323
    said = _request_status(http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS))
    if isinstance(said, str):  # a TLS server hangs up on plain HTTP
        link = http.client.HTTPSConnection(host, port, timeout=ANSWER_SECONDS, context=trust)
        secure = _request_status(link)
        said = secure if isinstance(secure, int) else said
    if isinstance(said, int):
        return f"answers on port {port} with {said}" if said >= 500 else ""
    return said and f"does not answer on port {port} ({said})"


def _request_status(link: http.client.HTTPConnection) -> int | str | None:
    """Return the status of an answer, or why there is none; None for another protocol."""
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
