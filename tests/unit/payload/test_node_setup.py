"""openstack-node setup: order, repetition, secrets, and a failure's words."""

import io
import socket
from dataclasses import replace

import pytest
from nodeside import BOOTSTRAP, CONNECTION, SYNC, service, unit, write
from openstack_node import databases, setup, system


class Machine:
    """Stands in for the machine: what is run is noted, databases are as the test says."""

    def __init__(self, monkeypatch):
        self.ran, self.said, self.verbs = [], "", []
        self.state, self.done, self.codes = "empty", {}, {}
        self.units = {}
        monkeypatch.setattr(system, "run", self.run)
        monkeypatch.setattr(databases, "ask", self.ask)
        monkeypatch.setattr(system, "read_unit_states", lambda names: {
            n: self.units[n] for n in names if n in self.units
        })  # fmt: skip
        monkeypatch.setattr(system, "run_systemctl", self.systemctl)
        monkeypatch.setattr(setup, "UP_SECONDS", 0)
        monkeypatch.setattr(setup, "END_SECONDS", 0)

    def run(self, argv, *, user="", seconds, env=None, stdin="", merged=False):
        assert seconds
        assert merged
        assert not stdin
        self.ran.append((argv, user, env or {}))
        code = self.codes.get(argv[-1], 0)
        return system.Done(code, "all is well\nAccess denied, mysql://u:SECRET@db/x\n", 1.0)

    def ask(self, toy, files):
        assert all(f.startswith(toy.data["directory"]) for f in files)
        schema = databases.Schema("main", self.state, "", "toy", "db", "toy")
        return databases.Answer(schemas={"main": schema}, done=self.done)

    def systemctl(self, verb, names):
        self.verbs.append((verb, names))
        for name in names:
            self.units[name] = system.UnitState(name, active="active", enabled="enabled")
        return system.Done(0, "")

    def setup(self, *services, named=False, environment=None, **wishes):
        def say(text):
            self.said += text

        wish = setup.Wishes(say, environment=environment or {}, **wishes)
        setup.setup(list(services), wish, named=named)

    @property
    def commands(self):
        return [argv[-1] for argv, _, _ in self.ran]


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def test_steps_run_as_the_services_user_in_order(tmp_path, machine):
    toy = service(tmp_path, setup=[SYNC, {**SYNC, "command": ["toy-manage", "more"], "done": ""}])
    machine.setup(toy)
    assert [(argv, user) for argv, user, _ in machine.ran] == [
        ([f"{tmp_path}/tree/bin/toy-manage", "db", "sync"], "toy"),
        ([f"{tmp_path}/tree/bin/toy-manage", "more"], "toy"),
    ]
    assert "bring the database to this release ... done" in machine.said


def test_what_is_done_is_left_alone(tmp_path, machine):
    machine.state, machine.done = "current", {1: True}
    machine.setup(service(tmp_path, setup=[SYNC, BOOTSTRAP]))
    assert machine.ran == []
    assert machine.said.count("already done") == 2


def test_the_first_failure_ends_it_and_says_what_and_where(tmp_path, machine):
    machine.codes["sync"] = 1
    toy = service(tmp_path, setup=[SYNC, {**SYNC, "command": ["toy-manage", "more"]}])
    with pytest.raises(system.NodeError, match="toy-manage db sync exited with status 1") as failed:
        machine.setup(toy)
    assert machine.commands == ["sync"]
    assert "Access denied" in failed.value.details
    assert "SECRET" not in failed.value.details
    assert "/var/log/toy/toy-manage.log" in failed.value.hints[0]


