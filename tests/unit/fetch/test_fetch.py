"""Fetch: what enters the cache is what was locked, from wherever and whatever went wrong."""

import errno
import os
import socket
from dataclasses import replace

import pytest
from wheelhouse import (
    artifact,
    body,
    cut_short,
    distribution,
    names,
    sdist,
    send,
    serving,
    status,
    wheel,
)

from builder.errors import FetchError
from builder.fetch import files as fetch
from builder.model.values import Artifact

pytestmark = pytest.mark.usefixtures("private_home")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Wait for nothing, and keep away from upstream's real site."""
    waits = []
    monkeypatch.setattr(fetch.retry, "__defaults__", (waits.append,))
    monkeypatch.setattr(fetch, "TARBALL_SITE", "http://127.0.0.1:1")
    return waits


@pytest.fixture
def index(monkeypatch):
    with serving() as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
        yield server


@pytest.fixture
def house(tmp_path):
    return tmp_path / "house"


@pytest.fixture
def library(house, index):
    """Serve a wheel, and return what the lock says of it."""
    path = wheel(house, "oslo.config", "10.0", {"oslo_config/__init__.py": "x = 1\n" * 500})
    index.add(path)
    return distribution("oslo.config", "10.0", path=path)


@pytest.fixture
def service(house):
    """Return what the lock says of a release tarball that nobody serves yet."""
    path = sdist(house, "keystone", "29.0.2")
    return distribution("keystone", "29.0.2", kind="service", path=path), path


def get(tmp_path, *rows, **options):
    found, failure = fetch.fetch(fetch.list_wanted(rows), tmp_path / "cache", **options)
    assert failure is None, failure.details
    return found


