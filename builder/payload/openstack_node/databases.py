"""Query the databases of a service, and its broker, by `probe.py` as the service's user."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openstack_node import system

if TYPE_CHECKING:
    from openstack_node.ini import Settings
    from openstack_node.manifest import Service

PROBE = Path(__file__).with_name("probe.py")
SECONDS = 45
STATES = {
    "current": "is at this release's revision",
    "behind": "is behind the code",
    "ahead": "is from a later release than the code",
    "empty": "has no tables yet",
    "unset": "has no address",
    "malformed": "has an invalid address",
    "unreachable": "cannot be reached",
    "denied": "refuses the user or its password",
    "missing": "does not exist, or its user has no access to it",
    "unknown": "has an unknown revision",
    "error": "cannot be used",
}
USABLE = {"current", "behind", "ahead", "empty", "unknown"}


@dataclass(frozen=True)
class Migration:
    """A step from one revision of a database to the next.

    `removes`: it removes or renames a table or a column, so that the previous release's code may
    no longer work; also true for one that cannot be read, whose title is empty.
    `describe_revision` in probe.py lists its limits. `contract`: it is on the branch that runs
    last, when nothing of the previous release runs any more.
    """

    revision: str
    title: str
    removes: bool
    contract: bool = False


@dataclass(frozen=True)
class Schema:
    """A database: its state (a key of STATES), and what is known of its location.

    `pending` are the migrations the code has and the database does not, `later` those the
    database has and the code does not know; ancestors first.
    """

    name: str
    state: str
    detail: str = ""
    user: str = ""
    host: str = ""
    database: str = ""
    pending: list[Migration] = field(default_factory=list)
    later: list[Migration] = field(default_factory=list)

    @property
    def where(self) -> str:
        """Database and host, as in `cloud at controller`."""
        return f"{self.database} at {self.host}" if self.database else ""


@dataclass(frozen=True)
class Record:
    """A daemon's row in a database, which shows others that it is alive and what it understands.

    `rule` is the index of its entry in the manifest's `records`. `off`: a person disabled it.
    `age`: seconds since it last reported, None for never. `old`: while the row exists, no daemon
    of the release in question starts.
    """

    rule: int
    id: str
    host: str
    daemon: str
    off: bool
    age: int | None
    old: bool


@dataclass(frozen=True)
class Answer:
    """What the probe found; `error` says why it found nothing."""

    schemas: dict[str, Schema] = field(default_factory=dict)
    done: dict[int, bool] = field(default_factory=dict)
    cells: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    writable: list[str] = field(default_factory=list)
    error: str = ""
    broker: Schema | None = None  # its `database` is the virtual host
    records: list[Record] = field(default_factory=list)


def ask(
    service: Service, files: list[str], later_site: str = "", *, records: bool = False
) -> Answer:
    """Query the databases of a service, and check the files, as its user.

    `files` should be readable by that user. `later_site` is the site-packages of a later release,
    which that user can read too, to look up what a database has and the service's own code does
    not know. With `records`, daemons' rows are read.
    """
    question = {
        "service": service.name,
        "site": service.data["site"],
        "later_site": later_site,
        "configs": service.configs,
        "files": files,
        "directories": [
            service.data["directory"],
            f"{service.data['directory']}/{service.name}.conf.d",
        ],
        "schemas": service.data["schemas"] if service.wants_database else [],
        "records": service.data.get("records", []) if records else [],
        "done": [
            {"schema": s["schemas"][0], "query": s["done"]}
            for s in service.steps
            if s["done"] not in ("", "current")
        ],
    }
    python = service.python
    # Python 2 has no -I, only what it stands for.
    argv = [python, "-E", "-s", "-B", str(PROBE)]
    done = system.run(argv, user=service.user, seconds=SECONDS, stdin=json.dumps(question))
    if done.code is None:
        return Answer(error=f"no answer within {SECONDS} s")
    try:
        return _parse_answer(json.loads(done.out), service)
    except ValueError:
        return Answer(error=f"{python} exited with status {done.code}")


def demand(service: Service, files: list[str], later_site: str = "") -> Answer:
    """Ask; raise NodeError if there is no answer."""
    answer = ask(service, files, later_site=later_site)
    if answer.error:
        raise system.NodeError(f"{service.name}: {answer.error}", "see openstack-node status")
    return answer


def _parse_answer(found: dict[str, Any], service: Service) -> Answer:
    derived = {s["name"] for s in service.data["schemas"] if s["suffix"]}
    states = {n: _parse_schema(n, s) for n, s in found["schemas"].items()}
    queries = [i for i, s in enumerate(service.steps) if s["done"] not in ("", "current")]
    return Answer(
        # An address derived from another one by a suffix need not be set.
        schemas={n: s for n, s in states.items() if n not in derived or s.state != "unset"},
        done={queries[int(i)]: yes for i, yes in found["done"].items()},
        cells=found["cells"],
        unreadable=found["files"]["unreadable"],
        writable=found["files"]["writable"],
        error=found.get("error", ""),
        broker=Schema(name="rabbit", **found["broker"]) if found.get("broker") else None,
        records=[Record(**row) for row in found.get("records", [])],
    )


def _parse_schema(name: str, found: dict[str, Any]) -> Schema:
    lists = {k: [Migration(**row) for row in found[k]] for k in ("pending", "later")}
    return Schema(**{**found, "name": name, **lists})


def advise(service: Service, schema: Schema, settings: Settings) -> tuple[str, list[str]]:
    """Return a line on what is wrong with a database, and what to do about it.

    `settings` has the place of its address.
    """
    data = service.find_schema(schema.name)
    option = f"[{data['section']}] {data['option']}"
    place = settings.find_place(data["section"], data["option"])
    where, form = f"{option} in {place}", "mysql+pymysql://USER:PASSWORD@HOST/DATABASE"
    name = f"the database {schema.database} at {schema.host}"
    setup = f"openstack-node setup {service.name}"
    known = {
        "unset": (f"{option} is not set", [f"set {where} to {form}"]),
        "malformed": (f"{option} is not a database address", [f"correct {where}: {form}"]),
        "denied": (
            f"{name} refuses the user {schema.user} or its password",
            [f"correct the user or the password of {where}", schema.detail],
        ),
        "unreachable": (
            f"{name} cannot be reached",
            [f"start the database server, or correct the host of {where}", schema.detail],
        ),
        "missing": (
            f"{name} does not exist, or {schema.user} has no access to it",
            ["as database administrator:", *render_statements(schema)],
        ),
        "error": (f"{name} cannot be used", [f"see {where}", schema.detail]),
        "empty": (f"{name} has no tables yet", [setup]),
        "behind": (f"{name} is behind the code", [setup, schema.detail]),
    }
    return known.get(schema.state, (f"{name} {STATES[schema.state]}", [schema.detail]))


def check_usable(service: Service, schemas: list[Schema], settings: Settings) -> None:
    """Raise NodeError with what to do for the first database that cannot be used."""
    for schema in schemas:
        if schema.state not in USABLE:
            text, hints = advise(service, schema, settings)
            raise system.NodeError(f"{service.name}: {text}", *hints)


def advise_on_broker(broker: Schema, settings: Settings) -> tuple[str, list[str]]:
    """Return a line on what is wrong with the message broker, and what to do about it."""
    option = f"[DEFAULT] transport_url in {settings.find_place('DEFAULT', 'transport_url')}"
    if broker.state == "denied":
        permissions = f"rabbitmqctl set_permissions -p {broker.database} {broker.user}"
        return f"the broker at {broker.host} refuses the user {broker.user} or its password", [
            f"correct {option}, or on the broker's host:",
            f"  rabbitmqctl add_user {broker.user} PASSWORD",
            f"  {permissions} '.*' '.*' '.*'",
        ]
    hint = f"start rabbitmq-server, or correct {option}"
    return f"the broker at {broker.host} cannot be reached", [hint, broker.detail]


def render_statements(schema: Schema) -> list[str]:
    """Return the install guide's SQL that creates a database and grants its user access."""
    grant = (
        f"  GRANT ALL PRIVILEGES ON {schema.database}.* TO '{schema.user}'@'%s'"
        " IDENTIFIED BY 'PASSWORD';"
    )
    return [f"  CREATE DATABASE {schema.database};", grant % "localhost", grant % "%"]
