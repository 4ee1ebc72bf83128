"""The command line: what a person types, and the one clear line when it cannot be done."""

import re
import tomllib

import pytest
from cloud import ELSEWHERE, HERE, founded
from publishing import snapshot
from wheelhouse import REPOSITORY, names

from builder import cli, errors


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Found a cloud that is locked for two targets; nothing is built in it."""
    with founded(tmp_path_factory.mktemp("cloud")) as made:
        for target in (HERE, ELSEWHERE):
            made.run("lock", "2099.1", "--constraints", made.constraints, "--target", target)
        yield made


@pytest.fixture
def own(cloud, tmp_path):
    """Return the cloud with data of the test's own, which it may change."""
    own = cloud.with_own_data(tmp_path, BUILD_DEBS_CACHE=tmp_path / "cache")
    return own, tmp_path / "data"


def one_line(err):
    """Return the error's own line, after a check that nothing but a hint follows."""
    lines = err.strip().splitlines()
    assert lines[0].startswith(("error: ", "Error: ", "Usage: ")), err
    assert all(line.startswith("hint: ") for line in lines[1:]), err
    return lines[0]


@pytest.mark.parametrize("word", ["2099.1", "zenith", "ZENITH", "Zenith"])
def test_a_release_is_named_by_id_or_code_name_in_any_case(cloud, call, word):
    code, out, err = call(cloud, word, "--dry-run")
    assert code == 0
    assert "2099.1 on" in err
    assert "build\ttiny\t2:1.0.0-1+deb" in out


@pytest.mark.parametrize(
    "words",
    [
        ("-v", "2099.1", "--dry-run"),
        ("--dry-run", "2099.1"),
        ("--target", HERE, "--dry-run", "2099.1", "-q"),
        ("build", "2099.1", "--dry-run"),
    ],
)
def test_options_may_stand_before_the_release_and_the_verb_may_be_left_out(cloud, call, words):
    code, out, _ = call(cloud, *words)
    assert code == 0
    assert "openstack-2099.1-tinylib" in out


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(own, call):
    cloud, data = own
    asked = len(cloud.index.requests)
    code, out, err = call(cloud, "2099.1", "--dry-run")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert {len(row) for row in rows} == {4}
    assert {(row[0], row[3]) for row in rows} == {("build", "new")}
    assert "11 to build" in err
    assert not (data / "repo").exists()
    assert not cloud.cache.exists()
    assert len(cloud.index.requests) == asked


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("zenit",), "unknown series 'zenit'; nearest: zenith"),
        (("lst",), "'lst' is neither a verb nor a release; nearest: list"),
        (("lokc", "2099.1"), "'lokc' is neither a verb nor a release; nearest: lock"),
        (("udpate-series", "x"), "a verb nor a release; nearest: update-series"),
        (("2099.3",), "unknown series '2099.3'; nearest: 2099."),
        (("2099.1", "--project", "tinny"), "unknown project 'tinny'; nearest: tiny"),
        (("2099.1", "--project", "frail"), "frail is not part of 2099.1; it has: tiny"),
        (("2099.1", "--target", "bokworm"), "unknown target 'bokworm'; nearest: bookworm"),
        (("2099.1", "--target", "bullseye"), "bullseye is not a target of 2099.1"),
        (("why", "2099.1", "tinylob"), "tinylob is not in 2099.1"),
        (("lock", "zenit"), "unknown series 'zenit'"),
    ],
)
def test_a_name_nobody_knows_is_one_line_with_the_nearest_and_exit_2(cloud, call, words, expected):
    code, out, err = call(cloud, *words)
    assert code == 2
    assert out == ""
    assert expected in one_line(err)


@pytest.mark.parametrize(
    "words", [("2099.1", "--jobs", "0"), ("2099.1", "--frobnicate"), ("2099.1", "--override", "no")]
)
def test_an_option_that_is_none_is_exit_2(cloud, call, words):
    code, _, err = call(cloud, *words)
    assert code == 2
    assert words[1] in err


