"""What the project files tell openstack-node, held against themselves in every series."""

import json
from pathlib import Path

import pytest
from nodeside import unit
from openstack_node import manifest as node
from openstack_node import system

from builder.catalogue import load as catalogue
from builder.debs.manifest import make_manifest

CATALOGUE = catalogue.load(Path(__file__).parents[3] / "projects")
ORDER = catalogue.order_series(CATALOGUE)
CASES = [
    (name, series)
    for name, service in sorted(CATALOGUE.services.items())
    for series in ORDER[ORDER.index("pike") :]
    if service.exists_in(series, ORDER)
]
each_service = pytest.mark.parametrize(("name", "series"), CASES)


class Anywhere(dict):
    """Where the pristine of a file is, which is of no matter here."""

    def __missing__(self, path):
        return f"/usr/share{path}"


def made(name, series):
    service = CATALOGUE.services[name].narrow_to_series(series, ORDER)
    text = make_manifest(
        service,
        CATALOGUE.series[series],
        site="/site",
        code=f"openstack-{series}-{name}",
        pristine=Anywhere(),
        fill=lambda text: text.replace("{series}", series),
    )
    return json.loads(json.dumps(text))


@each_service
def test_every_series_has_databases_and_how_to_set_them_up(name, series):
    data = made(name, series)
    schemas = {s["name"] for s in data["schemas"]}
    assert "main" in schemas
    assert data["setup"]
    for step in data["setup"]:
        assert set(step["schemas"]) <= schemas
        assert step["command"][0].startswith(name)
    assert {s["cells"]["schema"] for s in data["schemas"] if s["cells"]} <= schemas


@each_service
def test_every_series_can_be_upgraded_to(name, series):
    data = made(name, series)
    rows = data["upgrade"]
    changing = [r for r in rows if r["phase"] == "expand" and len(r["accept"]) == 1]
    assert changing, "nothing brings the database to the release"
    for row in rows:
        assert row["command"][0].startswith(name)
        assert row["package"] in {"", *data["packages"]}
        # A status means one thing.
        assert row["again"] not in row["accept"] or not row["again"]
    if ORDER.index(series) >= ORDER.index("stein"):  # since then all projects have a check
        assert data["upgrade_check"] in [r["command"] for r in rows]


@each_service
def test_each_unit_names_what_it_reads(name, series):
    data = made(name, series)
    live = [c["live"] for c in data["configs"]]
    for found in data["units"]:
        if found["kind"] != "oneshot":
            files = [c for c in found["configs"] if not c.endswith("/")]
            # The registry has a file of its own.
            assert files[0] == (live[0] if "registry" not in found["name"] else live[1])
            assert f"/etc/{name}/{name}.conf.d/" in found["configs"]


def test_a_manifest_names_heads_only_where_the_revisions_leave_them_open():
    assert made("glance", "pike")["schemas"][0]["heads"] == ["pike01", "pike_contract01"]
    for name in ("glance", "neutron"):
        assert "heads" not in made(name, "2026.1")["schemas"][0]


def test_services_are_set_up_in_the_guides_order():
    ordered = sorted(CATALOGUE.services.values(), key=lambda s: s.node.order)
    assert [s.name for s in ordered] == [
        *("keystone", "glance", "placement", "barbican", "nova", "neutron", "cinder"),
        *("heat", "designate"),
    ]


def test_neutrons_api_reads_the_plugins_file():
    units = {u["name"]: u for u in made("neutron", "2026.1")["units"]}
    assert "/etc/neutron/plugins/ml2/ml2_conf.ini" in units["neutron-api.service"]["configs"]
    assert "/etc/nova/nova-compute.conf" in {
        c for u in made("nova", "2026.1")["units"] for c in u["configs"]
    }


# -- on the node


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that loads keystone and nova with these packages installed."""
    for name in ("keystone", "nova"):
        (tmp_path / f"{name}.json").write_text(json.dumps(made(name, "2026.1")))
        (tmp_path / f"{name}.options.json").write_text("{}")

    def load(*packages, names=()):
        monkeypatch.setattr(
            system, "list_versions", lambda wanted: {p: "1" for p in wanted if p in packages}
        )
        return node.load(list(names), tmp_path)

    return load


def test_only_what_is_installed_counts(installed):
    keystone, nova = installed("nova-common", "nova-compute", "keystone")
    assert (keystone.name, nova.name) == ("keystone", "nova")
    assert [u.name for u in nova.units] == ["nova-compute.service"]
    assert not nova.wants_database
    assert keystone.wants_database
    assert installed("nova-common", "nova-conductor")[0].wants_database


def test_a_service_that_is_not_here_is_named_with_those_that_are(installed):
    with pytest.raises(system.NodeError, match="service nova is not installed here") as failed:
        installed("keystone", names=["nova"])
    assert failed.value.hints == ["installed: keystone"]


def test_a_manifest_of_a_later_format_is_not_misread(installed, tmp_path):
    (tmp_path / "nova.json").write_text(json.dumps({**made("nova", "2026.1"), "format": 99}))
    with pytest.raises(system.NodeError, match="from a later release"):
        installed("nova-common")


def test_a_manifest_of_the_first_format_is_read_without_what_it_does_not_say(installed, tmp_path):
    first = {**made("nova", "2026.1"), "format": 1}
    first["schemas"] = [{**s, "cells": "main" if s["cells"] else ""} for s in first["schemas"]]
    for step in first["setup"]:
        del step["options"], step["passed"]
        step["environment"] = {"URL": "{keystone_url}"}
    (tmp_path / "nova.json").write_text(json.dumps(first))
    (nova,) = installed("nova-common", "nova-conductor")
    assert [s["cells"] for s in nova.data["schemas"]] == [None] * len(first["schemas"])
    assert {(*s["options"], *s["environment"], *s["passed"]) for s in nova.steps} == {()}


@pytest.mark.usefixtures("installed")
def test_setup_has_the_options_of_the_services_here(tmp_path):
    def options():
        return [o["name"] for step in node.list_setup_steps(tmp_path) for o in step["options"]]

    (tmp_path / "damaged.json").write_text("{")
    assert options() == ["keystone-url", "region"]
    (tmp_path / "keystone.json").unlink()
    assert options() == []


def test_the_tools_read_what_the_service_with_the_database_reads(installed):
    (nova,) = installed("nova-common", "nova-compute", "nova-api")
    assert nova.configs[0] == "/etc/nova/nova.conf"
    assert "/etc/nova/nova-compute.conf" not in nova.configs
    assert unit("x", ["a"]).configs == ["a"]
