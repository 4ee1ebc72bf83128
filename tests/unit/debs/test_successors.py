"""How nodes with Debian's own packages come to ours: relations, maintainer scripts, rootwrap."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from debian.debian_support import Version

from builder.catalogue import load as catalogue
from builder.debs import debian, library
from builder.debs.service.texts import render
from builder.debs.versions import make_full_version, translate_version
from builder.errors import DataError
from builder.model.service import Successor
from builder.model.values import ServiceBuild
from builder.resolve import lockfile as locks

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "debian-templates"
CATALOGUE = catalogue.load(ROOT / "projects")
ORDER = catalogue.order_series(CATALOGUE)
SUITES = [p.stem.rsplit("-", 1) for p in sorted((ROOT / "projects/locks").glob("*.json"))]
CASES = [
    (series, target, service)
    for series, target in SUITES
    for service in sorted(CATALOGUE.series[series].versions)
]


def adapt_to_target(service, series, target, successors=CATALOGUE.successors):
    return debian.adapt_to_target(
        CATALOGUE.services[service].narrow_to_series(series, ORDER),
        successors,
        CATALOGUE.series[series],
        CATALOGUE.targets[target],
        ORDER,
    )


def rendered(service, series="2023.1", target="bookworm"):
    build = ServiceBuild(
        adapt_to_target(service, series, target),
        CATALOGUE.series[series],
        CATALOGUE.targets[target],
        CATALOGUE.series[series].versions[service],
        *(Path("/nowhere"),) * 3,
        1,
        0,
    )
    return {path: file.text for path, file in render(build, (), TEMPLATES).items()}


def version_of(service, series, target):
    found = CATALOGUE.services[service]
    version = CATALOGUE.series[series].versions[service]
    return make_full_version(version, CATALOGUE.targets[target].release, 1, found.epoch)


@pytest.mark.parametrize(("series", "target", "service"), CASES)
def test_what_leads_on_is_an_upgrade_of_debians_and_leads_to_what_there_is(series, target, service):
    found = adapt_to_target(service, series, target)
    real = {p.name for p in found.packages if not p.transitional}
    daemons = {d.name for d in found.daemons}
    ours = Version(version_of(service, series, target))
    for package in (p for p in found.packages if p.transitional):
        (row,) = [s for s in CATALOGUE.successors if s.name == package.name]
        theirs = CATALOGUE.targets[target].debian.versions[row.source or service]
        assert ours > Version(theirs), package.name
        assert set(package.depends) & real
        assert set(package.aliases.values()) <= daemons
        assert not set(package.aliases) & daemons


@pytest.mark.parametrize(("series", "target", "service"), CASES)
def test_what_has_files_of_debians_breaks_and_replaces_their_versions_alone(
    series, target, service
):
    """Policy 7.6.1; unversioned, it would tear away the transitional package of that name."""
    found = adapt_to_target(service, series, target)
    names = {p.name for p in found.packages}
    for package in found.packages:
        for relation in (*package.breaks, *package.replaces, *package.conflicts):
            name, _, version = relation.partition(" ")
            assert bool(version) == (name in names), f"{package.name}: {relation}"
            if version:
                below = version.removeprefix("(<< ").removesuffix(")")
                assert Version(below) < Version(version_of(service, series, target))
                theirs = CATALOGUE.targets[target].debian.versions
                assert Version(theirs[service]) < Version(below)
        assert not package.takes_over


def test_on_debian_11_both_exclude_each_other():
    keystone = adapt_to_target("keystone", "pike", "bullseye")
    assert not keystone.adopts
    assert keystone.packages[0].conflicts == ("python3-keystone",)
    assert not any(p.transitional for p in keystone.packages)
    assert not any(p.endswith(".preinst") for p in rendered("keystone", "pike", "bullseye"))


def test_a_transitional_package_that_would_be_no_upgrade_is_refused():
    row = Successor("python3-toy", ("bookworm",), "", "keystone", "toy", ("keystone",))
    with pytest.raises(DataError, match="python3-toy"):
        adapt_to_target("keystone", "2023.1", "bookworm", (row,))


def test_what_makes_up_the_server_has_debians_names_until_it_is_several_services():
    one, several = (adapt_to_target("neutron", s, "bookworm") for s in ("2024.1", "2025.1"))
    (api,) = [p for p in one.packages if p.name == "neutron-api"]
    assert api.transitional
    assert api.aliases == {"neutron-api": "neutron-server"}
    (api,) = [p for p in several.packages if p.name == "neutron-api"]
    assert not api.transitional


def test_units_are_where_debian_has_them_so_that_dpkg_knows_them_for_the_same_files():
    plans = {t: rendered("nova", "2026.1", t)["debian/plan.json"] for t in ("bookworm", "trixie")}
    assert "nova-novncproxy/lib/systemd/system/nova-novncproxy.service" in plans["bookworm"]
    assert "nova-novncproxy/usr/lib/systemd/system/nova-novncproxy.service" in plans["trixie"]


def test_the_client_leads_on_from_debians_and_does_not_tear_it_away():
    series, target = CATALOGUE.series["2023.1"], CATALOGUE.targets["bookworm"]
    held = debian.select_successors(CATALOGUE.successors, series, target, ORDER)
    context = library.Context(
        series, target, TEMPLATES, 0, successors=tuple(s for s in held if not s.service)
    )
    lock = locks.read(ROOT / "projects/locks/2023.1-bookworm.json")
    packages = {p.name: p for p in library.plan(context, lock, {}, {}, ["python-openstackclient"])}
    client, leading = packages["openstackclient"], packages["python3-openstackclient"]
    assert client.relations["Breaks"] == (f"python3-openstackclient (<< {client.upstream}~)",)
    assert leading.section == "oldlibs"
    assert leading.relations["Depends"] == ("openstackclient",)
    assert Version(leading.version) > Version(target.debian.versions["python-openstackclient"])
    assert translate_version(client.upstream) == client.upstream


# -- the maintainer scripts, with dpkg's answers given

INI = "/etc/placement/placement-api-uwsgi.ini"


@pytest.fixture
def node(tmp_path):
    """Give a function that runs a script of a package of placement's as dpkg would."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ucf", "ucfr", "adduser", "dpkg-statoverride", "getent", "chown", "py3compile"):
        tool = tools / name
        tool.write_text("#!/bin/sh\n")
        tool.chmod(0o755)
    (tools / "ucf").write_text('#!/bin/sh\n[ -e "$2" ] || cp "$1" "$2"\n')
    texts = rendered("placement")

    def run(package, script, *words, conffiles="", maintainer="Debian"):
        query = tools / "dpkg-query"
        query.write_text(
            f'#!/bin/sh\ncase "$*" in *Maintainer*) printf %s "{maintainer}" ;;\n'
            f"*) cat <<'EOF'\n{conffiles}\nEOF\nesac\n"
        )
        query.chmod(0o755)
        text = texts[f"debian/{package}.{script}"].replace("#DEBHELPER#", "")
        for top in ("/etc/", "/var/", "/usr/share/", "/usr/libexec/"):
            text = text.replace(top, f"{tmp_path}{top}")
        start = f"{tmp_path}/usr/libexec/openstack-node/start-units"
        text = text.replace(f"{start} ", ": ").replace("runuser", ":")
        path = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-s", *words], input=text, env=path, text=True, check=False)
        assert done.returncode == 0, text

    return run


