"""What is given on the command line is held against its form before any work; reports are kept."""

import json
import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest
from cloud import BUILD_DEBS, HERE, locked
from publishing import snapshot

from builder import dirs


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with locked(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def own(cloud, tmp_path):
    return cloud.with_own_data(tmp_path, BUILD_DEBS_CACHE=tmp_path / "cache")


@pytest.mark.parametrize(
    "words",
    [
        ("--repo", ""),
        ("--repo", "/etc/passwd"),
        ("--repo", "/etc/passwd/x"),
        ("--report", ""),
        ("--report", "/etc/passwd/x"),
        ("--report", "/etc"),
        ("--root-age", "nan"),
        ("--root-age", "inf"),
        ("--root-age", "-1"),
        ("--root-age", "1e99"),
        ("--root-age", ""),
        ("--jobs", "0"),
        ("--jobs", "-1"),
        ("--jobs", "99999999999"),
        ("--jobs", "1.5"),
        ("--tarballs", ""),
        ("--tarballs", "/nowhere"),
        ("--tarballs", "/etc/passwd"),
        ("--tarballs", "ftp://example.org/x"),
        ("--tarballs", "http://"),
        ("--tarballs", "http://[bad"),
        ("--constraints", ""),
        ("--constraints", " "),
        ("--constraints", "/etc"),
        ("--constraints", "/nowhere"),
        ("--constraints", "http://[bad"),
        ("--constraints", "ftp://example.org/x"),
        ("--constraints", "http://example.org/a b"),
        ("--key", ""),
        ("--key", "-x"),
        ("--key", "a\nb"),
        ("--keyring", "/etc"),
        ("--keyring", ""),
        ("--keyring", "/nowhere"),
        ("--trust-key", "/etc"),
        ("--trust-key", ""),
        ("--trust-key", "/nowhere"),
        ("--overlay", "/etc/passwd"),
        ("--overlay", "/nowhere"),
        ("--override", "/etc"),
        ("--override", ""),
        ("--override", "/nowhere"),
        ("--url", ""),
        ("--url", "http://a\nb"),
        ("--url", "http://a b"),
        ("--url", "http://a\x1b[0m"),
        ("--url", "http://è/"),
        ("--url", "http://user:secret@host/"),
        ("--url", "/srv/repo"),
        ("--target", ""),
        ("--project", ""),
    ],
)
def test_a_value_that_does_not_do_ends_with_exit_2_before_any_work(own, call, tmp_path, words):
    before = snapshot(tmp_path)
    asked = len(own.index.requests)
    code, out, err = call(own, "2099.1", *words)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "secret" not in err
    assert words[0] in err or words[0] in {"--url", "--target", "--project"}
    assert snapshot(tmp_path) == before
    assert len(own.index.requests) == asked


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BUILD_DEBS_CACHE", "/etc/passwd"),
        ("BUILD_DEBS_CACHE", "/etc/passwd/cache"),
        ("XDG_DATA_HOME", "/etc/passwd"),
        ("TMPDIR", "/nowhere"),
        ("HOME", "/etc/passwd"),
        ("HOME", "home"),
        ("XDG_CACHE_HOME", "cache"),
    ],
)
def test_a_variable_that_names_no_place_is_exit_2(own, call, name, value):
    code, out, err = call(own.with_env(**{name: value}), "2099.1", "--dry-run")
    assert (code, out) == (2, "")
    assert name in err
    assert value.split("/cache")[0] in err


def test_an_empty_variable_is_one_that_is_not_set(own, call):
    empty = own.with_env(BUILD_DEBS_CACHE="", XDG_CACHE_HOME="", XDG_DATA_HOME="")
    code, out, _ = call(empty, "2099.1", "--dry-run")
    assert code == 0
    assert "tiny" in out


@pytest.mark.parametrize("home", [None, ""])
def test_a_build_works_without_a_home_in_the_environment(own, home):
    env = {k: v for k, v in own.env.items() if k != "HOME"}
    env |= {} if home is None else {"HOME": home}
    argv = [BUILD_DEBS, "2099.1", "--dry-run"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    place = dirs.locate({k: v for k, v in env.items() if not k.startswith(("BUILD", "XDG"))})
    assert place.cache.is_relative_to(pwd.getpwuid(os.getuid()).pw_dir)


def test_a_report_of_a_failure_has_code_message_time_and_place(own, tmp_path):
    report = tmp_path / "report.json"
    own.run("2099.1", "--repo", tmp_path / "repo", "--report", report, "--offline", code=5)
    rows = json.loads(report.read_text())
    assert rows["exit-code"] == 5
    assert rows["seconds"] >= 0
    assert "--offline forbids" in rows["errors"][0]["message"]
    assert any("tinylib-1.0" in line for line in rows["errors"][0]["details"])
    assert (rows["series"], rows["target"]) == ("2099.1", HERE)
    assert rows["logs"] == []


def test_a_report_of_a_failed_build_names_its_log(own, tmp_path):
    own.run("lock", "azimuth", "--constraints", own.constraints)
    own.broken.touch()
    try:
        report = tmp_path / "report.json"
        _, err = own.run("2099.2", "--repo", tmp_path / "repo", "--report", report, code=6)
    finally:
        own.broken.unlink()
    rows = json.loads(report.read_text())
    assert rows["exit-code"] == 6
    assert rows["errors"][0]["message"] in err
    (log_file,) = rows["logs"]
    assert "no compiler of Fortran" in Path(log_file).read_text()


def test_a_report_of_what_is_wrong_in_the_data_is_written_too(own, call, tmp_path):
    report = tmp_path / "report.json"
    code, _, _ = call(own, "2099.9", "--report", report)
    rows = json.loads(report.read_text())
    assert (code, rows["exit-code"]) == (2, 2)
    assert "unknown series" in rows["errors"][0]["message"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_report_on_standard_output_is_all_there_is_on_it(own, name):
    out, _ = own.run("2099.9", "--report", name, code=2)
    assert json.loads(out)["exit-code"] == 2


def test_a_report_leaves_a_pipe_a_device_and_a_link_what_they_are(own, tmp_path):
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file.json"
    os.mkfifo(pipe)
    link.symlink_to(file)
    file.write_text("old")
    process = own.start("2099.9", "--report", pipe)
    with pipe.open() as stream:
        assert json.loads(stream.read())["exit-code"] == 2
    process.communicate(timeout=60)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    own.run("2099.9", "--report", link, code=2)
    assert link.is_symlink()
    assert json.loads(file.read_text())["exit-code"] == 2
    null = Path("/dev/null")
    device = null.stat()
    own.run("2099.9", "--report", "/dev/null", code=2)
    assert stat.S_ISCHR(null.stat().st_mode)
    assert null.stat().st_ino == device.st_ino


def test_a_report_that_cannot_be_written_is_one_error(own):
    _, err = own.run("2099.1", "--dry-run", "--report", "/dev/full", code=1)
    assert "the report /dev/full cannot be written: No space left on device" in err
