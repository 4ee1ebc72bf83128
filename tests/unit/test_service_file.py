"""A service is a file below projects/services: it is locked and built with nothing else written."""

import json
import tomllib

import pytest
from cloud import CONSTRAINTS, HERE, SERVICE, locked, release
from wheelhouse import wheel

DRIVER = '[[drivers]]\nname = "extradriver"\nreason = "its database"\n'


def a_file(more=DRIVER):
    """Return the file of a service that is in no series yet."""
    text = SERVICE.format(name="extra", title="Extra", more="")
    return f"{text}\n{more}"


@pytest.fixture
def cloud(tmp_path):
    """Found a cloud with a lock of one service; the index has another."""
    with locked(tmp_path / "cloud") as made:
        house = made.area / "house"
        made.index.add(
            *(release(house, "extra", v, "tinylib", "extralib") for v in ("3.0.0", "3.0.1")),
            *(release(house, "extra", v, "tinylib", "extralib") for v in ("2.9.0", "4.0.0")),
            wheel(house, "extralib", "1.0", {"extralib.py": ""}),
            wheel(house, "extralib", "2.0", {"extralib.py": ""}),
            wheel(house, "extradriver", "1.0", {"extradriver.py": ""}),
        )
        made.index.uploaded = {
            "extra_service-2.9.0.tar.gz": "2024-03-30",
            "extra_service-3.0.0.tar.gz": "2024-04-02",
            "extra_service-3.0.1.tar.gz": "2024-09-01",
            "extra_service-4.0.0.tar.gz": "2024-09-29",
        }
        made.constraints.write_text(CONSTRAINTS + "extralib===1.0\n")
        (made.data / "projects/services/extra.toml").write_text(a_file())
        yield made


def lock_of(cloud):
    return json.loads((cloud.data / f"projects/locks/2099.1-{HERE}.json").read_text())


def rows(lock):
    return {row["name"]: row for row in lock["distributions"]}


def test_a_service_is_locked_and_built(cloud):
    before = lock_of(cloud)
    # what upstream moved meanwhile stays where others have it
    text = cloud.constraints.read_text().replace("tinylib===1.0", "tinylib===1.1")
    cloud.constraints.write_text(text)
    out, _ = cloud.run("lock", "2099.1", "--service", "extra", "--constraints", cloud.constraints)
    assert out.splitlines() == [
        "extra-service\t-\t3.0.1",
        "extradriver\t-\t1.0",
        "extralib\t-\t1.0",
    ]
    series = tomllib.loads((cloud.data / "projects/series/2099.1.toml").read_text())
    assert series["versions"] == {"extra": "3.0.1", "tiny": "1.0.0"}
    after = lock_of(cloud)
    assert {n: r for n, r in rows(after).items() if n in rows(before)} == rows(before)
    assert (after["build"], after["inputs"]) == (before["build"], before["inputs"])
    assert after["asked"].keys() == {"extra", "tiny"}
    assert after["asked"]["tiny"] == before["asked"]["tiny"]
    repo = cloud.area / "repo"
    _, err = cloud.run("2099.1", "--project", "extra", "--repo", repo)
    assert "on " in err
    names = {path.name.split("_")[0] for path in repo.glob("pool/**/*.deb")}
    assert {"extra", "openstack-2099.1-extradriver", "openstack-2099.1-extralib"} <= names
    assert "tiny" not in names


def test_a_version_may_be_named(cloud):
    words = ("--service", "extra==3.0.0", "--constraints", cloud.constraints)
    cloud.run("lock", "2099.1", *words)
    assert rows(lock_of(cloud))["extra-service"]["version"] == "3.0.0"
    out, _ = cloud.run("lock", "2099.1", "--service", "extra==3.0.1", *words[2:])
    assert out == "extra-service\t3.0.0\t3.0.1\n"


def test_an_index_that_does_not_say_when_is_told(cloud):
    cloud.index.json_api = False
    before = (cloud.data / "projects/series/2099.1.toml").read_text()
    words = ("--service", "extra", "--constraints", cloud.constraints)
    _, err = cloud.run("lock", "2099.1", *words, code=2)
    assert "2099.1 has no version of extra, and the package index has none" in err
    assert "--service extra==1.0.0" in err
    assert (cloud.data / "projects/series/2099.1.toml").read_text() == before


def test_what_cannot_go_with_the_others_leaves_all_as_it_was(cloud):
    house = cloud.area / "house"
    cloud.index.add(release(house, "extra", "5.0.0", "tinylib>=1.1"))
    before = lock_of(cloud)
    series = (cloud.data / "projects/series/2099.1.toml").read_text()
    words = ("--service", "extra==5.0.0", "--constraints", cloud.constraints)
    _, err = cloud.run("lock", "2099.1", *words, code=4)
    assert "tinylib" in err
    assert lock_of(cloud) == before
    assert (cloud.data / "projects/series/2099.1.toml").read_text() == series


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("extr", "unknown project 'extr'; nearest: extra"),
        ("frail", "frail is not part of 2099.1: see its since and until"),
        ("extra==3.0.0;x", "'3.0.0;x' is not a version"),
        ("extra===3.0.0", "'=3.0.0' is not a version"),
    ],
)
def test_a_service_that_cannot_be_locked_is_told(cloud, word, said):
    words = ("--service", word, "--constraints", cloud.constraints)
    assert said in cloud.run("lock", "2099.1", *words, code=2)[1]


def test_a_service_that_is_gone_stops_nothing(cloud):
    cloud.run("lock", "2099.1", "--service", "extra", "--constraints", cloud.constraints)
    (cloud.data / "projects/services/extra.toml").unlink()
    series = cloud.data / "projects/series/2099.1.toml"
    series.write_text(series.read_text().replace('extra = "3.0.1"\n', ""))
    out, _ = cloud.run("2099.1", "--dry-run")
    assert "tiny" in out
    assert "extra" not in out


def test_a_service_that_is_stale_stops_nothing_but_itself(cloud):
    """A version nobody locked, and drivers that changed since."""
    path = cloud.data / "projects/series/2099.1.toml"
    path.write_text(path.read_text() + 'extra = "3.0.0"\n')
    cloud.run("2099.1", "--project", "tiny", "--dry-run")
    _, err = cloud.run("2099.1", "--dry-run", code=3)
    assert f"2099.1-{HERE}.json has no extra" in err
    assert f"build-debs lock 2099.1 --target {HERE} --service extra" in err
    cloud.run("lock", "2099.1", "--service", "extra", "--constraints", cloud.constraints)
    service = cloud.data / "projects/services/extra.toml"
    service.write_text(a_file(DRIVER + '\n[[drivers]]\nname = "unrelated"\nreason = "new"\n'))
    cloud.run("2099.1", "--project", "tiny", "--dry-run")
    _, err = cloud.run("2099.1", "--project", "extra", "--dry-run", code=3)
    assert "was made for another version or other drivers of extra" in err
