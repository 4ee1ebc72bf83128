"""The source package of a service: its texts, its bits, its failures."""

import dataclasses
import gzip
import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from values import GAZPACHO

from builder.catalogue import load as catalogue
from builder.debs import debian
from builder.debs.service.package import build_source_package
from builder.debs.service.texts import render
from builder.errors import BuildError
from builder.model.reading import load
from builder.model.service import Service
from builder.model.values import Patch, ServiceBuild

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "debian-templates"
CATALOGUE = catalogue.load(ROOT / "projects")
ORDER = catalogue.order_series(CATALOGUE)
TARGET = CATALOGUE.targets["bookworm"]
VERSIONS = {
    "barbican": "22.0.0",
    "cinder": "28.0.0",
    "designate": "22.0.1",
    "glance": "32.0.0",
    "heat": "26.0.2",
    "keystone": "29.0.2",
    "neutron": "28.0.1",
    "nova": "33.0.2",
    "placement": "15.0.0",
}
DEPENDS = ("openstack-2026.1-base", "openstack-2026.1-oslo-config (>= 10.0.0)")
EPOCH = 1775000000


def service_build(name, tmp_path=Path("/nowhere"), series=GAZPACHO):
    service = load(ROOT / f"projects/services/{name}.toml", Service)
    return ServiceBuild(
        service=debian.adapt_to_target(
            service.narrow_to_series(series.id, ORDER),
            CATALOGUE.successors,
            dataclasses.replace(series, versions=VERSIONS),
            TARGET,
            ORDER,
        ),
        series=series,
        target=TARGET,
        version=VERSIONS[name],
        tarball=tmp_path / "x.tar.gz",
        wheel=tmp_path / "x.whl",
        tree=tmp_path,
        revision=1,
        epoch_seconds=EPOCH,
    )


@pytest.mark.parametrize("name", sorted(VERSIONS))
def test_every_text_is_the_golden_one(name, golden):
    files = render(service_build(name), DEPENDS, TEMPLATES)
    for path, rendered in files.items():
        program = TEMPLATES / "service" / Path(path).name
        if path in {"debian/assemble.py", "debian/samples.py"}:
            assert rendered.text == program.read_text()
        else:
            golden(f"service/{name}/{path}", rendered.text)
    listed = {p: f for p, f in files.items() if p != "debian/assemble.py"}
    listing = "".join(f"{f.mode:04o} {p}\n" for p, f in listed.items())
    golden(f"service/{name}/files", listing)


@pytest.mark.parametrize("name", sorted(VERSIONS))
def test_every_maintainer_script_is_valid_shell_and_swallows_nothing(name):
    for path, rendered in render(service_build(name), DEPENDS, TEMPLATES).items():
        if path.endswith(("inst", "rm")):
            subprocess.run(["sh", "-n"], input=rendered.text, text=True, check=True)
            assert "|| true" not in rendered.text
            assert "#DEBHELPER#" in rendered.text


def test_a_percent_sign_of_the_home_page_is_none_of_systemd_s():
    build = service_build("keystone")
    page = dataclasses.replace(build.service, homepage="https://a.example/%s")
    files = render(dataclasses.replace(build, service=page), DEPENDS, TEMPLATES)
    assert (
        "\nDocumentation=https://a.example/%%s\n" in files["debian/files.d/keystone.service"].text
    )


@pytest.mark.parametrize("name", sorted(VERSIONS))
def test_no_unit_is_stopped_or_started_by_debhelper(name):
    """Its snippets do not ask whether the database is fit for the new code; not for a unit
    that others are part of either, which takes them along."""
    build = service_build(name)
    files = render(build, DEPENDS, TEMPLATES)
    calls = [c for c in files["debian/rules"].text.splitlines() if "dh_installsystemd" in c]
    assert sum(c.count(".service") for c in calls) == len(build.service.daemons)
    assert all("--no-start --no-stop-on-upgrade" in c for c in calls)
    for daemon in (d for d in build.service.daemons if d.start == "now"):
        postinst = files[f"debian/{daemon.package}.postinst"].text
        (line,) = [x for x in postinst.splitlines() if f"start-units restart {name} " in x]
        assert f"{daemon.name}.service" in line.split()


# What systemd.exec(5) calls them, of those a gate ends with.
CODES = {"CONFIG": "78", "EXCEPTION": "255"}


