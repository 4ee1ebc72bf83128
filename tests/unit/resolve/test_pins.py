"""Locks for Python 2.7: the closure is walked along the pins, and each is checked."""

import dataclasses

import pytest
from wheelhouse import artifact, sdist, wheel

from builder.errors import DataError, ResolveError
from builder.model.values import Driver, Override, Recipe, Series, Target, Unseen
from builder.resolve import pins
from builder.resolve.uv import Request

BULLSEYE = Target("bullseye", 11, "2.7.18", "2.31", "xz", 1, "amd64", "4.5.1")
SERIES = Series(
    "pike", "pike", "2017-08-30", "unmaintained", False, ("2.7",), ("bullseye",), "",
    {"tiny": "1.0"},
)  # fmt: skip
PINS = "lib===1.0\nother===2.0\n"


class Shelf:
    """An index of files that were made here; what is built from an sdist lies beside it."""

    def __init__(self, area):
        self.area, self.rows, self.wheels = area, {}, {}

    def list_files(self, name):
        return self.rows.get(name, {})

    def add(self, path, name, version, built=None):
        row = artifact(path)
        self.rows.setdefault(name, {}).setdefault(version, []).append(row)
        self.wheels[row.file] = built or path

    def provide_wheel(self, _name, _version, artifact):
        return self.wheels[artifact.file]

    def release(self, name, version="1.0", requires=(), *, kind="wheel", tag="py2-none-any"):
        """Add a wheel, or an sdist and what is built from it."""
        path = wheel(self.area, name, version, tag=tag, requires_dist=list(requires))
        if kind == "wheel":
            self.add(path, name, version)
        else:
            self.add(sdist(self.area, name, version), name, version, path)


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.release("tiny", requires=["lib>=1"], kind="sdist")
    shelf.release("lib", requires=["other; python_version<'3'", "none; python_version>'3'"])
    shelf.release("other", "2.0")
    return shelf


def locked(shelf, constraints=PINS, user=(), *, unseen=(), patched=(), recipes=(), **request):
    parts = {"drivers": (), "overrides": (), **request}
    wanted = Request(SERIES, BULLSEYE, {"tiny": "tiny"}, **parts)
    return pins.lock(
        wanted, constraints, user, shelf, (),
        recipes={r.distribution: r for r in recipes}, patched=patched,
        unseen={u.distribution: u for u in unseen},
    )  # fmt: skip


def versions(lock):
    return {d.name: d.version for d in lock.distributions}


def files(lock):
    return {d.name: d.artifacts[0].file for d in lock.distributions}


def test_the_closure_is_what_the_markers_of_the_target_ask_for(shelf):
    lock = locked(shelf)
    assert versions(lock) == {"tiny": "1.0", "lib": "1.0", "other": "2.0"}
    kinds = {d.name: d.kind for d in lock.distributions}
    assert kinds == {"tiny": "service", "lib": "library", "other": "library"}


def test_what_a_driver_is_and_what_an_extra_asks_for_is_in_it(shelf):
    shelf.release("driver", requires=["lib[more]"])
    shelf.rows.pop("lib")
    path = wheel(
        shelf.area, "lib", "1.1", tag="py2-none-any", provides_extra="more",
        requires_dist=["other; extra == 'more'"],
    )  # fmt: skip
    shelf.add(path, "lib", "1.1")
    constraints = "lib===1.1\nother===2.0\ndriver===1.0\n"
    lock = locked(shelf, constraints, drivers=(Driver("driver", "a reason"),))
    assert versions(lock) == {"tiny": "1.0", "lib": "1.1", "other": "2.0", "driver": "1.0"}


def test_a_pin_that_is_missing_names_the_chain(shelf):
    with pytest.raises(ResolveError) as caught:
        locked(shelf, "lib===1.0\n")
    assert caught.value.message == "other has no pin"
    assert caught.value.details[0].startswith("tiny → lib>=1 → other")
    assert "projects/overrides/pike.toml" in caught.value.hint


