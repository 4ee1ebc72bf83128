"""start-units and held-units: which units, when, and what is said."""

import dataclasses
import subprocess

import pytest
from nodeside import ROOT, service, unit, write
from openstack_node import databases, gate, manifest, restarts, system
from twounits import API, WORKER, Node, state

BEHIND = "the database toy at db is behind the code of 2099.1"


@pytest.fixture
def node(tmp_path, monkeypatch):
    return Node(tmp_path, monkeypatch)


# -- when a package is configured


@pytest.mark.parametrize(("action", "verb"), [("start", "start"), ("restart", "restart")])
def test_units_are_started_at_first_and_restarted_on_upgrades(node, capsys, action, verb):
    node.configure(action)
    assert node.verbs == [(verb, [WORKER]), (verb, [API])]
    # A worker is up when it reaches what it needs; uWSGI is at once.
    assert node.waited == [API]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("action", ["start", "restart"])
@pytest.mark.parametrize("enabled", ["disabled", "masked", ""])
def test_units_an_administrator_switched_off_are_left(node, action, enabled):
    node.units[API] = state(API, enabled=enabled)
    node.configure(action)
    assert [names for _, names in node.verbs] == [[WORKER]]


def test_a_unit_systemd_does_not_know_is_left(node):
    node.configure("start", API, "toy-other.service")
    assert node.verbs == [("start", [API])]


@pytest.mark.parametrize(
    ("script", "names"),
    [("exit 101", []), (f'[ "$1 $2" != "{API} $ACTION" ] || exit 101', [WORKER])],
)
@pytest.mark.parametrize("action", ["start", "restart"])
def test_a_policy_forbids_it(node, action, script, names):
    restarts.POLICY.write_text("#!/bin/sh\n" + script.replace("$ACTION", action) + "\n")
    restarts.POLICY.chmod(0o755)
    node.configure(action)
    assert [n for _, some in node.verbs for n in some] == names


def test_without_systemd_nothing_is_done(node):
    restarts.SYSTEMD.rmdir()
    node.configure("start")
    assert node.verbs == []


def test_what_systemd_has_against_it_is_told_and_no_failure(node, capsys, monkeypatch):
    monkeypatch.setattr(system, "run_systemctl", lambda *_, **__: system.Done(1, "Unit is bad.\n"))
    node.configure("start", API)
    assert capsys.readouterr().out == "Unit is bad.\n"


def test_a_systemd_that_does_not_answer_is_told_and_no_failure(node, capsys, monkeypatch):
    monkeypatch.setattr(system, "run", lambda *_a, **_k: system.Done(None, ""))
    node.configure("restart")
    assert "no answer within 60 s; openstack-node restart toy" in capsys.readouterr().out
    assert node.verbs == []


# -- restarts that wait


@pytest.mark.parametrize(
    ("text", "deferred"),
    [
        ("RESTARTS=defer\n", True),
        ('# when I say so\nRESTARTS="defer"\n', True),
        ("  RESTARTS='defer'\n", True),
        ("RESTARTS=now\nRESTARTS=defer\n", True),
        ("#RESTARTS=defer\n", False),
        ("RESTARTS=now\n", False),
        ("RESTARTS=\n", False),
        ("", False),
    ],
)
def test_an_administrator_defers_restarts(node, capsys, text, deferred):
    restarts.DEFAULTS.write_text(text)
    node.configure("restart")
    out = capsys.readouterr().out
    why = "keeps running the code it was started with: restarts are deferred; "
    said = [f"{n} {why}openstack-node restart toy" for n in (API, WORKER)]
    assert out.splitlines() == (said if deferred else [])
    assert node.verbs == ([] if deferred else [("restart", [WORKER]), ("restart", [API])])


