"""Try distributions in the tree they are installed in: smoke.py WORK TREE.

WORK/subjects.json has rows of name, modules and program; WORK/found.json gets one for
each: the version its metadata has, what its program says of itself, and what went wrong.
The tree's Python runs this, 2.7 or 3.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback


def main(work, tree):
    """Try each subject in a process of its own, so that none sees what another has done."""
    with open(os.path.join(work, "subjects.json")) as stream:
        subjects = json.load(stream)
    version = version_reader()
    found = []
    for subject in subjects:
        errors = imported(subject["modules"])
        said = ""
        if subject["program"]:
            said, failure = answer(os.path.join(tree, "bin"), subject["program"])
            errors += failure
        found.append(
            {
                "name": subject["name"],
                "version": version(subject["name"]),
                "said": said,
                "errors": errors,
            }
        )
    with open(os.path.join(work, "found.json"), "w") as stream:
        json.dump(found, stream)


def version_reader():
    """Return what gives the version of an installed distribution."""
    try:
        from importlib.metadata import version  # noqa: PLC0415 - Python 2.7 has none
    except ImportError:
        import pkg_resources  # noqa: PLC0415

        return lambda name: pkg_resources.get_distribution(name).version
    return version


def imported(modules):
    """Import modules; return what went wrong, a line each.

    A program's module may set up its whole process, so that what fails beside others is
    tried again alone.
    """
    failed = in_child(modules)
    if len(modules) == 1:
        return list(failed.values())
    return [line for module in sorted(failed) for line in in_child([module]).values()]


def in_child(modules):
    """Import modules in a child of this process; return what went wrong, by module."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try_to_import(modules, writing)
    os.close(writing)
    with os.fdopen(reading) as stream:
        lines = stream.read().splitlines()
    status = os.waitpid(child, 0)[1]
    if status:
        return {m: "import {0}: ended with status {1}".format(m, status) for m in modules}
    return {line.split()[1].rstrip(":"): line for line in lines}


def try_to_import(modules, writing):
    """Import each of the modules and end; what goes wrong is written to a descriptor."""
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - whatever a module may raise
            traceback.print_exc()
            line = "import %s: %s: %s" % (module, type(error).__name__, error)
            os.write(writing, (" ".join(line.split()) + "\n").encode("utf-8", "replace"))
    sys.stderr.flush()
    os._exit(0)


def answer(programs, name):
    """Return what a program of a directory says of its version, and what went wrong.

    The interpreter it names is where the tree is on a node, which may be nowhere here.
    """
    command = [os.path.join(programs, "python"), os.path.join(programs, name), "--version"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.communicate()[0].decode("utf-8", "replace")
    if process.returncode:
        last = said.rstrip().splitlines()[-1:] or ["nothing"]
        return said, ["%s --version: %s" % (name, last[0])]
    return said, []


if __name__ == "__main__":
    main(*sys.argv[1:])
