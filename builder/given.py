"""Check the values of command-line options before any work starts.

The functions are option callbacks; an invalid value is a UsageError that names the option.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from builder.errors import UsageError
from builder.files import explain_unreadable, explain_unusable
from builder.index import strip_credentials

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_JOBS = 512
MOST_DAYS = 36500


class Option(Protocol):
    """A command-line option, of which only the name is used."""

    opts: list[str]


def make_writable_check(
    *, file: bool = False
) -> Callable[[object, Option, str | None], Path | None]:
    """Return a check that a directory, or with `file` a file, can be written there."""

    def check(_context: object, option: Option, value: str | None) -> Path | None:
        if value is None:
            return None
        if problem := explain_unusable(value, file=file):
            raise _option_error(option, problem)
        return Path(value)

    return check


def make_source_check(
    *, directory: bool = False
) -> Callable[[object, Option, str | None], str | None]:
    """Return a check of a source to read: the path of a file or an http(s) URL.

    With `directory` it is the path of a directory. A URL is returned without its user and
    password (see `index.strip_credentials`).
    """

    def check(_context: object, option: Option, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.strip() or not value.isprintable():
            raise _option_error(option, f"expected a path or a URL, got {value!a}")
        if "://" in value:
            if not re.fullmatch(r"https?://[^/?#\s]+[!-~]*", value):
                raise _option_error(option, "expected an http or https URL without blanks")
            try:
                return strip_credentials(value)
            except UsageError as error:
                raise _option_error(option, error.message) from error
        if problem := explain_unreadable(value, directory=directory):
            raise _option_error(option, problem)
        return value

    return check


def check_days(_context: object, option: Option, value: float) -> float:
    """Check a number of days; NaN and infinity are refused."""
    if not 0 <= value <= MOST_DAYS:
        raise _option_error(option, f"expected a number from 0 to {MOST_DAYS}, got {value}")
    return value


def check_word(_context: object, option: Option, value: str | None) -> str | None:
    """Check a word: not empty, and not something a program takes for an option."""
    if value is not None and (
        not value.strip() or value.startswith("-") or not value.isprintable()
    ):
        raise _option_error(option, f"expected a word, got {value!a}")
    return value


def _option_error(option: Option, problem: str) -> UsageError:
    return UsageError(f"{option.opts[0]}: {problem}")
