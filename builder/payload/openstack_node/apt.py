"""Query apt about another suite, with separate sources, lists and cache.

Installed packages are read from the machine; nothing on it changes, including the lists of its
own apt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openstack_node import system

if TYPE_CHECKING:
    from collections.abc import Iterable

ETC = Path("/etc/apt")
STATUS = Path("/var/lib/dpkg/status")
# The suffixes of the files apt reads, from sources.list(5) and apt_preferences(5).
READ = {"sources.list": {".list", ".sources"}, "preferences": {"", ".pref"}}
FETCH_SECONDS = 600
THINK_SECONDS = 120
INSTALLED = re.compile(r"^Inst (\S+)(?: \[(\S+)\])? \((\S+)")
SPACE = re.compile(r"^After this operation, ([\d.,]+) ([kMGT]?)B (?:of|.*(freed))", re.MULTILINE)
# Ignore that packages are on hold (apt-mark(8)); apt names those of them it would change.
HELD_TOO = ("--ignore-hold", "--allow-change-held-packages")
HELD = re.compile(r"^The following held packages will be changed:\n((?: .*\n)+)", re.MULTILINE)
REMOVED = re.compile(r"^Remv (\S+) \[(\S+)\]")


@dataclass(frozen=True)
class Change:
    """A package an upgrade changes: `old` is empty for a new one, `new` for a removed one."""

    package: str
    old: str
    new: str


class Apt:
    """apt, as if the machine's sources named the suites of the series `new` instead of `old`.

    If they already name those of `new`, those of `old` are left out: apt refuses a suite that
    appears twice with two keys.

    `area` is an empty directory. What is unpacked in it is readable for all, since the services'
    users inspect it; the sources, which may contain passwords, only for root.
    """

    def __init__(
        self, area: Path, old: str, new: str, *, etc: Path = ETC, status: Path = STATUS
    ) -> None:
        self.unpacked, area = area / "unpacked", area / "apt"
        area.parent.chmod(0o711)
        area.mkdir(mode=0o700)
        self.area, self.old, self.new = area, old, new
        for name in ("lists/partial", "archives/partial", "sources.list.d", "preferences.d"):
            (area / name).mkdir(parents=True)
        named = any(
            compile_suite(new).search(read_live(path)) for path in list_files(etc, "sources.list")
        )
        for name in ("sources.list", "preferences"):
            for path in list_files(etc, name):
                text = read_live(path)
                if named and name == "sources.list":
                    text = _drop_series(path, text, old, new)
                text = compile_suite(old).sub(rf"\g<1>-{new}", text)
                (area / path.relative_to(etc)).write_text(text, encoding="utf-8")
        options = {
            "Dir::Etc::SourceList": area / "sources.list",
            "Dir::Etc::SourceParts": area / "sources.list.d",
            "Dir::Etc::Preferences": area / "preferences",
            "Dir::Etc::PreferencesParts": area / "preferences.d",
            "Dir::State::Lists": area / "lists",
            "Dir::State::Status": status,
            "Dir::Cache": area,
            "Dir::Cache::Archives": area / "archives",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "true",
        }
        self.options = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def update(self) -> None:
        """Fetch the lists; NodeError if one cannot be fetched."""
        texts = (p.read_text(encoding="utf-8") for p in list_files(self.area, "sources.list"))
        if not any(compile_suite(self.new).search(text) for text in texts):
            raise system.NodeError(
                f"no apt source has a suite of {self.old}",
                f"apt-get install openstack-{self.old}-archive",
            )
        done = self._run_apt_get(["--error-on=any", "update"], FETCH_SECONDS)
        if done.code != 0:
            raise system.NodeError(
                f"apt cannot read the packages of {self.new}",
                "build that series into the same repository, or correct the address in "
                "/etc/apt/sources.list.d",
                details=done.read_tail(4),
            )

    def list_changes(self) -> list[Change]:
        """Return what `apt full-upgrade` would change if no package were on hold, by name."""
        found = []
        for line in self._rehearse_upgrade("--simulate").splitlines():
            if match := INSTALLED.match(line):
                found.append(Change(match[1], match[2] or "", match[3]))
            elif match := REMOVED.match(line):
                found.append(Change(match[1], match[2], ""))
        return sorted(found, key=lambda c: c.package)

    def list_held(self, packages: list[str]) -> list[str]:
        """Return the packages on hold that installing `packages` changes; NodeError if it fails."""
        if not packages:
            return []
        done = self._run_apt_get(["--simulate", *HELD_TOO, "install", *packages], THINK_SECONDS)
        if done.code != 0:
            raise system.NodeError("apt cannot resolve the upgrade", details=done.read_tail())
        return parse_held(done.out)

    def is_broken(self) -> bool:
        """Whether apt does nothing until an interrupted operation is completed."""
        return self._run_apt_get(["check"], THINK_SECONDS).code != 0

    def list_offered(self, packages: list[str]) -> list[str]:
        """Return those of `packages` that the suite has, even if apt prefers others."""
        if not packages:
            return []
        said = system.read_output(["apt-cache", *self.options, "madison", *packages], seconds=60)
        rows = [line for line in said.splitlines() if f"-{self.new}/" in line]
        return sorted({line.split()[0] for line in rows} & set(packages))

    def explain_refusal(self, package: str) -> str:
        """Return why apt does not install a package; nothing if it would."""
        done = self._run_apt_get(["--simulate", *HELD_TOO, "install", package], THINK_SECONDS)
        return done.read_tail() if done.code != 0 else ""

    def compute_sizes(self) -> tuple[int, int]:
        """Return the bytes `apt full-upgrade` would fetch, and those it would add on disk."""
        said = self._rehearse_upgrade("-q", "--print-uris", "--yes")
        rows = re.findall(r"^'\S+' \S+ (\d+)", said, re.MULTILINE)
        space = SPACE.search(said)
        disk = 0
        if space:
            disk = int(float(space[1].replace(",", "")) * 1000 ** " kMGT".index(space[2] or " "))
            disk = -disk if space[3] else disk
        return sum(int(size) for size in rows), disk

    def unpack(self, packages: list[str]) -> Path:
        """Fetch the suite's version of packages; return the directory with their files."""
        if packages:
            unpack(packages, self.area, self.unpacked, self.options)
        return self.unpacked

    def _rehearse_upgrade(self, *options: str) -> str:
        """Return the output of a full-upgrade that changes nothing."""
        done = self._run_apt_get([*options, *HELD_TOO, "full-upgrade"], THINK_SECONDS)
        if done.code != 0:
            raise system.NodeError("apt cannot resolve the upgrade", details=done.read_tail())
        return done.out

    def _run_apt_get(self, words: list[str], seconds: float) -> system.Done:
        return _run_apt_get([*self.options, *words], self.area, seconds)


