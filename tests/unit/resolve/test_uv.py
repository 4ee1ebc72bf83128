"""Resolve: a request and constraints become a lock, or one error with the chain that is to blame.

uv does it for real, with an index of tiny wheels on the loopback interface.
"""

from dataclasses import dataclass, replace

import pytest
from values import BOOKWORM, GAZPACHO
from wheelhouse import Index, backend, body, buildable, serving, sha256, status, wheel

from builder.errors import DataError, FetchError, ResolveError
from builder.model.values import Driver, Lock, Override
from builder.resolve import uv as resolve

CONSTRAINTS = """
# what upstream's file looks like
oslo.db===17.0
PyMySQL===1.1.0
Flask===3.1  # a comment
compiled===2.0
plain===1.0;python_version>='3.9'
onlysource===1.0
"""
MUSL = "cp311-cp311-musllinux_1_2_x86_64"
TAGS = (
    "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp311-cp311-manylinux_2_28_x86_64",
    "cp311-cp311-manylinux_2_39_x86_64",
    "cp312-cp312-manylinux_2_28_x86_64",
    "cp39-abi3-manylinux_2_28_x86_64",
    "cp311-cp311-win_amd64",
    "cp311-cp311-manylinux_2_28_aarch64",
    MUSL,
)
KEYSTONE = {
    "requires_dist": [
        "oslo.db[mysql]>=4",
        "Flask>=1,!=2.0",
        "backport; python_version < '3.8'",
        "compiled",
        "extra-only; extra == 'ldap'",
    ],
    "provides_extra": ["ldap"],
    "summary": "OpenStack  Identity",
    "home_page": "https://docs.example.org/keystone/",
}


def request(**changes):
    series = replace(GAZPACHO, versions={"keystone": "29.0.2"})
    drivers = (Driver("plain", "an operator needs it", ("keystone",)), Driver("onlysource", "so"))
    overrides = (Override("PyMySQL===1.1.1", "1.1.0 loses connections"),)
    values = {"services": {"keystone": "keystone"}, "drivers": drivers, "overrides": overrides}
    return resolve.Request(series, BOOKWORM, **{**values, **changes})


def fill(index, house):
    mysql = {"provides_extra": ["mysql"], "requires_dist": ["PyMySQL>=0.7; extra == 'mysql'"]}
    index.add(
        backend(house),
        buildable(house, "keystone", "29.0.2", {"keystone/__init__.py": ""}, **KEYSTONE),
        wheel(house, "oslo.db", "3.0", **mysql),
        wheel(house, "oslo.db", "17.0", **mysql, entry_points="[oslo.config.opts]\na = b:c\n"),
        wheel(house, "oslo.db", "17.1", provides_extra=["mysql"], requires_dist=["newcomer"]),
        wheel(house, "oslo.db", "18.0", requires_dist=["Flask>=4"]),
        wheel(house, "newcomer", "5.0"),
        *(wheel(house, "PyMySQL", f"1.1.{n}") for n in range(3)),
        wheel(house, "Flask", "3.1", requires_dist=["plain"]),
        *(wheel(house, "compiled", "2.0", tag=tag) for tag in TAGS),
        wheel(house, "plain", "1.0"),
        buildable(house, "onlysource", "1.0", {"onlysource.py": ""}),
    )


@dataclass
class Resolved:
    lock: Lock
    index: Index

    def __getitem__(self, name):
        return {d.name: d for d in self.lock.distributions}[name]


@pytest.fixture(scope="module")
def resolved(tmp_path_factory):
    """Resolve once; the tests look at the lock. The index goes on serving."""
    area = tmp_path_factory.mktemp("resolve")
    with serving() as index, pytest.MonkeyPatch.context() as patch:
        fill(index, area / "house")
        for name in ("UV_INDEX", "UV_INDEX_URL", "UV_CACHE_DIR", "XDG_CACHE_HOME"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(area))
        patch.setenv("no_proxy", "127.0.0.1")
        patch.setenv("UV_DEFAULT_INDEX", index.url)
        yield Resolved(resolve.resolve(request(), CONSTRAINTS), index)


