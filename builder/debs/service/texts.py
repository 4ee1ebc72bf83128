"""Every text of `debian/`, rendered from `debian-templates/service`. Runs no programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder import patches
from builder import templates as jinja
from builder.debs.node import INTERFACE
from builder.debs.plain import wrap_paragraphs
from builder.debs.service.assembly import plan_assembly, render_manifest
from builder.debs.service.files import (
    list_rootwraps,
    locate_log,
    render_daemon_files,
    render_shared_files,
)
from builder.debs.service.view import Binary, Rendered, View, list_configs
from builder.model.service import Daemon, Directory, Package, Service, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from builder.model.values import ServiceBuild


# Packages in the series' tree that build a wheel and install it.
BUILD_TOOLS = ("base", "build", "installer", "setuptools", "wheel", "pbr")


BUILD_TOOLS_PYTHON2 = ("base", "pip", "setuptools", "wheel", "pbr")


def render(
    build: ServiceBuild, library_depends: Sequence[str], templates: Path
) -> Mapping[str, Rendered]:
    """Return every file of `debian/`, by its path in the source tree.

    `build.service` is narrowed to the series. `library_depends` are the Python code's relations
    to library packages. `templates` is `debian-templates/`.
    """
    view = View(build, tuple(list_configs(build)))
    binaries = _make_binaries(view, library_depends)
    root = templates / "service"
    files = {
        "debian/source/format": Rendered("3.0 (quilt)\n"),
        # pbr and setuptools rewrite their metadata when they build a wheel.
        "debian/source/options": Rendered(
            'extend-diff-ignore = "(^|/)[^/]*\\.egg-info/|^build/|^(AUTHORS|ChangeLog)$"\n'
        ),
        "debian/source/lintian-overrides": Rendered(
            (root / "source-lintian-overrides").read_text(encoding="utf-8")
        ),
        "debian/changelog": Rendered(_render_changelog(view, root)),
        "debian/copyright": Rendered(
            jinja.render(
                root,
                "copyright.j2",
                distribution=build.service.distribution,
                homepage=build.service.homepage,
                year=jinja.format_date(build.epoch_seconds).split()[3],
                patches=build.patches,
            )
        ),
        "debian/control": Rendered(_render_control(view, binaries, root)),
        "debian/rules": Rendered(_render_rules(view, binaries, root), 0o755),
        "debian/assemble.py": Rendered((root / "assemble.py").read_text(encoding="utf-8"), 0o644),
        "debian/samples.py": Rendered((root / "samples.py").read_text(encoding="utf-8"), 0o644),
        "debian/plan.json": Rendered(plan_assembly(view, binaries)),
        f"debian/files.d/{build.service.name}.json": Rendered(render_manifest(view)),
    }
    files |= {f"debian/patches/{p.name}": Rendered(p.text) for p in build.patches}
    if build.patches:
        files["debian/patches/series"] = Rendered(patches.render_series(build.patches))
    files |= render_shared_files(view, root)
    for daemon in build.service.daemons:
        files |= render_daemon_files(view, daemon, root)
    for binary in binaries:
        files |= _render_scripts(view, binary, root)
        files[f"debian/files.d/{binary.name}.lintian-overrides"] = _render_overrides(
            view, binary, root
        )
    return dict(sorted(files.items()))


def _render_changelog(view: View, root: Path) -> str:
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
        date=jinja.format_date(b.epoch_seconds),
    )


def _render_control(view: View, binaries: Sequence[Binary], root: Path) -> str:
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


def _make_binaries(view: View, library_depends: Sequence[str]) -> list[Binary]:
    """Return the binary packages: that of the Python code, then those of the project file."""
    service, series = view.service, view.build.series
    code = Binary(
        name=view.code,
        summary=f"{service.title} - Python code for OpenStack {series.id}",
        description=wrap_paragraphs(
            f"This package contains the Python code of {service.name}, in the tree {series.tree} "
            f"that all of OpenStack {series.id} shares.",
            service.description,
        ),
        section="python",
        relations={"Depends": ("${misc:Depends}", *library_depends)},
        code=True,
    )
    return [code, *(_make_binary(view, package) for package in service.packages)]


def _make_binary(view: View, package: Package) -> Binary:
    service = view.service
    if package.name == service.common:
        first = [
            f"{view.code} (= ${{binary:Version}})",
            f"openstack-{view.build.series.id}-closure-{service.name}",
            "adduser",
            "ucf",
            *(["sudo"] if service.sudoers else []),
            # Units ask it before they start, and it restarts them on an upgrade.
            INTERFACE,
        ]
    else:
        first = [] if package.meta else [f"{service.common} (= ${{binary:Version}})"]
        if any(c.package == package.name for c in view.configs):
            first.append("ucf")
        if package.groups:
            first.append("adduser")
    depends = ["${misc:Depends}", *first, *_require_exact(service, package.depends)]
    relations = {"Depends": tuple(dict.fromkeys(depends))}
    for name in ("pre_depends", "recommends", "suggests", "breaks", "conflicts", "replaces"):
        label = "-".join(w.capitalize() for w in name.split("_"))
        relations[label] = tuple(_require_exact(service, getattr(package, name)))
    relations["Provides"] = package.provides
    if package.name == service.common:
        relations["Recommends"] = (*relations["Recommends"], "logrotate")
    return Binary(
        name=package.name,
        summary=package.summary,
        description=wrap_paragraphs(package.description, service.description),
        section="oldlibs" if package.transitional else "net",
        relations={k: v for k, v in relations.items() if v},
        groups=package.groups,
        apparmor=package.apparmor,
    )


def _require_exact(service: Service, relations: Iterable[str]) -> list[str]:
    """Return relations; those on packages of this source require this exact version."""
    own = {p.name for p in service.packages}
    return [f"{r} (= ${{binary:Version}})" if r in own else r for r in relations]


def _render_rules(view: View, binaries: Sequence[Binary], root: Path) -> str:
    service, target = view.service, view.build.target
    calls: dict[str, list[str]] = {}
    for daemon in service.daemons:
        enable = " --no-enable" if daemon.start == "manual" else ""
        # The package's own postinst starts what is to be started.
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


def _select_daemons_to_start(service: Service, package: str) -> list[Daemon]:
    """Return the daemons of a package that its own postinst starts, without waiting for them.

    A daemon that notifies READY does so once it has reached database and broker, which may be
    never on an unconfigured node; and an upgrade must not restart a daemon whose database has to
    be migrated first (debhelper's snippets handle neither). A oneshot is included: restarting it
    restarts the units that are part of it, and in an older series it was a daemon itself.
    """
    return [d for d in service.daemons if d.package == package and d.start == "now"]


def _render_scripts(view: View, binary: Binary, root: Path) -> dict[str, Rendered]:
    """Return the maintainer scripts that a package needs."""
    service = view.service
    daemons = [d for d in service.daemons if d.package == binary.name]
    started = [f"{d.name}.service" for d in _select_daemons_to_start(service, binary.name)]
    named = [p for p in service.packages if p.name == binary.name]
    values: dict[str, object] = {
        "package": binary.name,
        "user": service.user.name,
        "account": _describe_account(view) if binary.name == service.common else None,
        "groups": binary.groups,
        "apparmor": binary.apparmor,
        "code": binary.code,
        "configs": [c for c in view.configs if c.package == binary.name],
        "directories": [] if binary.code else view.list_directories(binary.name),
        "steps": [
            _describe_step(view, s) for s in service.steps if _find_owner(service, s) == binary.name
        ],
        "logs": _list_tool_logs(view, binary.name),
        "service": service.name,
        "started": started,
        "python2": view.build.target.is_python2,
        "maintainer": jinja.MAINTAINER,
        "adopted": {} if binary.code else _list_adopted(view),
        "aliases": [f"{a}.service" for p in named for a in p.aliases],
    }
    files = {}
    if values["adopted"]:
        files["preinst"] = jinja.render(root, "preinst.j2", **values)
    joins = bool(binary.groups or binary.apparmor)  # of other packages
    owns = values["configs"] or values["directories"]
    if owns or values["steps"] or started or joins or values["adopted"]:
        files["postinst"] = jinja.render(root, "postinst.j2", **values)
    if started or binary.code:
        files["prerm"] = jinja.render(root, "prerm.j2", **values)
    if owns or daemons or binary.apparmor or values["adopted"]:
        directories = [] if binary.code else view.list_directories(binary.name)
        values["logs"] = [f"/var/log/{service.name}/{locate_log(d)}" for d in daemons]
        name, common = service.name, binary.name == service.common
        # Whichever package is purged last finds it empty.
        shared = [Directory(f"/etc/{name}")] if values["configs"] and not common else []
        values["directories"] = [*reversed(directories), *shared]
        # Left behind by tmpfiles.d and Python's cache of entry points.
        made = [f"/run/{name}", f"/run/lock/{name}", f"{view.home}/.cache"]
        values["made"] = made if common else []
        values["kept"] = [d.path for d in directories if d.purge == "keep"]
        files["postrm"] = jinja.render(root, "postrm.j2", **values)
    return {f"debian/{binary.name}.{k}": Rendered(v) for k, v in files.items()}


def _list_adopted(view: View) -> dict[str, str]:
    """Return files in /etc that Debian's packages of the service may have left, and ours have too.

    Each is mapped to `gives-way` if an unchanged file is replaced, else to `stays`.
    """
    if not view.service.adopts:
        return {}
    return {c.destination: "gives-way" if c.gives_way else "stays" for c in view.configs}


def _render_overrides(view: View, binary: Binary, root: Path) -> Rendered:
    """Return the lintian overrides, with reasons."""
    scripts = [s for p in view.service.packages if p.name == binary.name for s in p.scripts]
    common = binary.name == view.service.common
    text = jinja.render(
        root,
        "lintian-overrides.j2",
        compression=view.build.target.compression,
        code=binary.code,
        scripts=scripts,
        rootwraps=list_rootwraps(view.service) if common else [],
    )
    return Rendered(text)


def _find_owner(service: Service, step: Step) -> str:
    return step.package or service.common


def _list_tool_logs(view: View, package: str) -> list[str]:
    """Return the log files of command-line tools, which the common package creates."""
    service = view.service
    logs = service.logs if package == service.common else ()
    return [f"/var/log/{service.name}/{log}" for log in logs]


def _describe_step(view: View, step: Step) -> dict[str, str]:
    command = " ".join(map(view.fill, step.command))
    return {
        "command": f"{view.build.series.tree}/bin/{command}",
        "unless_exists": view.fill(step.unless_exists),
        "user": step.user or view.service.user.name,
    }


def _describe_account(view: View) -> dict[str, str]:
    """Return the options for addgroup and adduser."""
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
