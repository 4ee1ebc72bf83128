"""The plan that `debian/assemble.py` carries out during a build; the node's manifest."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from builder.debs.manifest import OPTIONS, SERVICES, make_manifest
from builder.debs.service.files import list_rootwraps
from builder.debs.service.view import Binary, View, locate_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def plan_assembly(view: View, binaries: Sequence[Binary]) -> str:
    """Return the plan for `debian/assemble.py`, as JSON.

    `code`: where the wheel goes and what to exclude from it; `files`: what to write where,
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
        "directories": sorted(_list_ucf_directories(view)),
        "files": [*_plan_files(view), *_plan_texts(view, binaries)],
        "links": [
            {"path": f"debian/{p.name}/usr/bin/{s}", "target": f"{tree}/bin/{s}"}
            for p in service.packages
            for s in p.scripts
            if s not in list_rootwraps(service)
        ]
        + [
            {
                "path": f"debian/{p.name}{view.build.target.units}/{alias}.service",
                "target": f"{view.build.target.units}/{unit}.service",
            }
            for p in service.packages
            for alias, unit in p.aliases.items()
        ],
        "options": {
            "to": f"debian/{service.common}{SERVICES}/{service.name}{OPTIONS}",
            "from": [
                f"debian/{f.package or service.common}{pristine.get(path, path)}"
                for f in service.files
                if f.config_generator
                for path in [locate_file(service, f)]
            ],
        },
    }
    return json.dumps(plan, indent=1, sort_keys=True) + "\n"


def render_manifest(view: View) -> str:
    """Return the manifest that `openstack-node` reads for the service."""
    pristine = {c.destination: c.pristine for c in view.configs}
    text = make_manifest(
        view.service,
        view.build.series,
        site=view.site,
        code=view.code,
        pristine=pristine,
        fill=view.fill,
    )
    return json.dumps(text, indent=1, sort_keys=True) + "\n"


def _list_ucf_directories(view: View) -> set[str]:
    """Return other packages' directories in /etc that ucf copies to: dpkg tracks their owners."""
    own = PurePosixPath("/etc", view.service.name)
    parents = ((c.package, PurePosixPath(c.destination).parent) for c in view.configs)
    return {f"debian/{package}{p}" for package, p in parents if not p.is_relative_to(own)}


def _plan_files(view: View) -> Iterable[Mapping[str, object]]:
    service = view.service
    pristine = {c.destination: c.pristine for c in view.configs}
    for file in service.files:
        path = locate_file(service, file)
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
    for script in list_rootwraps(service):
        yield _plan_copy(script, f"debian/{service.common}/usr/bin/{script}")


def _plan_texts(view: View, binaries: Sequence[Binary]) -> Iterable[Mapping[str, object]]:
    """Yield the rendered texts that are copied unchanged."""
    service, common = view.service, view.service.common
    for binary in binaries:
        overrides = f"debian/{binary.name}/usr/share/lintian/overrides/{binary.name}"
        yield _plan_copy(f"{binary.name}.lintian-overrides", overrides)
    yield _plan_copy(f"{service.name}.json", f"debian/{common}{SERVICES}/{service.name}.json")
    for kind in (*(["sudoers"] if service.sudoers else []), "logrotate"):
        yield _plan_copy(f"{common}.{kind}", f"debian/{common}/usr/share/{common}/{kind}")
    for daemon in service.daemons:
        unit = f"{daemon.name}.service"
        yield _plan_copy(unit, f"debian/{daemon.package}{view.build.target.units}/{unit}")
        if daemon.kind == "uwsgi":
            share = f"debian/{daemon.package}/usr/share/{daemon.package}"
            yield _plan_copy(f"{daemon.name}-uwsgi.ini", f"{share}/{daemon.name}-uwsgi.ini")


def _plan_copy(name: str, to: str) -> Mapping[str, object]:
    return {"from": f"debian/files.d/{name}", "to": to, "presets": []}
