"""The archive package: its texts, its bits, and what apt does on a node that has it."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from publishing import MAINTAINER, Apt, check_golden, debian, make_deb, put, sh
from values import BOOKWORM, FLAMINGO, GAZPACHO

from builder.debs.archive import make_archive_package, render_bootstrap
from builder.errors import UsageError
from builder.publish import Signer, Suite

TEMPLATES = Path(__file__).parents[3] / "debian-templates"
KEY = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nbm90IGEga2V5\n-----END PGP PUBLIC KEY BLOCK-----\n"
URL = "http://repository.example.org/openstack/"


def package(of=GAZPACHO, key=KEY, url=URL):
    upgrade = {"format": 1, "series": of.id, "from": ["2025.1"], "steps": []}
    return make_archive_package(of, BOOKWORM, key, url, TEMPLATES, upgrade=upgrade)


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
        "DEBIAN/control",
        "DEBIAN/md5sums",
        "DEBIAN/postinst",
        "DEBIAN/postrm",
        "usr/share/doc/openstack-2026.1-archive/changelog.Debian.gz",
        "usr/share/doc/openstack-2026.1-archive/copyright",
        "usr/share/keyrings/openstack-2026.1-archive-keyring.asc",
        "usr/share/lintian/overrides/openstack-2026.1-archive",
        "usr/share/openstack-2026.1-archive/openstack-2026.1.pref",
        "usr/share/openstack-node/series/2026.1.json",
    ]
    sh("gunzip", root / "usr/share/doc/openstack-2026.1-archive/changelog.Debian.gz")
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != "md5sums"):
        check_golden(request, f"archive/{path.relative_to(root)}", path.read_text())
    assert all(p.stat().st_uid == os.getuid() for p in root.rglob("*"))
    assert all(p.stat().st_mode & 0o777 == 0o755 for p in (root / "DEBIAN").glob("post*"))


@pytest.mark.parametrize("url", ["", URL])
def test_the_script_at_the_top_is_the_golden_one(url, request):
    text = render_bootstrap(GAZPACHO, BOOKWORM, KEY, url, TEMPLATES).decode()
    check_golden(request, f"archive/setup{'-with-address' if url else ''}.sh", text)


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
        *("DEBIAN/control", "DEBIAN/md5sums", "DEBIAN/postinst", "DEBIAN/postrm")
    }


def test_inputs_change_with_what_the_package_says(tmp_path):
    def inputs(key=KEY, url=URL, of=GAZPACHO):
        return package(of, key, url).hash_inputs()

    assert len({inputs(), inputs(b"other\n"), inputs(url="file:/srv"), inputs(of=FLAMINGO)}) == 4
    control = sh("dpkg-deb", "-f", build(tmp_path, revision=7), "Version", "Build-Inputs")
    assert control == f"Version: 2026.1-1+deb12.7\nBuild-Inputs: {inputs()}\n"


@pytest.mark.parametrize(
    "url",
    ["/srv/repo", "ftp://x/y", "file:/a b", "http:", "http://a/\nb", "http://$(id)/", "http://a';"],
)
def test_a_url_apt_cannot_use_is_refused(url):
    for make in (
        lambda: render_bootstrap(GAZPACHO, BOOKWORM, KEY, url, TEMPLATES),
        lambda: package(url=url),
    ):
        with pytest.raises(UsageError, match="not a URL apt can use"):
            make()


# -- the script, run


NAMESPACE = ("unshare", "--map-root-user", "--mount")


class Node:
    """A root of one's own, in a mount namespace: two directories of it are ours."""

    def __init__(self, area):
        self.etc, self.keyrings = area / "etc", area / "keyrings"
        (self.etc / "sources.list.d").mkdir(parents=True)
        self.keyrings.mkdir()
        self.source = self.etc / "sources.list.d/openstack-2026.1.sources"
        self.key = self.keyrings / "openstack-2026.1-archive-keyring.asc"

    def run(self, script, *arguments, umask="027"):
        """Run the script as root, and return its exit status and all it said."""
        inside = (
            f"mount --bind {self.etc} /etc/apt; mount --bind {self.keyrings} /usr/share/keyrings;"
            f' umask {umask}; exec sh "$@"'
        )
        done = subprocess.run(
            [*NAMESPACE, "sh", "-ec", inside, "sh", script, *arguments],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def fields(self):
        lines = self.source.read_text().splitlines()
        return dict(line.split(": ") for line in lines if not line.startswith("#"))


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path / "node")