def cached_files(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


def url_of(row):
    return f"/files/{row.artifacts[0].file}"


def failed(tmp_path, *rows, **options):
    """Return the error of a fetch that fails, having left nothing in the cache."""
    found, failure = fetch.fetch(fetch.list_wanted(rows), tmp_path / "cache", **options)
    assert isinstance(failure, FetchError)
    assert failure.exit_code == 5
    assert not found.files
    assert cached_files(tmp_path) == []
    return failure


@pytest.mark.parametrize("json_api", [True, False])
def test_a_file_is_found_on_an_index_of_either_kind(tmp_path, house, monkeypatch, json_api):
    path = wheel(house, "oslo.config", "10.0")
    row = distribution("oslo.config", "10.0", path=path)
    with serving(json_api) as server:
        server.add(path)
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        found = get(tmp_path, row).files[row.artifacts[0].sha256]
    assert found.read_bytes() == path.read_bytes()
    assert found.name == path.name
    assert found.stat().st_mode & 0o777 == 0o644


def test_a_file_is_found_on_whichever_index_has_it(tmp_path, house, index, library, monkeypatch):
    vendors = wheel(house, "vendors.sdk", "2.0")
    newer = wheel(house, "oslo.config", "11.0")
    row = distribution("vendors.sdk", "2.0", path=vendors)
    with serving() as site:
        site.add(vendors)
        site.add(newer)  # the index has the locked one, as well
        monkeypatch.setenv("UV_INDEX", f"{site.url} vendor={site.url}")
        found = get(tmp_path, row, library)
        assert found.files[row.artifacts[0].sha256].read_bytes() == vendors.read_bytes()
        assert library.artifacts[0].sha256 in found.files
    assert not [asked for asked in index.requests if "vendors" in str(asked)]


def test_what_is_in_the_cache_is_asked_of_nobody(tmp_path, index, library):
    get(tmp_path, library)
    index.requests.clear()
    get(tmp_path, library)
    get(tmp_path, library, offline=True)
    assert index.requests == []


def test_bytes_that_are_not_the_locked_ones_are_neither_used_nor_kept(tmp_path, index, library):
    index.answers[url_of(library)] = [body(b"something else")] * 9
    error = failed(tmp_path, library)
    assert "cannot get 1 of 1 files" in error.message
    assert library.artifacts[0].file in error.details[0]
    assert f"is not the locked {library.artifacts[0].sha256}" in error.details[0]


def test_a_damaged_download_is_tried_again(tmp_path, index, library, no_waiting):
    index.answers[url_of(library)] = [body(b"cosmic ray")]
    get(tmp_path, library)
    assert cached_files(tmp_path) == [library.artifacts[0].file]
    assert len(no_waiting) == 1


def test_a_download_that_ends_early_is_tried_again(tmp_path, index, library, no_waiting):
    whole = index.files[library.artifacts[0].file]
    index.answers[url_of(library)] = [cut_short(whole[:100], len(whole))] * 2
    get(tmp_path, library)
    assert no_waiting == [0.5, 1.0]


def test_a_download_that_always_ends_early_is_an_error(tmp_path, index, library):
    whole = index.files[library.artifacts[0].file]
    index.answers[url_of(library)] = [cut_short(whole[:100], len(whole))] * 9
    failed(tmp_path, library)
    assert index.requests.count(url_of(library)) == fetch.ATTEMPTS


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_a_server_in_trouble_is_asked_again_with_growing_pauses(
    tmp_path, index, library, no_waiting, code
):
    index.answers[url_of(library)] = [status(code)] * 3
    get(tmp_path, library)
    assert no_waiting == [0.5, 1.0, 2.0]


def test_a_server_that_stays_in_trouble_is_an_error(tmp_path, index, library):
    index.answers[url_of(library)] = [status(503)] * 9
    assert "503" in failed(tmp_path, library).details[0]


@pytest.mark.parametrize("code", [404, 403, 410])
def test_a_plain_no_is_final(tmp_path, index, library, no_waiting, code):
    index.answers[url_of(library)] = [status(code)]
    assert str(code) in failed(tmp_path, library).details[0]
    assert no_waiting == []


def test_an_index_page_in_trouble_is_asked_again(tmp_path, index, library, no_waiting):
    index.answers["/simple/oslo-config/"] = [status(502)]
    get(tmp_path, library)
    assert no_waiting == [0.5]


def test_a_project_or_file_the_index_lacks_is_named(tmp_path, index, library):
    del index  # serves oslo.config 10.0 alone
    newer = distribution("oslo.config", "11.0")
    unknown = distribution("nobody-wrote-it")
    error = failed(tmp_path, newer, unknown)
    assert any("no project nobody-wrote-it" in line for line in error.details)
    assert any("oslo.config-11.0" in line and "no such file" in line for line in error.details)
    assert cached_files(tmp_path) == []
    assert get(tmp_path, library)


def test_offline_names_all_that_is_missing_at_once(tmp_path, index, library):
    index.requests.clear()
    others = [distribution(f"other{n}") for n in range(12)]
    error = failed(tmp_path, library, *others, offline=True)
    assert error.message.startswith("13 files are not in the cache")
    assert len(error.details) == 13
    assert all(len(line.split("sha256 ")[1]) == 65 for line in error.details)
    assert index.requests == []


def test_no_network_is_one_clear_error(tmp_path, monkeypatch, service):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{port}/simple")
    rows = [distribution(f"library{n}") for n in range(9)]
    other = distribution("nova", kind="service")
    error = failed(tmp_path, service[0], other, *rows)
    assert error.message == "cannot get 11 of 11 files"
    refused = "Failed to establish a new connection: [Errno 111] Connection refused"
    assert error.details == (
        "keystone-29.0.2.tar.gz, nova-1.0.tar.gz:",
        f"  package index: {refused}",
        f"  http://127.0.0.1:1: {refused}",
        "library0-1.0-py3-none-any.whl, library1-1.0-py3-none-any.whl, "
        f"library2-1.0-py3-none-any.whl, and 6 more: package index: {refused}",
    )
    assert "PIP_INDEX_URL" in error.hint


def test_one_failure_does_not_throw_the_others_away(tmp_path, index, library):
    del index
    rows = fetch.list_wanted([library, distribution("absent")])
    found, failure = fetch.fetch(rows, tmp_path / "cache")
    assert failure.message == "cannot get 1 of 2 files"
    assert list(found.files) == [library.artifacts[0].sha256]
    assert cached_files(tmp_path) == [library.artifacts[0].file]


def test_a_directory_of_tarballs_comes_before_the_index(tmp_path, index, service):
    row, path = service
    get(tmp_path, row, tarballs=str(path.parent))
    assert index.requests == []


def test_a_url_of_tarballs_comes_before_the_index(tmp_path, index, service):
    row, path = service
    index.add(path)
    get(tmp_path, row, tarballs=f"{index.base}/mine/")
    assert index.requests == [f"/mine/{path.name}"]


def test_libraries_are_not_looked_for_among_the_tarballs(tmp_path, index, library):
    get(tmp_path, library, tarballs=f"{index.base}/mine")
    assert not any(r.startswith("/mine") for r in index.requests)


def test_a_tarball_is_looked_for_in_every_place_in_turn(tmp_path, index, service, monkeypatch):
    row, path = service
    monkeypatch.setattr(fetch, "TARBALL_SITE", f"{index.base}/site")
    index.answers["/simple/keystone/"] = [status(404)]
    index.add(path)
    empty = tmp_path / "empty"
    empty.mkdir()
    get(tmp_path, row, tarballs=str(empty))
    assert index.requests == ["/simple/keystone/", f"/site/keystone/{path.name}"]


def test_placement_s_directory_on_the_tarball_site_is_its_short_name(
    tmp_path, house, index, monkeypatch
):
    path = sdist(house, "openstack-placement", "15.0.0")
    row = distribution("openstack-placement", "15.0.0", kind="service", path=path)
    monkeypatch.setattr(fetch, "TARBALL_SITE", f"{index.base}/site")
    index.answers["/simple/openstack-placement/"] = [status(404)]
    index.add(path)
    get(tmp_path, row)
    assert index.requests[-1] == f"/site/placement/{path.name}"


def test_a_tarball_of_other_bytes_in_the_directory_is_not_taken(tmp_path, index, service):
    row, path = service
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / path.name).write_bytes(path.read_bytes()[:-10])
    index.add(path)
    found = get(tmp_path, row, tarballs=str(directory))
    assert found.files[row.artifacts[0].sha256].read_bytes() == path.read_bytes()


