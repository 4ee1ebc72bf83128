"""A whole tiny release: lock, build, publish; and what happens when a build is disturbed.

Everything is real but the release: the command in a process of its own, an index on the
loopback interface, debhelper, dpkg, gpg.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cloud import HERE, locked
from publishing import Apt, snapshot
from wheelhouse import body, buildable, status, wheel

from builder import publish

SUITE = f"{HERE}-2099.1"
OURS = {"openstack-2099.1-archive", "openstack-node"}  # of no release


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Found a cloud whose two releases are locked."""
    with locked(tmp_path_factory.mktemp("cloud")) as made:
        made.run("lock", "azimuth", "--constraints", made.constraints)
        made.broken.touch()
        yield made


@pytest.fixture(scope="module")
def built(cloud):
    """Build the first release once; the cache is then full. Returns report and messages."""
    report = cloud.area / "report.json"
    _, err = cloud.run("2099.1", "--report", report)
    return json.loads(report.read_text()), err


@pytest.fixture
def own(cloud, built, tmp_path):
    """Return the cloud with a repository of the test's own, a copy of the one that was built."""
    del built
    return cloud.with_own_data(tmp_path), tmp_path / "data/repo"


def plan_of(cloud, *words):
    """Return what a dry run says will be done: verb and version, by package."""
    out, _ = cloud.run("2099.1", *words, "--dry-run")
    rows = (line.split("\t") for line in out.splitlines())
    return {package: (verb, version) for verb, package, version, _ in rows}


DONE = {"build": "built", "reuse": "reused", "keep": "kept"}


def test_a_dry_run_names_every_package_there_is_and_what_becomes_of_it(own, tmp_path):
    """In a repository that is new, in one that has all, and where the key changes."""
    cloud, repo = own
    for words in (("--repo", tmp_path / "new"), ("--repo", repo), ("--repo", repo, "--new-key")):
        planned, report = plan_of(cloud, *words), tmp_path / "report.json"
        cloud.run("2099.1", *words, "--report", report)
        done = {
            row["package"]: (row["outcome"], row["version"])
            for row in json.loads(report.read_text())["packages"]
        }
        assert done == {p: (DONE[verb], version) for p, (verb, version) in planned.items()}
        assert planned.keys() >= OURS


def debs(repo):
    """Return the packages of a repository: name to bytes."""
    return {p.name: p.read_bytes() for p in (repo / "pool").rglob("*") if p.is_file()}


def outcomes(report):
    return {row["package"]: row["outcome"] for row in report["packages"]}


def test_a_build_makes_every_package_of_the_release(built):
    report, err = built
    prefix = "openstack-2099.1"
    assert outcomes(report) == dict.fromkeys(
        [
            *OURS,
            f"{prefix}-base",
            f"{prefix}-closure-common",
            f"{prefix}-closure-tiny",
            f"{prefix}-installer",
            f"{prefix}-sourcelib",
            f"{prefix}-tinyclient",
            f"{prefix}-tinylib",
            "openstackclient",
            "tiny",
        ],
        "built",
    )
    assert (report["series"], report["target"], report["missing"]) == ("2099.1", HERE, [])
    assert "2099.1 on" in err
    assert "11 built" in err


def test_apt_sees_the_packages_and_their_source(cloud, built, tmp_path):
    del built
    apt = Apt(tmp_path, cloud.data / "repo", SUITE)
    apt.update()
    assert apt.candidate("tiny").startswith("2:1.0.0-1+deb")
    assert "tiny_1.0.0.orig.tar.gz" in apt.run("apt-cache", "showsrc", "tiny")
    depends = apt.run("apt-cache", "depends", "--recurse", "--no-recommends", "tiny")
    assert "openstack-2099.1-sourcelib" in depends


def test_the_release_tarball_is_the_orig_tar_bit_for_bit(cloud, built):
    del built
    pool = debs(cloud.data / "repo")
    released = cloud.index.files["tiny_service-1.0.0.tar.gz"]
    assert pool["tiny_1.0.0.orig.tar.gz"] == released


