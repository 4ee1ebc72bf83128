"""openstack-node rollback: where a service goes back to, and when it may."""

import dataclasses
import json

import nodeside
import pytest
from openstack_node import databases, manifest, restarting, rollback, system
from openstack_node.journal import Journal
from twoseries import NEW, OLD, Unchanged, publish

ADDED = databases.Migration("e1", "add a column", removes=False)
TAKEN = databases.Migration("c1", "take the column extra", removes=True)
UNKNOWN = databases.Migration("f00d", "", removes=True)
MADISON = """\
  toy-common | 1:2.0-1 | http://server bookworm-2026.1/main amd64 Packages
  toy-common | 1:1.5-1 | http://server bookworm-2025.2/main amd64 Packages
  toy-common | 1:1.4-1 | http://server bookworm-2025.2/main amd64 Packages
  toy-common | 1:1.0-1 | http://server bookworm-2025.1/main amd64 Packages
  toy-common | 1:1.5-1 | http://server bookworm-2025.2/main Sources
   toy-api | 1:2.0-1 | http://server bookworm-2026.1/main amd64 Packages
   toy-api | 1:1.5-1 | http://server bookworm-2025.2/main amd64 Packages
   toy-api | 1:1.0-1 | http://server bookworm-2025.1/main amd64 Packages
   toy-new | 1:2.0-1 | http://server bookworm-2026.1/main amd64 Packages
"""
DEBIAN = """\
  toy-common | 1:3.0-1 | http://debian.invalid/debian trixie-backports/main amd64 Packages
  toy-common | 1:0.9-1+deb12u1 | http://security.debian.org bookworm-security/main amd64 Packages
  toy-common | 1:0.9-1 | http://debian.invalid/debian bookworm/main amd64 Packages
"""
CODES = """\
openstack-2025.1-toy | 1:1.0-1 | http://server bookworm-2025.1/main amd64 Packages
openstack-2025.2-toy | 1:1.5-1 | http://server bookworm-2025.2/main amd64 Packages
"""


def service(root, **data):
    """Return a service of the newer series, with an API."""
    chain = [f"{root}/etc/toy/toy.conf"]
    units = [nodeside.unit("toy-api", chain, needs=["connection"])]
    code = f"openstack-{NEW}-toy"
    made = nodeside.service(
        root, units=units, package="toy-common", packages=[code, "toy-common", "toy-api"], **data
    )
    installed = made.installed | {code, "toy-common"}
    return dataclasses.replace(made, series=NEW, version="1:2.0-1", installed=installed)


# -- where to


@pytest.fixture
def find(tmp_path, monkeypatch):
    """Return what looks for an earlier release in what `apt-cache madison` says."""
    toy, real = service(tmp_path), system.run

    def look(said=MADISON, codes=CODES, series=""):
        def run(argv, **options):
            if argv[:2] != ["apt-cache", "madison"]:
                return real(argv, **options)
            names = {f"{n} " for n in argv[2:]}
            rows = f"{said}{codes}".splitlines(keepends=True)
            return system.Done(0, "".join(r for r in rows if f"{r.split()[0]} " in names))

        monkeypatch.setattr(system, "run", run)
        return rollback.find_way(toy, series)

    return look


def test_it_is_the_newest_before_its_own(find):
    way = find()
    assert (way.series, way.suite) == ("2025.2", "bookworm-2025.2")
    assert way.versions == {"toy-common": "1:1.5-1", "toy-api": "1:1.5-1"}


def test_a_person_names_a_series(find):
    way = find(series="2025.1")
    assert (way.series, way.suite) == ("2025.1", "bookworm-2025.1")
    assert way.versions == {"toy-common": "1:1.0-1", "toy-api": "1:1.0-1"}


def test_versions_of_any_length_are_read(find):
    padded = MADISON.replace("| 1:1.5-1 |", "|    1:1.5-1 |")
    assert find(padded).versions["toy-api"] == "1:1.5-1"