def laid(tmp_path, path, text):
    file = Path(f"{tmp_path}{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def md5(file):
    return subprocess.run(
        ["md5sum", file], capture_output=True, text=True, check=True
    ).stdout.split()[0]


def conffile(tmp_path, path, text, *, now=None):
    """A conffile of Debian's as dpkg lists it, with what is in it now."""
    file = laid(tmp_path, path, text)
    row = f" {file} {md5(file)}"
    if now is not None:
        file.write_text(now)
    return file, row


@pytest.mark.parametrize(("now", "after"), [(None, "ours"), ("mine", "mine")])
def test_an_ini_of_debians_gives_way_unless_somebody_changed_it(tmp_path, node, now, after):
    file, row = conffile(tmp_path, INI, "theirs", now=now)
    laid(tmp_path, "/usr/share/placement-api/placement-api-uwsgi.ini", "ours")
    node("placement-api", "preinst", "upgrade", "8.0.0-2", "9.0.0-1", conffiles=row)
    assert not file.exists(), "dpkg would go on calling it an obsolete conffile of this package"
    node("placement-api", "postinst", "configure", "8.0.0-2")
    assert file.read_text() == after
    assert list(file.parent.glob("*.dpkg-*")) == []


@pytest.mark.parametrize("now", [None, "mine"])
def test_an_unpack_that_fails_leaves_all_as_debian_had_it(tmp_path, node, now):
    file, row = conffile(tmp_path, INI, "theirs", now=now)
    node("placement-api", "preinst", "upgrade", "8.0.0-2", "9.0.0-1", conffiles=row)
    node("placement-api", "postrm", "abort-upgrade", "8.0.0-2", conffiles=row)
    assert file.read_text() == (now or "theirs")
    assert list(file.parent.glob("*.dpkg-*")) == []


def test_an_upgrade_from_our_own_package_sets_nothing_aside(tmp_path, node):
    file, row = conffile(tmp_path, INI, "ours of before")
    ours = "build-debs <build-debs@openstack.invalid>"
    node(
        "placement-api", "preinst", "upgrade", "8.0.0-1", "9.0.0-1", conffiles=row, maintainer=ours
    )
    assert file.read_text() == "ours of before"


def test_a_file_debian_copied_gives_way_while_it_is_that_copy():
    text = rendered("nova")["debian/nova-common.preinst"]
    assert "set_copy_aside /etc/nova/api-paste.ini" in text
    assert "set_copy_aside /etc/nova/nova.conf" not in text
    assert "/etc/nova/nova.conf) set_aside" in text
    assert '/etc/nova/nova-compute.conf) set_aside "$file" "$sum" stays ;;' in text


def test_rotation_and_sudoers_of_debians_do_not_stand_beside_ours(tmp_path, node):
    rows = [
        conffile(tmp_path, "/etc/sudoers.d/placement_sudoers", "old"),
        conffile(tmp_path, "/etc/logrotate.d/placement", "old", now="mine"),
        conffile(tmp_path, "/etc/init.d/placement-api", "old"),
    ]
    listed = "\n".join(f"{row} obsolete" for _, row in rows)
    laid(tmp_path, "/usr/share/placement-common/placement.conf", "ours")
    for name in ("logrotate",):
        laid(tmp_path, f"/usr/share/placement-common/{name}", "ours")
    (tmp_path / "var/log/placement").mkdir(parents=True)
    node("python3-placement", "postinst", "configure", "8.0.0-2", conffiles=listed)
    sudoers, rotation, init = (file for file, _ in rows)
    assert not sudoers.exists()
    assert not rotation.exists()
    assert Path(f"{rotation}.dpkg-bak").read_text() == "mine"
    assert init.exists(), "what has no effect is removed on request"


def test_a_unit_that_ours_has_by_another_name_is_stopped_before_it_becomes_an_alias():
    text = rendered("neutron")["debian/neutron-api.preinst"]
    assert "deb-systemd-invoke stop neutron-api.service" in text


# -- rootwrap

WRAPPER = """
class RootwrapConfig(object):
    def __init__(self, config):
        self.exec_dirs = ["/sbin", "/usr/bin"]
        self.filters_path = ["/etc/glance/rootwrap.d"]
"""
SCRIPT = """
from oslo_rootwrap import wrapper
found = wrapper.RootwrapConfig(None)
print(*found.exec_dirs, *found.filters_path)
"""


@pytest.mark.parametrize("script", ["glance-rootwrap", "nova-rootwrap-daemon"])
def test_rootwrap_finds_the_programs_of_its_own_tree_first_whatever_its_file_says(tmp_path, script):
    service = script.split("-")[0]
    text = rendered(service)[f"debian/files.d/{script}"]
    tree = str(tmp_path / "tree")
    (tmp_path / "oslo_rootwrap").mkdir()
    (tmp_path / "oslo_rootwrap/__init__.py").write_text("")
    (tmp_path / "oslo_rootwrap/wrapper.py").write_text(WRAPPER)
    laid(tmp_path, f"/tree/bin/{script}", SCRIPT)
    done = subprocess.run(
        [sys.executable, "-c", text.replace("/usr/lib/openstack/2023.1", tree)],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    dirs = done.stdout.split()
    assert dirs[0] == f"{tree}/bin"
    assert dirs[1:3] == ["/sbin", "/usr/bin"]
    assert dirs[-1] == f"{tree}/etc/{service}/rootwrap.d"


def test_sudo_runs_that_rootwrap_and_not_a_link_to_another():
    files = rendered("nova")
    assert "debian/nova-common/usr/bin/nova-rootwrap" in files["debian/plan.json"]
    assert (
        '"target": "/usr/lib/openstack/2023.1/bin/nova-rootwrap"' not in files["debian/plan.json"]
    )


def test_the_proxies_start_as_debians_file_says():
    files = rendered("nova")
    novnc = files["debian/files.d/nova-novncproxy.service"]
    assert "EnvironmentFile=-/etc/default/nova-consoleproxy" in novnc
    (line,) = [x for x in novnc.splitlines() if x.startswith("ExecCondition=")]
    command = line.partition("=")[2].replace("$$", "$").partition("'")[2].rstrip("'")
    for kind, code in {"": 0, "novnc": 0, "spicehtml5": 78}.items():
        env = {"NOVA_CONSOLE_PROXY_TYPE": kind} if kind else {}
        assert subprocess.run(["sh", "-c", command], env=env, check=False).returncode == code
    assert "nova-novncproxy.service" in files["debian/files.d/nova.json"]


def test_what_puppet_writes_has_effect():
    """It edits Debian's file of the proxies, and sets virt_type in nova.conf, read before ours."""
    planned = json.loads(rendered("nova")["debian/plan.json"])["files"]
    texts = {file["to"]: file["text"] for file in planned if "text" in file}
    proxies = texts["debian/nova-novncproxy/usr/share/nova-novncproxy/default/nova-consoleproxy"]
    assert all(line.startswith("#") for line in proxies.strip().splitlines())
    compute = texts["debian/nova-compute/usr/share/nova-compute/nova-compute.conf"]
    assert "\nvirt_type" not in compute
    older = rendered("nova", "pike", "bullseye")
    assert "/etc/default/nova-consoleproxy" not in older["debian/nova-novncproxy.postinst"]


def test_each_successor_says_why():
    for row in CATALOGUE.successors:
        assert row.why
        assert row.targets
    names = [dataclasses.astuple(s)[:2] for s in CATALOGUE.successors]
    assert len(names) == len(set(names))
