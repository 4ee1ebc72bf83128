"""Errors: each kind has an exit code of its own, and a hint finds what was meant."""

import pytest

from builder import errors


def kinds():
    return [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]


def test_each_kind_of_error_has_an_exit_code_of_its_own():
    codes = {kind.__name__: kind.exit_code for kind in kinds()}
    assert codes == {
        "BuildDebsError": 1,
        "UsageError": 2,
        "DataError": 3,
        "ResolveError": 4,
        "FetchError": 5,
        "BuildError": 6,
        "PublishError": 7,
        "MissingToolError": 8,
        "BusyError": 9,
    }


def test_details_of_an_error_can_be_read_twice():
    error = errors.DataError("what", details=(line for line in ("a", "b")))
    assert error.details == ("a", "b")
    assert error.details == ("a", "b")
    assert str(error) == "what"


@pytest.mark.parametrize(
    ("word", "expected"),
    [("keyston", "keystone"), ("NOVA", "nova"), ("zzzzz", "glance, keystone, nova")],
)
def test_nearest_names_what_is_close_or_else_all(word, expected):
    assert errors.list_nearest(word, ["nova", "keystone", "glance"]) == expected


def test_where_nothing_is_near_the_first_of_many_are_named():
    names = errors.list_nearest("zzzzz", [f"openstack-{n:03}" for n in range(130)])
    assert names.startswith("openstack-000, openstack-001, ")
    assert names.endswith("openstack-019, … (130 in all)")


def test_nearest_names_no_more_than_three():
    names = errors.list_nearest("2026.9", [f"2026.{n}" for n in range(1, 9)])
    assert len(names.split(", ")) == 3
