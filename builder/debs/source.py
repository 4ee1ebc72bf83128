"""A service as a real Debian source package: `debian/` rendered, built by debhelper.

`render` is pure: it gives every text of `debian/`. `build` unpacks the release tarball,
adds those texts and builds both packages. Templates are in `debian-templates/service`.
"""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from builder import patches
from builder import templates as jinja
from builder.debs.manifest import OPTIONS, SERVICES, manifest
from builder.debs.node import INTERFACE
from builder.debs.stdeb_adapter import binary_name
from builder.debs.versions import debian_version, full_version
from builder.errors import BuildError
from builder.model import Footprint, ServiceBuild, SourcePackage
from builder.roots import BUILD
from builder.run import find, run
from builder.service import Daemon, Directory, File, Package, Service, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.model import Series, Target
    from builder.roots import Root

RECIPE = "4"  # raise it when a change here changes the bits of a package

# What dpkg-buildpackage would do, less what nobody reads afterwards (.changes, .buildinfo), and
# less dpkg-source's own comparison of the tarball with what has just been unpacked from it,
# which takes as long as many a service's build: its format "custom" takes files as they are.
# $1 the directory of the source, $2 and $3 the tarballs that are to be its source package.
COMMANDS = r"""
set -eu
umask 022
dpkg-source --before-build "$1"
tar -C "$1" --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime \
    --owner=0 --group=0 --numeric-owner -cJf "$3" debian
dpkg-source --format="3.0 (custom)" --target-format="3.0 (quilt)" -b "$@"
eval "$(dpkg-architecture --print-set)"
cd "$1"
debian/rules build
debian/rules binary
"""
# Packages of the series' tree that build a wheel and lay it out.
BUILD_TOOLS = ("base", "build", "installer", "setuptools", "wheel", "pbr")
BUILD_TOOLS_PYTHON2 = ("base", "pip", "setuptools", "wheel", "pbr")
# What a service talks to, when it is on the same node.
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
    """A file below /etc: the pristine of a package, and where ucf copies it."""

    package: str
    pristine: str
    destination: str
    owner: str
    group: str
    mode: str


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
class _View:
    """The service of a build, with what follows from its project file worked out."""

    build: ServiceBuild
    configs: tuple[Config, ...] = field(default=())

    @property
    def service(self) -> Service:
        return self.build.service

    @property
    def code(self) -> str:
        """The package of the Python code."""
        return f"openstack-{self.build.series.id}-{binary_name(self.service.distribution)}"

    @property
    def version(self) -> str:
        b = self.build
        return full_version(b.version, b.target.release, b.revision, b.service.epoch)

    @property
    def home(self) -> str:
        return self.service.user.home or f"/var/lib/{self.service.name}"

    @property
    def site(self) -> str:
        return f"{self.build.series.tree}/lib/python{self.build.target.python_minor}/site-packages"

    def fill(self, text: str) -> str:
        """Put the series' tree and id into a text of the project file."""
        return text.replace("{tree}", self.build.series.tree).replace(
            "{series}", self.build.series.id
        )

    def directories(self, package: str) -> list[Directory]:
        """Return the directories a package makes, parents first."""
        own = self._standard() if package == self.service.common else []
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
        known = {d.path for d in own} | {d.path for d in self._standard()}
        for config in (c for c in self.configs if c.package == package):
            for path in map(str, PurePosixPath(config.destination).parents):
                if path.startswith(f"/etc/{self.service.name}") and path not in known:
                    known.add(path)
                    own.append(self._etc(path))
        return sorted(own, key=lambda d: d.path)

    def _etc(self, path: str) -> Directory:
        """Return a directory for configuration: the service reads it and never writes."""
        return Directory(path, "root", self.service.user.name, "0750")

    def _standard(self) -> list[Directory]:
        user, name = self.service.user, self.service.name
        return [
            self._etc(f"/etc/{name}"),
            self._etc(f"/etc/{name}/{name}.conf.d"),
            Directory(self.home, user.name, user.name, user.home_mode, purge="keep"),
            Directory(f"/var/log/{name}", user.name, "adm", "0750", purge="remove"),
        ]


