"""openstack-node plan: what a move to another series would do, by the real apt."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import nodeside
import pytest
from openstack_node import apt, cli, databases, plan, plan_text, system
from publishing import MAINTAINER, SUITE, put
from twoseries import FLAMINGO, NEW, OLD, deb

from builder.publish import Signer

# What the new series knows: `filters` is gone, `debug` is called otherwise.
KNOWN = {
    **nodeside.KNOWN,
    "options": {**nodeside.KNOWN["options"], "DEFAULT": {"verbose": "", "enabled_backends": ""}},
    "renamed": {"DEFAULT": {"debug": "[DEFAULT] verbose"}},
    "defaults": {"DEFAULT": {"enabled_backends": "lvm"}},
}
SITE = f"/usr/lib/openstack/{NEW}/lib/python3.11/site-packages"
STEPS = [
    {"to": NEW, "service": "toy", "when": "before", "text": "think"},
    {"to": NEW, "service": "toy", "when": "after", "text": "rejoice"},
    {"to": NEW, "service": "other", "when": "before", "text": "nothing to do with it"},
]


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
        "packages": ["openstack-2026.1-toy", "toy-common", "toy-api"], "site": SITE,
    }  # fmt: skip
    files = {
        f"{place}/services/toy.json": json.dumps(manifest),
        f"{place}/services/toy.options.json": json.dumps(KNOWN),
    }
    code = {f"{SITE.lstrip('/')}/toy/versions/one.py": "revision = 'one'\n"}
    facts = {"format": 1, "series": NEW, "from": ["2025.1", OLD], "steps": STEPS}
    archive = {f"{place}/series/{NEW}.json": json.dumps(facts)}
    put(area / "repo", signer, deb(area, "toy-common", "1:1.0-1"), suite=FLAMINGO)
    put(
        area / "repo",
        signer,
        deb(area, "toy-common", "1:2.0-1", files, Depends="openstack-2026.1-toy"),
        deb(area, "toy-api", "1:2.0-1", Depends="toy-common, toy-worker"),
        deb(area, "toy-worker", "1:2.0-1", **{"Installed-Size": 1234}),
        deb(area, "openstack-2026.1-toy", "2.0-1", code),
        deb(area, f"openstack-{NEW}-archive", "2026.1-1", archive),
        suite=SUITE,
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
        f"Package: *\nPin: release n=bookworm-{OLD}\nPin-Priority: 991\n"
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


class Databases:
    """Answers as the probe does; `files` are the migrations it is shown."""

    def __init__(self):
        self.answer, self.files = databases.Answer(), {}

    def __call__(self, service, files, *, records):
        assert records
        assert not files
        site = Path(service.data["site"])
        # Another user has to come there.
        assert all(p.stat().st_mode & 0o001 for p in site.parents if "area" in p.parts)
        self.tree = service.tree
        self.files = {p.name: p.read_text() for p in (site / "toy/versions").iterdir()}
        return self.answer


def schema(state, *titles, name="main", removes=""):
    rows = [databases.Migration(t.split()[0], t, t == removes) for t in titles]
    return databases.Schema(name, state, "detail", "toy", "db", "toy", rows)


@pytest.fixture
def planned(tmp_path, etc, toy, monkeypatch):
    """Return what makes a plan of the toy, and what apt is looked at with."""
    running = {"toy-api.service": system.UnitState("toy-api.service", active="active")}
    monkeypatch.setattr(system, "read_unit_states", lambda names: {n: running[n] for n in names
                                                              if n in running})  # fmt: skip

    monkeypatch.setattr(databases, "ask", Databases())

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
    assert found.disk >= 1000
    assert {p: p.read_bytes() for p in before} == before


def test_packages_on_hold_are_named(planned, tmp_path):
    before = planned()
    assert before.held == []
    (tmp_path / "area").rename(tmp_path / "first")
    status = tmp_path / "status"
    status.write_text(
        status.read_text().replace("toy-api\nStatus: install", "toy-api\nStatus: hold")
    )
    found = planned()
    assert found.held == ["toy-api"]
    assert (found.changes, found.size) == (before.changes, before.size)
    said = "  warning   on hold: toy-api; run apt-mark unhold before upgrading"
    assert said in plan_text.render_lines(found)


def test_what_is_half_installed_is_mended_first(planned, tmp_path):
    status = tmp_path / "status"
    status.write_text(status.read_text().replace("Version: ", "Depends: gone\nVersion: "))
    with pytest.raises(system.NodeError, match=r"interrupted, or a dependency") as caught:
        planned()
    assert caught.value.hints == ["dpkg --configure -a", "apt-get install --fix-broken"]


@pytest.mark.parametrize(
    ("package", "said"),
    [("openstack-2026.1-toy", "Depends: openstack-2026.1-toy"), ("toy-common", "")],
)
def test_what_keeps_apt_from_a_service_is_said(planned, etc, package, said):
    pin = f"Package: {package}\nPin: release n=bookworm-{NEW}\nPin-Priority: -1\n"
    (etc / "preferences.d/mine").write_text(pin)
    with pytest.raises(system.NodeError, match=r"toy: 2026\.1 has no newer toy-common") as caught:
        planned()
    assert said in caught.value.details
    assert "apt-cache policy toy-common" in caught.value.hints[0]


@pytest.mark.parametrize("ending", ["sources", "list"])
def test_a_source_of_the_new_series_may_be_there_with_its_own_key(
    planned, etc, repo, tmp_path, ending
):
    """As the new suite's script adds it; apt takes no suite with two keys."""
    key = tmp_path / "new.asc"
    key.write_bytes((repo / f"bookworm-{NEW}.asc").read_bytes())
    old = etc / "sources.list.d/openstack.sources"
    new = old.read_text().replace(f"{repo}/bookworm-{OLD}.asc", str(key)).replace(OLD, NEW)
    if ending == "list":
        line = "deb [signed-by={}] {} bookworm-{} main\n"
        old.with_suffix(".list").write_text(
            line.format(f"{repo}/bookworm-{OLD}.asc", repo.as_uri(), OLD)
        )
        old.unlink()
        new = line.format(key, repo.as_uri(), NEW)
    else:
        old.write_text(f"{old.read_text()}\n{old.read_text()}")
    (etc / f"sources.list.d/openstack-new.{ending}").write_text(new)
    assert [c.package for c in planned().changes if c.old] == ["toy-api", "toy-common"]


