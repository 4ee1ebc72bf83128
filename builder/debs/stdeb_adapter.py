"""The only module that uses stdeb, for names of packages (docs/decisions/0003-stdeb.md)."""

from __future__ import annotations

from stdeb.util import debianize_name


def name_binary(distribution: str) -> str:
    """Return the name of a distribution as part of a Debian binary package's (policy 5.6.1)."""
    name: str = debianize_name(distribution)
    return name.replace(".", "-")
