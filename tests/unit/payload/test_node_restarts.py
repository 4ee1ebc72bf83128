"""start-units and openstack-node restart: which units, when, and what is said."""

import dataclasses
import os
import subprocess
import time

import pytest
from nodeside import ROOT, service, unit, write
from openstack_node import alone, cli, databases, gate, manifest, restarts, system

API, WORKER = "toy-api.service", "toy-worker.service"
BEHIND = "the database toy at db is behind the code of 2099.1"


def state(name, active="active", **values):
    return system.UnitState(name, active=active, **{"enabled": "enabled", **values})


class Node:
    """A node with a service of two units, whose systemd is as the test says."""

    def __init__(self, root, monkeypatch):
        self.root, self.verbs, self.policy, self.waited = root, [], [], []
        chain = [f"{root}/etc/toy/toy.conf"]
        needs = ["connection"]
        units = [
            unit("toy-api", chain, kind="uwsgi", needs=needs),
            unit("toy-worker", chain, needs=needs),
        ]
        self.toy = service(root, units=units)
        write(self.toy, "[database]\nconnection = x\n")
        self.units = {n: state(n, started=time.time()) for n in (API, WORKER)}
        self.broker = None
        self.schema = databases.Schema("main", "current", "", "toy", "db", "toy")
        self.system = system.run
        self.after_restart = []
        for name in ("DEFAULTS", "LISTS", "POLICY", "SYSTEMD"):
            monkeypatch.setattr(restarts, name, root / name)
        restarts.LISTS.mkdir()
        restarts.SYSTEMD.mkdir()
        monkeypatch.setattr(system, "run", self.run)
        monkeypatch.setattr(system, "systemctl", self.systemctl)
        monkeypatch.setattr(system, "unit_states", lambda names: {
            n: self.units[n] for n in names if n in self.units
        })  # fmt: skip
        monkeypatch.setattr(manifest, "shipped", lambda name: self.toy if name == "toy" else None)
        monkeypatch.setattr(gate, "later_site", lambda _toy: "")
        monkeypatch.setattr(databases, "ask", lambda _toy, _files, **_: databases.Answer(
            {"main": self.schema}, broker=self.broker
        ))  # fmt: skip
        monkeypatch.delenv(restarts.VARIABLE, raising=False)

    def run(self, argv, **options):
        if argv == ["systemctl", "--system", "daemon-reload"]:
            return system.Done(0, "")
        if argv[0] == "journalctl":
            return system.Done(0, "started\nRuntimeError: no bindings\n")
        assert argv[0] == str(restarts.POLICY)
        return self.system(argv, **options)

    def systemctl(self, verb, names, *, wait=False):
        self.verbs.append((verb, names))
        self.waited += names if wait else []
        for name in names:
            if name in self.units and self.after_restart:
                self.units[name] = self.after_restart[0]
        return system.Done(0, "")

    def is_behind(self):
        pending = [databases.Migration("e1", "add a column", removes=False)]
        self.schema = dataclasses.replace(self.schema, state="behind", pending=pending)

    def unpack(self, package, when):
        """Have dpkg unpack a package at a time."""
        path = restarts.LISTS / f"{package}.list"
        path.touch()
        os.utime(path, (when, when))

    def configure(self, action, *names):
        """What a package's postinst does."""
        assert restarts.main(action, "toy", list(names or (API, WORKER))) == 0


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
    monkeypatch.setattr(system, "systemctl", lambda *_, **__: system.Done(1, "Unit is bad.\n"))
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
    return restarts.held


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
    assert gate._noted(node.toy).code == gate.MAY
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


# -- what waits for a restart


@pytest.mark.parametrize(
    "package", ["openstack-2099.1-toy", "openstack-2099.1-closure-toy", "toy-common"]
)
def test_a_unit_is_older_than_the_code_dpkg_unpacked(node, package):
    now = time.time()
    node.unpack(package, now - 60)
    assert restarts.replaced(node.toy, state(API, started=now - 90))
    assert not restarts.replaced(node.toy, state(API, started=now - 30))
    assert not restarts.replaced(node.toy, state(API, "inactive", started=now - 90))
    assert not restarts.replaced(node.toy, state(API))


def test_without_a_list_of_dpkg_nothing_is_newer(node):
    assert not restarts.replaced(node.toy, state(API, started=1.0))


def test_the_apis_come_last(node):
    names = ("a-api", "b-conductor", "c-uwsgi", "d-scheduler")
    units = [unit(n, [], kind="uwsgi" if n == "c-uwsgi" else "daemon") for n in names]
    ordered = [u.package for u in restarts.in_order(service(node.root, units=units))]
    assert ordered == ["b-conductor", "d-scheduler", "a-api", "c-uwsgi"]


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        (state(API, started=1.0), True),
        (state(API, started=4e9), False),
        (state(API, "inactive", result="exec-condition", condition=False), True),
        (state(API, "inactive"), True),
        (state(API, "inactive", condition=False), False),
        (state(API, "failed"), True),
        (state(API, "deactivating"), True),
        (state(API, "activating"), False),
        (state(API, started=1.0, enabled="disabled"), False),
        (state(API, "inactive", enabled="disabled"), False),
    ],
)
def test_units_wait_with_old_code_or_without_any(node, found, waits):
    node.unpack("openstack-2099.1-toy", 1000)
    node.units = {API: found}
    assert [u.name for u in restarts.pending(node.toy)] == ([API] if waits else [])