def test_a_disk_that_is_too_small_is_said_before_it_is_full(planned, monkeypatch, tmp_path):
    assert not [text for text in plan_text.render_lines(planned()) if "free" in text]
    (tmp_path / "area").rename(tmp_path / "first")
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=5_000))
    monkeypatch.setattr(plan, "FETCHED", "/usr/share/not/there")  # of one file system, surely
    found = planned()
    (space,) = found.spaces
    assert (space.path, space.needed, space.free) == ("/usr", found.size + found.disk, 5_000)
    assert "  warning   /usr: 0 MB free, 1 MB needed" in plan_text.render_lines(found)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("After this operation, 7977 kB of additional disk space will be used.", 7_977_000),
        ("After this operation, 1,234 MB of additional disk space will be used.", 1_234_000_000),
        ("After this operation, 14.5 kB disk space will be freed.", -14_500),
        ("After this operation, 0 B of additional disk space will be used.", 0),
        ("", 0),
    ],
)
def test_the_bytes_on_the_disk_are_those_apt_says(said, expected, monkeypatch, tmp_path):
    client = apt.Apt(tmp_path, OLD, NEW, etc=tmp_path)
    uris = "'http://a/b.deb' b.deb 12 SHA256:x\n'http://a/c.deb' c.deb 30 SHA256:y\n"
    done = system.Done(0, f"Need to get 42 B of archives.\n{said}\n{uris}")
    monkeypatch.setattr(apt.system, "run", lambda *_words, **_options: done)
    assert client.compute_sizes() == (42, expected)


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
        ("note", "[DEFAULT] debug is now called [DEFAULT] verbose"),
        ("warning", "[DEFAULT] filters is not an option of 2026.1"),
    }


def test_it_says_what_is_left_to_a_person(planned):
    (move,) = planned().moves
    assert (move.before, move.after) == (["think"], ["rejoice"])


def test_the_present_python_looks_at_the_databases_for_the_new_code(planned, toy):
    databases.ask.answer = databases.Answer(
        {"main": schema("behind", "add a", "drop b", removes="drop b"), "no": schema("unset")}
    )
    (move,) = planned().moves
    assert databases.ask.files == {"one.py": "revision = 'one'\n"}
    assert databases.ask.tree == toy.tree
    (found,) = move.databases
    assert (found.name, found.where, found.state) == ("main", "toy at db", "behind")
    assert [(m.title, m.removes) for m in found.migrations] == [("add a", False), ("drop b", True)]


