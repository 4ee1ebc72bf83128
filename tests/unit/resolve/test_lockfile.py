"""A lock: its file reads back as it was written, and it answers who needs what."""

import json
import re

import pytest
from publishing import snapshot
from wheelhouse import REPOSITORY, distribution, lock_of, names, sha256

from builder.errors import DataError
from builder.model import graph
from builder.resolve import lockfile as locks

LOCKS = REPOSITORY / "projects/locks"


def sample():
    return lock_of(
        distribution("keystone", "29.0.2", ["oslo.db[mysql]>=4", "Flask"], kind="service"),
        distribution("oslo.db", "17.0", ["SQLAlchemy>=1.4"], extras={"mysql": ("PyMySQL>=0.7",)}),
        distribution("PyMySQL", "1.1.1"),
        distribution("SQLAlchemy", "2.0", summary="Datenbank für Bücher", options=True),
        distribution("Flask", "3.1", ["Werkzeug[watchdog]"]),
        distribution("Werkzeug", "3.1", [], extras={"watchdog": ()}),
        distribution("lonely", "1"),
        build=[distribution("pbr", "7", kind="build")],
        inputs={"request": sha256(b"abc")},
    )


def test_a_lock_reads_back_as_it_was_written(tmp_path):
    path = tmp_path / "locks/2026.1-bookworm.json"
    assert locks.write(sample(), path)
    assert locks.read(path) == sample()
    assert "Bücher" in path.read_text()


def test_an_unchanged_lock_is_not_written_again(tmp_path):
    path = tmp_path / "lock.json"
    locks.write(sample(), path)
    before = snapshot(path.parent)
    assert not locks.write(locks.read(path), path)
    assert snapshot(path.parent) == before


def test_the_file_changes_in_one_line_when_one_version_does(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    locks.write(lock_of(distribution("a", "1"), distribution("b", "1")), one)
    changed = distribution("b", "1", summary="new")
    locks.write(lock_of(distribution("a", "1"), changed), other)
    pairs = zip(one.read_text().splitlines(), other.read_text().splitlines(), strict=True)
    assert sum(a != b for a, b in pairs) == 1


def test_a_lock_of_a_later_format_is_refused(tmp_path):
    path = tmp_path / "lock.json"
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="format 99 is not known") as raised:
        locks.read(path)
    assert raised.value.exit_code == 3


def truncated(text):
    return text[: len(text) // 2]


def without_python(text):
    return json.dumps({k: v for k, v in json.loads(text).items() if k != "python"})


def with_an_odd_artifact(text):
    raw = json.loads(text)
    raw["distributions"][0]["artifacts"][0]["colour"] = "red"
    return json.dumps(raw)


@pytest.mark.parametrize(
    "damage", [truncated, without_python, with_an_odd_artifact, lambda _: "[]", lambda _: ""]
)
def test_a_damaged_lock_is_one_error_that_names_file_and_remedy(tmp_path, damage):
    path = tmp_path / "lock.json"
    locks.write(sample(), path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=r"^[^\n]*lock\.json: [^\n]+$") as raised:
        locks.read(path)
    assert "build-debs lock" in raised.value.hint


def test_a_lock_that_is_no_text_is_one_error(tmp_path):
    path = tmp_path / "lock.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a lock"):
        locks.read(path)


def test_a_lock_that_cannot_be_written_leaves_none(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        locks.write(sample(), tmp_path / "file/lock.json")
    assert names(tmp_path) == ["file"]


def test_a_closure_follows_extras_and_leaves_the_rest_out():
    found = graph.find_closure(sample(), ["Keystone"])
    assert list(found) == ["flask", "keystone", "oslo-db", "pymysql", "sqlalchemy", "werkzeug"]
    assert list(graph.find_closure(sample(), ["oslo_db"])) == ["oslo-db", "sqlalchemy"]


def test_a_closure_of_a_circle_ends():
    lock = lock_of(distribution("a", requires=["b[x]"]), distribution("b", requires=["a"]))
    assert list(graph.find_closure(lock, ["a"])) == ["a", "b"]


def test_extras_that_name_each_other_end():
    lock = lock_of(
        distribution("a", requires=["b[all]"]),
        distribution("b", extras={"all": ("b[x]",), "x": ("c",)}),
        distribution("c"),
    )
    assert list(graph.find_closure(lock, ["a"])) == ["a", "b", "c"]


def test_who_requires_something_is_told_with_the_requirement():
    rows = graph.find_dependents(sample(), "sqlalchemy")
    assert [(d.name, text) for d, text in rows] == [("oslo.db", "SQLAlchemy>=1.4")]
    # through the extra mysql of oslo.db, which has no package of its own
    rows = graph.find_dependents(sample(), "PyMySQL")
    assert [(d.name, text) for d, text in rows] == [("keystone", "PyMySQL>=0.7")]
    assert graph.find_dependents(sample(), "lonely") == []


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.json")), ids=lambda p: p.stem)
def test_no_committed_lock_names_a_package_index(path):
    pages = [d.homepage for d in locks.read(path).distributions]
    assert not [p for p in pages if re.search(r"://[^/]*(pypi|pythonhosted|cheeseshop)", p)]