def test_the_closure_is_what_the_target_needs_and_no_more(resolved):
    versions = {d.name: d.version for d in resolved.lock.distributions}
    assert versions == {
        "Flask": "3.1",
        "PyMySQL": "1.1.1",
        "compiled": "2.0",
        "keystone": "29.0.2",
        "onlysource": "1.0",
        "oslo.db": "17.0",
        "plain": "1.0",
    }


def test_a_service_is_locked_by_its_release_tarball(resolved):
    row = resolved["keystone"]
    assert row.kind == "service"
    assert [a.file for a in row.artifacts] == ["keystone-29.0.2.tar.gz"]
    data = resolved.index.files["keystone-29.0.2.tar.gz"]
    assert row.artifacts[0].sha256 == sha256(data)
    assert row.artifacts[0].size == len(data)


def test_wheels_that_load_on_the_target_are_locked_best_first(resolved):
    assert [a.file.removeprefix("compiled-2.0-") for a in resolved["compiled"].artifacts] == [
        "cp311-cp311-manylinux_2_28_x86_64.whl",
        "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "cp39-abi3-manylinux_2_28_x86_64.whl",
    ]


def test_what_has_no_wheel_is_locked_by_its_sdist_with_what_builds_it(resolved):
    assert [a.file for a in resolved["onlysource"].artifacts] == ["onlysource-1.0.tar.gz"]
    assert [(d.name, d.version, d.kind) for d in resolved.lock.build] == [
        ("tinybackend", "1.0", "build")
    ]
    assert resolved.lock.build[0].artifacts[0].file.endswith(".whl")


def test_what_a_setup_py_alone_names_joins_what_builds(resolved):
    lock = resolve.resolve(
        request(build=(Override("newcomer", "setup_requires of keystone"),)), CONSTRAINTS
    )
    assert [(d.name, d.version) for d in lock.build] == [
        ("newcomer", "5.0"),
        ("tinybackend", "1.0"),
    ]
    assert lock.distributions == resolved.lock.distributions


def test_requirements_are_those_that_hold_on_the_target(resolved):
    assert resolved["keystone"].requires == ("oslo.db[mysql]>=4", "Flask!=2.0,>=1", "compiled")
    assert resolved["oslo.db"].requires == ()
    assert resolved["oslo.db"].extras == {"mysql": ("PyMySQL>=0.7",)}
    assert resolved["keystone"].extras == {}


def test_each_row_says_why_it_is_in(resolved):
    reasons = {d.name: d.reason for d in resolved.lock.distributions}
    assert reasons["keystone"] == ("service of 2026.1",)
    assert reasons["plain"] == ("driver: an operator needs it",)
    assert reasons["oslo.db"] == ("keystone", "oslo.db[mysql]>=4")
    assert reasons["PyMySQL"] == ("keystone", "oslo.db[mysql]>=4", "PyMySQL>=0.7")


def test_metadata_that_packages_show_is_in_the_lock(resolved):
    row = resolved["keystone"]
    assert (row.summary, row.homepage) == (
        "OpenStack Identity",
        "https://docs.example.org/keystone/",
    )
    assert resolved["oslo.db"].options
    assert not resolved["Flask"].options


def test_the_same_request_gives_the_same_lock(resolved):
    assert resolve.resolve(request(), CONSTRAINTS) == resolved.lock


def test_the_user_s_override_stands_above_the_project_s(resolved):
    lock = resolve.resolve(request(), CONSTRAINTS, ["pymysql==1.1.2"])
    assert {d.name: d.version for d in lock.distributions}["PyMySQL"] == "1.1.2"
    assert lock.inputs["override"]
    assert "override" not in resolved.lock.inputs


def test_a_conflict_tells_the_chain_of_requirements():
    with pytest.raises(ResolveError) as raised:
        resolve.resolve(request(), CONSTRAINTS, ["oslo.db===18.0"])
    text = "\n".join(raised.value.details)
    assert raised.value.exit_code == 4
    assert "bookworm" in raised.value.message
    for name in ("keystone", "oslo-db==18.0", "flask"):
        assert name in text


