"""Measure how long the build of 2026.1 takes, as ratios within one run.

    benchmarks/packages.py [--wheel2deb N]

Everything runs against the caches of an earlier `make repo` (downloads, built wheels, which wheels
were tried, what their machine code needs), with a package cache and a repository of its own.
Prints, one line each:

- the floor of the library packages: unzip each wheel, dpkg-deb with the same compression,
  two at a time, nothing else;
- the library packages as build-debs makes them, with every service taken from the cache (read
  from its own progress line), and the ratio;
- the whole build with the services, a second run with nothing changed, a run with one
  dependency overridden;
- with --wheel2deb, the same wheels (the first N by name) by wheel2deb, if it is installed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SERIES = "2026.1"
COMMAND = CHECKOUT / ".venv/bin/build-debs"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel2deb", type=int, default=0, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="build-debs-bench-") as name:
        area = Path(name)
        cache = own_cache(area, "downloads", "wheels")
        wheels = library_wheels(cache, SERIES, suite())
        floor = timed(lambda: bare(wheels, area / "floor"))
        print(f"floor: unzip and dpkg-deb of {len(wheels)} wheels: {floor:.1f} s")
        total, said = build(area, cache)
        ours = library_seconds(said)
        print(f"whole of {SERIES}, wheels cached, packages not: {total:.1f} s")
        alone = library_alone(area, cache)
        print(f"library packages alone: {alone:.1f} s, {alone / floor:.2f} x the floor "
              f"({ours:.1f} s alongside the services)")  # fmt: skip
        again, _ = build(area, cache)
        print(f"nothing changed: {again:.2f} s")
        print(f"one dependency overridden: {overridden(area, cache)}")
        if options.wheel2deb:
            peer(sorted(wheels)[: options.wheel2deb], area / "peer")


def timed(action):
    start = time.monotonic()
    action()
    return time.monotonic() - start


def own_cache(area, *rooms):
    """Return a cache that shares folders (downloads, wheels) with the user's, but no packages."""
    home = os.environ.get("XDG_CACHE_HOME") or f"{os.environ['HOME']}/.cache"
    shared = Path(os.environ.get("BUILD_DEBS_CACHE") or f"{home}/build-debs")
    cache = area / "cache"
    cache.mkdir()
    for room in rooms:
        if not (shared / room).is_dir():
            raise SystemExit(f"{shared / room} does not exist: run make repo first")
        (cache / room).symlink_to(shared / room)
    return cache


def library_wheels(cache, series, target):
    """Return the wheel files of the lock's libraries that an earlier build fetched."""
    (lock,) = (CHECKOUT / "projects/locks").glob(f"{series}-{target}.json")
    rows = json.loads(lock.read_text())["distributions"]
    found = []
    for row in rows:
        file = row["artifacts"][0]
        if row["kind"] == "library" and file["file"].endswith(".whl"):
            digest = file["sha256"]
            found.append(cache / "downloads" / digest[:2] / digest / file["file"])
    return [path for path in found if path.exists()]


def suite():
    text = Path("/etc/os-release").read_text()
    return re.search(r"^VERSION_CODENAME=(\w+)", text, re.MULTILINE)[1]


def bare(wheels, area, *compression):
    area.mkdir()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda w: bare_package(w, area / w.stem, compression), wheels))


def bare_package(wheel, root, compression):
    (root / "DEBIAN").mkdir(parents=True)
    subprocess.run(
        [shutil.which("unzip") or "/usr/bin/unzip", "-qo", wheel, "-d", root], check=True
    )
    fields = {"Package": "floor", "Version": "1", "Architecture": "all",
              "Maintainer": "nobody <nobody@example.org>", "Description": "floor"}  # fmt: skip
    text = "".join(f"{k}: {v}\n" for k, v in fields.items())
    (root / "DEBIAN/control").write_text(text)
    compression = compression or ("-Zzstd", "-z3")
    argv = ["dpkg-deb", "--root-owner-group", *compression, "--build", root, f"{root}.deb"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def build(area, cache, *more, repo="repo", series=SERIES):
    env = {**os.environ, "BUILD_DEBS_CACHE": str(cache)}
    start = time.monotonic()
    done = subprocess.run(
        [COMMAND, series, "--offline", "--jobs", "2", "--repo", area / repo, *more],
        env=env, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return time.monotonic() - start, done.stderr


def library_alone(area, cache):
    """Build the libraries with every service taken from the cache."""
    for place in (cache / "debs").glob("*/*"):
        if not list(place.glob("*.dsc")):
            shutil.rmtree(place)
    _, said = build(area, cache, repo="alone")
    return library_seconds(said)


def library_seconds(said):
    """Return the seconds a build reported for its library packages."""
    return float(re.search(r"library packages: \d+ \(([\d.]+) s\)", said)[1])


def overridden(area, cache):
    """Replace one pin with an older version; report what is rebuilt."""
    override = area / "override.txt"
    override.write_text("netaddr==1.2.1\n")
    report = area / "report.json"
    argv = [COMMAND, SERIES, "--repo", area / "repo", "--override", override, "--report", report]
    env = {**os.environ, "BUILD_DEBS_CACHE": str(cache)}
    start = time.monotonic()
    done = subprocess.run(argv, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        return f"not measured: {done.stderr.strip().splitlines()[-1]}"
    rows = json.loads(report.read_text())["packages"]
    built = sorted(r["package"] for r in rows if r["outcome"] == "built")
    return f"{time.monotonic() - start:.1f} s with resolving, rebuilt: {', '.join(built)}"


def peer(wheels, area):
    area.mkdir()
    tool = shutil.which("wheel2deb") or CHECKOUT / ".venv/bin/wheel2deb"
    if not Path(tool).exists():
        raise SystemExit("wheel2deb is not installed: pip install wheel2deb")
    for wheel in wheels:
        shutil.copy(wheel, area)
    floor = timed(lambda: bare(wheels, area / "floor"))
    start = time.monotonic()
    done = subprocess.run([tool, "default"], cwd=area, check=False, capture_output=True, text=True)
    seconds = time.monotonic() - start
    ratio = f"{seconds:.1f} s, {seconds / floor:.0f} x their floor"
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        made = len(list((area / "output").glob("*.deb")))
        ratio += f"; it failed after {made} packages (status {done.returncode}): {said[-1]}"
    print(f"wheel2deb on {len(wheels)} wheels: {ratio}")


if __name__ == "__main__":
    main()
