"""What a service is: the frozen values of a project file (`projects/services/<name>.toml`).

To add a service, add a file. Every entry of a list may have `since` and `until`,
series ids (`ocata`, `2025.2`), both inclusive. `Service.narrow_to_series` narrows a
service to one series; all later code sees only the narrowed value.

Texts may contain `{tree}` (the series' Python tree on a node) and `{series}` (its id).
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeVar

from builder.errors import DataError, list_nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.model.shapes import (
        AbsolutePath,
        AccountName,
        Argument,
        CommandLine,
        Condition,
        DaemonName,
        DirectoryPath,
        DistributionName,
        EnvironmentName,
        Epoch,
        ExitStatus,
        Expression,
        FileName,
        HomePath,
        Identifier,
        InstalledPath,
        Line,
        LogName,
        Mode,
        OptionName,
        PackageName,
        Port,
        Program,
        Relation,
        RelativeGlob,
        RelativePath,
        Script,
        Seconds,
        SectionName,
        SeriesBound,
        ServiceName,
        SettingName,
        ShellPath,
        ShellTest,
        SudoCommand,
        SuiteName,
        Synopsis,
        Text,
        Title,
        TmpfilesLine,
        TreeGlob,
        Uid,
        UnitLine,
        UnitName,
        UnitText,
        UnitType,
        Url,
        Word,
        WsgiModule,
    )

T = TypeVar("T")

NO_STRINGS: Mapping[str, str] = MappingProxyType({})
# How `start-gate` reports that a unit may not start, and that it must try again, by number and by
# systemd's names (systemd.exec(5), "Process Exit Codes").
GATE_CODES = frozenset({"78", "CONFIG", "255", "EXCEPTION"})
# uWSGI settings that a service may not have: processes and threads have their own keys, and
# the rest ends a worker with a request in flight (uWSGI's "Things to know" and options).
NO_SETTING = re.compile(
    r"(threads|processes|workers|p|cheap(er.*)?|idle|die-on-idle"
    r"|(.+-)?harakiri.*|max-requests(-delta)?|(min|max)-worker-lifetime(-delta)?"
    r"|(evil-)?reload-on-.*|(worker-)?reload-mercy|limit-as)"
)


@dataclass(frozen=True, slots=True)
class User:
    """The system user and group of the service (`[user]`).

    `name`: of both. `uid`: fixed id of user and group, 0 for a dynamic one (Debian has fixed ones
    where files are on shared storage). `home`: default `/var/lib/<name>`. `home_mode`: the mode
    it is created with. `shell`: the account's login shell.
    """

    name: AccountName
    uid: Uid = 0
    home: HomePath = ""
    home_mode: Mode = "0750"
    shell: ShellPath = "/usr/sbin/nologin"


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory created if absent (`[[directories]]`); an existing one is left unchanged.

    `/etc/<service>`, its `<service>.conf.d`, `/var/lib/<service>`, `/var/log/<service>`,
    `/run/<service>` and `/run/lock/<service>` are created for every service; do not list them.
    `path`: absolute. `owner`, `group`: default the service's. `mode`: octal, with a leading 0.
    `package`: the package that owns it; default the common package.
    `purge`: `remove` it with its content, remove it if `empty`, or `keep` it (and report that).
    """

    path: DirectoryPath
    owner: AccountName = ""
    group: AccountName = ""
    mode: Mode = "0750"
    package: PackageName = ""
    purge: Literal["remove", "empty", "keep"] = "empty"
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class Preset:
    """An option set in a file when the package is built, so that the pristine file has it.

    It goes below the option's own commented default; an active line in the file is replaced.
    Entries with the same section and option become several lines (multi-valued options).
    `section`, `option`, `value`: as in the file.
    """

    section: SectionName
    option: OptionName
    value: str
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class FileWhen:
    """Another source for a file in some series (`[[files.when]]`), which replaces its own.

    `config_generator`, `policy_generator`, `from_`: as for the file.
    """

    config_generator: RelativePath = ""
    policy_generator: RelativePath = ""
    from_: RelativeGlob = ""
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file in a package (`[[files]]`); give exactly one of the four sources.

    `path`: relative to `/etc/<service>`, or absolute. A file below `/etc` is installed
    pristine below `/usr/share/<package>/` and copied by ucf, with an owner, group and mode;
    any other is shipped unchanged, 0644 root:root. A path that ends in `/` takes several
    files (not below `/etc`).
    `owner`, `group`: of a file below `/etc`; the group's default is the service's. `mode`: octal,
    with a leading 0.

    `config_generator`: input file of oslo-config-generator, in the tarball.
    `policy_generator`: input file of oslopolicy-sample-generator, in the tarball.
    `from_` (key `from`): a file of the tarball, or a glob.
    `text`: the text itself.
    `package`: the package that contains it; default the common package.
    `presets`: options set in it.
    `when`: other sources in some series.
    `adopt`: what happens to an unchanged file of that name from Debian's own package: it is
    kept (`keep`: its options are what a cloud runs with) or replaced by ours (`replace`: it is
    part of the code). Default: `replace` for a file of the tarball.
    """

    path: InstalledPath
    package: PackageName = ""
    config_generator: RelativePath = ""
    policy_generator: RelativePath = ""
    from_: RelativeGlob = ""
    text: Text = ""
    mode: Mode = "0640"
    owner: AccountName = "root"
    group: AccountName = ""
    presets: tuple[Preset, ...] = ()
    when: tuple[FileWhen, ...] = ()
    adopt: Literal["", "keep", "replace"] = ""
    since: SeriesBound = ""
    until: SeriesBound = ""

    def __post_init__(self) -> None:
        sources = (self.config_generator, self.policy_generator, self.from_, self.text)
        if sum(map(bool, sources)) != 1:
            raise ValueError(
                f"{self.path}: give one of config-generator, policy-generator, from, text"
            )
        if self.path.endswith("/") and not self.path.startswith("/usr/"):
            raise ValueError(f"{self.path}: only a directory below /usr can take several files")

    @property
    def gives_way(self) -> bool:
        """Whether an unchanged file of Debian's own package is replaced by this one."""
        return self.adopt == "replace" or (not self.adopt and bool(self.from_))

    def fold(self) -> File:
        """Return the file with its `when` entries applied."""
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
    """Changes to a package in some series (`[[packages.when]]`).

    `description`: replaces the package's own. `depends`, `recommends`, `suggests`,
    `conflicts`, `replaces`, `breaks`, `provides`, `scripts`: added to the package's.
    """

    description: Text = ""
    depends: tuple[Relation, ...] = ()
    recommends: tuple[Relation, ...] = ()
    suggests: tuple[Relation, ...] = ()
    conflicts: tuple[Relation, ...] = ()
    replaces: tuple[Relation, ...] = ()
    breaks: tuple[Relation, ...] = ()
    provides: tuple[Relation, ...] = ()
    scripts: tuple[Script, ...] = ()
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package (`[[packages]]`).

    `name`: of the package. `summary`: the synopsis. `description`: its own paragraphs; the
    service's follow. `pre_depends`, `depends`, `recommends`, `suggests`, `conflicts`, `replaces`,
    `breaks`, `provides`: Debian relations. A package of this service needs no version (the exact
    one is added). Do not list the common package, the Python code and the locked closure: each
    package depends on the common one, which depends on the rest.
    `meta`: has no files and depends only on what it lists.
    `scripts`: console scripts linked into /usr/bin.
    `groups`: further groups the service's user joins.
    `apparmor`: profiles of other packages, by their file in /etc/apparmor.d, that include
    the rules this package ships as `/usr/share/<package>/apparmor/<profile>`.
    `roles`: role packages that depend on this one, besides those in `projects/roles.toml`.
    `takes_over`: packages of Debian's own build of the service that have files of this one.
    The consequences depend on the target (debs/debian.py).
    `transitional`, `aliases`: for a transitional package from Debian's (`Successor`).
    `when`: changes in some series.
    """

    name: PackageName
    summary: Synopsis
    description: Text = ""
    meta: bool = False
    pre_depends: tuple[Relation, ...] = ()
    depends: tuple[Relation, ...] = ()
    recommends: tuple[Relation, ...] = ()
    suggests: tuple[Relation, ...] = ()
    conflicts: tuple[Relation, ...] = ()
    replaces: tuple[Relation, ...] = ()
    breaks: tuple[Relation, ...] = ()
    provides: tuple[Relation, ...] = ()
    scripts: tuple[Script, ...] = ()
    groups: tuple[AccountName, ...] = ()
    apparmor: tuple[FileName, ...] = ()
    roles: tuple[PackageName, ...] = field(default=(), repr=False)
    takes_over: tuple[PackageName, ...] = ()
    transitional: bool = False
    aliases: Mapping[DaemonName, DaemonName] = field(default_factory=lambda: NO_STRINGS)
    when: tuple[When, ...] = ()
    since: SeriesBound = ""
    until: SeriesBound = ""

    def fold(self) -> Package:
        """Return the package with its `when` entries applied, its scripts in alphabetical order."""
        apart = {"description", "since", "until"}
        names = [f.name for f in dataclasses.fields(When) if f.name not in apart]
        more = {n: getattr(self, n) + sum((getattr(w, n) for w in self.when), ()) for n in names}
        more["scripts"] = tuple(sorted(more["scripts"]))
        texts = [w.description for w in self.when if w.description]
        description = texts[-1] if texts else self.description
        return dataclasses.replace(self, when=(), description=description, **more)


@dataclass(frozen=True, slots=True)
class Successor:
    """What becomes of a package of Debian's own on a node that moves here.

    A `[[package]]` of `projects/successors.toml`. `service`: the service it is part of; empty
    for the command line client, whose package is a library's. `source`: Debian's source package,
    default the service's name. `to`: our packages that a transitional package of that name
    depends on; if empty it has no successor, and `openstack-node` reports that, and `why`.
    `aliases`: further names of units, each with our unit that it stands for.
    `breaks`: Debian packages that need what this one had. `unread`: directories of options that
    Debian's units read and ours do not. `targets`: those whose Debian has it.
    """

    name: PackageName
    targets: tuple[SuiteName, ...]
    why: Text
    service: ServiceName = ""
    source: PackageName = ""
    to: tuple[PackageName, ...] = ()
    aliases: Mapping[DaemonName, DaemonName] = field(default_factory=lambda: NO_STRINGS)
    breaks: tuple[PackageName, ...] = ()
    unread: tuple[AbsolutePath, ...] = ()
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class Wsgi:
    """Where a WSGI application is (`[[daemons.wsgi]]`): in a module, or a script.

    `module`: such as `a.b:application`. `script`: a name in the tree's bin.
    """

    module: WsgiModule = ""
    script: Script = ""
    since: SeriesBound = ""
    until: SeriesBound = ""

    def __post_init__(self) -> None:
        if bool(self.module) == bool(self.script):
            raise ValueError("a WSGI entry needs either a module or a script")


Kind = Literal["daemon", "uwsgi", "oneshot"]
KillMode = Literal["mixed", "process", "control-group"]
Sandbox = Literal["strict", "host"]


@dataclass(frozen=True, slots=True)
class DaemonWhen:
    """Changes to a daemon in some series (`[[daemons.when]]`).

    `threads`, `threads_source`, `kill_mode`: replace the daemon's own. `after`, `uwsgi`,
    `settings`: added to the daemon's.
    """

    threads: int = 0
    threads_source: str = ""
    kill_mode: KillMode | None = None
    after: tuple[UnitName, ...] = ()
    uwsgi: Mapping[SettingName, Line] = field(default_factory=lambda: NO_STRINGS)
    settings: tuple[UnitLine, ...] = ()
    since: SeriesBound = ""
    until: SeriesBound = ""

    def __post_init__(self) -> None:
        _check_uwsgi(self.threads, self.threads_source, self.uwsgi)


@dataclass(frozen=True, slots=True)
class Daemon:
    """A systemd unit `<name>.service` (`[[daemons]]`).

    `name`: of the unit, and of its script if none is given. `package`: the package that has it.
    `description`: the unit's own. `user`: default the service's.
    `kind`: `daemon` runs its script; `uwsgi` serves a WSGI application, tuned by
    `/etc/<service>/<name>-uwsgi.ini`; `oneshot` runs its script once and remains active. `args`:
    of the script. `config`: its chain of configuration files, below /etc/<service>, in the order
    they are read; the drop-ins of /etc/<service>/<service>.conf.d follow. Without it, oslo.config
    finds the files by the service's name. `wsgi`: where the application is, by series. `port`:
    where it is served.
    `script`: a name in the tree's bin, or an absolute path.
    `type`: systemd's; default notify (oneshot for a oneshot). oslo.service sends READY.
    `start`: `now` is enabled and (re)started on installation; `boot` only enabled;
    `manual` neither.
    `sandbox`: `strict` has a read-only file system except for its own directories, no new
    privileges, no devices; `host` has no mount namespace at all: others must see the mounts
    and network namespaces it makes, and it calls sudo.
    `after`: units (besides network, database, message broker and memcached).
    `wants`, `part_of`: as in systemd. `conditions`: lines such as `ConditionPathExists=/x`.
    `needs`: options that must be set in a file of /etc/<service> before it is started, since
    it can only fail without them; default `connection` for uwsgi, which would otherwise load
    the application in each of its processes to find out. An unset one is not a failure.
    `kill_mode`: `process` for agents whose children must outlive them.
    `defaults`: an optional file of variables (Debian's /etc/default/<name>).
    `only_if`: a shell command that sees them; if it fails, the unit is not started, which
    is a choice, not a failure (systemd's `$$` for `$`, no single quotes).
    `pre_start`: commands run before it, each one line. `environment`: variables. `read_write`:
    directories a strict unit may write to besides its own. `when`: changes in some series.
    `settings`: further lines of the unit's [Service] section, which override the others.
    `SuccessExitStatus=` must not have a status with which the gate of a unit exits.
    `timeout_stop`, `restart_seconds`: seconds. `log_file`: below /var/log/<service>, for a
    uwsgi application (others use their script's name).
    `fewest_processes`: the number for a uwsgi application on the smallest nodes.
    `threads`: concurrent requests in one process. `threads_source`: for more than one, the
    upstream document that says the application is safe with threads: keystone answered with
    another user's token. `uwsgi`: further settings, which the ini of a node may change (a name
    with an empty value is left out).
    """

    name: DaemonName
    package: PackageName
    description: UnitText
    kind: Kind = "daemon"
    script: Program = ""
    args: tuple[Word, ...] = ()
    config: tuple[RelativePath, ...] = ()
    wsgi: tuple[Wsgi, ...] = ()
    port: Port = 0
    fewest_processes: int = 2
    threads: int = 1
    threads_source: str = ""
    uwsgi: Mapping[SettingName, Line] = field(default_factory=lambda: NO_STRINGS)
    type: UnitType = ""
    start: Literal["now", "boot", "manual"] = "now"
    sandbox: Sandbox = "strict"
    user: AccountName = ""
    after: tuple[UnitName, ...] = ()
    wants: tuple[UnitName, ...] = ()
    part_of: tuple[UnitName, ...] = ()
    conditions: tuple[Condition, ...] = ()
    needs: tuple[OptionName, ...] | None = None
    pre_start: tuple[CommandLine, ...] = ()
    kill_mode: KillMode = "mixed"
    timeout_stop: Seconds = 90
    restart_seconds: Seconds = 10
    environment: Mapping[EnvironmentName, Line] = field(default_factory=lambda: NO_STRINGS)
    defaults: AbsolutePath = ""
    only_if: ShellTest = ""
    settings: tuple[UnitLine, ...] = ()
    read_write: tuple[AbsolutePath, ...] = ()
    log_file: LogName = ""
    when: tuple[DaemonWhen, ...] = ()
    since: SeriesBound = ""
    until: SeriesBound = ""

    def __post_init__(self) -> None:
        if self.kind == "uwsgi" and not self.port:
            raise ValueError(f"{self.name}: a uwsgi daemon needs a port and a wsgi entry")
        if self.kind != "uwsgi" and not self.script:
            raise ValueError(f"{self.name}: a {self.kind} needs a script")
        try:
            _check_uwsgi(self.threads, self.threads_source, self.uwsgi)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        for line in (*self.settings, *(line for when in self.when for line in when.settings)):
            self._check_gate(line)

    def _check_gate(self, line: str) -> None:
        """Refuse a line that would let the unit start although its gate refuses.

        systemd compares the end of an ExecCondition with SuccessExitStatus= before it checks
        whether the condition held, codes and signals alike (systemd.service(5) documents
        neither; measured with 252). An out-of-memory kill is a SIGKILL.
        """
        key, _, value = line.partition("=")
        if key.strip() == "ExecCondition":
            raise ValueError(f"{self.name}: {line}: use `needs` for conditions of the start")
        if key.strip() != "SuccessExitStatus" or not (self.gated or self.only_if):
            return
        passing = {*GATE_CODES, *(("SIGKILL", "KILL", "9") if self.uses_database else ())}
        for word in value.split():
            if word.lstrip("0") in passing:
                raise ValueError(
                    f"{self.name}: {line}: {word} is how the gate of its unit refuses, "
                    "which would count as success"
                )

    def fold(self) -> Daemon:
        """Return the daemon with its `when` entries applied."""
        folded = dataclasses.replace(self, when=())
        for when in self.when:
            folded = dataclasses.replace(
                folded,
                threads=when.threads or folded.threads,
                threads_source=when.threads_source or folded.threads_source,
                kill_mode=when.kill_mode or folded.kill_mode,
                after=folded.after + when.after,
                uwsgi={**folded.uwsgi, **when.uwsgi},
                settings=folded.settings + when.settings,
            )
        return folded

    def chain_configs(self, service: str) -> Daemon:
        """Return the daemon with its chain of configuration files as arguments.

        A WSGI application gets it in the variable its project's own entry point reads.
        """
        paths = [f"/etc/{service}/{name}" for name in self.config]
        if not paths:
            return self
        if self.kind == "uwsgi":
            variable = f"OS_{service.upper().replace('-', '_')}_CONFIG_FILES"
            environment = {variable: ";".join(paths), **self.environment}
            return dataclasses.replace(self, config=(), environment=environment)
        drop_ins = f"--config-dir=/etc/{service}/{service}.conf.d"
        files = (f"--config-file={path}" for path in paths)
        return dataclasses.replace(self, config=(), args=(*files, drop_ins, *self.args))

    @property
    def needed(self) -> tuple[str, ...]:
        """The options without which it is not started."""
        if self.needs is None:
            return ("connection",) if self.kind == "uwsgi" else ()
        return self.needs

    @property
    def uses_database(self) -> bool:
        """Whether it uses the service's database directly."""
        return self.kind == "uwsgi" or "connection" in self.needed

    @property
    def gated(self) -> bool:
        """Whether a gate checks that it may start (`ExecCondition=`)."""
        return bool(self.needed) or self.uses_database

    @property
    def unit_type(self) -> str:
        """The Type= of the unit."""
        return self.type or ("oneshot" if self.kind == "oneshot" else "notify")


@dataclass(frozen=True, slots=True)
class Step:
    """A command run once after installation (`[[steps]]`).

    `user`: the user that runs it; default the service's. `command`: a script of the tree's bin
    and its arguments. `unless_exists`: the path that shows it has been done. `package`: the
    package whose postinst runs it; default the common one.
    """

    command: tuple[Word, ...]
    unless_exists: AbsolutePath
    package: PackageName = ""
    user: AccountName = ""
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class Node:
    """What the command `openstack-node` knows about the service as a whole (`[node]`).

    `order`: services are set up from the lowest to the highest.
    `upgrade_check`: a script of the tree and its arguments; exit status 0 is success, 1 a
    warning, 2 a failure (oslo.upgradecheck). Skipped if the tree has no such script.
    `negotiated_by`: the option, `section/option`, that makes daemons use what those of an
    older release understand; `start` if they need no option. They find that out as they
    start, so they are restarted once more when an upgrade is complete.
    """

    order: int = 100
    upgrade_check: tuple[Word, ...] = ()
    negotiated_by: str = ""

    def __post_init__(self) -> None:
        how = self.negotiated_by
        if how not in {"", "start"} and how.count("/") != 1:
            raise ValueError(f"negotiated-by: expected start or section/option, got {how!r}")


@dataclass(frozen=True, slots=True)
class Cells:
    """Further databases that a table of this one lists (`cells` in `[[schemas]]`).

    `schema`: which of the service's schemas they have. `query`: SQL that returns a row for each:
    id, name, the address of its database, that of its broker. An address may be a template of
    the configured one, `{scheme}://{username}:{password}@{hostname}/…`, where the parts of
    several hosts are numbered from 1 (nova.objects.cell_mapping). `derived`: the id of the row
    that is the schema with a `suffix`. `register`: the command that gives the row `{id}`
    the addresses in the files. `addresses`: its options for others.
    """

    schema: Identifier
    query: Line
    register: Line
    derived: Line = ""
    addresses: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """A database of the service (`[[schemas]]`): where its address is, what its code expects.

    `name`: used by `[[setup]]` and `[[records]]`.
    `section`, `option`: the option with the address. `suffix`: appended to the name of the
    database in that address. `migrations`: the directory of revisions, below
    site-packages. `table`: where the database keeps its revision; `migrate_version` is
    sqlalchemy-migrate's, whose revisions are numbers. `cells`: further databases that a
    table of this one lists. `heads`: if several paths lead to the same tables, the last
    revision of each; one of them is enough.
    """

    name: Identifier
    migrations: RelativePath
    section: SectionName = "database"
    option: OptionName = "connection"
    suffix: Identifier = ""
    table: Identifier = "alembic_version"
    cells: Cells | None = None
    heads: tuple[Identifier, ...] = ()
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class SetupOption:
    """An option of `openstack-node setup` (`[[setup.options]]`).

    `name`: without the dashes. `title`: its description for the user. `default`: its value the
    first time, where `{host}` is the node's name; a repeated step changes only what is given.
    """

    name: SettingName
    title: Line
    default: Line = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """A command that brings databases to what the code expects (`[[setup]]`), in order.

    `title`: what it does, shown to the user. `command`: a script of the tree and its
    arguments. `schemas`: the databases it needs. `done`: an SQL query on the first of them
    that returns a row when the step is no longer needed, or the word `current`: it is not
    needed while all of them are at the code's revision. A step without it is run each time,
    and must then be harmless. `secret`: environment variables that must be given, each with
    the question that asks for it on a terminal. `options`: for the command line.
    `environment`: further variables, in which `{option}` is replaced. `passed`: variables that
    are passed on if they are set. `package`: the step is only for nodes that have it.
    """

    title: Line
    command: tuple[Argument, ...]
    schemas: tuple[Identifier, ...] = ("main",)
    done: Line = ""
    secret: Mapping[EnvironmentName, Line] = field(default_factory=lambda: NO_STRINGS)
    options: tuple[SetupOption, ...] = ()
    environment: Mapping[EnvironmentName, Line] = field(default_factory=lambda: NO_STRINGS)
    passed: tuple[EnvironmentName, ...] = ()
    package: PackageName = ""
    since: SeriesBound = ""
    until: SeriesBound = ""

    def __post_init__(self) -> None:
        known = {option.name for option in self.options}
        for name, value in self.environment.items():
            for wanted in re.findall(r"\{(.*?)\}", value):
                if wanted not in known:
                    raise ValueError(
                        f"environment.{name} uses {{{wanted}}}, which is not an option"
                    )


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A command on the way to this series (`[[upgrade]]`), in the order of the project's guide.

    `phase`: `expand` is run by the new code while the old code still serves, `contract`
    once nothing of the old release runs anywhere in the cloud. `title`: what it does, shown
    to the user. `command`: a script of the tree and its arguments.
    `accept`: exit statuses that mean success. `again`: the status that means there is more
    to do, so that it is run again (0: none). `package`: the step is only for nodes that have it.
    """

    phase: Literal["expand", "contract"]
    title: str
    command: tuple[Argument, ...]
    accept: tuple[ExitStatus, ...] = (0,)
    again: ExitStatus = 0
    package: PackageName = ""
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """Options a daemon cannot work without (`[[settings]]`); missing ones are reported.

    They are looked up in what the daemons of a package read, unless the section has an
    `auth_section`, which names another one that has them. `package`: the package of the
    daemons. `section`, `options`: what to look up.
    """

    package: PackageName
    section: SectionName
    options: tuple[OptionName, ...]
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Sections whose names an administrator chooses (`[[dynamic]]`), so no sample has them.

    `named_by`: the option, `section/option`, that lists them; text after a colon is not
    part of the name. `pattern`: a regular expression for the whole name. `like`: the
    sections of the sample whose options they have.
    """

    like: tuple[SectionName, ...]
    named_by: str = ""
    pattern: Expression = ""
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class Records:
    """Rows in which the daemons of all nodes report that they are alive (`[[records]]`).

    `schema`: the database they are in. `query`: SQL that returns each row's id, host, daemon,
    whether a person disabled it, whether `floor` ignores it (nonzero is yes), when it last
    reported (UTC) and the version it speaks. `down_after`: the option, `section/option`, for
    the seconds after which the service considers one dead. `seconds`: its
    default. `intervals`: how many times that long, where the option is the time between two
    reports. `remove`: the command that removes a row, with `{id}`, `{host}`, `{daemon}`.

    `floor`: the oldest version next to which daemons of this series start. `floor_file`: a module
    below site-packages that has it instead. `floor_table`: a constant of the module.
    `floor_key`: the key in that constant. `floor_daemon`: it applies only to these. `unless`: the
    option, `section/option`, with which they start anyway.
    """

    query: Text
    down_after: Line
    seconds: Seconds
    remove: Line
    schema: Identifier = "main"
    intervals: int = 1
    floor: Line = ""
    floor_file: RelativePath = ""
    floor_table: Identifier = ""
    floor_key: Identifier = ""
    floor_daemon: Script = ""
    unless: Line = ""
    since: SeriesBound = ""
    until: SeriesBound = ""

    def __post_init__(self) -> None:
        if any(o.count("/") != 1 for o in (self.down_after, self.unless) if o):
            raise ValueError("down-after and unless must be section/option")
        if len({bool(x) for x in (self.floor_file, self.floor_table, self.floor_key)}) != 1:
            raise ValueError("floor-file, floor-table and floor-key must be given together")


@dataclass(frozen=True, slots=True)
class ServiceDriver:
    """A distribution that upstream leaves to the operator and a service needs (`[[drivers]]`).

    `name`: on the package index. `reason`: why it is included, for `build-debs why`.
    """

    name: DistributionName
    reason: Line
    since: SeriesBound = ""
    until: SeriesBound = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A service of OpenStack.

    `name`: source package, `/etc/<name>`, `/var/lib/<name>`. `title`: `OpenStack Compute`.
    `distribution`: its name on the package index. `deliverable`: its file in upstream's
    releases repository. `epoch`: of the Debian version, 0 for none. `description`:
    paragraphs every package's description ends with. `common`: the package that owns
    user, directories, configuration and scripts.
    `sudoers`: what the user may run as root: a script of the tree and its arguments.
    `logs`: log files of command-line tools, created at installation so that a run as root
    does not leave one the service cannot write.
    `tmpfiles`: further lines of tmpfiles.d(5).
    `exclude`: paths (globs, `*` does not match `/`) of the wheel's tree, below `{tree}`, that
    are not packaged; `{site}` is its site-packages.
    `homepage`: a URL. `user`, `packages`, `directories`, `files`, `daemons`, `steps`, `node`,
    `schemas`, `setup`, `upgrade`, `settings`, `dynamic`, `records`: the tables below.
    `drivers`: distributions upstream leaves to the operator that join its closure.
    `adopts`: whether nodes with Debian's own packages of it can move here: the target's are
    of an earlier version (set by debs/debian.py, not in project files).
    """

    name: ServiceName
    title: Title
    distribution: DistributionName
    deliverable: FileName
    description: Text
    homepage: Url
    user: User
    common: PackageName
    packages: tuple[Package, ...]
    epoch: Epoch = 0
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    daemons: tuple[Daemon, ...] = ()
    steps: tuple[Step, ...] = ()
    sudoers: tuple[SudoCommand, ...] = ()
    logs: tuple[LogName, ...] = ()
    tmpfiles: tuple[TmpfilesLine, ...] = ()
    exclude: tuple[TreeGlob, ...] = ()
    node: Node = field(default_factory=Node)
    schemas: tuple[Schema, ...] = ()
    setup: tuple[Setup, ...] = ()
    upgrade: tuple[Upgrade, ...] = ()
    settings: tuple[Setting, ...] = ()
    dynamic: tuple[Dynamic, ...] = ()
    records: tuple[Records, ...] = ()
    drivers: tuple[ServiceDriver, ...] = field(default=(), repr=False)
    adopts: bool = False
    since: SeriesBound = ""
    until: SeriesBound = ""

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
                raise ValueError(f"no package {name!r} here; nearest: {list_nearest(name, names)}")
        for directory in self.directories:
            # purging removes it with its content
            if directory.purge == "remove" and not self._owns(directory.path):
                raise ValueError(
                    f'{directory.path}: purge = "remove" is only for a directory of its own'
                )

    def _owns(self, path: str) -> bool:
        """Whether a directory is below one with the name of the service, or of a package."""
        own = {self.name, self.user.name, *(p.name for p in self.packages)}
        parents = path.split("/")[1:-1]
        return path.startswith(f"{self.user.home or '/var/lib/' + self.name}/") or bool(
            own.intersection(parents)
        )

    def exists_in(self, series: str, order: Sequence[str]) -> bool:
        """Whether the service is part of `series`; `order` is all series ids, oldest first."""
        return holds(self, series, order)

    def narrow_to_series(self, series: str, order: Sequence[str]) -> Service:
        """Return the service as it is in `series`; `order` is all series ids, oldest first.

        Raises DataError for a service that is not part of the series, and for entries
        that clash in it.
        """
        if not self.exists_in(series, order):
            raise DataError(f"{self.name} is not part of {series}")
        narrowed = _narrow(self, series, order)
        narrowed = dataclasses.replace(
            narrowed,
            packages=tuple(p.fold() for p in narrowed.packages),
            files=tuple(f.fold() for f in narrowed.files),
            daemons=tuple(d.fold().chain_configs(self.name) for d in narrowed.daemons),
        )
        _check_unique(self.name, series, "package", (p.name for p in narrowed.packages))
        _check_unique(self.name, series, "daemon", (d.name for d in narrowed.daemons))
        _check_unique(self.name, series, "file", (f.path for f in narrowed.files))
        _check_unique(self.name, series, "schema", (s.name for s in narrowed.schemas))
        for setup in narrowed.setup:
            for schema in set(setup.schemas) - {s.name for s in narrowed.schemas}:
                raise DataError(f"{self.name}: setup: no schema {schema!r} in {series}")
        for records in narrowed.records:
            if records.schema not in {s.name for s in narrowed.schemas}:
                raise DataError(f"{self.name}: records: no schema {records.schema!r} in {series}")
        for daemon in narrowed.daemons:
            if daemon.kind == "uwsgi" and len(daemon.wsgi) != 1:
                raise DataError(
                    f"{self.name}: {daemon.name} has {len(daemon.wsgi)} WSGI entries in {series}"
                )
        return narrowed


def narrow_roles(
    roles: Sequence[Package], series: str, order: Sequence[str], services: Iterable[Service] = ()
) -> list[Package]:
    """Return the role packages as they are in `series`; `order` is all ids, oldest first.

    A role also depends on the packages that name it, of `services` as they are in the series.
    """
    packages = [package for service in services for package in service.packages]
    found = {}  # of two with the same name, the later is an overlay's
    for role in roles:
        if holds(role, series, order):
            whole = _narrow(role, series, order).fold()
            joined = tuple(p.name for p in packages if role.name in p.roles)
            found[role.name] = dataclasses.replace(whole, depends=(*whole.depends, *joined))
    return list(found.values())


def _check_uwsgi(threads: int, source: str, settings: Mapping[str, str]) -> None:
    """Refuse threads without a source, and settings that lose requests."""
    if threads > 1 and not source:
        raise ValueError(
            f"{threads} threads need threads-source: the upstream document that says"
            " that the application is thread-safe"
        )
    for name in settings:
        if NO_SETTING.fullmatch(name):
            raise ValueError(
                f"uwsgi setting {name!r}: the node chooses it, or it ends requests in flight"
            )


def _check_unique(service: str, series: str, what: str, names: Iterable[str]) -> None:
    """Refuse two entries with the same name in one series."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{service}: two entries for {what} {name} in {series}")
        seen.add(name)


def holds(entry: object, series: str, order: Sequence[str]) -> bool:
    """Whether `series` is between the entry's `since` and `until`, both inclusive."""
    rank = {s: i for i, s in enumerate(order)}
    since, until = getattr(entry, "since", ""), getattr(entry, "until", "")
    for name in filter(None, (since, until, series)):
        if name not in rank:
            raise DataError(f"no series {name!r}", hint=f"nearest: {list_nearest(name, order)}")
    first = rank[since] if since else 0
    last = rank[until] if until else len(rank)
    return first <= rank[series] <= last


def _narrow(value: T, series: str, order: Sequence[str]) -> T:
    """Return the dataclass `value` without the entries, at any depth, that do not apply."""
    changes: dict[str, object] = {}
    for f in dataclasses.fields(value):  # type: ignore[arg-type]
        items = getattr(value, f.name)
        if isinstance(items, tuple) and items and dataclasses.is_dataclass(items[0]):
            kept = (i for i in items if holds(i, series, order))
            changes[f.name] = tuple(_narrow(i, series, order) for i in kept)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]
