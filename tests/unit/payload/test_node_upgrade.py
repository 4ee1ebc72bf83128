"""openstack-node upgrade: which steps there are, and what becomes of them when one fails."""

import dataclasses
import io
import json
import os
import sys

import nodeside
import pytest
from openstack_node import (
    alone,
    cli,
    databases,
    installing,
    manifest,
    restarting,
    system,
    tools,
    upgrade,
)
from openstack_node.journal import Journal
from twoseries import NEW, OLD, Unchanged, publish

CHECK = {"phase": "expand", "title": "look for what stands in the way", "accept": [0, 1],
         "command": ["toy-status", "upgrade", "check"], "again": 0, "package": ""}  # fmt: skip
SYNC = {"phase": "expand", "title": "bring the database to this release", "accept": [0],
        "command": ["toy-manage", "db", "sync"], "again": 0, "package": ""}  # fmt: skip
MOVE = {"phase": "contract", "title": "move data", "accept": [0],
        "command": ["toy-manage", "db", "move"], "again": 1, "package": ""}  # fmt: skip
ROWS = [CHECK, MOVE, SYNC]


def service(root, *, series=NEW, name="toy", needs=("connection",), rows=ROWS, installed=(),
            connection="mysql+pymysql://toy:SECRET@db/toy"):  # fmt: skip
    """Return a service of a series: an API, a worker, and a unit nobody starts."""
    chain = [f"{root}/etc/{name}/{name}.conf"]
    units = [
        nodeside.unit(f"{name}-api", chain, needs=needs),
        nodeside.unit(f"{name}-worker", chain, needs=needs),
        nodeside.unit(f"{name}-once", chain, start="manual"),
    ]
    made = nodeside.service(root, name=name, units=units, upgrade=list(rows),
                            package=f"{name}-common")  # fmt: skip
    if connection:
        nodeside.write(made, f"[database]\nconnection = {connection}\n")
    code = f"openstack-{series}-{name}"
    return dataclasses.replace(
        made, series=series, installed=made.installed | {code, *(installed or [f"{name}-common"])}
    )


def move(root, **how):
    """Return the way of a service from the old series to the new one."""
    return upgrade.Move(service(root, series=OLD, **how), service(root, **how))


class Said:
    """Takes what is said to a person."""

    def __init__(self):
        self.text = ""

    def __call__(self, text):
        self.text += text


def wishes(**how):
    return upgrade.Wishes(NEW, Said(), **how)


def keys(moves, *, everything=True, **how):
    return [s.key for s in upgrade.list_steps(moves, wishes(**how), everything=everything)]


# -- the steps


def test_a_service_nobody_configured_has_no_databases_to_move(tmp_path):
    assert not [
        k for k in keys([move(tmp_path, connection="")]) if "expand" in k or "contract" in k
    ]


def test_a_service_goes_packages_databases_daemons_and_then_the_rest(tmp_path):
    found = upgrade.list_steps([move(tmp_path)], wishes(), everything=True)
    assert [(s.key, s.text, s.command) for s in found] == [
        (f"source/{OLD}", f"add an apt source of {NEW}", "apt-get update"),
        (
            "toy/packages",
            f"install the packages of {NEW}",
            "apt-get install toy-api toy-common toy-once toy-worker",
        ),
        ("toy/expand-0", "look for what stands in the way", "toy-status upgrade check"),
        ("toy/expand-2", "bring the database to this release", "toy-manage db sync"),
        (
            "toy/restart",
            "restart the units that run the old code",
            "systemctl restart toy-worker.service toy-api.service",
        ),
        ("toy/contract-1", "move data", "toy-manage db move"),
        (
            "node/settle",
            f"move the rest of this node to {NEW}",
            f"apt-get install openstack-{NEW}-archive ...",
        ),
    ]


def test_a_node_without_databases_has_packages_and_daemons(tmp_path):
    found = keys([move(tmp_path, needs=["transport_url"])])
    assert found == [f"source/{OLD}", "toy/packages", "toy/restart", "node/settle"]


def test_a_way_back_leaves_out_what_the_release_before_cannot_live_with(tmp_path):
    assert keys([move(tmp_path)], reversible=True) == [
        *(f"source/{OLD}", "toy/packages", "toy/expand-0", "toy/expand-2", "toy/restart")
    ]


