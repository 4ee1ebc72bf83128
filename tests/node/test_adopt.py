"""A cloud of Debian's own packages moves to ours by docs/adopt.md, and stays the cloud it was.

Debian 12 has Zed, from which it is one step to 2023.1; Debian 13 has 2025.1, from which it is one
to 2026.1. The tests of each share a node and run in order: this takes half an hour each.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import debian_cloud
import document
import guest
import pytest
from cloud import Cloud, complaints, look, wait_for_agents, wait_for_units
from harness import Lab
from records import record
from test_upgrade import pinging, series_of, trees

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Node
    from repository import Repository

ADOPT = Path(__file__).resolve().parents[2] / "docs/adopt.md"
WAYS = {"bookworm": ("zed", "2023.1"), "trixie": ("2025.1", "2026.1")}
# What a person changed, of what Debian's packages leave.
CHANGED = ("/etc/placement/placement-api-uwsgi.ini", "/etc/neutron/rootwrap.conf")
# /etc/default/nova-consoleproxy selects another.
NOT_SELECTED = "nova-spicehtml5proxy.service"


@dataclass
class Move:
    """The cloud, where it comes from and goes to, what it held, and when its server was started."""

    cloud: Cloud
    old: str
    new: Repository
    held: str = ""
    started: float = 0

    @property
    def node(self) -> Node:
        return self.cloud.controller


@contextmanager
def running(target: str, new: Repository, share: Path) -> Iterator[Cloud]:
    tag = f"adopt-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    share.chmod(0o755)
    # A file system of its own: nova takes a directory of the same one for not mounted.
    with Lab(new.path, tag, options=(f"--bind={share}:/srv/share",)) as lab:
        node = lab.node("controller", target, address="10.0.0.11", provider=True)
        image = guest.build()
        files = {"kernel": image.kernel, "ramdisk": image.ramdisk, "server": image.disk}
        for name, file in files.items():
            node.push(file, "/root/guest")
            if file.name != name:
                node.run(f"mv /root/guest/{file.name} /root/guest/{name}")
        yield Cloud(lab, node, node, share)


@pytest.fixture(scope="module", params=WAYS)
def move(request, published, tmp_path_factory) -> Iterator[Move]:
    old, new = WAYS[request.param]
    suite = published(request.param, new)
    with running(request.param, suite, tmp_path_factory.mktemp("share")) as cloud:
        yield Move(cloud, old, suite)


def blocks(move: Move, number: int) -> list[document.Block]:
    """Return the blocks of a numbered section of the document, of this Debian's suite."""
    found = [
        replace(b, text=b.text.replace("bookworm-2023.1", move.new.suite))
        for b in document.read(ADOPT)
        if b.section.startswith(f"{number}. ")
    ]
    assert found
    return found


def follow(move: Move, number: int) -> str:
    said = document.run(blocks(move, number), {"controller": move.node})
    return "".join(said.values())


def packages(node: Node) -> set[str]:
    return set(node.out("dpkg-query -W -f '${Package}\\n'").split())


def page(move: Move, path: str = "") -> str:
    return move.cloud.page(move.cloud.address("one", "provider"), path)


def test_a_cloud_of_debians_packages_runs(move: Move) -> None:
    node = move.node
    node.run(f"apt-get update; apt-get install -y {debian_cloud.BESIDE}")
    debian_cloud.install(node, debian_cloud.PACKAGES)
    debian_cloud.identity_and_images(node)
    debian_cloud.compute(node)
    debian_cloud.shell(node, debian_cloud.SERVERS, seconds=1800)
    for path in CHANGED:
        node.run(f"echo '# mine' >>{path}")
    address = move.cloud.address("one", "provider")
    move.cloud.wait_for_page(address, "kept-words", "cgi-bin/write?kept-words")
    move.started = time.time() - float(page(move, "cgi-bin/uptime").split()[0])
    move.held = look(move.cloud)
    assert '\\"one\\"' in move.held


