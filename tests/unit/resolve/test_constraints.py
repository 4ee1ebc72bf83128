"""Constraints and overrides are requirements, one a line as pip reads them, and nothing else."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import GAZPACHO
from wheelhouse import body, serving

from builder.errors import DataError, FetchError
from builder.resolve import constraints
from builder.resolve import uv as resolve

BAD = [
    ("-r other.txt", "options and other files are not allowed here"),
    ("-c https://example.org/upper", "options and other files"),
    ("--index-url https://example.org/simple", "options and other files"),
    ("--extra-index-url=https://example.org/simple", "options and other files"),
    ("-e .", "options and other files"),
    ("-e git+https://example.org/x#egg=x", "options and other files"),
    ("a==1 --hash=sha256:00", "options of a requirement"),
    ("a @ https://example.org/a.whl", "expected a version, got a URL"),
    ("a @ file:///etc/passwd", "expected a version, got a URL"),
    ("https://example.org/a-1.0.tar.gz", "expected a version, got a URL"),
    ("git+ssh://git@example.org/a", "expected a version, got a URL"),
    ("a=1", "not a requirement"),
    ("a 1", "not a requirement"),
    ("a==1;python_versoin=='3'", "not a requirement"),
    ("a[b]==1", "extras are not allowed here"),
    ("${SECRET}==1", "not a requirement"),
    ("./local", "not a requirement"),
    ("404: Not Found", "not a requirement"),
    ('{"message": "Not Found"}', "not a requirement"),
    ("a==" + "9" * 5000, "not a requirement"),
    ("a==1; " + "(" * 2000, "not a requirement"),
]


@pytest.mark.parametrize(("line", "expected"), BAD)
def test_a_line_that_is_no_version_is_named_with_file_and_number(tmp_path, line, expected):
    path = tmp_path / "upper.txt"
    path.write_text(f"# one\nok===1\n{line}\nmore===2\n")
    for read in (
        lambda: resolve.read_constraints(str(path), GAZPACHO),
        lambda: resolve.read_overrides(path),
    ):
        with pytest.raises(DataError) as raised:
            read()
        assert raised.value.message.startswith(f"{path}:3: {expected}")
        assert raised.value.exit_code == 3
        assert len(raised.value.message) < 400


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "no requirement in it"),
        (b"\n# nothing\n\n", "no requirement in it"),
        (b"\xef\xbb\xbf", "no requirement in it"),
        (b"<!DOCTYPE html>\n<html></html>\n", "a page"),
        (b"\n  <?xml version='1.0'?>", "a page"),
        (b"\x1f\x8b\x08\x00", "not a text file"),
        (b"a===1\n\x00", "not a text file"),
        ("a===1 # è\n".encode("latin-1"), "not a text file"),
        ("a===1\n".encode("utf-16"), "not a text file"),
        (b"a===1\n" * 2_000_000, "more than"),
    ],
    ids=["empty", "comments", "mark", "html", "xml", "gzip", "nul", "latin", "utf16", "huge"],
)
def test_what_is_no_list_is_said_to_be_none(tmp_path, raw, expected):
    path = tmp_path / "upper.txt"
    path.write_bytes(raw)
    for read in (
        lambda: resolve.read_constraints(str(path), GAZPACHO),
        lambda: resolve.read_overrides(path),
    ):
        with pytest.raises(DataError) as raised:
            read()
        assert expected in raised.value.message
        assert str(path) in raised.value.message


def test_a_page_that_a_server_gives_in_place_of_the_list_is_said_to_be_one():
    with serving() as index:
        url = f"{index.base}/upper"
        index.answers["/upper"] = [body(b"<html>Log in</html>"), body(b"a===1\n-r b\n")]
        with pytest.raises(DataError, match=r"/upper: a page \(HTML or XML\)") as raised:
            resolve.read_constraints(url, GAZPACHO)
        assert "raw" in raised.value.hint
        with pytest.raises(DataError, match=r"/upper:2: options"):
            resolve.read_constraints(url, GAZPACHO)
        with pytest.raises(FetchError, match="cannot read") as refused:
            resolve.read_constraints(url, GAZPACHO)
        assert refused.value.exit_code == 5


def test_comments_marks_ends_of_lines_and_joined_lines_are_as_pip_has_them(tmp_path):
    path = tmp_path / "upper.txt"
    text = (
        "\ufeff# a comment\r\na===1  # why\r\n  b==2 ; \\\r\n  python_version>'3'\r\n"
        "c===3\\\r\n\r\nd>=1,<2\r\n#e===5\r\nf===6;python_version=='3.11'\\"
    )
    path.write_bytes(text.encode())
    # from pip's own reader (pip._internal.req.req_file.preprocess), for the same text
    assert resolve.read_overrides(path) == (
        "a===1",
        "b==2 ;   python_version>'3'",
        "c===3",
        "d>=1,<2",
        "f===6;python_version=='3.11'",
    )


def test_a_pipe_is_read_as_a_file_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("a===1\n",))
    writer.start()
    assert resolve.read_constraints(str(pipe), GAZPACHO) == "a===1\n"
    writer.join()
    with pytest.raises(DataError, match="Is a directory"):
        resolve.read_constraints(str(tmp_path), GAZPACHO)


@given(st.text() | st.lists(st.sampled_from([r for r, _ in BAD])).map("\n".join))
def test_any_text_is_a_list_or_one_error(text):
    try:
        found = constraints.parse(constraints.decode(text.encode(errors="replace"), "x"), "x")
    except DataError:
        return
    assert found
