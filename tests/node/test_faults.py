"""What goes wrong in an upgrade: the power, the disk, the database, the broker.

One node with keystone and cinder is installed once and restored for each fault, after
which the commands a person would give have to bring it where it was to go.
"""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING

import pytest
from cloud import change_suite, complaints, units, wait_for_units
from harness import Node, wait_until
from repository import HTTP_URI, Repository, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

OLD, NEW = "2025.2", "2026.1"
PACKAGES = ("keystone", "cinder-api", "cinder-scheduler")
SERVICES = ("keystone", "cinder")
POINTS = int(os.environ.get("POWER_CUTS") or 1)  # `make prove CELL=faults` has ten
SETTINGS = """
[DEFAULT]
transport_url = rabbit://openstack:PASS@{1}
[database]
connection = mysql+pymysql://{0}:PASS@{1}/{0}
[keystone_authtoken]
auth_url = http://{1}:5000
www_authenticate_uri = http://{1}:5000
password = PASS
"""
# A full-upgrade, and what an administrator types after the power was gone.
UPGRADE = "apt-get full-upgrade -y </dev/null"
# The first may say that something it depends on is not unpacked yet; then the second does it.
# What was just being unpacked, which dpkg's audit names, has to be asked for.
HALF = "dpkg-query -W -f '${db:Status-Eflag} ${Package}\\n' | sed -n 's/^reinstreq //p'"
MEND = f"""exec </dev/null; dpkg --configure -a
apt-get -f install -y || {{ apt-get install -y --reinstall $({HALF}) && apt-get -f install -y; }}
"""
DPKG_LOG = "var/log/dpkg.log"
# Reading goes on, the migration's first change waits: that is when the server is killed.
LOCK = "mariadb -e 'FLUSH TABLES WITH READ LOCK; SELECT SLEEP(300)'"
WAIT_FOR_MIGRATION = (
    "until mariadb -N -e 'SHOW PROCESSLIST' | grep -q 'keystone.*Waiting for'; do sleep 0.1; done"
)
UNLOCK = (
    "mariadb -N -e \"SELECT CONCAT('KILL ', id) FROM information_schema.processlist"
    " WHERE info LIKE 'SELECT SLEEP%'\" | mariadb"
)
USERS = "mariadb -N keystone -e 'SELECT id FROM user ORDER BY id'"


def install(node: Node, suite: Repository) -> None:
    """Make a node of a suite, with the services of this test set up."""
    suite.add_to(node, HTTP_URI)
    node.run(f"apt-get install -y mariadb-server rabbitmq-server {shlex.join(PACKAGES)}")
    node.run("rabbitmqctl add_user openstack PASS; rabbitmqctl set_permissions openstack"
             " '.*' '.*' '.*'; echo '[mysqld]\nbind-address = 0.0.0.0'"
             " >/etc/mysql/mariadb.conf.d/99-node.cnf; systemctl restart mariadb")  # fmt: skip
    for service in SERVICES:
        node.run("mariadb", stdin=f"CREATE DATABASE {service}; GRANT ALL ON {service}.* TO"
                 f" '{service}'@'%' IDENTIFIED BY 'PASS';")  # fmt: skip
        node.run(f"install -m 0640 -g {service} /dev/stdin /etc/{service}/{service}.conf.d/a.conf",
                 stdin=SETTINGS.format(service, node.name))  # fmt: skip
    node.run("OS_BOOTSTRAP_PASSWORD=PASS openstack-node setup")
    wait_for_units(node)


@pytest.fixture(scope="module")
def installed(lab, published: Callable[[str, str], Repository]) -> Node:
    """Give the node as it is before an upgrade, switched off, with what it is made from kept."""
    node = lab.node("controller", address="10.0.0.11")
    install(node, published("bookworm", OLD))
    # The packages of the new series are on the disk: only dpkg is left to do.
    change_suite(node, OLD, published("bookworm", NEW).series)
    node.run("apt-get full-upgrade --download-only -y")
    node.stop()
    node.save()
    return node


@pytest.fixture
def node(installed: Node) -> Node:
    """Give the node before the upgrade, running."""
    installed.restore()
    installed.boot(settled=False)
    wait_for_units(installed)
    return installed


@pytest.fixture(scope="module")
def unpacked(installed: Node) -> Node:
    """Keep the disk after the packages' part of the upgrade: databases are as they were."""
    installed.restore()
    installed.boot(settled=False)
    installed.run(UPGRADE, seconds=1800)
    installed.stop()
    installed.save("unpacked")
    return installed


@pytest.fixture
def behind(unpacked: Node) -> Node:
    """Give the node with the packages of the new series and the databases of the old, running.

    The new daemons wait for their databases.
    """
    unpacked.restore("unpacked")
    unpacked.boot(settled=False)
    wait_for(unpacked, "mariadb-admin ping && rabbitmqctl status", 300)
    return unpacked


