"""Waiting for a unit: when it is up, what is said meanwhile, and the cause when it is not."""

import contextlib
import http.server
import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from nodeside import service, unit
from openstack_node import arrival, system
from web import running

NAME = "toy-api.service"


def state(active="active", **values):
    return system.UnitState(NAME, active=active, enabled="enabled", **values)


class Node:
    """A unit whose states come one after the other, the last for ever; and its journal."""

    def __init__(self, root, monkeypatch):
        self.root, self.states, self.journal, self.said = root, [], "", ""
        (root / "log/toy").mkdir(parents=True)
        self.log = root / "log/toy/toy-api.log"
        monkeypatch.setattr(arrival, "LOGS", root / "log")
        monkeypatch.setattr(system, "read_unit_states", self.next)
        monkeypatch.setattr(system, "run", lambda *_, **__: system.Done(0, self.journal))
        clock = iter(range(0, 100000, 3))
        monkeypatch.setattr(time, "monotonic", lambda: next(clock))
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    def next(self, _names):
        return {NAME: self.states.pop(0) if len(self.states) > 1 else self.states[0]}

    def wait(self, *states, kind="uwsgi", log="", seconds=300):
        self.states = list(states)
        api = unit("toy-api", [], kind=kind)
        wait = arrival.Wait(service(self.root), api, self.say)
        with self.log.open("a") as file:
            file.write(log)
        wait.wait_until_up(seconds)

    def say(self, text):
        self.said += text


@pytest.fixture
def node(tmp_path, monkeypatch):
    return Node(tmp_path, monkeypatch)


@contextmanager
def answering(*statuses, address="127.0.0.1", secure=None):
    """Serve on a port, with each status once and the last for ever; gives the port."""
    rest = list(statuses)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(rest.pop(0) if len(rest) > 1 else rest[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words):
            pass

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def handle_error(self, *_words):
            """As when a client speaks another protocol."""

    with Server((address, 0), Handler) as server:
        if secure:
            server.socket = secure.wrap_socket(server.socket, server_side=True)
        with running(server):
            yield server.server_address[1]


HERE = os.getpid()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::", "::1"])  # noqa: S104
@pytest.mark.parametrize("status", [200, 300, 401])
def test_an_api_is_up_when_it_answers(node, address, status):
    with answering(500, status, address=address):
        node.wait(state(main_pid=HERE))
    assert node.said == ""


def test_an_api_behind_tls_is_up_when_it_answers(node, tmp_path):
    files = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"]
    subprocess.run([*words, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(files[1], files[0])
    with answering(200, secure=secure):
        node.wait(state(main_pid=HERE))


def test_an_api_that_fails_is_not_up_whatever_systemd_says(node):
    said = r"but answers on port \d+ with 500"
    with answering(500), pytest.raises(system.NodeError, match=said):
        node.wait(state(main_pid=HERE), seconds=30)


def test_an_api_that_takes_connections_and_says_nothing_is_not_up(node, monkeypatch):
    """uWSGI listens before it has loaded the application."""
    monkeypatch.setattr(arrival, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(system.NodeError, match=rf"does not answer on port {port} \(Timeout"):
            node.wait(state(main_pid=HERE), seconds=9)


def test_an_api_of_another_protocol_or_a_local_socket_is_up_when_it_stays(node):
    old, new = time.time() - 60, time.time() + 60
    node.wait(state(main_pid=HERE, started=old))
    with pytest.raises(system.NodeError, match="it may exit again"):
        node.wait(state(main_pid=HERE, started=new), seconds=30)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak():
            with contextlib.suppress(OSError):
                while True:
                    link = server.accept()[0]
                    link.recv(1000)
                    link.sendall(b"{}\n")
                    link.close()

        thread = threading.Thread(target=speak)
        thread.start()
        node.wait(state(main_pid=HERE, started=old))
        with pytest.raises(system.NodeError, match="it may exit again"):
            node.wait(state(main_pid=HERE, started=new), seconds=4)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_only_what_a_process_itself_listens_at_counts():
    with answering(200) as port:
        assert arrival.list_listening(HERE) == [("127.0.0.1", port)]
        assert arrival.list_listening(1) != arrival.list_listening(HERE)
    assert arrival.list_listening(2**22 + 1) == []


@pytest.mark.parametrize("kind", ["exec", "simple"])
def test_a_daemon_that_says_nothing_is_up_when_it_stays(node, kind):
    node.wait(state(kind=kind, started=time.time() - 60), kind="daemon")
    with pytest.raises(system.NodeError):
        node.wait(state(kind=kind, started=time.time() + 60), kind="daemon", seconds=30)
    node.wait(state(kind="notify", started=time.time() + 60), kind="daemon")


def test_what_is_waited_for_is_said_when_it_takes_its_time(node):
    loop = [state("activating"), state("activating", sub="auto-restart", restarts=1)]
    node.wait(*loop, *loop[1:], state("activating", restarts=1), state(), kind="daemon")
    assert node.said == (
        f"\n    waiting for {NAME}: auto-restart, after it exited once ... "
        f"\n    waiting for {NAME}: activating, after it exited once ... "
    )


def test_a_unit_that_ends_again_and_again_is_given_up_with_its_last_error(node):
    node.log.write_text("2026-01-01 00:00:00.000 1 ERROR toy [-] of another day\n")
    node.journal = (
        "Starting it\nTraceback (most recent call last):\n  raise ValueError(x)\n"
        "nova.exception.TooOldComputeService: u:p at mysql://toy:SECRET@db/toy: too old\n"
        "toy-api.service: Main process exited, code=exited, status=1/FAILURE\n"
    )
    looping = [state("activating", sub="auto-restart", restarts=n) for n in (1, 2, 3)]
    with pytest.raises(system.NodeError, match="auto-restart, after it exited 3 times") as ended:
        node.wait(*looping, kind="daemon")
    assert ended.value.details == (
        "nova.exception.TooOldComputeService: u:p at mysql://toy:***@db/toy: too old"
    )
    assert "journalctl -u toy-api.service" in ended.value.hints[0]


def test_the_cause_may_be_in_the_log_of_the_daemon(node):
    node.log.write_text("2026-01-01 00:00:00.000 1 ERROR toy [-] of another day\n")
    log = (
        "2026-01-02 00:00:00.000 1 CRITICAL toy [-] Unhandled error: no way\n"
        "2026-01-02 00:00:00.000 1 ERROR toy \n2026-01-02 00:00:00.000 1 INFO toy [-] bye\n"
    )
    with pytest.raises(system.NodeError) as ended:
        node.wait(state("failed"), log=log)
    assert ended.value.details.endswith("CRITICAL toy [-] Unhandled error: no way")


def test_a_unit_whose_gate_says_no_is_given_up_at_once(node):
    node.journal = "not started: the database toy at db is behind the code of 2099.1; do\n"
    with pytest.raises(system.NodeError, match="its start condition is not met") as ended:
        node.wait(state("inactive", result="exec-condition"))
    assert ended.value.details.startswith("not started: the database")
