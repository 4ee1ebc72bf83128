"""All access to the machine: dpkg, systemd, commands run as a service's user.

Each call has a time limit, so that a database or a disk that hangs cannot hang the check.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import struct
import subprocess
import time
from dataclasses import dataclass

UNIT_PROPERTIES = (
    "Id",
    "Type",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "ConditionResult",
    "ExecMainStatus",
    "Job",
    "MainPID",
    "NRestarts",
    "ActiveEnterTimestampMonotonic",
    "ActiveExitTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "InactiveExitTimestampMonotonic",
    "StateChangeTimestampMonotonic",
)
# The timestamp of entering a state.
ENTERED = {"active": "ActiveEnter", "deactivating": "ActiveExit"}
# Open files that commands inherit: a lock held as long as one of them runs.
SHARED: list[int] = []
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NodeError(Exception):
    """A problem for a person to fix: one line, where it is, and what to do."""

    def __init__(self, message: str, *hints: str, details: str = "") -> None:
        super().__init__(message)
        self.hints = [h for h in hints if h]
        self.details = details


@dataclass(frozen=True)
class Done:
    """How a command ended; `code` is None if it timed out."""

    code: int | None
    out: str
    seconds: float = 0.0

    def read_tail(self, lines: int = 8) -> str:
        """Return the last lines of its output, with passwords in addresses masked."""
        said = [line.rstrip() for line in self.out.splitlines() if line.strip()]
        return mask_passwords("\n".join(said[-lines:]))


@dataclass(frozen=True)
class UnitState:
    """A unit as systemd reports it. Times are seconds since the epoch, 0 for never.

    `restarts`: by systemd itself, since a person started it. `pending`: systemd still has a job
    for it. `reloaded`: by systemd, since it became active. `kind`: its Type=.
    """

    name: str
    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    enabled: str = ""
    result: str = ""
    condition: bool = True
    exit_status: int = 0
    restarts: int = 0
    pending: bool = False
    since: float = 0.0
    started: float = 0.0
    reloaded: float = 0.0
    kind: str = ""
    main_pid: int = 0

    @property
    def waits(self) -> bool:
        """Whether it was not started because its ExecCondition was not met."""
        return self.active == "inactive" and self.result == "exec-condition"


def mask_passwords(text: str) -> str:
    """Return `text` without the passwords of the addresses in it."""
    return re.sub(r"(://[^:/@\s'\"]*:)[^@\s'\"]*@", r"\1***@", text)


def run(
    argv: list[str],
    *,
    user: str = "",
    seconds: float,
    env: dict[str, str] | None = None,
    stdin: str = "",
    merged: bool = False,
    shared: bool = True,
) -> Done:
    """Run a command, as `user` if one is given; discard its standard error unless `merged`.

    The caller's environment is not passed on: it may contain passwords. Without `shared`, neither
    the command nor a daemon it starts holds the lock of this run.
    """
    home = "/"
    if user:
        if is_root():  # a unit of the service already is that user
            argv = ["runuser", "-u", user, "--", *argv]
        home = pwd.getpwnam(user).pw_dir
    start = time.monotonic()
    clean = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": home, **(env or {})}
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            env=clean,
            cwd="/",
            pass_fds=SHARED if shared else (),
            check=False,
        )
    except subprocess.TimeoutExpired as slow:
        said = slow.stdout or ""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        return Done(None, text, time.monotonic() - start)
    return Done(done.returncode, done.stdout, time.monotonic() - start)


def read_output(argv: list[str], *, seconds: float, accept: tuple[int, ...] = (0,)) -> str:
    """Return a command's output; NodeError if it fails: no answer is not an empty one."""
    done = run(argv, seconds=seconds)
    if done.code not in accept:
        how = (
            f"no answer within {seconds:.0f} s" if done.code is None else f"exit status {done.code}"
        )
        raise NodeError(f"{' '.join(argv[:2])} failed: {how}")
    return done.out


def is_root() -> bool:
    """Whether this runs as root, which alone can become the services' users."""
    return os.geteuid() == 0


def list_versions(packages: list[str]) -> dict[str, str]:
    """Return the version of each of `packages` that is installed."""
    if not packages:
        return {}
    fields = "${Package}\\t${Version}\\t${db:Status-Status}\\n"
    # 1 is for unknown packages
    said = read_output(["dpkg-query", "-W", "-f", fields, *packages], seconds=60, accept=(0, 1))
    rows = (line.split("\t") for line in said.splitlines())
    return {name: version for name, version, status in rows if status == "installed"}


def read_unit_states(names: list[str]) -> dict[str, UnitState]:
    """Return each unit's state in systemd, in one call; nothing if systemd is not running."""
    if not names or not os.path.isdir("/run/systemd/system"):  # noqa: PTH112
        return {}
    properties = ",".join(UNIT_PROPERTIES)
    said = read_output(["systemctl", "show", f"--property={properties}", *names], seconds=60)
    boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    blocks = (dict(re.findall(r"^(\w+)=(.*)$", b, re.MULTILINE)) for b in said.split("\n\n"))
    states = [_parse_state(block, boot) for block in blocks if "Id" in block]
    return {state.name: state for state in states}


def _parse_state(block: dict[str, str], boot: float) -> UnitState:
    def parse_time(name: str) -> float:
        micro = int(block.get(f"{name}TimestampMonotonic") or 0)
        return boot + micro / 1e6 if micro else 0.0

    active = block["ActiveState"]
    # Of an active unit it changes only on a reload.
    changed, entered = parse_time("StateChange"), parse_time("ActiveEnter")
    return UnitState(
        name=block["Id"],
        load=block["LoadState"],
        active=active,
        sub=block["SubState"],
        enabled=block["UnitFileState"],
        result=block["Result"],
        condition=block["ConditionResult"] == "yes",
        exit_status=int(block.get("ExecMainStatus") or 0),
        restarts=int(block.get("NRestarts") or 0),
        pending=block.get("Job", "0") not in {"", "0"},
        since=parse_time(ENTERED.get(active, "InactiveExit")),
        started=parse_time("ExecMainStart") or parse_time("InactiveExit"),
        reloaded=changed if active == "active" and changed > entered else 0.0,
        kind=block.get("Type", ""),
        main_pid=int(block.get("MainPID") or 0),
    )


def list_workers(pid: int) -> dict[int, float]:
    """Return the child processes of a process, and when each was started."""
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for child in _read_proc(pid, f"task/{pid}/children").split():
        # The third field begins after the name, which may contain anything (proc(5)).
        fields = _read_proc(int(child), "stat").rpartition(")")[2].split()
        if fields:
            found[int(child)] = boot + int(fields[19]) / ticks
    return found


def find_holder(path: str) -> int:
    """Return the process that holds a lock on a file (fcntl(2)); 0 for none, or no such file."""
    asked = struct.pack("@hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as the rest of this module
            kind, *_, pid = struct.unpack("@hhqqi0q", fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except OSError:
        return 0
    return 0 if kind == fcntl.F_UNLCK else int(pid) or -1  # in a container it has no number here


def read_command_line(pid: int) -> str:
    """Return the command line of a process, or nothing."""
    return _read_proc(pid, "cmdline")


def _read_proc(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:  # it ended
        return ""


def run_systemctl(verb: str, units: list[str], *, wait: bool = False) -> Done:
    """Have systemd apply a verb to units, and wait for it only if `wait` is set."""
    block = [] if wait else ["--no-block"]
    return run(["systemctl", *block, verb, *units], seconds=300 if wait else 30, merged=True)
