"""`build-debs diff`: what an operator is told before an upgrade, and what not."""

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from cloud import ELSEWHERE, HERE, write_data
from publishing import MAINTAINER, put, sh
from wheelhouse import REPOSITORY, distribution, lock_of

from builder import cli, diff
from builder.catalogue import load as catalogue
from builder.debs.service.texts import render
from builder.debs.service.view import make_footprint
from builder.errors import DataError, PublishError, UsageError
from builder.model.values import KnownOptions, ServiceBuild
from builder.publish import Suite
from builder.resolve import lockfile as locks

OLD, NEW = "2099.1", "2099.2"
SERVICE = """
name = "tiny"
title = "OpenStack Tiny"
distribution = "tiny-service"
deliverable = "tiny"
homepage = "https://docs.example.org/tiny/"
common = "tiny-common"
description = "It does next to nothing."
sudoers = ["tiny-rootwrap *"]

[user]
name = "tiny"
uid = 64000

[[directories]]
path = "/var/lib/tiny/things"
since = "2099.2"

[[files]]
path = "tiny.conf"
config-generator = "etc/tiny.conf"
presets = [
    { section = "DEFAULT", option = "log_dir", value = "/var/log/tiny" },
    { section = "DEFAULT", option = "exec_dirs", value = "/sbin,{tree}/bin" },
    { section = "net", option = "kind", value = "flat", until = "2099.1" },
    { section = "net", option = "kind", value = "vxlan", since = "2099.2" },
    { section = "net", option = "mtu", value = "1500", until = "2099.1" },
    { section = "net", option = "types", value = "flat", since = "2099.2" },
    { section = "net", option = "types", value = "vxlan", since = "2099.2" },
]

[[files]]
path = "old-paste.ini"
from = "etc/paste.ini"
until = "2099.1"

[[packages]]
name = "tiny-common"
summary = "OpenStack Tiny - configuration"

[[packages]]
name = "tiny-agent"
summary = "OpenStack Tiny - agent"
groups = ["kvm"]
since = "2099.2"

[[packages]]
name = "tiny-api"
summary = "OpenStack Tiny - API"

[[daemons]]
name = "tiny-api"
package = "tiny-api"
description = "API"
script = "tiny-api"
until = "2099.1"

[[daemons]]
name = "tiny-api"
package = "tiny-api"
description = "API"
kind = "uwsgi"
port = 8000
wsgi = [{ module = "tiny:app" }]
since = "2099.2"

[[daemons]]
name = "tiny-agent"
package = "tiny-agent"
description = "agent"
script = "tiny-agent"
since = "2099.2"
"""
BEFORE = {
    "options": {
        "DEFAULT": {"debug": "", "host": "", "verbose": "", "use-it": "d"},
        "net": {"x": ""},
    },
    "renamed": {"DEFAULT": {"my_debug": "[DEFAULT] debug", "y": "[net] x"}},
}
AFTER = {
    "options": {"DEFAULT": {"debug": "d", "use_it": "d", "workers": ""}, "api": {"address": ""}},
    "renamed": {"DEFAULT": {"host": "[api] address"}},
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Make the data of two releases, locked for this machine's suite, and a repository."""
    place = tmp_path / "data"
    write_data(place)
    (place / "projects/services/tiny.toml").write_text(SERVICE)
    series = place / f"projects/series/{NEW}.toml"
    series.write_text(series.read_text().replace('tiny = "1.0.0"', 'tiny = "2.0.0"'))
    rows = {
        OLD: [
            distribution("tiny-service", "1.0.0", kind="service"),
            distribution("Tiny.Lib", "1.0"),
            distribution("gone", "0.1"),
            distribution("same", "3"),
        ],
        NEW: [
            distribution("tiny-service", "2.0.0", kind="service"),
            distribution("frail-service", "2.0.0", kind="service"),
            distribution("tiny_lib", "1.1"),
            distribution("fresh", "5"),
            distribution("same", "3"),
        ],
    }
    for id_, distributions in rows.items():
        lock = dataclasses.replace(lock_of(*distributions), series=id_, target=HERE)
        locks.write(lock, place / f"projects/locks/{id_}-{HERE}.json")
    monkeypatch.setenv("BUILD_DEBS_DATA", str(place))
    return place


def common(directory, version, known):
    """Build a package tiny-common that says its options, or none."""
    root = directory / f"tiny-{version}"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: tiny-common\nVersion: {version}\nArchitecture: all\nSource: tiny\n"
        f"Maintainer: {MAINTAINER}\nDescription: a test\n"
    )
    if known is not None:
        place = root / "usr/share/openstack-node/services"
        place.mkdir(parents=True)
        (place / "tiny.options.json").write_text(json.dumps(known))
    deb = directory / f"tiny-common_{version}_all.deb"
    sh("dpkg-deb", "--root-owner-group", "-Znone", "-b", root, deb)
    return deb