def test_help_names_the_verbs_and_the_exit_codes(cloud, call):
    code, out, _ = call(cloud, "--help")
    assert code == 0
    for verb in ("build", "lock", "why", "list", "repo"):
        assert re.search(rf"^  {verb} ", out, re.MULTILINE)
    assert "Exit codes" in out
    assert call(cloud, "--version")[1].startswith("build-debs, version ")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("2026.1",),
        ("-v",),
        *((verb,) for verb in cli.cli.commands),
        ("repo", "verify"),
        ("repo", "key"),
    ],
)
def test_h_is_help_for_every_verb(cloud, call, words):
    code, out, err = call(cloud, *words, "-h")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: ")
    assert "-h, --help" in out


def test_without_a_word_it_says_what_can_be_typed(cloud, call):
    code, out, err = call(cloud)
    assert code in {0, 2}
    assert "RELEASE" in out + err


def exit_codes_of_readme():
    text = (REPOSITORY / "README.md").read_text()
    return {
        int(n): meaning for n, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    }


def test_the_readme_s_exit_codes_are_those_of_the_errors():
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and hasattr(k, "exit_code")]
    assert set(exit_codes_of_readme()) == {0, cli.EXIT_INCOMPLETE, *(k.exit_code for k in kinds)}


def test_the_readme_s_options_are_those_of_the_command():
    text = (REPOSITORY / "README.md").read_text()
    table = text.split("| option |")[1].split("\n\n")[0]
    documented = set(re.findall(r"--[a-z]+(?:-[a-z]+)*|(?<=`)-[vq](?=`)", table))
    known = {o for p in cli.build.params for o in p.opts if o.startswith("-")}
    assert documented == known - {"--verbose", "--quiet"}


def test_an_unknown_key_names_file_key_and_nearest_key(own, call):
    cloud, data = own
    path = data / "projects/services/tiny.toml"
    path.write_text(path.read_text().replace("summary =", "sumary ="))
    code, _, err = call(cloud, "2099.1", "--dry-run")
    assert code == 3
    assert "services/tiny.toml" in one_line(err)
    assert "sumary" in one_line(err)
    assert "nearest valid key: summary" in err


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("series/2099.1.toml", "this is no TOML"),
        ("drivers.toml", "[[driver]]\nname = 7\nreason = 'x'\n"),
        ("recipes.toml", "[[recipy]]\n"),
        ("overrides/2099.9.toml", ""),
    ],
)
def test_a_file_that_is_wrong_is_named(own, call, file, text):
    cloud, data = own
    (data / "projects" / file).write_text(text)
    code, _, err = call(cloud, "2099.1", "--dry-run")
    assert code == 3
    assert file in one_line(err)


def test_data_that_are_nowhere_are_one_error(own, call, tmp_path):
    cloud, _ = own
    code, _, err = call(cloud.with_env(BUILD_DEBS_DATA=tmp_path / "absent"), "list")
    assert code == 3
    assert "absent" in one_line(err)


def test_a_lock_of_other_versions_is_stale_and_the_remedy_is_named(own, call):
    cloud, data = own
    path = data / "projects/series/2099.1.toml"
    path.write_text(path.read_text().replace('tiny = "1.0.0"', 'tiny = "1.0.1"'))
    code, _, err = call(cloud, "2099.1", "--dry-run")
    assert code == 3
    assert f"2099.1-{HERE}.json was made for another version or other drivers of tiny" in one_line(
        err
    )
    assert f"build-debs lock 2099.1 --target {HERE}" in err


def test_a_damaged_lock_is_one_error(own, call):
    cloud, data = own
    path = data / f"projects/locks/2099.1-{HERE}.json"
    path.write_text(path.read_text()[:-200])
    code, _, err = call(cloud, "2099.1", "--dry-run")
    assert code == 3
    assert f"2099.1-{HERE}.json" in one_line(err)


@pytest.mark.parametrize("words", [("2099.2", "--dry-run"), ("why", "2099.2", "tinylib")])
def test_a_release_without_a_lock_says_how_to_make_one(cloud, call, words):
    code, _, err = call(cloud, *words)
    assert code == 3
    assert f"no lock of 2099.2 on {HERE}" in one_line(err)
    assert "build-debs lock 2099.2" in err


