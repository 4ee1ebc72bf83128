"""start-gate: whether a unit may start, and how often its databases are asked."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from nodeside import ROOT, SCHEMA, service, unit, write
from openstack_node import databases, gate, manifest

EXPAND = databases.Migration("e1", "add a column", removes=False)
CONTRACT = databases.Migration("c1", "take a column", removes=True, contract=True)
UNTITLED = databases.Migration("u1", "", removes=True)
BEHIND = "not started: the database toy at db is behind the code of 2099.1"
AHEAD = "not started: the database toy at db has moved past 2099.1: take a column"


def schema(state, name="main", **lists):
    return databases.Schema(name, state, "", "toy", "db", "toy", **lists)


class Node:
    """A service as it is installed, whose database is as the test says."""

    def __init__(self, root, monkeypatch, capsys):
        self.root, self.capsys, self.asked = root, capsys, 0
        self.site, self.run = root / "site", root / "run/toy"
        (self.site / "toy/versions").mkdir(parents=True)
        self.run.mkdir(parents=True)
        self.toy = service(root)
        write(self.toy, "[database]\nconnection = x\n")
        units = [unit("toy-api", self.toy.units[0].configs, kind="uwsgi", needs=["connection"])]
        data = {
            "format": 1, "title": "Toy", "series": "2099.1", "tree": str(root / "tree"),
            "user": "toy", "order": 1, "package": "toy-common", **self.toy.data,
            "packages": ["openstack-2099.1-toy", "toy-common", "toy-api"],
            "units": [vars(u) for u in units],
        }  # fmt: skip
        self.manifest = root / "services/toy.json"
        self.manifest.parent.mkdir()
        self.manifest.write_text(json.dumps(data))
        self.answer = databases.Answer({"main": schema("current")})
        shipped = manifest.load_shipped
        monkeypatch.setattr(manifest, "SERVICES", self.manifest.parent)
        monkeypatch.setattr(manifest, "load_shipped", lambda n: shipped(n, self.manifest.parent))
        monkeypatch.setattr(gate, "RUN", root / "run")
        monkeypatch.setattr(databases, "ask", self.ask)

    def ask(self, toy, files, later_site=""):
        assert toy.wants_database
        assert (files, later_site) == ([], "")
        self.asked += 1
        return self.answer

    def is_at(self, state, **lists):
        self.answer = databases.Answer({"main": schema(state, **lists)})

    def start(self):
        """Return what the gate ends with and prints when a unit is about to start."""
        code = gate.main("toy", "toy-api")
        return code, self.capsys.readouterr().out


@pytest.fixture
def node(tmp_path, monkeypatch, capsys):
    return Node(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("state", "lists"),
    [
        ("current", {}),
        ("behind", {"pending": [CONTRACT]}),
        ("ahead", {"later": [EXPAND]}),
        # What it did nobody here knows: another node moved the database on.
        ("ahead", {"later": [UNTITLED]}),
        # The daemon says these better, and setup brings the tables.
        ("empty", {}),
        ("unset", {}),
        ("malformed", {}),
        ("denied", {}),
        ("missing", {}),
        ("unknown", {}),
        ("error", {}),
    ],
)
def test_a_unit_starts_and_nothing_is_printed(node, state, lists):
    node.is_at(state, **lists)
    assert node.start() == (0, "")


@pytest.mark.parametrize(
    ("state", "lists", "said"),
    [
        (
            "behind",
            {"pending": [EXPAND, CONTRACT]},
            f"{BEHIND}; openstack-node upgrade 2099.1 toy\n",
        ),
        ("ahead", {"later": [EXPAND, CONTRACT]}, f"{AHEAD}; install the later release again\n"),
    ],
)
def test_a_unit_is_held_back_with_what_to_do(node, state, lists, said):
    node.is_at(state, **lists)
    assert node.start() == (78, said)


def test_a_database_that_does_not_answer_is_tried_again(node):
    node.is_at("unreachable")
    assert node.start() == (255, "not started: the database toy at db cannot be reached\n")


def test_a_database_that_is_behind_counts_before_one_that_does_not_answer(node):
    toy = service(node.root, schemas=[{**SCHEMA, "name": "api"}, SCHEMA])
    schemas = {"api": schema("unreachable", "api"), "main": schema("behind", pending=[EXPAND])}
    assert gate.judge(toy, databases.Answer(schemas)).code == 78


def test_a_probe_that_finds_nothing_out_holds_nothing_back(node):
    node.answer = databases.Answer(error="no answer within 45 s")
    assert node.start() == (0, "")


@pytest.mark.parametrize("state", ["behind", "ahead", "unreachable"])
def test_further_cells_are_other_nodes_affair(node, state):
    cell = schema(state, "cell 2", pending=[EXPAND], later=[CONTRACT])
    node.answer = databases.Answer({"main": schema("current"), "cell 2": cell})
    assert node.start() == (0, "")


def test_a_service_nobody_here_knows_starts(node):
    assert gate.main("other", "toy-api") == 0
    assert node.asked == 0


# -- what nobody configured yet


@pytest.mark.parametrize(
    "text", ["", "[database]\n", "[database]\nconnection =\n", "# connection = x\n"]
)
def test_a_unit_nobody_configured_is_held_back_with_option_and_file(node, text):
    write(node.toy, text)
    place = node.toy.configs[0]
    said = f"not started: not configured yet: [database] connection in {place} is not set\n"
    assert node.start() == (78, said)
    assert node.asked == 0


@pytest.mark.parametrize("place", ["toy.conf.d/x.conf", "elsewhere/x.conf", "cell.conf"])
def test_the_option_may_be_in_any_file_a_drop_in_may_name(node, place):
    write(node.toy, "")
    path = Path(node.toy.data["directory"], place)
    path.parent.mkdir(exist_ok=True)
    path.write_text("[other]\nconnection: x\n")
    assert node.start() == (0, "")


def test_the_option_may_be_in_the_units_environment(node, monkeypatch):
    write(node.toy, "")
    monkeypatch.setenv("OS_API_DATABASE__CONNECTION", "x")
    assert node.start() == (0, "")


def test_a_unit_without_a_database_asks_none(node):
    toy = json.loads(node.manifest.read_text())
    toy["units"][0].update(kind="daemon", needs=["transport_url"])
    node.manifest.write_text(json.dumps(toy))
    assert node.start()[0] == 78
    write(node.toy, "[DEFAULT]\ntransport_url = x\n")
    assert node.start() == (0, "")
    assert node.asked == 0


@pytest.mark.parametrize("program", ["start-gate", "schema-gate"])
def test_a_gate_that_breaks_has_the_start_tried_again(program, tmp_path):
    """Python's own status of a failure, 1, is one that nova-conductor's unit takes for success."""
    (tmp_path / "openstack_node").mkdir()
    (tmp_path / "openstack_node/gate.py").write_text("half a mod")
    for name in ("start-gate", "schema-gate"):
        text = (ROOT / "debian-templates/node" / name).read_text()
        text = text.replace("/usr/share/openstack-node", str(tmp_path))
        gated = tmp_path / name
        gated.write_text(text.replace("/usr/libexec/openstack-node", str(tmp_path)))
        gated.chmod(0o755)
    argv = [tmp_path / program, "toy", "toy-api"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, "SyntaxError" in done.stderr) == (255, True)


# -- what was found is noted


@pytest.mark.parametrize(
    ("state", "lists"),
    [("current", {}), ("behind", {"pending": [CONTRACT]}), ("ahead", {"later": [EXPAND]})],
)
def test_the_second_unit_does_not_ask_again(node, state, lists):
    node.is_at(state, **lists)
    assert [node.start(), node.start()] == [(0, "")] * 2
    assert node.asked == 1


@pytest.mark.parametrize(
    "state", ["behind", "unreachable", "empty", "unset", "denied", "unknown", "error"]
)
def test_what_is_not_in_order_is_asked_again(node, state):
    node.is_at(state, pending=[EXPAND])
    node.start()
    node.is_at("current")
    assert node.start() == (0, "")
    assert node.asked == 2


def test_a_probe_that_found_nothing_out_is_asked_again(node):
    node.answer = databases.Answer(error="no answer within 45 s")
    node.start()
    node.start()
    assert node.asked == 2


def touch(path):
    """Have a file's times differ, however coarse the file system's are."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        os.utime(path)