@pytest.mark.parametrize("series", CATALOGUE.series.values(), ids=lambda s: s.id)
def test_a_gate_that_says_no_is_no_success_of_its_unit(series):
    """systemd takes a status of SuccessExitStatus= for that of a condition that holds."""
    gated = 0
    for name, service in CATALOGUE.services.items():
        if not service.exists_in(series.id, ORDER):
            continue
        files = render(service_build(name, series=series), DEPENDS, TEMPLATES)
        for path in (p for p in files if p.endswith(".service")):
            lines = [x.partition("=")[::2] for x in files[path].text.splitlines()]
            gates = [value for key, value in lines if key == "ExecCondition"]
            success = {
                w for key, value in lines if key == "SuccessExitStatus" for w in value.split()
            }
            for gate in gates:
                asked = f"/usr/libexec/openstack-node/start-gate {name} {Path(path).stem}"
                chosen = gate.startswith("/bin/sh -c '") and gate.endswith(" || exit 78'")
                assert gate == asked or chosen
                assert not {CODES.get(word, word) for word in success} & {"78", "255"}
            gated += bool(gates)
    assert gated


@pytest.mark.parametrize(
    "series", [s for s in CATALOGUE.series.values() if "bullseye" in s.targets], ids=lambda s: s.id
)
def test_a_unit_that_may_not_start_is_not_tried_again_on_debian_11(series):
    """With Restart=always its systemd does (issue 22257 of systemd's, mended in 251)."""
    for name, service in CATALOGUE.services.items():
        if not service.exists_in(series.id, ORDER):
            continue
        files = render(service_build(name, series=series), DEPENDS, TEMPLATES)
        for path in (p for p in files if p.endswith(".service")):
            lines = files[path].text.splitlines()
            if any(line.startswith("ExecCondition=") for line in lines):
                assert "Restart=always" not in lines, path


def test_the_service_writes_neither_its_configuration_nor_what_makes_it_root():
    files = render(service_build("glance"), DEPENDS, TEMPLATES)
    postinst = files["debian/glance-common.postinst"].text
    assert "make_directory /etc/glance root glance 0750" in postinst
    assert "/etc/sudoers.d/glance-common root:root 0440" in postinst


# What a setting of a unit with User= implies NoNewPrivileges with, or keeps root from its work
# with (systemd.exec(5)): everything strict has but these.
HARMLESS_TO_SUDO = {"PrivateTmp", "ReadWritePaths", "UMask"}


def test_the_drop_in_for_a_store_in_cinder_takes_back_the_whole_sandbox():
    build = service_build("glance")
    files = render(build, DEPENDS, TEMPLATES)
    unit = files["debian/files.d/glance-api.service"].text
    sandbox = unit.partition("\nPrivateTmp=yes\n")[2].partition("\n\n")[0]
    assert "NoNewPrivileges=yes" in sandbox
    (drop_in,) = (f.text for f in build.service.files if f.path.endswith("cinder-store.conf"))
    back = {line.split("=")[0] for line in drop_in.splitlines() if re.match("[A-Z].*=", line)}
    assert {line.split("=")[0] for line in sandbox.splitlines()} - HARMLESS_TO_SUDO == back


# -- a whole build, of a service small enough to build in a test

TOY = """
name = "toy"
title = "OpenStack Toy"
distribution = "toy.box"
deliverable = "toy"
description = "A toy."
homepage = "https://docs.openstack.org/toy/"
epoch = 2
common = "toy-common"
exclude = ["etc", "{site}/toy/tests"]
sudoers = ["toy-rootwrap /etc/toy/rootwrap.conf *"]
[user]
name = "toy"
[[files]]
path = "toy.conf"
from = "etc/toy.conf"
presets = [{ section = "DEFAULT", option = "log_dir", value = "/var/log/toy" }]
[[files]]
path = "/usr/share/toy/rootwrap/"
from = "etc/*.filters"
[[packages]]
name = "toy-common"
summary = "common files"
scripts = ["toy-run"]
[[packages]]
name = "toy-worker"
summary = "worker"
depends = ["toy-common"]
[[daemons]]
name = "toy-worker"
package = "toy-worker"
description = "Worker"
script = "toy-run"
"""
WHEEL = {
    "toy/__init__.py": "def main(): pass\n",
    "toy/tests/test_toy.py": "",
    "toy_box-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: toy.box\nVersion: 1.0\n",
    "toy_box-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "toy_box-1.0.dist-info/entry_points.txt": "[console_scripts]\ntoy-run = toy:main\n",
    "toy_box-1.0.data/data/etc/toy/toy.conf": "",
}
SOURCE = {
    "toy-1.0/setup.py": "",
    "toy-1.0/etc/toy.conf": "[DEFAULT]\n#log_dir = <None>\n\n[database]\n#connection = <None>\n",
    "toy-1.0/etc/toy.filters": "[Filters]\n",
}


