"""The paths of a repository, in one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COMPONENT = "main"
# Plain for tools without compression, gz for every apt, xz for a small download.
SUFFIXES = ("", ".gz", ".xz")
SIGNED = ("Release.gpg", "Release", "InRelease")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one suite in a repository directory."""

    repo: Path
    suite: str

    @property
    def dists(self) -> Path:
        """The suite's directory."""
        return self.repo / "dists" / self.suite

    @property
    def inrelease(self) -> Path:
        """The file that makes a change visible."""
        return self.dists / "InRelease"

    @property
    def state(self) -> Path:
        """The contents of the indices, in a form that loads fast; derived, never the authority."""
        return self.repo / ".state" / f"{self.suite}.json"

    @property
    def staging(self) -> Path:
        """Where new files wait for their rename; on the same file system by construction."""
        return self.repo / ".staging"


def name_binary_index(architecture: str) -> str:
    """Return the name of the Packages file, relative to the suite's directory."""
    return f"{COMPONENT}/binary-{architecture}/Packages"


SOURCE_INDEX = f"{COMPONENT}/source/Sources"


def name_pool_directory(source: str) -> str:
    """Return the pool directory of a source package, relative to the repository.

    The prefix is the first letter, or `lib` and a letter, as in Debian's own pool.
    """
    prefix = source[:4] if source.startswith("lib") else source[0]
    return f"pool/{COMPONENT}/{prefix}/{source}"


def name_by_hash(index: str, sha256: str) -> str:
    """Return the by-hash name of an index file, relative to the suite's directory."""
    return f"{index.rpartition('/')[0]}/by-hash/SHA256/{sha256}"


def list_layouts(repo: Path) -> list[Layout]:
    """Return every suite that was ever made visible, by name."""
    return [Layout(repo, path.parent.name) for path in sorted(repo.glob("dists/*/InRelease"))]