@pytest.mark.parametrize("what", ["configuration", "drop-in", "manifest", "migrations"])
def test_new_code_and_configuration_are_asked_about_anew(node, what):
    node.start()
    if what == "drop-in":
        write(node.toy, "[database]\nconnection = y\n", "more.conf")
    else:
        files = {
            "configuration": node.root / "etc/toy/toy.conf",
            "manifest": node.manifest,
            "migrations": node.site / "toy/versions",
        }
        touch(files[what])
    node.is_at("behind", pending=[EXPAND])
    assert node.start()[0] == 78
    assert node.asked == 2


def test_a_note_of_before_is_gone_when_the_database_is_in_order_no_more(node):
    """Else the former configuration, put back, would be taken for one that was looked at."""
    node.start()
    assert (node.run / "schema").read_bytes()
    touch(node.manifest)
    node.is_at("unreachable")
    node.start()
    assert not (node.run / "schema").read_bytes()


def test_where_nothing_can_be_noted_every_unit_asks(node):
    node.run.rmdir()
    assert [node.start(), node.start()] == [(0, "")] * 2
    assert node.asked == 2


def test_a_note_is_no_way_to_write_elsewhere(node):
    (node.run / "schema").symlink_to(node.root / "elsewhere")
    assert node.start() == (0, "")
    assert not (node.root / "elsewhere").exists()


# -- the code of another series


def test_the_newest_other_tree_of_the_service_is_found(tmp_path):
    toy = service(tmp_path, site=str(tmp_path / "2025.1/lib/python3/dist-packages"))
    assert gate.find_later_site(toy, tmp_path) == ""
    for series in ("2025.1", "zed", "2023.2", "2024.1"):
        (tmp_path / series / "lib/python3/dist-packages/toy/versions").mkdir(parents=True)
    # Of this one other services are here, and not this.
    (tmp_path / "2026.1/lib/python3/dist-packages/other/versions").mkdir(parents=True)
    assert gate.find_later_site(toy, tmp_path) == str(tmp_path / "2024.1/lib/python3/dist-packages")
