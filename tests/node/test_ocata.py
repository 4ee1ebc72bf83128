"""Ocata's nova, placement, neutron and cinder on a node of bullseye, and the way to Pike.

Of Ocata, keystone and glance are not on the package index. The others are served here to
callers who need no token, as upstream's own tests do; test_pike.py has Ocata's whole
cloud where the tarballs are at hand. One node, its tests in order.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

import pytest
from cloud import units, wait_for_units
from harness import NodeError, wait_until
from repository import HTTP_URI, Repository, set_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Node

PACKAGES = (
    *("nova-api", "nova-conductor", "nova-scheduler", "nova-consoleauth", "nova-placement-api"),
    *("nova-compute", "neutron-server", "neutron-plugin-ml2", "neutron-linuxbridge-agent"),
    *("cinder-api", "cinder-scheduler", "cinder-volume", "openstack-node"),
)
DATABASES = {"nova": "nova", "nova_api": "nova", "nova_cell0": "nova",
             "neutron": "neutron", "cinder": "cinder"}  # fmt: skip
AUTHENTICATION = """
[keystone_authtoken]
auth_uri = http://controller:5000
auth_url = http://controller:35357
password = PASS
"""
# As docs/install-pike.md has it; nobody is at the addresses of keystone and glance.
SETTINGS = {
    "nova": """
[DEFAULT]
my_ip = 10.0.0.11
transport_url = rabbit://openstack:PASS@controller
[api]
auth_strategy = noauth2
[api_database]
connection = mysql+pymysql://nova:PASS@controller/nova_api
[database]
connection = mysql+pymysql://nova:PASS@controller/nova
[glance]
api_servers = http://controller:9292
[placement]
os_region_name = RegionOne
auth_url = http://controller:35357/v3
password = PASS
[neutron]
url = http://controller:9696
auth_url = http://controller:35357
password = PASS
[libvirt]
virt_type = qemu
""",
    "neutron": """
[DEFAULT]
auth_strategy = noauth
transport_url = rabbit://openstack:PASS@controller
[database]
connection = mysql+pymysql://neutron:PASS@controller/neutron
[ml2_type_flat]
flat_networks = provider
[linux_bridge]
physical_interface_mappings = provider:eth1
[vxlan]
enable_vxlan = false
""",
    "cinder": """
[DEFAULT]
auth_strategy = noauth
my_ip = 10.0.0.11
transport_url = rabbit://openstack:PASS@controller
[database]
connection = mysql+pymysql://cinder:PASS@controller/cinder
""",
}
# What is made in Ocata and has to be there in Pike: port, where, the name of the kind, it.
MADE = {
    "flavor": (8774, "/v2.1/flavors", {"name": "kept", "ram": 64, "vcpus": 1, "disk": 0}),
    "network": (9696, "/v2.0/networks", {"name": "kept", "tenant_id": "admin",
        "provider:network_type": "flat", "provider:physical_network": "provider"}),
    "volume_type": (8776, "/v3/admin/types", {"name": "kept"}),
}  # fmt: skip
PROVIDER = {"name": "kept", "uuid": "7d2590ae-fb85-4080-9306-058b4c915e3f"}
LIMIT = "777"  # an option an administrator changed in the package's own file
DISK = "/var/lib/nova/instances/used"
HOLD = (
    "qemu-system-x86_64 -M pc -accel tcg -S -display none -daemonize -pidfile /run/used.pid"
    f" -drive file={DISK},format=qcow2,if=virtio"
)
LOOK = f"""
from nova import config
config.parse_args(["look"])
from nova.virt import images
print(images.qemu_img_info("{DISK}").virtual_size)
"""


# The Python 3.9 of Debian 11 is the oldest there is for the node's command. probe is the tree's.
IMPORT_ALL = """
import importlib, pathlib, sys
sys.path.insert(0, "/usr/share/openstack-node")
for path in pathlib.Path("/usr/share/openstack-node/openstack_node").glob("*.py"):
    importlib.import_module(f"openstack_node.{path.stem}")
