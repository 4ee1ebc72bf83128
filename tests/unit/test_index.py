"""The package index asked is the one the machine's own clients are set up for."""

import re

import pytest

from builder import index
from builder.errors import UsageError

pytestmark = pytest.mark.usefixtures("private_home")


@pytest.fixture(autouse=True)
def no_files(monkeypatch):
    monkeypatch.setattr(index, "PIP_FILES", ("~/.config/pip/pip.conf",))
    monkeypatch.delenv("PIP_CONFIG_FILE", raising=False)


def write_pip_conf(path, url):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[global]\nindex-url = {url}\n")


def test_without_any_setting_the_clients_choose():
    assert index.list_urls("their own") == ["their own"]
    assert index.list_uv_arguments() == ["--no-config"]
    assert index.make_uv_environment() == {}


def test_pip_s_file_is_read(private_home):
    write_pip_conf(private_home / ".config/pip/pip.conf", "https://mirror.example.org/a%20b/simple")
    assert index.list_urls("") == ["https://mirror.example.org/a%20b/simple"]
    assert index.make_uv_environment() == {
        "UV_DEFAULT_INDEX": "https://mirror.example.org/a%20b/simple"
    }


def test_variables_come_before_files(private_home, monkeypatch, tmp_path):
    write_pip_conf(private_home / ".config/pip/pip.conf", "https://file.example.org")
    write_pip_conf(tmp_path / "more.conf", "https://more.example.org")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "more.conf"))
    assert index.list_urls("") == ["https://more.example.org"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example.org")
    assert index.list_urls("") == ["https://pip.example.org"]
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example.org")
    assert index.list_urls("") == ["https://uv.example.org"]


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("corp=https://uv.example.org/simple", "https://uv.example.org/simple"),
        ("https://uv.example.org/simple?token=a=b", "https://uv.example.org/simple?token=a=b"),
    ],
)
def test_an_index_may_have_a_name_as_uv_allows(monkeypatch, value, url):
    monkeypatch.setenv("UV_DEFAULT_INDEX", value)
    assert index.list_urls("") == [url]


def test_further_indexes_come_before_it_in_uv_s_order(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example.org")
    monkeypatch.setenv(
        "UV_INDEX", "vendor=https://me:secret@vendor.example.org https://b.example.org"
    )
    assert index.list_urls("") == [
        "https://vendor.example.org",
        "https://b.example.org",
        "https://uv.example.org",
    ]
    assert index.find_credentials("https://vendor.example.org/simple/x/") == ("me", "secret")
    assert index.find_credentials("https://b.example.org/simple/x/") is None
    assert "secret" not in index.mask_secrets("failed at https://vendor.example.org with secret")


@pytest.mark.parametrize("name", ["", "corp="])
@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX"])
def test_a_password_with_signs_of_an_address_in_it_is_hidden_whole(monkeypatch, variable, name):
    monkeypatch.setenv(variable, f"{name}https://me:s3cr3t@w%41rd:more@vendor.example.org/simple")
    assert index.mask_secrets("refused: s3cr3t@wArd:more") == "refused: ****"


@pytest.mark.parametrize("url", ["http://[bad/", "https://h:port/simple", "https:///simple", "h"])
@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"])
def test_an_index_that_is_no_url_is_named_with_its_variable(monkeypatch, variable, url):
    monkeypatch.setenv(variable, url)
    with pytest.raises(UsageError, match=f"{variable}: not a URL: '{re.escape(url)}'"):
        index.list_urls("")


def test_an_index_of_a_file_that_is_no_url_is_named_with_the_file(private_home):
    write_pip_conf(private_home / ".config/pip/pip.conf", "http://[bad/")
    with pytest.raises(UsageError, match=r"pip\.conf: not a URL: 'http://\[bad/'"):
        index.list_urls("")


def test_a_further_index_that_is_no_url_is_named(monkeypatch):
    monkeypatch.setenv("UV_INDEX", "vendor")
    with pytest.raises(UsageError, match="UV_INDEX: not a URL: 'vendor'"):
        index.list_urls("")
