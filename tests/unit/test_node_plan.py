"""openstack-node plan: what a move to another series would do, by the real apt."""

import dataclasses
import json

import nodeside
import pytest
from openstack_node import apt, cli, plan, system
from publishing import BOOKWORM, MAINTAINER, put, sh

from builder.publish import Signer, Suite

OLD, NEW = "2025.2", "2026.1"
FLAMINGO = Suite("bookworm", OLD, "Flamingo")
# What the new series knows: `filters` is gone, `debug` is called otherwise.
KNOWN = {
    **nodeside.KNOWN,
    "options": {**nodeside.KNOWN["options"], "DEFAULT": {"verbose": "", "enabled_backends": ""}},
    "renamed": {"DEFAULT": {"debug": "[DEFAULT] verbose"}},
}
STEPS = [
    {"to": NEW, "service": "toy", "when": "before", "text": "think"},
    {"to": NEW, "service": "toy", "when": "after", "text": "rejoice"},
    {"to": NEW, "service": "other", "when": "before", "text": "nothing to do with it"},
]


def deb(area, name, version, files=(), **fields):
    root = area / f"{name}_{version.replace(':', '%')}"
    rows = {"Package": name, "Version": version, "Architecture": "all",
            "Maintainer": MAINTAINER, "Description": "a test", **fields}  # fmt: skip
    for path, text in {
        "DEBIAN/control": "".join(f"{k}: {v}\n" for k, v in rows.items()),
        **dict(files),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    path = area / f"{name}_{version.rpartition(':')[2]}_all.deb"
    sh("dpkg-deb", "--root-owner-group", "-Znone", "-b", root, path)
    return path


def unit(name):
    return {"name": f"{name}.service", "package": name, "kind": "daemon", "start": "now",
            "needs": [], "configs": [], "others": []}  # fmt: skip


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """A repository of two series of one service, toy."""
    area = tmp_path_factory.mktemp("repo")
    signer = Signer.open(area / "keys")
    place = "usr/share/openstack-node"
    manifest = {
        "format": 1, "service": "toy", "series": NEW, "package": "toy-common",
        "options": f"/{place}/services/toy.options.json", "schemas": [nodeside.SCHEMA],
        "units": [unit("toy-api"), unit("toy-worker")], "setup": [nodeside.SYNC],
        "configs": [], "dynamic": nodeside.DYNAMIC, "directory": "/etc/toy", "settings": [],
        "packages": ["toy-common", "toy-api"],
    }  # fmt: skip
    files = {
        f"{place}/services/toy.json": json.dumps(manifest),
        f"{place}/services/toy.options.json": json.dumps(KNOWN),
    }
    facts = {"format": 1, "series": NEW, "from": ["2025.1", OLD], "steps": STEPS}
    archive = {f"{place}/series/{NEW}.json": json.dumps(facts)}
    put(area / "repo", signer, deb(area, "toy-common", "1:1.0-1"), suite=FLAMINGO)
    put(
        area / "repo",
        signer,
        deb(area, "toy-common", "1:2.0-1", files, Depends="openstack-2026.1-toy"),
        deb(area, "toy-api", "1:2.0-1", Depends="toy-common, toy-worker"),
        deb(area, "toy-worker", "1:2.0-1"),
        deb(area, "openstack-2026.1-toy", "2.0-1"),
        deb(area, f"openstack-{NEW}-archive", "2026.1-1", archive),
        suite=BOOKWORM,
    )
    return area / "repo"


@pytest.fixture
def etc(tmp_path, repo):
    """What a node has in /etc/apt, and (beside it) in dpkg's status."""
    etc = tmp_path / "apt"
    (etc / "sources.list.d").mkdir(parents=True)
    (etc / "preferences.d").mkdir()
    (etc / "sources.list.d/openstack.sources").write_text(
        f"# OpenStack {OLD}\nTypes: deb\nURIs: {repo.as_uri()}\nSuites: bookworm-{OLD}\n"
        f"Components: main\nSigned-By: {repo}/bookworm-{OLD}.asc\n"
    )
    (etc / "preferences.d/openstack.pref").write_text(
        f"Package: *\nPin: release n=bookworm-{OLD}\nPin-Priority: 600\n"
    )
    rows = [
        f"Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 1:1.0-1\n"
        f"Maintainer: {MAINTAINER}\nDescription: a test\n"
        for name in ("toy-common", "toy-api")
    ]
    (tmp_path / "status").write_text("\n".join(rows))
    return etc


@pytest.fixture
def toy(tmp_path):
    chain = [f"{tmp_path}/etc/toy/toy.conf", f"{tmp_path}/etc/toy/toy.conf.d/"]
    names = ("toy-api", "toy-old")
    units = [nodeside.unit(n, chain, needs=["connection"]) for n in names]
    made = nodeside.service(tmp_path, units=units, package="toy-common")
    nodeside.write(made, "[DEFAULT]\n[database]\nconnection = mysql://toy:PASS@db/toy\n")
    return dataclasses.replace(made, series=OLD, version="1:1.0-1")


@pytest.fixture
def planned(tmp_path, etc, toy, monkeypatch):
    """Return what makes a plan of the toy, and what apt is looked at with."""
    running = {"toy-api.service": system.UnitState("toy-api.service", active="active")}
    monkeypatch.setattr(system, "unit_states", lambda names: {n: running[n] for n in names
                                                              if n in running})  # fmt: skip

    def make(new=NEW, services=(toy,)):
        area = tmp_path / "area"
        area.mkdir()
        client = apt.Apt(area, OLD, new, etc=etc, status=tmp_path / "status")
        client.options += ["-o", "APT::Architecture=amd64"]
        return plan.plan(list(services), new, apt=client)

    return make


def test_it_says_what_apt_would_do_and_changes_nothing(planned, etc, tmp_path):
    before = {p: p.read_bytes() for p in (*etc.rglob("*.*"), tmp_path / "status") if p.is_file()}
    found = planned()
    assert [(c.package, c.old, c.new) for c in found.changes] == [
        ("openstack-2026.1-toy", "", "2.0-1"),
        ("toy-api", "1:1.0-1", "1:2.0-1"),
        ("toy-common", "1:1.0-1", "1:2.0-1"),
        ("toy-worker", "", "1:2.0-1"),
    ]
    assert found.size > 1000
    assert {p: p.read_bytes() for p in before} == before


def test_it_says_what_becomes_of_units(planned):
    (move,) = planned().moves
    assert (move.old, move.new) == ("1:1.0-1", "1:2.0-1")
    assert move.restarts == ["toy-api.service"]
    assert move.added == ["toy-worker.service"]
    assert move.gone == ["toy-old.service"]


def test_it_says_what_the_new_series_does_not_read_and_not_what_is_wrong_already(planned, toy):
    nodeside.write(
        toy, "[DEFAULT]\ndebug = 1\nfilters = a\nnonsense = 1\n[database]\nconnection = x\n"
    )
    (move,) = planned().moves
    said = {(p.level, p.text.split(";")[0]) for p in move.problems}
    assert said == {
        ("note", "[DEFAULT] debug is called [DEFAULT] verbose now"),
        ("warning", "[DEFAULT] filters is no option of 2026.1"),
    }


def test_it_says_what_is_done_about_databases_and_by_a_person(planned):
    (move,) = planned().moves
    assert move.databases == ["main: bring the database to this release"]
    assert (move.before, move.after) == (["think"], ["rejoice"])


def test_a_step_upstream_does_not_support_is_refused(planned, toy, etc):
    older = dataclasses.replace(toy, series="2024.1")
    source = etc / "sources.list.d/openstack.sources"
    source.write_text(source.read_text().replace(f"bookworm-{OLD}\n", f"bookworm-{NEW}\n"))
    with pytest.raises(system.NodeError, match=r"no upgrade from 2024\.1 to 2026\.1") as caught:
        planned(services=[older])
    assert caught.value.hints == ["to 2026.1 from: 2025.1, 2025.2"]


def test_a_series_that_is_not_in_the_repository_is_said(planned):
    with pytest.raises(system.NodeError, match=r"cannot read the packages of 2027\.1") as caught:
        planned("2027.1")
    assert "bookworm-2027.1" in caught.value.details


def test_a_node_without_our_source_is_told_how_to_get_one(planned, etc):
    (etc / "sources.list.d/openstack.sources").unlink()
    with pytest.raises(system.NodeError, match=r"no source of apt .* 2025\.2") as caught:
        planned()
    assert caught.value.hints == ["apt-get install openstack-2025.2-archive"]


def test_services_of_several_series_are_not_mixed_up(planned, toy):
    other = dataclasses.replace(toy, name="other", series="2025.1")
    with pytest.raises(system.NodeError, match=r"several series: 2025\.1, 2025\.2") as caught:
        planned(services=[toy, other])
    assert "openstack-node plan 2026.1 other" in caught.value.hints[0]
    done = dataclasses.replace(toy, series=NEW)
    with pytest.raises(system.NodeError, match=r"everything here is of 2026\.1 already"):
        plan.plan([done], NEW)


def test_a_person_reads_it_and_a_program_too(planned, toy, capsys, monkeypatch):
    found = planned()
    lines = list(cli.plan_text(found))
    assert lines[0].startswith("2025.2 to 2026.1: 2 packages new, 2 upgraded")
    assert lines[1] == "toy  1:1.0-1 to 1:2.0-1"
    assert "  restart   toy-api.service" in lines
    monkeypatch.setattr(plan, "plan", lambda _services, _series: found)
    monkeypatch.setattr(system, "is_root", lambda: True)
    monkeypatch.setattr(cli.manifest, "load", lambda _names: [toy])
    assert cli.main(["plan", NEW, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["format"] == 1
    assert shown["moves"][0]["service"] == "toy"
