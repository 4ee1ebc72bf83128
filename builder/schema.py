"""Read a TOML file of `projects/` into frozen dataclasses, and refuse what is not a known key."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from builder.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")


def load(path: Path, cls: type[T]) -> T:
    """Read `path` as TOML into `cls`; an unknown key is an error that names file, key and nearest key."""
    try:
        with path.open("rb") as stream:
            raw = tomllib.load(stream)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: not TOML: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    return build(raw, cls, str(path), "")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def build(raw: Any, cls: Any, file: str, where: str) -> Any:  # noqa: ANN401 - TOML is untyped
    """Turn a TOML value into `cls`: a dataclass, a tuple, a mapping, an optional or a scalar."""
    origin = typing.get_origin(cls)
    if dataclasses.is_dataclass(cls):
        return _dataclass(raw, typing.cast("type", cls), file, where)
    if origin is tuple:
        if not isinstance(raw, list):
            raise DataError(f"{file}: {where}: a list is wanted, not {raw!r}")
        item = typing.get_args(cls)[0]
        return tuple(build(r, item, file, f"{where}[{i}]") for i, r in enumerate(raw))
    if origin is not None and issubclass_safe(origin, typing.get_origin(typing.Mapping)):
        if not isinstance(raw, dict):
            raise DataError(f"{file}: {where}: a table is wanted, not {raw!r}")
        item = typing.get_args(cls)[1]
        return types.MappingProxyType(
            {k: build(v, item, file, f"{where}.{k}".lstrip(".")) for k, v in raw.items()}
        )
    if origin in (typing.Union, types.UnionType):
        return build(raw, next(a for a in typing.get_args(cls) if a is not type(None)), file, where)
    if origin is typing.Literal:
        if raw not in typing.get_args(cls):
            valid = nearest(str(raw), [str(a) for a in typing.get_args(cls)])
            raise DataError(f"{file}: {where}: {raw!r} is not valid", hint=f"nearest: {valid}")
        return raw
    if not isinstance(raw, cls) or (cls is int and isinstance(raw, bool)):
        raise DataError(f"{file}: {where}: a {cls.__name__} is wanted, not {raw!r}")
    return raw


def issubclass_safe(cls: Any, base: Any) -> bool:  # noqa: ANN401 - typing origins
    """`issubclass` that is False for what is no class."""
    return isinstance(cls, type) and issubclass(cls, base)


def _dataclass(raw: Mapping[str, Any], cls: type, file: str, where: str) -> Any:  # noqa: ANN401
    if not isinstance(raw, dict):
        raise DataError(f"{file}: {where or 'top level'}: a table is wanted, not {raw!r}")
    names = {f.name.rstrip("_").replace("_", "-"): f for f in dataclasses.fields(cls) if f.init}
    values = {}
    for key, value in raw.items():
        place = f"{where}.{key}".lstrip(".")
        if key not in names:
            raise DataError(
                f"{file}: unknown key {place!r}", hint=f"nearest valid key: {nearest(key, names)}"
            )
        field = names[key]
        values[field.name] = build(value, _hints(cls)[field.name], file, place)
    for key, field in names.items():
        needed = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if needed and field.name not in values:
            raise DataError(f"{file}: {where or 'top level'}: the key {key!r} is missing")
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass's own check, in __post_init__
        raise DataError(f"{file}: {where or 'top level'}: {error}") from error
