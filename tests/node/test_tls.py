"""The APIs behind TLS, as docs/tls.md has it, and what of the passwords others can see.

One node with a part of the cloud of docs/install.md, its services talking as much as they
can (debug). What is typed is watched, as any user of the machine could.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import document
import pytest
from repository import HTTP_URI, Repository

if TYPE_CHECKING:
    from harness import Node

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/tls.md"
PACKAGES = (
    "mariadb-server memcached keystone glance-api placement-api openstackclient openstack-node"
)
PORTS = {"keystone": 5000, "glance": 9292, "placement": 8778}
OTHERS = "runuser -u nobody --"  # any user of the machine
PATTERNS = "/root/patterns"  # the passwords, one a line
IMAGE_BYTES = 8_000_000

# As in docs/install.md, for three of the services; every password is a variable.
CONFIGURE = """\
set -e
umask 077
for name in ADMIN KEYSTONE_DB GLANCE_DB PLACEMENT_DB GLANCE PLACEMENT; do
    echo "${name}_PASS=$(openssl rand -hex 16)"
done >/root/cloud.passwords
sed 's/.*=//' /root/cloud.passwords >/root/patterns
umask 022
. /root/cloud.passwords
configure() { # SERVICE DATABASE-PASSWORD SECTION [USER-PASSWORD]
    mariadb <<END
CREATE DATABASE $1;
GRANT ALL PRIVILEGES ON $1.* TO '$1'@'localhost' IDENTIFIED BY '$2';
END
    install -m 0640 -g "$1" /dev/stdin "/etc/$1/$1.conf.d/cloud.conf" <<END
[DEFAULT]
debug = true
[$3]
connection = mysql+pymysql://$1:$2@localhost/$1
END
    if [ "$1" = keystone ]; then
        cat >>/etc/keystone/keystone.conf.d/cloud.conf <<END
[cache]
backend = dogpile.cache.memcached
memcache_servers = localhost:11211
END
        return
    fi
    cat >>"/etc/$1/$1.conf.d/cloud.conf" <<END
[keystone_authtoken]
www_authenticate_uri = http://controller:5000
auth_url = http://controller:5000
memcached_servers = localhost:11211
password = $4
END
}
configure keystone "$KEYSTONE_DB_PASS" database
configure glance "$GLANCE_DB_PASS" database "$GLANCE_PASS"
configure placement "$PLACEMENT_DB_PASS" placement_database "$PLACEMENT_PASS"
OS_BOOTSTRAP_PASSWORD=$ADMIN_PASS openstack-node setup --keystone-url http://controller:5000/v3/
install -m 0600 /dev/stdin /root/admin-openrc <<END
export OS_USERNAME=admin
export OS_PASSWORD=$ADMIN_PASS
export OS_PROJECT_NAME=admin
export OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default
export OS_AUTH_URL=http://controller:5000/v3
export OS_IDENTITY_API_VERSION=3
END
"""
CATALOGUE = """\
import os, openstack
identity = openstack.connect().identity
project = identity.create_project(name="service", domain_id="default")
role = next(identity.roles(name="admin"))
for name, kind, port in (("glance", "image", 9292), ("placement", "placement", 8778)):
    password = os.environ[name.upper() + "_PASS"]
    user = identity.create_user(name=name, domain_id="default", password=password)
    identity.assign_project_role_to_user(project, user, role)
    service = identity.create_service(name=name, type=kind)
    for interface in ("public", "internal", "admin"):
        identity.create_endpoint(service_id=service.id, interface=interface,
                                 url=f"http://controller:{port}", region_id="RegionOne")
