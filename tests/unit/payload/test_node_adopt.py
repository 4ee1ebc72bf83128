"""Moving from Debian's own packages: what is found of them, what is refused, what they leave."""

import hashlib
import json

import nodeside
import pytest

nodeside.manifest  # noqa: B018 - it puts the modules on the path

from openstack_node import cli, debian, leftovers, manifest, plan, status, system  # noqa: E402
from openstack_node.sources import Sources  # noqa: E402

OURS = "build-debs <build-debs@openstack.invalid>"
KNOWN = {
    "maintainer": OURS,
    "services": {
        "toy": {
            "title": "OpenStack Toy",
            "package": "toy-common",
            "user": "root",
            "order": 10,
            "directory": "/etc/toy",
            "sources": ["python-toy-store", "toy"],
            "without": {"toy-odd-agent": "nobody needs it"},
            "series": {"8": "zed", "9": "2023.1"},
        }
    },
}


@pytest.fixture
def dpkg(monkeypatch, tmp_path):
    """Give a function that has dpkg list packages: status, source, name, version, maintainer."""
    path = tmp_path / "debian.json"
    path.write_text(json.dumps(KNOWN))
    monkeypatch.setattr(debian, "KNOWN", path)
    monkeypatch.setattr(debian.find_services, "__defaults__", (path,))
    monkeypatch.setattr(debian.read_known, "__defaults__", (path,))

    def listed(*rows):
        said = "".join("\t".join(row) + "\n" for row in rows)
        monkeypatch.setattr(system, "read_output", lambda *_a, **_k: said)

    return listed


def row(package, version="8.0.0-2", *, source="toy", maintainer="Debian", state="installed"):
    return state, source, package, version, maintainer


def test_debians_packages_of_a_service_are_found_with_their_series(dpkg):
    dpkg(
        row("toy-common"),
        row("python3-toy-store", "4.1-1", source="python-toy-store"),
        row("toy-doc"),
        row("toy-api", state="config-files"),
        row("other", source="other"),
    )
    (found,) = debian.find_services()
    assert (found.name, found.series, found.version) == ("toy", "zed", "8.0.0-2")
    assert found.packages == ["python3-toy-store", "toy-common"]
    assert found.foreign
    assert found.python == "/usr/bin/python3"


def test_our_own_packages_are_none_of_debians(dpkg):
    dpkg(row("toy-common", "2:9.0.0-1+deb12.1", maintainer=OURS))
    assert debian.find_services() == []


def test_a_version_nobody_knows_is_named_and_not_guessed(dpkg):
    dpkg(row("toy-common", "77.0-1"))
    with pytest.raises(system.NodeError, match=r"series of 77\.0-1 is not known"):
        debian.check(debian.find_services(), "2023.1")


def test_what_has_no_successor_is_named_before_anything_is_done(dpkg):
    dpkg(row("toy-common"), row("toy-odd-agent"))
    with pytest.raises(system.NodeError, match="toy-odd-agent") as caught:
        debian.check(debian.find_services(), "2023.1")
    assert "toy-odd-agent: nobody needs it" in caught.value.hints
    assert "apt-get remove toy-odd-agent" in caught.value.hints[-1]


def test_a_file_of_options_that_would_lose_its_effect_is_named(dpkg, tmp_path, monkeypatch):
    directory = tmp_path / "server.conf.d"
    directory.mkdir()
    toy = {**KNOWN["services"]["toy"], "unread": [str(directory), str(tmp_path / "none.d")]}
    (tmp_path / "debian.json").write_text(json.dumps({**KNOWN, "services": {"toy": toy}}))
    monkeypatch.setattr(Sources, "list_suites", lambda *_: ["bookworm-2023.1"])
    dpkg(row("toy-common"))
    (directory / "a.conf").write_text("[DEFAULT]\n# quota = 5\n")
    debian.check(debian.find_services(), "2023.1")
    (directory / "b.conf").write_text("[DEFAULT]\nquota = 5\n")
    with pytest.raises(system.NodeError) as caught:
        debian.check(debian.find_services(), "2023.1")
    assert str(caught.value).endswith(f"toy: the new units do not read {directory}/b.conf")
    assert "/etc/toy/toy.conf.d" in caught.value.hints[0]


def test_a_series_apt_has_no_source_of_is_refused(dpkg, monkeypatch):
    dpkg(row("toy-common"))
    monkeypatch.setattr(Sources, "list_suites", lambda *_: [])
    with pytest.raises(system.NodeError, match=r"no apt source has a suite of 2023\.1"):
        debian.check(debian.find_services(), "2023.1")


def test_its_units_and_files_are_those_of_its_new_packages(dpkg, tmp_path):
    dpkg(row("toy-common"))
    (found,) = debian.find_services()
    toy = nodeside.service(tmp_path)
    data = {
        **toy.data,
        "title": "OpenStack Toy",
        "series": "2023.1",
        "tree": "/usr/lib/openstack/2023.1",
        "user": "toy",
        "order": 10,
        "packages": ["openstack-2023.1-toy", "toy-common", "toy-api", "toy-worker"],
        "units": [
            {**vars(nodeside.unit("toy-api", toy.configs, kind="uwsgi")), "package": "toy-api"},
            {**vars(nodeside.unit("toy-worker", toy.configs)), "package": "toy-worker"},
        ],
    }
    later = debian.make_later(found, data, ["toy-api", "unrelated"])
    before = debian.make_before(found, later)
    assert [u.name for u in later.units] == ["toy-api.service"]
    assert before.series == "zed"
    assert before.configs == later.configs
    assert before.foreign
    assert not later.foreign
    assert before.packages == ["toy-api", "toy-common"]


