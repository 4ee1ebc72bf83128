"""Release tarballs: what vouches for them, and what a build does without one.

`tiny`'s tarball is on the index where its lock has a sha256, and on no index where it has not.
"""

import json
import shutil
from pathlib import Path

import pytest
from cloud import HERE, founded
from signing import Key
from wheelhouse import status

from builder.fetch import files as fetch

FILE = "tiny_service-1.0.0.tar.gz"
SITE = f"{fetch.TARBALL_SITE}/tiny-service"


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    made = Key(tmp_path_factory.mktemp("k") / "h")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory, key):
    """Found a cloud that is locked and built, so that the caches are full; `key` signs for it."""
    with founded(tmp_path_factory.mktemp("cloud")) as made:
        for series in ("2099.1", "2099.2"):
            path = made.data / f"projects/series/{series}.toml"
            path.write_text(
                path.read_text().replace("0123456789abcdef" * 2 + "01234567", key.fingerprint)
            )
            made.run("lock", series, "--constraints", made.constraints)
        yield made


@pytest.fixture(scope="module")
def built(cloud):
    report = cloud.area / "report.json"
    _, err = cloud.run("2099.1", "-v", "--report", report)
    return json.loads(report.read_text())["tarballs"]["tiny-service"], err


@pytest.fixture
def own(cloud, built, tmp_path):
    """Return the cloud with data and caches of the test's own, the caches full."""
    del built
    data, cache = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(cloud.data, data, symlinks=True, ignore=shutil.ignore_patterns("repo"))
    shutil.copytree(cloud.cache, cache, symlinks=True)
    return cloud.with_env(BUILD_DEBS_DATA=data, BUILD_DEBS_CACHE=cache)


@pytest.fixture
def given(cloud, tmp_path):
    """Return a directory with the release tarball."""
    directory = tmp_path / "tarballs"
    directory.mkdir()
    (directory / FILE).write_bytes(cloud.index.files[FILE])
    return directory


def data(cloud):
    return Path(cloud.env["BUILD_DEBS_DATA"])


def reported(cloud, *words, code=0):
    """Run a build; return its report and what it said."""
    report = data(cloud) / "report.json"
    report.unlink(missing_ok=True)
    _, err = cloud.run(*words, "--report", report, code=code)
    return json.loads(report.read_text()) if report.exists() else {}, err


def release(cloud, series):
    return (data(cloud) / f"repo/dists/{HERE}-{series}/Release").read_text()


def test_what_nobody_signed_is_hash_locked(built):
    row, err = built
    assert row["file"] == FILE
    assert (row["check"], row["note"]) == ("hash-locked", "no signature found")
    assert f"{FILE}: hash-locked (no signature found)" in err


@pytest.mark.parametrize("where", ["option", "project"])
def test_a_signature_of_the_series_key_is_verified(own, given, key, where, tmp_path):
    key.sign(given / FILE)
    if where == "option":
        words = ("--keyring", key.public(tmp_path / "ring", "--armor"))
    else:
        (data(own) / "projects/keys").mkdir()
        key.public(data(own) / f"projects/keys/{key.fingerprint}.asc", "--armor")
        words = ()
    table, err = reported(own, "2099.1", "-v", "--tarballs", given, *words)
    row = table["tarballs"]["tiny-service"]
    assert (row["check"], row["note"]) == ("signed and verified", f"key {key.fingerprint}")
    assert f"{FILE}: signed and verified" in err
    # found once, it is there for a run that may ask nobody
    again, _ = reported(own, "2099.1", "--offline", *words)
    assert again["tarballs"] == table["tarballs"]


def test_a_signature_without_the_key_is_a_note(own, given, key):
    key.sign(given / FILE)
    table, _ = reported(own, "2099.1", "--tarballs", given)
    row = table["tarballs"]["tiny-service"]
    assert row["check"] == "hash-locked"
    assert row["note"] == f"no key {key.fingerprint} to check its signature with"