"""
# Writes each new command line there is once.
WATCH = """\
import glob, time
seen = set()
while True:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                line = file.read().replace(bytes(1), b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if line not in seen:
            seen.add(line)
            print(line, flush=True)
    time.sleep(0.05)
"""
# The client says how long an image is; others (a pipe) send chunks without a length.
BY_CHUNKS = """\
set -e
. /root/admin-openrc
url=https://controller:9292/v2/images
token="X-Auth-Token: $(openstack token issue -f value -c id)"
id=$(curl -fsS -H "$token" -H Content-Type:application/json \\
    -d '{"name": "piped", "container_format": "bare", "disk_format": "raw"}' $url |
    grep -o '"id": "[^"]*' | cut -d '"' -f 4)
curl -fsS -H "$token" -H Transfer-Encoding:chunked -H Content-Type:application/octet-stream \\
    -T /root/image $url/$id/file
curl -fsS -H "$token" $url/$id/file | cmp - /root/image
"""


@pytest.fixture(scope="module")
def cloud(lab, repository: Repository) -> Node:
    """A node whose three services answer by HTTP, with users and a catalogue."""
    node = lab.node("controller", address="10.0.0.11")
    repository.add_to(node, HTTP_URI)
    node.run(f"apt-get install -y {PACKAGES}")
    node.write("/usr/local/bin/watch.py", WATCH)
    python = f"{repository.tree}/bin/python"
    node.run(
        "systemd-run --quiet --unit=watch --uid=nobody"
        f" -p StandardOutput=append:/run/commands {python} /usr/local/bin/watch.py"
    )
    node.run(CONFIGURE)
    node.run(
        f"set -a; . /root/cloud.passwords; . /root/admin-openrc; exec {python} -", stdin=CATALOGUE
    )
    openstack(node, "image list")
    return node


@pytest.fixture(scope="module")
def secured(cloud: Node) -> Node:
    """The same node, after all a person types on it."""
    blocks = [
        replace(block, nodes=(cloud.name,))
        for block in document.read(DOCUMENT)
        if cloud.name in block.nodes
    ]
    # There is no second node to copy to.
    alone = [replace(b, text=re.sub(r"(?m)^scp .*\n", "", b.text)) for b in blocks]
    document.run(alone, {cloud.name: cloud})
    return cloud


def openstack(node: Node, command: str) -> str:
    return node.out(f". /root/admin-openrc && openstack {command}")


def curl(node: Node, options: str) -> int:
    return node.run(f"curl -sS -m 60 -o /dev/null {options}", check=False).returncode


def test_plain_http_is_refused(secured: Node) -> None:
    for port in PORTS.values():
        assert curl(secured, f"http://controller:{port}/") != 0, port


def test_the_certificate_is_good_by_name_and_by_address(secured: Node) -> None:
    for port in PORTS.values():
        for host in ("controller", "10.0.0.11"):
            assert curl(secured, f"https://{host}:{port}/") == 0, (host, port)
    assert "https://controller:5000/v3/" in secured.out("curl -sS https://controller:5000/")


def test_a_certificate_of_another_authority_is_refused(secured: Node) -> None:
    secured.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
        " -subj '/CN=OpenStack CA' -keyout /root/other.key -out /root/other.crt"
    )
    peer_certificate_cannot_be_authenticated = 60
    for port in PORTS.values():
        refused = curl(secured, f"--cacert /root/other.crt https://controller:{port}/")
        assert refused == peer_certificate_cannot_be_authenticated
    command = ". /root/admin-openrc && OS_CACERT=/root/other.crt openstack token issue"
    failed = secured.run(command, check=False)
    assert failed.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in failed.stderr


def test_weak_protocols_and_ciphers_are_refused(secured: Node) -> None:
    for port in PORTS.values():
        shake = f"openssl s_client -connect controller:{port} </dev/null"
        assert secured.succeeds(f"{shake} -tls1_2")
        assert secured.succeeds(f"{shake} -tls1_3")
        assert not secured.succeeds(f"{shake} -tls1_1 -cipher ALL:@SECLEVEL=0")
        assert not secured.succeeds(f"{shake} -tls1_2 -cipher kRSA:aNULL:@SECLEVEL=0")
        assert not secured.succeeds(f"{shake} -tls1_2 -cipher ECDHE-ECDSA-AES256-SHA384")


def test_the_catalogue_is_all_https(secured: Node) -> None:
    urls = openstack(secured, "endpoint list -f value -c URL").splitlines()
    assert len(urls) == 3 * len(PORTS)
    assert all(url.startswith("https://controller:") for url in urls)


def test_an_image_is_the_same_after_the_way_there_and_back(secured: Node) -> None:
    """glance asks keystone about the token by TLS; chunks come with a length and without."""
    secured.run(f"head -c {IMAGE_BYTES} /dev/urandom >/root/image")
    create = "image create --container-format bare --disk-format raw"
    openstack(secured, f"{create} --file /root/image image")
    openstack(secured, "image save --file /root/image.back image")
    secured.run("cmp /root/image /root/image.back")
    secured.run(BY_CHUNKS)


def test_the_key_is_for_the_service_alone(secured: Node) -> None:
    for service in PORTS:
        key = f"/etc/{service}/ssl/controller.key"
        assert secured.out(f"stat -c '%a %U:%G' {key}") == f"640 root:{service}"
        assert not secured.succeeds(f"{OTHERS} cat {key}")
        assert not secured.out(f"runuser -u {service} -- find /etc/{service}/ssl -writable")
    assert not secured.succeeds("find /etc/ssl/openstack -name '*.key' -perm /077 | grep .")


def test_everything_runs_again_after_a_restart(secured: Node) -> None:
    secured.run("systemctl restart keystone glance-api placement-api")
    assert openstack(secured, "token issue -f value -c id").startswith("gAAAA")
    report = secured.run("openstack-node status --quick", check=False)
    assert report.returncode == 0, report.stdout


def test_no_password_is_in_a_file_others_can_read(secured: Node) -> None:
    where = "/etc /home /opt /root /run /srv /tmp /usr/local /var"
    search = f"grep -rlaFf - --exclude-dir=proc {where} <{PATTERNS}"
    held = secured.run(search, check=False).stdout.splitlines()
    assert {f"/etc/{s}/{s}.conf.d/cloud.conf" for s in PORTS} <= set(held)
    assert not secured.run(f"{OTHERS} {search}", check=False).stdout


def test_no_password_is_in_a_log(secured: Node) -> None:
    logged = secured.out("grep -rh log_opt_values /var/log/glance /var/log/placement")
    assert "keystone_authtoken.password" in logged, "the services do not say all they can"
    assert not secured.run(f"grep -rlaFf {PATTERNS} /var/log", check=False).stdout
    assert not secured.run(f"journalctl -o cat | grep -aFf {PATTERNS}", check=False).stdout


def test_no_password_was_in_a_list_of_processes(secured: Node) -> None:
    commands = secured.out("cat /run/commands")
    assert "keystone-manage bootstrap" in commands, "nobody watched"
    assert "openstack endpoint set" in commands, "nobody watched"
    assert not secured.run(f"grep -aFf {PATTERNS} /run/commands", check=False).stdout


def test_the_environment_of_a_service_is_its_own(secured: Node) -> None:
    for unit in ("keystone", "glance-api", "placement-api"):
        process = secured.out(f"systemctl show -P MainPID {unit}")
        assert not secured.succeeds(f"{OTHERS} cat /proc/{process}/environ")