@pytest.fixture
def top(tmp_path):
    """Return the top of a repository, with the script; its name has what a URL has not."""
    top = tmp_path / "a repo, 100%"
    (top / "dists/bookworm-2026.1").mkdir(parents=True)
    (top / "dists/bookworm-2026.1/InRelease").touch()
    (top / "bookworm-2026.1.sh").write_bytes(
        render_bootstrap(GAZPACHO, BOOKWORM, KEY, "", TEMPLATES)
    )
    return top


@pytest.mark.parametrize("umask", ["022", "027", "077"])
def test_what_the_script_writes_all_may_read_and_has_the_address_given(node, top, umask):
    status, said = node.run(top / "bookworm-2026.1.sh", "http://here:8080/x/", umask=umask)
    assert (status, "apt install openstack-2026.1-archive" in said) == (0, True)
    assert node.key.read_bytes() == KEY
    assert node.fields() == {
        "Types": "deb deb-src", "URIs": "http://here:8080/x/", "Suites": "bookworm-2026.1",
        "Components": "main", "Architectures": "amd64",
        "Signed-By": "/usr/share/keyrings/openstack-2026.1-archive-keyring.asc",
    }  # fmt: skip
    files = [p for p in node.etc.parent.rglob("*") if p.is_file()]
    assert sorted(files) == [node.source, node.key]
    assert {p.stat().st_mode & 0o777 for p in files} == {0o644}


def test_without_an_address_the_script_is_where_the_repository_is(node, top, tmp_path):
    assert node.run(top / "bookworm-2026.1.sh")[0] == 0
    assert node.fields()["URIs"] == "file:" + str(top).replace("%", "%25").replace(" ", "%20")
    # or where it was built for
    script = tmp_path / "fetched.sh"
    script.write_bytes(render_bootstrap(GAZPACHO, BOOKWORM, KEY, URL, TEMPLATES))
    assert node.run(script)[0] == 0
    assert node.fields()["URIs"] == URL


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "give the address"),
        (("/srv/repo",), "not an address"),
        (("ftp://a/",), "not an address"),
        (("http://",), "not an address"),
        (("http://a/ b",), "contains a space"),
        (("http://a/\nTrusted: yes",), "contains a space"),
        (("http://a/", "http://b/"), "one argument"),
    ],
)
def test_what_is_no_address_changes_nothing(node, top, tmp_path, arguments, why):
    script = tmp_path / "fetched.sh"
    script.write_bytes((top / "bookworm-2026.1.sh").read_bytes())
    status, said = node.run(script, *arguments)
    assert status != 0
    assert why in said
    assert said.count("\n") == 1 + said.count("Trusted")
    assert not [p for p in node.etc.parent.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    ("name", "text", "there"),
    [
        ("sources.list", "deb [arch=amd64] http://m/ bookworm-2026.1 main\n", True),
        ("sources.list.d/a.list", "deb http://m/ bookworm-2026.1 main # ours\n", True),
        ("sources.list.d/bookworm-2026.1.sources", "Suites: bookworm-2026.1\n", True),
        ("sources.list.d/a.sources", "Suites: bookworm\n bookworm-2026.1\n", True),
        ("sources.list", "# deb http://m/ bookworm-2026.1 main\n", False),
        ("sources.list.d/a.sources", "Suites: bookworm-2026.10 xbookworm-2026.1\n", False),
        ("sources.list.d/a.sources", "Suites: bookworm-2026x1\n", False),
        ("sources.list.d/a.list.save", "deb http://m/ bookworm-2026.1 main\n", False),
    ],
)
def test_a_suite_is_never_there_twice(node, top, name, text, there):
    """Two sources of one suite are a warning of apt, and with two keys its end."""
    (node.etc / name).write_text(text)
    status, said = node.run(top / "bookworm-2026.1.sh", "http://a/")
    assert (status != 0, node.source.exists()) == (there, not there)
    assert (f"/etc/apt/{name} already lists bookworm-2026.1" in said) == there


def test_a_source_that_was_edited_is_kept_beside(node, top):
    node.source.write_text("mine\n")
    assert node.run(top / "bookworm-2026.1.sh", "http://a/")[0] == 0
    saved = node.source.with_name(node.source.name + ".save")  # apt ignores that
    assert saved.read_text() == "mine\n"
    assert node.run(top / "bookworm-2026.1.sh", "http://a/")[0] == 0
    assert saved.read_text() == "mine\n"


