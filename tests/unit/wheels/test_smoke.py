"""What was built is tried in the tree of its closure, before anything is packaged."""

import dataclasses
import shutil

import pytest
from values import BOOKWORM, GAZPACHO
from wheelhouse import TEMPLATES, distribution, lock_of, ready, shared_object, wheel

from builder.debs import library, tree
from builder.model.values import Recipe
from builder.wheels import smoke

# The first bytes of a shared object for amd64, elf(5).
CUT_SHORT = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00"
PRINT = "import sys\ndef main():\n    print(sys.argv[0], {!r})\n"


class Room:
    """Tries wheels that were made in the test, together in one tree."""

    def __init__(self, area):
        self.area, self.wheels, self.programs, self.recipes, self.runs = area, [], {}, {}, 0
        self.exclude, self.laid = {}, {}

    def add(self, name, files, *, kind="library", requires=(), built=True, **metadata):
        """Add a wheel of version 1.0, as if it was built here, or published."""
        programs = metadata.pop("programs", ())
        path = wheel(self.area / "house", name, "1.0", files, **metadata)
        row = distribution(name, requires=requires, kind=kind, path=path)
        self.wheels.append(ready(row, path, built=built))
        self.programs[name] = programs

    @property
    def lock(self):
        return lock_of(*(w.distribution for w in self.wheels))

    def find(self, wheels):
        """Return what is to be tried where these are there."""
        self.stage()
        return smoke.select_untried(
            self.lock,
            wheels,
            installed=self.laid,
            site="lib/python3.11/site-packages",
            programs=self.programs,
            recipes=self.recipes,
            stamps=self.area / "tried",
        )

    @property
    def untried(self):
        return {s.wheel.distribution.name for s in self.find(self.wheels)}

    def stage(self):
        """Lay all the wheels out in a tree."""
        self.runs += 1
        root, prefix = self.area / str(self.runs) / "tree", f"{GAZPACHO.tree[1:]}/"
        context = library.Context(GAZPACHO, BOOKWORM, TEMPLATES, 0, exclude=self.exclude)
        tree.lay_base(context, root)
        for one in self.wheels:
            laid = tree.unpack(context, one, root)
            rows = (laid.files, laid.binaries, laid.left_out)
            self.laid[one.distribution.name] = smoke.Installed(
                *(tuple(f.removeprefix(prefix) for f in row) for row in rows)
            )

    def check(self):
        """Try what was not; return what is wrong, by distribution."""
        subjects = self.find(self.wheels)
        area = self.area / str(self.runs)
        place = smoke.Place(area / "tree", GAZPACHO.tree, area / "work", area / "smoke.log")
        failures = smoke.check(subjects, place, 2)
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


def test_a_moved_cache_has_the_same_wheels(room):
    room.add("one", {"one.py": ""})
    room.add("two", {"two.py": ""}, built=False)
    assert room.check() == {}
    place = room.area / "moved"
    shutil.copytree(room.area / "house", place / "house")
    room.wheels = [dataclasses.replace(w, path=place / "house" / w.path.name) for w in room.wheels]
    assert room.untried == set()


def test_pure_modules_of_the_index_are_not_imported(room):
    room.add("broken", {"broken.py": "raise ValueError\n"}, built=False)
    assert room.check() == {}


def compiled(area, name, *options, code=""):
    """Return a compiled module that does nothing, linked with options."""
    source = f"#include <Python.h>\n{code}\nstatic struct PyModuleDef d = {{PyModuleDef_HEAD_INIT, "
    source += f'"{name}", 0, -1, 0}};\nPyMODINIT_FUNC PyInit_{name}(void) '
    source += "{ return PyModule_Create(&d); }\n"
    return shared_object(area, source, f"{name}.so", "-I/usr/include/python3.11", *options)


def without_a_library(area, name="_c"):
    """Return a compiled module that needs a library nobody has."""
    shared_object(area, "int gone(void) { return 1; }\n", "libgone.so.1")
    link = ["-L", str(area), "-l:libgone.so.1", "-Wl,--no-as-needed"]
    return compiled(area, name, *link, code="int gone(void); int f(void) { return gone(); }")


