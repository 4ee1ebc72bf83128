"""openstack-node restart: which units, in which order, and what is said."""

import time

import pytest
from nodeside import service, unit, write
from openstack_node import alone, cli, databases, gate, manifest, restarting, system
from twounits import API, WORKER, Node, state


@pytest.fixture
def node(tmp_path, monkeypatch):
    return Node(tmp_path, monkeypatch)


# -- what waits for a restart


def test_the_apis_come_last(node):
    names = ("a-api", "b-conductor", "c-uwsgi", "d-scheduler")
    units = [unit(n, [], kind="uwsgi" if n == "c-uwsgi" else "daemon") for n in names]
    ordered = [u.package for u in restarting.sort_units(service(node.root, units=units))]
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
    assert [u.name for u in restarting.list_pending(node.toy)] == ([API] if waits else [])


def test_a_unit_nobody_configured_yet_waits_for_no_restart(node):
    write(node.toy, "[database]\n")
    node.units = {API: state(API, "inactive", result="exec-condition", condition=False)}
    assert restarting.list_pending(node.toy) == []


def choose(node):
    """Make the worker one that needs nothing, and that a defaults file chooses or does not."""
    node.toy = service(node.root, units=[unit("toy-worker", [])], chosen=[WORKER])
    return state(WORKER, "inactive", result="exec-condition", condition=False)


def test_a_unit_its_defaults_file_does_not_choose_waits_for_no_restart(node):
    node.units = {WORKER: choose(node)}
    assert restarting.list_pending(node.toy) == []
    node.units = {WORKER: state(WORKER, "failed")}
    assert [u.name for u in restarting.list_pending(node.toy)] == [WORKER]


@pytest.mark.parametrize("fit", [False, True])
def test_one_whose_database_may_be_what_it_waits_for_is_tried(node, monkeypatch, fit):
    node.toy.data["chosen"] = [API]
    node.units = {API: state(API, "inactive", result="exec-condition", condition=False)}
    monkeypatch.setattr(gate, "is_fit", lambda _toy: fit)
    assert [u.name for u in restarting.list_pending(node.toy)] == ([] if fit else [API])


@pytest.mark.parametrize("start", ["manual", "boot"])
def test_what_is_not_started_with_its_package_waits_for_nothing(node, start):
    node.toy = service(node.root, units=[unit("toy-api", [], start=start)])
    node.units = {API: state(API, "inactive")}
    assert restarting.list_pending(node.toy) == []


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
    monkeypatch.setattr(system, "read_unit_states", lambda _names: {API: next(states)})
    monkeypatch.setattr(restarting, "is_replaced", lambda _toy, found: found.name == API)
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
    monkeypatch.setattr(system, "run_systemctl", lambda *_: system.Done(1, "Unit is masked.\n"))
    code, _, err = restart()
    assert code == 1
    assert "toy-worker.service: Unit is masked." in err