def test_debians_own_packages_are_no_earlier_series(find):
    first, _, rest = MADISON.partition("\n")
    debian = DEBIAN.splitlines(keepends=True)
    assert find(debian[0] + first + "\n" + rest + debian[1] + debian[2]).series == "2025.2"
    with pytest.raises(system.NodeError, match="apt has no toy-common of an earlier series"):
        find(debian[0] + first + "\n" + debian[1] + debian[2])


@pytest.mark.parametrize("series", ["2024.1", NEW, "2026.2"])
def test_a_series_that_is_not_there_or_not_earlier_is_refused(find, series):
    later = "  toy-common | 1:2.5-1 | http://server bookworm-2026.2/main amd64 Packages\n"
    code = "openstack-2026.2-toy | 1:2.5-1 | http://server bookworm-2026.2/main amd64 Packages\n"
    with pytest.raises(system.NodeError, match=f"apt has no toy-common of {series}") as caught:
        find(later + MADISON, CODES + code, series)
    assert "apt-cache policy toy-common" in caught.value.hints[0]


# -- whether


class Database:
    """What the probe is asked, and what it says."""

    def __init__(self, monkeypatch):
        self.answer, self.asked = self.at("current"), []
        monkeypatch.setattr(databases, "ask", self.ask)

    @staticmethod
    def at(state, **lists):
        schema = databases.Schema("main", state, "", "toy", "db", "toy", **lists)
        return databases.Answer({"main": schema})

    def ask(self, toy, files, later_site=""):
        self.asked.append((toy, files, later_site))
        return self.answer


@pytest.fixture
def database(monkeypatch):
    return Database(monkeypatch)


def check(root, older=None):
    site = f"/usr/lib/openstack/{OLD}/lib/python3.11/site-packages"
    older = older or {"site": site, "schemas": [nodeside.SCHEMA]}
    rollback.check(service(root), older, root / "unpacked", OLD)


@pytest.mark.parametrize(
    ("state", "lists"),
    [
        ("current", {}),
        ("ahead", {"later": [ADDED]}),
        ("behind", {"pending": [ADDED]}),
    ],
)
def test_it_may_where_nothing_was_taken_away(tmp_path, database, state, lists):
    database.answer = database.at(state, **lists)
    check(tmp_path)


def test_the_older_code_is_compared_by_the_python_that_is_there(tmp_path, database):
    schema = {**nodeside.SCHEMA, "migrations": "toy/old"}
    check(tmp_path, {"site": f"/usr/lib/openstack/{OLD}/site", "schemas": [schema]})
    ((asked, files, later_site),) = database.asked
    assert asked.tree == service(tmp_path).tree
    assert asked.data["site"] == f"{tmp_path}/unpacked/usr/lib/openstack/{OLD}/site"
    assert asked.data["schemas"] == [schema]
    assert files == []
    assert later_site == service(tmp_path).data["site"]


@pytest.mark.parametrize(
    ("later", "words"),
    [
        ([ADDED, TAKEN], rf"has moved past {OLD}: c1 \(take the column extra\) removed what"),
        ([UNKNOWN], rf"has moved past {OLD}: f00d removed what {OLD} may read"),
    ],
)
def test_it_may_not_where_something_was_or_nobody_knows(tmp_path, database, later, words):
    database.answer = database.at("ahead", later=later)
    with pytest.raises(system.NodeError, match=words) as refused:
        check(tmp_path)
    assert "a copy of the database from before the upgrade" in refused.value.hints[0]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("unreachable", "the database toy at db cannot be reached"),
        ("denied", "the database toy at db refuses the user or its password"),
        ("unknown", "the database toy at db has an unknown revision"),
        ("unset", "the database toy at db has no address"),
    ],
)
def test_it_may_not_where_the_database_cannot_be_seen(tmp_path, database, state, words):
    database.answer = database.at(state)
    with pytest.raises(system.NodeError, match=words):
        check(tmp_path)
    database.answer = databases.Answer(error="no answer within 45 s")
    with pytest.raises(system.NodeError, match="no answer within 45 s"):
        check(tmp_path)


