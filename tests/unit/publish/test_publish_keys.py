"""The signing key: a repository remembers it; what is wrong with one is said; none is half made."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from publishing import SUITE, TRIXIE, Apt, agents, make_deb, put, sh
from signing import Key

from builder.errors import DataError, PublishError
from builder.publish import Signer, check_public_keys, choose, remove, verify

NAME = "bookworm-2026.1"
SRC = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nothing_of_the_user(tmp_path, monkeypatch):
    """Have the GnuPG home of the user be one that is not there."""
    monkeypatch.setenv("GNUPGHOME", str(tmp_path / "nobody's"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A key of the user's own, which GNUPGHOME says where to find."""
    key = Key(tmp_path / "gnupg")
    key.stop()
    monkeypatch.setenv("GNUPGHOME", str(key.home))
    return key


@pytest.fixture(autouse=True)
def no_agent_is_left(tmp_path):
    yield
    assert agents(tmp_path) == []


def test_the_key_of_a_new_repository_is_made_and_remembered(repo, keys, debs):
    signer = choose(repo, NAME, keys)
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    assert choose(repo, NAME, keys) == signer
    assert choose(repo, TRIXIE.name, keys) == signer


def test_a_repository_signed_with_the_user_s_key_is_signed_with_it_ever_after(
    tmp_path, repo, keys, debs, theirs
):
    signer = choose(repo, NAME, keys, key=theirs.fingerprint)
    put(repo, signer, make_deb(debs, "foo", "1.0-1"), make_deb(debs, "bar", "1.0-1"))
    Apt(tmp_path / "apt", repo).update()
    Signer.open(keys)  # that there is one of ours does not count
    again = choose(repo, NAME, keys)
    assert (again.fingerprint, again.home) == (theirs.fingerprint.upper(), theirs.home)
    remove(repo, NAME, "bar", signer=again)
    put(repo, choose(repo, TRIXIE.name, keys), make_deb(debs, "baz", "1.0-1"), suite=TRIXIE)
    assert verify(repo) == ()
    Apt(tmp_path / "apt2", repo, TRIXIE.name).update()


@pytest.mark.parametrize("lost", [".state", f"{NAME}.asc"])
def test_a_repository_remembers_its_key_by_what_is_left_of_it(repo, keys, debs, lost):
    signer = choose(repo, NAME, keys)
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    sh("rm", "-r", repo / lost, repo / ".state") if lost != ".state" else sh(
        "rm", "-r", repo / lost
    )
    assert choose(repo, NAME, keys) == signer
    shutil.move(keys, f"{keys}.away")
    with pytest.raises(PublishError, match=f"signed with the key {signer.fingerprint}"):
        choose(repo, NAME, keys)


def test_a_lost_key_is_not_replaced_unless_asked_for(tmp_path, repo, keys, debs):
    deb = make_deb(debs, "foo", "1.0-1")
    put(repo, choose(repo, NAME, keys), deb)
    shutil.rmtree(keys)
    with pytest.raises(PublishError, match="no secret key") as caught:
        choose(repo, NAME, keys)
    assert "restore the key from your copy" in caught.value.hint
    assert "--new-key" in caught.value.hint
    assert not keys.exists()
    with pytest.raises(PublishError, match="nodes would refuse it"):
        put(repo, Signer.open(keys), deb)
    shutil.rmtree(keys)
    put(repo, choose(repo, NAME, keys, new_key=True), deb, new_key=True)
    assert choose(repo, NAME, keys) == Signer.find_recorded(keys)
    Apt(tmp_path / "apt", repo).update()


def test_a_key_that_is_replaced_stays_for_the_suites_that_have_it(repo, keys, debs):
    deb, old = make_deb(debs, "foo", "1.0-1"), choose(repo, NAME, keys)
    put(repo, old, deb)
    put(repo, old, deb, suite=TRIXIE)
    new = choose(repo, NAME, keys, new_key=True)
    assert new != old
    put(repo, new, deb, new_key=True)
    assert choose(repo, NAME, keys) == new
    assert choose(repo, TRIXIE.name, keys) == old
    put(repo, old, make_deb(debs, "bar", "1.0-1"), suite=TRIXIE)
    # the second suite takes the key that was made for the first
    assert choose(repo, TRIXIE.name, keys, new_key=True) == new
    assert choose(repo, "sid-2026.1", keys) == new
    assert verify(repo) == ()


def test_another_key_named_without_the_word_is_refused(repo, keys, debs, theirs):
    put(repo, choose(repo, NAME, keys), make_deb(debs, "foo", "1.0-1"))
    with pytest.raises(PublishError, match="nodes would refuse it") as caught:
        choose(repo, NAME, keys, key=theirs.fingerprint)
    assert "--new-key" in caught.value.hint
    assert choose(repo, NAME, keys, key=theirs.fingerprint, new_key=True).public


