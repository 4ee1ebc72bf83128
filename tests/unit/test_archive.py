"""The archive package: its texts, its bits, and what apt does on a node that has it."""

import hashlib
import os
from pathlib import Path

import pytest
from publishing import Apt, check_golden, make_deb, put, sh

from builder.debs.archive import archive_package, suite_sources
from builder.errors import UsageError
from builder.model import Series, Target
from builder.publish import Signer

TEMPLATES = Path(__file__).parents[2] / "debian-templates"
KEY = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nbm90IGEga2V5\n-----END PGP PUBLIC KEY BLOCK-----\n"
URL = "http://repository.example.org/openstack/"
BOOKWORM = Target("bookworm", 12, "3.11.2", "2.36", "zstd", 3, "amd64", "4.6.2")


def series(number, name):
    return Series(number, name, "2026-04-01", "maintained", True, (), ("bookworm",), "", {})


GAZPACHO = series("2026.1", "gazpacho")
FLAMINGO = series("2025.2", "flamingo")


def package(of=GAZPACHO, key=KEY, url=URL):
    upgrade = {"format": 1, "series": of.id, "from": ["2025.1"], "steps": []}
    return archive_package(of, BOOKWORM, key, url, TEMPLATES, upgrade=upgrade)


def build(output, of=GAZPACHO, *, key=KEY, url=URL, revision=1):
    return package(of, key, url).build(output, revision=revision, epoch_seconds=1700000000)


def files_of(deb, root):
    sh("dpkg-deb", "-R", deb, root)
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_every_text_is_the_golden_one(tmp_path, request):
    deb = build(tmp_path)
    assert deb.name == "openstack-2026.1-archive_2026.1-1+deb12.1_all.deb"
    root = tmp_path / "root"
    names = files_of(deb, root)
    assert names == [
        "DEBIAN/conffiles",
        "DEBIAN/control",
        "DEBIAN/md5sums",
        "etc/apt/preferences.d/openstack-2026.1.pref",
        "etc/apt/sources.list.d/openstack-2026.1.sources",
        "usr/share/doc/openstack-2026.1-archive/changelog.Debian.gz",
        "usr/share/doc/openstack-2026.1-archive/copyright",
        "usr/share/keyrings/openstack-2026.1-archive-keyring.asc",
        "usr/share/lintian/overrides/openstack-2026.1-archive",
        "usr/share/openstack-node/series/2026.1.json",
    ]
    sh("gunzip", root / "usr/share/doc/openstack-2026.1-archive/changelog.Debian.gz")
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != "md5sums"):
        check_golden(request, f"archive/{path.relative_to(root)}", path.read_text())
    assert all(p.stat().st_uid == os.getuid() for p in root.rglob("*"))


def test_the_same_arguments_give_the_same_bytes_whatever_the_umask(tmp_path):
    mask = os.umask(0o077)
    try:
        first = build(tmp_path / "a")
    finally:
        os.umask(mask)
    second = build(tmp_path / "b")
    assert (first.parent, first.name) != (second.parent, second.name)
    digests = {hashlib.sha256(deb.read_bytes()).hexdigest() for deb in (first, second)}
    assert len(digests) == 1
    assert sorted(p.name for p in first.parent.iterdir()) == [first.name]


def test_two_series_share_no_file(tmp_path):
    first = files_of(build(tmp_path), tmp_path / "1")
    second = files_of(build(tmp_path, FLAMINGO), tmp_path / "2")
    assert {name for name in first if name in second} == {
        "DEBIAN/conffiles",
        "DEBIAN/control",
        "DEBIAN/md5sums",
    }


def test_inputs_change_with_what_the_package_says(tmp_path):
    def inputs(key=KEY, url=URL, of=GAZPACHO):
        return package(of, key, url).inputs()

    assert len({inputs(), inputs(b"other\n"), inputs(url="file:/srv"), inputs(of=FLAMINGO)}) == 4
    control = sh("dpkg-deb", "-f", build(tmp_path, revision=7), "Version", "Build-Inputs")
    assert control == f"Version: 2026.1-1+deb12.7\nBuild-Inputs: {inputs()}\n"


@pytest.mark.parametrize("url", ["", "/srv/repo", "ftp://x/y", "file:/a b", "http:"])
def test_a_url_apt_cannot_use_is_refused(url):
    with pytest.raises(UsageError, match="no URL apt can use"):
        suite_sources(GAZPACHO, BOOKWORM, url, TEMPLATES)


def unpack(deb, apt):
    """Put the package's files below the client's root, as dpkg would, its key's path with it."""
    sh("dpkg-deb", "-x", deb, apt.root)
    for source in (apt.root / "etc/apt/sources.list.d").glob("openstack-*.sources"):
        text = source.read_text().replace("Signed-By: /", f"Signed-By: {apt.root}/")
        source.write_text(text)


def test_apt_prefers_ours_to_a_higher_version_of_debian(tmp_path):
    repo, debian = tmp_path / "repo", tmp_path / "debian"
    url = repo.absolute().as_uri()
    signer = Signer.open(tmp_path / "keys")
    ours = make_deb(tmp_path / "ours", "nova-api", "2:33.0.2-1+deb12.1")
    put(repo, signer, ours, build(tmp_path / "ours", key=signer.export_key(), url=url))
    make_deb(debian / "pool", "nova-api", "9:99.0-1")
    (debian / "Packages").write_text(
        sh("dpkg-scanpackages", "pool", cwd=debian).rpartition("\ndpkg-")[0]
    )
    apt = Apt(tmp_path / "apt", repo)
    (apt.root / "etc/apt/sources.list.d/test.sources").write_text(
        f"Types: deb\nURIs: {debian.as_uri()}\nSuites: ./\nTrusted: yes\n"
    )
    apt.run("apt-get", "update")
    assert apt.candidate("nova-api") == "9:99.0-1"
    unpack(
        repo / "pool/main/o" / package().name / build(tmp_path / "x").name,
        apt,
    )
    apt.update()
    assert apt.candidate("nova-api") == "2:33.0.2-1+deb12.1"
    assert apt.candidate("openstack-2026.1-archive") == "2026.1-1+deb12.1"
