"""What the packages of another series say before they are installed."""

import json
from pathlib import Path

import nodeside
import pytest
from openstack_node import databases, preview, system
from twoseries import NEW, OLD, SERVICES, manifest


class Unpacked:
    """apt, with what it would unpack already there."""

    def __init__(self, root, *froms):
        self.root, self.asked = root, []
        path = root / f"usr/share/openstack-node/series/{NEW}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"format": 1, "series": NEW, "from": froms, "steps": []}))

    def unpack(self, packages):
        self.asked += packages
        return self.root


def test_the_facts_on_a_series_are_in_its_archive_package(tmp_path):
    apt = Unpacked(tmp_path, "2025.1", OLD)
    assert preview.read_facts(apt, OLD, NEW)["from"] == ["2025.1", OLD]
    assert apt.asked == [f"openstack-{NEW}-archive"]


@pytest.mark.parametrize(("froms", "ways"), [(["2025.1"], "2025.1"), ([], "none")])
def test_a_step_upstream_does_not_support_is_refused(tmp_path, froms, ways):
    with pytest.raises(system.NodeError, match=f"no upgrade from {OLD} to {NEW}") as caught:
        preview.read_facts(Unpacked(tmp_path, *froms), OLD, NEW)
    assert caught.value.hints == [f"upgrades to {NEW} are supported from: {ways}"]


def test_a_manifest_names_the_options_next_to_it(tmp_path):
    path = tmp_path / SERVICES / "toy.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest(NEW)))
    found = preview.read_manifest("toy", tmp_path)
    assert found["series"] == NEW
    assert Path(found["options"]) == tmp_path / SERVICES / "toy.options.json"


def test_databases_are_asked_about_the_code_that_was_unpacked(tmp_path, monkeypatch):
    asked = []

    def ask(toy, files, *, records):
        asked.append((toy.tree, toy.data["site"], files, records))
        return databases.Answer()

    monkeypatch.setattr(databases, "ask", ask)
    toy = nodeside.service(tmp_path, site="/usr/lib/openstack/x/site")
    preview.query_databases(toy, tmp_path / "root")
    assert asked == [(toy.tree, f"{tmp_path}/root/usr/lib/openstack/x/site", [], True)]
    agent = nodeside.service(tmp_path, units=[nodeside.unit("toy-agent", [])])
    assert preview.query_databases(agent, tmp_path) == databases.Answer()
    assert len(asked) == 1
