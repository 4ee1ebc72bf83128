"""Measure how long builds in a build root take: `build-debs ocata`, as ratios within one run.

    benchmarks/root.py [--series ID] [--tarballs DIR]

Downloads and the root's tarball are those of an earlier build; the package cache, the
repository and, at first, the wheel cache are the benchmark's own. For ocata it builds the
services whose tarballs are on the package index, or all of them with --tarballs. Prints:

- wheels cold: everything but downloads is made;
- debs cold: wheels are there; next to it the floor of those library packages whose wheels are
  the index's (unzip each and dpkg-deb with the same compression, two at a time, nothing
  else), and the ratio of all library packages, alongside the services, to it;
- nothing changed;
- the start of a build in the root, the median of 20, and that of a plain chroot(8).
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "benchmarks"))

from packages import bare, build, library_seconds, library_wheels, own_cache, timed  # noqa: E402

from builder import dirs, roots  # noqa: E402
from builder.catalogue import load as catalogue  # noqa: E402
from builder.wheels import build as wheels  # noqa: E402

SUITE = "bullseye"
ON_THE_INDEX = ("--project", "cinder", "--project", "neutron", "--project", "nova")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", default="ocata")
    parser.add_argument("--tarballs", metavar="DIR")
    options = parser.parse_args()
    more = ["--tarballs", options.tarballs] if options.tarballs else []
    if options.series == "ocata" and not more:
        more = ON_THE_INDEX
    with tempfile.TemporaryDirectory(prefix="build-debs-bench-") as name:
        area = Path(name)
        cache = own_cache(area, "downloads", "roots")
        seconds, _ = build(area, cache, *more, series=options.series)
        print(f"{options.series}, wheels cold: {seconds:.1f} s")
        (cache / "debs").rename(area / "first")
        seconds, said = build(area, cache, *more, series=options.series, repo="second")
        print(f"debs cold, wheels there: {seconds:.1f} s")
        print("".join(f"  {line}\n" for line in said.splitlines()[:-1]), end="")
        target = catalogue.load(dirs.locate().projects).targets[SUITE]
        how = (f"-Z{target.compression}", f"-z{target.compression_level}")
        made = library_wheels(cache, options.series, SUITE)
        floor = timed(lambda: bare(made, area / "floor", *how))
        ratio = library_seconds(said) / floor
        print(f"floor of its library packages: {floor:.1f} s; they took {ratio:.2f} x that")
        seconds, _ = build(area, cache, *more, series=options.series, repo="second")
        print(f"nothing changed: {seconds:.2f} s")
        starts(area)


def starts(area):
    place = dirs.locate()
    known = catalogue.load(place.projects)
    series = known.series["ocata"]
    packages = wheels.list_root_packages(
        catalogue.find_target(known, series, SUITE), catalogue.select_recipes(known, series)
    )
    machine = catalogue.find_machine_suite()
    root = roots.open_root(
        SUITE, packages, machine=machine, cache=place.roots, area=area, days=roots.DAYS
    )
    work = area / "work"
    work.mkdir()
    ours = statistics.median(timed(lambda: root.run(["true"], work)) for _ in range(20))
    plain = ["chroot", str(root.directory), "true"]
    floor = statistics.median(timed(lambda: roots.run(plain)) for _ in range(20))
    print(f"start of a build: {ours * 1000:.0f} ms, {ours / floor:.1f} x a plain chroot")


if __name__ == "__main__":
    main()
