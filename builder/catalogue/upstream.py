"""Regenerate `projects/series/` from upstream's releases repository.

Facts (name, date, status, SLURP, signing key, versions) come from upstream; `python`
and `targets` are chosen by hand, and kept.
"""

from __future__ import annotations

import json
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from builder import files, index, log, web
from builder.catalogue import load as catalogue
from builder.catalogue.layers import Layers, read
from builder.errors import DataError, FetchError, UsageError, list_nearest
from builder.model import reading
from builder.model.shapes import SERIES_ID
from builder.model.values import Series

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

# Before Ocata, service versions, placement and the constraints follow other rules.
FIRST = "ocata"
STATUS_FILES = ("data/series_status.yaml", "series_status.yaml")
NOT_FOUND = 404
LARGEST = 32 << 20  # bytes of one file
ATTEMPTS, TIMEOUT = 4, 30  # tries and seconds of one download
HEADER = """\
# Facts of upstream's releases repository, rewritten from it by build-debs update-series.
# python and targets are chosen by hand and kept; so is the version of a service
# that upstream's files do not list as final yet.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Upstream's releases repository: a local checkout, or the base URL of its raw files.

    A URL may contain `{path}` where the file's path goes; else the path is appended.
    """

    place: str

    def read(self, path: str) -> bytes | None:
        """Return a file, None if there is none; FetchError if it cannot be fetched."""
        if not self.place.startswith(("http://", "https://")):
            file = Path(self.place) / path
            return file.read_bytes() if file.is_file() else None
        whole = "{path}" in self.place
        url = self.place.replace("{path}", path) if whole else f"{self.place.rstrip('/')}/{path}"
        for attempt in range(ATTEMPTS):
            time.sleep(attempt**2)
            try:
                return web.get(url, timeout=TIMEOUT, largest=LARGEST)
            except web.NoAnswerError as error:
                if error.status == NOT_FOUND:
                    return None
                problem = error
        raise FetchError(
            f"{url}: {problem}",
            hint=web.choose_hint(problem.status, "try again, or name a local checkout"),
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """One series as upstream lists it."""

    id: str
    name: str
    date: str
    status: str
    slurp: bool
    signing_key: str


def regenerate(
    source: str, root: Path, only: Collection[str] | None = None, overlays: Sequence[Path] = ()
) -> list[Path]:
    """Rewrite the series files below `root` (`projects/`) and return those that changed.

    `source` is a checkout or a URL (see Source); `only` limits it to these ids or names. With
    `overlays`, the last of them gets the files that change.
    A series that had no file gets the python and targets of the one before it. A service has
    a version in the series it is part of (its `since` and `until`), whatever upstream released.
    """
    origin = Source(index.strip_credentials(source) if "://" in source else source)
    rows = _read_rows(origin)
    wanted = _select_rows(rows, only)
    layers = Layers((root, *overlays))
    services = catalogue.load_services(root, overlays)
    order = [row.id for row in rows]
    parts = [
        {n: s.deliverable for n, s in sorted(services.items()) if s.exists_in(row.id, order)}
        for row in wanted
    ]
    with ThreadPoolExecutor(8) as pool:
        names = [row.name for row in wanted]
        found = list(pool.map(partial(_read_versions, origin), names, parts))
    texts = {}
    for row, part, versions in zip(wanted, parts, found, strict=True):
        text = render(_make_series(row, part, versions, _find_nearest(layers, rows, row)))
        # the server's answer becomes the name of a file, and every build reads it
        reading.build(tomllib.loads(text), Series, f"{origin.place}: {row.name}")
        texts[row.id] = text
    changed = []
    for id_, text in texts.items():
        known = layers.list_files("series").get(id_)
        if not known or known[-1].read_text(encoding="utf-8") != text:
            file = layers.roots[-1] / "series" / f"{id_}.toml"
            file.parent.mkdir(exist_ok=True)
            files.write_atomically(file, text.encode())
            changed.append(file)
    return changed


def write_versions(root: Path, series: Series, before: Series) -> None:
    """Write the versions of a series that differ from `before` into the layer `root`.

    A layer without a file of the series, or with versions only, gets just these; else all of it.
    """
    file = root / "series" / f"{series.id}.toml"
    raw: dict[str, Any] = reading.parse(file) if file.exists() else {"id": series.id}
    text = render(series)
    if raw.keys() <= {"id", "versions"}:
        rows: dict[str, str] = raw.get("versions", {})
        rows |= {n: v for n, v in series.versions.items() if before.versions.get(n) != v}
        lines = (f'{name} = "{version}"\n' for name, version in sorted(rows.items()))
        text = f'id = "{series.id}"\n\n[versions]\n{"".join(lines)}'
    reading.build(tomllib.loads(render(series)), Series, series.id)
    file.parent.mkdir(exist_ok=True)
    files.write_atomically(file, text.encode())


def _read_rows(origin: Source) -> list[_Row]:
    """Read upstream's list of series, oldest first, without those before FIRST and future ones."""
    for path in STATUS_FILES:
        if (raw := origin.read(path)) is not None:
            break
    else:
        raise DataError(f"{origin.place}: neither {' nor '.join(STATUS_FILES)} is there")
    try:
        rows = [
            _parse_row(raw_row) for raw_row in _parse_yaml(raw) if raw_row["status"] != "future"
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{origin.place}: {path}: not a list of series ({error})") from error
    rows.sort(key=lambda row: row.date)
    start = next((i for i, row in enumerate(rows) if row.name == FIRST), 0)
    return rows[start:]


def _parse_row(raw: Mapping[str, Any]) -> _Row:
    for key in ("release-id", "name", "initial-release", "status"):
        if not isinstance(raw.get(key, ""), str):
            raise TypeError(f"{key} is not a string")
    identity = raw.get("release-id", raw["name"])
    if not SERIES_ID.fits(identity) or not SERIES_ID.fits(raw["name"]):
        raise ValueError(f"{reading.describe_value(identity)} is not a series id")
    return _Row(
        id=identity,
        name=raw["name"],
        date=raw["initial-release"],
        status=raw["status"],
        slurp=raw.get("slurp", "no") in ("yes", "true"),
        signing_key=raw.get("signing-key", {}).get("key", "").lower(),
    )


def _parse_yaml(raw: bytes) -> Any:  # noqa: ANN401 - YAML is untyped
    # Only this needs PyYAML, and no build should pay for its import. BaseLoader makes
    # strings of everything: a release-id of 2026.10 must not become the number 2026.1.
    import yaml  # noqa: PLC0415

    try:
        return yaml.load(raw, yaml.BaseLoader)  # noqa: S506 - BaseLoader makes strings only
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"upstream's file is not YAML: {error}") from error


def _select_rows(rows: list[_Row], only: Collection[str] | None) -> list[_Row]:
    if only is None:
        return rows
    words = {word.lower() for word in only}
    names = {name for row in rows for name in (row.id, row.name)}
    for word in sorted(words - names):
        raise UsageError(f"unknown series {word!r}; nearest: {list_nearest(word, names)}")
    return [row for row in rows if words & {row.id, row.name}]


def _read_versions(origin: Source, name: str, deliverables: Mapping[str, str]) -> dict[str, str]:
    """Return the newest final version of each service that upstream released in series `name`."""
    newest = {}
    for service, deliverable in deliverables.items():
        raw = origin.read(f"deliverables/{name}/{deliverable}.yaml")
        try:
            releases = (_parse_yaml(raw).get("releases") or []) if raw is not None else []
            finals = [
                v for v in (_parse_final(row["version"]) for row in releases) if v is not None
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{origin.place}: {name}/{deliverable}.yaml: not a list of releases ({error!r})"
            ) from error
        if finals:
            newest[service] = str(max(finals))
    return newest


def _parse_final(word: str) -> Version | None:
    """Return `word` as a version, None for a pre-release or a tag such as `ocata-eol`."""
    try:
        version = Version(word)
    except ValueError:  # InvalidVersion, or a number of more digits than Python reads
        return None
    return None if version.is_prerelease else version


def _find_nearest(layers: Layers, rows: list[_Row], row: _Row) -> Series | None:
    """Return the series as it is, else the nearest before it."""
    known = layers.list_files("series")
    for candidate in reversed(rows[: rows.index(row) + 1]):
        if candidate.id in known:
            return read(known[candidate.id], Series)
    return None


def _make_series(
    row: _Row, part: Collection[str], versions: Mapping[str, str], old: Series | None
) -> Series:
    """Return a series with the versions of the services that are `part` of it."""
    before: Mapping[str, str] = old.versions if old and old.id == row.id else {}
    kept = {name: version for name, version in before.items() if name in part}
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
        f"id = {_render_string(series.id)}",
        f"name = {_render_string(series.name)}",
        f"date = {_render_string(series.date)}",
        f"status = {_render_string(series.status)}",
        f"slurp = {'true' if series.slurp else 'false'}",
        f"python = {_render_list(series.python)}",
        f"targets = {_render_list(series.targets)}",
        f"signing-key = {_render_string(series.signing_key)}",
        "",
        "[versions]",
        *(
            f"{name} = {_render_string(version)}"
            for name, version in sorted(series.versions.items())
        ),
    ]
    return HEADER + "\n".join(lines) + "\n"


def _render_string(word: str) -> str:
    return json.dumps(word)  # a JSON string of this kind is a TOML basic string


def _render_list(words: tuple[str, ...]) -> str:
    return json.dumps(list(words))
