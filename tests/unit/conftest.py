"""What several files of unit tests share: a key, places for a repository, the command."""

import pytest

from builder import cli, log
from builder.publish import Signer

# Files that take longest, the longest first: with two at a time, none is left alone at the end.
LONGEST = (
    "test_publish_keys.py",
    "test_pipeline.py",
    "test_publish.py",
    "test_processes.py",
    "test_overlay.py",
    "test_tarballs.py",
    "test_credentials.py",
    "test_service_file.py",
    "test_caches.py",
    "test_service_source.py",
    "test_publish_crash.py",
    "test_prove.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: [*LONGEST, item.path.name].index(item.path.name))


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    return Signer.open(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture
def repo(tmp_path):
    return tmp_path / "repo"


@pytest.fixture
def debs(tmp_path):
    return tmp_path / "debs"


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs the command in this process: exit code, stdout, stderr."""

    def run(cloud, *words):
        for key in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "UV_CACHE_DIR", "UV_INDEX_URL"):
            monkeypatch.delenv(key, raising=False)
        for key, value in cloud.env.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr("sys.argv", ["build-debs", *map(str, words)])
        log.set_level(1)
        code = 0
        try:
            cli.main()
        except SystemExit as done:
            code = done.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run
