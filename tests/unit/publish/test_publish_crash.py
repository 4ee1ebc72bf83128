"""Killed, out of space, or not alone: the repository is the old one or the new one."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from publishing import SUITE, Apt, make_deb, put, versions

from builder import log
from builder.errors import BusyError, PublishError
from builder.publish import list_packages, lock_directory, verify

NAME = "bookworm-2026.1"
SRC = Path(__file__).parents[3]


class Killed(BaseException):
    pass


def dying_at(number, repo, monkeypatch):
    """Die instead of the rename with this number below `repo`."""
    rename, left = os.replace, [number]

    def dying(source, target):
        if str(target).startswith(str(repo)):
            if not left[0]:
                raise Killed
            left[0] -= 1
        rename(source, target)

    monkeypatch.setattr(os, "replace", dying)


def test_killed_before_any_rename_apt_gets_the_old_state_or_the_new(
    tmp_path, repo, debs, signer, monkeypatch
):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    new = make_deb(debs, "foo", "2.0-1")
    seen = []
    for number in range(30):
        copy = tmp_path / f"repo{number}"
        shutil.copytree(repo, copy)
        with monkeypatch.context() as patch:
            dying_at(number, copy, patch)
            try:
                put(copy, signer, new)
            except Killed:
                pass
            else:
                break
        apt = Apt(tmp_path / f"apt{number}", copy)
        apt.update()
        apt.run("apt-get", "download", "foo")
        seen.append(versions(list_packages(copy, NAME))[-1][1])
        assert apt.candidate("foo") == seen[-1]
        put(copy, signer, new)
        assert verify(copy) == ()
    # The package, three indices under two names, Release.gpg, Release and InRelease, in
    # any state of which the old version is seen; then only the derived state is to come.
    assert seen == ["1.0-1"] * 10 + ["2.0-1"]


def test_killed_for_real_then_run_again(tmp_path, repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    new = make_deb(debs, "foo", "2.0-1")
    script = f"""
        import os, signal
        from pathlib import Path
        from builder.publish import Signer, Suite, publish
        rename = os.replace
        def dying(source, target):
            if str(target).endswith("/InRelease"):
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)
        os.replace = dying
        suite = Suite("bookworm", "2026.1", "Gazpacho")
        publish(Path({str(repo)!r}), suite, [Path({str(new)!r})], [],
                Signer.open(Path({str(signer.home)!r})))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=SRC, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert versions(list_packages(repo, NAME)) == [("foo", "1.0-1")]
    Apt(tmp_path / "apt", repo).update()
    # What was interrupted, with other bytes: nobody has ever seen the first ones.
    put(repo, signer, make_deb(tmp_path / "again", "foo", "2.0-1", content="again"))
    assert verify(repo) == ()
    assert not (repo / ".staging").exists()


def test_a_publication_undone_by_a_kill_is_repaired_by_the_old_set(repo, debs, signer, monkeypatch):
    old = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, old)
    rename = os.replace

    def dying(source, target):
        if str(target).endswith("/Release.gpg"):
            raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(Killed):
        put(repo, signer, make_deb(debs, "foo", "2.0-1"))
    monkeypatch.setattr(os, "replace", rename)
    put(repo, signer, old)
    assert verify(repo) == (
        "pool/main/f/foo/foo_2.0-1_all.deb: no suite lists it (prune deletes it)",
    )


def test_a_full_disk_is_one_line_and_changes_nothing(repo, debs, signer, monkeypatch):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    new = make_deb(debs, "foo", "2.0-1")

    def full(path, _):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PublishError, match="No space left") as caught:
        put(repo, signer, new)
    assert "make room" in caught.value.hint
    monkeypatch.undo()
    assert verify(repo) == ()
    assert not (repo / ".staging").exists()


def hold(repo, seconds):
    """Hold the lock from another thread, and return once it is held."""
    held = threading.Event()

    def holder():
        with lock_directory(repo, "publishing trixie-2026.1"):
            held.set()
            time.sleep(seconds)

    thread = threading.Thread(target=holder)
    thread.start()
    held.wait()
    return thread


def test_the_second_publisher_waits_and_says_for_whom(repo, debs, signer, capsys):
    log.set_level(1)
    thread = hold(repo, 0.5)
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert [f"publishing trixie-2026.1 (process {os.getpid()})" in line for line in lines] == [True]
    assert lines[0].startswith("waiting for ")


def test_the_second_publisher_gives_up_after_its_time(repo, debs, signer):
    thread = hold(repo, 0.6)
    with pytest.raises(BusyError, match=r"in use: publishing trixie-2026.1"):
        put(repo, signer, make_deb(debs, "foo", "1.0-1"), wait=0.1)
    thread.join()
    put(repo, signer, make_deb(debs, "foo", "1.1-1"), wait=0.1)


def test_the_lock_is_reentrant_for_a_pipeline_that_holds_it(repo, debs, signer):
    with lock_directory(repo, "building"):
        put(repo, signer, make_deb(debs, "foo", "1.0-1"), wait=0)
    assert verify(repo) == ()


def test_two_publishers_at_once_both_succeed(tmp_path, repo, debs):
    script = """
        import sys
        from pathlib import Path
        from builder.publish import Signer, Suite, publish
        repo, home, *debs = map(Path, sys.argv[1:])
        publish(repo, Suite("bookworm", "2026.1", "Gazpacho"), debs, [], Signer.open(home))
    """
    home = tmp_path / "one-key-for-both"
    children = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), repo, home, deb], cwd=SRC)
        for deb in (make_deb(debs, f"p{i}", "1.0-1") for i in range(3))
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert [p for p, _ in versions(list_packages(repo, SUITE.name))] == ["p0", "p1", "p2"]
    assert verify(repo) == ()