def test_named_services_do_not_settle_the_node(tmp_path):
    assert "node/settle" not in keys([move(tmp_path)], everything=False)


def test_one_service_after_the_other(tmp_path):
    moves = [move(tmp_path / "a", name="first", rows=[SYNC]), move(tmp_path, rows=[MOVE])]
    assert keys(moves, everything=False) == [
        *(f"source/{OLD}", "first/packages", "first/expand-0", "first/restart"),
        *("toy/packages", "toy/restart", "toy/contract-0"),
    ]


def test_of_what_moved_already_the_databases_are_left(tmp_path):
    """As after plain apt, or without --reversible once all nodes have moved."""
    there = service(tmp_path)
    assert keys([upgrade.Move(there, there)]) == [
        *("toy/expand-0", "toy/expand-2", "toy/restart", "toy/contract-1", "node/settle")
    ]


def test_a_command_of_a_package_is_for_nodes_that_have_it(tmp_path):
    rows = [{**SYNC, "package": "toy-api"}, {**MOVE, "package": "toy-plugin"}]
    assert keys([move(tmp_path, rows=rows)], everything=False)[2:] == [
        *("toy/expand-0", "toy/restart")
    ]
    some = keys([move(tmp_path, rows=rows, installed=["toy-plugin"])], everything=False)
    assert some[-1] == "toy/contract-1"


def test_a_manifest_that_knows_no_upgrades_has_packages_and_daemons(tmp_path):
    old = move(tmp_path)
    del old.later.data["upgrade"]
    assert keys([old], everything=False) == [f"source/{OLD}", "toy/packages", "toy/restart"]


@pytest.mark.parametrize("where", ["toy.conf", "toy.conf.d/levels.conf"])
def test_what_negotiates_with_other_nodes_is_restarted_once_more(tmp_path, where):
    """As daemons start they look what those of an older release understand."""
    there = service(tmp_path)
    there.data["negotiated_by"] = "levels/toy"
    moves = [upgrade.Move(there, there)]
    assert "toy/again" not in keys(moves)
    chain = there.units[0].configs
    chain.append(f"{tmp_path}/etc/toy/toy.conf.d/")
    with (tmp_path / "etc/toy" / where).open("a") as file:
        file.write("[levels]\ntoy = auto\n")
    assert keys(moves)[-3:] == ["toy/contract-1", "toy/again", "node/settle"]
    assert "toy/again" not in keys(moves, reversible=True)


def test_what_always_negotiates_is_restarted_once_more(tmp_path):
    there = service(tmp_path)
    there.data["negotiated_by"] = "start"
    assert "toy/again" in keys([upgrade.Move(there, there)])


def test_a_node_without_databases_is_restarted_once(tmp_path):
    """It would learn nothing by a second time: its own daemons were the old ones."""
    there = service(tmp_path, connection="")
    there.data["negotiated_by"] = "levels/toy"
    nodeside.write(there, "[levels]\ntoy = auto\n")
    assert keys([upgrade.Move(there, there)]) == ["toy/restart", "node/settle"]


# -- walking them


class Walk:
    """Three steps of which one may fail, and a journal."""

    def __init__(self, root):
        self.path, self.ran, self.fails = root / "state/upgrade.json", [], ""
        self.noted = []

    def step(self, key):
        def run():
            done = json.loads(self.path.read_text())["done"] if self.path.exists() else []
            self.noted.append(done)
            self.ran.append(key)
            if key == self.fails:
                raise system.NodeError("it is bad", "make it good")

        return upgrade.Step(key, f"do {key}", f"command of {key}", run)

    def go(self, series=NEW):
        self.ran, wish = [], upgrade.Wishes(series, Said())
        steps = [self.step(k) for k in ("toy/one", "toy/two", "other/one")]
        upgrade.walk(steps, Journal(series, self.path), wish)
        return wish.say.text


@pytest.fixture
def walk(tmp_path, monkeypatch):
    monkeypatch.setattr(upgrade, "_log", lambda _line: None)
    return Walk(tmp_path)


def test_steps_are_told_by_service(walk):
    assert walk.go() == (
        "toy\n  do toy/one ... done (0 s)\n  do toy/two ... done (0 s)\n"
        "other\n  do other/one ... done (0 s)\n"
    )


