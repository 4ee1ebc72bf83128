"""Debian's own puppet modules set a cloud of our packages up, unchanged.

Debian 12 has those of Zed (21.0). They ask apt for Debian's names of packages and systemd for
Debian's names of units, and edit files of Debian's. The tests share a node and run in order: this
takes a quarter of an hour.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cloud import Cloud, units, wait_for_agents, wait_for_units
from repository import HTTP_URI, wait_for

if TYPE_CHECKING:
    from harness import Node
    from repository import Repository

MANIFEST = Path(__file__).with_name("cloud.pp")
SERVICES = ("glance", "keystone", "neutron", "nova", "placement")
MODULES = " ".join(f"puppet-module-{service}" for service in SERVICES)
OPENRC = """\
export OS_USERNAME=admin OS_PASSWORD=secret OS_PROJECT_NAME=admin OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default OS_AUTH_URL=http://controller:5000/v3
export OS_IDENTITY_API_VERSION=3 OS_COMPUTE_API_VERSION=2.90
"""
# Without the address, keystone_user (21.0) has none to try a password at, and sets every password
# again each time.
APPLY = (
    "OS_AUTH_URL=http://controller:5000"
    " puppet apply --detailed-exitcodes --color=false /root/cloud.pp"
)
# Names of Debian's that lead to ours, and of ours.
NAMES = {
    *("glance-api", "keystone", "placement-api", "python3-placement"),
    *("nova-api", "nova-compute-qemu", "nova-conductor", "nova-consoleproxy", "python3-nova"),
    *("neutron-api", "neutron-openvswitch-agent", "neutron-rpc-server"),
    "python3-openstackclient",
}


@pytest.fixture(scope="module")
def repository(published) -> Repository:
    """Give the series that follows the modules' own."""
    return published("bookworm", "2023.1")


@pytest.fixture(scope="module")
def node(lab, repository: Repository) -> Node:
    node = lab.node("controller", address="10.0.0.11")
    repository.add_to(node, HTTP_URI)
    # The agent has nobody to ask here.
    node.run("systemctl mask puppet.service")
    node.run(f"apt-get install -y puppet {MODULES}")
    node.push(MANIFEST, "/root")
    node.write("/root/admin-openrc", OPENRC)
    return node


@pytest.fixture(scope="module")
def cloud(lab, node: Node) -> Cloud:
    return Cloud(lab, node, node, Path())


def apply(node: Node) -> list[str]:
    """Apply the manifest, and return what puppet says that it changed, a line each."""
    done = node.run(APPLY, check=False, seconds=3600)
    said = done.stdout + done.stderr
    assert "Error:" not in said, said[-6000:]
    changes = re.findall(r"^Notice: /Stage\[main\]/(.*)", said, re.MULTILINE)
    # puppet-apply(8): 2 where something changed; 4 and 6 where something failed.
    assert done.returncode == (2 if changes else 0), said[-6000:]
    return changes


def test_the_modules_set_a_cloud_up(node: Node, repository: Repository) -> None:
    assert apply(node)
    wait_for_units(node)
    assert set(repository.installed(node)) >= NAMES


def test_applied_again_they_change_nothing(node: Node) -> None:
    before = units(node)
    assert apply(node) == []
    assert units(node) == before


def test_apt_removed_nothing(node: Node) -> None:
    history = node.read("/var/log/apt/history.log")
    assert "Install: " in history
    assert "Remove: " not in history
    assert "Purge: " not in history


def test_the_apis_answer(cloud: Cloud) -> None:
    cloud.openstack("token issue")
    wait_for_agents(cloud)
    assert {row["Binary"] for row in cloud.json("compute service list")} == {
        *("nova-compute", "nova-conductor", "nova-scheduler"),
    }
    assert {row["Binary"] for row in cloud.json("network agent list")} == {
        *("neutron-dhcp-agent", "neutron-l3-agent"),
        *("neutron-metadata-agent", "neutron-openvswitch-agent"),
    }
    assert [row["name"] for row in cloud.json("resource provider list")] == ["controller"]
    cloud.openstack("network create one")


def test_an_image_comes_back_as_it_was(cloud: Cloud) -> None:
    node = cloud.controller
    node.run("head -c 1048576 /dev/urandom >/root/image")
    cloud.openstack(
        "image create --container-format bare --disk-format raw --file /root/image noise"
    )
    cloud.openstack("image save --file /root/back noise")
    node.run("cmp /root/image /root/back")


def test_a_server_runs_as_the_manifest_says(cloud: Cloud) -> None:
    """On a network, so that nova asks neutron as the manifest says.

    virt_type is in nova.conf alone, where the modules write it.
    """
    cloud.openstack("subnet create --network one --subnet-range 192.0.2.0/24 one")
    cloud.openstack("flavor create --vcpus 1 --ram 64 --disk 1 tiny")
    cloud.openstack("server create --wait --image noise --flavor tiny --network one one")
    domain = cloud.json("server show one")["OS-EXT-SRV-ATTR:instance_name"]
    assert "<domain type='qemu'" in cloud.controller.out(f"virsh dumpxml {domain}")


def test_the_console_proxy_of_the_manifest_runs(node: Node) -> None:
    assert "\nNOVA_CONSOLE_PROXY_TYPE=novnc\n" in node.read("/etc/default/nova-consoleproxy")
    node.run("systemctl restart nova-novncproxy nova-spicehtml5proxy")
    wait_for(node, "curl -fsS http://10.0.0.11:6080/vnc_auto.html", 60)
    assert not node.succeeds("systemctl is-active nova-spicehtml5proxy")
