"""Check the options in the live files against those in the series' sample files.

The samples have all but what a service defines at startup: the options of keystoneauth's plugins
and privsep's sections (both are in known.json), and sections whose names an administrator
chooses (each service's manifest says how).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openstack_node import demands, ini

if TYPE_CHECKING:
    from openstack_node.manifest import Service

KNOWN = Path(__file__).with_name("known.json")


@dataclass(frozen=True)
class Problem:
    """A finding in the configuration: `level` as in status.py."""

    level: str
    place: str
    text: str
    hint: str = ""


@dataclass(frozen=True)
class Default:
    """A default that differs in a later series, None for nothing; `was`: its old name."""

    option: str
    old: str | None
    new: str | None
    was: str


class Judge:
    """Knows which options a service of a series has."""

    def __init__(self, service: Service, settings: ini.Settings) -> None:
        known, extra = service.read_options(), json.loads(KNOWN.read_text(encoding="utf-8"))
        self._options = {ini.normalise(s): o for s, o in known["options"].items()}
        self._renamed = {ini.normalise(s): o for s, o in known["renamed"].items()}
        self._series = service.series
        plugins = dict.fromkeys(extra["plugin_options"], "")
        for options in self._options.values():
            if "auth_type" in options:
                options.update({n: f for n, f in plugins.items() if n not in options})
        for section, names in extra["options"].items():
            if section in self._options:
                self._add(section, names)
        self._add_dynamic(service.data["dynamic"], settings)
        self._patterns = [d for d in service.data["dynamic"] if d["pattern"]]
        self._contexts: dict[str, list[str]] = extra["patterns"]

    def _add_dynamic(self, dynamic: list[dict[str, Any]], settings: ini.Settings) -> None:
        for rule in (d for d in dynamic if d["named_by"]):
            section, _, option = rule["named_by"].partition("/")
            for name in filter(None, re.split(r"[\s,]+", settings.find_value(section, option))):
                self._accept(name.split(":")[0], rule["like"])

    def _add(self, section: str, names: list[str]) -> None:
        own = self._options.setdefault(section, {})
        own.update({n: "" for n in names if n not in own})

    def _accept(self, section: str, like: list[str]) -> None:
        own = self._options.setdefault(ini.normalise(section), {})
        for other in like:
            for name, flags in self._options.get(ini.normalise(other), {}).items():
                own.setdefault(name, flags)

    def knows_section(self, name: str) -> bool:
        """Whether the service reads a section."""
        name = ini.normalise(name)
        for rule in self._patterns:
            if re.fullmatch(rule["pattern"], name):
                self._accept(name, rule["like"])
        for pattern, names in self._contexts.items():
            if re.fullmatch(pattern, name):
                self._add(name, names)
        return name in self._options or name in self._renamed

    def check_option(self, entry: ini.Entry) -> list[Problem]:
        """Return the problems of an option that is set."""
        section, name = ini.normalise(entry.section), f"[{entry.section}] {entry.option}"
        flags = self._options.get(section, {}).get(entry.option)
        if flags is None:
            new = self._renamed.get(section, {}).get(entry.option)
            if new is None:
                text = f"{name} is not an option of {self._series}; it has no effect"
                return [Problem("warning", entry.place, text)]
            return [Problem("note", entry.place, f"{name} is now called {new}")]
        if demands.names_stranger(entry, self._options):
            text = f"the value of {name} names an option that does not exist"
            return [Problem("critical", entry.place, text, "write $$ for a literal $")]
        if "d" in flags:
            return [Problem("note", entry.place, f"{name} is deprecated and will be removed")]
        return []

    def takes_several(self, entry: ini.Entry) -> bool:
        """Whether an option takes several values, each on its own line."""
        return "m" in self._options.get(ini.normalise(entry.section), {}).get(entry.option, "m")


def _list_files(service: Service) -> list[str]:
    """Return the live files a service's units and tools read; a directory counts as one."""
    chains = [*(u.configs for u in service.units), service.configs]
    return list(dict.fromkeys(path for chain in chains for path in chain))


def find_problems(service: Service) -> list[Problem]:
    """Return all problems in the live files of a service's units and tools."""
    paths = _list_files(service)
    judge = Judge(service, ini.Settings(paths))
    found = []
    for path in dict.fromkeys(ini.list_files(paths)):
        entries, mistakes = ini.read(path)
        # oslo.config gives up at such a line, and so does the service.
        found += [Problem("critical", f"{m.path}:{m.line}", m.text) for m in mistakes]
        found += _check_file(judge, entries)
    return found + _find_absent(service) + _find_unmet(service) + _find_missing(service)


