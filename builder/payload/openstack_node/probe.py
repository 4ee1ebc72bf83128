"""Report the state of a service's databases and broker, in the tree's Python as its user.

It reads a question (JSON, see `ask` in databases.py) from standard input and prints the
answer. The addresses, and the passwords in them, are read here and never leave this process: the
output has only host, user and name of a database, and the words of this module.

The tree's Python is 2.7 in old series: this file, and no other, is for both.
"""

import ast
import calendar
import datetime
import json
import os
import re
import socket
import sys
import time

try:
    from urllib.parse import unquote, urlparse
except ImportError:  # Python 2
    from urllib import unquote  # type: ignore[attr-defined,no-redef]

    from urlparse import urlparse  # type: ignore[import-not-found,no-redef]

MYPY = False
if MYPY:
    from collections.abc import Iterable  # noqa: F401 - only in comments
    from typing import Any  # noqa: F401 - likewise

CONNECT_SECONDS = 5
READ_SECONDS = 10
FIT = ("current", "behind", "ahead")  # states of a database with its tables
FITS, MISFIT = "fits", "misfit"  # of a template
# What names another option in a value (as oslo.config's Template has it).
NAMED = re.compile(r"\$\{?([_a-z][._a-z0-9]*)", re.IGNORECASE)
DENIED = {1045, 1698}  # MySQL: wrong password, or this user may not log in this way
MISSING = {1044, 1049}  # no such database; 1044 for users without access
TIMEOUTS = {
    "pymysql": {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "write_timeout": READ_SECONDS,
    },
    "mysqldb": {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS},
    "psycopg2": {"connect_timeout": CONNECT_SECONDS},
}
# Of PostgreSQL's messages, in the language of its server.
POSTGRES = {
    "authentication failed": "denied",
    "does not exist": "missing",
    "could not connect": "unreachable",
    "connection refused": "unreachable",
    "could not translate host name": "unreachable",
}
# Makes a broker report why it ends a login (old clients do not ask for it).
BROKER_CLIENT = {"capabilities": {"authentication_failure_close": True}}
# What migrations call to remove or rename a table or a column, in alembic, SQLAlchemy and
# sqlalchemy-migrate; below, the arguments that rename one.
REMOVALS = {"drop_table", "drop_column", "rename_table", "drop", "drop_all", "rename", "DropTable"}
RENAMED = {"alter_column": "new_column_name", "alter": "name"}
REMOVING_SQL = re.compile(
    r"\s*(DROP\s+TABLE|RENAME\s+TABLE|ALTER\s+TABLE\s.*\b(CHANGE|DROP|RENAME)\b"
    r"(?!\s+(CHECK|CONSTRAINT|DEFAULT|FOREIGN|INDEX|KEY|NOT|PRIMARY)\b))",
    re.IGNORECASE | re.DOTALL,
)
TEXT = type(b"".decode())  # of Python 2: unicode
TEXTS = (str, TEXT)


def main():
    # type: () -> None
    """Answer the question on standard input."""
    # Keep the tree's libraries from importing the modules next to this one.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    question = json.load(sys.stdin)
    json.dump(answer(question), sys.stdout)


