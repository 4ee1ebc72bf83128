"""Sources and pins of a node with services of two series, as the real apt takes them."""

import nodeside  # noqa: F401 - finds the node's modules
import pytest
from openstack_node import system
from openstack_node.sources import Sources
from publishing import debian
from twoseries import NEW, OLD, Machine, publish

KEYRING = "/usr/share/keyrings/openstack-{}-archive-keyring.asc"
STANZA = (
    "Types: deb deb-src\nURIs: http://server/\nSuites: bookworm-{0}\nComponents: main\n"
    "Signed-By: /usr/share/keyrings/openstack-{0}-archive-keyring.asc\n"
)
DEBIAN = "Types: deb\nURIs: http://debian.invalid/\nSuites: bookworm bookworm-updates\n"


@pytest.fixture
def etc(tmp_path):
    """Return the directory of a node's /etc/apt, with Debian's source in it."""
    etc = tmp_path / "etc/apt"
    (etc / "sources.list.d").mkdir(parents=True)
    (etc / "preferences.d").mkdir()
    (etc / "sources.list.d/debian.sources").write_text(DEBIAN)
    return etc


def write(etc, name, text):
    (etc / name).write_text(text)


def read(etc, name):
    return (etc / name).read_text()


def pins(etc):
    """Return the rows of the pins, without what explains them."""
    path = etc / "preferences.d/openstack-node.pref"
    text = path.read_text() if path.exists() else ""
    lines = [line for line in text.splitlines() if not line.startswith("Explanation: ")]
    blocks = "\n".join(lines).strip().split("\n\n")
    return [tuple(line.split(": ", 1)[1] for line in b.splitlines()) for b in blocks if b]


ASIDE = ("*", f"release n=bookworm-{NEW}", "100")


def chosen(name, series=NEW):
    return (f"src:{name}", f"release n=bookworm-{series}", "995")


# -- a source beside


def test_a_source_of_the_new_series_is_laid_beside_and_ranks_below(etc):
    write(etc, "sources.list.d/openstack-2025.2.sources", "# OpenStack\n" + STANZA.format(OLD))
    before = read(etc, "sources.list.d/openstack-2025.2.sources")
    Sources(etc).add(OLD, NEW)
    made = read(etc, "sources.list.d/openstack-2026.1.sources")
    # The key of the series that is there: the new one's is in a package to come.
    assert made.strip() == STANZA.format(NEW).replace(KEYRING.format(NEW), KEYRING.format(OLD))[:-1]
    assert pins(etc) == [ASIDE]
    assert read(etc, "sources.list.d/openstack-2025.2.sources") == before
    assert {p.name for p in (etc / "sources.list.d").iterdir()} == {
        *("debian.sources", "openstack-2025.2.sources", "openstack-2026.1.sources")
    }


def test_a_copy_dpkg_left_beside_a_source_is_none(etc):
    write(etc, "sources.list.d/openstack-2025.2.sources", STANZA.format(OLD))
    write(etc, "sources.list.d/openstack-2025.2.sources.dpkg-dist", STANZA.format("2025.1"))
    write(etc, "sources.list.d/old.list.save", f"deb http://no/ bookworm-{OLD} main\n")
    assert Sources(etc).list_suites("2025.1") == []
    Sources(etc).add(OLD, NEW)
    assert "http://no/" not in read(etc, "sources.list.d/openstack-2026.1.sources")


def test_only_the_stanzas_of_the_series_are_taken_without_comments(etc):
    other = "Types: deb\nURIs: http://other/\nSuites: bookworm-2025.1 bookworm-2025.2-extra\n"
    mirror = f"Types: deb\nURIs: http://mirror/\nSuites: bookworm-{OLD}\n"
    text = f"{other}\n{STANZA.format(OLD)}# and\n \n{mirror}\n# Suites: bookworm-{OLD}\n"
    write(etc, "sources.list.d/a.sources", text)
    write(etc, "sources.list.d/b.sources", STANZA.format(OLD))  # the same again
    Sources(etc).add(OLD, NEW)
    first, second = read(etc, "sources.list.d/openstack-2026.1.sources").strip().split("\n\n")
    assert "http://server/" in first
    assert second == mirror.replace(OLD, NEW).strip()