def render(
    build: ServiceBuild, library_depends: Sequence[str], templates: Path
) -> Mapping[str, Rendered]:
    """Return every file of `debian/`, by its path in the source tree.

    `build.service` is narrowed to the series. `library_depends` are the relations of the
    Python code on library packages. `templates` is `debian-templates/`.
    """
    view = _View(build, tuple(_configs(build)))
    binaries = _binaries(view, library_depends)
    root = templates / "service"
    files = {
        "debian/source/format": Rendered("3.0 (quilt)\n"),
        # pbr and setuptools rewrite their metadata when a wheel is built.
        "debian/source/options": Rendered(
            'extend-diff-ignore = "(^|/)[^/]*\\.egg-info/|^build/|^(AUTHORS|ChangeLog)$"\n'
        ),
        "debian/source/lintian-overrides": Rendered(
            (root / "source-lintian-overrides").read_text()
        ),
        "debian/changelog": Rendered(_changelog(view, root)),
        "debian/copyright": Rendered(
            jinja.render(
                root,
                "copyright.j2",
                distribution=build.service.distribution,
                homepage=build.service.homepage,
                year=jinja.date_822(build.epoch_seconds).split()[3],
                patches=build.patches,
            )
        ),
        "debian/control": Rendered(_control(view, binaries, root)),
        "debian/rules": Rendered(_rules(view, binaries, root), 0o755),
        "debian/assemble.py": Rendered((root / "assemble.py").read_text(), 0o644),
        "debian/samples.py": Rendered((root / "samples.py").read_text(), 0o644),
        "debian/plan.json": Rendered(_plan(view, binaries)),
        f"debian/files.d/{build.service.name}.json": Rendered(_manifest(view)),
    }
    files |= {f"debian/patches/{p.name}": Rendered(p.text) for p in build.patches}
    if build.patches:
        files["debian/patches/series"] = Rendered(patches.series_text(build.patches))
    files |= _shared_files(view, root)
    for daemon in build.service.daemons:
        files |= _daemon_files(view, daemon, root)
    for binary in binaries:
        files |= _scripts(view, binary, root)
        files[f"debian/files.d/{binary.name}.lintian-overrides"] = _overrides(view, binary, root)
    return dict(sorted(files.items()))


def _changelog(view: _View, root: Path) -> str:
    b = view.build
    return jinja.render(
        root,
        "changelog.j2",
        source=b.service.name,
        version=view.version,
        suite=f"{b.target.suite}-{b.series.id}",
        title=b.service.title,
        upstream_version=b.version,
        series=b.series.id,
        series_name=b.series.name,
        patches=b.patches,
        maintainer=jinja.MAINTAINER,
        date=jinja.date_822(b.epoch_seconds),
    )


def _control(view: _View, binaries: Sequence[Binary], root: Path) -> str:
    series, service = view.build.series, view.service
    python2 = view.build.target.is_python2
    names = BUILD_TOOLS_PYTHON2 if python2 else BUILD_TOOLS
    tools = (f"openstack-{series.id}-{tool}" for tool in names)
    needs = ["debhelper-compat (= 13)", *tools, f"openstack-{series.id}-closure-{service.name}"]
    needs += ["python3"] if python2 else []
    return jinja.render(
        root,
        "control.j2",
        source=service.name,
        maintainer=jinja.MAINTAINER,
        build_depends=needs + (["sudo"] if service.sudoers else []),
        standards_version=view.build.target.standards_version,
        homepage=service.homepage,
        inputs=view.build.inputs,
        packages=binaries,
    )


def _binaries(view: _View, library_depends: Sequence[str]) -> list[Binary]:
    """Return the binary packages: the Python code's, then those of the project file."""
    service, series = view.service, view.build.series
    code = Binary(
        name=view.code,
        summary=f"{service.title} - Python code for OpenStack {series.id}",
        description=paragraphs(
            f"This package holds the Python code of {service.name}, in the tree {series.tree} "
            f"that all of OpenStack {series.id} shares.",
            service.description,
        ),
        section="python",
        relations={"Depends": ("${misc:Depends}", *library_depends)},
        code=True,
    )
    return [code, *(_binary(view, package) for package in service.packages)]


