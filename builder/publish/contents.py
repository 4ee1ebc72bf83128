"""What a suite lists: stanzas of Packages and Sources, read and written with python-debian."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from builder.errors import PublishError
from builder.files import read_regular_file
from builder.publish.layout import SOURCE_INDEX, Layout, name_binary_index, name_by_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# python-debian takes a tenth of a second to import, so it is imported only where
# stanzas are read: a run that changes nothing never needs it.


@dataclass(frozen=True, slots=True)
class PoolFile:
    """A file of the pool: path relative to the repository, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file name without the directory."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Entry:
    """A version of a package in a suite; `architecture` is `source` for a source package.

    `inputs` is the field Build-Inputs: the digest of what the package was made from.
    """

    package: str
    version: str
    architecture: str
    source: str
    source_version: str
    inputs: str
    files: tuple[PoolFile, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        """The key that is unique in a suite."""
        return self.package, self.version, self.architecture


@dataclass(frozen=True, slots=True)
class Stanza:
    """An entry and its text in the index (no blank line at the end)."""

    entry: Entry
    text: str


@dataclass(frozen=True, slots=True)
class Contents:
    """A suite as its indices describe it: the Release fields, its Date, the stanzas in order."""

    fields: Mapping[str, str]
    date: float
    binaries: tuple[Stanza, ...]
    sources: tuple[Stanza, ...]


EMPTY = Contents({}, 0.0, (), ())
UNCOMPARED = ("Date", "SHA256")


def read_release(layout: Layout) -> dict[str, Any] | None:
    """Return the fields of the suite's InRelease (SHA256: name to digest), or None."""
    from debian import deb822  # noqa: PLC0415 - slow to import

    try:
        data = read_regular_file(layout.inrelease)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PublishError(
            f"{layout.inrelease} cannot be read: {error.strerror}",
            hint=f"restore it, or remove {layout.dists} and publish the suite again",
        ) from error
    release = deb822.Release(data.splitlines())
    if not all(field in release for field in ("SHA256", "Date", "Architectures")):
        raise PublishError(
            f"{layout.inrelease} is not a signed Release file",
            hint=f"remove {layout.dists} and publish the suite again",
        )
    fields: dict[str, Any] = {key: release[key] for key in release if key != "SHA256"}
    fields["SHA256"] = {row["name"]: row["sha256"] for row in release["SHA256"]}
    return fields


def read_date(release: Mapping[str, Any]) -> float | None:
    """Return the Date of a Release, in seconds since 1970; None if it is not a date."""
    try:
        return parsedate_to_datetime(release["Date"]).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def parse_date(release: Mapping[str, Any]) -> float:
    """Return the Date of a Release, in seconds since 1970; 0 if it is not a date."""
    return read_date(release) or 0.0


def read(layout: Layout, known: tuple[Sequence[Entry], Sequence[Entry]] = ((), ())) -> Contents:
    """Return what the suite's InRelease makes visible; EMPTY for a suite not yet published.

    The indices are read by hash: after a crash the plain names may already belong to a
    publication that never became visible. Entries that are `known` (binaries, sources) are not
    parsed again.
    """
    release = read_release(layout)
    if release is None:
        return EMPTY
    texts = []
    for index in (name_binary_index(release["Architectures"]), SOURCE_INDEX):
        digest = release["SHA256"].get(index, "")
        path = layout.dists / name_by_hash(index, digest)
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != digest:
            raise PublishError(
                f"{path} does not match {layout.inrelease}",
                hint=f"restore it, or remove {layout.dists} and publish the suite again",
            )
        texts.append(data)
    return Contents(
        {key: value for key, value in release.items() if key not in UNCOMPARED},
        parse_date(release),
        tuple(_pair_stanzas(texts[0], known[0]) or parse_packages(texts[0])),
        tuple(_pair_stanzas(texts[1], known[1]) or parse_sources(texts[1])),
    )


def _pair_stanzas(data: bytes, entries: Sequence[Entry]) -> list[Stanza]:
    """Return the stanzas of an index with their entries; none if these are not its own."""
    texts = data.decode().split("\n\n")[:-1]
    if len(texts) != len(entries) or not all(map(_describes, entries, texts)):
        return []
    return [Stanza(entry, text) for entry, text in zip(entries, texts, strict=True)]


def _describes(entry: Entry, text: str) -> bool:
    """Whether a stanza is of this package and version, with these files."""
    return (
        text.startswith(f"Package: {entry.package}\n")
        and f"\nVersion: {entry.version}\n" in text
        and all(file.sha256 in text for file in entry.files)
    )


def parse_packages(data: bytes) -> list[Stanza]:
    """Return the stanzas of a Packages file."""
    from debian import deb822  # noqa: PLC0415

    stanzas = []
    for row in deb822.Packages.iter_paragraphs(data.splitlines(), use_apt_pkg=False):
        file = PoolFile(row["Filename"], int(row["Size"]), row["SHA256"])
        entry = Entry(
            package=row["Package"],
            version=row["Version"],
            architecture=row["Architecture"],
            source=str(row.source),
            source_version=str(row.source_version),
            inputs=row.get("Build-Inputs", ""),
            files=(file,),
        )
        stanzas.append(Stanza(entry, row.dump().rstrip("\n")))
    return stanzas


def parse_sources(data: bytes) -> list[Stanza]:
    """Return the stanzas of a Sources file; the first file of an entry is its .dsc."""
    from debian import deb822  # noqa: PLC0415

    stanzas = []
    for row in deb822.Sources.iter_paragraphs(data.splitlines(), use_apt_pkg=False):
        directory, name, version = row["Directory"], row["Package"], row["Version"]
        files = [
            PoolFile(f"{directory}/{file['name']}", int(file["size"]), file["sha256"])
            for file in row["Checksums-Sha256"]
        ]
        files.sort(key=lambda file: not file.name.endswith(".dsc"))
        inputs = row.get("Build-Inputs", "")
        entry = Entry(name, version, "source", name, version, inputs, tuple(files))
        stanzas.append(Stanza(entry, row.dump().rstrip("\n")))
    return stanzas


def move_stanza(stanza: Stanza, directory: str, name: str = "") -> Stanza:
    """Return `stanza` with its files in another directory; `name` renames a binary's file."""
    entry, text = stanza.entry, stanza.text
    files = tuple(replace(file, path=f"{directory}/{name or file.name}") for file in entry.files)
    old = entry.files[0].path
    if entry.architecture == "source":
        old = old.rpartition("/")[0]
        text = text.replace(f"\nDirectory: {old}\n", f"\nDirectory: {directory}\n", 1)
    else:
        text = text.replace(f"\nFilename: {old}\n", f"\nFilename: {files[0].path}\n", 1)
    return Stanza(replace(entry, files=files), text)


def sort_stanzas(stanzas: Iterable[Stanza]) -> tuple[Stanza, ...]:
    """Sort by package, then version as dpkg compares them, then architecture."""
    from debian.debian_support import Version  # noqa: PLC0415

    def key(stanza: Stanza) -> tuple[Version, str]:
        return Version(stanza.entry.version), stanza.entry.architecture

    packages: dict[str, list[Stanza]] = {}
    for stanza in stanzas:
        packages.setdefault(stanza.entry.package, []).append(stanza)
    # most packages have one version, which need not be parsed
    groups = (packages[name] for name in sorted(packages))
    return tuple(s for group in groups for s in (sorted(group, key=key) if group[1:] else group))


def render(stanzas: Iterable[Stanza]) -> bytes:
    """Return the text of an index."""
    return "".join(f"{stanza.text}\n\n" for stanza in stanzas).encode()
