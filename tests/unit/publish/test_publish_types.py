"""What stands in a repository is of another type than expected: a directory, a fifo, other JSON."""

import faulthandler
import json
import os
import shutil
import sys

import pytest
from harms import HARMS, become_directory, become_fifo
from publishing import SUITE, make_deb, put

from builder.errors import PublishError
from builder.publish import find_lost, list_packages, list_suites, prune, remove, verify

NAME = SUITE.name
POOLED = "pool/main/f/foo/foo_1.0-1_all.deb"


@pytest.fixture(autouse=True)
def _end():
    """End a test that waits for a fifo, in whatever thread."""
    faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def put_text(text):
    def harm(path):
        path.write_text(text)

    return harm


def change(*keys, value):
    """Return what puts another value in a state, and leaves it valid JSON."""

    def harm(path):
        raw = json.loads(path.read_text())
        place = raw
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        path.write_text(json.dumps(raw))

    return harm


@pytest.mark.parametrize(
    "harm",
    [
        *HARMS,
        *map(
            put_text, ('{"format":3}', "[" * 100_000, "[]", "3", "null", '"text"', '{"format":[]}')
        ),
        *(change(key, value=None) for key in ("fields", "date", "fingerprint", "binaries", "stat")),
        change("fields", value={"Suite": 5}),
        change("fields", value=[]),
        change("date", value="today"),
        change("stat", "InRelease", value=[1]),
        change("pool", value={"a": ["1", "2"]}),
        change("pool", value=[1]),
        change("binaries", value={"a": 1}),
        change("binaries", 0, value=[]),
        change("binaries", 0, 0, value=7),
        change("binaries", 0, 6, value=[]),
        change("binaries", 0, 6, 0, value=["path", "size", "sha256"]),
        change("sources", value=5),
    ],
)
def test_a_state_that_is_none_is_derived_again(repo, debs, signer, harm):
    deb = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, deb)
    state, listed = repo / f".state/{NAME}.json", list_packages(repo, NAME)
    harm(state)
    assert [row.name for row in list_suites(repo)] == [NAME]
    assert list_packages(repo, NAME) == listed
    put(repo, signer, deb)
    assert json.loads(state.read_text())["fingerprint"] == signer.fingerprint
    assert list_packages(repo, NAME) == listed
    assert verify(repo) == ()
    assert put(repo, signer, deb).rewritten == ()


@pytest.mark.parametrize("become", [os.mkfifo, lambda path: path.write_text("")])
@pytest.mark.parametrize("name", [".state", ".staging"])
def test_what_stands_for_a_directory_of_ours_is_replaced(repo, debs, signer, name, become):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    shutil.rmtree(repo / name, ignore_errors=True)
    become(repo / name)
    put(repo, signer, make_deb(debs, "foo", "1.1-1"))
    assert len(list_packages(repo, NAME)) == 2
    assert verify(repo) == ()
    assert (repo / f".state/{NAME}.json").is_file()


@pytest.mark.parametrize("harm", HARMS)
def test_an_inrelease_that_is_no_file_is_named_by_every_verb(repo, debs, signer, harm):
    deb = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, deb)
    path = repo / f"dists/{NAME}/InRelease"
    harm(path)
    wanted = f"{path} cannot be read: not a regular file"
    for verb in (
        lambda: list_suites(repo),
        lambda: list_packages(repo, NAME),
        lambda: put(repo, signer, deb),
        lambda: remove(repo, NAME, "foo", signer=signer),
        lambda: prune(repo, NAME, 1, signer=signer),
    ):
        with pytest.raises(PublishError) as caught:
            verb()
        assert caught.value.message == wanted
        assert "publish the suite again" in caught.value.hint
    assert verify(repo)[0] == wanted


@pytest.mark.parametrize("harm", [become_directory, become_fifo])
@pytest.mark.parametrize("name", ["Release", "Release.gpg", "main/binary-amd64/Packages"])
def test_another_file_of_a_suite_is_named(repo, debs, signer, harm, name):
    put(repo, signer, make_deb(debs, "foo", "1.0-1"))
    harm(repo / f"dists/{NAME}/{name}")
    (problem,) = verify(repo)
    assert problem.startswith(f"dists/{NAME}/{name.removesuffix('.gpg')}")


@pytest.mark.parametrize("harm", HARMS)
def test_a_pool_file_that_is_none_is_named(repo, debs, signer, harm):
    deb = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, deb)
    harm(repo / POOLED)
    assert [entry.package for entry in find_lost(repo, SUITE)] == ["foo"]
    assert [row for row in verify(repo) if row.startswith(f"{POOLED}: ")]
    with pytest.raises(PublishError) as caught:
        put(repo, signer, make_deb(debs, "bar", "1.0-1"))
    assert caught.value.details == (f"{POOLED}: damaged",)
    with pytest.raises(PublishError, match=f"{POOLED}: not a regular file"):
        put(repo, signer, deb)


@pytest.mark.parametrize("date", ["garbage", "", "Tue, 14 Nov 99999 22:13:20 UTC"])
def test_a_signed_date_that_is_none_is_named(repo, debs, signer, date):
    deb = make_deb(debs, "foo", "1.0-1")
    put(repo, signer, deb, epoch_seconds=1700000000)
    release = repo / f"dists/{NAME}/Release"
    text = release.read_text()
    release.write_text(text.replace("Tue, 14 Nov 2023 22:13:20 UTC", date))
    assert release.read_text() != text
    signer.sign(release)
    (problem,) = verify(repo)
    assert problem.startswith(f"dists/{NAME}/InRelease: its Date is not a date, {date!r}")
    put(repo, signer, deb)
    assert verify(repo) == ()