def test_a_report_has_the_packages_that_are_of_no_release(own, tmp_path):
    cloud, _ = own
    report = tmp_path / "report.json"
    _, err = cloud.run("2099.1", "--url", "http://elsewhere", "--report", report)
    rows = outcomes(json.loads(report.read_text()))
    assert {n for n, o in rows.items() if o == "built"} == {"openstack-2099.1-archive"}
    assert rows.keys() >= OURS
    assert "1 built" in err


def test_a_second_run_of_the_same_writes_nothing(cloud, built):
    del built
    repo = cloud.data / "repo"
    before = snapshot(repo), snapshot(cloud.cache)
    asked = len(cloud.index.requests)
    _, err = cloud.run("2099.1")
    assert "11 unchanged" in err
    assert (snapshot(repo), snapshot(cloud.cache)) == before
    assert len(cloud.index.requests) == asked


def test_an_empty_repository_is_filled_from_the_cache_with_the_same_bits(own, tmp_path):
    cloud, repo = own
    report = tmp_path / "report.json"
    other = tmp_path / "other/repo"
    cloud.run("2099.1", "--repo", other, "--url", repo.as_uri(), "--report", report, "--offline")
    rows = outcomes(json.loads(report.read_text()))
    assert {n for n, o in rows.items() if o != "reused"} == OURS
    mine, theirs = debs(other), debs(repo)
    assert {n: mine[n] for n in mine if "-archive_" not in n} == {
        n: theirs[n] for n in theirs if "-archive_" not in n
    }


def test_the_same_lock_built_from_nothing_elsewhere_gives_the_same_bits(own, tmp_path):
    cloud, repo = own
    elsewhere = cloud.with_env(
        BUILD_DEBS_CACHE=tmp_path / "another/cache of mine", HOME=cloud.env["HOME"], LANG="C"
    )
    other = tmp_path / "another/repo"
    elsewhere.run("2099.1", "--repo", other, "--url", repo.as_uri(), "--jobs", "1")
    mine, theirs = debs(other), debs(repo)
    assert mine.keys() == theirs.keys()
    assert [n for n in mine if mine[n] != theirs[n] and "-archive_" not in n] == []


def test_an_override_rebuilds_what_depends_on_its_bits_and_no_more(own, tmp_path):
    cloud, repo = own
    override, report = tmp_path / "override.txt", tmp_path / "report.json"
    override.write_text("tinylib==1.1  # a fix\n")
    cloud.run("2099.1", "--override", override, "--report", report)
    rows = outcomes(json.loads(report.read_text()))
    assert {n for n, o in rows.items() if o == "built"} - OURS == {
        "openstack-2099.1-tinylib",
        "openstack-2099.1-closure-common",
    }
    assert rows["tiny"] == "kept"
    apt = Apt(tmp_path, repo, SUITE)
    apt.update()
    assert apt.candidate("openstack-2099.1-tinylib").startswith("1.1.0-1+deb")
    # what was published before can still be installed
    assert "1.0.0-1+deb" in apt.run("apt-cache", "policy", "openstack-2099.1-tinylib")


SAY_MORE = """\
Description: Say more
Origin: other
Forwarded: not-needed
---
--- a/{0}
+++ b/{0}
@@ -1,2 +1,2 @@
 def main():
-    print('1.0.0')
+    print('1.0.0, dusted')
"""


def test_a_patch_rebuilds_what_it_is_on_and_no_more(own, tmp_path):
    cloud, repo = own
    report, module = tmp_path / "report.json", "tiny_service/__init__.py"
    room = cloud.env["BUILD_DEBS_DATA"] / Path("projects/patches/2099.1/tiny-service")
    room.mkdir(parents=True)
    (room / "series").write_text("more.patch\n")
    (room / "more.patch").write_text(SAY_MORE.format(module))
    cloud.run("2099.1", "--report", report)
    rows = outcomes(json.loads(report.read_text()))
    assert {n for n, o in rows.items() if o == "built"} - OURS == {"tiny"}
    apt = Apt(tmp_path, repo, SUITE)
    apt.update()
    assert apt.candidate("tiny").endswith(".2")
    (deb,) = (repo / "pool").rglob("openstack-2099.1-tiny-service_*.2_all.deb")
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path / "x"], check=True)
    (installed,) = (tmp_path / "x").rglob(module)
    assert "dusted" in installed.read_text()
    (room / "more.patch").write_text(SAY_MORE.format("tiny_service/nothing.py"))
    _, err = cloud.run("2099.1", code=6)
    assert "tiny_service-1.0.0: the patch more.patch does not apply" in err
    assert "log: " in err