@pytest.mark.parametrize("name", ["sources.list", "sources.list.d/openstack.list"])
def test_a_line_becomes_a_stanza(etc, name):
    """In the file the archive package has as well: two that differ are an error of apt."""
    options = f"[arch=amd64,arm64 signed-by={KEYRING.format(OLD)}]"
    text = (
        f"deb http://debian.invalid/ bookworm main\n # deb http://no/ bookworm-{OLD} main\n"
        f"deb {options} http://server/ bookworm-{OLD} main extra # ours\n"
        f"deb-src http://server/ bookworm-{OLD} main\n"
    )
    write(etc, name, text)
    Sources(etc).add(OLD, NEW)
    assert read(etc, "sources.list.d/openstack-2026.1.sources").strip().split("\n\n") == [
        f"Types: deb\nURIs: http://server/\nSuites: bookworm-{NEW}\nComponents: main extra\n"
        f"Architectures: amd64 arm64\nSigned-By: {KEYRING.format(OLD)}",
        f"Types: deb-src\nURIs: http://server/\nSuites: bookworm-{NEW}\nComponents: main",
    ]
    assert read(etc, name) == text


def test_where_there_is_one_already_all_of_it_is_wanted(etc):
    write(etc, "sources.list.d/openstack-2025.2.sources", STANZA.format(OLD))
    write(etc, "sources.list.d/mine.sources", STANZA.format(NEW))
    Sources(etc).add(OLD, NEW)
    assert not (etc / "sources.list.d/openstack-2026.1.sources").exists()
    assert pins(etc) == []


def test_a_commented_source_is_none(etc):
    write(etc, "sources.list.d/openstack-2025.2.sources", STANZA.format(OLD))
    write(etc, "sources.list", f"# deb http://server/ bookworm-{NEW} main\n")
    Sources(etc).add(OLD, NEW)
    assert (etc / "sources.list.d/openstack-2026.1.sources").exists()


def test_a_node_without_our_source_is_told_how_to_get_one(etc):
    with pytest.raises(system.NodeError, match=r"no apt source .* 2025\.2") as caught:
        Sources(etc).add(OLD, NEW)
    assert caught.value.hints == ["apt-get install openstack-2025.2-archive"]
    assert not (etc / "preferences.d/openstack-node.pref").exists()


def test_the_address_of_a_repository_is_no_suite(etc):
    text = STANZA.format(OLD).replace("http://server/", f"file:/srv/openstack-{OLD}/")
    write(etc, "sources.list.d/openstack-2025.2.sources", text)
    sources = Sources(etc)
    assert sources.list_suites(OLD) == [f"bookworm-{OLD}"]
    sources.add(OLD, NEW)
    assert f"srv/openstack-{OLD}/" in read(etc, "sources.list.d/openstack-2026.1.sources")


def test_suites_are_those_the_sources_name(etc):
    text = STANZA.format(OLD) + "\n" + STANZA.format(OLD).replace("bookworm", "trixie")
    write(etc, "sources.list.d/openstack.sources", text)
    assert Sources(etc).list_suites(OLD) == [f"bookworm-{OLD}", f"trixie-{OLD}"]
    assert Sources(etc).list_suites("2025") == []
    assert Sources(etc).list_suites(NEW) == []


# -- pins


def test_services_are_chosen_one_by_one(etc):
    write(etc, "sources.list.d/openstack-2025.2.sources", STANZA.format(OLD))
    sources = Sources(etc)
    sources.add(OLD, NEW)
    sources.choose("toy", f"bookworm-{NEW}")
    sources.choose("other", f"bookworm-{NEW}")
    sources.choose("other", f"bookworm-{NEW}")
    assert pins(etc) == [ASIDE, chosen("other"), chosen("toy")]
    sources.choose("other", f"bookworm-{OLD}")
    assert pins(etc) == [ASIDE, chosen("other", OLD), chosen("toy")]


def test_a_third_series_leaves_the_pins_of_the_second(etc):
    """Else a night's `apt upgrade` would take everything from the second."""
    write(etc, "sources.list.d/openstack-2025.2.sources", STANZA.format(OLD))
    sources = Sources(etc)
    sources.add(OLD, NEW)
    sources.choose("toy", f"bookworm-{NEW}")
    sources.add(OLD, "2026.2")
    assert pins(etc) == [ASIDE, ("*", "release n=bookworm-2026.2", "100"), chosen("toy")]


def test_in_the_end_the_pins_go_and_the_key_is_the_new_one(etc):
    write(etc, "sources.list.d/openstack-2025.2.sources", STANZA.format(OLD))
    sources = Sources(etc)
    sources.add(OLD, NEW)
    sources.choose("toy", f"bookworm-{NEW}")
    sources.settle(NEW)
    assert pins(etc) == []
    made = read(etc, "sources.list.d/openstack-2026.1.sources")
    assert made.strip() == STANZA.format(NEW).strip()
    assert read(etc, "sources.list.d/openstack-2025.2.sources") == STANZA.format(OLD)
    sources.settle(NEW)  # again, as after a power cut
    assert read(etc, "sources.list.d/openstack-2026.1.sources") == made