@pytest.mark.parametrize("built", [True, False])
def test_machine_code_of_every_wheel_is_loaded(room, tmp_path, built):
    good = compiled(tmp_path, "_ok")
    library = shared_object(tmp_path, "int f(void) { return 1; }\n", "libf.so")
    files = {"m/__init__.py": "", "m/_ok.abi3.so": good, "m.libs/libf-1a2b.so.1": library}
    room.add("well", {**files, "m/libplain.so": library}, built=built)
    room.add("broken", {"n/__init__.py": "", "n/_c.abi3.so": without_a_library(tmp_path)},
             built=built)  # fmt: skip
    found = room.check()
    assert found.keys() == {"broken"}
    assert "import n._c: ImportError: libgone.so.1: cannot open" in found["broken"]


def test_a_bundled_library_that_does_not_load_is_named(room, tmp_path):
    room.add("broken", {"n.py": "", "n.libs/libn-1a2b.so": without_a_library(tmp_path)},
             built=False)  # fmt: skip
    said = room.check()["broken"]
    assert "load lib/python3.11/site-packages/n.libs/libn-1a2b.so: libgone.so.1" in said
    room.recipes["broken"] = Recipe("broken", "why", not_loaded=("{site}/n.libs/libn-*.so",))
    assert room.check() == {}


def test_a_function_a_library_lacks_is_found(room, tmp_path):
    code = "int nowhere(void); int f(void) { return nowhere(); }"
    room.add("broken", {"n.libs/libn.so": shared_object(tmp_path, code, "libn.so")}, built=False)
    assert "undefined symbol: nowhere" in room.check()["broken"]


def test_a_library_whose_segments_are_not_aligned_is_found(room, tmp_path):
    """What `strip` makes of a library that patchelf has rewritten."""
    data = bytearray(shared_object(tmp_path, "int f(void) { return 1; }\n", "libf.so"))
    table, size = int.from_bytes(data[32:40], "little"), int.from_bytes(data[54:56], "little")
    for at in range(table, table + size * data[56], size):
        if data[at] == 1:  # PT_LOAD: its offset
            data[at + 8] += 8
    room.add("broken", {"n.libs/libf.so": bytes(data)}, built=False)
    assert "not properly aligned" in room.check()["broken"].replace(
        "page-aligned", "properly aligned"
    )


def test_code_of_another_machine_or_another_python_is_data(room, tmp_path):
    module = bytearray(without_a_library(tmp_path))
    files = {"m/_c.cpython-310-x86_64-linux-gnu.so": bytes(module)}
    module[18:20] = (183).to_bytes(2, "little")  # EM_AARCH64
    files |= {"m/__init__.py": "", "m/_arm.so": bytes(module), "m/libarm.so": bytes(module)}
    room.add("data", files)
    assert room.check() == {}


SERVICE = {
    "svc/__init__.py": "",
    "svc/main.py": "def main():\n    pass\n",
    "svc/tests/__init__.py": "",
    "svc/tests/unit/__init__.py": "",
    "svc/tests/opts.py": "import absent\n",
    "svc_integration/__init__.py": "import absent\n",
}


def service(room, files, entry="[oslo.config.opts]\nsvc = svc_integration:opts\n", exclude=()):
    """Add a service whose tests are left out of its packages, and what `exclude` names."""
    tests = ("{site}/svc/tests", "lib/*/site-packages/svc_integration")
    room.exclude["svc"] = (*tests, *exclude)
    room.add("svc", {**SERVICE, **files}, kind="service", entry_points=entry)
    return room.check()


