"""Caches and the pool are disks: what they give back is checked, and made or fetched again."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from cloud import HERE, locked
from signing import Key

from builder import cache, files
from builder.debs import tree
from builder.pipeline import planning

SUITE = f"{HERE}-2099.1"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with locked(tmp_path_factory.mktemp("cloud")) as made:
        made.run("2099.1")
        yield made


@pytest.fixture
def own(cloud, tmp_path):
    """Return the cloud with a cache, data and a repository of the test's own."""
    kept = shutil.copytree(cloud.cache, tmp_path / "cache")
    return cloud.with_own_data(tmp_path, BUILD_DEBS_CACHE=kept)


def repository(own):
    return Path(own.env["BUILD_DEBS_DATA"]) / "repo"


def flip(path):
    """Change a byte and nothing else, as a disk may."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert path.stat().st_size == stat.st_size


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


def pool(repo):
    return {p.name: p.read_bytes() for p in (repo / "pool").rglob("*") if p.is_file()}


def same_but_for_ours(one, other):
    """Whether two pools are the same but for the package with the repository's address."""
    drop = [n for n in one.keys() | other.keys() if "-archive_" in n]
    return all(one.get(n) == other.get(n) for n in (one.keys() | other.keys()) - set(drop))


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        ("debs/*/*/openstack-2099.1-tinylib_*.deb", flip),
        ("debs/*/*/tiny_*.debian.tar.xz", cut),
        ("wheels/*/*.whl", flip),
        ("wheels/*/*.whl", Path.unlink),
        ("downloads/*/*/*", cut),
        ("downloads/*/*/*", flip),
    ],
)
def test_what_a_cache_has_lost_is_made_or_fetched_again(own, tmp_path, pattern, harm):
    for path in own.cache.glob(pattern):
        harm(path)
    if not pattern.startswith("debs"):
        shutil.rmtree(own.cache / "debs")
    _, err = own.run("2099.1", "--repo", tmp_path / "new")
    assert "damaged" in err
    assert same_but_for_ours(pool(tmp_path / "new"), pool(repository(own)))
    own.run("repo", "verify", "--repo", tmp_path / "new")
    # it is mended for good
    _, err = own.run("2099.1", "--repo", tmp_path / "third")
    assert "damaged" not in err


def become_directory(path):
    path.unlink()
    path.mkdir()
    (path / "inside").touch()


