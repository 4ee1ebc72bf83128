"""Builds for a Debian that is not this machine's: what a build root shows of the machine,
and what a build that is killed leaves behind.

The root is that of `build-debs pike`; its tarball is in the cache when that ran before.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from suites import CHECKOUT

from builder import dirs, roots
from builder.catalogue import load as catalogue
from builder.errors import BuildError
from builder.wheels import build as wheels

BUILD_DEBS = CHECKOUT / ".venv/bin/build-debs"
SUITE = "bullseye"
LONGEST = 600  # seconds until a build of pike compiles something, with no root in the cache


@pytest.fixture(scope="module")
def place():
    return dirs.locate()


@pytest.fixture(scope="module")
def packages(place):
    known = catalogue.load(place.projects)
    series = known.series["pike"]
    target = catalogue.find_target(known, series)
    assert target.suite == SUITE
    return wheels.list_root_packages(target, catalogue.select_recipes(known, series))


def opened(cache, packages, area):
    area.mkdir()
    machine = catalogue.find_machine_suite()
    return roots.open_root(SUITE, packages, machine=machine, cache=cache, area=area, days=7)


@pytest.fixture(scope="module")
def root(place, packages, tmp_path_factory):
    return opened(place.roots, packages, tmp_path_factory.mktemp("root") / "area")


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def said(root, work, script, **more):
    """Return what a shell script says in a copy of the root."""
    return root.run(["sh", "-euc", script], work, **more).stdout.decode().split("\n")[:-1]


def test_it_is_the_debian_of_the_target(root, work):
    assert said(root, work, ". /etc/os-release; echo $VERSION_CODENAME") == [SUITE]
    assert said(root, work, "python2.7 -c 'print(\"here\")'") == ["here"]


def test_a_build_is_nobody_and_becomes_no_other(root, work):
    assert said(root, work, "id -u; id -g; id -G") == ["65534"] * 3
    assert said(root, work, "grep NoNewPrivs /proc/self/status") == ["NoNewPrivs:\t1"]


def test_a_build_sees_no_network_and_no_process_of_the_machine(root, work):
    assert said(root, work, "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '") == ["lo"]
    assert len(said(root, work, "ls -d /proc/[0-9]*")) < 6
    assert said(root, work, "uname -n") == ["build"]


def test_a_build_sees_nothing_of_its_callers_environment(root, work, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://leak.example/")
    monkeypatch.setenv("CFLAGS", "-leak")
    names = {line.split("=")[0] for line in said(root, work, "env")}
    assert names <= {"HOME", "PATH", "LC_ALL", "TZ", "PYTHONHASHSEED", "PWD", "SHLVL", "_"}


def test_a_build_writes_into_its_own_directory_alone(root, work):
    (work / "given").write_text("text")
    said(root, work, "cat given; echo made >/build/made; touch /tmp/scratch /dev/shm/scratch")
    assert (work / "made").read_text() == "made\n"
    assert (work / "made").stat().st_uid == os.geteuid()
    for name in ("/usr/bin/made", "/etc/made", "/made"):
        with pytest.raises(BuildError):
            said(root, work, f"echo made >{name}")
    assert said(root, work, "find /tmp /dev/shm -type f") == []  # a build's own, they were


def test_what_is_shown_of_the_machine_is_not_written_to(root, work, tmp_path):
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "file").write_text("text\n")
    where = {shown: "/opt/shown"}
    assert said(root, work, "cat /opt/shown/file", shown=where) == ["text"]
    shown.chmod(0o777)
    with pytest.raises(BuildError):
        said(root, work, "echo more >/opt/shown/more", shown=where)


def test_a_build_that_fails_says_what_it_said(root, work, tmp_path):
    with pytest.raises(BuildError) as caught:
        said(root, work, "echo no compiler >&2; exit 3", log=tmp_path / "log")
    assert "no compiler" in caught.value.details


def test_a_build_ends_with_the_process_that_started_it(root, work):
    child = os.fork()
    if child == 0:
        root.run(["sleep", "1000"], work)
    until(lambda: "sleep" in processes(str(root.directory)).values(), 30)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    until(lambda: not processes(str(root.directory)), 30)


@pytest.fixture
def cache(place, root, tmp_path):
    """Give a copy of the cache's newest root, to be as old as a test wants."""
    del root
    archives = place.roots.glob(f"{SUITE}-*.tar.zst")
    newest = max(archives, key=lambda p: p.stat().st_mtime)
    (tmp_path / "cache").mkdir()
    shutil.copy(f"{newest}.sha256", tmp_path / "cache")
    return Path(shutil.copy(newest, tmp_path / "cache"))


