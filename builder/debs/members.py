"""The checked members of a wheel, and where pip would put each of them (PEP 427).

Directories in a wheel may be spelled differently from its file name; pip takes the only
`.dist-info`, whose normalised name must match the wheel's, and any `.data`.
"""

from __future__ import annotations

import email
import re
import stat
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, cast

from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file
from installer.sources import WheelFile
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from builder import archives
from builder.errors import BuildError

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

SCHEMES = ("purelib", "platlib", "headers", "scripts", "data")
NEEDED = ("METADATA", "WHEEL", "RECORD")
SCRIPT_SECTIONS = ("console_scripts", "gui_scripts")
# Wrappers that setuptools once made for scripts on Windows; pip uses the entry point instead.
WRAPPERS = re.compile(r"(\.exe|-script\.py|\.pya)$", re.IGNORECASE)
SHA256_ROW = re.compile(r"sha256=[\w-]+,\d+")  # nearly all rows
OBJECT = re.compile(
    r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*:\s*(?P<attr>[^\W\d]\w*(?:\.[^\W\d]\w*)*)"
    r"\s*(?:\[[^\]]*\])?"
)
# A program in bin/, whose name is used in an ini file and on a shell command line.
PROGRAM = re.compile(r"[^\W_][\w.+@-]*|_[\w.+@-]*")


