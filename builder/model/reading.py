"""Read a TOML file of `projects/`, or a lock, into frozen dataclasses; refuse anything invalid.

A field `signing_key` is the key `signing-key`; a field that avoids a Python word by a
final underscore (`type_`) is the key without it. Tables become plain dicts that the
dataclass declares as `Mapping`, so that values can be pickled and nobody may write to them.

The field's type defines the form of a text or a number (`builder.model.shapes`).
"""

from __future__ import annotations

import dataclasses
import stat
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from builder.errors import DataError, list_nearest
from builder.model import shapes
from builder.model.shapes import COUNT, LINE, Between, Shape

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
LARGEST = 4 << 20  # bytes of a file a person writes
Where = tuple[Any, Any] | None
"""A place in a file: the place that contains it, and a key or an index there."""
Reader = Callable[[Any, str, Where], Any]
LONGEST = 100  # characters of a value in a message


def load(path: Path, cls: type[T]) -> T:
    """Read `path` as TOML into the dataclass `cls`.

    Raises DataError naming the file and, for an unknown key, the key and the nearest valid one.
    """
    return typing.cast("T", build(parse(path), cls, str(path)))


def parse(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; DataError if it is not one."""
    try:
        return tomllib.loads(read_bytes(path).decode("utf-8"))
    except RecursionError as error:
        raise DataError(f"{path}: not TOML: lists or tables nested too deeply") from error
    except ValueError as error:  # of TOML, of the encoding, or of a number of 5000 digits
        raise DataError(f"{path}: not TOML: {error}") from error


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """Return the content of a regular file; DataError if it is not one, or too large."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            kind = "a directory" if stat.S_ISDIR(state.st_mode) else "a special file"
            raise DataError(f"{path}: expected a regular file, got {kind}")
        if state.st_size > largest:
            raise DataError(f"{path}: {state.st_size} bytes, more than the limit of {largest}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in its name
        raise DataError(f"{str(path)!r}: {error}") from error


def read_given(path: Path, largest: int) -> bytes:
    """Return the content of what the user named: a file, or a pipe (a shell's `<(...)`).

    Raises DataError if it cannot be read, or has more than `largest` bytes.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(largest + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', '') or error}") from error
    if len(raw) > largest:
        raise DataError(f"{path}: more than {largest} bytes")
    return raw


def build(raw: Any, cls: Any, file: str, where: Where = None) -> Any:  # noqa: ANN401 - untyped
    """Turn a value from TOML or JSON into `cls`: a dataclass, a tuple, a mapping, a scalar.

    `file` and `where` are for the error's text.
    """
    return _choose_reader(cls)(raw, file, where)


def describe_value(value: object) -> str:
    """Return a value for a message: its repr, cut short."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except (ValueError, RecursionError):  # more digits, or more lists, than Python writes
        return f"an oversized {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def describe_place(where: Where) -> str:
    """Return a place in a file as a person reads it: `distributions[3].requires[1]`."""
    text = ""
    while where is not None:
        where, key = where
        text = f"[{key}]{text}" if isinstance(key, int) else f".{key}{text}"
    return text.removeprefix(".") or "top level"


def _mismatch_error(file: str, where: Where, expected: str, found: object) -> DataError:
    place, value = describe_place(where), describe_value(found)
    return DataError(f"{file}: {place}: expected {expected}, got {value}")


@cache
def _choose_reader(cls: Any) -> Reader:  # noqa: ANN401
    """Return the function that turns a raw value into `cls`."""
    if dataclasses.is_dataclass(cls):
        return _make_dataclass_reader(typing.cast("type", cls))
    if make := _MAKERS.get(get_origin(cls)):
        return make(get_args(cls))
    if cls is str:
        return _make_text_reader(LINE)
    return _make_number_reader(COUNT) if cls is int else _make_scalar_reader(cls)


def _make_tuple_reader(args: tuple[Any, ...]) -> Reader:
    length = None if args[1:] == (...,) else len(args)
    # a dataclass may contain itself, so readers are looked up when they are needed

    def read(raw: Any, file: str, where: Where) -> tuple[Any, ...]:  # noqa: ANN401
        if not isinstance(raw, list):
            raise _mismatch_error(file, where, "a list", raw)
        if length is None:
            item = _choose_reader(args[0])
            return tuple([item(value, file, (where, i)) for i, value in enumerate(raw)])
        if len(raw) != length:
            raise _mismatch_error(file, where, f"a list of {length} items", len(raw))
        rows = enumerate(zip(raw, args, strict=True))
        return tuple([_choose_reader(a)(value, file, (where, i)) for i, (value, a) in rows])

    return read


def _make_mapping_reader(args: tuple[Any, ...]) -> Reader:
    of_key, of_value = map(_choose_reader, args)

    def read(raw: Any, file: str, where: Where) -> dict[str, Any]:  # noqa: ANN401
        if not isinstance(raw, dict):
            raise _mismatch_error(file, where, "a table", raw)
        return {of_key(k, file, (where, k)): of_value(v, file, (where, k)) for k, v in raw.items()}

    return read


def _make_union_reader(args: tuple[Any, ...]) -> Reader:
    # TOML has no null: an optional key is left out, so None never has to match.
    *others, last = (_choose_reader(a) for a in args if a is not types.NoneType)

    def read(raw: Any, file: str, where: Where) -> Any:  # noqa: ANN401
        for member in others:
            try:
                return member(raw, file, where)
            except DataError:
                continue
        return last(raw, file, where)

    return read


def _make_literal_reader(valid: tuple[Any, ...]) -> Reader:
    def read(raw: Any, file: str, where: Where) -> Any:  # noqa: ANN401
        if not isinstance(raw, str) or raw not in valid:
            words = [str(v) for v in valid]
            close = list_nearest(raw, words) if isinstance(raw, str) else ", ".join(words)
            raise DataError(
                f"{file}: {describe_place(where)}: {describe_value(raw)} is not valid",
                hint=f"nearest: {close}",
            )
        return raw

    return read


def _make_annotated_reader(args: tuple[Any, ...]) -> Reader:
    cls, rule = args
    if cls is str and isinstance(rule, Shape):
        return _make_text_reader(rule)
    if cls is int and isinstance(rule, Between):
        return _make_number_reader(rule)
    raise TypeError(f"{rule} is not a rule for {cls}")


def _make_text_reader(shape: Shape) -> Reader:
    match, check = shape.pattern.fullmatch, shape.check

    def read(raw: Any, file: str, where: Where) -> str:  # noqa: ANN401
        if not isinstance(raw, str):
            raise _mismatch_error(file, where, "a string", raw)
        if not match(raw) or not (check is None or check(raw)):
            raise _mismatch_error(file, where, shape.what, raw)
        return raw

    return read


def _make_number_reader(rule: Between) -> Reader:
    def read(raw: Any, file: str, where: Where) -> int:  # noqa: ANN401
        # bool is a subclass of int: `jobs = true` must not pass as 1.
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise _mismatch_error(file, where, "an integer", raw)
        if not rule.least <= raw <= rule.most:
            raise _mismatch_error(file, where, f"a number from {rule.least} to {rule.most}", raw)
        return raw

    return read


def _make_scalar_reader(cls: type) -> Reader:
    def read(raw: Any, file: str, where: Where) -> Any:  # noqa: ANN401
        if not isinstance(raw, cls):
            kind = "a boolean" if cls is bool else cls.__name__
            raise _mismatch_error(file, where, kind, raw)
        return raw

    return read


_MAKERS: dict[Any, Callable[[tuple[Any, ...]], Reader]] = {
    tuple: _make_tuple_reader,
    Mapping: _make_mapping_reader,
    Union: _make_union_reader,
    types.UnionType: _make_union_reader,
    Literal: _make_literal_reader,
    Annotated: _make_annotated_reader,
}


@cache
def list_fields(cls: type) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Return the fields of a dataclass and their types, by key."""
    # The value modules import Mapping and the types of values only for the type checker.
    known = {**vars(shapes), "Mapping": Mapping, **vars(sys.modules[cls.__module__])}
    hints = typing.get_type_hints(cls, localns=known, include_extras=True)
    return {
        f.name.rstrip("_").replace("_", "-"): (f, hints[f.name])
        for f in dataclasses.fields(cls)
        if f.init
    }


def _make_dataclass_reader(cls: type) -> Reader:
    known = list_fields(cls)

    def read(raw: Any, file: str, where: Where) -> Any:  # noqa: ANN401
        if not isinstance(raw, dict):
            raise _mismatch_error(file, where, "a table", raw)
        given = {}
        for key, value in raw.items():
            if key not in known:
                near = list_nearest(key, known)
                raise DataError(
                    f"{file}: unknown key {describe_place((where, key))!r}",
                    hint=f"nearest valid key: {near}",
                )
            field, hint = known[key]
            given[field.name] = _choose_reader(hint)(value, file, (where, key))
        for key, (field, _) in known.items():
            if field.name not in given and _is_required(field):
                raise DataError(f"{file}: {describe_place(where)}: the key {key!r} is missing")
        try:
            return cls(**given)
        except ValueError as error:  # a dataclass's own check, in __post_init__
            raise DataError(f"{file}: {describe_place(where)}: {error}") from error

    return read


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
