"""openstack-node status: verdicts, exit status, what a program reads."""

import json
import os

import pytest
from nodeside import BOOTSTRAP, CHECKS, CONNECTION, NAME, SCHEMA, SYNC, service, state, write
from openstack_node import cli, databases, manifest, status, system


@pytest.fixture
def shown(tmp_path, monkeypatch, capsys):
    """Return what `status` prints of a service whose database, unit and files are given."""
    cells = {
        "schema": "main", "query": "SELECT 1", "derived": "0",
        "register": "toy-manage update_cell {id}", "addresses": ["--transport", "--database"],
    }  # fmt: skip
    toy = service(tmp_path, setup=[SYNC, BOOTSTRAP], schemas=[{**SCHEMA, "cells": cells}])
    write(toy, CONNECTION)
    monkeypatch.setattr(system, "is_root", lambda: True)
    monkeypatch.setattr(manifest, "load", lambda _names: [toy])

    def show(*words, schema="current", unit="active", done=True, **answer):
        found = databases.Schema("main", schema, "", "toy", "db", "toy")
        reply = databases.Answer({"main": found}, {1: done}, **answer)
        monkeypatch.setattr(databases, "ask", lambda _toy, _files, **_places: reply)
        monkeypatch.setattr(system, "read_unit_states", lambda _names: {NAME: state(active=unit)})
        code = cli.main(["status", *words])
        out = capsys.readouterr().out
        assert "SECRET" not in out
        return code, out

    show.toy = toy
    return show


def test_all_well_is_0(shown):
    code, out = shown()
    assert code == 0
    assert out.startswith("toy  2099.1  1.0-1\n")
    assert out.endswith("OK: 1 service\n")


def cell(name, **known):
    found = dict.fromkeys(("database", "transport", "template", "derived"), False)
    return {**found, "id": f"id-{name}", "name": name, **known}


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ({"schema": "behind"}, 1, "is behind the code"),
        ({"schema": "ahead"}, 1, "is from a later release"),
        ({"schema": "empty"}, 2, "openstack-node setup toy"),
        ({"schema": "denied"}, 2, "refuses the user toy or its password"),
        ({"schema": "unreachable"}, 2, "cannot be reached"),
        ({"unit": "failed"}, 2, "failed"),
        ({"done": False}, 2, "make the first user: not done"),
        ({"unreadable": ["/etc/toy/x"]}, 2, "the user toy cannot read it"),
        ({"writable": ["/etc/toy"]}, 1, "the user toy can write to it"),
        ({"error": "no answer within 45 s"}, 3, "no answer within 45 s"),
        (
            {"cells": [cell("cell1", database=True)]},
            1,
            "cell cell1: registered with an address other than [DEFAULT] transport_url",
        ),
        ({"cells": [cell("cell1", database=True)]}, 1, "toy-manage update_cell id-cell1\n"),
        (
            {"cells": [cell("a", database=True), cell("b"), cell("cell0", derived=True)]},
            1,
            "cell a: registered with an address other than [DEFAULT] transport_url",
        ),
        ({"cells": [cell("a"), cell("b")]}, 0, "OK"),
        ({"cells": [cell("cell0", derived=True)]}, 0, "OK"),
        (
            {"cells": [cell("a", database=True, transport=True, template=True)]},
            1,
            "template to toy-manage update_cell id-a with --transport and --database",
        ),
    ],
)
def test_monitoring_gets_its_exit_status_and_a_person_words(shown, found, code, words):
    ended, out = shown(**found)
    assert ended == code
    assert words in out


@pytest.mark.usefixtures("shown")
def test_a_systemd_that_does_not_answer_is_3(monkeypatch, capsys):
    def silent(_names):
        raise system.NodeError("systemctl show failed")

    monkeypatch.setattr(system, "read_unit_states", silent)
    assert cli.main(["status"]) == 3
    assert "systemctl show failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ("current", 0, "db:5672 answers"),
        ("unreachable", 2, "start rabbitmq-server, or correct [DEFAULT] transport_url in"),
        ("denied", 2, "rabbitmqctl add_user openstack PASSWORD"),
    ],
)
def test_a_broker_that_cannot_be_used_is_told(shown, found, code, words):
    broker = databases.Schema("rabbit", found, "", "openstack", "db:5672", "/")
    ended, out = shown(broker=broker)
    assert ended == code
    assert words in out


