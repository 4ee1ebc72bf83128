"""What a person gives on the command line, held against what it has to be before any work starts.

The functions are callbacks of options; a value that does not do is a UsageError, which names
the option.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from builder.errors import UsageError
from builder.files import unusable
from builder.index import public

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_JOBS = 512
MOST_DAYS = 36500


class Option(Protocol):
    """An option of the command line, of which the name is wanted."""

    opts: list[str]


def kept(*, file: bool = False) -> Callable[[object, Option, str | None], Path | None]:
    """Return a check of a directory, or of a file, that is written: that it can be there."""

    def check(_context: object, option: Option, value: str | None) -> Path | None:
        if value is None:
            return None
        if problem := unusable(value, file=file):
            raise _refused(option, problem)
        return Path(value)

    return check


def source(*, directory: bool = False) -> Callable[[object, Option, str | None], str | None]:
    """Return a check of something that is read: an http(s) URL or a path, not empty.

    With `directory` the path is that of a directory. A URL is given back without its user
    and password (see `index.public`).
    """

    def check(_context: object, option: Option, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.strip() or not value.isprintable():
            raise _refused(option, f"a path or a URL is wanted, not {value!a}")
        if "://" in value:
            if not re.fullmatch(r"https?://[^/?#\s]+[!-~]*", value):
                raise _refused(option, "an http or https URL is wanted, without blanks")
            return public(value)
        if directory and not Path(value).is_dir():
            raise _refused(option, f"{value!r} is no directory")
        return value

    return check


def days(_context: object, option: Option, value: float) -> float:
    """Check a number of days: one that is no number, or has no end, is refused."""
    if not 0 <= value <= MOST_DAYS:
        raise _refused(option, f"a number from 0 to {MOST_DAYS} is wanted, not {value}")
    return value


def word(_context: object, option: Option, value: str | None) -> str | None:
    """Check a word: not empty, and nothing a program takes for an option."""
    if value is not None and (
        not value.strip() or value.startswith("-") or not value.isprintable()
    ):
        raise _refused(option, f"a word is wanted, not {value!a}")
    return value


def _refused(option: Option, problem: str) -> UsageError:
    return UsageError(f"{option.opts[0]}: {problem}")
