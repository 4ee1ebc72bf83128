"""The cloud of docs/install.md on two nodes: built by that file, used, broken and mended.

The tests share the cloud and run in order; each leaves it whole. `--series` says of which
series it is, as a reader of the document does.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import document
import pytest
import tempest_run
from cloud import (
    INSTALL,
    SERVICES,
    Cloud,
    complaints,
    daemons_as_root,
    each,
    kill_daemons,
    units,
    wait_for_agents,
    wait_for_units,
)
from guest import DISK_TEXT
from harness import Node, NodeError, wait_until
from repository import wait_for

if TYPE_CHECKING:
    from repository import Repository

DOCS = Path(__file__).resolve().parents[2] / "docs"
AGENTS = (
    "neutron-dhcp-agent.service",
    "neutron-l3-agent.service",
    "neutron-metadata-agent.service",
    "neutron-openvswitch-agent.service",
    "nova-compute.service",
)
SETTLE_SECONDS = 45
# keystone writes its keys, and nothing else.
FIND_WRITABLE = "find /etc/{} -name '*-keys' -prune -o -writable ! -type l -print"
# What a compute host of long ago leaves.
GONE = """\
INSERT INTO services (created_at, last_seen_up, uuid, host, `binary`, topic, report_count, disabled,
    deleted, version, forced_down)
