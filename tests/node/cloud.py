"""A cloud on two nodes, made by the document a reader follows, and what is asked of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import document
import guest
from harness import Lab, Node, NodeError, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from repository import Repository

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "docs/install.md"
AGENTS = Path(__file__).with_name("agents.py")
SSH = ("openssh-client", "openssh-server")
SERVICES = tuple(sorted(path.stem for path in (ROOT / "projects/services").glob("*.toml")))
PATTERNS = shlex.join(f"{service}*.service" for service in SERVICES)
# What a daemon's own unit may run as root: helpers it starts through sudo and rootwrap.
ROOT_HELPERS = re.compile(
    r"privsep-helper|rootwrap|^sudo |dnsmasq|haproxy|keepalived|radvd|ovsdb-client|ip netns exec"
)
# What the cloud holds, by its API, without what changes by itself.
LOOK = """
import json, openstack
cloud = openstack.connect()
def rows(items, *names):
    return sorted(json.dumps({n: i.to_dict().get(n) for n in names}, sort_keys=True, default=str)
                  for i in items)
print(json.dumps({
    "users": rows(cloud.identity.users(), "id", "name", "domain_id", "is_enabled"),
    "projects": rows(cloud.identity.projects(), "id", "name", "is_enabled"),
    "endpoints": rows(cloud.identity.endpoints(), "id", "url", "interface"),
    "images": rows(cloud.image.images(), "id", "name", "size", "hash_value", "checksum", "status"),
    "flavors": rows(cloud.compute.flavors(), "id", "name", "ram", "vcpus", "disk"),
    "servers": rows(cloud.compute.servers(all_projects=True), "id", "name", "status",
                    "addresses", "hypervisor_hostname", "metadata"),
    "networks": rows(cloud.network.networks(), "id", "name", "mtu", "provider_network_type"),
    "subnets": rows(cloud.network.subnets(), "id", "name", "cidr", "allocation_pools"),
    "routers": rows(cloud.network.routers(), "id", "name", "external_gateway_info"),
    "ports": rows(cloud.network.ports(), "id", "mac_address", "fixed_ips", "device_id"),
    "addresses": rows(cloud.network.ips(), "id", "floating_ip_address", "fixed_ip_address"),
    "rules": rows(cloud.network.security_group_rules(), "id", "direction", "protocol"),
    "volumes": rows(cloud.block_storage.volumes(all_projects=True), "id", "name", "size",
                    "status", "attachments"),
}))
"""
ANSWER_SECONDS = 120  # for a guest to boot on an emulated processor, and to be reached


@dataclass
class Cloud:
    """The nodes, the storage they share, and what the document's blocks printed."""

    lab: Lab
    controller: Node
    compute: Node
    share: Path
    printed: dict[int, str] = field(default_factory=dict)

    @property
    def nodes(self) -> dict[str, Node]:
        return {"controller": self.controller, "compute1": self.compute}

    def openstack(self, command: str, user: str = "admin") -> str:
        """Return what `openstack COMMAND` prints, typed by `user` on the controller."""
        return self.controller.out(f". /root/{user}-openrc; openstack {command}")

    def json(self, command: str, user: str = "admin"):
        """Return the value `openstack COMMAND` prints as JSON."""
        return json.loads(self.openstack(f"{command} -f json", user))

    def address(self, server: str, network: str, user: str = "admin") -> str:
        """Return the last address of a server on a network: a floating one, where it has one."""
        shown = self.json(f"server show {server}", user)["addresses"]
        if isinstance(shown, str):  # clients of old series: NETWORK=ADDRESS, ADDRESS; NETWORK=…
            pairs = (part.split("=") for part in shown.split("; "))
            shown = {name: addresses.split(", ") for name, addresses in pairs}
        return shown[network][-1]

    def reboot_hard(self, server: str, user: str = "admin") -> None:
        """Restart a server whose host was off; nova may still be recording that (409)."""

        def taken() -> bool:
            try:
                self.openstack(f"server reboot --hard --wait {server}", user)
            except NodeError as error:
                if "409" not in str(error):
                    raise
                return False
            return True

        wait_until(f"the reboot of {server}", taken, 180, 3)

    def web(self) -> str:
        """Return the floating address of the document's server `web`."""
        return self.address("web", "selfservice", "demo")

    def page(self, address: str, path: str = "") -> str:
        """Return a page of a guest's, or nothing: fetched from the provider network."""
        url = shlex.quote(f"http://{address}/{path}")
        return self.lab.run(f"curl -sS -m 5 {url}", check=False).stdout

    def pings(self, address: str) -> bool:
        return self.lab.run(f"ping -c 1 -W 2 {address}", check=False).returncode == 0

    def wait_for_page(self, address: str, words: str, path: str = "") -> str:
        """Return a guest's page once it holds `words`."""
        return wait_until(
            f"{words!r} at http://{address}/{path}",
            lambda: (text := self.page(address, path)) and words in text and text,
            ANSWER_SECONDS,
        )

    def status(self, server: str) -> str:
        return self.json(f"server show {server}", "demo")["status"]

    def volume(self, name: str) -> str:
        """Return the state of a volume."""
        return self.json(f"volume show {name}", "demo")["status"]


