"""A file of `projects/` is read strictly, and a mistake in it is named precisely."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from builder.errors import DataError
from builder.model import reading


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    port_number: int = 0


@dataclass(frozen=True, slots=True)
class Whole:
    id: str
    from_: str = ""
    mode: Literal["fast", "slow"] = "fast"
    on: bool = False
    parts: tuple[Part, ...] = ()
    pair: tuple[str, int] = ("", 0)
    table: Mapping[str, str] = field(default_factory=dict)
    nested: Mapping[str, Part] = field(default_factory=dict)
    either: str | tuple[str, ...] | None = None

    def __post_init__(self):
        if self.id == "bad":
            raise ValueError("bad is no id")


@pytest.fixture
def read(tmp_path):
    def read(text):
        file = tmp_path / "whole.toml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return reading.load(file, Whole)

    return read


def test_every_kind_of_value(read):
    whole = read(
        """
        id = "a"
        from = "b"
        mode = "slow"
        on = true
        pair = ["x", 2]
        either = ["p", "q"]
        parts = [{name = "one", port-number = 1}, {name = "two"}]
        table = {k = "v"}
        [nested.part]
        name = "three"
        """
    )
    assert whole == Whole(
        id="a",
        from_="b",
        mode="slow",
        on=True,
        pair=("x", 2),
        either=("p", "q"),
        parts=(Part("one", 1), Part("two")),
        table={"k": "v"},
        nested={"part": Part("three")},
    )
    assert pickle.loads(pickle.dumps(whole)) == whole  # noqa: S301 - made here


def test_union_takes_its_other_member(read):
    assert read('id = "a"\neither = "p"').either == "p"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('idd = "a"', "unknown key 'idd'", "nearest valid key: id"),
        (
            'id = "a"\n[[parts]]\nname = "n"\nport-numbr = 1',
            "unknown key 'parts[0].port-numbr'",
            "nearest valid key: port-number",
        ),
        (
            'id = "a"\nparts = [{name = "n", port_number = 1}]',
            "unknown key 'parts[0].port_number'",
            "nearest valid key: port-number",
        ),
        ('id = "a"\nmode = "slwo"', "mode: 'slwo' is not valid", "nearest: slow"),
        ("on = true", "top level: the key 'id' is missing", ""),
        ('id = "a"\n[[parts]]', "parts[0]: the key 'name' is missing", ""),
        ("id = 1", "id: expected a string, got 1", ""),
        ('id = "a"\nparts = "x"', "parts: expected a list, got 'x'", ""),
        ('id = "a"\nparts = ["x"]', "parts[0]: expected a table, got 'x'", ""),
        ('id = "a"\ntable = []', "table: expected a table, got []", ""),
        ('id = "a"\npair = ["x"]', "pair: expected a list of 2 items, got 1", ""),
        (
            'id = "a"\nparts = [{name = "n", port-number = true}]',
            "parts[0].port-number: expected an integer, got True",
            "",
        ),
        ('id = "bad"', "top level: bad is no id", ""),
    ],
)
def test_mistake_is_named_with_file_and_key(read, tmp_path, text, message, hint):
    with pytest.raises(DataError) as error:
        read(text)
    assert error.value.message == f"{tmp_path}/whole.toml: {message}"
    assert error.value.hint == hint
    assert error.value.exit_code == 3


@pytest.mark.parametrize("text", ["id = ", b'id = "\xff"'])
def test_not_toml(read, text):
    with pytest.raises(DataError, match=r"whole\.toml: not TOML: "):
        read(text)


def test_absent_file(tmp_path):
    with pytest.raises(DataError, match=r"gone\.toml: No such file or directory"):
        reading.load(tmp_path / "gone.toml", Whole)
