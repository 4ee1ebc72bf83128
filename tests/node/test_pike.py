"""The cloud of docs/install-pike.md on two nodes of bullseye: Python 2.7, Linux bridges.

The tests share the cloud and run in order; each leaves it whole. Ocata goes the same way;
two of its services are not on the package index, so that its turn comes where a folder
with their tarballs is named by BUILD_DEBS_TARBALLS, and was to the build.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import document
import guest
import pytest
from cloud import (
    Cloud,
    complaints,
    daemons_as_root,
    each,
    kill_daemons,
    running,
    units,
    wait_for_agents,
    wait_for_units,
)
from guest import DISK_TEXT
from harness import wait_until
from repository import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Node
    from repository import Repository

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/install-pike.md"
SERIES = ("pike", "ocata") if os.environ.get("BUILD_DEBS_TARBALLS") else ("pike",)
COMPUTE = {"neutron-linuxbridge-agent.service", "nova-compute.service"}
CONTROLLER = COMPUTE | {
    f"{name}.service"
    for name in (
        *("keystone", "glance-api", "glance-registry"),
        *("nova-api", "nova-conductor", "nova-consoleauth", "nova-novncproxy"),
        *("nova-placement-api", "nova-scheduler"),
        *("neutron-metadata-agent", "neutron-server"),
        *("cinder-api", "cinder-scheduler", "cinder-volume"),
    )
}
AGENT_LOG = "/var/log/neutron/neutron-linuxbridge-agent.log"
PORTS = {"keystone": 5000, "keystone's second": 35357, "glance": 9292, "nova": 8774,
         "placement": 8778, "neutron": 9696, "cinder": 8776}  # fmt: skip
# A client that keeps its connection, and comes back to it.
COME_BACK = """
import http.client, sys, time
connection = http.client.HTTPConnection("controller", int(sys.argv[1]), timeout=10)
for _ in range(3):
    connection.request("GET", "/")
    reply = connection.getresponse()
    reply.read()
    assert reply.status < 500, reply.status
    time.sleep(0.5)
"""
# Where Python 2.7 looks for modules by itself, and where a person's own are.
FOREIGN = (
    "/root/foreign",
    "/root/.local/lib/python2.7/site-packages",
    "/var/lib/nova/.local/lib/python2.7/site-packages",
    "/usr/local/lib/python2.7/dist-packages",
    "/usr/lib/python2.7/dist-packages",
)
WRONG_MODULE = "raise SystemExit('a module that is not of the tree')\n"
RESOLVE = """
import time
start = time.time()
import eventlet
eventlet.monkey_patch()
import socket
socket.create_connection(('controller', 5000)).close()
assert time.time() - start < 4, time.time() - start
"""


@pytest.fixture(scope="module", params=SERIES)
def repository(request: pytest.FixtureRequest, published) -> Repository:
    return published("bullseye", request.param)


@pytest.fixture(scope="module")
def blocks(repository: Repository) -> list[document.Block]:
    """The document's, for the series."""
    return [
        replace(block, text=block.text.replace("pike", repository.series))
        for block in document.read(DOCUMENT)
    ]


@pytest.fixture(scope="module")
def cloud(
    repository: Repository, blocks: list[document.Block], tmp_path_factory
) -> Iterator[Cloud]:
    with running(repository, blocks, tmp_path_factory.mktemp(repository.series)) as cloud:
        yield cloud


def test_each_block_of_the_document_was_run(cloud: Cloud, blocks: list[document.Block]) -> None:
    assert set(cloud.printed) == {block.line for block in blocks}
    assert re.search(r"\| compute1 .*\| enabled \| up", "".join(cloud.printed.values()))


def test_units_are_active_and_enabled(cloud: Cloud) -> None:
    for node, expected in ((cloud.controller, CONTROLLER), (cloud.compute, COMPUTE)):
        found = units(node)
        assert expected - set(found) == set()
        assert {u: s["ActiveState"] for u, s in found.items() if s["ActiveState"] != "active"} == {}
        assert {u for u, s in found.items() if s["UnitFileState"] != "enabled"} == set()


def test_no_unit_runs_as_root(cloud: Cloud) -> None:
    for node in cloud.nodes.values():
        assert {u for u, s in units(node).items() if s["User"] in {"", "root"}} == set()
        assert daemons_as_root(node) == []


def test_status_and_setup_say_that_all_is_well(cloud: Cloud) -> None:
    for node in cloud.nodes.values():
        assert complaints(node) == []
        node.run("openstack-node setup")


def test_both_hosts_are_in_the_cell(cloud: Cloud) -> None:
    listed = cloud.controller.out("su -s /bin/sh -c 'nova-manage cell_v2 list_cells' nova")
    assert "cell0" in listed
    assert "cell1" in listed
    mapped = cloud.controller.out("mariadb -N nova_api -e 'SELECT host FROM host_mappings'")
    assert sorted(mapped.split()) == ["compute1", "controller"]


