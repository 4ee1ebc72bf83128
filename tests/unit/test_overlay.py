"""A site's own layer over the data: what it adds, what it changes, and where it is said."""

import hashlib
import json
import subprocess

import pytest
from cloud import CONSTRAINTS, HERE, SERVICE, founded, release
from wheelhouse import wheel

PATCH = """\
Description: Answer as this site does
 Nothing else.
Origin: vendor
Forwarded: not-needed
Last-Update: 2026-01-01
---
--- a/tiny_service/__init__.py
+++ b/tiny_service/__init__.py
@@ -1,2 +1,3 @@
 def main():
     print('1.0.0')
+# ours
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with founded(tmp_path_factory.mktemp("cloud")) as made:
        house = made.area / "house"
        made.index.add(
            wheel(house, "vendorsdk", "7.1", {"vendorsdk.py": ""}),
            release(house, "extra", "3.0.0", "tinylib"),
        )
        made.constraints.write_text(CONSTRAINTS + "vendorsdk===7.1\n")
        made.run("lock", "2099.1", "--constraints", made.constraints)
        yield made


@pytest.fixture
def site(tmp_path):
    overlay = tmp_path / "site"
    overlay.mkdir()
    return overlay


@pytest.fixture(autouse=True)
def untouched(cloud):
    """The data below an overlay stay as they are."""

    def digests():
        return {
            path: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((cloud.data / "projects").rglob("*"))
            if path.is_file()
        }

    before = digests()
    yield
    assert digests() == before


def write(overlay, name, text):
    path = overlay / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def depends(deb):
    argv = ["dpkg-deb", "-f", deb, "Depends"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_a_vendor_s_library_joins_the_closure_of_a_service(cloud, site, tmp_path):
    write(
        site,
        "drivers.toml",
        '[[driver]]\nname = "vendorsdk"\nreason = "our array"\nservices = ["tiny"]\n',
    )
    words = ("2099.1", "--overlay", site)
    _, err = cloud.run(*words, "--dry-run", code=3)
    assert "other drivers of tiny" in err
    out, _ = cloud.run("lock", *words, "--service", "tiny", "--constraints", cloud.constraints)
    assert out == "vendorsdk\t-\t7.1\n"
    assert (site / f"locks/2099.1-{HERE}.json").is_file()
    cloud.run(*words, "--repo", tmp_path / "repo")
    closures = tmp_path.glob("repo/pool/**/openstack-2099.1-closure-*.deb")
    assert "openstack-2099.1-vendorsdk" in "".join(map(depends, closures))


def test_a_patch_is_built_and_named(cloud, site, tmp_path):
    write(site, "patches/2099.1/tiny-service/series", "ours.patch\n")
    write(site, "patches/2099.1/tiny-service/ours.patch", PATCH)
    repo, report = tmp_path / "repo", tmp_path / "report.json"
    cloud.run("2099.1", "--repo", repo)
    plain = {p.name for p in repo.glob("pool/**/*.deb")}
    site_too = cloud.with_env(BUILD_DEBS_OVERLAY=site)
    _, err = site_too.run("2099.1", "--repo", repo, "--report", report)
    assert f"overlay: {site}/patches/2099.1/tiny-service/ours.patch" in err
    assert (
        f"{site}/patches/2099.1/tiny-service/ours.patch"
        in json.loads(report.read_text())["overlays"]
    )
    (code,) = {p for p in repo.glob("pool/**/openstack-*-tiny-service_*") if p.name not in plain}
    assert code.name.endswith(".2+site_all.deb")
    unpacked = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "-x", code, unpacked], check=True)
    (module,) = unpacked.rglob("tiny_service/__init__.py")
    assert "# ours" in module.read_text()
    (copyright_,) = unpacked.rglob("doc/*/copyright")
    assert "ours.patch: Answer as this site does." in copyright_.read_text()
    (changes,) = unpacked.rglob("changelog.Debian.gz")
    text = subprocess.run(["zcat", changes], check=True, capture_output=True, text=True).stdout
    assert "ours.patch" in text
    assert "+site) " in text
    # Nothing changes the second time, and without the overlay comes the next revision.
    out, _ = site_too.run("2099.1", "--repo", repo, "--dry-run")
    assert {line.split("\t")[0] for line in out.splitlines()} == {"keep"}
    out, _ = cloud.run("2099.1", "--repo", repo, "--dry-run")
    (row,) = [line for line in out.splitlines() if line.startswith("build\ttiny\t")]
    assert row.split("\t")[2].endswith(".3")


def test_a_service_of_ones_own_is_packaged(cloud, site, tmp_path):
    write(site, "services/extra.toml", SERVICE.format(name="extra", title="Extra", more=""))
    words = ("2099.1", "--overlay", site)
    constraints = ("--constraints", cloud.constraints)
    cloud.run("lock", *words, "--service", "extra==3.0.0", *constraints)
    assert (site / "series/2099.1.toml").read_text() == (
        'id = "2099.1"\n\n[versions]\nextra = "3.0.0"\n'
    )
    cloud.run(*words, "--project", "extra", "--repo", tmp_path / "repo")
    assert list(tmp_path.glob("repo/pool/**/extra_3.0.0-1+deb*.deb"))
    out, _ = cloud.run("why", "2099.1", "extra-service", "--overlay", site)
    assert "service of 2099.1" in out


def test_the_later_overlay_wins(cloud, site, tmp_path):
    second = tmp_path / "second"
    write(
        site, "services/tiny.toml", 'title = "OpenStack First"\nhomepage = "https://a.example/"\n'
    )
    write(second, "services/tiny.toml", 'title = "OpenStack Second"\n')
    both = cloud.with_env(BUILD_DEBS_OVERLAY=f"{site}:{second}")
    repo = tmp_path / "repo"
    both.run("2099.1", "--repo", repo)
    (dsc,) = repo.glob("pool/**/tiny_*.dsc")
    assert "Homepage: https://a.example/" in dsc.read_text()
    (deb,) = repo.glob("pool/**/tiny_*.deb")
    shown = subprocess.run(["dpkg-deb", "-I", deb], check=True, capture_output=True, text=True)
    assert "OpenStack" in shown.stdout
    out, _ = cloud.run("2099.1", "--overlay", second, "--overlay", site, "--dry-run")
    assert "build\ttiny\t" in out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("services/tiny.toml", "titel = 1\n", "services/tiny.toml: unknown key 'titel'"),
        ("series/2099.1.toml", "[versions]\nnone = '1'\n", "series/2099.1.toml: versions: 'none'"),
        ("drivers.toml", "[[driver]]\nname = 7\nreason = 'x'\n", "drivers.toml: driver[0].name"),
        ("service/tiny.toml", "", "service: not a name that an overlay may use"),
        ("driver.toml", "", "driver.toml: not a name that an overlay may use"),
        ("patches/2099.1/tiny-service/series", "gone.patch\n", "'gone.patch' is not a patch"),
    ],
)
def test_what_does_not_fit_is_named_with_its_layer(cloud, site, name, text, said):
    write(site, name, text)
    _, err = cloud.run("2099.1", "--overlay", site, "--dry-run", code=3)
    assert f"{site}/" in err
    assert said in err


@pytest.mark.parametrize(
    "row",
    [
        ("x.conf", "from", "nosuch"),
        ("x.conf", "config-generator", "etc/nosuch.conf"),
        ("/usr/share/tiny/x/", "from", "tiny_service/*.json"),
    ],
)
def test_a_file_no_tarball_has_is_named_with_its_layer(cloud, site, tmp_path, row):
    path, key, word = row
    text = f'[[files]]\npath = "{path}"\n{key} = "{word}"\n'
    own = write(site, "services/tiny.toml", text)
    # one above that says nothing of files is not at fault
    write(tmp_path / "above", "services/tiny.toml", 'title = "Tiny"\n')
    layers = ("--overlay", site, "--overlay", tmp_path / "above")
    _, err = cloud.run("2099.1", "-q", *layers, "--repo", tmp_path / "repo", code=3)
    tarball = "tiny_service-1.0.0.tar.gz"
    error, hint = err.splitlines()
    assert error == f"error: {own}: files ({path}): {key}: {tarball} has no '{word}'"
    assert hint.startswith("hint: nearest: ")


def test_files_of_the_tarball_and_of_a_patch_are_taken(cloud, site, tmp_path):
    write(site, "patches/2099.1/tiny-service/series", "ours.patch\n")
    added = "--- /dev/null\n+++ b/etc/ours.ini\n@@ -0,0 +1 @@\n+[ours]\n"
    write(site, "patches/2099.1/tiny-service/ours.patch", f"Description: ours\n{added}")
    rows = (
        '[[files]]\npath = "ours.ini"\nfrom = "etc/ours.ini"\n',
        '[[files]]\npath = "/usr/share/tiny/x/"\nfrom = "tiny_service/*.py"\n',
    )
    write(site, "services/tiny.toml", "\n".join(rows))
    cloud.run("2099.1", "-q", "--overlay", site, "--repo", tmp_path / "repo")
    (deb,) = tmp_path.glob("repo/pool/**/tiny_*.deb")
    argv = ["dpkg-deb", "-c", deb]
    listing = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert "usr/share/tiny/x/__init__.py" in listing
    assert "ours.ini" in listing


def test_two_layers_have_no_patch_of_one_name(cloud, site, tmp_path):
    for overlay in (site, tmp_path / "second"):
        write(overlay, "patches/2099.1/tiny-service/series", "ours.patch\n")
        write(overlay, "patches/2099.1/tiny-service/ours.patch", PATCH)
    both = ("--overlay", site, "--overlay", tmp_path / "second")
    _, err = cloud.run("2099.1", *both, "--dry-run", code=3)
    assert "second/patches/2099.1/tiny-service/ours.patch: a lower layer already has a patch" in err


def test_an_overlay_that_is_not_there_is_told(cloud, tmp_path):
    _, err = cloud.run("2099.1", "--overlay", tmp_path / "none", "--dry-run", code=2)
    assert "none" in err
    absent = cloud.with_env(BUILD_DEBS_OVERLAY=tmp_path / "none")
    _, err = absent.run("2099.1", "--dry-run", code=2)
    assert f"BUILD_DEBS_OVERLAY: {tmp_path}/none is not a directory" in err
