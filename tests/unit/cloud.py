"""A made-up cloud: a projects/ directory of two tiny releases, and an index that has their files.

`tiny` is a service of both, `frail` of the second only, where nothing builds what it needs.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from wheelhouse import (
    REPOSITORY,
    Index,
    backend,
    buildable,
    installed_wheel,
    serving,
    wheel,
)

from builder.catalogue.load import find_machine_suite

BUILD_DEBS = Path(sys.executable).with_name("build-debs")
HERE = find_machine_suite() or "bookworm"
ELSEWHERE = {"bookworm": "trixie"}.get(HERE, "bookworm")

SERIES = """
id = "{id}"
name = "{name}"
date = "{date}"
status = "maintained"
slurp = true
python = ["3.11", "3.13"]
targets = ["bookworm", "trixie"]
signing-key = "0123456789abcdef0123456789abcdef01234567"

[versions]
{versions}
"""
SERVICE = """
name = "{name}"
title = "OpenStack {title}"
distribution = "{name}-service"
deliverable = "{name}"
homepage = "https://docs.example.org/{name}/"
common = "{name}"
epoch = 2
description = "It does next to nothing."
{more}

[user]
name = "{name}"

[[files]]
path = "{name}.conf"
text = "[DEFAULT]\\nanswer = 42\\n"

[[packages]]
name = "{name}"
summary = "OpenStack {title}"
description = "This package holds all of it."
scripts = ["{name}-manage"]

[[daemons]]
name = "{name}"
package = "{name}"
description = "OpenStack {title}"
script = "{name}-manage"
type = "simple"
"""
DRIVERS = """
[[driver]]
name = "tinyclient"
client = true
reason = "the command openstack"

[[driver]]
name = "installer"
reason = "lays out the services' packages"
"""
CONSTRAINTS = """
tinylib===1.0
sourcelib===1.0
fragile===1.0
tinyclient===1.0
"""


def release(house, name, version, *requires):
    """Write the release tarball of a service."""
    module = f"{name}_service"
    files = {
        f"{module}/__init__.py": f"def main():\n    print({version!r})\n",
        "entry_points.txt": f"[console_scripts]\n{name}-manage = {module}:main\n",
    }
    return buildable(house, f"{name}-service", version, files, requires_dist=list(requires))


def fill(index, house, hold, broken):
    """Serve everything the two releases need.

    While the directory `hold` is there sourcelib's build waits, while `broken` is there
    fragile's fails.
    """
    text = {"sourcelib.py": "", "hold": str(hold)}
    index.add(
        backend(house),
        installed_wheel(house, "installer"),
        release(house, "tiny", "1.0.0", "tinylib>=1", "sourcelib"),
        release(house, "frail", "2.0.0", "tinylib", "fragile"),
        wheel(house, "tinylib", "1.0", {"tinylib/__init__.py": "x = 1\n"}),
        wheel(house, "tinylib", "1.1", {"tinylib/__init__.py": "x = 2\n"}),
        # one that no package can be made of: it brings what its installer writes
        wheel(house, "tinylib", "1.2", {"{info}/INSTALLER": "me\n", "tinylib/__init__.py": ""}),
        wheel(house, "tinylib", "2.0", requires_dist=["sourcelib>=9"]),
        wheel(house, "tinyclient", "1.0", scripts={"openstack": "tinylib:main"}),
        wheel(house, "unrelated", "1.0"),
        buildable(house, "sourcelib", "1.0", text),
        buildable(house, "fragile", "1.0", {"broken": str(broken)}),
    )


def write_data(data):
    """Write the directory BUILD_DEBS_DATA names."""
    projects = data / "projects"
    for directory in ("series", "services", "overrides", "locks"):
        (projects / directory).mkdir(parents=True)
    shutil.copytree(REPOSITORY / "projects/targets", projects / "targets")
    (data / "debian-templates").symlink_to(REPOSITORY / "debian-templates")
    tiny, frail = 'tiny = "1.0.0"', 'frail = "2.0.0"\ntiny = "1.0.0"'
    for id_, name, date, versions in (
        ("2099.1", "zenith", "2024-04-03", tiny),
        ("2099.2", "azimuth", "2024-10-02", frail),
    ):
        text = SERIES.format(id=id_, name=name, date=date, versions=versions)
        (projects / f"series/{id_}.toml").write_text(text)
    for name, more in (("tiny", ""), ("frail", 'since = "2099.2"')):
        text = SERVICE.format(name=name, title=name.title(), more=more)
        (projects / f"services/{name}.toml").write_text(text)
    (projects / "drivers.toml").write_text(DRIVERS)
    (data / "upper-constraints.txt").write_text(CONSTRAINTS)


@dataclass
class Cloud:
    """The data, the index, and the environment of a person who builds."""

    area: Path
    index: Index
    env: dict = field(default_factory=dict)

    @property
    def data(self):
        return self.area / "data"

    @property
    def constraints(self):
        return self.data / "upper-constraints.txt"

    @property
    def hold(self):
        return self.area / "hold"

    @property
    def broken(self):
        return self.area / "broken"

    @property
    def cache(self):
        return Path(self.env["BUILD_DEBS_CACHE"])

    def with_env(self, **env):
        """Return the same cloud seen by somebody else."""
        return Cloud(self.area, self.index, {**self.env, **{k: str(v) for k, v in env.items()}})

    def with_own_data(self, area, **env):
        """Return the cloud with a copy of its data, `area/data`, which a test may change."""
        shutil.copytree(self.data, area / "data", symlinks=True)
        return self.with_env(BUILD_DEBS_DATA=area / "data", **env)

    def start(self, *words):
        """Start build-debs as a process, in a group of its own."""
        return subprocess.Popen(
            [BUILD_DEBS, *map(str, words)],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words, code=0):
        """Run build-debs as a process and return what it said; it must exit with `code`."""
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"exit {process.returncode}\n{out}{err}"
        assert "Traceback" not in err
        return out, err


def environment(area, index):
    passed = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG"}}
    return {
        **passed,
        "HOME": str(area / "home"),
        "TMPDIR": str(area / "tmp"),
        "BUILD_DEBS_DATA": str(area / "data"),
        "BUILD_DEBS_CACHE": str(area / "cache"),
        "UV_DEFAULT_INDEX": index.url,
        "no_proxy": "127.0.0.1",
        # upstream's own site is as if there were no network
        "https_proxy": "http://127.0.0.1:1",
    }


@contextlib.contextmanager
def founded(area):
    """Make the cloud below `area`; its index serves for the block."""
    (area / "home").mkdir(parents=True)
    (area / "tmp").mkdir()
    write_data(area / "data")
    with serving() as index:
        cloud = Cloud(area, index, environment(area, index))
        fill(index, area / "house", cloud.hold, cloud.broken)
        yield cloud


@contextlib.contextmanager
def locked(area):
    """Make the cloud below `area`, with a lock of its first release."""
    with founded(area) as cloud:
        cloud.run("lock", "2099.1", "--constraints", cloud.constraints)
        yield cloud
