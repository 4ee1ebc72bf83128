"""Root file systems for nodes: Debian as mmdebstrap makes it, once per suite.

The mirrors are those the host's own apt uses; nothing here names one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# What a small Debian server has and what the tests use; nothing our packages
# should ask for themselves (adduser, logrotate, python3 …) is named, so that a
# forgotten dependency shows.
BASE = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libpam-systemd",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# The host's apt settings that hold for a node's, whatever it fetches.
FOLLOWED = ("Acquire::http::Proxy",)
# A frozen mirror is the host administrator's affair: what apt is told to overlook there, it
# overlooks of Debian's own suites (sources.list(5)), and of no other repository.
OVERLOOKED = {
    'Acquire::Check-Valid-Until "false";': "check-valid-until=no",
    'Acquire::Check-Date "false";': "check-date=no",
}
UNUSED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "getty.target",
)
# Where the kernel has no iSCSI, this Debian's open-iscsi fails to install unless these are
# masked; later ones start by a socket.
UNUSED_UNITS_OF = {"bullseye": ("iscsid.service", "open-iscsi.service")}


@dataclass(frozen=True, slots=True)
class Source:
    """One suite on one mirror, as `deb [options] URI SUITE main`."""

    uri: str
    suite: str
    options: tuple[str, ...] = ()

    def line(self, *, plain: bool = False) -> str:
        """Return the sources.list line; `plain` for a node, whose proxy adds TLS again."""
        uri = "http" + self.uri[5:] if plain and self.uri.startswith("https:") else self.uri
        options = f"[{' '.join(self.options)}] " if self.options else ""
        return f"deb {options}{uri} {self.suite} main\n"


def cache_dir() -> Path:
    """Return where images, downloads and running nodes live, outside any checkout."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "build-debs-tests"


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def host_suite() -> str:
    """Return the code name of the Debian this machine runs."""
    pairs = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines())
    return {key: value.strip('"') for key, _, value in pairs}["VERSION_CODENAME"]


def sources(suite: str) -> list[Source]:
    """Return apt's sources of `suite`: the host's Debian mirrors with the suite's name put in."""
    here = host_suite()
    # Without lists apt knows no code names, only what is written in its sources.
    fields = "$(RELEASE) $(REPO_URI)"
    lines = _output("apt-get", "indextargets", "--format", fields, "Created-By: Packages")
    pairs = sorted({tuple(line.split()) for line in lines.splitlines()})
    wanted = {here + tail: suite + tail for tail in ("", "-updates", "-security")}
    options = tuple(word for line, word in OVERLOOKED.items() if line in _settings())
    found = [Source(uri, wanted[release], options) for release, uri in pairs if release in wanted]
    if not any(source.suite == suite for source in found):
        raise RuntimeError(f"apt on this machine knows no mirror of {here}")
    return found


def schemes(found: list[Source]) -> dict[str, str]:
    """Return the scheme by which each mirror host is reached."""
    return {urlsplit(source.uri).netloc: urlsplit(source.uri).scheme for source in found}


def followed_options() -> list[str]:
    """Return the host's apt settings a node's apt must share to use the same mirrors."""
    return [line for line in _settings() if line.startswith(FOLLOWED)]


def _settings() -> list[str]:
    return _output("apt-config", "dump").splitlines()


def image(suite: str) -> Path:
    """Return the root of `suite` with BASE, bootstrapped on first use."""
    found = sources(suite)
    hooks = [_hook(line) for line in _customise(suite, found)]
    identity = repr((suite, BASE, found, hooks, followed_options()))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    images = cache_dir() / "images"
    images.mkdir(parents=True, exist_ok=True)
    root = images / f"{suite}-{digest}"
    with (images / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            _bootstrap(root, suite, found, hooks)
    return root


def _hook(command: str) -> str:
    return f"--customize-hook={command}"


def _customise(suite: str, found: list[Source]) -> list[str]:
    """Return the shell lines that make a bootstrapped root ($1) a node's."""
    plain = "".join(source.line(plain=True) for source in found)
    unused = (*UNUSED_UNITS, *UNUSED_UNITS_OF.get(suite, ()))
    return [
        f'chroot "$1" systemctl -q mask {shlex.join(unused)}',
        'rm -f "$1/etc/hostname" "$1/etc/resolv.conf"; : >"$1/etc/machine-id"',
        f'printf %s {shlex.quote(plain)} >"$1/etc/apt/sources.list"',
    ]


def _bootstrap(root: Path, suite: str, found: list[Source], hooks: list[str]) -> None:
    if shutil.which("mmdebstrap") is None:
        raise RuntimeError("mmdebstrap is not installed: apt-get install mmdebstrap")
    options = [
        'APT::Install-Recommends "false"',
        'Acquire::Languages "none"',
        'Acquire::Retries "3"',
        *followed_options(),
    ]
    with tempfile.TemporaryDirectory(prefix=".new-", dir=root.parent) as scratch:
        target = Path(scratch) / "root"
        argv = [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--format=directory"),
            # Lists stay: a node's apt-get update then only asks whether they are current.
            *("--skip=cleanup/apt/lists", "--dpkgopt=force-unsafe-io"),
            f"--include={','.join(BASE)}",
            *(f"--aptopt={option}" for option in options),
            *hooks,
            *(suite, str(target), "-"),
        ]
        mirrors = "".join(source.line() for source in found)
        done = subprocess.run(argv, input=mirrors, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"mmdebstrap of {suite} failed:\n{done.stderr[-4000:]}")
        target.chmod(0o755)
        target.rename(root)
