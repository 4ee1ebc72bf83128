"""A build that is ended, however: nothing of it goes on, nothing is in the way of the next.

The build waits in the compiler of a library, as it does most of its time, when it is met.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cloud import BUILD_DEBS, locked
from publishing import snapshot


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with locked(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def below(cloud):
    """Return the processes that have the cloud's directory in their environment or arguments."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
            state = (path / "stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:  # it ended just now
            continue
        if str(cloud.area).encode() in text and state != b"Z" and int(path.name) != os.getpid():
            found[int(path.name)] = (path / "cmdline").read_bytes()
    return found


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def reach_the_middle(cloud, tmp_path):
    """Start a build with a cache of its own and return it when it is in a compiler."""
    shutil.rmtree(cloud.hold, ignore_errors=True)
    cloud.hold.mkdir()
    words = ("2099.1", "--repo", tmp_path / "repo", "--report", tmp_path / "report.json")
    process = cloud.start(*words)
    until(lambda: (cloud.hold / "reached").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def leftovers(cloud):
    places = [cloud.cache, cloud.area / "tmp"]
    return [p for place in places for p in place.rglob("*build-debs-*") if p.exists()]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGINT, 130),
        (signal.SIGHUP, 129),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
    ids=str,
)
def test_a_signal_ends_all_of_a_build(cloud, tmp_path, number, code):
    own = cloud.with_env(BUILD_DEBS_CACHE=tmp_path / "cache")
    process = reach_the_middle(own, tmp_path)
    started = below(own)
    assert len(started) >= 5  # workers, uv and what it runs
    os.kill(process.pid, number)
    # none of them holds the ends of the pipes either
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    until(lambda: not below(own), 10)
    shutil.rmtree(own.hold)
    assert not (tmp_path / "repo/dists").exists()
    if number != signal.SIGKILL:
        assert json.loads((tmp_path / "report.json").read_text())["exit-code"] == code
        assert [p for p in (own.area / "tmp").rglob("*build-debs-*") if p.exists()] == []
    own.run("2099.1", "--repo", tmp_path / "repo")
    own.run("repo", "verify", "--repo", tmp_path / "repo")
    assert leftovers(own) == []
    assert not below(own)


def test_a_signal_the_caller_ignores_ends_nothing(cloud, tmp_path):
    """As nohup(1) has it."""
    own = cloud.with_env(BUILD_DEBS_CACHE=tmp_path / "cache")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = reach_the_middle(own, tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    for pid in (process.pid, int(children(process.pid)[0])):
        os.kill(pid, signal.SIGHUP)
    time.sleep(0.2)
    shutil.rmtree(own.hold)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("which", [1, 2, "uv"])
def test_whichever_process_is_killed_the_others_end(cloud, tmp_path, which):
    """The one that keeps the others, the one that works, and one that was started by that."""
    own = cloud.with_env(BUILD_DEBS_CACHE=tmp_path / "cache")
    process = reach_the_middle(own, tmp_path)
    victim = process.pid
    for _ in range(2 if which == "uv" else which):
        victim = int(children(victim)[0])
    victims = [victim]
    if which == "uv":
        victims = [pid for pid, words in below(own).items() if b"/uv\0build" in words]
    assert victims
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):  # ended for the loss of one before
            os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode > 0
    assert out == ""
    assert "Traceback" not in err
    assert "error: " in err or which == 1
    until(lambda: not below(own), 10)
    shutil.rmtree(own.hold)


def test_ended_at_any_moment_it_says_no_traceback_and_leaves_nothing(cloud, tmp_path):
    own = cloud.with_env(BUILD_DEBS_CACHE=tmp_path / "cache")
    shutil.rmtree(own.hold, ignore_errors=True)
    chance = random.Random(13)  # noqa: S311 - moments, not secrets
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL) * 4:
        process = own.start("2099.1", "--repo", tmp_path / "repo")
        until(lambda process=process: forked(process.pid))
        time.sleep(chance.uniform(0, 3))
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
        assert process.returncode in {0, 128 + number, -number}, err
        assert out == ""
        assert "Traceback" not in err
        until(lambda: not below(own), 10)
    own.run("2099.1", "--repo", tmp_path / "repo")
    own.run("repo", "verify", "--repo", tmp_path / "repo")
    assert leftovers(own) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_ended_while_it_is_still_being_imported_it_says_nothing(cloud, tmp_path, number):
    """It is met in the first module that start.py imports, which waits."""
    waiting = "import os, time\nos.write(1, b'here')\ntime.sleep(60)\n"
    (tmp_path / "ctypes.py").write_text(waiting)
    process = cloud.with_env(PYTHONPATH=tmp_path).start("list")
    assert process.stdout.read(4) == "here"
    os.kill(process.pid, number)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -number  # for a shell 130 and 143


def forked(pid):
    """Whether the command has begun: before, an interrupt may be Python's own affair."""
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text() != ""
    except FileNotFoundError:
        return True


@pytest.fixture(scope="module")
def built(cloud):
    cloud.run("2099.1")
    return cloud


def shell(cloud, line):
    """Run a line of bash, in which `build-debs` is the command; return code, stdout, stderr."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line.replace('build-debs', str(BUILD_DEBS))}"],
        env=cloud.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("build-debs 2099.1 2>&-", 0),
        ("build-debs 2099.1 >&-", 0),
        ("build-debs 2099.1 <&- >&- 2>&-", 0),
        ("build-debs 2099.1 -v 2>&1 | true", 0),
        ("build-debs nonsense 2>&-", 2),
        ("build-debs --nonsense 2>&-", 2),
        ("build-debs list >&-", 0),
    ],
)
def test_streams_that_are_closed_are_no_failure(built, line, code):
    before = snapshot(built.data / "repo")
    done, out, err = shell(built, line)
    assert (done, out) == (code, "")
    assert "Traceback" not in err
    assert not err or "2>&" not in line
    assert snapshot(built.data / "repo") == before


def test_a_reader_that_has_seen_enough_is_no_failure(built):
    code, out, err = shell(built, "build-debs 2099.1 --dry-run | head -1")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "Traceback" not in err
    many = "for i in 1 2 3 4 5; do build-debs repo list $(ls repo/dists) | head -c 1 || exit; done"
    code, _, err = shell(built, f"cd {built.data}; {many}")
    assert (code, err) == (0, "")
