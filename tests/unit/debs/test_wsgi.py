"""How the APIs are served, read from what every series' packages would bring to a node."""

import shlex
from pathlib import Path

import pytest

from builder.catalogue import load as catalogue
from builder.debs.service.texts import render
from builder.model.service import NO_SETTING, Daemon, DaemonWhen
from builder.model.values import ServiceBuild

ROOT = Path(__file__).parents[3]
CATALOGUE = catalogue.load(ROOT / "projects")
ORDER = catalogue.order_series(CATALOGUE)
SERIES = ("ocata", "pike", "2023.1", "2024.1", "2025.1", "2025.2", "2026.1")
CASES = [(name, series) for series in SERIES for name in sorted(CATALOGUE.series[series].versions)]
NOWHERE = Path("/nowhere")

each_service = pytest.mark.parametrize(("name", "series"), CASES)


def served(name, series):
    """Yield each API that uWSGI serves, the words of its ExecStart=, and its unit."""
    description = CATALOGUE.series[series]
    build = ServiceBuild(
        service=CATALOGUE.services[name].narrow_to_series(series, ORDER),
        series=description,
        target=CATALOGUE.targets[description.targets[0]],
        version=description.versions[name],
        tarball=NOWHERE / "x.tar.gz",
        wheel=NOWHERE / "x.whl",
        tree=NOWHERE,
        revision=1,
        epoch_seconds=0,
    )
    files = render(build, (), ROOT / "debian-templates")
    for daemon in build.service.daemons:
        if daemon.kind == "uwsgi":
            unit = files[f"debian/files.d/{daemon.name}.service"].text
            joined = unit.replace("\\\n", "")
            (line,) = [x for x in joined.splitlines() if x.startswith("ExecStart=")]
            yield daemon, shlex.split(line.partition("=")[2]), unit


def options(words):
    """Return names and values of uWSGI's options, `--set` being another way to write one."""
    plain = [w.removeprefix("--set=").removeprefix("--").partition("=") for w in words]
    return [(name, value) for name, _, value in plain]


@each_service
def test_no_two_requests_share_a_process_unless_upstream_says_they_may(name, series):
    """keystone with eight threads answered a member with the administrator's token."""
    for daemon, words, _ in served(name, series):
        (threads,) = [int(v) for n, v in options(words) if n == "threads"]
        assert threads == 1 or daemon.threads_source, daemon.name
        # No file can say otherwise: Debian's own has 32.
        ini = f"--ini=/etc/{name}/{daemon.name}-uwsgi.ini"
        assert words.index(ini) < words.index(f"--threads={threads}")


@each_service
def test_nothing_ends_a_worker_that_has_a_request(name, series):
    """`cheaper` kills busy workers; limits of time, memory and requests do the same."""
    for daemon, words, unit in served(name, series):
        given = [n for n, _ in options(words) if NO_SETTING.fullmatch(n)]
        assert sorted(given) == ["threads", "worker-reload-mercy"], daemon.name
        (mercy,) = [int(v) for n, v in options(words) if n == "worker-reload-mercy"]
        assert mercy >= 24 * 60 * 60
        assert "\nKillMode=mixed\n" in unit  # the workers hear of a stop from their master


@each_service
def test_a_reload_is_one_process_after_the_other_and_a_stop_waits(name, series):
    for _, words, unit in served(name, series):
        hooks = {(n, v) for n, v in options(words) if n.startswith("hook-")}
        assert hooks == {
            ("hook-master-start", "unix_signal:1 uwsgi_chain_reload"),
            ("hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
            ("hook-post-fork", "unix_signal:1 gracefully_kill"),
        }
        assert ("lazy-apps", "") in options(words)  # or a reload would load nothing again
        assert '\nExecReload=/bin/sh -c "kill -HUP $MAINPID"\n' in unit


@each_service
def test_what_an_api_needs_is_in_its_unit_where_no_ini_can_change_it(name, series):
    """A file of Debian's own packages has another program, another directory and no socket."""
    tree = f"/usr/lib/openstack/{series}"
    for daemon, words, _ in served(name, series):
        assert words[:4] == [
            "/usr/libexec/openstack-node/serve-wsgi",
            f"--port={daemon.port}",
            f"--fewest={daemon.fewest_processes}",
            f"{tree}/bin/uwsgi",
        ]
        after = words[words.index(f"--ini=/etc/{name}/{daemon.name}-uwsgi.ini") :]
        wsgi = daemon.wsgi[0]
        code = f"--module={wsgi.module}" if wsgi.module else f"--wsgi-file={tree}/bin/{wsgi.script}"
        needed = {f"--virtualenv={tree}", f"--chdir=/var/lib/{name}", code, "--master"}
        assert needed <= set(after)


def test_more_threads_need_a_source():
    with pytest.raises(ValueError, match="toy-api: 8 threads need threads-source"):
        Daemon("toy-api", "toy-api", "API", "uwsgi", port=80, threads=8)
    with pytest.raises(ValueError, match="8 threads need threads-source"):
        DaemonWhen(threads=8)
    assert DaemonWhen(threads=8, threads_source="toy: doc/source/threads.rst").threads == 8


@pytest.mark.parametrize(
    "setting",
    [
        *("threads", "processes", "workers", "cheaper", "cheaper-step", "harakiri"),
        *("http-harakiri", "max-requests", "max-worker-lifetime", "reload-on-rss"),
        *("evil-reload-on-as", "idle"),
    ],
)
def test_a_setting_that_loses_requests_is_refused(setting):
    with pytest.raises(ValueError, match=f"toy-api: uwsgi setting '{setting}'"):
        Daemon("toy-api", "toy-api", "API", "uwsgi", port=80, uwsgi={setting: "1"})
