"""The APIs at work: two users at once, reloads, rotated logs, and what an ini of one's own does.

One node with the six APIs of docs/install.md and none of the services behind them. LOAD_SECONDS
is how long no request may be lost; CI has two minutes.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import wait_until
from load import PORTS
from repository import HTTP_URI, Repository

if TYPE_CHECKING:
    from harness import Node

LOAD_SECONDS = int(os.environ.get("LOAD_SECONDS", "100"))
BUSY, IDLE = 40, 10  # seconds, by turns
PROGRAM = Path(__file__).with_name("load.py")
PACKAGES = (
    "mariadb-server rabbitmq-server memcached openstackclient openstack-node"
    " keystone glance-api placement-api nova-api neutron-server neutron-plugin-ml2 cinder-api"
)
# An API that its series does not serve by uWSGI (neutron's, up to 2024.2) has its unit only.
UNITS = {
    "keystone": "keystone",
    "glance": "glance-api",
    "placement": "placement-api",
    "nova": "nova-api",
    "neutron": "neutron-api",
    "cinder": "cinder-api",
}
THREADED = """\
sed 's/--threads=1\\b/--threads=8/' /usr/lib/systemd/system/keystone.service \
    >/etc/systemd/system/keystone.service
grep -e --threads=8 /etc/systemd/system/keystone.service
systemctl daemon-reload
"""
# As in docs/install.md, for the APIs alone; every password is a variable.
CONFIGURE = """\
set -e
umask 077
for name in ADMIN MEMBER RABBIT DB SERVICE; do
    echo "${name}_PASS=$(openssl rand -hex 16)"
done >/root/cloud.passwords
umask 022
. /root/cloud.passwords
echo "$RABBIT_PASS" | rabbitmqctl add_user openstack
rabbitmqctl set_permissions openstack '.*' '.*' '.*'
database() { # NAME USER
    mariadb <<END
CREATE DATABASE $1;
GRANT ALL PRIVILEGES ON $1.* TO '$2'@'localhost' IDENTIFIED BY '$DB_PASS';
END
}
settings() { # SERVICE SECTION: its drop-in file
    install -m 0640 -g "$1" /dev/stdin "/etc/$1/$1.conf.d/cloud.conf" <<END
[DEFAULT]
transport_url = rabbit://openstack:$RABBIT_PASS@controller
[$2]
connection = mysql+pymysql://$1:$DB_PASS@localhost/$1
END
    [ "$1" != keystone ] || return 0
    cat >>"/etc/$1/$1.conf.d/cloud.conf" <<END
[keystone_authtoken]
www_authenticate_uri = http://controller:5000
auth_url = http://controller:5000
memcached_servers = localhost:11211
password = $SERVICE_PASS
END
}
for service in keystone glance nova neutron cinder; do
    database $service $service
    settings $service database
done
database placement placement
settings placement placement_database
database nova_api nova
database nova_cell0 nova
cat >>/etc/nova/nova.conf.d/cloud.conf <<END
[api_database]
connection = mysql+pymysql://nova:$DB_PASS@localhost/nova_api
END
OS_BOOTSTRAP_PASSWORD=$ADMIN_PASS openstack-node setup --keystone-url http://controller:5000/v3/
"""
USERS = """\
import os, openstack
identity = openstack.connect(
    auth_url="http://controller:5000/v3", username="admin", password=os.environ["ADMIN_PASS"],
    project_name="admin", user_domain_id="default", project_domain_id="default").identity
def user(name, password, project, *roles):
    made = identity.create_user(name=name, domain_id="default", password=password)
    for role in roles:
        found = next(identity.roles(name=role))
        identity.assign_project_role_to_user(project, made, found)
service = identity.create_project(name="service", domain_id="default")
for name in ("glance", "placement", "nova", "neutron", "cinder"):
    user(name, os.environ["SERVICE_PASS"], service, "admin", "service")
