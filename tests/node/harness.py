"""Throw-away Debian machines with a real systemd, for the acceptance tests.

A `Lab` is a bridge in a network namespace of its own, with one web server on it
(mirror.py) and no way out. A `Node` is an overlay over an image (images.py), booted
by systemd-nspawn beside that bridge. The host's own network gets nothing but the
namespace's name; a node's mounts live in a mount namespace that ends with the node;
all processes of a node are in one control group, by which they are found and ended.

Nothing outlives the tests: a lab is closed by its `with` block, at exit if that is
missed, by the kernel if this process is killed (the nodes' parent-death signal), and
what is on disk then is removed by the next lab of the same name.

    python3 tests/node/harness.py packages    Debian packages this needs
    python3 tests/node/harness.py shell REPO  boot a node, give a shell in it, drop it
"""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import images
from mirror import Mirror

HOST_PACKAGES = (
    "ca-certificates",
    "curl",
    "ethtool",
    "iproute2",
    "iputils-ping",
    "mmdebstrap",
    "openssh-client",
    "systemd-container",
    "util-linux",
)
# The addresses of the official install guide: management, and the provider network.
NETWORK = "10.0.0"
GATEWAY = f"{NETWORK}.1"
PROVIDER_GATEWAY = "203.0.113.1"
REPO_DIR = "/srv/repo"  # where a node sees the repository as files
BOOT_SECONDS = 120
STOP_SECONDS = 300  # libvirt-guests saves what runs, which a busy machine takes long for
NODES_KB = 8 * 1024 * 1024  # what the files of all nodes of a run may need
# What a node's commands see: a root login's environment, and no question from debconf.
ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/bash",
    "USER": "root",
}
# A node is a machine that routes, filters and runs guests: beyond nspawn's default.
CAPABILITIES = "CAP_NET_ADMIN,CAP_IPC_LOCK,CAP_SYSLOG,CAP_BPF,CAP_PERFMON"
SYSTEM_CALLS = "@keyring bpf perf_event_open"
# Network tools want to write in /sys/devices/virtual/net and to open /dev/net/tun.
NETWORK_UNIT = """\
[Unit]
Description=The node's address, and what network tools expect of a real machine
DefaultDependencies=no
Before=network-pre.target network.target network-online.target sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount --bind /sys/devices/virtual/net /sys/devices/virtual/net
ExecStart=/bin/mount -o remount,rw /sys/devices/virtual/net
ExecStart=/bin/chmod 666 /dev/net/tun
ExecStart=/sbin/ip link set host0 name eth0 up
ExecStart=/sbin/ip addr add {address}/24 dev eth0
ExecStart=/sbin/ip route add default via {gateway}
"""
# The guide's second interface, which has no address.
PROVIDER_LINES = """\
ExecStart=/sbin/ip link set {name} name eth1
ExecStart=/sbin/ip link set eth1 up
"""
# In a mount namespace of its own: nspawn, and so the node, sees control groups of
# version 2 alone, and has a /run/systemd to write in that is not the host's. It takes an
# interface without a word from udev only where /sys says that there is none.
START = """\
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
umount -R /sys/fs/cgroup
mount -t sysfs sysfs /sys
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
shift 2
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn "$@"
"""


class NodeError(Exception):
    """A node did not do what it was told; carries what it said."""


