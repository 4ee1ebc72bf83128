"""Configuration files as oslo.config reads them, with the line of each option.

Later files and later lines win; an option given twice counts twice only where the option
takes several values. Names of sections are the same in any case, `DEFAULT` excepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

OPTION = re.compile(r"([^\s:=\[][^:=]*?)\s*[:=]\s*(.*)")


@dataclass(frozen=True)
class Entry:
    """An option that is set: where, and to what. Values are never printed."""

    path: str
    line: int
    section: str
    option: str
    value: str

    @property
    def place(self) -> str:
        """`/etc/x/x.conf:12`."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Mistake:
    """A line oslo.config does not take, or a file that cannot be read."""

    path: str
    line: int
    text: str


def normal(section: str) -> str:
    """Return a section's name as oslo.config compares it."""
    return section if section == "DEFAULT" else section.lower()


def files(configs: list[str]) -> list[str]:
    """Return the files of a chain: those of a directory (which ends in `/`) are `*.conf`."""
    found = []
    for path in configs:
        if path.endswith("/"):
            found += sorted(str(p) for p in Path(path).glob("*.conf"))
        elif Path(path).is_file():
            found.append(path)
    return found


def read(path: str) -> tuple[list[Entry], list[Mistake]]:
    """Return the options a file sets, and the lines that are wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "not UTF-8"
        return [], [Mistake(path, 0, f"cannot be read: {said}")]
    entries: list[Entry] = []
    mistakes: list[Mistake] = []
    section: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line[0] in "#;":
            continue
        option = OPTION.fullmatch(line)
        if line[0] in " \t":
            if not entries:
                mistakes.append(Mistake(path, number, "an indented line goes on with no option"))
        elif line[0] == "[":
            section, bad = _section(line)
            if bad:
                mistakes.append(Mistake(path, number, bad))
        elif option is None:
            mistakes.append(Mistake(path, number, "neither [section] nor option = value"))
        elif section is None:
            mistakes.append(Mistake(path, number, "an option before the first [section]"))
        else:
            entries.append(Entry(path, number, section, option[1].strip(), option[2].strip()))
    return entries, mistakes


def _section(line: str) -> tuple[str | None, str]:
    end = line.find("]")
    if end < 2:
        return None, "not the name of a section"
    return line[1:end], ""


class Settings:
    """The options a chain of files sets, the last of each winning."""

    def __init__(self, configs: list[str]) -> None:
        self.configs = configs
        self._last: dict[tuple[str, str], Entry] = {}
        for path in files(configs):
            for entry in read(path)[0]:
                self._last[normal(entry.section), entry.option] = entry

    def entry(self, section: str, option: str) -> Entry | None:
        """Return where an option is set, if it is set to something."""
        found = self._last.get((normal(section), option))
        return found if found and found.value.strip("\"'") else None

    def value(self, section: str, option: str) -> str:
        """Return what an option is set to, or nothing."""
        found = self.entry(section, option)
        return found.value.strip("\"'") if found else ""

    def place(self, section: str, option: str) -> str:
        """Return the file, and the line, at which a person would set the option."""
        found = self.entry(section, option)
        return found.place if found else next(iter(self.configs), "")