def test_where_nothing_was_written_there_is_nothing_to_settle(etc):
    Sources(etc).settle(NEW)
    assert [p.name for p in etc.rglob("*") if p.is_file()] == ["debian.sources"]


# -- with apt


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("repo"))


@pytest.fixture
def machine(tmp_path, repo):
    return Machine(tmp_path, repo)


def test_a_source_beside_moves_nothing(machine):
    machine.sources.add(OLD, NEW)
    machine.update()
    assert machine.candidate("toy-api") == "1:1.0-1"
    assert machine.moved("full-upgrade") == []


def test_a_service_moves_with_what_it_needs_and_nothing_else(machine):
    machine.sources.add(OLD, NEW)
    machine.sources.choose("toy", f"bookworm-{NEW}")
    machine.update()
    toy = [f"openstack-{NEW}-lib", f"openstack-{NEW}-toy", "toy-api", "toy-common"]
    assert machine.moved("install", "toy-api") == toy
    assert machine.moved("full-upgrade") == toy
    assert machine.moved("upgrade", "--with-new-pkgs") == toy
    assert [machine.candidate(p) for p in ("toy-common", "other", "shared")] == [
        *("1:2.0-1", "1:1.0-1", "1:1.0-1")
    ]


@pytest.mark.parametrize("release", ["bookworm", f"bookworm-{OLD}", f"bookworm-{NEW}"])
def test_pins_beat_the_default_release(machine, release, tmp_path):
    higher = debian(tmp_path / "debian", "bookworm", ("toy-api", "9:9-1"), ("shared", "9:9-1"))
    write(machine.etc, "sources.list.d/debian.sources", higher)
    machine.settings["APT::Default-Release"] = release
    machine.sources.add(OLD, NEW)
    machine.sources.choose("toy", f"bookworm-{NEW}")
    machine.update()
    assert [machine.candidate(p) for p in ("toy-api", "toy-common")] == ["1:2.0-1"] * 2
    if release != f"bookworm-{NEW}":  # else an administrator says that all is to be of it
        assert [machine.candidate(p) for p in ("other", "shared")] == ["1:1.0-1"] * 2
    machine.sources.choose("toy", f"bookworm-{OLD}")
    assert machine.candidate("toy-api") == "1:1.0-1"


def test_a_service_that_went_back_stays_there(machine):
    machine.sources.add(OLD, NEW)
    machine.sources.choose("toy", f"bookworm-{NEW}")
    machine.sources.choose("toy", f"bookworm-{OLD}")
    machine.update()
    assert machine.moved("full-upgrade") == []
    # Also when all of the new series is wanted.
    machine.install_archive()
    assert "toy-api" not in machine.moved("full-upgrade")


def settled(machine):
    """Bring an upgrade to its end; return what apt says of its sources."""
    machine.sources.settle(NEW)
    machine.install_archive()
    return machine.update()


def test_in_the_end_all_comes_from_the_new_series(machine):
    machine.sources.add(OLD, NEW)
    machine.sources.choose("toy", f"bookworm-{NEW}")
    assert "configured multiple times" not in settled(machine)
    rest = {"openstack-node", "other", "shared", "toy-api", "toy-common"}
    assert set(machine.moved("full-upgrade")) >= rest


def test_in_the_end_a_node_with_a_line_of_its_own_has_one_source(machine):
    machine.source(OLD).unlink()
    keyring = f"{machine.area}/openstack-{OLD}-archive-keyring.asc"
    line = f"deb [signed-by={keyring}] {(machine.area / 'repo').as_uri()} bookworm-{OLD} main\n"
    write(machine.etc, "sources.list", line)
    machine.sources.add(OLD, NEW)
    assert "configured multiple times" not in settled(machine)
    assert machine.candidate("other") == "1:2.0-1"


def test_a_source_whose_suite_a_person_changed_stays_theirs(machine):
    """apt stops at two of one suite with different keys."""
    path = machine.source(OLD)
    text = path.read_text().replace(f"bookworm-{OLD}", f"bookworm-{NEW}")
    path.write_text(text)
    machine.sources.add(OLD, NEW)
    assert "configured multiple times" not in settled(machine)
    assert path.read_text() == text
    assert not machine.source(NEW).exists()
    assert machine.candidate("toy-api") == "1:2.0-1"
