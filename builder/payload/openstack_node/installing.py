"""Install packages without questions or restarts, after finishing what dpkg was interrupted in."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

from openstack_node import restarts, system

APT_SECONDS = 3600
DPKG_LOCK = "/var/lib/dpkg/lock-frontend"
LOCK_SECONDS = 300
APT_OPTIONS = (
    f"DPkg::Lock::Timeout={LOCK_SECONDS}",
    "Dpkg::Options::=--force-confdef",
    "Dpkg::Options::=--force-confold",
)
APT = ("apt-get", "--yes", "--quiet=2", *(w for o in APT_OPTIONS for w in ("-o", o)))
# The lines in which apt and dpkg give the cause of a failure; dpkg does on the next line.
CAUSE = re.compile(r"^(?:E: .*|.*\berror\b.*(?:\n .*)?)$", re.MULTILINE)
# Ask nothing, and restart no daemon before its databases are ready: neither from its package nor
# from needrestart, which apt calls if installed (README.Debian of needrestart; the second variable
# is for versions that do not know the first, and makes it only list what it would restart).
QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    restarts.VARIABLE: "defer",
    "NEEDRESTART_SUSPEND": "1",
    "NEEDRESTART_MODE": "l",
}


def run_apt_get(words: list[str], seconds: float = APT_SECONDS) -> str:
    """Run apt-get without questions or restarts; return its output."""
    done = system.run([*APT, *words], seconds=seconds, merged=True, env=QUIET)
    if done.code != 0:
        # Below the cause there may be a page of packages left unchanged.
        causes = system.Done(done.code, "\n".join(CAUSE.findall(done.out)))
        raise system.NodeError(
            f"apt-get {words[0]} failed", details=causes.read_tail() or done.read_tail()
        )
    return done.out


def rehearse(words: list[str]) -> str:
    """Return the output of a simulated apt-get; nothing if something has to be repaired first."""
    if system.run([*APT, "check"], seconds=APT_SECONDS, env=QUIET).code != 0:
        return ""
    return run_apt_get(["--quiet=0", "--simulate", *words])


def install(packages: list[str], *options: str) -> None:
    """Install packages at their candidate or given versions; repair what is half done first.

    Packages keep their marks as installed automatically or manually. What a transitional package
    that somebody asked for leads to becomes manual, or `apt autoremove` would remove what runs:
    not every apt passes the mark on to what is installed already.
    """
    _wait_for_dpkg()
    _repair()
    names = [p.split("=")[0] for p in packages]
    auto = _list_automatic(names)
    heirs = _find_heirs([name for name in names if name not in auto])
    # Before apt: if this is interrupted, the next run no longer names them.
    if asked_for := [name for name in auto if name in heirs]:
        system.read_output(["apt-mark", "manual", *asked_for], seconds=60)
    run_apt_get(["install", *options, *packages])
    if kept := [name for name in auto if name not in heirs]:
        system.read_output(["apt-mark", "auto", *kept], seconds=60)


def _list_automatic(names: list[str]) -> list[str]:
    """Return which of some packages were installed automatically."""
    return system.read_output(["apt-mark", "showauto", *names], seconds=60).split() if names else []


def _find_heirs(names: list[str]) -> set[str]:
    """Return what those of some packages depend on whose candidates are transitional."""
    if not names:
        return set()
    said = system.read_output(["apt-cache", "show", "--no-all-versions", *names], seconds=60)
    heirs: set[str] = set()
    for stanza in said.split("\n\n"):
        depends = re.search(r"^Depends: (.*)$", stanza, re.MULTILINE)
        if depends and re.search(r"^Section: (?:\S+/)?oldlibs$", stanza, re.MULTILINE):
            heirs.update(re.findall(r"(?:^|[,|] *)([a-z0-9][a-z0-9.+-]+)", depends[1]))
    return heirs


def _wait_for_dpkg() -> None:
    """Wait while another process installs packages, as apt would, and name it."""
    end, said = time.monotonic() + LOCK_SECONDS, 0
    while pid := system.find_holder(DPKG_LOCK):
        command = system.read_command_line(pid).replace("\0", " ").strip()
        who = f"{command} (process {pid}), which holds {DPKG_LOCK}"
        if time.monotonic() > end:
            raise system.NodeError(
                f"waited {LOCK_SECONDS} s for {who}", "run this again when it has finished"
            )
        if pid != said:
            print(f"waiting for {who}", file=sys.stderr, flush=True)
            said = pid
        time.sleep(1)


def _repair() -> None:
    """Finish what dpkg was interrupted in; apt reports later what still fails.

    While a dependency is missing, no package may be named; one that was just being unpacked must
    be, since --fix-broken would first configure what depends on it.
    """
    how: dict[str, Any] = {"seconds": APT_SECONDS, "env": QUIET}
    # Unlike apt, dpkg passes its open files to the scripts it runs, and to what they start.
    system.run(["dpkg", "--configure", "-a"], shared=False, **how)
    if system.run([*APT, "check"], **how).code != 0:
        system.run([*APT, "install", "--fix-broken"], **how)
    show = ["dpkg-query", "-W", "-f", "${db:Status-Eflag} ${Package}\\n"]
    flags = system.read_output(show, seconds=60)
    half = re.findall(r"^reinstreq (\S+)$", flags, re.MULTILINE)
    if half:
        run_apt_get(["install", "--reinstall", *half])