def test_a_patch_on_a_wheel_stops_the_plan(own):
    cloud, _ = own
    room = cloud.env["BUILD_DEBS_DATA"] / Path("projects/patches/2099.1/tinylib")
    room.mkdir(parents=True)
    (room / "series").write_text("")
    _, err = cloud.run("2099.1", "--dry-run", code=3)
    assert "tinylib has patches in 2099.1, but its lock has a wheel" in err


def test_the_last_build_wins_when_an_override_is_taken_back(own, tmp_path):
    cloud, repo = own
    override = tmp_path / "override.txt"
    override.write_text("tinylib==1.1\n")
    cloud.run("2099.1", "--override", override)
    cloud.run("2099.1")
    apt = Apt(tmp_path, repo, SUITE)
    apt.update()
    newest = apt.run("apt-cache", "show", "--no-all-versions", "openstack-2099.1-closure-common")
    assert "openstack-2099.1-tinylib (>= 1.0.0)" in newest


def wait_for(condition, process):
    """Wait until `condition` holds while the process runs."""
    for _ in range(24000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise AssertionError("it never came to that")


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def exists(directory, pattern):
    def found():
        try:
            return directory.exists() and any(directory.rglob(pattern))
        except FileNotFoundError:  # a directory that went while it was looked into
            return False

    return found


def test_a_build_that_was_killed_at_any_moment_is_finished_by_the_next(own, tmp_path):
    cloud, repo = own
    disturbed = cloud.with_env(BUILD_DEBS_CACHE=tmp_path / "cache")
    other = tmp_path / "repo"
    words = ("2099.1", "--repo", other, "--url", repo.as_uri())
    moments = [
        exists(disturbed.cache / "downloads", "*.whl"),
        exists(cloud.hold, "reached"),
        exists(cloud.area / "tmp", "tree"),
        exists(disturbed.cache / "debs", "*.deb"),
        exists(other / "pool", "*.deb"),
    ]
    for moment in moments:
        if moment is moments[1]:
            cloud.hold.mkdir()
        process = disturbed.start(*words)
        wait_for(moment, process)
        kill(process)
        shutil.rmtree(cloud.hold, ignore_errors=True)
        assert not (other / "dists" / SUITE / "InRelease").exists() or not publish.verify(other)
    disturbed.run(*words)
    mine, theirs = debs(other), debs(repo)
    assert {n: mine[n] for n in mine if "-archive_" not in n} == {
        n: theirs[n] for n in theirs if "-archive_" not in n
    }
    disturbed.run("repo", "verify", "--repo", other)
    # the killed ones left nothing where packages are laid out, which may be memory
    assert list((cloud.area / "tmp").glob("*/tree")) == []


def test_a_second_build_waits_for_the_first_and_says_for_whom(own):
    cloud, repo = own
    shutil.rmtree(repo)
    with publish.lock_directory(repo, "building something else"):
        process = cloud.start("2099.1")
        line = ""
        while "waiting" not in line:
            line = process.stderr.readline()
            assert line, process.communicate()
        assert "building something else" in line
        assert not (repo / "dists").exists()
    process.communicate(timeout=60)
    assert process.returncode == 0
    cloud.run("repo", "verify")


def test_two_builds_into_one_repository_at_once_both_end_well(own):
    cloud, repo = own
    wanted = debs(repo)
    shutil.rmtree(repo)
    processes = [cloud.start("2099.1") for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert debs(repo).keys() == wanted.keys()
    cloud.run("repo", "verify")


def test_a_file_that_is_not_the_locked_one_stops_the_build(own, tmp_path):
    cloud, _ = own
    path = "/files/tinylib-1.0-py3-none-any.whl"
    cloud.index.answers[path] = [body(b"not the wheel that was locked")] * 9
    new = cloud.with_env(BUILD_DEBS_CACHE=tmp_path / "cache")
    _, err = new.run("2099.1", "--repo", tmp_path / "repo", code=5)
    cloud.index.answers.clear()
    assert "tinylib-1.0-py3-none-any.whl" in err
    assert "is not the locked" in err
    assert not (tmp_path / "repo/dists").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("kibibytes", [8, 160])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_done(own, tmp_path, kibibytes):
    cloud, _ = own
    small = tmp_path / "small"
    small.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kibibytes}k", "small"]
    subprocess.run(["mount", *options, small], check=True)
    try:
        new = cloud.with_env(BUILD_DEBS_CACHE=small)
        process = new.start("2099.1", "--repo", tmp_path / "repo")
        _, err = process.communicate(timeout=60)
        assert process.returncode in {1, 6}, err
        assert "No space left on device" in err
        assert "Traceback" not in err
        for path in small.glob("downloads/*/*/*"):
            assert path.read_bytes() == cloud.index.files[path.name]
        assert list(small.glob("debs/*/*/*.deb")) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_failed_build_names_its_log_and_publishes_nothing(own, tmp_path):
    cloud, _ = own
    _, err = cloud.run("2099.2", "--repo", tmp_path / "repo", code=6)
    assert "fragile-1.0: the wheel failed to build" in err
    assert "no compiler of Fortran" in err
    log = Path(err.rsplit("log: ", 1)[1].split()[0])
    assert "no compiler of Fortran" in log.read_text()
    assert not (tmp_path / "repo/dists").exists()


def test_keep_going_leaves_out_what_fails_and_says_so_everywhere(own, tmp_path):
    cloud, _ = own
    report, repo = tmp_path / "report.json", tmp_path / "repo"
    words = ("azimuth", "--keep-going", "--repo", repo)
    _, err = cloud.run(*words, "--report", report, code=10)
    assert "fragile-1.0: the wheel failed to build" in err
    table = json.loads(report.read_text())
    assert table["missing"] == ["fragile", "frail"]
    rows = outcomes(table)
    assert (rows["tiny"], rows["frail"]) == ("built", "left out")
    assert "openstack-2099.2-closure-frail" not in rows
    release = (repo / f"dists/{HERE}-2099.2/InRelease").read_text()
    assert "incomplete, not built: fragile, frail" in release
    # run again: what there is stays, what failed is tried again and fails again
    _, err = cloud.run(*words, "--report", report, code=10)
    assert outcomes(json.loads(report.read_text()))["tiny"] == "kept"


def test_one_project_brings_what_it_needs_and_no_other(own, tmp_path):
    cloud, _ = own
    report = tmp_path / "report.json"
    cloud.run("2099.2", "--project", "tiny", "--repo", tmp_path / "repo", "--report", report)
    rows = outcomes(json.loads(report.read_text()))
    assert "tiny" in rows
    assert not any("frail" in name or "fragile" in name for name in rows)


def gone_for_us(handler):
    """Serve a file to uv, which reads its metadata, and not to the fetch stage."""
    if handler.headers["User-Agent"].startswith("uv/"):
        handler.server.index.send_file(handler)
    else:
        status(404)(handler)


@pytest.mark.parametrize(
    ("version", "answers"), [("1.2", []), ("1.1", [gone_for_us] * 99)], ids=["build", "fetch"]
)
def test_keep_going_past_one_library_leaves_all_else_as_it_is(own, tmp_path, version, answers):
    cloud, repo = own
    override, report = tmp_path / "override.txt", tmp_path / "report.json"
    override.write_text(f"tinylib=={version}\n")
    new = cloud.with_env(BUILD_DEBS_CACHE=tmp_path / "cache")
    words = ("2099.1", "--override", override, "--keep-going", "--report", report)
    cloud.index.answers[f"/files/tinylib-{version}-py3-none-any.whl"] = answers
    _, err = new.run(*words, code=10)
    cloud.index.answers.clear()
    assert f"tinylib-{version}-py3-none-any.whl" in err
    table = json.loads(report.read_text())
    assert table["missing"] == ["tinylib"]
    rows = outcomes(table)
    assert rows["tiny"] == "kept"
    assert rows.get("openstack-2099.1-tinylib", "failed") == "failed"
    # a closure that asks for what is not there could not be installed
    assert "openstack-2099.1-closure-common" not in rows
    apt = Apt(tmp_path, repo, SUITE)
    apt.update()
    assert apt.candidate("openstack-2099.1-closure-common").endswith(".1")


def test_a_library_nothing_can_be_made_of_stops_a_build_that_is_not_to_go_on(own, tmp_path):
    cloud, repo = own
    before = snapshot(repo / "dists")
    override = tmp_path / "override.txt"
    override.write_text("tinylib==1.2\n")
    _, err = cloud.run("2099.1", "--override", override, code=6)
    assert "tinylib-1.2-py3-none-any.whl: not a usable wheel" in err
    assert snapshot(repo / "dists") == before


SHARED = "ns/__init__.py"


def sharing(cloud, area, *, left, right, version):
    """Have tinylib of a version require two distributions, with files; return the override."""
    house = area / "house"
    cloud.index.add(
        wheel(house, "tinylib", version, {"tinylib/__init__.py": ""},
              requires_dist=[f"left=={version}", f"right=={version}"]),
        wheel(house, "left", version, {"left.py": "", **left.pop("files", {})}, **left),
        wheel(house, "right", version, {"right.py": "", **right.pop("files", {})}, **right),
    )  # fmt: skip
    override = area / "override.txt"
    override.write_text(f"tinylib=={version}\n")
    return override


def installed(area, *debs):
    """Have dpkg unpack packages, in an order, into a root of its own; return the root."""
    root = area / "root"
    for directory in ("info", "updates", "triggers", "alternatives"):
        (root / "var/lib/dpkg" / directory).mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/status").touch()
    argv = ["dpkg", f"--root={root}", "--force-not-root", "--force-bad-path", "--unpack"]
    subprocess.run([*argv, *debs], check=True, capture_output=True)
    return root


def package(repo, name):
    (deb,) = (repo / "pool").rglob(f"openstack-2099.1-{name}_*.deb")
    return deb


def field(deb, name):
    argv = ["dpkg-deb", "-f", deb, name]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def test_a_file_that_two_wheels_have_is_in_one_package(own, tmp_path):
    cloud, _ = own
    files = {"files": {SHARED: "x = 1\n"}}
    override = sharing(cloud, tmp_path, left={**files}, right={**files}, version="3.0")
    repo, report = tmp_path / "repo", tmp_path / "report.json"
    cache = cloud.with_env(BUILD_DEBS_CACHE=tmp_path / "cache")
    words = ("2099.1", "--override", override, "--repo", repo, "--report", report)
    cache.run(*words)
    left, right = package(repo, "left"), package(repo, "right")
    assert "openstack-2099.1-left" in field(right, "Depends").split(", ")
    assert field(left, "Replaces") == "openstack-2099.1-right"
    for n, order in enumerate(([left, right], [right, left])):
        root = installed(tmp_path / str(n), *order)
        assert len(list(root.rglob(SHARED))) == 1
    # another run has nothing to do, and one from nothing gives the same bits
    before = debs(repo)
    cache.run(*words)
    assert set(outcomes(json.loads(report.read_text())).values()) == {"kept"}
    cloud.run(*words[:4], tmp_path / "again")
    again = debs(tmp_path / "again")
    assert [n for n in before if before[n] != again[n] and "-archive_" not in n] == []


def test_what_was_made_before_that_was_known_gives_the_file_up(own, tmp_path):
    cloud, _ = own
    alone, files = tmp_path / "alone", {"files": {SHARED: "x = 1\n"}}
    alone.mkdir()
    override = sharing(cloud, alone, left={}, right={**files}, version="3.1")
    cloud.run("2099.1", "--override", override, "--repo", alone / "repo")
    override = sharing(cloud, tmp_path, left={**files}, right={**files}, version="3.2")
    cloud.run("2099.1", "--override", override, "--repo", tmp_path / "repo")
    old = package(alone / "repo", "right")
    new = [package(tmp_path / "repo", name) for name in ("left", "right")]
    root = installed(tmp_path / "x", old, *new)
    assert len(list(root.rglob(SHARED))) == 1


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        ({"files": {SHARED: "x = 1\n"}}, {"files": {SHARED: "x = 2\n"}}, SHARED),
        ({"scripts": {"do": "left:do"}}, {"scripts": {"do": "right:do"}}, "bin/do"),
    ],
    ids=["file", "program"],
)
def test_a_file_that_is_not_the_same_in_two_wheels_names_both_and_can_be_left_out(
    own, tmp_path, left, right, said
):
    cloud, _ = own
    version = f"4.{len(said)}"
    override = sharing(cloud, tmp_path, left={**left}, right={**right}, version=version)
    words = ("2099.1", "--override", override, "--repo", tmp_path / "repo")
    _, err = cloud.run(*words, code=6)
    assert f"left {version} and right {version} both have " in err
    assert said in err
    assert "hint: leave it out of one: exclude in projects/recipes.toml" in err
    assert not (tmp_path / "repo/dists").exists()
    recipes = Path(cloud.env["BUILD_DEBS_DATA"]) / "projects/recipes.toml"
    recipes.write_text(
        '[[recipe]]\ndistribution = "right"\nreason = "left has it"\n'
        'exclude = ["{site}/ns", "bin/do"]\n'
    )
    cloud.run(*words)
    root = installed(tmp_path, *(package(tmp_path / "repo", n) for n in ("left", "right")))
    assert (root / f"usr/lib/openstack/2099.1/{said}").exists() or list(root.rglob(SHARED))