def test_an_error_names_every_place_that_was_tried(tmp_path, index, service):
    del index
    directory = tmp_path / "mine"
    directory.mkdir()
    file, *lines = failed(tmp_path, service[0], tarballs=str(directory)).details
    assert file == "keystone-29.0.2.tar.gz:"
    assert lines == [
        f"  {directory}: no such file",
        "  package index: no project keystone",
        "  http://127.0.0.1:1/keystone: Failed to establish a new connection: "
        "[Errno 111] Connection refused",
    ]


def test_a_full_disk_ends_the_fetch_and_leaves_no_part_of_a_file(
    tmp_path, index, library, monkeypatch
):
    del index

    def full(_descriptor, _mode):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="No space left"):
        get(tmp_path, library)
    assert cached_files(tmp_path) == []


def test_a_redirect_is_followed(tmp_path, index, library):
    def moved(handler):
        handler.send_response(302)
        handler.send_header("Location", f"/elsewhere/{library.artifacts[0].file}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    index.answers[url_of(library)] = [moved]
    get(tmp_path, library)
    assert f"/elsewhere/{library.artifacts[0].file}" in index.requests


def test_a_file_a_server_compressed_on_the_way_is_still_the_locked_one(tmp_path, index, service):
    row, path = service
    index.add(path)

    def labelled(handler):
        # as some servers label a .tar.gz, whose bytes are then not to be unpacked
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(path.stat().st_size))
        handler.end_headers()
        handler.wfile.write(path.read_bytes())

    index.answers[f"/files/{path.name}"] = [labelled] * 9
    get(tmp_path, row)
    assert cached_files(tmp_path) == [path.name]


