"""openstack-node on databases: revisions, and what a driver's error means."""

import ast
import datetime
import socket
import sqlite3
import textwrap
from pathlib import Path

import pytest
from nodeside import ROOT, SCHEMA
from openstack_node import databases, probe

from builder.catalogue import load as catalogue
from builder.debs.manifest import _make_table

CATALOGUE = catalogue.load(ROOT / "projects")
REVISION = '"""What it does."""\nrevision = {!r}\ndown_revision = {!r}\ndepends_on = {!r}\n'


@pytest.fixture
def site(tmp_path):
    """Return site-packages with two branches, the second depending on the first."""
    directory = tmp_path / "toy/versions/release"
    directory.mkdir(parents=True)
    rows = [
        ("base", None, None),
        ("expand1", "base", None),
        ("expand2", "expand1", None),
        ("contract1", ("base",), "expand1"),
    ]
    for name, *before in rows:
        (directory / f"{name}_x.py").write_text(REVISION.format(name, *before))
    (tmp_path / "toy/versions/__init__.py").touch()
    # never run: importing it would need all of the service
    (directory / "helper.py").write_text("import no_such_module\nrevision = f()\n")
    return tmp_path


class Fake(probe.Database):
    """A database with the tables it is given, behind no driver."""

    def __init__(self, site, tables, *, later="", **schema):
        super().__init__("toy://", "", (str(site), later), {**SCHEMA, **schema})
        self.tables = tables

    def _connect(self):
        self.connection = self

    def close(self):
        """Nothing is open."""

    def _read_rows(self, query):
        return self.tables.get(query.split(" FROM ")[1].split()[0])


class Sqlite(Fake):
    """A real database with what alembic, or sqlalchemy-migrate, notes."""

    def __init__(self, site, *, revisions=None, number=None, **schema):
        super().__init__(site, {}, **schema)
        self.sqlite = sqlite3.connect(":memory:")
        if revisions is not None:
            self.sqlite.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
            rows = [(r,) for r in revisions]
            self.sqlite.executemany("INSERT INTO alembic_version VALUES (?)", rows)
        if number is not None:
            self.sqlite.execute("CREATE TABLE migrate_version (repository_id, version)")
            self.sqlite.execute("INSERT INTO migrate_version VALUES ('toy', ?)", [number])

    def _read_rows(self, query):
        try:
            return self.sqlite.execute(query).fetchall()
        except sqlite3.OperationalError:  # no such table
            return None

    def close(self):
        self.sqlite.close()


def at(site, *revisions, **schema):
    """Return what is told of a database at revisions."""
    return seen(Sqlite(site, revisions=revisions, **schema))


def seen(database):
    found = database.look().describe()
    database.close()
    return databases._parse_schema("main", found)


def names(rows):
    return [row.revision for row in rows]


def state(site, *revisions):
    return Fake(site, {"alembic_version": [(r,) for r in revisions]}).look()


@pytest.mark.parametrize(
    ("revisions", "expected"),
    [
        (["expand2", "contract1"], "current"),
        (["expand1", "contract1"], "behind"),
        (["expand2"], "behind"),
        (["base"], "behind"),
        (["expand2", "contract1", "of-a-later-release"], "ahead"),
        ([], "empty"),
    ],
)
def test_a_revision_is_compared_with_the_codes(site, revisions, expected):
    assert state(site, *revisions).state == expected


def test_a_head_that_includes_the_other_branch_is_enough(site):
    (site / "toy/versions/merge.py").write_text(
        REVISION.format("contract2", "contract1", "expand2")
    )
    assert state(site, "contract2").state == "current"
    assert state(site, "contract1").detail == "revision contract1, the code expects contract2"


def test_a_revision_beyond_the_recorded_heads_is_not_waited_for(site):
    """keystone 2025.2 has a module in a directory that its own sync does not look into."""
    (site / "toy/versions/EXPAND_HEAD").write_text("expand1\n")
    (site / "toy/versions/CONTRACT_HEAD").write_text("contract1\n")
    assert state(site, "expand1", "contract1").state == "current"
    found = at(site, "base")
    assert found.state == "behind"
    assert names(found.pending) == ["expand1", "contract1"]


