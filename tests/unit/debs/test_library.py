"""Library packages: every text they carry, where their files are, and what dpkg is told."""

import gzip
import hashlib
import re
import subprocess
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from values import BOOKWORM, GAZPACHO
from wheelhouse import (
    TEMPLATES,
    distribution,
    lock_of,
    metadata_text,
    names,
    ready,
    shared_object,
    wheel,
    write_wheel,
)

from builder.debs import library, tree
from builder.errors import BuildError
from builder.model.values import LintianOverride, Patch

EPOCH = 1775001600  # 2026-04-01
TREE = "/usr/lib/openstack/2026.1"
SITE = f"{TREE}/lib/python3.11/site-packages"
LINTIAN = (
    LintianOverride("*", "unusual-interpreter", "scripts run in the tree of their series"),
    LintianOverride("Pure_Thing", "national-encoding *", "test data"),
)
CONTEXT = library.Context(GAZPACHO, BOOKWORM, TEMPLATES, EPOCH, LINTIAN)
BSD = """Copyright (c) 2013-2020, Jane Example <jane@example.org>
All rights reserved.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the name of the copyright
holder is kept.
"""
PURE = {
    "pure_thing/__init__.py": "answer = 42\n",
    "pure_thing/sub/deep.py": "",
    "pure_thing/data.txt": "ä\n",
    "pure_top.py": "",
    "{info}/LICENSE": BSD,
    "{data}/data/etc/pure/pure.conf": "[DEFAULT]\n",
    "{data}/headers/pure.h": "#define PURE\n",
    "{data}/scripts/pure-legacy": "#!python\nprint('legacy')\n",
    "{data}/purelib/pure_late.py": "",
}


def requirement_rows():
    """Return the requirements of the pure package: one of each shape."""
    return ("compiled_thing>=1.0,!=1.5", "Plain[fast]~=2.1", "keystone>=20", "any-version")


@dataclass
class House:
    """A lock of tiny distributions, their wheels and what is planned of them."""

    area: Path
    plan: dict
    wheels: dict

    def deb(self, name, where="debs", **changes):
        package = replace(self.plan[name], **changes)
        return library.build(CONTEXT, package, self.wheels.get(name), self.area / where)

    def unpacked(self, name):
        root = self.area / "roots" / name
        if not root.exists():
            root.parent.mkdir(exist_ok=True)
            subprocess.run(["dpkg-deb", "-R", self.deb(name), root], check=True)
        return root


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    area = tmp_path_factory.mktemp("library")
    made = {
        "pure-thing": wheel(
            area,
            "Pure-Thing",
            "1.2.3rc1",
            PURE,
            scripts={"pure": "pure_thing:main"},
            classifier=["License :: OSI Approved :: BSD License"],
        ),
        "compiled-thing": wheel(
            area,
            "compiled-thing",
            "1.7",
            {
                "compiled_thing/_core.cpython-311-x86_64-linux-gnu.so": shared_object(
                    area, '#include <stdio.h>\nint f(void) { return puts("x"); }\n', "core.so"
                )
            },
            tag="cp311-cp311-manylinux_2_17_x86_64",
            license="MIT",
            author="Joe Example",
        ),
    }
    rows = distributions(made)
    lock = lock_of(*rows.values())
    plan = library.plan(
        CONTEXT,
        lock,
        {"keystone": 2},
        {"keystone": ["keystone", "plain"], "nova": ["nova"]},
        ["python-openstackclient", "osc-placement"],
    )
    prefix = "openstack-2026.1-"
    wheels = {f"{prefix}{n}": ready(rows[n], path) for n, path in made.items()}
    return House(area, {p.name: p for p in plan}, wheels)


def distributions(made):
    return {
        "pure-thing": distribution(
            "Pure-Thing",
            "1.2.3rc1",
            requirement_rows(),
            path=made["pure-thing"],
            summary="A thing that is   pure.",
            homepage="https://pure.example.org/",
        ),
        "compiled-thing": distribution("compiled-thing", "1.7", path=made["compiled-thing"]),
        "plain": distribution("Plain", "2.1.0", extras={"fast": ("speed>3",)}),
        "speed": distribution("speed", "4"),
        "any-version": distribution("any-version", "0.1"),
        "keystone": distribution("keystone", "29.0.2", ["Pure-Thing"], kind="service"),
        "nova": distribution("nova", "33.0.2", ["Plain", "any-version"], kind="service"),
        "python-openstackclient": distribution(
            "python-openstackclient", "8.0", homepage="https://client.example.org/"
        ),
        "osc-placement": distribution("osc-placement", "4.5"),
    }


