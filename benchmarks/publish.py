"""Measure what it costs to publish one more package into a large suite.

    benchmarks/publish.py [--packages N]

A suite of N packages (default 10,000) of one file each is published with a key of its own, then
one more package. Prints, in seconds of CPU time of all processes:

- the floor: gzip, xz and sha256sum of the suite's Packages, once each;
- one package more, and the ratio;
- the same where the suite has 100 packages;
- a publication that changes nothing.
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CONTROL = """\
Package: {name}
Version: 1.0-1
Architecture: all
Maintainer: Nobody <nobody@example.org>
Depends: openstack-2026.1-base, openstack-2026.1-oslo-config (>= 1:9.0), python3 (>= 3.11)
Section: python
Build-Inputs: {digest}
Description: a package of the benchmark
 It has a description of usual length, so that its stanza in the index is as long as that of a
 library package, of which a repository has hundreds for each series.
"""
PUBLISH = """\
import sys
from pathlib import Path
from builder.publish import Suite, choose, publish
area = Path(sys.argv[1])
debs = sorted((area / sys.argv[2]).glob("*.deb"))
signer = choose(area / "repo", f"bookworm-{sys.argv[3]}", area / "keys")
publish(area / "repo", Suite("bookworm", sys.argv[3], "Benchmark"), debs, [], signer)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=int, default=10_000, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="build-debs-bench-") as name:
        area = Path(name)
        found = {}
        for count in (100, options.packages):
            make(area, f"all-{count}", [f"package-{count}-{n}" for n in range(count)])
            publish(area, f"all-{count}", f"{count}.1")
            make(area, f"more-{count}", [f"more-{count}"])
            found[count] = publish(area, f"more-{count}", f"{count}.1")
        floor = cpu(lambda: pack(area, f"{options.packages}.1"))
        ours = found[options.packages]
        print(f"floor: gzip, xz and sha256sum of Packages: {floor:.2f} s")
        print(
            f"one package more in {options.packages}: {ours:.2f} s, {ours / floor:.2f} x the floor"
        )
        print(f"one package more in 100: {found[100]:.2f} s")
        nothing = publish(area, f"more-{options.packages}", f"{options.packages}.1")
        print(f"nothing changed: {nothing:.2f} s")


def make(area, room, names):
    """Build a package for each name, two at a time."""

    def one(name):
        root = area / f"{room}.d" / name
        (root / "DEBIAN").mkdir(parents=True)
        digest = hashlib.sha256(name.encode()).hexdigest()
        (root / "DEBIAN/control").write_text(CONTROL.format(name=name, digest=digest))
        argv = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, area / room]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)

    (area / room).mkdir()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(one, names))


def publish(area, room, series):
    """Publish a room's packages; return the CPU time in seconds."""
    argv = [sys.executable, "-c", PUBLISH, area, room, series]
    return cpu(lambda: subprocess.run(argv, check=True))


def pack(area, series):
    packages = area / f"repo/dists/bookworm-{series}/main/binary-amd64/Packages"
    for argv in (["gzip", "-9"], ["xz", "-1"], ["sha256sum"]):
        with packages.open("rb") as stream:
            subprocess.run(argv, check=True, stdin=stream, stdout=subprocess.DEVNULL)


def cpu(action):
    """Return the CPU time of the processes an action runs, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    action()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    os.environ.pop("GNUPGHOME", None)
    main()