class Source(WheelFile):
    """A checked wheel, as the source of an installation.

    `homes` maps schemes to their directories, relative to the tree; `patterns` are the paths to
    leave out, also relative to it. `left_out` lists the files left out, once all is installed;
    `current` is the member being read. Raises BuildError for an unusable wheel.
    """

    def __init__(
        self,
        archive: zipfile.ZipFile,
        path: Path,
        homes: Mapping[str, str],
        patterns: Sequence[str],
    ) -> None:
        super().__init__(archive)
        self.path, self.homes = path, homes
        self.patterns = [pattern.strip("/").split("/") for pattern in patterns]
        self.left_out: list[str] = []
        self.current = ""
        self.members = [i for i in archive.infolist() if not i.filename.endswith("/")]
        self.names = [i.filename for i in self.members]
        archives.check_files(path, self.names)
        self.info = self._find_dist_info()
        try:
            self._check_wheel()
            self._check_metadata()
            self._check_record()
            self.programs = self._read_programs()
        except archives.UNREADABLE as error:
            raise self.unreadable_error(error) from error
        for name in self.names:
            self._locate(name)

    @property
    def dist_info_dir(self) -> str:
        """Name of the dist-info directory, as spelled in the archive."""
        return self.info

    @property
    def dist_info_filenames(self) -> list[str]:
        """Names of the files in the dist-info directory."""
        prefix = f"{self.info}/"
        return [n.removeprefix(prefix) for n in self.names if n.startswith(prefix)]

    def read_dist_info(self, filename: str) -> str:
        """Return a file of the dist-info directory; for entry_points.txt, only the programs."""
        if filename == "entry_points.txt":
            rows = [f"{name} = {target}\n" for name, target in self.programs.items()]
            return "".join(["[console_scripts]\n", *rows])
        return self._read(filename).decode("utf-8")

    def get_contents(self) -> Iterator[tuple[tuple[str, str, str], BinaryIO, bool]]:
        """Yield each member that is not left out: its place, stream, and whether it is executable.

        RECORD is rewritten with our names, so the rows of the original do not matter.
        """
        for item in self.members:
            self.current = item.filename
            scheme, rest = self._locate(item.filename)
            place = f"{self.homes[scheme]}/{rest}".lstrip("/")
            if self.is_left_out(place):
                self.left_out.append(place)
            elif scheme != "scripts" or WRAPPERS.sub("", rest) not in self.programs:
                name = item.filename
                if scheme != "root":
                    name = f"{self.data_dir}/{scheme}/{rest}"
                # pip's rule, in unpacking.py: any of the three bits
                mode = item.external_attr >> 16
                executable = bool(stat.S_ISREG(mode) and mode & 0o111)
                with self._zipfile.open(item) as stream:
                    yield (name, "", ""), cast("BinaryIO", stream), executable
        self.current = ""

    def is_left_out(self, place: str) -> bool:
        """Whether a path, relative to the tree, is below one of the patterns."""
        if not self.patterns:
            return False
        parts = place.split("/")
        return any(
            len(parts) >= len(pattern)
            and all(fnmatchcase(a, b) for a, b in zip(parts, pattern, strict=False))
            for pattern in self.patterns
        )

    def _locate(self, name: str) -> tuple[str, str]:
        """Return a member's scheme (`root` outside any .data), and its path there."""
        top, _, rest = name.partition("/")
        if {"", "."} & set(name.split("/")):
            raise self._wheel_error(
                f"the name of the member {archives.quote(name)} has an empty part"
            )
        if not top.endswith(".data"):
            return "root", name
        scheme, _, below = rest.partition("/")
        if scheme not in SCHEMES or not below:
            raise self._wheel_error(
                f"the member {archives.quote(name)} belongs to no scheme of a .data directory "
                f"({', '.join(SCHEMES)})"
            )
        return scheme, below

    def unreadable_error(self, error: Exception) -> BuildError:
        """Return a BuildError that names the member being read, if any."""
        where = f"the member {archives.quote(self.current)}: " if self.current else ""
        return self._wheel_error(f"not a usable wheel: {where}{archives.escape(error)}")

    def _wheel_error(self, text: str) -> BuildError:
        return BuildError(f"{self.path.name}: {text}")

    def _read(self, filename: str) -> bytes:
        return archives.read_member(self._zipfile, f"{self.info}/{filename}")

    def _find_dist_info(self) -> str:
        tops = {name.split("/", 1)[0] for name in self.names}
        infos = sorted(top for top in tops if top.endswith(".dist-info"))
        if len(infos) != 1:
            found = f": {', '.join(infos)}" if infos else ""
            raise self._wheel_error(f"expected one .dist-info directory, got {len(infos)}{found}")
        name = canonicalize_name(infos[0].removesuffix(".dist-info"))
        if not f"{name}-".startswith(f"{canonicalize_name(self.distribution)}-"):
            raise self._wheel_error(f"its .dist-info is for something else: {infos[0]}")
        for needed in NEEDED:
            if f"{infos[0]}/{needed}" not in self.names:
                raise self._wheel_error(f"it has no {infos[0]}/{needed}")
        return infos[0]

    def _check_wheel(self) -> None:
        self.current = f"{self.info}/WHEEL"
        version = email.message_from_bytes(self._read("WHEEL"))["Wheel-Version"]
        if not str(version or "").startswith("1."):
            raise self._wheel_error(
                f"its Wheel-Version is {archives.escape(version)}; only version 1 is supported"
            )

    def _check_metadata(self) -> None:
        """Compare METADATA with the file's name, as pip does."""
        self.current = f"{self.info}/METADATA"
        fields = email.message_from_string(self._read("METADATA").decode(errors="replace"))
        name, version = (str(fields[key] or "").strip() for key in ("Name", "Version"))
        if canonicalize_name(name) != canonicalize_name(self.distribution):
            raise self._wheel_error(f"its METADATA has the name {archives.quote(name)}")
        try:
            same = "_" in self.version or Version(version) == Version(self.version)
        except InvalidVersion:
            same = bool(version)  # older than PEP 440: nothing to compare
        if not same:
            raise self._wheel_error(f"its METADATA has the version {archives.quote(version)}")

    def _check_record(self) -> None:
        self.current = f"{self.info}/RECORD"
        try:
            for row in parse_record_file(self._read("RECORD").decode().splitlines()):
                if not (row[0] and SHA256_ROW.fullmatch(f"{row[1]},{row[2]}")):
                    RecordEntry.from_elements(*row)
        except InvalidRecordEntry as error:
            raise self._wheel_error(
                f"{self.current} is malformed: {archives.escape(error)}"
            ) from error

    def _read_programs(self) -> dict[str, str]:
        """Return the scripts in entry_points.txt: name to `module:attribute`."""
        name = f"{self.info}/entry_points.txt"
        if name not in self.names:
            return {}
        self.current, section, found = name, "", {}
        for number, text in enumerate(self._read("entry_points.txt").decode().splitlines(), 1):
            line = text.strip()
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1].strip()
            elif line and line[0] not in "#;":
                key, equals, value = (part.strip() for part in line.partition("="))
                if not (section and key and equals):
                    raise self._wheel_error(
                        f"line {number} of {name} is malformed: {archives.escape(line)}"
                    )
                if section in SCRIPT_SECTIONS:
                    target = OBJECT.fullmatch(value)
                    if not PROGRAM.fullmatch(key) or not target:
                        raise self._wheel_error(
                            f"the program {archives.escape(line)!r} of {name} is not of the form "
                            "NAME = MODULE:FUNCTION"
                        )
                    found[key] = f"{target['module']}:{target['attr']}"
        scripts = self.homes["scripts"]
        gone = [f"{scripts}/{n}" for n in found if self.is_left_out(f"{scripts}/{n}")]
        self.left_out += gone
        return {n: t for n, t in found.items() if f"{scripts}/{n}" not in gone}