@pytest.mark.parametrize(
    ("state", "message", "hint"),
    [
        ("denied", "refuses the user toy or its password", "[database] connection in {}:2"),
        ("unreachable", "cannot be reached", "start the database server"),
        ("missing", "does not exist", "as database administrator:"),
        ("malformed", "is not a database address", "mysql+pymysql://USER:PASSWORD@HOST"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_before_anything_runs(
    tmp_path, machine, state, message, hint
):
    machine.state = state
    toy = service(tmp_path)
    path = write(toy, CONNECTION)
    with pytest.raises(system.NodeError, match=message) as failed:
        machine.setup(toy)
    assert hint.format(path) in " ".join(failed.value.hints)
    assert "SECRET" not in f"{failed.value} {failed.value.hints}"
    assert machine.ran == []


def test_a_line_the_service_would_stop_at_is_told_first(tmp_path, machine):
    toy = service(tmp_path)
    path = write(toy, "[database]\nconnection SECRET\n")
    with pytest.raises(system.NodeError, match=f"{path}:2: neither") as failed:
        machine.setup(toy)
    assert "SECRET" not in f"{failed.value} {failed.value.hints}"
    assert machine.ran == []


def test_a_service_nobody_configured_is_left_out_unless_it_is_named(tmp_path, machine):
    machine.state = "unset"
    toy, other = service(tmp_path), service(tmp_path / "b", name="other")
    machine.setup(toy, other)
    assert machine.said.count("not configured yet: [database] connection is not set") == 2
    with pytest.raises(system.NodeError, match="is not set"):
        machine.setup(toy, named=True)


def test_a_node_without_a_database_has_its_units_started_and_no_more(tmp_path, machine):
    agent = unit("toy-agent", [f"{tmp_path}/etc/toy/toy.conf"], needs=["transport_url"])
    machine.units = {agent.name: system.UnitState(agent.name, enabled="enabled")}
    machine.setup(service(tmp_path, units=[agent]))
    assert machine.ran == []
    assert machine.verbs == [("start", [agent.name])]
    assert "toy-agent.service ... started" in machine.said


def test_units_that_run_with_an_older_configuration_are_restarted(tmp_path, machine):
    toy = service(tmp_path)
    name = toy.units[0].name
    machine.state = "current"

    def running(started):
        return {name: system.UnitState(name, active="active", enabled="enabled", started=started)}

    machine.units = running(4e9)
    write(toy, CONNECTION)
    machine.setup(toy)
    assert machine.verbs == []
    machine.units = running(1.0)
    machine.setup(toy, start=False)
    assert machine.verbs == []
    machine.setup(toy)
    assert machine.verbs == [("restart", [name])]


def test_a_unit_that_does_not_come_up_is_named_and_stops_nothing(tmp_path, machine):
    toy, other = service(tmp_path), service(tmp_path / "b", name="other")
    machine.units = {
        u.name: system.UnitState(
            u.name, load="loaded", active="activating", enabled="enabled", restarts=2
        )
        for s in (toy, other)
        for u in s.units
    }
    machine.setup(toy, other)
    assert machine.commands == ["sync", "sync"]
    assert "not up yet: toy-api.service, other-api.service" in machine.said


def test_a_unit_its_defaults_file_does_not_choose_may_stay_down(tmp_path, machine, monkeypatch):
    proxy = unit("toy-proxy", [])
    machine.units = {
        proxy.name: system.UnitState(
            proxy.name, load="loaded", enabled="enabled", result="exec-condition", condition=False
        )
    }
    monkeypatch.setattr(system, "run_systemctl", lambda _verb, _names: system.Done(0, ""))
    machine.setup(service(tmp_path, units=[proxy], chosen=[proxy.name]))
    assert "toy-proxy.service ... not started: its defaults file" in machine.said
    assert "not up yet" not in machine.said


def test_a_unit_systemd_would_try_again_later_is_tried_now_and_waited_for(
    tmp_path, machine, monkeypatch
):
    """As on Debian 11, where a unit its gate refuses is tried every few seconds."""
    toy = service(tmp_path)
    name = toy.units[0].name
    trying = system.UnitState(
        name, load="loaded", active="activating", sub="auto-restart", enabled="enabled"
    )
    states = [
        trying,
        replace(trying, pending=True),
        replace(trying, active="active", sub="running"),
    ]
    monkeypatch.setattr(setup, "UP_SECONDS", 10)
    monkeypatch.setattr(system, "read_unit_states", lambda _names: {name: states.pop(0)})
    machine.setup(toy)
    assert machine.verbs == [("restart", [name])]
    assert states == []
    assert "not up yet" not in machine.said


def test_units_an_administrator_disabled_stay_so(tmp_path, machine):
    toy = service(tmp_path)
    machine.units = {toy.units[0].name: system.UnitState(toy.units[0].name, enabled="disabled")}
    machine.setup(toy)
    assert machine.verbs == []


# -- keystone's first user


def bootstrap(tmp_path, machine, **wishes):
    machine.setup(service(tmp_path, setup=[BOOTSTRAP]), **wishes)
    ((argv, _, env),) = machine.ran
    assert not [word for word in argv if "PW" in word]
    return {k: v for k, v in env.items() if k.startswith("OS_BOOTSTRAP")}


def test_the_first_password_goes_through_the_environment_alone(tmp_path, machine):
    env = bootstrap(tmp_path, machine, environment={"OS_BOOTSTRAP_PASSWORD": "PW", "OTHER": "x"})
    assert env == {
        "OS_BOOTSTRAP_PASSWORD": "PW",
        "OS_BOOTSTRAP_PUBLIC_URL": f"http://{socket.gethostname()}:5000/v3/",
        "OS_BOOTSTRAP_REGION_ID": "RegionOne",
    }
    assert "PW" not in machine.said


def test_the_command_line_goes_before_the_environment(tmp_path, machine):
    given = {"OS_BOOTSTRAP_PASSWORD": "PW", "OS_BOOTSTRAP_PUBLIC_URL": "http://a/",
             "OS_BOOTSTRAP_REGION_ID": "Two", "OS_BOOTSTRAP_USERNAME": "root"}  # fmt: skip
    env = bootstrap(tmp_path, machine, environment=given, options={"toy-url": "http://b/"})
    assert env["OS_BOOTSTRAP_PUBLIC_URL"] == "http://b/"
    assert (env["OS_BOOTSTRAP_REGION_ID"], env["OS_BOOTSTRAP_USERNAME"]) == ("Two", "root")


def test_a_repeated_bootstrap_keeps_the_addresses(tmp_path, machine):
    machine.state, machine.done = "current", {0: True}
    env = bootstrap(tmp_path, machine, environment={"OS_BOOTSTRAP_PASSWORD": "PW"})
    assert env == {"OS_BOOTSTRAP_PASSWORD": "PW"}


def test_without_a_password_and_a_terminal_it_says_how_to_give_one(tmp_path, machine, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(system.NodeError) as failed:
        machine.setup(service(tmp_path, setup=[BOOTSTRAP]))
    assert "OS_BOOTSTRAP_PASSWORD" in failed.value.hints[0]
    assert machine.ran == []