def look(cloud: Cloud) -> str:
    """Return what the cloud holds, asked with the modules of the client that is installed."""
    python = 'python=$(dirname "$(readlink -f "$(command -v openstack)")")/python'
    either = "[ -x $python ] || python=python3"
    return cloud.controller.out(f". /root/admin-openrc; {python}; {either}; $python -", stdin=LOOK)


def each(nodes: dict[str, Node], act: Callable[[Node], object]) -> None:
    """Do something on every node at the same time; the first failure is raised."""
    with ThreadPoolExecutor(len(nodes)) as threads:
        list(threads.map(act, nodes.values()))


def install_blocks(series: str) -> list[document.Block]:
    """Return the blocks of docs/install.md, with the series named where it says to name it."""
    read = document.read(INSTALL)
    assert sum("series=2026.1\n" in block.text for block in read) == 1
    return [
        replace(block, text=block.text.replace("series=2026.1\n", f"series={series}\n"))
        for block in read
    ]


@contextmanager
def running(repository: Repository, blocks: list[document.Block], scratch: Path) -> Iterator[Cloud]:
    """Give the cloud a document's blocks make, in a lab of its own."""
    share = scratch / "share"
    share.mkdir()
    share.chmod(0o755)
    tag = f"cloud-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with Lab(repository.path, tag, options=(f"--bind={share}:/srv/share",)) as lab:
        yield _build(lab, repository.target, share, blocks)


def _build(lab: Lab, suite: str, share: Path, blocks: list[document.Block]) -> Cloud:
    """Boot two empty nodes of a Debian and run the blocks on them."""
    controller = lab.node("controller", suite, address="10.0.0.11", provider=True)
    compute = lab.node("compute1", suite, address="10.0.0.31", provider=True)
    cloud = Cloud(lab, controller, compute, share)
    _introduce(cloud)
    image = guest.build()
    controller.run("mkdir /root/guest")
    for name, file in {
        "kernel": image.kernel,
        "ramdisk": image.ramdisk,
        "server": image.disk,
    }.items():
        controller.push(file, "/root/guest")
        if file.name != name:
            controller.run(f"mv /root/guest/{file.name} /root/guest/{name}")
    cloud.printed = document.run(blocks, cloud.nodes)
    return cloud


def _introduce(cloud: Cloud) -> None:
    """Let root of each node reach root of the others, as operators have it."""
    key = cloud.share.parent / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    for node in cloud.nodes.values():
        node.run(f"apt-get update && apt-get install -y {shlex.join(SSH)}")
        node.run("install -d -m 0700 /root/.ssh")
        node.write("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_text())
        node.write("/root/.ssh/config", "StrictHostKeyChecking accept-new\n")
        node.run("umask 077; cat >/root/.ssh/id_ed25519", stdin=key.read_text())


def units(node: Node) -> dict[str, dict[str, str]]:
    """Return the properties of our units on a node, by name."""
    names = "ActiveState,SubState,Result,NRestarts,UnitFileState,Type,User,MainPID,ControlGroup"
    return {u: s for u, s in node.units(PATTERNS, names).items() if s["UnitFileState"]}


def daemons_as_root(node: Node) -> list[str]:
    """Return the processes of our units that are root's, helpers aside."""
    groups = {s["ControlGroup"] for s in units(node).values() if s["ControlGroup"]}
    found = []
    for line in node.out("ps -e -o user:20=,cgroup:200=,args=").splitlines():
        user, cgroup, args = line.split(None, 2)
        ours = any(cgroup.endswith(group) for group in groups)
        if user == "root" and ours and not ROOT_HELPERS.search(args):
            found.append(line)
    return found


def complaints(node: Node) -> list[dict[str, str]]:
    """Return what `openstack-node status` finds that is not well."""
    done = node.run("openstack-node status --json", check=False)
    shown = json.loads(done.stdout)
    wrong = [
        f for s in shown["services"] for f in s["findings"] if f["level"] not in ("ok", "note")
    ]
    assert bool(wrong) == bool(done.returncode), done.stdout
    return wrong


def kill_daemons(node: Node) -> None:
    """Kill every daemon of ours at once, and wait until all are there again."""
    pids = {s["MainPID"] for s in units(node).values() if s["MainPID"] != "0"}
    node.run(f"kill -KILL {shlex.join(pids)}")
    wait_until(
        "new processes",
        lambda: not pids & {s["MainPID"] for s in units(node).values()},
        60,
        1,
    )
    wait_for_units(node)


def wait_for_units(node: Node, seconds: int = 300, but: str = "") -> None:
    """Wait until every unit of ours is active, but for one that is not to start."""

    def waiting() -> list[str]:
        return [u for u, s in units(node).items() if u != but and s["ActiveState"] != "active"]

    wait_until(f"{waiting()} on {node.name}", lambda: not waiting(), seconds, 1)


def wait_for_agents(cloud: Cloud, seconds: int = 300) -> None:
    """Wait until all agents and compute hosts report."""
    command = f". /root/admin-openrc; exec python3 - {seconds}"
    cloud.controller.run(command, stdin=AGENTS.read_text(), seconds=seconds + 120)


def change_suite(node: Node, old: str, new: str) -> None:
    """What an administrator does who knows apt and nothing of us: name another series."""
    node.run(f"sed -i 's/-{old}$/-{new}/' /etc/apt/sources.list.d/*.sources; apt-get update")
