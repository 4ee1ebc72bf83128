"""What a service is: the frozen values of a project file (`projects/services/<name>.toml`).

Adding a service is adding a file. Every entry of a list may carry `since` and `until`,
series ids (`ocata`, `2025.2`); both ends are included. `Service.for_series` narrows a
service to one series; all later code sees only the narrowed value.

Texts may hold `{tree}` (the series' Python tree on a node) and `{series}` (its id).
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeVar

from builder.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

NO_STRINGS: Mapping[str, str] = MappingProxyType({})
MODE = re.compile(r"0[0-7]{3}")


@dataclass(frozen=True, slots=True)
class User:
    """The system user and group of the service (`[user]`); both are called `name`.

    `uid`: fixed id of user and group, 0 for a dynamic one (Debian has fixed ones where
    files live on shared storage). `home`: default `/var/lib/<name>`; made with `home_mode`.
    """

    name: str
    uid: int = 0
    home: str = ""
    home_mode: str = "0750"
    shell: str = "/usr/sbin/nologin"

    def __post_init__(self) -> None:
        _check_mode(self.home_mode)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory made when absent (`[[directories]]`); an existing one is left as it is.

    `/etc/<service>`, its `<service>.conf.d`, `/var/lib/<service>`, `/var/log/<service>`,
    `/run/<service>` and `/run/lock/<service>` are made for every service and not listed.
    `owner` and `group` default to the service's; `package` to the common package.
    `purge`: `remove` with all it holds, `empty` when nothing is in it, `keep` (and say so).
    """

    path: str
    owner: str = ""
    group: str = ""
    mode: str = "0750"
    package: str = ""
    purge: Literal["remove", "empty", "keep"] = "empty"
    since: str = ""
    until: str = ""

    def __post_init__(self) -> None:
        _check_mode(self.mode)


