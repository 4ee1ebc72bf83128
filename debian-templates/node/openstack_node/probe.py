"""What a service's databases and broker are like: run by the tree's Python as the service's user.

It reads a question (JSON, see `ask` in databases.py) from standard input and prints the
answer. The addresses, and the passwords in them, are read here and never leave it: what
goes out is host, user and name of a database, and the words of this module.
"""

from __future__ import annotations

import ast
import configparser
import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

CONNECT_SECONDS = 5
READ_SECONDS = 10
CELL0 = "00000000-0000-0000-0000-000000000000"
DENIED = {1045, 1698}  # MySQL: the password, or that this user may come in this way
MISSING = {1044, 1049}  # no such database; the former is said to users who may not know
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


def main() -> None:
    """Answer the question on standard input."""
    question = json.load(sys.stdin)
    json.dump(answer(question), sys.stdout)


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Return the state of each database, what steps are done, and what cannot be read."""
    found: dict[str, Any] = {"files": access(question), "schemas": {}, "done": {}, "cells": []}
    try:
        conf = read_options(question)
    except Exception as error:  # noqa: BLE001 - whatever oslo.config has against the files
        # Of a line that is wrong it would quote all, a password too.
        text = "" if "Parse" in type(error).__name__ else f": {error}"
        found["error"] = f"{type(error).__name__}{text}"
        return found
    found["broker"] = broker(conf["DEFAULT"]["transport_url"] or "", conf)
    addresses = {s["name"]: conf[s["section"]][s["option"]] or "" for s in question["schemas"]}
    cells: list[dict[str, str]] = []
    for schema in question["schemas"]:
        url, suffix = addresses[schema["name"]], schema["suffix"]
        mapped = [c for c in cells if suffix and c["uuid"] == CELL0]
        url, suffix = (mapped[0]["database"], "") if mapped else (url, suffix)
        database = Database(url, suffix, question["site"], schema).look()
        for index, step in enumerate(question["done"]):
            if step["schema"] == schema["name"]:
                found["done"][str(index)] = database.has_row(step["query"])
        if schema["cells"]:
            of = next(s for s in question["schemas"] if s["name"] == schema["cells"])
            main = addresses[of["name"]]
            cells = database.cells(main, conf["DEFAULT"]["transport_url"] or "")
            found["cells"] = [described_cell(c, main, conf) for c in cells]
            found["schemas"].update(other_cells(cells, main, question["site"], of))
        found["schemas"][schema["name"]] = database.described()
        database.close()
    return found


def other_cells(
    cells: list[dict[str, str]], main: str, site: str, schema: dict[str, Any]
) -> dict[str, Any]:
    """Return the databases of the cells that the files of this node do not name."""
    found = {}
    for cell in cells:
        if cell["uuid"] != CELL0 and cell["database"] != main:
            database = Database(cell["database"], "", site, schema).look()
            found[f"cell {cell['name'] or cell['uuid']}"] = database.described()
            database.close()
    return found


def access(question: dict[str, Any]) -> dict[str, list[str]]:
    """Return which configuration files this user cannot read and which directories it can write."""
    unreadable = [p for p in question["files"] if not os.access(p, os.R_OK)]
    writable = [d for d in question["directories"] if os.access(d, os.W_OK)]
    return {"unreadable": unreadable, "writable": writable}


def read_options(question: dict[str, Any]) -> Any:  # noqa: ANN401 - a library's, seen by the tree alone
    """Return what the files say of the addresses of databases and broker, by section."""
    from oslo_config import cfg  # noqa: PLC0415 - only the tree's Python has it

    conf = cfg.ConfigOpts()
    options = {(s["section"], s["option"]) for s in question["schemas"]}
    options |= {("DEFAULT", "transport_url"), ("oslo_messaging_rabbit", "ssl")}
    for section, option in sorted(options):
        group = None if section == "DEFAULT" else section
        conf.register_opt(cfg.StrOpt(option, secret=True), group=group)
    arguments = []
    for path in question["configs"]:
        if path.endswith("/"):
            if Path(path).is_dir():
                arguments.append(f"--config-dir={path}")
        elif Path(path).exists():
            arguments.append(f"--config-file={path}")
    conf(arguments, project=question["service"], default_config_files=[], default_config_dirs=[])
    read: dict[str, dict[str, str]] = {}
    for section, option in options:
        value = getattr(conf if section == "DEFAULT" else conf[section], option)
        read.setdefault(section, {})[option] = value
    return read


def broker(url: str, conf: Any) -> dict[str, str] | None:  # noqa: ANN401
    """Return how the message broker is, the best of several; None where there is none."""
    parts = urlparse(url)
    if not url or not parts.scheme.startswith(("rabbit", "kombu")):
        return None
    encrypted = str(conf["oslo_messaging_rabbit"]["ssl"]).lower() in {"true", "1", "yes", "on"}
    host = unquote(parts.path[1:]) or "/"
    found = [one_broker(netloc, host, encrypted=encrypted) for netloc in parts.netloc.split(",")]
    return next((one for one in found if one["state"] == "current"), found[-1])


def one_broker(netloc: str, virtual_host: str, *, encrypted: bool) -> dict[str, str]:
    """Return how one broker is: whether it answers, and takes user and password."""
    login, _, place = netloc.rpartition("@")
    user, _, password = (unquote(text) for text in login.partition(":"))
    server = urlparse(f"//{place}")
    known = {"user": user, "host": place, "database": virtual_host}
    try:
        address = server.hostname or "localhost", server.port or 5672
        socket.create_connection(address, CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        return {"state": "unreachable", "detail": str(error), **known}
    if encrypted:  # its certificates are the service's own affair
        return {"state": "current", "detail": "", **known}
    try:
        from amqp import Connection, exceptions  # noqa: PLC0415 - only the tree's Python has it
    except ImportError:
        return {"state": "current", "detail": "", **known}
    connection = Connection(
        f"{address[0]}:{address[1]}",
        userid=user,
        password=password,
        virtual_host=virtual_host,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=CONNECT_SECONDS,
    )
    try:
        connection.connect()
        connection.close()
    except (exceptions.AccessRefused, exceptions.NotAllowed):
        return {"state": "denied", "detail": "", **known}
    except (OSError, exceptions.AMQPError) as error:
        return {"state": "unreachable", "detail": type(error).__name__, **known}
    return {"state": "current", "detail": "", **known}


class Unanswered(Exception):  # noqa: N818 - an event, told in Database.state
    """A query a reachable server did not answer."""


class Database:
    """One database: whether it can be reached, and which revision it has."""

    def __init__(self, url: str, suffix: str, site: str, schema: dict[str, Any]) -> None:
        self.url, self.suffix, self.schema = url, suffix, schema
        self.migrations = Path(site, schema["migrations"])
        self.state, self.detail = "unset", ""
        self.where: dict[str, str] = {}
        self.connection: Any = None

    def described(self) -> dict[str, Any]:
        """Return what may be told."""
        return {"state": self.state, "detail": self.detail, **self.where}

    def close(self) -> None:
        """Let go of the server."""
        if self.connection is not None:
            self.connection.close()

    def look(self) -> Database:
        """Find the state out."""
        if self.url:
            self._connect()
        if self.connection is not None:
            with suppress(Unanswered):
                self._compare()
        return self

    def _connect(self) -> None:
        import sqlalchemy  # noqa: PLC0415 - likewise
        from sqlalchemy.engine import url as urls  # noqa: PLC0415
        from sqlalchemy.pool import NullPool  # noqa: PLC0415

        try:
            url = urls.make_url(self.url)
        except Exception:  # noqa: BLE001 - its text would have the password
            self.state = "malformed"
            return
        url = with_database(url, (url.database or "") + self.suffix)
        self.where = {"user": url.username, "host": place(url), "database": url.database}
        if url.drivername.startswith("sqlite") and not Path(url.database or "").exists():
            self.state = "empty"  # connecting would make it
            return
        driver = url.drivername.partition("+")[2]
        driver = driver or ("mysqldb" if url.drivername == "mysql" else "")
        try:
            engine = sqlalchemy.create_engine(
                url, connect_args=TIMEOUTS.get(driver, {}), poolclass=NullPool
            )
            self.connection = engine.connect()
        except Exception as error:  # noqa: BLE001 - drivers have errors of their own
            self.state, self.detail = classified(error, str(url.password or ""))

    def _rows(self, query: str) -> list[Any] | None:
        """Return what a query gives, or None where its table does not exist."""
        from sqlalchemy import exc, text  # noqa: PLC0415 - likewise

        try:
            return list(self.connection.execute(text(query)))
        except exc.DBAPIError as error:
            absent = isinstance(error, exc.ProgrammingError) or "no such table" in str(error.orig)
            if not absent:  # the server went away, or takes too long
                self.state, self.detail = classified(error, "")
                raise Unanswered from error
            if hasattr(self.connection, "rollback"):
                self.connection.rollback()  # PostgreSQL answers nothing until then
            return None

    def has_row(self, query: str) -> bool:
        """Whether a query gives a row."""
        if self.connection is None:
            return False
        with suppress(Unanswered):
            return bool(self._rows(query))
        return False

    def _compare(self) -> None:
        if not self.migrations.is_dir():
            self.state, self.detail = "unknown", f"{self.migrations} is not there"
        elif self.schema["table"] == "migrate_version":
            self._compare_numbers()
        else:
            self._compare_revisions()

    def _compare_revisions(self) -> None:
        """Compare with alembic's revisions."""
        rows = self._rows(f"SELECT version_num FROM {self.schema['table']}")  # noqa: S608
        if not rows:
            self.state = "empty"
            return
        parents = revisions(self.migrations)
        has = {row[0] for row in rows}
        covered = ancestors(has, parents)
        missing = heads(parents) - covered
        if has - set(parents):
            self.state = "ahead"
        else:
            self.state = "behind" if missing else "current"
        wanted = f", the code wants {' '.join(sorted(missing))}" if missing else ""
        self.detail = f"revision {' '.join(sorted(has))}{wanted}"

    def _compare_numbers(self) -> None:
        """Compare with the numbers of sqlalchemy-migrate."""
        parser = configparser.ConfigParser()
        parser.read(self.migrations.parent / "migrate.cfg")
        name = parser.get("db_settings", "repository_id", fallback="")
        rows = self._rows("SELECT repository_id, version FROM migrate_version")
        version = next((int(r[1]) for r in rows or [] if r[0] == name), 0)
        numbers = [int(n) for p in self.migrations.glob("*.py") if (n := p.name[:3]).isdigit()]
        newest = max(numbers, default=0)
        if not version:
            self.state = "empty"
        else:
            self.state = (
                "current" if version == newest else "behind" if version < newest else "ahead"
            )
        self.detail = f"revision {version}, the code has {newest}"

    def cells(self, database: str, transport: str) -> list[dict[str, str]]:
        """Return nova's cells, the addresses filled in from `database` and `transport`."""
        if self.connection is None:
            return []
        query = "SELECT uuid, name, database_connection, transport_url FROM cell_mappings"
        rows: list[Any] = []
        with suppress(Unanswered):
            rows = self._rows(query) or []
        return [
            {
                "uuid": row[0],
                "name": row[1] or "",
                "database": filled(row[2] or "", database),
                "transport": filled(row[3] or "", transport),
            }
            for row in rows
        ]