def test_a_node_without_databases_fetches_no_code_and_asks_nobody(planned, toy):
    units = [dataclasses.replace(u, needs=[]) for u in toy.units]
    (move,) = planned(services=[dataclasses.replace(toy, units=units)]).moves
    assert move.databases == []
    assert databases.ask.files == {}


def test_each_migration_is_a_line_and_what_ends_the_way_back_is_said(planned):
    schemas = [
        schema("behind", "add a", "nothing", "nothing", "drop b", removes="drop b"),
        schema("behind", "add a", "nothing", "nothing", "drop b", removes="drop b", name="cell0"),
        schema("current", name="api"),
        schema("ahead", name="other"),
    ]
    databases.ask.answer = databases.Answer({s.name: s for s in schemas})
    lines = list(plan_text.render_lines(planned()))
    first = lines.index("  database  main, toy at db: 4 migrations")
    assert lines[first + 1 : first + 7] == [
        "              add a",
        "              nothing (2 times)",
        "              drop b; removes something: after it there is no way back to 2025.2",
        "  database  cell0, toy at db: 4 migrations, the same as main",
        "  database  api, toy at db: 0 migrations",
        "  database  other, toy at db: is from a later release than the code; detail",
    ]


def test_defaults_that_change_are_a_line_each_and_long_ones_are_cut(planned, toy):
    rows = {"DEFAULT": {"enabled_backends": "x" * 100}, "database": {"connection": "sqlite://"}}
    Path(toy.data["options"]).write_text(json.dumps({**nodeside.KNOWN, "defaults": rows}))
    lines = list(plan_text.render_lines(planned()))
    first = lines.index("  note      defaults that change, of options no file sets: 1")
    assert lines[first + 1] == f"              [DEFAULT] enabled_backends: {'x' * 57}... -> lvm"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("60", None, "60 -> <None>"),
        ("", "a,b", '"" -> a,b'),
        ("a,b", "b,a", "a,b -> b,a"),
        (f"a,{'b' * 60}", f"{'b' * 60},c,d", "-a +c +d"),
    ],
)
def test_of_a_long_list_what_goes_and_comes_is_told(old, new, expected):
    assert plan_text._render_values(old, new) == expected


def test_what_keeps_the_databases_from_being_looked_at_is_said(planned):
    databases.ask.answer = databases.Answer(error="no answer within 45 s")
    lines = list(plan_text.render_lines(planned()))
    assert "  database  cannot be read: no answer within 45 s" in lines


def test_a_step_upstream_does_not_support_is_refused(planned, toy, etc):
    older = dataclasses.replace(toy, series="2024.1")
    source = etc / "sources.list.d/openstack.sources"
    source.write_text(source.read_text().replace(f"bookworm-{OLD}\n", f"bookworm-{NEW}\n"))
    with pytest.raises(system.NodeError, match=r"no upgrade from 2024\.1 to 2026\.1") as caught:
        planned(services=[older])
    assert caught.value.hints == ["upgrades to 2026.1 are supported from: 2025.1, 2025.2"]


def test_a_series_that_is_not_in_the_repository_is_said(planned):
    with pytest.raises(system.NodeError, match=r"cannot read the packages of 2027\.1") as caught:
        planned("2027.1")
    assert "bookworm-2027.1" in caught.value.details


def test_a_node_without_our_source_is_told_how_to_get_one(planned, etc):
    (etc / "sources.list.d/openstack.sources").unlink()
    with pytest.raises(system.NodeError, match=r"no apt source .* 2025\.2") as caught:
        planned()
    assert caught.value.hints == ["apt-get install openstack-2025.2-archive"]


def test_services_of_several_series_are_not_mixed_up(planned, toy):
    other = dataclasses.replace(toy, name="other", series="2025.1")
    with pytest.raises(system.NodeError, match=r"several series: 2025\.1, 2025\.2") as caught:
        planned(services=[toy, other])
    assert "openstack-node plan 2026.1 other" in caught.value.hints[0]
    done = dataclasses.replace(toy, series=NEW)
    with pytest.raises(system.NodeError, match=r"everything here is already at 2026\.1"):
        plan.plan([done], NEW)


def test_a_person_reads_it_and_a_program_too(planned, toy, capsys, monkeypatch):
    found = planned()
    lines = list(plan_text.render_lines(found))
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