VALUES ('2024-01-01', '2024-02-01', '{row}', 'gone9', 'nova-compute', 'compute', 9, 0, 0, 50, 0)
"""
MEMCACHED = "/usr/share/memcached/scripts"
MOST_LOG = 20_000_000  # bytes a node may write in an outage of a minute


def secrets(cloud: Cloud) -> list[str]:
    return re.findall(r"_PASS=(\S+)", cloud.controller.read("/root/cloud.passwords"))


def test_each_block_of_the_document_was_run(cloud: Cloud) -> None:
    assert set(cloud.printed) == {b.line for b in document.read(INSTALL)}
    assert re.search(r"\| compute1 .*\| enabled \| up", "".join(cloud.printed.values()))


def test_units_are_active_and_enabled(cloud: Cloud, repository: Repository) -> None:
    # Since 2024.2 neutron's server is an API, two that work behind it, and their common name.
    server = 1 if repository.series in {"2023.1", "2024.1"} else 4
    for node in cloud.nodes.values():
        found = units(node)
        assert len(found) >= (16 + server if node is cloud.controller else 2)
        assert {u: s["ActiveState"] for u, s in found.items() if s["ActiveState"] != "active"} == {}
        assert {u for u, s in found.items() if s["UnitFileState"] != "enabled"} == set()


def test_no_unit_runs_as_root(cloud: Cloud) -> None:
    for node in cloud.nodes.values():
        found = units(node)
        assert {u for u, s in found.items() if s["User"] in {"", "root"}} == set()
        assert daemons_as_root(node) == []


def test_status_and_setup_say_that_all_is_well(cloud: Cloud) -> None:
    for node in cloud.nodes.values():
        assert complaints(node) == []
    node.run("openstack-node setup")


def test_no_log_says_what_the_packages_could_have_set(cloud: Cloud) -> None:
    """Of a host that is a controller as well, and of what upstream warns of at each start."""
    words = ("No DB access allowed", "not allowed to directly", "service_token_roles_required")
    patterns = shlex.join(f"-e{word}" for word in words)
    for node in cloud.nodes.values():
        assert not node.run(f"grep -rhF {patterns} /var/log", check=False).stdout
    said = cloud.controller.out(f"{MEMCACHED}/memcached-tool controller:11211 stats")
    assert re.search(r"\bget_hits +[1-9]", said)
    assert not cloud.controller.out("find /var/lib -name '*.sqlite' -o -name 'keystone.db'")


def test_privileged_work_goes_through_the_helpers(cloud: Cloud) -> None:
    """What the cloud needed root for, it got by rootwrap, its daemon and privsep."""
    listing = cloud.controller.out("ps -e -o user:20=,args=")
    for service in ("nova", "neutron"):
        assert re.search(rf"^root .*privsep-helper .*/etc/{service}/", listing, re.MULTILINE)
    # rootwrap's daemon ends when it was asked for nothing for ten minutes: sudo remembers it.
    said = cloud.controller.out("journalctl -b --no-pager -t sudo")
    assert re.search(
        r"neutron : .*USER=root ; COMMAND=\S*neutron-rootwrap-daemon /etc/neutron/", said
    )
    for node in cloud.nodes.values():
        node.run("visudo -c")
        for service in set(SERVICES) & set(node.out("ls /etc").split()):
            assert not node.out(f"runuser -u {service} -- {FIND_WRITABLE.format(service)}")
        for service in ("nova", "neutron"):
            rootwrap = f"sudo -n {service}-rootwrap /etc/{service}/rootwrap.conf"
            refused = node.run(f"runuser -u {service} -- {rootwrap} cat /etc/shadow", check=False)
            assert refused.returncode != 0
            assert "Unauthorized command" in refused.stdout + refused.stderr


def test_provider_servers_answer(cloud: Cloud) -> None:
    """Without DHCP: their addresses are from the config drive."""
    hosts = {s["Name"]: s["Host"] for s in cloud.json("server list --long")}
    assert hosts == {"direct-controller": "controller", "direct-compute1": "compute1"}
    for name in hosts:
        address = cloud.address(name, "provider")
        cloud.wait_for_page(address, f"{name}.")
        assert cloud.pings(address)
        log = cloud.openstack(f"console log show {name}")
        assert f"{address} static" in log
        assert DISK_TEXT.strip() in log


def test_a_server_whose_interface_goes_down_answers_again(cloud: Cloud) -> None:
    """As it does where Open vSwitch and libvirt write the flags of one at the same time."""
    for tap in cloud.compute.out("ls /sys/class/net | grep ^tap").split():
        cloud.compute.run(f"ip link set {tap} down")
    cloud.wait_for_page(cloud.address("direct-compute1", "provider"), "direct-compute1.")


def test_project_server_answers_at_its_floating_address(cloud: Cloud) -> None:
    address = cloud.web()
    assert address.startswith("203.0.113.")
    cloud.wait_for_page(address, "web.")
    assert cloud.pings(address)
    wait_until(
        "metadata",
        lambda: "guest metadata: web" in cloud.openstack("console log show web", "demo"),
        120,
        2,
    )


def test_volume_is_written_in_the_guest(cloud: Cloud) -> None:
    address = cloud.web()
    cloud.wait_for_page(address, "kept-words", "cgi-bin/write?kept-words")
    (volume,) = cloud.share.glob("volume-*")
    with volume.open("rb") as data:
        assert b"kept-words" in data.read(512)
    cloud.openstack("server remove volume web data", "demo")
    wait_until("the volume to be free", lambda: cloud.volume("data") == "available", 300, 1)
    assert "vdb" not in cloud.page(address, "cgi-bin/disks")
    cloud.openstack("volume delete data", "demo")
    wait_until("the volume's end", lambda: not list(cloud.share.glob("volume-*")), 300, 1)


def test_stopping_agents_leaves_their_work_alone(cloud: Cloud) -> None:
    """dnsmasq, haproxy, servers, and the directories of what goes on."""
    count = "pgrep -c dnsmasq; pgrep -c haproxy; pgrep -c qemu-system"
    directories = "ls -d /run/nova /run/lock/nova /run/neutron /run/lock/neutron"
    before = {name: node.run(count, check=False).stdout for name, node in cloud.nodes.items()}
    assert "0" not in before["controller"].split()
    for name, node in cloud.nodes.items():
        kept = node.out(directories)
        node.run(f"systemctl stop {shlex.join(set(AGENTS) & set(units(node)))}")
        assert node.run(count, check=False).stdout == before[name]
        assert node.out(directories) == kept
    assert "web." in cloud.page(cloud.web())


def test_everything_stops_in_its_time(cloud: Cloud) -> None:
    """Nothing is cut off by systemd; and the servers' network goes on."""
    address = cloud.web()
    for name, node in cloud.nodes.items():
        node.run(f"systemctl stop {shlex.join(units(node))}")
        for unit, state in units(node).items():
            assert state["Result"] == "success", f"{name}: {unit} ended by {state['Result']}"
    assert "web." in cloud.page(address)
    each(
        cloud.nodes, lambda node: node.run(f"systemctl start --no-block {shlex.join(units(node))}")
    )
    each(cloud.nodes, wait_for_units)
    wait_for_agents(cloud)