def test_what_comes_last_is_known_by_its_place(site):
    found = at(site, "base")
    assert {m.revision: m.contract for m in found.pending}["contract1"]
    assert not {m.revision: m.contract for m in found.pending}["expand1"]


def test_one_of_several_ways_to_the_same_tables_is_enough(site):
    (site / "toy/versions/other.py").write_text(REVISION.format("release1", "base", None))
    rows = {"alembic_version": [("release1",)]}
    assert Fake(site, rows).look().state == "behind"
    heads = ["release1", "contract1"]
    assert Fake(site, rows, heads=heads).look().state == "current"
    rows = {"alembic_version": [("expand2",)]}
    assert Fake(site, rows, heads=heads).look().state == "behind"


def test_a_database_without_tables_is_empty_and_one_without_address_unset(site):
    assert Fake(site, {}).look().state == "empty"
    nowhere = Fake(site, {})
    nowhere.url = ""
    assert nowhere.look().state == "unset"


def test_code_without_revisions_is_no_reason_to_fail(tmp_path):
    assert Fake(tmp_path, {}).look().state == "unknown"


@pytest.mark.parametrize(
    ("version", "expected"), [(1, "behind"), (12, "current"), (13, "ahead"), (0, "empty")]
)
def test_the_numbers_of_old_series_are_compared(tmp_path, version, expected):
    versions = tmp_path / "toy/versions"
    versions.mkdir(parents=True)
    for name in ("001_a.py", "012_b.py", "__init__.py"):
        (versions / name).touch()
    (tmp_path / "toy/migrate.cfg").write_text("[db_settings]\nrepository_id=toy\n")
    rows = {"migrate_version": [("other", 99), ("toy", version)]}
    assert Fake(tmp_path, rows, table="migrate_version").look().state == expected


def driver_error(*arguments):
    wrapper = Exception("wrapped")
    wrapper.orig = Exception(*arguments)
    return wrapper


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (driver_error(1045, "Access denied for user 'toy'@'localhost'"), "denied"),
        (driver_error(1049, "Unknown database 'toy'"), "missing"),
        (driver_error(1044, "Access denied for user to database 'toy'"), "missing"),
        (driver_error(2003, "Can't connect to MySQL server on 'db'"), "unreachable"),
        (driver_error('FATAL: password authentication failed for user "toy"'), "denied"),
        (driver_error('FATAL: database "toy" does not exist'), "missing"),
        (ModuleNotFoundError("No module named 'MySQLdb'"), "error"),
    ],
)
def test_an_error_is_told_from_another(error, expected):
    assert probe.classify(error, "")[0] == expected


def test_an_error_does_not_carry_the_password():
    assert "SECRET" not in probe.classify(driver_error("bad SECRET here"), "SECRET")[1]


CONF = {"oslo_messaging_rabbit": {"ssl": None}}


def test_a_broker_nobody_listens_for_is_told_without_its_password():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = probe.check_broker(f"rabbit://openstack:SECRET@127.0.0.1:{port}/", CONF)
    assert found["state"] == "unreachable"
    assert (found["user"], found["host"]) == ("openstack", f"127.0.0.1:{port}")
    assert "SECRET" not in str(found)


def test_one_broker_of_several_is_enough():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        url = f"rabbit://u:p@127.0.0.1:1,u:p@127.0.0.1:{port}/"
        encrypted = {"oslo_messaging_rabbit": {"ssl": "true"}}
        assert probe.check_broker(url, encrypted)["state"] == "current"
    assert probe.check_broker("fake://", CONF) is None
    assert probe.check_broker("", CONF) is None


ONE = "mysql+pymysql://nova:pw@db/nova?charset=utf8"
THREE = "rabbit://n:p@h1:5672,m:q@h2:5673,n:p@[::1]:5674/vh?ssl=1"