def built(data, signer, series, *debs):
    put(data / "repo", signer, *debs, suite=Suite(HERE, series))


def run(*words):
    """Run the verb and return its stdout; an error of ours is raised."""
    done = CliRunner().invoke(cli.cli, ["diff", *map(str, words)])
    if done.exception:
        raise done.exception
    return done.stdout


def table(*words):
    return json.loads(run(*words, "--json"))


def rows(found, part):
    return {r["name"]: (r["from"], r["to"]) for r in found["services"]["tiny"][part]}


@pytest.mark.usefixtures("data")
def test_versions_of_services_and_dependencies_are_those_of_the_locks():
    found = table(OLD, NEW)
    services = {name: row["version"] for name, row in found["services"].items()}
    assert services == {
        "frail": {"from": None, "to": "2.0.0"},
        "tiny": {"from": "1.0.0", "to": "2.0.0"},
    }
    assert found["dependencies"] == [
        {"name": "fresh", "from": None, "to": "5"},
        {"name": "gone", "from": "0.1", "to": None},
        {"name": "tiny-lib", "from": "1.0", "to": "1.1"},
    ]


@pytest.mark.usefixtures("data")
def test_what_the_packages_bring_is_compared_part_by_part():
    found = table(OLD, NEW)
    assert rows(found, "packages") == {"tiny-agent": (None, "OpenStack Tiny - agent")}
    assert rows(found, "units") == {
        "tiny-agent.service": (None, "daemon, in tiny-agent"),
        "tiny-api.service": ("daemon, in tiny-api", "uwsgi on port 8000, in tiny-api"),
    }
    assert rows(found, "accounts") == {"tiny in group kvm": (None, "by tiny-agent")}
    assert rows(found, "directories") == {"/var/lib/tiny/things": (None, "tiny:tiny 0750")}
    assert rows(found, "sudoers") == {}
    assert rows(found, "files") == {
        "/etc/tiny/old-paste.ini": ("root:tiny 0640", None),
        "/etc/tiny/tiny-api-uwsgi.ini": (None, "root:tiny 0640"),
    }
    assert rows(found, "presets") == {
        "/etc/tiny/tiny.conf [net] kind": ("flat", "vxlan"),
        "/etc/tiny/tiny.conf [net] mtu": ("1500", None),
        "/etc/tiny/tiny.conf [net] types": (None, "flat; vxlan"),
    }


@pytest.mark.usefixtures("data")
def test_a_service_that_is_new_is_shown_with_all_it_brings():
    found = table(OLD, NEW)["services"]["frail"]
    assert [r["name"] for r in found["packages"]] == ["frail"]
    assert [r["name"] for r in found["accounts"]] == ["user and group frail"]
    assert "/etc/frail" in {r["name"] for r in found["directories"]}


@pytest.mark.usefixtures("data")
def test_a_service_that_goes_is_shown_with_all_that_goes():
    found = table(NEW, OLD)["services"]
    assert found["frail"]["version"] == {"from": "2.0.0", "to": None}
    assert {r["to"] for r in found["frail"]["files"]} == {None}
    assert "  - frail  2.0.0\n" in run(NEW, OLD)


def test_sudoers_of_a_service_that_is_new_are_lines_of_the_file(data):
    path = data / "projects/services/frail.toml"
    path.write_text('sudoers = ["frail-rootwrap *"]\n' + path.read_text())
    assert "    + frail ALL = (root) NOPASSWD: /usr/bin/frail-rootwrap *\n" in run(OLD, NEW)


@pytest.mark.usefixtures("data")
def test_the_text_has_a_heading_a_service_and_nothing_of_what_stays():
    text = run(OLD, "azimuth", "--target", HERE)
    subject, blank, *_ = lines = text.splitlines()
    assert (subject, blank) == (f"OpenStack {OLD} → {NEW} on {HERE}", "")
    assert {"frail", "tiny", "services"} <= set(lines)
    assert not [line for line in lines if line.startswith("#") or line != line.rstrip()]
    assert "    ~ /etc/tiny/tiny.conf [net] kind = flat → vxlan\n" in text
    assert "  ~ tiny-lib  1.0 → 1.1\n" in text
    for same in ("log_dir", "exec_dirs", "same", "sudoers", "tiny-common"):
        assert same not in text.partition("\ntiny\n")[2]


