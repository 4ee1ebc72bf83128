"""Whether a unit may start: it is configured, and its code can work on the service's databases.

Units ask before they start (`start-gate`), and so does the code that restarts them on an upgrade.
A positive result is recorded below /run, so that a service's units query its databases once, and
again only after a change of code or configuration, or a reboot.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openstack_node import databases, ini, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openstack_node.manifest import Service, Unit
    from openstack_node.system import UnitState

# systemd treats an ExecCondition that exits with a code in the unit's SuccessExitStatus= as met,
# and starts the unit. MAY_NOT is EX_CONFIG of sysexits.h, which means success for no daemon here;
# no project file may list either of the two (`Daemon` of the builder).
MAY, MAY_NOT, TRY_AGAIN = 0, 78, 255
TREES = Path("/usr/lib/openstack")
RUN = Path("/run")
VARIABLE = re.compile(r"OS_\w+?__(\w+)")


@dataclass(frozen=True)
class Verdict:
    """Whether units may start (MAY, MAY_NOT, TRY_AGAIN), else why not and what to do.

    `certain`: the databases were read, and suit the code.
    """

    code: int
    text: str = ""
    hint: str = ""
    certain: bool = False


def main(name: str, unit: str = "") -> int:
    """Answer a unit of the service `name` that is about to start.

    Without `unit`, as units of earlier packages ask, only the databases count.
    """
    service = manifest.load_shipped(name)
    if service is None:
        return MAY
    asking = next((u for u in service.units if u.name == f"{unit}.service"), None)
    lack = _find_lack(service, asking) if asking else ""
    if lack:
        found = Verdict(MAY_NOT, f"not configured yet: {lack} is not set")
    elif asking is None or service.uses_database(asking):
        found = _recall_verdict(service)
    else:
        found = Verdict(MAY)
    if found.code != MAY:
        print(f"not started: {found.text}", f"; {found.hint}" if found.hint else "", sep="")
    return found.code


def _find_lack(service: Service, unit: Unit) -> str:
    """Return the required option a unit lacks, and where to set it, or nothing.

    Its environment may set it as well, as OS_DATABASE__CONNECTION (oslo.config's driver).
    """
    named = {m[1].lower() for m in map(VARIABLE.fullmatch, os.environ) if m}
    needs = [option for option in unit.needs if option not in named]
    return service.find_needed(dataclasses.replace(unit, needs=needs))


def judge_now(service: Service) -> Verdict:
    """Query the databases of a service now."""
    return judge(service, databases.ask(service, [], later_site=find_later_site(service)))


def is_fit(service: Service) -> bool:
    """Whether the databases have passed with the present code and configuration."""
    try:
        return (RUN / service.name / "schema").read_bytes() == _make_key(service)
    except OSError:
        return False


def is_left_out(service: Service, unit: Unit, state: UnitState) -> bool:
    """Whether a unit was not started because the administrator chose so in its defaults file.

    systemd does not report which ExecCondition failed; this gate's comes first.
    """
    return (
        state.waits
        and unit.name in service.data.get("chosen", ())
        and not service.find_needed(unit)
        and (is_fit(service) or not service.uses_database(unit))
    )


def judge(service: Service, answer: databases.Answer) -> Verdict:
    """Return what the state of its databases means for a service's units.

    A database without tables, or one unusable for a reason its daemons report themselves, is left
    to them; so are further cells, which other nodes may be responsible for.
    """
    own = {s["name"] for s in service.data["schemas"]}
    schemas = [s for name, s in answer.schemas.items() if name in own]
    if answer.error:
        return Verdict(MAY)
    for schema in schemas:
        if schema.state == "behind" and not all(m.contract for m in schema.pending):
            text = f"the database {schema.where} is behind the code of {service.series}"
            return Verdict(MAY_NOT, text, f"openstack-node upgrade {service.series} {service.name}")
        # Without a title it is unknown here what it did: another node has moved on.
        taken = [m for m in schema.later if m.removes and m.title]
        if schema.state == "ahead" and taken:
            text = f"the database {schema.where} has moved past {service.series}: {taken[0].title}"
            return Verdict(MAY_NOT, text, "install the later release again")
    unreachable = [s for s in schemas if s.state == "unreachable"]
    if unreachable:
        return Verdict(TRY_AGAIN, f"the database {unreachable[0].where} cannot be reached")
    fit = all(s.state in ("current", "behind", "ahead") for s in schemas)
    return Verdict(MAY, certain=fit)


def find_later_site(service: Service, trees: Path = TREES) -> str:
    """Return where the newest other series' code of a service is on this node, or nothing."""
    own = Path(service.data["site"])
    places = [s["migrations"] for s in service.data["schemas"]]
    others = [
        site
        for site in trees.glob("*/lib/python*/*-packages")
        if site != own and any((site / place).is_dir() for place in places)
    ]
    # Series since 2023.1 are numbers, those before it words.
    others.sort(key=lambda site: (site.parts[-4][0].isdigit(), site.parts[-4]))
    return str(others[-1]) if others else ""


def _recall_verdict(service: Service) -> Verdict:
    """Return the recorded verdict, or a new one, which is recorded if it is certain."""
    key = _make_key(service)
    with _open_note(RUN / service.name / "schema") as note:
        if note is not None and os.pread(note, 4096, 0) == key:
            return Verdict(MAY)
        found = judge_now(service)
        if note is not None:
            os.ftruncate(note, 0)
            os.pwrite(note, key if found.certain else b"", 0)
        return found


@contextmanager
def _open_note(path: Path) -> Iterator[int | None]:
    """Yield the file of the record to one process at a time; None if it cannot be opened."""
    try:
        note = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        yield None
        return
    try:
        fcntl.flock(note, fcntl.LOCK_EX)
        yield note
    finally:
        os.close(note)


def _make_key(service: Service) -> bytes:
    """Return a key that changes with code or configuration: their files' change times."""
    site = Path(service.data["site"])
    paths = [
        manifest.SERVICES / f"{service.name}.json",
        *(site / s["migrations"] for s in service.data["schemas"]),
        *map(Path, ini.list_files(service.configs)),
    ]
    times = (p.stat().st_ctime_ns if p.exists() else 0 for p in paths)
    return " ".join(map(str, times)).encode()