def test_a_unit_nobody_configured_yet_waits_for_no_restart(node):
    write(node.toy, "[database]\n")
    node.units = {API: state(API, "inactive", result="exec-condition", condition=False)}
    assert restarts.pending(node.toy) == []


def choose(node):
    """Make the worker one that needs nothing, and that a defaults file chooses or does not."""
    node.toy = service(node.root, units=[unit("toy-worker", [])], chosen=[WORKER])
    return state(WORKER, "inactive", result="exec-condition", condition=False)


def test_a_unit_its_defaults_file_does_not_choose_waits_for_no_restart(node):
    node.units = {WORKER: choose(node)}
    assert restarts.pending(node.toy) == []
    node.units = {WORKER: state(WORKER, "failed")}
    assert [u.name for u in restarts.pending(node.toy)] == [WORKER]


@pytest.mark.parametrize("fit", [False, True])
def test_one_whose_database_may_be_what_it_waits_for_is_tried(node, monkeypatch, fit):
    node.toy.data["chosen"] = [API]
    node.units = {API: state(API, "inactive", result="exec-condition", condition=False)}
    monkeypatch.setattr(gate, "is_fit", lambda _toy: fit)
    assert [u.name for u in restarts.pending(node.toy)] == ([] if fit else [API])


@pytest.mark.parametrize("start", ["manual", "boot"])
def test_what_is_not_started_with_its_package_waits_for_nothing(node, start):
    node.toy = service(node.root, units=[unit("toy-api", [], start=start)])
    node.units = {API: state(API, "inactive")}
    assert restarts.pending(node.toy) == []


# -- openstack-node restart


@pytest.fixture
def restart(node, monkeypatch, capsys):
    """Return what runs `openstack-node restart`; it gives the exit status and all it printed."""
    monkeypatch.setattr(system, "is_root", lambda: True)
    monkeypatch.setattr(manifest, "load", lambda _names: [node.toy])
    monkeypatch.setattr(alone, "RUN", node.root)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    # A clock that goes on by itself.
    clock = iter(range(0, 100000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    node.unpack("openstack-2099.1-toy", 1000)
    node.units = {n: state(n, started=1.0) for n in (API, WORKER)}
    node.after_restart = [state(API)]

    def run():
        code = cli.main(["restart"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_one_after_the_other_is_restarted_and_told(node, restart):
    code, out, _ = restart()
    assert code == 0
    assert node.verbs == [("restart", [WORKER]), ("restart", [API])]
    assert out == f"{WORKER} ... restarted\n{API} ... restarted\n"


def test_nothing_is_restarted_while_the_broker_is_away(node, restart):
    node.broker = databases.Schema("rabbit", "unreachable", "", "toy", "mq", "/")
    code, out, err = restart()
    assert (code, out, node.verbs) == (1, "", [])
    assert "toy: the broker at mq cannot be reached" in err


def test_what_runs_with_the_code_that_is_there_is_left(node, restart):
    node.units = {n: state(n, started=4e9) for n in (API, WORKER)}
    assert restart() == (0, "", "")
    assert node.verbs == []


def test_a_restart_is_waited_for(node, restart, monkeypatch):
    """A daemon finishes its work first, and systemd calls it active until then."""
    states = iter([
        state(API),  # what is pending is found by it
        state(API, pending=True),
        state(API, "deactivating", pending=True),
        state(API, "inactive", result="exec-condition", pending=True),
        state(API, "activating"),
        state(API),
    ])  # fmt: skip
    monkeypatch.setattr(system, "unit_states", lambda _names: {API: next(states)})
    monkeypatch.setattr(restarts, "replaced", lambda _toy, found: found.name == API)
    monkeypatch.setattr(node, "toy", service(node.root))
    assert restart()[0] == 0
    assert next(states, None) is None


@pytest.mark.parametrize(
    "found",
    [
        state(WORKER, "failed"),
        state(WORKER, "inactive", result="exec-condition"),
        state(WORKER, "activating", sub="auto-restart"),
        state(WORKER, pending=True),
    ],
)
def test_a_unit_that_does_not_come_up_ends_it(node, restart, found):
    node.after_restart = [found]
    code, out, err = restart()
    assert code == 1
    assert node.verbs == [("restart", [WORKER])]
    assert out.startswith(f"{WORKER} ... ")
    assert "toy-worker.service did not come up" in err
    assert f"see journalctl -u {WORKER}" in err
    assert "    RuntimeError: no bindings\n" in err


def test_one_that_is_not_chosen_any_more_stays_down(node, restart):
    node.after_restart = [choose(node)]
    node.units = {WORKER: state(WORKER, started=1.0)}
    said = f"{WORKER} ... stopped: its defaults file does not select it\n"
    assert restart() == (0, said, "")
    assert restart() == (0, "", "")


def test_what_systemd_refuses_ends_it(restart, monkeypatch):
    monkeypatch.setattr(system, "systemctl", lambda *_: system.Done(1, "Unit is masked.\n"))
    code, _, err = restart()
    assert code == 1
    assert "toy-worker.service: Unit is masked." in err
