"""The file format of a lock."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from builder.errors import DataError
from builder.files import write_atomically
from builder.model import reading
from builder.model.values import Distribution, Lock
from builder.resolve import lockcheck

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


FORMAT = 2
SHOWN = 8  # problems of a lock that are reported
LARGEST = 32 << 20  # bytes
REMEDY = "regenerate it with `build-debs lock`"


def write(lock: Lock, path: Path) -> bool:
    """Write `lock` as JSON, one value per line for readable diffs; False if unchanged."""
    rows: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(_make_plain(lock))}
    text = json.dumps(rows, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if path.exists() and path.read_bytes() == text.encode():
        return False
    write_atomically(path, text.encode())
    return True


def _make_plain(lock: Lock) -> Lock:
    """Return the lock with plain dicts inside, which `asdict` and json can copy."""

    def make_plain(rows: tuple[Distribution, ...]) -> tuple[Distribution, ...]:
        return tuple(dataclasses.replace(d, extras=dict(d.extras)) for d in rows)

    return dataclasses.replace(
        lock,
        inputs=dict(lock.inputs),
        asked=dict(lock.asked),
        distributions=make_plain(lock.distributions),
        build=make_plain(lock.build),
    )


def read(path: Path) -> Lock:
    """Read a lock and check it (`lockcheck.check`).

    Raises DataError, with the place in the file, if it is not a lock, has another format, or
    could not be built and installed as locked.
    """
    try:
        raw = json.loads(
            reading.read_bytes(path, LARGEST).decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a lock: {error}", hint=REMEDY) from error
    if not isinstance(raw, dict) or "format" not in raw:
        raise DataError(f"{path}: not a lock: it names no format", hint=REMEDY)
    number = raw.pop("format")
    if type(number) is not int or number != FORMAT:
        shown = reading.describe_value(number)
        raise DataError(f"{path}: format {shown} is not known (this reads {FORMAT})", hint=REMEDY)
    try:
        lock: Lock = reading.build(raw, Lock, str(path))
    except DataError as error:
        hint = "; ".join(filter(None, [error.hint, REMEDY]))
        raise DataError(error.message, hint=hint) from error
    refuse(path, lockcheck.check(lock))
    return lock


def refuse(path: Path, problems: Iterable[tuple[str, str]]) -> None:
    """Raise DataError for the first of a lock's problems, if any; list and count the others."""
    found = [f"{path}: {place}: {problem}" for place, problem in problems]
    if found:
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise DataError(found[0], details=[*found[1:SHOWN], *more], hint=REMEDY)


def _refuse_duplicates(rows: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a table; ValueError for a duplicate key, which RFC 8259 leaves undefined."""
    table = dict(rows)
    if len(table) != len(rows):
        names = [key for key, _ in rows]
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"duplicate key {reading.describe_value(twice)}")
    return table


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
