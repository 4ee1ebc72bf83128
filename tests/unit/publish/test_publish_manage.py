"""The operator's verbs: list, remove, prune, verify; and the key."""

import os
import subprocess

import pytest
from publishing import (
    SUITE,
    TRIXIE,
    Apt,
    agents,
    contents,
    make_deb,
    make_source,
    put,
    versions,
)

from builder.errors import PublishError, UsageError
from builder.publish import (
    Signer,
    list_packages,
    list_suites,
    prune,
    remove,
    verify,
)
from builder.publish import signer as signer_module

NAME = "bookworm-2026.1"


def test_suites_are_listed(repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"), epoch_seconds=1700000000)
    put(repo, signer, make_deb(debs, "bar", "1.0-1"), suite=TRIXIE)
    suites = list_suites(repo)
    assert [(s.name, s.binaries, s.sources) for s in suites] == [
        (NAME, 1, 0),
        ("trixie-2026.1", 1, 0),
    ]
    assert suites[0].description == "OpenStack 2026.1 Gazpacho for Debian bookworm"
    assert suites[0].date == "Tue, 14 Nov 2023 22:13:20 UTC"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("link", "a symbolic link"),
        ("link to itself", "a symbolic link"),
        ("second name", "another name of a file"),
        ("fifo", "a fifo"),
        ("directory", "a directory"),
    ],
)
def test_a_lock_that_leads_elsewhere_is_not_written_to(  # noqa: PLR0917
    tmp_path, repo, debs, signer, kind, said
):
    """Who may write to the repository could have root overwrite any file."""
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    lock, victim = repo / ".lock", tmp_path / "victim"
    victim.write_text("precious")
    lock.unlink()
    if kind.startswith("link"):
        lock.symlink_to(victim if kind == "link" else lock)
    elif kind == "second name":
        lock.hardlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with pytest.raises(PublishError, match=rf"\.lock is not a regular file of its own, but {said}"):
        remove(repo, NAME, "foo", signer=signer)
    assert victim.read_text() == "precious"


def test_prune_keeps_the_newest_and_their_sources(tmp_path, repo, debs, signer):
    for version in ("1.9-1", "1.10-1", "1.11-1"):
        put(repo, signer, sources=[make_source(debs, "nova", version)])
    gone = prune(repo, NAME, 2, signer=signer)
    assert gone == (
        "pool/main/n/nova/nova_1.9-1.debian.tar.xz",
        "pool/main/n/nova/nova_1.9-1.dsc",
        "pool/main/n/nova/nova_1.9-1_all.deb",
        "pool/main/n/nova/nova_1.9.orig.tar.gz",
    )
    assert versions(list_packages(repo, NAME)) == [("nova", "1.10-1"), ("nova", "1.11-1")] * 2
    assert verify(repo) == ()
    apt = Apt(tmp_path / "apt", repo)
    apt.update()
    apt.run("apt-get", "download", "nova=1.10-1")
    assert prune(repo, NAME, 2, signer=signer) == ()


def test_remove_leaves_what_another_suite_lists(repo, debs, signer):
    deb = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, deb, make_deb(debs, "bar", "1.0-1"))
    put(repo, signer, deb, suite=TRIXIE)
    assert remove(repo, NAME, "foo", signer=signer) == ()
    assert versions(list_packages(repo, NAME)) == [("bar", "1.0-1")]
    assert remove(repo, TRIXIE.name, "foo", signer=signer) == ("pool/main/f/foo/foo_1.0-1_all.deb",)
    assert not (repo / "pool/main/f").exists()
    assert verify(repo) == ()


def test_remove_takes_one_version_or_a_source_with_its_packages(repo, debs, signer):
    source = make_source(debs, "nova", "1.0-1")
    put(repo, signer, make_deb(debs, "nova-api", "1.0-1", source="nova"), sources=[source])
    put(repo, signer, make_deb(debs, "foo", "1.0-1"), make_deb(debs, "foo", "1.1-1"))
    remove(repo, NAME, "foo", "1.0-1", signer=signer)
    remove(repo, NAME, "nova", signer=signer)
    assert versions(list_packages(repo, NAME)) == [("foo", "1.1-1")]
    assert verify(repo) == ()


