"""Wheels: what the index has no fitting wheel for is built from its sdist (PEP 517).

Each build runs in an environment of its own that holds exactly the locked build
requirements, without an index, against the target's interpreter and libraries.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from builder import log, sdist
from builder.errors import BuildError, MissingToolError
from builder.files import directory_atomically, sha256_file, sha256_text
from builder.model import Wheel
from builder.run import run, uv_program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.model import Distribution, Fetched, Lock, Recipe, Target

RECIPE = "3"  # raise it when a change here changes the bits of a built wheel


def check_machine(lock: Lock, target: Target, recipes: Mapping[str, Recipe], suite: str) -> None:
    """Raise MissingToolError, once for all, when this machine cannot build for `target`.

    `suite` is the suite of this machine. Needs the target's interpreter and its headers,
    and the Debian packages of the recipes of what is to be built.
    """
    names = [d.name for d in lock.distributions if not d.artifacts[0].is_wheel]
    if suite != target.suite:
        raise MissingToolError(
            f"this machine is Debian {suite} and cannot build {len(names)} packages for "
            f"{target.suite} ({', '.join(names[:4])}, …)",
            hint=f"run it on Debian {target.suite}; --dry-run shows the plan anywhere",
        )
    wanted = [f"python{target.python_minor}", f"libpython{target.python_minor}-dev"]
    for name in names:
        recipe = recipes.get(canonicalize_name(name))
        wanted += recipe.packages if recipe else ()
    absent = sorted(p for p in set(wanted) if not _installed(p))
    if absent:
        raise MissingToolError(
            f"building for {target.suite} needs Debian packages that are not installed",
            details=absent,
            hint=f"apt-get install {' '.join(absent)}",
        )


def _installed(package: str) -> bool:
    lists = Path("/var/lib/dpkg/info")
    return any((lists / f"{package}{arch}.list").exists() for arch in ("", ":amd64"))


def cache_key(distribution: Distribution, lock: Lock, target: Target, recipe: Recipe | None) -> str:
    """Return what the bits of a built wheel depend on, as a checksum."""
    tools = [f"{d.name}=={d.version}:{d.artifacts[0].sha256}" for d in lock.build]
    environment = sorted((recipe.environment if recipe else {}).items())
    source = distribution.artifacts[0].sha256
    return sha256_text(RECIPE, source, target.suite, target.python, str(environment), *tools)


def wheels(
    lock: Lock,
    fetched: Fetched,
    target: Target,
    recipes: Mapping[str, Recipe],
    *,
    cache: Path,
    logs: Path,
    epoch_seconds: int,
    jobs: int,
    keep_going: bool = False,
) -> tuple[tuple[Wheel, ...], tuple[BuildError, ...]]:
    """Return a wheel for every distribution of the lock, and (with `keep_going`) what failed."""
    ready = [
        Wheel(d, fetched.files[a.sha256], a.sha256, built=False)
        for d in lock.distributions
        if (a := d.artifacts[0]).is_wheel
    ]
    sources = [d for d in lock.distributions if not d.artifacts[0].is_wheel]
    builder = _Builder(lock, fetched, target, recipes, cache, logs, epoch_seconds)
    absent = [d for d in sources if builder.cached(d) is None]
    failures: list[BuildError] = []
    if absent:
        # the slowest first: compilers keep a core busy while the pure ones go by
        absent.sort(key=lambda d: canonicalize_name(d.name) not in recipes)
        with log.step("wheels", len(absent)) as step, ThreadPoolExecutor(jobs) as pool:
            for distribution, future in [(d, pool.submit(builder.build, d)) for d in absent]:
                try:
                    future.result()
                    step.advance(f"{distribution.name} {distribution.version}")
                except BuildError as error:
                    failures.append(error)
    if failures and not keep_going:
        raise failures[0]
    built = [w for d in sources if (w := builder.cached(d)) is not None]
    return tuple(
        sorted(ready + built, key=lambda w: canonicalize_name(w.distribution.name))
    ), tuple(failures)


@dataclass(frozen=True, slots=True)
class _Builder:
    """The builds of one run: what they share."""

    lock: Lock
    fetched: Fetched
    target: Target
    recipes: Mapping[str, Recipe]
    cache: Path
    logs: Path
    epoch_seconds: int

    def _place(self, distribution: Distribution) -> Path:
        recipe = self.recipes.get(canonicalize_name(distribution.name))
        return self.cache / cache_key(distribution, self.lock, self.target, recipe)

    def cached(self, distribution: Distribution) -> Wheel | None:
        """Return the wheel of an earlier build, if any."""
        for path in self._place(distribution).glob("*.whl"):
            checksum = path.with_suffix(".sha256").read_text()
            source = self.fetched.files[distribution.artifacts[0].sha256]
            return Wheel(distribution, path, checksum, built=True, source=source)
        return None

    def build(self, distribution: Distribution) -> None:
        """Build one wheel into the cache; BuildError names its log."""
        name = f"{distribution.name}-{distribution.version}"
        logfile = self.logs / f"{name}.wheel.log"
        logfile.unlink(missing_ok=True)
        with directory_atomically(self._place(distribution)) as new:
            work = new.parent
            source = sdist.unpack(
                self.fetched.files[distribution.artifacts[0].sha256], work / "source"
            )
            argv = [uv_program(), "build", "--wheel", *self._tools(work), "--out-dir", str(new)]
            try:
                run([*argv, str(source)], env=self._environment(distribution), log=logfile)
            except BuildError as error:
                raise BuildError(
                    f"{name}: the wheel does not build",
                    details=error.details,
                    hint=f"log: {logfile}",
                ) from error
            self._check(distribution, new)

    def _tools(self, work: Path) -> list[str]:
        """Return uv's options for a build environment of exactly the locked requirements."""
        rows = [t.artifacts[0] for t in self.lock.build]
        if absent := [a.file for a in rows if a.sha256 not in self.fetched.files]:
            raise BuildError(f"nothing is built without {', '.join(absent)}")
        links = work / "tools"
        links.mkdir()
        lines = []
        for tool in self.lock.build:
            artifact = tool.artifacts[0]
            (links / artifact.file).symlink_to(self.fetched.files[artifact.sha256])
            lines.append(f"{tool.name}=={tool.version} --hash=sha256:{artifact.sha256}\n")
        constraints = work / "constraints.txt"
        constraints.write_text("".join(lines))
        isolation = ["--offline", "--no-config", "--no-index", "--find-links", str(links)]
        pins = ["--build-constraints", str(constraints), "--require-hashes"]
        return [*isolation, *pins, "--python", self.target.interpreter]

    def _environment(self, distribution: Distribution) -> dict[str, str]:
        recipe = self.recipes.get(canonicalize_name(distribution.name))
        return {
            "SOURCE_DATE_EPOCH": str(self.epoch_seconds),
            # Compilers get relative names, and without symbols (nobody ships them) none else, so
            # the build directory is not in the bits; uWSGI keeps its CFLAGS in its binary.
            "CFLAGS": "-g0 -O2",
            "LDFLAGS": "-Wl,-z,relro -Wl,-s",
            "PBR_VERSION": distribution.version,
            **(recipe.environment if recipe else {}),
        }

    @staticmethod
    def _check(distribution: Distribution, directory: Path) -> None:
        for extra in [p for p in directory.iterdir() if p.suffix != ".whl"]:
            shutil.rmtree(extra) if extra.is_dir() else extra.unlink()
        found = list(directory.iterdir())
        name = f"{distribution.name}-{distribution.version}"
        if len(found) != 1:
            raise BuildError(f"{name}: its build made {len(found)} wheels, one is wanted")
        version = parse_wheel_filename(found[0].name)[1]
        if version != Version(distribution.version):
            raise BuildError(f"{name}: its build made version {version}")
        found[0].with_suffix(".sha256").write_text(sha256_file(found[0]))
