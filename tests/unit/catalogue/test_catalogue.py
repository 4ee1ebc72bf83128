"""`projects/` is read whole, its mistakes are named, and a person's words find their thing."""

from pathlib import Path

import pytest
from values import BOOKWORM_FILE

from builder import dirs
from builder.catalogue import load as catalogue
from builder.errors import DataError, UsageError
from builder.model.values import Override, Overrides, Recipe

PROJECTS = Path(__file__).resolve().parents[3] / "projects"

SERIES = """\
id = "{id}"
name = "{name}"
date = "{date}"
status = "maintained"
slurp = true
python = ["3.11"]
targets = {targets}
signing-key = "b8e9315f48553ec5aff9ffe5e69d97da9efb5aff"
[versions]
demo = "1.0.0"
"""
SERVICE = """\
name = "demo"
title = "Demo"
distribution = "demo"
deliverable = "demo"
description = "A demo."
homepage = "https://example.org/"
common = "demo"
user = {name = "demo"}
packages = [{name = "demo", summary = "demo"}]
"""


def write(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def series(id_="2026.1", name="gazpacho", date="2026-04-01", targets='["bookworm"]'):
    return SERIES.format(id=id_, name=name, date=date, targets=targets)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "series/2026.1.toml", series())
    write(tmp_path, "series/zed.toml", series("zed", "zed", "2022-10-05"))
    write(tmp_path, "targets/bookworm.toml", BOOKWORM_FILE)
    write(
        tmp_path,
        "targets/trixie.toml",
        BOOKWORM_FILE.replace("bookworm", "trixie").replace("3.11.2", "3.13.5"),
    )
    write(tmp_path, "services/demo.toml", SERVICE)
    return tmp_path


@pytest.fixture(scope="module")
def real():
    return catalogue.load(PROJECTS)


def test_series_are_ordered_by_age_not_by_name(root):
    assert catalogue.order_series(catalogue.load(root)) == ("zed", "2026.1")


@pytest.mark.parametrize("word", ["2026.1", "gazpacho", "Gazpacho", "GAZPACHO"])
def test_series_is_found_by_id_and_by_name_in_any_case(root, word):
    assert catalogue.find_series(catalogue.load(root), word).id == "2026.1"


def test_unknown_series_is_one_line_with_the_nearest_names(root):
    with pytest.raises(UsageError) as error:
        catalogue.find_series(catalogue.load(root), "gaspacho")
    assert error.value.message == "unknown series 'gaspacho'; nearest: gazpacho"
    assert error.value.exit_code == 2


def test_unknown_project(root):
    loaded = catalogue.load(root)
    assert catalogue.find_service(loaded, "Demo").name == "demo"
    with pytest.raises(UsageError, match=r"^unknown project 'demmo'; nearest: demo$"):
        catalogue.find_service(loaded, "demmo")


class TestTarget:
    def find(self, root, word=None, os_release="ID=debian\nVERSION_CODENAME=bookworm\n"):
        (root / "os-release").write_text(os_release)
        loaded = catalogue.load(root)
        found = catalogue.find_target(loaded, loaded.series["2026.1"], word, root / "os-release")
        return found.suite

    def test_is_this_machines_suite_by_default(self, root):
        assert self.find(root) == "bookworm"

    def test_can_be_named(self, root):
        assert self.find(root, "Bookworm") == "bookworm"

    def test_unknown(self, root):
        with pytest.raises(UsageError, match=r"^unknown target 'trixy'; nearest: trixie$"):
            self.find(root, "trixy")

    def test_known_but_not_of_the_series(self, root):
        with pytest.raises(UsageError) as error:
            self.find(root, "trixie")
        assert error.value.message == (
            "trixie is not a target of 2026.1 (gazpacho), whose targets are: bookworm"
        )

    @pytest.mark.parametrize(
        "os_release",
        ["ID=debian\nVERSION_CODENAME=buster\n", 'ID="ubuntu"\nVERSION_CODENAME=noble\n'],
    )
    def test_is_the_series_first_one_where_this_machines_suite_is_none(self, root, os_release):
        assert self.find(root, None, os_release) == "bookworm"

    def test_has_the_python_the_series_runs_on(self, real):
        found = {s: catalogue.find_target(real, real.series[s]) for s in ("pike", "2026.1")}
        assert (found["pike"].suite, found["pike"].python_minor) == ("bullseye", "2.7")
        assert found["pike"].interpreter == "/usr/bin/python2.7"
        assert found["2026.1"].python_minor.startswith("3.")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "series/2026.1.toml",
            series("2026.2"),
            "id is '2026.2', but the file is named '2026.1'",
        ),
        ("series/2026.1.toml", series(targets='["sid"]'), "targets: 'sid' is not known"),
        (
            "series/2026.1.toml",
            series().replace("demo =", "demmo ="),
            "versions: 'demmo' is not known",
        ),
        (
            "series/2026.1.toml",
            series().replace("maintained", "maintaned"),
            "status: 'maintaned' is not known",
        ),
        (
            "series/2026.1.toml",
            series().replace("2026-04-01", "April"),
            "date: expected a date of the form 2026-04-01, got 'April'",
        ),
        (
            "series/2026.1.toml",
            series().replace("b8e9", ""),
            "signing-key: expected a fingerprint of 40 lower-case hexadecimal digits, "
            "got '315f48553ec5aff9ffe5e69d97da9efb5aff'",
        ),
        (
            "series/2026.1.toml",
            series().replace("slurp", "slrup"),
            "unknown key 'slrup'",
        ),
        (
            "services/demo.toml",
            SERVICE + 'until = "2026.1"\nsince = "2062.1"\n',
            "since: '2062.1' is not known",
        ),
        (
            "services/demo.toml",
            SERVICE.replace('"demo"}]', '"demo", until = "zedd"}]'),
            "packages[0].until: 'zedd' is not known",
        ),
        ("overrides/2062.1.toml", "", "file name: '2062.1' is not known"),
        (
            "drivers.toml",
            '[[driver]]\nname = "PyMySQL"\nreason = "r"\nservices = ["dmeo"]\n',
            "driver[0] (PyMySQL).services: 'dmeo' is not known",
        ),
        (
            "drivers.toml",
            '[[driver]]\nname = "PyMySQL"\nreason = "r"\nsince = "pkie"\n',
            "driver[0] (PyMySQL).since: 'pkie' is not known",
        ),
    ],
)
def test_mistake_in_the_data(root, file, text, message):
    write(root, file, text)
    with pytest.raises(DataError) as error:
        catalogue.load(root)
    assert error.value.message == f"{root}/{file}: {message}"


