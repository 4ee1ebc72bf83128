"""From which series apt takes each service, while a node has services of several.

A source of the new series is laid beside the one there is, ranked below it; then services
are moved by pins of their own, so that neither `apt upgrade` at night nor a service that
needs a library moves another one. What is written has the names the new series' archive
package uses, and that takes it over in the end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from openstack_node import apt, system

if TYPE_CHECKING:
    from pathlib import Path

PINS = "preferences.d/openstack-node.pref"
# Above the 500 of other sources, and the 600 of the archive packages; below 1000, from
# which on apt would downgrade.
CHOSEN, ASIDE = 650, 100
PIN = re.compile(r"^Package: src:(\S+)\nPin: release n=(\S+)\n", re.MULTILINE)
HEAD = """\
Explanation: Written by openstack-node: the series of each service, while this node has
Explanation: services of several. It goes when an upgrade has moved the last of them.
"""


class Sources:
    """apt's sources and pins on this node."""

    def __init__(self, etc: Path = apt.ETC) -> None:
        self.etc = etc

    def suites(self, series: str) -> list[str]:
        """Return the suites of a series that a source names, such as bookworm-2025.2."""
        pattern = apt.suite(series)
        texts = (p.read_text(encoding="utf-8") for p in apt.files(self.etc, "sources.list"))
        return sorted({m[0] for text in texts for m in pattern.finditer(_live(text))})

    def add(self, old: str, new: str) -> None:
        """Lay a source of `new` beside that of `old`, from which nothing is taken by itself.

        Does nothing where there is one: then an administrator wants all of it.
        """
        if self.suites(new):
            return
        texts = {".list": "", ".sources": ""}
        for path in apt.files(self.etc, "sources.list"):
            text = _live(path.read_text(encoding="utf-8"))
            kind = ".sources" if path.suffix == ".sources" else ".list"
            parts = re.split(r"\n\s*\n", text) if kind == ".sources" else text.splitlines()
            named = [p.strip() for p in parts if apt.suite(old).search(p)]
            end = "\n\n" if kind == ".sources" else "\n"
            texts[kind] += "".join(apt.suite(old).sub(rf"\g<1>-{new}", p) + end for p in named)
        if not any(texts.values()):
            raise system.NodeError(
                f"no source of apt has a suite of {old}", f"apt-get install openstack-{old}-archive"
            )
        self._pin({}, aside=[s.replace(old, new) for s in self.suites(old)])
        for kind, text in texts.items():
            if text:
                _write(self.etc / f"sources.list.d/openstack-{new}{kind}", text)

    def choose(self, service: str, suite: str) -> None:
        """Take a service's packages from a suite, whatever the others are of."""
        self._pin({**self._chosen(), service: suite}, aside=self._aside())

    def settle(self, old: str, new: str) -> bool:
        """Let everything be of `new`; return whether its archive package is to have the source.

        It is not, where an administrator has a source with the suite of `new`.
        """
        path = self.etc / f"sources.list.d/openstack-{new}.sources"
        ours = path.is_file()
        if ours:
            text = path.read_text(encoding="utf-8")
            _write(path, text.replace(f"openstack-{old}-archive-", f"openstack-{new}-archive-"))
        pins = self.etc / PINS
        if pins.exists():
            pins.unlink()
        return ours

    def _pin(self, chosen: dict[str, str], *, aside: list[str]) -> None:
        rows = [("*", suite, ASIDE) for suite in aside]
        rows += [(f"src:{name}", suite, CHOSEN) for name, suite in sorted(chosen.items())]
        body = "".join(
            f"\nPackage: {what}\nPin: release n={suite}\nPin-Priority: {rank}\n"
            for what, suite, rank in rows
        )
        _write(self.etc / PINS, HEAD + body.lstrip("\n"))

    def _text(self) -> str:
        path = self.etc / PINS
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def _chosen(self) -> dict[str, str]:
        return dict(PIN.findall(self._text()))

    def _aside(self) -> list[str]:
        return re.findall(r"^Package: \*\nPin: release n=(\S+)$", self._text(), re.MULTILINE)


def _live(text: str) -> str:
    """Return a file of sources without its comments."""
    return "".join(line for line in text.splitlines(keepends=True) if line[:1] != "#")


def _write(path: Path, text: str) -> None:
    """Write a file that apt never sees half of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")  # apt reads no file of such a name
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)
