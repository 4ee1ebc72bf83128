"""A repository as its user meets it: what is published, again, side by side, and what apt says."""

import calendar
import json
import os
import re
import time
from email.utils import parsedate_to_datetime
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from harms import become_directory
from publishing import (
    SUITE,
    TRIXIE,
    Apt,
    check_golden,
    contents,
    make_deb,
    make_source,
    put,
    sh,
    snapshot,
    versions,
)
from web import web_server

from builder.errors import PublishError
from builder.publish import (
    Signer,
    find_lost,
    list_packages,
    list_published,
    list_published_sources,
    remove,
    verify,
)
from builder.publish import pool as pool_module
from builder.publish import signer as signer_module
from builder.publish.write import render_release


def test_apt_updates_and_downloads_from_a_file_repository(tmp_path, repo, debs, signer):
    lib = make_deb(debs, "libfoo", "1.0-1+deb12.1", source="foo (2:1.0-1)")
    published_now = put(repo, signer, lib, make_deb(debs, "bar", "2:3.0-1"))
    assert published_now.added == (
        "pool/main/b/bar/bar_3.0-1_all.deb",
        "pool/main/f/foo/libfoo_1.0-1+deb12.1_all.deb",
    )
    assert verify(repo) == ()
    apt = Apt(tmp_path / "apt", repo)
    apt.update()
    assert apt.candidate("bar") == "2:3.0-1"
    apt.run("apt-get", "download", "libfoo")
    assert (apt.root / lib.name).read_bytes() == lib.read_bytes()


