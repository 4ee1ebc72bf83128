"""What was built is tried in the tree of its closure, before anything is packaged."""

import dataclasses

import pytest
from wheelhouse import BOOKWORM, GAZPACHO, TEMPLATES, distribution, lock_of, ready, wheel

from builder import smoke
from builder.debs import library, tree
from builder.model import Recipe

SCRIPT = TEMPLATES / smoke.SCRIPT
PRINT = "import sys\ndef main():\n    print(sys.argv[0], {!r})\n"


class Room:
    """Tries wheels that were made in the test, together in one tree."""

    def __init__(self, area):
        self.area, self.wheels, self.programs, self.recipes, self.runs = area, [], {}, {}, 0

    def add(self, name, files, *, kind="library", requires=(), programs=(), **metadata):
        """Add a wheel of version 1.0, as if it was built here."""
        path = wheel(self.area / "house", name, "1.0", files, **metadata)
        row = distribution(name, requires=requires, kind=kind, path=path)
        self.wheels.append(ready(row, path, built=True))
        self.programs[name] = programs

    @property
    def lock(self):
        return lock_of(*(w.distribution for w in self.wheels))

    def find(self, wheels):
        """Return what is to be tried where these are there."""
        return smoke.untried(self.lock, wheels, SCRIPT, self.programs, self.recipes)

    @property
    def untried(self):
        return {s.wheel.distribution.name for s in self.find(self.wheels)}

    def check(self):
        """Try what was not; return what is wrong, by distribution."""
        self.runs += 1
        area = self.area / str(self.runs)
        area.mkdir()
        context = library.Context(GAZPACHO, BOOKWORM, TEMPLATES, 0)
        tree.lay_base(context, area / "tree")
        for one in self.wheels:
            tree.unpack(context, one, area / "tree")
        place = smoke.Place(area / "tree", GAZPACHO.tree, area / "work", area / "smoke.log", SCRIPT)
        failures = smoke.check(self.find(self.wheels), place, 2)
        return {f.distribution: " ".join(f.error.details) for f in failures}


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


def test_what_works_is_not_tried_again_until_something_it_needs_is_another(room):
    room.add("base", {"base.py": "x = 1\n"})
    room.add("user", {"user/__init__.py": "import base\n"}, requires=["base"])
    room.add("other", {"other.py": ""})
    assert room.check() == {}
    assert room.untried == set()
    room.wheels[0] = dataclasses.replace(room.wheels[0], sha256="0" * 64)
    assert room.untried == {"base", "user"}


def test_wheels_of_the_index_are_not_tried(room):
    room.add("broken", {"broken.py": "raise ValueError\n"})
    room.wheels[0] = dataclasses.replace(room.wheels[0], built=False)
    assert room.untried == set()


def test_what_needs_something_that_is_not_there_is_not_tried(room):
    room.add("base", {"base.py": ""})
    room.add("user", {"user.py": "import base\n"}, requires=["base"])
    found = room.find(room.wheels[1:])
    assert found == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"broken.py": "raise ValueError('no\\nluck')\n"}, "import broken: ValueError: no luck"),
        ({"broken/__init__.py": "import absent\n"}, "No module named 'absent'"),
        ({"broken.py": "import os\nos._exit(3)\n"}, "ended with status"),
        ({"broken.py": "import os\nos.kill(os.getpid(), 11)\n"}, "ended with status"),
        ({"broken/__init__.py": "", "broken/_c.abi3.so": "no ELF"}, "import broken._c: ImportE"),
        ({"{data}/platlib/broken.py": "raise ValueError\n"}, "import broken: ValueError"),
    ],
)
def test_what_does_not_import_is_named_and_hides_no_other(room, files, said):
    room.add("broken", files)
    room.add("well", {"well.py": ""})
    found = room.check()
    assert found.keys() == {"broken"}
    assert said in found["broken"]
    assert room.untried == {"broken"}


def test_what_a_recipe_says_cannot_be_imported_is_not(room):
    room.add("plugin", {"plugin.py": "", "inside.py": "raise ValueError\n"})
    assert "import inside" in room.check()["plugin"]
    room.recipes["plugin"] = Recipe("plugin", "within a server", not_imported=("inside",))
    assert room.check() == {}


def test_the_version_is_that_of_the_lock(room):
    room.add("late", {"late.py": ""})
    room.wheels[0] = dataclasses.replace(
        room.wheels[0],
        distribution=dataclasses.replace(room.wheels[0].distribution, version="1.1"),
    )
    assert room.check() == {"late": "its metadata has version 1.0, the lock 1.1"}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("[console_scripts]\nsvc-manage = svc.main:main\n", None),
        ("[console_scripts]\nsvc-manage = svc.absent:main\n", "No module named 'svc.absent'"),
        ("[svc.drivers]\na = svc.absent\n", "No module named 'svc.absent'"),
        ("[svc.drivers]\na = svc.absent:A [ldap]\n", None),
        ("[console_scripts]\nsvc-manage = svc.old:main\n", "svc-manage --version says"),
        ("[console_scripts]\nsvc-manage = svc.bad:main\n", "svc-manage --version: ZeroDivision"),
    ],
)
def test_a_services_entry_points_import_and_its_program_says_its_version(room, entry, said):
    files = {
        "svc/__init__.py": "",
        "svc/main.py": PRINT.format("1.0"),
        "svc/old.py": PRINT.format("0.9"),
        "svc/bad.py": "def main():\n    1 / 0\n",
    }
    room.add("svc", files, kind="service", programs=["svc-api", "svc-manage"], entry_points=entry)
    found = room.check()
    assert list(found) == (["svc"] if said else [])
    assert said is None or said in found["svc"]