def described_cell(cell: dict[str, str], database: str, conf: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a cell without its addresses: whether they are those of the files."""
    return {
        "uuid": cell["uuid"],
        "name": cell["name"],
        "database": cell["database"] == database,
        "transport": cell["transport"] == (conf["DEFAULT"]["transport_url"] or ""),
    }


def filled(template: str, default: str) -> str:
    """Return a cell's address: a template takes the parts of the configured one."""
    if "{" not in template:
        return template
    parts = urlparse(default)
    values = {
        "scheme": parts.scheme,
        "username": parts.username,
        "password": parts.password,
        "hostname": parts.hostname,
        "port": parts.port,
        "path": parts.path.lstrip("/"),
        "query": parts.query,
        "fragment": parts.fragment,
    }
    try:
        return template.format(**values)
    except (KeyError, IndexError, ValueError):  # of several brokers
        return template


def with_database(url: Any, name: str) -> Any:  # noqa: ANN401
    """Return the address of another database; before SQLAlchemy 1.4 addresses can change."""
    if hasattr(url, "set"):
        return url.set(database=name)
    url.database = name
    return url


def place(url: Any) -> str:  # noqa: ANN401
    """Return host and port, or what else says where the server is."""
    if not url.host:
        return "this host"
    return f"{url.host}:{url.port}" if url.port else str(url.host)


def classified(error: Exception, password: str) -> tuple[str, str]:
    """Return the state an error means, and its text without the password."""
    original = getattr(error, "orig", None) or error
    code = original.args[0] if original.args and isinstance(original.args[0], int) else 0
    text = str(original.args[-1] if original.args else original).strip().splitlines()
    detail = (text[0] if text else type(original).__name__)[:300]
    if password:
        detail = detail.replace(password, "***")
    if isinstance(error, ImportError):
        return "error", f"its driver is not installed: {detail}"
    if code in DENIED:
        return "denied", detail
    if code in MISSING:
        return "missing", detail
    if 2000 <= code < 2100:
        return "unreachable", detail
    known = (state for words, state in POSTGRES.items() if words in detail.lower())
    return next(known, "error"), detail


def revisions(directory: Path) -> dict[str, set[str]]:
    """Return the parents (and what else it depends on) of each revision below a directory.

    The files are read and not run: that would import the service.
    """
    found = {}
    for path in directory.rglob("*.py"):
        values = assigned(ast.parse(path.read_bytes()))
        if isinstance(values.get("revision"), str):
            before = (values.get("down_revision"), values.get("depends_on"))
            parents = {r for value in before for r in as_tuple(value)}
            found[str(values["revision"])] = parents
    return found


def assigned(module: ast.Module) -> dict[str, object]:
    """Return the constants a module assigns at its top."""
    values = {}
    for node in module.body:
        if isinstance(node, ast.Assign):
            names, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
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


def as_tuple(value: object) -> tuple[str, ...]:
    """Return the revisions alembic takes `value` for."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, (list, set, tuple)) else ()


def ancestors(start: set[str], parents: dict[str, set[str]]) -> set[str]:
    """Return the revisions that `start` includes, itself too."""
    found: set[str] = set()
    todo = list(start)
    while todo:
        revision = todo.pop()
        if revision not in found:
            found.add(revision)
            todo += parents.get(revision, ())
    return found


def heads(parents: dict[str, set[str]]) -> set[str]:
    """Return the revisions nothing comes after."""
    return set(parents) - {p for some in parents.values() for p in some}


if __name__ == "__main__":
    main()