def test_what_is_done_is_on_the_disk_before_what_comes_next(walk):
    walk.go()
    assert walk.noted == [[], ["toy/one"], ["toy/one", "toy/two"]]


def test_the_same_command_goes_on_where_it_failed(walk):
    walk.fails = "toy/two"
    with pytest.raises(system.NodeError, match="it is bad") as failed:
        walk.go()
    assert failed.value.hints == ["make it good", f"openstack-node upgrade {NEW} resumes from here"]
    assert walk.ran == ["toy/one", "toy/two"]
    walk.fails = ""
    assert "  do toy/one ... already done\n  do toy/two ... done (0 s)\n" in walk.go()
    assert walk.ran == ["toy/two", "other/one"]


def test_a_step_that_was_interrupted_is_done_again(walk):
    def interrupted():
        raise KeyboardInterrupt

    steps = [walk.step("toy/one"), upgrade.Step("toy/two", "", "", interrupted)]
    with pytest.raises(KeyboardInterrupt):
        upgrade.walk(steps, Journal(NEW, walk.path), wishes())
    walk.go()
    assert walk.ran == ["toy/two", "other/one"]


def test_what_was_done_for_another_series_does_not_count(walk):
    walk.go()
    walk.go("2026.2")
    assert walk.ran == ["toy/one", "toy/two", "other/one"]


# -- the commands of the new code


class Node:
    """A service of the new series: its commands end as the test says."""

    def __init__(self, root, monkeypatch):
        self.ran, self.codes, self.state = [], {}, "current"
        self.toy = service(root)
        self.schema = databases.Schema("main", "current", "", "toy", "db", "toy")
        self.broker = databases.Schema("rabbit", "current", "", "toy", "mq", "/")
        monkeypatch.setattr(system, "run", self.run)
        monkeypatch.setattr(manifest, "load", lambda _names: [self.toy])
        monkeypatch.setattr(databases, "ask", lambda _toy, _files, **_: databases.Answer(
            {"main": dataclasses.replace(self.schema, state=self.state)}, broker=self.broker
        ))  # fmt: skip

    def run(self, argv, *, user="", **_options):
        self.ran.append((argv[0].rpartition("/bin/")[2], *argv[1:]))
        assert user == "toy"
        codes = self.codes.get(argv[-1], [0])
        return system.Done(codes.pop(0) if len(codes) > 1 else codes[0], "mysql://u:SECRET@db\n")

    def do(self, key, **how):
        there = upgrade.Move(self.toy, self.toy)
        (step,) = (
            s for s in upgrade.list_steps([there], wishes(**how), everything=True) if s.key == key
        )
        step.run()


@pytest.fixture
def node(tmp_path, monkeypatch):
    return Node(tmp_path, monkeypatch)


def test_a_command_is_of_the_new_tree(node):
    node.do("toy/expand-2")
    assert node.ran == [("toy-manage", "db", "sync")]


def test_what_says_that_there_is_more_is_run_again(node):
    node.codes = {"move": [1, 1, 1, 0]}
    node.do("toy/contract-1")
    assert node.ran == [("toy-manage", "db", "move")] * 4


@pytest.mark.parametrize("codes", [[1, 2], [2], [None]])
def test_what_cannot_go_on_is_not_run_again(node, codes):
    node.codes = {"move": [*codes]}
    with pytest.raises(
        system.NodeError, match=r"toy-manage db move (exited with status 2|timed out)"
    ):
        node.do("toy/contract-1")
    assert len(node.ran) == len(codes)


def test_what_never_ends_is_given_up(node, monkeypatch):
    monkeypatch.setattr(upgrade, "MOST_TURNS", 5)
    node.codes = {"move": [1]}
    with pytest.raises(system.NodeError, match="exited with status 1"):
        node.do("toy/contract-1")
    assert len(node.ran) == 5


@pytest.mark.parametrize("code", [0, 1])
def test_a_check_with_warnings_is_no_hindrance(node, code):
    node.codes = {"check": [code]}
    node.do("toy/expand-0")


@pytest.mark.parametrize("code", [2, 255, None])
def test_a_check_that_fails_is_one_unless_a_person_says_otherwise(node, code):
    node.codes = {"check": [code]}
    with pytest.raises(system.NodeError, match="toy-status upgrade check") as failed:
        node.do("toy/expand-0")
    assert "SECRET" not in failed.value.details
    node.do("toy/expand-0", checks=False)