def _find_absent(service: Service) -> list[Problem]:
    """Return the missing files and directories of command lines, without which a daemon stops.

    Directories that no command line names come in twos, the service's and the program's.
    """
    found: dict[str, str] = {}
    for unit in service.units:
        folders = [p for p in unit.configs if p.endswith("/")]
        files = [p for p in unit.configs if not p.endswith("/")]
        for path in [*files, *(folders if len(folders) == 1 else [])]:
            if not Path(path).exists():
                found.setdefault(path, unit.package)
    common = service.data["package"]
    hint = f"UCF_FORCE_CONFFMISS=1 apt-get install --reinstall {common}"
    return [
        Problem("critical", path, "does not exist", hint if p == common else f"{hint} {p}")
        for path, p in found.items()
    ]


def _find_unmet(service: Service) -> list[Problem]:
    """Return the options that require something the node does not have."""
    chains = dict.fromkeys(tuple(u.configs) for u in service.units if u.configs)
    found = (f for c in chains for f in demands.find_unmet(service, ini.Settings(list(c))))
    return list(dict.fromkeys(Problem("critical", e.place, text, hint) for e, text, hint in found))


def _check_file(judge: Judge, entries: list[ini.Entry]) -> list[Problem]:
    found: list[Problem] = []
    before: dict[tuple[str, str], ini.Entry] = {}
    strange: set[str] = set()
    for entry in entries:
        if not judge.knows_section(entry.section):
            if entry.section not in strange:
                text = f"[{entry.section}] is not a section this release reads"
                found.append(Problem("warning", entry.place, text))
            strange.add(entry.section)
            continue
        found += judge.check_option(entry)
        key = ini.normalise(entry.section), entry.option
        if key in before and not judge.takes_several(entry):
            text = f"[{entry.section}] {entry.option} is already set on line {before[key].line}"
            found.append(
                Problem("warning", entry.place, text, "this line takes effect; delete one")
            )
        before[key] = entry
    return found


def _find_missing(service: Service) -> list[Problem]:
    """Return the unset options without which a daemon installed here cannot work."""
    found: dict[tuple[str, str, str], list[str]] = {}
    # The files are long, and most units of a service read the same ones.
    read = {c: ini.Settings(list(c)) for c in {tuple(u.configs) for u in service.units}}
    for rule in service.data["settings"]:
        for unit in (u for u in service.units if u.package == rule["package"] and u.configs):
            lack = list_lacking(read[tuple(unit.configs)], rule["section"], rule["options"])
            if lack:
                key = unit.configs[0], rule["section"], ", ".join(lack)
                found.setdefault(key, []).append(unit.name)
    return [
        Problem(
            "warning",
            place,
            f"[{section}] {names}: not set",
            f"needed by {', '.join(dict.fromkeys(wanting))}",
        )
        for (place, section, names), wanting in found.items()
    ]


def list_lacking(settings: ini.Settings, section: str, options: list[str]) -> list[str]:
    """Return those of a section's options that are not set but required."""
    if settings.find_value(section, "auth_section"):
        return []
    kind = settings.find_value(section, "auth_type")
    if kind and not kind.endswith("password"):  # other plugins have other options
        return []
    return [o for o in options if not settings.find_value(section, o)]


def compare_defaults(service: Service, later: Service) -> list[Default]:
    """Return the defaults that differ in `later`, of options no live file sets.

    Those that vary from host to host are left out; if a package is too old to list defaults,
    there are none.
    """
    now, then = service.read_options(), later.read_options()
    if "defaults" not in now or "defaults" not in then:
        return []
    former = {new: old for old, new in _list_renamed(then).items()}
    taken = _list_taken(service, {**_list_renamed(now), **_list_renamed(then)})
    old, new = _flatten(now), _flatten(then)
    found = []
    for option, value in new.items():
        was = option if option in old else former.get(option, "")
        if was in old and old[was] != value and not {option, was} & taken:
            found.append(Default(option, old[was], value, was if was != option else ""))
    return found


def _flatten(known: dict[str, Any]) -> dict[str, str | None]:
    """Return the defaults of options, without those that vary."""
    return {
        _render_option(section, name): known["defaults"].get(section, {}).get(name)
        for section, names in known["options"].items()
        for name, flags in names.items()
        if "v" not in flags
    }


def _list_renamed(known: dict[str, Any]) -> dict[str, str]:
    """Return the present names of options by their former ones."""
    return {
        _render_option(section, old): _render_option(*new.lstrip("[").split("] ", 1))
        for section, names in known["renamed"].items()
        for old, new in names.items()
    }


def _list_taken(service: Service, renamed: dict[str, str]) -> set[str]:
    """Return the options the live files set, under all their names."""
    found = set()
    for path in ini.list_files(_list_files(service)):
        for entry in ini.read(path)[0]:
            place = _render_option(entry.section, entry.option)
            found |= {place, renamed.get(place, place)}
    return found


def _render_option(section: str, option: str) -> str:
    return f"[{ini.normalise(section)}] {option}"
