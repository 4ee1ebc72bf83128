"""Wheels: distributions without a suitable wheel on the index are built from sdists (PEP 517).

Each build runs in its own environment with exactly the locked build requirements and no
index, against the target's interpreter and libraries: on this machine if it runs the
target's suite, else in a build root.
"""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from builder import archives, log, patches, roots, sdist
from builder import cache as caches
from builder.errors import BuildError, MissingToolError
from builder.files import hash_file, hash_text
from builder.model.values import Wheel
from builder.run import find_uv, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.model.values import Distribution, Fetched, Lock, Patch, Recipe, Target
    from builder.roots import Root

RECIPE = "5"  # increase it when a change here changes the bits of a built wheel
# Where a build sees the unpacked wheels of Python 2.7's build requirements.
TOOLS = "/usr/local/lib/build-tools"
UV = "/usr/local/bin/uv"
# How pip has an old sdist's setup.py build a wheel. pip itself first runs it for its metadata,
# which takes as long as most builds.
SETUP = "import sys, setuptools; __file__ = sys.argv[0] = 'setup.py'; execfile(__file__)"
PYTHON2_ENVIRONMENT = {
    "PYTHONPATH": TOOLS,
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
# Run in that directory: compiles its modules, except those with another Python's syntax.
COMPILE = f"import compileall; compileall.compile_dir('.', ddir={TOOLS!r}, quiet=1)"


def needs_root(target: Target, suite: str) -> bool:
    """Whether building packages for `target` on a machine running `suite` needs a build root."""
    return target.is_python2 or suite != target.suite


def list_build_packages(lock: Lock, target: Target, recipes: Mapping[str, Recipe]) -> list[str]:
    """Return the Debian packages needed to build the lock's sdists."""
    wanted = {f"python{target.python_minor}", f"libpython{target.python_minor}-dev"}
    for distribution in lock.distributions:
        recipe = recipes.get(canonicalize_name(distribution.name))
        if recipe and not distribution.artifacts[0].is_wheel:
            wanted.update(recipe.packages)
    return sorted(wanted)


def list_root_packages(target: Target, recipes: Mapping[str, Recipe]) -> list[str]:
    """Return the Debian packages of a root that can build everything a series may need."""
    minor = target.python_minor
    wanted = {f"python{minor}", f"libpython{minor}-dev", f"python{minor}-dev"}
    wanted.update(target.build_packages, *(r.packages for r in recipes.values()))
    return sorted(wanted)


def check_machine(lock: Lock, target: Target, recipes: Mapping[str, Recipe]) -> None:
    """Raise one MissingToolError for all Debian packages that a build on this machine lacks."""
    absent = [p for p in list_build_packages(lock, target, recipes) if not _is_installed(p)]
    if absent:
        raise MissingToolError(
            f"building for {target.suite} needs Debian packages that are not installed",
            details=absent,
            hint=f"apt-get install {' '.join(absent)}",
        )


def _is_installed(package: str) -> bool:
    lists = Path("/var/lib/dpkg/info")
    return any((lists / f"{package}{arch}.list").exists() for arch in ("", ":amd64"))


def hash_inputs(
    distribution: Distribution,
    lock: Lock,
    target: Target,
    recipe: Recipe | None,
    patched: Sequence[Patch] = (),
) -> str:
    """Return a checksum of everything the bits of a built wheel depend on."""
    tools = [f"{d.name}=={d.version}:{d.artifacts[0].sha256}" for d in lock.build]
    environment = sorted((recipe.environment if recipe else {}).items())
    source = distribution.artifacts[0].sha256
    changes = [f"{p.name}\n{p.text}" for p in patched]
    return hash_text(
        RECIPE, source, target.suite, target.python, str(environment), *tools, *changes
    )


def provide_wheels(
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
    root: Root | None = None,
    area: Path | None = None,
    patched: Mapping[str, Sequence[Patch]] = MappingProxyType({}),
) -> tuple[tuple[Wheel, ...], tuple[BuildError, ...]]:
    """Return a wheel for every distribution of the lock, and (with `keep_going`) the failures.

    They are built on this machine, or in `root` with `area` for what the builds share.
    `patched` has the patches applied to each distribution's sdist, by canonical name.
    """
    ready = [
        Wheel(d, fetched.files[a.sha256], a.sha256, built=False)
        for d in lock.distributions
        if (a := d.artifacts[0]).is_wheel
    ]
    sources = [d for d in lock.distributions if not d.artifacts[0].is_wheel]
    builder = Builder(
        lock, fetched, target, recipes, cache, logs, epoch_seconds, root, patched=patched,
        uv_cache=area / "uv-cache" if area and root is None else None,
    )  # fmt: skip
    absent = [d for d in sources if builder.find_cached(d) is None]
    failures: list[BuildError] = []
    if absent:
        if target.is_python2 and area:
            builder = unpack_tools(builder, area / "tools")
        absent.sort(key=lambda d: _rank_speed(d, recipes))
        with log.step("wheels", len(absent)) as step, ThreadPoolExecutor(jobs) as pool:
            for distribution, future in [
                (d, pool.submit(builder.provide_wheel, d)) for d in absent
            ]:
                try:
                    future.result()
                    step.advance(f"{distribution.name} {distribution.version}")
                except BuildError as error:
                    failures.append(error)
    if failures and not keep_going:
        raise failures[0]
    built = [w for d in sources if (w := builder.find_cached(d)) is not None]
    return tuple(
        sorted(ready + built, key=lambda w: canonicalize_name(w.distribution.name))
    ), tuple(failures)


def _rank_speed(
    distribution: Distribution, recipes: Mapping[str, Recipe]
) -> tuple[bool, bool, int]:
    """Return a key that sorts the slowest first: what compiles keeps a core busy till the end.

    That is what has a recipe, then the largest library: an sdist with a C library of its own.
    """
    known = canonicalize_name(distribution.name) in recipes
    return not known, distribution.kind == "service", -distribution.artifacts[0].size


@dataclass(frozen=True, slots=True)
class Builder:
    """What the builds of one run share."""

    lock: Lock
    fetched: Fetched
    target: Target
    recipes: Mapping[str, Recipe]
    cache: Path
    logs: Path
    epoch_seconds: int
    root: Root | None = None
    tools: Path | None = None
    """Python 2.7: where the build requirements are unpacked (`unpack_tools`)."""
    uv_cache: Path | None = None
    """uv's cache of the build requirements; kept for one run only, as uv does not verify it."""
    patched: Mapping[str, Sequence[Patch]] = field(default_factory=dict)

    def _locate(self, distribution: Distribution) -> Path:
        name = canonicalize_name(distribution.name)
        recipe, changes = self.recipes.get(name), self.patched.get(name, ())
        return self.cache / hash_inputs(distribution, self.lock, self.target, recipe, changes)

    def find_cached(self, distribution: Distribution) -> Wheel | None:
        """Return the wheel of an earlier build, if there is one and it is intact."""
        place = self._locate(distribution)
        if not caches.is_sound(place):
            return None
        (path,) = place.glob("*.whl")
        checksum = path.with_suffix(".sha256").read_text(encoding="utf-8")
        source = self.fetched.files[distribution.artifacts[0].sha256]
        return Wheel(distribution, path, checksum, built=True, source=source)

    def provide_wheel(self, distribution: Distribution) -> Wheel:
        """Return a wheel built now or earlier; BuildError names the log of a failed build."""
        found = self.find_cached(distribution)
        if found is None:
            self._build(distribution)
            found = self.find_cached(distribution)
        if found is None:
            raise BuildError(f"{distribution.name}: its wheel has disappeared from {self.cache}")
        return found

    def _build(self, distribution: Distribution) -> None:
        needed = [t.artifacts[0] for t in self.lock.build]
        if absent := [a.file for a in needed if a.sha256 not in self.fetched.files]:
            raise BuildError(f"cannot build without {', '.join(absent)}")
        name = f"{distribution.name}-{distribution.version}"
        logfile = self.logs / f"{name}.wheel.log"
        logfile.unlink(missing_ok=True)
        with caches.make_sealed(self._locate(distribution)) as new:
            work = new.parent
            source = sdist.unpack(
                self.fetched.files[distribution.artifacts[0].sha256], work / "source"
            )
            changes = self.patched.get(canonicalize_name(distribution.name), ())
            patches.apply(source, changes, logfile)
            try:
                self._run(distribution, source, work, new, logfile)
            except BuildError as error:
                raise BuildError(
                    f"{name}: the wheel failed to build",
                    details=error.details,
                    hint=f"log: {logfile}",
                    log=logfile,
                ) from error
            self._check(distribution, new)

    def _run(
        self, distribution: Distribution, source: Path, work: Path, new: Path, logfile: Path
    ) -> None:
        """Build the wheel of the unpacked sdist `source` in `new`; both are below `work`."""
        environment = self._make_environment(distribution)
        if self.root is None:
            argv = self._prepare_uv_command(find_uv(), work, work, new, str(source))
            run(argv, env=environment, log=logfile)
            return
        output, inside = roots.BUILD / new.relative_to(work), roots.BUILD / source.relative_to(work)
        if self.tools:
            shown = {self.tools: TOOLS}
            environment |= PYTHON2_ENVIRONMENT
            argv = self._make_python2_command(source, output)
        else:
            shown = {Path(find_uv()): UV}
            argv = self._prepare_uv_command(UV, work, roots.BUILD, output, ".")
        argv = ["env", "-C", str(inside), *argv]
        self.root.run(argv, work, env=environment, log=logfile, shown=shown)

    def _make_python2_command(self, source: Path, output: Path) -> list[str]:
        """Return the command that builds `source`'s wheel in `output` with the mounted tools."""
        python = self.target.interpreter
        if not (source / "pyproject.toml").exists():
            return [python, "-c", SETUP, "bdist_wheel", "--dist-dir", str(output)]
        isolation = ["--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir"]
        return [python, "-m", "pip", "wheel", "--wheel-dir", str(output), *isolation, "."]

    def _prepare_uv_command(
        self, uv: str, work: Path, seen: Path, output: Path, source: str
    ) -> list[str]:
        """Return the `uv` command for a build in an environment of exactly the locked requirements.

        They are put below `work`, which the build sees as `seen`.
        """
        links = work / "tools"
        links.mkdir()
        lines = []
        for tool in self.lock.build:
            artifact = tool.artifacts[0]
            if self.root is None:
                (links / artifact.file).symlink_to(self.fetched.files[artifact.sha256])
            else:
                shutil.copyfile(self.fetched.files[artifact.sha256], links / artifact.file)
            lines.append(f"{tool.name}=={tool.version} --hash=sha256:{artifact.sha256}\n")
        (work / "constraints.txt").write_text("".join(lines), encoding="utf-8")
        isolation = ["--offline", "--no-config", "--no-index", "--find-links", str(seen / "tools")]
        pins = ["--build-constraints", str(seen / "constraints.txt"), "--require-hashes"]
        python = ["--python", self.target.interpreter]
        if self.uv_cache:
            python += ["--cache-dir", str(self.uv_cache)]
        wheel = ["--wheel", "--out-dir", str(output)]
        return [uv, "build", *wheel, *isolation, *pins, *python, source]

    def _make_environment(self, distribution: Distribution) -> dict[str, str]:
        recipe = self.recipes.get(canonicalize_name(distribution.name))
        return {
            "SOURCE_DATE_EPOCH": str(self.epoch_seconds),
            # Compilers get relative names, and without symbols (which nobody ships) no others, so
            # the build directory does not affect the bits; uWSGI keeps its CFLAGS in its binary.
            "CFLAGS": "-g0 -O2",
            "LDFLAGS": "-Wl,-z,relro -Wl,-s",
            "PBR_VERSION": distribution.version,
            # a setup.py that imports what it builds leaves byte code with timestamps
            "PYTHONDONTWRITEBYTECODE": "1",
            **(recipe.environment if recipe else {}),
        }

    @staticmethod
    def _check(distribution: Distribution, directory: Path) -> None:
        for extra in [p for p in directory.iterdir() if p.suffix != ".whl"]:
            shutil.rmtree(extra) if extra.is_dir() else extra.unlink()
        found = list(directory.iterdir())
        name = f"{distribution.name}-{distribution.version}"
        if len(found) != 1:
            raise BuildError(f"{name}: expected its build to make one wheel, got {len(found)}")
        try:
            version = parse_wheel_filename(found[0].name)[1]
        except InvalidWheelFilename as error:
            raise BuildError(
                f"{name}: its build made {found[0].name}, which is not a valid wheel name"
            ) from error
        if version != Version(distribution.version):
            raise BuildError(f"{name}: its build made version {version}")
        found[0].with_suffix(".sha256").write_text(hash_file(found[0]), encoding="utf-8")


def unpack_tools(builder: Builder, directory: Path) -> Builder:
    """Return `builder` with Python 2.7's build requirements unpacked in `directory`.

    Its pip builds in the environment it runs in: this directory on PYTHONPATH.
    A requirement that is an sdist is built with the ones before it.
    """
    directory.mkdir()
    builder = dataclasses.replace(builder, tools=directory)
    for tool in builder.lock.build:
        path = builder.fetched.files[tool.artifacts[0].sha256]
        if not tool.artifacts[0].is_wheel:
            if builder.find_cached(tool) is None:
                _compile_tools(builder, directory)
            path = builder.provide_wheel(tool).path
        with archives.open_zip(path, "wheel") as archive:
            archive.extractall(directory)
    _compile_tools(builder, directory)
    return builder


def _compile_tools(builder: Builder, directory: Path) -> None:
    """Compile the unpacked tools, which would otherwise take half the time of a small wheel.

    Builds cannot do it themselves: they see the tools read-only.
    """
    if builder.root is not None:
        log_file = builder.logs / "build-tools.log"
        log_file.unlink(missing_ok=True)
        argv = [builder.target.interpreter, "-c", COMPILE]
        builder.root.run(argv, directory, log=log_file)
