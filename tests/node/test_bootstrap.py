"""A node's first minute: the blocks of the documents that make it use the repository.

They are typed as they are written, by an administrator with a tight umask. `your.server` is
a name of the lab's web server here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import document
import pytest
from harness import GATEWAY, Node

if TYPE_CHECKING:
    from repository import Repository

CHECKOUT = Path(__file__).resolve().parents[2]
FIRST = "1. Every node: names and repository"
OURS = "find /etc/apt /usr/share/keyrings -name '*openstack*' | sort"
EVERYBODY = "runuser -u nobody --"


def fresh(lab, name: str, suite: str) -> Node:
    node = lab.node(name, suite)
    node.run(f"echo '{GATEWAY} your.server' >>/etc/hosts")
    node.write("/etc/apt/apt.conf.d/91direct", 'Acquire::http::Proxy::your.server "DIRECT";\n')
    return node


@pytest.fixture(scope="module")
def node(lab) -> Node:
    return fresh(lab, "fresh", "bookworm")


def run(node: Node, blocks: list[document.Block], umask: str) -> None:
    assert blocks
    lines = [replace(b, nodes=(node.name,), text=f"umask {umask}\n{b.text}") for b in blocks]
    document.run(lines, {node.name: node})


def update(node: Node) -> str:
    """Fetch the lists, as every night; apt neither warns nor fails."""
    done = node.run("apt-get update --error-on=any 2>&1")
    assert "W: " not in done.stdout, done.stdout
    return done.stdout


def assert_used(node: Node, repository: Repository, uri: str) -> None:
    """All users' apt takes packages from `uri` and from Debian, and has one source of ours."""
    assert f"{uri} {repository.suite}" in update(node)
    assert node.succeeds(f"dpkg -s {repository.archive}")
    policy = node.out(f"{EVERYBODY} apt-cache policy {repository.archive} keystone 2>&1")
    assert f"{uri} {repository.suite}/main" in policy
    assert "W: " not in policy
    assert repository.stanzas["keystone"]["Version"] in policy.split("Candidate: ")[2]
    named = node.out("apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | sort -u")
    assert len(named.splitlines()) == len(set(named.splitlines()))
    files = node.out(f"grep -rl {repository.suite} /etc/apt/sources.list*").splitlines()
    assert files == [repository.source]


def purge(node: Node, repository: Repository) -> None:
    node.run(f"apt-get purge -y {repository.archive}")
    assert node.out(OURS) == ""
    update(node)


def test_the_readme_installs_keystone(node: Node, repository: Repository) -> None:
    blocks = document.section(CHECKOUT / "README.md", "Using the repository", node.name)
    run(node, blocks, "027")
    assert_used(node, repository, "http://your.server")
    assert node.succeeds("dpkg -s keystone")
    node.run("apt-get purge -y keystone && apt-get autoremove -y --purge")
    purge(node, repository)


def test_the_repository_says_how_it_is_used(node: Node, repository: Repository) -> None:
    blocks = document.section(CHECKOUT / "repo/README.md", "Use it on a node", node.name)
    for block, uri in zip(blocks, ("http://your.server", "file:/srv/repo"), strict=True):
        run(node, [block], "077")
        assert_used(node, repository, uri)
        purge(node, repository)


def test_what_a_person_changed_stays_until_the_purge(node: Node, repository: Repository) -> None:
    script, pin = (
        f"sh /srv/repo/{repository.suite}.sh",
        f"/etc/apt/preferences.d/openstack-{repository.series}.pref",
    )
    install = f"apt-get install -y {repository.archive} </dev/null"
    node.run(f"{script} && apt-get update && {install}")
    node.run(
        f"sed -i 's/^Types: .*/Types: deb/' {repository.source}; echo 'Explanation: mine' >>{pin}"
    )
    held = node.out(f"cat {repository.source} {pin}")
    node.run(f"{install} --reinstall")
    assert node.out(f"cat {repository.source} {pin}") == held
    # Without the package there is no key: apt must not be asked for it.
    node.run(f"apt-get remove -y {repository.archive}")
    assert repository.suite not in update(node)
    node.run(f"apt-get install -y /srv/repo/{repository.file(repository.archive)}")
    assert node.out(f"cat {repository.source} {pin}") == held
    assert_used(node, repository, "file:/srv/repo")
    # What was deleted does not come back.
    node.run(f"rm {repository.source} && apt-get update")
    node.run(f"dpkg-reconfigure {repository.archive}")
    assert not node.succeeds(f"test -e {repository.source}")
    purge(node, repository)


def test_a_source_of_ones_own_is_the_only_one(node: Node, repository: Repository) -> None:
    """Another key for the suite in a second source would be the end of every apt command."""
    mine = "/etc/apt/sources.list.d/mine.list"
    node.run(
        f"install -m 644 /srv/repo/{repository.suite}.asc /etc/apt/keyrings.asc &&"
        " echo 'deb [signed-by=/etc/apt/keyrings.asc] http://your.server"
        f" {repository.suite} main' >{mine}"
    )
    node.run(f"apt-get update && apt-get install -y {repository.archive}")
    assert not node.succeeds(f"test -e {repository.source}")
    refused = node.run(f"sh /srv/repo/{repository.suite}.sh", check=False)
    assert (refused.returncode, mine in refused.stderr) == (1, True)
    update(node)
    node.run(f"rm {mine}")
    purge(node, repository)


def test_the_install_document_begins_well(node: Node, repository: Repository) -> None:
    blocks = [b for b in document.read(CHECKOUT / "docs/install.md") if b.section == FIRST]
    run(node, blocks, "027")
    assert_used(node, repository, f"http://{GATEWAY}")
    purge(node, repository)


def test_so_does_the_one_of_pike(lab, published) -> None:
    pike = published("bullseye", "pike")
    node = fresh(lab, "fresh11", "bullseye")
    blocks = [b for b in document.read(CHECKOUT / "docs/install-pike.md") if b.section == FIRST]
    run(node, blocks, "027")
    assert_used(node, pike, f"http://{GATEWAY}")
    purge(node, pike)
    in_place = f"sh /srv/repo/{pike.suite}.sh\napt-get update\napt-get install -y {pike.archive}\n"
    run(node, [document.Block("in place", 1, (node.name,), in_place)], "077")
    assert_used(node, pike, "file:/srv/repo")