@pytest.mark.parametrize(("wrong", "more"), [("bytes", ()), ("key", ("--keep-going",))])
def test_a_signature_that_is_not_the_series_keys_publishes_nothing(  # noqa: PLR0917
    own, given, key, tmp_path, wrong, more
):
    signed = given / FILE
    other = None
    if wrong == "bytes":
        good = signed.read_bytes()
        signed.write_bytes(b"other")
        key.sign(signed)
        signed.write_bytes(good)
    else:
        other = Key(tmp_path / "o")
        other.sign(signed)
        other.stop()
    ring = key.public(tmp_path / "ring")
    words = ("2099.1", *more, "--tarballs", given, "--keyring", ring)
    _, err = own.run(*words, code=5)
    assert f"error: {FILE} is not signed with its series' key, {key.fingerprint}" in err
    assert f"signature: {given / FILE}.asc" in err
    assert not (data(own) / "repo/dists").exists()
    # it is not taken for the tarball's the next time
    signed.with_name(f"{FILE}.asc").unlink()
    table, err = reported(own, *words)
    assert table["tarballs"]["tiny-service"]["check"] == "hash-locked"
    assert f"warning: {FILE}: hash-locked (no signature found)" in err


def test_a_keyring_of_no_use_is_an_error_even_where_nothing_is_signed(own, key, tmp_path):
    """Whoever names one counts on it; it is read before any work."""
    ring = tmp_path / "ring"
    ring.write_text("a page that says: not found")
    _, err = own.run("2099.1", "--keyring", ring, "--dry-run", code=3)
    assert err.startswith(f"error: {ring} has no public key\nhint: ")
    other = Key(tmp_path / "o")
    other.public(ring)
    other.stop()
    for words in ((), ("--constraints", own.constraints), ("--keep-going",)):
        _, err = own.run("2099.1", "-q", "--keyring", ring, *words, code=3)
        assert f"error: {ring} lacks the key that signs the tarballs of 2099.1" in err
        assert key.fingerprint in err
    assert not (data(own) / "repo/dists").exists()


def test_a_signature_by_any_key_of_the_keyring_is_not_enough(own, given, key, tmp_path):
    """Somebody else's key in the keyring must not vouch for a release."""
    other = Key(tmp_path / "o")
    other.sign(given / FILE)
    ring = tmp_path / "ring"
    both = key.public(ring).read_bytes() + other.public(tmp_path / "theirs").read_bytes()
    ring.write_bytes(both)
    other.stop()
    _, err = own.run("2099.1", "--tarballs", given, "--keyring", ring, code=5)
    assert f"error: {FILE} is not signed with its series' key" in err


def test_a_lock_made_now_vouches_for_nothing(own):
    table, _ = reported(own, "2099.1", "--constraints", own.constraints)
    assert table["tarballs"]["tiny-service"]["check"] == "neither"


def unlock(cloud, series):
    """Forget the sha256 of tiny's tarball, as if it had been unavailable."""
    path = data(cloud) / f"projects/locks/{series}-{HERE}.json"
    lock = json.loads(path.read_text())
    (row,) = [d for d in lock["distributions"] if d["name"] == "tiny-service"]
    row["artifacts"] = [{"file": FILE, "sha256": "", "size": 0}]
    path.write_text(json.dumps(lock))


def test_a_tarball_no_lock_knows_is_taken_from_those_given(own, given, key, tmp_path):
    unlock(own, "2099.1")
    words = ("2099.1", "--tarballs", given)
    table, _ = reported(own, *words)
    row = table["tarballs"]["tiny-service"]
    assert row["check"] == "neither"
    assert len(row["sha256"]) == 64
    # the same bytes as were built from before, with a lock that knew them
    assert {r["outcome"] for r in table["packages"] if r["package"] == "tiny"} == {"reused"}
    # remembered, and then vouched for by a signature
    table, err = reported(own, "2099.1", "--offline")
    assert table["tarballs"]["tiny-service"]["check"] == "neither"
    assert "unchanged" in err
    key.sign(given / FILE)
    table, _ = reported(own, *words, "--keyring", key.public(tmp_path / "ring"))
    assert table["tarballs"]["tiny-service"]["check"] == "signed and verified"


