"""The files a service ships in addition to its code: units and settings, sudoers, logrotate."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from builder import templates as jinja
from builder.debs.service.view import NEIGHBOURS, Rendered, View, quote

if TYPE_CHECKING:
    from builder.model.service import Daemon, Service


def render_shared_files(view: View, root: Path) -> dict[str, Rendered]:
    """Return the sudoers, logrotate and tmpfiles texts of the common package."""
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
        tree = view.build.series.tree
        files[f"debian/files.d/{common}.sudoers"] = jinja.render(
            root, "sudoers.j2", commands=service.sudoers, tree=tree, **names
        )
        for script in list_rootwraps(service):
            files[f"debian/files.d/{script}"] = jinja.render(
                root, "rootwrap.j2", script=script, tree=tree, **names
            )
    return {path: Rendered(text) for path, text in files.items()}


def render_daemon_files(view: View, daemon: Daemon, root: Path) -> dict[str, Rendered]:
    """Return the unit of a daemon, and its uWSGI settings."""
    unit = jinja.render(root, "unit.service.j2", **_describe_unit(view, daemon))
    files = {f"debian/files.d/{daemon.name}.service": Rendered(unit)}
    if daemon.kind == "uwsgi":
        ini = jinja.render(
            root,
            "uwsgi.ini.j2",
            daemon=daemon,
            service=view.service.name,
        )
        files[f"debian/files.d/{daemon.name}-uwsgi.ini"] = Rendered(ini)
    return files


def _describe_unit(view: View, daemon: Daemon) -> dict[str, object]:
    service, tree, name = view.service, view.build.series.tree, view.service.name
    user = daemon.user or service.user.name
    environment = {k: view.fill(v) for k, v in daemon.environment.items()}
    if daemon.kind == "uwsgi":
        command = f"{tree}/bin/uwsgi"
        # oslo.log names the log after the program, which would be uwsgi for all of them.
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
        "environment": [_quote_assignment(k, v) for k, v in environment.items()],
        "pre_start": [view.fill(c) for c in daemon.pre_start],
        "command": command,
        "options": [_quote_word(o) for o in _list_uwsgi_options(view, daemon)]
        if daemon.kind == "uwsgi"
        else [],
        "read_write": [*standard, *map(view.fill, daemon.read_write)],
    }


def _list_uwsgi_options(view: View, daemon: Daemon) -> list[str]:
    """Return the uWSGI options of a daemon, in order (the last one wins).

    Options that the node's ini file may change precede `--ini`; `serve-wsgi` adds the addresses
    and the number of processes on the node.
    """
    tree, wsgi = view.build.series.tree, daemon.wsgi[0]
    return [
        "--buffer-size=65535",  # tokens and lists of hosts make long headers
        "--thunder-lock",
        *(f"--set={k}={view.fill(v)}" for k, v in daemon.uwsgi.items() if v),
        f"--ini=/etc/{view.service.name}/{daemon.name}-uwsgi.ini",
        f"--virtualenv={tree}",
        f"--chdir={view.home}",
        f"--module={wsgi.module}" if wsgi.module else f"--wsgi-file={tree}/bin/{wsgi.script}",
        "--master",
        f"--threads={daemon.threads}",
        "--enable-threads",  # for the application's own threads
        "--lazy-apps",  # each process loads the application itself, so they share no connection
        "--need-app",  # a server without the application is useless: exit, and be restarted later
        "--add-header=Connection: close",
        # Only its answer ends a request. The hooks are C functions of uWSGI: HUP ends a process
        # once it has answered, even while it loads the application.
        "--worker-reload-mercy=86400",
        "--die-on-term",
        "--hook-master-start=unix_signal:15 gracefully_kill_them_all",
        "--hook-master-start=unix_signal:1 uwsgi_chain_reload",
        "--hook-post-fork=unix_signal:1 gracefully_kill",
    ]


def _quote_word(text: str) -> str:
    """Return a word, quoted for a command line in a unit (systemd.service(5))."""
    return quote(text.replace("$", "$$"))


def _quote_assignment(name: str, value: str) -> str:
    """Return a variable, quoted for Environment= (systemd.exec(5))."""
    return quote(f"{name}={value}")


def locate_log(daemon: Daemon) -> str:
    """Return the log file of a daemon, relative to /var/log/<service>."""
    if daemon.kind == "uwsgi":
        return daemon.log_file or f"{daemon.name}.log"
    return f"{PurePosixPath(daemon.script).name}.log"


def list_rootwraps(service: Service) -> list[str]:
    """Return the scripts sudo runs: the variants of rootwrap."""
    return [command.split()[0] for command in service.sudoers]
