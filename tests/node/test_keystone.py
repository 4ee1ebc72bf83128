"""Keystone from the repository to a token, and through a machine's life.

The tests share one node and run in order; each leaves keystone serving.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest
from repository import FILE_URI, HTTP_URI, Repository, set_option, wait_for

if TYPE_CHECKING:
    from harness import Node

DATABASE = """\
CREATE DATABASE keystone;
GRANT ALL PRIVILEGES ON keystone.* TO 'keystone'@'localhost' IDENTIFIED BY 'DBPASS';
GRANT ALL PRIVILEGES ON keystone.* TO 'keystone'@'%' IDENTIFIED BY 'DBPASS';
"""
URL = "http://localhost:5000/v3"
ADMIN = {
    "OS_USERNAME": "admin",
    "OS_PASSWORD": "ADMIN_PASS",
    "OS_PROJECT_NAME": "admin",
    "OS_USER_DOMAIN_NAME": "Default",
    "OS_PROJECT_DOMAIN_NAME": "Default",
    "OS_AUTH_URL": URL,
    "OS_IDENTITY_API_VERSION": "3",
}
ADMINRC = "".join(f"export {key}={value}\n" for key, value in ADMIN.items())
KEYS = "/etc/keystone/fernet-keys /etc/keystone/credential-keys"
# Debian 12's own, which must lose without anything pinned by hand.
DEBIANS = "2:26.2.2"


@pytest.fixture(scope="module")
def node(lab) -> Node:
    return lab.node("keystone")


def openstack(node: Node, command: str) -> str:
    return node.out(f". /root/adminrc && openstack {command}")


def users(node: Node) -> list[str]:
    return [row["Name"] for row in json.loads(openstack(node, "user list -f json"))]


def assert_serves(node: Node, seconds: int = 120) -> None:
    wait_for(node, f"curl -fs {URL}", seconds)
    assert openstack(node, "token issue -f value -c id").startswith("gAAAA")  # a fernet token
    assert "admin" in users(node)


def main_pid(node: Node) -> str:
    return node.out("systemctl show -P MainPID keystone")


def key_files(node: Node) -> str:
    return node.out(f"find {KEYS} -type f -exec sha256sum {{}} + | sort")


def test_apt_prefers_our_packages_by_file_and_by_http(node: Node, repository: Repository) -> None:
    for add, uri in ((repository.add_to, FILE_URI), (repository.point, HTTP_URI)):
        add(node, uri)
        policy = node.out("apt-cache policy nova-api")
        assert DEBIANS in policy, "Debian's own package is no longer a candidate: nothing is proven"
        candidate = policy.split("Candidate: ")[1].split()[0]
        if "nova-api" in repository.stanzas:
            assert candidate == repository.stanzas["nova-api"]["Version"]
        fetched = node.out("apt-get install -y --print-uris keystone")
        assert uri in fetched


def test_the_archive_is_signed_by_a_key_for_it_alone(node: Node, repository: Repository) -> None:
    sources = node.read(repository.source)
    key = next(line for line in sources.splitlines() if line.startswith("Signed-By: /"))
    assert node.succeeds(f"dpkg -S {key.removeprefix('Signed-By: ')}")
    assert not node.out("ls /etc/apt/trusted.gpg.d | grep -v ^debian- || :")


def test_install(node: Node, repository: Repository) -> None:
    node.run("apt-get install -y mariadb-server memcached keystone openstackclient")
    assert node.out("systemctl is-enabled keystone") == "enabled"
    assert not node.out("systemctl list-units --failed --no-legend --plain")
    # Without an address of a database it would make one of its own, with sqlite.
    assert node.out("systemctl show -P ActiveState keystone") == "inactive"
    assert not node.out("find /var/lib/keystone -type f")
    for package in repository.installed(node):
        assert (
            node.out(f"dpkg-query -W -f '${{Version}}' {package}")
            == (repository.stanzas[package]["Version"])
        )


def test_our_files_stay_in_the_tree(node: Node, repository: Repository) -> None:
    ours = shlex.join(repository.installed(node))
    files = node.out(f"dpkg -L {ours} | sort -u").splitlines()
    assert not [f for f in files if "/dist-packages" in f or f.startswith("/usr/local/")]
    # The node-side command is a program of its own, and has its modules for itself.
    places = (f"{repository.tree}/", "/usr/share/openstack-node/")
    assert not [f for f in files if f.endswith(".py") and not f.startswith(places)]
    assert node.out(f"{repository.tree}/bin/python -c 'import sys; print(sys.prefix)'") == (
        repository.tree
    )


def test_byte_code_is_there_before_the_first_start(node: Node, repository: Repository) -> None:
    site = node.out(f"echo {repository.tree}/lib/python3*/site-packages")
    find = f"find {site}/keystone {site}/oslo_config -not -path '*/tests/*' -name"
    modules = node.out(f"{find} '*.py' | wc -l")
    compiled = node.out(f"{find} '*.pyc' | wc -l")
    assert int(compiled) >= int(modules) > 100


def test_set_up_as_the_install_guide_says(node: Node) -> None:
    node.run("mysql", stdin=DATABASE)
    connection = "mysql+pymysql://keystone:DBPASS@localhost/keystone"
    set_option(node, "/etc/keystone/keystone.conf", "database", "connection", connection)
    node.run("su -s /bin/sh -c 'keystone-manage db_sync' keystone")
    node.run("keystone-manage fernet_setup --keystone-user keystone --keystone-group keystone")
    node.run("keystone-manage credential_setup --keystone-user keystone --keystone-group keystone")
    node.run(
        "keystone-manage bootstrap --bootstrap-password ADMIN_PASS"
        f" --bootstrap-admin-url {URL}/ --bootstrap-internal-url {URL}/"
        f" --bootstrap-public-url {URL}/ --bootstrap-region-id RegionOne"
    )
    node.run("systemctl restart keystone")
    node.write("/root/adminrc", ADMINRC)
    assert_serves(node)


def test_the_token_is_good_for_other_calls(node: Node) -> None:
    openstack(node, "project create --domain default service")
    assert "service" in openstack(node, "project list")
    assert "5000" in openstack(node, "endpoint list")


def test_commands_run_as_root_leave_nothing_the_service_cannot_write(node: Node) -> None:
    node.run("keystone-manage doctor", check=False)
    node.run("keystone-status upgrade check", check=False)
    foreign = "find /var/log/keystone /var/lib/keystone ! -user keystone"
    assert not node.out(foreign)


def test_starts_fast(node: Node) -> None:
    start = "systemctl restart keystone; until curl -fs %s; do sleep 0.1; done"
    node.run(f"timeout 90 bash -c {shlex.quote(start % URL)}")


def test_runs_with_a_read_only_usr(node: Node) -> None:
    node.run("mount --bind /usr /usr && mount -o remount,bind,ro /usr")
    try:
        node.run("systemctl restart keystone")
        assert_serves(node)
    finally:
        # Lazily: processes still run from it.
        node.run("umount --lazy /usr && systemctl restart keystone")


def test_configuration_and_keys_are_out_of_reach(node: Node) -> None:
    writable = node.out("runuser -u keystone -- find /etc/keystone -writable").splitlines()
    kept = tuple(KEYS.split())
    assert not [path for path in writable if not path.startswith(kept)]
    others = node.out("runuser -u nobody -- find /etc/keystone/ 2>/dev/null || :")
    assert "keystone.conf" not in others
    modes = node.out("stat -c '%a %U:%G' /etc/keystone/keystone.conf " + KEYS).splitlines()
    assert modes == ["640 root:keystone", "700 keystone:keystone", "700 keystone:keystone"]


def test_survives_a_reboot(node: Node) -> None:
    assert node.reboot() == "running"
    assert_serves(node)


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_is_restarted_when_killed(node: Node, signal: str) -> None:
    """TERM has uWSGI end in its way, with status 0."""
    before = main_pid(node)
    node.run(f"systemctl kill --kill-whom=main --signal={signal} keystone")
    wait_for(node, f"[ $(systemctl show -P MainPID keystone) != {before} ]", 120)
    assert_serves(node, 120)


def test_logs_go_on_after_rotation(node: Node) -> None:
    node.run("apt-get install -y logrotate")
    node.run("logrotate --force /etc/logrotate.d/keystone")
    assert_serves(node)
    live = node.out("find /var/log/keystone -name '*.log' -size +0")
    assert live, "nothing is logged after a rotation"
    assert not node.out("find /var/log/keystone -name '*.log' ! -user keystone")


def test_needrestart_restarts_it_when_it_may(node: Node) -> None:
    """In automatic mode, after a library that the daemon has loaded was replaced."""
    node.run("apt-get install -y needrestart")
    before = main_pid(node)
    # Its processes load the application, the first one does not.
    maps = f"/proc/$(pgrep -P {before} | head -n 1)/maps"
    library = node.out(f"awk '$6 ~ /openstack.*[.]so/ {{ print $6; exit }}' {maps}")
    node.run(f"cp -p {library} {library}.new && mv {library}.new {library}")
    node.run("echo RESTARTS=defer >>/etc/default/openstack-node; needrestart -r a")
    assert main_pid(node) == before
    node.run("sed -i /RESTARTS/d /etc/default/openstack-node; needrestart -r a")
    assert main_pid(node) != before
    assert_serves(node)
    node.run("apt-get purge -y needrestart")


def test_reinstalling_keeps_an_edited_file(node: Node) -> None:
    before = node.read("/etc/keystone/keystone.conf")
    node.run("apt-get install -y --reinstall keystone")
    assert node.read("/etc/keystone/keystone.conf") == before
    assert_serves(node)


def test_an_upgrade_keeps_what_was_edited_and_refreshes_the_rest(
    node: Node, repository: Repository
) -> None:
    """The same package, a higher version and two changed files, installed with no terminal."""
    before = node.read("/etc/keystone/keystone.conf")
    pristine = "/srv/next/new/usr/share/keystone/{keystone.conf,sso_callback_template.html}"
    node.run(
        "mkdir -p /srv/next && cd /srv/next"
        f" && curl -fsO {HTTP_URI}/{repository.file('keystone')}"
        " && dpkg-deb -R keystone_*.deb new && rm keystone_*.deb"
        " && sed -i 's/^Version: .*/&+next/' new/DEBIAN/control"
        f" && for f in {pristine}; do echo '# of the next release' >>$f; done"
        " && dpkg-deb -b new keystone-next.deb"
    )
    node.run("unset DEBIAN_FRONTEND; apt-get install -y /srv/next/keystone-next.deb </dev/null")
    assert node.out("dpkg-query -W -f '${Version}' keystone").endswith("+next")
    assert node.read("/etc/keystone/keystone.conf") == before
    assert "of the next release" in node.read("/etc/keystone/sso_callback_template.html")
    assert_serves(node)
    version = repository.stanzas["keystone"]["Version"]
    node.run(f"apt-get install -y --allow-downgrades keystone={version}")


def test_remove_and_install_again_keeps_configuration_and_keys(node: Node) -> None:
    before = key_files(node)
    assert before
    node.run("apt-get remove -y keystone")
    assert not node.succeeds("systemctl is-active keystone")
    assert not node.succeeds("pgrep -u keystone")
    node.run("apt-get install -y keystone")
    assert key_files(node) == before
    assert_serves(node)


def test_purge_keeps_keys_and_data_and_removes_the_rest(node: Node) -> None:
    before = key_files(node)
    node.run("install -o keystone -m 0600 /dev/null /var/lib/keystone/precious")
    node.run("apt-get purge -y keystone")
    assert key_files(node) == before
    assert node.succeeds("test -e /var/lib/keystone/precious")
    left = node.out("find /etc/keystone /var/log/keystone /run/keystone -type f 2>/dev/null || :")
    assert not [path for path in left.splitlines() if not path.startswith(tuple(KEYS.split()))]
    assert not node.out("find /etc /lib /usr/lib /run/systemd -name 'keystone*.service*'")
    assert node.out("mysql -N -e 'SELECT COUNT(*) FROM keystone.user'") == "1"


def test_install_after_purge_uses_the_kept_keys(node: Node) -> None:
    before = key_files(node)
    node.run("apt-get install -y keystone")
    assert key_files(node) == before
    connection = "mysql+pymysql://keystone:DBPASS@localhost/keystone"
    set_option(node, "/etc/keystone/keystone.conf", "database", "connection", connection)
    node.run("systemctl restart keystone")
    assert_serves(node)


def test_nothing_left_the_journal_flooded(node: Node) -> None:
    lines = int(node.out("journalctl -u keystone -b | wc -l"))
    assert lines < 2000
