"""What a service's package tells `openstack-node` about it: one JSON file per service."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from builder.errors import BuildError, PublishError
from builder.model.values import KnownOptions
from builder.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.model.service import Daemon, Schema, Service
    from builder.model.values import Series

SERVICES = "/usr/share/openstack-node/services"
OPTIONS = ".options.json"
FORMAT = 2  # increase it when an older openstack-node would misread the file


def make_manifest(
    service: Service,
    series: Series,
    *,
    site: str,
    code: str,
    pristine: Mapping[str, str],
    fill: Callable[[str], str],
) -> Mapping[str, object]:
    """Return the manifest of a service that is narrowed to `series`.

    `site`: site-packages of the tree on a node. `code`: the package with the Python code.
    `pristine`: where the original of each file below /etc is. `fill` inserts the series into
    a text of the project file.
    """
    generated = [f for f in service.files if f.config_generator]
    paths = [
        f.path if f.path.startswith("/") else f"/etc/{service.name}/{f.path}" for f in generated
    ]
    live = [p for p in paths if p.startswith("/etc/")]
    return {
        "format": FORMAT,
        "service": service.name,
        "title": service.title,
        "series": series.id,
        "tree": series.tree,
        "site": site,
        "user": service.user.name,
        "order": service.node.order,
        "package": service.common,
        "packages": [code, *(p.name for p in service.packages)],
        "directory": f"/etc/{service.name}",
        "configs": [{"live": path, "pristine": pristine[path]} for path in live],
        "options": f"{SERVICES}/{service.name}{OPTIONS}",
        "units": [_describe_unit(service, daemon, live, fill) for daemon in service.daemons],
        "chosen": [f"{d.name}.service" for d in service.daemons if d.only_if],
        "upgrade_check": list(service.node.upgrade_check),
        "schemas": [_describe_schema(s) for s in service.schemas],
        "setup": [_make_table(s) for s in service.setup],
        "negotiated_by": service.node.negotiated_by,
        "upgrade": [_make_table(u) for u in service.upgrade],
        "settings": [_make_table(s) for s in service.settings],
        "dynamic": [_make_table(d) for d in service.dynamic],
        "records": [_make_table(r) for r in service.records],
    }


def _describe_unit(
    service: Service, daemon: Daemon, live: Sequence[str], fill: Callable[[str], str]
) -> Mapping[str, object]:
    """Return a daemon's unit, and every file it reads whose changes take effect on a restart.

    `configs` are the configuration files in the order they are read; one that ends in `/` is
    a directory of more (given only files, oslo.config also reads the directories of the
    service and the program).
    """
    given = [fill(a) for a in daemon.args]
    configs = []
    for option, _, path in (text.partition("=") for text in given):
        if option == "--config-file":
            configs.append(path)
        elif option == "--config-dir":
            configs.append(path.rstrip("/") + "/")
    for name, value in daemon.environment.items():
        if name.endswith("_CONFIG_FILES"):
            configs += re.split("[;,]", fill(value))
    configs = configs or list(live[:1])
    if not any(c.endswith("/") for c in configs):
        program = "uwsgi" if daemon.kind == "uwsgi" else PurePosixPath(daemon.script).name
        standard = dict.fromkeys((service.name, program))
        configs += [f"/etc/{service.name}/{name}.conf.d/" for name in standard]
    ini = [f"/etc/{service.name}/{daemon.name}-uwsgi.ini"] if daemon.kind == "uwsgi" else []
    paste = [f"/etc/{service.name}/{f.path}" for f in service.files if f.path.endswith("paste.ini")]
    reads = not (daemon.kind == "oneshot" or daemon.script.startswith("/"))
    return {
        "name": f"{daemon.name}.service",
        "package": daemon.package,
        "kind": daemon.kind,
        "start": daemon.start,
        "needs": list(daemon.needed),
        "configs": configs if reads else [],
        "others": [*ini, *paste] if reads else [],
    }


def _describe_schema(schema: Schema) -> Mapping[str, object]:
    """Return a schema, with its heads only if its revisions do not determine them."""
    return {k: v for k, v in _make_table(schema).items() if k != "heads" or v}


def _make_table(value: object) -> Mapping[str, object]:
    """Return a dataclass as a table, without the fields that limit it to certain series."""
    fields = dataclasses.fields(value)  # type: ignore[arg-type]
    rows = {f.name: getattr(value, f.name) for f in fields if f.name not in {"since", "until"}}
    return {k: _convert_value(v) for k, v in rows.items()}


def _convert_value(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return _make_table(value)
    if isinstance(value, tuple):
        return [_convert_value(v) for v in value]
    return dict(value) if isinstance(value, Mapping) else value


def read_options(deb: Path, service: str) -> KnownOptions | None:
    """Return the options of the service as listed in a built common package; None if it has none.

    `put_options` of debian-templates/service/assemble.py writes them. Raises PublishError if the
    package cannot be read.
    """
    name = f".{SERVICES}/{service}{OPTIONS}"
    try:
        content = run(["dpkg-deb", "--fsys-tarfile", deb]).stdout
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            file = archive.extractfile(name) if name in archive.getnames() else None
            raw = json.loads(file.read()) if file else None
        return KnownOptions(raw["options"], raw["renamed"], raw.get("defaults")) if raw else None
    except (BuildError, tarfile.TarError, ValueError, KeyError) as error:
        raise PublishError(
            f"{deb}: cannot read its options", hint="build-debs repo verify shows what is damaged"
        ) from error