members = identity.create_project(name="members", domain_id="default")
user("member", os.environ["MEMBER_PASS"], members, "member", "reader")
"""
# What a file of Debian's own packages and puppet modules has, to the letter where it matters.
DEBIANS = """\
[uwsgi]
buffer-size = 65535
rem-header = Content-Length
master = true
thunder-lock = true
plugins = python3,apparmor
apparmor-profile = {unit}
lazy-apps = true
paste-logger = true
no-orphans = true
die-on-term = true
exit-on-reload = true
add-header = Connection: close
socket-timeout = 10
chmod-socket = 666
enable-threads = true
processes = {processes}
threads = 32
listen = 100
logto = /var/log/{service}/{unit}.log
name = {unit}
uid = {service}
gid = {service}
chdir = /var/lib/{service}
wsgi-file = /usr/bin/{unit}-wsgi
paste = config:/etc/{service}/api-paste.ini
"""
NO_IPV6 = (
    "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX AF_INET AF_NETLINK\n"
)


@pytest.fixture(scope="module")
def node(lab, repository: Repository) -> Node:
    """A node whose six APIs answer, with an administrator and a member of a project."""
    node = lab.node("controller", address="10.0.0.11")
    repository.add_to(node, HTTP_URI)
    node.run(f"apt-get install -y {PACKAGES}")
    node.run(CONFIGURE)
    environment = "set -a; . /root/cloud.passwords"
    node.run(f"{environment}; exec {repository.tree}/bin/python -", stdin=USERS)
    node.push(PROGRAM, "/root")
    return node


def served(node: Node) -> dict[str, str]:
    """Return the units that serve an API by uWSGI in this series."""
    return {s: u for s, u in UNITS.items() if node.succeeds(f"systemctl cat {u}.service")}


def load(node: Node, *seconds: int) -> subprocess.Popen[str]:
    """Start the two users' work; `report` waits for its end."""
    program = f"exec python3 /root/load.py {shlex.join(map(str, seconds))}"
    argv = node._argv(f"set -a; . /root/cloud.passwords; {program}")
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def report(working: subprocess.Popen[str]) -> dict:
    """Return what became of the work; every API has answered, and only its own users."""
    output, errors = working.communicate(timeout=LOAD_SECONDS + 300)
    assert working.returncode == 0, errors
    found = json.loads(output)
    print(json.dumps(found))
    assert set(found["answered"]) == set(PORTS), found
    return found


def workers(node: Node, unit: str) -> dict[str, int]:
    """Return a unit's processes but its first, with the number of their threads."""
    main = node.out(f"systemctl show -P MainPID {unit}")
    lines = node.out(f"ps --ppid {main} -o pid=,nlwp=").splitlines()
    return {line.split()[0]: int(line.split()[1]) for line in lines}


def curl(node: Node, address: str) -> str:
    """Return the status of an answer, or 000 for none."""
    options = "-sS -g -m 60 -o /dev/null -w '%{http_code}'"
    return node.run(f"curl {options} http://{address}/", check=False).stdout


def restart(node: Node, unit: str) -> None:
    node.run(f"systemctl restart {unit}")
    port = next(p for s, p in PORTS.items() if UNITS[s] == unit)
    wait_until(f"{unit} to answer", lambda: curl(node, f"localhost:{port}") != "000", 180)


def test_each_answer_is_to_who_asked(node: Node) -> None:
    found = report(load(node, 30))
    assert (found["wrong"], found["lost"]) == (0, 0), found["said"]


if LOAD_SECONDS >= 600:  # `make prove CELL=load` has time for it

    def test_the_same_work_shows_what_threads_of_one_process_get_wrong(node: Node) -> None:
        """With eight threads keystone made the member's credentials with the admin's token."""
        node.run(THREADED)
        restart(node, "keystone")
        found = report(load(node, 30))
        assert found["wrong"] > 0
        node.run("rm /etc/systemd/system/keystone.service; systemctl daemon-reload")
        restart(node, "keystone")
        found = report(load(node, 5))
        assert (found["wrong"], found["lost"]) == (0, 0), found["said"]


def test_no_request_is_lost_for_minutes_with_reloads_and_rotated_logs(node: Node) -> None:
    apis = served(node)
    before = {unit: workers(node, unit) for unit in apis.values()}
    assert all(len(found) >= 2 for found in before.values()), before
    units = shlex.join(apis.values())
    started = time.monotonic()
    working = load(node, LOAD_SECONDS, BUSY, IDLE)
    time.sleep(5)
    node.run(f"systemctl reload {units}")
    time.sleep(15)
    node.run("logrotate --force /etc/logrotate.conf")
    rounds = 1
    while time.monotonic() - started < LOAD_SECONDS - 40:
        time.sleep(20)
        node.run(f"systemctl reload {units}")
        rounds += 1
        if rounds % 3 == 0:
            node.run("logrotate --force /etc/logrotate.conf")
    found = report(working)
    assert (found["lost"], found["wrong"]) == (0, 0), found["said"]
    for unit, old in before.items():
        wait_until(
            f"{unit} to be new", lambda u=unit, o=old: not set(workers(node, u)) & set(o), 120
        )
        assert len(workers(node, unit)) == len(old), unit
    for service, unit in apis.items():
        log = f"/var/log/{service}/{unit}.log"
        assert node.succeeds(f"test -e {log}.1 && test -s {log}"), log
    said = node.out(f"journalctl -b --no-pager -o cat {' '.join(f'-u {u}' for u in apis.values())}")
    assert "chain reload" in said
    assert "NO MERCY" not in said