@dataclass(frozen=True, slots=True)
class Preset:
    """An option set in a file when the package is built, so that the pristine file has it.

    Goes below the option's own commented default; a live line of the file is replaced.
    Entries of the same section and option are set as several lines (multi-valued options).
    """

    section: str
    option: str
    value: str
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class FileWhen:
    """Where a file's source is in some series (`[[files.when]]`), in place of its own."""

    config_generator: str = ""
    policy_generator: str = ""
    from_: str = ""
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file a package brings (`[[files]]`); exactly one of the four sources is given.

    `path`: relative to `/etc/<service>`, or absolute. What ends below `/etc` is installed
    pristine below `/usr/share/<package>/` and copied by ucf, with `owner`, `group`
    (default: the service's) and `mode`; anything else is shipped as it is, 0644 root:root.
    A path that ends in `/` takes several files (not below `/etc`).

    `config_generator`: input file of oslo-config-generator, in the tarball.
    `policy_generator`: input file of oslopolicy-sample-generator, in the tarball.
    `from_` (key `from`): a file of the tarball, or a glob.
    `text`: the text itself.
    """

    path: str
    package: str = ""
    config_generator: str = ""
    policy_generator: str = ""
    from_: str = ""
    text: str = ""
    mode: str = "0640"
    owner: str = "root"
    group: str = ""
    presets: tuple[Preset, ...] = ()
    when: tuple[FileWhen, ...] = ()
    since: str = ""
    until: str = ""

    def __post_init__(self) -> None:
        _check_mode(self.mode)
        sources = (self.config_generator, self.policy_generator, self.from_, self.text)
        if sum(map(bool, sources)) != 1:
            raise ValueError(
                f"{self.path}: give one of config-generator, policy-generator, from, text"
            )
        if self.path.endswith("/") and not self.path.startswith("/usr/"):
            raise ValueError(f"{self.path}: only a directory below /usr can take several files")

    def folded(self) -> File:
        """Return the file as its `when` entries make it."""
        folded = dataclasses.replace(self, when=())
        for when in self.when:
            folded = dataclasses.replace(
                folded,
                config_generator=when.config_generator or folded.config_generator,
                policy_generator=when.policy_generator or folded.policy_generator,
                from_=when.from_ or folded.from_,
            )
        return folded


@dataclass(frozen=True, slots=True)
class When:
    """What is otherwise with a package in some series (`[[packages.when]]`).

    `description` takes the place of the package's own; all else is added.
    """

    description: str = ""
    depends: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    suggests: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package (`[[packages]]`).

    `summary`: the synopsis. `description`: paragraphs of its own; the service's follows.
    Relation fields are lists of Debian relations. A package of this service needs no
    version (the exact one is added), and the common package, the Python code and the
    locked closure no entry: each package depends on the common one, that on the rest.
    `meta`: has no files; depends on what it lists and nothing else.
    `scripts`: console scripts linked into /usr/bin.
    `groups`: further groups the service's user is put into.
    `apparmor`: profiles of other packages, by their file in /etc/apparmor.d, that take in
    the rules this package has as `/usr/share/<package>/apparmor/<profile>`.
    """

    name: str
    summary: str
    description: str = ""
    meta: bool = False
    pre_depends: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    suggests: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    apparmor: tuple[str, ...] = ()
    when: tuple[When, ...] = ()
    since: str = ""
    until: str = ""

    def folded(self) -> Package:
        """Return the package as its `when` entries make it, its scripts in alphabetical order."""
        apart = {"description", "since", "until"}
        names = [f.name for f in dataclasses.fields(When) if f.name not in apart]
        more = {n: getattr(self, n) + sum((getattr(w, n) for w in self.when), ()) for n in names}
        more["scripts"] = tuple(sorted(more["scripts"]))
        texts = [w.description for w in self.when if w.description]
        description = texts[-1] if texts else self.description
        return dataclasses.replace(self, when=(), description=description, **more)


@dataclass(frozen=True, slots=True)
class Wsgi:
    """Where a WSGI application is: `module` (`a.b:application`) or a `script` of the tree's bin."""

    module: str = ""
    script: str = ""
    since: str = ""
    until: str = ""

    def __post_init__(self) -> None:
        if bool(self.module) == bool(self.script):
            raise ValueError("a WSGI entry has either a module or a script")


Kind = Literal["daemon", "uwsgi", "oneshot"]
KillMode = Literal["mixed", "process", "control-group"]
Sandbox = Literal["strict", "sudo", "host"]


@dataclass(frozen=True, slots=True)
class DaemonWhen:
    """What is otherwise with a daemon in some series (`[[daemons.when]]`).

    `threads` and `kill_mode` take the place of the daemon's own; `after`, `uwsgi` and
    `settings` are added.
    """

    threads: int = 0
    kill_mode: KillMode | None = None
    after: tuple[str, ...] = ()
    uwsgi: Mapping[str, str] = field(default_factory=lambda: NO_STRINGS)
    settings: tuple[str, ...] = ()
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A systemd unit `<name>.service` (`[[daemons]]`).

    `kind`: `daemon` runs `script` with `args`; `uwsgi` serves the entry of `wsgi` that
    holds in the series on `port`, from `/etc/<service>/<name>-uwsgi.ini`; `oneshot` runs
    `script` once and remains. `script`: a name in the tree's bin, or an absolute path.
    `type`: systemd's; default notify (oneshot for a oneshot). oslo.service says READY.
    `start`: `now` is enabled and (re)started on installation; `boot` only enabled;
    `manual` neither.
    `sandbox`: `strict` has the file system read-only but for its own directories, no new
    privileges, no devices; `sudo` leaves out what would make sudo fail; `host` has no mount
    namespace at all: mounts and network namespaces it makes must be seen by others.
    `after`: units (besides network, database, message broker and memcached);
    `wants`, `part_of`, `conditions` (lines such as `ConditionPathExists=/x`): as systemd's.
    `needs`: options that must be set in a file of /etc/<service> before it is started, as
    it can only fail without them; default `connection` for uwsgi, which would load the
    application in each of its processes to find that out. An unset one is no failure.
    `kill_mode`: `process` for agents whose children must outlive them.
    `settings`: further lines of the unit's [Service] section, which win over the others.
    `timeout_stop`, `restart_seconds`: seconds. `log_file`: below /var/log/<service>, of a
    uwsgi application (others take their script's name).
    `uwsgi`: further settings of the ini (a name with an empty value is left out).
    """

    name: str
    package: str
    description: str
    kind: Kind = "daemon"
    script: str = ""
    args: tuple[str, ...] = ()
    wsgi: tuple[Wsgi, ...] = ()
    port: int = 0
    processes: int = 2
    threads: int = 8
    uwsgi: Mapping[str, str] = field(default_factory=lambda: NO_STRINGS)
    type: str = ""
    start: Literal["now", "boot", "manual"] = "now"
    sandbox: Sandbox = "strict"
    user: str = ""
    after: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    part_of: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    needs: tuple[str, ...] | None = None
    pre_start: tuple[str, ...] = ()
    kill_mode: KillMode = "mixed"
    timeout_stop: int = 90
    restart_seconds: int = 10
    environment: Mapping[str, str] = field(default_factory=lambda: NO_STRINGS)
    settings: tuple[str, ...] = ()
    read_write: tuple[str, ...] = ()
    log_file: str = ""
    when: tuple[DaemonWhen, ...] = ()
    since: str = ""
    until: str = ""

    def __post_init__(self) -> None:
        if self.kind == "uwsgi" and not self.port:
            raise ValueError(f"{self.name}: a uwsgi daemon has a port and a wsgi entry")
        if self.kind != "uwsgi" and not self.script:
            raise ValueError(f"{self.name}: a {self.kind} has a script")

    def folded(self) -> Daemon:
        """Return the daemon as its `when` entries make it."""
        folded = dataclasses.replace(self, when=())
        for when in self.when:
            folded = dataclasses.replace(
                folded,
                threads=when.threads or folded.threads,
                kill_mode=when.kill_mode or folded.kill_mode,
                after=folded.after + when.after,
                uwsgi={**folded.uwsgi, **when.uwsgi},
                settings=folded.settings + when.settings,
            )
        return folded

    @property
    def needed(self) -> tuple[str, ...]:
        """The options without which it is not started."""
        if self.needs is None:
            return ("connection",) if self.kind == "uwsgi" else ()
        return self.needs

    @property
    def uses_database(self) -> bool:
        """Whether it works on the service's database itself."""
        return self.kind == "uwsgi" or "connection" in self.needed

    @property
    def unit_type(self) -> str:
        """The Type= of the unit."""
        return self.type or ("oneshot" if self.kind == "oneshot" else "notify")


@dataclass(frozen=True, slots=True)
class Step:
    """A command run once as `user` (default: the service's) after installation (`[[steps]]`).

    `command`: a script of the tree's bin and its arguments. `unless_exists`: the path that
    says it has been done. `package`: whose postinst runs it (default: the common one).
    """

    command: tuple[str, ...]
    unless_exists: str
    package: str = ""
    user: str = ""
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """What the command `openstack-node` knows of the service as a whole (`[node]`).

    `order`: services are set up from the lowest to the highest.
    `upgrade_check`: a script of the tree and its arguments; exit status 0 is well, 1 a
    warning, 2 a failure (oslo.upgradecheck). Left out where the tree has no such script.
    `negotiated_by`: the option, `section/option`, by which daemons take up what those of an
    older release understand; `start` where they do without one. They find that out as they
    start, so they are restarted once more when an upgrade is complete.
    """

    order: int = 100
    upgrade_check: tuple[str, ...] = ()
    negotiated_by: str = ""

    def __post_init__(self) -> None:
        how = self.negotiated_by
        if how not in {"", "start"} and how.count("/") != 1:
            raise ValueError(f"negotiated-by is start or section/option, not {how!r}")


@dataclass(frozen=True, slots=True)
class Schema:
    """A database of the service (`[[schemas]]`): where its address is, what its code wants.

    `section`, `option`: what holds the address. `suffix`: goes behind the name of the
    database in that address. `migrations`: the directory of revisions, below
    site-packages. `table`: where the database keeps its revision; `migrate_version` is
    sqlalchemy-migrate's, whose revisions are numbers. `cells`: the schema of the
    databases that nova's table cell_mappings, in this one, lists. `heads`: where several
    ways lead to the same tables, the last revision of each; one of them is enough.
    """

    name: str
    migrations: str
    section: str = "database"
    option: str = "connection"
    suffix: str = ""
    table: str = "alembic_version"
    cells: str = ""
    heads: tuple[str, ...] = ()
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """A command that brings databases to what the code wants (`[[setup]]`), in order.

    `title`: what it does, for the person who watches. `command`: a script of the tree and
    its arguments. `schemas`: the databases it needs. `done`: an SQL query on the first of
    them that gives a row when the step is not needed any more, or the word `current`: it
    is not needed while all of them are at the code's revision. A step without it is run
    each time, and must then do no harm. `secret`: an environment variable that has to be
    given, by the question that is asked for it on a terminal. `environment`: further
    variables, where `{keystone_url}` and `{region}` are put in. `package`: the step is
    for nodes that have it.
    """

    title: str
    command: tuple[str, ...]
    schemas: tuple[str, ...] = ("main",)
    done: str = ""
    secret: Mapping[str, str] = field(default_factory=lambda: NO_STRINGS)
    environment: Mapping[str, str] = field(default_factory=lambda: NO_STRINGS)
    package: str = ""
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A command on the way to this series (`[[upgrade]]`), in the order of the project's guide.

    `phase`: `expand` is run by the new code while the old one still serves, and `contract`
    once nothing of the old release runs anywhere in the cloud. `title`: what it does, for
    the person who watches. `command`: a script of the tree and its arguments.
    `accept`: exit statuses that are well. `again`: the status that says that there is more
    to do, so that it is run again (0: none). `package`: the step is for nodes that have it.
    """

    phase: Literal["expand", "contract"]
    title: str
    command: tuple[str, ...]
    accept: tuple[int, ...] = (0,)
    again: int = 0
    package: str = ""
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """Options a daemon cannot do its work without (`[[settings]]`); their lack is told.

    They are looked for in what the daemons of `package` read, unless the section has an
    `auth_section`, by which another one has them.
    """

    package: str
    section: str
    options: tuple[str, ...]
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Sections whose names an administrator chooses (`[[dynamic]]`), so no sample has them.

    `named_by`: the option, `section/option`, that lists them; what follows a colon is no
    part of the name. `pattern`: a regular expression of the whole name. `like`: the
    sections of the sample whose options they take.
    """

    like: tuple[str, ...]
    named_by: str = ""
    pattern: str = ""
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A service of OpenStack.

    `name`: source package, `/etc/<name>`, `/var/lib/<name>`. `title`: `OpenStack Compute`.
    `distribution`: its name on the package index. `deliverable`: its file in upstream's
    releases repository. `epoch`: of the Debian version, 0 for none. `description`:
    paragraphs every package's description ends with. `common`: the package that owns
    user, directories, configuration and scripts.
    `sudoers`: what the user may run as root: a script of the tree and its arguments.
    `logs`: log files of command-line tools, made at installation so that a run as root
    does not leave one the service cannot write.
    `tmpfiles`: further lines of tmpfiles.d(5).
    `exclude`: paths (globs, `*` crosses no `/`) of the wheel's tree, below `{tree}`, that
    are not packaged; `{site}` is its site-packages.
    """

    name: str
    title: str
    distribution: str
    deliverable: str
    description: str
    homepage: str
    user: User
    common: str
    packages: tuple[Package, ...]
    epoch: int = 0
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    daemons: tuple[Daemon, ...] = ()
    steps: tuple[Step, ...] = ()
    sudoers: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    tmpfiles: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    node: Node = field(default_factory=Node)
    schemas: tuple[Schema, ...] = ()
    setup: tuple[Setup, ...] = ()
    upgrade: tuple[Upgrade, ...] = ()
    settings: tuple[Setting, ...] = ()
    dynamic: tuple[Dynamic, ...] = ()
    since: str = ""
    until: str = ""

    def __post_init__(self) -> None:
        names = {p.name for p in self.packages}
        owners = [
            *(d.package for d in self.directories),
            *(f.package for f in self.files),
            *(d.package for d in self.daemons),
            *(s.package for s in self.steps),
            *(s.package for s in self.setup),
            *(u.package for u in self.upgrade),
            *(s.package for s in self.settings),
        ]
        for name in [self.common, *filter(None, owners)]:
            if name not in names:
                raise ValueError(f"no package {name!r} here; nearest: {nearest(name, names)}")

    def exists_in(self, series: str, order: Sequence[str]) -> bool:
        """Whether the service is part of `series`; `order` is all series ids, oldest first."""
        return holds(self, series, order)

    def for_series(self, series: str, order: Sequence[str]) -> Service:
        """Return what the service is in `series`; `order` is all series ids, oldest first.

        Raises DataError for a service that is not part of the series, and for entries
        that clash in it.
        """
        if not self.exists_in(series, order):
            raise DataError(f"{self.name} is not part of {series}")
        narrowed = _narrow(self, series, order)
        narrowed = dataclasses.replace(
            narrowed,
            packages=tuple(p.folded() for p in narrowed.packages),
            files=tuple(f.folded() for f in narrowed.files),
            daemons=tuple(d.folded() for d in narrowed.daemons),
        )
        _check_unique(self.name, series, "package", (p.name for p in narrowed.packages))
        _check_unique(self.name, series, "daemon", (d.name for d in narrowed.daemons))
        _check_unique(self.name, series, "file", (f.path for f in narrowed.files))
        _check_unique(self.name, series, "schema", (s.name for s in narrowed.schemas))
        for setup in narrowed.setup:
            for schema in set(setup.schemas) - {s.name for s in narrowed.schemas}:
                raise DataError(f"{self.name}: setup: no schema {schema!r} in {series}")
        for daemon in narrowed.daemons:
            if daemon.kind == "uwsgi" and len(daemon.wsgi) != 1:
                raise DataError(
                    f"{self.name}: {daemon.name} has {len(daemon.wsgi)} WSGI entries in {series}"
                )
        return narrowed


def roles_for(roles: Sequence[Package], series: str, order: Sequence[str]) -> list[Package]:
    """Return what the role packages are in `series`; `order` is all ids, oldest first."""
    held = (role for role in roles if holds(role, series, order))
    return [_narrow(role, series, order).folded() for role in held]


def _check_mode(mode: str) -> None:
    """Refuse what is not four octal digits with a leading 0."""
    if not MODE.fullmatch(mode):
        raise ValueError(f"{mode!r} is not a mode such as 0750")


def _check_unique(service: str, series: str, what: str, names: Iterable[str]) -> None:
    """Refuse two entries of one name in one series."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{service}: two entries for {what} {name} in {series}")
        seen.add(name)


def holds(entry: object, series: str, order: Sequence[str]) -> bool:
    """Whether `series` lies between the entry's `since` and `until`, both included."""
    rank = {s: i for i, s in enumerate(order)}
    since, until = getattr(entry, "since", ""), getattr(entry, "until", "")
    for name in filter(None, (since, until, series)):
        if name not in rank:
            raise DataError(f"no series {name!r}", hint=f"nearest: {nearest(name, order)}")
    first = rank[since] if since else 0
    last = rank[until] if until else len(rank)
    return first <= rank[series] <= last


def _narrow(value: T, series: str, order: Sequence[str]) -> T:
    """Return the dataclass `value` without the entries, at any depth, that do not hold."""
    changes: dict[str, object] = {}
    for f in dataclasses.fields(value):  # type: ignore[arg-type]
        items = getattr(value, f.name)
        if isinstance(items, tuple) and items and dataclasses.is_dataclass(items[0]):
            kept = (i for i in items if holds(i, series, order))
            changes[f.name] = tuple(_narrow(i, series, order) for i in kept)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]