def test_version_of_a_service_before_its_time(root):
    write(root, "services/demo.toml", SERVICE + 'since = "2026.1"\n')
    with pytest.raises(DataError, match=r"zed\.toml: versions: demo is not part of zed"):
        catalogue.load(root)


def test_drivers_recipes_and_overrides(root):
    recipe = '[[recipe]]\ndistribution = "uWSGI"\nreason = "r"\npackages = ["gcc"]\n'
    write(root, "recipes.toml", recipe + 'environment = {A = "b"}\n')
    write(root, "drivers.toml", '[[driver]]\nname = "PyMySQL"\nreason = "r"\n')
    write(root, "overrides/zed.toml", '[[override]]\nrequirement = "a===1"\nreason = "b"\n')
    loaded = catalogue.load(root)
    assert [d.name for d in loaded.drivers] == ["PyMySQL"]
    assert loaded.recipes == (Recipe("uWSGI", "r", ("gcc",), {"A": "b"}),)
    assert loaded.overrides == {"zed": Overrides((Override("a===1", "b"),))}


def test_override_without_a_reason(root):
    write(root, "overrides/zed.toml", '[[override]]\nrequirement = "a===1"\n')
    with pytest.raises(DataError, match=r"override\[0\]: the key 'reason' is missing"):
        catalogue.load(root)


class TestCommittedData:
    """What the issue of this project promises of its own data."""

    def test_every_series_from_ocata_to_2026_2(self, real):
        names = ["ocata", "pike", "queens", "rocky", "stein", "train"]
        names += ["ussuri", "victoria", "wallaby", "xena", "yoga", "zed"]
        years = [f"{year}.{half}" for year in range(2023, 2027) for half in (1, 2)]
        assert list(catalogue.order_series(real)) == names + years

    def test_slurp_releases(self, real):
        slurp = [id_ for id_ in catalogue.order_series(real) if real.series[id_].slurp]
        assert slurp == ["2023.1", "2024.1", "2025.1", "2026.1"]

    def test_each_series_has_a_version_of_each_of_its_services(self, real):
        order = catalogue.order_series(real)
        for id_, found in real.series.items():
            existing = {n for n, s in real.services.items() if s.exists_in(id_, order)}
            assert set(found.versions) == existing

    def test_placement_starts_with_stein(self, real):
        without = [
            i for i in catalogue.order_series(real) if "placement" not in real.series[i].versions
        ]
        assert without == ["ocata", "pike", "queens", "rocky"]

    def test_targets(self, real):
        assert real.series["2026.1"].targets == ("bookworm", "trixie")
        for found in real.series.values():
            assert found.targets

    def test_python_of_a_target_is_one_the_series_supports(self, real):
        order = catalogue.order_series(real)
        for id_ in order[order.index("2023.2") :]:
            for target in real.series[id_].targets:
                assert real.targets[target].python_minor in real.series[id_].python


class TestDirs:
    def test_beside_the_package(self):
        assert dirs.locate({"HOME": "/h"}).projects == PROJECTS

    def test_follows_xdg_and_own_variables(self, tmp_path):
        (tmp_path / "projects").mkdir()
        env = {"HOME": "/h", "BUILD_DEBS_DATA": str(tmp_path), "XDG_DATA_HOME": "/d"}
        found = dirs.locate(env)
        assert found.keys == Path("/d/build-debs/keys")
        assert found.cache == Path("/h/.cache/build-debs")
        assert found.repo == tmp_path / "repo"
        assert dirs.locate({**env, "XDG_CACHE_HOME": "/c"}).debs == Path("/c/build-debs/debs")
        assert dirs.locate({**env, "BUILD_DEBS_CACHE": "/x"}).logs == Path("/x/logs")

    def test_no_data(self, tmp_path):
        with pytest.raises(DataError, match="no projects/ directory") as error:
            dirs.locate({"HOME": "/h", "BUILD_DEBS_DATA": str(tmp_path)})
        assert "BUILD_DEBS_DATA" in error.value.hint