def test_a_restart_waits_for_a_request_that_is_on_its_way(node: Node) -> None:
    """An image that comes slowly is whole, though its server is told to go meanwhile."""
    node.run("systemctl reset-failed glance-api")
    upload = """\
. /root/cloud.passwords
export OS_AUTH_URL=http://controller:5000/v3 OS_USERNAME=admin OS_PASSWORD=$ADMIN_PASS
export OS_PROJECT_NAME=admin OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default
token="X-Auth-Token: $(openstack token issue -f value -c id)"
url=http://controller:9292/v2/images
id=$(curl -fsS -H "$token" -H Content-Type:application/json \\
    -d '{"name": "slow", "container_format": "bare", "disk_format": "raw"}' $url |
    grep -o '"id": "[^"]*' | cut -d '"' -f 4)
head -c 8000000 /dev/urandom >/root/image
echo ready
curl -fsS --limit-rate 1M -H "$token" -H Content-Type:application/octet-stream \\
    -T /root/image $url/$id/file
until curl -fsS -H "$token" $url/$id/file | cmp - /root/image; do sleep 0.5; done
"""
    with subprocess.Popen(node._argv(upload), stdout=subprocess.PIPE, text=True) as coming:
        assert coming.stdout is not None
        assert coming.stdout.readline() == "ready\n"
        time.sleep(2)
        node.run("systemctl restart glance-api")
        assert coming.wait(120) == 0
    assert node.out("systemctl show -P Result glance-api") == "success"


CHUNKS = """\
import http.client, itertools, os, sys
token, image, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
path, headers = f"/v2/images/{image}/file", {"X-Auth-Token": token}
content = {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
chunk = os.urandom(size)
connection = http.client.HTTPConnection("controller", 9292, timeout=60)
connection.request("PUT", path, itertools.repeat(chunk, 3), headers | content, encode_chunked=True)
answer = connection.getresponse()
assert answer.status == 204, (answer.status, answer.read())
connection = http.client.HTTPConnection("controller", 9292, timeout=60)
connection.request("GET", path, headers=headers)
assert connection.getresponse().read() == chunk * 3
"""


@pytest.mark.parametrize("size", [1 << 20, 1 << 23])
def test_an_image_that_comes_in_large_chunks_is_whole(node: Node, size: int) -> None:
    """As cinder and nova send volumes and snapshots: of 1 MiB, where uWSGI took a million bytes."""
    node.write("/root/chunks.py", CHUNKS)
    node.run(f"""\
. /root/cloud.passwords
export OS_AUTH_URL=http://controller:5000/v3 OS_USERNAME=admin OS_PASSWORD=$ADMIN_PASS
export OS_PROJECT_NAME=admin OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default
token=$(openstack token issue -f value -c id)
image=$(curl -fsS -H "X-Auth-Token: $token" -H Content-Type:application/json \\
    -d '{{"name": "chunks", "container_format": "bare", "disk_format": "raw"}}' \\
    http://controller:9292/v2/images | grep -o '"id": "[^"]*' | cut -d '"' -f 4)
python3 /root/chunks.py "$token" "$image" {size}
""")


def test_apis_listen_on_ipv6_and_ipv4(node: Node) -> None:
    for service in served(node):
        for address in ("127.0.0.1", "10.0.0.11", "[::1]"):
            assert curl(node, f"{address}:{PORTS[service]}") != "000", (service, address)


def test_an_api_listens_on_ipv4_where_the_kernel_has_no_ipv6(node: Node) -> None:
    """Its sockets are refused to the unit with the word of a kernel booted with ipv6.disable=1."""
    node.run("mkdir -p /etc/systemd/system/placement-api.service.d")
    drop_in = "/etc/systemd/system/placement-api.service.d/ipv4.conf"
    node.write(drop_in, NO_IPV6)
    node.run("systemctl daemon-reload")
    restart(node, "placement-api")
    assert curl(node, "10.0.0.11:8778") == "200"
    assert curl(node, "[::1]:8778") == "000"
    node.run(f"rm {drop_in}; systemctl daemon-reload")
    restart(node, "placement-api")
    assert curl(node, "[::1]:8778") == "200"


def test_a_file_of_debians_serves_our_code_and_one_request_a_process(node: Node) -> None:
    for service, unit in served(node).items():
        put_debians(node, service, unit)


def put_debians(node: Node, service: str, unit: str) -> None:
    """Serve an API by Debian's ini, and by its own again."""
    ini = f"/etc/{service}/{unit}-uwsgi.ini"
    node.run(f"cp -p {ini} /root/kept.ini")
    for processes in (3, 1):
        text = DEBIANS.format(unit=unit, service=service, processes=processes)
        node.write(ini, text)
        restart(node, unit)
        found = workers(node, unit)
        assert len(found) == processes
        for address in ("127.0.0.1", "[::1]"):
            assert curl(node, f"{address}:{PORTS[service]}") in {"200", "300"}, address
    said = node.out(f"journalctl --no-pager -o cat -u {unit}")
    assert f"{ini}: threads = 32 is not used" in said
    logged = node.read(f"/var/log/{service}/{unit}.log")  # `logto` is the administrator's choice
    assert "cores: 1)" in logged
    assert "cores: 32)" not in logged
    node.run(f"cp -p /root/kept.ini {ini}")
    restart(node, unit)
