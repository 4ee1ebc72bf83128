"""Wheels: what is built from an sdist, in an environment of exactly what the lock names."""

import platform
import time
import zipfile
from dataclasses import replace

import pytest
from values import BOOKWORM
from wheelhouse import BACKEND, buildable, distribution, lock_of, sdist, wheel

from builder.errors import BuildError, MissingToolError
from builder.model.values import Fetched, Patch, Recipe
from builder.run import run
from builder.wheels import build as wheels

pytestmark = pytest.mark.usefixtures("private_home")

# The interpreter of the machine the tests run on stands in for a target's.
HERE = replace(BOOKWORM, python=platform.python_version())
TELLING = BACKEND.replace(
    'text = Path("PKG-INFO")',
    'Path("seen.py").write_text(repr(dict(os.environ)))\n    text = Path("PKG-INFO")',
)


@pytest.fixture
def tool(tmp_path):
    return wheel(tmp_path / "house", "tinybackend", "1.0", {"tinybackend.py": TELLING})


@pytest.fixture
def make(tmp_path, tool):
    """Return a function that builds sdists: the wheels and the failures."""

    def run(*paths, tool=tool, recipes=(), **options):
        builder = distribution("tinybackend", "1.0", kind="build", path=tool)
        rows = [distribution(p.name.split("-")[0], "1.0", path=p) for p in paths]
        files = {r.artifacts[0].sha256: p for r, p in zip(rows, paths, strict=True)}
        fetched = Fetched({**files, builder.artifacts[0].sha256: tool})
        return wheels.provide_wheels(
            lock_of(*rows, build=[builder]),
            fetched,
            HERE,
            {r.distribution: r for r in recipes},
            cache=tmp_path / "cache",
            logs=tmp_path / "logs",
            epoch_seconds=1700000000,
            jobs=2,
            **options,
        )

    return run


def source(tmp_path, name="thing", version="1.0", **files):
    rows = {f"{k}.py": v for k, v in files.items()}
    return buildable(tmp_path / "house", name, version, rows)


def test_an_sdist_becomes_a_wheel(make, tmp_path):
    ((row,), failures) = make(source(tmp_path, thing="x = 1\n"))
    assert failures == ()
    assert row.built
    assert row.source.name == "thing-1.0.tar.gz"
    assert zipfile.ZipFile(row.path).read("thing.py") == b"x = 1\n"


def change(old, new):
    text = f"Description: so\n---\n--- a/thing.py\n+++ b/thing.py\n@@ -1 +1 @@\n-{old}\n+{new}\n"
    return Patch("change.patch", "so", text)


def test_an_sdist_is_patched_before_it_is_built(make, tmp_path):
    path = source(tmp_path, thing="x = 1\n")
    ((plain,), _) = make(path)
    ((row,), _) = make(path, patched={"thing": (change("x = 1", "x = 2"),)})
    assert zipfile.ZipFile(row.path).read("thing.py") == b"x = 2\n"
    assert zipfile.ZipFile(plain.path).read("thing.py") == b"x = 1\n"


def test_a_patch_that_does_not_apply_fails_its_build_alone(make, tmp_path):
    rows = source(tmp_path, thing="x = 1\n"), source(tmp_path, "other")
    patched = {"thing": (change("x = 0", "x = 2"),)}
    ((row,), (failure,)) = make(*rows, patched=patched, keep_going=True)
    assert row.distribution.name == "other"
    assert failure.message == "thing-1.0: the patch change.patch does not apply"
    assert failure.hint == f"log: {tmp_path / 'logs/thing-1.0.wheel.log'}"


def test_what_has_a_wheel_is_taken_as_it_is(make, tmp_path):
    path = wheel(tmp_path / "house", "ready", "1.0")
    ((row,), _) = make(path)
    assert (row.path, row.built) == (path, False)