def test_servers_answer(cloud: Cloud) -> None:
    """Without DHCP: their addresses are from the config drive."""
    rows = {s["Name"]: s for s in cloud.json("server list --long --all-projects")}
    assert set(rows) == {"direct-controller", "direct-compute1", "web"}
    assert {s["Status"] for s in rows.values()} == {"ACTIVE"}
    assert rows["direct-controller"]["Host"] == "controller"
    assert rows["direct-compute1"]["Host"] == "compute1"
    for name in rows:
        address = cloud.address(rows[name]["ID"], "provider")
        cloud.wait_for_page(address, f"{name}.")
        assert cloud.pings(address)
        log = cloud.openstack(f"console log show {rows[name]['ID']}")
        assert f"{address} static" in log
        assert DISK_TEXT.strip() in log


def test_image_comes_back_as_it_was(cloud: Cloud) -> None:
    for name, file in {"kernel": guest.build().kernel, "server": guest.build().disk}.items():
        cloud.openstack(f"image save --file /root/back {name}")
        sent = hashlib.sha256(file.read_bytes()).hexdigest()
        assert cloud.controller.out("sha256sum /root/back").split()[0] == sent


def test_volume_is_written_in_the_guest(cloud: Cloud) -> None:
    address = cloud.address("web", "provider", "demo")
    cloud.wait_for_page(address, "kept-words", "cgi-bin/write?kept-words")
    (volume,) = cloud.share.glob("volume-*")
    with volume.open("rb") as data:
        assert b"kept-words" in data.read(512)
    cloud.openstack("server remove volume web data", "demo")
    wait_until("the volume to be free", lambda: cloud.volume("data") == "available", 300, 1)
    cloud.openstack("volume delete data", "demo")
    wait_until("the volume's end", lambda: not list(cloud.share.glob("volume-*")), 300, 1)


def test_security_groups_are_carried_out(cloud: Cloud) -> None:
    address = cloud.address("direct-compute1", "provider")
    rows = cloud.json("security group rule list --long web")
    (rule,) = [r["ID"] for r in rows if r["IP Protocol"] == "icmp"]
    cloud.openstack(f"security group rule delete {rule}")
    wait_until("no answer to a ping", lambda: not cloud.pings(address), 300, 1)
    assert "direct-compute1." in cloud.page(address)
    cloud.openstack("security group rule create --protocol icmp web")
    wait_until("an answer to a ping", lambda: cloud.pings(address), 300, 1)


def chains(node: Node) -> list[tuple[str, ...]]:
    """Return the agent's chains against forged addresses: name, number of rules, policy."""
    pattern = r"^Bridge chain: (neutron\w+-tap\S+), entries: (\d+), policy: (\w+)"
    return sorted(re.findall(pattern, node.out("ebtables -L"), re.MULTILINE))


def test_servers_cannot_forge_addresses(cloud: Cloud) -> None:
    """Nor when the agent has gone over its ports a second time."""
    for node in cloud.nodes.values():
        before = chains(node)
        assert {name.split("-")[0] for name, _, _ in before} == {"neutronARP", "neutronMAC"}
        assert {policy for _, _, policy in before} == {"DROP"}
        seen = int(node.out(f"wc -l <{AGENT_LOG}"))
        news = f"tail -n +{seen + 1} {AGENT_LOG}"
        node.run("systemctl restart neutron-linuxbridge-agent")
        wait_for(node, f"{news} | grep 'Port tap.* updated'", 120)
        node.run("sleep 5")
        assert node.out(f"{news} | grep -E ' (ERROR|CRITICAL) ' || :") == ""
        assert chains(node) == before


def test_privileged_work_goes_through_the_helpers(cloud: Cloud) -> None:
    """What is in no filter is refused, and there is no other way to be root."""
    for node in cloud.nodes.values():
        node.run("visudo -c")
        services = {"nova", "neutron"} | ({"cinder"} if node is cloud.controller else set())
        for service in services:
            as_user = f"runuser -u {service} --"
            rootwrap = f"sudo -n {service}-rootwrap /etc/{service}/rootwrap.conf"
            refused = node.run(f"{as_user} {rootwrap} id -u", check=False)
            assert refused.returncode != 0
            assert "Unauthorized command" in refused.stdout + refused.stderr
            assert not node.succeeds(f"{as_user} sudo -n true")
            assert not node.out(f"{as_user} find /etc/{service} -writable ! -type l")
        node.run("runuser -u neutron -- sudo -n neutron-rootwrap /etc/neutron/rootwrap.conf"
                 " ip netns list")  # fmt: skip