def test_one_of_today_is_made_once(packages, cache, tmp_path):
    made = cache.stat().st_mtime_ns
    opened(cache.parent, packages, tmp_path / "area")
    assert cache.stat().st_mtime_ns == made


def test_a_build_that_waits_for_another_s_root_says_so(packages, cache, tmp_path, monkeypatch):
    said = []
    with cache.with_name(f"{cache.name}.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def hear(text):
            said.append(text)
            fcntl.flock(held, fcntl.LOCK_UN)

        monkeypatch.setattr(roots.log, "info", hear)
        opened(cache.parent, packages, tmp_path / "area")
    assert said[0] == "waiting for another build to make the build root of bullseye"


def test_an_old_one_is_made_anew_and_used_when_no_mirror_answers(
    packages, cache, tmp_path, monkeypatch, capsys
):
    week_ago = time.time() - 8 * roots.SECONDS_PER_DAY
    os.utime(cache, (week_ago, week_ago))
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin/mmdebstrap"
    broken.write_text("#!/bin/sh\necho asked >>$0.log\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    found = opened(cache.parent, packages, tmp_path / "area")
    assert (broken.parent / "mmdebstrap.log").read_text() == "asked\n"
    assert "using one older than 7 days" in capsys.readouterr().err
    assert (found.directory / "etc/debian_version").read_text().startswith("11.")


def mounts(below):
    """Return what is mounted below a directory."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if line.split()[1].startswith(f"{below}/")]


def processes(word):
    """Return the names, by their ids, of processes with a word in arguments or directories."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            where = f"{(entry / 'root').readlink()} {(entry / 'cwd').readlink()}"
            if word in where + (entry / "cmdline").read_bytes().decode(errors="replace"):
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:  # it ended meanwhile
            continue
    return found


def test_a_build_that_is_killed_leaves_nothing(place, tmp_path):
    """SIGKILL to all of it while a compiler runs in the root; the next run tidies up."""
    area, cache = tmp_path / "area", tmp_path / "cache"
    area.mkdir()
    cache.mkdir()
    for kept in ("downloads", "roots"):
        (cache / kept).symlink_to(place.cache / kept)
    env = {**os.environ, "TMPDIR": str(area), "BUILD_DEBS_CACHE": str(cache)}
    argv = [BUILD_DEBS, "pike", "--project", "keystone", "--repo", tmp_path / "repo"]
    with (tmp_path / "said").open("w+") as messages:
        killed = subprocess.Popen(argv, env=env, stderr=messages)
        try:
            until(lambda: "cc1" in processes(str(area)).values() or killed.poll() is not None)
            assert killed.poll() is None, (tmp_path / "said").read_text()
        finally:
            for pid in processes(str(tmp_path / "repo")):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed.wait()
        until(lambda: not processes(str(tmp_path)))
        assert mounts(area) == []
        left = list(area.iterdir())
        assert left
        following = subprocess.Popen(argv, env=env, stderr=messages)
        try:
            until(lambda: "cc1" in processes(str(area)).values() or following.poll() is not None)
            assert not any(p.exists() for p in left)
        finally:
            following.send_signal(signal.SIGINT)
            following.wait()
    until(lambda: not processes(str(tmp_path)))
    assert list(area.iterdir()) == []
    assert mounts(area) == []


def until(true, seconds=LONGEST):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
