"""The nodes themselves: real machines, and nothing left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import GATEWAY, Lab, NodeError, wait_until

HOLD = """\
import sys, time
from pathlib import Path
from harness import Lab
lab = Lab(Path(sys.argv[1]), sys.argv[2]).__enter__()
lab.node("held")
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def tag() -> str:
    return f"self-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


def traces(lab: Lab) -> list[str]:
    """What of a lab can be seen on the host."""
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines()
              if str(lab.dir) in line]  # fmt: skip
    return mounts + [str(p) for p in (lab.dir, lab.namespace, lab.group.path) if p.exists()]


def test_a_node_is_a_machine_of_its_own(tmp_path: Path, tag: str) -> None:
    with Lab(tmp_path, tag) as lab:
        node = lab.node("one")
        assert node.out("cat /proc/1/comm") == "systemd"
        assert node.out("systemctl is-system-running") == "running"
        assert node.out("ip -br link | cut -d ' ' -f 1 | cut -d @ -f 1").split() == ["lo", "eth0"]
        with pytest.raises(NodeError, match="status 7"):
            node.run("echo said before; exit 7")
        # No way out but the mirrors the host's apt knows.
        assert not node.succeeds(f"curl -fsx http://{GATEWAY} http://elsewhere.invalid/")
        (tmp_path / "file").write_text("served")
        assert node.out(f"curl -fs http://{GATEWAY}/file") == "served"
        node.run("echo kept >/root/kept && systemctl stop --no-block dbus")
        node.reboot()
        assert node.read("/root/kept") == "kept\n"
    assert traces(lab) == []


def test_a_node_of_an_older_debian(tmp_path: Path, tag: str) -> None:
    """Bullseye, which has Python 2.7 and systemd 247, from this machine's own mirrors."""
    with Lab(tmp_path, tag) as lab:
        node = lab.node("old", "bullseye", provider=True)
        assert node.out("systemctl is-system-running") == "running"
        assert node.out(". /etc/os-release; echo $VERSION_CODENAME") == "bullseye"
        assert node.out("cat /sys/class/net/eth1/operstate") == "up"
        node.run("apt-get update && apt-get install -y --no-install-recommends python2.7-minimal")
        assert node.out("python2.7 -c 'import sys; print sys.version_info[:2]'") == "(2, 7)"
        node.stop()
        assert "Power-Off" in node.console()  # in order, not killed
    assert traces(lab) == []


def test_nothing_runs_on_when_the_tests_are_killed(tmp_path: Path, tag: str) -> None:
    lab = Lab(tmp_path, tag)
    argv = [sys.executable, "-c", HOLD, str(tmp_path), tag]
    with subprocess.Popen(
        argv, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        assert lab.group.populated()
        holder.send_signal(signal.SIGKILL)
    wait_until("the node to go", lambda: not lab.group.populated(), 60)
    with lab:  # the next one clears away what only takes room
        assert not (lab.dir / "held").exists()
    assert traces(lab) == []