def test_every_daemon_comes_back_after_a_kill(cloud: Cloud) -> None:
    each(cloud.nodes, kill_daemons)
    wait_for_agents(cloud)
    assert "web." in cloud.page(cloud.web())


def test_everything_in_one_neutron_conf_is_the_same_cloud(cloud: Cloud) -> None:
    def agents() -> dict[tuple[str, str], object]:
        shown = {}
        for row in cloud.json("network agent list"):
            details = cloud.json(f"network agent show {row['ID']}")["configuration"]
            details = {k: v for k, v in details.items() if not isinstance(v, int)}
            shown[row["Binary"], row["Host"]] = details
        return shown

    def merge(node: Node) -> None:
        node.run(
            "cd /etc/neutron && cat neutron.conf.d/*.conf >>neutron.conf && rm neutron.conf.d/*"
            " && for f in $(find . -name '*.ini' ! -name '*paste*' ! -name '*uwsgi*'); do"
            " : >$f; done; systemctl restart 'neutron-*'"
        )
        wait_for_units(node)

    before = agents()
    assert before["neutron-openvswitch-agent", "compute1"]["tunnel_types"] == ["vxlan"]
    each(cloud.nodes, merge)
    wait_for_agents(cloud)
    assert agents() == before


def test_server_that_is_moved_about_answers_and_leaves_nothing(cloud: Cloud) -> None:
    """The document resized `worker`; the merged configuration creates its ports again."""
    address = cloud.json("floating ip create provider", "demo")["floating_ip_address"]
    cloud.openstack(f"server add floating ip worker {address}", "demo")
    cloud.openstack("server stop worker", "demo")
    wait_until("worker to stop", lambda: cloud.status("worker") == "SHUTOFF", 150, 2)
    cloud.openstack("server start worker", "demo")
    wait_until("worker to start", lambda: cloud.status("worker") == "ACTIVE", 150, 2)
    cloud.wait_for_page(address, "worker.")
    identity = cloud.json("server show worker", "demo")["id"]
    host = cloud.json(f"server show {identity}")["OS-EXT-SRV-ATTR:host"]
    (other,) = set(cloud.nodes) - {host}
    cloud.openstack(f"server migrate --wait --host {other} {identity}")
    cloud.openstack(f"server migration confirm {identity}")
    cloud.wait_for_page(address, "worker.")
    shown = cloud.json(f"server show {identity}")
    assert shown["OS-EXT-SRV-ATTR:host"] == other
    assert shown["flavor"]["name"] == "m1.micro"
    domain = shown["OS-EXT-SRV-ATTR:instance_name"]
    cloud.openstack("server delete --wait worker", "demo")
    cloud.openstack(f"floating ip delete {address}", "demo")
    assert cloud.json(f"port list --device-id {identity}") == []
    for node in cloud.nodes.values():
        assert domain not in node.out("virsh list --all --name").split()
        assert not node.out(f"find /var/lib/nova/instances -name '*{identity}*'")
        kept = set(node.out("virsh list --name").split())
        used = {t for d in kept for t in re.findall(r"tap\S+", node.out(f"virsh domiflist {d}"))}
        dhcp = set(node.out("for n in $(ip netns | cut -d ' ' -f 1); do ip -n $n -o link; done"
                            " | grep -o 'tap[^:@ ]*' || [ $? = 1 ]").split())  # fmt: skip
        wait_until(
            f"no port too many on {node.name}",
            lambda node=node, known=used | dhcp: (
                known == set(re.findall(r"tap\S+", node.out("ovs-vsctl list-ports br-int")))
            ),
            30,
            1,
        )


def test_a_volume_back_end_that_is_down_is_told(cloud: Cloud) -> None:
    """Its daemon runs, and says nothing for it: nobody could make a volume."""
    node, host = cloud.controller, cloud.controller.name
    drop_in = "/etc/cinder/cinder.conf.d/zz-test.conf"
    timing = "[DEFAULT]\nservice_down_time = 15\nreport_interval = 5\n"
    node.write(drop_in, f"{timing}[share]\nnfs_shares_config = /none\n")
    node.run(f"chgrp cinder {drop_in}; chmod 0640 {drop_in}; systemctl restart cinder-volume")
    status = "openstack-node status --quick cinder"
    wait_for(node, f"{status} | grep -q 'critical  heartbeat  cinder-volume on {host}@share'", 300)
    said = node.run(status, check=False)
    assert said.returncode == 2
    assert "its back end share is not usable: see journalctl -u cinder-volume" in said.stdout
    node.run(f"rm {drop_in}; systemctl restart cinder-volume")
    wait_for(node, status, 300)