def answer(question):
    # type: (dict[str, Any]) -> dict[str, Any]
    """Return the state of each database, which steps are done, and what cannot be read."""
    found = {"files": check_access(question), "schemas": {}, "done": {}, "cells": []}  # type: dict[str, Any]
    try:
        conf = read_options(question)
    except Exception as error:  # whatever oslo.config finds wrong with the files
        # It would quote an invalid line in full, including a password.
        quoted = "" if "Parse" in type(error).__name__ else ": " + make_text(error)
        found["error"] = type(error).__name__ + quoted
        return found
    found["broker"] = check_broker(conf["DEFAULT"]["transport_url"] or "", conf)
    addresses = {s["name"]: conf[s["section"]][s["option"]] or "" for s in question["schemas"]}
    sites = question["site"], question.get("later_site", "")
    cells = []  # type: list[dict[str, Any]]
    found["records"] = []
    for schema in question["schemas"]:
        url, suffix = addresses[schema["name"]], schema["suffix"]
        mapped = [c for c in cells if suffix and c["derived"]]
        url, suffix = (mapped[0]["database"], "") if mapped else (url, suffix)
        database = Database(url, suffix, sites, schema).look()
        for index, step in enumerate(question["done"]):
            if step["schema"] == schema["name"]:
                found["done"][str(index)] = database.has_row(step["query"])
        if schema["cells"]:
            of = next(s for s in question["schemas"] if s["name"] == schema["cells"]["schema"])
            main = addresses[of["name"]]
            cells = database.read_cells(
                schema["cells"], main, conf["DEFAULT"]["transport_url"] or ""
            )
            found["cells"] = [describe_cell(c, main, conf) for c in cells]
            for name, other in look_at_other_cells(cells, main, sites, of):
                found["schemas"][name] = other.describe()
                found["records"] += other.read_records(question.get("records", []))
                other.close()
        found["schemas"][schema["name"]] = database.describe()
        found["records"] += database.read_records(question.get("records", []))
        database.close()
    return found


def look_at_other_cells(cells, main, sites, schema):
    # type: (list[dict[str, Any]], str, tuple[str, str], dict[str, Any]) -> Iterable[tuple[str, Database]]
    """Yield the databases of the cells that the files of this node do not name."""
    for cell in cells:
        if not cell["derived"] and cell["database"] != main:
            name = "cell " + (cell["name"] or cell["id"])
            yield name, Database(cell["database"], "", sites, schema).look()


def check_access(question):
    # type: (dict[str, Any]) -> dict[str, list[str]]
    """Return which configuration files this user cannot read and which directories it can write."""
    unreadable = [p for p in question["files"] if not os.access(p, os.R_OK)]
    writable = [d for d in question["directories"] if os.access(d, os.W_OK)]
    return {"unreadable": unreadable, "writable": writable}


def read_options(question):
    # type: (dict[str, Any]) -> Any
    """Return the addresses of databases and broker in the files, by section."""
    from oslo_config import cfg  # only the tree's Python has it

    conf = cfg.ConfigOpts()
    options = {(s["section"], s["option"]) for s in question["schemas"]}
    options |= {("DEFAULT", "transport_url"), ("oslo_messaging_rabbit", "ssl")}
    for section, option in sorted(options):
        group = None if section == "DEFAULT" else section
        conf.register_opt(cfg.StrOpt(option, secret=True), group=group)
    arguments, paths = [], []  # type: list[str], list[str]
    for path in question["configs"]:
        if path.endswith("/"):
            if os.path.isdir(path):
                arguments.append("--config-dir=" + path)
                paths += [path + name for name in os.listdir(path) if name.endswith(".conf")]
        elif os.path.exists(path):
            arguments.append("--config-file=" + path)
            paths.append(path)
    conf(arguments, project=question["service"], default_config_files=[], default_config_dirs=[])
    register_named(conf, paths)
    read = {}  # type: dict[str, dict[str, str]]
    for section, option in options:
        read.setdefault(section, {})[option] = read_value(conf, section, option)
    return read


def register_named(conf, paths):
    # type: (Any, Iterable[str]) -> None
    """Register with a configuration the options that values in some files name by a `$`.

    Those the files do not set are left as written: only the service knows their defaults.
    """
    from oslo_config import cfg  # likewise

    for path in paths:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8", "replace")
        for name in NAMED.findall(text):
            group, dot, option = name.partition(".")
            known = cfg.StrOpt(option if dot else name, default="$$" + name)
            try:
                conf.register_opt(known, group=group if dot else None)
            except cfg.Error:
                pass  # already registered


def read_value(conf, section, option):
    # type: (Any, str, str) -> str
    """Return an option's value, or nothing; also nothing if it names a section."""
    from oslo_config import cfg  # likewise

    try:
        value = getattr(conf if section == "DEFAULT" else conf[section], option)
    except cfg.Error:
        return ""
    return value or ""