def test_files_are_fetched_side_by_side(tmp_path, house, index):
    paths = [wheel(house, f"p{n}") for n in range(6)]
    index.add(*paths)
    rows = [distribution(f"p{n}", path=path) for n, path in enumerate(paths)]
    busy, most = set(), []

    def slowly(handler):
        busy.add(handler.path)
        most.append(len(busy))
        while len(busy) < 2 and len(most) < 2:
            pass
        send(handler, 200, index.files[handler.path.rsplit("/", 1)[1]])
        busy.discard(handler.path)

    for row in rows:
        index.answers[url_of(row)] = [slowly]
    get(tmp_path, *rows, jobs=6)
    assert max(most) >= 2


def test_the_first_artifact_is_the_one_a_build_wants():
    row = distribution("uWSGI", "2.0")
    source = replace(row.artifacts[0], file="uwsgi-2.0.tar.gz")
    row = replace(row, artifacts=(*row.artifacts, source))
    assert [w.artifact.file for w in fetch.list_wanted([row])] == ["uWSGI-2.0-py3-none-any.whl"]


def test_only_whole_files_appear_under_the_cache_s_names(tmp_path, index, library):
    del index
    get(tmp_path, library)
    checksum = library.artifacts[0].sha256
    place = tmp_path / "cache" / checksum[:2] / checksum
    assert names(place) == [library.artifacts[0].file]


# -- tarballs whose sha256 no lock has


@pytest.fixture
def unlocked(service):
    """Return what the lock says of a tarball that was unavailable, and its file."""
    row, path = service
    return fetch.list_wanted([replace(row, artifacts=(Artifact(path.name, "", 0),))]), path


def identified(tmp_path, files, **options):
    return fetch.identify(files, tmp_path / "cache", **options)


@pytest.fixture
def site(monkeypatch, index):
    monkeypatch.setattr(fetch, "TARBALL_SITE", f"{index.base}/site")
    return index


def test_a_tarball_no_lock_knows_is_kept_under_its_own_sha256(tmp_path, site, unlocked):
    files, path = unlocked
    site.add(path)
    found, failure = identified(tmp_path, files)
    assert failure is None
    assert found == {path.name: artifact(path)}
    assert (
        fetch.locate_artifact(tmp_path / "cache", found[path.name]).read_bytes()
        == path.read_bytes()
    )
    # the index, where anybody may have put something, is not asked
    assert site.requests == [f"/site/keystone/{path.name}"]


def test_what_was_got_before_is_asked_of_nobody(tmp_path, site, unlocked):
    files, path = unlocked
    assert identified(tmp_path, files, look=True) == ({}, None)
    site.add(path)
    first, _ = identified(tmp_path, files)
    site.requests.clear()
    for options in ({}, {"offline": True}, {"look": True}, {"tarballs": str(tmp_path)}):
        assert identified(tmp_path, files, **options) == (first, None)
    assert site.requests == []


def test_tarballs_given_now_come_before_what_was_got_before(tmp_path, site, unlocked):
    files, path = unlocked
    site.add(path)
    first, _ = identified(tmp_path, files)
    other = sdist(tmp_path / "mine", "keystone", "29.0.2", {"other.py": ""})
    given = {"tarballs": str(other.parent)}
    assert identified(tmp_path, files, look=True, **given)[0] == {path.name: artifact(other)}
    second, _ = identified(tmp_path, files, offline=True, **given)
    assert second == {path.name: artifact(other)} != first
    # a URL that was not asked yet is; then it is remembered
    site.add(other)
    url = {"tarballs": f"{site.base}/theirs"}
    site.requests.clear()
    assert identified(tmp_path, files, **url)[0] == second
    assert identified(tmp_path, files, **url)[0] == second
    assert site.requests == [f"/theirs/{path.name}"]


def test_a_tarball_no_lock_knows_that_is_nowhere(tmp_path, site, unlocked):
    files, path = unlocked
    empty = tmp_path / "empty"
    empty.mkdir()
    found, failure = identified(tmp_path, files, tarballs=str(empty))
    assert found == {}
    assert failure.details == (
        f"{path.name}:",
        f"  {empty}: no such file",
        f"  {site.base}/site/keystone: 404 Client Error: Not Found",
    )
    _, failure = identified(tmp_path, files, offline=True)
    assert failure.details == (f"{path.name} (sha256 not locked)",)