# -- with the real apt


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("repo"))


class Node(Unchanged):
    """A node whose toy has moved to the new series."""

    def __init__(self, root, area, monkeypatch):
        super().__init__(root, area, monkeypatch)
        self.sources.add(OLD, NEW)
        self.sources.choose("toy", f"bookworm-{NEW}")
        self.has(NEW, "toy-api", "toy-common")
        self.update()
        self.journal = root / "upgrade.json"
        monkeypatch.setattr(rollback, "Journal", lambda series: Journal(series, self.journal))
        self.restarted, self.said = [], ""
        monkeypatch.setattr(manifest, "load", lambda _names: [service(root)])
        monkeypatch.setattr(restarting, "is_replaced", lambda _toy, _state: True)
        monkeypatch.setattr(system, "read_unit_states", lambda names: {
            n: system.UnitState(n, active="active", enabled="enabled") for n in names
        })  # fmt: skip
        monkeypatch.setattr(system, "run_systemctl", self.systemctl)

    def systemctl(self, verb, names):
        self.restarted.append((verb, names))
        return system.Done(0, "")

    def back(self, series=""):
        def say(text):
            self.said += text

        rollback.rollback(service(self.root), series, say)

    @property
    def state(self):
        files = [p for p in self.etc.rglob("*") if p.is_file()]
        return {p: p.read_bytes() for p in (*files, self.root / "var/lib/dpkg/status")}


@pytest.fixture
def node(tmp_path, repo, monkeypatch):
    return Node(tmp_path, repo, monkeypatch)


def test_a_service_goes_back_and_stays(node, database):
    database.answer = database.at("ahead", later=[ADDED])
    node.back()
    assert node.installed == [["--allow-downgrades", "toy-api=1:1.0-1", "toy-common=1:1.0-1"]]
    assert node.restarted == [("restart", ["toy-api.service"])]
    assert node.said.startswith(f"toy  {NEW} to {OLD}\n")
    node.has(OLD, "toy-api", "toy-common")
    assert node.moved("full-upgrade") == []
    asked, _, _ = database.asked[0]
    assert asked.data["site"].endswith(f"/usr/lib/openstack/{OLD}/lib/python3.11/site-packages")


def test_an_upgrade_under_way_begins_anew_with_the_service(node, database):
    assert database
    node.journal.write_text(json.dumps({"series": NEW, "done": ["toy/packages", "other/packages"]}))
    node.back()
    assert json.loads(node.journal.read_text())["done"] == ["other/packages"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Database.at("ahead", later=[UNKNOWN]), "has moved past"),
        (Database.at("unreachable"), "cannot be reached"),
    ],
)
def test_nothing_is_changed_when_it_is_refused(node, database, answer, words):
    database.answer, before = answer, node.state
    with pytest.raises(system.NodeError, match=words):
        node.back()
    assert node.state == before
    assert (node.installed, node.restarted) == ([], [])


def test_nothing_is_changed_while_a_package_is_on_hold(node, database):
    database.answer = database.at("ahead", later=[ADDED])
    node.hold("toy-api")
    before = node.state
    with pytest.raises(system.NodeError, match="packages to change are on hold: toy-api") as caught:
        node.back()
    assert caught.value.hints == ["apt-mark unhold toy-api"]
    assert node.state == before
    assert (node.installed, node.restarted) == ([], [])


def test_nothing_is_changed_where_there_is_no_way(node):
    node.source(OLD).unlink()
    node.update()
    before = node.state
    with pytest.raises(system.NodeError, match="apt has no toy-common of an earlier series"):
        node.back()
    assert node.state == before
