"""Processes: what a child sees of the caller, and what a person learns when one fails."""

import sys

import pytest
from wheelhouse import names

from builder.errors import BuildError, MissingToolError
from builder.run import make_environment, run


def shell(script, **options):
    return run(["sh", "-c", script], **options)


def test_a_child_sees_no_secret_and_no_locale_of_the_caller(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://user:word@index.example.org/simple")
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    seen = dict(line.split("=", 1) for line in shell("env").stdout.decode().splitlines())
    assert {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LANG", "UV_DEFAULT_INDEX"}.isdisjoint(seen)
    assert seen["LC_ALL"] == "C.UTF-8"
    assert seen["TZ"] == "UTC"
    assert seen["https_proxy"] == "http://proxy.example.org:3128"


def test_only_a_client_of_the_index_sees_its_settings(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://index.example.org/simple")
    assert "UV_DEFAULT_INDEX" not in make_environment()
    assert make_environment(index=True)["UV_DEFAULT_INDEX"] == "http://index.example.org/simple"


def test_what_a_stage_asks_for_stands_above_all_else(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert make_environment({"HOME": "/nowhere", "CFLAGS": "-O2"})["HOME"] == "/nowhere"


def test_a_child_cannot_wait_for_the_keyboard():
    assert run(["cat"]).stdout == b""


def test_a_failure_shows_the_last_lines_of_both_streams():
    with pytest.raises(BuildError) as raised:
        shell("seq 100; echo wrong >&2; exit 3")
    assert raised.value.message == "sh failed with status 3"
    assert raised.value.details[-1] == "wrong"
    assert len(raised.value.details) == 15


def test_a_failure_of_a_logged_process_names_the_log(tmp_path):
    log = tmp_path / "logs/one.log"
    shell("echo first", log=log)
    with pytest.raises(BuildError) as raised:
        shell("echo second; exit 1", log=log)
    assert str(log) in raised.value.hint
    assert "first" in log.read_text()
    assert raised.value.details[-1] == "second"


def test_output_that_is_no_text_does_not_hide_the_failure():
    with pytest.raises(BuildError) as raised:
        shell(r"printf '\377\376 odd\n'; exit 1")
    assert "odd" in raised.value.details[0]


def test_an_absent_program_is_named_with_the_package_that_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="dpkg-shlibdeps is not installed") as raised:
        run(["dpkg-shlibdeps"])
    assert raised.value.hint == "apt-get install dpkg-dev"
    with pytest.raises(MissingToolError) as raised:
        run(["never-heard-of"])
    assert raised.value.hint == "apt-get install never-heard-of"


def test_a_word_is_never_read_by_a_shell(tmp_path):
    odd = "$(touch gone); `id` * 'x'"
    done = run([sys.executable, "-c", "import sys; print(sys.argv[1])", odd], cwd=tmp_path)
    assert done.stdout.decode().strip() == odd
    assert names(tmp_path) == []


def test_a_caller_can_look_at_a_failure_itself():
    assert shell("exit 4", check=False).returncode == 4


def test_a_child_that_leaves_its_output_open_does_not_hold_a_build_up_for_ever(
    monkeypatch, tmp_path
):
    monkeypatch.setattr("builder.run.LIMIT_SECONDS", 0.5)
    log = tmp_path / "log"
    with pytest.raises(BuildError, match="did not end within") as raised:
        # What pip does: it reads the output of a setup.py until nobody has it open.
        shell("sleep 5 & wait", log=log)
    assert str(log) in raised.value.hint
    with pytest.raises(BuildError, match="sh did not end within"):
        shell("sleep 5 & echo left")


def test_input_reaches_the_child():
    assert run(["cat"], input_bytes=b"signed").stdout == b"signed"
