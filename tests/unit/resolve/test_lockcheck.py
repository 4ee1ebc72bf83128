"""A lock that does not fit together is refused with the place, before anything is built."""

import copy
import json

import pytest
from cloud import HERE, locked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from wheelhouse import REPOSITORY

from builder import cli
from builder.catalogue import load as catalogues
from builder.debs import library
from builder.dirs import locate
from builder.errors import DataError
from builder.pipeline import locking
from builder.resolve import lockcheck
from builder.resolve import lockfile as locks

LOCKS = sorted((REPOSITORY / "projects/locks").glob("*.json"))
COMMITTED = json.loads((REPOSITORY / "projects/locks/2026.1-bookworm.json").read_text())


def index(raw, name):
    """Return where a distribution is in a lock."""
    names = [canonicalize_name(d["name"]) for d in raw["distributions"]]
    return names.index(name)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with locked(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def own(cloud, tmp_path):
    own = cloud.with_own_data(tmp_path)
    return own, tmp_path / f"data/projects/locks/2099.1-{HERE}.json"


def row(which, /, **changes):
    def change(raw):
        raw["distributions"][index(raw, which)].update(changes)

    return change


def artifact(name, **changes):
    def change(raw):
        raw["distributions"][index(raw, name)]["artifacts"][0].update(changes)

    return change


def without(name):
    def change(raw):
        del raw["distributions"][index(raw, name)]

    return change


def again(name):
    def change(raw):
        raw["distributions"].append(copy.deepcopy(raw["distributions"][index(raw, name)]))

    return change


def top(**changes):
    return lambda raw: raw.update(changes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without("tinylib"), "tinylib, required by 'tinylib>=1', is not in the lock"),
        (without("tinyclient"), "distributions: tinyclient is missing"),
        (without("tiny-service"), "distributions: tiny-service is missing"),
        (row("tiny-service", requires=["nothere"]), "requires[0]: nothere, required by"),
        (
            row("tiny-service", requires=["tinylib", "sourcelib>=99"]),
            "requires[1]: 'sourcelib>=99' does not allow sourcelib 1.0",
        ),
        (row("tinylib", requires=["a b"]), "requires[0]: expected a requirement (PEP 508)"),
        (row("tinylib", requires=["sourcelib; python_version<'3'"]), "has a marker"),
        (row("tinylib", requires=["sourcelib @ file:///etc/passwd"]), "has a URL"),
        (row("tinylib", requires="sourcelib"), "requires: expected a list"),
        (row("tinylib", kind="service"), "kind: tinylib is a library, not a service"),
        (row("tiny-service", kind="library"), "kind: tiny-service is a service, not a library"),
        (row("tinylib", kind="build"), "kind: 'build' is not allowed in distributions"),
        (row("tinylib", kind="sevrice"), "kind: 'sevrice' is not valid"),
        (row("tinylib", version="1.0; id"), "version: expected a version (PEP 440)"),
        (row("tinylib", version="9" * 5000), "version: expected a version (PEP 440)"),
        (row("tinylib", version="2.0"), "-1.0-py3-none-any.whl is not a file of tinylib 2.0"),
        (row("tinylib", name="base"), "base would be packaged under one of our own names"),
        (row("tinylib", name="../tinylib"), "name: expected the name of a Python distribution"),
        (row("tinylib", summary="a\nDepends: evil"), "summary: expected one line of printable"),
        (row("tinylib", summary="\ud800"), "summary: expected one line of printable"),
        (row("tinylib", homepage="javascript:alert(1)"), "homepage: expected an http or https URL"),
        (row("tinylib", homepage="http://a\nb"), "homepage: expected an http or https URL"),
        (row("tinylib", options=1), "options: expected a boolean, got 1"),
        (row("tinylib", extras=[]), "extras: expected a table"),
        (row("tinylib", extras={"A_b": []}), "extras.A_b: expected the normalised name a-b"),
        (row("tinylib", artifacts=[]), "artifacts: expected at least one file"),
        (row("tinylib", colour="red"), "unknown key"),
        (artifact("tinylib", file="/etc/passwd"), "artifacts[0].file: expected the name of a w"),
        (artifact("tinylib", file="../tinylib-1.0.tar.gz"), "artifacts[0].file: expected the name"),
        (artifact("tinylib", file="sourcelib-1.0.tar.gz"), "is not a file of tinylib 1.0"),
        (artifact("tinylib", file="tinylib-1.0-cp27-cp27m-win32.whl"), "does not load"),
        (artifact("tinylib", sha256="0" * 63), "sha256: expected a sha256 of 64 hexadecimal"),
        (artifact("tinylib", sha256=""), "only a service's release tarball may be without one"),
        (artifact("tinylib", size=-1), "size: expected a number from 0 to"),
        (artifact("tinylib", size=1e300), "size: expected an integer"),
        (artifact("tinylib", url="http://x"), "unknown key"),
        (artifact("tiny-service", file="tiny_service-1.0.0-py3-none-any.whl"), "from an sdist"),
        (again("tinylib"), "tinylib is already distributions["),
        (top(series="2099.2"), "series: expected 2099.1"),
        (top(target="trixie" if HERE == "bookworm" else "bookworm"), "target: "),
        (top(python="2.7.18"), "got 2.7.18"),
        (top(inputs={}), "was made for different drivers or overrides"),
        (top(inputs={"request": "x"}), "inputs.request: expected a sha256"),
        (top(distributions={}), "distributions: expected a list"),
        (top(format=True), "format True is not known"),
        (top(format=1), "format 1 is not known"),
        (top(colour=1), "unknown key 'colour'"),
    ],
)  # fmt: skip
def test_a_lock_that_cannot_be_built_as_it_says_is_refused(
    own, change, expected, monkeypatch, capsys
):
    cloud, path = own
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    for key, value in cloud.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("sys.argv", ["build-debs", "2099.1", "--dry-run"])
    with pytest.raises(SystemExit) as raised:
        cli.main()
    out, err = capsys.readouterr()
    assert (raised.value.code, out) == (3, "")
    first = err.splitlines()[0]
    assert expected in first
    assert path.name in first
    assert "build-debs lock" in err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"format": 1',
        '{"format": NaN}',
        "[" * 100_000,
        '{"format": 1, "format": 1}',
        f'{{"format": {"1" * 5000}}}',
        "\ufeff{}",
        "\xff\xfe",
    ],
)
def test_what_is_no_lock_is_one_error(tmp_path, text):
    path = tmp_path / "lock.json"
    path.write_bytes(
        text.encode("latin-1", errors="ignore") if text != "\ufeff{}" else b"\xef\xbb\xbf{}"
    )
    with pytest.raises(DataError, match=r"lock\.json: ") as raised:
        locks.read(path)
    assert raised.value.exit_code == 3
    assert len(raised.value.message) < 500


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.stem)
def test_every_committed_lock_fits_together_and_goes_with_the_project(path):
    found = catalogues.load(REPOSITORY / "projects")
    id_, _, suite = path.stem.rpartition("-")
    series = found.series[id_]
    target = found.targets[suite].narrow_to_series(series)
    lock = locking.read_committed_lock(locate({"HOME": "/nonexistent"}), series, target)
    wanted = locking.make_request(found, series, target)
    services = {d: series.versions[s] for s, d in wanted.services.items()}
    others = [d.name for d in wanted.drivers]
    assert list(lockcheck.check_for(lock, services, others, locking._make_load_check(target))) == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(["", "/etc/passwd", "..", "nothere>=1", "1!0", "9" * 5000, "a[b]", "\ud800"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@st.composite
def mutations(draw):
    """Return a committed lock in which a value, at any depth, is another, gone or there twice."""
    raw = copy.deepcopy(COMMITTED)
    node = raw
    while True:
        keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys))
        child = node[key]
        if not isinstance(child, (dict, list)) or not child or draw(st.integers(0, 9)) == 0:
            break
        node = child
    match draw(st.integers(0, 4)):
        case 0:
            del node[key]
        case 1 if isinstance(node, list):
            node.append(copy.deepcopy(child))
        case 2 if isinstance(child, str):
            at = draw(st.integers(0, len(child)))
            node[key] = child[:at] + draw(st.text(max_size=3)) + child[at + 1 :]
        case 3 if isinstance(child, str):
            other = draw(st.sampled_from(raw.get("distributions") or COMMITTED["distributions"]))
            node[key] = other.get(key, other["name"]) if isinstance(other, dict) else child
        case _:
            node[key] = draw(ANYTHING)
    return raw


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutations())
def test_a_changed_lock_is_refused_or_can_be_planned(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "mutated.json"
    path.write_text(json.dumps(raw))
    try:
        lock = locks.read(path)
    except DataError:
        return
    found = catalogue_of_the_project()
    series = found.series["2026.1"]
    target = found.targets["bookworm"]
    context = library.Context(series, target, REPOSITORY / "debian-templates", 0)
    packages = library.plan(context, lock, {}, {"all": [d.name for d in lock.distributions]}, [])
    names = {p.name for p in packages}
    code = {
        library.name_package(context, d.name) for d in lock.distributions if d.kind == "service"
    }
    for package in packages:
        for relation in package.relations["Depends"]:
            name = relation.split()[0]
            assert not name.startswith("openstack-") or name in names | code
        assert "\n" not in package.summary + package.homepage + "".join(package.description)


_PROJECT = []


def catalogue_of_the_project():
    if not _PROJECT:
        _PROJECT.append(catalogues.load(REPOSITORY / "projects"))
    return _PROJECT[0]