def _binary(view: _View, package: Package) -> Binary:
    service = view.service
    if package.name == service.common:
        first = [
            f"{view.code} (= ${{binary:Version}})",
            f"openstack-{view.build.series.id}-closure-{service.name}",
            "adduser",
            "ucf",
            *(["sudo"] if service.sudoers else []),
            # What units ask before they start, and who restarts them on an upgrade.
            INTERFACE,
        ]
    else:
        first = [] if package.meta else [f"{service.common} (= ${{binary:Version}})"]
        if any(c.package == package.name for c in view.configs):
            first.append("ucf")
        if package.groups:
            first.append("adduser")
    depends = ["${misc:Depends}", *first, *_exact(service, package.depends)]
    relations = {"Depends": tuple(dict.fromkeys(depends))}
    for name in ("pre_depends", "recommends", "suggests", "breaks", "conflicts", "replaces"):
        label = "-".join(w.capitalize() for w in name.split("_"))
        relations[label] = tuple(_exact(service, getattr(package, name)))
    relations["Provides"] = package.provides
    if package.name == service.common:
        relations["Recommends"] = (*relations["Recommends"], "logrotate")
    return Binary(
        name=package.name,
        summary=package.summary,
        description=paragraphs(package.description, service.description),
        section="net",
        relations={k: v for k, v in relations.items() if v},
        groups=package.groups,
        apparmor=package.apparmor,
    )


def _exact(service: Service, relations: Iterable[str]) -> list[str]:
    """Return relations, those on packages of this source with this very version."""
    own = {p.name for p in service.packages}
    return [f"{r} (= ${{binary:Version}})" if r in own else r for r in relations]


def paragraphs(*texts: str) -> tuple[str, ...]:
    """Return paragraphs as the lines of an extended description (policy 5.6.13), unindented."""
    lines: list[str] = []
    for text in filter(None, (t.strip() for t in texts)):
        for paragraph in re.split(r"\n\s*\n", text):
            words = " ".join(paragraph.split())
            lines += [*([] if not lines else ["."]), *textwrap.wrap(words, 78)]
    return tuple(lines)


def _rules(view: _View, binaries: Sequence[Binary], root: Path) -> str:
    service, target = view.service, view.build.target
    calls: dict[str, list[str]] = {}
    for daemon in service.daemons:
        enable = " --no-enable" if daemon.start == "manual" else ""
        # What is started, the package's own postinst starts.
        how = f"-p{daemon.package}{enable} --no-start --no-stop-on-upgrade"
        calls.setdefault(how, []).append(f"{daemon.name}.service")
    return jinja.render(
        root,
        "rules.j2",
        tree=view.build.series.tree,
        sudoers=f"debian/files.d/{service.common}.sudoers" if service.sudoers else "",
        tmpfiles=True,
        installsystemd=[f"{how} {' '.join(units)}" for how, units in calls.items()],
        compression=target.compression,
        compression_level=target.compression_level,
        code=[b.name for b in binaries if b.code],
        python2=target.is_python2,
    )


def _started(service: Service, package: str) -> list[Daemon]:
    """Return the daemons of a package that its own postinst starts, and does not wait for.

    One that says READY by itself does so when it has reached database and broker, which
    may be never on a node that is not configured; and an upgrade restarts none whose
    database has to be moved first (debhelper's snippets know neither). A oneshot is one of
    them: its restart is that of the units that are part of it, and in an older series it was
    a daemon itself.
    """
    return [d for d in service.daemons if d.package == package and d.start == "now"]


def _configs(build: ServiceBuild) -> Iterable[Config]:
    """Yield what ucf looks after: configuration, uwsgi's settings, sudoers, logrotate."""
    service = build.service
    for file in service.files:
        path = _absolute(service, file)
        if path.startswith("/etc/"):
            package = file.package or service.common
            yield Config(
                package,
                _pristine(service, package, path),
                path,
                file.owner,
                file.group or service.user.name,
                file.mode,
            )
    group = service.user.name
    for daemon in service.daemons:
        if daemon.kind == "uwsgi":
            path = f"/etc/{service.name}/{daemon.name}-uwsgi.ini"
            pristine = _pristine(service, daemon.package, path)
            yield Config(daemon.package, pristine, path, "root", group, "0640")
    if service.sudoers:
        path = f"/etc/sudoers.d/{service.common}"
        share = f"/usr/share/{service.common}/sudoers"
        yield Config(service.common, share, path, "root", "root", "0440")
    path = f"/etc/logrotate.d/{service.common}"
    share = f"/usr/share/{service.common}/logrotate"
    yield Config(service.common, share, path, "root", "root", "0644")