def stable(text):
    """Leave out of a control file what every change of a template or compiler changes."""
    assert len(re.findall(r"^Build-Inputs: [0-9a-f]{64}$", text, re.MULTILINE)) == 1
    text = re.sub(r"^Build-Inputs: .*", "Build-Inputs: …", text, flags=re.MULTILINE)
    return re.sub(r"^Installed-Size: \d+$", "Installed-Size: …", text, flags=re.MULTILINE)


def texts_of(root):
    """Return the texts we write into a package (not those of its wheel, not md5sums)."""
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
        name = str(path.relative_to(root))
        if name.startswith((SITE[1:], "DEBIAN/md5sums", f"{TREE[1:]}/etc", f"{TREE[1:]}/include")):
            continue
        if name.endswith(".gz"):
            found[name.removesuffix(".gz")] = gzip.decompress(path.read_bytes()).decode()
        else:
            text = path.read_text()
            found[name] = stable(text) if name == "DEBIAN/control" else text
    return found


BASE = "openstack-2026.1-base"
PURE_NAME = "openstack-2026.1-pure-thing"
COMPILED = "openstack-2026.1-compiled-thing"
TEXTS = {
    BASE: {
        "DEBIAN/control",
        "DEBIAN/postinst",
        "DEBIAN/prerm",
        "DEBIAN/triggers",
        f"{TREE[1:]}/libexec/compile-modules",
        f"{TREE[1:]}/pyvenv.cfg",
    },
    PURE_NAME: {
        "DEBIAN/control",
        "DEBIAN/prerm",
        f"{TREE[1:]}/bin/pure",
        f"{TREE[1:]}/bin/pure-legacy",
    },
    COMPILED: {"DEBIAN/control"},
    "openstack-2026.1-closure-common": {"DEBIAN/control"},
    "openstack-2026.1-closure-keystone": {"DEBIAN/control"},
    "openstackclient": {"DEBIAN/control"},
}


@pytest.mark.parametrize("package", TEXTS)
def test_every_text_is_the_golden_one(house, golden, package):
    texts = texts_of(house.unpacked(package))
    own = {
        f"usr/share/doc/{package}/changelog.Debian",
        f"usr/share/doc/{package}/copyright",
        f"usr/share/lintian/overrides/{package}",
    }
    assert set(texts) == TEXTS[package] | own
    if package == COMPILED:  # names the checksum of what this machine's compiler made
        del texts[f"usr/share/doc/{package}/copyright"]
    for name, text in texts.items():
        golden(f"library/{package}/{name.replace(TREE[1:], 'tree')}", text)


def control(root):
    text = (root / "DEBIAN/control").read_text()
    return dict(re.findall(r"^(\S+): (.*)$", text, re.MULTILINE))


def test_one_package_is_planned_of_each_distribution_but_the_services(house):
    assert set(house.plan) == {
        BASE,
        "openstackclient",
        *(f"openstack-2026.1-closure-{n}" for n in ("common", "keystone", "nova")),
        *(
            f"openstack-2026.1-{n}"
            for n in ("pure-thing", "compiled-thing", "plain", "speed", "any-version")
        ),
        "openstack-2026.1-python-openstackclient",
        "openstack-2026.1-osc-placement",
    }


def test_files_are_in_the_series_tree_and_nowhere_else(house):
    root = house.unpacked(PURE_NAME)
    files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    outside = {f for f in files if not f.startswith((TREE[1:], "DEBIAN/", "usr/share/"))}
    assert outside == set()
    inside = {f.removeprefix(TREE[1:] + "/") for f in files if f.startswith(TREE[1:])}
    assert {
        "etc/pure/pure.conf",
        "include/pure-thing/pure.h",
        "bin/pure",
        "bin/pure-legacy",
        "lib/python3.11/site-packages/pure_late.py",
        "lib/python3.11/site-packages/pure_thing/sub/deep.py",
    } <= inside
    assert not any("__pycache__" in f for f in files)


def test_scripts_run_in_the_tree(house):
    for name in ("pure", "pure-legacy"):
        script = house.unpacked(PURE_NAME) / TREE[1:] / "bin" / name
        assert script.read_text().startswith(f"#!{TREE}/bin/python\n")
        assert script.stat().st_mode & 0o777 == 0o755