def test_what_is_left_out_of_a_package_is_not_tried(room):
    assert service(room, {}) == {}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"svc/urls.py": "import svc.tests.unit\n"}, "svc.urls imports svc.tests.unit (line 1)"),
        ({"svc/urls.py": "\nfrom svc import tests\n"}, "svc.urls imports svc.tests (line 2)"),
        ({"svc/urls.py": "from . import tests\n"}, "svc.urls imports svc.tests (line 1)"),
        ({"svc/a/__init__.py": "", "svc/a/b.py": "from ..tests.opts import x\n"},
         "svc.a.b imports svc.tests.opts.x (line 1)"),
        ({"svc/__init__.py": "from .tests import opts\n"}, "svc imports svc.tests.opts (line 1)"),
        ({"svc/urls.py": "DEBUG = 1\nif DEBUG:\n    import svc_integration\n"},
         "svc.urls imports svc_integration (line 3)"),
        ({"svc/urls.py": "try:\n    import svc.tests\nexcept ImportError:\n    pass\n"}, ""),
        ({"svc/urls.py": "def f():\n    import svc.tests\n"}, ""),
        ({"svc/urls.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
          "    import svc.tests\n"}, ""),
        ({"svc/urls.py": "import svc.tests_of_ours\n", "svc/tests_of_ours.py": ""}, ""),
        ({"svc/template.py": "import svc.tests {{ what }}\n"}, ""),
    ],
)  # fmt: skip
def test_what_stays_imports_nothing_that_is_left_out(room, files, said):
    found = service(room, files)
    assert list(found) == (["svc"] if said else [])
    assert said in found.get("svc", "")


def test_a_program_whose_module_is_left_out_is_named(room):
    entry = "[console_scripts]\nsvc-test = svc_integration:main\n"
    assert "No module named 'svc_integration'" in service(room, {}, entry)["svc"]


def test_a_program_that_is_left_out_with_its_module_is_not_tried(room):
    entry = "[console_scripts]\nsvc-test = svc_integration:main\n"
    assert service(room, {}, entry, exclude=["bin/svc-test"]) == {}


def test_metadata_of_another_version_is_named_of_every_wheel(room):
    room.add("late", {"late.py": ""}, built=False)
    row = dataclasses.replace(room.wheels[0].distribution, version="1.1")
    room.wheels[0] = dataclasses.replace(room.wheels[0], distribution=row)
    assert room.check() == {"late": "its metadata has version 1.0, the lock has 1.1"}


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
        ({"broken/__init__.py": "", "broken/_c.abi3.so": CUT_SHORT}, "import broken._c: ImportE"),
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
    assert room.check() == {"late": "its metadata has version 1.0, the lock has 1.1"}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("[console_scripts]\nsvc-manage = svc.main:main\n", None),
        ("[console_scripts]\nsvc-manage = svc.absent:main\n", "No module named 'svc.absent'"),
        ("[svc.drivers]\na = svc.absent\n", "No module named 'svc.absent'"),
        ("[svc.drivers]\na = svc.absent:A [ldap]\n", None),
        ("[console_scripts]\nsvc-manage = svc.old:main\n", "svc-manage --version prints"),
        ("[console_scripts]\nsvc-api = svc.helps:main\nsvc-manage = svc.main:main\n", None),
        ("[console_scripts]\nsvc-manage = svc.helps:main\n", None),
        ("[console_scripts]\nsvc-manage = svc.mute:main\n", "svc-manage --help: nothing"),
        ("[console_scripts]\nsvc-manage = svc.bad:main\n", "svc-manage --version: ZeroDivision"),
    ],
)
def test_a_services_entry_points_import_and_its_program_says_its_version(room, entry, said):
    files = {
        "svc/__init__.py": "",
        "svc/main.py": PRINT.format("1.0"),
        "svc/old.py": PRINT.format("0.9"),
        "svc/bad.py": "def main():\n    1 / 0\n",
        "svc/helps.py": "import sys\ndef main():\n    sys.exit(2 * ('--help' not in sys.argv))\n",
        "svc/mute.py": "def main():\n    raise SystemExit(2)\n",
    }
    room.add("svc", files, kind="service", programs=["svc-api", "svc-manage"], entry_points=entry)
    found = room.check()
    assert list(found) == (["svc"] if said else [])
    assert said is None or said in found["svc"]