def check_broker(url, conf):
    # type: (str, Any) -> dict[str, str] | None
    """Return the state of the message broker, the best of several; None if there is none."""
    parts = urlparse(url)
    if not url or not parts.scheme.startswith(("rabbit", "kombu")):
        return None
    encrypted = str(conf["oslo_messaging_rabbit"]["ssl"]).lower() in {"true", "1", "yes", "on"}
    host = unquote(parts.path[1:]) or "/"
    found = [check_one_broker(netloc, host, encrypted) for netloc in parts.netloc.split(",")]
    return next((one for one in found if one["state"] == "current"), found[-1])


def check_one_broker(netloc, virtual_host, encrypted):
    # type: (str, str, bool) -> dict[str, str]
    """Return the state of one broker: whether it answers and accepts user and password."""
    login, _, place = netloc.rpartition("@")
    user, _, password = (unquote(part) for part in login.partition(":"))
    known = {"user": user, "host": place, "database": virtual_host}
    try:
        server = urlparse("//" + place)
        address = server.hostname or "localhost", server.port or 5672
        socket.create_connection(address, CONNECT_SECONDS).close()
    except (EnvironmentError, ValueError) as error:
        return dict(known, state="unreachable", detail=make_text(error))
    if encrypted:  # certificates are left to the service
        return dict(known, state="current", detail="")
    state, detail = try_login(address, user, password, virtual_host)
    return dict(known, state=state, detail=detail)


def try_login(address, user, password, virtual_host):
    # type: (tuple[str, int], str, str, str) -> tuple[str, str]
    """Return the state a login to a broker shows, and an error's name."""
    try:
        from amqp import Connection, exceptions  # only the tree's Python has it
    except ImportError:
        return "current", ""
    try:
        connection = Connection(
            "{}:{}".format(*address),
            userid=user,
            password=password,
            virtual_host=virtual_host,
            client_properties=BROKER_CLIENT,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=CONNECT_SECONDS,
        )
        if hasattr(connection, "connect"):  # before 2.0 it is connected already
            connection.connect()
        connection.close()
    except (exceptions.AccessRefused, exceptions.NotAllowed):
        return "denied", ""
    except (EnvironmentError, exceptions.AMQPError) as error:
        return "unreachable", type(error).__name__
    return "current", ""


class Unanswered(Exception):  # noqa: N818 - an event, recorded in Database.state
    """A query a reachable server did not answer."""