def test_pip_is_told_that_the_files_are_dpkg_s(house):
    (info,) = (house.unpacked(PURE_NAME) / SITE[1:]).glob("*.dist-info")
    assert (info / "INSTALLER").read_text() == "dpkg\n"
    assert "INSTALLER" in (info / "RECORD").read_text()


def test_a_package_with_machine_code_is_of_the_architecture_and_depends_on_its_libraries(house):
    deb = house.deb(COMPILED)
    assert deb.name == "openstack-2026.1-compiled-thing_1.7.0-1+deb12.1_amd64.deb"
    fields = control(house.unpacked(COMPILED))
    assert fields["Architecture"] == "amd64"
    assert "libc6 (>= 2." in fields["Depends"]
    assert control(house.unpacked(PURE_NAME))["Architecture"] == "all"


def test_machine_code_is_as_the_wheel_has_it(house):
    """What strip does to a library that patchelf has rewritten makes it unusable."""
    (module,) = (house.unpacked(COMPILED) / SITE[1:]).rglob("*.so")
    with zipfile.ZipFile(house.wheels[COMPILED].path) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".so")]
        assert module.read_bytes() == archive.read(name)


def with_modes(path, modes):
    """Have members of a wheel say other modes (the type of a file among them)."""
    with zipfile.ZipFile(path) as archive:
        rows = {i: archive.read(i) for i in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in rows.items():
            info.external_attr = modes.get(info.filename, 0o100644) << 16
            archive.writestr(info, data)
    return path


def unpacked(context, path, area):
    """Build the package of a wheel, and unpack it; return its fields, and the root."""
    row = distribution(path.name.split("-")[0], path=path)
    (package,) = [p for p in library.plan(context, lock_of(row), {}, {}, []) if p.distribution]
    deb = library.build(context, package, ready(row, path), area / "debs")
    subprocess.run(["dpkg-deb", "-x", deb, area / "root"], check=True)
    return fields_of(deb), area / f"root{TREE}"


def test_files_are_executable_where_the_wheel_says_so(tmp_path):
    """pip's rule: any of the three bits, of a regular file."""
    code = shared_object(tmp_path, "int f(void) { return 1; }\n", "helper")
    names = ("foo/helper", "foo/lib.so", "foo/plain.so", "foo/run.sh", "foo/others", "foo/link")
    files = dict.fromkeys(names[:3], code) | dict.fromkeys(names[3:], "#!/bin/sh\n")
    modes = {"foo/helper": 0o100755, "foo/lib.so": 0o100755, "foo/run.sh": 0o100744,
             "foo/others": 0o100645, "foo/link": 0o120777}  # fmt: skip
    path = with_modes(wheel(tmp_path, "foo", "1.0", files, tag="cp311-cp311-linux_x86_64"), modes)
    _, root = unpacked(CONTEXT, path, tmp_path)
    site = root / "lib/python3.11/site-packages"
    found = {n for n in names if (site / n).stat().st_mode & 0o777 == 0o755}
    assert found == {"foo/helper", "foo/lib.so", "foo/run.sh", "foo/others"}
    assert {(site / n).stat().st_mode & 0o777 for n in set(names) - found} == {0o644}


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (18, b"\xb7\x00"),  # of aarch64
        (4, b"\x01"),  # of 32 bits
        (16, b"\x01\x00"),  # relocatable: an object file
        (5, b"\x02"),  # big endian
    ],
)
def test_code_of_another_machine_is_data(tmp_path, at, value):
    code = bytearray(shared_object(tmp_path, "int f(void) { return 1; }\n", "lib.so"))
    code[at : at + len(value)] = value
    files = {"foo/lib.so": bytes(code), "foo/cut.so": bytes(code[:10])}
    path = wheel(tmp_path, "foo", "1.0", files, tag="cp311-cp311-linux_x86_64")
    fields, root = unpacked(CONTEXT, path, tmp_path)
    assert fields["Architecture"] == "all"
    assert (root / "lib/python3.11/site-packages/foo/lib.so").read_bytes() == bytes(code)


