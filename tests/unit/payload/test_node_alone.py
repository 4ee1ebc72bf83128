"""One openstack-node at a time, and none beside what a killed one began."""

import os
import subprocess
import sys
import textwrap
import threading

import nodeside
import pytest
from openstack_node import alone, system

SCRIPT = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {modules!r})
    from openstack_node import alone, system
    alone.RUN = Path({run!r})
    with alone.work_alone(sys.stderr.write):
        system.run(["cat", {fifo!r}], seconds=600)
"""


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Give an openstack-node at work, and what its command reads: that ends when it is closed."""
    monkeypatch.setattr(alone, "RUN", tmp_path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    modules = str(nodeside.ROOT / "builder/payload")
    text = textwrap.dedent(SCRIPT).format(modules=modules, run=str(tmp_path), fifo=str(fifo))
    with subprocess.Popen([sys.executable, "-c", text]) as process:
        with fifo.open("w") as work:  # there is a reader
            yield process, work
        process.kill()


def test_a_second_run_is_refused_while_the_first_one_works(other):
    process, work = other
    with (
        pytest.raises(system.NodeError, match="another openstack-node is working"),
        alone.work_alone(print),
    ):
        pytest.fail("two at once")
    work.close()
    process.wait(timeout=60)
    with alone.work_alone(pytest.fail):
        pass


def test_what_a_killed_run_began_is_named_and_waited_for(other):
    process, work = other
    process.kill()
    process.wait(timeout=60)
    said, named, entered = [], threading.Event(), threading.Event()

    def say(text):
        said.append(text)
        if "cat" in text:
            named.set()

    def second():
        with alone.work_alone(say):
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert named.wait(60), said
    assert not entered.wait(0.2)
    work.close()
    assert entered.wait(60)
    thread.join()
    assert said[0] == "waiting for what an interrupted openstack-node started:\n"
    assert said[1].endswith(f" cat {alone.RUN}/fifo\n")
    assert said[1].count("\n") == 1


def test_what_may_start_daemons_gets_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "RUN", tmp_path)
    look = ["sh", "-c", "ls -l /proc/self/fd"]
    with alone.work_alone(pytest.fail):
        assert "work.lock" in system.run(look, seconds=60).out
        assert ".lock" not in system.run(look, seconds=60, shared=False).out
