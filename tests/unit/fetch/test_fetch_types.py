"""What stands next to the cached downloads is of another type than expected."""

import pytest
from harms import HARMS

from builder.fetch import files as fetch
from builder.model.values import Artifact

FILE = "tiny-service-1.0.0.tar.gz"


def wanted(sha256=""):
    return fetch.Wanted("tiny-service", "1.0.0", Artifact(FILE, sha256, 0), service=True)


@pytest.mark.parametrize("become", HARMS)
def test_a_record_of_an_unlocked_tarball_that_is_none_is_damaged(tmp_path, capsys, become):
    cache, given = tmp_path / "cache", tmp_path / "given"
    record = cache / fetch.UNLOCKED / FILE
    record.parent.mkdir(parents=True)
    become(record)
    assert fetch.identify([wanted()], cache, look=True) == ({}, None)
    assert (
        f"{record} in the cache is damaged: fetching the tarball again" in capsys.readouterr().err
    )
    given.mkdir()
    (given / FILE).write_bytes(b"\x1f\x8b and so on")
    found, failure = fetch.identify([wanted()], cache, tarballs=str(given))
    assert failure is None
    assert fetch.identify([wanted()], cache, look=True) == (found, None)


@pytest.mark.parametrize("become", HARMS)
def test_a_signature_that_is_no_file_is_none(tmp_path, become):
    item, given = wanted("0" * 64), tmp_path / "given"
    tarball = fetch.locate_artifact(tmp_path, item.artifact)
    kept = tarball.with_name(f"{FILE}.asc")
    kept.parent.mkdir(parents=True)
    become(kept)
    assert fetch.fetch_signatures([item], tmp_path, offline=True) == {}
    given.mkdir()
    (given / kept.name).write_bytes(fetch.ARMOUR)
    fetch.fetch_signatures([item], tmp_path, tarballs=str(given), offline=True)
    assert not kept.is_symlink()
    assert kept.read_bytes() == fetch.ARMOUR


@pytest.mark.parametrize("become", [*HARMS, lambda path: path.write_bytes(b"other")])
def test_a_damaged_file_that_cannot_be_fetched_is_not_used(tmp_path, become):
    item = wanted("0" * 64)
    place = fetch.locate_artifact(tmp_path, item.artifact)
    place.parent.mkdir(parents=True)
    become(place)
    fetched, failure = fetch.fetch([item], tmp_path, offline=True)
    assert FILE in failure.details[0]
    assert fetched.files == {}
