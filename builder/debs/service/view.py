"""A service in a series on a target, with the values derived from its project file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from builder.debs.stdeb_adapter import name_binary
from builder.debs.versions import make_full_version
from builder.model.service import Daemon, Directory, File, Service
from builder.model.values import Footprint, ServiceBuild

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.model.values import Series, Target


# What a service talks to if it is on the same node.
NEIGHBOURS = (
    "network-online.target",
    "remote-fs.target",
    "mariadb.service",
    "mysql.service",
    "rabbitmq-server.service",
    "memcached.service",
    "etcd.service",
    "openvswitch-switch.service",
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text of `debian/` and its mode."""

    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Config:
    """A file below /etc: the pristine copy in a package, and where ucf installs it."""

    package: str
    pristine: str
    destination: str
    owner: str
    group: str
    mode: str
    gives_way: bool = True


@dataclass(frozen=True, slots=True)
class Binary:
    """A binary package as the templates see it."""

    name: str
    summary: str
    description: tuple[str, ...]
    section: str
    relations: Mapping[str, tuple[str, ...]]
    code: bool = False
    groups: tuple[str, ...] = ()
    apparmor: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """The service of a build, with the values derived from its project file."""

    build: ServiceBuild
    configs: tuple[Config, ...] = field(default=())

    @property
    def service(self) -> Service:
        """The service, as defined for the series."""
        return self.build.service

    @property
    def code(self) -> str:
        """The package with the Python code."""
        return f"openstack-{self.build.series.id}-{name_binary(self.service.distribution)}"

    @property
    def version(self) -> str:
        """The Debian version of its packages."""
        b = self.build
        layers = (patch.layer for patch in b.patches)
        return make_full_version(b.version, b.target.release, b.revision, b.service.epoch, layers)

    @property
    def home(self) -> str:
        """The home directory of its user."""
        return self.service.user.home or f"/var/lib/{self.service.name}"

    @property
    def site(self) -> str:
        """The site-packages directory of the series' tree."""
        return f"{self.build.series.tree}/lib/python{self.build.target.python_minor}/site-packages"

    def fill(self, text: str) -> str:
        """Insert the series' tree and id into a text of the project file."""
        return text.replace("{tree}", self.build.series.tree).replace(
            "{series}", self.build.series.id
        )

    def list_directories(self, package: str) -> list[Directory]:
        """Return the directories a package creates, parents first."""
        own = self._list_standard_directories() if package == self.service.common else []
        own += [
            Directory(
                path=self.fill(d.path),
                owner=d.owner or self.service.user.name,
                group=d.group or self.service.user.name,
                mode=d.mode,
                purge=d.purge,
            )
            for d in self.service.directories
            if (d.package or self.service.common) == package
        ]
        known = {d.path for d in own} | {d.path for d in self._list_standard_directories()}
        for config in (c for c in self.configs if c.package == package):
            for path in map(str, PurePosixPath(config.destination).parents):
                if path.startswith(f"/etc/{self.service.name}") and path not in known:
                    known.add(path)
                    own.append(self._make_etc_directory(path))
        return sorted(own, key=lambda d: d.path)

    def _make_etc_directory(self, path: str) -> Directory:
        """Return a configuration directory, which the service reads but never writes."""
        return Directory(path, "root", self.service.user.name, "0750")

    def _list_standard_directories(self) -> list[Directory]:
        user, name = self.service.user, self.service.name
        return [
            self._make_etc_directory(f"/etc/{name}"),
            self._make_etc_directory(f"/etc/{name}/{name}.conf.d"),
            Directory(self.home, user.name, user.name, user.home_mode, purge="keep"),
            Directory(f"/var/log/{name}", user.name, "adm", "0750", purge="remove"),
        ]


def list_configs(build: ServiceBuild) -> Iterable[Config]:
    """Yield the files ucf manages: configuration, uWSGI settings, sudoers, logrotate."""
    service = build.service
    for file in service.files:
        path = locate_file(service, file)
        if path.startswith("/etc/"):
            package = file.package or service.common
            yield Config(
                package,
                locate_pristine(service, package, path),
                path,
                file.owner,
                file.group or service.user.name,
                file.mode,
                file.gives_way,
            )
    group = service.user.name
    for daemon in service.daemons:
        if daemon.kind == "uwsgi":
            path = f"/etc/{service.name}/{daemon.name}-uwsgi.ini"
            pristine = locate_pristine(service, daemon.package, path)
            yield Config(daemon.package, pristine, path, "root", group, "0640")
    if service.sudoers:
        path = f"/etc/sudoers.d/{service.common}"
        share = f"/usr/share/{service.common}/sudoers"
        yield Config(service.common, share, path, "root", "root", "0440")
    path = f"/etc/logrotate.d/{service.common}"
    share = f"/usr/share/{service.common}/logrotate"
    yield Config(service.common, share, path, "root", "root", "0644")


def locate_file(service: Service, file: File) -> str:
    """Return where a file of the project file is on a node."""
    return file.path if file.path.startswith("/") else f"/etc/{service.name}/{file.path}"


def locate_pristine(service: Service, package: str, path: str) -> str:
    """Return where the pristine copy of a file in /etc is, by its path below /etc/<service>."""
    relative = PurePosixPath(path).relative_to("/etc")
    if relative.parts[0] == service.name:
        relative = relative.relative_to(service.name)
    return f"/usr/share/{package}/{relative}"


def quote(text: str) -> str:
    """Return a word, quoted for a unit (systemd.syntax(7)).

    There a blank ends a word, quotes and backslashes are special, and % starts a specifier.
    """
    plain = text.replace("%", "%%")
    if re.fullmatch(r"[^\s\"'\\]+", plain):
        return plain
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _describe_daemon(daemon: Daemon) -> str:
    """Return a description of how a daemon runs."""
    port = f" on port {daemon.port}" if daemon.port else ""
    return f"{daemon.kind}{port}, in {daemon.package}"


def make_footprint(service: Service, series: Series, target: Target) -> Footprint:
    """Return what the packages of a service, narrowed to `series`, add to a node."""
    # None of it depends on a build's files or on a revision.
    version, none = series.versions[service.name], Path()
    build = ServiceBuild(service, series, target, version, none, none, none, 1, 0)
    view = View(build, tuple(list_configs(build)))
    user, presets = service.user, dict[str, str]()
    for file in service.files:
        for p in file.presets:
            name = f"{locate_file(service, file)} [{p.section}] {p.option}"
            # an option with several values has several lines
            presets[name] = f"{presets[name]}; {p.value}" if name in presets else p.value
    uid = f"uid {user.uid}" if user.uid else "dynamic uid"
    accounts = {f"user and group {user.name}": f"{uid}, home {view.home}, shell {user.shell}"}
    for package in service.packages:
        accounts |= {f"{user.name} in group {g}": f"by {package.name}" for g in package.groups}
    directories = (d for p in service.packages for d in view.list_directories(p.name))
    return Footprint(
        packages={p.name: p.summary for p in service.packages},
        units={f"{d.name}.service": _describe_daemon(d) for d in service.daemons},
        accounts=accounts,
        directories={d.path: f"{d.owner}:{d.group} {d.mode}" for d in directories},
        sudoers={
            f"{user.name} ALL = (root) NOPASSWD: {where}/{command}": ""
            for command in service.sudoers
            for where in ("{tree}/bin", "/usr/bin")
        },
        files={c.destination: f"{c.owner}:{c.group} {c.mode}" for c in view.configs},
        presets=presets,
    )
