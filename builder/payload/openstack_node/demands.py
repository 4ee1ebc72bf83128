"""What some options require of a node beyond a value: a module in the tree, an existing file.

The service would find out only at startup, most often with a traceback. known.json says which
options need which module; only what is cheap to check is checked.
"""

from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openstack_node import ini

if TYPE_CHECKING:
    from openstack_node.manifest import Service

KNOWN = Path(__file__).with_name("known.json")
# oslo.config's own, in no sample.
OWN = {"config_file", "config_dir", "config_source"}
Finding = tuple[ini.Entry, str, str]  # where, what is wrong, what to do


def find_unmet(service: Service, settings: ini.Settings) -> list[Finding]:
    """Return the options whose demands the node does not meet, in the files of one chain."""
    return [*_check_modules(service, settings), *_check_logging(settings)]


def _check_modules(service: Service, settings: ini.Settings) -> list[Finding]:
    site = Path(service.data["site"])
    rules: list[dict[str, Any]] = json.loads(KNOWN.read_text(encoding="utf-8"))["modules"]
    found = []
    for rule in rules if site.is_dir() else ():
        entry = settings.find_entry(rule["section"], rule["option"])
        switch = rule.get("while", "")
        if entry is None or (switch and not _is_on(settings.find_value(rule["section"], switch))):
            continue
        value = settings.find_value(rule["section"], rule["option"])
        word = "true" if _is_on(value) else value.partition("://")[0]
        module = rule["modules"].get(word)
        if module and not _has_module(site, module):
            name = f"[{entry.section}] {entry.option}"
            text = f"{name} needs the Python module {module}, which {service.series} lacks here"
            found.append((entry, text, rule["hint"]))
    return found


def _is_on(value: str) -> bool:
    return value.lower() in ini.TRUE


def _has_module(site: Path, module: str) -> bool:
    """Whether a tree has a module; a compiled one has a longer suffix."""
    return any(
        (site / module).is_dir() or any(site.glob(f"{module}{end}")) for end in (".py", ".*.so")
    )


def _check_logging(settings: ini.Settings) -> list[Finding]:
    """Check the file for Python's logging (logging.config, "Configuration file format")."""
    entry = settings.find_entry("DEFAULT", "log_config_append") or settings.find_entry(
        "DEFAULT", "log_config"
    )
    if entry is None:
        return []
    path = Path(settings.find_value("DEFAULT", entry.option))
    name, hint = f"[DEFAULT] {entry.option}", "correct it, or delete the option"
    if not path.is_file():
        return [(entry, f"{name}: {path} does not exist", hint)]
    parser = configparser.ConfigParser()
    try:
        parser.read(path, encoding="utf-8")
        lack = [
            s for s in ("loggers", "handlers", "formatters") if not parser.has_option(s, "keys")
        ]
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        line = getattr(error, "lineno", 0) or next((n for n, _ in getattr(error, "errors", [])), 0)
        place = f"{path}:{line}" if line else str(path)
        return [(entry, f"{name}: {place} cannot be read as a logging configuration", hint)]
    return [(entry, f"{name}: {path} has no keys in [{lack[0]}]", hint)] if lack else []


def names_stranger(entry: ini.Entry, options: dict[str, dict[str, str]]) -> bool:
    """Whether a value names a nonexistent option with `$`; `options` are the release's.

    The service stops when it reads such a value.
    """
    for name in ini.list_names(entry.value):
        places = ini.list_places(entry.section, name)
        if name not in OWN and not any(o in options.get(ini.normalise(s), {}) for s, o in places):
            return True
    return False