def test_names_that_are_not_there(repo, debs, signer):
    with pytest.raises(UsageError, match=f"no suite {NAME}"):
        list_packages(repo, NAME)
    with pytest.raises(PublishError, match="no published suite"):
        verify(repo)
    put(repo, signer, make_deb(debs, "openstack-2026.1-nova", "1.0-1"))
    with pytest.raises(UsageError) as caught:
        remove(repo, NAME, "openstack-2026.1-nov", "1.0-1", signer=signer)
    assert caught.value.message == f"no 'openstack-2026.1-nov' 1.0-1 in {NAME}"
    assert caught.value.hint == "nearest: openstack-2026.1-nova"
    with pytest.raises(UsageError, match="0 versions"):
        prune(repo, NAME, 0, signer=signer)


def test_verify_names_each_damage(repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"), make_deb(debs, "bar", "1.0-1"))
    (repo / "pool/main/b/bar/bar_1.0-1_all.deb").write_bytes(b"rubbish")
    (repo / "pool/main/f/foo/foo_1.0-1_all.deb").rename(repo / "pool/main/f/foo/other.deb")
    packages = repo / f"dists/{NAME}/main/binary-amd64/Packages.gz"
    packages.write_bytes(b"")
    release = repo / f"dists/{NAME}/Release"
    release.write_text(release.read_text().replace("Gazpacho", "Gaspacho"))
    assert verify(repo) == (
        f"dists/{NAME}/Release.gpg: no good signature by {NAME}.asc on Release",
        f"dists/{NAME}/main/binary-amd64/Packages.gz: not the file that InRelease names",
        "pool/main/b/bar/bar_1.0-1_all.deb: damaged, size or sha256 differ from the index",
        "pool/main/f/foo/foo_1.0-1_all.deb: missing",
        "pool/main/f/foo/other.deb: no suite lists it (prune deletes it)",
    )


def test_the_key_is_made_once_and_kept_private(tmp_path, monkeypatch):
    home = tmp_path / "data/build-debs/keys"
    assert Signer.find_recorded(home) is None
    first = Signer.open(home)
    assert home.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(signer_module, "run", lambda *_, **__: pytest.fail("gpg was started"))
    assert Signer.open(home) == first


@pytest.mark.parametrize("below", ["", "keys"])
def test_a_file_where_the_keys_belong_is_named_with_what_to_do(tmp_path, below):
    (tmp_path / "home").write_text("mine")
    with pytest.raises(PublishError, match=r"/home is not a directory") as raised:
        Signer.open(tmp_path / "home" / below)
    assert "move it away" in raised.value.hint
    assert "XDG_DATA_HOME" in raised.value.hint
    assert (tmp_path / "home").read_text() == "mine"


def test_a_home_with_a_long_path_signs_and_leaves_no_agent(tmp_path, repo, debs, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / ("x" * 120) / "keys"
    signer = Signer.open(home)
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    assert verify(repo) == ()
    link = tmp_path / "k"
    link.symlink_to(home)
    asked = subprocess.run(
        ["gpg-connect-agent", "--homedir", link, "--no-autostart", "/bye"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert "no gpg-agent running" in asked.stdout + asked.stderr
    assert agents(tmp_path) == []


def test_a_suite_keeps_its_key_unless_it_is_told_to_take_another(tmp_path, repo, debs, signer):
    deb, other = make_deb(debs, "foo", "1.0-1"), Signer.open(tmp_path / "other")
    put(repo, signer, deb, make_deb(debs, "foo", "1.1-1"))
    before = contents(repo)
    for suite in (SUITE, TRIXIE):
        with pytest.raises(PublishError, match=f"signed with {signer.fingerprint}, not with"):
            put(repo, other, deb, suite=suite)
    with pytest.raises(PublishError, match="nodes would refuse it"):
        remove(repo, NAME, "foo", "1.0-1", signer=other)
    with pytest.raises(PublishError, match="nodes would refuse it"):
        prune(repo, NAME, 1, signer=other)
    assert {p: d for p, d in contents(repo).items() if not p.endswith(".lock")} == {
        p: d for p, d in before.items() if not p.endswith(".lock")
    }
    result = put(repo, other, deb, new_key=True)
    assert f"dists/{NAME}/InRelease" in result.rewritten
    assert f"{NAME}.asc" in result.rewritten
    assert verify(repo) == ()
    Apt(tmp_path / "apt", repo).update()