def test_an_index_that_does_not_answer_as_one_is_no_conflict(resolved, monkeypatch, tmp_path):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path))
    resolved.index.answers["/simple/plain/"] = [body(b"Sign in to the network")] * 9
    with pytest.raises(FetchError, match="cannot be resolved") as raised:
        resolve.resolve(request(), CONSTRAINTS)
    resolved.index.answers.clear()
    assert "/simple/plain/" in "\n".join(raised.value.details)


def test_a_pin_nobody_published_is_named():
    with pytest.raises(ResolveError) as raised:
        resolve.resolve(request(), CONSTRAINTS, ["Flask===3.99"])
    assert "flask" in "\n".join(raised.value.details)


def test_an_index_without_sizes_can_be_resolved_with(tmp_path, monkeypatch, private_home):
    del private_home
    with serving(json_api=False) as index:
        fill(index, tmp_path)
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        lock = resolve.resolve(request(), CONSTRAINTS)
    files = {a.file: a.sha256 for d in lock.distributions for a in d.artifacts}
    assert files["plain-1.0-py3-none-any.whl"] == sha256(index.files["plain-1.0-py3-none-any.whl"])


def test_a_tarball_at_hand_is_locked_without_the_index_having_it(resolved, tmp_path):
    path = buildable(tmp_path, "keystone", "29.0.3", requires_dist=["plain"])
    of = replace(request(), series=replace(GAZPACHO, versions={"keystone": "29.0.3"}))
    row = {d.name: d for d in resolve.resolve(of, CONSTRAINTS, (), tmp_path).distributions}[
        "keystone"
    ]
    assert (row.version, row.kind) == ("29.0.3", "service")
    assert row.artifacts[0].sha256 == sha256(path.read_bytes())
    assert row.artifacts[0] not in resolved["keystone"].artifacts


def test_an_override_of_a_lock_moves_that_one_and_what_it_brings(resolved):
    lock = resolve.override(request(), resolved.lock, ["oslo.db==17.1"])
    old = {d.name: d for d in resolved.lock.distributions}
    new = {d.name: d for d in lock.distributions}
    assert new["oslo.db"].version == "17.1"
    assert new["newcomer"].version == "5.0"
    # 17.1 has no longer anything in its extra mysql
    assert new.keys() == (old.keys() | {"newcomer"}) - {"PyMySQL"}
    assert all(new[n] == old[n] for n in old if n not in {"oslo.db", "PyMySQL"})
    assert lock.build == resolved.lock.build


def test_an_override_that_does_not_fit_the_lock_is_a_conflict(resolved):
    with pytest.raises(ResolveError) as raised:
        resolve.override(request(), resolved.lock, ["oslo.db==18.0"])
    text = "\n".join(raised.value.details)
    assert "flask>=4" in text
    assert "oslo-db==18.0" in text


def test_an_override_of_what_is_not_in_the_closure_is_refused_with_the_nearest(resolved):
    for action in (
        lambda: resolve.override(request(), resolved.lock, ["olso.db==17.1"]),
        lambda: resolve.resolve(request(), CONSTRAINTS, ["olso.db==17.1"]),
    ):
        with pytest.raises(DataError, match=r"olso\.db") as raised:
            action()
        assert "oslo-db" in raised.value.hint


def test_an_override_of_a_service_is_refused(resolved):
    with pytest.raises(DataError, match="keystone is a service"):
        resolve.override(request(), resolved.lock, ["keystone==29.0.3"])


def test_the_layers_replace_pins_of_any_spelling():
    pins = "Oslo_DB===1\nzstd===2;python_version>='3.9'\nFlask===3 # why\n\n# nothing\n"
    assert resolve.apply_overrides(pins, ["oslo.db==5", "new>=1"]) == [
        "zstd===2;python_version>='3.9'",
        "Flask===3",
        "oslo.db==5",
        "new>=1",
    ]
    assert resolve.apply_overrides("a===1", ["a==2", "A==3"]) == ["A==3"]


