"""How the node's command has uWSGI serve an API: what the machine decides, and what an ini does."""

import socket

import nodeside  # noqa: F401 - it puts the modules of the node on the path
import pytest
from openstack_node import serve
from openstack_node.serve import Machine

GIB = 1024 * 1024
SMALL = Machine(2, 4 * GIB, ipv6=True)
WORDS = [
    "/tree/bin/uwsgi",
    "--buffer-size=65535",
    "--set=start-time=%t",
    "--ini=/etc/toy/toy-api-uwsgi.ini",
    "--module=toy.wsgi:application",
    "--threads=1",
]
# What Debian's own packages bring, and their puppet modules write.
DEBIANS = """\
[uwsgi]
plugins = python3,apparmor
uid = keystone
chdir = /var/lib/keystone
processes = 8
threads = 32
wsgi-file = /usr/bin/keystone-wsgi-public
socket-timeout = 10
chmod-socket = 666
#http-socket = :5000
"""


@pytest.mark.parametrize(
    ("cores", "gib", "fewest", "processes"),
    [
        (1, 1, 2, 2),  # a request may wait for another of the same service
        (2, 8, 2, 2),
        (4, 16, 2, 4),
        (16, 8, 2, 4),  # memory is what it lacks
        (4, 64, 2, 4),  # cores are
        (64, 512, 2, 8),  # connections to the database are
        (2, 4, 4, 4),  # transfers of images take a process each, and little else
    ],
)
def test_processes_are_as_many_as_the_machine_can_carry(cores, gib, fewest, processes):
    assert Machine(cores, gib * GIB, ipv6=True).count_processes(fewest) == processes


def test_an_api_listens_on_ipv6_and_ipv4_and_on_ipv4_where_there_is_no_other():
    assert Machine(2, GIB, ipv6=True).list_addresses(5000) == ["[::]:5000"]
    assert Machine(2, GIB, ipv6=True, apart=True).list_addresses(5000) == [
        "[::]:5000",
        "0.0.0.0:5000",
    ]
    assert Machine(2, GIB, ipv6=False).list_addresses(5000) == ["0.0.0.0:5000"]


def test_this_machine_is_seen_as_it_is(monkeypatch):
    machine = serve.inspect_machine()
    assert machine.cores >= 1
    assert machine.memory > GIB // 8
    kind = socket.socket

    def without_ipv6(family=socket.AF_INET, *rest):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return kind(family, *rest)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    assert not serve.inspect_machine().ipv6


def test_an_ini_comes_after_what_it_may_change_and_before_what_it_may_not():
    line = serve.make_command(SMALL, 5000, 2, WORDS, "[uwsgi]\nprocesses = 1\n")
    assert line[0] == "/tree/bin/uwsgi"
    ini = line.index("--ini=/etc/toy/toy-api-uwsgi.ini")
    before, after = line[1:ini], line[ini + 1 :]
    assert {"--processes=2", "--set=listen-on=[::]:5000", "--buffer-size=65535"} <= set(before)
    assert after == ["--module=toy.wsgi:application", "--threads=1", "--http-socket=[::]:5000"]


def test_a_series_that_asks_for_its_start_time_is_told_it():
    (start,) = [w for w in serve.make_command(SMALL, 1, 2, WORDS, "") if "start-time" in w]
    assert start.rpartition("=")[2].isdigit()


@pytest.mark.parametrize(
    "line",
    [
        "http-socket = :5000",
        "https-socket = %(listen-on),/etc/toy/ssl/a.crt,/etc/toy/ssl/a.key",
        "socket=/run/toy/toy.socket",
        "http11-socket = 10.0.0.1:80",
        "  uwsgi-socket = 127.0.0.1:1",
    ],
)
def test_an_ini_that_names_a_socket_has_no_other_added(line):
    started = serve.make_command(SMALL, 5000, 2, WORDS, f"[uwsgi]\n{line}\n")
    assert not [w for w in started if w.startswith("--http-socket")]


@pytest.mark.parametrize(
    "text", [DEBIANS, "", "[uwsgi]\n", "[other]\nhttp-socket = :1\n", "; [uwsgi]\nhttp-socket=:1"]
)
def test_an_ini_without_a_socket_has_one_added(text):
    assert serve.make_command(SMALL, 5000, 2, WORDS, text)[-1] == "--http-socket=[::]:5000"


def test_an_ini_that_was_removed_is_not_missed():
    line = serve.make_command(SMALL, 5000, 2, WORDS, None)
    assert not [w for w in line if w.startswith("--ini")]
    assert line[-1] == "--http-socket=[::]:5000"


def test_threads_that_are_not_used_are_told():
    (said,) = serve.list_remarks(DEBIANS, WORDS)
    assert "threads = 32 is not used" in said
    assert not serve.list_remarks("[uwsgi]\nthreads = 1\n", WORDS)
    assert not serve.list_remarks(None, WORDS)


def test_uwsgi_takes_the_place_of_the_program(tmp_path, monkeypatch):
    ini = tmp_path / "toy.ini"
    ini.write_bytes(b"[uwsgi]\n# caf\xe9\nhttp-socket = :1\n")
    ran = []
    monkeypatch.setattr(serve.os, "execv", lambda path, line: ran.append((path, line)))
    serve.main(["--port=80", "--fewest=3", "/bin/uwsgi", f"--ini={ini}", "--threads=1"])
    ((path, line),) = ran
    assert path == line[0] == "/bin/uwsgi"
    assert line[-2:] == [f"--ini={ini}", "--threads=1"]