def test_apt_refuses_a_repository_signed_with_another_key(tmp_path, repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    other = tmp_path / "other.asc"
    other.write_bytes(Signer.open(tmp_path / "other").export_key())
    with pytest.raises(AssertionError, match=r"NO_PUBKEY|not signed"):
        Apt(tmp_path / "apt", repo, key=other).update()


def test_apt_fetches_indices_by_hash_over_http(tmp_path, repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(repo))

        def log_message(self, *args):
            asked.append(args[1].split()[1])

    with web_server(Handler) as address:
        apt = Apt(tmp_path / "apt", repo, url=f"{address}/")
        apt.update()
    indices = [path for path in asked if "/main/" in path]
    assert indices
    assert all("/by-hash/SHA256/" in path for path in indices)


def test_it_is_signed_where_tmpdir_has_a_long_name(tmp_path, repo, debs, monkeypatch):
    """A socket's path has at most 107 bytes, and gpg-agent has one."""
    long = tmp_path / ("t" * 60)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    put(repo, Signer.open(tmp_path / "keys"), make_deb(debs, "bar", "3.0-1"))
    Apt(tmp_path / "apt", repo).update()


def test_source_packages_are_published_and_fetched(tmp_path, repo, debs, signer):
    first = make_source(debs, "nova", "2:33.0.2-1+deb12.1".partition(":")[2])
    result = put(repo, signer, sources=[first])
    assert "pool/main/n/nova/nova_33.0.2.orig.tar.gz" in result.added
    assert verify(repo) == ()
    apt = Apt(tmp_path / "apt", repo)
    apt.update()
    apt.run("apt-get", "source", "--download-only", "nova")
    assert (apt.root / "nova_33.0.2.orig.tar.gz").read_bytes() == first.files[0].read_bytes()
    assert list_published_sources(repo, SUITE)["nova"][0].inputs == "beef"

    second = make_source(debs, "nova", "33.0.2-1+deb12.2", inputs="cafe")  # the same orig.tar
    put(repo, signer, sources=[second])
    assert versions(list_published_sources(repo, SUITE)["nova"]) == [
        ("nova", "33.0.2-1+deb12.1"),
        ("nova", "33.0.2-1+deb12.2"),
    ]
    assert verify(repo) == ()
    assert put(repo, signer, sources=[first, second]).rewritten == ()


def test_older_versions_stay_installable_and_inputs_are_known(tmp_path, repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.9-1", inputs="a1"))
    put(repo, signer, make_deb(debs, "foo", "1.10-1", inputs="a2"))
    entries = list_published(repo, SUITE)["foo"]
    assert [(e.version, e.inputs) for e in entries] == [("1.9-1", "a1"), ("1.10-1", "a2")]
    apt = Apt(tmp_path / "apt", repo)
    apt.update()
    assert apt.candidate("foo") == "1.10-1"
    apt.run("apt-get", "download", "foo=1.9-1")


def test_a_second_run_writes_nothing_and_calls_nothing(repo, debs, signer, monkeypatch):
    some = [make_deb(debs, f"p{i}", "1.0-1") for i in range(3)]
    source = make_source(debs, "nova", "1.0-1")
    put(repo, signer, *some, sources=[source], missing=["nova"])
    before = snapshot(repo)

    def forbidden(*_, **__):
        pytest.fail("a process was started")

    monkeypatch.setattr(signer_module, "run", forbidden)
    monkeypatch.setattr(pool_module, "run", forbidden)
    again = put(repo, signer, *some, sources=[source], missing=["nova"])
    assert (again.added, again.rewritten, len(again.kept)) == ((), (), 5)
    assert snapshot(repo) == before


def test_a_copied_package_is_recognised_by_its_bytes(tmp_path, repo, debs, signer):
    deb = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, deb)
    copy = tmp_path / "elsewhere" / deb.name
    copy.parent.mkdir()
    copy.write_bytes(deb.read_bytes())
    assert put(repo, signer, copy).rewritten == ()
    renamed = copy.rename(copy.with_name("any-name.deb"))
    put(repo, signer, renamed)
    assert versions(list_packages(repo, "bookworm-2026.1")) == [("foo", "1.0-1")]
    assert verify(repo) == ()


def test_same_name_with_other_bytes_is_refused(repo, debs, tmp_path, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    before = contents(repo)
    other = make_deb(tmp_path / "other", "foo", "1.0-1", content="something else")
    for suite in (SUITE, TRIXIE):  # the pool is shared
        with pytest.raises(PublishError, match="published, with content other") as caught:
            put(repo, signer, other, suite=suite)
        assert "higher revision" in caught.value.hint
    after = contents(repo)
    assert {p: d for p, d in after.items() if not p.endswith(".lock")} == {
        p: d for p, d in before.items() if not p.endswith(".lock")
    }


def test_a_second_suite_leaves_the_first_byte_for_byte(repo, debs, signer):
    shared = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, shared)
    first = repo / "dists/bookworm-2026.1"
    before = snapshot(first)
    result = put(repo, signer, shared, make_deb(debs, "bar", "1.0-1"), suite=TRIXIE)
    assert snapshot(first) == before
    assert len(result.added) == 2
    assert len(list((repo / "pool").rglob("foo*.deb"))) == 1
    assert verify(repo) == ()


INRELEASE = "dists/bookworm-2026.1/InRelease"


def published_at(repo):
    """Return the Date of the suite, in seconds since 1970."""
    text = (repo / INRELEASE).read_text()
    return parsedate_to_datetime(re.search("^Date: (.*)$", text, re.MULTILINE)[1]).timestamp()


FUTURE = calendar.timegm((2040, 1, 1, 0, 0, 0))


def with_a_clock_of(seconds, monkeypatch):
    """Have Python's clock, though not gpg's, say a time."""
    monkeypatch.setattr(time, "time", lambda: float(seconds))


def test_a_date_that_a_wrong_clock_has_left_is_named_and_goes_with_the_next_run(
    tmp_path, repo, debs, signer, monkeypatch
):
    deb = make_deb(debs, "foo", "1.0-1")
    with monkeypatch.context() as patch:
        with_a_clock_of(FUTURE, patch)
        put(repo, signer, deb)
    assert published_at(repo) == FUTURE
    (problem,) = verify(repo)
    assert "its Date is in the future, Sun, 01 Jan 2040 00:00:00 UTC" in problem
    with pytest.raises(AssertionError, match="not valid yet"):
        Apt(tmp_path / "refusing", repo).update()
    put(repo, signer, deb)  # what has not changed is written again for it
    assert time.time() - 100 < published_at(repo) <= time.time()
    assert (repo / INRELEASE).stat().st_mtime <= time.time()
    assert verify(repo) == ()
    Apt(tmp_path / "apt", repo).update()
    before = snapshot(repo)
    put(repo, signer, deb)
    assert snapshot(repo) == before


def test_indices_a_wrong_clock_has_left_do_not_stay_for_ever(repo, debs, signer, monkeypatch):
    with monkeypatch.context() as patch:
        with_a_clock_of(FUTURE, patch)
        put(repo, signer, make_deb(debs, "foo", "1.0-1"))
        for path in (repo / "dists").rglob("*"):
            os.utime(path, (FUTURE, FUTURE))
    put(repo, signer, make_deb(debs, "foo", "1.1-1"))
    times = [p.stat().st_mtime for p in (repo / "dists").rglob("by-hash/SHA256/*")]
    assert max(times) <= time.time()


def test_no_date_is_later_than_now(repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"), epoch_seconds=FUTURE)
    assert published_at(repo) <= time.time()


def test_two_publications_in_one_second_are_both_seen_and_neither_is_of_the_future(
    tmp_path, repo, debs, signer
):
    apt = Apt(tmp_path / "apt", repo)
    for minor in range(3):
        put(repo, signer, make_deb(debs, "foo", f"1.{minor}-1"), epoch_seconds=1700000000)
        assert (repo / INRELEASE).stat().st_mtime <= time.time()
        apt.update()
        assert apt.candidate("foo") == f"1.{minor}-1"


def test_date_never_goes_back(repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"), epoch_seconds=1700000000)
    put(repo, signer, make_deb(debs, "foo", "1.1-1"), epoch_seconds=1600000000)
    assert (
        "Date: Tue, 14 Nov 2023 22:13:20 UTC"
        in (repo / "dists/bookworm-2026.1/Release").read_text()
    )


def test_a_partial_publication_says_what_is_missing(repo, debs, signer):
    deb, release = make_deb(debs, "foo", "1.0-1"), repo / "dists/bookworm-2026.1/Release"
    put(repo, signer, deb, missing=["nova", "cinder"])
    assert "; incomplete, not built: cinder, nova\n" in release.read_text()
    put(repo, signer, deb, missing=["nova"], absent=["keystone", "glance"])
    assert "; incomplete, not built: nova; without glance, keystone\n" in release.read_text()
    put(repo, signer, deb)
    assert "incomplete" not in release.read_text()
    assert "without" not in release.read_text()
    assert verify(repo) == ()


def grow_older(repo, hours):
    """Have everything of the repository be some hours older than it is."""
    for path in (repo / "dists").rglob("*"):
        seconds = path.stat().st_mtime - hours * 3600
        os.utime(path, (seconds, seconds))


def test_indices_of_the_last_day_and_of_the_last_publications_stay_fetchable_by_hash(
    repo, debs, signer
):
    by_hash = repo / "dists/bookworm-2026.1/main/binary-amd64/by-hash/SHA256"
    seen = []
    for minor in range(7):
        if minor == 6:
            grow_older(repo, 25)
        put(repo, signer, make_deb(debs, "foo", f"1.{minor}-1"))
        seen.append({path.name for path in by_hash.iterdir()})
    assert len(seen[5]) == 18
    # a day later those of the last four; how long ago they were made does not count
    made = [new - old for old, new in zip([set(), *seen], seen, strict=False)]
    assert seen[6] == set().union(*made[3:])
    grow_older(repo, 25 * 30)
    put(repo, signer, make_deb(debs, "foo", "1.7-1"))
    assert made[6] <= {path.name for path in by_hash.iterdir()}


def test_what_is_no_index_in_a_folder_of_indices_stops_nothing(repo, debs, signer):
    for minor in range(6):
        put(repo, signer, make_deb(debs, "foo", f"1.{minor}-1"))
    by_hash = repo / f"dists/{SUITE.name}/main/binary-amd64/by-hash/SHA256"
    (by_hash / "notes").mkdir()
    (by_hash / "notes/mine").write_text("mine")
    os.mkfifo(by_hash / "fifo")
    grow_older(repo, 25)
    (by_hash / "link").symlink_to("nowhere")
    put(repo, signer, make_deb(debs, "foo", "1.6-1"))
    assert len(list(by_hash.iterdir())) == 4 * 3 + 3
    assert (by_hash / "notes/mine").read_text() == "mine"
    assert verify(repo) == ()


def test_a_directory_in_place_of_an_index_gives_way(repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    index = repo / f"dists/{SUITE.name}/main/source/Sources.gz"
    become_directory(index)
    assert verify(repo)
    put(repo, signer, make_deb(debs, "foo", "1.1-1"))
    assert verify(repo) == ()


def test_a_client_that_is_many_publications_behind_gets_what_it_has_the_inrelease_of(
    tmp_path, repo, debs, signer
):
    """A proxy gives out an old InRelease, and asks for all else when a client does."""
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    old = (repo / "dists/bookworm-2026.1/InRelease").read_bytes()
    for minor in range(1, 7):
        put(repo, signer, make_deb(debs, "foo", f"1.{minor}-1"))

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(repo))

        def do_GET(self):
            if self.path.endswith("/InRelease"):
                self.send_response(200)
                self.send_header("Content-Length", str(len(old)))
                self.end_headers()
                self.wfile.write(old)
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    with web_server(Handler) as address:
        apt = Apt(tmp_path / "apt", repo, url=f"{address}/")
        apt.update()
        assert apt.candidate("foo") == "1.0-1"


def test_a_lost_state_is_derived_from_the_indices(repo, debs, signer):
    deb = make_deb(debs, "foo", "1.0-1", inputs="abc")
    put(repo, signer, deb, sources=[make_source(debs, "nova", "1.0-1")])
    known = list_published(repo, SUITE), list_published_sources(repo, SUITE)
    sh("rm", "-r", repo / ".state")
    assert (list_published(repo, SUITE), list_published_sources(repo, SUITE)) == known


def renumber(rows):
    rows[0][1] = "9.0-1"


@pytest.mark.parametrize("change", [list.reverse, renumber])
def test_a_state_that_does_not_fit_the_indices_is_not_published(repo, debs, signer, change):
    put(repo, signer, make_deb(debs, "bar", "1.0-1"), make_deb(debs, "foo", "1.0-1"))
    (state,) = (repo / ".state").rglob("*.json")
    raw = json.loads(state.read_text())
    change(raw["binaries"])
    state.write_text(json.dumps(raw))
    put(repo, signer, make_deb(debs, "foo", "1.0-2"), make_deb(debs, "new", "1.0-1"))
    rows = [(e.package, e.version, e.files[0].name) for e in list_packages(repo, SUITE.name)]
    assert rows == [
        ("bar", "1.0-1", "bar_1.0-1_all.deb"),
        ("foo", "1.0-1", "foo_1.0-1_all.deb"),
        ("foo", "1.0-2", "foo_1.0-2_all.deb"),
        ("new", "1.0-1", "new_1.0-1_all.deb"),
    ]
    assert verify(repo) == ()


def test_a_lost_pool_file_comes_back(repo, debs, signer):
    deb = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, deb)
    pooled = repo / "pool/main/f/foo/foo_1.0-1_all.deb"
    pooled.unlink()
    assert verify(repo) == ("pool/main/f/foo/foo_1.0-1_all.deb: missing",)
    put(repo, signer, deb)
    assert verify(repo) == ()


def damage(path):
    """Flip a byte, as a disk may, and leave the size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # not in its other links
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [damage, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_pool_file_that_is_lost_comes_back_with_its_package(tmp_path, signer, harm, capsys):
    repo, debs = tmp_path / "repo", tmp_path / "debs"
    deb = make_deb(debs, "foo", "1.0-1")
    source = make_source(debs, "nova", "1.0-1")
    put(repo, signer, deb, sources=[source])
    kept = contents(repo / "pool")
    copy = tmp_path / "cache" / deb.name
    copy.parent.mkdir()
    copy.write_bytes(deb.read_bytes())
    for path in (
        repo / "pool/main/f/foo" / deb.name,
        repo / "pool/main/n/nova/nova_1.0.orig.tar.gz",
    ):
        harm(path)
        assert find_lost(repo, SUITE)
        put(repo, signer, copy, sources=[make_source(tmp_path / path.name, "nova", "1.0-1")])
        assert f"{path.name} was missing or damaged: writing it again" in capsys.readouterr().err
        assert contents(repo / "pool") == kept
        assert find_lost(repo, SUITE) == ()
    assert verify(repo) == ()


def test_a_pool_file_that_is_lost_and_not_given_is_named(repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"), make_deb(debs, "bar", "1.0-1"))
    damage(repo / "pool/main/f/foo/foo_1.0-1_all.deb")
    for more in ([], [make_deb(debs, "baz", "1.0-1")]):
        with pytest.raises(PublishError, match="1 files of the pool") as caught:
            put(repo, signer, *more)
        assert caught.value.details == ("pool/main/f/foo/foo_1.0-1_all.deb: damaged",)
        assert "repo remove bookworm-2026.1" in caught.value.hint
    remove(repo, "bookworm-2026.1", "foo", "1.0-1", signer=signer)
    put(repo, signer, make_deb(debs, "foo", "1.1-1"))
    assert verify(repo) == ()


def test_a_pool_file_that_is_lost_is_not_replaced_by_other_bits(tmp_path, repo, debs, signer):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    (repo / "pool/main/f/foo/foo_1.0-1_all.deb").unlink()
    before = contents(repo)
    other = make_deb(tmp_path / "other", "foo", "1.0-1", content="other")
    with pytest.raises(PublishError, match="differs from what is listed") as caught:
        put(repo, signer, other)
    assert "restore it from a copy" in caught.value.hint
    assert contents(repo) == before


def test_a_copied_repository_is_read_once_and_taken_for_what_it_is(tmp_path, repo, debs, signer):
    deb = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, deb)
    copy = tmp_path / "copy"
    sh("cp", "-r", repo, copy)
    put(copy, signer, deb)
    assert verify(copy) == ()


def test_what_is_no_package_of_the_suite_is_refused_with_its_name(repo, debs, signer, tmp_path):
    broken = tmp_path / "foo_1_all.deb"
    broken.write_bytes(b"not a package")
    for deb in (
        broken,
        tmp_path / "absent_1_all.deb",
        make_deb(debs, "f", "1", architecture="arm64"),
    ):
        with pytest.raises(PublishError) as caught:
            put(repo, signer, deb)
        assert deb.name in " ".join((caught.value.message, *caught.value.details))
    assert not (repo / "dists").exists()
    assert not (repo / ".staging").exists()


def test_further_files_stand_at_the_top(repo, debs, signer):
    files = {"bookworm-2026.1.sources": b"Types: deb\n"}
    put(repo, signer, make_deb(debs, "foo", "1.0-1"), files=files)
    assert (repo / "bookworm-2026.1.sources").read_bytes() == b"Types: deb\n"
    assert b"PUBLIC KEY BLOCK" in (repo / "bookworm-2026.1.asc").read_bytes()


def test_all_is_readable_by_a_web_server_whatever_the_umask(repo, debs, signer):
    deb = make_deb(debs, "foo", "1.0-1")
    deb.chmod(0o600)
    mask = os.umask(0o077)
    try:
        put(repo, signer, deb)
    finally:
        os.umask(mask)
    tops = [repo / "pool", repo / "dists"]
    directories = [repo, *tops, *(p for top in tops for p in top.rglob("*") if p.is_dir())]
    files = [*repo.glob("*.asc"), *(p for top in tops for p in top.rglob("*") if p.is_file())]
    assert {p.stat().st_mode & 0o777 for p in directories} == {0o755}
    assert {p.stat().st_mode & 0o777 for p in files} == {0o644}


def test_release_is_the_golden_one(request):
    fields = {
        "Origin": "build-debs",
        "Label": "OpenStack 2026.1",
        "Suite": "bookworm-2026.1",
        "Codename": "bookworm-2026.1",
        "Architectures": "amd64",
        "Components": "main",
        "Description": "OpenStack 2026.1 Gazpacho for Debian bookworm",
        "Acquire-By-Hash": "yes",
    }
    files = {"main/source/Sources": b"", "main/binary-amd64/Packages": b"Package: foo\n" * 9}
    digests = dict.fromkeys(
        files, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    check_golden(request, "archive/Release", render_release(fields, 1700000000, digests, files))
