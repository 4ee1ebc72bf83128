"""What several files of unit tests have in their hands: a key, and places for a repository."""

import pytest

from builder.publish import Signer


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    return Signer.open(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture
def repo(tmp_path):
    return tmp_path / "repo"


@pytest.fixture
def debs(tmp_path):
    return tmp_path / "debs"