def test_our_own_key_may_be_named(repo, keys, debs):
    signer = choose(repo, NAME, keys)
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    assert choose(repo, NAME, keys, key=signer.fingerprint.lower()) == signer


def test_an_existing_key_signs(tmp_path, repo, debs):
    home = tmp_path / "gnupg"
    made = Signer.open(home)
    spaced = " ".join(made.fingerprint[i : i + 4] for i in range(0, 40, 4)).lower()
    signer = Signer.find_existing(spaced, home)
    assert signer.fingerprint == made.fingerprint
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    assert verify(repo) == ()
    with pytest.raises(PublishError, match="no secret key 0123456789ABCDEF"):
        Signer.find_existing("0123456789ABCDEF", home)
    assert SUITE.name == NAME


@pytest.mark.parametrize(
    ("time_made", "until", "message", "hint"),
    [
        ("20200101T000000", "2020-02-01", "expired on 2020-02-01", "--quick-set-expire"),
        ("20400101T000000", "never", "made in the future: 2040-01-01", "set the clock"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_with_the_reason(
    tmp_path, time_made, until, message, hint
):
    key = Key(tmp_path / "gnupg", time_made, until)
    key.stop()
    with pytest.raises(PublishError, match=message) as caught:
        Signer.find_existing(key.fingerprint, key.home)
    assert hint in caught.value.hint


def test_a_key_with_a_passphrase_needs_an_agent_that_knows_it(tmp_path):
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    (home / "gpg-agent.conf").write_text("allow-preset-passphrase\n")
    gpg = ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback", "--passphrase", "x"]
    sh(*gpg, "--quick-gen-key", "theirs", "ed25519", "sign", "never")
    sh("gpgconf", "--homedir", home, "--kill", "all")
    signer = Signer.find_existing("theirs", home)
    with pytest.raises(PublishError, match="the key has a passphrase") as caught:
        signer.prove()
    assert "gpg-agent" in caught.value.hint
    sh("gpg-agent", "--homedir", home, "--daemon")
    try:
        (tmp_path / "any").write_text("anything")
        sh(*gpg, "--clearsign", tmp_path / "any")  # what a person does to unlock it
        signer.prove()
        # theirs goes on: it may have taken them a word
        assert "gpg-agent" in sh("ps", "-o", "args", "-p", agent_of(home))
    finally:
        sh("gpgconf", "--homedir", home, "--kill", "all")


def agent_of(home):
    said = sh("gpg-connect-agent", "--homedir", home, "--no-autostart", "getinfo pid", "/bye")
    return re.search(r"^D (\d+)", said, re.MULTILINE)[1]


def test_a_full_disk_is_named(tmp_path, keys, monkeypatch):
    signer = Signer.open(keys)
    full = tmp_path / "bin/gpg"
    full.parent.mkdir()
    full.write_text("#!/bin/sh\necho 'gpg: error writing: No space left on device' >&2\nexit 2\n")
    full.chmod(0o755)
    monkeypatch.setenv("PATH", f"{full.parent}:{os.environ['PATH']}")
    with pytest.raises(PublishError, match="the disk is full") as caught:
        signer.prove()
    assert "make room" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_key_on_a_read_only_disk_signs(tmp_path, theirs):
    place = tmp_path / "disk"
    place.mkdir()
    sh("mount", "-t", "tmpfs", "tmpfs", place)
    try:
        shutil.copytree(theirs.home, place / "gnupg", ignore=shutil.ignore_patterns("S.*"))
        sh("mount", "-o", "remount,ro", place)
        Signer.find_existing(theirs.fingerprint, place / "gnupg").prove()
    finally:
        sh("umount", place)


def test_locks_that_dead_processes_left_in_a_home_stop_nobody(keys):
    signer = Signer.open(keys)
    for name in ("pubring.kbx.lock", "trustdb.gpg.lock", ".#lk0x0000deadbeef.host.1"):
        # that process lives, and is another one by now
        (keys / name).write_text(f"{os.getpid():10d}\n{os.uname().nodename}\n")
    (keys / "trustdb.gpg").write_bytes(b"half a trust database")
    signer.prove()
    Signer.find_existing(signer.fingerprint, keys).prove()
    Signer.make(keys, another=True).prove()


@pytest.mark.parametrize(
    "kept",
    [
        ("private-keys-v1.d", "pubring.kbx"),
        ("private-keys-v1.d", "pubring.kbx", "build-debs.asc"),
        ("private-keys-v1.d", "pubring.kbx", "build-debs.fingerprint"),
    ],
)
def test_a_key_that_was_not_written_down_is_found_again(keys, kept):
    made = Signer.open(keys)
    for path in keys.iterdir():
        if path.name not in kept:
            sh("rm", "-r", path)
    (keys / "trustdb.gpg").write_bytes(b"\1gpg" + bytes(56))  # half of one
    assert Signer.open(keys) == made
    made.prove()


@pytest.mark.parametrize("name", ["build-debs.fingerprint", "build-debs.asc"])
def test_a_fifo_where_a_key_is_written_down_is_not_waited_for(keys, name):
    made = Signer.open(keys)
    (keys / name).unlink()
    os.mkfifo(keys / name)
    assert Signer.open(keys) == made
    assert (keys / name).is_file()


@pytest.mark.parametrize("kept", [("private-keys-v1.d",), ("pubring.kbx",), ("trustdb.gpg",)])
def test_what_is_no_whole_key_is_made_again(keys, kept):
    Signer.open(keys)
    for path in keys.iterdir():
        if path.name not in kept:
            sh("rm", "-r", path)
    if kept == ("pubring.kbx",):
        (keys / "pubring.kbx").write_bytes(b"half a keyring")
    Signer.open(keys).prove()


KILLED_AT = """
    import os, signal, sys
    from pathlib import Path
    from builder.publish import Signer
    rename, left = os.replace, [int(sys.argv[2])]
    def dying(source, target):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        rename(source, target)
    os.replace = dying
    Signer.open(Path(sys.argv[1]))
"""


def test_killed_at_any_rename_while_the_key_is_made_the_next_run_has_one(tmp_path):
    for number in range(20):
        home = tmp_path / f"keys{number}"
        argv = [sys.executable, "-c", textwrap.dedent(KILLED_AT), home, str(number)]
        code = subprocess.run(argv, cwd=SRC, check=False, timeout=60).returncode
        signer = Signer.open(home)
        signer.prove()
        assert Signer.open(home) == signer
        assert list(home.glob("build-debs-run-*")) == []
        if not code:
            break
        assert code == -signal.SIGKILL
    else:
        raise AssertionError("it never came to its end")
    assert number >= 5


@pytest.mark.parametrize("milliseconds", [20, 60, 120, 200])
def test_killed_while_gpg_works_no_agent_is_left_and_the_next_run_signs(
    tmp_path, keys, milliseconds
):
    script = (
        "import sys; from pathlib import Path; from builder.publish import Signer\n"
        "print('ready', flush=True)\n"
        "while True: Signer.open(Path(sys.argv[1])).prove()"
    )
    argv = [sys.executable, "-c", script, keys]
    with subprocess.Popen(argv, cwd=SRC, stdout=subprocess.PIPE, process_group=0) as process:
        process.stdout.readline()
        time.sleep(milliseconds / 1000)
        process.kill()
    Signer.open(keys).prove()
    deadline = time.monotonic() + 15
    while (
        agents(tmp_path) and time.monotonic() < deadline
    ):  # an agent sees within seconds that gpg ended
        time.sleep(0.1)


def test_nodes_that_were_told_of_the_next_key_follow_the_change(tmp_path, repo, keys, debs, theirs):
    """What is at the top of the repository is what the archive package brings to nodes."""
    put(repo, choose(repo, NAME, keys), make_deb(debs, "foo", "1.0-1"))
    told = theirs.public(tmp_path / "next.gpg")
    put(repo, choose(repo, NAME, keys, trusted=told.read_bytes()))
    kept = tmp_path / "node.asc"
    kept.write_bytes((repo / f"{NAME}.asc").read_bytes())
    # it stays so until the change, without a word
    put(repo, choose(repo, NAME, keys), make_deb(debs, "foo", "1.1-1"))
    assert (repo / f"{NAME}.asc").read_bytes() == kept.read_bytes()
    node = Apt(tmp_path / "apt", repo, key=kept)
    node.update()
    put(repo, choose(repo, NAME, keys, key=theirs.fingerprint, new_key=True), new_key=True)
    node.update()
    assert verify(repo) == ()
    assert (repo / f"{NAME}.asc").read_bytes() == Signer.find_existing(theirs.fingerprint).public


def test_a_file_of_public_keys_is_one(tmp_path, theirs):
    """Nodes are told of the next key before it signs: one that is not told locks them out."""
    path = theirs.public(tmp_path / "next.gpg")
    assert check_public_keys(path) == path.read_bytes()
    for content, what in (
        (b"", "no public key"),
        (b"rubbish", "no public key"),
        (theirs.gpg("--export-secret-keys", theirs.fingerprint), "secret keys"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"next.gpg has {what}") as raised:
            check_public_keys(path)
        assert raised.value.exit_code == 3
    theirs.stop()


def test_what_is_no_key_is_not_given_to_nodes(repo, keys):
    with pytest.raises(PublishError, match="a public key cannot be read"):
        choose(repo, NAME, keys, trusted=b"rubbish")