def _absolute(service: Service, file: File) -> str:
    return file.path if file.path.startswith("/") else f"/etc/{service.name}/{file.path}"


def _pristine(service: Service, package: str, path: str) -> str:
    """Return where the pristine of a file below /etc is: the path less /etc/<service>."""
    relative = PurePosixPath(path).relative_to("/etc")
    if relative.parts[0] == service.name:
        relative = relative.relative_to(service.name)
    return f"/usr/share/{package}/{relative}"


def _plan(view: _View, binaries: Sequence[Binary]) -> str:
    """Return what `debian/assemble.py` does, as JSON.

    `code`: where the wheel goes and what of it does not; `files`: what to write where,
    with presets; `directories`: empty ones; `links`: console scripts in /usr/bin.
    """
    service, tree = view.service, view.build.series.tree
    site = PurePosixPath(view.site).relative_to(tree)
    pristine = {c.destination: c.pristine for c in view.configs}
    plan = {
        "code": {
            "root": f"debian/{view.code}",
            "tree": tree,
            "site": view.site,
            "pip": view.build.target.is_python2,
            "exclude": [e.replace("{site}", str(site)) for e in service.exclude],
        },
        "directories": sorted(_foreign_directories(view)),
        "files": [*_planned_files(view), *_planned_texts(view, binaries)],
        "links": [
            {"path": f"debian/{p.name}/usr/bin/{s}", "target": f"{tree}/bin/{s}"}
            for p in service.packages
            for s in p.scripts
        ],
        "options": {
            "to": f"debian/{service.common}{SERVICES}/{service.name}{OPTIONS}",
            "from": [
                f"debian/{f.package or service.common}{pristine.get(p := _absolute(service, f), p)}"
                for f in service.files
                if f.config_generator
            ],
        },
    }
    return json.dumps(plan, indent=1, sort_keys=True) + "\n"


def _manifest(view: _View) -> str:
    """Return what `openstack-node` reads of the service."""
    pristine = {c.destination: c.pristine for c in view.configs}
    text = manifest(
        view.service,
        view.build.series,
        site=view.site,
        code=view.code,
        pristine=pristine,
        fill=view.fill,
    )
    return json.dumps(text, indent=1, sort_keys=True) + "\n"


def _foreign_directories(view: _View) -> set[str]:
    """Return the directories of others in /etc that ucf copies to: dpkg counts their owners."""
    own = PurePosixPath("/etc", view.service.name)
    parents = ((c.package, PurePosixPath(c.destination).parent) for c in view.configs)
    return {f"debian/{package}{p}" for package, p in parents if not p.is_relative_to(own)}


def _planned_files(view: _View) -> Iterable[Mapping[str, object]]:
    service = view.service
    pristine = {c.destination: c.pristine for c in view.configs}
    for file in service.files:
        path = _absolute(service, file)
        package = file.package or service.common
        source = {
            "config-generator": file.config_generator,
            "policy-generator": file.policy_generator,
            "from": file.from_,
            "text": view.fill(file.text),
        }
        presets = [
            {"section": p.section, "option": p.option, "value": view.fill(p.value)}
            for p in file.presets
        ]
        yield {
            "to": f"debian/{package}{pristine.get(path, path)}",
            **{k: v for k, v in source.items() if v},
            "presets": presets,
        }