TABLE = """\
+------------------------------------------------------------------+
| Upgrade Check Results                                            |
+------------------------------------------------------------------+
| Check: Policy File                                               |
| Result: Success                                                  |
| Details: None                                                    |
+------------------------------------------------------------------+
| Check: Older than N-1 computes                                   |
| Result: Failure                                                  |
| Details: Current Nova version does not support computes older    |
|   than Epoxy                                                     |
+------------------------------------------------------------------+
| Check: hw_machine_type unset                                     |
| Result: Warning                                                  |
| Details: look                                                    |
+------------------------------------------------------------------+
"""


def test_of_a_check_that_fails_its_name_and_details_are_told(node, monkeypatch):
    monkeypatch.setattr(tools, "run", lambda *_: system.Done(2, TABLE))
    with pytest.raises(system.NodeError, match="toy-status upgrade check") as failed:
        node.do("toy/expand-0")
    assert failed.value.details == (
        "Older than N-1 computes: Current Nova version does not support computes older than Epoxy"
    )
    assert "to continue anyway, pass --skip-checks" in failed.value.hints


def test_without_checks_all_else_still_counts(node):
    node.codes = {"sync": [1]}
    with pytest.raises(system.NodeError, match="toy-manage db sync exited with status 1") as failed:
        node.do("toy/expand-2", checks=False)
    assert "/var/log/toy/toy-manage.log" in failed.value.hints[0]


@pytest.mark.parametrize("state", ["current", "behind", "ahead", "empty"])
def test_a_database_is_looked_at_first_and_may_be_at_any_revision(node, state):
    node.state = state
    node.do("toy/expand-2")
    assert node.ran


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("denied", "refuses the user toy"),
        ("unreachable", "cannot be reached"),
        ("unset", "is not set"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_before_anything_runs(node, state, words):
    node.state = state
    with pytest.raises(system.NodeError, match=words):
        node.do("toy/expand-2")
    assert node.ran == []


@pytest.fixture
def restarted(monkeypatch):
    """Return the list of what is restarted; the API alone runs with old code."""
    done = []
    monkeypatch.setattr(
        restarting, "is_replaced", lambda _toy, state: state.name == "toy-api.service"
    )
    monkeypatch.setattr(system, "read_unit_states", lambda names: {
        n: system.UnitState(n, active="active", enabled="enabled") for n in names
    })  # fmt: skip
    monkeypatch.setattr(system, "run_systemctl", lambda verb, names: (
        done.append((verb, *names)) or system.Done(0, "")
    ))  # fmt: skip
    return done


def test_only_units_with_old_code_are_restarted(node, restarted):
    node.do("toy/restart")
    assert restarted == [("restart", "toy-api.service")]


def test_a_systemd_that_does_not_answer_is_no_node_without_units(node, monkeypatch):
    """All would go on with the old code, and the step be noted as done."""
    monkeypatch.setattr(os.path, "isdir", lambda _path: True)
    monkeypatch.setattr(system, "run", lambda *_a, **_k: system.Done(None, ""))
    with pytest.raises(system.NodeError, match="systemctl show failed: no answer within 60 s"):
        node.do("toy/restart")


@pytest.mark.parametrize("chosen", [[], ["toy-proxy.service"]])
@pytest.mark.usefixtures("node")
def test_what_ran_before_is_started_again_unless_it_is_not_chosen(
    tmp_path, restarted, monkeypatch, chosen
):
    toy = nodeside.service(tmp_path, units=[nodeside.unit("toy-proxy", [])], chosen=chosen)
    states = [
        system.UnitState(
            "toy-proxy.service", enabled="enabled", result="exec-condition", condition=False
        ),
        system.UnitState("toy-proxy.service", active="active", enabled="enabled"),
    ]
    monkeypatch.setattr(manifest, "load", lambda _names: [toy])
    monkeypatch.setattr(system, "read_unit_states", lambda _names: {
        "toy-proxy.service": states[len(restarted)]
    })  # fmt: skip
    upgrade.start_again(["toy"], ["toy-proxy.service"], wishes())
    assert restarted == ([] if chosen else [("restart", "toy-proxy.service")])


def test_what_negotiates_is_restarted_whatever_code_it_runs(node, restarted):
    node.toy.data["negotiated_by"] = "database/connection"
    nodeside.write(node.toy, "[database]\nconnection = x\n")
    node.do("toy/again")
    assert restarted == [("restart", "toy-worker.service"), ("restart", "toy-api.service")]


@pytest.mark.parametrize(
    ("state", "words"), [("unreachable", "cannot be reached"), ("denied", "refuses the user toy")]
)
def test_no_daemon_is_restarted_while_its_broker_is_away(node, restarted, state, words):
    node.broker = dataclasses.replace(node.broker, state=state)
    with pytest.raises(system.NodeError, match=f"toy: the broker at mq {words}"):
        node.do("toy/restart")
    assert restarted == []


# -- packages, with the real apt


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("repo"))


