"""Choose the series from which apt takes each service, while a node has several.

A source of the new series is added next to the existing one, ranked below it; then each service
is moved by its own pin, so that neither a nightly `apt upgrade` nor a service that needs a
library moves another one. Files get the names that the new series' archive package uses; it
keeps the source as it is, and brings the key and the pin.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from openstack_node import apt, system

if TYPE_CHECKING:
    from pathlib import Path

PINS = "preferences.d/openstack-node.pref"
# Above the 990 of APT::Default-Release and the 991 of the archive packages; below 1000, where apt
# would start to downgrade.
CHOSEN, ASIDE = 995, 100
PIN = re.compile(r"^Package: src:(\S+)\nPin: release n=(\S+)\n", re.MULTILINE)
LINE = re.compile(r"(deb|deb-src)\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)")
# Fields whose names differ from those of a line's options.
OPTIONS = {"arch": "Architectures", "lang": "Languages", "target": "Targets"}
KEY = re.compile(r"openstack-[a-z0-9.]+-archive-keyring")
HEAD = """\
Explanation: Written by openstack-node: the series of each service, while this node has
Explanation: services of several. Removed when an upgrade has moved the last of them.
"""


class Sources:
    """apt's sources and pins on this node."""

    def __init__(self, etc: Path = apt.ETC) -> None:
        self.etc = etc

    def list_suites(self, series: str) -> list[str]:
        """Return the suites of a series that sources name, such as bookworm-2025.2."""
        pattern = apt.compile_suite(series)
        texts = map(apt.read_live, apt.list_files(self.etc, "sources.list"))
        return sorted({m[0] for text in texts for m in pattern.finditer(text)})

    def add(self, old: str, new: str) -> None:
        """Add a source of `new` next to that of `old`, from which apt takes nothing by default.

        Does nothing if there already is one: then the administrator wants all of it.
        """
        if self.list_suites(new):
            return
        found: list[str] = []
        for path in apt.list_files(self.etc, "sources.list"):
            parts = _split(path, apt.read_live(path))
            named = [p.strip() for p in parts if apt.compile_suite(old).search(p)]
            found += named if path.suffix == ".sources" else map(_make_stanza, named)
        if not found:
            raise system.NodeError(
                f"no apt source has a suite of {old}", f"apt-get install openstack-{old}-archive"
            )
        aside = {*self._list_aside(), *(s.replace(old, new) for s in self.list_suites(old))}
        self._pin(self._list_chosen(), aside=sorted(aside))
        stanzas = (apt.compile_suite(old).sub(rf"\g<1>-{new}", s) for s in found)
        _write(self._locate_source(new), "\n\n".join(dict.fromkeys(stanzas)) + "\n")

    def choose(self, service: str, suite: str) -> None:
        """Take a service's packages from a suite, whichever the others come from."""
        self._pin({**self._list_chosen(), service: suite}, aside=self._list_aside())

    def choose_series(self, service: str, series: str) -> None:
        """Take a service's packages from the suite of a series, if a source names one."""
        for suite in self.list_suites(series)[:1]:
            self.choose(service, suite)

    def settle(self, new: str) -> None:
        """Take everything from `new`, its source with the key of its own archive package."""
        path = self._locate_source(new)
        if path.is_file():
            key = f"openstack-{new}-archive-keyring"
            _write(path, KEY.sub(key, path.read_text(encoding="utf-8")))
        pins = self.etc / PINS
        if pins.exists():
            pins.unlink()

    def _locate_source(self, series: str) -> Path:
        """Return the file of a series' source; its archive package uses the same name."""
        return self.etc / f"sources.list.d/openstack-{series}.sources"

    def _pin(self, chosen: dict[str, str], *, aside: list[str]) -> None:
        rows = [("*", suite, ASIDE) for suite in aside]
        rows += [(f"src:{name}", suite, CHOSEN) for name, suite in sorted(chosen.items())]
        body = "".join(
            f"\nPackage: {what}\nPin: release n={suite}\nPin-Priority: {rank}\n"
            for what, suite, rank in rows
        )
        _write(self.etc / PINS, HEAD + body.lstrip("\n"))

    def _read_pins(self) -> str:
        path = self.etc / PINS
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def _list_chosen(self) -> dict[str, str]:
        return dict(PIN.findall(self._read_pins()))

    def _list_aside(self) -> list[str]:
        return re.findall(r"^Package: \*\nPin: release n=(\S+)$", self._read_pins(), re.MULTILINE)


def _split(path: Path, text: str) -> list[str]:
    """Return the stanzas, or the lines, of a file of sources."""
    if path.suffix == ".sources":
        return re.split(r"(?<=\n)(?=\s*\n)", text)
    return text.splitlines(keepends=True)


def _make_stanza(line: str) -> str:
    """Return a line of a source as a stanza."""
    match = LINE.match(line)
    if match is None:
        raise system.NodeError(f"not an apt source: {line}")
    kind, options, address, suite, components = match.groups()
    fields = {"Types": kind, "URIs": address, "Suites": suite, "Components": components.strip()}
    for name, value in re.findall(r"([\w-]+)=(\S+)", options or ""):
        fields[OPTIONS.get(name, name.title())] = value.replace(",", " ")
    return "\n".join(f"{name}: {value}" for name, value in fields.items())


def _write(path: Path, text: str) -> None:
    """Write a file so that apt never sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")  # apt ignores files with such names
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)