def _planned_texts(view: _View, binaries: Sequence[Binary]) -> Iterable[Mapping[str, object]]:
    """Yield the rendered texts that are copied as they are."""
    service, common = view.service, view.service.common
    for binary in binaries:
        overrides = f"debian/{binary.name}/usr/share/lintian/overrides/{binary.name}"
        yield _copy(f"{binary.name}.lintian-overrides", overrides)
    yield _copy(f"{service.name}.json", f"debian/{common}{SERVICES}/{service.name}.json")
    for kind in (*(["sudoers"] if service.sudoers else []), "logrotate"):
        yield _copy(f"{common}.{kind}", f"debian/{common}/usr/share/{common}/{kind}")
    for daemon in service.daemons:
        unit = f"{daemon.name}.service"
        yield _copy(unit, f"debian/{daemon.package}/lib/systemd/system/{unit}")
        if daemon.kind == "uwsgi":
            share = f"debian/{daemon.package}/usr/share/{daemon.package}"
            yield _copy(f"{daemon.name}-uwsgi.ini", f"{share}/{daemon.name}-uwsgi.ini")


def _copy(name: str, to: str) -> Mapping[str, object]:
    return {"from": f"debian/files.d/{name}", "to": to, "presets": []}


def _shared_files(view: _View, root: Path) -> dict[str, Rendered]:
    """Return sudoers, logrotate and tmpfiles of the common package."""
    service = view.service
    names = {"service": service.name, "user": service.user.name}
    common = service.common
    files = {
        f"debian/files.d/{common}.logrotate": jinja.render(root, "logrotate.j2", **names),
        f"debian/{common}.tmpfiles": jinja.render(
            root, "tmpfiles.j2", lines=service.tmpfiles, **names
        ),
    }
    if service.sudoers:
        files[f"debian/files.d/{common}.sudoers"] = jinja.render(
            root, "sudoers.j2", commands=service.sudoers, tree=view.build.series.tree, **names
        )
    return {path: Rendered(text) for path, text in files.items()}


def _daemon_files(view: _View, daemon: Daemon, root: Path) -> dict[str, Rendered]:
    """Return the unit of a daemon, and uwsgi's settings for it."""
    unit = jinja.render(root, "unit.service.j2", **_unit(view, daemon))
    files = {f"debian/files.d/{daemon.name}.service": Rendered(unit)}
    if daemon.kind == "uwsgi":
        ini = jinja.render(
            root,
            "uwsgi.ini.j2",
            daemon=daemon,
            wsgi=daemon.wsgi[0],
            tree=view.build.series.tree,
            home=view.home,
            settings={k: view.fill(v) for k, v in daemon.uwsgi.items() if v},
        )
        files[f"debian/files.d/{daemon.name}-uwsgi.ini"] = Rendered(ini)
    return files


def _unit(view: _View, daemon: Daemon) -> dict[str, object]:
    service, tree, name = view.service, view.build.series.tree, view.service.name
    user = daemon.user or service.user.name
    environment = {k: view.fill(v) for k, v in daemon.environment.items()}
    if daemon.kind == "uwsgi":
        command = f"{tree}/bin/uwsgi --ini /etc/{name}/{daemon.name}-uwsgi.ini"
        # oslo.log names a log after the program, and that is uwsgi for each of them.
        log = daemon.log_file or f"{daemon.name}.log"
        environment = {"OS_DEFAULT__LOG_FILE": log, **environment}
    else:
        script = daemon.script if daemon.script.startswith("/") else f"{tree}/bin/{daemon.script}"
        command = " ".join([script, *(view.fill(a) for a in daemon.args)])
    standard = [view.home, f"/var/log/{name}", f"/run/{name}", f"/run/lock/{name}"]
    return {
        "daemon": daemon,
        "service": name,
        "homepage": service.homepage,
        "after": list(NEIGHBOURS),
        "more_after": list(daemon.after),
        "wants": list(daemon.wants),
        "user": user,
        "group": user,
        "home": view.home,
        "environment": environment,
        "pre_start": [view.fill(c) for c in daemon.pre_start],
        "command": command,
        # uWSGI ends with status 0 where it has no application.
        "restart": "always" if daemon.kind == "uwsgi" else "on-failure",
        "read_write": [*standard, *map(view.fill, daemon.read_write)],
    }