def test_a_page_is_no_tarball(tmp_path, site, unlocked):
    files, path = unlocked
    site.answers[f"/site/keystone/{path.name}"] = [body(b"<html>not here")] * 9
    _, failure = identified(tmp_path, files)
    assert "not a .tar.gz" in failure.details[0]
    assert cached_files(tmp_path) == []


# -- signatures

ASC = b"-----BEGIN PGP SIGNATURE-----\n\nnot looked at here\n"


def signatures(tmp_path, row, **options):
    found = fetch.fetch_signatures(fetch.list_wanted([row]), tmp_path / "cache", **options)
    return {file: (one.path.read_bytes(), one.place) for file, one in found.items()}


def test_a_signature_is_beside_the_tarball_on_upstream_s_site(tmp_path, site, service):
    row, path = service
    site.files[f"{path.name}.asc"] = ASC
    url = f"/site/keystone/{path.name}.asc"
    assert signatures(tmp_path, row) == {path.name: (ASC, site.base + url)}
    assert site.requests == [url]
    kept = fetch.locate_artifact(tmp_path / "cache", row.artifacts[0]).with_name(f"{path.name}.asc")
    assert signatures(tmp_path, row, offline=True) == {path.name: (ASC, str(kept))}
    assert signatures(tmp_path, row) == {path.name: (ASC, str(kept))}
    assert site.requests == [url]


def test_a_signature_in_the_directory_of_tarballs_is_the_first(tmp_path, site, service):
    row, path = service
    mine = path.with_name(f"{path.name}.asc")
    mine.write_bytes(ASC)
    found = signatures(tmp_path, row, tarballs=str(path.parent), offline=True)
    assert found == {path.name: (ASC, str(mine))}
    assert site.requests == []


def test_a_url_of_tarballs_is_asked_for_signatures_before_upstream(tmp_path, site, service):
    row, path = service
    site.files[f"{path.name}.asc"] = ASC
    place = f"{site.base}/mine/{path.name}.asc"
    assert signatures(tmp_path, row, tarballs=f"{site.base}/mine/") == {path.name: (ASC, place)}


@pytest.mark.parametrize("answer", [status(404), body(b"<html>no such page")])
def test_who_says_there_is_no_signature_is_not_asked_again(tmp_path, site, service, answer):
    row, path = service
    site.answers[f"/site/keystone/{path.name}.asc"] = [answer]
    assert signatures(tmp_path, row) == {}
    assert signatures(tmp_path, row) == {}
    assert len(site.requests) == 1
    assert signatures(tmp_path, row, tarballs=f"{site.base}/mine") == {}
    assert site.requests[1:] == [f"/mine/{path.name}.asc"]


def test_who_does_not_answer_is_asked_once_a_run_and_again_in_the_next(
    tmp_path, site, service, no_waiting, monkeypatch
):
    row, path = service
    site.answers[f"/site/keystone/{path.name}.asc"] = [status(503)]
    assert signatures(tmp_path, row) == {}
    site.files[f"{path.name}.asc"] = ASC
    assert len(signatures(tmp_path, row)) == 1
    assert no_waiting == []
    monkeypatch.setattr(fetch, "TARBALL_SITE", "http://127.0.0.1:1")
    asked = []
    get = fetch.requests.Session.get
    monkeypatch.setattr(
        fetch.requests.Session, "get", lambda *a, **k: asked.append(a[1]) or get(*a, **k)
    )
    rows = fetch.list_wanted([distribution(n, kind="service") for n in ("nova", "glance")])
    assert fetch.fetch_signatures(rows, tmp_path / "cache") == {}
    assert len(asked) == 1


def test_offline_nobody_is_asked_for_a_signature(tmp_path, site, service):
    assert signatures(tmp_path, service[0], offline=True) == {}
    assert site.requests == []


def test_a_library_has_no_signature(tmp_path, site, library):
    assert signatures(tmp_path, library) == {}
    assert site.requests == []