def toy_build(root, **changes):
    root.mkdir()
    (root / "toy.toml").write_text(TOY)
    wheel, tarball = root / "toy_box-1.0-py3-none-any.whl", root / "toy-1.0.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in WHEEL.items():
            archive.writestr(zipfile.ZipInfo(name), text)
        record = "".join(f"{name},,\n" for name in WHEEL)
        archive.writestr(zipfile.ZipInfo("toy_box-1.0.dist-info/RECORD"), record)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, text in SOURCE.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(text), EPOCH
            archive.addfile(member, io.BytesIO(text.encode()))
    tarball.write_bytes(gzip.compress(plain.getvalue(), mtime=EPOCH))
    values = {
        "service": load(root / "toy.toml", Service),
        "version": "1.0",
        "tarball": tarball,
        "wheel": wheel,
        "tree": staged_tree(root / "tree"),
    }
    return dataclasses.replace(service_build("placement"), **{**values, **changes})


def staged_tree(root):
    """Stage a tree that has what these tests run under."""
    tree = root / "usr/lib/openstack/2026.1"
    site = tree / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    site.mkdir(parents=True)
    (site / "tools.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tree / "bin").mkdir()
    base = Path(sys.base_prefix, "bin", f"python{sysconfig.get_python_version()}")
    (tree / "bin/python").symlink_to(base)
    (tree / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    return root


def run_build(root, **changes):
    made = toy_build(root, **changes)
    return build_source_package(
        made, DEPENDS, TEMPLATES, work=root / "work", output=root / "out", log=root / "log"
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return run_build(tmp_path_factory.mktemp("one") / "here")


def contents(deb, kind="--contents"):
    return subprocess.run(
        ["dpkg-deb", kind, deb], capture_output=True, text=True, check=True
    ).stdout


def unpacked(deb, root):
    subprocess.run(["dpkg-deb", "-R", deb, root], check=True)
    return root


def test_the_release_tarball_is_the_orig_tarball_bit_for_bit(built, tmp_path):
    assert built.name == "toy"
    assert built.version == "2:1.0.0-1+deb12.1"
    orig, debian = built.files
    assert orig.name == "toy_1.0.0.orig.tar.gz"
    assert debian.name == "toy_1.0.0-1+deb12.1.debian.tar.xz"
    tarball = orig.parents[1] / "toy-1.0.tar.gz"
    assert orig.read_bytes() == tarball.read_bytes()
    argv = ["dpkg-source", "--extract", built.dsc.name, tmp_path / "source"]
    subprocess.run(argv, cwd=built.dsc.parent, check=True, capture_output=True)
    assert (tmp_path / "source/debian/control").is_file()


def test_code_configuration_and_daemon_are_packages_of_their_own(built, tmp_path):
    names = [d.name.split("_")[0] for d in built.debs]
    assert names == ["openstack-2026.1-toy-box", "toy-common", "toy-worker"]
    code, common, worker = (unpacked(d, tmp_path / d.name) for d in built.debs)
    tree = code / "usr/lib/openstack/2026.1"
    site = tree / "lib/python3.11/site-packages"
    assert (tree / "bin/toy-run").read_text().startswith("#!/usr/lib/openstack/2026.1/bin/python\n")
    assert (site / "toy/__init__.py").is_file()
    assert not (site / "toy/tests").exists()
    assert not (tree / "etc").exists()
    assert not list(code.rglob("__pycache__"))
    assert "tests" not in (site / "toy_box-1.0.dist-info/RECORD").read_text()
    assert (common / "usr/bin/toy-run").readlink() == Path("../lib/openstack/2026.1/bin/toy-run")
    assert (common / "usr/share/toy-common/toy.conf").read_text() == (
        "[DEFAULT]\n#log_dir = <None>\nlog_dir = /var/log/toy\n\n[database]\n#connection = <None>\n"
    )
    assert (common / "usr/share/toy/rootwrap/toy.filters").is_file()
    assert not [p for p in common.glob("etc/**/*") if p.is_file()]  # ucf brings all of it
    assert (worker / "lib/systemd/system/toy-worker.service").is_file()
    version = "(= 2:1.0.0-1+deb12.1)"
    assert f"openstack-2026.1-toy-box {version}" in (common / "DEBIAN/control").read_text()
    assert f"Depends: toy-common {version}" in (worker / "DEBIAN/control").read_text()
    assert ", ".join(DEPENDS) in (code / "DEBIAN/control").read_text()


def test_the_same_input_gives_the_same_bits_in_another_directory(built, tmp_path):
    again = run_build(tmp_path / "quite-another-place")
    first = {p.name: p.read_bytes() for p in (built.dsc, *built.files, *built.debs)}
    second = {p.name: p.read_bytes() for p in (again.dsc, *again.files, *again.debs)}
    assert first == second


PATCH = Patch(
    "answer.patch",
    "Give an answer",
    """\
Description: Give an answer
Origin: other
---
--- a/etc/toy.conf
+++ b/etc/toy.conf
@@ -3,3 +3,4 @@

 [database]
 #connection = <None>
+#answer = 42
""".replace("@@\n\n", "@@\n \n"),
)


def test_patches_are_debian_patches_that_dpkg_source_applies(built, tmp_path):
    patched = run_build(tmp_path / "here", patches=(PATCH,))
    assert patched.files[0].read_bytes() == built.files[0].read_bytes()
    source = tmp_path / "source"
    argv = ["dpkg-source", "--extract", patched.dsc.name, source]
    subprocess.run(argv, cwd=patched.dsc.parent, check=True, capture_output=True)
    assert (source / "debian/patches/series").read_text() == "answer.patch\n"
    assert (source / "debian/patches/answer.patch").read_text() == PATCH.text
    assert "#answer = 42" in (source / "etc/toy.conf").read_text()
    assert "  * answer.patch:\n    Give an answer.\n" in (source / "debian/changelog").read_text()
    assert " answer.patch: Give an answer.\n" in (source / "debian/copyright").read_text()
    common = unpacked(patched.debs[1], tmp_path / "common")
    assert "#answer = 42" in (common / "usr/share/toy-common/toy.conf").read_text()


def test_a_patched_source_gives_the_same_bits_too(tmp_path):
    rows = [run_build(tmp_path / n, patches=(PATCH,)) for n in ("one", "quite-another-place")]
    first, second = ({p.name: p.read_bytes() for p in (r.dsc, *r.files, *r.debs)} for r in rows)
    assert first == second


def test_without_patches_the_source_package_has_no_such_directory():
    files = render(service_build("glance"), DEPENDS, TEMPLATES)
    assert not [p for p in files if p.startswith("debian/patches")]


def test_a_build_that_fails_names_service_and_log(tmp_path):
    root = tmp_path / "broken"
    service = load_changed(tmp_path, 'from = "etc/*.filters"', 'from = "etc/*.none"')
    with pytest.raises(BuildError, match=r"toy 1\.0: its packages failed to build") as caught:
        run_build(root, service=service)
    assert any("the source contains no etc/*.none" in line for line in caught.value.details)
    assert str(root / "log") in caught.value.hint
    assert not (root / "out").exists()


def test_sudoers_that_visudo_refuses_do_not_build(tmp_path):
    service = load_changed(tmp_path, "toy-rootwrap /etc", "toy-rootwrap /etc")
    service = dataclasses.replace(service, sudoers=("toy-rootwrap = = oops",))
    assert shutil.which("visudo", path="/usr/sbin")
    with pytest.raises(BuildError) as caught:
        run_build(tmp_path / "broken", service=service)
    assert any("sudoers" in line for line in caught.value.details)


def load_changed(tmp_path, old, new):
    assert old in TOY
    path = tmp_path / "changed.toml"
    path.write_text(TOY.replace(old, new))
    return load(path, Service)