def test_series_that_are_alike_make_short_work(data):
    one, two = (data / f"projects/locks/{id_}-{HERE}.json" for id_ in (OLD, NEW))
    two.write_text(one.read_text().replace(f'"series": "{OLD}"', f'"series": "{NEW}"'))
    text = (data / f"projects/series/{OLD}.toml").read_text()
    other = text.replace(OLD, NEW).replace("zenith", "azimuth").replace("2024-04", "2024-10")
    (data / f"projects/series/{NEW}.toml").write_text(other)
    (data / "projects/services/tiny.toml").write_text(
        (data / "projects/services/frail.toml")
        .read_text()
        .replace("frail", "tiny")
        .replace('since = "2099.2"', "")
    )
    lines = run(OLD, NEW).splitlines()
    assert lines[-2:] == ["services", "  = tiny  1.0.0"]


def test_options_are_those_of_the_newest_packages_in_the_repository(data, tmp_path, signer):
    built(data, signer, OLD, common(tmp_path, "1.0.0-1", {}), common(tmp_path, "1.0.0-2", BEFORE))
    built(data, signer, NEW, common(tmp_path, "2.0.0-1", AFTER))
    found = table(OLD, NEW)
    assert found["options_unknown"] == {}
    assert found["services"]["tiny"]["options"] == {
        "added": ["[DEFAULT] workers"],
        "removed": ["[DEFAULT] verbose", "[net] x"],
        "renamed": {"[DEFAULT] host": "[api] address"},
        "moved": {},
        "forgotten": {"[DEFAULT] my_debug": "[DEFAULT] debug", "[DEFAULT] y": None},
        "deprecated": ["[DEFAULT] debug"],
        "defaults": {},
    }
    text = run(OLD, NEW)
    assert "Options are compared" not in text
    assert "    [DEFAULT] → [api] host → address\n" in text
    assert "    [DEFAULT] → nothing: y\n" in text


def test_where_a_series_is_not_built_one_line_says_how_to_compare_options(data, tmp_path, signer):
    said = [x for x in run(OLD, NEW).splitlines() if x.startswith("Options")]
    assert said == [
        "Options are compared only if both series are built: "
        f"build-debs {OLD} --target {HERE}; build-debs {NEW} --target {HERE}"
    ]
    built(data, signer, OLD, common(tmp_path, "1.0.0-1", BEFORE))
    text = run(OLD, NEW, "--repo", data / "repo")
    assert f"built: build-debs {NEW} --target {HERE} --repo {data}/repo\n" in text
    found = table(OLD, NEW)
    assert found["options_unknown"] == {NEW: ["tiny"]}
    assert found["services"]["tiny"]["options"] is None


def test_a_package_from_before_options_were_said_counts_as_not_built(data, tmp_path, signer):
    built(data, signer, OLD, common(tmp_path, "1.0.0-1", None))
    built(data, signer, NEW, common(tmp_path, "2.0.0-1", AFTER))
    assert table(OLD, NEW)["options_unknown"] == {OLD: ["tiny"]}


def test_a_damaged_package_is_one_clear_line(data, tmp_path, signer):
    built(data, signer, OLD, common(tmp_path, "1.0.0-1", BEFORE))
    (deb,) = (data / "repo/pool").rglob("*.deb")
    deb.write_bytes(b"no package")
    with pytest.raises(PublishError, match=r"tiny-common_.*deb: cannot read its options"):
        run(OLD, NEW)


@pytest.mark.parametrize("name", ["cinder", "neutron", "nova"])
@pytest.mark.parametrize("id_", ["pike", "2026.1"])
def test_what_is_said_of_a_service_is_what_its_packages_have(name, id_):
    projects = catalogue.load(REPOSITORY / "projects")
    series = projects.series[id_]
    target = catalogue.find_target(projects, series, series.targets[0])
    service = projects.services[name].narrow_to_series(id_, catalogue.order_series(projects))
    none = Path()
    version = series.versions[name]
    build = ServiceBuild(service, series, target, version, none, none, none, 1, 0)
    files = render(build, ("x",), REPOSITORY / "debian-templates")
    said = make_footprint(service, series, target)
    assert {f"debian/files.d/{unit}" for unit in said.units} == {
        path for path in files if path.endswith(".service")
    }
    sudoers = files[f"debian/files.d/{service.common}.sudoers"].text
    lines = [line for line in sudoers.splitlines() if "NOPASSWD" in line]
    assert sorted(line.replace("{tree}", series.tree) for line in said.sudoers) == sorted(lines)
    scripts = "".join(f.text for path, f in files.items() if path.endswith(".postinst"))
    for path in {*said.directories, *said.files}:
        assert path in scripts, path


def known(**sections):
    return KnownOptions({s: dict.fromkeys(names.split(), "") for s, names in sections.items()}, {})


def test_an_option_that_came_to_one_other_section_has_moved():
    found = diff.compare_options(known(a="x y z"), known(b="x z", c="y z"))
    assert found.moved == ((("a", "x"), ("b", "x")), (("a", "y"), ("c", "y")))
    # of two places nobody knows which
    assert found.removed == (("a", "z"),)
    assert found.added == (("b", "z"), ("c", "z"))