# -- the pin


def unpack(deb, apt):
    """Put the package's pin below the client's root, as its postinst does."""
    sh("dpkg-deb", "-x", deb, apt.root)
    for pin in (apt.root / "usr/share").glob("openstack-*-archive/*.pref"):
        (apt.root / "etc/apt/preferences.d" / pin.name).write_bytes(pin.read_bytes())


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return a repository of two series of ours, and sources of Debian's with the same names."""
    area = tmp_path_factory.mktemp("two")
    repo, signer = area / "repo", Signer.open(area / "keys")
    for of, version in ((FLAMINGO, "2:32.0.0-1"), (GAZPACHO, "2:33.0.2-1")):
        suite = Suite("bookworm", of.id, of.name.title())
        ours = [make_deb(area / of.id, name, version) for name in ("nova-api", "python3-nova")]
        archive = build(area / of.id, of, key=signer.export_key())
        put(repo, signer, *ours, archive, suite=suite)
    stable = debian(
        area / "stable", "bookworm", ("nova-api", "9:99.0-1"), ("vim", "1"), Suite="stable"
    )
    backports = debian(
        area / "backports", "bookworm-backports", ("nova-api", "9:100-1"), ("vim", "2"),
        Suite="stable-backports", NotAutomatic="yes", ButAutomaticUpgrades="yes",
    )  # fmt: skip
    return repo, f"{stable}\n{backports}"


def node_apt(tmp_path, sources, *of):
    """Return apt of a node with the archive packages of these series."""
    repo, others = sources
    apt = Apt(tmp_path / "apt", repo, f"bookworm-{of[0].id}")
    for series in of[1:]:
        suite = f"bookworm-{series.id}"
        (apt.root / f"etc/apt/sources.list.d/{suite}.sources").write_text(
            f"Types: deb\nURIs: {repo.as_uri()}\nSuites: {suite}\nComponents: main\n"
            f"Signed-By: {repo / suite}.asc\n"
        )
    (apt.root / "etc/apt/sources.list.d/debian.sources").write_text(others)
    for series in of:
        unpack(build(tmp_path / series.id, series), apt)
    apt.update()
    return apt


RELEASES = ["", "bookworm", "stable", "bookworm-backports", "bookworm-2026.1"]


@pytest.mark.parametrize("release", RELEASES)
def test_ours_are_taken_whatever_the_default_release_is(tmp_path, sources, release):
    """APT::Default-Release, and -t on the command line, give a release 990."""
    apt = node_apt(tmp_path, sources, GAZPACHO)
    for words, default in ((["-t", release] if release else [], ""), ([], release)):
        apt.settings["APT::Default-Release"] = default
        said = apt.run("apt-get", "--simulate", *words, "install", "nova-api", "python3-nova")
        assert "Inst nova-api (2:33.0.2-1 " in said
        assert "Inst python3-nova (2:33.0.2-1 " in said
        vim = "2" if release == "bookworm-backports" else "1"
        assert f"Inst vim ({vim} " in apt.run("apt-get", "--simulate", *words, "install", "vim")
    # Debian's own, for those who say so.
    assert "Inst nova-api (9:99.0-1 " in apt.run("apt-get", "-s", "install", "nova-api/bookworm")


@pytest.mark.parametrize("release", ["", "bookworm"])
def test_of_two_series_the_newer_is_taken(tmp_path, sources, release):
    apt = node_apt(tmp_path, sources, FLAMINGO, GAZPACHO)
    apt.settings["APT::Default-Release"] = release
    assert apt.candidate("nova-api") == "2:33.0.2-1"


@pytest.mark.parametrize("release", ["", "bookworm"])
def test_nothing_installed_is_ever_downgraded(tmp_path, sources, release):
    apt = node_apt(tmp_path, sources, GAZPACHO)
    apt.settings["APT::Default-Release"] = release
    (apt.root / "var/lib/dpkg/status").write_text(
        "Package: nova-api\nStatus: install ok installed\nArchitecture: all\nVersion: 10:1-1\n"
        f"Maintainer: {MAINTAINER}\nDescription: a test\n"
    )
    assert "0 upgraded, 0 newly installed" in apt.run("apt-get", "--simulate", "full-upgrade")
    assert apt.candidate("nova-api") == "10:1-1"