@pytest.fixture
def machine(tmp_path, repo, monkeypatch):
    return Unchanged(tmp_path, repo, monkeypatch)


def test_what_moves_is_read_from_the_new_packages(machine, tmp_path):
    old = service(tmp_path, series=OLD)
    there = dataclasses.replace(service(tmp_path / "b", name="first"), order=1)
    first, second = upgrade.prepare([old, there], NEW)
    assert (first.service, first.moves) == (there, False)
    assert (second.service, second.moves, second.later.series) == (old, True, NEW)
    assert str(second.later.tree) == f"/usr/lib/openstack/{NEW}"
    assert not machine.source(NEW).exists()
    assert machine.installed == []


def test_rows_that_are_too_old_are_refused_before_the_first_step(tmp_path, monkeypatch):
    rule = {"remove": "toy-manage remove {id}", "floor": "2", "floor_file": "", "unless": "",
            "query": "", "schema": "main"}  # fmt: skip
    there = service(tmp_path)
    there.data["records"] = [rule]
    old = databases.Record(0, "7", "gone", "toy-worker", off=False, age=None, old=True)
    asked = []

    def ask(toy, files, *, records):
        asked.append((toy.name, files, records))
        return databases.Answer(records=[old])

    monkeypatch.setattr(databases, "ask", ask)
    moves = upgrade.prepare([there], NEW)
    assert asked == [("toy", [], True)]
    assert moves[0].records == [old]
    with pytest.raises(system.NodeError, match=f"a row of a daemon is too old for {NEW}"):
        upgrade.refuse(moves, wishes())
    upgrade.refuse(moves, wishes(checks=False))


@pytest.mark.parametrize("names", [["toy-api"], ["toy-api", "toy-common"], ["openstack-node"]])
def test_packages_on_hold_are_named_before_the_first_step(machine, tmp_path, names):
    """apt would stop at them between two services."""
    machine.hold(*names)
    with pytest.raises(system.NodeError, match=rf"on hold.*: {', '.join(names)}$") as caught:
        upgrade.prepare([service(tmp_path, series=OLD, installed=["toy-common", "toy-api"])], NEW)
    assert caught.value.hints == [f"apt-mark unhold {' '.join(names)}"]
    assert not machine.source(NEW).exists()


def test_what_a_power_cut_left_is_no_reason_to_stop(machine, tmp_path):
    status = machine.root / "var/lib/dpkg/status"
    text = status.read_text().replace("Depends: toy-common (= 1:1.0-1)", "Depends: toy-gone")
    status.write_text(text)
    (found,) = upgrade.prepare([service(tmp_path, series=OLD)], NEW)
    assert found.moves


def test_what_is_on_hold_and_stays_as_it_is_keeps_nothing(machine, tmp_path):
    machine.hold("other", "shared")
    installed = ["toy-common", "toy-api"]
    (found,) = upgrade.prepare([service(tmp_path, series=OLD, installed=installed)], NEW)
    assert found.moves


@pytest.mark.parametrize(
    ("packages", "why"),
    [("toy-common toy-api", "has no newer toy-common"), ("toy-api", "would remove .*: toy-api")],
)
def test_what_a_pin_keeps_is_named_before_the_first_step(machine, tmp_path, packages, why):
    pin = f"Package: {packages}\nPin: version 1:1.0*\nPin-Priority: 999\n"
    (machine.etc / "preferences.d/mine").write_text(pin)
    toy = service(tmp_path, series=OLD, installed=["toy-common", "toy-api"])
    with pytest.raises(system.NodeError, match=why) as caught:
        upgrade.prepare([toy], NEW)
    assert "apt-cache policy" in caught.value.hints[0]
    assert not machine.source(NEW).exists()