def test_a_row_of_a_host_long_gone_keeps_an_upgrade_off(
    cloud: Cloud, repository: Repository
) -> None:
    """nova would not start beside it; a person is told before anything is done."""
    node, row = cloud.controller, "11111111-2222-4333-8444-555555555555"
    node.run("mysql nova", stdin=GONE.format(row=row))
    refused = node.run(f"openstack-node upgrade {repository.series} --yes", check=False)
    status = node.run("openstack-node status --quick nova", check=False)
    node.run("mysql nova", stdin=f"DELETE FROM services WHERE uuid = '{row}'")  # noqa: S608
    assert refused.returncode == 1
    assert f"row {row} of nova-compute on gone9 is too old:" in refused.stderr
    assert f"compute service delete {row}" in refused.stderr
    assert status.returncode == 1
    assert "warning   heartbeat  nova-compute on gone9: no report for" in status.stdout


def test_outage_of_database_and_broker_is_waited_out(cloud: Cloud) -> None:
    node = cloud.controller
    node.run("systemctl stop mariadb rabbitmq-server")
    before = int(node.out("du -sbc /var/log | tail -n 1 | cut -f 1"))
    # Where neutron-server.service is no daemon it restarts its parts, which are named themselves.
    names = " ".join(u for u, s in units(node).items() if s["Type"] != "oneshot")
    node.run(f"systemctl restart --no-block {names}; sleep {SETTLE_SECONDS}")
    for unit, state in units(node).items():
        assert state["ActiveState"] != "failed", unit
        assert int(state["NRestarts"]) <= SETTLE_SECONDS // 10 + 1, unit
    grown = int(node.out("du -sbc /var/log | tail -n 1 | cut -f 1")) - before
    assert grown < MOST_LOG
    said = node.run("openstack-node status --quick", check=False)
    assert said.returncode == 2
    assert "mariadb" in said.stdout.lower() or "database" in said.stdout.lower()
    node.run("systemctl start mariadb rabbitmq-server")
    each(cloud.nodes, wait_for_units)
    wait_for_agents(cloud, 300)
    assert "web." in cloud.page(cloud.web())


WRONG = {
    "glance": "[database]\nconnection = mysql+pymysql://glance:nonsense@controller/glance\n",
    "placement": "[placement_database]\nconnection = mysql+pymysql://p:p@nowhere.invalid/p\n",
    "cinder": "[database]\nconection = x\n",
}
TOLD = {"glance": "password", "placement": "nowhere.invalid", "cinder": "conection"}


@pytest.mark.parametrize("service", sorted(WRONG))
def test_wrong_setting_is_told(cloud: Cloud, service: str) -> None:
    path = f"/etc/{service}/{service}.conf.d/zz-wrong.conf"
    cloud.controller.write(path, WRONG[service])
    try:
        done = cloud.controller.run(f"openstack-node status {service}", check=False)
    finally:
        cloud.controller.run(f"rm {path}")
    assert done.returncode in (1, 2)
    assert TOLD[service] in done.stdout


def test_compute_host_without_placement_is_told(cloud: Cloud) -> None:
    node = cloud.compute
    path = "/etc/nova/nova.conf.d/cloud.conf"
    text = node.read(path)
    node.write(path, re.sub(r"\[placement\][^\[]*", "", text))
    try:
        done = node.run("openstack-node status nova", check=False)
    finally:
        node.write(path, text)
    assert done.returncode != 0
    assert "[placement]" in done.stdout


def test_no_password_can_be_read_by_others(cloud: Cloud) -> None:
    """Not in a file all users may read, not in a process list, not in a log."""
    patterns = "".join(f"{secret}\n" for secret in secrets(cloud))
    for node in cloud.nodes.values():
        node.write("/root/patterns", patterns)
        places = "/etc /run /tmp /usr/share /var/lib /var/log"
        grep = f"runuser -u nobody -- grep -rlsFf /dev/stdin {places}"
        readable = node.run(f"{grep} </root/patterns", check=False)
        assert readable.stdout == ""
        logs = node.run("grep -rlsFf /root/patterns /var/log", check=False)
        assert logs.stdout == ""
        journal = node.run("journalctl -b --no-pager | grep -cFf /root/patterns", check=False)
        assert journal.stdout.strip() == "0"
        processes = node.run(
            "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -cFf /root/patterns", check=False
        )
        assert processes.stdout.strip() == "0"


