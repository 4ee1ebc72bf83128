"""What a repository that `make repo` built has in its suites."""

import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def stanzas(index):
    """Return the stanzas of a Packages or Sources file, each a map of its one-line fields."""
    for text in index.read_text().strip().split("\n\n"):
        yield dict(line.split(": ", 1) for line in text.splitlines() if ": " in line[:40])


def newest(repository, suite):
    """Return the newest version of each package of a suite: package to pool file."""
    found = {}
    for fields in stanzas(repository / "dists" / suite / "main/binary-amd64/Packages"):
        name, version = fields["Package"], fields["Version"]
        if name not in found or newer(version, found[name][0]):
            found[name] = (version, repository / fields["Filename"])
    return {name: path for name, (_, path) in found.items()}


def newer(a, b):
    return subprocess.run(["dpkg", "--compare-versions", a, "gt", b], check=False).returncode == 0