def _run(*argv: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(a) for a in argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode != 0:
        raise NodeError(f"{shlex.join(done.args)}: {done.stderr.strip()}")
    return done


def cgroup_root() -> Path:
    """Return where control groups of version 2 are mounted here."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise NodeError("no cgroup2 file system is mounted on this machine")


def wait_until(what: str, test, seconds: float, step: float = 0.1):
    """Return the first true value `test` gives, or raise NodeError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > end:
            raise NodeError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(step)


def nodes_dir() -> Path:
    """Return where running nodes live: in memory where there is plenty, as dpkg syncs a lot."""
    memory = re.search(
        r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE
    )
    shared = Path("/dev/shm")  # noqa: S108
    if (
        memory
        and int(memory[1]) > 2 * NODES_KB
        and shutil.disk_usage(shared).free > NODES_KB * 1024
    ):
        return shared / "build-debs-nodes"
    return images.cache_dir() / "nodes"


class _Group:
    """One control group of the host's: the processes of a node, or of a whole lab."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def populated(self) -> bool:
        with suppress(FileNotFoundError):
            return "populated 1" in (self.path / "cgroup.events").read_text()
        return False

    def end(self) -> None:
        """Kill all that is left in the group and remove it."""
        if not self.path.is_dir():
            return
        (self.path / "cgroup.kill").write_text("1")
        wait_until(f"the end of {self.path}", lambda: not self.populated(), 20)
        for directory, _, _ in os.walk(self.path, topdown=False):
            Path(directory).rmdir()


class Node:
    """One machine of a lab, down until `boot`."""

    def __init__(
        self, lab: Lab, name: str, image: Path, address: str, *, provider: bool = False
    ) -> None:
        self.lab = lab
        self.name = name
        self.address = address
        self.image = image
        self.provider = provider
        self.dir = lab.dir / name
        self._group = _Group(lab.group.path / name)
        self._lay_down()

    def _lay_down(self) -> None:
        etc = self.dir / "upper/etc"
        wants = etc / "systemd/system/sysinit.target.wants"
        for path in (self.dir / "work", self.dir / "root", wants, etc / "apt/apt.conf.d"):
            path.mkdir(parents=True)
        (self.dir / "upper").chmod(0o755)
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        (etc / "machine-id").write_text("")
        unit = etc / "systemd/system/node-network.service"
        text = NETWORK_UNIT.format(address=self.address, gateway=GATEWAY)
        if self.provider:
            text += PROVIDER_LINES.format(name=self.name)
        unit.write_text(text)
        (wants / unit.name).symlink_to(f"../{unit.name}")
        proxy = f'Acquire::http::Proxy "http://{GATEWAY}";\n'
        direct = f'Acquire::http::Proxy::{GATEWAY} "DIRECT";\n'
        (etc / "apt/apt.conf.d/90node").write_text(proxy + direct)

    def boot(self, *, settled: bool = True) -> str:
        """Start the node; return systemd's word for its state, `running` or `degraded`.

        With `settled` false it may still be `starting`: services that wait for others.
        """
        self._group.end()
        self._group.path.mkdir(parents=True)
        if self.provider:
            self.lab.plug(self.name)
        join = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
        argv = [
            *("setpriv", "--pdeathsig=KILL", "sh", "-ec", join, "sh", str(self._group.path)),
            *("nsenter", f"--net={self.lab.namespace}"),
            # As the first process of a process namespace, nspawn takes the whole node with it.
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("--mount", "--propagation=slave", "sh", "-c", START, "sh"),
            *(str(self.image), str(self.dir), *self._nspawn_options()),
        ]
        with (self.dir / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        states = {"running", "degraded"} | (set() if settled else {"starting"})
        return wait_until(f"{self.name} to boot", lambda: self._state(states), BOOT_SECONDS)

    def _nspawn_options(self) -> list[str]:
        provider = [f"--network-interface={self.name}"] if self.provider else []
        return [
            *provider,
            *self.lab.options,
            *("--quiet", "--register=no", "--keep-unit", "--boot"),
            f"--directory={self.dir / 'root'}",
            f"--machine={self.name}",
            f"--network-bridge={self.lab.bridge}",
            f"--capability={CAPABILITIES}",
            f"--system-call-filter={SYSTEM_CALLS}",
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            f"--bind-ro={self.lab.repo}:{REPO_DIR}",
        ]

    def _state(self, states: set[str]) -> str:
        if self._process.poll() is not None:
            raise NodeError(f"{self.name} did not boot:\n{self.console()}")
        if self._leader() is None:
            return ""
        state = self.run("systemctl is-system-running", check=False).stdout.strip()
        return state if state in states else ""

    def console(self) -> str:
        """Return the last of what the node printed while it booted."""
        return (self.dir / "console.log").read_text(errors="replace")[-4000:]

    def errors(self) -> str:
        """Return the last lines of errors in the logs and the journal, and what guests said."""
        logs = "grep -hsE ' (ERROR|CRITICAL) ' $(find /var/log -name '*.log') | sort | tail -n 60"
        guests = "find /var/lib/nova/instances -name console.log -exec tail -v -n 15 {} +"
        said = self.run(f"{logs}; journalctl -p err -n 30 --no-pager; {guests}", check=False).stdout
        return "\n".join(line[:400] for line in said.splitlines())

    def _leader(self) -> int | None:
        """Return the node's PID 1 as the host counts."""
        with suppress(FileNotFoundError):
            procs = (self._group.path / "payload/init.scope/cgroup.procs").read_text()
            for pid in procs.split():
                with suppress(FileNotFoundError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    if re.search(r"^NSpid:.*\s1$", status, re.MULTILINE):
                        return int(pid)
        return None

    def _argv(self, command: str) -> list[str]:
        """Return what runs the shell text `command` in all of the node's namespaces."""
        leader = self._leader()
        if leader is None:
            raise NodeError(f"{self.name} does not run")
        group = self._group.path / "payload/init.scope/cgroup.procs"
        join = 'echo $$ >"$1"; shift; exec "$@"'
        clean = [f"{key}={value}" for key, value in ENVIRONMENT.items()]
        return [
            *("sh", "-ec", join, "sh", str(group), "nsenter", "-t", str(leader), "-a", "--"),
            *("env", "-i", "-C", "/", *clean, "bash", "-o", "pipefail", "-c", command),
        ]

    def run(
        self, command: str, *, check: bool = True, stdin: str = "", seconds: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run shell text as root; a failure raises NodeError with the output if `check` is set."""
        try:
            done = subprocess.run(
                self._argv(command), input=stdin, capture_output=True, text=True,
                errors="replace", timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as slow:
            said = (slow.stdout or b"")[-3000:].decode(errors="replace")
            raise NodeError(
                f"{self.name}: no end after {seconds} s of: {command}\n{said}"
            ) from slow
        if check and done.returncode != 0:
            said = f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
            raise NodeError(f"{self.name}: status {done.returncode} of: {command}\n{said}")
        return done

    def out(self, command: str, **options) -> str:
        """Return what `command` prints, without the last newline."""
        return self.run(command, **options).stdout.rstrip("\n")

    def succeeds(self, command: str) -> bool:
        """Return whether `command` exits with 0."""
        return self.run(command, check=False).returncode == 0

    def units(self, units: str, properties: str) -> dict[str, dict[str, str]]:
        """Return `properties` (with commas) of units, by name; `units` is shell text."""
        text = self.out(f"systemctl show --all -p Id,{properties} {units}")
        blocks = (dict(x.split("=", 1) for x in b.splitlines()) for b in text.split("\n\n"))
        return {block["Id"]: block for block in blocks if block}

    def write(self, path: str, text: str) -> None:
        """Write a file, keeping owner and mode of one that is there."""
        self.run(f"cat >{shlex.quote(path)}", stdin=text)

    def read(self, path: str) -> str:
        return self.run(f"cat {shlex.quote(path)}").stdout

    def push(self, source: Path, directory: str) -> None:
        """Copy a file or a tree of the host's into a directory of the node's."""
        with subprocess.Popen(
            ["tar", "-C", str(source.parent), "-cf", "-", source.name], stdout=subprocess.PIPE
        ) as packed:
            unpack = f"mkdir -p {directory} && tar -C {directory} --no-same-owner -xf -"
            subprocess.run(self._argv(unpack), stdin=packed.stdout, check=True)

    def stop(self) -> None:
        """Power the node off in order; kills what does not go in time."""
        leader = self._leader()
        if leader is not None:
            os.kill(leader, signal.SIGRTMIN + 4)  # systemd(1): start poweroff.target
            self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Pull the plug."""
        self._group.end()
        if hasattr(self, "_process"):
            self._process.wait(20)

    def reboot(self, *, settled: bool = True) -> str:
        """Power off and start again, as `systemctl reboot` does on a machine."""
        self.stop()
        return self.boot(settled=settled)

    def save(self, name: str = "saved") -> None:
        """Keep what is on the disk of a node that is off, for `restore`."""
        _run("cp", "-a", self.dir / "upper", self.dir / name)

    def restore(self, name: str = "saved") -> None:
        """Switch the node off, and give it the disk it had at `save`."""
        self.kill()
        for room in ("upper", "work"):
            shutil.rmtree(self.dir / room)
        (self.dir / "work").mkdir()
        _run("cp", "-a", self.dir / name, self.dir / "upper")

    def destroy(self) -> None:
        self.kill()
        shutil.rmtree(self.dir)


LABS: list[Lab] = []


def running_nodes() -> list[Node]:
    """Return the nodes of this process that run."""
    return [n for lab in LABS for n in lab.nodes if n._leader() is not None]


class Lab:
    """A bridge, its web server, and nodes; one at a time per `tag` on a machine."""

    def __init__(self, repo: Path, tag: str = "main", options: tuple[str, ...] = ()) -> None:
        """`options`: further options of systemd-nspawn for every node."""
        self.repo = repo.resolve()
        self.options = options
        self.tag = f"build-debs-{tag}"
        self.dir = nodes_dir() / tag
        self.namespace = Path("/run/netns") / self.tag
        self.bridge = "lab0"
        self.provider_bridge = "lab1"
        self.group = _Group(cgroup_root() / self.tag)
        self.nodes: list[Node] = []
        self._lock = None
        self._mirror: Mirror | None = None

    def __enter__(self) -> Self:
        self.dir.parent.mkdir(parents=True, exist_ok=True)
        # Where the nodes lie depends on the memory there is; there is one namespace of a name.
        self._lock = Path("/run/lock", f"{self.tag}.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        atexit.register(self.close)
        LABS.append(self)
        self._purge()
        self._switch()
        found = images.sources(images.host_suite())
        self._mirror = Mirror(
            self.namespace,
            (GATEWAY, 80),
            repo=self.repo,
            cache=images.cache_dir() / "pool",
            schemes=images.schemes(found),
        )
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _switch(self) -> None:
        inside = ("ip", "-n", self.tag)
        _run("ip", "netns", "add", self.tag)
        _run(*inside, "link", "set", "lo", "up")
        bridges = {self.bridge: GATEWAY, self.provider_bridge: PROVIDER_GATEWAY}
        for bridge, address in bridges.items():
            _run(*inside, "link", "add", bridge, "type", "bridge")
            _run(*inside, "addr", "add", f"{address}/24", "dev", bridge)
            _run(*inside, "link", "set", bridge, "up")
            self._complete_checksums(bridge)

    def plug(self, name: str) -> None:
        """Make the pair of interfaces by which node `name` is on the provider network.

        One end, called as the node, is for nspawn to take; the other goes when that does.
        """
        inside = ("ip", "-n", self.tag)
        outside = f"to-{name}"
        _run(*inside, "link", "del", outside, check=False)
        _run(*inside, "link", "add", outside, "type", "veth", "peer", "name", name)
        _run(*inside, "link", "set", outside, "master", self.provider_bridge, "up")
        self._complete_checksums(outside)

    def _complete_checksums(self, interface: str) -> None:
        """Have checksums computed, as on a wire: a userspace switch hands on what it gets."""
        self.run(f"ethtool -K {interface} tx off")

    def run(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run shell text beside the bridges, as a machine that is no node."""
        return _run("ip", "netns", "exec", self.tag, "sh", "-c", command, check=check)

    def node(
        self,
        name: str,
        suite: str = "bookworm",
        *,
        address: str = "",
        provider: bool = False,
    ) -> Node:
        """Return a new node that runs.

        `provider`: whether it has a second interface, eth1, without an address, on the provider
        network.
        """
        address = address or f"{NETWORK}.{10 + len(self.nodes)}"
        node = Node(self, name, images.image(suite), address, provider=provider)
        self.nodes.append(node)
        node.boot()
        return node

    def _purge(self) -> None:
        self.group.end()
        if self.namespace.exists():
            _run("ip", "netns", "del", self.tag)
        if self.dir.exists():
            shutil.rmtree(self.dir)

    def close(self) -> None:
        """Kill every node and remove all the lab made; harmless when done twice."""
        if self._lock is None:
            return
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None
        for node in self.nodes:
            node.kill()
        self.nodes.clear()
        self._purge()
        self._lock.close()
        self._lock = None
        atexit.unregister(self.close)


def _shell(repo: Path) -> None:
    with Lab(repo, "shell") as lab:
        node = lab.node("shell")
        subprocess.run(node._argv("exec bash -i"), check=False)


if __name__ == "__main__":
    if sys.argv[1:] == ["packages"]:
        sys.stdout.write(" ".join(HOST_PACKAGES) + "\n")
    elif len(sys.argv) == 3 and sys.argv[1] == "shell":
        _shell(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