@pytest.mark.parametrize(
    ("major", "files", "said"),
    [
        (
            6,
            {"right.py": "answer = 42\n", "left.py": "x = 2\n"},
            "left 6.0 and right 6.1 both have",
        ),
        (7, {"right.py": ""}, "module 'right' has no attribute 'answer'"),
    ],
    ids=["a file of another's", "a name others import"],
)
def test_a_library_that_is_refreshed_is_tried_with_all_that_is_kept(
    own, tmp_path, major, files, said
):
    """Nodes get the new package beside the old ones."""
    cloud, _ = own
    repo, house, override = tmp_path / "repo", tmp_path / "house", tmp_path / "override.txt"
    cloud.index.add(
        wheel(house, "tinylib", f"{major}.0", {"tinylib/__init__.py": ""}, requires_dist=["left"]),
        buildable(house, "left", f"{major}.0", {"left.py": "import right\n\nright.answer\n"},
                  requires_dist=["right"]),
        wheel(house, "right", f"{major}.0", {"right.py": "answer = 42\n"}),
        wheel(house, "right", f"{major}.1", files),
    )  # fmt: skip
    pins = f"tinylib=={major}.0\nleft=={major}.0\n"
    words = ("2099.1", "--override", override, "--repo", repo)
    override.write_text(f"{pins}right=={major}.0\n")
    cloud.run(*words)
    before = snapshot(repo / "dists")
    override.write_text(f"{pins}right=={major}.1\n")
    _, err = cloud.run(*words, code=6)
    assert said in err
    assert snapshot(repo / "dists") == before


def test_a_file_of_the_tree_itself_is_no_wheels(own, tmp_path):
    cloud, _ = own
    override = sharing(
        cloud, tmp_path, left={"files": {"{data}/data/pyvenv.cfg": ""}}, right={}, version="5.0"
    )
    _, err = cloud.run("2099.1", "--override", override, "--repo", tmp_path / "repo", code=6)
    assert "left 5.0 and the tree's own files both have pyvenv.cfg" in err


def test_without_what_builds_them_the_sources_are_left_out(own, tmp_path):
    cloud, _ = own
    new = cloud.with_env(BUILD_DEBS_CACHE=tmp_path / "cache")
    cloud.index.answers["/files/tinybackend-1.0-py3-none-any.whl"] = [status(404)] * 9
    _, err = new.run("2099.1", "--keep-going", "--repo", tmp_path / "repo", code=10)
    cloud.index.answers.clear()
    assert "cannot build without tinybackend-1.0-py3-none-any.whl" in err
    assert (
        "openstack-2099.1-tinylib"
        in new.run("repo", "list", f"{HERE}-2099.1", "--repo", tmp_path / "repo")[0]
    )