def _scripts(view: _View, binary: Binary, root: Path) -> dict[str, Rendered]:
    """Return the maintainer scripts of a package that has something to do in them."""
    service = view.service
    daemons = [d for d in service.daemons if d.package == binary.name]
    started = [f"{d.name}.service" for d in _started(service, binary.name)]
    values: dict[str, object] = {
        "package": binary.name,
        "user": service.user.name,
        "account": _account(view) if binary.name == service.common else None,
        "groups": binary.groups,
        "apparmor": binary.apparmor,
        "code": binary.code,
        "configs": [c for c in view.configs if c.package == binary.name],
        "directories": [] if binary.code else view.directories(binary.name),
        "steps": [_step(view, s) for s in service.steps if _owner(service, s) == binary.name],
        "logs": _tool_logs(view, binary.name),
        "service": service.name,
        "started": started,
        "python2": view.build.target.is_python2,
    }
    files = {}
    joins = bool(binary.groups or binary.apparmor)  # what is others'
    if values["configs"] or values["directories"] or values["steps"] or started or joins:
        files["postinst"] = jinja.render(root, "postinst.j2", **values)
    if started or binary.code:
        files["prerm"] = jinja.render(root, "prerm.j2", **values)
    if values["configs"] or values["directories"] or daemons or binary.apparmor:
        directories = [] if binary.code else view.directories(binary.name)
        values["logs"] = [f"/var/log/{service.name}/{_log_of(d)}" for d in daemons]
        name, common = service.name, binary.name == service.common
        # The last of the packages to be purged, whichever it is, finds it empty.
        shared = [Directory(f"/etc/{name}")] if values["configs"] and not common else []
        values["directories"] = [*reversed(directories), *shared]
        # What tmpfiles.d and Python's cache of entry points leave.
        made = [f"/run/{name}", f"/run/lock/{name}", f"{view.home}/.cache"]
        values["made"] = made if common else []
        values["kept"] = [d.path for d in directories if d.purge == "keep"]
        files["postrm"] = jinja.render(root, "postrm.j2", **values)
    return {f"debian/{binary.name}.{k}": Rendered(v) for k, v in files.items()}


def _overrides(view: _View, binary: Binary, root: Path) -> Rendered:
    """Return what lintian is told to accept, with the reasons."""
    scripts = [s for p in view.service.packages if p.name == binary.name for s in p.scripts]
    text = jinja.render(
        root,
        "lintian-overrides.j2",
        compression=view.build.target.compression,
        code=binary.code,
        scripts=scripts,
    )
    return Rendered(text)


def _owner(service: Service, step: Step) -> str:
    return step.package or service.common


def _log_of(daemon: Daemon) -> str:
    if daemon.kind == "uwsgi":
        return daemon.log_file or f"{daemon.name}.log"
    return f"{PurePosixPath(daemon.script).name}.log"


def _tool_logs(view: _View, package: str) -> list[str]:
    """Return the logs of command-line tools, which the common package makes."""
    service = view.service
    logs = service.logs if package == service.common else ()
    return [f"/var/log/{service.name}/{log}" for log in logs]


def _step(view: _View, step: Step) -> dict[str, str]:
    command = " ".join(map(view.fill, step.command))
    return {
        "command": f"{view.build.series.tree}/bin/{command}",
        "unless_exists": view.fill(step.unless_exists),
        "user": step.user or view.service.user.name,
    }


def _account(view: _View) -> dict[str, str]:
    """Return the options with which adduser makes group and user."""
    user = view.service.user
    return {
        "name": user.name,
        "home": view.home,
        "shell": user.shell,
        "gecos": view.service.title,
        "uid": str(user.uid or ""),
        "gid_option": f" --gid {user.uid}" if user.uid else "",
        "uid_option": f" --uid {user.uid}" if user.uid else "",
    }