"""


@pytest.fixture(scope="module")
def ocata(published: Callable[[str, str], Repository]) -> Repository:
    return published("bullseye", "ocata")


@pytest.fixture(scope="module")
def pike(published: Callable[[str, str], Repository]) -> Repository:
    return published("bullseye", "pike")


@pytest.fixture(scope="module")
def node(lab, ocata: Repository) -> Node:
    node = lab.node("controller", "bullseye", address="10.0.0.11", provider=True)
    ocata.add_to(node, HTTP_URI)
    return node


def request(node: Node, port: int, path: str, body: dict | None = None) -> str:
    """Return what an API says to an administrator, who needs no token here."""
    data = ["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body else []
    argv = ["curl", "-fsS", "-H", "X-Auth-Token: admin:admin", *data]
    return node.out(f"{shlex.join(argv)} http://controller:{port}{path}")


def names(node: Node, kind: str) -> list[str]:
    """Return the names of all there is of a kind."""
    port, path, _ = MADE[kind]
    return [row["name"] for row in json.loads(request(node, port, path))[f"{kind}s"]]


def providers(node: Node) -> dict[str, str]:
    rows = json.loads(request(node, 8778, "/resource_providers"))["resource_providers"]
    return {row["name"]: row["uuid"] for row in rows}


def wait_for_hosts(node: Node) -> None:
    """Wait until everything that reports to nova and neutron is up."""

    def up() -> bool:
        try:
            nova = json.loads(request(node, 8774, "/v2.1/os-services"))["services"]
            neutron = json.loads(request(node, 9696, "/v2.0/agents"))["agents"]
        except NodeError:
            return False
        reported = {s["binary"] for s in nova if s["state"] == "up"}
        agents = {a["binary"] for a in neutron if a["alive"]}
        wanted = {"nova-compute", "nova-conductor", "nova-consoleauth", "nova-scheduler"}
        return wanted <= reported and "neutron-linuxbridge-agent" in agents

    wait_until("nova's services and neutron's agent", up, 180, 2)


def databases(node: Node) -> dict[str, str]:
    """Return what `openstack-node status` says of each database: its level."""
    shown = json.loads(node.run("openstack-node status --quick --json", check=False).stdout)
    return {
        f"{s['service']} {f['name']}": f["level"]
        for s in shown["services"]
        for f in s["findings"]
        if f["kind"] == "database"
    }


def assert_of_series(node: Node, repository: Repository) -> None:
    """All packages are the suite's, and all daemons run from its tree."""
    for package in repository.installed(node):
        version = node.out(f"dpkg-query -W -f '${{Version}}' {package}")
        assert version == repository.stanzas[package]["Version"]
    for unit, state in units(node).items():
        command = node.out(f"tr '\\0' ' ' </proc/{state['MainPID']}/cmdline")
        mapped = node.out(f"grep -c {repository.tree}/ /proc/{state['MainPID']}/maps || :")
        assert f"{repository.tree}/" in command or mapped != "0", f"{unit}: {command}"


def test_install(node: Node, ocata: Repository) -> None:
    node.run("apt-get install -y mariadb-server rabbitmq-server")
    policy = node.out("apt-cache policy nova-api")
    assert "2:22." in policy, "Debian's own package is no longer a candidate: nothing is proven"
    said = node.run(f"apt-get install -y {shlex.join(PACKAGES)}").stdout
    assert "Setting up nova-compute" in said
    assert set(PACKAGES) <= set(ocata.installed(node))
    assert not node.out("dpkg --audit")
    node.run(f"python3 -I -c {shlex.quote(IMPORT_ALL)}")
    assert not node.out("systemctl list-units --failed --no-legend --plain")


def test_units_nobody_configured_are_not_tried_again_and_again(node: Node) -> None:
    """systemd 247 would, whose ExecCondition refused, had they `Restart=always`."""
    waiting = ["nova-api", "nova-placement-api", "cinder-api", "neutron-server"]
    node.run(f"systemctl start {shlex.join(waiting)}; sleep 25")
    found = units(node)
    assert {found[f"{unit}.service"]["Result"] for unit in waiting} == {"exec-condition"}
    assert {u for u, s in found.items() if s["NRestarts"] != "0"} == set()


def test_databases_are_made_on_mariadb(node: Node) -> None:
    for name, user in DATABASES.items():
        node.run("mariadb", stdin=f"CREATE DATABASE {name}; GRANT ALL ON {name}.* TO"
                 f" '{user}'@'%' IDENTIFIED BY 'PASS';")  # fmt: skip
    node.run("echo '[mysqld]\nbind-address = 10.0.0.11' >/etc/mysql/mariadb.conf.d/99-node.cnf")
    node.run("systemctl restart mariadb; echo PASS | rabbitmqctl add_user openstack")
    node.run("rabbitmqctl set_permissions openstack '.*' '.*' '.*'")
    for service, text in SETTINGS.items():
        node.run(f"install -m 0640 -g {service} /dev/stdin /etc/{service}/{service}.conf.d/a.conf",
                 stdin=text + AUTHENTICATION)  # fmt: skip
    set_option(node, "/etc/nova/nova.conf", "DEFAULT", "osapi_max_limit", LIMIT)
    node.run("openstack-node setup nova neutron cinder")
    wait_for_units(node)
    found = databases(node)
    assert len(found) >= len(DATABASES)
    assert set(found.values()) == {"ok"}


