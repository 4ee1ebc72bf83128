"""The source packages: what the repository gives can be built again from it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from repository import HTTP_URI, Repository

if TYPE_CHECKING:
    from harness import Node


@pytest.fixture(scope="module")
def node(lab, repository: Repository) -> Node:
    node = lab.node("builder")
    repository.add_to(node, HTTP_URI)
    node.run("apt-get install -y --no-install-recommends dpkg-dev")
    return node


def test_source_builds_into_the_same_packages(node: Node, repository: Repository) -> None:
    node.run("mkdir /build && cd /build && apt-get source keystone")
    node.run("apt-get build-dep -y keystone", seconds=600)
    node.run("cd /build/keystone-*/ && dpkg-buildpackage -b -us -uc")
    built = sorted(node.out("cd /build && ls *.deb").splitlines())
    source = repository.stanzas["keystone"].get("Source", "keystone").split()[0]
    ours = [f for f in repository.stanzas.values() if f.get("Source", f["Package"]) == source]
    assert built == sorted(fields["Filename"].rpartition("/")[2] for fields in ours)
    for name in built:
        published = next(f["Filename"] for f in ours if f["Filename"].endswith(f"/{name}"))
        contents = "dpkg-deb -c {} | tr -s ' ' | cut -d ' ' -f 1,2,6-"
        here = node.out(contents.format(f"/build/{name}"))
        assert here == node.out(contents.format(f"/srv/repo/{published}"))


def test_build_debs_runs_from_its_package(node: Node, repository: Repository) -> None:
    node.run("apt-get install -y --no-install-recommends build-debs")
    assert node.out("build-debs --version").startswith("build-debs, version ")
    plan = node.out("cd /root && build-debs 2026.1 --dry-run").splitlines()
    planned = {row.split("\t")[1] for row in plan}
    # A plan has one row for all packages of a source.
    libraries = {
        name
        for name, fields in repository.stanzas.items()
        if name.startswith("openstack-2026.1-") and "Source" not in fields
    }
    assert {"keystone", "build-debs", *libraries} <= planned
    node.run("apt-get purge -y build-debs")
    node.run("test ! -e /usr/lib/openstack/2026.1/lib/python3*/site-packages/builder")
