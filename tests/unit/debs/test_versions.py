"""PEP 440 and Debian agree on order: dpkg's own comparison is the judge."""

import subprocess
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import Specifier
from packaging.version import Version

from builder.debs.versions import make_full_version, translate_specifier, translate_version

NUMBER = st.integers(0, 12)
SEGMENT = st.one_of(NUMBER.map(str), st.text("ab19", min_size=1, max_size=4))


@st.composite
def versions(draw, *, local=True, post=True):
    text = ""
    if draw(st.integers(0, 5)) == 0:
        text += f"{draw(st.integers(1, 2))}!"
    text += ".".join(str(n) for n in draw(st.lists(NUMBER, min_size=1, max_size=5)))
    if draw(st.booleans()):
        text += draw(st.sampled_from(["a", "b", "rc"])) + str(draw(NUMBER))
    if post and draw(st.booleans()):
        text += f".post{draw(NUMBER)}"
    if draw(st.booleans()):
        text += f".dev{draw(NUMBER)}"
    if local and draw(st.integers(0, 2)) == 0:
        text += "+" + ".".join(draw(st.lists(SEGMENT, min_size=1, max_size=3)))
    return Version(text)


def dpkg(a, op, b):
    return subprocess.run(["dpkg", "--compare-versions", a, op, b], check=False).returncode == 0


@settings(max_examples=300, deadline=None)
@given(versions(), versions())
def test_debian_sorts_as_pep_440(a, b):
    expected = "lt" if a < b else "gt" if a > b else "eq"
    assert dpkg(make_full_version(a, 12, 1), expected, make_full_version(b, 12, 1))


def test_order_of_a_whole_release():
    text = """
        1.0.dev1 1.0a1.dev1 1.0a1 1.0a1.post1 1.0b2 1.0rc1 1.0
        1.0+abc 1.0+5 1.0.post1.dev1 1.0.post1 1.0.0.1 1.0.1 1!0.1
    """
    ordered = text.split()
    for a, b in pairwise(ordered):
        assert dpkg(translate_version(a), "lt", translate_version(b)), (a, b)


def test_plain_versions_stay_readable():
    assert make_full_version("33.0.2", 12, 1, epoch=2) == "2:33.0.2-1+deb12.1"
    assert translate_version("1.0rc1") == "1.0.0~rc1"


def test_next_debian_sorts_above_any_revision():
    assert dpkg(make_full_version("1.0", 12, 9), "lt", make_full_version("1.0", 13, 1))


def holds(relation, deb):
    """Whether a relation such as `p (>= 1) | p (<< 0)` holds for version `deb`."""
    parts = [alternative[3:-1].split() for alternative in relation.split(" | ")]
    return any(dpkg(deb, op, bound) for op, bound in parts)


@settings(max_examples=400, deadline=None)
@given(versions(post=False), versions(local=False, post=False),
       st.sampled_from(["==", "!=", "<=", ">=", "<", ">", "~=", "==*", "!=*"]))  # fmt: skip
def test_relations_hold_when_the_specifier_does(version, bound, operator):
    text = str(bound)
    if operator.endswith("*"):
        operator, text = operator[:2], f"{bound.epoch}!" + ".".join(map(str, bound.release)) + ".*"
    if operator == "~=" and len(bound.release) < 2:
        return
    specifier = Specifier(operator + text)
    wanted = specifier.contains(version, prereleases=True)
    got = all(
        holds(r, make_full_version(version, 12, 3)) for r in translate_specifier("p", specifier)
    )
    assert got == wanted


@pytest.mark.parametrize("spec", [">=1.2", "==1.2", "~=1.2.3", "!=1.2", "<2", "==1.*"])
def test_relations_name_the_package(spec):
    assert all(
        r.startswith("openstack-x (") for r in translate_specifier("openstack-x", Specifier(spec))
    )