class Database(object):
    """One database: whether it can be reached, and which revision it has.

    `sites` are the locations of the code, and of a later release's code, or nothing. `pending`
    are the migrations the code has and the database does not, `later` those the database has
    and the code does not know, as `describe_revision` returns them, ancestors first. None are
    pending if there are no tables (all would be), or if a revision is unknown to both.
    """

    def __init__(self, url, suffix, sites, schema):
        # type: (str, str, tuple[str, str], dict[str, Any]) -> None
        self.url, self.suffix, self.schema, self.site = url, suffix, schema, sites[0]
        self.migrations = os.path.join(sites[0], schema["migrations"])
        self.others = os.path.join(sites[1], schema["migrations"]) if sites[1] else ""
        self.state, self.detail = "unset", ""
        self.pending = []  # type: list[dict[str, Any]]
        self.later = []  # type: list[dict[str, Any]]
        self.where = {}  # type: dict[str, str]
        self.connection = None  # type: Any

    def describe(self):
        # type: () -> dict[str, Any]
        """Return what may leave this process."""
        return dict(
            self.where,
            state=self.state,
            detail=self.detail,
            pending=self.pending,
            later=self.later,
        )

    def close(self):
        # type: () -> None
        """Disconnect from the server."""
        if self.connection is not None:
            self.connection.close()

    def look(self):
        # type: () -> Database
        """Determine the state."""
        if self.url:
            self._connect()
        if self.connection is not None:
            try:
                self._compare()
            except Unanswered:
                pass  # the state shows it
        return self

    def _connect(self):
        # type: () -> None
        import sqlalchemy  # likewise
        from sqlalchemy.engine import url as urls
        from sqlalchemy.pool import NullPool

        try:
            url = urls.make_url(self.url)
        except Exception:  # its text would have the password
            self.state = "malformed"
            return
        url = replace_database(url, (url.database or "") + self.suffix)
        self.where = {"user": url.username, "host": describe_place(url), "database": url.database}
        if url.drivername.startswith("sqlite") and not os.path.exists(url.database or ""):
            self.state = "empty"  # connecting would create it
            return
        driver = url.drivername.partition("+")[2]
        driver = driver or ("mysqldb" if url.drivername == "mysql" else "")
        try:
            engine = sqlalchemy.create_engine(
                url, connect_args=TIMEOUTS.get(driver, {}), poolclass=NullPool
            )
            self.connection = engine.connect()
        except Exception as error:  # drivers have their own errors
            self.state, self.detail = classify(error, make_text(url.password or ""))

    def _read_rows(self, query):
        # type: (str) -> list[Any] | None
        """Return the rows of a query, or None if its table does not exist."""
        from sqlalchemy import exc  # likewise

        try:
            return self._execute(query)
        except exc.DBAPIError as error:
            absent = isinstance(error, exc.ProgrammingError) or "no such table" in str(error.orig)
            if not absent:  # the server went away, or takes too long
                self.state, self.detail = classify(error, "")
                raise Unanswered
            if hasattr(self.connection, "rollback"):
                self.connection.rollback()  # PostgreSQL answers nothing until then
            return None

    def _execute(self, query):
        # type: (str) -> list[Any]
        from sqlalchemy import text  # likewise

        return list(self.connection.execute(text(query)))

    def has_row(self, query):
        # type: (str) -> bool
        """Whether a query returns a row."""
        if self.connection is None:
            return False
        try:
            return bool(self._read_rows(query))
        except Unanswered:
            return False

    def _compare(self):
        # type: () -> None
        if not os.path.isdir(self.migrations):
            self.state, self.detail = "unknown", self.migrations + " does not exist"
        elif self.schema["table"] == "migrate_version":
            self._compare_numbers()
        else:
            self._compare_revisions()

    def _compare_revisions(self):
        # type: () -> None
        """Compare with alembic's revisions."""
        rows = self._read_rows("SELECT version_num FROM " + self.schema["table"])  # noqa: S608
        code, others = read_revisions(self.migrations), read_revisions(self.others)
        parents = {r: before for r, (before, _) in code.items()}
        has = {row[0] for row in rows or []}
        if not has and self._read_rows("SELECT version FROM migrate_version"):
            # From a release before alembic: the sync takes it to be at the first revision.
            has = {r for r, before in parents.items() if not before}
        if not has:
            self.state = "empty"
            return
        covered = find_ancestors(
            has, dict({r: before for r, (before, _) in others.items()}, **parents)
        )
        missing = find_heads(parents) - covered
        if covered.intersection(self.schema.get("heads", ())):
            missing = set()
        unknown = covered - set(parents)
        self.state = "ahead" if unknown else "behind" if missing else "current"
        wanted = ", the code expects " + " ".join(sorted(missing)) if missing else ""
        self.detail = "revision " + " ".join(sorted(has)) + wanted
        if unknown <= set(others):
            self.pending = describe_revisions(
                choose_way(covered, parents, self.schema.get("heads", ())), code
            )
        self.later = describe_revisions(unknown, others)

    def _compare_numbers(self):
        # type: () -> None
        """Compare with the numbers of sqlalchemy-migrate."""
        name = read_repository(os.path.join(os.path.dirname(self.migrations), "migrate.cfg"))
        rows = self._read_rows("SELECT repository_id, version FROM migrate_version")
        version = next((int(r[1]) for r in rows or [] if r[0] == name), 0)
        code, others = list_numbered(self.migrations), list_numbered(self.others)
        newest = max([0] + [int(n) for n in code])
        if not version:
            self.state = "empty"
        else:
            self.state = (
                "current" if version == newest else "behind" if version < newest else "ahead"
            )
            self.pending = describe_revisions([n for n in code if int(n) > version], code)
            later = ["{:03}".format(n) for n in range(newest + 1, version + 1)]
            self.later = describe_revisions(later, others)
        self.detail = "revision {}, the code has {}".format(version, newest)

    def read_records(self, rules):
        # type: (list[dict[str, Any]]) -> list[dict[str, Any]]
        """Return the daemons with a row here, as `rules` find them; a rule's index matters.

        Nothing if the tables are from a release with other columns, or cannot be reached.
        """
        found = []  # type: list[dict[str, Any]]
        for index, rule in enumerate(rules):
            if rule["schema"] != self.schema["name"] or self.state not in FIT:
                continue
            try:
                rows = self._execute(rule["query"])
            except Exception:  # another release's columns; the state shows the rest
                return found
            floor = find_floor(rule, self.site)
            found += [describe_record(row, index, rule, floor) for row in rows]
        return found

    def read_cells(self, rule, database, transport):
        # type: (dict[str, Any], str, str) -> list[dict[str, Any]]
        """Return the further databases, the addresses filled in from `database` and `transport`."""
        if self.connection is None:
            return []
        rows = []  # type: list[Any]
        try:
            rows = self._read_rows(rule["query"]) or []
        except Unanswered:
            pass  # the state shows it
        return [
            {
                "id": row[0],
                "name": row[1] or "",
                "derived": row[0] == rule["derived"],
                "database": fill_template(row[2] or "", database)[0],
                "database_template": fill_template(row[2] or "", database)[1],
                "transport": fill_template(row[3] or "", transport)[0],
                "transport_template": fill_template(row[3] or "", transport)[1],
            }
            for row in rows
        ]


