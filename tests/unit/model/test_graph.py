"""What requires what in a lock."""

from builder.model import graph
from builder.model.values import Distribution


def row(name, requires=(), extras=None):
    return Distribution(name, "1", "library", tuple(requires), extras or {}, (), ())


def test_extras_that_name_each_other_are_followed_once():
    known = {"x": row("x", extras={"a": ("y[b]",)}), "y": row("y", extras={"b": ("x[a]", "z")})}
    found = graph.expand_requirements(row("root", ["x[a]"]), (), known)
    assert [str(r) for r in found] == ["x[a]", "y[b]", "x[a]", "z"]


def test_an_extra_adds_what_its_own_extra_adds():
    known = {"x": row("x", extras={"a": ("x[b]",), "b": ("z",)})}
    found = graph.expand_requirements(row("root", ["x[a]"]), (), known)
    assert [str(r) for r in found] == ["x[a]", "x[b]", "z"]
