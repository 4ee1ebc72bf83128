"""The repository under test, as a node's administrator deals with it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness import GATEWAY, REPO_DIR, Node

if TYPE_CHECKING:
    from pathlib import Path

FILE_URI = f"file:{REPO_DIR}"
HTTP_URI = f"http://{GATEWAY}"


@dataclass(frozen=True)
class Repository:
    """A repository on the host's disk, one suite of which a node uses."""

    path: Path
    target: str
    series: str

    @property
    def suite(self) -> str:
        return f"{self.target}-{self.series}"

    @property
    def release(self) -> Path:
        return self.path / "dists" / self.suite / "InRelease"

    @property
    def source(self) -> str:
        return f"/etc/apt/sources.list.d/openstack-{self.series}.sources"

    @property
    def tree(self) -> str:
        return f"/usr/lib/openstack/{self.series}"

    @property
    def archive(self) -> str:
        return f"openstack-{self.series}-archive"

    @cached_property
    def stanzas(self) -> dict[str, dict[str, str]]:
        """Each binary package's newest fields, by name."""
        index = self.path / "dists" / self.suite / "main/binary-amd64/Packages"
        found = {}
        for text in index.read_text().split("\n\n"):
            fields = dict(re.findall(r"^(\S+): (.*)$", text, re.MULTILINE))
            if fields:  # sorted by version: the newest comes last
                found[fields["Package"]] = fields
        return found

    def file(self, package: str) -> str:
        """Return where `package` lies, relative to the repository."""
        return self.stanzas[package]["Filename"]

    def add_to(self, node: Node, uri: str) -> None:
        """Make `node` use the repository at `uri`, as the README says."""
        self.point(node, uri)
        node.run(f"apt-get install -y {self.archive}")

    def point(self, node: Node, uri: str) -> None:
        """Give a node's apt the address of the repository, and fetch the lists."""
        script = f"{self.suite}.sh"
        if uri == FILE_URI:
            node.run(f"sh {REPO_DIR}/{script} && apt-get update")
        else:
            node.run(
                f"cd /root && curl -fsSO {uri}/{script} && sh {script} {uri} && apt-get update"
            )

    def installed(self, node: Node) -> list[str]:
        """Return which of our packages are unpacked or configured on `node`."""
        lines = node.out("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n'").splitlines()
        return [
            line.split()[1] for line in lines if line[1] == "i" and line.split()[1] in self.stanzas
        ]


def set_option(node: Node, path: str, section: str, option: str, value: str) -> None:
    """Write an option into an ini file as the install guide tells a person to."""
    heading = f"[{section}]\n"
    text = node.read(path)
    assert heading in text, f"{path} has no section [{section}]"
    node.write(path, text.replace(heading, f"{heading}{option} = {value}\n", 1))


def wait_for(node: Node, command: str, seconds: int) -> None:
    """Wait until `command` succeeds on `node`."""
    loop = f"until {{ {command}; }} >/dev/null 2>&1; do sleep 0.2; done"
    node.run(f"timeout {seconds} bash -c {shlex.quote(loop)}")