def describe_record(row, index, rule, floor):
    # type: (Any, int, dict[str, Any], list[int]) -> dict[str, Any]
    """Return a daemon's row: `age` in seconds since it last reported, None for never.

    `old`: it keeps daemons of the code from starting.
    """
    identity, host, daemon, off, passed, heard, version = row
    counts = not passed and daemon == (rule["floor_daemon"] or daemon)
    return {
        "rule": index,
        "id": make_text(identity),
        "host": make_text(host),
        "daemon": make_text(daemon),
        "off": bool(off),
        "age": compute_age(heard),
        "old": bool(floor) and counts and parse_numbers(version) < floor,
    }


def compute_age(heard):
    # type: (Any) -> int | None
    """Return the seconds since a time in UTC, also if its clock is ahead."""
    if not heard:
        return None
    if isinstance(heard, TEXTS):  # from sqlite
        heard = datetime.datetime.strptime(make_text(heard)[:19], "%Y-%m-%d %H:%M:%S")
    return abs(int(time.time() - calendar.timegm(heard.timetuple())))


def parse_numbers(version):
    # type: (Any) -> list[int]
    """Return a version's numbers, for comparison; none if there is no version."""
    return [int(n) for n in re.findall(r"\d+", make_text(version or ""))]


def find_floor(rule, site):
    # type: (dict[str, Any], str) -> list[int]
    """Return the oldest version the code starts alongside; nothing if it accepts any."""
    path = os.path.join(site, rule["floor_file"])
    if not rule["floor_file"] or not os.path.isfile(path):
        return parse_numbers(rule["floor"])
    module = parse_module(path)
    values = read_assigned(module) if module else {}
    table = values.get(rule["floor_table"])
    return (
        parse_numbers(table.get(values.get(rule["floor_key"]))) if isinstance(table, dict) else []
    )


