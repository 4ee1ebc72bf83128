"""The state of a unit in words, and what a unit runs that is not what is there."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nodeside import CONNECTION, NAME, NOW, service, state, unit, write
from openstack_node import units


def verdict(tmp_path, found):
    toy = service(tmp_path)
    return units.judge(toy, toy.units[0], found)


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (state(active="active"), "ok", "active for 5 min"),
        (state(active="inactive", result="exec-condition"), "warning", "waits for [database]"),
        (state(active="inactive"), "critical", "stopped"),
        (state(active="failed"), "critical", "failed"),
        (state(active="activating", since=NOW), "note", "activating"),
        (state(active="activating"), "warning", "activating for 5 min"),
        (
            state(active="activating", restarts=3),
            "critical",
            "activating for 5 min, after 3 failed starts",
        ),
        (state(active="deactivating", pending=True), "note", "finishing its work for 5 min, then"),
        (
            state(active="activating", sub="auto-restart", exit_status=3),
            "critical",
            "exited with status 3, will be restarted",
        ),
        (state(enabled="disabled"), "note", "disabled, not running"),
        (state(active="active", enabled="disabled"), "warning", "disabled, but running"),
        (state(load="not-found"), "critical", "missing"),
        (None, "unknown", "systemd is not running here"),
    ],
)
def test_a_units_verdict(tmp_path, monkeypatch, found, level, words):
    monkeypatch.setattr(time, "time", lambda: NOW)
    judged = verdict(tmp_path, found)
    assert judged[0] == level
    assert judged[1].startswith(words)


def test_a_unit_its_defaults_file_does_not_choose_is_well(tmp_path):
    toy = service(tmp_path, units=[unit("toy-api", [])], chosen=[NAME])
    found = state(active="inactive", result="exec-condition", condition=False)
    level, text, hints = units.judge(toy, toy.units[0], found)
    assert (level, hints) == ("note", [])
    assert text == "not started: its defaults file does not select it"


def test_a_configuration_newer_than_its_daemon_is_told(tmp_path):
    toy = service(tmp_path)
    path = write(toy, CONNECTION)
    level, text, hints = units.judge(toy, toy.units[0], state(active="active", started=1.0))
    assert level == "warning"
    assert path in text
    assert "setup toy" in hints[0]


# A process with two children of its own command line, as uWSGI and oslo.service have them: at a
# SIGHUP they are replaced, the first process is not.
FORKS = """
import os, signal, sys, time
def begin():
    global pids
    pids = []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            while True:
                time.sleep(60)
        pids.append(pid)
def again(*_):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    begin()
    print("again", flush=True)
signal.signal(signal.SIGHUP, again)
begin()
print("up", flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def forking():
    """A daemon with two workers, which a SIGHUP replaces."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as daemon:
        assert daemon.stdout.readline() == "up\n"
        yield daemon
        os.killpg(daemon.pid, signal.SIGKILL)


@pytest.mark.parametrize(("kind", "level"), [("uwsgi", "ok"), ("daemon", "note")])
def test_a_reload_by_signal_shows_by_the_workers(tmp_path, forking, kind, level):
    toy = service(tmp_path)
    path = Path(write(toy, CONNECTION))
    api = dataclasses.replace(toy.units[0], kind=kind)
    later = time.time() + 0.2
    os.utime(path, (later, later))
    found = state(active="active", started=later - 100, main_pid=forking.pid)
    assert units.judge(toy, api, found)[0] == "warning"
    # Times of processes are in hundredths.
    while time.time() < later + 0.1:
        time.sleep(0.05)
    forking.send_signal(signal.SIGHUP)
    assert forking.stdout.readline() == "again\n"
    judged = units.judge(toy, api, found)
    assert judged[0] == level
    if level == "note":
        assert judged[1].endswith(f"reloaded after {path} was changed")
        assert judged[2][0].endswith(f"cannot change: systemctl restart {NAME}")


def test_a_reload_by_systemd_is_no_change_since(tmp_path):
    toy = service(tmp_path)
    path = Path(write(toy, CONNECTION))
    agent = dataclasses.replace(toy.units[0], kind="daemon")
    written = path.stat().st_mtime
    found = state(active="active", started=written - 9, reloaded=written + 9)
    assert units.judge(toy, agent, found)[0] == "note"
    found = dataclasses.replace(found, reloaded=written - 5)
    assert units.judge(toy, agent, found)[0] == "warning"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200000, "2 days")],
)
def test_times_are_told_in_words(seconds, words):
    assert units.render_span(seconds) == words


# -- code that was replaced


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "LISTS", tmp_path)
    return service(tmp_path, package="toy-common")


@pytest.mark.parametrize(
    "package", ["openstack-2099.1-toy", "openstack-2099.1-closure-toy", "toy-common"]
)
def test_a_unit_is_older_than_the_code_dpkg_unpacked(toy, package):
    now = time.time()
    path = units.LISTS / f"{package}.list"
    path.touch()
    os.utime(path, (now - 60, now - 60))
    assert units.is_replaced(toy, state(active="active", started=now - 90))
    assert not units.is_replaced(toy, state(active="active", started=now - 30))
    assert not units.is_replaced(toy, state(active="inactive", started=now - 90))
    assert not units.is_replaced(toy, state(active="active", started=0.0))


def test_without_a_list_of_dpkg_nothing_is_newer(toy):
    assert not units.is_replaced(toy, state(active="active", started=1.0))
