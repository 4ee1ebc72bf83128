"""Installing packages: what is repaired and waited for first, and what is said of a failure."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
from openstack_node import installing, system


def test_what_an_upgrade_left_broken_is_repaired_first(monkeypatch):
    ran = []

    def run(argv, **_):
        ran.append([w for w in argv if w not in installing.APT or w == "apt-get"])
        said = "ok other\nreinstreq half\nok third\n" if argv[0] == "dpkg-query" else ""
        return system.Done(100 if argv[-1] == "check" else 0, said)

    monkeypatch.setattr(system, "run", run)
    installing.install(["toy-api"])
    assert [r[1:] for r in ran if r[0] in ("dpkg", "apt-get")] == [
        ["--configure", "-a"],
        ["check"],
        ["install", "--fix-broken"],
        ["install", "--reinstall", "half"],
        ["install", "toy-api"],
    ]


SHOWN = """Package: toy-worker-kvm
Section: oldlibs
Depends: toy-worker (>= 2:2.0-1), other | another

Package: toy-api
Section: net
Depends: toy-common
"""


def test_what_a_transitional_package_leads_to_is_not_left_to_autoremove(monkeypatch):
    """Debian's toy-worker-kvm was asked for, and toy-worker came with it."""
    auto = {"toy-worker", "toy-common"}
    before = []

    def run(argv, **_):
        if argv[:2] == ["apt-mark", "showauto"]:
            return system.Done(0, "\n".join(name for name in argv[2:] if name in auto))
        if argv[:2] == ["apt-mark", "auto"]:
            auto.update(argv[2:])
        elif argv[:2] == ["apt-mark", "manual"]:
            auto.difference_update(argv[2:])
        elif argv[:2] == ["apt-cache", "show"]:
            assert argv[3:] == ["toy-worker-kvm", "toy-api"]
            return system.Done(0, SHOWN)
        elif "install" in argv:
            before.append(set(auto))
            auto.clear()  # apt takes what is named for asked for
        return system.Done(0, "")

    monkeypatch.setattr(system, "run", run)
    installing.install(["toy-worker-kvm", "toy-worker", "toy-common", "toy-api"])
    assert before == [{"toy-common"}]
    assert auto == {"toy-common"}


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize(("held", "ends"), [(1.5, True), (60, False)])
def test_who_holds_dpkg_s_lock_is_said_and_waited_for(monkeypatch, tmp_path, capfd, held, ends):
    lock = tmp_path / "lock-frontend"
    monkeypatch.setattr(installing, "DPKG_LOCK", str(lock))
    monkeypatch.setattr(installing, "LOCK_SECONDS", 5 if ends else 1)
    argv = [sys.executable, "-c", HOLD, lock, str(held)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with nullcontext() if ends else pytest.raises(system.NodeError, match="waited 1 s for"):
            installing._wait_for_dpkg()
        other.kill()
    said = capfd.readouterr().err
    assert said.count("waiting for") == 1
    assert f"(process {other.pid}), which holds {lock}" in said


def apt_fails(monkeypatch, said):
    """Have apt-get fail in all it does, and everything else work."""
    monkeypatch.setattr(system, "run", lambda argv, **_: (
        system.Done(100, said) if argv[0] == "apt-get" else system.Done(0, "")
    ))  # fmt: skip


def test_what_apt_says_of_a_failure_is_told(monkeypatch):
    apt_fails(monkeypatch, "E: no space\n")
    with pytest.raises(system.NodeError, match="apt-get install failed") as failed:
        installing.install(["toy-api"])
    assert failed.value.details == "E: no space"


FULL = """Unpacking toy ...
dpkg: error processing archive /x/toy.deb (--unpack):
 cannot copy extracted data: failed to write (No space left on device)
Errors were encountered while processing:
"""


def test_the_cause_of_a_failure_is_told_not_the_page_below_it(monkeypatch):
    said = (
        FULL + " /x/other.deb\n" * 30 + "E: Sub-process /usr/bin/dpkg returned an error code (1)\n"
    )
    apt_fails(monkeypatch, said)
    with pytest.raises(system.NodeError) as failed:
        installing.install(["toy-api"])
    assert failed.value.details.splitlines() == [*FULL.splitlines()[1:3], said.splitlines()[-1]]