def test_another_target_without_what_makes_build_roots_is_said_before_anything_is_fetched(
    own, call, tmp_path
):
    cloud, data = own
    for tool in ("apt-get", "apt-config"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    asked = len(cloud.index.requests)
    code, _, err = call(cloud.with_env(PATH=tmp_path), "2099.1", "--target", ELSEWHERE)
    assert code == 8
    assert "mmdebstrap is not installed" in err
    assert "apt-get install mmdebstrap" in err
    assert len(cloud.index.requests) == asked
    assert not (data / "repo/dists").exists()
    # what would be built there can be seen here
    assert call(cloud, "2099.1", "--target", ELSEWHERE, "--dry-run")[0] == 0


def test_offline_with_an_empty_cache_names_all_that_is_missing(own, call):
    cloud, _ = own
    code, _, err = call(cloud, "2099.1", "--offline")
    assert code == 5
    for file in ("tinylib-1.0", "sourcelib-1.0.tar.gz", "tiny_service-1.0.0", "tinybackend"):
        assert file in err


def test_a_conflicting_override_is_told_with_its_chain(own, call, tmp_path):
    cloud, _ = own
    path = tmp_path / "override.txt"
    path.write_text("tinylib==2.0\n")
    code, _, err = call(cloud, "2099.1", "--override", path, "--dry-run")
    assert code == 4
    assert "tinylib==2.0" in err
    assert "sourcelib>=9" in err


def test_an_override_of_something_else_is_told_with_the_nearest(own, call, tmp_path):
    cloud, _ = own
    path = tmp_path / "override.txt"
    path.write_text("tinilib==1.1\n")
    code, _, err = call(cloud, "2099.1", "--override", path, "--dry-run")
    assert code == 3
    assert "tinilib" in one_line(err)
    assert "nearest: tinylib" in err


def test_an_override_shows_in_the_plan(own, call, tmp_path):
    cloud, _ = own
    path = tmp_path / "override.txt"
    path.write_text("tinylib==1.1\n")
    code, out, _ = call(cloud, "2099.1", "--override", path, "--dry-run")
    assert code == 0
    assert "openstack-2099.1-tinylib\t1.1.0-1+deb" in out


def test_constraints_of_one_s_own_stand_in_for_the_lock(own, call, tmp_path):
    cloud, data = own
    path = tmp_path / "constraints.txt"
    path.write_text("tinylib===1.1\nsourcelib===1.0\ntinyclient===1.0\n")
    code, out, _ = call(cloud, "2099.1", "--constraints", path, "--dry-run")
    assert code == 0
    assert "openstack-2099.1-tinylib\t1.1.0-1+deb" in out
    assert '"version": "1.1"' not in (data / f"projects/locks/2099.1-{HERE}.json").read_text()


def test_constraints_that_are_not_there_are_one_error(cloud, call):
    code, _, err = call(cloud, "2099.1", "--constraints", "/nowhere/upper.txt", "--dry-run")
    assert code == 2
    assert "/nowhere/upper.txt" in one_line(err)


def test_lock_lists_what_changed_and_leaves_an_unchanged_lock_alone(own, call):
    cloud, data = own
    path = data / f"projects/locks/2099.1-{HERE}.json"
    before = snapshot(path.parent)
    code, out, err = call(cloud, "lock", "2099.1", "--constraints", cloud.constraints)
    assert (code, out) == (0, "")
    assert "unchanged" in err
    assert snapshot(path.parent) == before
    constraints = data / "upper-constraints.txt"
    constraints.write_text(constraints.read_text().replace("tinylib===1.0", "tinylib===1.1"))
    code, out, _ = call(cloud, "lock", "2099.1", "--constraints", constraints)
    assert (code, out) == (0, "tinylib\t1.0\t1.1\n")


def test_a_failed_lock_keeps_the_old_one(own, call, tmp_path):
    cloud, data = own
    before = (data / f"projects/locks/2099.1-{HERE}.json").read_bytes()
    path = tmp_path / "constraints.txt"
    path.write_text("tinylib===7.7\n")
    assert call(cloud, "lock", "2099.1", "--constraints", path)[0] == 4
    assert (data / f"projects/locks/2099.1-{HERE}.json").read_bytes() == before


def test_a_damaged_lock_can_be_made_again(own, call):
    cloud, data = own
    path = data / f"projects/locks/2099.1-{HERE}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    assert call(cloud, "lock", "2099.1", "--constraints", cloud.constraints)[0] == 0
    assert path.read_bytes() == whole


def test_why_tells_the_chain_the_pin_and_who_requires_it(cloud, call):
    code, out, _ = call(cloud, "why", "2099.1", "TinyLib")
    assert code == 0
    assert "tinylib 1.0 (tinylib-1.0-py3-none-any.whl)" in out
    assert "because: tiny-service → tinylib>=1" in out
    assert "required by tiny-service 1.0.0: tinylib>=1" in out
    assert "because: driver: the command openstack" in call(cloud, "why", "2099.1", "tinyclient")[1]


def test_list_shows_each_release_with_its_targets_and_locks(cloud, call):
    code, out, _ = call(cloud, "list")
    assert code == 0
    first, second = (line.split("\t") for line in out.splitlines())
    assert first[:5] == ["2099.1", "zenith", "2024-04-03", "slurp", "maintained"]
    assert "no lock" not in first[5]
    assert second[5] == "bookworm (no lock), trixie (no lock)"
    assert first[6] == second[6] == "-"


def test_list_shows_what_is_proven(own, call):
    cloud, data = own
    (data / "projects/proven.toml").write_text(
        "[[proof]]\n"
        'cell = "tempest"\nseries = "2099.1"\ntarget = "bookworm"\nwhat = "Tempest"\n'
        'date = "2026-11-29"\nversion = "1.0"\ntook = "60 min"\ninputs = "abc"\n'
    )
    assert call(cloud, "list")[1].splitlines()[0].split("\t")[6] == "bookworm: tempest"


def test_a_repository_that_cannot_be_written_is_one_error(own, call, tmp_path):
    cloud, _ = own
    (tmp_path / "file").write_text("")
    code, _, err = call(cloud, "2099.1", "--repo", tmp_path / "file/repo")
    assert code == 2
    assert str(tmp_path / "file/repo") in one_line(err)


def test_a_disk_that_is_full_is_one_error(own, call, monkeypatch):
    cloud, data = own

    def full(*_, **__):
        raise OSError(28, "No space left on device", "/somewhere/file")

    monkeypatch.setattr("builder.pipeline.running.run", full)
    code, _, err = call(cloud, "2099.1")
    assert code == 1
    assert one_line(err) == "error: No space left on device: /somewhere/file"
    assert "BUILD_DEBS_CACHE" in err
    assert names(data) == ["debian-templates", "projects", "upper-constraints.txt"]


def test_an_interruption_is_quiet(own, call, monkeypatch):
    cloud, _ = own

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("builder.pipeline.running.run", interrupted)
    code, _, err = call(cloud, "2099.1")
    assert (code, err.strip()) == (130, "")


@pytest.mark.parametrize("words", [("list",), ("verify",)])
def test_a_repository_nobody_made_is_empty_or_said_to_be(own, call, words):
    cloud, _ = own
    code, out, err = call(cloud, "repo", *words)
    assert (code == 0 and out == "") or (code in {2, 7} and one_line(err))


def test_the_committed_data_can_be_read_and_planned(call, cloud, tmp_path):
    real = cloud.with_env(BUILD_DEBS_DATA=REPOSITORY, BUILD_DEBS_CACHE=tmp_path)
    code, out, _ = call(real, "list")
    assert code == 0
    assert {"ocata", "2026.1"} <= {line.split("\t")[0] for line in out.splitlines()}
    for path in sorted((REPOSITORY / "projects/locks").glob("*.json")):
        series, target = path.stem.rsplit("-", 1)
        words = (series, "--target", target, "--dry-run", "--repo", tmp_path / "none")
        code, out, err = call(real, *words)
        assert code == 0, err
        services = tomllib.loads((REPOSITORY / f"projects/series/{series}.toml").read_text())
        planned = {line.split("\t")[1] for line in out.splitlines()}
        assert set(services["versions"]) <= planned
