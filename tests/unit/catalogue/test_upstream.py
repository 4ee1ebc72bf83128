"""Series data follow upstream's releases repository; what is chosen by hand stays."""

import http.server
import tomllib
from functools import partial

import pytest
from values import BOOKWORM_FILE
from web import web_server

from builder.catalogue import load as catalogue
from builder.catalogue import upstream
from builder.errors import DataError, FetchError, UsageError

STATUS = """\
---
- name: indri
  release-id: 2027.1
  status: future
  slurp: yes
  initial-release: 2027-03-24
- name: gazpacho
  release-id: 2026.10
  status: maintained
  slurp: yes
  initial-release: 2026-04-01
  signing-key:
    key: B8E9315F48553EC5AFF9FFE5E69D97DA9EFB5AFF
    start: 2025-10-06
- name: ocata
  status: end of life
  initial-release: 2017-02-22
  signing-key:
    key: d47bab1b7dc2e262a4f6171e8b1b03fd54e2ac07
- name: newton
  status: end of life
  initial-release: 2016-10-06
- name: austin
  status: end of life
  initial-release: 2010-10-21
"""
GAZPACHO = """\
releases:
  - version: 33.0.0.0rc1
  - version: 33.0.9
  - version: 33.0.10
  - version: 34.0.0.0b1
"""
OCATA = """\
releases:
  - version: 15.0.0
  - version: ocata-eol
"""
SERVICE = """\
name = "compute"
title = "Compute"
distribution = "compute"
deliverable = "nova"
description = "A demo."
homepage = "https://example.org/"
common = "compute"
user = {name = "compute"}
packages = [{name = "compute", summary = "compute"}]
"""


def write(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "projects"
    write(root, "services/compute.toml", SERVICE)
    write(root, "targets/bookworm.toml", BOOKWORM_FILE)
    return root


@pytest.fixture(params=["data/series_status.yaml", "series_status.yaml"])
def releases(request, tmp_path):
    releases = tmp_path / "releases"
    write(releases, request.param, STATUS)
    write(releases, "deliverables/gazpacho/nova.yaml", GAZPACHO)
    write(releases, "deliverables/ocata/nova.yaml", OCATA)
    return releases


@pytest.fixture
def serve(releases):
    handler = partial(Quiet, directory=str(releases))
    with web_server(handler) as address:
        yield address


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        if "broken" in self.path:
            self.send_error(503)
        else:
            super().do_GET()


def read(root, id_):
    return tomllib.loads((root / f"series/{id_}.toml").read_text())


def test_facts_come_from_upstream(root, releases):
    changed = upstream.regenerate(str(releases), root)
    assert [file.name for file in changed] == ["ocata.toml", "2026.10.toml"]
    assert read(root, "2026.10") == {
        "id": "2026.10",
        "name": "gazpacho",
        "date": "2026-04-01",
        "status": "maintained",
        "slurp": True,
        "python": [],
        "targets": [],
        "signing-key": "b8e9315f48553ec5aff9ffe5e69d97da9efb5aff",
        "versions": {"compute": "33.0.10"},
    }
    assert read(root, "ocata")["versions"] == {"compute": "15.0.0"}
    assert catalogue.order_series(catalogue.load(root)) == ("ocata", "2026.10")


def test_a_service_has_versions_in_the_series_it_is_part_of(root, releases):
    """Upstream's files have releases of what was packaged differently, or not at all, before."""
    for name, when in (("later", 'since = "2026.10"'), ("former", 'until = "ocata"')):
        text = SERVICE.replace("compute", name).replace("description =", f"{when}\ndescription =")
        write(root, f"services/{name}.toml", text)
    upstream.regenerate(str(releases), root)
    versions = {
        path.stem: set(tomllib.loads(path.read_text())["versions"])
        for path in (root / "series").iterdir()
    }
    assert versions == {"ocata": {"compute", "former"}, "2026.10": {"compute", "later"}}


def test_a_second_run_changes_nothing(root, releases):
    upstream.regenerate(str(releases), root)
    assert upstream.regenerate(str(releases), root) == []


def test_what_is_chosen_by_hand_stays_and_a_new_series_inherits_it(root, releases):
    upstream.regenerate(str(releases), root, only=["ocata"])
    file = root / "series/ocata.toml"
    text = file.read_text().replace("python = []", 'python = ["2.7"]')
    file.write_text(text.replace("targets = []", 'targets = ["bookworm"]'))
    assert [f.name for f in upstream.regenerate(str(releases), root)] == ["2026.10.toml"]
    assert read(root, "ocata")["python"] == ["2.7"]
    assert read(root, "2026.10")["targets"] == ["bookworm"]


def test_a_version_upstream_does_not_list_yet_stays(root, releases):
    upstream.regenerate(str(releases), root)
    write(releases, "deliverables/gazpacho/nova.yaml", "releases:\n  - version: 33.0.0.0rc1\n")
    assert upstream.regenerate(str(releases), root) == []
    (releases / "deliverables/gazpacho/nova.yaml").unlink()
    assert upstream.regenerate(str(releases), root) == []


def test_only_some_series(root, releases):
    changed = upstream.regenerate(str(releases), root, only=["Gazpacho"])
    assert [file.name for file in changed] == ["2026.10.toml"]
    with pytest.raises(UsageError, match=r"^unknown series 'gaspacho'; nearest: gazpacho$"):
        upstream.regenerate(str(releases), root, only=["gaspacho"])


@pytest.mark.parametrize("form", ["{url}", "{url}/", "{url}/{{path}}?plain=1"])
def test_from_a_url(root, serve, form):
    upstream.regenerate(form.format(url=serve), root)
    assert read(root, "2026.10")["versions"] == {"compute": "33.0.10"}


def test_nothing_is_written_when_the_site_fails(root, serve, monkeypatch):
    monkeypatch.setattr(upstream.time, "sleep", lambda _: None)
    with pytest.raises(FetchError, match="503 Service Unavailable"):
        upstream.regenerate(f"{serve}/broken", root)
    assert not (root / "series").exists()


def test_no_releases_repository(root, tmp_path):
    with pytest.raises(DataError, match=r"neither data/series_status\.yaml nor series_status"):
        upstream.regenerate(str(tmp_path), root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- name: [", "not YAML"),
        ("- status: maintained\n", "not a list of series"),
        ("1", "not a"),
        ("- [a]\n", "not a list of series"),
        (STATUS.replace("release-id: 2026.10", "release-id: ../../x"), "is not a series id"),
        (STATUS.replace("name: gazpacho", "name: [a]"), "not a list of series"),
        (STATUS.replace("2026-04-01", "2026-02-31"), "date: expected a date of the form"),
        (STATUS.replace("B8E9315F", "$(id)"), "signing-key: expected a fingerprint"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_damaged_status_file(root, releases, text, message):
    for file in releases.glob("**/series_status.yaml"):
        file.write_text(text)
    before = sorted(root.rglob("*"))
    with pytest.raises(DataError, match=message):
        upstream.regenerate(str(releases), root)
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    "text", ["- 1\n", "releases: [1]\n", "releases: [{a: b}]\n", "releases: 1"]
)
def test_damaged_list_of_releases(root, releases, text):
    write(releases, "deliverables/gazpacho/nova.yaml", text)
    with pytest.raises(DataError, match=r"gazpacho/nova\.yaml: not a list of releases"):
        upstream.regenerate(str(releases), root)