def _run_apt_get(words: list[str], area: Path, seconds: float) -> system.Done:
    return system.run(["env", "-C", str(area), "apt-get", *words], seconds=seconds, merged=True)


def unpack(packages: list[str], area: Path, into: Path, options: Iterable[str] = ()) -> None:
    """Fetch packages, each NAME or NAME=VERSION, to `area`; unpack them into a directory.

    Raises NodeError if one cannot be fetched, or is damaged.
    """
    got = _run_apt_get([*options, "download", *packages], area, FETCH_SECONDS)
    debs = sorted(area.glob("*.deb"))
    if got.code != 0 or not debs:
        raise system.NodeError(f"apt cannot fetch {', '.join(packages)}", details=got.read_tail(4))
    for deb in debs:
        done = system.run(["dpkg-deb", "-x", str(deb), str(into)], seconds=120, merged=True)
        if done.code != 0:
            raise system.NodeError(f"{deb.name} is damaged", details=done.read_tail(2))
        deb.unlink()


def parse_held(said: str) -> list[str]:
    """Return the packages on hold that apt reports it would change."""
    return sorted(name for block in HELD.findall(said) for name in block.split())


def refuse_held(packages: list[str]) -> None:
    """Raise NodeError for packages on hold: apt would stop at them halfway."""
    if packages:
        raise system.NodeError(
            f"packages to change are on hold: {', '.join(packages)}",
            f"apt-mark unhold {' '.join(packages)}",
        )


def list_files(directory: Path, name: str) -> list[Path]:
    """Return a configuration file of apt and those in its `.d` directory.

    apt ignores other files there, such as the copies dpkg leaves next to a changed file.
    """
    paths = (directory / name, *sorted((directory / f"{name}.d").glob("*")))
    return [path for path in paths if path.is_file() and path.suffix in READ[name]]


def read_live(path: Path) -> str:
    """Return an apt file without its comments."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if line.lstrip()[:1] != "#")


def _drop_series(path: Path, text: str, old: str, new: str) -> str:
    """Return sources without the stanzas, or lines, that name only `old`."""
    between = r"\n(?=[ \t]*\n)" if path.suffix == ".sources" else r"\n"
    parts = re.split(between, text)
    return "\n".join(
        p for p in parts if compile_suite(new).search(p) or not compile_suite(old).search(p)
    )


def compile_suite(series: str) -> re.Pattern[str]:
    """Return a pattern for suites of a series, such as bookworm-2025.2."""
    return re.compile(rf"(?<![\w./-])([a-z]+)-{re.escape(series)}(?![\w./-])")