def test_an_override_file_may_have_comments(tmp_path):
    path = tmp_path / "override.txt"
    path.write_text("# urgent\noslo.db==17.1  # CVE\n\n  PyMySQL>=1.1.2\n")
    assert resolve.read_overrides(path) == ("oslo.db==17.1", "PyMySQL>=1.1.2")


@pytest.mark.parametrize("line", ["oslo.db=17.1", "-r other.txt", "oslo.db @ file:///x.whl"])
def test_a_line_that_is_no_override_is_named_with_its_number(tmp_path, line):
    path = tmp_path / "override.txt"
    path.write_text(f"ok==1\n{line}\n")
    with pytest.raises(DataError, match=r"override\.txt:2: "):
        resolve.read_overrides(path)


def test_files_that_are_no_text_are_one_error(tmp_path):
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(DataError, match="binary"):
        resolve.read_overrides(path)
    with pytest.raises(DataError, match="binary"):
        resolve.read_constraints(str(path), GAZPACHO)


def test_constraints_come_from_a_file_or_a_url(tmp_path, resolved):
    path = tmp_path / "upper-constraints.txt"
    path.write_text("a===1\n")
    assert resolve.read_constraints(str(path), GAZPACHO) == "a===1\n"
    index = resolved.index
    index.answers["/upper"] = [body(b"b===2\n"), status(404)]
    assert resolve.read_constraints(f"{index.base}/upper", GAZPACHO) == "b===2\n"
    with pytest.raises(FetchError, match=r"cannot read .*2026\.1") as raised:
        resolve.read_constraints(f"{index.base}/upper", GAZPACHO)
    assert "--constraints" in raised.value.hint
    with pytest.raises(DataError, match="nowhere"):
        resolve.read_constraints(str(tmp_path / "nowhere"), GAZPACHO)


def test_constraints_are_asked_of_upstream_when_none_are_named(monkeypatch, resolved):
    index = resolved.index
    monkeypatch.setattr(resolve, "LIVE_CONSTRAINTS", f"{index.base}/live/{{id}}")
    index.answers["/live/2026.1"] = [body(b"c===3\n")]
    assert resolve.read_constraints(None, GAZPACHO) == "c===3\n"


@pytest.mark.parametrize(
    "other",
    [
        {"series": replace(GAZPACHO, versions={"keystone": "29.0.3"})},
        {"target": replace(BOOKWORM, python="3.11.9")},
        {"drivers": (Driver("plain", "so", ()),)},
        {"overrides": ()},
    ],
)
def test_whatever_decides_a_lock_is_in_the_digests_of_its_request(other):
    def digests(request):
        return request.digest(), request.hash_services()

    assert digests(replace(request(), **other)) != digests(request())
    assert digests(request()) == digests(request())


def test_a_reason_may_be_reworded_without_a_new_lock():
    worded = tuple(replace(d, reason="said better") for d in request().drivers)
    assert replace(request(), drivers=worded).digest() == request().digest()
    assert replace(request(), drivers=worded).hash_services() == request().hash_services()


def test_wheels_of_the_target_s_glibc_or_older_load_newest_first():
    tags = [str(t) for t in resolve.list_supported_tags(BOOKWORM)]
    assert tags[0] == "cp311-cp311-manylinux_2_36_x86_64"
    assert "cp311-cp311-manylinux_2_37_x86_64" not in tags
    assert tags.index("cp311-cp311-manylinux_2_17_x86_64") < tags.index("py3-none-any")
    assert tags.index("cp311-abi3-manylinux_2_28_x86_64") < tags.index(
        "cp39-abi3-manylinux_2_28_x86_64"
    )
    assert MUSL not in tags


def test_markers_are_those_of_the_target_not_of_this_machine():
    trixie = replace(BOOKWORM, suite="trixie", python="3.13.5")
    env = resolve.make_environment(trixie)
    assert (env["python_version"], env["python_full_version"]) == ("3.13", "3.13.5")
    assert env["platform_machine"] == "x86_64"
