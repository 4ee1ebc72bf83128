"""What the tests of publish share: tiny packages, an isolated apt client, a look at a directory."""

import subprocess
from pathlib import Path

from builder.model.values import SourcePackage
from builder.publish import Suite, publish

SUITE = Suite("bookworm", "2026.1", "Gazpacho")
TRIXIE = Suite("trixie", "2026.1", "Gazpacho")
MAINTAINER = "Nobody <nobody@example.org>"


def sh(*argv, cwd=None, **env):
    words = [str(a) for a in argv]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **env}
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def make_deb(directory, package, version, *, content="x", source="", inputs="", architecture="all"):
    """Build a package of one file, and return its path."""
    name = f"{package}_{version.rpartition(':')[2]}_{architecture}.deb"
    root = directory / f"{name}.d"
    control = root / "DEBIAN/control"
    control.parent.mkdir(parents=True)
    fields = [f"Package: {package}", f"Version: {version}", f"Architecture: {architecture}"]
    fields += [f"Source: {source}"] if source else []
    fields += [f"Build-Inputs: {inputs}"] if inputs else []
    fields += [f"Maintainer: {MAINTAINER}", "Description: a test", " Of two", " .", " paragraphs."]
    control.write_text("\n".join(fields) + "\n")
    (root / f"{package}.txt").write_text(content)
    deb = directory / name
    sh("dpkg-deb", "--root-owner-group", "-Znone", "-b", root, deb, SOURCE_DATE_EPOCH="1700000000")
    return deb


def make_source(directory, name, version, *, inputs="beef"):
    """Build a source package (3.0 quilt) and its one binary package of the same name."""
    upstream, _, revision = version.partition("-")
    tree = directory / f"{name}-{upstream}"
    (tree / "debian/source").mkdir(parents=True)
    (tree / "README").write_text("hello\n")
    tar = directory / f"{name}_{upstream}.orig.tar.gz"
    if not tar.exists():
        sh("tar", "-czf", tar, "--mtime=@1", f"{tree.name}/README", cwd=directory)
    (tree / "debian/source/format").write_text("3.0 (quilt)\n")
    (tree / "debian/control").write_text(
        f"Source: {name}\nMaintainer: {MAINTAINER}\nStandards-Version: 4.6.2\n"
        f"XS-Build-Inputs: {inputs}\n\nPackage: {name}\nArchitecture: all\nDescription: a test\n"
    )
    (tree / "debian/changelog").write_text(
        f"{name} ({version}) bookworm; urgency=medium\n\n  * Test.\n\n"
        f" -- {MAINTAINER}  Mon, 01 Jan 2024 00:00:00 +0000\n"
    )
    sh("dpkg-source", "-b", tree.name, cwd=directory)
    sh("rm", "-rf", tree)
    stem = f"{name}_{upstream}-{revision}"
    files = (tar, directory / f"{stem}.debian.tar.xz")
    deb = make_deb(directory, name, version, inputs=inputs)
    return SourcePackage(name, version, directory / f"{stem}.dsc", files, (deb,))


def snapshot(directory):
    """Return every file with its content's identity: inode, size and time of change."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        stat = path.lstat()
        found[str(path)] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


def contents(directory):
    """Return every regular file's bytes."""
    return {str(p): p.read_bytes() for p in sorted(Path(directory).rglob("*")) if p.is_file()}


def agents(home):
    """Return the command lines of the gpg-agents started by who has the directory HOME."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text(errors="replace").split("\0")
            env = (path / "environ").read_text(errors="replace").split("\0")
        except OSError:  # it ended just now
            continue
        if words[0].endswith("gpg-agent") and f"HOME={home}" in env:
            found.append(words)
    return found


def versions(entries):
    return [(entry.package, entry.version) for entry in entries]


def put(repo, signer, *debs, suite=SUITE, sources=(), **options):
    return publish(repo, suite, debs, sources, signer, **options)


def debian(area, codename, *debs, **fields):
    """Return the source of a flat repository with the names of a release of Debian's."""
    area.mkdir()
    for name, version in debs:
        make_deb(area / "pool", name, version)
    text = sh("dpkg-scanpackages", "pool", cwd=area).rpartition("\ndpkg-")[0]
    (area / "Packages").write_text(text)
    rows = {"Origin": "Debian", "Label": "Debian", "Codename": codename, **fields}
    flags = (
        word
        for key, value in rows.items()
        for word in ("-o", f"APT::FTPArchive::Release::{key}={value}")
    )
    (area / "Release").write_text(sh("apt-ftparchive", *flags, "release", ".", cwd=area))
    return f"Types: deb\nURIs: {area.as_uri()}\nSuites: ./\nTrusted: yes\n"


class Apt:
    """apt with a root directory of its own: it sees one source and no system."""

    def __init__(self, root, repo, suite="bookworm-2026.1", *, url="", key=None):
        self.root, self.settings = root, {}
        for name in ("etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/cache/apt"):
            (root / name).mkdir(parents=True)
        (root / "var/lib/dpkg").mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "etc/apt/sources.list.d").mkdir()
        (root / "etc/apt/sources.list.d/test.sources").write_text(
            f"Types: deb deb-src\nURIs: {url or repo.as_uri()}\nSuites: {suite}\n"
            f"Components: main\nSigned-By: {key or repo / f'{suite}.asc'}\n"
        )

    @property
    def flags(self):
        options = {
            "Dir": self.root,
            "Dir::State::status": self.root / "var/lib/dpkg/status",
            "APT::Sandbox::User": "root",
            "APT::Architecture": "amd64",
            "APT::Get::List-Cleanup": "true",
            "Acquire::Languages": "none",
            "Acquire::Retries": "0",
            # as on a node, whatever this machine overlooks of its mirrors
            "Acquire::Check-Date": "true",
            "Acquire::Check-Valid-Until": "true",
            **self.settings,
        }
        return [flag for key, value in options.items() for flag in ("-o", f"{key}={value}")]

    def run(self, tool, *words):
        (self.root / "empty.conf").touch()
        return sh(tool, *self.flags, *words, cwd=self.root, APT_CONFIG=self.root / "empty.conf")

    def update(self):
        return self.run("apt-get", "--error-on=any", "update")

    def candidate(self, package):
        policy = self.run("apt-cache", "policy", package)
        lines = [line for line in policy.splitlines() if "Candidate:" in line]
        return lines[0].split()[1] if lines else ""


def check_golden(request, name, text):
    """Compare with tests/golden/<name>; --update-golden writes it."""
    path = Path(__file__).parents[1] / "golden" / name
    if request.config.getoption("--update-golden", default=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