def respelled(tmp_path, *directories, files=()):
    """Make a wheel of tinylib whose directories are spelled in another way."""
    info = "TinyLib-1.0.dist-info"
    rows = {f"{info}/METADATA": metadata_text("TinyLib", "1.0"),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": "[console_scripts]\ntiny = tinylib:main\n"}  # fmt: skip
    for data in directories:
        rows |= {f"{data}/scripts/tiny-old": "#!python\n", f"{data}/scripts/tiny-script.py": "x",
                 f"{data}/purelib/tinylib.py": "", f"{data}/data/share/tiny": "x",
                 f"{data}/headers/tiny.h": ""}  # fmt: skip
    return write_wheel(tmp_path / "tinylib-1.0-py3-none-any.whl", info, {**rows, **dict(files)})


@pytest.mark.parametrize("data", ["TinyLib-1.0.data", "tinylib-1.0.data", "Tiny.Lib-1.0.0.data"])
def test_directories_of_a_wheel_may_be_spelled_in_another_way(tmp_path, data):
    _, root = unpacked(CONTEXT, respelled(tmp_path, data), tmp_path)
    site = root / "lib/python3.11/site-packages"
    assert names(site) == ["TinyLib-1.0.dist-info", "tinylib.py"]
    # what is made of an entry point stands in place of the wheel's own, as pip has it
    assert names(root / "bin") == ["tiny", "tiny-old"]
    assert (root / "share/tiny").read_text() == "x"
    assert names(root / "include/tinylib") == ["tiny.h"]
    record = (site / "TinyLib-1.0.dist-info/RECORD").read_text()
    assert "../../../bin/tiny-old," in record
    assert ".data" not in record


REFUSED = {
    "TinyLib-1.0.data/nowhere/x": "belongs to no scheme",
    "TinyLib-1.0.data/x": "belongs to no scheme",
    "other.data/scripts": "belongs to no scheme",
    "tinylib-1.0.dist-info/x": "one .dist-info directory, got 2: TinyLib-1.0.dist-info, tiny",
    "TinyLib-1.0.data/platlib/tinylib.py": "two of its members go to",
    "tinylib.py/x": "",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_pip_would_not_lay_out_is_refused(tmp_path, name):
    path = respelled(tmp_path, "TinyLib-1.0.data", files={name: "other"})
    if not REFUSED[name]:
        path = respelled(tmp_path, files={name: "other", "tinylib.py": ""})
    with pytest.raises(BuildError, match=r"tinylib-1\.0-py3-none-any\.whl: ") as raised:
        unpacked(CONTEXT, path, tmp_path)
    assert REFUSED[name] in raised.value.message
    assert one_line(raised.value)


def test_a_file_twice_in_a_wheel_and_the_same_is_one(tmp_path):
    files = {"TinyLib-1.0.data/platlib/tinylib.py": ""}
    path = respelled(tmp_path, "TinyLib-1.0.data", files=files)
    _, root = unpacked(CONTEXT, path, tmp_path)
    assert (root / "lib/python3.11/site-packages/tinylib.py").read_text() == ""


def one_line(error):
    """Whether the message of an error is one printable line, without an object's repr."""
    text = error.message
    return text.isprintable() and " object at 0x" not in text and "Error(" not in text


def test_what_a_recipe_excludes_is_not_packaged(tmp_path):
    files = {"odd/__init__.py": "", "tests/__init__.py": "", "tests/deep/x.py": "",
             "tests_too.py": "", "odd/a.pyi": "", "odd/sub/b.pyi": "",
             "{data}/data/doc/x": ""}  # fmt: skip
    path = wheel(tmp_path, "odd", "1.0", files, scripts={"odd": "odd:x", "odd-test": "tests:x"})
    context = replace(
        CONTEXT, exclude={"odd": ("{site}/tests", "{site}/odd/*.pyi", "doc", "bin/odd-test")}
    )
    _, root = unpacked(context, path, tmp_path)
    found = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    site = "lib/python3.11/site-packages"
    kept = {f"{site}/odd/__init__.py", f"{site}/odd/sub/b.pyi", f"{site}/tests_too.py", "bin/odd"}
    assert {f for f in found if ".dist-info" not in f} == kept
    record = (root / site / "odd-1.0.dist-info/RECORD").read_text()
    assert [line for line in record.splitlines() if line.startswith("tests/")] == []
    row = distribution("odd", path=path)
    plans = [library.plan(c, lock_of(row), {}, {}, [])[1] for c in (CONTEXT, context)]
    assert plans[0].inputs != plans[1].inputs


def test_a_library_the_wheel_brings_itself_is_no_dependency(tmp_path):
    own = shared_object(tmp_path, "int own(void) { return 1; }\n", "libown-abc123.so.1")
    link = ["-L", str(tmp_path), "-l:libown-abc123.so.1", "-Wl,-rpath,$ORIGIN/../thing.libs"]
    code = "int own(void);\nint f(void) { return own(); }\n"
    module = shared_object(tmp_path, code, "module.so", *link)
    files = {"thing/module.so": module, "thing.libs/libown-abc123.so.1": own}
    deb = build_one(tmp_path, "thing", files, tag="cp311-cp311-linux_x86_64")
    assert "libown" not in fields_of(deb)["Depends"]


def test_a_library_nobody_has_is_one_error_that_names_it(tmp_path):
    shared_object(tmp_path, "int own(void) { return 1; }\n", "libnowhere.so.1")
    link = ["-L", str(tmp_path), "-l:libnowhere.so.1"]
    code = "int own(void);\nint f(void) { return own(); }\n"
    module = shared_object(tmp_path, code, "module.so", *link)
    with pytest.raises(BuildError) as raised:
        build_one(tmp_path, "thing", {"thing/module.so": module}, tag="cp311-cp311-linux_x86_64")
    assert any("libnowhere.so.1" in line for line in raised.value.details)
    assert names(tmp_path / "debs") == []


def build_one(area, name, files, version="1.0", *, requires=(), **options):
    """Make the package of one wheel, and return the .deb."""
    path = wheel(area, name, version, files, **options)
    row = distribution(name, version, requires, path=path)
    client = distribution("python-openstackclient", "8.0")
    plan = library.plan(CONTEXT, lock_of(row, client), {}, {}, ["python-openstackclient"])
    (package,) = [p for p in plan if p.distribution is row]
    return library.build(CONTEXT, package, ready(row, path), area / "debs")


def fields_of(deb):
    done = subprocess.run(["dpkg-deb", "-f", deb], capture_output=True, check=True, text=True)
    return dict(re.findall(r"^(\S+): (.*)$", done.stdout, re.MULTILINE))


def test_the_same_wheel_gives_the_same_bits_anywhere(house):
    again = {n: house.deb(n, "elsewhere/deep") for n in (BASE, PURE_NAME, COMPILED)}
    for name, deb in again.items():
        assert deb.read_bytes() == house.deb(name).read_bytes(), name


def test_owner_mode_and_time_of_files_are_the_same_on_every_machine(house):
    for name in (BASE, PURE_NAME, COMPILED):
        argv = ["dpkg-deb", "-c", house.deb(name)]
        done = subprocess.run(argv, capture_output=True, check=True, text=True, env={"TZ": "UTC"})
        for line in done.stdout.splitlines():
            mode, owner, _, day, hour, *_ = line.split()
            assert owner == "root/root"
            assert mode in {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"}, line
            assert (day, hour) <= ("2026-04-01", "00:00"), line


def test_checksums_are_those_of_the_files(house):
    for name in (BASE, PURE_NAME, COMPILED):
        root = house.unpacked(name)
        listed = dict(
            reversed(line.split("  ", 1))
            for line in (root / "DEBIAN/md5sums").read_text().splitlines()
        )
        files = [p for p in root.rglob("*") if p.is_file() and not p.is_symlink()]
        wanted = {str(p.relative_to(root)): p for p in files if p.parent.name != "DEBIAN"}
        assert listed.keys() == wanted.keys()
        for file, path in wanted.items():
            assert listed[file] == hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324


def test_the_installed_size_is_what_dpkg_counts(house):
    root = house.unpacked(PURE_NAME)
    total = 0
    for path in root.rglob("*"):
        if "DEBIAN" not in path.parts:
            total += -(-path.stat().st_size // 1024) if path.is_file() else 1
    assert control(root)["Installed-Size"] == str(total)


def test_a_revision_changes_the_version_alone(house):
    first, second = house.plan[PURE_NAME], replace(house.plan[PURE_NAME], revision=2)
    assert (first.version, second.version) == ("1.2.3~rc1-1+deb12.1", "1.2.3~rc1-1+deb12.2")
    assert first.inputs == second.inputs


def test_inputs_change_with_whatever_changes_the_bits(house):
    def inputs(context=CONTEXT, **changes):
        row = replace(distributions({k: house.wheels[f"openstack-2026.1-{k}"].path for k in (
            "pure-thing", "compiled-thing")})["pure-thing"], **changes)  # fmt: skip
        client = distribution("python-openstackclient", "8.0")
        plan = library.plan(context, lock_of(row, client), {}, {}, ["python-openstackclient"])
        return next(p.inputs for p in plan if p.distribution is row)

    first = inputs()
    assert inputs() == first
    different = {
        inputs(summary="said otherwise"),
        inputs(requires=("other",)),
        inputs(homepage="https://elsewhere.example.org"),
        inputs(artifacts=distribution("other").artifacts),
        inputs(replace(CONTEXT, epoch_seconds=EPOCH + 1)),
        inputs(replace(CONTEXT, target=replace(BOOKWORM, compression="xz"))),
        inputs(replace(CONTEXT, target=replace(BOOKWORM, compression_level=9))),
        inputs(replace(CONTEXT, lintian=())),
    }
    assert len(different | {first}) == 9
    # why it is in says nothing about the bits
    assert inputs(reason=("keystone", "Pure-Thing")) == first


def test_a_service_s_code_is_depended_on_with_debian_s_epoch(house):
    assert "openstack-2026.1-keystone (>= 2:20.0.0)" in house.plan[PURE_NAME].relations["Depends"]


def test_closures_name_every_distribution_with_its_locked_version(house):
    def floors(name):
        return set(house.plan[f"openstack-2026.1-closure-{name}"].relations["Depends"])

    everything = floors("common") | floors("keystone")
    assert {
        "openstack-2026.1-pure-thing (>= 1.2.3~rc1)",
        "openstack-2026.1-compiled-thing (>= 1.7.0)",
        "openstack-2026.1-speed (>= 4.0.0)",
    } <= everything
    # a service's own code comes from its source package
    assert not any("2026.1-keystone " in f or "2026.1-nova " in f for f in everything)
    assert "openstack-2026.1-plain (>= 2.1.0)" in floors("common")


def test_a_patched_package_says_so_in_its_changelog_and_copyright(tmp_path):
    path = wheel(tmp_path, "thing", "1.0", {"thing.py": ""})
    row = distribution("thing", "1.0", path=path)
    patches = (Patch("two.patch", "Say two", ""), Patch("three.patch", "Say three", ""))
    context = replace(CONTEXT, patches={"thing": patches})
    plans = [library.plan(c, lock_of(row), {}, {}, [])[1] for c in (CONTEXT, context)]
    assert plans[0].inputs != plans[1].inputs
    deb = library.build(context, plans[1], ready(row, path), tmp_path / "debs")
    root = tmp_path / "root"
    subprocess.run(["dpkg-deb", "-R", deb, root], check=True)
    docs = root / "usr/share/doc/openstack-2026.1-thing"
    changelog = gzip.decompress((docs / "changelog.Debian.gz").read_bytes()).decode()
    assert "  * two.patch:\n    Say two.\n  * three.patch:\n    Say three.\n\n --" in changelog
    copyright_ = (docs / "copyright").read_text()
    assert "as its author published it.\n It was built with these changes" in copyright_
    assert " two.patch: Say two.\n three.patch: Say three.\n\nFiles: *" in copyright_


def test_an_empty_or_odd_summary_is_no_broken_description(tmp_path):
    for n, summary in enumerate(("", "two\n\n lines.\n", "a" * 300, "UNKNOWN")):
        path = wheel(tmp_path, f"odd{n}", "1.0", {"odd.py": ""})
        row = distribution(f"odd{n}", "1.0", path=path, summary=summary)
        client = distribution("python-openstackclient", "8.0")
        plan = library.plan(CONTEXT, lock_of(row, client), {}, {}, ["python-openstackclient"])
        (package,) = [p for p in plan if p.distribution is row]
        deb = library.build(CONTEXT, package, ready(row, path), tmp_path / "debs")
        description = subprocess.run(
            ["dpkg-deb", "-f", deb, "Description"], capture_output=True, check=True, text=True
        ).stdout
        assert all(line.startswith(" ") for line in description.splitlines()[1:])


def test_the_scripts_that_maintain_are_valid_shell(house):
    for name in (BASE, PURE_NAME):
        for script in ("postinst", "prerm"):
            path = house.unpacked(name) / "DEBIAN" / script
            if path.exists():
                assert path.stat().st_mode & 0o777 == 0o755
                subprocess.run(["sh", "-n", path], check=True)


def run_script(path, argument, site):
    """Run a maintainer script against another site-packages."""
    text = path.read_text().replace(SITE, str(site))
    argv = ["sh", "-c", text, str(path), argument]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


def byte_code(site, *paths):
    for path in paths:
        cache = (site / path).parent / "__pycache__"
        cache.mkdir(parents=True, exist_ok=True)
        (cache / f"{Path(path).stem}.cpython-311.pyc").write_text("")


def test_removal_takes_the_byte_code_of_its_own_modules_and_no_other(house, tmp_path):
    byte_code(tmp_path, "pure_thing/__init__.py", "pure_thing/sub/deep.py", "pure_top.py")
    byte_code(tmp_path, "other/x.py", "other_top.py")
    script = house.unpacked(PURE_NAME) / "DEBIAN/prerm"
    assert run_script(script, "remove", tmp_path).returncode == 0
    left = {p.name for p in tmp_path.rglob("*.pyc")}
    assert left == {"x.cpython-311.pyc", "other_top.cpython-311.pyc"}
    assert run_script(script, "remove", tmp_path).returncode == 0


def test_removal_of_the_last_module_leaves_no_directory(house, tmp_path):
    byte_code(tmp_path, "pure_thing/__init__.py", "pure_top.py", "pure_late.py")
    run_script(house.unpacked(PURE_NAME) / "DEBIAN/prerm", "upgrade", tmp_path)
    assert names(tmp_path) == ["pure_thing"]
    assert names(tmp_path / "pure_thing") == []


def test_removal_of_the_base_takes_all_byte_code_and_its_upgrade_none(house, tmp_path):
    byte_code(tmp_path, "a/x.py", "b.py")
    script = house.unpacked(BASE) / "DEBIAN/prerm"
    assert run_script(script, "upgrade", tmp_path).returncode == 0
    assert len(list(tmp_path.rglob("*.pyc"))) == 2
    assert run_script(script, "remove", tmp_path).returncode == 0
    assert list(tmp_path.rglob("__pycache__")) == []


def test_a_package_without_python_has_no_script(tmp_path):
    deb = build_one(tmp_path, "data-only", {"{data}/data/share/x": "x"})
    listing = subprocess.run(["dpkg-deb", "-I", deb], capture_output=True, check=True, text=True)
    assert "prerm" not in listing.stdout


def test_names_a_shell_could_misread_are_harmless(tmp_path):
    deb = build_one(
        tmp_path, "odd", {"a b/__init__.py": "", "$(touch gone)/x.py": "", "c;d.py": ""}
    )
    subprocess.run(["dpkg-deb", "-e", deb, tmp_path / "control"], check=True)
    site = tmp_path / "site"
    byte_code(site, "a b/__init__.py", "$(touch gone)/x.py", "c;d.py")
    done = run_script(tmp_path / "control/prerm", "remove", site)
    assert done.returncode == 0, done.stderr
    assert list(site.rglob("*.pyc")) == []
    assert not Path("gone").exists()


LEADING_OUT = [
    "../../../../../../../../outside.py",
    "/outside.py",
    "{data}/data/../outside.py",
    "{data}/scripts/../../../../../../outside.py",
]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_wheel_whose_files_lead_out_is_refused(tmp_path, name):
    with pytest.raises(BuildError, match=r"odd-1\.0-py3-none-any\.whl"):
        build_one(tmp_path / "a/b/c", "odd", {name: "", "odd.py": ""})
    assert not list(tmp_path.rglob("outside.py"))
    assert not Path("/outside.py").exists()


def test_a_damaged_wheel_is_one_error_that_names_it(tmp_path):
    path = wheel(tmp_path, "odd", files={"odd.py": "x = 1\n" * 100})
    row = distribution("odd", path=path)
    path.write_bytes(path.read_bytes()[:300])
    client = distribution("python-openstackclient", "8.0")
    plan = library.plan(CONTEXT, lock_of(row, client), {}, {}, ["python-openstackclient"])
    (package,) = [p for p in plan if p.distribution is row]
    with pytest.raises(BuildError, match=r"odd-1\.0-py3-none-any\.whl"):
        library.build(CONTEXT, package, ready(row, path), tmp_path / "debs")
    assert names(tmp_path / "debs") == []


def test_programs_of_a_wheel_without_modes_are_executable(tmp_path):
    files = {"{data}/scripts/plain": "#!python\n", "{data}/data/bin/tool": "#!/bin/sh\n"}
    build_one(tmp_path, "odd", {**files, "{data}/data/etc/odd.conf": "x = 1\n"})
    (deb,) = (tmp_path / "debs").glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path / "root"], check=True)
    modes = {
        name: (tmp_path / f"root{TREE}" / name).stat().st_mode & 0o777
        for name in ("bin/plain", "bin/tool", "etc/odd.conf")
    }
    assert modes == {"bin/plain": 0o755, "bin/tool": 0o755, "etc/odd.conf": 0o644}


def test_stray_byte_code_of_a_wheel_is_left_out(tmp_path):
    deb = build_one(tmp_path, "odd", {"odd/__init__.py": "", "odd/__pycache__/x.pyc": b"old"})
    listing = subprocess.run(["dpkg-deb", "-c", deb], capture_output=True, check=True, text=True)
    assert "__pycache__" not in listing.stdout


def test_a_series_without_a_client_has_no_client_package():
    plan = library.plan(CONTEXT, lock_of(distribution("a")), {}, {}, [])
    assert "openstackclient" not in {p.name for p in plan}


def test_a_wheel_of_latin_1_metadata_is_packaged(tmp_path):
    path = wheel(
        tmp_path, "odd", files={"odd.py": ""}, author="J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg"
    )
    rows = {n: zipfile.ZipFile(path).read(n) for n in zipfile.ZipFile(path).namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in rows.items():
            latin = raw.decode().encode("latin-1") if name.endswith("METADATA") else raw
            archive.writestr(name, latin)
    row = distribution("odd", path=path)
    plan = library.plan(CONTEXT, lock_of(row), {}, {}, [])
    (package,) = [p for p in plan if p.distribution is row]
    assert library.build(CONTEXT, package, ready(row, path), tmp_path / "debs").exists()


# -- files that several wheels have


def shared(area, *, known=(), **wheels):
    """Unpack wheels, by name, into one tree, in the order of the names; return what is shared."""
    laid = {}
    for name, files in wheels.items():
        path = wheel(area / "house", name, "1.0", files)
        laid[name] = tree.unpack(CONTEXT, ready(distribution(name, path=path), path), area / "tree")
    return tree.share(laid, known, min)


@pytest.mark.parametrize("order", [("left", "right"), ("right", "left")])
def test_the_owner_of_a_shared_file_is_the_same_whoever_was_first(tmp_path, order):
    files = {"ns/__init__.py": "x = 1\n"}
    laid, found, conflicts = shared(tmp_path, **dict.fromkeys(order, files))
    path = f"{SITE[1:]}/ns/__init__.py"
    assert found == (tree.Shared(path, "left", ("right",)),)
    assert (path in laid["left"].files, path in laid["right"].files) == (True, False)
    assert conflicts == {}


def test_a_shared_file_is_its_owners_where_that_is_not_in_the_tree(tmp_path):
    path = f"{SITE[1:]}/ns/__init__.py"
    known = (tree.Shared(path, "a", ("right",)),)
    laid, found, _ = shared(tmp_path, known=known, right={"ns/__init__.py": "x = 1\n"})
    assert path not in laid["right"].files
    assert found == known


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"ns/__init__.py": ""}, {"ns/__init__.py": "x = 1\n"}),
        ({"ns/__init__.py": ""}, {"ns": ""}),
        ({"ns": ""}, {"ns/__init__.py": ""}),
        ({"ns": ""}, {"ns/a/b/c.py": ""}),
        ({"{data}/scripts/run": "#!/bin/sh\n"}, {"{data}/data/bin/run": "#!python\n"}),
    ],
)
def test_what_is_not_the_same_in_two_wheels_names_both(tmp_path, left, right):
    _, found, conflicts = shared(tmp_path, left=left, right=right)
    assert found == ()
    assert list(conflicts) == [frozenset({"left", "right"})]


def test_names_that_differ_in_case_alone_are_two_files(tmp_path):
    laid, found, conflicts = shared(tmp_path, left={"Ns.py": "1"}, right={"ns.py": "2"})
    assert (found, conflicts) == ((), {})
    assert {len(row.files) for row in laid.values()} == {5}
