"""Role packages and the package of the node's command: what is in them, and when they are."""

import ast
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from publishing import check_golden, sh
from values import BOOKWORM, GAZPACHO

from builder.catalogue import load as catalogue
from builder.debs import node, roles
from builder.model.service import narrow_roles

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "debian-templates"
CATALOGUE = catalogue.load(ROOT / "projects")
ORDER = catalogue.order_series(CATALOGUE)
NODE = node.MODULES


def names_of(series):
    """Return the packages of every service in a series."""
    found = {node.NAME, "openstackclient"}
    for service in CATALOGUE.services.values():
        if service.exists_in(series, ORDER):
            found |= {p.name for p in service.narrow_to_series(series, ORDER).packages}
    return found


def packages(series="2026.1", built=None):
    ours = {p.name for s in CATALOGUE.services.values() for p in s.packages}
    return roles.make_role_packages(
        narrow_roles(CATALOGUE.roles, series, ORDER),
        GAZPACHO,
        BOOKWORM,
        TEMPLATES,
        ours=ours | {node.NAME, "openstackclient"},
        built=names_of(series) if built is None else built,
    )


def build(package, output, revision=1):
    return package.build(output, revision=revision, epoch_seconds=1700000000)


def test_each_role_brings_what_it_says(tmp_path, request):
    for package in packages():
        deb = build(package, tmp_path)
        check_golden(request, f"roles/{package.name}", sh("dpkg-deb", "-f", deb))
        assert deb.name == f"{package.name}_2026.1-1+deb12.1_all.deb"


def test_a_role_does_not_bind_its_parts_together():
    for role in CATALOGUE.roles:
        assert not [r for r in role.depends if "(" in r]


@pytest.mark.parametrize(("series", "placement"), [("2025.1", True), ("rocky", False)])
def test_placement_is_where_the_series_has_it(series, placement):
    (role,) = [r for r in narrow_roles(CATALOGUE.roles, series, ORDER) if "controller" in r.name]
    assert ("placement-api" in role.depends) is placement
    assert ("nova-placement-api" in role.depends) is not placement


@pytest.mark.parametrize("series", ["ocata", "pike", "2026.1"])
def test_every_role_is_built_in_every_series(series):
    found = {p.name for p in packages(series)}
    kinds = ("controller", "network", "compute", "storage")
    assert found == {f"openstack-{kind}" for kind in kinds}


def test_servers_are_connected_with_what_the_guide_of_the_series_has():
    for series, agent in (("pike", "linuxbridge"), ("2026.1", "openvswitch")):
        for role in narrow_roles(CATALOGUE.roles, series, ORDER):
            firsts = {r.split()[0] for r in role.depends}
            agents = {r for r in firsts if re.match("neutron-(linux|open)", r)}
            wanted = (
                {f"neutron-{agent}-agent"} if role.name[10:] in {"compute", "network"} else set()
            )
            assert agents == wanted


def test_a_package_joins_the_roles_it_names():
    placement = CATALOGUE.services["placement"].narrow_to_series("2026.1", ORDER)
    first, *others = placement.packages
    named = replace(first, roles=("openstack-storage",))
    joined = replace(placement, packages=(named, *others))
    before = narrow_roles(CATALOGUE.roles, "2026.1", ORDER)
    after = narrow_roles(CATALOGUE.roles, "2026.1", ORDER, [joined])
    for old, new in zip(before, after, strict=True):
        more = ("placement-common",) if old.name == "openstack-storage" else ()
        assert new == replace(old, depends=(*old.depends, *more))


def test_a_role_is_left_out_where_one_of_its_parts_is_not_built():
    everything = names_of("2026.1")
    assert len(packages()) == len(narrow_roles(CATALOGUE.roles, "2026.1", ORDER))
    assert packages(built={"keystone", node.NAME, "openstackclient"}) == []
    found = {p.name for p in packages(built=everything - {"cinder-volume"})}
    assert "openstack-storage" not in found
    assert "openstack-compute" in found


def test_the_same_arguments_give_the_same_bits(tmp_path):
    for package in (*packages(), node.make_node_package(GAZPACHO, BOOKWORM, TEMPLATES, {})):
        debs = [build(package, tmp_path / name) for name in "ab"]
        assert len({hashlib.sha256(d.read_bytes()).hexdigest() for d in debs}) == 1
        stated = sh("dpkg-deb", "-f", debs[0], "Build-Inputs").strip()
        assert stated == package.hash_inputs()


def test_the_nodes_command_is_whole(tmp_path):
    deb = build(node.make_node_package(GAZPACHO, BOOKWORM, TEMPLATES, {}), tmp_path, revision=3)
    assert sh("dpkg-deb", "-f", deb, "Version").strip() == "2026.1-1+deb12.3"
    listing = sh("dpkg-deb", "-c", deb)
    assert re.search(r"^-rwxr-xr-x root/root .* \./usr/sbin/openstack-node$", listing, re.MULTILINE)
    assert "./usr/share/man/man8/openstack-node.8.gz" in listing
    for program in (
        "schema-gate",
        "start-gate",
        "start-units",
    ):  # units and maintainer scripts call them
        where = rf"\./usr/libexec/openstack-node/{program}"
        assert re.search(rf"^-rwxr-xr-x root/root .* {where}$", listing, re.MULTILINE)
    provided = sh("dpkg-deb", "-f", deb, "Provides").strip().split(", ")
    assert provided == [*node.FORMER, node.INTERFACE]
    for path in NODE.iterdir():
        if path.is_file():
            assert f"./usr/share/openstack-node/openstack_node/{path.name}" in listing


def test_its_inputs_change_with_a_module(tmp_path):
    modules = tmp_path / "openstack_node"
    sh("cp", "-r", NODE, modules)
    before = node.make_node_package(GAZPACHO, BOOKWORM, TEMPLATES, {}, modules).hash_inputs()
    assert before == node.make_node_package(GAZPACHO, BOOKWORM, TEMPLATES, {}).hash_inputs()
    with (modules / "cli.py").open("a") as module:
        module.write("# more\n")
    assert (
        node.make_node_package(GAZPACHO, BOOKWORM, TEMPLATES, {}, modules).hash_inputs() != before
    )


@pytest.mark.parametrize("path", sorted(NODE.glob("*.py")), ids=lambda p: p.name)
def test_the_oldest_targets_python_reads_it(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    assert not [c for c in uses for k in c.keywords if k.arg in {"slots", "kw_only", "strict"}]
