"""Daemons of all nodes, by their rows: what status says of them, and what keeps an upgrade off."""

import dataclasses
import socket
import time

import pytest
from nodeside import service, write
from openstack_node import heartbeats, ini, system
from openstack_node.databases import Answer, Record

RULE = {
    "schema": "main", "query": "", "down_after": "DEFAULT/down_time", "seconds": 60,
    "remove": "toy-manage remove {daemon} {host} {id}", "floor": "2", "floor_file": "",
    "floor_table": "", "floor_key": "", "floor_daemon": "", "unless": "workarounds/go_on",
}  # fmt: skip
HERE = socket.gethostname()


@pytest.fixture
def toy(tmp_path):
    made = service(tmp_path, records=[RULE])
    write(made, "")
    return made


def record(host="other", *, age=5, off=False, old=False):
    return Record(0, "7", host, "toy-worker", off, age, old)


def told(toy, *records, **states):
    answer = Answer(records=list(records))
    return heartbeats.list_findings(toy, ini.Settings(toy.configs), answer, states)


def test_daemons_that_are_heard_of_are_a_line(toy):
    assert told(toy, record(), record(HERE, age=60)) == [("toy", "ok", "2 alive", [])]
    assert told(toy) == []


def test_a_back_end_of_this_node_that_reports_nothing_is_critical(toy):
    ((name, level, text, hints),) = told(toy, record(f"{HERE}@lvm", age=None))
    assert (name, level) == (f"toy-worker on {HERE}@lvm", "critical")
    assert text == "has never reported"
    assert hints[0].startswith("its back end lvm is not usable: see journalctl -u toy-worker")


@pytest.mark.parametrize(
    ("active", "seconds", "level"),
    # 70 s: cinder-scheduler waits 60 s for a volume service, then 10 s for its first report.
    [("active", 20, "note"), ("active", 70, "note"), ("active", 130, "critical"),
     ("activating", 20, "note"), ("activating", 130, "critical"), ("failed", 20, "critical")],
)  # fmt: skip
def test_a_daemon_that_has_just_been_started_has_had_no_time(toy, active, seconds, level):
    name = "toy-worker.service"
    state = system.UnitState(name, active=active, started=time.time() - seconds)
    found = told(toy, record(f"{HERE}@lvm", age=999), **{name: state})
    assert [line[1] for line in found] == [level]


def test_a_daemon_that_systemd_is_about_to_start_is_no_alarm(toy):
    state = system.UnitState("toy-worker.service", pending=True)
    ((_, level, text, _),) = told(toy, record(HERE, age=999), **{state.name: state})
    assert (level, text) == ("note", "no report yet, waits to be started")


def test_a_daemon_elsewhere_is_a_warning_and_its_row_may_be_removed_when_it_is_gone(toy):
    ((_, level, text, hints),) = told(toy, record(age=61))
    assert (level, text) == ("warning", "no report for 61 s")
    assert hints == ["start toy-worker on other"]
    hints = told(toy, record(age=200000))[0][3]
    assert hints[1] == "or, if that host is gone for good: toy-manage remove toy-worker other 7"


def test_a_disabled_one_is_no_alarm_and_that_is_said(toy):
    ((_, level, text, hints),) = told(toy, record(age=None, off=True), record())
    assert (level, text) == ("note", "1 alive, 1 disabled")
    assert hints == ["toy-worker on other: disabled, not an alarm"]


def test_how_long_is_too_long_is_the_services_own_option(toy):
    write(toy, "[DEFAULT]\ndown_time = 300\nhost = name-of-mine\n")
    assert told(toy, record(age=299)) == [("toy", "ok", "1 alive", [])]
    assert told(toy, record("name-of-mine@x", age=301))[0][1] == "critical"


def test_how_long_is_too_long_may_be_several_of_the_services_intervals(tmp_path):
    toy = service(tmp_path, records=[{**RULE, "intervals": 2}])
    write(toy, "[DEFAULT]\ndown_time = 10\n")
    assert told(toy, record(age=20)) == [("toy", "ok", "1 alive", [])]
    assert told(toy, record(age=21))[0][1] == "warning"


def test_a_row_that_is_too_old_is_refused_with_host_row_and_command(toy):
    answer = Answer(records=[record(), record("gone", age=9000000, old=True), record(old=True)])
    found = heartbeats.list_obstacles(toy, answer)
    later = dataclasses.replace(toy, series="2100.1")
    said = r"toy: 2 rows of daemons are too old for 2100\.1"
    with pytest.raises(system.NodeError, match=said) as no:
        heartbeats.refuse(later, found)
    assert no.value.details.splitlines() == [
        "row 7 of toy-worker on gone is too old: 2100.1 does not start while it exists; "
        "no report for 104 days",
        "  toy-manage remove toy-worker gone 7",
        "row 7 of toy-worker on other is too old: 2100.1 does not start while it exists; "
        "no report for 5 s",
        "  upgrade other to a later release first, or: toy-manage remove toy-worker other 7",
    ]
    heartbeats.refuse(later, [])


def test_nova_may_be_told_to_start_all_the_same(toy):
    write(toy, "[workarounds]\ngo_on = True\n")
    assert heartbeats.list_obstacles(toy, Answer(records=[record(old=True)])) == []