def test_an_old_section_alone_is_not_said_to_be_forgotten():
    """Newer samples leave such a former place out, whether it is read or not."""
    before = KnownOptions({"net": {"x": ""}}, {"DEFAULT": {"x": "[net] x"}})
    assert diff.compare_options(before, known(net="x")) == diff.OptionChanges()


def test_an_option_deprecated_under_its_old_name_is_not_newly_so():
    before = KnownOptions({"a": {"x": "d"}}, {})
    after = KnownOptions({"b": {"y": "d"}}, {"a": {"x": "[b] y"}})
    assert diff.compare_options(before, after).deprecated == ()


def test_a_default_that_changes_is_said(data, tmp_path, signer):
    options = {"DEFAULT": dict.fromkeys("abcd", ""), "net": {"v": "v"}}
    long = ",".join(str(n) for n in range(50))
    before = {"DEFAULT": {"a": "1", "b": "x" * 100, "c": "", "d": long}, "net": {"v": "old"}}
    after = {"DEFAULT": {"b": "y", "c": "z", "d": f"{long},50"}, "net": {"e": "", "v": "new"}}
    later = {**options, "net": {"e": "", "v": "v"}}
    old = {"options": options, "renamed": {}, "defaults": before}
    new = {"options": later, "renamed": {}, "defaults": after}
    built(data, signer, OLD, common(tmp_path, "1.0.0-1", old))
    built(data, signer, NEW, common(tmp_path, "2.0.0-1", new))
    said = run(OLD, NEW)
    assert "  defaults changed (4)\n    [DEFAULT] a: 1 → <None>\n" in said
    assert (
        f'    [DEFAULT] b: {"x" * 59}… → y\n    [DEFAULT] c: "" → z\n    [DEFAULT] d: +50\n' in said
    )
    found = table(OLD, NEW)["services"]["tiny"]["options"]["defaults"]
    assert found["[DEFAULT] b"] == {"from": "x" * 100, "to": "y"}


def test_defaults_are_compared_where_both_packages_say_them_and_under_old_names():
    bare = KnownOptions({"a": {"x": ""}}, {})
    full = KnownOptions({"b": {"y": ""}}, {"a": {"x": "[b] y"}}, {"b": {"y": "2"}})
    assert diff.compare_options(bare, full).defaults == ()
    before = KnownOptions({"a": {"x": ""}}, {}, {"a": {"x": "1"}})
    assert diff.compare_options(before, full).defaults == ((("b", "y"), "1", "2"),)


def test_hundreds_of_new_options_are_told_by_their_number(data, tmp_path, signer):
    many = {"options": {"big": {f"option{i}": "" for i in range(100)}}, "renamed": {}}
    none = {"options": {"DEFAULT": {"debug": ""}}, "renamed": {}}
    built(data, signer, OLD, common(tmp_path, "1.0.0-1", none))
    built(data, signer, NEW, common(tmp_path, "2.0.0-1", many))
    assert "    [big] 100 options, --json names them\n" in run(OLD, NEW)
    # what goes is named one by one: a file may have it
    assert "option99" in run(NEW, OLD)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("words", "error", "expected"),
    [
        ((OLD, "azimut"), UsageError, "unknown series 'azimut'; nearest: azimuth"),
        ((OLD, "zenith"), UsageError, "2099.1 and zenith are the same series"),
        ((OLD, NEW, "--target", "bokworm"), UsageError, "unknown target 'bokworm'"),
        ((OLD, NEW, "--target", "bullseye"), UsageError, "bullseye is not a target of 2099.1"),
        ((OLD, NEW, "--target", ELSEWHERE), DataError, f"no lock of 2099.1 on {ELSEWHERE}"),
    ],
)
def test_what_cannot_be_compared_is_one_line(words, error, expected):
    with pytest.raises(error, match=expected) as caught:
        run(*words)
    assert "\n" not in caught.value.message


def test_a_lock_that_is_missing_comes_with_the_command_that_makes_it(data):
    (data / f"projects/locks/{NEW}-{HERE}.json").unlink()
    with pytest.raises(DataError) as caught:
        run(OLD, NEW)
    assert caught.value.hint == f"make it with: build-debs lock {NEW} --target {HERE}"


def test_the_suite_is_one_that_both_have(data):
    path = data / f"projects/series/{NEW}.toml"
    text = path.read_text()
    path.write_text(text.replace('["bookworm", "trixie"]', f'["{ELSEWHERE}", "{HERE}"]'))
    assert table(OLD, NEW)["target"] == HERE  # this machine's comes first
    path.write_text(text.replace('["bookworm", "trixie"]', '["bullseye"]'))
    with pytest.raises(UsageError, match=r"2099.1 and 2099.2 have no target in common \(2099.1: "):
        run(OLD, NEW)