@pytest.mark.parametrize(
    ("template", "default", "expected"),
    [
        (
            "{scheme}://{username}:{password}@{hostname}/nova_cell0?{query}",
            ONE,
            ("mysql+pymysql://nova:pw@db/nova_cell0?charset=utf8", "fits"),
        ),
        ("mysql://a/b", ONE, ("mysql://a/b", "")),
        (
            "{scheme}://{username1}:{password1}@{hostname1}:{port1},"
            "{username2}:{password2}@{hostname2}:{port2},{hostname3}{port3}/{path}?{query}",
            THREE,
            ("rabbit://n:p@h1:5672,m:q@h2:5673,::1:5674/vh?ssl=1", "fits"),
        ),
        # nova takes such ones as they stand.
        ("rabbit://{hostname4}", THREE, ("rabbit://{hostname4}", "misfit")),
        ("rabbit://{hostname1}", "rabbit://n:p@h1", ("rabbit://{hostname1}", "misfit")),
        ("rabbit://u:{@h", ONE, ("rabbit://u:{@h", "misfit")),
        ("rabbit://{}", ONE, ("rabbit://{}", "misfit")),
        ("rabbit://{hostname.x}", ONE, ("rabbit://{hostname.x}", "misfit")),
    ],
)
def test_a_cells_template_takes_the_configured_parts(template, default, expected):
    assert probe.fill_template(template, default) == expected


def cell(database, transport):
    filled = probe.fill_template(database, ONE), probe.fill_template(transport, THREE)
    found = {"id": "1-2", "name": "cell1", "derived": False}
    for kind, (address, template) in zip(("database", "transport"), filled, strict=True):
        found.update({kind: address, f"{kind}_template": template})
    found = probe.describe_cell(found, ONE, {"DEFAULT": {"transport_url": THREE}})
    return found["database"], found["transport"], found["template"]


def test_a_cell_has_the_addresses_of_the_files_by_itself_or_by_a_template():
    assert cell(ONE, THREE) == (True, True, False)
    several = "{scheme}://{username1}:{password1}@{hostname1},{hostname3}?{query}"
    assert cell("{scheme}://{hostname}/cell1", several) == (True, True, False)
    assert cell("mysql://other/nova", several) == (False, True, False)
    assert cell(ONE, "rabbit://{hostname9}") == (True, False, True)
    # Brokers are tried in an order of oslo.messaging's own.
    assert cell(ONE, "rabbit://m:q@h2:5673,n:p@h1:5672,n:p@[::1]:5674/vh?ssl=1")[1]
    assert not cell(ONE, "rabbit://n:p@h1:5672/vh?ssl=1")[1]