def describe_cell(cell, database, conf):
    # type: (dict[str, Any], str, Any) -> dict[str, Any]
    """Return a cell without its addresses: whether they match those of the files.

    A template that can be filled in from the files does. `template`: one of them is a template
    that cannot, so that it is used as a literal address.
    """
    transport = cell["transport"], conf["DEFAULT"]["transport_url"] or ""
    filled_in = cell["database_template"], cell["transport_template"]
    return {
        "id": cell["id"],
        "name": cell["name"],
        "derived": cell["derived"],
        "database": filled_in[0] == FITS or cell["database"] == database,
        "transport": filled_in[1] == FITS
        or split_brokers(transport[0]) == split_brokers(transport[1]),
        "template": MISFIT in filled_in,
    }


def split_brokers(url):
    # type: (str) -> tuple[Any, ...]
    """Return a broker's address in parts: hosts in any order, no virtual host equal to `/`."""
    parts = urlparse(url)
    return parts.scheme, sorted(parts.netloc.split(",")), parts.path.strip("/"), parts.query


def fill_template(template, default):
    # type: (str, str) -> tuple[str, str]
    """Return a cell's address, and whether it is a template with parts of the configured one.

    The parts of several hosts are numbered from 1. A template that names a missing part is left
    unchanged.
    """
    if "{" not in template:
        return template, ""
    try:
        # Every address passes here, even one with a brace in its password.
        return template.format(**split_address(default)), FITS
    except (AttributeError, LookupError, TypeError, ValueError):
        return template, MISFIT


def split_address(url):
    # type: (str) -> dict[str, Any]
    """Return the parts of an address that a template may name."""
    parts = urlparse(url)
    values = {
        "scheme": parts.scheme,
        "username": parts.username,
        "password": parts.password,
        "hostname": parts.hostname,
        "port": parts.port,
        "path": parts.path.lstrip("/"),
        "query": parts.query,
        "fragment": parts.fragment,
    }  # type: dict[str, Any]
    if "," in parts.netloc:
        for number, netloc in enumerate(parts.netloc.split(","), 1):
            values.update((name + str(number), part) for name, part in split_netloc(netloc))
    return values


def split_netloc(netloc):
    # type: (str) -> list[tuple[str, str | None]]
    """Return the parts of one host of several, which urlparse does not separate."""
    login, at, host = netloc.partition("@")
    if not at:
        login, host = "", netloc
    user, colon, password = login.partition(":")
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket:
            raise ValueError("Invalid IPv6 URL")
        rest = port  # type: str | None
    else:
        name, found, port = host.partition(":")
        rest = port if found else None
    return [
        ("username", user),
        ("password", password if colon else None),
        ("hostname", name),
        ("port", rest),
    ]


def read_repository(path):
    # type: (str) -> str
    """Return the name of its revisions in the database, from sqlalchemy-migrate's file."""
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        found = re.search(r"^repository_id\s*[=:]\s*(\S+)", file.read(), re.MULTILINE)
    return found.group(1) if found else ""


def replace_database(url, name):
    # type: (Any, str) -> Any
    """Return the address of another database; before SQLAlchemy 1.4 addresses can change."""
    if hasattr(url, "set"):
        return url.set(database=name)
    url.database = name
    return url


def describe_place(url):
    # type: (Any) -> str
    """Return host and port, or in words where the server is."""
    if not url.host:
        return "this host"
    return "{}:{}".format(url.host, url.port) if url.port else str(url.host)


def make_text(error):
    # type: (object) -> str
    """Return an error's text, as text whatever bytes Python 2 has in it."""
    if isinstance(error, TEXT):
        return error
    try:
        text = str(error)  # type: Any
    except UnicodeError:
        text = repr(error)
    return str(text) if isinstance(text, TEXT) else text.decode("utf-8", "replace")