def test_what_the_move_would_do_is_shown_and_nothing_changed(move: Move) -> None:
    follow(move, 1)
    node = move.node
    state = "dpkg-query -W; find /etc -newer /root/before; ls -lR /var/lib/apt/lists"
    node.run("touch /root/before")
    before = node.out(state)
    said = follow(move, 2)
    for service in ("keystone", "glance", "placement", "nova", "neutron", "cinder"):
        assert re.search(rf"^{service}  {re.escape(move.old)}  ", said, re.MULTILINE)
        assert re.search(rf"^{service}  \S+ to \S+", said, re.MULTILINE)
        assert re.search(rf"^{service} +install the packages of", said, re.MULTILINE)
    assert node.out(state) == before


def test_the_cloud_moves_while_its_server_answers(move: Move) -> None:
    node, before = move.node, packages(move.node)
    start = time.monotonic()
    with pinging(move.cloud, move.cloud.address("one", "provider")) as counts:
        follow(move, 3)
    took = time.monotonic() - start
    assert set(series_of(node).values()) == {move.new.series}
    assert packages(node) >= before
    assert "Remove:" not in node.read("/var/log/apt/history.log")
    wait_for_units(node, but=NOT_SELECTED)
    wait_for_agents(move.cloud)
    notes = {"adopt": f"{took:.0f} s", "ping lost": str(counts[0] - counts[1])}
    record(f"{move.old} (Debian's)", move.new.series, "openstack-node adopt", notes)


def test_it_is_the_same_cloud(move: Move) -> None:
    assert look(move.cloud) == move.held
    assert "kept-words" in page(move, "cgi-bin/read")
    uptime = float(page(move, "cgi-bin/uptime").split()[0])
    assert abs(time.time() - uptime - move.started) < 60, "the server was started anew"
    for image in ("kernel", "ramdisk", "server"):
        move.cloud.openstack(f"image save --file /root/back {image}")
        move.node.run(f"cmp /root/back /root/guest/{image}; rm /root/back")


def test_every_daemon_runs_the_code_of_the_series(move: Move) -> None:
    wrong = {u: t for u, t in trees(move.node).items() if t != {move.new.series}}
    assert wrong == {}
    assert "/usr/bin/privsep-helper" not in move.node.out("ps -e -o args=")


def test_what_somebody_changed_is_kept(move: Move) -> None:
    for path in CHANGED:
        assert "# mine" in move.node.read(path)
    assert "/usr/lib/openstack/" in move.node.read("/etc/nova/rootwrap.conf")
    assert "\nvirt_type" in move.node.read("/etc/nova/nova-compute.conf")


def test_debians_names_of_units_are_those_of_ours(move: Move) -> None:
    node = move.node
    node.run("systemctl restart neutron-api neutron-rpc-server nova-novncproxy")
    wait_for_units(node, but=NOT_SELECTED)
    move.cloud.openstack("network list")


def test_new_servers_and_volumes_work(move: Move) -> None:
    cloud = move.cloud
    cloud.openstack(
        "server create --wait --image server --flavor m1.nano --network provider"
        " --security-group web --config-drive True fresh"
    )
    cloud.wait_for_page(cloud.address("fresh", "provider"), "fresh.")
    cloud.openstack("server delete --wait fresh")
    cloud.openstack("volume create --size 1 more")


def test_what_debian_left_goes_and_the_cloud_stays(move: Move) -> None:
    follow(move, 4)
    ours = set(move.new.installed(move.node))
    assert {"nova-compute", "nova-novncproxy", "neutron-server"} <= ours
    assert [c for c in complaints(move.node) if c["kind"] != "configuration"] == []


def test_it_comes_up_by_itself(move: Move) -> None:
    move.node.reboot(settled=False)
    wait_for_units(move.node, 600, but=NOT_SELECTED)
    wait_for_agents(move.cloud, 600)
    move.cloud.openstack("token issue")