def test_other_bytes_of_a_tarball_no_lock_knows_are_built_anew(own, given):
    unlock(own, "2099.1")
    reported(own, "2099.1", "--tarballs", given)
    content = (given / FILE).read_bytes()
    (given / FILE).write_bytes(content + b"\0" * 512)  # which gzip ignores, and a sha256 not
    out, _ = own.run("2099.1", "--tarballs", given, "--dry-run")
    rows = dict(line.split("\t")[1::-1] for line in out.splitlines())
    assert [n for n, verb in rows.items() if verb != "keep"] == ["tiny"]


@pytest.fixture
def second(own):
    """Return the cloud whose second release lacks tiny's tarball; frail of it builds."""
    unlock(own, "2099.2")
    return own


def test_without_the_tarball_all_that_was_tried_is_said_and_nothing_published(second, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = "Failed to establish a new connection: [Errno 111] Connection refused"
    _, err = second.run("2099.2", "-q", code=5)
    assert err == (
        "error: no release tarball found for: tiny\n"
        f"  {FILE}: {SITE}: {refused}\n"
        "hint: provide them with --tarballs DIR|URL, or build without their services: "
        "--project frail, or --keep-going\n"
    )
    _, err = second.run("2099.2", "-q", "--tarballs", empty, code=5)
    assert f"  {FILE}:\n    {empty}: no such file\n    {SITE}: {refused}\nhint:" in err
    second.index.answers[f"/mine/{FILE}"] = [status(404)]
    _, err = second.run("2099.2", "-q", "--tarballs", f"{second.index.base}/mine", code=5)
    assert f"    {second.index.base}/mine: 404 Client Error: Not Found\n" in err
    _, err = second.run("2099.2", "-q", "--offline", code=5)
    assert f"  {FILE} (sha256 not locked)\nhint: run once without --offline\n" in err
    assert not (data(second) / "repo/dists").exists()


@pytest.mark.parametrize("code", [401, 403])
def test_a_site_that_refuses_its_tarballs_is_not_passed_over(own, tmp_path, code):
    """The index has the same file, but the user named where it comes from."""
    site = f"{own.index.base}/mine"
    fresh = own.with_env(BUILD_DEBS_CACHE=tmp_path / "fresh")
    for more in ((), ("--keep-going",)):
        own.index.answers[f"/mine/{FILE}"] = [status(code)]
        _, err = fresh.run("2099.1", "-q", "--tarballs", site, *more, code=5)
        error, hint = err.splitlines()
        assert error.startswith(f"error: --tarballs {site}: {FILE}: {code} Client Error")
        assert "user and password" in hint
    assert not (data(own) / "repo/dists").exists()


def test_a_site_that_refuses_a_signature_is_not_taken_to_have_none(own):
    """The tarball is in the cache; whether it is signed is known only once the site says so."""
    site = f"{own.index.base}/mine"
    shutil.rmtree(own.cache / "debs")
    answers = own.index.answers[f"/mine/{FILE}.asc"] = [status(401), status(403)]
    _, err = own.run("2099.1", "-q", "--tarballs", site, code=5)
    assert f"error: --tarballs {site}: {FILE}.asc: 401 Client Error" in err
    # some stores answer so for what they do not have: it is asked for again the next time
    own.run("2099.1", "-q", "--tarballs", site)
    assert not answers
    assert not list(own.cache.rglob("*.unsigned"))


def test_keep_going_leaves_its_service_out_and_says_so(second):
    table, err = reported(second, "2099.2", "--keep-going", code=10)
    assert table["missing"] == ["tiny", "tiny-service"]
    assert table["absent"] == []
    rows = {r["package"]: r["outcome"] for r in table["packages"]}
    assert (rows["tiny"], rows["frail"]) == ("left out", "built")
    assert "incomplete, not built: tiny, tiny-service\n" in release(second, "2099.2")
    assert f"{FILE}: {SITE}: " in err


def test_one_project_is_built_without_the_tarballs_of_others(second, given):
    table, _ = reported(second, "2099.2", "--project", "frail")
    assert (table["missing"], table["absent"]) == ([], ["tiny"])
    assert "bookworm; without tiny\n".replace("bookworm", HERE) in release(second, "2099.2")
    # what was built before is in the suite, and no word is lost about it
    table, _ = reported(second, "2099.2", "--project", "tiny", "--tarballs", given)
    assert table["absent"] == []
    assert "without" not in release(second, "2099.2")
