"""What Debian's own packages of services leave on a node that moved here.

dpkg keeps configuration files that a package no longer has (obsolete conffiles): init scripts,
policies, filters. debconf keeps the answers to its questions, including passwords, and
dbconfig-common its own file for each package. None of it has any effect, except on its readers.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from openstack_node import debian, manifest, system

DEBCONF = (Path("/var/cache/debconf/config.dat"), Path("/var/cache/debconf/passwords.dat"))
DBCONFIG = Path("/etc/dbconfig-common")
BACKUPS = Path("/var/backups/openstack-node")
# Lines of conffiles begin with a blank, so that none can begin like a record.
FIELDS = "\\n@${Maintainer}\\t${Package}\\t${Conffiles}"


@dataclass(frozen=True)
class Leftover:
    """Something left over: a `file` (`changed` locally), or the `answers` for a package."""

    kind: str
    name: str
    changed: bool = False

    @property
    def text(self) -> str:
        """What it is, in a line."""
        if self.kind == "answers":
            return f"debconf answers for {self.name}, including passwords"
        return f"{self.name}{' (changed; a copy is kept)' if self.changed else ''}"


def find() -> list[Leftover]:
    """Return what is left of Debian's packages that ours of the same names replaced."""
    ours, used = _list_ours(), _list_used()
    left = [left for files in ours.values() for left in _list_conffiles(files)]
    found = [file for file in left if file.name not in used]
    found += [
        Leftover("file", str(path))
        for package in ours
        if (path := DBCONFIG / f"{package}.conf").exists()
    ]
    owners = _list_owners()
    return found + [Leftover("answers", package) for package in ours if package in owners]


def _list_ours() -> dict[str, list[tuple[str, str]]]:
    """Return our installed packages, each with the obsolete conffiles dpkg lists, and sums."""
    maintainer = debian.read_known()["maintainer"]
    names = [p for s in manifest.load([]) for p in s.data["packages"]]
    said = system.read_output(["dpkg-query", "-W", "-f", FIELDS], seconds=60)
    found = {}
    for record in said.split("\n@")[1:]:
        owner, package, files = record.split("\t", 2)
        if owner == maintainer and package in names:
            found[package] = re.findall(r"^ (\S.*) ([0-9a-f]{32}) obsolete$", files, re.MULTILINE)
    return found


def _list_used() -> set[str]:
    """Return the files that live options name, such as dnsmasq_config_file of the DHCP agent."""
    paths = (p for s in manifest.load([]) for p in Path(s.data["directory"]).rglob("*"))
    read = (p for p in paths if p.is_file() and p.suffix in {".conf", ".ini"})
    texts = (p.read_text(encoding="utf-8", errors="replace") for p in read)
    return {
        word
        for text in texts
        for word in re.findall(r"^[^#\n]*?(/etc/[^\s,;]+)", text, re.MULTILINE)
    }


def _list_conffiles(files: list[tuple[str, str]]) -> list[Leftover]:
    return [
        Leftover("file", name, changed=_hash_file(Path(name)) != md5)
        for name, md5 in files
        if Path(name).is_file()
    ]


def _hash_file(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324 - dpkg's


def _list_owners() -> set[str]:
    """Return the packages that debconf keeps answers for."""
    texts = (path.read_text(encoding="utf-8") for path in DEBCONF if path.exists())
    lines = (line for text in texts for line in re.findall(r"^Owners: (.*)$", text, re.MULTILINE))
    return {owner.strip() for line in lines for owner in line.split(",")}


def remove(left: Leftover) -> None:
    """Remove a leftover; keep a copy of a changed file in /var/backups."""
    if left.kind == "answers":
        # debconf-communicate(1): PURGE removes all questions and answers of a package.
        done = system.run(["debconf-communicate", left.name], seconds=60, stdin="PURGE\n")
        if done.code != 0:
            raise system.NodeError(
                f"debconf did not remove its answers for {left.name}: {done.read_tail(1)}"
            )
        return
    path = Path(left.name)
    if left.changed:
        copy = BACKUPS / left.name.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copy2(path, copy)
        copy.chmod(0o600)
    path.unlink()
    if path.parent == DBCONFIG:
        system.run(["ucf", "--purge", left.name], seconds=60)
        system.run(["ucfr", "--purge", path.stem, left.name], seconds=60)
    if path.parent == Path("/etc/init.d"):
        system.run(["update-rc.d", path.name, "remove"], seconds=60)
