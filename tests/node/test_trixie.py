"""Debian 13: every package of the repository installs there, and keystone lives.

One node, in order. What a machine's life is for keystone is told in full by test_keystone.py, on
Debian 12.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from harness import wait_until
from repository import HTTP_URI, Repository
from test_keystone import ADMINRC, DATABASE, URL, assert_serves, main_pid

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Node

SETTINGS = "[database]\nconnection = mysql+pymysql://keystone:DBPASS@localhost/keystone\n"


@pytest.fixture(scope="module")
def repository(published: Callable[[str, str], Repository]) -> Repository:
    return published("trixie", "2026.1")


@pytest.fixture(scope="module")
def node(lab, repository: Repository) -> Node:
    """A node of Debian 13 that has the repository."""
    node = lab.node("trixie", suite="trixie")
    repository.add_to(node, HTTP_URI)
    return node


def test_keystone_issues_tokens(node: Node, repository: Repository) -> None:
    node.run("apt-get install -y mariadb-server memcached keystone openstackclient openstack-node")
    assert node.out(f"{repository.tree}/bin/python -V").startswith("Python 3.13")
    node.run("mysql", stdin=DATABASE)
    node.run("install -g keystone -m 0640 /dev/stdin /etc/keystone/keystone.conf.d/db.conf",
             stdin=SETTINGS)  # fmt: skip
    node.run(f"OS_BOOTSTRAP_PASSWORD=ADMIN_PASS openstack-node setup --keystone-url {URL}/")
    node.write("/root/adminrc", ADMINRC)
    assert_serves(node, 60)
    assert node.run("openstack-node status keystone", check=False).returncode in {0, 1}


def test_it_is_there_after_a_reboot_and_a_kill(node: Node) -> None:
    assert node.reboot() == "running"
    assert_serves(node, 60)
    before = main_pid(node)
    node.run("systemctl kill --kill-whom=main --signal=KILL keystone")
    wait_until(
        "keystone to be restarted",
        lambda: main_pid(node) not in {before, "0"},
        30,
    )
    assert_serves(node, 60)


def test_every_package_installs_beside_all_others(node: Node, repository: Repository) -> None:
    """Left out are those that stand for a package of Debian's own, and what excludes another."""
    own = [name for name, row in repository.stanzas.items() if "oldlibs" not in row["Section"]]
    node.run(f"apt-get install -y {shlex.join(own)}")
    assert sorted(set(own) - set(repository.installed(node))) == []
    assert node.out("dpkg --audit") == ""
    failed = node.out("systemctl list-units --failed --no-legend --plain")
    assert not failed, failed
    assert_serves(node, 60)


def test_purged_it_leaves_the_keys_alone(node: Node) -> None:
    node.run("apt-get purge -y keystone")
    assert node.succeeds("ls /etc/keystone/fernet-keys/0")
    assert not node.out("find /etc/systemd /usr/lib/systemd -name 'keystone*.service*'")