def test_the_guides_own_commands(node: Node) -> None:
    """What `openstack-node setup` ran, typed by a person, and again."""
    for user, commands in {
        "nova": ("api_db sync", "cell_v2 map_cell0", "db sync", "cell_v2 list_cells"),
        "cinder": ("db sync",),
    }.items():
        for command in commands:
            node.run(f"su -s /bin/sh -c '{user}-manage {command}' {user}")
    options = ("--config-file /etc/neutron/neutron.conf"
               " --config-file /etc/neutron/plugins/ml2/ml2_conf.ini")  # fmt: skip
    node.run(f"su -s /bin/sh -c 'neutron-db-manage {options} upgrade head' neutron")


def test_ocata_serves(node: Node, ocata: Repository) -> None:
    wait_for_hosts(node)
    assert_of_series(node, ocata)
    for kind, (port, path, body) in MADE.items():
        request(node, port, path, {kind: body})
        assert "kept" in names(node, kind)
    request(node, 8778, "/resource_providers", PROVIDER)
    assert providers(node)[PROVIDER["name"]] == PROVIDER["uuid"]
    unknown = "curl -s -o /dev/null -w '%{http_code}' http://controller:8778/resource_providers"
    assert node.out(unknown) == "401"


def test_nova_looks_into_a_disk_in_use(node: Node, ocata: Repository) -> None:
    """QEMU since 2.10 locks a disk; nova of 2017 did not know."""
    node.run(f"qemu-img create -f qcow2 {DISK} 8M; chown nova: {DISK}; {HOLD}")
    try:
        assert not node.succeeds(f"qemu-img info {DISK}"), "no lock: nothing is proven"
        said = node.out(f"cd /; runuser -u nova -- {ocata.tree}/bin/python -", stdin=LOOK)
        assert said.splitlines()[-1] == str(8 << 20)
    finally:
        node.run(f"kill $(cat /run/used.pid); rm {DISK}")


def test_upgrade_to_pike_asks_nothing(node: Node, ocata: Repository, pike: Repository) -> None:
    before = node.read("/etc/cinder/cinder.conf")
    pike.add_to(node, HTTP_URI)
    node.run(f"apt-get purge -y {ocata.archive}")
    node.run("apt-get full-upgrade -y </dev/null")
    assert set(PACKAGES) <= set(pike.installed(node))
    assert not node.out("dpkg --audit")
    # A file that was changed is kept, one that was not follows the release.
    assert f"osapi_max_limit = {LIMIT}\n" in node.read("/etc/nova/nova.conf")
    assert node.read("/etc/cinder/cinder.conf") != before
    for service, text in SETTINGS.items():
        path = f"/etc/{service}/{service}.conf.d/a.conf"
        assert node.read(path) == text + AUTHENTICATION
        assert node.out(f"stat -c '%a %U:%G' {path}") == f"640 root:{service}"


def test_setup_brings_the_databases_to_pike(node: Node) -> None:
    assert set(databases(node).values()) & {"warning"}, "no database is behind: nothing is proven"
    said = node.out("openstack-node setup nova neutron cinder")
    assert re.search(r"bring the API database to this release \.\.\. done \(", said)
    wait_for_units(node)
    assert set(databases(node).values()) == {"ok"}


def test_pike_serves_what_ocata_made(node: Node, pike: Repository) -> None:
    wait_for_hosts(node)
    assert_of_series(node, pike)
    for kind in MADE:
        assert "kept" in names(node, kind)
    assert providers(node)[PROVIDER["name"]] == PROVIDER["uuid"]
    version = json.loads(request(node, 8774, "/v2.1/"))["version"]["version"]
    assert version == "2.53"  # the last of Pike


def test_nothing_of_ocata_is_left(node: Node, ocata: Repository) -> None:
    node.run("apt-get autoremove -y --purge")
    left = node.out("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n'").splitlines()
    assert not [line for line in left if "openstack-ocata" in line]
    assert not node.succeeds(f"test -e {ocata.tree}")
    wait_for_units(node)
    wait_for_hosts(node)