def test_a_pin_that_is_not_taken_names_the_chain(shelf):
    with pytest.raises(ResolveError) as caught:
        locked(shelf, "lib===0.9\nother===2.0\n")
    assert caught.value.message == "lib is pinned to 0.9, which tiny does not allow"
    assert caught.value.details == ("tiny → lib>=1",)


def test_a_version_the_index_has_not_names_the_chain(shelf):
    with pytest.raises(ResolveError) as caught:
        locked(shelf, "lib===1.5\nother===2.0\n")
    assert "lib 1.5: no usable file" in caught.value.message
    assert caught.value.details == ("tiny → lib>=1",)


def test_a_pin_whose_marker_does_not_hold_is_none(shelf):
    lock = locked(shelf, PINS + "other===3.0;python_version>='3.4'\n")
    assert versions(lock)["other"] == "2.0"


def test_the_projects_overrides_stand_before_the_constraints_and_the_users_before_both(shelf):
    shelf.release("other", "2.1")
    shelf.release("other", "2.2")
    ours = (Override("other===2.1", "newer libvirt"),)
    assert versions(locked(shelf, overrides=ours))["other"] == "2.1"
    lock = locked(shelf, user=["other==2.2"], overrides=ours)
    assert versions(lock)["other"] == "2.2"
    assert "override" in lock.inputs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("other>=2", "must name one version"),
        ("tiny==2", "is a service"),
        ("otter==2", "nothing here requires otter"),
    ],
)
def test_an_override_that_cannot_be_is_said(shelf, text, said):
    with pytest.raises(DataError, match=said):
        locked(shelf, user=[text])


def test_an_override_leaves_all_else_as_the_lock_has_it(shelf):
    lock = locked(shelf)
    kept = dataclasses.replace(lock.distributions[0], summary="as it was")
    lock = dataclasses.replace(lock, distributions=(kept, *lock.distributions[1:]))
    shelf.release("other", "2.1")
    new = locked(shelf, pins.render_constraints(lock), ["other==2.1"])
    moved = pins.keep_unchanged(lock, new)
    assert moved.distributions[0] == kept
    assert versions(moved)["other"] == "2.1"
    assert moved.inputs["request"] == lock.inputs["request"]
    assert moved.inputs["constraints"] == lock.inputs["constraints"]


COMPILED = "cp27-cp27mu-manylinux1_x86_64"


def test_compiled_modules_are_built_but_for_exceptions_and_pure_ones_never(shelf):
    shelf.rows.pop("other")
    shelf.release("other", "2.0", tag=COMPILED)
    shelf.release("other", "2.0", kind="sdist")
    assert files(locked(shelf))["other"] == "other-2.0.tar.gz"
    taken = locked(shelf, recipes=[Recipe("other", "no headers", published=True)])
    assert COMPILED in files(taken)["other"]
    shelf.release("other", "2.0", tag="py2.py3-none-any")
    assert files(locked(shelf))["other"] == "other-2.0-py2.py3-none-any.whl"


def test_what_has_patches_and_services_are_sdists(shelf):
    shelf.release("lib", requires=["other"], kind="sdist")
    found = files(locked(shelf, patched=["lib"]))
    assert (found["lib"], found["tiny"]) == ("lib-1.0.tar.gz", "tiny-1.0.tar.gz")


def test_a_service_no_tarball_is_to_be_had_of_is_as_the_project_describes_it(shelf):
    shelf.rows.pop("tiny")
    lock = locked(shelf, unseen=[Unseen("tiny", ("lib",), "on no index")])
    assert versions(lock) == {"tiny": "1.0", "lib": "1.0", "other": "2.0"}
    (tiny,) = (d for d in lock.distributions if d.name == "tiny")
    assert tiny.artifacts[0].sha256 == ""