def test_a_build_sees_the_recipe_the_epoch_and_nothing_of_the_desk(make, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hidden")
    monkeypatch.setenv("CFLAGS", "-O9")
    recipe = Recipe("thing", "so", (), {"WITH": "this"})
    ((row,), _) = make(source(tmp_path), recipes=[recipe])
    seen = eval(zipfile.ZipFile(row.path).read("seen.py"))  # noqa: S307
    assert seen["SOURCE_DATE_EPOCH"] == "1700000000"
    assert seen["WITH"] == "this"
    assert seen["PBR_VERSION"] == "1.0"
    assert "-O9" not in seen["CFLAGS"]
    assert "MY_SECRET" not in seen


def test_a_second_time_nothing_is_built(make, tmp_path):
    path = source(tmp_path)
    ((first,), _) = make(path)
    before = first.path.stat().st_mtime_ns
    time.sleep(0.01)
    ((second,), _) = make(path)
    assert second == first
    assert second.path.stat().st_mtime_ns == before


def test_another_tool_or_recipe_builds_anew(make, tmp_path):
    path = source(tmp_path)
    ((first,), _) = make(path)
    ((second,), _) = make(path, recipes=[Recipe("thing", "so", (), {"A": "b"})])
    other = wheel(tmp_path / "other", "tinybackend", "1.0", {"tinybackend.py": TELLING + "#\n"})
    ((third,), _) = make(path, tool=other)
    assert len({first.path, second.path, third.path}) == 3


def test_a_tool_of_other_bits_than_the_locked_is_not_used(tmp_path, tool):
    path = source(tmp_path)
    locked = distribution("tinybackend", "1.0", kind="build", path=tool)
    wheel(tool.parent, "tinybackend", "1.0", {"tinybackend.py": TELLING + "# other\n"})
    row = distribution("thing", "1.0", path=path)
    fetched = Fetched({row.artifacts[0].sha256: path, locked.artifacts[0].sha256: tool})
    with pytest.raises(BuildError) as raised:
        wheels.provide_wheels(
            lock_of(row, build=[locked]),
            fetched,
            HERE,
            {},
            cache=tmp_path / "cache",
            logs=tmp_path / "logs",
            epoch_seconds=0,
            jobs=1,
        )
    assert "Hash mismatch" in "\n".join(raised.value.details)


def test_a_build_requirement_that_is_not_locked_is_not_fetched_from_anywhere(make, tmp_path):
    files = {"pyproject.toml": '[build-system]\nrequires = ["surprise"]\n'}
    path = sdist(tmp_path / "house", "thing", "1.0", files)
    with pytest.raises(BuildError, match=r"thing-1\.0: the wheel failed to build") as raised:
        make(path)
    assert "surprise" in "\n".join(raised.value.details)


def test_a_failure_names_the_log_of_that_build(make, tmp_path):
    broken = buildable(tmp_path / "house", "broken", "1.0", {"broken": "/"})
    with pytest.raises(BuildError) as raised:
        make(broken)
    log = tmp_path / "logs/broken-1.0.wheel.log"
    assert raised.value.hint == f"log: {log}"
    assert "no compiler of Fortran" in log.read_text()
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_keep_going_builds_the_others(make, tmp_path):
    broken = buildable(tmp_path / "house", "broken", "1.0", {"broken": "/"})
    (rows, failures) = make(broken, source(tmp_path), keep_going=True)
    assert [r.distribution.name for r in rows] == ["thing"]
    assert [f.message for f in failures] == ["broken-1.0: the wheel failed to build"]


def test_a_wheel_of_another_version_is_refused(make, tmp_path):
    path = source(tmp_path, version="2.0")
    with pytest.raises(BuildError, match=r"thing-1\.0: its build made version 2\.0"):
        make(path)


def test_an_sdist_that_leads_out_is_refused_before_it_is_run(make, tmp_path):
    path = sdist(tmp_path / "house", "thing", "1.0", {"../../outside": "x"})
    with pytest.raises(BuildError, match="outside"):
        make(path)
    assert not (tmp_path / "logs").exists()


class HereAsRoot:
    """Runs what is to run in a build root on this machine; notes in which directory."""

    def __init__(self):
        self.works = []

    def run(self, argv, work, *, log):
        self.works.append(work)
        run(argv, cwd=work, log=log)


def test_the_tools_of_python_2_are_compiled_once_for_all_builds(tmp_path):
    modules = {"tool/__init__.py": "x = 1\n", "tool/later.py": "print 'of another Python'\n"}
    path = wheel(tmp_path / "house", "tool", "1.0", modules)
    row = distribution("tool", "1.0", kind="build", path=path)
    fetched = Fetched({row.artifacts[0].sha256: path})
    root, tools = HereAsRoot(), tmp_path / "tools"
    builder = wheels.Builder(
        lock_of(build=[row]), fetched, HERE, {}, tmp_path / "cache", tmp_path / "logs", 0, root
    )
    assert wheels.unpack_tools(builder, tools).tools == tools
    (compiled,) = tools.rglob("*.pyc")
    assert root.works == [tools]
    # the name a traceback gives is the one a build sees
    assert f"{wheels.TOOLS}/tool/__init__.py".encode() in compiled.read_bytes()


def locked_source():
    row = distribution("uWSGI", "2.0")
    return lock_of(replace(row, artifacts=(replace(row.artifacts[0], file="uwsgi-2.0.tar.gz"),)))


def test_another_suite_and_python_2_need_a_build_root():
    assert not wheels.needs_root(BOOKWORM, "bookworm")
    assert wheels.needs_root(BOOKWORM, "trixie")
    assert wheels.needs_root(replace(BOOKWORM, python="2.7.18"), "bookworm")


def test_all_that_is_not_installed_is_named_at_once(monkeypatch):
    recipe = Recipe("uwsgi", "so", ("libpcre2-dev", "gcc"))
    monkeypatch.setattr(wheels, "_is_installed", lambda name: name == "gcc")
    with pytest.raises(MissingToolError) as raised:
        wheels.check_machine(locked_source(), BOOKWORM, {"uwsgi": recipe})
    assert raised.value.details == ("libpcre2-dev", "libpython3.11-dev", "python3.11")
    assert raised.value.hint == "apt-get install libpcre2-dev libpython3.11-dev python3.11"


def test_what_is_not_built_needs_nothing_installed(monkeypatch):
    recipe = Recipe("uwsgi", "so", ("libpcre2-dev",))
    monkeypatch.setattr(wheels, "_is_installed", lambda name: name != "libpcre2-dev")
    wheels.check_machine(lock_of(distribution("plain")), BOOKWORM, {"uwsgi": recipe})
