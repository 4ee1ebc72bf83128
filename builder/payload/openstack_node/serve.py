"""How an API is served: where uWSGI listens and how many processes it has, by the machine.

uWSGI takes its options in the order of the command line, and the last one wins. The ini may
change what a unit has before `--ini`, but not what follows it; so an operator's own ini, or that
of Debian's packages, tunes a service without breaking it.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# A process answers one request at a time and takes 100 to 160 MB: one for each core or each
# 2 GiB, whichever is fewer. Several APIs share a controller and its database's connections
# (151 in MariaDB, of which a process may have three).
KIB_A_PROCESS = 2 * 1024 * 1024
MOST = 8
# Options that bind an address (uWSGI's "Options"): `socket-timeout` and `chmod-socket` do not.
BINDS = re.compile(
    r"s|https?2?|http-router|zerg|((undeferred-)?shared-|[a-z0-9]+-|[a-z]+-nph-)?socket"
)
NOT_BINDS = frozenset({"chmod-socket", "chown-socket", "map-socket", "abstract-socket"})
ADDRESS = "listen-on"  # available in an ini as %(listen-on)


@dataclass(frozen=True)
class Machine:
    """What decides: cores this process may use, memory in KiB, and IPv6.

    `ipv6`: it is available; `apart`: a wildcard IPv6 socket accepts no IPv4 (bindv6only).
    """

    cores: int
    memory: int
    ipv6: bool
    apart: bool = False

    def count_processes(self, fewest: int) -> int:
        """Return how many processes an API has if no number is configured."""
        return max(fewest, min(self.cores, self.memory // KIB_A_PROCESS, MOST))

    def list_addresses(self, port: int) -> list[str]:
        """Return the addresses, in uWSGI's notation, that cover IPv4 and IPv6."""
        if not self.ipv6:
            return [f"0.0.0.0:{port}"]
        return [f"[::]:{port}", *([f"0.0.0.0:{port}"] if self.apart else [])]


def inspect_machine() -> Machine:
    """Return the machine this runs on; with IPv6 switched off, it has no socket for it."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    memory = re.search(r"^MemTotal:\s*(\d+) kB", text, re.MULTILINE)
    total = int(memory[1]) if memory else 0
    cores = len(os.sched_getaffinity(0))
    try:
        with socket.socket(socket.AF_INET6) as probe:
            apart = bool(probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
            probe.bind(("::", 0))
    except OSError:
        return Machine(cores, total, ipv6=False)
    return Machine(cores, total, ipv6=True, apart=apart)


def parse_settings(text: str) -> list[tuple[str, str]]:
    """Return names and values of the section [uwsgi], in order, as uWSGI reads an ini."""
    found, inside = [], False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == "[uwsgi]"
        elif inside and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            found.append((name.strip(), value.strip()))
    return found


def make_command(
    machine: Machine, port: int, fewest: int, words: list[str], text: str | None
) -> list[str]:
    """Return what to run: `words` of the unit, with what the machine and the ini decide.

    `text` is the ini's content, None if there is none (any more).
    """
    given = [] if text is None else parse_settings(text)
    program, *options = words
    if text is None:
        options = [o for o in options if not o.startswith("--ini=")]
    addresses = machine.list_addresses(port)
    bound = any(BINDS.fullmatch(n) and n not in NOT_BINDS for n, _ in given)
    sockets = [] if bound else [f"--http-socket={a}" for a in addresses]
    # uWSGI knows the magic variable %t, its start time, only in files.
    options = [o.replace("%t", str(int(time.time()))) for o in options]
    decided = [f"--processes={machine.count_processes(fewest)}", f"--set={ADDRESS}={addresses[0]}"]
    return [program, *decided, *options, *sockets]


def list_remarks(text: str | None, words: list[str]) -> list[str]:
    """Return warnings about settings in an ini that the unit does not allow."""
    said = []
    forced = {w.partition("=")[0][2:]: w.partition("=")[2] for w in words if w.startswith("--")}
    for name, value in parse_settings(text or ""):
        if name == "threads" and value != forced.get("threads", value):
            said.append(
                f"threads = {value} is not used: requests that share a process can be "
                "answered with each other's tokens; set processes instead"
            )
    return said


def main(arguments: list[str]) -> None:
    """Become uWSGI; does not return."""
    own = dict(a[2:].split("=", 1) for a in arguments[:2])
    words = arguments[2:]
    path = next((w.partition("=")[2] for w in words if w.startswith("--ini=")), "")
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = None
    for remark in list_remarks(text, words):
        print(f"{path}: {remark}", file=sys.stderr, flush=True)
    line = make_command(inspect_machine(), int(own["port"]), int(own["fewest"]), words, text)
    os.execv(line[0], line)  # noqa: S606 - it replaces this process