def test_an_upgrade_defers_restarts_by_a_variable(node, monkeypatch):
    monkeypatch.setenv("OPENSTACK_NODE_RESTARTS", "defer")
    node.configure("restart")
    assert node.verbs == []
    monkeypatch.setenv("OPENSTACK_NODE_RESTARTS", "now")
    restarts.DEFAULTS.write_text("RESTARTS=defer\n")
    node.configure("restart")
    assert node.verbs == [("restart", [WORKER]), ("restart", [API])]


def test_a_first_installation_is_not_deferred(node):
    restarts.DEFAULTS.write_text("RESTARTS=defer\n")
    node.configure("start")
    assert node.verbs == [("start", [WORKER]), ("start", [API])]


def test_running_units_go_on_while_their_database_is_behind(node, capsys):
    node.is_behind()
    node.configure("restart")
    assert node.verbs == []
    hint = "openstack-node upgrade 2099.1 toy"
    assert capsys.readouterr().out.splitlines() == [
        f"{name} keeps running the code it was started with: {BEHIND}; {hint}"
        for name in (API, WORKER)
    ]


@pytest.mark.parametrize("active", ["inactive", "failed", "activating"])
def test_what_does_not_run_has_nothing_to_go_on_with(node, active, capsys):
    """It may wait for a new try; or its package was removed, and is installed again."""
    node.units[WORKER] = state(WORKER, active)
    node.is_behind()
    node.configure("restart")
    assert node.verbs == [("restart", [WORKER])]
    assert WORKER not in capsys.readouterr().out


@pytest.mark.parametrize("found", ["current", "unreachable", "denied", "empty"])
def test_other_states_of_the_database_keep_nothing_from_a_restart(node, found):
    node.schema = dataclasses.replace(node.schema, state=found)
    node.configure("restart")
    assert node.verbs == [("restart", [WORKER]), ("restart", [API])]


def test_units_without_a_database_are_restarted(node, monkeypatch):
    agent = unit("toy-agent", [])
    node.toy = service(node.root, units=[agent])
    node.units = {agent.name: state(agent.name)}
    monkeypatch.setattr(databases, "ask", None)
    node.configure("restart", agent.name)
    assert node.verbs == [("restart", [agent.name])]


# -- what needrestart is to leave alone


@pytest.fixture
def held(node, monkeypatch, tmp_path):
    monkeypatch.setattr(gate, "RUN", tmp_path / "run")
    monkeypatch.setattr(manifest, "load", lambda _names: [node.toy])
    return restarts.list_held


def test_units_that_would_not_come_up_again_are_held(node, held):
    assert held() == []
    node.is_behind()
    assert held() == [API, WORKER]


def test_units_are_held_while_restarts_are_deferred(held):
    restarts.DEFAULTS.write_text("RESTARTS=defer\n")
    assert held() == [API, WORKER]


def test_what_a_unit_was_told_is_not_asked_again(node, held, tmp_path, monkeypatch):
    (tmp_path / "run/toy").mkdir(parents=True)
    monkeypatch.setattr(manifest, "SERVICES", tmp_path)
    assert gate._recall_verdict(node.toy).code == gate.MAY
    node.is_behind()
    assert held() == []
    write(node.toy, "[database]\nconnection = another\n")
    assert held() == [API, WORKER]


def test_needrestart_can_read_its_snippet(tmp_path):
    """What needrestart does with a file of conf.d: it evaluates it in Perl."""
    program = tmp_path / "held-units"
    program.write_text("#!/bin/sh\nprintf 'a.service\\nb-c.service\\n'\n")
    text = (ROOT / "debian-templates/node/needrestart.conf").read_text()
    text = text.replace("/usr/libexec/openstack-node/held-units", str(program))
    shown = "print %{$nrconf{override_rc}};"
    script = f"use strict; our %nrconf = (override_rc => {{}}); {text}\n{shown}"

    def evaluated():
        done = subprocess.run(["perl", "-we", script], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    assert evaluated() == ""
    program.chmod(0o755)
    assert sorted(evaluated().split("(?^:")[1:]) == [r"^a\.service$)0", r"^b\-c\.service$)0"]