def test_a_client_comes_back_to_its_connection(cloud: Cloud) -> None:
    for name, port in PORTS.items():
        done = cloud.controller.run(f"python3 - {port}", stdin=COME_BACK, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"


def test_the_tree_takes_no_foreign_modules(cloud: Cloud, repository: Repository) -> None:
    node, python = cloud.controller, f"{repository.tree}/bin/python"
    made = node.out(f"ls -d {shlex.join(FOREIGN)} 2>/dev/null || :").split()
    for place in FOREIGN:
        node.run(f"install -D -m 0644 /dev/stdin {place}/oslo_config.py", stdin=WRONG_MODULE)
    try:
        where = "import oslo_config, os; print(os.path.realpath(oslo_config.__file__))"
        found = node.out(f'cd /; PYTHONPATH=/root/foreign {python} -c "{where}"')
        assert found.startswith(f"{repository.tree}/")
        node.run("PYTHONPATH=/root/foreign nova-manage --help")
        node.run("su -s /bin/sh -c 'PYTHONPATH=/root/foreign nova-manage db version' nova")
        node.run("systemctl restart nova-scheduler keystone nova-placement-api")
        wait_for_units(node)
        cloud.openstack("token issue")
    finally:
        for place in FOREIGN:
            node.run(f"rm -rf {place if place not in made else f'{place}/oslo_config.py*'}")


def test_nothing_of_debians_is_changed(cloud: Cloud, repository: Repository) -> None:
    for node in cloud.nodes.values():
        ours = [name for name in repository.installed(node) if name != "openstack-node"]
        files = node.out(f"dpkg -L {shlex.join(ours)} | sort -u").splitlines()
        assert not [f for f in files if "/dist-packages" in f or f.startswith("/usr/local/")]
        outside = [f for f in files if not f.startswith(f"{repository.tree}/")]
        assert not [f for f in outside if f.endswith((".py", ".pyc"))]
        rows = node.out("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' '*python2*'")
        debians = [row.split()[1] for row in rows.splitlines() if row.startswith("ii")]
        assert "python2.7" in debians
        assert not node.out(f"dpkg --verify {shlex.join(debians)}")
        strays = ("find /usr/lib/python2.7 /usr/local/lib -type f ! -name '*.pyc' -print0"
                  " | xargs -0 -r dpkg -S 2>&1 >/dev/null || :")  # fmt: skip
        assert node.out(strays) == ""


def test_names_are_found_without_a_resolver(cloud: Cloud, repository: Repository) -> None:
    """/etc/hosts has them; the server of /etc/resolv.conf is not there."""
    node = cloud.controller
    node.write("/etc/resolv.conf", "nameserver 10.0.0.99\n")
    try:
        node.run(f'{repository.tree}/bin/python -c "{RESOLVE}"', seconds=60)
        node.run(f"systemctl restart {shlex.join(units(node))}")
        wait_for_units(node)
        wait_for_agents(cloud)
        assert cloud.json("server list --all-projects")
    finally:
        node.run("rm /etc/resolv.conf")


def test_everything_stops_in_its_time(cloud: Cloud) -> None:
    """Nothing is cut off by systemd; and the servers' network goes on."""
    address = cloud.address("direct-compute1", "provider")
    for name, node in cloud.nodes.items():
        node.run(f"systemctl stop {shlex.join(units(node))}")
        for unit, state in units(node).items():
            assert state["Result"] == "success", f"{name}: {unit} ended by {state['Result']}"
    assert "direct-compute1." in cloud.page(address)
    each(
        cloud.nodes, lambda node: node.run(f"systemctl start --no-block {shlex.join(units(node))}")
    )
    each(cloud.nodes, wait_for_units)
    wait_for_agents(cloud)


def test_every_daemon_comes_back_after_a_kill(cloud: Cloud) -> None:
    each(cloud.nodes, kill_daemons)
    wait_for_agents(cloud)
    assert "direct-controller." in cloud.page(cloud.address("direct-controller", "provider"))


def test_reboot_brings_everything_back(cloud: Cloud) -> None:
    # One after the other, here: a node ends with the thread that booted it.
    for node in cloud.nodes.values():
        node.reboot(settled=False)
    each(cloud.nodes, wait_for_units)
    wait_for_agents(cloud)
    cloud.reboot_hard("direct-compute1")
    cloud.wait_for_page(cloud.address("direct-compute1", "provider"), "direct-compute1.")


def test_deleting_everything_leaves_nothing(cloud: Cloud) -> None:
    cloud.openstack("server delete --wait web", "demo")
    cloud.openstack("server delete --wait direct-controller direct-compute1")
    for node in cloud.nodes.values():
        assert node.out("virsh list --all --name") == ""
        wait_until(
            f"no tap on {node.name}",
            lambda node=node: "tap" not in node.out("ls /sys/class/net") and not chains(node),
            60,
            1,
        )