def test_keystone_without_bootstrap_is_told(cloud: Cloud) -> None:
    node, path = cloud.controller, "/etc/keystone/keystone.conf.d/zz-empty.conf"
    node.run("mariadb -e 'CREATE DATABASE empty; GRANT ALL ON empty.* TO keystone'")
    used = re.search(r"connection = \S+", node.read("/etc/keystone/keystone.conf.d/cloud.conf"))
    assert used
    node.run(f"install -m 0640 -g keystone /dev/stdin {path}",
             stdin=f"[database]\n{used[0].rpartition('/')[0]}/empty\n")  # fmt: skip
    try:
        node.run("su -s /bin/sh -c 'keystone-manage db_sync' keystone")
        done = node.run("openstack-node status --quick keystone", check=False)
        failed = node.run("openstack-node setup --no-start keystone", check=False)
    finally:
        node.run(f"rm {path}; mariadb -e 'DROP DATABASE empty'")
    assert done.returncode == 2
    assert "bootstrap" in done.stdout
    assert failed.returncode == 1
    assert "OS_BOOTSTRAP_PASSWORD" in failed.stdout + failed.stderr


def test_a_document_that_says_not_where_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.md"
    text.write_text("# A\n\n```sh\ntrue\n```\n")
    with pytest.raises(document.DocumentError, match=r"a.md:4"):
        document.read(text)


def test_a_command_that_fails_stops_the_document(cloud: Cloud) -> None:
    block = document.Block("Nothing", 1, ("compute1",), "false\ntrue\n")
    with pytest.raises((document.DocumentError, NodeError), match="line 1 on compute1"):
        document.run([block], cloud.nodes)


def test_reboot_brings_everything_back(cloud: Cloud) -> None:
    # One after the other, here: a node ends with the thread that booted it.
    for node in cloud.nodes.values():
        node.reboot(settled=False)
    each(cloud.nodes, wait_for_units)
    wait_for_agents(cloud)
    # Its host was powered off below it: whatever nova takes it for now.
    cloud.reboot_hard("web", "demo")
    cloud.wait_for_page(cloud.web(), "web.")


def test_tempest_finds_no_fault_of_ours(
    cloud: Cloud, repository: Repository, tmp_path: Path
) -> None:
    """What there is always time for; `make prove CELL=tempest` runs a thousand tests."""
    tempest = tempest_run.Tempest(cloud, repository, tmp_path)
    assert tempest_run.unexpected(tempest, tempest.run(tempest.for_ci())) == ""


def test_the_whole_cloud_goes_behind_tls(cloud: Cloud) -> None:
    """docs/tls.md, every block on every node; then all services have to talk to each other."""
    document.run(document.read(DOCS / "tls.md"), cloud.nodes)
    each(cloud.nodes, wait_for_units)
    wait_for_agents(cloud)
    urls = cloud.openstack("endpoint list -f value -c URL").splitlines()
    assert len(urls) == 3 * len(set(SERVICES) & set(cloud.controller.out("ls /etc").split()))
    assert all(url.startswith("https://controller:") for url in urls)
    cloud.openstack(
        "server create --wait --image server --flavor m1.nano --network provider"
        " --security-group web --config-drive True --host compute1 secured"
    )
    cloud.wait_for_page(cloud.address("secured", "provider"), "secured.")
    cloud.openstack("volume create --size 1 secured", "demo")
    wait_until("the volume", lambda: cloud.volume("secured") == "available", 300, 1)
    cloud.openstack("volume delete secured", "demo")


def test_deleting_everything_leaves_no_server(cloud: Cloud) -> None:
    cloud.openstack("server delete --wait web", "demo")
    cloud.openstack("server delete --wait direct-controller direct-compute1 secured")
    for node in cloud.nodes.values():
        assert node.out("virsh list --all --name") == ""
        left = node.out("find /var/lib/nova/instances -mindepth 1 -maxdepth 1 -type d").split()
        assert {Path(p).name for p in left} <= {"_base", "locks"}
