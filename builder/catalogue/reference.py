"""What a service file may contain, from the dataclasses that read it: document and JSON Schema.

The meaning of a key is in the docstring of its dataclass, after its name and a colon.
`python -m builder.catalogue.reference` regenerates the tables of docs/service-files.md and the
schema.
"""

from __future__ import annotations

import builtins
import collections.abc
import dataclasses
import inspect
import json
import re
import types
import typing
from pathlib import Path
from typing import Any, get_args, get_origin

from builder.model import reading
from builder.model.service import Service
from builder.model.shapes import COUNT, LINE, Between, Shape

DOCUMENT, SCHEMA = Path("docs/service-files.md"), Path("docs/service-file.schema.json")
BEGIN, END = "<!-- keys -->\n", "<!-- /keys -->\n"
BOUNDS = {
    "since": "the first series it applies to",
    "until": "the last series it applies to",
}
_NAMES = r"`[a-z_]+`(?:(?:,| and|, and)\s+`[a-z_]+`)*(?:\s\(key `[a-z]+`\))?"
_LABEL = re.compile(rf"(?:^|(?<=[.;)]\s))({_NAMES}):\s", re.MULTILINE)


def parse_meanings(cls: type) -> dict[str, str]:
    """Return the meaning of each field, from the docstring of a dataclass."""
    found = dict(BOUNDS)
    parts = _LABEL.split(inspect.getdoc(cls) or "")
    for names, said in zip(parts[1::2], parts[2::2], strict=True):
        meaning = " ".join(said.split("\n\n")[0].split()).rstrip(".")
        for name in re.findall(r"`([a-z_]+)`", names.split(" (key")[0]):
            found[name] = _replace_names(meaning)
    return found


def parse_introduction(cls: type) -> str:
    """Return the part of a docstring before the fields."""
    return _replace_names(_LABEL.split(inspect.getdoc(cls) or "")[0].strip())


def _replace_names(text: str) -> str:
    """Replace field names with their keys in a file."""
    return re.sub(r"`([a-z]+(?:_[a-z]+)+)`", lambda m: f"`{m[1].replace('_', '-')}`", text)


def list_tables(cls: type = Service, name: str = "") -> list[tuple[str, type]]:
    """Return the tables of a file, the file itself first: how each is written, and its type."""
    found = [(name, cls)]
    for key, (_, hint) in reading.list_fields(cls).items():
        inner, many = _find_table(hint)
        if inner is not None:
            path = f"{name.strip('[]')}.{key}" if name else key
            found += list_tables(inner, f"[[{path}]]" if many else f"[{path}]")
    return found


def _find_table(hint: Any) -> tuple[type | None, bool]:  # noqa: ANN401 - a type, of any form
    if dataclasses.is_dataclass(hint):
        return typing.cast("type", hint), False
    if get_origin(hint) is tuple and dataclasses.is_dataclass(get_args(hint)[0]):
        return get_args(hint)[0], True
    return None, False


def describe(hint: Any) -> str:  # noqa: ANN401
    """Return a type in words."""
    args = get_args(hint)
    match get_origin(hint):
        case typing.Annotated:
            rule = args[1]
            words = rule.what if isinstance(rule, Shape) else _describe_range(rule)
        case typing.Literal:
            words = " or ".join(f"`{word}`" for word in args if word)
        case typing.Union | types.UnionType:
            words = describe(next(a for a in args if a is not types.NoneType))
        case builtins.tuple:
            words = f"a list: {describe(args[0])}"
        case collections.abc.Mapping:
            words = f"a table: {describe(args[1])}"
        case _:
            plain = {bool: "true or false", int: "a number", str: LINE.what}
            words = plain.get(hint, "a table")
    return words


def _describe_range(rule: Between) -> str:
    return f"a number, {rule.least} to {rule.most}"


def _describe_default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "**required**"
    value = field.default
    if value is dataclasses.MISSING or value is None or value in ("", ()):
        return ""
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def render_keys() -> str:
    """Return the reference of all keys, in Markdown."""
    parts = []
    for name, cls in list_tables():
        hidden = {"adopts", "transitional", "aliases"}  # set by the builder, or for successors.toml
        said = parse_meanings(cls)
        rows = [
            f"| `{key}` | {describe(hint)} | {_describe_default(field)} | {said[field.name]} |\n"
            for key, (field, hint) in reading.list_fields(cls).items()
            if field.name not in hidden
        ]
        parts.append(
            f"### {f'`{name}`' if name else 'At the top'}\n\n{parse_introduction(cls)}\n\n"
            f"| key | type | default | meaning |\n|---|---|---|---|\n{''.join(rows)}"
        )
    return "\n".join(parts)


def make_schema(hint: Any = Service) -> dict[str, Any]:  # noqa: ANN401
    """Return the JSON Schema (2020-12) of a type."""
    args = get_args(hint)
    found: dict[str, Any]
    match get_origin(hint):
        case typing.Annotated:
            found = _make_rule_schema(args[1])
        case typing.Literal:
            found = {"enum": list(args)}
        case typing.Union | types.UnionType:
            found = make_schema(next(a for a in args if a is not types.NoneType))
        case builtins.tuple:
            found = {"type": "array", "items": make_schema(args[0])}
        case collections.abc.Mapping:
            found = {"type": "object", "additionalProperties": make_schema(args[1])}
        case _ if dataclasses.is_dataclass(hint):
            found = _make_object_schema(typing.cast("type", hint))
        case _:
            plain = {str: _make_rule_schema(LINE), int: _make_rule_schema(COUNT)}
            found = plain.get(hint, {"type": "boolean"})
    return found


def _make_rule_schema(rule: Shape | Between) -> dict[str, Any]:
    if isinstance(rule, Between):
        return {"type": "integer", "minimum": rule.least, "maximum": rule.most}
    found = {"type": "string", "title": rule.what}
    pattern = rule.pattern.pattern
    # in ECMA 262 `.` does not match line ends, here it does
    return found if pattern == ".*" else found | {"pattern": f"^(?:{pattern})$"}


def _make_object_schema(cls: type) -> dict[str, Any]:
    said, rows = parse_meanings(cls), reading.list_fields(cls)
    required = [k for k, (f, _) in rows.items() if _describe_default(f) == "**required**"]
    properties = {
        key: make_schema(hint) | {"description": said[field.name]}
        for key, (field, hint) in rows.items()
    }
    found = {"type": "object", "additionalProperties": False, "properties": properties}
    return found | ({"required": required} if required else {})


def render_schema() -> str:
    """Return the JSON Schema of a service file."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A service file"}
    return json.dumps(head | make_schema(), indent=1, ensure_ascii=False) + "\n"


def insert_keys(document: str) -> str:
    """Return the document with its reference regenerated."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render_keys()}\n{END}{after}"


def main() -> None:
    """Regenerate both files of a checkout."""
    DOCUMENT.write_text(insert_keys(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA.write_text(render_schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