def test_addresses_are_put_together_as_oslo_config_does(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/x.conf").write_text("[DEFAULT]\nmy_ip = 10.0.0.1\n[db]\nhost = db\n")
    main = tmp_path / "toy.conf"
    main.write_text(
        "[DEFAULT]\ntransport_url = rabbit://u:p$$x@$my_ip:${port}/\n"
        "[database]\nconnection = mysql://u:p@${db.host}/${no.such}\n[other]\nconnection = $db\n"
    )
    schemas = [{"section": s, "option": "connection"} for s in ("database", "other", "none")]
    chain = [str(main), f"{tmp_path}/conf.d/"]
    conf = probe.read_options({"service": "toy", "schemas": schemas, "configs": chain})
    assert conf["DEFAULT"]["transport_url"] == "rabbit://u:p$x@10.0.0.1:$port/"
    assert conf["database"]["connection"] == "mysql://u:p@db/$no.such"
    assert not any(conf[section]["connection"] for section in ("other", "none"))


# -- daemons' rows

TABLES = """
CREATE TABLE services (
    id INTEGER, uuid TEXT, host TEXT, binary TEXT, disabled BOOLEAN, forced_down BOOLEAN,
    deleted INTEGER, last_seen_up DATETIME, created_at DATETIME, updated_at DATETIME,
    version INTEGER, object_current_version TEXT
);
CREATE TABLE agents (
    id TEXT, host TEXT, binary TEXT, admin_state_up BOOLEAN, heartbeat_timestamp DATETIME
);
"""
VERSIONS = "OLDEST = 'Epoxy'\nKNOWN = {'Caracal': 66, 'Epoxy': 68}\n"


class Rows(Sqlite):
    """A real database with tables of daemons."""

    def __init__(self, site, *statements):
        super().__init__(site, revisions=["expand2", "contract1"])
        self.sqlite.executescript(TABLES)
        for statement in statements:
            self.sqlite.execute(statement)

    def _execute(self, query):
        return self.sqlite.execute(query).fetchall()


def rules(service, series, **changes):
    """What the project file of a service says of its rows in a series."""
    order = catalogue.order_series(CATALOGUE)
    found = CATALOGUE.services[service].narrow_to_series(series, order).records
    return [{**_make_table(rule), **changes} for rule in found]


def ago(seconds):
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def told(database, found):
    return [
        (r["id"], r["host"], r["daemon"], r["off"], r["age"] and r["age"] // 100, r["old"])
        for r in database.look().read_records(found)
    ]


def nova_row(number, host, *, binary="nova-compute", off=0, forced=0, deleted=0, seen="NULL",
             version=68):  # fmt: skip
    flags = f"{off}, {forced}, {deleted}"
    times = f"{seen}, '{ago(5000)}', NULL"
    row = f"{number}, 'u{number}', '{host}', '{binary}', {flags}, {times}, {version}, NULL"
    return f"INSERT INTO services VALUES ({row})"  # noqa: S608 - of numbers and words above


def test_nova_says_who_is_alive_and_who_is_too_old(site):
    (site / "versions.py").write_text(VERSIONS)
    found = rules(
        "nova", "2026.1", floor_file="versions.py", floor_table="KNOWN", floor_key="OLDEST"
    )
    seen = f"'{ago(200)}'"
    database = Rows(
        site,
        nova_row(1, "a", seen=seen),
        nova_row(2, "b", seen=seen, version=66),
        nova_row(3, "c", off=1, version=66),
        nova_row(4, "d", forced=1, version=66),
        nova_row(5, "e", deleted=5, version=66),
        nova_row(6, "f", binary="nova-conductor", version=66),
        nova_row(7, "g", binary="nova-osapi_compute", version=66),
    )
    assert told(database, found) == [
        ("u1", "a", "nova-compute", False, 2, False),
        ("u2", "b", "nova-compute", False, 2, True),
        ("u3", "c", "nova-compute", True, 50, True),
        ("u4", "d", "nova-compute", True, 50, False),
        ("u6", "f", "nova-conductor", False, 50, False),
    ]


@pytest.mark.parametrize("series", ["2023.1", "2026.1"])
def test_cinder_says_which_back_ends_report(site, series):
    head = "INSERT INTO services VALUES"
    database = Rows(
        site,
        f"{head} (1, '', 'a@lvm', 'cinder-volume', 0, 0, 0, NULL, NULL, NULL, 0, '1.38')",
        f"{head} (2, '', 'b@ceph', 'cinder-volume', 1, 0, 0, NULL, NULL, '{ago(250)}', 0, '1.9')",
        f"{head} (3, '', 'c', 'cinder-scheduler', 0, 0, 0, NULL, NULL, '{ago(9)}', 0, NULL)",
        f"{head} (4, '', 'd', 'cinder-backup', 0, 0, 1, NULL, NULL, NULL, 0, NULL)",
    )
    assert told(database, rules("cinder", series)) == [
        ("1", "a@lvm", "cinder-volume", False, None, False),
        ("2", "b@ceph", "cinder-volume", True, 2, True),
        ("3", "c", "cinder-scheduler", False, 0, True),
    ]


def test_neutron_says_which_agents_report(site):
    head = "INSERT INTO agents VALUES"
    database = Rows(
        site,
        f"{head} ('x', 'a', 'neutron-l3-agent', 1, '{ago(120)}')",
        f"{head} ('y', 'b', 'neutron-dhcp-agent', 0, '{ago(0)}')",
    )
    assert told(database, rules("neutron", "2026.1")) == [
        ("x", "a", "neutron-l3-agent", False, 1, False),
        ("y", "b", "neutron-dhcp-agent", True, 0, False),
    ]


def test_tables_of_another_release_say_nothing(site):
    database = Rows(site, "DROP TABLE agents")
    assert told(database, rules("neutron", "2026.1")) == []
    assert database.state == "current"


@pytest.mark.parametrize("text", ["", "KNOWN = f()\nOLDEST = 'x'\n", "KNOWN = {}\nOLDEST = 1\n"])
def test_code_that_names_no_oldest_version_takes_any(site, text):
    rule = {"floor": "", "floor_file": "v.py", "floor_table": "KNOWN", "floor_key": "OLDEST"}
    (site / "v.py").write_text(text)
    assert probe.find_floor(rule, str(site)) == []
    assert probe.find_floor({**rule, "floor_file": "none.py"}, str(site)) == []


def test_what_a_missing_database_takes_is_the_guides_sql():
    schema = databases.Schema("main", "missing", "", "keystone", "db", "keystone")
    assert databases.render_statements(schema)[0].strip() == "CREATE DATABASE keystone;"
    assert "'keystone'@'%'" in databases.render_statements(schema)[2]


def test_it_is_written_as_python_2_has_it():
    """The trees of old series run it; a node of such a series shows that they can."""
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Nonlocal, ast.YieldFrom)
    modules = {"ast", "calendar", "datetime", "json", "os", "re", "socket", "sys", "time"}
    late = {"amqp", "oslo_config", "sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool"}
    other = {"urllib", "urllib.parse", "urlparse", "collections.abc", "typing"}
    for node in ast.walk(ast.parse(Path(probe.__file__).read_text())):
        assert not isinstance(node, newer)
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            assert not arguments.kwonlyargs
            assert not arguments.posonlyargs
            assert not node.returns
            assert not [a for a in arguments.args if a.annotation]
        if isinstance(node, ast.Raise):
            assert node.cause is None
        if isinstance(node, ast.Import):
            assert {a.name for a in node.names} <= modules | late
        if isinstance(node, ast.ImportFrom):
            assert node.module in late | other


def test_what_is_said_is_text_whatever_an_error_holds():
    assert probe.make_text(ValueError("gr\u00fcn")) == "gr\u00fcn"
    assert probe.make_text("text") == "text"


def test_sqlalchemy_migrates_name_is_read_where_it_is(tmp_path):
    (tmp_path / "migrate.cfg").write_text("[db_settings]\n# repository_id=no\nrepository_id=toy\n")
    assert probe.read_repository(str(tmp_path / "migrate.cfg")) == "toy"
    assert probe.read_repository(str(tmp_path / "absent.cfg")) == ""


def test_what_is_pending_comes_in_the_order_of_its_ancestors(site):
    found = at(site, "base")
    assert found.state == "behind"
    assert names(found.pending) == ["expand1", "contract1", "expand2"]
    assert {row.title for row in found.pending} == {"What it does"}
    assert found.later == []
    assert at(site, "expand2", "contract1").pending == []
    assert names(at(site, "expand2").pending) == ["contract1"]
    assert at(site).pending == []


def test_of_several_ways_to_the_same_tables_the_one_that_was_begun_is_pending(site):
    (site / "toy/versions/one.py").write_text(REVISION.format("release1", "base", None))
    (site / "toy/versions/two.py").write_text(REVISION.format("release2", "release1", None))
    heads = ["release2", "contract1"]
    assert names(at(site, "release1", heads=heads).pending) == ["release2"]
    assert names(at(site, "expand1", heads=heads).pending) == ["contract1"]
    assert names(at(site, "base", heads=heads).pending) == ["release1", "release2"]
    assert at(site, "release2", heads=heads).pending == []


def test_what_a_later_release_did_is_looked_up_in_its_own_tree(site, tmp_path):
    later = tmp_path / "later"
    (later / "toy/versions").mkdir(parents=True)
    rows = [("base", None), ("expand2", "base"), ("expand3", "expand2"), ("expand4", "expand3")]
    for name, before in rows:
        text = REVISION.format(name, before, None)
        text += "def upgrade():\n    op.drop_table('a')\n" if name == "expand3" else ""
        (later / "toy/versions" / f"{name}.py").write_text(text)
    found = at(site, "expand4", "contract1", later=str(later))
    assert found.state == "ahead"
    assert [(m.revision, m.removes) for m in found.later] == [("expand3", True), ("expand4", False)]
    assert found.pending == []
    # Of the other branch something is lacking all the same.
    assert names(at(site, "expand4", later=str(later)).pending) == ["contract1"]


def test_nobody_says_of_an_unknown_revision_that_it_removes_nothing(site):
    found = at(site, "expand2", "strange")
    assert found.state == "ahead"
    assert found.later == [databases.Migration("strange", "", removes=True)]
    assert found.pending == []


def test_tables_of_a_release_before_alembic_are_what_the_first_revision_makes(site):
    found = seen(Sqlite(site, number=402))
    assert found.state == "behind"
    assert names(found.pending) == ["expand1", "contract1", "expand2"]


def test_pending_and_later_numbers_have_the_titles_of_their_files(tmp_path):
    for tree, newest in (("old", 3), ("new", 5)):
        versions = tmp_path / tree / "toy/versions"
        versions.mkdir(parents=True)
        for number in range(1, newest + 1):
            text = "t.c.x.drop()\n" if number == 3 else ""
            (versions / f"{number:03}_add_part_{number}.py").write_text(text)
        (tmp_path / tree / "toy/migrate.cfg").write_text("repository_id=toy\n")
    table, old, new = {"table": "migrate_version"}, tmp_path / "old", tmp_path / "new"
    pending = seen(Sqlite(old, number=1, **table)).pending
    assert [(m.title, m.removes) for m in pending] == [("add part 2", False), ("add part 3", True)]
    later = seen(Sqlite(old, number=5, later=str(new), **table)).later
    assert [(m.revision, m.title) for m in later] == [("004", "add part 4"), ("005", "add part 5")]
    unknown = seen(Sqlite(old, number=4, **table))
    assert (unknown.state, unknown.later[0].removes) == ("ahead", True)
    assert unknown.pending == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("op.drop_table('a')", True),
        ("op.drop_table('migrate_version')", False),
        ("with op.batch_alter_table('a') as batch:\n    batch.drop_column('b')", True),
        ("op.rename_table('a', 'b')", True),
        ("op.alter_column('a', 'b', new_column_name='c')", True),
        ("op.alter_column('a', 'b', nullable=False)", False),
        ("op.drop_index('a')\nop.drop_constraint('b')", False),
        ("op.execute('DROP TABLE a')", True),
        ("op.execute(sa.text(' alter table a\\n drop column b'))", True),
        ("op.execute('ALTER TABLE %s DROP COLUMN b' % a)", True),
        ("op.execute(f'ALTER TABLE {a} RENAME TO b')", True),
        ("op.execute('ALTER TABLE ' + a + ' RENAME TO b')", True),
        ("op.execute('ALTER TABLE a DROP FOREIGN KEY b')", False),
        ("op.execute('ALTER TABLE a ALTER COLUMN b DROP DEFAULT')", False),
        ("op.execute('DELETE FROM a')", False),
        ("'''Drop table a, in words.'''", False),
        ("sa.Table('a').create()", False),
        ("for name in names:\n    if has(name):\n        sa.Table(name).drop()", True),
        ("a.c.b.alter(name='c')", True),
        ("a.c.b.alter(type=Text)", False),
        ("op.execute(schema.DropTable(a))", True),
    ],
)
def test_what_removes_is_told_from_what_adds(body, expected):
    for function, told in (("upgrade", expected), ("helper", expected), ("downgrade", False)):
        text = f"def {function}():\n{textwrap.indent(body, '    ')}\n"
        assert probe.removes(ast.parse(text)) is told


def test_a_migration_for_another_python_is_still_one(site):
    text = REVISION.format("expand3", "expand2", None) + "print 'of Python 2'\n"
    (site / "toy/versions/expand3_say_it.py").write_text(text)
    text = text.replace("'expand2'", "(\n    'expand3',\n)").replace("'expand3'", "'expand4'", 1)
    (site / "toy/versions/expand4.py").write_text(text)
    found = at(site, "expand2", "contract1")
    assert names(found.pending) == ["expand3", "expand4"]
    assert found.pending[0] == databases.Migration("expand3", "say it", removes=True)