def test_a_step_upstream_does_not_support_is_refused(machine, tmp_path):
    text = machine.source(OLD).read_text()
    machine.source(OLD).write_text(text.replace(f"bookworm-{OLD}", "bookworm-2024.2"))
    with pytest.raises(system.NodeError, match=r"no upgrade from 2024\.2 to 2026\.1"):
        upgrade.prepare([service(tmp_path, series="2024.2")], NEW)


def test_the_new_series_own_command_does_the_rest(machine, monkeypatch):
    """It is given the words of the first, and does not ask a second time."""
    argv = ["/usr/bin/openstack-node", "upgrade", NEW, "toy"]
    ran = []
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(os, "execv", lambda path, words: ran.append((path, words)))
    wish = wishes()
    upgrade._add_source(OLD, wish)
    assert machine.installed == [["openstack-node"]]
    assert machine.candidate("openstack-node") == "1:2.0-1"
    assert machine.moved("full-upgrade") == ["openstack-node"]
    assert ran == []  # it is the newest already
    versions = iter([{"openstack-node": "1:1.0-1"}, {"openstack-node": "1:2.0-1"}])
    monkeypatch.setattr(system, "list_versions", lambda _names: next(versions))
    upgrade._add_source(OLD, wish)
    assert ran == [(argv[0], [*argv, "--yes"])]
    assert cli.parse(ran[0][1][1:]).yes


def test_the_packages_of_a_service_are_installed_and_no_others(machine, tmp_path, monkeypatch):
    machine.sources.add(OLD, NEW)
    machine.update()
    old = service(tmp_path, series=OLD, installed=["toy-common", "gone"])
    monkeypatch.setattr(manifest, "load", lambda _names: [service(tmp_path)])
    machine.auto = ["toy-common"]
    upgrade._install(upgrade.Move(old, service(tmp_path)), wishes())
    assert machine.installed == [["toy-api", "toy-common"]]
    # What was half done is brought to an end first, what nobody asked for stays so.
    assert machine.order[-5:] == ["dpkg-query", "apt-mark", "apt-cache", "install", "apt-mark"]
    assert machine.candidate("other") == "1:1.0-1"


def test_a_service_that_does_not_move_is_told(machine, tmp_path, monkeypatch):
    machine.sources.add(OLD, NEW)
    machine.update()
    old = service(tmp_path, series=OLD)
    monkeypatch.setattr(manifest, "load", lambda _names: [old])
    with pytest.raises(system.NodeError, match=rf"toy is still at {OLD}") as failed:
        upgrade._install(upgrade.Move(old, service(tmp_path)), wishes())
    assert "apt-cache policy toy-common" in failed.value.hints[0]


def test_in_the_end_what_belongs_to_no_service_follows(machine, monkeypatch):
    machine.sources.add(OLD, NEW)
    machine.sources.choose("toy", f"bookworm-{NEW}")
    install, mine = installing.install, f"openstack-{NEW}-archive"

    def archive(names, *options):
        if names == [mine]:
            machine.install_archive()
        else:
            install(names, *options)

    monkeypatch.setattr(installing, "install", archive)
    upgrade._settle(wishes())
    (names,) = machine.installed
    assert sorted(names) == ["openstack-node", "other", "shared", "toy-api", "toy-common"]


# -- the command line


