"""Configuration files as oslo.config reads them, with the line of each option.

The rules are those of oslo_config/iniparser.py and cfg.py, the same from Ocata to 2026.1; a
test checks generated files with both. Later files and later lines win; an option given twice
counts twice only if it takes several values. Section names are case-insensitive, except `DEFAULT`.
"""

from __future__ import annotations

import io
import string
from dataclasses import dataclass, replace
from pathlib import Path

TRUE = {"true", "1", "yes", "on"}  # as oslo.config has it, in any case
DEPTH = 10  # of nesting of options whose values name others


class Template(string.Template):
    """Values that name other options: `$option`, `${option}`, `${section.option}`; `$$` is `$`."""

    idpattern = r"[_a-z][\._a-z0-9]*"


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
    """A line oslo.config rejects, or a file that cannot be read."""

    path: str
    line: int
    text: str


def normalise(section: str) -> str:
    """Return a section's name as oslo.config compares it."""
    return section if section == "DEFAULT" else section.lower()


def list_files(configs: list[str]) -> list[str]:
    """Return the files of a chain: of a directory (which ends in `/`) those that match `*.conf`.

    As with a shell's pattern, hidden files do not match, and a dangling link does.
    """
    found = []
    for path in configs:
        if path.endswith("/"):
            inside = (p for p in Path(path).glob("*.conf") if not p.name.startswith("."))
            found += sorted(map(str, inside))
        elif Path(path).is_file():
            found.append(path)
    return found


def read(path: str) -> tuple[list[Entry], list[Mistake]]:
    """Return the options a file sets, and the lines that are wrong.

    oslo.config, and so the service, gives up at the first; a person needs them all.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        return [], [Mistake(path, 0, f"cannot be read: {error.strerror}")]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return [], [Mistake(path, raw.count(b"\n", 0, error.start) + 1, "not UTF-8")]
    reader = _Reader(path)
    # Not splitlines(): it also splits where files opened as text do not.
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        reader.read_line(number, line.rstrip())
    return reader.entries, reader.mistakes


class _Reader:
    """The options and mistakes read from a file, line by line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.mistakes: list[Mistake] = []
        self._section: str | None = None
        self._open = False  # whether an indented line continues the option before it

    def read_line(self, number: int, line: str) -> None:
        """Process a line, given without its line ending."""
        if line.startswith((" ", "\t")):
            self._continue(number, line.lstrip())
            return
        self._open = False
        if line.startswith("["):
            self._begin(number, line)
        elif line and not line.startswith(("#", ";")):
            self._assign(number, line)

    def _note_mistake(self, number: int, text: str) -> None:
        self.mistakes.append(Mistake(self.path, number, text))

    def _continue(self, number: int, text: str) -> None:
        if not self._open:
            self._note_mistake(number, "an indented line continues no option")
        elif self._section is not None:
            last = self.entries[-1]
            self.entries[-1] = replace(last, value=f"{last.value}\n{text}")

    def _begin(self, number: int, line: str) -> None:
        if not line.endswith("]"):
            behind = " (no comment may follow it)" if "]" in line else ""
            self._note_mistake(number, f"a section name without a closing ]{behind}")
        elif len(line) == 2:
            self._note_mistake(number, "a section without a name")
        self._section = line[1:].rpartition("]")[0] or line[1:]

    def _assign(self, number: int, line: str) -> None:
        ends = [place for place in (line.find("="), line.find(":")) if place >= 0]
        if not ends:
            mark = "; the file begins with a byte order mark" if line[0] == "\ufeff" else ""
            self._note_mistake(number, f"neither [section] nor option = value{mark}")
            return
        option, value = line[: min(ends)].strip(), line[min(ends) + 1 :].strip()
        if not option:
            self._note_mistake(number, "a value without an option name")
            return
        self._open = True
        if value and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        if self._section is None:
            self._note_mistake(number, "an option before the first [section]")
        else:
            self.entries.append(Entry(self.path, number, self._section, option, value))


class Settings:
    """The options a chain of files sets; the last of each wins."""

    def __init__(self, configs: list[str]) -> None:
        self.configs = configs
        self._last: dict[tuple[str, str], Entry] = {}
        for path in list_files(configs):
            for entry in read(path)[0]:
                self._last[normalise(entry.section), entry.option] = entry

    def find_entry(self, section: str, option: str) -> Entry | None:
        """Return where an option is set, if it has a value."""
        found = self._last.get((normalise(section), option))
        return found if found and found.value else None

    def find_value(self, section: str, option: str) -> str:
        """Return an option's value, or nothing; options it names are substituted."""
        return self._fill(section, option, DEPTH) or ""

    def find_place(self, section: str, option: str) -> str:
        """Return the file, and the line, in which to set the option."""
        found = self.find_entry(section, option)
        return found.place if found else next(iter(self.configs), "")

    def _fill(self, section: str, option: str, depth: int) -> str | None:
        """Return a value with the options it names substituted, except those no file sets."""
        found = self._last.get((normalise(section), option))
        if found is None or not depth:
            return None
        values = {}
        for name in list_names(found.value):
            for place in list_places(section, name):
                value = self._fill(*place, depth - 1)
                if value is not None:
                    values[name] = value
                    break
        return _make_template(found.value).safe_substitute(values)


def list_names(value: str) -> list[str]:
    """Return the options a value names."""
    found = Template.pattern.finditer(_make_template(value).template)
    return [m["named"] or m["braced"] for m in found if m["named"] or m["braced"]]


def list_places(section: str, name: str) -> list[tuple[str, str]]:
    """Return the sections and options a name in a value may mean; the first that is set counts."""
    group, dot, option = name.partition(".")
    own = (group, option) if dot else (section, name)
    return [own, ("DEFAULT", name)]


def _make_template(value: str) -> Template:
    return Template(value.replace("\\$", "$$"))