def classify(error, password):
    # type: (Exception, str) -> tuple[str, str]
    """Return the state an error means, and its text without the password."""
    original = getattr(error, "orig", None) or error
    code = original.args[0] if original.args and isinstance(original.args[0], int) else 0
    text = make_text(original.args[-1] if original.args else original).strip().splitlines()
    detail = (text[0] if text else type(original).__name__)[:300]
    if password:
        detail = detail.replace(password, "***")
    if isinstance(error, ImportError):
        return "error", "its driver is not installed: " + detail
    if code in DENIED:
        return "denied", detail
    if code in MISSING:
        return "missing", detail
    if 2000 <= code < 2100:
        return "unreachable", detail
    known = (state for words, state in POSTGRES.items() if words in detail.lower())
    return next(known, "error"), detail


def read_revisions(directory):
    # type: (str) -> dict[str, tuple[set[str], str]]
    """Return each revision below a directory: parents (and other dependencies), and module.

    The modules are parsed, not run: that would import the service.
    """
    found = {}
    for path in list_modules(directory):
        module = parse_module(path)
        values = read_assigned(module) if module else read_assigned_lines(path)
        if isinstance(values.get("revision"), TEXTS):
            before = (values.get("down_revision"), values.get("depends_on"))
            parents = {r for value in before for r in make_tuple(value)}
            found[str(values["revision"])] = parents, path
    used = find_ancestors(
        read_recorded_heads(directory), {r: before for r, (before, _) in found.items()}
    )
    return {r: found[r] for r in used if r in found} or found


def read_recorded_heads(directory):
    # type: (str) -> set[str]
    """Return the last revisions, from the `*_HEAD` files next to them.

    There may be other modules that no command of this release uses.
    """
    names = os.listdir(directory) if os.path.isdir(directory) else []
    ends = set()  # type: set[str]
    for name in names:
        if name.endswith("_HEAD"):
            with open(os.path.join(directory, name)) as file:
                ends.update(file.read().split())
    return ends


def list_numbered(directory):
    # type: (str) -> dict[str, tuple[set[str], str]]
    """Return the same for sqlalchemy-migrate's modules, by numbers of at least three digits."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    numbers = {n: re.match(r"\d{3,}", n) for n in names if n.endswith(".py")}
    return {m.group(): (set(), os.path.join(directory, n)) for n, m in numbers.items() if m}


def describe_revisions(some, known):
    # type: (Iterable[str], dict[str, tuple[set[str], str]]) -> list[dict[str, Any]]
    """Return the descriptions of revisions, ancestors first."""
    rest, rows = set(some), []  # type: set[str], list[dict[str, Any]]
    while rest:
        first = {r for r in rest if r not in known or not rest.intersection(known[r][0])}
        first = first or set(rest)  # a circle
        rows += [describe_revision(r, known[r][1] if r in known else "") for r in sorted(first)]
        rest -= first
    return rows


def describe_revision(revision, path):
    # type: (str, str) -> dict[str, Any]
    """Return a revision, its title, and whether it `removes` something.

    That is, whether a table or a column is removed or renamed, so that code of the previous
    release may no longer work. sqlalchemy-migrate's modules do not show what they drop: there an
    index counts, too. Constraints are not considered. If a module cannot be read, because it is
    missing or for another Python, it may remove something: `removes` is true, and the title may
    be empty.
    """
    module = parse_module(path) if path else None
    return {
        "revision": revision,
        "title": find_title(module, revision, path),
        "removes": module is None or removes(module),
        # Some services have directories of that name, others files.
        "contract": "contract" in os.sep.join(path.split(os.sep)[-2:]),
    }


def find_title(module, revision, path):
    # type: (ast.Module | None, str, str) -> str
    """Return the first line of a module's docstring, or else the name of its file."""
    lines = make_text((module and ast.get_docstring(module)) or "").strip().splitlines()
    if lines:
        return lines[0].strip().rstrip(".")
    name = os.path.splitext(os.path.basename(path))[0]
    return re.sub("^" + re.escape(revision), "", name).replace("_", " ").strip()