@pytest.mark.parametrize(
    ("words", "services"),
    [
        (f"upgrade {NEW}", []),
        (f"upgrade {NEW} keystone nova", ["keystone", "nova"]),
        (f"upgrade {NEW} --yes keystone --reversible nova", ["keystone", "nova"]),
        (f"upgrade --yes {NEW} keystone", ["keystone"]),
        (f"upgrade {NEW} keystone --yes", ["keystone"]),
        ("restart nova", ["nova"]),
        ("rollback keystone", ["keystone"]),
        (f"rollback --to {OLD} keystone", ["keystone"]),
        (f"rollback keystone --to {OLD}", ["keystone"]),
    ],
)
def test_services_come_before_and_behind_options(words, services):
    found = cli.parse(words.split())
    assert found.services == services
    assert "yes" not in found or found.yes == ("--yes" in words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"upgrade {NEW} --revresible", "unrecognized arguments: --revresible"),
        (f"upgrade {NEW} toy --no-such other", "unrecognized arguments: --no-such"),
        ("upgrade", "the following arguments are required: SERIES"),
        ("rollback", "the following arguments are required: SERVICE"),
        ("rollback keystone nova", "unrecognized arguments: nova"),
        (f"rollback keystone --to {OLD} nova", "unrecognized arguments: nova"),
    ],
)
def test_a_wrong_word_does_nothing(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parse(words.split())
    assert ended.value.code == 3
    assert said in capsys.readouterr().err


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return what runs `openstack-node upgrade`; its steps and its journal are the test's."""
    moves = [move(tmp_path)]
    walked = []
    monkeypatch.setattr(system, "is_root", lambda: True)
    monkeypatch.setattr(manifest, "load", lambda _names: [moves[0].service])
    monkeypatch.setattr(alone, "RUN", tmp_path)
    monkeypatch.setattr(upgrade, "prepare", lambda _services, _series: moves)
    path = tmp_path / "state/upgrade.json"
    monkeypatch.setattr(cli, "Journal", lambda series: Journal(series, path))
    monkeypatch.setattr(upgrade, "_log", lambda _line: None)
    steps = upgrade.list_steps

    def harmless(*args, **how):
        found = steps(*args, **how)
        return [dataclasses.replace(s, run=lambda s=s: walked.append(s.key)) for s in found]

    monkeypatch.setattr(upgrade, "list_steps", harmless)

    def run(*words, answer=None):
        if answer is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
            monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        walked.clear()
        code = cli.main(["upgrade", NEW, *words])
        said = capsys.readouterr()
        return code, said.out, said.err, [*walked]

    run.path = path
    return run


def test_a_dry_run_shows_the_steps_and_does_nothing(command):
    code, out, _, walked = command("--dry-run")
    assert code == 0
    assert "toy        bring the database to this release\n           toy-manage db sync\n" in out
    assert walked == []
    assert not command.path.exists()


def test_all_steps_are_done_and_then_forgotten(command):
    code, _, _, walked = command("--yes")
    assert code == 0
    assert walked[0] == f"source/{OLD}"
    assert walked[-1] == "node/settle"
    assert not command.path.exists()


@pytest.mark.usefixtures("node")
def test_what_ran_before_is_noted_and_runs_in_the_end(command, monkeypatch):
    """Somebody restarts a unit while the database is behind, and it stays down."""

    def found(**active):
        return lambda names: {
            n: system.UnitState(n, active=active.get(n[4:-8], "inactive"), enabled="enabled")
            for n in names
        }

    noted, started = [], []
    walk = upgrade.walk

    def interrupted(todo, journal, wish):
        noted.append(json.loads(command.path.read_text())["running"])
        monkeypatch.setattr(system, "read_unit_states", found(api="failed"))
        if len(noted) == 1:
            raise system.NodeError("it is bad")
        walk(todo, journal, wish)

    monkeypatch.setattr(upgrade, "walk", interrupted)
    monkeypatch.setattr(
        restarting, "restart_units", lambda _toy, units, _say: started.append(units)
    )
    monkeypatch.setattr(system, "read_unit_states", found(api="active", worker="activating"))
    assert command("--yes")[0] == 1
    code, out, _, _ = command("--yes")
    assert code == 0
    assert noted == [["toy-api.service", "toy-worker.service"]] * 2
    assert [[u.name for u in units] for units in started] == [
        ["toy-worker.service", "toy-api.service"]
    ]
    assert out.endswith("toy\n  start the units that ran before ... done\n")


def test_a_person_is_asked_before_it_begins(command):
    code, out, err, walked = command(answer="n\n")
    assert (code, walked) == (1, [])
    assert f"7 steps to {NEW} (--dry-run shows them). Begin?" in out
    assert "nothing was done" in err
    assert command(answer="y\n")[3][-1] == "node/settle"


def test_where_nobody_is_there_to_ask_it_does_not_begin(command, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    code, _, err, walked = command()
    assert (code, walked) == (1, [])
    assert "--yes" in err


def test_named_services_and_a_way_back_reach_the_steps(command):
    assert "node/settle" not in command("--yes", "toy")[3]
    assert not [k for k in command("--yes", "--reversible")[3] if "contract" in k]
