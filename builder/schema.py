"""Read a TOML file of `projects/` into frozen dataclasses, and refuse what is not a known key.

A field `signing_key` is the key `signing-key`; a field that avoids a Python word by a
final underscore (`type_`) is the key without it. Tables become plain dicts that the
dataclass declares as `Mapping`, so that values can be pickled and nobody may write to them.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

from builder.errors import DataError, nearest

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


def load(path: Path, cls: type[T]) -> T:
    """Read `path` as TOML into the dataclass `cls`.

    Raises DataError naming the file and, for an unknown key, the key and the nearest valid one.
    """
    try:
        with path.open("rb") as stream:
            raw = tomllib.load(stream)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not TOML: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    return typing.cast("T", build(raw, cls, str(path), ""))


def build(raw: Any, cls: Any, file: str, where: str) -> Any:  # noqa: ANN401 - TOML is untyped
    """Turn a TOML value into `cls`: a dataclass, a tuple, a mapping, a union or a scalar.

    `file` and `where` (a dotted key) are for the error's text.
    """
    origin = get_origin(cls)
    if dataclasses.is_dataclass(cls):
        return _dataclass(raw, typing.cast("type", cls), file, where)
    if origin is tuple:
        return _tuple(raw, get_args(cls), file, where)
    if origin is Mapping:
        return _mapping(raw, get_args(cls)[1], file, where)
    if origin in (Union, types.UnionType):
        return _union(raw, get_args(cls), file, where)
    if origin is Literal:
        return _literal(raw, get_args(cls), file, where)
    return _scalar(raw, cls, file, where)


def _tuple(raw: Any, args: tuple[Any, ...], file: str, where: str) -> tuple[Any, ...]:  # noqa: ANN401
    if not isinstance(raw, list):
        raise DataError(f"{file}: {where}: a list is wanted, not {raw!r}")
    items = (args[0],) * len(raw) if args[1:] == (...,) else args
    if len(items) != len(raw):
        raise DataError(f"{file}: {where}: a list of {len(items)} is wanted, not of {len(raw)}")
    return tuple(
        build(value, item, file, f"{where}[{i}]")
        for i, (value, item) in enumerate(zip(raw, items, strict=True))
    )


def _mapping(raw: Any, item: Any, file: str, where: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(raw, dict):
        raise DataError(f"{file}: {where}: a table is wanted, not {raw!r}")
    return {key: build(value, item, file, _join(where, key)) for key, value in raw.items()}


def _union(raw: Any, args: tuple[Any, ...], file: str, where: str) -> Any:  # noqa: ANN401
    # TOML has no null: an optional key is left out, so None never has to match.
    *others, last = (a for a in args if a is not types.NoneType)
    for member in others:
        try:
            return build(raw, member, file, where)
        except DataError:
            continue
    return build(raw, last, file, where)


def _literal(raw: Any, valid: tuple[Any, ...], file: str, where: str) -> Any:  # noqa: ANN401
    if raw not in valid:
        close = nearest(str(raw), [str(v) for v in valid])
        raise DataError(f"{file}: {where}: {raw!r} is not valid", hint=f"nearest: {close}")
    return raw


def _scalar(raw: Any, cls: type, file: str, where: str) -> Any:  # noqa: ANN401
    # bool is a subclass of int: `jobs = true` must not pass as 1.
    if not isinstance(raw, cls) or (cls is int and isinstance(raw, bool)):
        raise DataError(f"{file}: {where}: a {cls.__name__} is wanted, not {raw!r}")
    return raw


@cache
def _fields(cls: type) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Return the fields of a dataclass and their types, by TOML key."""
    # The modules of values import Mapping for the type checker alone.
    hints = typing.get_type_hints(cls, localns={"Mapping": Mapping})
    return {
        f.name.rstrip("_").replace("_", "-"): (f, hints[f.name])
        for f in dataclasses.fields(cls)
        if f.init
    }


def _dataclass(raw: Any, cls: type, file: str, where: str) -> Any:  # noqa: ANN401
    if not isinstance(raw, dict):
        raise DataError(f"{file}: {where or 'top level'}: a table is wanted, not {raw!r}")
    fields = _fields(cls)
    values = {}
    for key, value in raw.items():
        place = _join(where, key)
        if key not in fields:
            near = nearest(key, fields)
            raise DataError(f"{file}: unknown key {place!r}", hint=f"nearest valid key: {near}")
        field, hint = fields[key]
        values[field.name] = build(value, hint, file, place)
    for key, (field, _) in fields.items():
        if field.name not in values and _needed(field):
            raise DataError(f"{file}: {where or 'top level'}: the key {key!r} is missing")
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass's own check, in __post_init__
        raise DataError(f"{file}: {where or 'top level'}: {error}") from error


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