def test_the_worst_counts(shown):
    write(shown.toy, CONNECTION + "[no]\na = 1\n")
    code, out = shown(unit="failed")
    assert code == 2
    assert "critical: 1, warning: 1" in out


def test_programs_read_json(shown):
    code, out = shown("--json", schema="behind")
    data = json.loads(out)
    (found,) = data["services"]
    assert (code, data["status"], found["status"]) == (1, "warning", "warning")
    assert {f["kind"] for f in found["findings"]} == {"unit", "database"}
    assert found["series"] == "2099.1"


def checked(tmp_path, monkeypatch, code):
    toy = service(tmp_path, upgrade_check=["toy-status", "upgrade", "check"])
    script = tmp_path / "tree/bin/toy-status"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.touch()
    monkeypatch.setattr(system, "run", lambda *_a, **_k: system.Done(code, CHECKS))
    schema = databases.Schema("main", "current")
    return status._run_upgrade_check(toy, databases.Answer({"main": schema}))


def test_the_services_own_check_says_what_fails(tmp_path, monkeypatch):
    (line,) = checked(tmp_path, monkeypatch, 2)
    assert line.level == "warning"
    assert line.hints == ["Placement API: No credentials, set [placement]."]
    assert checked(tmp_path, monkeypatch, 0)[0].level == "ok"
    assert checked(tmp_path, monkeypatch, None)[0].level == "unknown"


def test_without_root_nothing_is_known(monkeypatch, capsys):
    monkeypatch.setattr(system, "is_root", lambda: False)
    assert cli.main(["status"]) == 3
    assert "sudo openstack-node status" in capsys.readouterr().err


def test_a_wrong_word_is_no_verdict(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["stauts"])
    assert ended.value.code == 3
    assert "stauts" in capsys.readouterr().err


def test_a_command_that_hangs_is_given_up():
    done = system.run(["sleep", "5"], seconds=0.1)
    assert done.code is None


def test_commands_do_not_see_the_callers_secrets(monkeypatch):
    monkeypatch.setenv("OS_BOOTSTRAP_PASSWORD", "PW")
    assert "PW" not in system.run(["env"], seconds=5).out
    assert "passed=1" in system.run(["env"], seconds=5, env={"passed": "1"}).out


def test_systemds_answer_is_read(monkeypatch, tmp_path):
    answer = (
        "Id=a.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\n"
        "UnitFileState=enabled\nResult=exec-condition\nConditionResult=yes\nJob=\n"
        "\nId=b.service\nLoadState=loaded\nActiveState=active\nSubState=running\n"
        "UnitFileState=enabled\nResult=success\nConditionResult=yes\nJob=12\n"
        "ActiveEnterTimestampMonotonic=1000000\n"
    )
    monkeypatch.setattr(system, "run", lambda *_a, **_k: system.Done(0, answer))
    monkeypatch.setattr(os.path, "isdir", lambda _path: True)
    found = system.read_unit_states(["a.service", "b.service"])
    assert found["a.service"].waits
    assert found["b.service"].pending
    assert found["b.service"].since > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("changed", "reloaded"), [("2000000", False), ("3000000", True)])
def test_a_reload_is_what_changes_an_active_unit(changed, reloaded):
    block = {
        "Id": "a.service", "LoadState": "loaded", "ActiveState": "active", "SubState": "running",
        "UnitFileState": "enabled", "Result": "success", "ConditionResult": "yes",
        "ActiveEnterTimestampMonotonic": "2000000", "StateChangeTimestampMonotonic": changed,
        "MainPID": "7", "Type": "notify",
    }  # fmt: skip
    found = system._parse_state(block, 1000.0)
    assert found.reloaded == (1003.0 if reloaded else 0)
    assert (found.main_pid, found.kind) == (7, "notify")


def test_an_address_is_shown_without_its_password():
    assert system.mask_passwords("at mysql+pymysql://u:pw@db/x") == "at mysql+pymysql://u:***@db/x"
