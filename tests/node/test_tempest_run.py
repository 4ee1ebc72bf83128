"""What is made of Tempest's results, without a cloud."""

from __future__ import annotations

import pytest
from tempest_run import Expected, Result, of_tests, with_table

NAME = "tempest.api.image.v2.test_images.ImagesTest"
EXPECTED = Expected(
    versions={},
    areas={},
    ci={},
    skip=({"said": "^no object storage$", "reason": "swift is not packaged"},),
    fault=({"test": "test_slow$", "said": "Timeout", "reason": "the test waits too little"},),
)


def result(test: str, status: str, said: str = "") -> Result:
    return Result(test, status, 0.1, said)


def test_each_test_asked_for_has_a_result() -> None:
    rows = [
        result(f"{NAME}.test_a[id-1,smoke]", "success"),
        result(f"{NAME}Admin.test_b[id-2]", "exists"),  # the stream begins with a list of them
        result(f"setUpClass ({NAME}Admin)", "skip", "no object storage"),
        result(f"tearDownClass ({NAME})", "fail", "409"),
    ]
    asked = [f"{NAME}.test_a[id-1,smoke]", f"{NAME}Admin.test_b[id-2]", f"{NAME}.test_c[id-3]"]
    found = {r.test: r.status for r in of_tests(rows, asked)}
    assert found == {
        f"{NAME}.test_a": "success",
        f"{NAME}Admin.test_b": "skip",
        f"{NAME}.test_c": "fail",  # it has none: lost
        f"tearDownClass ({NAME})": "fail",
    }


@pytest.mark.parametrize(
    ("one", "known"),
    [
        (result(f"{NAME}.test_a", "skip", "no object storage"), True),
        (result(f"{NAME}.test_a", "skip", "no object storage here"), False),
        (result(f"{NAME}.test_slow", "fail", "tempest.lib.exceptions.TimeoutException"), True),
        (result(f"{NAME}.test_slow", "fail", "500"), False),
        (result(f"{NAME}.test_slow", "skip", "Timeout"), False),
        (result(f"{NAME}.test_slow", "success"), True),
    ],
)
def test_what_no_entry_accounts_for_is_unexpected(one: Result, *, known: bool) -> None:
    assert (EXPECTED.unexpected([one]) == []) == known


def test_an_entry_that_holds_for_nothing_is_told() -> None:
    skipped = result(f"{NAME}.test_a", "skip", "no object storage")
    assert EXPECTED.unused([skipped]) == list(EXPECTED.fault)


def test_the_table_is_replaced() -> None:
    once = with_table("A\n<!-- tempest -->\n<!-- /tempest -->\n", "first\n")
    assert with_table(once, "second\n") == "A\n<!-- tempest -->\nsecond\n<!-- /tempest -->\n"


def test_each_entry_of_the_file_has_a_reason() -> None:
    expected = Expected.read()
    for entry in (*expected.skip, *expected.fault):
        assert entry.keys() <= {"test", "said", "reason"}
        assert entry["reason"]
        assert entry.keys() & {"test", "said"}
