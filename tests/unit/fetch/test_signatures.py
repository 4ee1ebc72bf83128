"""Signatures: gpgv's word on a tarball, by the key of the series and no other."""

import re
from pathlib import Path

import pytest
from signing import Key

from builder.errors import DataError, FetchError
from builder.fetch.signatures import open_keyring, verify


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Make the key of a series and another's."""
    area = tmp_path_factory.mktemp("k")
    made = Key(area / "s"), Key(area / "o")
    yield made
    for key in made:
        key.stop()


@pytest.fixture
def tarball(tmp_path):
    path = tmp_path / "keystone-1.0.tar.gz"
    path.write_bytes(b"released")
    return path


def check(tarball, fingerprint, *files):
    """Verify the signature beside a tarball."""
    with open_keyring(fingerprint, [file.read_bytes() for file in files]) as ring:
        assert ring
        verify(tarball, Path(f"{tarball}.asc"), "the site", ring)


@pytest.mark.parametrize("options", [["--armor"], []], ids=["armoured", "binary"])
def test_a_good_signature_by_the_series_key(keys, tmp_path, tarball, options):
    key, other = keys
    key.sign(tarball)
    ring = key.public(tmp_path / "ring", *options)
    # a keyring may hold more than is wanted
    check(tarball, key.fingerprint, other.public(tmp_path / "other"), ring)


def test_a_subkey_of_the_series_key_signs_for_it(tmp_path, tarball):
    key = Key(tmp_path / "h")
    key.gpg("--passphrase", "", "--quick-add-key", key.fingerprint.upper(), "ed25519", "sign")
    listing = key.gpg("--list-keys", "--with-colons").decode()
    subkey = re.findall(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)[1]
    key.sign(tarball, "--local-user", f"{subkey}!")
    check(tarball, key.fingerprint, key.public(tmp_path / "ring"))
    key.stop()


def test_a_signature_outlives_its_key(tmp_path, tarball):
    key = Key(tmp_path / "h", "20200101T000000", "2020-03-01")
    key.sign(tarball, "--faked-system-time", "20200102T000000")
    check(tarball, key.fingerprint, key.public(tmp_path / "ring"))
    key.stop()


def test_a_key_that_was_revoked_counts_no_more(tmp_path, tarball):
    key = Key(tmp_path / "h")
    key.sign(tarball)
    (revocation,) = (tmp_path / "h/openpgp-revocs.d").iterdir()
    revocation.write_text(revocation.read_text().replace(":-----BEGIN", "-----BEGIN"))
    key.gpg("--import", revocation)
    refused(tarball, key.fingerprint, key.public(tmp_path / "ring"))
    key.stop()


def refused(tarball, fingerprint, *files):
    with pytest.raises(FetchError) as raised:
        check(tarball, fingerprint, *files)
    error = raised.value
    assert error.exit_code == 5
    assert error.message == (
        f"keystone-1.0.tar.gz is not signed with its series' key, {fingerprint}"
    )
    assert error.details[0] == "signature: the site"
    return error


def test_other_bytes_than_were_signed(keys, tmp_path, tarball):
    key, _ = keys
    key.sign(tarball)
    tarball.write_bytes(b"released, and more")
    refused(tarball, key.fingerprint, key.public(tmp_path / "ring"))


def test_a_good_signature_by_another_key(keys, tmp_path, tarball):
    key, other = keys
    other.sign(tarball)
    rings = key.public(tmp_path / "ring"), other.public(tmp_path / "other")
    refused(tarball, key.fingerprint, *rings)


def test_what_is_no_signature(keys, tmp_path, tarball):
    key, _ = keys
    Path(f"{tarball}.asc").write_text("-----BEGIN PGP SIGNATURE-----\n\nAAAA\n")
    refused(tarball, key.fingerprint, key.public(tmp_path / "ring"))


def test_without_the_key_there_is_no_keyring(keys, tmp_path):
    key, other = keys
    for keys_given in ([], [other.public(tmp_path / "other").read_bytes()]):
        with open_keyring(key.fingerprint, keys_given) as ring:
            assert ring is None


def test_what_is_no_key_is_told():
    with pytest.raises(DataError, match="cannot be imported"), open_keyring("0" * 40, [b"no key"]):
        pass
