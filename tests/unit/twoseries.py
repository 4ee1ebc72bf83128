"""What tests of upgrades share: a repository of two series, and a node's apt that sees it."""

import json

import nodeside
from openstack_node import apt, installing, rollback, system, upgrade
from openstack_node.sources import Sources
from publishing import MAINTAINER, SUITE, Apt, put, sh

from builder.publish import Signer, Suite

OLD, NEW = "2025.2", "2026.1"
FLAMINGO = Suite("bookworm", OLD, "Flamingo")
SERVICES = "usr/share/openstack-node/services"


def deb(area, name, version, files=(), **fields):
    """Build a package with the text files it is given, and return its path."""
    root = area / f"{name}_{version.replace(':', '%')}"
    rows = {"Package": name, "Version": version, "Architecture": "all",
            "Maintainer": MAINTAINER, "Description": "a test", **fields}  # fmt: skip
    for path, text in {
        "DEBIAN/control": "".join(f"{k}: {v}\n" for k, v in rows.items()),
        **dict(files),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    path = area / f"{name}_{version.rpartition(':')[2]}_all.deb"
    sh("dpkg-deb", "--root-owner-group", "-Znone", "-b", root, path)
    return path


def manifest(series):
    """Return what the packages of the toy say of it in a series."""
    site = f"/usr/lib/openstack/{series}/lib/python3.11/site-packages"
    return {
        "format": 1, "service": "toy", "title": "Toy", "series": series, "site": site, "order": 1,
        "tree": f"/usr/lib/openstack/{series}", "user": "toy", "package": "toy-common",
        "packages": [f"openstack-{series}-toy", "toy-common", "toy-api"], "units": [],
        "options": f"/{SERVICES}/toy.options.json", "schemas": [nodeside.SCHEMA],
    }  # fmt: skip


def publish(area):
    """Make a repository of two services, toy and other, and of what belongs to none."""
    signer = Signer.open(area / "keys")
    for suite, number in ((FLAMINGO, 1), (SUITE, 2)):
        version, series = f"1:{number}.0-1", suite.series
        library, code = f"openstack-{series}-lib", f"openstack-{series}-toy"
        files = {f"{SERVICES}/toy.json": json.dumps(manifest(series))}
        facts = {"format": 1, "series": series, "from": ["2025.1", OLD], "steps": []}
        archive = {f"usr/share/openstack-node/series/{series}.json": json.dumps(facts)}
        put(
            area / "repo",
            signer,
            deb(area, "toy-api", version, Source="toy", Depends=f"toy-common (= {version})"),
            deb(area, "toy-common", version, files, Source="toy", Depends=code),
            deb(area, code, version, Source="toy", Depends=library),
            deb(area, "other", version, Source="other", Depends=library),
            deb(area, "shared", version, Source="shared"),
            deb(area, "openstack-node", version),
            deb(area, f"openstack-{series}-archive", "1-1", archive),
            deb(area, library, f"{number}.0-1"),
            suite=suite,
        )
        key = (area / f"repo/bookworm-{series}.asc").read_bytes()
        (area / f"openstack-{series}-archive-keyring.asc").write_bytes(key)
    return area


class Machine(Apt):
    """A node with both services of the old series, and with its archive package.

    Its apt is asked, and nothing installed.
    """

    def __init__(self, root, area):
        super().__init__(root, area / "repo")
        self.etc = root / "etc/apt"
        (self.etc / "sources.list.d/test.sources").unlink()
        self.area = area
        self.source(OLD).write_text(self.stanza(OLD))
        self.prefer(OLD)
        self.sources = Sources(self.etc)
        self.has(OLD, *("toy-api", "toy-common", "other", "shared", "openstack-node"))

    def has(self, series, *names):
        """Have packages of a series installed, with its library and the toy's code."""
        number = 1 if series == OLD else 2
        version, library = f"1:{number}.0-1", f"openstack-{series}-lib"
        code = f"openstack-{series}-toy"
        depends = {"toy-api": f"toy-common (= {version})", "toy-common": code, "other": library}
        rows = [(n, version, depends.get(n, "")) for n in names]
        rows += [(code, version, library), (library, f"{number}.0-1", "")]
        (self.root / "var/lib/dpkg/status").write_text(
            "\n".join(
                f"Package: {name}\nStatus: install ok installed\nArchitecture: all\n"
                f"Version: {version}\nMaintainer: {MAINTAINER}\nDescription: a test\n"
                + (f"Depends: {needs}\n" if needs else "")
                for name, version, needs in rows
            )
        )

    def hold(self, *names):
        """What `apt-mark hold` does."""
        path = self.root / "var/lib/dpkg/status"
        text = path.read_text()
        for name in names:
            want = f"Package: {name}\nStatus: "
            assert f"{want}install" in text
            text = text.replace(f"{want}install", f"{want}hold")
        path.write_text(text)

    def source(self, series):
        return self.etc / f"sources.list.d/openstack-{series}.sources"

    def stanza(self, series):
        return (
            f"Types: deb\nURIs: {(self.area / 'repo').as_uri()}\nSuites: bookworm-{series}\n"
            f"Components: main\nSigned-By: {self.area}/openstack-{series}-archive-keyring.asc\n"
        )

    def prefer(self, series):
        text = f"Package: *\nPin: release o=build-debs,n=bookworm-{series}\nPin-Priority: 991\n"
        (self.etc / f"preferences.d/openstack-{series}.pref").write_text(text)

    def install_archive(self):
        """What the archive package of the new series does: a source that is there stays."""
        if not self.sources.list_suites(NEW):
            self.source(NEW).write_text(self.stanza(NEW))
        self.prefer(NEW)

    def moved(self, *words):
        """Return what apt would install, by name."""
        out = self.run("apt-get", "--simulate", *words)
        return sorted(m[1] for m in map(apt.INSTALLED.match, out.splitlines()) if m)


class Unchanged(Machine):
    """A node for `openstack-node`: apt is the real one, and what it is to install is noted."""

    def __init__(self, root, area, monkeypatch):
        super().__init__(root, area)
        self.installed, self.order, self.auto = [], [], []
        self.versions = {"openstack-node": "1:1.0-1"}
        self.system = system.run
        monkeypatch.setattr(system, "run", self.answer)
        monkeypatch.setattr(system, "list_versions", lambda names: {
            n: self.versions[n] for n in names if n in self.versions
        })  # fmt: skip
        for module in (upgrade, rollback):
            monkeypatch.setattr(module, "Sources", lambda: Sources(self.etc))
        monkeypatch.setattr(upgrade, "Apt", self.beside)

    def beside(self, area, old, new):
        """Return apt as `openstack-node plan` asks it."""
        client = apt.Apt(area, old, new, etc=self.etc, status=self.root / "var/lib/dpkg/status")
        client.options += ["-o", "APT::Architecture=amd64"]
        return client

    def answer(self, argv, *, env=None, **options):
        words = [w for w in argv if w not in installing.APT]
        self.order.append(words[0])
        if argv[0] == "env" and "-o" not in argv:
            argv = [*argv[:4], *map(str, self.flags), *argv[4:]]
        if argv[0] in ("env", "dpkg-deb") or argv[:2] == ["dpkg", "--compare-versions"]:
            return self.system(argv, **options)
        if argv[0] in ("dpkg", "dpkg-query", "apt-mark"):
            assert argv[:2] in (["dpkg", "--configure"], ["dpkg-query", "-W"],
                                ["apt-mark", "showauto"], ["apt-mark", "auto"])  # fmt: skip
            said = [n for n in argv[2:] if n in self.auto] if argv[1] == "showauto" else []
            return system.Done(0, " ".join(said))
        if argv[0] == "apt-get":
            assert env == {
                "DEBIAN_FRONTEND": "noninteractive",
                "OPENSTACK_NODE_RESTARTS": "defer",
                "NEEDRESTART_SUSPEND": "1",
                "NEEDRESTART_MODE": "l",
            }
            if words[0] == "install":
                self.installed.append(words[1:])
                argv = [argv[0], "--simulate", *argv[1:]]
        return system.Done(0, self.run(*argv))
