"""Read upper-constraints and a user's overrides: requirements, one per line, as pip reads them.

pip's format for requirements files, without what a list of versions does not need: options,
nested files, URLs and extras are refused. So is a web page served instead of the list.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from builder import index, web
from builder.errors import DataError, FetchError
from builder.model import reading
from builder.model.shapes import parse_requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.requirements import Requirement

LARGEST = 8 << 20
LONGEST = 1000  # characters of a line
TIMEOUT = 30
COMMENT = re.compile(r"(^|\s+)#.*$")


def read(source: str, what: str) -> str:
    """Return the text of `what`, a list of requirements, from a file or URL.

    Raises DataError with file and line, FetchError if a server does not return it.
    """
    where = index.strip_credentials(source)
    if re.match(r"https?://", where):
        try:
            raw = web.get(where, timeout=TIMEOUT, largest=LARGEST)
        except web.NoAnswerError as error:
            raise FetchError(
                f"cannot read {what} from {where}",
                details=[str(error)],
                hint=web.choose_hint(error.status, "name a copy with --constraints FILE"),
            ) from error
    else:
        raw = reading.read_given(Path(where), LARGEST)
    text = decode(raw, where)
    parse(text, where)
    return text


def decode(raw: bytes, where: str) -> str:
    """Return bytes as text, without the byte order mark some editors add."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not a text file (UTF-8)") from error
    if "\0" in text:
        raise DataError(f"{where}: not a text file")
    if text.lstrip()[:1] == "<":
        raise DataError(
            f"{where}: a page (HTML or XML), not a list of requirements",
            hint="ask for the file itself: its raw or plain form",
        )
    return text


def parse(text: str, where: str) -> list[str]:
    """Return the requirements of a text; DataError with the line of an invalid one."""
    found = []
    for number, line in split_lines(text):
        if problem := _explain_invalid(line):
            raise DataError(
                f"{where}:{number}: {problem}: {reading.describe_value(index.mask_secrets(line))}"
            )
        found.append(line)
    if not found:
        raise DataError(f"{where}: no requirement in it")
    return found


def split_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield line numbers and lines, without comments, with backslash-continued lines joined."""
    parts: list[str] = []
    first = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = COMMENT.sub("", raw)
        first = first if parts else number
        if line.endswith("\\"):
            parts.append(line[:-1])
            continue
        if whole := "".join([*parts, line]).strip():
            yield first, whole
        parts = []
    if whole := "".join(parts).strip():
        yield first, whole


def _explain_invalid(line: str) -> str:
    """Return why a line is not a requirement on a version, or nothing."""
    if line.startswith("-"):
        return "options and other files are not allowed here"
    if re.search(r"\s--?\w", line):
        return "options of a requirement are not allowed here"
    if "://" in line or re.match(r"[\w.-]+\s*(\[[^\]]*\])?\s*@", line):
        return "expected a version, got a URL"
    found = _parse_requirement(line) if len(line) <= LONGEST else None
    if found is None:
        return "not a requirement"
    return "extras are not allowed here" if found.extras else ""


def _parse_requirement(line: str) -> Requirement | None:
    """Return a line as a requirement (PEP 508), None if it is not one."""
    try:
        found = parse_requirement(line)
        if found.marker:
            found.marker.evaluate({"extra": ""})
    except (ValueError, RecursionError, KeyError):
        return None
    return found