def footprint(service: Service, series: Series, target: Target) -> Footprint:
    """Return what the packages of a service, narrowed to `series`, bring to a node."""
    # What is looked at depends on no file of a build, and on no revision.
    version, none = series.versions[service.name], Path()
    build = ServiceBuild(service, series, target, version, none, none, none, 1, 0)
    view = _View(build, tuple(_configs(build)))
    user, presets = service.user, dict[str, str]()
    for file in service.files:
        for p in file.presets:
            name = f"{_absolute(service, file)} [{p.section}] {p.option}"
            # an option with several values has several lines
            presets[name] = f"{presets[name]}; {p.value}" if name in presets else p.value
    uid = f"uid {user.uid}" if user.uid else "dynamic uid"
    accounts = {f"user and group {user.name}": f"{uid}, home {view.home}, shell {user.shell}"}
    for package in service.packages:
        accounts |= {f"{user.name} in group {g}": f"by {package.name}" for g in package.groups}
    directories = (d for p in service.packages for d in view.directories(p.name))
    return Footprint(
        packages={p.name: p.summary for p in service.packages},
        units={f"{d.name}.service": _served(d) for d in service.daemons},
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


def _served(daemon: Daemon) -> str:
    """Return how a daemon runs, in words."""
    port = f" on port {daemon.port}" if daemon.port else ""
    return f"{daemon.kind}{port}, in {daemon.package}"


def build(
    build: ServiceBuild,
    library_depends: Sequence[str],
    templates: Path,
    *,
    work: Path,
    output: Path,
    log: Path,
    root: Root | None = None,
) -> SourcePackage:
    """Build the source package and its binary packages; return them, moved into `output`.

    `work` is an empty directory of this build's own. They are built on this machine, or in
    the build root `root`. Raises BuildError, which names `log`.
    """
    files = render(build, library_depends, templates)
    source = _unpack(build, work, log)
    for path, rendered in files.items():
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rendered.text)
        target.chmod(rendered.mode)
    version = _View(build).version
    _, *tarballs = _source_files(build.service.name, version)
    argv = ["sh", "-c", COMMANDS, "sh", source.name, *tarballs]
    env = {
        "SOURCE_DATE_EPOCH": str(build.epoch_seconds),
        "DEB_BUILD_OPTIONS": "nocheck parallel=2",
        "DEB_RULES_REQUIRES_ROOT": "no",
    }
    try:
        if root is None:
            env |= {"OPENSTACK_TREE": str(build.tree), "OPENSTACK_WHEEL": str(build.wheel)}
            find("dpkg-source")  # says which package has it
            run(argv, cwd=work, env=env, log=log)
        else:
            shutil.copyfile(build.wheel, work / build.wheel.name)
            env["OPENSTACK_WHEEL"] = str(BUILD / build.wheel.name)
            tree = build.series.tree
            shown = {Path(f"{build.tree}{tree}"): tree}
            root.run(argv, work, env=env, log=log, shown=shown)
    except BuildError as error:
        raise BuildError(
            f"{build.service.name} {build.version}: its packages did not build",
            details=error.details,
            hint=error.hint,
        ) from error
    return _collect(build, version, work, output)


def _source_files(name: str, version: str) -> tuple[str, str, str]:
    """Return the names dpkg-source has for a source package of format 3.0: .dsc, tarballs."""
    of_files = version.split(":", 1)[-1]
    upstream = of_files.rsplit("-", 1)[0]
    stem = f"{name}_{of_files}"
    return f"{stem}.dsc", f"{name}_{upstream}.orig.tar.gz", f"{stem}.debian.tar.xz"


def _unpack(build: ServiceBuild, work: Path, log: Path) -> Path:
    """Put the tarball beside its unpacked tree, under the names dpkg-source looks for."""
    upstream = debian_version(build.version)
    work.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(build.tarball, work / f"{build.service.name}_{upstream}.orig.tar.gz")
    source = work / f"{build.service.name}-{upstream}"
    source.mkdir()
    argv = ["tar", "--extract", "--strip-components=1", "--no-same-owner"]
    run([*argv, "--file", build.tarball, "--directory", source], log=log)
    return source


def _collect(build: ServiceBuild, version: str, work: Path, output: Path) -> SourcePackage:
    """Move the source package and the binary packages into `output`."""
    name = build.service.name
    output.mkdir(parents=True, exist_ok=True)
    dsc, *sources = _source_files(name, version)
    debs = sorted(p.name for p in work.glob("*.deb"))
    for file in (dsc, *sources, *debs):
        shutil.move(work / file, output / file)
    return SourcePackage(
        name=name,
        version=version,
        dsc=output / dsc,
        files=tuple(output / s for s in sources),
        debs=tuple(output / d for d in debs),
    )