@pytest.fixture
def root(monkeypatch):
    monkeypatch.setattr(system, "is_root", lambda: True)


@pytest.mark.usefixtures("root")
def test_status_shows_a_node_of_debians_packages_and_refuses_nothing(dpkg, monkeypatch, capsys):
    monkeypatch.setattr(manifest, "load", lambda _names: [])
    dpkg(row("toy-common"))
    assert cli.main(["status"]) == 0
    said = capsys.readouterr().out
    assert "toy  zed  8.0.0-2" in said
    assert "openstack-node adopt SERIES" in said


@pytest.mark.usefixtures("root")
def test_plan_looks_at_debians_packages_too(dpkg, monkeypatch):
    monkeypatch.setattr(manifest, "load", lambda _names: [])
    monkeypatch.setattr(Sources, "list_suites", lambda *_: ["bookworm-2023.1"])
    asked = []

    def stop(services, series):
        asked.append(([s.name for s in services], series))
        raise system.NodeError("enough")

    monkeypatch.setattr(plan, "plan", stop)
    dpkg(row("toy-common"))
    assert cli.main(["plan", "2023.1"]) == 1
    assert asked == [(["toy"], "2023.1")]


@pytest.mark.usefixtures("root")
def test_verbs_for_our_own_services_say_what_moves_debians(dpkg, monkeypatch, capsys):
    monkeypatch.setattr(manifest, "load", lambda _names: [])
    dpkg(row("toy-common"))
    assert cli.main(["upgrade", "2023.1", "--dry-run"]) == 3
    assert "openstack-node adopt SERIES" in capsys.readouterr().err


# -- what is left


@pytest.fixture
def left(monkeypatch, tmp_path):
    """A node where ours is installed and Debian's left files and answers."""
    known = tmp_path / "debian.json"
    known.write_text(json.dumps(KNOWN))
    monkeypatch.setattr(debian.read_known, "__defaults__", (known,))
    toy = nodeside.service(tmp_path)
    monkeypatch.setattr(manifest, "load", lambda _names: [toy])
    init, policy = tmp_path / "init", tmp_path / "policy"
    init.write_text("init")
    policy.write_text("policy")
    sums = [hashlib.md5(f.read_bytes(), usedforsecurity=False).hexdigest() for f in (init, policy)]
    policy.write_text("mine")
    files = f"\n {init} {sums[0]} obsolete\n {policy} {sums[1]} obsolete\n /etc/live {sums[0]}"
    records = f"\n@{OURS}\ttoy-api\t{files}\n@Debian\tother\t\n /etc/other {sums[0]} obsolete"
    monkeypatch.setattr(system, "read_output", lambda *_a, **_k: records)
    answers = tmp_path / "passwords.dat"
    answers.write_text("Name: toy/password\nTemplate: toy/password\nOwners: toy-api, x\n\n")
    monkeypatch.setattr(leftovers, "DEBCONF", (answers,))
    monkeypatch.setattr(leftovers, "DBCONFIG", tmp_path / "dbconfig")
    monkeypatch.setattr(leftovers, "BACKUPS", tmp_path / "backups")
    return init, policy


def test_files_and_answers_that_are_left_are_listed(left):
    init, policy = left
    assert [(x.kind, x.name, x.changed) for x in leftovers.find()] == [
        ("file", str(init), False),
        ("file", str(policy), True),
        ("answers", "toy-api", False),
    ]


@pytest.mark.usefixtures("left")
def test_what_a_live_option_names_is_not_left_over(tmp_path):
    """Debian's DHCP agent reads a file of Debian's for dnsmasq."""
    toy = nodeside.service(tmp_path)
    nodeside.write(toy, "[DEFAULT]\ndnsmasq = /etc/toy/dnsmasq.conf\n# old = /etc/toy/other\n")
    assert leftovers._list_used() == {"/etc/toy/dnsmasq.conf"}


def test_of_what_somebody_changed_a_copy_stays(left, monkeypatch, tmp_path):
    init, policy = left
    asked = []

    def run(argv, **options):
        asked.append((argv, options.get("stdin")))
        return system.Done(0, "0\n")

    monkeypatch.setattr(system, "run", run)
    for item in leftovers.find():
        leftovers.remove(item)
    assert not init.exists()
    assert not policy.exists()
    copy = tmp_path / "backups" / str(policy).lstrip("/")
    assert copy.read_text() == "mine"
    assert (["debconf-communicate", "toy-api"], "PURGE\n") in asked


def test_a_report_of_debians_packages_is_well(dpkg):
    dpkg(row("toy-common"))
    report = status.report_foreign(debian.find_services()[0])
    assert report.level == "note"
