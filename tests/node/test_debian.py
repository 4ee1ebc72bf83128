"""Debian's own packages of the services, and what apt makes of them when it knows ours.

Nothing is configured: this is about files and relations. That a cloud goes on working is in
test_adopt.py, which takes as long as a cloud takes.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import debian_cloud
import pytest
from repository import HTTP_URI

if TYPE_CHECKING:
    from harness import Node
    from repository import Repository

# nova-compute comes along by itself, as on many nodes.
PACKAGES = (
    "keystone glance-api placement-api nova-conductor nova-consoleproxy nova-compute-kvm"
    " neutron-server neutron-dhcp-agent cinder-volume python3-openstackclient"
)
KEPT = {
    "/etc/placement/placement-api-uwsgi.ini": "# mine",
    "/etc/nova/rootwrap.conf": "# mine",
    "/etc/neutron/rootwrap.d/rootwrap.filters": "# mine",
    "/etc/nova/nova.conf": "# mine",
}
# Files nobody changed, and words of ours.
REPLACED = {
    "/etc/keystone/keystone-uwsgi.ini": "`systemctl cat keystone`",
    "/etc/cinder/rootwrap.conf": "/usr/lib/openstack/",
}


@pytest.fixture(scope="module")
def node(lab) -> Node:
    node = lab.node("debian")
    debian_cloud.install(node, PACKAGES)
    for path, line in KEPT.items():
        node.run(f"echo '{line}' >>{path}")
    node.run("echo '# mine' >>/etc/sudoers.d/neutron_sudoers")
    return node


def owners(node: Node) -> dict[str, str]:
    """Return which package each file below /usr is of; the links of merged-usr seen through."""
    lists = node.out("cd /var/lib/dpkg/info; grep -H . *.list")
    rows = (line.split(".list:", 1) for line in lists.splitlines())
    files = ((re.sub(r"^/(bin|lib|sbin)/", r"/usr/\1/", path), name) for name, path in rows)
    return {path: name.split(":")[0] for path, name in files}


def test_no_file_of_debians_is_in_the_way_of_dpkg(node: Node, repository: Repository) -> None:
    """Policy 7.6: what has a file of another package's replaces it."""
    theirs, clashes = owners(node), []
    for name, fields in repository.stanzas.items():
        if name.startswith("openstack-"):
            continue
        deb = repository.path / repository.file(name)
        said = subprocess.run(
            ["dpkg-deb", "-c", deb], capture_output=True, text=True, check=True
        ).stdout
        replaced = {r.split()[0] for r in fields.get("Replaces", "").split(",") if r}
        for path in re.findall(r"^-.* \.(/\S+)$", said, re.MULTILINE):
            owner = theirs.get(re.sub(r"^/(bin|lib|sbin)/", r"/usr/\1/", path), name)
            if owner not in {name, *replaced}:
                clashes.append(f"{name}: {path} is of {owner}")
    assert clashes == []


def test_debians_services_are_shown_and_no_unsupported_step_is_taken(
    node: Node, repository: Repository
) -> None:
    repository.add_to(node, HTTP_URI)
    node.run("apt-get install -y openstack-node")
    shown = node.out("openstack-node status")
    for service in ("keystone", "glance", "placement", "nova", "neutron", "cinder"):
        assert re.search(rf"^{service}  zed  ", shown, re.MULTILINE)
    for verb in ("plan", "adopt"):
        done = node.run(f"openstack-node {verb} {repository.series}", check=False)
        assert done.returncode == 1
        assert f"no upgrade from zed to {repository.series}" in done.stderr


def test_apt_removes_none_of_debians_packages(node: Node, repository: Repository) -> None:
    before = set(node.out("dpkg-query -W -f '${Package}\\n'").split())
    node.run("apt-get full-upgrade -y </dev/null", seconds=3000)
    assert set(node.out("dpkg-query -W -f '${Package}\\n'").split()) >= before
    assert "Remove:" not in node.read("/var/log/apt/history.log")
    ours = {*repository.installed(node)}
    assert {"nova-compute-kvm", "nova-compute", "python3-nova", "python3-openstackclient"} <= ours
    node.run("apt-get autoremove -y")
    assert {"nova-compute", "nova-novncproxy", "neutron-api"} <= {*repository.installed(node)}


def test_what_somebody_changed_stays_and_the_rest_is_ours(node: Node) -> None:
    for path, line in KEPT.items():
        assert line in node.read(path), path
    for path, words in REPLACED.items():
        assert words in node.read(path), path
    assert "\nvirt_type" in node.read("/etc/nova/nova-compute.conf")
    left = node.out("find /etc -name '*.dpkg-remove' -o -name '*.dpkg-backup'")
    assert left == ""


def test_sudo_knows_our_rules_alone(node: Node) -> None:
    assert node.out("ls /etc/sudoers.d").split() == [
        *("README", "cinder-common", "glance-common", "neutron-common"),
        *("neutron_sudoers.dpkg-bak", "nova-common"),
    ]
    node.run("visudo -c")
    rotation = node.run("logrotate --debug /etc/logrotate.conf", check=False)
    assert "duplicate log entry" not in rotation.stderr


def test_root_runs_the_code_of_the_series(node: Node) -> None:
    """A changed rootwrap.conf looks in Debian's directories, where a privsep-helper still is."""
    assert "/usr/lib" not in node.read("/etc/nova/rootwrap.conf")
    node.run("printf '#!/bin/sh\\necho old\\n' >/usr/bin/privsep-helper")
    node.run("chmod 0755 /usr/bin/privsep-helper")
    done = node.run(
        "runuser -u nova -- sudo nova-rootwrap /etc/nova/rootwrap.conf privsep-helper --help"
    )
    assert "privsep_context" in done.stdout
    node.run("apt-get install -y --reinstall python3-oslo.privsep || rm /usr/bin/privsep-helper")


def test_what_leads_on_can_be_purged_and_takes_nothing_along(node: Node) -> None:
    files = "/etc/glance/rootwrap.conf /etc/nova/nova-compute.conf"
    before = node.out(f"cat {files}")
    node.run(
        "apt-mark manual nova-compute glance-api;"
        "apt-get purge -y nova-compute-kvm glance-store-common python3-glance-store"
    )
    assert node.out(f"cat {files}") == before


def test_what_debian_left_goes_on_request(node: Node) -> None:
    listed = node.out("openstack-node adopt --clean --dry-run")
    assert "/etc/init.d/keystone" in listed
    assert "debconf answers for keystone" in listed
    assert node.succeeds("test -e /etc/init.d/keystone")
    node.run("openstack-node adopt --clean --yes")
    assert node.out("openstack-node adopt --clean --dry-run") == ""
    assert not node.succeeds("ls /etc/init.d/{keystone,nova-conductor,neutron-api}")
    assert "Owners: keystone" not in node.read("/var/cache/debconf/config.dat")
    changed = "/var/backups/openstack-node/etc/neutron/rootwrap.d/rootwrap.filters"
    assert "# mine" in node.read(changed)