def arrived(node: Node) -> None:
    """The node is of the new series, whole, and holds what it held."""
    assert not node.out("dpkg --audit")
    node.run(f"{UPGRADE} && openstack-node upgrade {NEW} --yes", seconds=1800)
    wait_for_units(node)
    for service in SERVICES:
        manifest = json.loads(node.read(f"/usr/share/openstack-node/services/{service}.json"))
        assert manifest["series"] == NEW
    assert [c for c in complaints(node) if c["kind"] != "configuration"] == []
    assert len(node.out(USERS).split()) == 1


def lines(node: Node) -> int:
    """Return how much dpkg has done, by the lines of its log."""
    log = node.dir / "upper" / DPKG_LOG
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.fixture(scope="module")
def way(installed: Node) -> tuple[int, int]:
    """Return the first and the last line of dpkg's log of an upgrade without a fault."""
    installed.restore()
    installed.boot(settled=False)
    first = lines(installed)
    installed.run(UPGRADE, seconds=1800)
    return first, lines(installed)


@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_a_power_cut_is_mended_by_what_dpkg_says(node: Node, way: tuple[int, int], point: int):
    first, last = way
    cut = first + (last - first) * point // (POINTS + 1)
    node.run(f"({UPGRADE} >/root/upgrade.log 2>&1 &)")
    wait_until("the moment", lambda: lines(node) >= cut, 300, 0.02)
    node.kill()
    assert lines(node) < last, "it was over: nothing is proven"
    node.boot(settled=False)
    node.run(MEND, seconds=1800)
    arrived(node)


@pytest.mark.proof
def test_a_full_disk_is_told_and_nothing_is_lost(node: Node) -> None:
    """The tree is on a file system of its own, with room for a part of the new series."""
    tree = "/usr/lib/openstack"
    used = int(node.out(f"du -sm {tree}").split()[0])
    node.run(f"mv {tree} /root/kept && mkdir {tree} && mount -t tmpfs -o size={used + 30}m x {tree}"
             f" && cp -a /root/kept/. {tree}/")  # fmt: skip
    done = node.run(f"openstack-node upgrade {NEW} --yes", check=False, seconds=1800)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert f"openstack-node upgrade {NEW} resumes from here" in done.stderr
    for unit, state in units(node).items():
        assert state["ActiveState"] == "active", unit
    node.run(f"mount -o remount,size={used + 2000}m {tree}")
    node.run(f"openstack-node upgrade {NEW} --yes", seconds=1800)
    node.run("apt-get -f install -y </dev/null")
    arrived(node)


def test_a_database_that_is_down_is_told_and_waited_for(behind: Node) -> None:
    node = behind
    node.run("systemctl stop mariadb")
    done = node.run(f"openstack-node upgrade {NEW} --yes", check=False)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "start the database server" in done.stderr
    node.run("systemctl start mariadb")
    arrived(node)


def test_a_database_that_goes_down_in_a_migration_is_told(behind: Node) -> None:
    node = behind
    killed = f"{WAIT_FOR_MIGRATION}; pkill -KILL mariadbd; systemctl stop mariadb"
    node.run(f"({LOCK} & {killed}) >/root/killed.log 2>&1 &")
    done = node.run(f"openstack-node upgrade {NEW} --yes", check=False)
    assert done.returncode == 1, done.stdout
    node.run("systemctl start mariadb")
    assert f"openstack-node upgrade {NEW} resumes from here" in done.stderr
    arrived(node)


def test_a_killed_command_given_again_waits_for_the_migration_it_began(behind: Node) -> None:
    node = behind
    again = f"openstack-node upgrade {NEW} --yes"
    node.run(f"({LOCK} & {again}) >/root/killed.log 2>&1 &")
    node.run(f"{WAIT_FOR_MIGRATION}; pkill -KILL -x openstack-node")
    node.run(f"({again}; echo ended: $?) >/root/again.log 2>&1 &")

    def said() -> str:
        return node.read("/root/again.log")

    wait_until("the wait", lambda: "keystone-manage" in said(), 300)
    assert "waiting for what an interrupted openstack-node started" in said()
    node.run(UNLOCK)
    wait_until("the end", lambda: "ended:" in said(), 900, 1)
    assert "ended: 0" in said(), said()
    arrived(node)


@pytest.mark.proof
def test_a_broker_that_is_down_is_told_and_the_old_daemons_go_on(node: Node) -> None:
    node.run("systemctl stop rabbitmq-server")
    done = node.run(f"openstack-node upgrade {NEW} --yes", check=False, seconds=900)
    assert done.returncode == 1
    assert "cinder: the broker at controller" in done.stderr
    assert "cannot be reached" in done.stderr
    assert units(node)["cinder-scheduler.service"]["ActiveState"] == "active"
    node.run("systemctl start rabbitmq-server")
    arrived(node)
