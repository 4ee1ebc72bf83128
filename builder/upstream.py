"""Regenerate `projects/series/` from upstream's releases repository.

Facts (name, date, status, SLURP, signing key, versions) come from upstream; `python`
and `targets` are chosen by hand, and kept.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from packaging.version import InvalidVersion, Version

from builder import catalogue, files, log, schema
from builder.errors import DataError, FetchError, UsageError, nearest
from builder.model import Series

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Before Ocata, service versions, placement and the constraints follow other rules.
FIRST = "ocata"
STATUS_FILES = ("data/series_status.yaml", "series_status.yaml")
ATTEMPTS, TIMEOUT = 4, 30  # tries and seconds of one download
HEADER = """\
# Facts of upstream's releases repository, rewritten from it by builder/upstream.py.
# python and targets are chosen by hand and kept; so is the version of a service
# that upstream's files do not list as final yet.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Upstream's releases repository: a local checkout, or the URL its raw files lie below.

    A URL may hold `{path}` where the file's path goes; else the path is appended.
    """

    place: str

    def read(self, path: str) -> bytes | None:
        """Return a file, None when there is none; FetchError when it cannot be had."""
        if not self.place.startswith(("http://", "https://")):
            file = Path(self.place) / path
            return file.read_bytes() if file.is_file() else None
        whole = "{path}" in self.place
        url = self.place.replace("{path}", path) if whole else f"{self.place.rstrip('/')}/{path}"
        for attempt in range(ATTEMPTS):
            time.sleep(attempt**2)
            try:
                answer = requests.get(url, timeout=TIMEOUT)
            except requests.RequestException as error:
                problem = str(error)
                continue
            if answer.status_code == requests.codes.not_found:
                return None
            if answer.ok:
                return answer.content
            problem = f"status {answer.status_code}"
        raise FetchError(f"{url}: {problem}", hint="try again, or name a local checkout")


@dataclass(frozen=True, slots=True)
class _Row:
    """What upstream's list says of one series."""

    id: str
    name: str
    date: str
    status: str
    slurp: bool
    signing_key: str


def regenerate(source: str, root: Path, only: Collection[str] | None = None) -> list[Path]:
    """Rewrite the series files below `root` (`projects/`) and return those that changed.

    `source` is a checkout or a URL (see Source); `only` limits it to these ids or names.
    A series that had no file gets the python and targets of the one before it.
    """
    origin = Source(source)
    rows = _rows(origin)
    wanted = _wanted(rows, only)
    services = catalogue.load_services(root)
    deliverables = {name: service.deliverable for name, service in sorted(services.items())}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: _versions(origin, row.name, deliverables), wanted))
    changed = []
    for row, versions in zip(wanted, found, strict=True):
        file = root / "series" / f"{row.id}.toml"
        text = render(_series(row, versions, _existing(root, rows, row)))
        if not file.exists() or file.read_text() != text:
            files.write_atomically(file, text.encode())
            changed.append(file)
    return changed


def _rows(origin: Source) -> list[_Row]:
    """Read upstream's list of series, oldest first, without those before FIRST and future ones."""
    for path in STATUS_FILES:
        if (raw := origin.read(path)) is not None:
            break
    else:
        raise DataError(f"{origin.place}: neither {' nor '.join(STATUS_FILES)} is there")
    try:
        rows = [_row(raw_row) for raw_row in _yaml(raw) if raw_row["status"] != "future"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{origin.place}: {path}: not a list of series ({error})") from error
    rows.sort(key=lambda row: row.date)
    start = next((i for i, row in enumerate(rows) if row.name == FIRST), 0)
    return rows[start:]


def _row(raw: Mapping[str, Any]) -> _Row:
    return _Row(
        id=raw.get("release-id", raw["name"]),
        name=raw["name"],
        date=raw["initial-release"],
        status=raw["status"],
        slurp=raw.get("slurp", "no") in ("yes", "true"),
        signing_key=raw.get("signing-key", {}).get("key", "").lower(),
    )


def _yaml(raw: bytes) -> Any:  # noqa: ANN401 - YAML is untyped
    # Only this needs PyYAML, and no build should pay for its import. BaseLoader makes
    # strings of everything: a release-id of 2026.10 must not become the number 2026.1.
    import yaml  # noqa: PLC0415

    try:
        return yaml.load(raw, yaml.BaseLoader)  # noqa: S506 - BaseLoader makes strings only
    except yaml.YAMLError as error:
        raise DataError(f"upstream's file is not YAML: {error}") from error


def _wanted(rows: list[_Row], only: Collection[str] | None) -> list[_Row]:
    if only is None:
        return rows
    words = {word.lower() for word in only}
    names = {name for row in rows for name in (row.id, row.name)}
    for word in sorted(words - names):
        raise UsageError(f"unknown series {word!r}; nearest: {nearest(word, names)}")
    return [row for row in rows if words & {row.id, row.name}]


def _versions(origin: Source, name: str, deliverables: Mapping[str, str]) -> dict[str, str]:
    """Return the newest final version of each service that upstream released in series `name`."""
    newest = {}
    for service, deliverable in deliverables.items():
        raw = origin.read(f"deliverables/{name}/{deliverable}.yaml")
        releases = (_yaml(raw).get("releases") or []) if raw is not None else []
        if finals := [v for v in (_final(row["version"]) for row in releases) if v is not None]:
            newest[service] = str(max(finals))
    return newest


def _final(word: str) -> Version | None:
    """Return the version `word` is, None for a pre-release or a tag such as `ocata-eol`."""
    try:
        version = Version(word)
    except InvalidVersion:
        return None
    return None if version.is_prerelease else version


def _existing(root: Path, rows: list[_Row], row: _Row) -> Series | None:
    """Return the series' own file, else that of the nearest series before it."""
    for candidate in reversed(rows[: rows.index(row) + 1]):
        file = root / "series" / f"{candidate.id}.toml"
        if file.exists():
            return schema.load(file, Series)
    return None


def _series(row: _Row, versions: Mapping[str, str], old: Series | None) -> Series:
    kept: Mapping[str, str] = old.versions if old and old.id == row.id else {}
    if old is None or old.id != row.id:
        log.warning(f"{row.id}: new series; check its python and targets")
    return Series(
        id=row.id,
        name=row.name,
        date=row.date,
        status=row.status,
        slurp=row.slurp,
        python=old.python if old else (),
        targets=old.targets if old else (),
        signing_key=row.signing_key,
        versions={**kept, **versions},
    )


def render(series: Series) -> str:
    """Return the text of the series' file (TOML 1.0)."""
    lines = [
        f"id = {_string(series.id)}",
        f"name = {_string(series.name)}",
        f"date = {_string(series.date)}",
        f"status = {_string(series.status)}",
        f"slurp = {'true' if series.slurp else 'false'}",
        f"python = {_list(series.python)}",
        f"targets = {_list(series.targets)}",
        f"signing-key = {_string(series.signing_key)}",
        "",
        "[versions]",
        *(f"{name} = {_string(version)}" for name, version in sorted(series.versions.items())),
    ]
    return HEADER + "\n".join(lines) + "\n"


def _string(word: str) -> str:
    return json.dumps(word)  # a JSON string of this kind is a TOML basic string


def _list(words: tuple[str, ...]) -> str:
    return json.dumps(list(words))