def removes(node):
    # type: (ast.AST) -> bool
    """Whether code removes or renames a table or a column, not counting `downgrade`."""
    if isinstance(node, ast.FunctionDef) and node.name == "downgrade":
        return False
    if isinstance(node, ast.Expr) and read_literal(node.value):
        return False  # a docstring, which may begin like SQL
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if RENAMED.get(name) in [k.arg for k in node.keywords]:
            return True
        # sqlalchemy-migrate's own table does not matter to code with alembic.
        noted = node.args and read_literal(node.args[0]) == "migrate_version"
        if name in REMOVALS and not noted:
            return True
    if REMOVING_SQL.match(read_literal(node)):
        return True
    return any(removes(child) for child in ast.iter_child_nodes(node))


def read_literal(node):
    # type: (ast.AST) -> str
    """Return the text of an expression, with `?` for inserted values."""
    if isinstance(node, ast.BinOp):
        left = read_literal(node.left)
        return left + (read_literal(node.right) or "?") if isinstance(node.op, ast.Add) else left
    if isinstance(node, getattr(ast, "JoinedStr", ())):
        return "".join(read_literal(value) or "?" for value in ast.iter_child_nodes(node))
    # Python 2 has it as `s`.
    value = getattr(node, "value", vars(node).get("s"))
    return value if isinstance(value, TEXTS) else ""


def parse_module(path):
    # type: (str) -> ast.Module | None
    """Return a parsed module; None if this Python cannot parse it."""
    with open(path, "rb") as file:
        try:
            return ast.parse(file.read())
        except (SyntaxError, ValueError):
            return None


def read_assigned_lines(path):
    # type: (str) -> dict[str, object]
    """Return the constants that lines of a module assign, for any version of Python."""
    with open(path, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    row = r"^(revision|down_revision|depends_on)\b[^=\n]*=\s*(\([^)]*\)|\S.*)$"
    found = re.findall(row, text, re.MULTILINE)
    return read_assigned(ast.parse("\n".join(name + " = " + value for name, value in found)))


def list_modules(directory):
    # type: (str) -> Iterable[str]
    """Yield the modules below a directory."""
    for root, _, names in os.walk(directory):
        for name in names:
            if name.endswith(".py"):
                yield os.path.join(root, name)


def read_assigned(module):
    # type: (ast.Module) -> dict[str, object]
    """Return the constants a module assigns at top level."""
    values = {}  # type: dict[str, object]
    annotated = getattr(ast, "AnnAssign", ())
    for node in module.body:
        if isinstance(node, ast.Assign):
            names, value = node.targets, node.value
        elif isinstance(node, annotated) and node.value is not None:
            names, value = [node.target], node.value
        else:
            continue
        for name in names:
            if isinstance(name, ast.Name):
                try:
                    values[name.id] = ast.literal_eval(value)
                except ValueError:
                    values[name.id] = None
    return values


def make_tuple(value):
    # type: (object) -> tuple[str, ...]
    """Return the revisions alembic takes `value` for."""
    if isinstance(value, TEXTS):
        return (str(value),)
    return tuple(value) if isinstance(value, (list, set, tuple)) else ()


def find_ancestors(start, parents):
    # type: (set[str], dict[str, set[str]]) -> set[str]
    """Return the revisions that `start` includes, and `start` itself."""
    found = set()  # type: set[str]
    todo = list(start)
    while todo:
        revision = todo.pop()
        if revision not in found:
            found.add(revision)
            todo += parents.get(revision, ())
    return found


def choose_way(covered, parents, ends):
    # type: (set[str], dict[str, set[str]], Iterable[str]) -> set[str]
    """Return the revisions missing from `covered`.

    If each of `ends` is sufficient, those leading to the end that is closest to done.
    """
    ways = [find_ancestors({end}, parents) for end in ends if end in parents] or [set(parents)]
    return min(ways, key=lambda w: (-len(w & covered), len(w))) - covered


def find_heads(parents):
    # type: (dict[str, set[str]]) -> set[str]
    """Return the revisions without successors."""
    return set(parents) - {p for some in parents.values() for p in some}


if __name__ == "__main__":
    main()