def become_fifo(path):
    """Put in its place what a reader waits for, for ever."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.mkfifo(path)


def become_file(path):
    shutil.rmtree(path)
    path.touch()


def become_link(path):
    """Put in its place a link to the same bytes, elsewhere."""
    elsewhere = path.parents[3] / f"elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def become_endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        ("debs/*/*/openstack-2099.1-tinylib_*.deb", become_directory),
        ("debs/*/*/openstack-2099.1-tinylib_*.deb", become_fifo),
        ("debs/*/*/openstack-2099.1-tinylib_*.deb", become_link),
        ("debs/*/*/SHA256SUMS", become_fifo),
        ("debs/*/*", become_fifo),
        ("debs/*/*", become_link),
        ("debs/*", become_file),
        ("wheels/*/*.whl", become_directory),
        ("wheels/*/*.whl", become_fifo),
        ("wheels/????????????????????????????????????????????????????????????????", become_file),
        ("downloads/*/*/*", become_directory),
        ("downloads/*/*/*", become_fifo),
        ("downloads/*/*/*", become_endless),
        ("downloads/??/*", become_file),
        ("downloads/??/*", become_fifo),
        ("downloads/??/*", become_link),
        ("downloads/??", become_file),
    ],
)
def test_what_a_cache_has_instead_is_made_or_fetched_again(own, tmp_path, pattern, harm):
    harmed = list(own.cache.glob(pattern))
    assert harmed
    for path in harmed:
        harm(path)
    if not pattern.startswith("debs"):
        shutil.rmtree(own.cache / "debs")
    _, err = own.run("2099.1", "--repo", tmp_path / "new")
    named = harmed[0] if pattern.startswith("downloads/*") else harmed[0].parents[0]
    assert f"{named}" in err
    assert "in the cache is damaged" in err
    assert same_but_for_ours(pool(tmp_path / "new"), pool(repository(own)))
    assert not [p for p in own.cache.rglob("*") if p.is_symlink() or p.is_fifo()]
    # it is mended for good
    _, err = own.run("2099.1", "--repo", tmp_path / "third")
    assert "damaged" not in err


@pytest.mark.parametrize(
    "harm",
    [
        become_directory,
        become_fifo,
        lambda path: path.write_text("5"),
        lambda path: path.write_text('[[1, "tinylib", ["tiny-service"]]]'),
        lambda path: path.write_text("[" * 100_000),
    ],
    ids=["directory", "fifo", "number", "types", "deep"],
)
def test_what_is_known_of_shared_files_is_worked_out_again(tmp_path, harm):
    memory = tmp_path / "cache/wheels/shared/one.json"
    rows = (tree.Shared("a/file", "tinylib", ("sourcelib",)),)
    text = json.dumps([dataclasses.astuple(row) for row in rows]).encode()
    cache.write(memory, text)
    assert planning.recall_shared(memory) == rows
    harm(memory)
    assert planning.recall_shared(memory) == ()
    cache.write(memory, text)
    assert planning.recall_shared(memory) == rows


@pytest.mark.parametrize(
    ("pattern", "more"),
    [
        ("debs/*/*/openstack-2099.1-tinylib_*.deb", "another_1_all.deb"),
        ("debs/*/*/tiny_*.dsc", "another.dsc"),
        ("wheels/*/*.whl", "another-1-py3-none-any.whl"),
    ],
)
def test_a_file_a_cache_has_in_addition_is_not_taken(own, tmp_path, pattern, more):
    """Nobody knows which of two packages is meant, so it is made again."""
    harmed = [p.with_name(more) for p in own.cache.glob(pattern)]
    for path in harmed:
        path.write_bytes(b"not ours")
    if not pattern.startswith("debs"):
        shutil.rmtree(own.cache / "debs")
    _, err = own.run("2099.1", "--repo", tmp_path / "new")
    assert f"{harmed[0].parent} in the cache is damaged" in err
    assert same_but_for_ours(pool(tmp_path / "new"), pool(repository(own)))
    assert not any(path.exists() for path in harmed)


def test_offline_a_damaged_download_is_missing(own, tmp_path):
    (path,) = own.cache.glob("downloads/*/*/tinylib-1.0-py3-none-any.whl")
    flip(path)
    shutil.rmtree(own.cache / "debs")
    _, err = own.run("2099.1", "--repo", tmp_path / "new", "--offline", code=5)
    assert f"{path} in the cache is damaged" in err
    assert "tinylib-1.0-py3-none-any.whl" in err


def test_a_plan_of_a_damaged_cache_changes_nothing(own, tmp_path):
    (path,) = own.cache.glob("debs/*/*/openstack-2099.1-tinylib_*.deb")
    flip(path)
    before = path.read_bytes()
    out, _ = own.run("2099.1", "--repo", tmp_path / "new", "--dry-run")
    assert "build\topenstack-2099.1-tinylib" in out
    assert path.read_bytes() == before


@pytest.mark.parametrize("cached", [True, False], ids=["from-the-cache", "made-again"])
def test_what_the_pool_has_lost_comes_back_bit_by_bit(own, cached):
    repo = repository(own)
    before = pool(repo)
    names = ("openstack-2099.1-tinylib_*", "openstack-2099.1-archive_*", "openstack-node_*")
    lost = [p for name in (*names, "tiny_*") for p in sorted((repo / "pool").rglob(name))]
    assert len(lost) == 7  # the source package is of three files, beside its package
    for number, path in enumerate(lost):
        [Path.unlink, flip, cut][number % 3](path)
    if not cached:
        shutil.rmtree(own.cache / "debs")
    own.run("repo", "verify", code=7)
    _, err = own.run("2099.1")
    assert err.count("was missing or damaged: writing it again") == 7
    assert pool(repo) == before
    own.run("repo", "verify")
    _, err = own.run("2099.1")
    assert "11 unchanged" in err


def test_what_the_pool_has_lost_for_ever_is_named(own, tmp_path):
    repo = repository(own)
    override = tmp_path / "override.txt"
    override.write_text("tinylib==1.1\n")
    own.run("2099.1", "--override", override)
    (lost,) = (repo / "pool").rglob("openstack-2099.1-tinylib_1.1*.deb")
    before = lost.read_bytes()
    lost.unlink()
    _, err = own.run("2099.1")  # it is in the cache
    assert lost.read_bytes() == before
    lost.unlink()
    shutil.rmtree(own.cache / "debs")
    _, err = own.run("2099.1", code=7)
    assert f"{lost.relative_to(repo)}: missing" in err
    version = lost.name.split("_")[1]
    assert "repo remove" in err
    own.run("repo", "remove", SUITE, "openstack-2099.1-tinylib", version)
    own.run("2099.1")
    own.run("repo", "verify")


def test_a_repository_built_with_a_key_of_the_user_s_own(own, tmp_path):
    """All that signs afterwards signs with it, and says so where it cannot."""
    key = Key(tmp_path / "gnupg")
    key.stop()
    theirs = own.with_env(GNUPGHOME=key.home, HOME=tmp_path / "home")
    repo = tmp_path / "keyed"
    theirs.run("2099.1", "--repo", repo, "--key", key.fingerprint)
    release = (repo / f"dists/{SUITE}/InRelease").read_bytes()
    assert json.loads((repo / f".state/{SUITE}.json").read_text())["fingerprint"] == (
        key.fingerprint.upper()
    )
    elsewhere = own.with_env(HOME=tmp_path / "another")
    words = ("repo", "remove", SUITE, "openstackclient", "--repo", repo)
    _, err = elsewhere.run(*words, code=7)
    assert key.fingerprint.upper() in err
    assert "build-debs RELEASE --new-key" in err  # this verb has no such option
    _, err = elsewhere.run("2099.1", "--repo", repo, code=7)
    _, err = elsewhere.run(*words, "--key", key.fingerprint, code=7)
    assert "no secret key" in err
    assert (repo / f"dists/{SUITE}/InRelease").read_bytes() == release
    assert not (tmp_path / "another/.local").exists()
    theirs.run(*words, "--key", key.fingerprint)
    theirs.run("repo", "prune", SUITE, "--repo", repo)
    theirs.run("2099.1", "--repo", repo)
    theirs.run("repo", "verify", "--repo", repo)


def test_a_directory_is_sealed_and_known_by_its_files(tmp_path):
    place = tmp_path / "cache/key"
    with cache.make_sealed(place) as new:
        (new / "a").write_text("one")
        (new / "b").write_text("two")
    assert cache.is_sound(place)
    (place / "beside").write_text("a stamp")
    assert cache.is_sound(place)
    for harm in (
        lambda: (place / "a").write_text("One"),
        (place / "b").unlink,
        (place / cache.SUMS).unlink,
        lambda: (place / cache.SUMS).write_text(""),
        lambda: (place / cache.SUMS).write_bytes(b"\xff\x00"),
        lambda: cut(place / cache.SUMS),
    ):
        harm()
        assert not cache.is_sound(place)
        with cache.make_sealed(place) as new:
            (new / "a").write_text("one")
            (new / "b").write_text("two")
        assert cache.is_sound(place)


def test_what_killed_runs_left_is_swept_and_what_live_ones_have_is_not(tmp_path):
    (tmp_path / f"{files.NEW}dead").write_bytes(b"half")
    dead = tmp_path / f"{files.AREA}dead"
    dead.mkdir()
    (dead / ".lock").touch()
    (dead / "half").write_bytes(b"")
    # a reader of these would wait for ever
    os.mkfifo(tmp_path / f"{files.NEW}fifo")
    (tmp_path / f"{files.AREA}fifo").mkdir()
    os.mkfifo(tmp_path / f"{files.AREA}fifo/.lock")
    with files.open_new_file(tmp_path) as (_, name), files.open_area(tmp_path) as area:
        files.sweep(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {name.name, area.name}
    assert list(tmp_path.iterdir()) == []
