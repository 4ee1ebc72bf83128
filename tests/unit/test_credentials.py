"""Users and passwords of an index reach that index, no other host, and nothing that is kept."""

import shutil

import pytest
from cloud import founded
from wheelhouse import distribution, lock_of, serving, wheel

from builder import index
from builder.errors import DataError, FetchError, UsageError
from builder.fetch import files as fetch
from builder.resolve import lockfile as locks

USER, PASSWORD = "jürgen@example", "p@ss:w/ör d%41"
IN_URL = "j%C3%BCrgen%40example:p%40ss%3Aw%2F%C3%B6r%20d%2541@"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with founded(tmp_path_factory.mktemp("cloud")) as made:
        made.index.account = f"{USER}:{PASSWORD}"
        yield made


def with_account(url):
    return url.replace("://", f"://{IN_URL}")


def in_url(url, _home):
    return {"UV_DEFAULT_INDEX": with_account(url)}


def named(url, _home):
    return {
        "UV_DEFAULT_INDEX": f"corp-mirror={url}",
        "UV_INDEX_CORP_MIRROR_USERNAME": USER,
        "UV_INDEX_CORP_MIRROR_PASSWORD": PASSWORD,
    }


def of_a_further_index(url, _home):
    # all is found there, so that nobody asks the other
    return {"UV_INDEX": with_account(url), "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}


def of_pip(url, _home):
    return {"PIP_INDEX_URL": with_account(url)}


def in_pip_conf(url, home):
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {with_account(url)}\n")
    return {}


def in_netrc(url, home):
    # netrc(5) has no way to write a blank, nor what is not ASCII in old clients
    (home / ".netrc").write_text("machine 127.0.0.1 login robot password s3cr3t-word\n")
    (home / ".netrc").chmod(0o600)
    return {"UV_DEFAULT_INDEX": url}


WAYS = [in_url, named, of_a_further_index, of_pip, in_pip_conf, in_netrc]


every_way = pytest.mark.parametrize("user", WAYS, ids=lambda way: way.__name__, indirect=True)


@pytest.fixture
def user(request, cloud, tmp_path):
    """Return the cloud as somebody sees it who has the credentials in one of the usual places."""
    home, data = tmp_path / "home", tmp_path / "data"
    home.mkdir()
    shutil.copytree(cloud.data, data, symlinks=True)
    cloud.index.account = f"{USER}:{PASSWORD}"
    if request.param is in_netrc:
        cloud.index.account = "robot:s3cr3t-word"
    env = {k: v for k, v in cloud.env.items() if k != "UV_DEFAULT_INDEX"}
    settings = request.param(cloud.index.url, home)
    cloud.index.sent.clear()
    seen = cloud.with_env()
    seen.env = {**env, **settings, "HOME": str(home), "BUILD_DEBS_DATA": str(data),
                "BUILD_DEBS_CACHE": str(tmp_path / "cache")}  # fmt: skip
    return seen


def kept(*places):
    """Yield the names and the bytes of all files there."""
    for place in places:
        for path in sorted(place.rglob("*")):
            yield str(path.relative_to(place)).encode()
            if path.is_file():
                yield path.read_bytes()


def told(text):
    return [w for w in (PASSWORD, "p%40ss", "w%2F", "s3cr3t-word", USER) if w in text]


@every_way
def test_credentials_serve_for_pages_and_files(user, tmp_path, monkeypatch):
    out, err = user.run("lock", "2099.1", "--constraints", user.data / "upper-constraints.txt")
    assert told(out + err) == []
    for name in (
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "PIP_INDEX_URL",
        "PIP_CONFIG_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in user.env.items():
        monkeypatch.setenv(name, value)
    (path,) = (tmp_path / "data/projects/locks").glob("2099.1-*.json")
    wanted = fetch.list_wanted(locks.read(path).distributions)
    fetched, failure = fetch.fetch(wanted, tmp_path / "fetched")
    assert failure is None
    assert len(fetched.files) == len(wanted)


@pytest.mark.parametrize("user", [in_url, of_a_further_index], indirect=True)
def test_a_build_says_and_keeps_no_credentials(user, tmp_path):
    user.run("lock", "2099.1", "--constraints", user.data / "upper-constraints.txt")
    report = tmp_path / "report.json"
    out, err = user.run("2099.1", "--repo", tmp_path / "repo", "--report", report, "-v")
    assert told(out + err + report.read_text()) == []
    assert any(user.index.sent)
    for raw in kept(tmp_path / "cache", tmp_path / "repo", tmp_path / "data/projects/locks"):
        assert b"p%40ss" not in raw
        assert PASSWORD.encode() not in raw
        assert b"s3cr3t-word" not in raw


@pytest.mark.parametrize("user", [in_url, in_pip_conf], indirect=True)
def test_a_wrong_password_is_exit_5_with_a_word_on_credentials(user, tmp_path):
    user.run("lock", "2099.1", "--constraints", user.data / "upper-constraints.txt")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    shutil.rmtree(tmp_path / "home/.cache", ignore_errors=True)
    user.index.account = "somebody:else"
    report = tmp_path / "report.json"
    _, err = user.run("2099.1", "--repo", tmp_path / "repo", "--report", report, code=5)
    assert "user and password" in err
    assert told(err + report.read_text()) == []
    out, err = user.run(
        "lock", "2099.1", "--constraints", user.data / "upper-constraints.txt", code=5
    )
    assert "user and password" in err
    assert told(out + err) == []
    assert not (tmp_path / "repo/dists").exists()


def test_another_host_is_not_sent_the_credentials(tmp_path, monkeypatch, private_home):
    monkeypatch.setattr(index, "PIP_FILES", ())
    path = wheel(tmp_path, "tinylib", files={"tinylib.py": ""})
    row = distribution("tinylib", path=path)
    with serving() as one, serving() as other:
        one.add(path)
        other.add(path)
        one.account, one.elsewhere = f"{USER}:{PASSWORD}", other.base
        monkeypatch.setenv("UV_DEFAULT_INDEX", with_account(one.url))
        wanted = fetch.list_wanted(lock_of(row).distributions)
        fetched, failure = fetch.fetch(wanted, tmp_path / "cache")
        assert failure is None
        assert fetched.files[row.artifacts[0].sha256].read_bytes() == path.read_bytes()
        assert any(one.sent)
        assert other.requests
        assert not any(other.sent)
        # nor does one that is sent on to another take them along
        one.elsewhere = ""
        other.sent.clear()
        one.answers[f"/files/{path.name}"] = [sent_on(f"{other.base}/files/{path.name}")]
        _, failure = fetch.fetch(wanted, tmp_path / "again")
        assert failure is None
        assert not any(other.sent)
    assert private_home


def sent_on(url):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_tarballs_and_constraints_may_have_credentials_of_their_own(cloud, tmp_path):
    cloud.index.account = ""
    with serving() as other:
        other.account = f"{USER}:{PASSWORD}"
        name = "tiny_service-1.0.0.tar.gz"
        other.files[name] = cloud.index.files[name]
        other.files["upper-constraints.txt"] = cloud.constraints.read_bytes()
        own = cloud.with_own_data(tmp_path, BUILD_DEBS_CACHE=tmp_path / "cache")
        place = with_account(f"{other.base}/files")
        out, err = own.run("lock", "2099.1", "--constraints", f"{place}/upper-constraints.txt")
        assert told(out + err) == []
        assert any(other.sent)
        other.sent.clear()
        index.strip_credentials(place)
        (path,) = (tmp_path / "data/projects/locks").glob("2099.1-*.json")
        (tarball,) = (w for w in fetch.list_wanted(locks.read(path).distributions) if w.service)
        _, failure = fetch.fetch([tarball], tmp_path / "cache", tarballs=f"{other.base}/files")
        assert failure is None
        assert any(other.sent)
        other.account = "somebody:else"
        _, err = own.run(
            "lock", "2099.1", "--constraints", f"{place}/upper-constraints.txt", code=5
        )
        assert "user and password" in err
        assert told(err) == []
    for raw in kept(tmp_path / "cache", tmp_path / "data/projects/locks"):
        assert b"p%40ss" not in raw


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET http://a:b@host/x failed", "GET http://****@host/x failed"),
        ("https://token@host:8443/", "https://****@host:8443/"),
        ("a@b.example.org and http://host/@x", "a@b.example.org and http://host/@x"),
    ],
)
def test_what_is_said_has_no_credentials(text, expected):
    assert index.mask_secrets(text) == expected


def test_a_setting_that_is_none_is_one_error(private_home, monkeypatch):
    monkeypatch.setattr(index, "PIP_FILES", ("~/.config/pip/pip.conf",))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "user:secret@host/simple")
    with pytest.raises(UsageError) as raised:
        index.find_index()
    assert "UV_DEFAULT_INDEX" in raised.value.message
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    path = private_home / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True)
    for text in (b"index-url = http://x\n", b"[global]\nindex-url = \xff\xfe\n", b"[global]\nx\n"):
        path.write_bytes(text)
        with pytest.raises(DataError, match=r"pip\.conf: not a pip configuration"):
            index.find_index()


def test_a_refusal_of_an_index_is_told_for_python_2_too(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "PIP_FILES", ())
    with serving() as one:
        one.add(wheel(tmp_path, "tinylib", files={"tinylib.py": ""}))
        one.account = f"{USER}:{PASSWORD}"
        monkeypatch.setenv("UV_DEFAULT_INDEX", one.url)
        with pytest.raises(FetchError) as raised:
            fetch.Client().list_files("tinylib")
    assert "401" in raised.value.message
    assert "netrc" in raised.value.hint
