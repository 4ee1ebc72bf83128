"""Every error a user can see, with its exit code (documented in README.md).

Only the command line's entry point exits; everything else raises one of these.
Each carries one line that says what and where, optional details, and what to do.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class BuildDebsError(Exception):
    """What went wrong, in one line; `details` are further lines; `hint` says what to do next.

    `log` is the full log file, if there is one.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        details: Iterable[str] = (),
        hint: str = "",
        log: Path | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint
        self.log = log


class UsageError(BuildDebsError):
    """A name, option or value on the command line is not valid."""

    exit_code = 2


class DataError(BuildDebsError):
    """A file of `projects/`, a lock, or a file the user named cannot be used."""

    exit_code = 3


class ResolveError(BuildDebsError):
    """The requirements and the constraints have no common solution."""

    exit_code = 4


class FetchError(BuildDebsError):
    """A file cannot be downloaded, or is not the one that was locked."""

    exit_code = 5


class BuildError(BuildDebsError):
    """A wheel or a package failed to build; `hint` names the log."""

    exit_code = 6


class PublishError(BuildDebsError):
    """The repository cannot be written, read or signed."""

    exit_code = 7


class MissingToolError(BuildDebsError):
    """A program or a library is missing on this machine; `hint` names the Debian package."""

    exit_code = 8


class BusyError(BuildDebsError):
    """Another build holds the repository."""

    exit_code = 9


FEW = 20  # names in a message


def list_nearest(word: str, valid: Iterable[str], count: int = 3) -> str:
    """Return the valid names closest to `word`, or else all or the first, joined for a message."""
    names = sorted(valid)
    close = difflib.get_close_matches(word.lower(), names, n=count, cutoff=0.5)
    rest = [f"… ({len(names)} in all)"] if names[FEW:] else []
    return ", ".join(close or [*names[:FEW], *rest])
