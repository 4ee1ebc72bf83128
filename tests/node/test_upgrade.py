"""A cloud on two nodes moves along a chain of series, and stays the cloud it was.

The first step is a rolling one by `openstack-node`: the controller one service at a time,
with a way back, then the compute node. The second is plain apt on a node that defers
restarts. The tests share the cloud and run in order.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cloud import (
    Cloud,
    change_suite,
    complaints,
    each,
    install_blocks,
    look,
    running,
    units,
    wait_for_agents,
    wait_for_units,
)
from records import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Node

ALONE = ("keystone", "glance", "placement")


@dataclass
class Trip:
    """The cloud on its way: the series it came by, and what it held at first."""

    cloud: Cloud
    series: tuple[str, ...]
    held: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def controller(self) -> Node:
        return self.cloud.controller


@pytest.fixture(scope="module")
def trip(request, published, tmp_path_factory) -> Iterator[Trip]:
    series = tuple(request.config.getoption("--chain").split(","))
    suites = [published("bookworm", one) for one in series]
    with running(suites[0], install_blocks(series[0]), tmp_path_factory.mktemp("cloud")) as cloud:
        yield Trip(cloud, series)


@pytest.fixture
def proven(request, trip) -> Callable[[str, tuple[str, ...]], None]:
    """Note in the table that a pair passed, where nothing failed before."""

    def note(way: str, pair: tuple[str, ...]) -> None:
        if not request.session.testsfailed:
            record(*pair, way, trip.notes)

    return note


def images_come_back(cloud: Cloud) -> None:
    for image in ("kernel", "ramdisk", "server"):
        cloud.openstack(f"image save --file /root/back {image}")
        cloud.controller.run(f"cmp /root/back /root/guest/{image}; rm /root/back")


def a_server_boots(cloud: Cloud, host: str) -> None:
    """A new server on a host answers, and goes again."""
    cloud.openstack(
        "server create --wait --image server --flavor m1.nano --network provider"
        f" --security-group web --config-drive True --host {host} fresh"
    )
    cloud.wait_for_page(cloud.address("fresh", "provider"), "fresh.")
    cloud.openstack("server delete --wait fresh")


def series_of(node: Node) -> dict[str, str]:
    """Return the series of each service installed on a node."""
    files = "/usr/share/openstack-node/services/*[a-z].json"
    text = node.out(f"grep -H '\"series\"' {files} | grep -v options")
    return {
        Path(p).stem: s for p, s in re.findall(r'^(\S+): *"series": "(\S+)"', text, re.MULTILINE)
    }


def trees(node: Node) -> dict[str, set[str]]:
    """Return the series whose code each of our units with a process runs with."""
    found = {}
    for unit, state in units(node).items():
        if state["MainPID"] == "0":  # what cleans up once after a boot
            continue
        maps = (
            f"cat /proc/{state['MainPID']}/maps /proc/{state['MainPID']}/cmdline | tr '\\0' '\\n'"
        )
        found[unit] = set(
            node.out(f"{maps} | grep -aoP '/usr/lib/openstack/\\K[^/]+' | sort -u").split()
        )
    return found


def foreign(node: Node) -> str:
    """Return what dpkg finds changed of packages that are not of our repository."""
    theirs = "dpkg-query -W -f '${Package} ${Maintainer}\\n' | grep -v build-debs | cut -d ' ' -f 1"
    return node.run(f"dpkg --verify $({theirs})", check=False).stdout


@contextmanager
def pinging(cloud: Cloud, address: str) -> Iterator[list[int]]:
    """Ping a server all the while; the list gets how many were sent and how many answered."""
    argv = ["ip", "netns", "exec", cloud.lab.tag, "ping", "-i", "0.5", "-W", "30", "-q", address]
    counts: list[int] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as ping:
        try:
            yield counts
            time.sleep(5)  # for the last answers of a busy machine
        finally:
            ping.send_signal(signal.SIGINT)
            said, _ = ping.communicate(timeout=60)
    counts += map(int, re.findall(r"(\d+) (?:packets transmitted|received)", said))


def upgrade(node: Node, series: str, words: str = "") -> str:
    return node.out(f"openstack-node upgrade {series} --yes {words}", seconds=1800)


def settled(cloud: Cloud) -> None:
    each(cloud.nodes, wait_for_units)
    wait_for_agents(cloud)


# -- a rolling upgrade, one service at a time


def test_the_cloud_is_there(trip: Trip) -> None:
    settled(trip.cloud)
    trip.cloud.wait_for_page(trip.cloud.web(), "kept-words", "cgi-bin/write?kept-words")
    for name in ("direct-controller", "direct-compute1"):
        trip.cloud.wait_for_page(trip.cloud.address(name, "provider"), f"{name}.")
    trip.held = look(trip.cloud)
    assert trip.held.count("direct-compute1") == 1


def test_a_plan_and_a_dry_run_change_nothing(trip: Trip) -> None:
    node, new = trip.controller, trip.series[1]
    state = "dpkg-query -W; find /etc -newer /root/before; ls -lR /var/lib/apt/lists"
    node.run("touch /root/before")
    before = node.out(state)
    plan = node.out(f"openstack-node plan {new}")
    for service in ("keystone", "glance", "placement", "nova", "neutron", "cinder"):
        assert re.search(rf"^{service} .* to ", plan, re.MULTILINE)
    assert "restart   nova-conductor.service" in plan
    steps = node.out(f"openstack-node upgrade {new} --dry-run")
    assert steps.index("placement-manage db sync") < steps.index("nova-manage db sync")
    assert re.search(r"restart nova-conductor.* nova-api\.service", steps)
    assert node.out(state) == before


def test_an_upgrade_upstream_does_not_support_is_refused(trip: Trip, published) -> None:
    far = published("bookworm", "2026.1").series
    done = trip.controller.run(f"openstack-node plan {far}", check=False)
    if trip.series[0] in ("2025.1", "2025.2"):  # from these it is supported
        assert done.returncode == 0
    else:
        assert done.returncode == 1
        assert "upstream supports no upgrade" in done.stderr


def test_services_move_alone_while_servers_answer(trip: Trip) -> None:
    """keystone, glance and placement are of the new series, nova and neutron of the old."""
    cloud, (old, new, *_) = trip.cloud, trip.series
    with pinging(cloud, cloud.address("direct-compute1", "provider")) as counts:
        for number, service in enumerate(ALONE, 1):
            start = time.monotonic()
            upgrade(trip.controller, new, f"--reversible {service}")
            trip.notes[service] = f"{time.monotonic() - start:.0f} s"
            moved = dict.fromkeys(ALONE[:number], new)
            wanted = {**dict.fromkeys(series_of(trip.controller), old), **moved}
            assert series_of(trip.controller) == wanted
            settled(cloud)
            images_come_back(cloud)
            a_server_boots(cloud, "compute1")
    assert counts[0] == counts[1] > 0


def test_a_service_goes_back_while_its_schema_allows_it(trip: Trip) -> None:
    cloud, (old, new, *_) = trip.cloud, trip.series
    trip.controller.run("openstack-node rollback keystone")
    assert series_of(trip.controller)["keystone"] == old
    assert trees(trip.controller)["keystone.service"] == {old}
    cloud.openstack("token issue")
    # Debian may have updates of its own; from our suites nothing comes at night.
    said = trip.controller.out("apt-get --simulate full-upgrade").splitlines()
    assert [line for line in said if line.startswith("Inst ") and f"-{new} " in line] == []
    upgrade(trip.controller, new, "--reversible keystone")
    assert trees(trip.controller)["keystone.service"] == {new}


def test_a_service_does_not_go_back_behind_what_it_could_read(trip: Trip) -> None:
    """A revision nobody here knows stands for one that took a column away."""
    node = trip.controller
    change = "UPDATE keystone.alembic_version SET version_num = '%s' WHERE version_num = '%s'"
    (head,) = re.findall(r"^\w+$", node.out("mariadb -N -e 'SELECT version_num FROM"
        " keystone.alembic_version LIMIT 1'"), re.MULTILINE)  # fmt: skip
    node.run(f'mariadb -e "{change % ("f00d", head)}"')
    try:
        done = node.run("openstack-node rollback keystone", check=False)
    finally:
        node.run(f'mariadb -e "{change % (head, "f00d")}"')
    assert done.returncode == 1
    assert "has moved past" in done.stderr
    assert series_of(node)["keystone"] == trip.series[1]


# The worst moment: systemd goes on with the restart, and nobody waits for its end.
KILLED = """
openstack-node upgrade %s --yes --reversible &
until systemctl show --property=ActiveState nova-conductor | grep -qx ActiveState=deactivating
do kill -0 $! || exit; sleep 0.1
done
kill -KILL $!
wait $!
"""


def test_an_upgrade_goes_on_after_it_was_killed(trip: Trip) -> None:
    """The rest of the controller, killed as a daemon goes down, while servers answer."""
    cloud, new = trip.cloud, trip.series[1]
    with pinging(cloud, cloud.address("direct-compute1", "provider")) as counts:
        killed = trip.controller.run(KILLED % new, check=False)
        assert killed.returncode == 128 + signal.SIGKILL, "it ended before it could be killed"
        said = upgrade(trip.controller, new, "--reversible")
        assert "already done" in said
        settled(cloud)
    assert set(series_of(trip.controller).values()) == {new}
    assert {u: t for u, t in trees(trip.controller).items() if t != {new}} == {}
    assert counts[0] == counts[1] > 0


def test_an_old_compute_node_boots_servers_for_a_new_controller(trip: Trip) -> None:
    cloud, (old, new, *_) = trip.cloud, trip.series
    assert set(series_of(cloud.compute).values()) == {old}
    a_server_boots(cloud, "compute1")
    a_server_boots(cloud, "controller")
    with pinging(cloud, cloud.address("direct-compute1", "provider")) as counts:
        upgrade(cloud.compute, new)
        settled(cloud)
    trip.notes["ping lost while compute1 moved"] = str(counts[0] - counts[1])
    a_server_boots(cloud, "compute1")
    assert set(series_of(cloud.compute).values()) == {new}


def test_the_upgrade_is_brought_to_its_end(trip: Trip, proven) -> None:
    cloud, new = trip.cloud, trip.series[1]
    upgrade(trip.controller, new)
    for node in cloud.nodes.values():
        node.run("apt-get autoremove -y --purge")
        assert not node.succeeds(f"test -e /usr/lib/openstack/{trip.series[0]}")
        assert not node.succeeds("test -e /etc/apt/preferences.d/openstack-node.pref")
        node.run(f"apt-get purge -y openstack-{trip.series[0]}-archive; apt-get update")
    each(cloud.nodes, lambda n: n.run("openstack-node setup"))
    settled(cloud)
    for node in cloud.nodes.values():
        assert all(t == {new} for t in trees(node).values())
        assert complaints(node) == []
    proven("rolling, openstack-node", trip.series[:2])


def test_it_is_the_same_cloud(trip: Trip) -> None:
    assert look(trip.cloud) == trip.held
    images_come_back(trip.cloud)
    assert "kept-words" in trip.cloud.page(trip.cloud.web(), "cgi-bin/read")
    a_server_boots(trip.cloud, "controller")


# -- plain apt


def test_plain_apt_asks_nothing_and_moves_no_database(trip: Trip) -> None:
    node, (_, old, new) = trip.controller, trip.series
    node.run("sed -i 's/^#debug = false/debug = false\\n# mine/' /etc/cinder/cinder.conf")
    mine, theirs = node.read("/etc/cinder/cinder.conf"), node.read("/etc/nova/nova.conf")
    before, revisions = foreign(node), all_revisions(node)
    change_suite(node, old, new)
    start = time.monotonic()
    node.run("apt-get full-upgrade -y </dev/null", seconds=1800)
    trip.notes = {"full-upgrade": f"{time.monotonic() - start:.0f} s"}
    assert set(series_of(node).values()) == {new}
    assert all_revisions(node) == revisions
    assert foreign(node) == before
    assert node.read("/etc/cinder/cinder.conf") == mine
    assert "# mine" not in node.read("/etc/cinder/cinder.conf.ucf-dist")
    assert node.read("/etc/nova/nova.conf") != theirs


def all_revisions(node: Node) -> dict[str, str]:
    """Return the revision of every database."""
    tables = "SELECT table_schema FROM information_schema.tables WHERE table_name = '%s'"
    names = node.out("mariadb -N", stdin=tables % "alembic_version").split()
    look = "SELECT version_num FROM alembic_version ORDER BY 1"
    return {name: node.out(f"mariadb -N {name}", stdin=look) for name in names}


def where(finding: dict[str, str]) -> str:
    """Return the file of the unit a finding is about."""
    return f"/lib/systemd/system/{finding['name']}"


def test_new_code_waits_for_its_schema_and_the_old_goes_on(trip: Trip) -> None:
    node, (_, old, new) = trip.controller, trip.series
    found = complaints(node)
    behind = {f["text"] for f in found if f["kind"] == "database"}
    assert behind, "no database is behind: nothing is proven"
    waiting = [f for f in found if f["kind"] == "unit"]
    assert {"needs a restart" in f["text"] for f in waiting} == {True}
    for unit, tree in trees(node).items():
        assert tree == ({old} if unit in {f["name"] for f in waiting} else {new}), unit
    settled(trip.cloud)
    a_server_boots(trip.cloud, "compute1")
    # others of the service do not look at it, and only wait for those that do
    gated = [f["name"] for f in waiting if node.succeeds(f"grep -q schema-gate {where(f)}")]
    unit = gated[-1]
    node.run(f"systemctl restart {unit}")
    assert "behind the code" in node.run(f"systemctl status {unit}", check=False).stdout
    said = node.run("openstack-node status --quick", check=False)
    assert said.returncode == 2
    assert f"{unit}: not started: the database" in said.stdout


def test_one_command_brings_the_databases_after_plain_apt(trip: Trip) -> None:
    cloud, (_, _, new) = trip.cloud, trip.series
    start = time.monotonic()
    upgrade(trip.controller, new)
    trip.notes["upgrade"] = f"{time.monotonic() - start:.0f} s"
    settled(cloud)
    assert all(t == {new} for t in trees(trip.controller).values())
    assert complaints(trip.controller) == []


def test_restarts_wait_for_the_administrator(trip: Trip) -> None:
    node, (_, old, new) = trip.cloud.compute, trip.series
    node.write("/etc/default/openstack-node", "RESTARTS=defer\n")
    change_suite(node, old, new)
    node.run("apt-get full-upgrade -y </dev/null", seconds=1800)
    assert set(series_of(node).values()) == {new}
    assert all(t == {old} for t in trees(node).values())
    listed = {f["name"] for f in complaints(node) if "needs a restart" in f["text"]}
    assert listed == set(trees(node))
    a_server_boots(trip.cloud, "compute1")
    assert "nova-compute.service ... restarted" in node.out("openstack-node restart")
    settled(trip.cloud)
    assert all(t == {new} for t in trees(node).values())
    assert complaints(node) == []


def test_it_is_the_same_cloud_still(trip: Trip, proven) -> None:
    for node in trip.cloud.nodes.values():
        node.run("apt-get autoremove -y --purge")
        assert not node.succeeds(f"test -e /usr/lib/openstack/{trip.series[1]}")
    settled(trip.cloud)
    assert look(trip.cloud) == trip.held
    images_come_back(trip.cloud)
    trip.cloud.wait_for_page(trip.cloud.web(), "kept-words", "cgi-bin/read")
    for host in ("controller", "compute1"):
        a_server_boots(trip.cloud, host)
    proven("plain apt", trip.series[1:])
