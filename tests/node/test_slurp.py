"""A node with keystone and cinder goes from one SLURP release to the next, in one step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cloud import change_suite, complaints
from test_faults import NEW, UPGRADE, arrived, install

if TYPE_CHECKING:
    from collections.abc import Callable

    from repository import Repository

SLURP = "2025.1"


def test_a_slurp_release_goes_to_the_next(lab, published: Callable[[str, str], Repository]) -> None:
    """By plain apt, and the command for what apt cannot do."""
    node = lab.node("slurp", address="10.0.0.12")
    install(node, published("bookworm", SLURP))
    plan = node.out(f"openstack-node plan {NEW}")
    assert plan.startswith(f"{SLURP} to {NEW}: ")
    assert re.search(r"^keystone .*:27\..* to .*:29\.", plan, re.MULTILINE)
    change_suite(node, SLURP, published("bookworm", NEW).series)
    node.run(UPGRADE, seconds=1800)
    behind = [c["text"] for c in complaints(node) if c["kind"] == "database"]
    assert any("keystone" in text for text in behind)
    arrived(node)
    node.run("apt-get autoremove -y --purge")
    assert not node.succeeds(f"test -e /usr/lib/openstack/{SLURP}")
    assert [c for c in complaints(node) if c["kind"] != "configuration"] == []
